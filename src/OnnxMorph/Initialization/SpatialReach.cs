using OnnxMorph.Axes;
using OnnxMorph.Morphs;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Initialization;

/// <summary>How often each tap of a kernel meets data along one spatial axis.</summary>
/// <param name="Counts">For each tap the number of (input, result) positions that it joins.</param>
/// <param name="Inputs">Positions of the data, padding left out.</param>
/// <param name="Outputs">Positions of the result.</param>
/// <param name="IsPeriodic">Whether the data goes on periodically and the kernel spans more than half a period: a circulant layer rather than a local one.</param>
/// <param name="Repeats">Whether a tap meets one position of the data for two positions of the result.</param>
internal sealed record AxisReach(long[] Counts, long Inputs, long Outputs, bool IsPeriodic, bool Repeats);

/// <summary>
/// Counts, along each spatial axis of a convolution, the valid pairs of positions of each tap: padding with zeros is no data, whether the
/// operator itself pads or a node in front of it; padding with the data's own values is.
/// </summary>
internal static class SpatialReach
{
    /// <summary>Counts for the sizes that shapes were evaluated at; null with the reason where they cannot be told.</summary>
    /// <param name="analysis">The graph.</param>
    /// <param name="node">A convolution.</param>
    /// <param name="kernel">Its kernel.</param>
    /// <param name="transposed">Whether it is a transposed one.</param>
    /// <param name="why">The reason.</param>
    public static AxisReach[]? Of(AxisAnalysis analysis, NodeAxes node, long[] kernel, bool transposed, out string why)
    {
        var layer = new LinearLayer(1, 2, 1, transposed ? 1 : 0, kernel.Length, node.Int("group", 1), transposed);
        if (ConvolutionPads.Of(node, layer, kernel, out why) is not { } pads)
            return null;
        long[] inputs = [.. node.In(0).Skip(2).Select(axis => axis.Size)], outputs = node.OutputDims(0)![2..];
        if (Sources(analysis, node, inputs) is not { } sources)
        {
            why = "what is put around its input in front of it cannot be followed axis by axis";
            return null;
        }

        var reach = new AxisReach[kernel.Length];
        for (int axis = 0; axis < kernel.Length; axis++)
        {
            long stride = node.IntList("strides")?[axis] ?? 1, dilation = node.IntList("dilations")?[axis] ?? 1;
            long[] source = sources[axis];
            // A convolution's tap t sees input o·stride + t·dilation − pad; a transposed one's gives input i to result i·stride + t·dilation − pad.
            (long steps, long limit) = transposed ? (inputs[axis], outputs[axis]) : (outputs[axis], inputs[axis]);
            var counts = new long[kernel[axis]];
            if (source.Index().All(s => s.Item == s.Index))
            {
                for (int tap = 0; tap < counts.Length; tap++)
                    counts[tap] = Steps(tap * dilation - pads.Begin[axis], stride, steps, limit);
                reach[axis] = new AxisReach(counts, inputs[axis], outputs[axis], IsPeriodic: false, Repeats: false);
                continue;
            }

            bool repeats = false;
            var met = new HashSet<long>();
            for (int tap = 0; tap < counts.Length; tap++)
            {
                met.Clear();
                for (long step = 0; step < steps; step++)
                {
                    long at = step * stride + tap * dilation - pads.Begin[axis];
                    if (at < 0 || at >= limit || source[transposed ? step : at] < 0)
                        continue;
                    counts[tap]++;
                    repeats |= !met.Add(source[transposed ? step : at]);
                }
            }

            long[] data = [.. source.Where(s => s >= 0).Distinct()];
            bool periodic = !transposed && source.Length > data.Length && data.Length == data.Max() + 1
                && Enumerable.Range(1, source.Length - 1).All(i => source[i] >= 0 && source[i] == (source[i - 1] + 1) % data.Length)
                && 2 * ((kernel[axis] - 1) * dilation + 1) > data.Length;
            reach[axis] = new AxisReach(counts, data.Length, outputs[axis], periodic, repeats);
        }

        return reach;
    }

    // How many of the steps s there are with 0 ≤ first + s·stride < limit.
    private static long Steps(long first, long stride, long steps, long limit)
    {
        long from = first >= 0 ? 0 : (-first + stride - 1) / stride;
        long to = first >= limit ? 0 : (limit - 1 - first) / stride + 1;
        return Math.Max(Math.Min(to, steps) - from, 0);
    }

