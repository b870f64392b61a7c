using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Containment;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>Which channels of a source the channels of a target are.</summary>
public enum WidthRule
{
    /// <summary>
    /// Of more channels the most important, in their order, by the norms' |γ| and, without a norm, the L1 norm of what makes them; of
    /// fewer each as often as it takes, ⌊(i+½)·nS/nT⌋ (METHODS.md §3).
    /// </summary>
    Importance,

    /// <summary>⌊(i+½)·nS/nT⌋ in both directions.</summary>
    Uniform,

    /// <summary>The first; beyond the last again from the first.</summary>
    Leading,

    /// <summary>The middle; where there are fewer, uniformly.</summary>
    Centre,
}

/// <summary>
/// Chooses for every space of a target the channels of the source's space. One choice holds for every tensor that touches the space, and
/// for spaces that belong together.
/// </summary>
internal sealed class ChannelChoice
{
    private readonly AnalysedModel _source;
    private readonly Dictionary<Space, AxisMap> _choices = [];
    private readonly Dictionary<Space, double[]> _importance = [];
    private Dictionary<Space, List<(Use Use, Constant Constant, AxisExpression[] Axes, int Axis)>>? _makers;

    /// <summary>Chooses for all matched spaces.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target.</param>
    /// <param name="spaces">Which spaces stand for which.</param>
    /// <param name="rule">How, where nothing else is given.</param>
    /// <param name="contained">Spaces whose channels are decided already; null for none.</param>
    public ChannelChoice(AnalysedModel source, AnalysedModel target, SpaceMatching spaces, WidthRule rule, ContainedChannels? contained = null)
    {
        _source = source;
        foreach (var family in Families(target.Analysis.Solver, spaces))
        {
            (Space first, int to) = (family[0].Target, family[0].Target.Size);
            (int start, int from) = spaces.Part(first);
            int[] choice = spaces.IsMirrored(first) ? Halves(from, to)
                : from == to ? [.. Enumerable.Range(0, to)] : Choose(rule, from, to, [.. family.Select(f => f.Source).Distinct()]);
            int size = family[0].Source.Size;
            AxisMap map = spaces.IsMirrored(first) ? Mirrored(size, start, choice, from) : AxisMap.Pick(size, 0, [.. choice.Select(c => c + start)]);
            foreach ((Space space, _) in family)
                _choices[space] = contained?[space] ?? map;
        }

        foreach ((Space space, AxisExpression axis) in spaces.Wholes)
        {
            int from = (int)axis.Size;
            _choices[space] = spaces.IsMirrored(space) ? Mirrored(from, 0, Halves(from, space.Size), from) : AxisMap.Pick(from, 0, Uniform(from, space.Size));
        }
    }

    private static int[] Halves(int from, int to) => [.. Uniform(2 * from, to).Select(i => i % from)];

    /// <summary>For each channel of a target's space the source's channels, of its axis where the space stands for a whole one; null where the space stands for none.</summary>
    public AxisMap? this[Space target] => _choices.GetValueOrDefault(target);

    // The first half is the source's channels, the second their negatives.
    private static AxisMap Mirrored(int size, int start, int[] chosen, int from)
    {
        int[] halves = Uniform(2 * from, chosen.Length);
        return AxisMap.FromTaps(size, 0, [.. chosen.Select((c, i) => (Tap[])[new Tap(c + start, halves[i] < from ? 1 : -1)])]);
    }

    // Companions of equal sizes choose together.
    private static List<List<(Space Target, Space Source)>> Families(AxisSolver solver, SpaceMatching spaces)
    {
        var families = new SpaceFamilies(solver, (a, b) =>
            spaces[a] is { } s && spaces[b] is { } t && s.Size == t.Size && a.Size == b.Size && spaces.Part(a) == spaces.Part(b));
        return [.. spaces.Pairs.GroupBy(p => families[p.Key]).Select(g => g.Select(p => (p.Key, p.Value)).ToList())];
    }

    /// <summary>For each of <paramref name="to"/> indices one of <paramref name="from"/>, ⌊(i+½)·from/to⌋.</summary>
    internal static int[] Uniform(int from, int to) => [.. Enumerable.Range(0, to).Select(i => (int)((2L * i + 1) * from / (2L * to)))];

