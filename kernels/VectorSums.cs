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
