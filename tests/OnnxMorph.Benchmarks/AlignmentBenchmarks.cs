using BenchmarkDotNet.Attributes;
using OnnxMorph.Alignment;

namespace OnnxMorph.Benchmarks;

/// <summary>EfficientNet-B2 aligned with B0 and the two compared, from their outlines; beside it the recurrence written down as it is published.</summary>
[ShortRunJob]
public class AlignmentBenchmarks
{
    private readonly NetworkOutline _b2 = SyntheticNetworks.EfficientNet(1.1, 1.2), _b0 = SyntheticNetworks.EfficientNet(1, 1);

    /// <summary>The product's.</summary>
    [Benchmark]
    public double AlignedAndCompared() => NetworkAlignment.Of(_b2, _b0).Score + NetworkSimilarity.Of(_b2, _b0).Symmetric;

    /// <summary>Five alignments of two levels, each pair of layers and of blocks scored whenever it is met.</summary>
    [Benchmark(Baseline = true)]
    public double Naive()
    {
        double forward = Networks(_b2, _b0), backward = Networks(_b0, _b2);
        return Networks(_b2, _b0) + Math.Sqrt(forward * backward / (Networks(_b2, _b2) * Networks(_b0, _b0)));
    }

    private static double Networks(NetworkOutline source, NetworkOutline target) => Recurrence(target.Items.Length, source.Items.Length,
        (i, j) => Inside(source.Items[j], target.Items[i]), (i, j) => target.Items[i].IsBlock && Inside(source.Items[j], target.Items[i]) > 0);

    private static double Inside(NetworkItem source, NetworkItem target) => source.IsBlock != target.IsBlock ? 0
        : Recurrence(target.Layers.Length, source.Layers.Length, (i, j) => target.Layers[i].Score(source.Layers[j]), (_, _) => false);

    private static double Recurrence(int targets, int sources, Func<int, int, double> score, Func<int, int, bool> repeats)
    {
        var best = new double[targets + 1, sources + 1];
        for (int j = 1; j <= sources; j++)
        {
            for (int i = 1; i <= targets; i++)
            {
                double most = Math.Max(best[i - 1, j], best[i, j - 1]), sum = 0;
                for (int k = i; k >= 1 && (k == i || (repeats(k - 1, j - 1) && repeats(i - 1, j - 1))); k--)
                {
                    sum += score(k - 1, j - 1);
                    most = Math.Max(most, best[k - 1, j - 1] + sum / Math.Sqrt(i - k + 1));
                }

                best[i, j] = most;
            }
        }

        return best[targets, sources];
    }
}
