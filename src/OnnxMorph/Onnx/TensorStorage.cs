using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Globalization;
using OnnxMorph.Weights;

namespace OnnxMorph.Onnx;

/// <summary>
/// How ONNX stores the elements of a tensor inside its message: in raw layout, or as numbers in one of the typed fields,
/// where a number may hold one element, several of a sub-byte type, or half of a complex one.
/// </summary>
internal static class TensorStorage
{
    /// <summary>The element type of <paramref name="tensor"/>; <paramref name="name"/> is what messages call it.</summary>
    public static ElementType TypeOf(TensorProto tensor, Func<string> name)
    {
        var type = (ElementType)tensor.DataType;
        return type == ElementType.String || type.BitWidth() > 0 ? type
            : throw new UnreadableModelException(
                $"{name()} has element type {tensor.DataType}, which this version does not know; export the model with another type.");
    }

    /// <summary>Sizes of the axes of <paramref name="tensor"/>, checked for sign and overflow.</summary>
    public static ImmutableArray<long> ShapeOf(TensorProto tensor, Func<string> name)
    {
        long count = 1;
        foreach (long size in tensor.Dims)
        {
            if (size < 0)
                throw new UnreadableModelException($"{name()} has the negative dimension {size}; export the model again.");
            if (count > long.MaxValue / 128 / Math.Max(1, size))
                throw new UnreadableModelException($"{name()} has the dimensions {Text(tensor)}, more than any file can hold; export the model again.");
            count *= Math.Max(1, size);
        }

        return [.. tensor.Dims];
    }

    /// <summary>The typed field that holds elements of <paramref name="type"/> where they are not in raw layout.</summary>
    public static int TypedField(ElementType type) => type switch
    {
        ElementType.Float32 or ElementType.Complex64 => TensorProto.FloatDataFieldNumber,
        ElementType.Float64 or ElementType.Complex128 => TensorProto.DoubleDataFieldNumber,
        ElementType.Int64 => TensorProto.Int64DataFieldNumber,
        ElementType.UInt32 or ElementType.UInt64 => TensorProto.Uint64DataFieldNumber,
        ElementType.String => TensorProto.StringDataFieldNumber,
        _ => TensorProto.Int32DataFieldNumber,
    };

    /// <summary>Numbers that the typed field needs for <paramref name="count"/> elements.</summary>
    public static long TypedCount(ElementType type, long count) => type switch
    {
        ElementType.Complex64 or ElementType.Complex128 => 2 * count,
        _ when type.BitWidth() is > 0 and < 8 => type.RawSize(count),
        _ => count,
    };

    /// <summary>The fields of <paramref name="tensor"/> that hold content, each with the numbers (raw: bytes) in it.</summary>
    public static IEnumerable<(int Field, long Count)> Contents(TensorProto tensor)
    {
        if (tensor.RawData.Length > 0)
            yield return (TensorProto.RawDataFieldNumber, tensor.RawData.Length);
        if (tensor.FloatData.Count > 0)
            yield return (TensorProto.FloatDataFieldNumber, tensor.FloatData.Count);
        if (tensor.DoubleData.Count > 0)
            yield return (TensorProto.DoubleDataFieldNumber, tensor.DoubleData.Count);
        if (tensor.Int32Data.Count > 0)
            yield return (TensorProto.Int32DataFieldNumber, tensor.Int32Data.Count);
        if (tensor.Int64Data.Count > 0)
            yield return (TensorProto.Int64DataFieldNumber, tensor.Int64Data.Count);
        if (tensor.Uint64Data.Count > 0)
            yield return (TensorProto.Uint64DataFieldNumber, tensor.Uint64Data.Count);
        if (tensor.StringData.Count > 0)
            yield return (TensorProto.StringDataFieldNumber, tensor.StringData.Count);
    }

    /// <summary>Removes every element of <paramref name="tensor"/>, and what describes where they were.</summary>
    public static void Clear(TensorProto tensor)
    {
        tensor.ClearRawData();
        tensor.FloatData.Clear();
        tensor.DoubleData.Clear();
        tensor.Int32Data.Clear();
        tensor.Int64Data.Clear();
        tensor.Uint64Data.Clear();
        tensor.StringData.Clear();
        tensor.Segment = null;
        tensor.ClearPayload();
        ExternalData.Clear(tensor);
    }

