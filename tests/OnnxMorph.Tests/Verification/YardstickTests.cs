using CsCheck;
using OnnxMorph.Verification;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Verification;

public sealed class YardstickTests
{
    [Fact]
    public void SlicesAreWhatBruteForceSays() =>
        Gen.Select(Gen.Int[1, 40].Array[1, 3], Gen.Int).Sample((sizes, seed) =>
        {
            int count = sizes.Aggregate(1, (a, b) => a * b);
            var random = new Random(seed);
            float[] baseline = Numbers(random, count, 1);
            float[] noisy = Numbers(random, count, 1e-3, baseline);
            float[] child = Numbers(random, count, 1e-2, baseline);
            long[] shape = [.. sizes];
            var yardstick = new Yardstick(Tensor(shape, baseline));
            yardstick.Observe(Tensor(shape, noisy));
            Measurement measured = yardstick.Measure(Tensor(shape, child), 0);

            double worst = Ratio(Enumerable.Range(0, count));
            for (int axis = 0; axis < sizes.Length; axis++)
            {
                int inner = sizes[(axis + 1)..].Aggregate(1, (a, b) => a * b);
                if (sizes[axis] == 1 || count / sizes[axis] < Yardstick.MinSlice)
                    continue;
                for (int index = 0; index < sizes[axis]; index++)
                    worst = Math.Max(worst, Ratio(Enumerable.Range(0, count).Where(i => i / inner % sizes[axis] == index)));
            }

            Assert.Equal(worst, measured.Ratio, 1e-12 * worst);
            Assert.Equal(Enumerable.Range(0, count).Max(i => Math.Abs((double)child[i] - baseline[i])), measured.MaxAbs);

            double Ratio(IEnumerable<int> slice)
            {
                double difference = slice.Max(i => Math.Abs((double)child[i] - baseline[i]));
                double noise = slice.Max(i => Math.Abs((double)noisy[i] - baseline[i]));
                double scale = slice.Max(i => Math.Abs((double)baseline[i]));
                return difference / Math.Max(noise, scale / 8388608);
            }
        }, iter: 200);

    [Fact]
    public void LargeTensorsCrossChunksRight()
    {
        // 3 × 5001 × 2 elements: rows that begin in one chunk and end in the next.
        var baseline = new float[3 * 5001 * 2];
        Array.Fill(baseline, 1f);
        float[] child = [.. baseline];
        child[2 * 5001 * 2 + 4321 * 2 + 1] = 2;
        Measurement measured = new Yardstick(Tensor([3, 5001, 2], baseline)).Measure(Tensor([3, 5001, 2], child), 0);
        Assert.Equal((1, 1, 8388608L), (measured.MaxAbs, measured.MaxRel, measured.MaxUlp));
        Assert.Equal(8388608, measured.Ratio);
    }

    [Fact]
    public void NaNAndInfinityCountAsInfiniteDifferencesUnlessBothHaveThem()
    {
        Assert.Equal(double.PositiveInfinity, Measure([1, 2], [1, float.NaN]).Ratio);
        Assert.Equal(double.PositiveInfinity, Measure([1, float.NaN], [1, 2]).Ratio);
        Assert.Equal(double.PositiveInfinity, Measure([1, float.PositiveInfinity], [1, float.NegativeInfinity]).Ratio);
        Assert.Equal(double.PositiveInfinity, Measure([1, float.PositiveInfinity], [1, 3e38f]).Ratio);
        Assert.Equal(0, Measure([1, float.NegativeInfinity], [1, float.NegativeInfinity]).Ratio);
        // Two NaN with other bits are not identical and not different.
        Measurement payload = Measure([1, float.NaN], [1, BitConverter.Int32BitsToSingle(0x7FC00001)]);
        Assert.Equal((false, 0.0), (payload.Identical, payload.Ratio));
        Assert.Equal(0, Measure([0f, 1], [-0f, 1]).MaxUlp);

        // Where the parent itself wavers between a number and NaN, a NaN still is no pass.
        var wavering = new Yardstick(Tensor([2], [1, 2]));
        wavering.Observe(Tensor([2], [1, float.NaN]));
        Assert.Equal(double.PositiveInfinity, wavering.Measure(Tensor([2], [1, float.NaN]), 0).Ratio);
    }

    [Fact]
    public void UlpsCountRepresentableNumbers()
    {
        Assert.Equal(1, Measure([1], [MathF.BitIncrement(1)]).MaxUlp);
        Assert.Equal(2, Measure([float.Epsilon], [-float.Epsilon]).MaxUlp);
        var half = new Yardstick(TensorData.From<Half>(ElementType.Float16, [1], [(Half)1]));
        Assert.Equal(2, half.Measure(TensorData.From<Half>(ElementType.Float16, [1], [Half.BitIncrement(Half.BitIncrement((Half)1))]), 0).MaxUlp);
    }

    [Fact]
    public void IntegersAreExcusedOnlyWhereTheParentWavers()
    {
        var yardstick = new Yardstick(TensorData.From<long>(ElementType.Int64, [4], [5, 6, 7, 8]));
        yardstick.Observe(TensorData.From<long>(ElementType.Int64, [4], [5, 9, 7, 8]));
        Assert.Equal(1, yardstick.UnstableCount);
        Assert.Equal(0, yardstick.Measure(TensorData.From<long>(ElementType.Int64, [4], [5, 3, 7, 8]), 0).UnexcusedCount);
        Measurement measured = yardstick.Measure(TensorData.From<long>(ElementType.Int64, [4], [5, 6, 0, 9]), 0);
        Assert.Equal((2, 7.0), (measured.UnexcusedCount, measured.MaxAbs));
    }

    [Fact]
    public void PerturbationMovesEveryNumberToANeighbour() =>
        Gen.Float.Array[1, 50].Sample(values =>
        {
            float[] moved = Perturbation.ByOneUnit(Tensor([values.Length], values), new Random(1)).Values<float>().ToArray();
            for (int i = 0; i < values.Length; i++)
            {
                float value = values[i];
                if (value == 0 || !float.IsFinite(value))
                    Assert.Equal(BitConverter.SingleToInt32Bits(value), BitConverter.SingleToInt32Bits(moved[i]));
                else
                    Assert.True(moved[i] == MathF.BitIncrement(value) || moved[i] == MathF.BitDecrement(value));
                Assert.True(float.IsFinite(moved[i]) == float.IsFinite(value));
            }
        }, iter: 500);

    private static Measurement Measure(float[] baseline, float[] child) =>
        new Yardstick(Tensor([baseline.Length], baseline)).Measure(Tensor([child.Length], child), 0);

    private static TensorData Tensor(long[] shape, float[] values) => TensorData.From<float>(ElementType.Float32, shape, values);

    private static float[] Numbers(Random random, int count, double scale, float[]? around = null) =>
        [.. Enumerable.Range(0, count).Select(i => (around?[i] ?? 0) + (float)(scale * (random.NextDouble() - 0.5)))];
}
