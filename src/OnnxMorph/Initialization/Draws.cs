using System.Collections.Immutable;
using OnnxMorph.Weights;

namespace OnnxMorph.Initialization;

/// <summary>Random starts of weights: the one place that turns a variance into a fill.</summary>
internal static class Draws
{
    /// <summary>Standard deviation that keeps the size of signals behind a ReLU: √(2 / fan-in) (He, Zhang, Ren, Sun 2015).</summary>
    /// <param name="fanIn">Numbers that each result is the weighted sum of.</param>
    public static double HeDeviation(double fanIn) => Math.Sqrt(2 / Math.Max(fanIn, 1));

    /// <summary>Normal draws at He's scale, from the stream <paramref name="name"/>.</summary>
    public static Fill He(double fanIn, ulong seed, string name) => new(FillKind.Normal, HeDeviation(fanIn), Seeds.For(seed, name));

    /// <summary>Draws with mean 0 and a variance.</summary>
    public static WeightExpression Of(ElementType type, ImmutableArray<long> shape, DrawDistribution distribution, double variance, ulong key) =>
        new FilledWeight(type, shape, distribution == DrawDistribution.Uniform
            ? new Fill(FillKind.Uniform, Math.Sqrt(3 * variance), key) : new Fill(FillKind.Normal, Math.Sqrt(variance), key));
}
