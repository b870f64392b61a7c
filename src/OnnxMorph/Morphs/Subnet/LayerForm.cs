using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>The operator that new layers at a place are.</summary>
internal enum LayerKind
{
    /// <summary>A convolution, channels on axis 1.</summary>
    Conv,

    /// <summary>A matrix product, channels on the last axis.</summary>
    MatMul,

    /// <summary>A matrix product of two axes that has a bias of its own.</summary>
    Gemm,
}

/// <summary>How values carry their channels at a place of the network, and what new layers there look like.</summary>
/// <param name="Kind">The operator of new layers.</param>
/// <param name="Type">Element type of the values.</param>
/// <param name="Rank">Their number of axes.</param>
/// <param name="Groups">Groups of channels that new layers keep apart; 1 for matrix products.</param>
internal sealed record LayerForm(LayerKind Kind, ElementType Type, int Rank, int Groups)
{
    /// <summary>The axis that holds the channels.</summary>
    public int ChannelAxis => Kind == LayerKind.Conv ? 1 : Rank - 1;

    /// <summary>How many axes a kernel slides over.</summary>
    public int SpatialAxes => Kind == LayerKind.Conv ? Rank - 2 : 0;

    /// <summary>The axes of new layers' weights: [out, in, taps…] of convolutions, [in, out] of matrix products.</summary>
    public WeightLayout Layout => Kind == LayerKind.Conv
        ? new WeightLayout(0, 1, [.. Enumerable.Range(2, SpatialAxes)], Groups)
        : new WeightLayout(1, 0, [], 1);

    /// <summary>A kernel that sees its own position alone.</summary>
    public ImmutableArray<long> PointKernel => [.. Enumerable.Repeat(1L, SpatialAxes)];

    /// <summary>A shape that spreads one number for each of <paramref name="channels"/> over a value.</summary>
    public ImmutableArray<long> ChannelShape(long channels) => [channels, .. Enumerable.Repeat(1L, Rank - 1 - ChannelAxis)];

    /// <summary>Whether new layers' weights have their axes in the order of <paramref name="layout"/>, or in one where the identity looks the same.</summary>
    public bool Writes(WeightLayout layout) =>
        Kind != LayerKind.Conv || (layout is { Out: 0, In: 1, GroupsOnOut: true } && layout.Spatial.SequenceEqual(Layout.Spatial));

    /// <summary>The form without groups.</summary>
    public LayerForm Dense() => this with { Groups = 1 };

    /// <summary>A new layer of channels a group with the weights that <paramref name="fill"/> gives; it keeps the positions.</summary>
    public LinearOperator Filled(long outputs, long inputs, ImmutableArray<long> kernel, Fill fill) => new(
        new FilledWeight(Type, Layout.Shape(outputs, inputs, kernel), fill), Layout,
        KernelPads.None(SpatialAxes).Moved([.. kernel.Select(taps => -((taps - 1) / 2))], PointKernel, kernel));

    /// <summary>The identity of <paramref name="channels"/> a group.</summary>
    public LinearOperator Identity(long channels) =>
        new(new DiracWeight(Type, Layout.Shape(channels, channels, PointKernel)), Layout, KernelPads.None(SpatialAxes));

    /// <summary>
    /// The first rows and columns of the orthogonal matrix that <see cref="LinearOperator.TurnOut"/> and <see cref="LinearOperator.TurnIn"/>
    /// turn with.
    /// </summary>
    /// <param name="width">Its size.</param>
    /// <param name="outputs">Rows that are kept.</param>
    /// <param name="inputs">Columns that are kept.</param>
    /// <param name="distinct">Whether each group has a matrix of its own, as along an axis that the groups lie on; else one for all.</param>
    /// <param name="seed">Seed of the matrix.</param>
    public LinearOperator Rotation(long width, long outputs, long inputs, bool distinct, ulong seed)
    {
        int drawn = distinct ? Groups : 1;
        WeightLayout layout = Layout;
        var square = new DiracWeight(Type, (layout with { Groups = drawn }).Shape(width, width, PointKernel));
        var rotated = new RotatedWeight(square, layout.Out, drawn, seed, transpose: false);
        var maps = new AxisMap?[rotated.Shape.Length];
        maps[layout.Out] = AxisMap.Pick((int)(drawn * width), 0,
            [.. from g in Enumerable.Range(0, Groups) from row in Enumerable.Range(0, (int)outputs) select (distinct ? g * (int)width : 0) + row]);
        maps[layout.In] = AxisMap.Pick((int)width, 0, [.. Enumerable.Range(0, (int)inputs)]);
        return new LinearOperator(rotated.Map([.. maps], Fill.Zero), layout, KernelPads.None(SpatialAxes));
    }
}
