using System.Collections.Immutable;
using OnnxMorph.Operators;

namespace OnnxMorph.Morphs;

/// <summary>
/// Which taps of a kernel see anything but padding. On small maps the outer ones of a large kernel do not, whatever the input: they
/// would have no gradient for ever.
/// </summary>
internal static class TapReach
{
    private const string Unseen = "would see nothing but padding and never learn";

    /// <summary>
    /// How many taps, along each spatial axis of a layer's result, a convolution that keeps its size may have so that all of them
    /// see something; <see cref="long.MaxValue"/> where callers choose the size.
    /// </summary>
    public static ImmutableArray<long> Behind(NodeAxes axes, LinearLayer layer)
    {
        long[]? dilations = axes.IntList("dilations");
        return [.. Enumerable.Range(0, layer.SpatialAxes).Select(axis => axes.IsSymbolic(0, axis + 2)
            ? long.MaxValue : 2 * ((axes.OutputDims(0)![axis + 2] - 1) / (dilations?[axis] ?? 1)) + 1)];
    }

    /// <summary>Why a new convolution behind a layer must not have so large a kernel; null where it may.</summary>
    /// <param name="kernel">Its taps along each spatial axis.</param>
    /// <param name="reach">How many see something, of <see cref="Behind"/>.</param>
    public static string? Refusal(IEnumerable<long> kernel, ImmutableArray<long> reach)
    {
        long[] taps = [.. kernel];
        int axis = Enumerable.Range(0, taps.Length).FirstOrDefault(a => taps[a] > reach[a], -1);
        return axis < 0 ? null : $"its result has so few positions along axis {axis + 2} that outer taps of a kernel of {string.Join('×', taps)} {Unseen}; at most {reach[axis]} there {(reach[axis] == 1 ? "does" : "do")}";
    }

    /// <summary>Why a layer's own kernel must not grow by so many taps; null where it may.</summary>
    /// <param name="axes">The layer.</param>
    /// <param name="layer">What is known of it.</param>
    /// <param name="pads">Its pads.</param>
    /// <param name="kernel">Its taps.</param>
    /// <param name="before">New taps in front, along each spatial axis.</param>
    /// <param name="after">New taps behind.</param>
    public static string? GrowthRefusal(NodeAxes axes, LinearLayer layer, ConvolutionPads pads, ReadOnlySpan<long> kernel, ReadOnlySpan<int> before, ReadOnlySpan<int> after)
    {
        for (int axis = 0; axis < kernel.Length; axis++)
        {
            if (pads.Automatic is not null || axes.IsSymbolicInput(0, axis + 2) || axes.IsSymbolic(0, axis + 2))
                continue;
            long input = axes.In(0, axis + 2).Size, output = axes.OutputDims(0)![axis + 2];
            long stride = axes.IntList("strides")?[axis] ?? 1, dilation = axes.IntList("dilations")?[axis] ?? 1, pad = pads.Begin[axis];
            // A convolution's tap t sees input o·stride + t·dilation − pad; a transposed one's gives input i to result i·stride + t·dilation − pad.
            (long steps, long limit) = layer.Transposed ? (input, output) : (output, input);
            foreach (long tap in (long[])[.. before[axis] > 0 ? [-before[axis]] : (long[])[], .. after[axis] > 0 ? [kernel[axis] - 1 + after[axis]] : (long[])[]])
            {
                long first = tap * dilation - pad;
                long step = first >= 0 ? 0 : (-first + stride - 1) / stride;
                if (step >= steps || first + step * stride >= limit)
                    return $"along axis {axis + 2} its input has {input} position{(input == 1 ? "" : "s")}, so that new taps {Unseen}; "
                        + "name a smaller size, for each axis its own if need be, such as 3x5";
            }
        }

        return null;
    }
}
