using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Containment;

namespace OnnxMorph.Transfer;

/// <summary>
/// Which space of a source each space of a target stands for: the one that most of the weights which make it were made along, or, where no
/// matched weight makes it, were read along.
/// </summary>
internal sealed class SpaceMatching
{
    private readonly AnalysedModel _source, _target;
    private readonly Dictionary<Space, Space> _spaces = [];
    private readonly Dictionary<Space, (int Start, int Count)> _parts = [];
    private readonly HashSet<Space> _mirrored = [];
    private readonly Dictionary<Space, AxisRange> _ranges = [];
    private readonly Dictionary<Space, bool> _repeats = [];
    private readonly SpaceFamilies _families;

    /// <summary>Decides from axes that stand for each other: the space that most of them name.</summary>
    public SpaceMatching(AnalysedModel source, AnalysedModel target, IEnumerable<SpaceVote> votes)
    {
        (_source, _target) = (source, target);
        (AxisSolver own, AxisSolver other) = (source.Analysis.Solver, target.Analysis.Solver);
        _families = SpaceFamilies.OfEqualSizes(own);
        var named = new Dictionary<Space, Dictionary<(Space Space, int Start, int Count, bool Mirrored), int>>();
        foreach (SpaceVote vote in votes)
            if (AxisPieces.Slice(other.Resolve(vote.Target), vote.Offset, vote.Size) is { } to)
                Name(to, own.Resolve(vote.Source), vote.Start, vote.Count, vote.Mirrored);
        foreach ((Space space, var candidates) in named)
        {
            _ranges.Remove(space);
            _mirrored.Remove(space);
            var best = candidates.OrderByDescending(c => c.Value).ThenBy(c => c.Key.Count).ThenBy(c => c.Key.Space.Id).First().Key;
            _spaces[space] = best.Space;
            if (best.Count != best.Space.Size)
                _parts[space] = (best.Start, best.Count);
            if (best.Mirrored)
                _mirrored.Add(space);
        }

        void Name(AxisExpression to, AxisExpression from, int start, int count, bool mirrored)
        {
            if (count != from.Size && AxisPieces.Slice(from, start, count) is { } piece)
                (from, start) = (piece, 0);
            switch (to, from)
            {
                case (SpaceAxis t, SpaceAxis s):
                    var candidates = named.TryGetValue(t.Space, out var known) ? known : named[t.Space] = [];
                    candidates[(s.Space, start, count, mirrored)] = candidates.GetValueOrDefault((s.Space, start, count, mirrored)) + 1;
                    break;
                case (ProductAxis t, ProductAxis s) when t.Parts.Length == s.Parts.Length && count == from.Size:
                    // Negatives lie in the same group.
                    foreach ((int i, (AxisExpression part, AxisExpression ownPart)) in t.Parts.Zip(s.Parts).Index())
                        Name(other.Resolve(part), own.Resolve(ownPart), 0, (int)ownPart.Size, mirrored && i == t.Parts.Length - 1);
                    break;
                case (ConcatAxis t, ConcatAxis s) when t.Parts.Length == s.Parts.Length && count == from.Size:
                    foreach ((AxisExpression part, AxisExpression ownPart) in t.Parts.Zip(s.Parts))
                        Name(other.Resolve(part), own.Resolve(ownPart), 0, (int)ownPart.Size, mirrored);
                    break;
                // A group makes several of each channel.
                case (ProductAxis { Parts: [AxisExpression groups, SpaceAxis made] }, SpaceAxis or FixedAxis) when groups.Size >= count:
                    Name(other.Resolve(groups), from, start, count, false);
                    _repeats[made.Space] = mirrored;
                    break;
                // What the source puts together, or callers give it, the target makes as one, or cuts elsewhere.
                case (SpaceAxis t, not SpaceAxis) when t.Space.Size >= (mirrored ? 2 : 1) * count:
                    if (_ranges.TryAdd(t.Space, new AxisRange(from, start, count)) && mirrored)
                        _mirrored.Add(t.Space);
                    break;
                // What is cut further on is cut in proportion.
                case (ConcatAxis t, SpaceAxis):
                    int[] cuts = ContainmentSearch.Cuts([.. t.Parts.Select(part => (int)part.Size)], count);
                    for (int i = 0; i < t.Parts.Length; i++)
                        if (cuts[i + 1] > cuts[i])
                            Name(other.Resolve(t.Parts[i]), from, start + cuts[i], cuts[i + 1] - cuts[i], mirrored);
                    break;
            }
        }
    }

    /// <summary>Decides from matched uses of constants.</summary>
    public SpaceMatching(AnalysedModel source, AnalysedModel target, IEnumerable<UseMatch> matches)
    {
        (_source, _target) = (source, target);
        _families = SpaceFamilies.OfEqualSizes(source.Analysis.Solver);
        Decide(matches);
    }

