using System.Collections.Immutable;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;

namespace OnnxMorph.Morphs;

/// <summary>
/// How a convolution, or a transposed one, lays its kernel over its input, one entry for each spatial axis, and what becomes of that when the
/// kernel grows or is factored.
/// </summary>
/// <param name="Kernel">Taps.</param>
/// <param name="Strides">Strides.</param>
/// <param name="Dilations">Distances between taps.</param>
/// <param name="Begin">Zeros in front of the input; for a transposed convolution what is cut off the front of the result.</param>
/// <param name="End">Zeros behind, or what is cut off the end. Less than nothing stands for a transposed convolution's output padding.</param>
/// <param name="Transposed">Whether it is a transposed convolution.</param>
internal sealed record ConvolutionWindow(
    ImmutableArray<int> Kernel, ImmutableArray<long> Strides, ImmutableArray<long> Dilations,
    ImmutableArray<long> Begin, ImmutableArray<long> End, bool Transposed)
{
    /// <summary>The window of a layer; null with the reason where auto_pad leaves its pads to the input.</summary>
    public static ConvolutionWindow? Of(NodeAxes axes, LinearLayer layer, ImmutableArray<int> kernel, out string? why)
    {
        int count = layer.SpatialAxes;
        long[] strides = axes.IntList("strides") ?? [.. Enumerable.Repeat(1L, count)];
        ImmutableArray<long> dilations = DilationsOf(axes, layer);
        if (ConvolutionPads.Of(axes, layer, [.. kernel.Select(taps => (long)taps)], out string reason) is not { } pads)
        {
            why = reason;
            return null;
        }

        why = pads.Automatic is null ? null : $"auto_pad={pads.Automatic} with a stride pads by an amount that depends on the caller's sizes";
        if (why is not null)
            return null;
        long[] output = pads.OutputPadding ?? new long[count];
        return new ConvolutionWindow(kernel, [.. strides], dilations, [.. pads.Begin], [.. pads.End.Zip(output, (pad, extra) => pad - extra)], layer.Transposed);
    }

    /// <summary>The dilations of a layer, which new layers behind it get too.</summary>
    public static ImmutableArray<long> DilationsOf(NodeAxes axes, LinearLayer layer) =>
        [.. axes.IntList("dilations") ?? Enumerable.Repeat(1L, layer.SpatialAxes)];

    /// <summary>A convolution whose result is as large as its input, each tap beside the centre seeing zeros beyond the border.</summary>
    public static ConvolutionWindow Same(ImmutableArray<int> kernel, ImmutableArray<long> dilations) => new(
        kernel, [.. kernel.Select(_ => 1L)], dilations,
        [.. kernel.Zip(dilations, (taps, dilation) => taps / 2 * dilation)],
        [.. kernel.Zip(dilations, (taps, dilation) => (taps - 1 - taps / 2) * dilation)], false);

    /// <summary>The window with zeros around the kernel, as <see cref="LayerWeight.PadKernel"/> puts them.</summary>
    public ConvolutionWindow Padded(ImmutableArray<int> kernel) => this with
    {
        Kernel = kernel,
        Begin = [.. Begin.Select((pad, axis) => pad + (kernel[axis] - Kernel[axis]) / 2 * Dilations[axis])],
        End = [.. End.Select((pad, axis) => pad + (kernel[axis] - Kernel[axis] - (kernel[axis] - Kernel[axis]) / 2) * Dilations[axis])],
    };

    /// <summary>
    /// The windows of two halves whose kernels have the product <c>G̃</c>: this kernel padded to K₁ + K₂ − 1 taps. They compute what this one
    /// does at the borders too.
    /// </summary>
    /// <remarks>
    /// A convolution keeps all padding in the first half and lets the second see whole neighbourhoods only, at the stride wherever
    /// it has neighbours. Of a transposed convolution the first half makes all that the second sees: what is cut off in excess of the
    /// second half's reach is cut off there, and where there is none, the second half pads with the zeros that lie beyond.
    /// </remarks>
    public (ConvolutionWindow First, ConvolutionWindow Second) Split(ImmutableArray<int> first, ImmutableArray<int> second)
    {
        ConvolutionWindow whole = Padded([.. first.Zip(second, (a, b) => a + b - 1)]);
        ImmutableArray<long> ones = [.. Strides.Select(_ => 1L)], none = [.. Strides.Select(_ => 0L)];
        if (!Transposed)
        {
            return (whole with { Kernel = first, Strides = [.. Strides.Select((stride, axis) => second[axis] > 1 ? 1 : stride)] },
                new ConvolutionWindow(second, [.. Strides.Select((stride, axis) => second[axis] > 1 ? stride : 1)], Dilations, none, none, false));
        }

        long[] reach = [.. second.Select((taps, axis) => (taps - 1) * Dilations[axis])];
        return (whole with { Kernel = first, Begin = Beyond(whole.Begin, reach), End = Beyond(whole.End, reach) },
            new ConvolutionWindow(second, ones, Dilations, Short(whole.Begin, reach), Short(whole.End, reach), false));

        static ImmutableArray<long> Beyond(ImmutableArray<long> cut, long[] reach) => [.. cut.Select((pad, axis) => Math.Max(pad - reach[axis], 0))];

        static ImmutableArray<long> Short(ImmutableArray<long> cut, long[] reach) => [.. cut.Select((pad, axis) => Math.Max(reach[axis] - pad, 0))];
    }

    /// <summary>Writes the window into the attributes of a node.</summary>
    public void Write(NodeProto node)
    {
        GraphEditor.RemoveAttribute(node, "auto_pad");
        GraphEditor.RemoveAttribute(node, "output_padding");
        GraphEditor.SetInts(node, "kernel_shape", Kernel.Select(taps => (long)taps));
        GraphEditor.SetInts(node, "pads", Begin.Concat(End.Select(pad => Math.Max(pad, 0))));
        if (End.Any(pad => pad < 0))
            GraphEditor.SetInts(node, "output_padding", End.Select(pad => Math.Max(-pad, 0)));
        WriteUnlessOnes(node, "strides", Strides);
        WriteUnlessOnes(node, "dilations", Dilations);
    }

    private static void WriteUnlessOnes(NodeProto node, string name, ImmutableArray<long> values)
    {
        GraphEditor.RemoveAttribute(node, name);
        if (values.Any(value => value != 1))
            GraphEditor.SetInts(node, name, values);
    }
}
