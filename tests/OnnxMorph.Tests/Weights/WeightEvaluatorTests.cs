using System.Collections.Immutable;
using System.Runtime.InteropServices;
using CsCheck;
using OnnxMorph.Axes;
using OnnxMorph.Kernels;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Weights;

public class WeightEvaluatorTests
{
    private static readonly WeightEvaluator s_evaluator = new();

    public static TheoryData<ElementType> FixedSizeTypes =>
        [.. Enum.GetValues<ElementType>().Where(t => t.BitWidth() > 0 && t != ElementType.Float8E8M0)];

    [Fact]
    public void EveryExpressionIsWhatItsDefinitionSays() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                ElementType type = WeightGen.Scalable[random.Next(4)];
                WeightExpression expression = WeightGen.Expression(random, type, random.Next(0, 4));
                if (expression.Count > 20_000)
                    return;
                double[] expected = WeightReference.Evaluate(expression);
                double[] actual = WeightReference.Decode(type, s_evaluator.Evaluate(expression));

                // Orders of summation differ in the last bits of float64, which may move a rounding by one step at each level.
                double scale = Math.Max(1, expected.Length == 0 ? 0 : expected.Max(Math.Abs));
                double step = type switch
                {
                    ElementType.Float16 => 1.0 / 1024,
                    ElementType.BFloat16 => 1.0 / 128,
                    ElementType.Float32 => 1.0 / (1 << 23),
                    _ => 1e-13,
                };
                Assert.Equal(expected.Length, actual.Length);
                for (int i = 0; i < expected.Length; i++)
                    Assert.Equal(expected[i], actual[i], 16 * step * scale);
            }, iter: 1_000);

    [Fact]
    public void WindowsGiveTheBytesOfTheWhole() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                WeightExpression expression = WeightGen.Expression(random, WeightGen.Scalable[random.Next(4)], random.Next(0, 4));
                if (expression.Count > 5_000)
                    return;
                byte[] whole = s_evaluator.Evaluate(expression);
                Assert.Equal(whole, new WeightEvaluator { WindowBytes = random.Next(1, 200), KeptBytes = random.Next(4) * 200 }.Evaluate(expression));
            }, iter: 500);

    [Theory]
    [MemberData(nameof(FixedSizeTypes))]
    public void PicksMoveElementsOfEveryType(ElementType type) =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                StoredWeight stored = WeightGen.Bits(random, type, WeightGen.Shape(random));
                ImmutableArray<AxisMap?> maps = WeightGen.Maps(random, stored.Shape, pick: true, fresh: false);
                WeightExpression mapped = stored.Map(maps, Fill.Zero);
                byte[] expected = PickBits(stored, maps, mapped);
                Assert.Equal(expected, s_evaluator.Evaluate(mapped));
                Assert.Equal(expected, new WeightEvaluator { WindowBytes = 32 }.Evaluate(mapped));
            }, iter: 60);

    [Fact]
    public void AChainOfPicksEqualsItsSteps() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                StoredWeight stored = WeightGen.Bits(random, ElementType.Int32, WeightGen.Shape(random));
                Fill fill = Fill.Constant(random.Next(5));
                WeightExpression fused = stored;
                WeightExpression stepwise = stored;
                for (int step = 0; step < 3; step++)
                {
                    ImmutableArray<AxisMap?> maps = WeightGen.Maps(random, fused.Shape, pick: true, fresh: true);
                    fused = fused.Map(maps, fill);
                    stepwise = new StoredWeight(stored.Type, fused.Shape, s_evaluator.Evaluate(stepwise.Map(maps, fill)));
                }

                if (fused.Count < 100_000)
                    Assert.Equal(s_evaluator.Evaluate(stepwise), s_evaluator.Evaluate(fused));
            }, iter: 500);

    [Fact]
    public void AChainOfScaledMapsEqualsItsStepsUpToRounding() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                long[] shape = [random.Next(1, 6), random.Next(1, 6)];
                WeightExpression fused = WeightReference.Stored(ElementType.Float32, shape, _ => random.NextDouble() * 2 - 1);
                WeightExpression stepwise = fused;
                for (int step = 0; step < 3; step++)
                {
                    ImmutableArray<AxisMap?> maps = WeightGen.Maps(random, fused.Shape, pick: false, fresh: false);
                    fused = fused.Map(maps, Fill.Zero);
                    stepwise = new StoredWeight(fused.Type, fused.Shape, s_evaluator.Evaluate(stepwise.Map(maps, Fill.Zero)));
                }

                Assert.True(fused is StoredWeight or MappedWeight { Source: StoredWeight });
                double[] expected = WeightReference.Decode(fused.Type, s_evaluator.Evaluate(stepwise));
                double[] actual = WeightReference.Decode(fused.Type, s_evaluator.Evaluate(fused));
                for (int i = 0; i < expected.Length; i++)
                    Assert.Equal(expected[i], actual[i], 1e-4);
            }, iter: 500);

    // Fused, the rows that the first map left zero would stay zero where the second map's fresh columns cross them.
    [Fact]
    public void FreshColumnsCrossTheRowsOfAnEarlierMap()
    {
        StoredWeight stored = WeightReference.Stored(ElementType.Float32, [2, 2], i => i + 1);
        WeightExpression mapped = stored
            .Map([AxisMap.ZeroPad(2, 0, 1), null], Fill.Zero)
            .Map([null, AxisMap.Pick(2, 1, [0, 1, 2])], Fill.Constant(9));
        Assert.Equal([1, 2, 9, 3, 4, 9, 0, 0, 9], WeightReference.Decode(ElementType.Float32, s_evaluator.Evaluate(mapped)));
    }

    // The positions of a fill run over the extended shape, also along an axis that makes no use of its fresh indices.
    [Fact]
    public void UnusedFreshIndicesStillCountAsPositions()
    {
        var fill = new Fill(FillKind.Normal, 1, 3);
        StoredWeight stored = WeightReference.Stored(ElementType.Float64, [1, 2], i => i);
        WeightExpression mapped = stored.Map([AxisMap.Pick(1, 1, [1]), AxisMap.Pick(2, 3, [0, 1])], fill);
        double[] expected = [RandomDraw.Value(Distribution.Normal, 3, 5), RandomDraw.Value(Distribution.Normal, 3, 6)];
        Assert.Equal(expected, WeightReference.Decode(ElementType.Float64, s_evaluator.Evaluate(mapped)));
    }

    [Fact]
    public void FillsOfTwoMapsBothCount()
    {
        StoredWeight stored = WeightReference.Stored(ElementType.Float32, [1], _ => 5);
        WeightExpression mapped = stored
            .Map([AxisMap.Pick(1, 1, [0, 1])], Fill.Constant(1))
            .Map([AxisMap.Pick(2, 1, [0, 1, 2])], Fill.Constant(2));
        Assert.Equal([5, 1, 2], WeightReference.Decode(ElementType.Float32, s_evaluator.Evaluate(mapped)));
    }

    [Fact]
    public void FilesAreReadAtTheirOffset()
    {
        string file = Path.GetTempFileName();
        try
        {
            byte[] bytes = [.. Enumerable.Range(0, 103).Select(i => (byte)(i * 7))];
            File.WriteAllBytes(file, bytes);
            var stored = new StoredWeight(ElementType.UInt8, [10, 10], file, 3);
            Assert.Equal(bytes[3..], s_evaluator.Evaluate(stored));
            AxisMap reverse = AxisMap.Pick(10, 0, [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]);
            byte[] reversed = new WeightEvaluator { WindowBytes = 23 }.Evaluate(stored.Map([reverse, reverse], Fill.Zero));
            Assert.Equal(bytes[3..].Reverse(), reversed);

            var packed = new StoredWeight(ElementType.Int4, [7, 3], file, 5);
            byte[] inMemory = s_evaluator.Evaluate(new StoredWeight(ElementType.Int4, [7, 3], bytes.AsMemory(5, 11)).Map([AxisMap.ZeroPad(7, 1, 0), null], Fill.Zero));
            Assert.Equal(inMemory, new WeightEvaluator { WindowBytes = 8 }.Evaluate(packed.Map([AxisMap.ZeroPad(7, 1, 0), null], Fill.Zero)));

            var cut = Assert.Throws<UnreadableModelException>(() => s_evaluator.Evaluate(new StoredWeight(ElementType.UInt8, [101], file, 3)));
            Assert.Contains(file, cut.Message);
        }
        finally
        {
            File.Delete(file);
        }

        var missing = Assert.Throws<OnnxMorphException>(() => s_evaluator.Evaluate(new StoredWeight(ElementType.UInt8, [1], file, 0)));
        Assert.Equal(ExitCode.InputOutput, missing.ExitCode);
    }

    [Fact]
    public void DiracKernelsAreTheIdentityOfAGroupedConvolution()
    {
        byte[] bytes = s_evaluator.Evaluate(new DiracWeight(ElementType.Float16, [4, 2, 3]));
        ushort[] expected = new ushort[24];
        foreach ((int output, int input) in new[] { (0, 0), (1, 1), (2, 0), (3, 1) })
            expected[output * 6 + input * 3 + 1] = 0x3C00;
        Assert.Equal(expected, MemoryMarshal.Cast<byte, ushort>(bytes).ToArray());
    }

    [Fact]
    public void ConstantsAreEncodedInEveryType()
    {
        Assert.Equal([255, 255, 255, 255], s_evaluator.Evaluate(new FilledWeight(ElementType.Int8, [4], Fill.Constant(-1))));
        Assert.Equal([0x77, 0x07], s_evaluator.Evaluate(new FilledWeight(ElementType.UInt4, [3], Fill.Constant(7))));
        Assert.Equal(BitConverter.GetBytes(-3L), s_evaluator.Evaluate(new FilledWeight(ElementType.Int64, [1], Fill.Constant(-3))));
        Assert.Equal([0, 0x3E], s_evaluator.Evaluate(new FilledWeight(ElementType.Float16, [1], Fill.Constant(1.5))));
        Assert.Equal([0xC0, 0x3F], s_evaluator.Evaluate(new FilledWeight(ElementType.BFloat16, [1], Fill.Constant(1.5))));
        Assert.Equal([1, 1], s_evaluator.Evaluate(new FilledWeight(ElementType.Bool, [2], Fill.Constant(1))));
    }

    [Theory]
    [InlineData(ElementType.UInt8, 256.0)]
    [InlineData(ElementType.UInt8, -1.0)]
    [InlineData(ElementType.Int32, 0.5)]
    [InlineData(ElementType.Int64, 9.3e18)]
    [InlineData(ElementType.Int32, double.NaN)]
    [InlineData(ElementType.Float8E4M3FN, 1.0)]
    [InlineData(ElementType.Float8E8M0, 0.0)]
    [InlineData(ElementType.String, 0.0)]
    public void ConstantsThatATypeCannotHoldAreRefused(ElementType type, double value) =>
        Assert.Throws<RefusedException>(() => s_evaluator.Evaluate(new FilledWeight(type, [2], Fill.Constant(value))));

    [Fact]
    public void QuantisedWeightsAreNotScaled()
    {
        var stored = new StoredWeight(ElementType.Int8, [2], new byte[] { 1, 2 });
        var half = AxisMap.FromTaps(2, 0, [[new Tap(0, 0.5)]]);
        string message = Assert.Throws<RefusedException>(() => s_evaluator.Evaluate(stored.Map([half], Fill.Zero))).Message;
        Assert.Contains("Quantised", message);
        Assert.Throws<RefusedException>(() => s_evaluator.Evaluate(new RotatedWeight(stored, 0, 1, 1, false)));
        Assert.Throws<RefusedException>(() => s_evaluator.Evaluate(
            stored.Map([AxisMap.Pick(2, 1, [0, 2])], new Fill(FillKind.Normal, 1, 1))));
        Assert.Throws<RefusedException>(() => s_evaluator.Measure(stored, 0));
        var scales = new StoredWeight(ElementType.Float8E8M0, [2], new byte[] { 1, 2 });
        Assert.Throws<RefusedException>(() => s_evaluator.Evaluate(scales.Map([AxisMap.ZeroPad(2, 0, 1)], Fill.Zero)));
    }

    [Fact]
    public void ARotationKeepsNormsAndIsUndoneByItsTranspose()
    {
        StoredWeight stored = WeightReference.Stored(ElementType.Float64, [24, 5, 3], i => Math.Sin(i * 1.7));
        double[] values = WeightReference.Evaluate(stored);
        var turned = new RotatedWeight(stored, 0, 3, 11, transpose: true);
        double[] rotated = WeightReference.Decode(stored.Type, s_evaluator.Evaluate(turned));
        Assert.Equal(values.Sum(x => x * x), rotated.Sum(x => x * x), 1e-11);
        double[] back = WeightReference.Decode(stored.Type, s_evaluator.Evaluate(new RotatedWeight(turned, 0, 3, 11, transpose: false)));
        Assert.All(values.Zip(back), pair => Assert.Equal(pair.First, pair.Second, 1e-12));
        Assert.All(values.Zip(rotated), pair => Assert.NotEqual(pair.First, pair.Second));
    }

    [Fact]
    public void GroupsAreRotatedByThemselves()
    {
        StoredWeight stored = WeightReference.Stored(ElementType.Float64, [12, 4], i => i < 24 ? Math.Cos(i) : 0);
        double[] rotated = WeightReference.Decode(stored.Type, s_evaluator.Evaluate(new RotatedWeight(stored, 0, 2, 5, false)));
        Assert.All(rotated[24..], value => Assert.Equal(0, value));
        StoredWeight shifted = WeightReference.Stored(ElementType.Float64, [12, 4], i => i >= 24 ? Math.Cos(i - 24) : 0);
        double[] other = WeightReference.Decode(stored.Type, s_evaluator.Evaluate(new RotatedWeight(shifted, 0, 2, 5, false)));
        Assert.NotEqual(rotated[0], other[24], 1e-3);
    }

    [Fact]
    public void FillsHaveTheirMomentsAndDependOnTheirSeed()
    {
        var normal = new FilledWeight(ElementType.Float32, [100, 2_000], new Fill(FillKind.Normal, 0.02, 1));
        Moments[] rows = s_evaluator.Measure(normal, 0);
        Moments all = rows.Aggregate((a, b) => a + b);
        Assert.Equal(200_000, all.Count);
        Assert.Equal(0, all.Mean, 0.02 * 5 / Math.Sqrt(200_000));
        Assert.Equal(0.02, all.StandardDeviation, 0.0002);
        Assert.InRange(all.AbsoluteMaximum, 0.02 * 4, 0.02 * 6.3);
        Assert.NotEqual(
            s_evaluator.Evaluate(normal), s_evaluator.Evaluate(new FilledWeight(ElementType.Float32, [100, 2_000], normal.Fill with { Seed = 2 })));
    }

    [Fact]
    public void MomentsAreTakenAlongTheAxis()
    {
        StoredWeight stored = WeightReference.Stored(ElementType.Float32, [2, 3, 2], i => i - 5);
        Moments[] columns = new WeightEvaluator { WindowBytes = 12 }.Measure(stored, 1);
        Assert.Equal([new Moments(4, -5 - 4 + 1 + 2, 12, 25 + 16 + 1 + 4, 5), new Moments(4, -3 - 2 + 3 + 4, 12, 9 + 4 + 9 + 16, 4),
            new Moments(4, -1 + 0 + 5 + 6, 12, 1 + 25 + 36, 6)], columns);
    }

    [Fact]
    public void ACancelledWriteStops()
    {
        using var source = new CancellationTokenSource();
        source.Cancel();
        Assert.ThrowsAny<OperationCanceledException>(() =>
            s_evaluator.Write(new FilledWeight(ElementType.Float32, [1_000_000], Fill.Zero), Stream.Null, source.Token));
    }

    private static byte[] PickBits(StoredWeight stored, ImmutableArray<AxisMap?> maps, WeightExpression mapped)
    {
        int bits = stored.Type.BitWidth();
        var result = new byte[mapped.ByteLength];
        for (long index = 0; index < mapped.Count; index++)
        {
            long rest = index, source = 0, stride = 1;
            bool zero = false;
            for (int axis = maps.Length - 1; axis >= 0; axis--)
            {
                (rest, long at) = Math.DivRem(rest, mapped.Shape[axis]);
                ReadOnlySpan<Tap> taps = (maps[axis] ?? AxisMap.Identity((int)stored.Shape[axis]))[(int)at];
                zero |= taps.IsEmpty;
                source += taps.IsEmpty ? 0 : taps[0].Source * stride;
                stride *= stored.Shape[axis];
            }

            for (int bit = 0; bit < bits && !zero; bit++)
            {
                long from = source * bits + bit, to = index * bits + bit;
                result[to / 8] |= (byte)(((stored.Bytes.Span[(int)(from / 8)] >> (int)(from % 8)) & 1) << (int)(to % 8));
            }
        }

        return result;
    }
}