    /// <summary>The elements that stand in the message of <paramref name="tensor"/>, in raw layout.</summary>
    public static ReadOnlyMemory<byte> RawBytes(TensorProto tensor, ElementType type, long byteLength)
    {
        if (tensor.RawData.Length > 0 || byteLength == 0)
            return tensor.RawData.Memory;
        var bytes = new byte[byteLength];
        switch (TypedField(type))
        {
            case TensorProto.FloatDataFieldNumber:
                for (int i = 0; i < tensor.FloatData.Count; i++)
                    BinaryPrimitives.WriteSingleLittleEndian(bytes.AsSpan(4 * i), tensor.FloatData[i]);
                break;
            case TensorProto.DoubleDataFieldNumber:
                for (int i = 0; i < tensor.DoubleData.Count; i++)
                    BinaryPrimitives.WriteDoubleLittleEndian(bytes.AsSpan(8 * i), tensor.DoubleData[i]);
                break;
            case TensorProto.Int32DataFieldNumber:
                Pack(tensor.Int32Data.Select(value => (ulong)value), type, bytes);
                break;
            case TensorProto.Int64DataFieldNumber:
                Pack(tensor.Int64Data.Select(value => (ulong)value), type, bytes);
                break;
            default:
                Pack(tensor.Uint64Data, type, bytes);
                break;
        }

        return bytes;
    }

    /// <summary>
    /// Stores the low bits of each number, as many as an element of <paramref name="type"/> takes (a whole byte for sub-byte
    /// types, whose elements share numbers as they share bytes).
    /// </summary>
    public static void Pack(IEnumerable<ulong> values, ElementType type, Span<byte> bytes)
    {
        int width = Math.Max(1, type.BitWidth() / 8);
        foreach (ulong value in values)
        {
            for (int i = 0; i < width; i++)
                bytes[i] = (byte)(value >> (8 * i));
            bytes = bytes[width..];
        }
    }

    /// <summary>The integer or Boolean elements in <paramref name="bytes"/>; sub-byte types are unpacked, low bits first.</summary>
    public static long[] Integers(ReadOnlySpan<byte> bytes, ElementType type, long count)
    {
        var values = new long[count];
        for (int i = 0; i < values.Length; i++)
        {
            values[i] = type switch
            {
                ElementType.Int64 => BinaryPrimitives.ReadInt64LittleEndian(bytes[(8 * i)..]),
                ElementType.Int32 => BinaryPrimitives.ReadInt32LittleEndian(bytes[(4 * i)..]),
                ElementType.Int16 => BinaryPrimitives.ReadInt16LittleEndian(bytes[(2 * i)..]),
                ElementType.Int8 => (sbyte)bytes[i],
                ElementType.UInt64 => checked((long)BinaryPrimitives.ReadUInt64LittleEndian(bytes[(8 * i)..])),
                ElementType.UInt32 => BinaryPrimitives.ReadUInt32LittleEndian(bytes[(4 * i)..]),
                ElementType.UInt16 => BinaryPrimitives.ReadUInt16LittleEndian(bytes[(2 * i)..]),
                ElementType.UInt8 or ElementType.Bool => bytes[i],
                ElementType.UInt4 => bytes[i / 2] >> (4 * (i % 2)) & 0xF,
                ElementType.Int4 => (sbyte)(bytes[i / 2] << (4 - 4 * (i % 2))) >> 4,
                ElementType.UInt2 => bytes[i / 4] >> (2 * (i % 4)) & 3,
                ElementType.Int2 => (sbyte)(bytes[i / 4] << (6 - 2 * (i % 4))) >> 6,
                _ => throw new ArgumentException($"{type} is not an integer type.", nameof(type)),
            };
        }

        return values;
    }

    /// <summary>The dimensions as messages show them: [2, 3].</summary>
    public static string Text(TensorProto tensor) =>
        $"[{string.Join(", ", tensor.Dims.Select(size => size.ToString(CultureInfo.InvariantCulture)))}]";
}
