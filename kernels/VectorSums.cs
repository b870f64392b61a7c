using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace OnnxMorph.Kernels;

/// <summary>
/// Sums of products over spans. Multiplied and added, never fused: accelerators and older processors must give the same
/// bits. The kernels' loops are compiled at once: a run is over before the runtime would find them worth optimising.
/// </summary>
internal static class VectorSums
{
    /// <summary>products = weight · elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void Multiply(ReadOnlySpan<double> elements, double weight, Span<double> products)
    {
        ref double source = ref MemoryMarshal.GetReference(elements);
        ref double target = ref MemoryMarshal.GetReference(products[..elements.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        for (; i <= elements.Length - Vector<double>.Count; i += Vector<double>.Count)
            (factor * Vector.LoadUnsafe(ref source, (nuint)i)).StoreUnsafe(ref target, (nuint)i);
        for (; i < elements.Length; i++)
            products[i] = weight * elements[i];
    }

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

    /// <summary>sums += weight · elements.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void MultiplyAdd(ReadOnlySpan<double> elements, double weight, Span<double> sums)
    {
        ref double source = ref MemoryMarshal.GetReference(elements);
        ref double target = ref MemoryMarshal.GetReference(sums[..elements.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        for (; i <= elements.Length - Vector<double>.Count; i += Vector<double>.Count)
        {
            Vector<double> product = factor * Vector.LoadUnsafe(ref source, (nuint)i);
            (Vector.LoadUnsafe(ref target, (nuint)i) + product).StoreUnsafe(ref target, (nuint)i);
        }

        for (; i < elements.Length; i++)
            sums[i] += weight * elements[i];
    }

    /// <summary>sums += (weight · weights) · elements, or = where <paramref name="assign"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static void MultiplyAdd(
        ReadOnlySpan<double> elements, ReadOnlySpan<double> weights, double weight, Span<double> sums, bool assign)
    {
        ref double source = ref MemoryMarshal.GetReference(elements);
        ref double factors = ref MemoryMarshal.GetReference(weights[..elements.Length]);
        ref double target = ref MemoryMarshal.GetReference(sums[..elements.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        for (; i <= elements.Length - Vector<double>.Count; i += Vector<double>.Count)
        {
            Vector<double> product = factor * Vector.LoadUnsafe(ref factors, (nuint)i) * Vector.LoadUnsafe(ref source, (nuint)i);
            Vector<double> sum = assign ? product : Vector.LoadUnsafe(ref target, (nuint)i) + product;
            sum.StoreUnsafe(ref target, (nuint)i);
        }

        for (; i < elements.Length; i++)
        {
            double product = weight * weights[i] * elements[i];
            sums[i] = assign ? product : sums[i] + product;
        }
    }
}
