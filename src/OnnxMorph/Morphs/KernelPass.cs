using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// Grows convolution kernels: <c>W[…, k] → zero-padded W[…, k']</c>, with the convolution's pads grown by as much, so that
/// the new taps see only what they multiply by zero (METHODS.md §2, Kernel size).
/// </summary>
public sealed class KernelPass(Selector selector, SizeRequest size)
{
    /// <summary>Grows the kernels of the graph that <paramref name="analysis"/> describes, in place.</summary>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var report = new StepReport($"kernel {selector}={size}", Exactness.BitExact);
        ModelGraph graph = analysis.Graph;
        var editor = new GraphEditor(graph);
        var grown = new Dictionary<Constant, (AxisMap?[] Maps, List<Use> Uses)>();
        foreach ((NodeAxes axes, LinearLayer layer) in selector.Layers(analysis, report).Where(l => l.Layer.SpatialAxes > 0))
        {
            NodeProto node = axes.Node;
            if (Grow(graph, axes, layer, out AxisMap?[] maps) is { } why)
            {
                report.Refused.Add(new Pin(ModelGraph.Describe(node), why));
                continue;
            }

            Constant constant = graph.ConstantOf(node.Input[layer.WeightInput])!;
            // Readers of one weight ask for the same size, so they get the same maps.
            if (!grown.TryGetValue(constant, out var wanted))
                grown[constant] = wanted = (maps, []);
            wanted.Uses.Add(new Use(axes.Index, layer.WeightInput));
            AxisMap[] spatial = [.. maps.Skip(2).Select(m => m!)];
            report.Kernels.Add(new KernelPadding(ModelGraph.NameOf(node), [.. spatial.Select(Before)], [.. spatial.Select(m => m.Size - m.SourceSize - Before(m))]));
            report.Changes.Add(new Change(ModelGraph.Describe(node), "taps",
                spatial.Aggregate(1L, (product, m) => product * m.SourceSize), spatial.Aggregate(1L, (product, m) => product * m.Size)));
        }

        foreach ((Constant constant, (AxisMap?[] maps, List<Use> uses)) in grown)
            editor.Replace(constant, graph.Model.Data(constant.Tensor).Map([.. maps], Fill.Zero), uses,
                analysis.ConstantUses.Count(u => u.Constant == constant));
        editor.Commit();
        return report;
    }

    private static int Before(AxisMap map) => map.Starts.IndexOf(1) - 1;

    // Null where the node was changed; the reason where it cannot be.
    private string? Grow(ModelGraph graph, NodeAxes axes, LinearLayer layer, out AxisMap?[] maps)
    {
        NodeProto node = axes.Node;
        maps = [];
        if (graph.ConstantOf(node.Input[layer.WeightInput]) is not { } constant)
            return "its weight is computed by other nodes";
        if (!constant.Type.IsScalable())
            return $"its weight's elements are {constant.Type}, whose zero is not known";
        int spatial = layer.SpatialAxes;
        long[] dilations = axes.IntList("dilations") ?? [.. Enumerable.Repeat(1L, spatial)];
        long[] strides = axes.IntList("strides") ?? [.. Enumerable.Repeat(1L, spatial)];
        long[] kernel = [.. constant.Shape.Skip(2)];
        long[] grown = [.. kernel.Select(size.Apply)];
        if (grown.Zip(kernel, (after, before) => after < before).Any(x => x))
            return $"its kernel has sizes {string.Join('×', kernel)}, and growing cannot take any away";
        if (grown.SequenceEqual(kernel))
            return $"its kernel already has sizes {string.Join('×', kernel)}";
        if (Pads(axes, layer, kernel, strides, dilations, out string? why) is not { } pads)
            return why;

        maps = new AxisMap?[2 + spatial];
        for (int axis = 0; axis < spatial; axis++)
        {
            int extra = checked((int)(grown[axis] - kernel[axis])), before = extra / 2;
            maps[2 + axis] = AxisMap.ZeroPad((int)kernel[axis], before, extra - before);
            pads[axis] += before * dilations[axis];
            pads[axis + spatial] += (extra - before) * dilations[axis];
        }

        GraphEditor.RemoveAttribute(node, "auto_pad");
        GraphEditor.SetInts(node, "pads", pads);
        GraphEditor.SetInts(node, "kernel_shape", grown);
        return null;
    }

    /// <summary>
    /// The explicit pads of a convolution, begins before ends; null with the reason where auto_pad depends on sizes that
    /// callers choose.
    /// </summary>
    internal static long[]? Pads(NodeAxes axes, LinearLayer layer, long[] kernel, long[] strides, long[] dilations, out string? why)
    {
        why = null;
        int spatial = layer.SpatialAxes;
        string mode = axes.Text("auto_pad") ?? "NOTSET";
        if (layer.Transposed && (mode.StartsWith("SAME") || axes.IntList("output_shape") is not null))
        {
            why = "its pads follow from auto_pad or output_shape of a transposed convolution; write them as explicit pads";
            return null;
        }

        if (mode is "NOTSET" or "")
            return axes.IntList("pads") ?? new long[2 * spatial];
        if (mode == "VALID")
            return new long[2 * spatial];
        var pads = new long[2 * spatial];
        long[] result = axes.OutputDims(0)!;
        for (int axis = 0; axis < spatial; axis++)
        {
            // SAME: as much as makes the output ceil(input / stride) long; at stride 1 that does not depend on the input.
            if (strides[axis] != 1 && axes.IsSymbolic(0, axis + 2))
            {
                why = $"auto_pad={mode} with stride {strides[axis]} pads by an amount that depends on the caller's sizes";
                return null;
            }

            long total = Math.Max((result[axis + 2] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 - axes.In(0, axis + 2).Size, 0);
            pads[axis] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
            pads[axis + spatial] = total - pads[axis];
        }

        return pads;
    }
}
