using System.Runtime.InteropServices;
using CsCheck;
using Xunit;

namespace OnnxMorph.Kernels.Tests;

public class TensorMapTests
{
    private static readonly ElementFormat[] s_all = Enum.GetValues<ElementFormat>();
    private static readonly ElementFormat[] s_floats = [ElementFormat.Float16, ElementFormat.BFloat16, ElementFormat.Float32, ElementFormat.Float64];

    [Fact]
    public void PicksMoveTheBitsThatTheDefinitionNames() =>
        MapCase.Any(s_all, pick: true).Sample(
            c => Assert.Equal(c.ExpectedBytes(), c.Evaluate(KernelDevice.Simd, int.MaxValue, int.MaxValue)), iter: 2_000);

    [Fact]
    public void ScaledMapsAreTheSumsOfTheDefinition() =>
        MapCase.Any(s_floats, pick: false).Sample(
            c =>
            {
                double[] expected = c.Expected();
                var actual = new double[expected.Length];
                FloatConversion.Widen(c.Format, c.Evaluate(KernelDevice.Simd, int.MaxValue, int.MaxValue), actual);
                (double relative, double absolute) = c.Format switch
                {
                    ElementFormat.Float16 => (1.0 / 2048, 4e-8),
                    ElementFormat.BFloat16 => (1.0 / 256, 1e-40),
                    ElementFormat.Float32 => (1.0 / (1 << 24), 1e-40),
                    _ => (1e-14, 1e-300),
                };
                for (int i = 0; i < actual.Length; i++)
                    Assert.Equal(expected[i], actual[i], Math.Abs(expected[i]) * relative * 1.0001 + absolute + 1e-13);
            }, iter: 2_000);

    [Fact]
    public void WindowsGiveTheBytesOfTheWhole() =>
        MapCase.Any(s_all, pick: true).Select(Gen.Int[1, 5], Gen.Int[1, 40]).Sample(
            (c, rows, columns) => Assert.Equal(c.Evaluate(KernelDevice.Simd, int.MaxValue, int.MaxValue), c.Evaluate(KernelDevice.Simd, rows, columns)),
            iter: 500);

    [Fact]
    public void WindowsOfScaledMapsGiveTheBytesOfTheWhole() =>
        MapCase.Any(s_floats, pick: false).Select(Gen.Int[1, 5], Gen.Int[1, 40]).Sample(
            (c, rows, columns) => Assert.Equal(c.Evaluate(KernelDevice.Simd, int.MaxValue, int.MaxValue), c.Evaluate(KernelDevice.Simd, rows, columns)),
            iter: 500);

    [Fact]
    public void ALongRowIsSummedInTiles()
    {
        // 5,000 columns reversed and mixed with their neighbour: more than one tile, none of it in blocks.
        const int Size = 5_000;
        int[] starts = [.. Enumerable.Range(0, Size + 1).Select(i => 2 * i)];
        int[] sources = [.. Enumerable.Range(0, Size).SelectMany(i => new[] { Size - 1 - i, (Size - i) % Size })];
        double[] weights = [.. Enumerable.Range(0, 2 * Size).Select(i => i % 2 == 0 ? 0.25 : 0.75)];
        float[] values = [.. Enumerable.Range(0, Size).Select(i => (float)i)];
        var c = new MapCase(
            ElementFormat.Float32, [Size], [new AxisTerms(Size, 0, starts, sources, weights)], default, MemoryMarshal.AsBytes(values.AsSpan()).ToArray());
        ReadOnlySpan<float> result = MemoryMarshal.Cast<byte, float>(c.Evaluate(KernelDevice.Simd, 1, Size));
        for (int i = 0; i < Size; i++)
            Assert.Equal(0.25f * (Size - 1 - i) + 0.75f * ((Size - i) % Size), result[i]);
    }