    private int[] Choose(WidthRule rule, int from, int to, IReadOnlyList<Space> sources)
    {
        int[] uniform = Uniform(from, to);
        return rule switch
        {
            WidthRule.Leading => [.. Enumerable.Range(0, to).Select(i => i % from)],
            WidthRule.Centre when to < from => [.. Enumerable.Range((from - to) / 2, to)],
            WidthRule.Importance when to < from => Most(Importance(sources), to),
            _ => uniform,
        };
    }

    /// <summary>The indices of the most important channels, in their order.</summary>
    internal static int[] Most(double[] importance, int count) =>
        [.. Enumerable.Range(0, importance.Length).OrderByDescending(c => importance[c]).ThenBy(c => c).Take(count).Order()];

    private double[] Importance(IReadOnlyList<Space> spaces)
    {
        var sum = new double[spaces[0].Size];
        foreach (Space space in spaces)
        {
            double[] own = _importance.TryGetValue(space, out double[]? known) ? known : _importance[space] = Importance(space);
            for (int c = 0; c < sum.Length; c++)
                sum[c] += own[c];
        }

        return sum;
    }

    // Σ |γ_c| over the norms behind what makes the channel; without a norm Σ |w|.
    private double[] Importance(Space space)
    {
        var makers = (_makers ??= Makers()).GetValueOrDefault(space) ?? [];
        var scales = makers.Where(m => IsScale(m.Use)).ToList();
        var sum = new double[space.Size];
        foreach (var (_, constant, axes, axis) in scales.Count > 0 ? scales : [.. makers.Where(m => m.Constant.Shape.Count(s => s > 1) > 1)])
        {
            double[] values = ConstantValues.Of(_source.Graph, constant);
            AxisMap channels = Channels(_source.Analysis.Solver.Resolve(axes[axis]), space);
            long inner = constant.Shape.Skip(axis + 1).Aggregate(1L, (a, b) => a * b), size = constant.Shape[axis];
            for (int i = 0; i < values.Length; i++)
                foreach (Tap tap in channels[(int)(i / inner % size)])
                    sum[tap.Source] += Math.Abs(values[i]);
        }

        return sum;
    }

    // The channel of the space that an index of an axis belongs to; none where it belongs to another.
    private AxisMap Channels(AxisExpression axis, Space space)
    {
        return AxisMap.Pick(space.Size, 0, Of(axis));

        int[] Of(AxisExpression part)
        {
            switch (part)
            {
                case SpaceAxis s when s.Space == space:
                    return [.. Enumerable.Range(0, space.Size)];
                case ProductAxis p:
                    int[][] factors = [.. p.Parts.Select(x => Of(_source.Analysis.Solver.Resolve(x)))];
                    return factors.Aggregate((outer, inner) => [.. outer.SelectMany(_ => inner, (o, i) => Math.Max(o, i))]);
                case ConcatAxis c:
                    return [.. c.Parts.SelectMany(x => Of(_source.Analysis.Solver.Resolve(x)))];
                default:
                    return [.. Enumerable.Repeat(-1, (int)part.Size)];
            }
        }
    }

    private bool IsScale(Use use)
    {
        NodeProto node = _source.Graph.Nodes[use.Node];
        return OperatorRules.For(node) is BatchNormalizationRule or LayerNormalizationRule or GroupNormalizationRule or InstanceNormalizationRule && use.Input == 1;
    }

    private Dictionary<Space, List<(Use, Constant, AxisExpression[], int)>> Makers()
    {
        var makers = new Dictionary<Space, List<(Use, Constant, AxisExpression[], int)>>();
        foreach ((Constant constant, Use use, AxisExpression[] axes) in _source.Analysis.ConstantUses.Where(u => u.Constant.Type.IsScalable()))
            for (int axis = 0; axis < axes.Length; axis++)
                foreach (Space space in _source.Analysis.Solver.Leaves(axes[axis]).Where(leaf => !leaf.Dual).Select(leaf => leaf.Space).Distinct())
                {
                    if (!makers.TryGetValue(space, out var list))
                        makers[space] = list = [];
                    list.Add((use, constant, axes, axis));
                }

        return makers;
    }
}
