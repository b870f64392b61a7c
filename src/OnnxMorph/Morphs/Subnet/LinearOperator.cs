using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Kernels;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>Which axis of a weight is which.</summary>
/// <param name="Out">Output channels.</param>
/// <param name="In">Input channels.</param>
/// <param name="Spatial">The taps' axes, in the order of the values' spatial axes.</param>
/// <param name="Groups">Groups of channels that do not mix.</param>
/// <param name="GroupsOnOut">
/// Whether the groups lie along <paramref name="Out"/>, as in convolutions; else along <paramref name="In"/>, as in transposed ones.
/// </param>
internal sealed record WeightLayout(int Out, int In, ImmutableArray<int> Spatial, int Groups, bool GroupsOnOut = true)
{
    /// <summary>Sizes of a weight with these channels a group.</summary>
    public ImmutableArray<long> Shape(long outputs, long inputs, IReadOnlyList<long> kernel)
    {
        var shape = new long[2 + Spatial.Length];
        shape[Out] = GroupsOnOut ? Groups * outputs : outputs;
        shape[In] = GroupsOnOut ? inputs : Groups * inputs;
        for (int axis = 0; axis < Spatial.Length; axis++)
            shape[Spatial[axis]] = kernel[axis];
        return [.. shape];
    }
}

/// <summary>
/// A linear map from a layer's input to its output with the weights of a node that carries it out: taps u of the kernel see position
/// o·stride − begin + u·dilation. Widths are channels a group.
/// </summary>
/// <param name="Weight">The weights.</param>
/// <param name="Layout">Their axes.</param>
/// <param name="Pads">Where the kernel lies.</param>
internal sealed record LinearOperator(WeightExpression Weight, WeightLayout Layout, KernelPads Pads)
{
    private static readonly WeightEvaluator s_evaluator = new();

    /// <summary>Output channels a group.</summary>
    public long Outputs => Weight.Shape[Layout.Out] / (Layout.GroupsOnOut ? Layout.Groups : 1);

    /// <summary>Input channels a group.</summary>
    public long Inputs => Weight.Shape[Layout.In] / (Layout.GroupsOnOut ? 1 : Layout.Groups);

    /// <summary>Taps along each spatial axis.</summary>
    public ImmutableArray<long> Kernel => [.. Layout.Spatial.Select(axis => Weight.Shape[axis])];

    // The root of the mean square.
    private static double Size(Moments moments) => Math.Sqrt(moments.SquareSum / Math.Max(1, moments.Count));

    /// <summary>The same map followed by a factor.</summary>
    public LinearOperator Times(double factor) => factor == 1 ? this : this with { Weight = new SummedWeight([(factor, Weight)]) };

    /// <summary>This map plus factor × <paramref name="other"/>, which has the same layout and kernel.</summary>
    public LinearOperator Plus(double factor, LinearOperator other) => this with { Weight = new SummedWeight([(1, Weight), (factor, other.Weight)]) };

    /// <summary>Only some output channels, of a map without groups.</summary>
    public LinearOperator Rows(long first, long count) =>
        On(Layout.Out, AxisMap.Pick((int)Outputs, 0, [.. Enumerable.Range((int)first, (int)count)]));

    /// <summary>The map of some groups: theirs alone of the inputs and outputs.</summary>
    public LinearOperator SomeGroups(int first, int count)
    {
        int axis = Layout.GroupsOnOut ? Layout.Out : Layout.In;
        int each = (int)(Weight.Shape[axis] / Layout.Groups);
        return On(axis, AxisMap.Pick((int)Weight.Shape[axis], 0, [.. Enumerable.Range(first * each, count * each)])) with { Layout = Layout with { Groups = count } };
    }

    /// <summary>The same map beside further inputs that it does not read.</summary>
    public LinearOperator WithZeroInputs(long more) => On(Layout.In, AxisMap.ZeroPad((int)Inputs, 0, (int)more));

    /// <summary>
    /// The map with its outputs, extended to <paramref name="width"/> channels a group by random ones N, turned by an orthogonal Q: Qᵀ·[G; N].
    /// </summary>
    public LinearOperator TurnOut(long width, ulong seed) => Turn(Layout.Out, Layout.GroupsOnOut, Outputs, width, seed, transpose: true);

