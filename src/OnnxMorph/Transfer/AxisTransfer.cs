using OnnxMorph.Axes;
using OnnxMorph.Morphs;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Containment;
using OnnxMorph.Transfer.Rules;

namespace OnnxMorph.Transfer;

/// <summary>
/// Maps of whole axes from a source to a target: every index of the target's axis is an index of the source's, found through the spaces that the
/// axes are made of, or nothing. What is contracted is scaled as <see cref="ScaleRule"/> says.
/// </summary>
/// <param name="source">The source.</param>
/// <param name="target">The target.</param>
/// <param name="spaces">Which spaces stand for which.</param>
/// <param name="choice">Which channels go where.</param>
/// <param name="rules">How.</param>
/// <param name="contained">Whether the target contains the source, so that axes of one size are the same.</param>
internal sealed class AxisTransfer(AnalysedModel source, AnalysedModel target, SpaceMatching spaces, ChannelChoice choice, TransferRules rules, bool contained)
{
    private readonly ChannelRule _rule = new(rules);
    private readonly AxisReading _reading = new(rules.Scale, rules.Width == WidthRule.Interpolate);
    private readonly HashSet<Space> _outer = OuterSpaces(target), _channels = ChannelSpaces(target);

    /// <summary>The map of an axis.</summary>
    /// <param name="to">The target's axis.</param>
    /// <param name="from">The source's.</param>
    /// <param name="seed">Seed of shares and noise.</param>
    /// <exception cref="TransferRefusedException">There is no such map.</exception>
    public AxisMap Map(AxisExpression to, AxisExpression from, ulong seed) =>
        Build(target.Analysis.Solver.Resolve(to), source.Analysis.Solver.Resolve(from), seed);

    /// <summary>Whether layers of the target make the axis or sum over it.</summary>
    public bool IsChannels(AxisExpression to) => target.Analysis.Solver.Leaves(to).Any(leaf => _channels.Contains(leaf.Space));

    /// <summary>Whether layers of the target sum over the axis.</summary>
    public bool IsRead(AxisExpression to) => target.Analysis.Solver.Leaves(to).Any(leaf => leaf.Dual);

    private AxisMap Build(AxisExpression to, AxisExpression from, ulong seed)
    {
        if (rules.Maps == MapSharing.Space && Grouped(to) is null && to is ProductAxis t && from is ProductAxis s && t.Parts.Length == s.Parts.Length)
            return t.Parts.Zip(s.Parts, (part, own) => Build(part, own, seed)).Aggregate(AxisMap.Kronecker);
        if (Repeated(to, from) is { } repeated)
            return AxisMap.Kronecker(Build(repeated.Groups, from, seed), repeated.Made.Dual ? SpaceMaps.Dual(repeated.Map, Seeds.For(seed, $"{to}")) : repeated.Map);
        AxisMap primal = rules.Maps == MapSharing.Tensor ? Alone(to, from) : Primal(to, from);
        bool[] sides = [.. target.Analysis.Solver.Leaves(to).Select(leaf => leaf.Dual).Distinct()];
        if (sides is not [true])
            return primal;
        AxisMap reading = _reading.Of(primal, Seeds.For(seed, $"{to}"));
        if (contained && !reading.ReadsAll)
            throw new TransferRefusedException("it sums over channels of the source that are not among those that it reads");
        return reading;
    }

    // Which index of the source each index of the target copies; a fresh one where it copies none.
    private AxisMap Primal(AxisExpression to, AxisExpression from)
    {
        if (contained && to.Size == from.Size && target.Analysis.Solver.Leaves(to).All(leaf => choice[leaf.Space] is not { } map || map.Equals(AxisMap.Identity(leaf.Space.Size))))
            return AxisMap.Identity((int)to.Size);
        switch (to, from)
        {
            case (SpaceAxis t, SpaceAxis s) when spaces.Stands(t.Space, s.Space) && choice[t.Space] is { } chosen && !IsForeign(t, s):
                return chosen;
            case var _ when Ranges(to, from) is { } ranges:
                return ranges;
            case (ProductAxis, ProductAxis) when Grouped(to) is { } grouped && grouped.SourceSize == from.Size:
                return grouped;
            case (ProductAxis t, ProductAxis s) when t.Parts.Length == s.Parts.Length:
                return t.Parts.Zip(s.Parts, Primal).Aggregate(AxisMap.Kronecker);
            case var _ when Repeated(to, from) is { } repeated:
                return AxisMap.Kronecker(Primal(repeated.Groups, from), repeated.Map);
            // Groups side by side, each of them by itself in the target.
            case (ConcatAxis t, ProductAxis { Parts: [AxisExpression groups, AxisExpression inner] }) when t.Parts.Length == groups.Size:
                return Parts(Pieces(to), [.. Enumerable.Repeat(source.Analysis.Solver.Resolve(inner), t.Parts.Length)]);
            case (ConcatAxis or SpaceAxis, ConcatAxis) or (ConcatAxis, SpaceAxis):
                return Parts(Pieces(to), Pieces(from));
            case var _ when to.Size == from.Size:
                return AxisMap.Identity((int)to.Size);
            default:
                return Resized(to, from);
        }
    }

