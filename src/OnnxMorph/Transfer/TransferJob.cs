using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>How weights are carried into another architecture.</summary>
public enum TransferMethod
{
    /// <summary>Between networks of one family, stage by stage and role by role (IM Init; METHODS.md §3).</summary>
    Isomorphic,
}

/// <summary>A part of a target and the part of the source that it was filled from.</summary>
/// <param name="Target">The target's path.</param>
/// <param name="Source">The source's.</param>
/// <param name="Copy">How many parts before it were filled from the same.</param>
public sealed record PartReport(string Target, string Source, int Copy);

/// <summary>What a transfer did: what <c>transfer --json</c> prints.</summary>
/// <param name="Output">The file that was written.</param>
/// <param name="Method">The method.</param>
/// <param name="Parts">The target's parts and where they come from.</param>
/// <param name="ParametersBefore">Elements of the source's floating-point constants.</param>
/// <param name="ParametersAfter">Elements of the target's.</param>
/// <param name="Tensors">The target's floating-point constants.</param>
/// <param name="Notes">What a user should know.</param>
/// <param name="Verification">How far the result computes what the source computes; null where that was not asked for, or the two take different inputs.</param>
public sealed record TransferReport(
    string Output, TransferMethod Method, IReadOnlyList<PartReport> Parts, long ParametersBefore, long ParametersAfter,
    IReadOnlyList<TransferredTensor> Tensors, IReadOnlyList<string> Notes, VerificationReport? Verification);

/// <summary>A transfer from file to file: the target's architecture with weights from the source.</summary>
public sealed class TransferJob
{
    /// <summary>The file of the trained model.</summary>
    public required string Source { get; init; }

    /// <summary>The file of the model to fill; its own weights stay where nothing fits.</summary>
    public required string Target { get; init; }

    /// <summary>The file to write.</summary>
    public required string Output { get; init; }

    /// <summary>How.</summary>
    public TransferMethod Method { get; init; }

    /// <summary>Which channels go where.</summary>
    public WidthRule Width { get; init; }

    /// <summary>Seed of everything random.</summary>
    public ulong Seed { get; init; }

    /// <summary>How to compare with the source; null does not.</summary>
    public VerifyOptions? Verify { get; init; } = new();

    /// <summary>Whether files that exist may be replaced.</summary>
    public bool Force { get; init; }

    /// <summary>Evaluates the weights.</summary>
    public WeightEvaluator Evaluator { get; init; } = new();

    /// <summary>Told what the job is at.</summary>
    public IProgress<string>? Progress { get; init; }

    /// <summary>Runs the job.</summary>
    /// <exception cref="OnnxMorphException">A model cannot be read, or the output cannot be written.</exception>
    /// <exception cref="RefusedException">The models are not isomorphic; the message names the first difference.</exception>
    public TransferReport Run(CancellationToken cancellation = default)
    {
        string output = Path.GetFullPath(Output);
        OnnxWriter.CheckFree(output, Force);
        Begin("reading");
        OnnxModel source = OnnxReader.Read(Source), target = OnnxReader.Read(Target);
        OnnxWriter.CheckSpared(source, output);
        Begin("matching");
        SharedConstants.Part(target);
        AnalysedModel from = AnalysedModel.Of(source), to = AnalysedModel.Of(target);
        var isomorphism = Isomorphism.Of(from, to);
        if (isomorphism.Difference is { } difference)
            throw new RefusedException($"The models are not isomorphic: {difference}");
        var transfer = new WeightTransfer(from, to, isomorphism.Pairs, Width, Seed);
        IReadOnlyList<TransferredTensor> tensors = transfer.Apply();
        VerificationReport? verification = null;
        Begin("writing");
        OnnxWriter.Write(to.Model, output, new EvaluatedWeights(Evaluator), new WriteOptions { Force = Force, Accept = Accept }, null, cancellation);
        return new TransferReport(
            output, Method, [.. isomorphism.Pairs.Select(p => new PartReport(p.Target.Path, p.Source.Path, p.Copy))],
            ModelInspection.CountParameters(source), ModelInspection.CountParameters(to.Model), tensors, transfer.Notes, verification);

        bool Accept(string written)
        {
            if (Verify is { } options)
            {
                Begin("verifying");
                verification = Verifier.Compare(Source, written, options with { Probe = options.Probe ?? new ModelProbe(Evaluator) }, cancellation);
            }

            return true;
        }

        void Begin(string stage)
        {
            Progress?.Report(stage);
            cancellation.ThrowIfCancellationRequested();
        }
    }
}
