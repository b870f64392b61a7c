using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Containment;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>
/// One choice of channels for each space, shared by every tensor that touches it; what is contracted is shared out over copies, or what else the
/// rules say (IM Init; METHODS.md §3).
/// </summary>
internal sealed class ChannelMapping : WeightMapping
{
    private readonly AnalysedModel _target;
    private readonly ulong _seed;
    private readonly TransferRules _rules;
    private readonly IReadOnlyDictionary<Use, UseMatch> _next;
    private readonly WeightRestoration _restoration;
    private readonly ContainedChannels? _contained;
    private readonly Dictionary<Use, AxisExpression[]> _own, _other;
    private readonly AxisTransfer _axes;

    /// <summary>Chooses the channels.</summary>
    /// <param name="source">Where weights come from.</param>
    /// <param name="target">Where they go.</param>
    /// <param name="matches">What goes where.</param>
    /// <param name="rules">How.</param>
    /// <param name="seed">Seed of shares and noise.</param>
    /// <param name="next">For uses in the target those in the blocks behind their sources (<see cref="AddedChannels.Next"/>).</param>
    /// <param name="evaluator">Evaluates the weights that are measured.</param>
    public ChannelMapping(
        AnalysedModel source, AnalysedModel target, IReadOnlyList<UseMatch> matches, TransferRules rules, ulong seed,
        IReadOnlyDictionary<Use, UseMatch>? next = null, WeightEvaluator? evaluator = null)
        : this(source, target, new SpaceMatching(source, target, matches), rules, seed, null, next, evaluator)
    {
    }

    /// <summary>Chooses the channels of spaces that are known, some of which may be decided already.</summary>
    public ChannelMapping(AnalysedModel source, AnalysedModel target, SpaceMatching spaces, WidthRule rule, ulong seed, ContainedChannels contained)
        : this(source, target, spaces, new TransferRules { Width = rule }, seed, contained, null, null)
    {
    }

    private ChannelMapping(
        AnalysedModel source, AnalysedModel target, SpaceMatching spaces, TransferRules rules, ulong seed, ContainedChannels? contained,
        IReadOnlyDictionary<Use, UseMatch>? next, WeightEvaluator? evaluator)
        : base(source)
    {
        (_target, _rules, _seed, _contained) = (target, rules, seed, contained);
        (_next, _restoration) = (next ?? new Dictionary<Use, UseMatch>(), new WeightRestoration(evaluator ?? new WeightEvaluator()));
        (_own, _other) = (SpaceMatching.Axes(source), SpaceMatching.Axes(target));
        _axes = new AxisTransfer(source, target, spaces, new ChannelChoice(source, target, spaces, rules, contained), rules, contained is not null);
    }

    /// <inheritdoc/>
    public override WeightExpression Map(Constant to, UseMatch match, Constant from)
    {
        if (_rules.Added != AddedChannels.Next || Made(_other[match.Target]) < 0
            || !_next.TryGetValue(match.Target, out UseMatch? next) || next.Transposed != match.Transposed
            || Source.Graph.ConstantOf(Source.Graph.Nodes[next.Source.Node].Input[next.Source.Input]) is not { } behind
            || behind.Type != from.Type || !behind.Shape.SequenceEqual(from.Shape))
            return Map(to, match, from, null);
        // Channels in the place of copies come from the next block, with what they read shared out alike.
        return new SummedWeight([(1, Map(to, match, from, later: false)), (1, Map(to, match, behind, later: true))]);
    }

    // The target's constant, or those of its channels alone that hold one of the source for the first time or again.
    private WeightExpression Map(Constant to, UseMatch match, Constant from, bool? later)
    {
        (Use use, Use own) = (match.Target, match.Source);
        AxisExpression[] axes = _other[use], ownAxes = Own(match);
        if (match.Transposed)
            ownAxes = [.. ownAxes.Reverse()];
        if (axes.Length != ownAxes.Length)
            throw new TransferRefusedException($"it has {axes.Length} axes, and {ownAxes.Length} in the source");
        AxisMap[] maps = match.Fit?.Layout is { } layout ? Stored(to, match, layout, from.Shape) : Maps(to, match, axes, ownAxes, Layer(_target, use));
        WeightExpression data = Data(from, match);
        double factor = (_contained?.Factor(use) ?? 1) * match.Factor;
        if (_rules.Width == WidthRule.Merge)
            maps = [.. maps.Select((map, i) => _axes.IsRead(axes[i]) ? map : _restoration.Merged(data, i, map))];
        else if (_rules.Width == WidthRule.Interpolate)
            factor *= _restoration.Interpolated(data, maps, [.. axes.Select(_axes.IsChannels)]);
        bool zeros = _contained is not null ? axes.Any(AddsZeros) : axes.Zip(maps).Any(axis => HasZeros(axis.First, axis.Second));
        FreshWeights? fresh = zeros || maps.Any(m => m.FreshSize > 0) ? FreshWeights.Of(_target.Analysis, use, axes, zeros) : null;
        if (zeros)
            maps = [.. maps.Select((map, i) => Live(_target.Analysis.Solver.Resolve(axes[i]), map, fresh!))];
        if (later is { } kept)
        {
            int made = Made(axes);
            maps = [.. maps.Select((map, i) => i == made ? ChannelRule.Copies(map, kept) : map)];
        }

        if (axes.Length > 2 && match.Fit is null && _axes.GroupedReading(axes[0], axes[1]) is { } reading)
            return Grouped(to, data, maps, reading).Times(factor);
        var stages = maps.Select(map => map.Staged()).ToList();
        return data.Map([.. stages.Select(s => s.Sums)], Fill.Zero)
            .Map([.. stages.Select(s => s.Copies)], maps.All(m => m.FreshSize == 0) ? Fill.Zero : Scaled(fresh!.Fill(to, axis => axis.Size, _seed), data, maps))
            .Times(factor);
    }

