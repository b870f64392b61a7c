using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace OnnxMorph.Kernels;

/// <summary>
/// Sums of products over spans. Multiplied and added, never fused: accelerators and older processors must give the same
/// bits. The kernels' loops are compiled at once: a run is over before the runtime would find them worth optimising.
/// </summary>
internal static class VectorSums
{
    /// <summary>Lanes of <see cref="Dot"/>, whatever the width of the processor's vectors.</summary>
    private const int Lanes = 8;

    /// <summary>Σ left · right: eight sums of every eighth product each, added up in order.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Dot(ReadOnlySpan<double> left, ReadOnlySpan<double> right)
    {
        Span<double> lanes = stackalloc double[Lanes];
        lanes.Clear();
        int whole = left.Length - left.Length % Lanes;
        if (Vector<double>.Count is 2 or 4 or 8)
        {
            ref double first = ref MemoryMarshal.GetReference(left), second = ref MemoryMarshal.GetReference(right[..left.Length]), sums = ref MemoryMarshal.GetReference(lanes);
            for (int lane = 0; lane < Lanes; lane += Vector<double>.Count)
            {
                Vector<double> sum = Vector<double>.Zero;
                for (int i = lane; i < whole; i += Lanes)
                    sum += Vector.LoadUnsafe(ref first, (nuint)i) * Vector.LoadUnsafe(ref second, (nuint)i);
                sum.StoreUnsafe(ref sums, (nuint)lane);
            }
        }
        else
        {
            for (int i = 0; i < whole; i++)
                lanes[i % Lanes] += left[i] * right[i];
        }

        double total = 0;
        foreach (double lane in lanes)
            total += lane;
        for (int i = whole; i < left.Length; i++)
            total += left[i] * right[i];
        return total;
    }

    /// <summary>results = weight · elements, rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale<T, TRounding>(ReadOnlySpan<T> elements, double weight, Span<T> results)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        ref T source = ref MemoryMarshal.GetReference(elements), target = ref MemoryMarshal.GetReference(results[..elements.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        if (IsWide<T, TRounding>())
        {
            Vector512<double> wide = Vector512.Create(weight);
            for (; i <= elements.Length - Vector512<float>.Count; i += Vector512<float>.Count)
            {
                (Vector512<double> low, Vector512<double> high) = LoadWide(ref source, i);
                StoreWide(wide * low, wide * high, ref target, i);
            }

            i = Behind(i, elements.Length);
        }

