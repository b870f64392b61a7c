using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Shapes;

namespace OnnxMorph.Morphs;

/// <summary>One step of a morph: a pass with its options.</summary>
/// <param name="Name">The step as the user wrote it.</param>
/// <param name="Selector">The layers that it is for.</param>
/// <param name="Apply">Changes the analysed graph in place and reports.</param>
public sealed record MorphStep(string Name, Selector Selector, Func<AxisAnalysis, StepReport> Apply);

/// <summary>A morphed model with what was done to it.</summary>
/// <param name="Child">The child.</param>
/// <param name="Steps">A report for each step.</param>
/// <param name="Relations">For each value of the parent with a changed axis, its relation to the child over all steps.</param>
/// <param name="Unstated">
/// Values that changed in a way that one map for each axis cannot say: channels of the child's own that a step added along one
/// axis, beside copies that an earlier step made along another, are not copies of each other.
/// </param>
public sealed record MorphResult(
    OnnxModel Child, IReadOnlyList<StepReport> Steps, IReadOnlyDictionary<string, AxisMap?[]> Relations, IReadOnlySet<string> Unstated);

/// <summary>
/// Carries out morph steps in order. Every step sees the graph that the one before left, analysed anew; its result is
/// checked before the next begins: ONNX Runtime must find, for every value, the sizes that the step's maps promise.
/// </summary>
public static class Morpher
{
    /// <summary>Morphs a copy of <paramref name="parent"/>.</summary>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load the model.</exception>
    /// <exception cref="RefusedException">A step names layers that the model does not have, or leads to a graph that does not hold together.</exception>
    public static MorphResult Morph(OnnxModel parent, IReadOnlyList<MorphStep> steps, CancellationToken cancellation = default)
    {
        OnnxModel model = parent;
        if (steps.Count > 0 && parent.Proto.Functions.Count > 0)
        {
            model = parent.Clone();
            FunctionInliner.Inline(model);
        }

        ShapeTable shapes = ShapeEvaluator.Evaluate(model);
        var reports = new List<StepReport>();
        var relations = new Dictionary<string, AxisMap?[]>();
        var unstated = new HashSet<string>();
        // The values of a space share its map.
        var composed = new Dictionary<(AxisMap, AxisMap), AxisMap>();
        AxisMap Compose(AxisMap first, AxisMap second)
        {
            if (!composed.TryGetValue((first, second), out AxisMap? map))
                composed[(first, second)] = map = second.After(first);
            return map;
        }

        var original = parent.Proto.Graph.Node.SelectMany(n => n.Output).ToHashSet();
        foreach (MorphStep step in steps)
        {
            cancellation.ThrowIfCancellationRequested();
            (model, shapes, StepReport report) = Run(step, model, shapes, cancellation);
            if (report.Changes.Count + report.Refused.Count == 0)
            {
                // '*' is for every layer that takes the step, which may be none; a name that fits nothing is a mistake.
                if (!step.Selector.IsEverything)
                    throw new RefusedException($"'{step.Name}' fits no layer that takes this step; 'onnxmorph inspect' lists the layers' names.");
                report.Notes.Add("The model has no layer that takes this step.");
            }

            reports.Add(report);
            foreach ((string value, AxisMap?[] maps) in report.Relations.Where(r => original.Contains(r.Key) && !unstated.Contains(r.Key)))
            {
                if (!relations.TryGetValue(value, out AxisMap?[]? before))
                    relations[value] = maps;
                else if (AxisMap.CanCompose(before, maps))
                    relations[value] = [.. maps.Select((map, axis) => map is null ? before[axis] : before[axis] is { } b ? Compose(b, map) : map)];
                else
                {
                    unstated.Add(value);
                    relations.Remove(value);
                }
            }
        }

        return new MorphResult(model, reports, relations, unstated);
    }

    private static (OnnxModel, ShapeTable, StepReport) Run(MorphStep step, OnnxModel model, ShapeTable shapes, CancellationToken cancellation)
    {
        var pinned = new Dictionary<int, Pin>();
        // Every turn pins one node more, so there are at most as many as nodes.
        while (true)
        {
            cancellation.ThrowIfCancellationRequested();
            OnnxModel child = model.Clone();
            AxisAnalysis analysis = AxisAnalysis.Of(new ModelGraph(child), shapes);
            foreach ((int node, Pin reason) in pinned)
                PinNode(analysis, node, reason);
            StepReport report;
            try
            {
                report = step.Apply(analysis);
            }
            catch (PatchRefusedException refused) when (pinned.TryAdd(refused.Node, refused.Pin))
            {
                continue;
            }

            ShapeTable after;
            try
            {
                after = ShapeEvaluator.Evaluate(child);
            }
            catch (UnreadableModelException e)
            {
                throw new RefusedException($"Step '{step.Name}' leads to a graph that ONNX Runtime does not load; select fewer layers, leaving out the one named here: {e.Message}", e);
            }

            if (Broken(new ModelGraph(model), shapes, after, report) is not { } broken)
            {
                Declarations.Follow(child, shapes, after);
                return (child, after, report);
            }

            if (!pinned.TryAdd(broken.Node, broken.Reason))
                throw new RefusedException($"Step '{step.Name}' leads to sizes that do not fit together ({broken.Reason}); select fewer layers, leaving out that one.");
        }
    }

    private static void PinNode(AxisAnalysis analysis, int node, Pin reason)
    {
        if (analysis.Node(node) is not { } axes)
            return;
        foreach (AxisExpression axis in axes.Inputs.Concat(axes.Outputs).SelectMany(all => all ?? []))
            analysis.Solver.Pin(axis, reason);
        foreach (string input in axes.Node.Input)
            analysis.PinSizes(input, reason);
        // What was pinned now may have held a family of uniform spaces together.
        analysis.Solver.Settle();
    }

    // The first node whose result has other sizes than the maps promise, at any choice of the callers' sizes.
    private static (int Node, Pin Reason)? Broken(ModelGraph parent, ShapeTable before, ShapeTable after, StepReport report)
    {
        for (int n = 0; n < parent.Nodes.Count; n++)
        {
            foreach (string value in parent.Nodes[n].Output)
            {
                if (before.Ints(value) is not null || parent.ConstantOf(value) is not null)
                    continue;
                long[]? changed = report.Sizes.GetValueOrDefault(value);
                if (before.Dims(value) is { } first && (Mismatch(first, changed, first, after.Dims(value))
                    ?? Mismatch(first, changed, before.Other?.Dims(value), after.Other?.Dims(value))) is { } mismatch)
                    return (n, new Pin(ModelGraph.Describe(parent.Nodes[n]), $"its result would have sizes {mismatch}"));
            }
        }

        return null;
    }

    // Promises are made for the first choice of sizes. A changed axis that holds a part which callers choose is that part times the
    // change at another choice, or the part and the change one behind the other.
    private static string? Mismatch(long[] first, long[]? changed, long[]? parent, long[]? found)
    {
        if (parent is null || found is null)
            return null;
        long[] promised = [.. parent.Select((size, axis) => changed is null || axis >= changed.Length || changed[axis] == first[axis] ? size
            : size == first[axis] ? changed[axis]
            : axis < found.Length && found[axis] == size + changed[axis] - first[axis] ? found[axis]
            : size * changed[axis] / first[axis])];
        return found.SequenceEqual(promised) ? null : $"{string.Join('×', found)} instead of {string.Join('×', promised)}";
    }
}