    // A grouped convolution's weight whose groups read different channels of theirs: outputs and inputs are mapped as one axis.
    private static WeightExpression Grouped(Constant to, WeightExpression data, AxisMap[] maps, AxisMap reading)
    {
        (AxisMap made, int size) = (maps[0], (int)data.Shape[1]);
        double scale = maps[1][0][0].Weight;
        var rows = new List<Tap[]>();
        int outputs = made.Size / (reading.Size / maps[1].Size);
        for (int o = 0; o < made.Size; o++)
            for (int i = 0; i < maps[1].Size; i++)
                rows.Add([.. made[o].ToArray().Select(tap => new Tap(tap.Source * size + reading[o / outputs * maps[1].Size + i][0].Source % size, tap.Weight * scale))]);
        var joint = AxisMap.FromTaps(made.SourceSize * size, 0, rows);
        var flat = new ReshapedWeight(data, [data.Shape[0] * size, .. data.Shape[2..]]);
        return new ReshapedWeight(flat.Map([joint, .. maps[2..]], Fill.Zero), [.. to.Shape]);
    }

    // The axes of the source's constant, or of what its nodes make of it.
    private AxisExpression[] Own(UseMatch match) => match.Reshaped is not { } value ? _own[match.Source]
        : Source.Analysis.Axes(value) ?? throw new TransferRefusedException($"nothing is known of the axes of '{value}' in the source");

    // The axis of the channels that a constant makes.
    private int Made(AxisExpression[] axes) => Array.FindIndex(axes, axis => _axes.IsChannels(axis) && !_axes.IsRead(axis));

    // Noise is small beside the weights that it goes with: what is drawn is as large as they become.
    private Fill Scaled(Fill fill, WeightExpression data, AxisMap[] maps) => _contained is not null || fill.Kind != FillKind.Normal ? fill
        : fill with { Scale = _restoration.RootMeanSquare(data) * maps.Where(map => map.FreshSize > 0).Aggregate(1.0, (scale, map) => scale * Math.Min(1, (double)map.SourceSize / map.Size)) };

    // Whether some channels of an axis hold nothing of the source.
    private bool HasZeros(AxisExpression axis, AxisMap map) =>
        _axes.IsChannels(axis) && !_axes.IsRead(axis) && Enumerable.Range(0, map.Size).Any(c => map[c].Length == 0);

    private AxisMap[] Maps(Constant to, UseMatch match, AxisExpression[] axes, AxisExpression[] ownAxes, LinearLayer? layer)
    {
        (Use use, Use own) = (match.Target, match.Source);
        int taps = layer is null ? axes.Length : axes.Length - layer.SpatialAxes;
        return [.. axes.Select((axis, i) => Fitted(match, i, i - taps, axis, ownAxes[i], Seeds.For(_seed, $"{to.Name} axis {i}")) ?? (i >= taps ? Taps(use, own, i, (int)ownAxes[i].Size, (int)axis.Size) : Positions(use, own, i, ownAxes, axes))
            ?? _axes.Map(axis, ownAxes[i], Seeds.For(_seed, $"{to.Name} axis {i}")))];
    }

