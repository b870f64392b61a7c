using OnnxMorph.Axes;
using OnnxMorph.Kernels;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Rules;

/// <summary>
/// Means are smaller than what they are means of. Weights along merged channels get the mean norm of the members back, those along interpolated
/// axes the source's standard deviation. Vectors, which hold one number for each channel, stay means.
/// </summary>
/// <param name="evaluator">Evaluates the weights.</param>
internal sealed class WeightRestoration(WeightEvaluator evaluator)
{
    /// <summary>The map of an axis whose every merged index has the mean of its members' Euclidean norms, over the other axes of the source.</summary>
    /// <param name="data">The source's numbers.</param>
    /// <param name="axis">Which axis of it.</param>
    /// <param name="map">Its map; sums of several indices are means.</param>
    public AxisMap Merged(WeightExpression data, int axis, AxisMap map)
    {
        if (!IsMatrix(data) || !Enumerable.Range(0, map.Size).Any(c => map[c].Length > 1))
            return map;
        var maps = new AxisMap?[data.Shape.Length];
        maps[axis] = AxisMap.FromTaps(map.SourceSize, 0, [.. Enumerable.Range(0, map.Size).Select(c => map[c].ToArray().Where(tap => tap.Source < map.SourceSize).ToArray())]);
        double[] before = Norms(data, axis), after = Norms(data.Map([.. maps], Fill.Zero), axis);
        return AxisMap.FromTaps(map.SourceSize, map.FreshSize, [.. Enumerable.Range(0, map.Size).Select(c => map[c].Length < 2 || after[c] == 0 ? map[c].ToArray()
            : (Tap[])[.. map[c].ToArray().Select(tap => tap with { Weight = tap.Weight * map[c].ToArray().Sum(t => t.Weight * before[t.Source]) / after[c] })])]);
    }

    /// <summary>What weights are multiplied by so that interpolation along some axes leaves their standard deviation.</summary>
    /// <param name="data">The source's numbers.</param>
    /// <param name="maps">The maps of its axes.</param>
    /// <param name="interpolated">Which of them interpolate; factors of theirs do not count.</param>
    public double Interpolated(WeightExpression data, AxisMap[] maps, bool[] interpolated)
    {
        if (!IsMatrix(data) || !Enumerable.Range(0, maps.Length).Any(i => interpolated[i] && !maps[i].IsIdentity))
            return 1;
        double before = Deviation(data.Map([.. maps.Select((map, i) => interpolated[i] ? null : map)], Fill.Zero));
        double after = Deviation(data.Map([.. maps.Select((map, i) => interpolated[i] ? map.Times(1 / map[0].ToArray().Sum(tap => tap.Weight)) : map)], Fill.Zero));
        return after > 0 ? before / after : 1;
    }

    /// <summary>The root mean square of a tensor's elements.</summary>
    public double RootMeanSquare(WeightExpression data)
    {
        Moments all = Total(data);
        return Math.Sqrt(all.SquareSum / Math.Max(all.Count, 1));
    }

    private static bool IsMatrix(WeightExpression data) => data.Shape.Count(size => size > 1) > 1;

    private double[] Norms(WeightExpression data, int axis) => [.. evaluator.Measure(data, axis).Select(m => Math.Sqrt(m.SquareSum))];

    private double Deviation(WeightExpression data) => Total(data).StandardDeviation;

    private Moments Total(WeightExpression data) => evaluator.Measure(data, 0).Aggregate((a, b) => a + b);
}