    [Fact]
    public void ColumnsOfOneAndTwoTermsKeepZerosAndWhatIsNoNumber()
    {
        // What widening makes of a layer that reads the widened one: columns in order, every third mixed with a drawn number, and behind them copies in no order.
        const int Size = 203;
        Span<float> values = [.. Enumerable.Range(0, 2 * Size).Select(i => (i % 11) switch { 3 => -0f, 5 => float.NaN, 7 => float.NegativeInfinity, _ => i - 200.5f })];
        int[] columns = [.. Enumerable.Range(0, Size), .. Enumerable.Range(0, Size / 3).Select(i => i * 25 % (Size / 3) * 3)];
        var starts = new List<int> { 0 };
        var terms = new List<(int Source, double Weight)>();
        for (int i = 0; i < columns.Length; i++)
        {
            terms.Add((columns[i], i % 3 == 0 || i >= Size ? 0.5 + i * 1e-3 : 1));
            if (columns[i] % 3 == 0)
                terms.Add((Size + columns[i] / 3, i * 1e-3 - 0.1));
            starts.Add(terms.Count);
        }

        foreach (double row in (double[])[1, -2])
        {
            var fill = new KernelFill(Distribution.Normal, 0.5, 7, 0);
            var map = new MapCase(
                ElementFormat.Float32, [2, Size],
                [new AxisTerms(2, 0, [0, 1, 2], [0, 1], [row, row]), new AxisTerms(Size, Size / 3 + 1, [.. starts], [.. terms.Select(t => t.Source)], [.. terms.Select(t => t.Weight)])],
                fill, MemoryMarshal.AsBytes(values).ToArray());
            Span<float> drawn = new float[2 * (Size + Size / 3 + 1)];
            fill.Write(ElementFormat.Float32, 0, MemoryMarshal.AsBytes(drawn));
            foreach (int width in (int[])[int.MaxValue, 77, 5])
            {
                ReadOnlySpan<uint> result = MemoryMarshal.Cast<byte, uint>(map.Evaluate(KernelDevice.Simd, int.MaxValue, width));
                for (int i = 0; i < result.Length; i++)
                {
                    (int r, int c) = Math.DivRem(i, columns.Length);
                    double? sum = null;
                    foreach ((int source, double weight) in terms[starts[c]..starts[c + 1]])
                    {
                        double product = row * weight * (source < Size ? values[r * Size + source] : drawn[r * (Size + Size / 3 + 1) + source]);
                        sum = sum is null ? product : sum + product;
                    }

                    Assert.Equal(double.IsNaN(sum!.Value) ? 0x7FC00000 : BitConverter.SingleToUInt32Bits((float)sum), result[i]);
                }
            }
        }
    }

    [Fact]
    public void PicksKeepEveryBitOfNaN()
    {
        uint[] bits = [0x7F800001, 0xFFC12345, 0x7FC00000, 0xFF800000];
        var swap = new AxisTerms(4, 0, [0, 1, 2, 3, 4], [3, 2, 1, 0], [1, 1, 1, 1]);
        var c = new MapCase(ElementFormat.Float32, [4], [swap], default, MemoryMarshal.AsBytes(bits.AsSpan()).ToArray());
        Assert.Equal(bits.Reverse(), MemoryMarshal.Cast<byte, uint>(c.Evaluate(KernelDevice.Simd, 1, 4)).ToArray());
    }

    [Fact]
    public void ScaledSpecialValuesAreTheCanonicalOnes()
    {
        uint[] bits = [0xFFC12345, 0x80000000, 0xFF800000];
        var halve = new AxisTerms(3, 0, [0, 1, 2, 3], [0, 1, 2], [0.5, 0.5, 0.5]);
        var c = new MapCase(ElementFormat.Float32, [3], [halve], default, MemoryMarshal.AsBytes(bits.AsSpan()).ToArray());
        Assert.Equal([0x7FC00000, 0x80000000, 0xFF800000], MemoryMarshal.Cast<byte, uint>(c.Evaluate(KernelDevice.Simd, 1, 3)).ToArray());
    }

    [Fact]
    public void WhatCannotBeScaledIsRefused()
    {
        var halve = new AxisTerms(1, 0, [0, 1], [0], [0.5]);
        Assert.Throws<ArgumentException>(() => new TensorMap(ElementFormat.Opaque32, [1], [halve], default));
        Assert.Throws<ArgumentException>(() => new TensorMap(ElementFormat.Float32, [2], [halve], default));
    }
}
