using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Kernels;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Rules;

/// <summary>What a source's weights say about its channels: how important they are, and which are alike.</summary>
/// <param name="source">The source.</param>
/// <param name="measure">What makes a channel important.</param>
internal sealed class ChannelMeasure(AnalysedModel source, ImportanceMeasure measure)
{
    private const int Buckets = 64;
    private const int WindowElements = 1 << 22;

    private readonly WeightEvaluator _evaluator = new();
    private readonly Dictionary<Space, double[]> _importance = [];
    private Dictionary<Space, List<Maker>>? _makers;

    private readonly record struct Maker(Use Use, Constant Constant, AxisExpression[] Axes, int Axis);

    /// <summary>How important each channel is, summed over spaces whose channels are chosen together.</summary>
    public double[] Importance(IReadOnlyList<Space> spaces)
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

    /// <summary>The same for each channel of each group: an index of the product of the two spaces.</summary>
    public double[] Importance(Space groups, Space inside)
    {
        List<Maker> makers = [.. Makers(inside).Where(m => GroupedChannels.Pair(source.Analysis.Solver.Resolve(m.Axes[m.Axis])) == (groups, inside))];
        var sum = new double[groups.Size * inside.Size];
        foreach (Maker maker in Deciding(makers))
            foreach ((int i, Moments moments) in _evaluator.Measure(Data(maker), maker.Axis).Index())
                sum[i] += moments.AbsoluteSum;
        return sum;
    }

    /// <summary>
    /// A point for each channel: what makes it, each tensor in units of its root mean square and of the square root of its elements for a channel, so that
    /// all count alike. More numbers than <see cref="Buckets"/> are added up into these with drawn signs, which keeps distances in the mean
    /// (count sketch, Charikar, Chen, Farach-Colton 2002) and those of equal channels at 0.
    /// </summary>
    public double[][] Features(IReadOnlyList<Space> spaces)
    {
        List<(Space Space, Maker Maker, double Unit)> makers = [.. from space in spaces
                                                                    from maker in Makers(space)
                                                                    let moments = _evaluator.Measure(Data(maker), maker.Axis)
                                                                    let squares = moments.Sum(m => m.SquareSum)
                                                                    where squares > 0
                                                                    select (space, maker, Math.Sqrt(squares / space.Size))];
        bool exact = makers.Sum(m => m.Maker.Constant.Count / m.Space.Size) <= Buckets;
        double[][] features = [.. Enumerable.Range(0, spaces[0].Size).Select(_ => new double[Buckets])];
        long first = 0;
        foreach ((Space space, Maker maker, double unit) in makers)
        {
            AxisMap channels = Channels(maker, space);
            IReadOnlyList<long> shape = maker.Constant.Shape;
            long size = shape[maker.Axis], inner = shape.Skip(maker.Axis + 1).Aggregate(1L, (a, b) => a * b), outer = maker.Constant.Count / size / inner;
            int step = (int)Math.Clamp(WindowElements / (outer * inner), 1, size);
            // Indices of one channel, behind those of others, are further numbers of it.
            var places = new int[space.Size];
            for (int start = 0; start < size; start += step)
            {
                int count = (int)Math.Min(step, size - start);
                double[] values = Numbers(Data(maker), maker.Axis, start, count);
                for (int row = 0; row < count; row++)
                    foreach (Tap tap in channels[start + row])
                    {
                        long at = first + places[tap.Source]++ * outer * inner;
                        for (long o = 0; o < outer; o++)
                            for (long i = 0; i < inner; i++, at++)
                            {
                                (int bucket, double sign) = exact ? ((int)at, 1) : Bucket(at);
                                features[tap.Source][bucket] += sign * values[(o * count + row) * inner + i] / unit;
                            }
                    }
            }

            first += places.Max() * outer * inner;
        }

        return features;
    }

