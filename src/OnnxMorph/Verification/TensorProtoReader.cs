using System.Buffers.Binary;
using System.Text;
using Google.Protobuf;
using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>
/// Reads one serialised <c>TensorProto</c> (the .pb files of ONNX's test_data_set folders): raw data and the typed
/// fields. Field numbers from onnx.proto.
/// </summary>
internal static class TensorProtoReader
{
    private const int Dims = 1, DataType = 2, FloatData = 4, Int32Data = 5, StringData = 6, Int64Data = 7, Name = 8, RawData = 9,
        DoubleData = 10, UInt64Data = 11, ExternalData = 13, DataLocation = 14;

    /// <summary>The tensor and the name it carries, empty where it has none.</summary>
    public static (string Name, TensorData Data) Read(string path)
    {
        try
        {
            using FileStream file = File.OpenRead(path);
            using var input = CodedInputStream.CreateWithLimits(file, int.MaxValue, 100);
            return Parse(input, Path.GetFileName(path));
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new OnnxMorphException(ExitCode.Usage, $"'{Path.GetFileName(path)}' is no serialised TensorProto ({e.Message}).", e);
        }
    }

    private static (string Name, TensorData Data) Parse(CodedInputStream input, string file)
    {
        var dims = new List<long>();
        ElementType type = ElementType.Undefined;
        string name = "";
        byte[]? raw = null;
        var strings = new List<string>();
        using var typed = new MemoryStream();
        Span<byte> scalar = stackalloc byte[8];
        while (input.ReadTag() is var tag and not 0)
        {
            int field = WireFormat.GetTagFieldNumber(tag);
            bool packed = WireFormat.GetTagWireType(tag) == WireFormat.WireType.LengthDelimited;
            switch (field)
            {
                case Dims:
                    ForEach(input, packed, i => dims.Add(i.ReadInt64()));
                    break;
                case DataType:
                    type = (ElementType)input.ReadInt32();
                    break;
                case Name:
                    name = input.ReadString();
                    break;
                case RawData:
                    raw = input.ReadBytes().ToByteArray();
                    break;
                case StringData:
                    strings.Add(Encoding.UTF8.GetString(input.ReadBytes().Span));
                    break;
                case FloatData:
                    ForEach(input, packed, i => Append(typed, 4, BitConverter.SingleToUInt32Bits(i.ReadFloat())));
                    break;
                case DoubleData:
                    ForEach(input, packed, i => Append(typed, 8, BitConverter.DoubleToUInt64Bits(i.ReadDouble())));
                    break;
                case Int64Data:
                    ForEach(input, packed, i => Append(typed, 8, (ulong)i.ReadInt64()));
                    break;
                case UInt64Data:
                    ForEach(input, packed, i => Append(typed, type.BitWidth() / 8, i.ReadUInt64()));
                    break;
                case Int32Data:
                    // Holds every narrower type too, one number each; float16 and bfloat16 as their bits.
                    ForEach(input, packed, i => Append(typed, type.BitWidth() / 8, (ulong)i.ReadInt32()));
                    break;
                case ExternalData:
                case DataLocation when input.ReadInt32() == 1:
                    throw new UsageException($"'{file}' keeps its data in another file, which a sample may not; save the tensor with its data inside.");
                case DataLocation:
                    break;
                default:
                    input.SkipLastField();
                    break;
            }
        }

        long[] shape = [.. dims];
        long count = shape.Aggregate(1L, (product, size) => checked(product * size));
        if (type == ElementType.String && strings.Count == count)
            return (name, new TensorData(shape, [.. strings]));
        if (type.BitWidth() < 8)
            throw new UsageException($"'{file}' is no tensor of numbers or strings (element type {type}).");
        byte[] bytes = raw ?? typed.ToArray();
        if (bytes.Length != type.RawSize(count))
            throw new UsageException($"'{file}' holds {bytes.Length} bytes of data for {type}[{string.Join(',', shape)}]; write the tensor again.");
        return (name, new TensorData(type, shape, bytes));
    }

    private static void ForEach(CodedInputStream input, bool packed, Action<CodedInputStream> read)
    {
        if (!packed)
        {
            read(input);
            return;
        }

        using CodedInputStream inner = input.ReadBytes().CreateCodedInput();
        while (!inner.IsAtEnd)
            read(inner);
    }

    private static void Append(MemoryStream stream, int width, ulong bits)
    {
        Span<byte> buffer = stackalloc byte[8];
        BinaryPrimitives.WriteUInt64LittleEndian(buffer, bits);
        stream.Write(buffer[..width]);
    }
}
