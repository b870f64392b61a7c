using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Certification;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Recipes;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Testing;

/// <summary>A step as recipes write it, and its seed.</summary>
internal sealed record SeededStep(StepSpec Spec, ulong Seed)
{
    public MorphStep Step => Spec.ToStep(Seed);

    /// <summary>Reads what <see cref="StepSpec.ToString"/> writes: <c>deepen * method=general count=2</c>.</summary>
    public static SeededStep Parse(string text, ulong seed)
    {
        string[] words = text.Split(' ');
        return new SeededStep(new StepSpec(words[0], words[1], words[2..].ToDictionary(w => w[..w.IndexOf('=')], w => w[(w.IndexOf('=') + 1)..])), seed);
    }
}

/// <summary>A network and the steps that it is put through.</summary>
/// <param name="Net">The network.</param>
/// <param name="InDouble">Whether ONNX Runtime can run it in double precision.</param>
/// <param name="Steps">The steps.</param>
internal sealed record RandomCase(Net Net, bool InDouble, IReadOnlyList<SeededStep> Steps)
{
    // Optimised graphs round in other places, some of them to single precision.
    private const double SingleTolerance = 1e-3;
    private const double DoubleTolerance = 1e-6;
    private const double OwnTolerance = 8;

    /// <summary>A random network under one to five random steps.</summary>
    /// <param name="seed">Decides all of it.</param>
    /// <param name="folder">For files that steps read.</param>
    public static RandomCase Draw(int seed, string folder)
    {
        var network = new RandomNetwork(seed);
        var random = new Random(~seed);
        var steps = new RandomSteps(random, network.Net, Path.Combine(folder, $"{seed}"));
        return new RandomCase(network.Net, network.InDouble, [.. Enumerable.Range(0, random.Next(1, 6)).Select(_ => steps.Next())]);
    }

    /// <summary>
    /// Holds every value of the child to its relation, and the outputs of the child as it is written to the parent's, both as ONNX
    /// Runtime optimises them. A step that fits nothing is left out; any other exception is a failure.
    /// </summary>
    /// <returns>Whether a step changed anything.</returns>
    public bool Holds()
    {
        if (WithStepsThatFit(steps => Check.Morph(Net, InDouble, steps)) is not { } result)
            return false;
        ModelProto written = Check.Written(result.Child);
        HoldsAsWritten(written);
        IsProven(result, written);
        return result.Steps.Any(s => s.Changes.Count > 0);
    }

    /// <summary>The child, as it is written; null where no step changes anything.</summary>
    public ModelProto? Child() =>
        WithStepsThatFit(steps => Morpher.Morph(Net.Model, steps, TestContext.Current.CancellationToken)) is { } result && result.Steps.Any(s => s.Changes.Count > 0)
            ? Check.Written(result.Child) : null;

    private MorphResult? WithStepsThatFit(Func<MorphStep[], MorphResult> morph)
    {
        var steps = Steps.ToList();
        while (steps.Count > 0)
        {
            try
            {
                return morph([.. steps.Select(s => s.Step)]);
            }
            catch (RefusedException e) when (steps.RemoveAll(s => FitsNothing(s, e.Message)) > 0)
            {
                // The others go on.
            }
        }

        return null;
    }

    /// <summary>Checks a case with steps as <see cref="SeededStep.Parse"/> reads them.</summary>
    public static void Hold(Net net, params (string Step, ulong Seed)[] steps) => Hold(net, inDouble: true, steps);

    /// <summary>The same, in single precision alone where ONNX Runtime has no other.</summary>
    public static void Hold(Net net, bool inDouble, params (string Step, ulong Seed)[] steps) =>
        new RandomCase(net, inDouble, [.. steps.Select(s => SeededStep.Parse(s.Step, s.Seed))]).Holds();

    // The selector, or a skip's beginning, names what the model does not have, or what an earlier step took away.
    private static bool FitsNothing(SeededStep step, string message) =>
        message.StartsWith($"'{step.Spec}' fits no layer", StringComparison.Ordinal)
        || (step.Spec.Options.TryGetValue("from", out string? from) && message.StartsWith($"The model has no node '{from}'", StringComparison.Ordinal));

    // What the checker finds wrong is wrong in one of the two; what it cannot tell is not, such as nodes that take no free draws.
    private void IsProven(MorphResult result, ModelProto written)
    {
        var certificate = new Certificate { Relations = result.Relations, Unstated = result.Unstated.ToHashSet() };
        CertificateReport report = CertificateChecker.Check(Net.Model, new OnnxModel(written), certificate, 1, null, TestContext.Current.CancellationToken);
        Assert.True(report.Passed, string.Join("; ", report.Failed.Select(f => $"'{f.Value}': {f.Reason}")));
    }

    /// <summary>
    /// Holds the outputs of a model to the network's own. Only outputs are asked for, so that ONNX Runtime plans memory and optimises as it
    /// does for users. What that moves in the network it may move in the other: it folds constants in single precision.
    /// </summary>
    public void HoldsAsWritten(ModelProto written)
    {
        var feeds = Check.Feeds(Net, Net.Runs.FirstOrDefault() ?? [], seed: 1);
        var expected = Check.Run(Net.Proto, feeds, []);
        Dictionary<string, Array> optimised;
        GraphOptimizationLevel[] levels = [GraphOptimizationLevel.ORT_DISABLE_ALL, GraphOptimizationLevel.ORT_ENABLE_ALL];
        try
        {
            optimised = Check.Run(Net.Proto, feeds, [], GraphOptimizationLevel.ORT_ENABLE_ALL);
        }
        catch (OnnxRuntimeException)
        {
            // Some of its optimisations know single precision alone, and fail on the parent too.
            (optimised, levels) = (expected, [GraphOptimizationLevel.ORT_DISABLE_ALL]);
        }

        foreach (GraphOptimizationLevel level in levels)
        {
            var actual = Check.Run(written, feeds, [], level);
            foreach ((string name, Array before) in expected)
            {
                Array after = actual[name];
                Assert.True(before.Shape.SequenceEqual(after.Shape), $"Output '{name}' has sizes {string.Join('×', after.Shape)} instead of {string.Join('×', before.Shape)}.");
                double scale = Math.Max(before.Values.Select(Math.Abs).DefaultIfEmpty(0).Max(), 1e-3);
                double error = Distance(before, after), own = Distance(before, optimised[name]);
                Assert.True(error <= scale * (Net.Type == ElementType.Float64 ? DoubleTolerance : SingleTolerance) + OwnTolerance * own,
                    $"Output '{name}' is {error:g3} away at {level}, the parent's own {own:g3}, scale {scale:g3}.");
            }
        }

        static double Distance(Array a, Array b) => a.Values.Zip(b.Values, (x, y) => Math.Abs(x - y)).DefaultIfEmpty(0).Max();
    }
}
