using System.Runtime.InteropServices;
using CsCheck;
using Xunit;

namespace OnnxMorph.Kernels.Tests;

public class RandomTests
{
    // Known answers published with Random123 (kat_vectors, philox4x32 10).
    [Theory]
    [InlineData(0UL, 0UL, 0UL, 0xe169c58d_6627e8d5UL, 0x9b00dbd8_bc57ac4cUL)]
    [InlineData(ulong.MaxValue, ulong.MaxValue, ulong.MaxValue, 0x41c83b0e_408f276dUL, 0x6d5451fd_a20bc7c6UL)]
    [InlineData(0x85a308d3_243f6a88UL, 0x03707344_13198a2eUL, 0x299f31d0_a4093822UL, 0x94fdcceb_d16cfe09UL, 0x24126ea1_5001e420UL)]
    public void PhiloxGivesThePublishedAnswers(ulong counterLow, ulong counterHigh, ulong key, ulong low, ulong high)
    {
        Philox.Block(counterLow, counterHigh, key, out ulong first, out ulong second);
        Assert.Equal(low, first);
        Assert.Equal(high, second);
    }

    [Fact]
    public void LogAgreesWithTheLibrary()
    {
        for (double x = Math.ScaleB(1, -34); x < 8; x *= 1.0137)
            Assert.Equal(Math.Log(x), RandomDraw.Log(default(AcceleratorReals), x), 1e-13 * Math.Max(1, Math.Abs(Math.Log(x))));
    }

    // Quantiles of the standard normal from tables.
    [Theory]
    [InlineData(0.5, 0)]
    [InlineData(0.841344746068543, 1)]
    [InlineData(0.975, 1.959963984540054)]
    [InlineData(0.999, 3.090232306167813)]
    [InlineData(0.999999, 4.753424308822899)]
    [InlineData(0.01, -2.326347874040841)]
    [InlineData(0.2, -0.841621233572914)]
    [InlineData(0.07, -1.475791028179171)]
    public void NormalsAreQuantiles(double probability, double quantile)
    {
        uint word = (uint)(probability * 4294967296.0);
        double slope = Math.Exp(quantile * quantile / 2) * Math.Sqrt(2 * Math.PI);
        Assert.Equal(quantile, RandomDraw.FromWord(default, Distribution.Normal, word), 1e-6 + slope / 4e9);
    }

    [Fact]
    public void DrawsComeInOpposedPairsAndStayInside()
    {
        foreach (uint word in new uint[] { 0, 1, 12345, 77777777, 0x7FFF_FFFF })
            foreach (Distribution distribution in new[] { Distribution.Uniform, Distribution.Normal })
                Assert.Equal(
                    RandomDraw.FromWord(default, distribution, word),
                    -RandomDraw.FromWord(default, distribution, ~word));
        Assert.InRange(RandomDraw.FromWord(default, Distribution.Uniform, uint.MaxValue), 0.99999, 0.9999999999);
        Assert.InRange(RandomDraw.FromWord(default, Distribution.Normal, uint.MaxValue), 6.2, 6.4);
    }

    [Fact]
    public void WordsSideBySideAreThoseOfTheirPositions() =>
        Gen.Select(Gen.ULong, Gen.Int[0, 2].Select(i => new[] { 0, 4 * ((1L << 32) - 5), 1L << 40 }[i]), Gen.Int[0, 40], Gen.Int[0, 200]).Sample(
            (seed, start, shift, count) =>
            {
                var words = new uint[count];
                Philox.Fill(seed, start + shift, words);
                Assert.Equal(Enumerable.Range(0, count).Select(i => Philox.Word(seed, start + shift + i)), words);
            }, iter: 2_000);

    [Theory]
    [InlineData(Distribution.Uniform)]
    [InlineData(Distribution.Normal)]
    public void VectorsDrawTheBitsOfTheAccelerator(Distribution distribution)
    {
        // Among them the last words of the quantile's inner branch and the first of its tails.
        uint[] ends = [.. Enumerable.Range(-3, 7).Select(i => (uint)(0.925 * (1L << 32) + i))];
        uint[] words = [0, 1, uint.MaxValue, 0x7FFF_FFFF, 0x8000_0000, 0x1333_3333, .. ends, .. ends.Select(w => ~w), .. Enumerable.Range(0, 10_000).Select(i => Philox.Word(3, i))];
        var values = new double[words.Length];
        RandomDraw.FromWords(distribution, words, 1, values);
        Assert.Equal(Array.ConvertAll(words, w => RandomDraw.FromWord(default, distribution, w)), values);
    }

    [Theory]
    [InlineData(Distribution.Uniform, 0.57735, 1.8)]
    [InlineData(Distribution.Normal, 1, 3)]
    public void MomentsAreThoseOfTheDistribution(Distribution distribution, double deviation, double kurtosis)
    {
        const int Count = 1_000_000;
        double sum = 0, squares = 0, fourth = 0, neighbours = 0, last = 0;
        for (int i = 0; i < Count; i++)
        {
            double value = RandomDraw.Value(distribution, 42, i);
            sum += value;
            squares += value * value;
            fourth += value * value * value * value;
            neighbours += value * last;
            last = value;
        }

        double variance = squares / Count;
        Assert.Equal(0, sum / Count, 5 * deviation / Math.Sqrt(Count));
        Assert.Equal(deviation, Math.Sqrt(variance), 0.005);
        Assert.Equal(kurtosis, fourth / Count / (variance * variance), 0.03);
        Assert.Equal(0, neighbours / Count / variance, 5 / Math.Sqrt(Count));
    }

    [Theory]
    [InlineData(ElementFormat.Float32)]
    [InlineData(ElementFormat.Float16)]
    [InlineData(ElementFormat.BFloat16)]
    [InlineData(ElementFormat.Float64)]
    public void AFillDependsOnPositionAlone(ElementFormat format)
    {
        var fill = new KernelFill(Distribution.Normal, 0.02, 7, 0);
        int size = format.Size();
        long start = (1L << 33) - 50;
        var whole = new byte[100 * size];
        fill.Write(format, start, whole);
        for (int first = 0; first < 100; first += 7)
        {
            var part = new byte[Math.Min(13, 100 - first) * size];
            fill.Write(format, start + first, part);
            Assert.Equal(whole[(first * size)..][..part.Length], part);
        }

        var other = new byte[whole.Length];
        (fill with { Seed = 8 }).Write(format, start, other);
        Assert.NotEqual(whole, other);
        var values = new double[100];
        FloatConversion.Widen(format, whole, values);
        Assert.Equal(0.02 * RandomDraw.Value(Distribution.Normal, 7, start + 31), values[31], 2e-4);
    }

    [Fact]
    public void AConstantFillRepeatsItsBits()
    {
        var words = new uint[5];
        KernelFill.Constant(0xDEADBEEF).Write(ElementFormat.Opaque32, 3, MemoryMarshal.AsBytes(words.AsSpan()));
        Assert.All(words, w => Assert.Equal(0xDEADBEEF, w));
        Assert.Throws<ArgumentException>(() => new KernelFill(Distribution.Uniform, 1, 0, 0).Write(ElementFormat.Opaque32, 0, new byte[4]));
    }
}
