using System.Numerics;
using System.Numerics.Tensors;
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

    private static void WidenBFloat16(ReadOnlySpan<ushort> elements, Span<double> values)
    {
        Span<uint> singles = stackalloc uint[256];
        for (int i = 0; i < elements.Length; i += singles.Length)
        {
            ReadOnlySpan<ushort> part = elements.Slice(i, Math.Min(singles.Length, elements.Length - i));
            int k = 0;
            for (; k <= part.Length - Vector<ushort>.Count; k += Vector<ushort>.Count)
            {
                Vector.Widen(new Vector<ushort>(part[k..]), out Vector<uint> low, out Vector<uint> high);
                Vector.ShiftLeft(low, 16).CopyTo(singles[k..]);
                Vector.ShiftLeft(high, 16).CopyTo(singles[(k + Vector<uint>.Count)..]);
            }

            for (; k < part.Length; k++)
                singles[k] = (uint)part[k] << 16;
            WidenSingles(MemoryMarshal.Cast<uint, float>(singles[..part.Length]), values.Slice(i, part.Length));
        }
    }

    private static void RoundEach<T, TFormat>(ReadOnlySpan<double> values, Span<T> elements)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        for (int i = 0; i < values.Length; i++)
            elements[i] = default(TFormat).FromDouble(values[i]);
    }

    private static void RoundToFloat32(ReadOnlySpan<double> values, Span<float> elements)
    {
        var quiet = new Vector<float>(BitConverter.UInt32BitsToSingle(0x7FC0_0000));
        int i = 0;
        for (; i <= values.Length - Vector<float>.Count; i += Vector<float>.Count)
        {
            Vector<float> rounded = Vector.Narrow(
                new Vector<double>(values[i..]), new Vector<double>(values[(i + Vector<double>.Count)..]));
            Vector.ConditionalSelect(Vector.Equals(rounded, rounded), rounded, quiet).CopyTo(elements[i..]);
        }

        RoundEach<float, Float32Format>(values[i..], elements[i..]);
    }

    private static void RoundToBFloat16(ReadOnlySpan<double> values, Span<ushort> elements)
    {
        int i = 0;
        for (; i <= values.Length - Vector<ushort>.Count; i += Vector<ushort>.Count)
        {
            Vector<uint> low = BFloat16Bits(RoundToOdd(values[i..]));
            Vector<uint> high = BFloat16Bits(RoundToOdd(values[(i + Vector<float>.Count)..]));
            Vector.Narrow(low, high).CopyTo(elements[i..]);
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

    private static void RoundToFloat16(ReadOnlySpan<double> values, Span<ushort> elements)
    {
        Span<float> odd = stackalloc float[Vector<float>.Count];
        int i = 0;
        for (; i <= values.Length - odd.Length; i += odd.Length)
        {
            RoundToOdd(values[i..]).CopyTo(odd);
            Span<ushort> part = elements.Slice(i, odd.Length);
            TensorPrimitives.ConvertToHalf(odd, MemoryMarshal.Cast<ushort, Half>(part));
            for (int k = 0; k < odd.Length; k++)
                if (float.IsNaN(odd[k]))
                    part[k] = 0x7E00;
        }

        RoundEach<ushort, Float16Format>(values[i..], elements[i..]);
    }

    /// <summary>
    /// float32 by rounding to odd: toward zero, with the last bit set where anything was lost. Rounding the result again to a format at least
    /// two bits shorter gives what rounding once would (Boldo and Melquiond, 2005).
    /// </summary>
    private static Vector<float> RoundToOdd(ReadOnlySpan<double> values)
    {
        var low = new Vector<double>(values);
        var high = new Vector<double>(values[Vector<double>.Count..]);
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