    // A weight that nodes bring into form: the maps of the form's axes make those of the stored axes.
    private AxisMap[] Stored(Constant to, UseMatch match, IReadOnlyList<int[]> layout, IReadOnlyList<long> from)
    {
        LinearLayer layer = _target.Analysis.Node(match.Nodes.Target)!.Layer!, own = Source.Analysis.Node(match.Nodes.Source)!.Layer!;
        AxisExpression[] axes = _target.Analysis.Axes(_target.Graph.Nodes[match.Nodes.Target].Input[layer.WeightInput])!;
        AxisExpression[] ownAxes = Source.Analysis.Axes(Source.Graph.Nodes[match.Nodes.Source].Input[own.WeightInput])!;
        AxisMap[] maps = Maps(to, match, axes, ownAxes, layer);
        AxisMap[] stored = [.. layout.Select(group => group.Select(axis => maps[axis]).Aggregate(AxisMap.Identity(1), AxisMap.Kronecker))];
        return stored.Select(map => (long)map.SourceSize).SequenceEqual(from) ? stored : throw new TransferRefusedException("its axes are put together in another way than the source's");
    }

    // Whether some channels of the target along an axis are zero, and what is multiplied with them may be anything.
    private bool AddsZeros(AxisExpression axis) => _target.Analysis.Solver.Leaves(axis).Any(leaf =>
        !leaf.Dual && _contained?[leaf.Space] is { } map && Enumerable.Range(0, map.Size).Any(c => map[c].Length == 0));

    // What meets zeros may be anything, and has to be something where it divides.
    private AxisMap Live(AxisExpression axis, AxisMap map, FreshWeights fresh)
    {
        if (axis is SpaceAxis { Dual: false } space)
            return fresh.IsLive(space.Space) ? SpaceMaps.Live(map) : map;
        if (axis is ProductAxis && _contained is null)
            return _target.Analysis.Solver.Leaves(axis).All(leaf => fresh.IsLive(leaf.Space)) ? SpaceMaps.Live(map) : map;
        if (axis is not ConcatAxis concat)
            return map;
        AxisMap live = SpaceMaps.Live(map);
        bool[] chosen = [.. concat.Parts.Select(_target.Analysis.Solver.Resolve).SelectMany(part =>
            Enumerable.Repeat(part is SpaceAxis { Dual: false } own && fresh.IsLive(own.Space), (int)part.Size))];
        return AxisMap.FromTaps(map.SourceSize, live.FreshSize, [.. chosen.Select((all, i) => (all ? live : map)[i].ToArray())]);
    }

    // Axes of a layer's weight of which it is known how they lie in the target's.
    private AxisMap? Fitted(UseMatch match, int axis, int spatial, AxisExpression to, AxisExpression from, ulong seed) => match.Fit is not { } fit ? null
        : spatial >= 0 ? Taps((int)from.Size, fit.Taps[spatial])
        : axis == match.OutputAxis && fit.Made is { } made ? _axes.Made(to, from, made)
        : axis == 1 - match.OutputAxis && fit.Mirror is { } factor ? Undone(_axes.Read(to, from), factor)
        : axis == 1 - match.OutputAxis && fit.Pieces is { } pieces ? _axes.Read(to, from, pieces, seed)
        : null;

    private static AxisMap Taps(int size, int[] taps) => AxisMap.FromTaps(size, 0, [.. taps.Select(tap => tap < 0 ? (Tap[])[] : [new Tap(tap, 1)])]);

    /// <summary>The weight of a layer that gives on what it reads.</summary>
    /// <param name="to">The target's constant.</param>
    /// <param name="use">Its use.</param>
    /// <param name="unit">What goes through, and where.</param>
    /// <param name="pieces">Which of the channels that are read carry it; null where all do.</param>
    /// <exception cref="TransferRefusedException">A grouped layer reads and makes different choices of channels.</exception>
    public WeightExpression Unit(Constant to, Use use, UnitStart unit, IReadOnlyList<AxisPiece>? pieces)
    {
        LinearLayer layer = _target.Analysis.Node(unit.Layer)!.Layer!;
        AxisExpression own = Source.Analysis.Axes(unit.Source)![unit.Axis];
        string made = _target.Graph.Nodes[unit.Layer].Output[0];
        if (layer.Groups > 1)
            return GroupedUnit(to, unit, layer.Groups, _axes.Map(_target.Analysis.Axes(unit.Input)![unit.Axis], own, 0), _axes.Map(_target.Analysis.Axes(made)![unit.Axis], own, 0));

        AxisExpression[] axes = _other[use];
        int output = layer.WeightOutputAxis, input = 1 - output;
        ulong seed = Seeds.For(_seed, $"{to.Name} axis {input}");
        bool all = unit.Count == own.Size;
        AxisMap rows = all ? _axes.Map(axes[output], own, 0) : _axes.Made(axes[output], own, new AxisPiece((int)axes[output].Size, unit.Start, unit.Count));
        pieces ??= all || unit.ReadsAll ? null : [new AxisPiece((int)axes[input].Size, unit.Start, unit.Count)];
        AxisMap columns = unit.Mirror < 0 ? Undone(_axes.Read(axes[input], own), unit.Factor)
            : pieces is null ? _axes.Map(axes[input], own, seed) : _axes.Read(axes[input], own, pieces, seed);
        if (!Covers(rows, unit) || !Covers(columns, unit))
            throw new TransferRefusedException($"which channels of '{unit.Source}' go through '{_target.Graph.Nodes[unit.Layer].Name}' is not known");
        AxisMap?[] taps = [.. unit.Taps.Select((tap, i) => Taps(1, [.. Enumerable.Range(0, (int)to.Shape[i + 2]).Select(t => t == tap ? 0 : -1)]))];
        AxisMap?[] maps = output == 0 ? [rows, columns, .. taps] : [columns, rows, .. taps];
        return new DiracWeight(to.Type, [own.Size, own.Size, .. taps.Select(_ => 1L)]).Map([.. maps], FreshWeights.Of(_target.Analysis, use, axes, onZeros: false).Fill(to, axis => axis.Size, _seed)).Times(unit.Scale);
    }

