using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>What the new channels of a widened space are.</summary>
public enum WidenMethod
{
    /// <summary>Copies of old channels, whose consumers' weights are split unequally over the copies (Net2Wider).</summary>
    Replicate,

    /// <summary>New random channels that consumers read with zero weights.</summary>
    Zero,

    /// <summary>Pairs of equal new random channels that consumers read with opposite weights, so that both sides have gradients.</summary>
    Opposed,
}

/// <summary>
/// Widens spaces: <c>x[n] → x[n']</c> everywhere that a space runs, from the layers that produce it to those that read it
/// (METHODS.md §2, Width). Every space is widened once, whichever of its layers were selected.
/// </summary>
public sealed class WidenPass(Selector selector, SizeRequest size, WidenMethod method, ulong seed)
{
    /// <summary>Widens the graph that <paramref name="analysis"/> describes, in place.</summary>
    /// <exception cref="PatchRefusedException">
    /// A node cannot follow the sizes chosen; the graph is unchanged.
    /// </exception>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var report = new StepReport($"widen {selector}={size} ({method.ToString().ToLowerInvariant()})", Exactness.Rounding);
        SpaceMaps maps = Choose(analysis, report);
        List<NodePatch> patches = Patches(analysis, maps);
        Rewrite(analysis, maps, patches, report);
        Record(analysis, maps, report);
        return report;
    }

    // Which space gets which map, from the layers that were selected.
    private SpaceMaps Choose(AxisAnalysis analysis, StepReport report)
    {
        AxisSolver solver = analysis.Solver;
        var chosen = new Dictionary<Space, long>();
        List<(NodeProto Node, AxisExpression Axis)> layers =
            [.. selector.Nodes(analysis, report).Where(n => n.Produced is not null).Select(n => (n.Node, solver.Resolve(n.Produced!)))];
        foreach ((NodeProto node, AxisExpression axis) in layers)
        {
            long target = size.Apply(axis.Size);
            var request = new Dictionary<Space, long>();
            if (target > axis.Size)
                Request(solver, axis, target, request);
            foreach ((Space space, long wanted) in request)
                chosen[space] = Math.Max(wanted, chosen.GetValueOrDefault(space));
            if (request.Count > 0)
                continue;
            string why = target == axis.Size ? $"its {axis.Size} channels are already as many as asked for"
                : target < axis.Size ? $"it has {axis.Size} channels, and widening cannot take any away"
                : Refusal(solver, axis);
            report.Refused.Add(new Pin(ModelGraph.Describe(node), why));
        }

        Round(analysis, chosen);
        var maps = new SpaceMaps(solver, chosen.ToDictionary(x => x.Key, x => Map(x.Key, checked((int)x.Value))));
        foreach ((NodeProto node, AxisExpression axis) in layers)
        {
            long after = maps.NewSize(axis);
            if (after == axis.Size)
                continue;
            report.Changes.Add(new Change(ModelGraph.Describe(node), "channels", axis.Size, after));
            if (after != size.Apply(axis.Size))
                report.Notes.Add($"{ModelGraph.Describe(node)}: {size.Apply(axis.Size)} channels rounded to {after}, the next size that its groups, heads or norms take.");
        }

        return maps;
    }

    private string Refusal(AxisSolver solver, AxisExpression axis)
    {
        var reasons = solver.Leaves(axis)
            .Select(leaf => leaf.Space.Pins.FirstOrDefault() ?? (method == WidenMethod.Replicate ? null : leaf.Space.CopiesOnly))
            .Append((solver.Resolve(axis) as FixedAxis)?.Pin)
            .Where(pin => pin is not null).Distinct();
        return string.Join("; ", reasons);
    }

    // A product grows by its outermost part that may (groups, heads); a concatenation by all its parts alike.
    private void Request(AxisSolver solver, AxisExpression axis, long target, Dictionary<Space, long> sizes)
    {
        switch (solver.Resolve(axis))
        {
            case SpaceAxis s when IsFree(s.Space):
                sizes[s.Space] = Math.Max(target, sizes.GetValueOrDefault(s.Space));
                break;
            case ProductAxis p when p.Parts.FirstOrDefault(part => solver.Leaves(part).Any(l => IsFree(l.Space))) is { } part:
                long others = p.Size / part.Size;
                Request(solver, part, (target + others - 1) / others, sizes);
                break;
            case ConcatAxis c:
                foreach (AxisExpression part in c.Parts)
                    Request(solver, part, (part.Size * target + c.Size - 1) / c.Size, sizes);
                break;
        }
    }

    private bool IsFree(Space space) => space.Pins.Count == 0 && (method == WidenMethod.Replicate || space.CopiesOnly is null);

    // Spaces over which a mean is taken grow by a whole factor, all of a family by the same one.
    private static void Round(AxisAnalysis analysis, Dictionary<Space, long> chosen)
    {
        foreach (var family in analysis.Solver.Spaces.Where(s => s.Uniform is not null && s.Pins.Count == 0).GroupBy(AxisSolver.UniformRoot))
        {
            long factor = family.Max(s => chosen.TryGetValue(s, out long n) ? (n + s.Size - 1) / s.Size : 1);
            if (factor > 1)
                foreach (Space space in family)
                    chosen[space] = factor * space.Size;
        }
    }

    // The parent's channels come first, unchanged; copies take each old channel once before any twice, in a seeded order.
    private AxisMap Map(Space space, int newSize)
    {
        int old = space.Size;
        var sources = new int[newSize];
        int[] order = [.. Enumerable.Range(0, old)];
        bool uniform = space.Uniform is not null;
        for (int c = 0; c < newSize; c++)
        {
            int extra = c - old;
            if (extra >= 0 && method == WidenMethod.Replicate && extra % old == 0 && !uniform)
                new Random(unchecked((int)Seeds.For(seed, $"widen {space.Id} {extra / old}"))).Shuffle(order);
            sources[c] = extra < 0 ? c
                : method == WidenMethod.Replicate ? order[extra % old]
                : method == WidenMethod.Zero ? old + extra
                : old + extra / 2;
        }

        int fresh = method switch
        {
            WidenMethod.Zero => newSize - old,
            WidenMethod.Opposed => (newSize - old + 1) / 2,
            _ => 0,
        };
        return AxisMap.Pick(old, fresh, sources);
    }

    private static List<NodePatch> Patches(AxisAnalysis analysis, SpaceMaps maps)
    {
        var patches = new List<NodePatch>();
        for (int n = 0; n < analysis.Graph.Nodes.Count; n++)
        {
            if (analysis.Node(n) is not { } axes || OperatorRules.For(axes.Node) is not { } rule
                || !axes.Inputs.Concat(axes.Outputs).Append([.. axes.ReadsSizes]).Any(all => all is not null && all.Any(maps.Changes)))
                continue;
            var patch = new NodePatch(axes, maps.NewSize);
            rule.Patch(patch);
            patches.Add(patch);
        }

        return patches;
    }

    private void Rewrite(AxisAnalysis analysis, SpaceMaps maps, List<NodePatch> patches, StepReport report)
    {
        var editor = new GraphEditor(analysis.Graph);
        foreach (var uses in analysis.ConstantUses.GroupBy(u => u.Constant))
            RewriteConstant(analysis, maps, editor, uses.Key, [.. uses.Select(u => (u.Use, u.Axes))], report);
        foreach (NodePatch patch in patches)
            PatchWriter.Write(patch, analysis, editor);

        editor.SetDeclaredSizes(analysis.Values
            .Select(v => (v.Key, Sizes: (IReadOnlyList<(int, long)>)[.. v.Value.Select((axis, i) => (i, maps.NewSize(axis), axis.Size))
                .Where(x => x.Item2 != x.Size).Select(x => (x.i, x.Item2))]))
            .Where(v => v.Sizes.Count > 0)
            .ToDictionary(v => v.Key, v => v.Sizes));
        editor.Commit();
    }

    // Uses that want the same form keep sharing the constant; others get one of their own.
    private void RewriteConstant(
        AxisAnalysis analysis, SpaceMaps maps, GraphEditor editor, Constant constant, List<(Use Use, AxisExpression[] Axes)> uses, StepReport report)
    {
        var forms = new List<(AxisMap?[] Maps, List<(Use Use, AxisExpression[] Axes)> Uses)>();
        foreach (var use in uses)
        {
            AxisMap?[] form = [.. use.Axes.Select((axis, i) => maps.Of(axis, Seeds.For(seed, $"{constant.Name} axis {i}")))];
            var same = forms.FirstOrDefault(f => Enumerable.SequenceEqual(f.Maps, form));
            if (same.Maps is null)
                forms.Add(same = (form, []));
            same.Uses.Add(use);
        }

        if (forms.Count > 1 && constant.Shape.Count(s => s > 1) > 1 && forms.Any(f => f.Maps.Any(m => m is not null)))
            report.Notes.Add($"Weight '{constant.Name}' is no longer shared: its uses need different forms.");
        foreach ((AxisMap?[] form, var same) in forms)
        {
            if (form.All(m => m is null))
                continue;
            WeightExpression data = analysis.Graph.Model.Data(constant.Tensor).Map([.. form], FillFor(analysis, maps, same, constant, form));
            editor.Replace(constant, data, [.. same.Select(u => u.Use)], uses.Count);
        }
    }

    // What several uses share starts with 1 where one of them needs that: a divisor must not be 0.
    private Fill FillFor(AxisAnalysis analysis, SpaceMaps maps, List<(Use Use, AxisExpression[] Axes)> uses, Constant constant, AxisMap?[] form)
    {
        if (form.All(m => m is null || m.FreshSize == 0))
            return Fill.Zero;
        var fills = uses.Select(use => FillFor(analysis, maps, use, constant)).ToList();
        return fills.Contains(Fill.Constant(1)) ? Fill.Constant(1) : fills[0];
    }

    private Fill FillFor(AxisAnalysis analysis, SpaceMaps maps, (Use Use, AxisExpression[] Axes) use, Constant constant)
    {
        NodeAxes node = analysis.Node(use.Use.Node)!;
        int input = use.Use.Input;
        OperatorRule rule = OperatorRules.For(node.Node)!;
        double fanIn = 0;
        while (rule.MovesElements && analysis.Graph.Uses(node.Node.Output[0]) is [var next, ..] && analysis.Node(next.Node) is { } reader)
        {
            (node, input) = (reader, next.Input);
            if (OperatorRules.For(node.Node) is not { } readerRule)
                break;
            rule = readerRule;
        }

        bool contracted = use.Axes.Any(axis => analysis.Solver.Leaves(axis).Any(leaf => leaf.Dual));
        FreshValue value = contracted ? FreshValue.HeNormal : rule.Fresh(node, input);
        switch (value)
        {
            case FreshValue.One:
                return Fill.Constant(1);
            case FreshValue.Quarter:
                return Fill.Constant(0.25);
            case FreshValue.Zero:
                return Fill.Zero;
        }

        double count = use.Axes.Aggregate(1.0, (product, axis) => product * maps.NewSize(axis));
        fanIn = node.Layer is { } layer && layer.WeightInput == input && node.Index == use.Use.Node
            ? count / maps.NewSize(use.Axes[layer.WeightOutputAxis]) / (layer.Transposed ? layer.Groups : 1)
            : use.Axes.Where(axis => analysis.Solver.Leaves(axis).Any(leaf => leaf.Dual)).Aggregate(1.0, (product, axis) => product * maps.NewSize(axis));
        return new Fill(FillKind.Normal, Math.Sqrt(2 / Math.Max(fanIn, 1)), Seeds.For(seed, $"fresh {constant.Name}"));
    }

    private static void Record(AxisAnalysis analysis, SpaceMaps maps, StepReport report)
    {
        foreach ((string value, AxisExpression[] axes) in analysis.Values)
        {
            if (!axes.Any(maps.Changes))
                continue;
            report.Sizes[value] = [.. axes.Select(maps.NewSize)];
            if (!analysis.IsWeight(value))
                report.Relations[value] = [.. axes.Select(axis => maps.Of(axis, 0))];
        }
    }
}
