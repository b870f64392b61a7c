namespace OnnxMorph.Kernels;

/// <summary>Sums over some elements, in float64 and in the order in which they were added, so that no width of vectors changes a bit.</summary>
public record struct Moments(long Count, double Sum, double AbsoluteSum, double SquareSum, double AbsoluteMaximum)
{
    /// <summary>Mean of the elements.</summary>
    public readonly double Mean => Sum / Count;

    /// <summary>Standard deviation of the elements around their mean.</summary>
    public readonly double StandardDeviation => Math.Sqrt(Math.Max(0, SquareSum / Count - Mean * Mean));

    /// <summary>The sums over some elements.</summary>
    public static Moments Of(ReadOnlySpan<double> values)
    {
        var moments = new Moments();
        moments.Add(values);
        return moments;
    }

    /// <summary>Adds elements.</summary>
    public void Add(ReadOnlySpan<double> values)
    {
        foreach (double value in values)
        {
            double absolute = Math.Abs(value);
            Sum += value;
            AbsoluteSum += absolute;
            SquareSum += value * value;
            AbsoluteMaximum = Math.Max(AbsoluteMaximum, absolute);
        }

        Count += values.Length;
    }

    /// <summary>The sums over both sets of elements.</summary>
    public static Moments operator +(Moments left, Moments right) => new(
        left.Count + right.Count, left.Sum + right.Sum, left.AbsoluteSum + right.AbsoluteSum,
        left.SquareSum + right.SquareSum, Math.Max(left.AbsoluteMaximum, right.AbsoluteMaximum));
}
