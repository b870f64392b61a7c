using System.Text.Json.Serialization;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>Where a tensor of the child comes from.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<TensorOrigin>))]
public enum TensorOrigin
{
    /// <summary>The parent's bytes.</summary>
    [JsonStringEnumMemberName("exact")]
    Exact,

    /// <summary>Computed from a tensor of the parent.</summary>
    [JsonStringEnumMemberName("mapped")]
    Mapped,

    /// <summary>New.</summary>
    [JsonStringEnumMemberName("fresh")]
    Fresh,
}

/// <summary>A floating-point tensor of the child.</summary>
public sealed record TensorReport(string Name, IReadOnlyList<long> Shape, TensorOrigin Origin);

/// <summary>What a morph did: what <c>morph --json</c> prints.</summary>
/// <param name="Output">The file that was written; null where verification failed.</param>
/// <param name="Steps">A report for each step.</param>
/// <param name="ParametersBefore">Elements of the parent's floating-point constants.</param>
/// <param name="ParametersAfter">Elements of the child's.</param>
/// <param name="Tensors">The child's floating-point constants.</param>
/// <param name="Verification">The comparison with the parent; null where it was not asked for.</param>
public sealed record MorphReport(
    string? Output, IReadOnlyList<StepReport> Steps, long ParametersBefore, long ParametersAfter,
    IReadOnlyList<TensorReport> Tensors, VerificationReport? Verification);

/// <summary>
/// A morph from file to file: reads the parent, carries out the steps, writes the child into a folder of its own beside the
/// target, verifies it there, and only then moves it to its place.
/// </summary>
public sealed class MorphJob
{
    /// <summary>The parent's file.</summary>
    public required string Parent { get; init; }

    /// <summary>The file to write.</summary>
    public required string Output { get; init; }

    /// <summary>The steps; none writes the model back unchanged.</summary>
    public required IReadOnlyList<MorphStep> Steps { get; init; }

    /// <summary>How to verify; null does not.</summary>
    public VerifyOptions? Verify { get; init; } = new();

    /// <summary>Where to write the certificate; null does not.</summary>
    public string? Certificate { get; init; }

    /// <summary>Whether files that exist may be replaced.</summary>
    public bool Force { get; init; }

    /// <summary>Evaluates the weights.</summary>
    public WeightEvaluator Evaluator { get; init; } = new();

    /// <summary>Told what the job is at.</summary>
    public IProgress<string>? Progress { get; init; }

