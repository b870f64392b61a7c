using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

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
    public static double Value(Distribution distribution, ulong seed, long position)
    {
        Span<double> value = stackalloc double[1];
        FromWords(distribution, [Philox.Word(seed, position)], 1, value);
        return value[0];
    }

    /// <summary>The draws that consecutive words make, times <paramref name="scale"/>.</summary>
    [SkipLocalsInit]
    internal static void FromWords(Distribution distribution, ReadOnlySpan<uint> words, double scale, Span<double> values)
    {
        if (distribution == Distribution.Uniform)
        {
            Apply<Doubled>(words, scale, values);
            return;
        }

        // Both branches of the quantile for every word would cost twice as much: one word in seven lies in a tail.
        Span<int> places = stackalloc int[TailBlock];
        Span<uint> tail = stackalloc uint[TailBlock];
        Span<double> results = stackalloc double[TailBlock];
        for (int start = 0; start < words.Length; start += TailBlock)
        {
            int length = Math.Min(TailBlock, words.Length - start);
            ReadOnlySpan<uint> block = words.Slice(start, length);
            Apply<Central>(block, scale, values.Slice(start, length));
            int count = Tails(block, places);
            for (int i = 0; i < count; i++)
                tail[i] = block[places[i]];
            Apply<Tail>(tail[..count], scale, results);
            for (int i = 0; i < count; i++)
                values[start + places[i]] = results[i];
        }
    }

    private const int TailBlock = 256;

    /// <summary>The branch of the quantile ends here, as a distance from ½.</summary>
    private const double CentralEnd = 0.425;

    /// <summary>Finds the words that are farther from the middle than <see cref="CentralEnd"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static int Tails(ReadOnlySpan<uint> words, Span<int> places)
    {
        // |word + ½ − 2³¹| ≤ 0.425·2³² in integers: the words 2³¹ + k and 2³¹ − 1 − k are equally far.
        const int Last = (int)(CentralEnd * (1L << 32) - 0.5);
        ref uint source = ref MemoryMarshal.GetReference(words);
        ref int target = ref MemoryMarshal.GetReference(places[..words.Length]);
        int count = 0, i = 0;
        if (Vector256.IsHardwareAccelerated && Avx2.IsSupported)
        {
            // The numbers of the words that are chosen, moved to the front of a vector; what stands behind them is overwritten by the next.
            ref int orders = ref MemoryMarshal.GetReference(s_compressions);
            for (; i <= words.Length - 8; i += 8)
            {
                Vector256<int> signed = (Vector256.LoadUnsafe(ref source, (nuint)i) ^ Vector256.Create(0x8000_0000)).AsInt32();
                uint chosen = Vector256.GreaterThan(signed ^ Vector256.ShiftRightArithmetic(signed, 31), Vector256.Create(Last)).ExtractMostSignificantBits();
                (Vector256.LoadUnsafe(ref orders, 8 * chosen) + Vector256.Create(i)).StoreUnsafe(ref target, (nuint)count);
                count += BitOperations.PopCount(chosen);
            }
        }

        for (; i < words.Length; i++)
        {
            int signed = (int)(words[i] ^ 0x8000_0000);
            places[count] = i;
            count += (signed ^ (signed >> 31)) > Last ? 1 : 0;
        }

        return count;
    }

    /// <summary>For each choice among eight, as bits, the numbers of the chosen ones.</summary>
    private static readonly int[] s_compressions =
        [.. Enumerable.Range(0, 256).SelectMany(bits => Enumerable.Range(0, 8).OrderBy(i => (bits >> i & 1) == 0))];

    /// <summary>A function of centred words, side by side.</summary>
    private interface IFunction
    {
        T Of<TReals, T>(TReals reals, T centred)
            where TReals : struct, IReals<T>
            where T : struct;
    }

    private readonly struct Doubled : IFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Of<TReals, T>(TReals reals, T centred)
            where TReals : struct, IReals<T>
            where T : struct => reals.Add(centred, centred);
    }

    private readonly struct Central : IFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Of<TReals, T>(TReals reals, T centred)
            where TReals : struct, IReals<T>
            where T : struct => CentralQuantile(reals, centred);
    }

    private readonly struct Tail : IFunction
    {
        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public T Of<TReals, T>(TReals reals, T centred)
            where TReals : struct, IReals<T>
            where T : struct => TailQuantile(reals, centred);
    }

    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Apply<TFunction>(ReadOnlySpan<uint> words, double scale, Span<double> values)
        where TFunction : struct, IFunction
    {
        values = values[..words.Length];
        var factor = new Vector<double>(scale);
        Span<uint> padded = stackalloc uint[Vector<uint>.Count];
        Span<double> results = stackalloc double[Vector<uint>.Count];
        int i = 0;
        if (Vector512.IsHardwareAccelerated)
        {
            Vector512<double> wideFactor = Vector512.Create(scale);
            for (; i <= words.Length - Vector512<uint>.Count; i += Vector512<uint>.Count)
            {
                (Vector512<ulong> low, Vector512<ulong> high) = Vector512.Widen(Vector512.LoadUnsafe(ref MemoryMarshal.GetReference(words), (nuint)i));
                ref double target = ref MemoryMarshal.GetReference(values);
                (default(TFunction).Of(default(WideReals), Centred(default(WideReals), WideReals.FromIntegers(low))) * wideFactor).StoreUnsafe(ref target, (nuint)i);
                (default(TFunction).Of(default(WideReals), Centred(default(WideReals), WideReals.FromIntegers(high))) * wideFactor)
                    .StoreUnsafe(ref target, (nuint)(i + Vector512<double>.Count));
            }
        }

        for (; i < words.Length; i += Vector<uint>.Count)
        {
            bool whole = words.Length - i >= Vector<uint>.Count;
            if (!whole)
                words[i..].CopyTo(padded);
            ref uint source = ref whole ? ref Unsafe.Add(ref MemoryMarshal.GetReference(words), i) : ref MemoryMarshal.GetReference(padded);
            ref double target = ref whole ? ref Unsafe.Add(ref MemoryMarshal.GetReference(values), i) : ref MemoryMarshal.GetReference(results);
            Vector.Widen(Vector.LoadUnsafe(ref source), out Vector<ulong> low, out Vector<ulong> high);
            (default(TFunction).Of(default(ProcessorReals), Centred(default(ProcessorReals), ProcessorReals.FromIntegers(low))) * factor).StoreUnsafe(ref target);
            (default(TFunction).Of(default(ProcessorReals), Centred(default(ProcessorReals), ProcessorReals.FromIntegers(high))) * factor)
                .StoreUnsafe(ref target, (nuint)Vector<double>.Count);
            if (!whole)
                results[..(words.Length - i)].CopyTo(values[i..]);
        }
    }

    /// <summary>The draw that one word makes, on an accelerator.</summary>
    internal static double FromWord(AcceleratorReals reals, Distribution distribution, uint word)
    {
        double centred = Centred<AcceleratorReals, double>(reals, word);
        return distribution == Distribution.Uniform ? centred + centred
            : reals.IfAtMost(reals.Absolute(centred), CentralEnd, CentralQuantile(reals, centred), TailQuantile(reals, centred));
    }

    /// <summary>Natural logarithm of positive normal numbers by basic operations, relative error below 1e-12.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static T Log<TReals, T>(TReals reals, T x)
        where TReals : struct, IReals<T>
        where T : struct
    {
        // x = m·2ᵉ with m in [0.75, 1.5), and ln m = 2·artanh(s) with s = (m − 1)/(m + 1), |s| ≤ 1/5, by its series.
        T m = reals.Split(x, out T exponent);
        T limit = reals.Of(1.5);
        exponent = reals.IfAtMost(limit, m, reals.Add(exponent, reals.Of(1)), exponent);
        m = reals.IfAtMost(limit, m, reals.Multiply(m, reals.Of(0.5)), m);
        T s = reals.Divide(reals.Subtract(m, reals.Of(1)), reals.Add(m, reals.Of(1)));
        T square = reals.Multiply(s, s);
        T series = reals.Of(1.0 / 17);
        series = Horner(reals, series, square, 1.0 / 15);
        series = Horner(reals, series, square, 1.0 / 13);
        series = Horner(reals, series, square, 1.0 / 11);
        series = Horner(reals, series, square, 1.0 / 9);
        series = Horner(reals, series, square, 1.0 / 7);
        series = Horner(reals, series, square, 1.0 / 5);
        series = Horner(reals, series, square, 1.0 / 3);
        series = Horner(reals, series, square, 1);
        return reals.Add(
            reals.Multiply(exponent, reals.Of(0.69314718055994531)), reals.Multiply(reals.Add(s, s), series));
    }

    /// <summary>(word + ½)/2³² − ½, which has 33 bits: exact.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T Centred<TReals, T>(TReals reals, T word)
        where TReals : struct, IReals<T>
        where T : struct =>
        reals.Multiply(reals.Add(reals.Subtract(word, reals.Of(2147483648.0)), reals.Of(0.5)), reals.Of(1.0 / (1L << 32)));

    /// <summary>
    /// The standard normal quantile of ½ + <paramref name="q"/> for |q| ≤ 0.425: the rational approximation PPND7 of Wichura,
    /// algorithm AS 241 (Applied Statistics 37, 1988), relative error about 1e-7.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T CentralQuantile<TReals, T>(TReals reals, T q)
        where TReals : struct, IReals<T>
        where T : struct
    {
        T r = reals.Subtract(reals.Of(0.180625), reals.Multiply(q, q));
        T numerator = Horner(reals, reals.Of(5.9109374720e+01), r, 1.5929113202e+02);
        numerator = Horner(reals, numerator, r, 5.0434271938e+01);
        numerator = Horner(reals, numerator, r, 3.3871327179e+00);
        T denominator = Horner(reals, reals.Of(6.7187563600e+01), r, 7.8757757664e+01);
        denominator = Horner(reals, denominator, r, 1.7895169469e+01);
        denominator = Horner(reals, denominator, r, 1);
        return reals.Divide(reals.Multiply(q, numerator), denominator);
    }

    /// <summary>
    /// The same farther out. AS 241's branch for probabilities below e⁻²⁵ is left out since a 32-bit word does not reach it.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T TailQuantile<TReals, T>(TReals reals, T q)
        where TReals : struct, IReals<T>
        where T : struct
    {
        T log = Log(reals, reals.Subtract(reals.Of(0.5), reals.Absolute(q)));
        T r = reals.Subtract(reals.SquareRoot(reals.Subtract(reals.Of(0), log)), reals.Of(1.6));
        T numerator = Horner(reals, reals.Of(1.7023821103e-01), r, 1.3067284816e+00);
        numerator = Horner(reals, numerator, r, 2.7568153900e+00);
        numerator = Horner(reals, numerator, r, 1.4234372777e+00);
        T denominator = Horner(reals, reals.Of(1.2021132975e-01), r, 7.3700164250e-01);
        denominator = Horner(reals, denominator, r, 1);
        T tail = reals.Divide(numerator, denominator);
        return reals.IfAtMost(q, reals.Of(0), reals.Subtract(reals.Of(0), tail), tail);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T Horner<TReals, T>(TReals reals, T sum, T x, double coefficient)
        where TReals : struct, IReals<T>
        where T : struct =>
        reals.Add(reals.Multiply(sum, x), reals.Of(coefficient));
}

/// <summary>Elements that a fill gives to fresh positions, on an accelerator.</summary>
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

internal readonly struct RandomFresh<T, TFormat>(Distribution distribution, double scale, ulong seed, AcceleratorReals reals)
    : IFresh<T>
    where T : unmanaged
    where TFormat : struct, IFloatFormat<T>
{
    private readonly Distribution _distribution = distribution;
    private readonly double _scale = scale;
    private readonly ulong _seed = seed;
    private readonly AcceleratorReals _reals = reals;

    public T At(long position) =>
        default(TFormat).FromDouble(_reals.Multiply(_scale, RandomDraw.FromWord(_reals, _distribution, Philox.Word(_seed, position))));
}
