using OnnxMorph.Axes;
using OnnxMorph.Graph;

namespace OnnxMorph.Morphs;

/// <summary>What the channels of widened spaces are: the relation of each to the parent's channels.</summary>
internal sealed class SpaceGrowth(AxisAnalysis analysis, WidenMethod method, ZeroSide side, ulong seed)
{
    private Dictionary<Space, (double Made, double Read)>? _weights;

    /// <summary>The relation of a space widened to <paramref name="newSize"/> channels. The parent's come first, unchanged.</summary>
    public AxisMap Map(Space space, int newSize)
    {
        if (space.Paired is not null)
            return space.Filling == NewChannels.Zero ? Zeros(space.Size, newSize, 1) : Own(space.Size, newSize);
        if (space.Uniform is not null)
        {
            int copies = method == WidenMethod.Replicate ? newSize / space.Size : 1;
            return space.Filling == NewChannels.Mean && copies * space.Size < newSize ? Means(space.Size, newSize, copies) : Zeros(space.Size, newSize, copies);
        }

        return method switch
        {
            WidenMethod.Replicate => Copies(space, newSize),
            WidenMethod.Zero => ZeroesProducers(space) ? Zeros(space.Size, newSize, 1) : Own(space.Size, newSize),
            _ => Pairs(space.Size, newSize),
        };
    }

    // Each old channel once before any twice, in a seeded order.
    private AxisMap Copies(Space space, int newSize)
    {
        int old = space.Size;
        int[] order = [.. Enumerable.Range(0, old)];
        return Pick(old, newSize, 0, extra =>
        {
            if (extra % old == 0)
                new Random(unchecked((int)Seeds.For(seed, $"widen {space.Id} {extra / old}"))).Shuffle(order);
            return order[extra % old];
        });
    }

    /// <summary>The parent's channels and behind them ones of the child's own.</summary>
    internal static AxisMap Own(int old, int newSize) => Pick(old, newSize, newSize - old, extra => old + extra);

    private static AxisMap Pairs(int old, int newSize) => Pick(old, newSize, (newSize - old + 1) / 2, extra => old + extra / 2);

    /// <summary>Whole copies of the parent's channels and behind them zeros.</summary>
    internal static AxisMap Zeros(int old, int newSize, int copies) => Pick(old, newSize, 0, extra => extra < (copies - 1) * old ? extra % old : -1);

    private static AxisMap Pick(int old, int newSize, int fresh, Func<int, int> source) =>
        AxisMap.Pick(old, fresh, [.. Enumerable.Range(0, newSize).Select(c => c < old ? c : source(c - old))]);

    /// <summary>Whole copies of the parent's channels and behind them their mean.</summary>
    internal static AxisMap Means(int old, int newSize, int copies)
    {
        Tap[] mean = [.. Enumerable.Range(0, old).Select(c => new Tap(c, 1.0 / old))];
        return AxisMap.FromTaps(old, 0, [.. Enumerable.Range(0, newSize).Select(c => c < copies * old ? (Tap[])[new Tap(c % old, 1)] : mean)]);
    }

    private bool ZeroesProducers(Space space) => side switch
    {
        ZeroSide.Consumer => false,
        ZeroSide.Producer => true,
        _ => space.NoZeros is null && space.PicksOnly is null && Weights(space) is var (made, read) && made < read,
    };

    // Elements of the weights that make and that read a channel of the space. A vector along the channels does neither.
    private (double Made, double Read) Weights(Space space)
    {
        if (_weights is null)
        {
            _weights = [];
            foreach ((Constant constant, _, AxisExpression[] axes) in analysis.ConstantUses.Where(u => u.Axes.Length > 1))
            {
                foreach (SpaceAxis leaf in axes.SelectMany(analysis.Solver.Leaves))
                {
                    (double made, double read) = _weights.GetValueOrDefault(leaf.Space);
                    double elements = (double)constant.Count / leaf.Size;
                    _weights[leaf.Space] = leaf.Dual ? (made, read + elements) : (made + elements, read);
                }
            }
        }

        return _weights.GetValueOrDefault(space);
    }
}