        for (; i < elements.Length; i = Next(i, elements.Length))
        {
            if (i + Vector<float>.Count > elements.Length)
            {
                results[i] = Round<T, TRounding>(weight * Element(elements[i]));
                continue;
            }

            (Vector<double> low, Vector<double> high) = Load(ref source, i);
            Store<T, TRounding>(factor * low, factor * high, ref target, i);
        }
    }

    /// <summary>results = weight · elements + otherWeight · others, rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Combine<T, TRounding>(ReadOnlySpan<T> elements, double weight, ReadOnlySpan<T> others, double otherWeight, Span<T> results)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        ref T source = ref MemoryMarshal.GetReference(elements), other = ref MemoryMarshal.GetReference(others[..elements.Length]);
        ref T target = ref MemoryMarshal.GetReference(results[..elements.Length]);
        Vector<double> factor = new(weight), otherFactor = new(otherWeight);
        int i = 0;
        if (IsWide<T, TRounding>())
        {
            Vector512<double> wide = Vector512.Create(weight), otherWide = Vector512.Create(otherWeight);
            for (; i <= elements.Length - Vector512<float>.Count; i += Vector512<float>.Count)
            {
                (Vector512<double> low, Vector512<double> high) = LoadWide(ref source, i);
                (Vector512<double> otherLow, Vector512<double> otherHigh) = LoadWide(ref other, i);
                StoreWide(wide * low + otherWide * otherLow, wide * high + otherWide * otherHigh, ref target, i);
            }

            i = Behind(i, elements.Length);
        }

        for (; i < elements.Length; i = Next(i, elements.Length))
        {
            if (i + Vector<float>.Count > elements.Length)
            {
                results[i] = Round<T, TRounding>(weight * Element(elements[i]) + otherWeight * Element(others[i]));
                continue;
            }

            (Vector<double> low, Vector<double> high) = Load(ref source, i);
            (Vector<double> otherLow, Vector<double> otherHigh) = Load(ref other, i);
            Store<T, TRounding>(factor * low + otherFactor * otherLow, factor * high + otherFactor * otherHigh, ref target, i);
        }
    }

    /// <summary>results = (weight · weights) · elements, rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Scale<T, TRounding>(ReadOnlySpan<T> elements, ReadOnlySpan<double> weights, double weight, Span<T> results)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        elements = elements[..results.Length];
        ref T source = ref MemoryMarshal.GetReference(elements), target = ref MemoryMarshal.GetReference(results);
        ref double factors = ref MemoryMarshal.GetReference(weights[..results.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        if (IsWide<T, TRounding>())
        {
            Vector512<double> wide = Vector512.Create(weight);
            for (; i <= results.Length - Vector512<float>.Count; i += Vector512<float>.Count)
            {
                (Vector512<double> low, Vector512<double> high) = LoadWide(ref source, i);
                (Vector512<double> lowWeights, Vector512<double> highWeights) = LoadWide(ref factors, i);
                StoreWide(wide * lowWeights * low, wide * highWeights * high, ref target, i);
            }

            i = Behind(i, results.Length);
        }

        for (; i < results.Length; i = Next(i, results.Length))
        {
            if (i + Vector<float>.Count > results.Length)
            {
                results[i] = Round<T, TRounding>(weight * weights[i] * Element(elements[i]));
                continue;
            }

            (Vector<double> low, Vector<double> high) = Load(ref source, i);
            (Vector<double> lowWeights, Vector<double> highWeights) = Load(ref factors, i);
            Store<T, TRounding>(factor * lowWeights * low, factor * highWeights * high, ref target, i);
        }
    }

    /// <summary>results = (weight · weights) · elements + (weight · otherWeights) · others, rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Combine<T, TRounding>(
        ReadOnlySpan<T> elements, ReadOnlySpan<double> weights, ReadOnlySpan<T> others, ReadOnlySpan<double> otherWeights, double weight, Span<T> results)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        elements = elements[..results.Length];
        others = others[..results.Length];
        ref T source = ref MemoryMarshal.GetReference(elements), other = ref MemoryMarshal.GetReference(others), target = ref MemoryMarshal.GetReference(results);
        ref double factors = ref MemoryMarshal.GetReference(weights[..results.Length]), otherFactors = ref MemoryMarshal.GetReference(otherWeights[..results.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        if (IsWide<T, TRounding>())
        {
            Vector512<double> wide = Vector512.Create(weight);
            for (; i <= results.Length - Vector512<float>.Count; i += Vector512<float>.Count)
            {
                (Vector512<double> low, Vector512<double> high) = LoadWide(ref source, i);
                (Vector512<double> otherLow, Vector512<double> otherHigh) = LoadWide(ref other, i);
                (Vector512<double> lowWeights, Vector512<double> highWeights) = LoadWide(ref factors, i);
                (Vector512<double> otherLowWeights, Vector512<double> otherHighWeights) = LoadWide(ref otherFactors, i);
                StoreWide(wide * lowWeights * low + wide * otherLowWeights * otherLow, wide * highWeights * high + wide * otherHighWeights * otherHigh, ref target, i);
            }

            i = Behind(i, results.Length);
        }

        for (; i < results.Length; i = Next(i, results.Length))
        {
            if (i + Vector<float>.Count > results.Length)
            {
                results[i] = Round<T, TRounding>(weight * weights[i] * Element(elements[i]) + weight * otherWeights[i] * Element(others[i]));
                continue;
            }

            (Vector<double> low, Vector<double> high) = Load(ref source, i);
            (Vector<double> otherLow, Vector<double> otherHigh) = Load(ref other, i);
            (Vector<double> lowWeights, Vector<double> highWeights) = Load(ref factors, i);
            (Vector<double> otherLowWeights, Vector<double> otherHighWeights) = Load(ref otherFactors, i);
            Store<T, TRounding>(
                factor * lowWeights * low + factor * otherLowWeights * otherLow,
                factor * highWeights * high + factor * otherHighWeights * otherHigh, ref target, i);
        }
    }

    /// <summary>sums += weight · elements, or = where <paramref name="assign"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Add<T>(ReadOnlySpan<T> elements, double weight, Span<double> sums, bool assign)
        where T : unmanaged
    {
        ref T source = ref MemoryMarshal.GetReference(elements);
        ref double target = ref MemoryMarshal.GetReference(sums[..elements.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        for (; i <= elements.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            (Vector<double> low, Vector<double> high) = Load(ref source, i);
            (Vector<double> lowSums, Vector<double> highSums) = Load(ref target, i);
            (assign ? factor * low : lowSums + factor * low).StoreUnsafe(ref target, (nuint)i);
            (assign ? factor * high : highSums + factor * high).StoreUnsafe(ref target, (nuint)(i + Vector<double>.Count));
        }

        for (; i < elements.Length; i++)
        {
            double product = weight * Element(elements[i]);
            sums[i] = assign ? product : sums[i] + product;
        }
    }

    /// <summary>sums += (weight · weights) · elements, or = where <paramref name="assign"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Add<T>(ReadOnlySpan<T> elements, ReadOnlySpan<double> weights, double weight, Span<double> sums, bool assign)
        where T : unmanaged
    {
        ref T source = ref MemoryMarshal.GetReference(elements);
        ref double factors = ref MemoryMarshal.GetReference(weights[..elements.Length]);
        ref double target = ref MemoryMarshal.GetReference(sums[..elements.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        for (; i <= elements.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            (Vector<double> low, Vector<double> high) = Load(ref source, i);
            (Vector<double> lowWeights, Vector<double> highWeights) = Load(ref factors, i);
            (Vector<double> lowSums, Vector<double> highSums) = Load(ref target, i);
            (low, high) = (factor * lowWeights * low, factor * highWeights * high);
            (assign ? low : lowSums + low).StoreUnsafe(ref target, (nuint)i);
            (assign ? high : highSums + high).StoreUnsafe(ref target, (nuint)(i + Vector<double>.Count));
        }

        for (; i < elements.Length; i++)
        {
            double product = weight * weights[i] * Element(elements[i]);
            sums[i] = assign ? product : sums[i] + product;
        }
    }

    /// <summary>sums += the same number, or = where <paramref name="assign"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Add(double number, Span<double> sums, bool assign)
    {
        if (assign)
            sums.Fill(number);
        else
            for (int i = 0; i < sums.Length; i++)
                sums[i] += number;
    }

    /// <summary>
    /// The sum of one column, term by term, after <paramref name="before"/> where given: elements of the row from <paramref name="start"/> on and drawn
    /// ones, <paramref name="offset"/> behind those that the terms name.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static double Add<T>(
        ReadOnlySpan<T> elements, ReadOnlySpan<T> drawn, ReadOnlySpan<ColumnTerm> terms, int offset, int start, double weight, double? before)
        where T : unmanaged
    {
        double sum = before ?? 0;
        bool first = before is null;
        foreach (ref readonly ColumnTerm term in terms)
        {
            double product = weight * term.Weight * Element(term.Index >= 0 ? elements[term.Index + offset - start] : drawn[~term.Index + offset]);
            sum = first ? product : sum + product;
            first = false;
        }

        return sum;
    }

    /// <summary>Sums rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Round<T, TRounding>(ReadOnlySpan<double> sums, Span<T> results)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        ref double source = ref MemoryMarshal.GetReference(sums);
        ref T target = ref MemoryMarshal.GetReference(results[..sums.Length]);
        for (int i = 0; i < sums.Length; i = Next(i, sums.Length))
        {
            if (i + Vector<float>.Count > sums.Length)
            {
                results[i] = Round<T, TRounding>(sums[i]);
                continue;
            }

            (Vector<double> low, Vector<double> high) = Load(ref source, i);
            Store<T, TRounding>(low, high, ref target, i);
        }
    }

    /// <summary>
    /// Where the next vector starts: the last one ends with the elements and overlaps the one before it, since few columns stand together where
    /// positions of a kernel do. Fewer elements than a vector has go one by one.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Next(int i, int length) =>
        length < Vector<float>.Count ? i + 1
        : i + Vector<float>.Count >= length ? length
        : Math.Min(i + Vector<float>.Count, length - Vector<float>.Count);

    /// <summary>Where the next vector starts behind wide ones that end at <paramref name="i"/>; it may overlap the last of them, as in <see cref="Next"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static int Behind(int i, int length) => i == 0 || i == length ? i : Math.Min(i, length - Vector<float>.Count);

    /// <summary>As many elements as a vector of float32 has.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector<double> Low, Vector<double> High) Load<T>(ref T elements, int at)
        where T : unmanaged
    {
        if (typeof(T) == typeof(double))
        {
            ref double doubles = ref Unsafe.As<T, double>(ref elements);
            return (Vector.LoadUnsafe(ref doubles, (nuint)at), Vector.LoadUnsafe(ref doubles, (nuint)(at + Vector<double>.Count)));
        }

        Vector.Widen(Vector.LoadUnsafe(ref Unsafe.As<T, float>(ref elements), (nuint)at), out Vector<double> low, out Vector<double> high);
        return (low, high);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store<T, TRounding>(Vector<double> low, Vector<double> high, ref T results, int at)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        if (typeof(T) == typeof(double))
        {
            ref double doubles = ref Unsafe.As<T, double>(ref results);
            FloatConversion.Canonical(low).StoreUnsafe(ref doubles, (nuint)at);
            FloatConversion.Canonical(high).StoreUnsafe(ref doubles, (nuint)(at + Vector<double>.Count));
            return;
        }

        TRounding.Round(low, high).StoreUnsafe(ref Unsafe.As<T, float>(ref results), (nuint)at);
    }

    /// <summary>Whether sixteen float32 at a time are summed: where the processor has such vectors, which <see cref="Vector{T}"/> is never by itself.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static bool IsWide<T, TRounding>()
        where T : unmanaged => Vector512.IsHardwareAccelerated && typeof(T) == typeof(float) && typeof(TRounding) == typeof(NearestRounding);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static (Vector512<double> Low, Vector512<double> High) LoadWide<T>(ref T elements, int at)
        where T : unmanaged
    {
        if (typeof(T) != typeof(double))
            return Vector512.Widen(Vector512.LoadUnsafe(ref Unsafe.As<T, float>(ref elements), (nuint)at));
        ref double doubles = ref Unsafe.As<T, double>(ref elements);
        return (Vector512.LoadUnsafe(ref doubles, (nuint)at), Vector512.LoadUnsafe(ref doubles, (nuint)(at + Vector512<double>.Count)));
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void StoreWide<T>(Vector512<double> low, Vector512<double> high, ref T results, int at)
        where T : unmanaged => FloatConversion.Canonical(Vector512.Narrow(low, high)).StoreUnsafe(ref Unsafe.As<T, float>(ref results), (nuint)at);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static double Element<T>(T element)
        where T : unmanaged => typeof(T) == typeof(double) ? Unsafe.BitCast<T, double>(element) : Unsafe.BitCast<T, float>(element);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static T Round<T, TRounding>(double sum)
        where T : unmanaged
        where TRounding : struct, IRounding => typeof(T) == typeof(double)
            ? Unsafe.BitCast<double, T>(default(Float64Format).FromDouble(sum)) : Unsafe.BitCast<float, T>(TRounding.Round(sum));
}

/// <summary>How sums become float32.</summary>
internal interface IRounding
{
    static abstract Vector<float> Round(Vector<double> low, Vector<double> high);

    static abstract float Round(double value);
}

/// <summary>To nearest even; every NaN becomes the positive quiet one.</summary>
internal readonly struct NearestRounding : IRounding
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<float> Round(Vector<double> low, Vector<double> high) => FloatConversion.Canonical(Vector.Narrow(low, high));

    public static float Round(double value) => default(Float32Format).FromDouble(value);
}

/// <summary>
/// To odd: toward zero, with the last bit set where anything was lost. Rounding the result again to a format at least two bits shorter gives what
/// rounding once would (Boldo and Melquiond, 2005). Every NaN becomes the positive quiet one.
/// </summary>
internal readonly struct OddRounding : IRounding
{
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static Vector<float> Round(Vector<double> low, Vector<double> high)
    {
        Vector<float> nearest = Vector.Narrow(low, high);
        Vector.Widen(nearest, out Vector<double> backLow, out Vector<double> backHigh);
        Vector<int> exact = Vector.Narrow(Vector.Equals(low, backLow), Vector.Equals(high, backHigh));
        Vector<int> away = Vector.Narrow(
            Vector.GreaterThan(Vector.Abs(backLow), Vector.Abs(low)), Vector.GreaterThan(Vector.Abs(backHigh), Vector.Abs(high)));
        Vector<int> bits = nearest.As<float, int>() + away;
        Vector<int> odd = Vector.AndNot(Vector<int>.One, exact);
        return FloatConversion.Canonical(Vector.BitwiseOr(bits, odd).As<int, float>());
    }

    public static float Round(double value)
    {
        float nearest = default(Float32Format).FromDouble(value);
        if (nearest == value || double.IsNaN(value))
            return nearest;
        int away = Math.Abs((double)nearest) > Math.Abs(value) ? 1 : 0;
        return BitConverter.Int32BitsToSingle((BitConverter.SingleToInt32Bits(nearest) - away) | 1);
    }
}