    // What each group makes it has to read: the mean of the copies among its own channels, or with both signs of them what these give together.
    private static ComputedWeight GroupedUnit(Constant to, UnitStart unit, long groups, AxisMap read, AxisMap made)
    {
        int size = (int)to.Shape[1], taps = (int)to.Shape.Skip(2).Aggregate(1L, (a, b) => a * b);
        int tap = unit.Taps.Index().Aggregate(0, (at, axis) => at * (int)to.Shape[axis.Index + 2] + axis.Item);
        var values = new double[made.Size * size * taps];
        for (int o = 0; o < made.Size; o++)
        {
            if (made[o].Length == 0 || made[o][0].Source >= made.SourceSize)
                continue;
            (int channel, double weight) = made[o][0];
            int first = (int)(o / (made.Size / groups)) * size;
            var same = Enumerable.Range(0, size).Select(i => (Index: i, Taps: read[first + i].ToArray())).Where(i => i.Taps is [var only] && only.Source == channel)
                .GroupBy(i => unit.Mirror < 0 ? Math.Sign(i.Taps[0].Weight) : 1).ToList();
            if (made[o].Length > 1 || same.Count != (unit.Mirror < 0 ? 2 : 1))
                throw new TransferRefusedException($"a group of a layer makes channels of '{unit.Source}' that it does not read");
            foreach (var copies in same)
                foreach ((int i, Tap[] from) in copies)
                    values[(o * size + i) * taps + tap] = unit.Scale * weight / from[0].Weight / copies.Count() / (unit.Mirror < 0 ? unit.Factor : 1);
        }

        return new ComputedWeight(to.Type, [.. to.Shape], values);
    }

    // Whether every channel of the source that goes through is some channel of the target.
    private static bool Covers(AxisMap map, UnitStart unit) =>
        Enumerable.Range(0, map.Size).SelectMany(i => map[i].ToArray()).Select(tap => tap.Source - unit.Start).Where(c => c >= 0 && c < unit.Count).Distinct().Count() == unit.Count;

    // φ(x) − φ(−x) = κ·x, shared out over the copies on both sides.
    private static AxisMap Undone(AxisMap mirrored, double factor)
    {
        Tap[][] rows = [.. Enumerable.Range(0, mirrored.Size).Select(i => mirrored[i] is [var tap] && tap.Source < mirrored.SourceSize ? (Tap[])[tap] : [])];
        Dictionary<Tap, int> counts = rows.SelectMany(row => row).CountBy(tap => tap).ToDictionary();
        if (counts.Count != 2 * mirrored.SourceSize)
            throw new TransferRefusedException("an activation is undone only where it is applied to all channels and to their negatives");
        return AxisMap.FromTaps(mirrored.SourceSize, 0, [.. rows.Select(row => (Tap[])[.. row.Select(tap => tap with { Weight = tap.Weight / counts[tap] / factor })])]);
    }

    /// <inheritdoc/>
    public override AxisMap? Channels(UseMatch match) =>
        _other.TryGetValue(match.Target, out AxisExpression[]? axes) && Own(match) is var own && (axes.Length, own.Length) == (1, 1)
            ? Channels(axes[0], own[0]) : null;

    /// <inheritdoc/>
    public override AxisMap? Channels(AxisExpression to, AxisExpression from) => Known(() => _axes.Map(to, from, 0));

    /// <summary>The same for an axis of whose pieces some carry the source's.</summary>
    public AxisMap? Channels(AxisExpression to, AxisExpression from, IReadOnlyList<AxisPiece> pieces) => Known(() => _axes.Held(to, from, pieces));

    private static AxisMap? Known(Func<AxisMap> map)
    {
        try
        {
            return map();
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
        if (_contained is not null || from[axis].Size == to[axis].Size || _axes.IsChannels(to[axis]) || _target.Graph.Nodes[use.Node].OpType != "Add")
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