    /// <summary>The same with what matched uses of constants say about spaces that are not decided yet.</summary>
    public SpaceMatching With(IEnumerable<UseMatch> matches)
    {
        var all = new SpaceMatching(this);
        all.Decide(matches);
        return all;
    }

    private SpaceMatching(SpaceMatching other)
    {
        (_source, _target, _families) = (other._source, other._target, other._families);
        (_spaces, _parts, _mirrored, _ranges, _repeats) = (new(other._spaces), new(other._parts), [.. other._mirrored], new(other._ranges), new(other._repeats));
    }

    private void Decide(IEnumerable<UseMatch> matches)
    {
        var votes = new Dictionary<Space, Dictionary<Space, (int Made, int Read)>>();
        Dictionary<Use, AxisExpression[]> own = Axes(_source), other = Axes(_target);
        foreach (UseMatch match in matches)
            if (own.TryGetValue(match.Source, out AxisExpression[]? from) && other.TryGetValue(match.Target, out AxisExpression[]? to) && from.Length == to.Length)
                for (int axis = 0; axis < to.Length; axis++)
                    Vote(_target.Analysis.Solver.Resolve(to[axis]), _source.Analysis.Solver.Resolve(from[match.Transposed ? ^(axis + 1) : axis]));
        foreach ((Space space, var candidates) in votes)
            if (!_ranges.ContainsKey(space) && !_repeats.ContainsKey(space))
                _spaces.TryAdd(space, candidates.OrderByDescending(c => c.Value.Made).ThenByDescending(c => c.Value.Read).ThenBy(c => c.Key.Id).First().Key);

        void Vote(AxisExpression to, AxisExpression from)
        {
            switch (to, from)
            {
                case (SpaceAxis t, SpaceAxis s) when t.Dual == s.Dual:
                    if (!votes.TryGetValue(t.Space, out var candidates))
                        votes[t.Space] = candidates = [];
                    (int made, int read) = candidates.GetValueOrDefault(s.Space);
                    candidates[s.Space] = t.Dual ? (made, read + 1) : (made + 1, read);
                    break;
                case (ProductAxis t, ProductAxis s) when t.Parts.Length == s.Parts.Length:
                    foreach ((AxisExpression part, AxisExpression ownPart) in t.Parts.Zip(s.Parts))
                        Vote(part, ownPart);
                    break;
                // Parts of concatenations that repeat differently are known from what makes them.
                case (ConcatAxis t, ConcatAxis s) when t.Parts.Length == s.Parts.Length:
                    foreach ((AxisExpression part, AxisExpression ownPart) in t.Parts.Zip(s.Parts))
                        Vote(part, ownPart);
                    break;
            }
        }
    }

    /// <summary>The source's space for one of the target; null where there is none.</summary>
    public Space? this[Space target] => _spaces.GetValueOrDefault(target);

    /// <summary>Whether a space of the target stands for one of the source, or for another whose indices belong together with that one's.</summary>
    public bool Stands(Space target, Space source) => _spaces.TryGetValue(target, out Space? own) && (own == source || _families[own] == _families[source]);

    /// <summary>Which indices of the source's space a space of the target stands for; all of them where it is not a part.</summary>
    public (int Start, int Count) Part(Space target) => _parts.TryGetValue(target, out var part) ? part : (0, _spaces[target].Size);

    /// <summary>Whether a space of the target holds the source's channels and behind them their negatives.</summary>
    public bool IsMirrored(Space target) => _mirrored.Contains(target);

    /// <summary>
    /// Whether a space of the target counts what a group makes of one channel, and if so whether these are it and its negative in turn; null where it does not.
    /// </summary>
    public bool? Repeats(Space target) => _repeats.TryGetValue(target, out bool mirrored) ? mirrored : null;

    /// <summary>Spaces of the target that stand for indices of an axis of the source which are no space.</summary>
    public IReadOnlyDictionary<Space, AxisRange> Ranges => _ranges;

    /// <summary>All target spaces that have one.</summary>
    public IEnumerable<KeyValuePair<Space, Space>> Pairs => _spaces;

    /// <summary>Axes of every use of a constant.</summary>
    internal static Dictionary<Use, AxisExpression[]> Axes(AnalysedModel model) => model.Analysis.ConstantUses.ToDictionary(u => u.Use, u => u.Axes);
}

/// <summary>Indices of an axis.</summary>
/// <param name="Axis">The axis.</param>
/// <param name="Start">The first.</param>
/// <param name="Count">How many.</param>
internal sealed record AxisRange(AxisExpression Axis, int Start, int Count);