    /// <summary>The map with its inputs, extended to <paramref name="width"/> channels a group by random ones N, turned: [G N]·Qᵀ.</summary>
    public LinearOperator TurnIn(long width, ulong seed) => Turn(Layout.In, !Layout.GroupsOnOut, Inputs, width, seed, transpose: false);

    private LinearOperator Turn(int axis, bool grouped, long channels, long width, ulong seed, bool transpose)
    {
        int groups = grouped ? Layout.Groups : 1;
        LinearOperator wide = this;
        if (width > channels)
        {
            AxisMap extend = AxisMap.Pick((int)channels, (int)(width - channels), [.. Enumerable.Range(0, (int)width)]);
            var noise = new Fill(FillKind.Normal, Size(s_evaluator.Measure(Weight, Layout.Out).Aggregate((a, b) => a + b)), Seeds.For(seed, "extension"));
            wide = On(axis, AxisMap.Kronecker(AxisMap.Identity(groups), extend), noise);
        }

        return wide with { Weight = new RotatedWeight(wide.Weight, axis, groups, seed, transpose) };
    }

    /// <summary>Where a kernel of another size lies so that it sees the middle of this one, or as near to it as the pads allow.</summary>
    /// <exception cref="SubnetRefusedException">No place fits: a smaller kernel would see other positions.</exception>
    public ImmutableArray<long> Place(ImmutableArray<long> kernel)
    {
        if (kernel.SequenceEqual(Kernel))
            return [.. kernel.Select(_ => 0L)];
        return [.. kernel.Select((size, axis) => Pads.Place(axis, Kernel[axis], size)
            ?? throw new SubnetRefusedException($"a kernel of {string.Join('×', kernel)} cannot see the middle of its {string.Join('×', Kernel)} taps without cropping; pad the layer, or use its own kernel"))];
    }

    /// <summary>
    /// The taps from <paramref name="offset"/> on in a kernel of another size: what lies outside this kernel is 0, what lies outside the
    /// new one is left out.
    /// </summary>
    public LinearOperator Window(ImmutableArray<long> offset, ImmutableArray<long> kernel)
    {
        if (kernel.SequenceEqual(Kernel) && offset.All(o => o == 0))
            return this;
        var maps = new AxisMap?[Weight.Shape.Length];
        for (int axis = 0; axis < kernel.Length; axis++)
        {
            long size = Kernel[axis], first = offset[axis];
            maps[Layout.Spatial[axis]] = AxisMap.Pick((int)size, 0,
                [.. Enumerable.Range(0, (int)kernel[axis]).Select(tap => first + tap >= 0 && first + tap < size ? (int)(first + tap) : -1)]);
        }

        return this with { Weight = Weight.Map([.. maps], Fill.Zero), Pads = Pads.Moved(offset, Kernel, kernel) };
    }

    /// <summary>
    /// This map as a sum of <paramref name="shares"/>.Count random ones: part b is shareᵦ·G + Nᵦ − Nᵦ₊₁ in a ring, the noise being a
    /// quarter of each output channel's own size. Parts thus differ in every channel, whatever their shares.
    /// </summary>
    /// <param name="shares">Numbers that add up to 1.</param>
    /// <param name="seed">Seed of the noise.</param>
    public LinearOperator[] Split(IReadOnlyList<double> shares, ulong seed)
    {
        if (shares.Count == 1)
            return [this];
        WeightExpression[] noise = Noise(shares.Count, seed);
        return [.. shares.Select((share, b) => this with
        {
            Weight = new SummedWeight([(share, Weight), (1, noise[b]), (-1, noise[(b + 1) % noise.Length])]),
        })];
    }

    private const double NoiseSize = 0.25;

    // A channel that is nearly dead gets some noise too; a dead layer that of a fresh one.
    private const double LeastSize = 0.05;