    // An axis of spaces that stand for indices of the source's which are no spaces: what it puts together, or callers give it.
    private AxisMap? Ranges(AxisExpression to, AxisExpression from)
    {
        var rows = new List<Tap[]>();
        foreach (AxisExpression part in Pieces(to).Select(target.Analysis.Solver.Resolve))
        {
            if (part is not SpaceAxis { Space: var space } || !spaces.Ranges.TryGetValue(space, out AxisRange? range) || range.Axis.Size != from.Size || choice[space] is not { } map)
                return null;
            for (int c = 0; c < map.Size; c++)
                rows.Add([.. map[c]]);
        }

        return AxisMap.FromTaps((int)from.Size, 0, rows);
    }

    /// <summary>The map of groups with channels inside that differ from group to group; null for another axis.</summary>
    public AxisMap? Grouped(AxisExpression to) =>
        GroupedChannels.Pair(target.Analysis.Solver.Resolve(to)) is var (groups, inside) && choice.Grouped(inside) is { } grouped && grouped.Groups == groups ? grouped.Map : null;

    /// <summary>The same for channels that a grouped convolution reads, beside the axis of what it makes.</summary>
    public AxisMap? GroupedReading(AxisExpression made, AxisExpression read) =>
        target.Analysis.Solver.Resolve(read) is SpaceAxis { Dual: true } axis && choice.Grouped(axis.Space) is { } grouped
        && GroupedChannels.Pair(target.Analysis.Solver.Resolve(made)) is var (groups, _) && grouped.Groups == groups ? grouped.Map : null;

    // An axis of which each group makes several of one channel.
    private (AxisExpression Groups, SpaceAxis Made, AxisMap Map)? Repeated(AxisExpression to, AxisExpression from) =>
        (to, from) is (ProductAxis { Parts: [AxisExpression groups, SpaceAxis made] }, SpaceAxis or FixedAxis) && spaces.Repeats(made.Space) is { } mirrored
            ? (target.Analysis.Solver.Resolve(groups), made, Repeats(made.Space, mirrored)) : null;

    private static AxisMap Repeats(Space made, bool mirrored) =>
        AxisMap.FromTaps(1, 0, [.. Enumerable.Range(0, made.Size).Select(i => (Tap[])[new Tap(0, mirrored && i % 2 == 1 ? -1 : 1)])]);

    /// <summary>What a layer reads along an axis that it sums over: which index of the source each index of the target is, or which one's negative.</summary>
    public AxisMap Read(AxisExpression to, AxisExpression from) => target.Analysis.Solver.Resolve(to) is SpaceAxis { Space: var space } && spaces.Repeats(space) is { } mirrored
        ? Repeats(space, mirrored) : Primal(AxisSolver.Primal(target.Analysis.Solver.Resolve(to)), source.Analysis.Solver.Resolve(from));

    /// <summary>
    /// The map of an axis that a layer sums over, of whose pieces some carry the source's axis and the others are not read.
    /// </summary>
    public AxisMap Read(AxisExpression to, AxisExpression from, IReadOnlyList<AxisPiece> pieces, ulong seed)
    {
        AxisMap held = Held(to, from, pieces);
        // What is not read stays so: only the rows of what is carried get shares.
        return AxisReading.Shared(held, i => held[i].Length > 0, seed);
    }