    private static (int, double) Bucket(long index)
    {
        ulong hash = (ulong)(index + 1) * 0x9E3779B97F4A7C15;
        hash = (hash ^ (hash >> 32)) * 0xD6E8FEB86659FD93;
        hash ^= hash >> 32;
        return ((int)(hash % Buckets), (hash >> 60 & 1) == 0 ? 1 : -1);
    }

    private WeightExpression Data(Maker maker) => source.Graph.Model.Data(maker.Constant.Tensor);

    private double[] Numbers(WeightExpression data, int axis, int start, int count)
    {
        var maps = new AxisMap?[data.Shape.Length];
        maps[axis] = AxisMap.Pick((int)data.Shape[axis], 0, [.. Enumerable.Range(start, count)]);
        WeightExpression window = data.Map([.. maps], Fill.Zero);
        var values = new double[window.Count];
        FloatConversion.Widen(ElementEncoding.Format(window.Type), _evaluator.Evaluate(window), values);
        return values;
    }

    // Σ |γ_c| over the norms behind what makes the channel; without a norm Σ |w|.
    private List<Maker> Deciding(List<Maker> makers)
    {
        List<Maker> scales = [.. makers.Where(m => measure == ImportanceMeasure.Gamma && IsScale(m.Use))];
        return scales.Count > 0 ? scales : [.. makers.Where(m => m.Constant.Shape.Count(s => s > 1) > 1)];
    }

    private double[] Importance(Space space)
    {
        var sum = new double[space.Size];
        foreach (Maker maker in Deciding(Makers(space)))
        {
            AxisMap channels = Channels(maker, space);
            foreach ((int i, Moments moments) in _evaluator.Measure(Data(maker), maker.Axis).Index())
                foreach (Tap tap in channels[i])
                    sum[tap.Source] += moments.AbsoluteSum;
        }

        return sum;
    }

    // The channel of the space that an index of an axis belongs to; none where it belongs to another.
    private AxisMap Channels(Maker maker, Space space)
    {
        return AxisMap.Pick(space.Size, 0, Of(source.Analysis.Solver.Resolve(maker.Axes[maker.Axis])));

        int[] Of(AxisExpression part)
        {
            switch (part)
            {
                case SpaceAxis s when s.Space == space:
                    return [.. Enumerable.Range(0, space.Size)];
                case ProductAxis p:
                    int[][] factors = [.. p.Parts.Select(x => Of(source.Analysis.Solver.Resolve(x)))];
                    return factors.Aggregate((outer, inner) => [.. outer.SelectMany(_ => inner, (o, i) => Math.Max(o, i))]);
                case ConcatAxis c:
                    return [.. c.Parts.SelectMany(x => Of(source.Analysis.Solver.Resolve(x)))];
                default:
                    return [.. Enumerable.Repeat(-1, (int)part.Size)];
            }
        }
    }

    private bool IsScale(Use use)
    {
        NodeProto node = source.Graph.Nodes[use.Node];
        return OperatorRules.For(node) is BatchNormalizationRule or LayerNormalizationRule or GroupNormalizationRule or InstanceNormalizationRule && use.Input == 1;
    }

    private List<Maker> Makers(Space space) => (_makers ??= Makers()).GetValueOrDefault(space) ?? [];

    private Dictionary<Space, List<Maker>> Makers()
    {
        var makers = new Dictionary<Space, List<Maker>>();
        foreach ((Constant constant, Use use, AxisExpression[] axes) in source.Analysis.ConstantUses.Where(u => u.Constant.Type.IsScalable()))
            for (int axis = 0; axis < axes.Length; axis++)
                foreach (Space space in source.Analysis.Solver.Leaves(axes[axis]).Where(leaf => !leaf.Dual).Select(leaf => leaf.Space).Distinct())
                {
                    if (!makers.TryGetValue(space, out List<Maker>? list))
                        makers[space] = list = [];
                    list.Add(new Maker(use, constant, axes, axis));
                }

        return makers;
    }
}
