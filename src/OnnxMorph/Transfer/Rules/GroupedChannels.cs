using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer.Rules;

/// <summary>A choice of channels inside groups, or inside heads, that differs from group to group.</summary>
/// <param name="Groups">The target's space of groups.</param>
/// <param name="Map">For the target's channels, group by group, the source's: an index of the product of groups and channels inside them.</param>
internal sealed record GroupedChannels(Space Groups, AxisMap Map)
{
    /// <summary>
    /// For spaces of channels inside groups that become fewer: of each group that stays the most important channels (METHODS.md §3, down). Only for spaces
    /// that stand in products with one space of groups, and alone nowhere but where a grouped convolution of these groups reads them.
    /// </summary>
    /// <param name="target">The target.</param>
    /// <param name="spaces">Which spaces stand for which.</param>
    /// <param name="families">Spaces that choose together.</param>
    /// <param name="choices">The maps of single spaces.</param>
    /// <param name="measure">What is known of the source's channels.</param>
    public static Dictionary<Space, GroupedChannels> Of(
        AnalysedModel target, SpaceMatching spaces, IEnumerable<IReadOnlyList<Space>> families, IReadOnlyDictionary<Space, AxisMap> choices, ChannelMeasure measure)
    {
        Dictionary<Space, Space?> groups = Outer(target);
        var result = new Dictionary<Space, GroupedChannels>();
        foreach (IReadOnlyList<Space> family in families)
        {
            if (spaces[family[0]] is not { } own || family[0].Size >= own.Size || family.Any(inside => groups.GetValueOrDefault(inside) is not { } outer || !choices.ContainsKey(outer))
                || family.Select(inside => choices[groups[inside]!]).Distinct().Count() > 1)
                continue;
            AxisMap kept = choices[groups[family[0]]!];
            if (kept.FreshSize > 0 || Enumerable.Range(0, kept.Size).Any(g => kept[g] is not [{ Weight: 1 }]))
                continue;
            var importance = new double[kept.SourceSize * own.Size];
            foreach ((Space outer, Space inner) in family.Select(inside => (spaces[groups[inside]!]!, spaces[inside]!)).Distinct())
                foreach ((int c, double value) in measure.Importance(outer, inner).Index())
                    importance[c] += value;
            int[] chosen = [.. Enumerable.Range(0, kept.Size).Select(g => kept[g][0].Source * own.Size)
                .SelectMany(first => ChannelRule.Most(importance[first..(first + own.Size)], family[0].Size).Select(c => first + c))];
            foreach (Space inside in family)
                result[inside] = new GroupedChannels(groups[inside]!, AxisMap.Pick(importance.Length, 0, chosen));
        }

        return result;
    }

    /// <summary>The spaces of groups and of channels inside them that an axis is the product of; null where it is none of two.</summary>
    public static (Space Groups, Space Inside)? Pair(AxisExpression axis) =>
        axis is ProductAxis { Parts: [SpaceAxis groups, SpaceAxis inside] } && groups.Dual == inside.Dual ? (groups.Space, inside.Space) : null;

    // For each space that stands inside groups of one kind these groups; null for one that stands elsewhere too.
    private static Dictionary<Space, Space?> Outer(AnalysedModel model)
    {
        var groups = new Dictionary<Space, Space?>();
        AxisSolver solver = model.Analysis.Solver;
        foreach ((Constant _, Use use, AxisExpression[] axes) in model.Analysis.ConstantUses)
            for (int i = 0; i < axes.Length; i++)
            {
                AxisExpression axis = solver.Resolve(axes[i]);
                if (Pair(axis) is var (outer, inside))
                {
                    Found(inside, outer);
                    groups[outer] = null;
                }
                else if (axis is SpaceAxis { Dual: true } read && i == 1 && Pair(solver.Resolve(axes[0])) is var (own, _)
                    && model.Analysis.Node(use.Node) is { Layer: { Groups: > 1, Transposed: false } layer } && layer.WeightInput == use.Input && layer.SpatialAxes > 0)
                    Found(read.Space, own);
                else
                    foreach (SpaceAxis leaf in solver.Leaves(axis))
                        groups[leaf.Space] = null;
            }

        return groups;

        void Found(Space inside, Space outer) => groups[inside] = groups.TryGetValue(inside, out Space? known) && known != outer ? null : outer;
    }
}