    /// <summary>Which indices of the source lie where along an axis of whose pieces some carry them.</summary>
    public AxisMap Held(AxisExpression to, AxisExpression from, IReadOnlyList<AxisPiece> pieces)
    {
        (to, from) = (target.Analysis.Solver.Resolve(to), source.Analysis.Solver.Resolve(from));
        var rows = new List<Tap[]>();
        int offset = 0;
        foreach (AxisPiece piece in pieces)
        {
            if (piece.Count == 0)
                rows.AddRange(Enumerable.Repeat<Tap[]>([], piece.Size));
            else
            {
                AxisExpression part = AxisPieces.Slice(to, offset, piece.Size) ?? throw new TransferRefusedException("its channels cannot be told from others beside them");
                AxisMap map = Part(part, from, piece);
                for (int i = 0; i < map.Size; i++)
                    rows.Add([.. map[i]]);
            }

            offset += piece.Size;
        }

        return AxisMap.FromTaps((int)from.Size, 0, rows);
    }

    /// <summary>The map of an axis that carries some of the source's indices.</summary>
    public AxisMap Made(AxisExpression to, AxisExpression from, AxisPiece piece)
    {
        (to, from) = (target.Analysis.Solver.Resolve(to), source.Analysis.Solver.Resolve(from));
        // One number for all channels.
        if (from.Size == 1)
            return AxisMap.Pick(1, 0, new int[to.Size]);
        // Which indices of one space another stands for is known.
        return to is SpaceAxis t && from is SpaceAxis s && spaces.Stands(t.Space, s.Space) ? Primal(to, from) : Part(to, from, piece);
    }

    private AxisMap Part(AxisExpression to, AxisExpression from, AxisPiece piece)
    {
        AxisMap map = AxisPieces.Slice(from, piece.Start, piece.Count) is { } own ? Primal(to, own) : AxisMap.Pick(piece.Count, 0, ChannelRule.Uniform(piece.Count, (int)to.Size));
        int behind = (int)from.Size - map.SourceSize;
        return AxisMap.FromTaps((int)from.Size, map.FreshSize, [.. Enumerable.Range(0, map.Size).Select(i => (Tap[])
            [.. map[i].ToArray().Select(tap => tap with { Source = tap.Source + (tap.Source < map.SourceSize ? piece.Start : behind) })])]);
    }

    private static AxisExpression[] Pieces(AxisExpression axis) => axis is ConcatAxis concat ? [.. concat.Parts] : [axis];

    // Of each part of the target the part of the source that its spaces stand for; several where the source has several of the kind.
    private AxisMap Parts(AxisExpression[] to, AxisExpression[] from)
    {
        var starts = new int[from.Length];
        for (int p = 1; p < from.Length; p++)
            starts[p] = starts[p - 1] + (int)from[p - 1].Size;
        int size = (int)from.Sum(p => p.Size), fresh = 0;
        bool alike = to.Length == from.Length;
        (int Part, AxisPiece Piece)[]? inOrder = InOrder(to, from);
        var used = new Dictionary<int, int>();
        var rows = new List<Tap[]>();
        for (int p = 0; p < to.Length; p++)
        {
            int[] fitting = [.. Enumerable.Range(0, from.Length).Where(q => Stands(to[p], from[q]))];
            int part = inOrder is not null ? inOrder[p].Part : fitting.Length > 0 ? fitting[Math.Min(used.GetValueOrDefault(fitting[0]), fitting.Length - 1)] : alike ? p : -1;
            if (fitting.Length > 0)
                used[fitting[0]] = used.GetValueOrDefault(fitting[0]) + 1;
            if (part < 0)
            {
                // Where nothing is added, everything stays in its place.
                bool stays = contained && to.Sum(t => t.Size) == size;
                for (int i = 0; i < to[p].Size; i++)
                    rows.Add([new Tap(stays ? rows.Count : size + fresh++, 1)]);
                continue;
            }

            AxisMap map = inOrder is not null && !Stands(to[p], from[part]) ? Part(to[p], from[part], inOrder[p].Piece) : Primal(to[p], from[part]);
            for (int i = 0; i < map.Size; i++)
                rows.Add([.. map[i].ToArray().Select(tap => tap with { Source = tap.Source < map.SourceSize ? tap.Source + starts[part] : size + fresh++ })]);
        }

        return AxisMap.FromTaps(size, fresh, rows);
    }

