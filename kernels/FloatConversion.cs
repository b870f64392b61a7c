using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace OnnxMorph.Kernels;

/// <summary>Conversion of spans between float64 and the float formats, as <see cref="IFloatFormat{T}"/> defines it, in vectors.</summary>
public static class FloatConversion
{
    /// <summary>Widens elements in raw layout to float64; exact.</summary>
    public static void Widen(ElementFormat format, ReadOnlySpan<byte> elements, Span<double> values)
    {
        switch (format)
        {
            case ElementFormat.Float16:
                Widen<ushort, Float16Format>(format, MemoryMarshal.Cast<byte, ushort>(elements), values);
                break;
            case ElementFormat.BFloat16:
                Widen<ushort, BFloat16Format>(format, MemoryMarshal.Cast<byte, ushort>(elements), values);
                break;
            case ElementFormat.Float32:
                Widen<float, Float32Format>(format, MemoryMarshal.Cast<byte, float>(elements), values);
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
            case ElementFormat.Float16:
                RoundToFloat16(values, MemoryMarshal.Cast<byte, ushort>(elements));
                break;
            case ElementFormat.BFloat16:
                RoundToBFloat16(values, MemoryMarshal.Cast<byte, ushort>(elements));
                break;
            case ElementFormat.Float32:
                RoundToFloat32(values, MemoryMarshal.Cast<byte, float>(elements));
                break;
            case ElementFormat.Float64:
                RoundEach<double, Float64Format>(values, MemoryMarshal.Cast<byte, double>(elements));
                break;
            default:
                throw new ArgumentException($"Elements of format {format} are not numbers.", nameof(format));
        }
    }

    /// <summary>Widens into <paramref name="buffer"/> where needed; float64 comes back as it is.</summary>
    internal static ReadOnlySpan<double> Widen<T, TFormat>(ElementFormat format, ReadOnlySpan<T> elements, Span<double> buffer)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        if (typeof(T) == typeof(double))
            return MemoryMarshal.Cast<T, double>(elements);
        Span<double> values = buffer[..elements.Length];
        if (typeof(T) == typeof(float))
            WidenSingles(MemoryMarshal.Cast<T, float>(elements), values);
        else if (typeof(TFormat) == typeof(Float16Format))
            WidenHalves(MemoryMarshal.Cast<T, Half>(elements), values);
        else
            WidenBFloat16(MemoryMarshal.Cast<T, ushort>(elements), values);
        return values;
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

