using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>
/// One choice of channels for each space, shared by every tensor that touches it; what is contracted is shared out over copies (IM Init;
/// METHODS.md §3).
/// </summary>
internal sealed class ChannelMapping : WeightMapping
{
    private readonly AnalysedModel _target;
    private readonly ulong _seed;
    private readonly Dictionary<Use, AxisExpression[]> _own, _other;
    private readonly AxisTransfer _axes;

    /// <summary>Chooses the channels.</summary>
    public ChannelMapping(AnalysedModel source, AnalysedModel target, IReadOnlyList<UseMatch> matches, WidthRule rule, ulong seed)
        : base(source)
    {
        (_target, _seed) = (target, seed);
        (_own, _other) = (SpaceMatching.Axes(source), SpaceMatching.Axes(target));
        var spaces = new SpaceMatching(source, target, matches);
        _axes = new AxisTransfer(source, target, spaces, new ChannelChoice(source, target, spaces, rule));
    }

    /// <inheritdoc/>
    public override WeightExpression Map(Constant to, UseMatch match, Constant from)
    {
        (Use use, Use own) = (match.Target, match.Source);
        AxisExpression[] axes = _other[use], ownAxes = match.Transposed ? [.. _own[own].Reverse()] : _own[own];
        if (axes.Length != ownAxes.Length)
            throw new TransferRefusedException($"it has {axes.Length} axes, and {ownAxes.Length} in the source");
        int taps = Layer(_target, use) is { } layer ? axes.Length - layer.SpatialAxes : axes.Length;
        AxisMap[] maps = [.. axes.Select((axis, i) => (i >= taps ? Taps(use, own, i, (int)ownAxes[i].Size, (int)axis.Size) : Positions(use, own, i, ownAxes, axes))
            ?? _axes.Map(axis, ownAxes[i], Seeds.For(_seed, $"{to.Name} axis {i}")))];
        FreshWeights fresh = FreshWeights.Of(_target.Analysis, use, axes, onZeros: false);
        return Data(from, match).Map([.. maps], maps.All(m => m.FreshSize == 0) ? Fill.Zero : fresh.Fill(to, axis => axis.Size, _seed));
    }

    /// <inheritdoc/>
    public override AxisMap? Channels(UseMatch match) =>
        _other.TryGetValue(match.Target, out AxisExpression[]? axes) && _own.TryGetValue(match.Source, out AxisExpression[]? own) && (axes.Length, own.Length) == (1, 1)
            ? Channels(axes[0], own[0]) : null;

    /// <inheritdoc/>
    public override AxisMap? Channels(AxisExpression to, AxisExpression from)
    {
        try
        {
            return _axes.Map(to, from, 0);
        }
        catch (TransferRefusedException)
        {
            return null;
        }
    }

    // Kernels keep their middle. Those that stand side by side, as wide as their stride, look at patches: they are stretched, and scaled so that they
    // make the same of a patch of one colour.
    private AxisMap? Taps(Use use, Use own, int axis, int from, int to) => from == to ? AxisMap.Identity(to)
        : Stride(_target, use, axis) == to && Stride(Source, own, axis) == from ? AxisMap.Interpolate(from, to).Times((double)from / to)
        : AxisMap.Centre(from, to);

    private static long Stride(AnalysedModel model, Use use, int axis)
    {
        long[] strides = model.Analysis.Node(use.Node)!.IntList("strides") ?? [];
        return axis - 2 < strides.Length ? strides[axis - 2] : 1;
    }

    // A table that is added to an activation, with a row for each position, where the positions are others; null elsewhere.
    private AxisMap? Positions(Use use, Use own, int axis, AxisExpression[] from, AxisExpression[] to)
    {
        if (from[axis].Size == to[axis].Size || _axes.IsChannels(to[axis]) || _target.Graph.Nodes[use.Node].OpType != "Add")
            return null;
        return Grid(Source, own, axis, from.Length) is { } ownGrid && Grid(_target, use, axis, to.Length) is { } grid ? PositionGrid.Map(ownGrid, grid) : null;
    }

    private static long[][]? Grid(AnalysedModel model, Use use, int axis, int rank)
    {
        string value = model.Graph.Nodes[use.Node].Input[1 - use.Input];
        return model.Analysis.Shapes.Dims(value) is { } dims && dims.Length >= rank ? PositionGrid.Of(model, value, dims.Length - rank + axis) : null;
    }

    // The layer whose weight a use is.
    private static LinearLayer? Layer(AnalysedModel model, Use use) =>
        model.Analysis.Node(use.Node)?.Layer is { } layer && layer.WeightInput == use.Input ? layer : null;
}