    // Which part of the source each part of the target is, or which indices of it, where parts stand in one order, so that parts of one kind are told
    // apart by their places; null where they do not.
    private (int Part, AxisPiece Piece)[]? InOrder(AxisExpression[] to, AxisExpression[] from)
    {
        var pieces = new (int, AxisPiece)[to.Length];
        int next = 0, covered = 0;
        for (int p = 0; p < to.Length; p++)
        {
            if (next == from.Length)
                return null;
            (int start, int count) = (0, (int)from[next].Size);
            if (Stands(to[p], from[next]))
                (start, count) = to[p] is SpaceAxis axis ? spaces.Part(axis.Space) : (start, count);
            else if (!target.Analysis.Solver.Leaves(to[p]).Any())
                (start, count) = (covered, (int)to[p].Size);
            else
                return null;
            if (start != covered || start + count > from[next].Size)
                return null;
            pieces[p] = (next, new AxisPiece((int)to[p].Size, start, count));
            covered += count;
            if (covered == from[next].Size)
                (next, covered) = (next + 1, 0);
        }

        return next == from.Length ? pieces : null;
    }

    // Whether a part of the target is made of the spaces that a part of the source is made of, or both of none.
    private bool Stands(AxisExpression to, AxisExpression from)
    {
        List<SpaceAxis> own = [.. source.Analysis.Solver.Leaves(from)], other = [.. target.Analysis.Solver.Leaves(to)];
        return own.Count == other.Count && (other.Count > 0 || to.Size == from.Size) && other.Zip(own).All(pair => spaces.Stands(pair.First.Space, pair.Second.Space));
    }

    // An axis by its sizes alone.
    private AxisMap Alone(AxisExpression to, AxisExpression from) =>
        to.Size == from.Size ? AxisMap.Identity((int)to.Size) : Resized(to, from, _rule.Map);

    // Channels of another space (the stage before) are spread evenly; positions are interpolated.
    private AxisMap Resized(AxisExpression to, AxisExpression from) =>
        Resized(to, from, _rule.Interpolates ? AxisMap.Interpolate : (own, other) => AxisMap.Pick(own, 0, ChannelRule.Uniform(own, other)));

    private AxisMap Resized(AxisExpression to, AxisExpression from, Func<int, int, AxisMap> channels)
    {
        List<SpaceAxis> leaves = [.. target.Analysis.Solver.Leaves(to)];
        if (leaves.Any(leaf => _outer.Contains(leaf.Space)) || (leaves.Count == 0 && to is not FixedAxis))
            throw new TransferRefusedException($"callers give or read this axis, of {from.Size} in the source and {to.Size} in the target");
        if (leaves.Any(leaf => _channels.Contains(leaf.Space)))
            return channels((int)from.Size, (int)to.Size);
        if (contained)
            throw new TransferRefusedException($"it is not known which of {from.Size} indices of the source are which of {to.Size}");
        return AxisMap.Interpolate((int)from.Size, (int)to.Size);
    }

    // What callers see in other sizes is another thing.
    private bool IsForeign(SpaceAxis to, SpaceAxis from) =>
        to.Size != from.Size && to.Size != spaces.Part(to.Space).Count && (_outer.Contains(to.Space) || (!contained && !_channels.Contains(to.Space)));

    private static HashSet<Space> OuterSpaces(AnalysedModel model) =>
        [.. model.Graph.Proto.Output.Select(o => o.Name).Concat(model.Graph.Inputs.Select(i => i.Name)).SelectMany(name => model.Analysis.Axes(name) ?? [])
            .SelectMany(model.Analysis.Solver.Leaves).Select(leaf => leaf.Space)];

    // What layers make or sum over.
    private static HashSet<Space> ChannelSpaces(AnalysedModel model)
    {
        AxisSolver solver = model.Analysis.Solver;
        HashSet<Space> spaces = [.. Enumerable.Range(0, model.Graph.Nodes.Count).Select(n => model.Analysis.Node(n)?.Produced).OfType<AxisExpression>().SelectMany(solver.Leaves).Select(l => l.Space)];
        spaces.UnionWith(model.Analysis.ConstantUses.SelectMany(u => u.Axes).SelectMany(solver.Leaves).Where(l => l.Dual).Select(l => l.Space));
        return spaces;
    }
}

/// <summary>A tensor of the target has no counterpart in the source; it keeps its own numbers.</summary>
internal sealed class TransferRefusedException(string message) : Exception(message);
