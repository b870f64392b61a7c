using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Operators;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>Where a kernel gets its new taps along each axis.</summary>
public enum TapPlace
{
    /// <summary>On both sides, the larger half behind where their number is odd.</summary>
    Both,

    /// <summary>In front.</summary>
    Begin,

    /// <summary>Behind.</summary>
    End,
}

/// <summary>
/// Grows convolution kernels: <c>W[…, k] → zero-padded W[…, k']</c>, with the convolution's pads grown by as much, so that
/// the new taps see only what they multiply by zero (METHODS.md §2, Kernel size).
/// </summary>
public sealed class KernelPass(Selector selector, KernelSize size, TapPlace place = TapPlace.Both)
{
    /// <summary>Grows the kernels of the graph that <paramref name="analysis"/> describes, in place.</summary>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var report = new StepReport($"kernel {selector}={size}{(place == TapPlace.Both ? "" : $" ({place.ToString().ToLowerInvariant()})")}", Exactness.BitExact);
        ModelGraph graph = analysis.Graph;
        var editor = new GraphEditor(graph);
        var paths = new List<WeightPath>();
        foreach ((NodeAxes axes, LinearLayer layer) in selector.Layers(analysis, report).Where(l => l.Layer.SpatialAxes > 0))
        {
            if (Grow(analysis, axes, layer, report, out string why) is { } path)
                paths.Add(path);
            else
                report.Refused.Add(axes.Reason(why));
        }

        // Readers of one weight ask for the same size; only those that see it in another order want another form of it.
        while (paths.Count > 0)
        {
            (Constant constant, AxisMap?[] maps, long zero) = (paths[0].Constant, paths[0].Maps, paths[0].Zero);
            List<WeightPath> same = paths.FindAll(p => p.Constant == constant && p.Zero == zero && Enumerable.SequenceEqual(p.Maps, maps));
            WeightExpression weight = graph.Model.Data(constant.Tensor);
            WeightExpression grown = zero == 0 ? weight.Map([.. maps], Fill.Zero) : weight.Map([.. maps.Select(map => map?.WithZerosFresh())], Fill.Constant(zero));
            editor.Replace(constant, grown, [.. same.Select(p => p.Use)],
                analysis.ConstantUses.Count(u => u.Constant == constant));
            foreach (WeightPath path in same)
                path.Rewrite(graph, editor);
            paths.RemoveAll(same.Contains);
        }

        editor.Commit();
        return report;
    }

    // The way to the weight's constant with its new taps where the node was changed; null with the reason where it cannot be.
    private WeightPath? Grow(AxisAnalysis analysis, NodeAxes axes, LinearLayer layer, StepReport report, out string why)
    {
        int spatial = layer.SpatialAxes;
        long[] kernel = [.. Enumerable.Range(2, spatial).Select(axis => axes.In(layer.WeightInput, axis).Size)];
        if (size.Apply(kernel) is not { } target)
        {
            why = $"its kernel has {spatial} {(spatial == 1 ? "axis" : "axes")}, and '{size}' gives another number of sizes";
            return null;
        }

        long[] extra = [.. target.Zip(kernel, (after, before) => after - before)];
        why = extra.Any(e => e < 0) ? $"its kernel has sizes {string.Join('×', kernel)}, and growing cannot take any away"
            : extra.All(e => e == 0) ? $"its kernel already has sizes {string.Join('×', kernel)}"
            : "";
        if (why.Length > 0)
            return null;
        int[] before = [.. extra.Select(e => checked((int)(place switch { TapPlace.Begin => e, TapPlace.End => 0, _ => e / 2 })))];
        int[] after = [.. extra.Zip(before, (e, b) => checked((int)(e - b)))];
        if (ConvolutionPads.Of(axes, layer, kernel, out why) is not { } own || own.Grown(before, after, out why) is not { } pads)
            return null;
        // Over a mean, as in squeeze-excite, new taps have nothing to see.
        why = TapReach.GrowthRefusal(axes, layer, own, kernel, before, after) ?? "";
        if (why.Length > 0)
            return null;
        AxisMap?[] maps = [null, null, .. kernel.Select((taps, axis) => extra[axis] == 0 ? null : AxisMap.ZeroPad((int)taps, before[axis], after[axis]))];
        if (WeightPath.Find(analysis, new Use(axes.Index, layer.WeightInput), maps, out why) is not { } path)
            return null;
        pads.Write(axes.Node);
        GraphEditor.SetInts(axes.Node, "kernel_shape", target);
        foreach ((string value, long[] sizes) in path.Sizes)
            report.Sizes[value] = sizes;
        report.Kernels.Add(new KernelPadding(ModelGraph.NameOf(axes.Node), before, after));
        report.Changes.Add(new Change(ModelGraph.Describe(axes.Node), "taps",
            kernel.Aggregate(1L, (product, taps) => product * taps), target.Aggregate(1L, (product, taps) => product * taps)));
        return path;
    }
}
