using ILGPU;

namespace OnnxMorph.Kernels;

/// <summary>
/// One floating-point format as the kernels compute with it: widened exactly to float64, rounded once to nearest even.
/// Structures rather than static methods, so that a kernel generic over the format compiles for every device.
/// </summary>
/// <typeparam name="T">What holds the bits.</typeparam>
internal interface IFloatFormat<T>
    where T : unmanaged
{
    double ToDouble(T value);

    /// <summary>Rounds to nearest even; every NaN becomes the positive quiet NaN, whose bits devices would not agree on.</summary>
    T FromDouble(double value);
}

internal readonly struct Float64Format : IFloatFormat<double>
{
    public double ToDouble(double value) => value;

    public double FromDouble(double value) => double.IsNaN(value) ? Interop.IntAsFloat(0x7FF8_0000_0000_0000UL) : value;
}

internal readonly struct Float32Format : IFloatFormat<float>
{
    public double ToDouble(float value) => value;

    public float FromDouble(double value) => double.IsNaN(value) ? Interop.IntAsFloat(0x7FC0_0000U) : (float)value;
}

internal readonly struct Float16Format : IFloatFormat<ushort>
{
    public double ToDouble(ushort value)
    {
        ulong sign = (ulong)(value & 0x8000) << 48;
        int exponent = (value >> 10) & 0x1F;
        ulong fraction = (ulong)(value & 0x3FF);
        if (exponent == 0)
        {
            const double Subnormal = 1.0 / (1 << 24);
            return Interop.IntAsFloat(sign | Interop.FloatAsInt(fraction * Subnormal));
        }

        int widened = exponent == 0x1F ? 0x7FF : exponent - 15 + 1023;
        return Interop.IntAsFloat(sign | ((ulong)widened << 52) | (fraction << 42));
    }

    public ushort FromDouble(double value) => SmallFloat.Round(value, fractionBits: 10, bias: 15);
}

internal readonly struct BFloat16Format : IFloatFormat<ushort>
{
    public double ToDouble(ushort value) => Interop.IntAsFloat((uint)value << 16);

    public ushort FromDouble(double value) => SmallFloat.Round(value, fractionBits: 7, bias: 127);
}

/// <summary>Rounding to the 16-bit formats by integer operations, the same on every device.</summary>
internal static class SmallFloat
{
    /// <summary>Rounds to the nearest 16-bit number, ties to even, without an intermediate format that would round twice.</summary>
    public static ushort Round(double value, int fractionBits, int bias)
    {
        ulong bits = Interop.FloatAsInt(value);
        uint sign = (uint)(bits >> 48) & 0x8000;
        ulong magnitude = bits & 0x7FFF_FFFF_FFFF_FFFFUL;
        uint infinity = (uint)(2 * bias + 1) << fractionBits;
        if (magnitude > 0x7FF0_0000_0000_0000UL)
            return (ushort)(infinity | (1U << (fractionBits - 1)));

        int exponent = (int)(magnitude >> 52) - 1023 + bias;
        ulong significand = (magnitude & 0xF_FFFF_FFFF_FFFFUL) | (1UL << 52);
        int shift = 52 - fractionBits;
        if (exponent <= 0)
            shift += 1 - exponent;
        if (shift > 54)
            return (ushort)sign;

        ulong rounded = significand >> shift;
        ulong rest = significand & ((1UL << shift) - 1);
        ulong half = 1UL << (shift - 1);
        if (rest > half || (rest == half && (rounded & 1) != 0))
            rounded++;

        // The leading one of a normal significand adds one to the exponent, and so does a carry out of the fraction.
        ulong result = exponent > 0 ? ((ulong)(exponent - 1) << fractionBits) + rounded : rounded;
        return (ushort)(sign | (result < infinity ? (uint)result : infinity));
    }
}
