using System.Collections.Immutable;
using OnnxMorph.Operators;

namespace OnnxMorph.Morphs;

/// <summary>
/// Which taps of a kernel see anything but padding. On small maps the outer ones of a large kernel do not, whatever the input: they
/// would have no gradient for ever.
/// </summary>
/// <param name="InFront">
/// How many taps, along each spatial axis, a convolution in front of a layer that keeps the size may have so that all of them see
/// something; <see cref="long.MaxValue"/> where callers choose the size.
/// </param>
/// <param name="Behind">The same for one behind it.</param>
internal sealed record TapReach(ImmutableArray<long> InFront, ImmutableArray<long> Behind)
{
    private const string Unseen = "would see nothing but padding and never learn";

    /// <summary>Around a layer, for new ones with its dilations.</summary>
    public static TapReach Of(NodeAxes axes, LinearLayer layer)
    {
        long[]? dilations = axes.IntList("dilations");
        IEnumerable<int> spatial = Enumerable.Range(0, layer.SpatialAxes);
        return new TapReach(
            [.. spatial.Select(axis => axes.IsSymbolicInput(0, axis + 2) ? long.MaxValue : Taps(axes.In(0, axis + 2).Size, axis))],
            [.. spatial.Select(axis => axes.IsSymbolic(0, axis + 2) ? long.MaxValue : Taps(axes.OutputDims(0)![axis + 2], axis))]);

        long Taps(long positions, int axis) => 2 * ((positions - 1) / (dilations?[axis] ?? 1)) + 1;
    }

    /// <summary>Around either of two layers that share what is new: a tap that sees something for one of them learns.</summary>
    public TapReach Or(TapReach other) => new([.. InFront.Zip(other.InFront, Math.Max)], [.. Behind.Zip(other.Behind, Math.Max)]);

    /// <summary>Why a new convolution must not have so large a kernel; null where it may.</summary>
    /// <param name="kernel">Its taps along each spatial axis.</param>
    /// <param name="reach">How many see something.</param>
    public static string? Refusal(IEnumerable<long> kernel, ImmutableArray<long> reach)
    {
        long[] taps = [.. kernel];
        int axis = Enumerable.Range(0, taps.Length).FirstOrDefault(a => taps[a] > reach[a], -1);
        return axis < 0 ? null : $"there are so few positions along axis {axis + 2} that outer taps of a kernel of {string.Join('×', taps)} {Unseen}; at most {reach[axis]} there {(reach[axis] == 1 ? "does" : "do")}";
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
