using CsCheck;
using OnnxMorph.Axes;
using Xunit;

namespace OnnxMorph.Tests.Weights;

public class AxisMapTests
{
    [Fact]
    public void CompositionIsTheProductOfTheMatrices() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                AxisMap first = WeightGen.Scaled(random, random.Next(1, 8), fresh: true);
                AxisMap second = WeightGen.Scaled(random, first.Size, fresh: true);
                AxisMap both = second.After(first);
                Assert.Equal((first.SourceSize, first.FreshSize + second.FreshSize, second.Size), (both.SourceSize, both.FreshSize, both.Size));

                double[] extended = [.. Enumerable.Range(0, first.SourceSize + first.FreshSize + second.FreshSize).Select(_ => random.NextDouble())];
                int known = first.SourceSize + first.FreshSize;
                double[] stepwise = Apply(second, [.. Apply(first, extended[..known]), .. extended[known..]]);
                Assert.All(stepwise.Zip(Apply(both, extended)), pair => Assert.Equal(pair.First, pair.Second, 1e-12));
            }, iter: 2_000);

    [Fact]
    public void CompositionIsAssociative() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                AxisMap a = WeightGen.Pick(random, random.Next(1, 8), fresh: true);
                AxisMap b = WeightGen.Pick(random, a.Size, fresh: true);
                AxisMap c = WeightGen.Pick(random, b.Size, fresh: true);
                Assert.Equal(c.After(b.After(a)), c.After(b).After(a));
            }, iter: 2_000);

    [Fact]
    public void TheIdentityIsNeutral() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                AxisMap map = WeightGen.Scaled(random, random.Next(1, 8), fresh: true);
                Assert.Equal(map, map.After(AxisMap.Identity(map.SourceSize)));
                Assert.Equal(map, AxisMap.Identity(map.Size).After(map));
            }, iter: 2_000);

    [Fact]
    public void TermsOfOneSourceAreAddedUpAndCancelledOnesDropped()
    {
        AxisMap map = AxisMap.FromTaps(3, 0, [[new Tap(2, 0.5), new Tap(0, 1), new Tap(2, 0.25)], [new Tap(1, 1), new Tap(1, -1)]]);
        Assert.Equal([new Tap(0, 1), new Tap(2, 0.75)], map[0].ToArray());
        Assert.True(map[1].IsEmpty);
        Assert.Throws<ArgumentOutOfRangeException>(() => AxisMap.FromTaps(3, 1, [[new Tap(4, 1)]]));
    }

    [Fact]
    public void PaddingThenCroppingIsTheIdentity()
    {
        AxisMap pad = AxisMap.ZeroPad(5, 2, 3);
        AxisMap crop = AxisMap.Pick(10, 0, [2, 3, 4, 5, 6]);
        Assert.True(crop.After(pad).IsIdentity);
        Assert.True(pad.IsPick);
        Assert.Equal([0, 0, 1, 2, 3, 4, 5, 0, 0, 0], Apply(pad, [1, 2, 3, 4, 5]));
    }

    private static double[] Apply(AxisMap map, double[] extended)
    {
        var result = new double[map.Size];
        for (int i = 0; i < result.Length; i++)
            foreach (Tap tap in map[i])
                result[i] += tap.Weight * extended[tap.Source];
        return result;
    }
}
