using System.Text.Json.Serialization;
using OnnxMorph.Graph;
using OnnxMorph.Kernels;
using OnnxMorph.Onnx;
using OnnxMorph.Recipes;
using OnnxMorph.Runtime;
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
/// A morph from file to file: reads the parent, carries out the steps, writes the child, verifies it, and only then lets it
/// take its place.
/// </summary>
public sealed class MorphJob
{
    /// <summary>The parent's file.</summary>
    public required string Parent { get; init; }

    /// <summary>The file to write.</summary>
    public required string Output { get; init; }

    /// <summary>The steps; none writes the model back unchanged. They are kept in the child's metadata.</summary>
    public required Recipe Recipe { get; init; }

    /// <summary>Seed of everything random, where the recipe names none.</summary>
    public ulong Seed { get; init; }

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
        string target = Path.GetFullPath(Output);
        // Told before the work is done; the writer checks again when it is.
        foreach (string file in new[] { target, Certificate }.OfType<string>())
            OnnxWriter.CheckFree(Path.GetFullPath(file), Force);
        if (Certificate is not null && Path.GetFullPath(Certificate) == target)
            throw new UsageException($"'{target}' is named for both the model and its certificate; give them different names.");

        OrtRuntime.Prepare();
        KernelDevice.Prepare();
        Begin("reading");
        OnnxModel parent = OnnxReader.Read(Parent);
        long before = ModelInspection.CountParameters(parent);
        Begin("morphing");
        Recipe recipe = Recipe with { Seed = Recipe.Seed ?? Seed };
        MorphResult result = Morpher.Morph(parent, recipe.ToSteps(recipe.Seed!.Value), cancellation);
        if (recipe.Steps.Count > 0 && result.Steps.All(s => s.Changes.Count == 0))
            throw new RefusedException(Nothing(result));
        if (recipe.Steps.Count > 0)
            recipe.WriteTo(result.Child);

        VerificationReport? verification = null;
        Begin("writing");
        var write = new WriteOptions
        {
            Force = Force,
            Accept = Accept,
            Companion = Certificate is null ? null : new Companion(Certificate, stream => Certification.Certificate.Write(result, stream)),
        };
        WrittenModel written = OnnxWriter.Write(result.Child, target, Evaluator, write, null, cancellation);
        return new MorphReport(
            written.Accepted ? target : null, result.Steps, before, ModelInspection.CountParameters(result.Child), [.. Tensors(result.Child)], verification);

        bool Accept(string child)
        {
            if (Verify is { } options)
            {
                Begin("verifying");
                verification = Verifier.Compare(Parent, child, options with { Probe = options.Probe ?? new ModelProbe(Evaluator) }, cancellation);
                if (!verification.Passed)
                    return false;
            }

            return true;
        }

        void Begin(string stage)
        {
            Progress?.Report(stage);
            cancellation.ThrowIfCancellationRequested();
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
        ReshapedWeight r => Origin(r.Source),
        MappedWeight m => Origin(m.Source) == TensorOrigin.Fresh ? TensorOrigin.Fresh : TensorOrigin.Mapped,
        ComputedWeight => TensorOrigin.Mapped,
        RotatedWeight r => Origin(r.Source) == TensorOrigin.Fresh ? TensorOrigin.Fresh : TensorOrigin.Mapped,
        SummedWeight s when s.Terms.Any(term => Origin(term.Weight) != TensorOrigin.Fresh) => TensorOrigin.Mapped,
        _ => TensorOrigin.Fresh,
    };
}
