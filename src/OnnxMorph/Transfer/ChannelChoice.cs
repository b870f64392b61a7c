using OnnxMorph.Axes;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Containment;
using OnnxMorph.Transfer.Rules;

namespace OnnxMorph.Transfer;

/// <summary>
/// Chooses for every space of a target the channels of the source's space. One choice holds for every tensor that touches the space, and
/// for spaces that belong together.
/// </summary>
internal sealed class ChannelChoice
{
    private readonly Dictionary<Space, AxisMap> _choices = [];
    private readonly Dictionary<Space, GroupedChannels> _grouped = [];

    /// <summary>Chooses for all matched spaces.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target.</param>
    /// <param name="spaces">Which spaces stand for which.</param>
    /// <param name="rules">How, where nothing else is given.</param>
    /// <param name="contained">Spaces whose channels are decided already; null for none.</param>
    public ChannelChoice(AnalysedModel source, AnalysedModel target, SpaceMatching spaces, TransferRules rules, ContainedChannels? contained = null)
    {
        var rule = new ChannelRule(rules);
        var measure = new ChannelMeasure(source, rules.Importance);
        List<List<(Space Target, Space Source)>> families = Families(target.Analysis.Solver, spaces);
        foreach (var family in families)
        {
            (Space first, int to) = (family[0].Target, family[0].Target.Size);
            (int start, int from) = spaces.Part(first);
            int size = family[0].Source.Size;
            Space[] sources = [.. family.Select(f => f.Source).Distinct()];
            AxisMap map = spaces.IsMirrored(first) ? Mirrored(size, start, Halves(from, to), from)
                : Part(size, start, from == to ? AxisMap.Identity(to) : rule.Map(from, to, () => measure.Importance(sources), () => measure.Features(sources)));
            foreach ((Space space, _) in family)
                _choices[space] = contained?[space] ?? map;
        }

        if (contained is null && rules is { Width: WidthRule.Importance, Maps: MapSharing.Space })
            _grouped = GroupedChannels.Of(target, spaces, families.Select(family => family.Select(f => f.Target).ToList()), _choices, measure);
        foreach ((Space space, (AxisExpression axis, int start, int count)) in spaces.Ranges)
        {
            int from = (int)axis.Size;
            _choices[space] = spaces.IsMirrored(space) ? Mirrored(from, start, Halves(count, space.Size), count)
                : Part(from, start, AxisMap.Pick(count, 0, ChannelRule.Uniform(count, space.Size)));
        }
    }

    /// <summary>The channels inside groups, where they differ from group to group; null elsewhere.</summary>
    public GroupedChannels? Grouped(Space inside) => _grouped.GetValueOrDefault(inside);

    private static int[] Halves(int from, int to) => [.. ChannelRule.Uniform(2 * from, to).Select(i => i % from)];

    /// <summary>For each channel of a target's space the source's channels, of its axis where the space stands for a whole one; null where the space stands for none.</summary>
    public AxisMap? this[Space target] => _choices.GetValueOrDefault(target);

    // A map of some indices of a space as one of the space.
    private static AxisMap Part(int size, int start, AxisMap map) => map.SourceSize == size ? map
        : AxisMap.FromTaps(size, 0, [.. Enumerable.Range(0, map.Size).Select(c => (Tap[])[.. map[c].ToArray().Select(tap => tap with { Source = tap.Source + start })])]);

    // The first half is the source's channels, the second their negatives.
    private static AxisMap Mirrored(int size, int start, int[] chosen, int from)
    {
        int[] halves = ChannelRule.Uniform(2 * from, chosen.Length);
        return AxisMap.FromTaps(size, 0, [.. chosen.Select((c, i) => (Tap[])[new Tap(c + start, halves[i] < from ? 1 : -1)])]);
    }

    // Companions of equal sizes choose together.
    private static List<List<(Space Target, Space Source)>> Families(AxisSolver solver, SpaceMatching spaces)
    {
        var families = new SpaceFamilies(solver, (a, b) =>
            spaces[a] is { } s && spaces[b] is { } t && s.Size == t.Size && a.Size == b.Size && spaces.Part(a) == spaces.Part(b) && spaces.IsMirrored(a) == spaces.IsMirrored(b));
        return [.. spaces.Pairs.GroupBy(p => families[p.Key]).Select(g => g.Select(p => (p.Key, p.Value)).ToList())];
    }
}