    private static void WidenHalves(ReadOnlySpan<Half> elements, Span<double> values)
    {
        Span<float> singles = stackalloc float[256];
        for (int i = 0; i < elements.Length; i += singles.Length)
        {
            int count = Math.Min(singles.Length, elements.Length - i);
            TensorPrimitives.ConvertToSingle(elements.Slice(i, count), singles);
            WidenSingles(singles[..count], values.Slice(i, count));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WidenBFloat16(ReadOnlySpan<ushort> elements, Span<double> values)
    {
        ref ushort source = ref MemoryMarshal.GetReference(elements);
        ref double target = ref MemoryMarshal.GetReference(values[..elements.Length]);
        int i = 0;
        for (; i <= elements.Length - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector.Widen(Vector.LoadUnsafe(ref source, (nuint)i), out Vector<uint> low, out Vector<uint> high);
            Store(low, ref target, i);
            Store(high, ref target, i + Vector<uint>.Count);
        }

        for (; i < elements.Length; i++)
            values[i] = default(BFloat16Format).ToDouble(elements[i]);

        static void Store(Vector<uint> upperHalves, ref double target, int at)
        {
            Vector.Widen(Vector.ShiftLeft(upperHalves, 16).As<uint, float>(), out Vector<double> low, out Vector<double> high);
            low.StoreUnsafe(ref target, (nuint)at);
            high.StoreUnsafe(ref target, (nuint)(at + Vector<double>.Count));
        }
    }

    private static void RoundEach<T, TFormat>(ReadOnlySpan<double> values, Span<T> elements)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        for (int i = 0; i < values.Length; i++)
            elements[i] = default(TFormat).FromDouble(values[i]);
    }

    /// <summary>weight · elements, each computed in float64 and rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static void Scale(ReadOnlySpan<float> elements, double weight, Span<float> results)
    {
        ref float source = ref MemoryMarshal.GetReference(elements);
        ref float target = ref MemoryMarshal.GetReference(results[..elements.Length]);
        var factor = new Vector<double>(weight);
        int i = 0;
        for (; i <= elements.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector.Widen(Vector.LoadUnsafe(ref source, (nuint)i), out Vector<double> low, out Vector<double> high);
            RoundToFloat32(factor * low, factor * high).StoreUnsafe(ref target, (nuint)i);
        }

        for (; i < elements.Length; i++)
            results[i] = default(Float32Format).FromDouble(weight * elements[i]);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundToFloat32(ReadOnlySpan<double> values, Span<float> elements)
    {
        ref double source = ref MemoryMarshal.GetReference(values);
        ref float target = ref MemoryMarshal.GetReference(elements[..values.Length]);
        int i = 0;
        for (; i <= values.Length - Vector<float>.Count; i += Vector<float>.Count)
            RoundToFloat32(Vector.LoadUnsafe(ref source, (nuint)i), Vector.LoadUnsafe(ref source, (nuint)(i + Vector<double>.Count)))
                .StoreUnsafe(ref target, (nuint)i);
        RoundEach<float, Float32Format>(values[i..], elements[i..]);
    }

    private static Vector<float> RoundToFloat32(Vector<double> low, Vector<double> high)
    {
        Vector<float> rounded = Vector.Narrow(low, high);
        return Vector.ConditionalSelect(Vector.Equals(rounded, rounded), rounded, new Vector<float>(BitConverter.UInt32BitsToSingle(0x7FC0_0000)));
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundToBFloat16(ReadOnlySpan<double> values, Span<ushort> elements)
    {
        ref double source = ref MemoryMarshal.GetReference(values);
        ref ushort target = ref MemoryMarshal.GetReference(elements[..values.Length]);
        int i = 0;
        for (; i <= values.Length - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector<uint> low = BFloat16Bits(RoundToOdd(ref source, i));
            Vector<uint> high = BFloat16Bits(RoundToOdd(ref source, i + Vector<float>.Count));
            Vector.Narrow(low, high).StoreUnsafe(ref target, (nuint)i);
        }

        RoundEach<ushort, BFloat16Format>(values[i..], elements[i..]);

        static Vector<uint> BFloat16Bits(Vector<float> value)
        {
            Vector<uint> bits = value.As<float, uint>();
            Vector<uint> even = Vector.BitwiseAnd(Vector.ShiftRightLogical(bits, 16), Vector<uint>.One);
            Vector<uint> rounded = Vector.ShiftRightLogical(bits + even + new Vector<uint>(0x7FFF), 16);
            return Vector.ConditionalSelect(Vector.Equals(value, value).As<int, uint>(), rounded, new Vector<uint>(0x7FC0));
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void RoundToFloat16(ReadOnlySpan<double> values, Span<ushort> elements)
    {
        Span<float> odd = stackalloc float[256];
        ref double source = ref MemoryMarshal.GetReference(values);
        int i = 0;
        for (int length; (length = Math.Min(odd.Length, (values.Length - i) / Vector<float>.Count * Vector<float>.Count)) > 0; i += length)
        {
            var notNumbers = Vector<int>.Zero;
            for (int k = 0; k < length; k += Vector<float>.Count)
            {
                Vector<float> part = RoundToOdd(ref source, i + k);
                notNumbers |= Vector.OnesComplement(Vector.Equals(part, part));
                part.CopyTo(odd[k..]);
            }

            TensorPrimitives.ConvertToHalf(odd[..length], MemoryMarshal.Cast<ushort, Half>(elements.Slice(i, length)));
            if (notNumbers != Vector<int>.Zero)
                RoundEach<ushort, Float16Format>(values.Slice(i, length), elements.Slice(i, length));
        }

        RoundEach<ushort, Float16Format>(values[i..], elements[i..]);
    }

    /// <summary>
    /// float32 by rounding to odd: toward zero, with the last bit set where anything was lost. Rounding the result again to a format at least
    /// two bits shorter gives what rounding once would (Boldo and Melquiond, 2005).
    /// </summary>
    private static Vector<float> RoundToOdd(ref double values, int at)
    {
        Vector<double> low = Vector.LoadUnsafe(ref values, (nuint)at);
        Vector<double> high = Vector.LoadUnsafe(ref values, (nuint)(at + Vector<double>.Count));
        Vector<float> nearest = Vector.Narrow(low, high);
        Vector.Widen(nearest, out Vector<double> backLow, out Vector<double> backHigh);
        Vector<int> exact = Vector.Narrow(Vector.Equals(low, backLow), Vector.Equals(high, backHigh));
        Vector<int> away = Vector.Narrow(
            Vector.GreaterThan(Vector.Abs(backLow), Vector.Abs(low)), Vector.GreaterThan(Vector.Abs(backHigh), Vector.Abs(high)));
        Vector<int> bits = nearest.As<float, int>() + away;
        Vector<int> odd = Vector.AndNot(Vector<int>.One, exact);
        return Vector.BitwiseOr(bits, odd).As<int, float>();
    }
}
