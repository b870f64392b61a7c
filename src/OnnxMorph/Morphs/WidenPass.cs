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

    /// <summary>New channels of which one side is zero: random ones that are read with zeros, or zeros that are read at random.</summary>
    Zero,

    /// <summary>Pairs of equal new random channels that consumers read with opposite weights, so that both sides have gradients.</summary>
    Opposed,
}

/// <summary>Which side of new channels is zero under <see cref="WidenMethod.Zero"/>.</summary>
public enum ZeroSide
{
    /// <summary>The one with fewer weights, of those that keep the function and learn.</summary>
    Smaller,

    /// <summary>The weights that read them.</summary>
    Consumer,

    /// <summary>The weights that make them: zeros must stay zeros all the way to where they are read, and have a gradient there.</summary>
    Producer,
}

/// <summary>
/// Widens spaces: <c>x[n] → x[n']</c> everywhere that a space runs, from the layers that produce it to those that read it
/// (METHODS.md §2, Width). Every space is widened once, whichever of its layers were selected.
/// </summary>
public sealed class WidenPass(Selector selector, SizeRequest size, WidenMethod method, ulong seed, ZeroSide side = ZeroSide.Smaller, bool equalShares = false)
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
        var growth = new SpaceGrowth(analysis, method, side, seed);
        var maps = new SpaceMaps(solver, chosen.ToDictionary(x => x.Key, x => growth.Map(x.Key, checked((int)x.Value))), equalShares);
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
            .Select(leaf => leaf.Space.Pins.FirstOrDefault() ?? (IsFree(leaf.Space) ? null : leaf.Space.UniformReason ?? leaf.Space.CopiesOnly ?? leaf.Space.PicksOnly ?? leaf.Space.NoZeros))
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

    private bool IsFree(Space space) => space.Pins.Count == 0 && (method == WidenMethod.Replicate || space.Filling is not null
        || (space.Uniform is null && space.CopiesOnly is null && (space.PicksOnly is null || (method == WidenMethod.Zero && side != ZeroSide.Producer))
            && (side != ZeroSide.Producer || method != WidenMethod.Zero || space.NoZeros is null)));

    // Spaces that grow together get the largest of their sizes; those over which a mean is taken a whole factor, unless there is
    // another way.
    private void Round(AxisAnalysis analysis, Dictionary<Space, long> chosen)
    {
        foreach (var family in analysis.Solver.Spaces.Where(s => s.Uniform is not null && s.Pins.Count == 0).GroupBy(AxisSolver.UniformRoot))
        {
            if (!family.Any(chosen.ContainsKey))
                continue;
            if (family.All(s => s.Filling is not null))
            {
                GrowAlike(family, chosen);
                continue;
            }

            long factor = family.Max(s => chosen.TryGetValue(s, out long n) ? (n + s.Size - 1) / s.Size : 1);
            foreach (Space space in family)
                chosen[space] = factor * space.Size;
        }

        foreach (var family in analysis.Solver.Spaces.Where(s => s.Paired is not null && s.Pins.Count == 0).GroupBy(s => s.Paired))
            if (family.Any(chosen.ContainsKey))
                GrowAlike(family, chosen);
    }

    private static void GrowAlike(IEnumerable<Space> family, Dictionary<Space, long> chosen)
    {
        long size = family.Max(s => chosen.GetValueOrDefault(s));
        foreach (Space space in family)
            chosen[space] = size;
    }

    private static List<NodePatch> Patches(AxisAnalysis analysis, SpaceMaps maps)
    {
        var patches = new List<NodePatch>();
        for (int n = 0; n < analysis.Graph.Nodes.Count; n++)
        {
            if (analysis.Node(n) is not { } axes || OperatorRules.For(axes.Node) is not { } rule
                || !(axes.Inputs.Concat(axes.Outputs).Append([.. axes.ReadsSizes]).Any(all => all is not null && all.Any(maps.Changes))
                    || ListsChangedSizes(analysis, maps, axes.Node, rule)))
                continue;
            var patch = new NodePatch(axes, maps.NewSize, maps.Share);
            rule.Patch(patch);
            patches.Add(patch);
        }

        return patches;
    }

    // A size may be read off one value and meant for another, which happens to be as large in the parent.
    private static bool ListsChangedSizes(AxisAnalysis analysis, SpaceMaps maps, NodeProto node, OperatorRule rule) =>
        Enumerable.Range(0, node.Input.Count).Where(input => rule.ListsSizes(input) && node.Input[input].Length > 0)
            .SelectMany(input => analysis.Lineage.AllSources(node.Input[input]))
            .Any(source => analysis.Axes(source.Value) is { } axes && maps.Changes(axes[source.Axis]));

    private void Rewrite(AxisAnalysis analysis, SpaceMaps maps, List<NodePatch> patches, StepReport report)
    {
        var editor = new GraphEditor(analysis.Graph);
        var factors = new ValueFactors(analysis, editor);
        foreach (NodePatch patch in patches)
            factors.Add(patch);
        foreach (var uses in analysis.ConstantUses.GroupBy(u => u.Constant))
            RewriteConstant(analysis, maps, factors, editor, uses.Key, [.. uses.Select(u => (u.Use, u.Axes))], report);
        foreach (NodePatch patch in patches)
            PatchWriter.Write(patch, analysis, editor);
        editor.Commit();
        foreach ((string value, double factor) in factors.Values)
            report.Factors[value] = factor;
    }

    // Uses that want the same form keep sharing the constant; others get one of their own.
    private void RewriteConstant(
        AxisAnalysis analysis, SpaceMaps maps, ValueFactors factors, GraphEditor editor, Constant constant,
        List<(Use Use, AxisExpression[] Axes)> uses, StepReport report)
    {
        var forms = new List<(AxisMap?[] Maps, double Factor, Fill? Zero, List<(Use Use, AxisExpression[] Axes)> Uses)>();
        foreach (var use in uses)
        {
            AxisMap?[] form = new AxisMap?[use.Axes.Length];
            Fill? zero = Quantised(analysis, use.Use, constant);
            if (use.Axes.Any(maps.Changes))
            {
                FreshWeights fresh = FreshWeights.Of(analysis, use.Use, use.Axes, use.Axes.Any(maps.AddsZeros));
                form = [.. use.Axes.Select((axis, i) => maps.Of(axis, Seeds.For(seed, $"{constant.Name} axis {i}"), fresh.IsLive))];
                if (!constant.Type.IsScalable())
                    form = [.. form.Select(map => map?.WithZerosFresh())];
            }

            double factor = factors.Of(use.Use);
            var same = forms.FirstOrDefault(f => f.Factor == factor && f.Zero == zero && Enumerable.SequenceEqual(f.Maps, form));
            if (same.Maps is null)
                forms.Add(same = (form, factor, zero, []));
            same.Uses.Add(use);
        }

        if (forms.Count > 1 && constant.Shape.Count(s => s > 1) > 1 && forms.Any(f => f.Maps.Any(m => m is not null)))
            report.Notes.Add($"Weight '{constant.Name}' is no longer shared: its uses need different forms.");
        foreach ((AxisMap?[] form, double factor, Fill? zero, var same) in forms)
        {
            if (form.All(m => m is null) && factor == 1)
                continue;
            var stages = form.Select(map => map?.Staged()).ToList();
            WeightExpression data = analysis.Graph.Model.Data(constant.Tensor)
                .Map([.. stages.Select(s => s?.Sums)], Fill.Zero)
                .Map([.. stages.Select(s => s?.Copies)], zero ?? FillFor(analysis, maps, same, constant, form))
                .Times(factor);
            editor.Replace(constant, data, [.. same.Select(u => u.Use)], uses.Count);
        }
    }

    // What a weight that can only be picked from holds where it is zero; null where its numbers can be computed with.
    private static Fill? Quantised(AxisAnalysis analysis, Use use, Constant constant) =>
        OperatorRules.For(analysis.Graph.Nodes[use.Node])?.IsQuantised(use.Input) != true ? constant.Type.IsScalable() ? null : Fill.Zero
        : constant.Type.IsScalable() ? Fill.Zero
        : Fill.Constant(QuantizeRule.ZeroPoint(analysis.Node(use.Node)!) ?? 0);

    // What several uses share starts with the largest number that one of them needs: a divisor must not be 0.
    private Fill FillFor(AxisAnalysis analysis, SpaceMaps maps, List<(Use Use, AxisExpression[] Axes)> uses, Constant constant, AxisMap?[] form)
    {
        if (form.All(m => m is null || m.FreshSize == 0))
            return Fill.Zero;
        var fills = uses.Select(use => FillFor(analysis, maps, use, constant)).ToList();
        return fills.Where(fill => fill.Kind == FillKind.Constant && fill.Scale != 0).DefaultIfEmpty(fills[0]).MaxBy(fill => fill.Scale);
    }

    private Fill FillFor(AxisAnalysis analysis, SpaceMaps maps, (Use Use, AxisExpression[] Axes) use, Constant constant) =>
        FreshWeights.Of(analysis, use.Use, use.Axes, use.Axes.Any(maps.AddsZeros)).Fill(constant, maps.NewSize, seed);

    private static void Record(AxisAnalysis analysis, SpaceMaps maps, StepReport report)
    {
        foreach ((string value, AxisExpression[] axes) in analysis.Values)
        {
            if (!axes.Any(maps.Changes))
                continue;
            report.Sizes[value] = [.. axes.Select(maps.NewSize)];
            if (!analysis.IsWeight(value))
                report.Relations[value] = [.. axes.Select((axis, i) => analysis.Gated.Holds(value, axes.Length - 1 - i) ? maps.Relation(axis)?.WithZerosFresh() : maps.Relation(axis))];
        }

        // A factor goes with an axis of fixed size, where there is one.
        foreach ((string value, double factor) in report.Factors)
        {
            if (factor == 1 || analysis.Axes(value) is not { Length: > 0 } axes)
                continue;
            AxisMap?[] relation = report.Relations.GetValueOrDefault(value) ?? new AxisMap?[axes.Length];
            int last = axes.Length - 1;
            relation[last] = (relation[last] ?? AxisMap.Identity(checked((int)axes[last].Size))).Times(factor);
            report.Relations[value] = relation;
        }
    }
}