    // For each position along each spatial axis of the layer's input the position of the data that stands there; −1 for zeros. The nodes in front
    // that put positions together (Pad, or Slice and Concat) are evaluated on the numbers of the positions.
    private static long[][]? Sources(AxisAnalysis analysis, NodeAxes node, long[] inputs)
    {
        long[][] plain = [.. inputs.Select(size => Enumerable.Range(0, (int)size).Select(i => (long)i).ToArray())];
        string value = node.Node.Input[0];
        var data = new List<string>();
        var open = new Stack<string>([value]);
        var seen = new HashSet<string>();
        while (open.TryPop(out string? next))
        {
            if (!seen.Add(next))
                continue;
            if (MovesPositions(analysis, next) is { } from)
                from.ForEach(open.Push);
            else
                data.Add(next);
        }

        if (data.Contains(value))
            return plain;
        List<(string Name, long[] Dims)> traced = [.. data.Select(name => (name, (long[])[1, 1, .. analysis.Shapes.Dims(name)![2..]]))];
        if (ElementTrace.Of(analysis.Graph, value, traced) is not { } numbers || numbers.Length != inputs.Aggregate(1L, (a, b) => a * b))
            return null;
        return (traced.Count == 1 ? ByAxis(numbers, inputs, traced[0].Dims[2..]) : null) ?? ByPresence(numbers, inputs);
    }

    // Several values beside each other: each position is data of its own, or a zero.
    private static long[][]? ByPresence(long[] numbers, long[] padded)
    {
        long[] strides = Strides(padded);
        long[][] result = [.. padded.Select(size => Enumerable.Repeat(-1L, (int)size).ToArray())];
        for (long i = 0; i < numbers.Length; i++)
        {
            for (int axis = 0; axis < padded.Length && numbers[i] != 0; axis++)
            {
                long at = i / strides[axis] % padded[axis];
                result[axis][at] = at;
            }
        }

        for (long i = 0; i < numbers.Length; i++)
            if ((numbers[i] != 0) != Enumerable.Range(0, padded.Length).All(axis => result[axis][i / strides[axis] % padded[axis]] >= 0))
                return null;
        return result;
    }

    // Splits positions of the whole into positions along each axis; null where they are not made of such.
    private static long[][]? ByAxis(long[] numbers, long[] padded, long[] sizes)
    {
        int first = Array.FindIndex(numbers, n => n != 0);
        if (first < 0)
            return null;
        var result = new long[padded.Length][];
        long[] strides = Strides(padded), own = Strides(sizes);
        for (int axis = 0; axis < padded.Length; axis++)
        {
            long origin = first - first / strides[axis] % padded[axis] * strides[axis];
            result[axis] = [.. Enumerable.Range(0, (int)padded[axis]).Select(i => numbers[origin + i * strides[axis]] is > 0 and var n ? (n - 1) / own[axis] % sizes[axis] : -1)];
        }

        for (long i = 0; i < numbers.Length; i++)
        {
            long expected = 1;
            for (int axis = 0; axis < padded.Length; axis++)
            {
                long at = result[axis][i / strides[axis] % padded[axis]];
                expected = at < 0 || expected == 0 ? 0 : expected + at * own[axis];
            }

            if (numbers[i] != expected)
                return null;
        }

        return result;
    }

    private static long[] Strides(long[] sizes) => [.. Enumerable.Range(0, sizes.Length).Select(axis => sizes[(axis + 1)..].Aggregate(1L, (a, b) => a * b))];

    // The values that a node puts together along spatial axes; null where it does something else.
    private static List<string>? MovesPositions(AxisAnalysis analysis, string value)
    {
        if (analysis.Graph.Producer(value) is not { } n || analysis.Node(n) is not { Unknown: null } axes || OperatorRules.For(axes.Node) is not { Rearranges: true }
            || analysis.Shapes.Dims(value) is not { Length: > 2 } dims)
            return null;
        List<string> from = [.. axes.Node.Input.Where(i => i.Length > 0 && !analysis.IsWeight(i) && analysis.Shapes.Type(i).IsScalable())];
        return from.Count > 0 && from.All(i => analysis.Shapes.Dims(i) is { } own && own.Length == dims.Length && own[0] == dims[0] && own[1] == dims[1]) ? from : null;
    }
}
