using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>Converts samples to a model's element type: where every value survives, and from float64 to float32 by rounding.</summary>
internal static class TensorConversion
{
    /// <summary><paramref name="source"/> as <paramref name="type"/>, or null where a value would change.</summary>
    public static TensorData? TryConvert(TensorData source, ElementType type)
    {
        if (source.Type == type)
            return source;
        return type switch
        {
            ElementType.Float32 => To(source, type, v => (float)v, v => (float)v, v => v, v => (Int128)v),
            ElementType.Float64 => To(source, type, v => v, v => (double)v, v => v, v => (Int128)v),
            ElementType.Float16 => To(source, type, v => (Half)v, v => (Half)v, v => (double)v, v => (Int128)v),
            ElementType.BFloat16 => To(source, type, v => (ushort)(BitConverter.SingleToInt32Bits((float)v) >>> 16),
                v => (ushort)(BitConverter.SingleToInt32Bits(v) >>> 16), Brain, v => (Int128)Brain(v)),
            ElementType.Int8 => To(source, type, v => (sbyte)v, v => (sbyte)v, v => v, v => v),
            ElementType.UInt8 => To(source, type, v => (byte)v, v => (byte)v, v => v, v => v),
            ElementType.Int16 => To(source, type, v => (short)v, v => (short)v, v => v, v => v),
            ElementType.UInt16 => To(source, type, v => (ushort)v, v => (ushort)v, v => v, v => v),
            ElementType.Int32 => To(source, type, v => (int)v, v => (int)v, v => v, v => v),
            ElementType.UInt32 => To(source, type, v => (uint)v, v => (uint)v, v => v, v => v),
            ElementType.Int64 => To(source, type, v => (long)v, v => v, v => v, v => v),
            ElementType.UInt64 => To(source, type, v => (ulong)v, v => (ulong)v, v => v, v => v),
            _ => null,
        };
    }

    private static double Brain(ushort bits) => BitConverter.Int32BitsToSingle(bits << 16);

    private static TensorData? To<T>(TensorData source, ElementType type, Func<double, T> fromDouble, Func<long, T> fromLong,
        Func<T, double> toDouble, Func<T, Int128> toInteger) where T : unmanaged
    {
        var values = new T[source.Count];
        if (source.IsFloat)
        {
            bool mayRound = source.Type == ElementType.Float64 && type == ElementType.Float32;
            double[] doubles = source.ToDoubles();
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = fromDouble(doubles[i]);
                if (!mayRound && !toDouble(values[i]).Equals(doubles[i]))
                    return null;
            }
        }
        else if (Integers(source) is { } integers)
        {
            for (int i = 0; i < values.Length; i++)
            {
                values[i] = fromLong(integers[i]);
                if (toInteger(values[i]) != integers[i])
                    return null;
            }
        }
        else
        {
            return null;
        }

        return TensorData.From<T>(type, source.Shape, values);
    }

    /// <summary>The values of an integer or bool tensor, or null for other types and for unsigned values beyond int64.</summary>
    private static long[]? Integers(TensorData source) => source.Type switch
    {
        ElementType.Bool or ElementType.UInt8 => Widen<byte>(source, v => v),
        ElementType.Int8 => Widen<sbyte>(source, v => v),
        ElementType.Int16 => Widen<short>(source, v => v),
        ElementType.UInt16 => Widen<ushort>(source, v => v),
        ElementType.Int32 => Widen<int>(source, v => v),
        ElementType.UInt32 => Widen<uint>(source, v => v),
        ElementType.Int64 => Widen<long>(source, v => v),
        ElementType.UInt64 when !source.Values<ulong>().ContainsAnyInRange((ulong)long.MaxValue + 1, ulong.MaxValue) => Widen<ulong>(source, v => (long)v),
        _ => null,
    };

    private static long[] Widen<T>(TensorData source, Func<T, long> widen) where T : unmanaged
    {
        ReadOnlySpan<T> values = source.Values<T>();
        var result = new long[values.Length];
        for (int i = 0; i < result.Length; i++)
            result[i] = widen(values[i]);
        return result;
    }
}
