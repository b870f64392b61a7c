using ILGPU;

namespace OnnxMorph.Kernels;

/// <summary>The distribution of a fill.</summary>
public enum Distribution
{
    /// <summary>One value everywhere.</summary>
    Constant,

    /// <summary>Uniform in (−scale, scale).</summary>
    Uniform,

    /// <summary>Normal with mean 0 and standard deviation scale.</summary>
    Normal,
}

/// <summary>Random numbers as pure functions of (seed, position): every device computes the same bits.</summary>
public static class RandomDraw
{
    /// <summary>
    /// A draw of the distribution with scale 1, in float64. Each takes one 32-bit word k as the probability
    /// (k + ½)/2³², so neither 0 nor 1 occurs, draws come in opposed pairs, and normals end at ±6.3.
    /// </summary>
    public static double Value(Distribution distribution, ulong seed, long position) =>
        FromWord(default(ProcessorArithmetic), distribution, Philox.Word(seed, position));

    internal static double FromWord<TArithmetic>(TArithmetic arithmetic, Distribution distribution, uint word)
        where TArithmetic : struct, IArithmetic
    {
        // 2·word + 1 − 2³² has 33 bits and the factor is a power of two: exact.
        double centred = arithmetic.Product(2L * word + 1 - (1L << 32), 1.0 / (1L << 33));
        return distribution == Distribution.Uniform ? centred * 2 : Quantile(arithmetic, centred);
    }

    /// <summary>
    /// The standard normal quantile of ½ + <paramref name="q"/>: the rational approximation PPND7 of Wichura, algorithm
    /// AS 241 (Applied Statistics 37, 1988), relative error about 1e-7. The branch for probabilities below e⁻²⁵ is
    /// left out since a 32-bit word does not reach it.
    /// </summary>
    private static double Quantile<TArithmetic>(TArithmetic arithmetic, double q)
        where TArithmetic : struct, IArithmetic
    {
        double distance = q < 0 ? -q : q;
        if (distance <= 0.425)
        {
            double r = 0.180625 - arithmetic.Product(q, q);
            double numerator = arithmetic.Product(
                arithmetic.Product(arithmetic.Product(5.9109374720e+01, r) + 1.5929113202e+02, r) + 5.0434271938e+01, r)
                + 3.3871327179e+00;
            double denominator = arithmetic.Product(
                arithmetic.Product(arithmetic.Product(6.7187563600e+01, r) + 7.8757757664e+01, r) + 1.7895169469e+01, r)
                + 1;
            return arithmetic.Product(q, numerator) / denominator;
        }
        else
        {
            double r = Math.Sqrt(-Log(arithmetic, 0.5 - distance)) - 1.6;
            double numerator = arithmetic.Product(
                arithmetic.Product(arithmetic.Product(1.7023821103e-01, r) + 1.3067284816e+00, r) + 2.7568153900e+00, r)
                + 1.4234372777e+00;
            double denominator = arithmetic.Product(arithmetic.Product(1.2021132975e-01, r) + 7.3700164250e-01, r) + 1;
            double value = numerator / denominator;
            return q < 0 ? -value : value;
        }
    }

    /// <summary>
    /// Natural logarithm of a positive normal number by basic operations: x = m·2ᵉ with m in [0.75, 1.5), and
    /// ln m = 2·artanh(s) with s = (m − 1)/(m + 1), |s| ≤ 1/5, by its series; relative error below 1e-12.
    /// </summary>
    internal static double Log<TArithmetic>(TArithmetic arithmetic, double x)
        where TArithmetic : struct, IArithmetic
    {
        ulong bits = Interop.FloatAsInt(x);
        int exponent = (int)(bits >> 52) - 1023;
        double m = Interop.IntAsFloat((bits & 0xF_FFFF_FFFF_FFFFUL) | 0x3FF0_0000_0000_0000UL);
        if (m >= 1.5)
        {
            m = arithmetic.Product(m, 0.5);
            exponent++;
        }

        double s = (m - 1) / (m + 1);
        double square = arithmetic.Product(s, s);
        double series = 1.0 / 17;
        series = arithmetic.Product(series, square) + 1.0 / 15;
        series = arithmetic.Product(series, square) + 1.0 / 13;
        series = arithmetic.Product(series, square) + 1.0 / 11;
        series = arithmetic.Product(series, square) + 1.0 / 9;
        series = arithmetic.Product(series, square) + 1.0 / 7;
        series = arithmetic.Product(series, square) + 1.0 / 5;
        series = arithmetic.Product(series, square) + 1.0 / 3;
        series = arithmetic.Product(series, square) + 1;
        return arithmetic.Product(exponent, 0.69314718055994531) + arithmetic.Product(2 * s, series);
    }
}

/// <summary>Elements that a fill gives to fresh positions, on any device.</summary>
internal interface IFresh<T>
    where T : unmanaged
{
    T At(long position);
}

internal readonly struct ConstantFresh<T>(T value) : IFresh<T>
    where T : unmanaged
{
    private readonly T _value = value;

    public T At(long position) => _value;
}

internal readonly struct RandomFresh<T, TFormat, TArithmetic>(Distribution distribution, double scale, ulong seed, TArithmetic arithmetic)
    : IFresh<T>
    where T : unmanaged
    where TFormat : struct, IFloatFormat<T>
    where TArithmetic : struct, IArithmetic
{
    private readonly Distribution _distribution = distribution;
    private readonly double _scale = scale;
    private readonly ulong _seed = seed;
    private readonly TArithmetic _arithmetic = arithmetic;

    public T At(long position) =>
        default(TFormat).FromDouble(_scale * RandomDraw.FromWord(_arithmetic, _distribution, Philox.Word(_seed, position)));
}