    /// <summary>Random weights of this map's form, a quarter of the size of its own, output channel by output channel.</summary>
    public WeightExpression[] Noise(int count, ulong seed)
    {
        Moments[] channels = s_evaluator.Measure(Weight, Layout.Out);
        double all = Size(channels.Aggregate((a, b) => a + b));
        if (all == 0)
            all = Math.Sqrt(2.0 / Math.Max(1, Inputs * Kernel.Aggregate(1L, (a, b) => a * b)));
        var rows = new IReadOnlyList<Tap>[channels.Length];
        for (int c = 0; c < rows.Length; c++)
            rows[c] = [new Tap(c, NoiseSize * Math.Max(Size(channels[c]), LeastSize * all))];
        var maps = new AxisMap?[Weight.Shape.Length];
        maps[Layout.Out] = AxisMap.FromTaps(channels.Length, 0, rows);
        return [.. Enumerable.Range(0, count).Select(n =>
            new FilledWeight(Weight.Type, Weight.Shape, new Fill(FillKind.Normal, 1, Seeds.For(seed, $"noise {n}"))).Map([.. maps], Fill.Zero))];
    }

    private LinearOperator On(int axis, AxisMap map, Fill fill = default)
    {
        var maps = new AxisMap?[Weight.Shape.Length];
        maps[axis] = map;
        return this with { Weight = Weight.Map([.. maps], fill) };
    }
}

/// <summary>Zeros that a node sees before and behind each spatial axis.</summary>
/// <param name="Begin">Zeros in front.</param>
/// <param name="End">Zeros behind.</param>
/// <param name="Dilation">Distance of neighbouring taps.</param>
/// <param name="Unknown">Why they are not known; null where they are.</param>
/// <param name="Displaced">Why outputs do not stand where inputs do, whatever the kernel; null where they may.</param>
internal sealed record KernelPads(
    ImmutableArray<long> Begin, ImmutableArray<long> End, ImmutableArray<long> Dilation, string? Unknown = null, string? Displaced = null)
{
    /// <summary>Those of a kernel of ones: none.</summary>
    public static KernelPads None(int spatialAxes) => new([.. new long[spatialAxes]], [.. new long[spatialAxes]], [.. Enumerable.Repeat(1L, spatialAxes)]);

    /// <summary>
    /// The tap of a kernel of <paramref name="size"/> at which one of <paramref name="other"/> taps begins: as near to the middle as
    /// leaves both ends with pads of at least 0, and null where no place does.
    /// </summary>
    public long? Place(int axis, long size, long other)
    {
        if (Unknown is not null)
            throw new SubnetRefusedException(Unknown);
        long middle = other >= size ? -((other - size) / 2) : (size - other) / 2;
        return Enumerable.Range(0, (int)Math.Abs(size - other) + 1)
            .Select(i => other >= size ? -(long)i : i)
            .Where(first => Begin[axis] - first * Dilation[axis] >= 0 && End[axis] - (size - first - other) * Dilation[axis] >= 0)
            .OrderBy(first => Math.Abs(first - middle))
            .Select(first => (long?)first).FirstOrDefault();
    }

    /// <summary>The pads of a kernel of another size whose first tap is this one's tap <paramref name="offset"/>.</summary>
    public KernelPads Moved(ImmutableArray<long> offset, ImmutableArray<long> size, ImmutableArray<long> other) => this with
    {
        Begin = [.. offset.Select((first, axis) => Begin[axis] - first * Dilation[axis])],
        End = [.. offset.Select((first, axis) => End[axis] - (size[axis] - first - other[axis]) * Dilation[axis])],
    };

    /// <summary>
    /// The tap that sees the position of its own output where outputs stand as close as inputs, one for each axis.
    /// </summary>
    /// <returns>Whether there is such a tap; <paramref name="why"/> tells why not.</returns>
    public bool HasOwnPosition(ImmutableArray<long> kernel, out ImmutableArray<long> tap, out string? why)
    {
        why = Displaced ?? Unknown;
        for (int axis = 0; axis < kernel.Length && why is null; axis++)
            if (Begin[axis] % Dilation[axis] != 0 || Begin[axis] + End[axis] != (kernel[axis] - 1) * Dilation[axis])
                why = OtherPositions;
        tap = why is null ? [.. Begin.Select((begin, axis) => begin / Dilation[axis])] : [];
        return why is null;
    }

    /// <summary>Why no path without layers can lead past a layer.</summary>
    public const string OtherPositions = "its result has other positions than its input, so no path without a layer like it can lead past it";
}
