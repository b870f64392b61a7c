using System.Runtime.InteropServices;
using CsCheck;
using Xunit;

namespace OnnxMorph.Kernels.Tests;

public class FloatConversionTests
{
    [Fact]
    public void EveryFloat16WidensAsTheLibraryDoes()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
            Assert.Equal((double)BitConverter.UInt16BitsToHalf((ushort)bits), default(Float16Format).ToDouble((ushort)bits));
    }

    [Fact]
    public void EveryFinite16BitNumberRoundsToItself()
    {
        for (int bits = 0; bits <= ushort.MaxValue; bits++)
        {
            double half = default(Float16Format).ToDouble((ushort)bits);
            Assert.Equal(double.IsNaN(half) ? 0x7E00 : bits, default(Float16Format).FromDouble(half));
            double brain = default(BFloat16Format).ToDouble((ushort)bits);
            Assert.Equal(double.IsNaN(brain) ? 0x7FC0 : bits, default(BFloat16Format).FromDouble(brain));
        }
    }

    [Fact]
    public void TiesGoToEvenAndWhatIsJustBeyondThemDoesNot()
    {
        foreach ((ushort low, double step) in new (ushort, double)[]
            { (0x3C00, 1.0 / 1024), (0x3C01, 1.0 / 1024), (0x0001, 1.0 / (1 << 24)), (0x0002, 1.0 / (1 << 24)), (0x03FF, 1.0 / (1 << 24)), (0x7BFF, 32) })
        {
            double tie = default(Float16Format).ToDouble(low) + step / 2;
            Assert.Equal(low + (low & 1), default(Float16Format).FromDouble(tie));
            Assert.Equal(low, default(Float16Format).FromDouble(Math.BitDecrement(tie)));
            Assert.Equal(low + 1, default(Float16Format).FromDouble(Math.BitIncrement(tie)));
            Assert.Equal((low + 1) | 0x8000, default(Float16Format).FromDouble(-Math.BitIncrement(tie)));
        }
    }

    [Fact]
    public void Float16RoundsAsTheLibraryDoes() =>
        Gen.Double[-70000, 70000].Select(Gen.Int[-30, 0], (value, exponent) => Math.ScaleB(value, exponent)).Sample(
            value => default(Float16Format).FromDouble(value) == BitConverter.HalfToUInt16Bits((Half)value), iter: 20_000);

    // A nearest bfloat16 found among the neighbours of the truncated one.
    [Fact]
    public void BFloat16RoundsToTheNearest() =>
        Gen.Double[-4, 4].Select(Gen.Int[-130, 120], (value, exponent) => Math.ScaleB(value, exponent)).Sample(
            value =>
            {
                ushort truncated = (ushort)(BitConverter.SingleToUInt32Bits((float)value) >> 16);
                ushort rounded = default(BFloat16Format).FromDouble(value);
                double distance = Math.Abs(default(BFloat16Format).ToDouble(rounded) - value);
                foreach (int step in new[] { -1, 0, 1 })
                    if (Math.Abs(default(BFloat16Format).ToDouble((ushort)(truncated + step)) - value) < distance)
                        return false;
                return true;
            }, iter: 20_000);

    // Vectors round by way of an odd float32; the definition does not. Values near ties of both formats show a difference.
    [Fact]
    public void VectorsRoundAsTheDefinition()
    {
        Gen<double> nearTie = Gen.UInt[0, ushort.MaxValue].Select(Gen.Bool, Gen.Int[-2, 2], (bits, brain, nudge) =>
        {
            double low = brain ? default(BFloat16Format).ToDouble((ushort)bits) : default(Float16Format).ToDouble((ushort)bits);
            double high = brain ? default(BFloat16Format).ToDouble((ushort)(bits + 1)) : default(Float16Format).ToDouble((ushort)(bits + 1));
            double tie = low + (high - low) / 2;
            return BitConverter.UInt64BitsToDouble(BitConverter.DoubleToUInt64Bits(tie) + (ulong)nudge);
        });
        Gen<double> any = Gen.OneOf(
            nearTie, Gen.Double, Gen.Float.Select(f => (double)f), Gen.Int[0, 4].Select(i => new[] { double.NaN, double.PositiveInfinity, -0.0, 65520, 1e-320 }[i]));
        any.Array[0, 70].Sample(
            values =>
            {
                Check<ushort, Float16Format>(ElementFormat.Float16, values);
                Check<ushort, BFloat16Format>(ElementFormat.BFloat16, values);
                Check<float, Float32Format>(ElementFormat.Float32, values);
                Check<double, Float64Format>(ElementFormat.Float64, values);
            }, iter: 3_000);
    }

    private static void Check<T, TFormat>(ElementFormat format, double[] values)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        var rounded = new T[values.Length];
        FloatConversion.Round(format, values, MemoryMarshal.AsBytes(rounded.AsSpan()));
        T[] expected = Array.ConvertAll(values, default(TFormat).FromDouble);
        Assert.Equal(MemoryMarshal.AsBytes(expected.AsSpan()), MemoryMarshal.AsBytes(rounded.AsSpan()));
        var widened = new double[values.Length];
        FloatConversion.Widen(format, MemoryMarshal.AsBytes(rounded.AsSpan()), widened);
        Assert.Equal(Array.ConvertAll(rounded, default(TFormat).ToDouble), widened);
    }
}
