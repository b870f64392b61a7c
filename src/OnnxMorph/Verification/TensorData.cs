using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>A dense tensor in memory: row-major little-endian bytes, or strings.</summary>
internal sealed class TensorData
{
    public TensorData(ElementType type, long[] shape, byte[] bytes)
    {
        Type = type;
        Shape = shape;
        Bytes = bytes;
        Count = checked((int)shape.Aggregate(1L, (product, size) => checked(product * size)));
        if (bytes.Length != type.RawSize(Count))
            throw new ArgumentException($"{bytes.Length} bytes for {type}[{string.Join(',', shape)}].", nameof(bytes));
    }

    public TensorData(long[] shape, string[] strings)
    {
        Type = ElementType.String;
        Shape = shape;
        Bytes = [];
        Strings = strings;
        Count = strings.Length;
    }

    public ElementType Type { get; }

    public long[] Shape { get; }

    public int Count { get; }

    public byte[] Bytes { get; }

    public string[]? Strings { get; }

    /// <summary>Whether the elements are judged with a noise floor: the four scalable floating-point types.</summary>
    public bool IsFloat => Type.IsScalable();

    public string Signature => $"{Type}[{string.Join(',', Shape)}]";

    public static TensorData From<T>(ElementType type, long[] shape, ReadOnlySpan<T> values) where T : unmanaged =>
        new(type, shape, MemoryMarshal.AsBytes(values).ToArray());

    public Span<T> Values<T>() where T : unmanaged => MemoryMarshal.Cast<byte, T>(Bytes.AsSpan());

    public bool SameShape(TensorData other) => Type == other.Type && Shape.AsSpan().SequenceEqual(other.Shape);

    /// <summary>Same type, shape and bits.</summary>
    public bool SameBits(TensorData other) =>
        SameShape(other) && Bytes.AsSpan().SequenceEqual(other.Bytes)
        && (Strings is null || Strings.AsSpan().SequenceEqual(other.Strings));

    /// <summary>Reads floating-point elements from <paramref name="start"/> on; every one of them is exact as a double.</summary>
    public void ReadDoubles(int start, Span<double> destination)
    {
        switch (Type)
        {
            case ElementType.Float32:
                ReadOnlySpan<float> singles = Values<float>().Slice(start, destination.Length);
                for (int i = 0; i < singles.Length; i++)
                    destination[i] = singles[i];
                break;
            case ElementType.Float64:
                Values<double>().Slice(start, destination.Length).CopyTo(destination);
                break;
            case ElementType.Float16:
                ReadOnlySpan<Half> halves = Values<Half>().Slice(start, destination.Length);
                for (int i = 0; i < halves.Length; i++)
                    destination[i] = (double)halves[i];
                break;
            case ElementType.BFloat16:
                ReadOnlySpan<ushort> brains = Values<ushort>().Slice(start, destination.Length);
                for (int i = 0; i < brains.Length; i++)
                    destination[i] = BitConverter.Int32BitsToSingle(brains[i] << 16);
                break;
            default:
                throw new InvalidOperationException($"{Type} is not a floating-point type.");
        }
    }

    public double[] ToDoubles()
    {
        var values = new double[Count];
        ReadDoubles(0, values);
        return values;
    }

    /// <summary>Samples <paramref name="start"/> to start + count along axis 0.</summary>
    public TensorData Slice(long start, long count)
    {
        long[] shape = [count, .. Shape[1..]];
        if (Strings is not null)
        {
            int each = Count / (int)Shape[0];
            return new TensorData(shape, Strings[(int)(start * each)..(int)((start + count) * each)]);
        }

        int stride = Bytes.Length / (int)Shape[0];
        return new TensorData(Type, shape, Bytes.AsSpan((int)(start * stride), (int)(count * stride)).ToArray());
    }

    public OrtValue ToOrtValue()
    {
        if (Strings is not null)
        {
            OrtValue strings = OrtValue.CreateTensorWithEmptyStrings(OrtAllocator.DefaultInstance, Shape);
            for (int i = 0; i < Strings.Length; i++)
                strings.StringTensorSetElementAt(Strings[i].AsSpan(), i);
            return strings;
        }

        OrtValue value = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, (TensorElementType)(int)Type, Shape);
        if (Bytes.Length > 0)
            Bytes.CopyTo(value.GetTensorMutableRawData());
        return value;
    }

    public static TensorData FromOrtValue(OrtValue value)
    {
        OrtTensorTypeAndShapeInfo info = value.GetTensorTypeAndShape();
        if (info.IsString)
            return new TensorData(info.Shape, value.GetStringTensorAsArray());
        byte[] bytes = info.ElementCount == 0 ? [] : value.GetTensorMutableRawData().ToArray();
        return new TensorData((ElementType)(int)info.ElementDataType, info.Shape, bytes);
    }
}
