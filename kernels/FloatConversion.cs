using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace OnnxMorph.Kernels;

/// <summary>Conversion of spans between float64 and the float formats, as <see cref="IFloatFormat{T}"/> defines it, in vectors.</summary>
public static class FloatConversion
{
    /// <summary>Widens elements in raw layout to float64; exact.</summary>
    public static void Widen(ElementFormat format, ReadOnlySpan<byte> elements, Span<double> values)
    {
        switch (format)
        {
            case ElementFormat.Float16 or ElementFormat.BFloat16:
                Span<float> singles = stackalloc float[256];
                for (int i = 0; i < elements.Length / 2; i += singles.Length)
                {
                    int count = Math.Min(singles.Length, elements.Length / 2 - i);
                    WidenToSingle(format, elements.Slice(2 * i, 2 * count), singles);
                    WidenSingles(singles[..count], values.Slice(i, count));
                }

                break;
            case ElementFormat.Float32:
                WidenSingles(MemoryMarshal.Cast<byte, float>(elements), values);
                break;
            case ElementFormat.Float64:
                MemoryMarshal.Cast<byte, double>(elements).CopyTo(values);
                break;
            default:
                throw new ArgumentException($"Elements of format {format} are not numbers.", nameof(format));
        }
    }

    /// <summary>Rounds float64 to elements in raw layout: to nearest even, once; every NaN becomes the positive quiet one.</summary>
    public static void Round(ElementFormat format, ReadOnlySpan<double> values, Span<byte> elements)
    {
        switch (format)
        {
            case ElementFormat.Float16 or ElementFormat.BFloat16:
                Span<float> odd = stackalloc float[256];
                for (int i = 0; i < values.Length; i += odd.Length)
                {
                    int count = Math.Min(odd.Length, values.Length - i);
                    VectorSums.Round<float, OddRounding>(values.Slice(i, count), odd);
                    RoundOdd(format, odd[..count], elements.Slice(2 * i, 2 * count));
                }

                break;
            case ElementFormat.Float32:
                VectorSums.Round<float, NearestRounding>(values, MemoryMarshal.Cast<byte, float>(elements));
                break;
            case ElementFormat.Float64:
                VectorSums.Round<double, NearestRounding>(values, MemoryMarshal.Cast<byte, double>(elements));
                break;
            default:
                throw new ArgumentException($"Elements of format {format} are not numbers.", nameof(format));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenSingles(ReadOnlySpan<float> elements, Span<double> values)
    {
        ref float source = ref MemoryMarshal.GetReference(elements);
        ref double target = ref MemoryMarshal.GetReference(values);
        int i = 0;
        for (; i <= elements.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector.Widen(Vector.LoadUnsafe(ref source, (nuint)i), out Vector<double> low, out Vector<double> high);
            low.StoreUnsafe(ref target, (nuint)i);
            high.StoreUnsafe(ref target, (nuint)(i + Vector<double>.Count));
        }

        for (; i < elements.Length; i++)
            values[i] = elements[i];
    }

    /// <summary>Widens elements of a format of two bytes to float32; exact, and quiet NaN stay NaN.</summary>
    internal static void WidenToSingle(ElementFormat format, ReadOnlySpan<byte> elements, Span<float> values)
    {
        if (format == ElementFormat.Float16)
            TensorPrimitives.ConvertToSingle(MemoryMarshal.Cast<byte, Half>(elements), values);
        else
            WidenBFloat16(MemoryMarshal.Cast<byte, ushort>(elements), values);
    }

    /// <summary>Rounds what <see cref="OddRounding"/> has made to a format of two bytes: to nearest even.</summary>
    internal static void RoundOdd(ElementFormat format, ReadOnlySpan<float> values, Span<byte> elements)
    {
        if (format == ElementFormat.Float16)
            TensorPrimitives.ConvertToHalf(values, MemoryMarshal.Cast<byte, Half>(elements));
        else
            RoundToBFloat16(values, MemoryMarshal.Cast<byte, ushort>(elements));
    }

    /// <summary>The values with the positive quiet NaN in place of every NaN.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector<float> Canonical(Vector<float> values) =>
        Vector.ConditionalSelect(Vector.Equals(values, values), values, new Vector<float>(BitConverter.UInt32BitsToSingle(0x7FC0_0000)));

    /// <inheritdoc cref="Canonical(Vector{float})"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector256<float> Canonical(Vector256<float> values) =>
        Vector256.ConditionalSelect(Vector256.Equals(values, values), values, Vector256.Create(BitConverter.UInt32BitsToSingle(0x7FC0_0000)));

    /// <inheritdoc cref="Canonical(Vector{float})"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector512<float> Canonical(Vector512<float> values) =>
        Vector512.ConditionalSelect(Vector512.Equals(values, values), values, Vector512.Create(BitConverter.UInt32BitsToSingle(0x7FC0_0000)));

    /// <inheritdoc cref="Canonical(Vector{float})"/>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    internal static Vector<double> Canonical(Vector<double> values) =>
        Vector.ConditionalSelect(Vector.Equals(values, values), values, new Vector<double>(BitConverter.UInt64BitsToDouble(0x7FF8_0000_0000_0000)));

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenBFloat16(ReadOnlySpan<ushort> elements, Span<float> values)
    {
        ref ushort source = ref MemoryMarshal.GetReference(elements);
        ref float target = ref MemoryMarshal.GetReference(values[..elements.Length]);
        int i = 0;
        for (; i <= elements.Length - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector.Widen(Vector.LoadUnsafe(ref source, (nuint)i), out Vector<uint> low, out Vector<uint> high);
            Vector.ShiftLeft(low, 16).As<uint, float>().StoreUnsafe(ref target, (nuint)i);
            Vector.ShiftLeft(high, 16).As<uint, float>().StoreUnsafe(ref target, (nuint)(i + Vector<uint>.Count));
        }

        for (; i < elements.Length; i++)
            values[i] = BitConverter.UInt32BitsToSingle((uint)elements[i] << 16);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundToBFloat16(ReadOnlySpan<float> values, Span<ushort> elements)
    {
        ref float source = ref MemoryMarshal.GetReference(values);
        ref ushort target = ref MemoryMarshal.GetReference(elements[..values.Length]);
        int i = 0;
        for (; i <= values.Length - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector<uint> low = Bits(Vector.LoadUnsafe(ref source, (nuint)i)), high = Bits(Vector.LoadUnsafe(ref source, (nuint)(i + Vector<float>.Count)));
            Vector.Narrow(low, high).StoreUnsafe(ref target, (nuint)i);
        }

        for (; i < values.Length; i++)
            elements[i] = default(BFloat16Format).FromDouble(values[i]);

        static Vector<uint> Bits(Vector<float> value)
        {
            Vector<uint> bits = value.As<float, uint>();
            Vector<uint> even = Vector.BitwiseAnd(Vector.ShiftRightLogical(bits, 16), Vector<uint>.One);
            Vector<uint> rounded = Vector.ShiftRightLogical(bits + even + new Vector<uint>(0x7FFF), 16);
            return Vector.ConditionalSelect(Vector.Equals(value, value).As<int, uint>(), rounded, new Vector<uint>(0x7FC0));
        }
    }
}