    /// <summary>Runs the job.</summary>
    /// <exception cref="OnnxMorphException">The model cannot be read, or a file cannot be written.</exception>
    /// <exception cref="RefusedException">Steps were given and none of them could change anything.</exception>
    public MorphReport Run(CancellationToken cancellation = default)
    {
        string target = Path.GetFullPath(Output), data = target + ".data";
        string[] targets = Certificate is null ? [target] : [target, Path.GetFullPath(Certificate)];
        foreach (string file in targets)
        {
            if (!Directory.Exists(Path.GetDirectoryName(file)))
                throw new OnnxMorphException(ExitCode.InputOutput, $"The folder of '{file}' does not exist; create it first.");
            if (Directory.Exists(file))
                throw new UsageException($"'{file}' is a folder; name a file.");
            if (!Force && File.Exists(file))
                throw new UsageException($"'{file}' exists; choose another name or allow it to be replaced with --force.");
        }

        if (targets.Distinct().Count() < targets.Length)
            throw new UsageException($"'{target}' is named for both the model and its certificate; give them different names.");

        Begin("reading");
        OnnxModel parent = OnnxReader.Read(Parent);
        if (Certificate is not null)
            OnnxWriter.CheckSpared(parent, Path.GetFullPath(Certificate));
        long before = ModelInspection.CountParameters(parent);
        Begin("morphing");
        MorphResult result = Morpher.Morph(parent, Steps, cancellation);
        if (Steps.Count > 0 && result.Steps.All(s => s.Changes.Count == 0))
            throw new RefusedException(Nothing(result));

        string folder = Path.Combine(Path.GetDirectoryName(target)!, $".{Path.GetFileName(target)}.{Path.GetRandomFileName()}");
        try
        {
            Directory.CreateDirectory(folder);
            string child = Path.Combine(folder, Path.GetFileName(target));
            Begin("writing");
            WrittenModel written = OnnxWriter.Write(result.Child, child, new EvaluatedWeights(Evaluator), null, null, cancellation);
            VerificationReport? verification = null;
            if (Verify is { } options)
            {
                Begin("verifying");
                verification = Verifier.Compare(Parent, child, options with { Probe = options.Probe ?? new ModelProbe(Evaluator) }, cancellation);
            }

            // Only now it is known whether there is a data file.
            OnnxWriter.CheckTarget(parent, target, data, written.DataPath is not null, Force);
            bool passed = verification is not { Passed: false };
            var report = new MorphReport(passed ? target : null, result.Steps, before, ModelInspection.CountParameters(result.Child),
                [.. Tensors(result.Child)], verification);
            if (passed)
            {
                var files = new List<(string From, string To)>();
                if (written.DataPath is { } childData)
                    files.Add((childData, data));
                if (Certificate is not null)
                {
                    string certificate = child + ".certificate";
                    using (FileStream stream = File.Create(certificate))
                        Morphs.Certificate.Write(result, stream);
                    files.Add((certificate, Path.GetFullPath(Certificate)));
                }

                cancellation.ThrowIfCancellationRequested();
                Publish(files, (child, target));
            }

            return report;
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{target}' cannot be written: {e.Message}", e);
        }
        finally
        {
            if (Directory.Exists(folder))
                Directory.Delete(folder, recursive: true);
        }

        void Begin(string stage)
        {
            Progress?.Report(stage);
            cancellation.ThrowIfCancellationRequested();
        }
    }

    // Gives every file its name, or none. The model comes last: where it stands, all that belongs to it does.
    private void Publish(List<(string From, string To)> files, (string From, string To) model)
    {
        var moved = new List<(string From, string To)>();
        try
        {
            foreach ((string from, string to) in files)
            {
                if (Force && File.Exists(to))
                    Move(to, $"{model.From}.replaced{moved.Count}");
                Move(from, to);
            }

            File.Move(model.From, model.To, Force);
        }
        catch
        {
            foreach ((string from, string to) in Enumerable.Reverse(moved))
                File.Move(to, from);
            throw;
        }

        void Move(string from, string to)
        {
            File.Move(from, to);
            moved.Add((from, to));
        }
    }

    private static string Nothing(MorphResult result)
    {
        var reasons = result.Steps.SelectMany(s => s.Refused).ToList();
        return reasons.Count == 0
            ? "The model has no layer that takes any of the steps; 'onnxmorph inspect' lists its layers."
            : $"Nothing could be changed: {reasons[0]}{(reasons.Count > 1 ? $", and {reasons.Count - 1} more" : "")}.";
    }

    private static IEnumerable<TensorReport> Tensors(OnnxModel child) =>
        from constant in new ModelGraph(child).Constants
        where constant.Type.IsScalable()
        select new TensorReport(constant.Name, [.. constant.Shape], Origin(child.Data(constant.Tensor)));

    private static TensorOrigin Origin(WeightExpression weight) => weight switch
    {
        StoredWeight => TensorOrigin.Exact,
        MappedWeight m => Origin(m.Source) == TensorOrigin.Fresh ? TensorOrigin.Fresh : TensorOrigin.Mapped,
        RotatedWeight r => Origin(r.Source) == TensorOrigin.Fresh ? TensorOrigin.Fresh : TensorOrigin.Mapped,
        _ => TensorOrigin.Fresh,
    };
}
