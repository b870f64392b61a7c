using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;

namespace OnnxMorph.Morphs;

/// <summary>
/// The pads of a convolution, as numbers or as auto_pad leaves them to each input, and what they become when the kernel gets
/// taps: every tap in front needs a dilation more in front, so that the old taps see what they saw.
/// </summary>
/// <param name="Begin">Pads in front, one for each spatial axis.</param>
/// <param name="End">Pads behind.</param>
/// <param name="OutputPadding">What a transposed convolution adds behind its result; null for others.</param>
/// <param name="Axes">The layer.</param>
/// <param name="Automatic">
/// The auto_pad mode, where pads depend on sizes that callers choose; <paramref name="Begin"/> and <paramref name="End"/> then
/// do not count.
/// </param>
internal sealed record ConvolutionPads(NodeAxes Axes, long[] Begin, long[] End, long[]? OutputPadding, string? Automatic)
{
    private static bool IsSame(string mode) => mode is "SAME_UPPER" or "SAME_LOWER";

    private long[] Dilations => AttributeOf(Axes, "dilations", 1, Begin.Length);

    private static long[] AttributeOf(NodeAxes axes, string name, long otherwise, int count) =>
        axes.IntList(name) ?? [.. Enumerable.Repeat(otherwise, count)];

    /// <summary>The pads of a layer with a kernel of sizes <paramref name="kernel"/>; null with the reason where they cannot be told.</summary>
    public static ConvolutionPads? Of(NodeAxes axes, LinearLayer layer, long[] kernel, out string why)
    {
        int spatial = kernel.Length;
        why = "";
        string mode = axes.Text("auto_pad") is { Length: > 0 } given ? given : "NOTSET";
        if (layer.Transposed)
            return Transposed(axes, kernel, mode, out why);
        if (!IsSame(mode))
        {
            long[] pads = mode == "VALID" ? new long[2 * spatial] : AttributeOf(axes, "pads", 0, 2 * spatial);
            return new ConvolutionPads(axes, pads[..spatial], pads[spatial..], null, null);
        }

        // SAME: as much as makes the result ceil(input / stride) long, which is the same for all inputs where a window never
        // reaches beyond its stride.
        long[] strides = AttributeOf(axes, "strides", 1, spatial), dilations = AttributeOf(axes, "dilations", 1, spatial);
        long[] spans = [.. kernel.Select((taps, axis) => (taps - 1) * dilations[axis] + 1)];
        bool automatic = Enumerable.Range(0, spatial).Any(axis => strides[axis] > 1 && spans[axis] > 1
            && (axes.IsSymbolicInput(0, axis + 2) || axes.IsSymbolic(0, axis + 2)));
        if (automatic && Enumerable.Range(0, spatial).Any(axis => spans[axis] < strides[axis]))
        {
            why = $"auto_pad={mode} with a stride longer than its kernel of {string.Join('×', kernel)} pads by an amount that depends on the caller's sizes; write explicit pads";
            return null;
        }

        long[] begin = new long[spatial], end = new long[spatial];
        for (int axis = 0; axis < spatial; axis++)
        {
            long input = axes.In(0, axis + 2).Size, result = (input + strides[axis] - 1) / strides[axis];
            long total = Math.Max((result - 1) * strides[axis] + spans[axis] - input, 0);
            begin[axis] = mode == "SAME_UPPER" ? total / 2 : total - total / 2;
            end[axis] = total - begin[axis];
        }

        return new ConvolutionPads(axes, begin, end, null, automatic ? mode : null);
    }

    // Natural length of the result: (input − 1)·stride + span + output padding. What output_shape or SAME (input·stride) leave
    // of it is cut off, the larger half in front except for SAME_UPPER (ONNX ConvTranspose-11, and ONNX Runtime).
    private static ConvolutionPads? Transposed(NodeAxes axes, long[] kernel, string mode, out string why)
    {
        int spatial = kernel.Length;
        why = "";
        long[] strides = AttributeOf(axes, "strides", 1, spatial), dilations = AttributeOf(axes, "dilations", 1, spatial);
        long[] padding = AttributeOf(axes, "output_padding", 0, spatial);
        bool shaped = axes.IntList("output_shape") is not null;
        if (!shaped && !IsSame(mode))
        {
            long[] pads = mode == "VALID" ? new long[2 * spatial] : AttributeOf(axes, "pads", 0, 2 * spatial);
            return new ConvolutionPads(axes, pads[..spatial], pads[spatial..], padding, null);
        }

        long[] begin = new long[spatial], end = new long[spatial];
        for (int axis = 0; axis < spatial; axis++)
        {
            if (shaped && axes.IsSymbolicInput(0, axis + 2))
            {
                why = "output_shape cuts its result off by an amount that depends on the caller's sizes; write explicit pads";
                return null;
            }

            long input = axes.In(0, axis + 2).Size, result = axes.OutputDims(0)![axis + 2];
            long total = (input - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + padding[axis]
                - (shaped ? result : input * strides[axis]);
            // By ONNX the result is input·stride + output padding long, for ONNX Runtime input·stride or less.
            if (!shaped && (total < 0 || result != input * strides[axis]))
            {
                why = $"auto_pad={mode} makes another result in ONNX Runtime than by ONNX here; write explicit pads";
                return null;
            }

            // A result that is longer than its natural length ends with zeros.
            begin[axis] = total <= 0 ? 0 : mode == "SAME_UPPER" ? total / 2 : total - total / 2;
            end[axis] = total - begin[axis];
        }

        return new ConvolutionPads(axes, begin, end, padding, null);
    }

    /// <summary>The pads of the kernel with new taps; null with the reason where there are none.</summary>
    public ConvolutionPads? Grown(int[] before, int[] after, out string why)
    {
        why = "";
        long[] dilations = Dilations;
        if (Automatic is not null)
        {
            // Both sides grow by as much, whatever the input: the parity of the sum stays.
            if (before.SequenceEqual(after))
                return this;
            why = $"auto_pad={Automatic} with a stride pads by an amount that depends on the caller's sizes; only as many taps in front as behind keep it, so grow by an even number";
            return null;
        }

        long[] begin = [.. Begin.Select((pad, axis) => pad + before[axis] * dilations[axis])];
        long[] end = [.. End.Select((pad, axis) => pad + after[axis] * dilations[axis])];
        long[]? padding = OutputPadding is null ? null : [.. OutputPadding];
        for (int axis = 0; axis < end.Length && padding is not null; axis++)
        {
            if (end[axis] >= 0)
                continue;
            long stride = AttributeOf(Axes, "strides", 1, end.Length)[axis];
            padding[axis] -= end[axis];
            end[axis] = 0;
            if (padding[axis] < Math.Max(stride, dilations[axis]))
                continue;
            why = $"its output_shape is {padding[axis]} longer than its kernel reaches, more than output_padding can say; add taps behind";
            return null;
        }

        return this with { Begin = begin, End = end, OutputPadding = padding };
    }

    /// <summary>Writes the pads as attributes of the layer.</summary>
    public void Write(NodeProto node)
    {
        if (Automatic is not null)
            return;
        GraphEditor.RemoveAttribute(node, "auto_pad");
        GraphEditor.RemoveAttribute(node, "output_shape");
        GraphEditor.SetInts(node, "pads", [.. Begin, .. End]);
        if (OutputPadding is not null && (OutputPadding.Any(p => p != 0) || Axes.Attribute("output_padding") is not null))
            GraphEditor.SetInts(node, "output_padding", OutputPadding);
    }
}
