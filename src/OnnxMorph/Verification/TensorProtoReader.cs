using System.Text;
using Google.Protobuf;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>Reads one serialised <c>TensorProto</c>: the .pb files of ONNX's test_data_set folders.</summary>
internal static class TensorProtoReader
{
    /// <summary>The tensor and the name it carries, empty where it has none.</summary>
    /// <exception cref="UsageException">The file is no tensor, or one that a sample may not be.</exception>
    public static (string Name, TensorData Data) Read(string path)
    {
        string file = Path.GetFileName(path);
        TensorProto tensor;
        try
        {
            using FileStream stream = File.OpenRead(path);
            using var input = CodedInputStream.CreateWithLimits(stream, int.MaxValue, 100);
            tensor = TensorProto.Parser.ParseFrom(input);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new OnnxMorphException(ExitCode.Usage, $"'{file}' is no serialised TensorProto ({e.Message}).", e);
        }

        if (tensor.ExternalData.Count > 0 || tensor.DataLocation == TensorProto.Types.DataLocation.External)
            throw new UsageException($"'{file}' keeps its data in another file, which a sample may not; save the tensor with its data inside.");
        long[] shape = [.. tensor.Dims];
        var type = (ElementType)tensor.DataType;
        if (type == ElementType.String && tensor.StringData.Count == shape.Aggregate(1L, (product, size) => checked(product * size)))
            return (tensor.Name, new TensorData(shape, [.. tensor.StringData.Select(s => Encoding.UTF8.GetString(s.Span))]));
        if (type.BitWidth() < 8)
            throw new UsageException($"'{file}' is no tensor of numbers or strings (element type {type}).");
        try
        {
            // A model without nodes around the tensor checks and decodes it as it does for any model's.
            var stored = (StoredWeight)new OnnxModel(new ModelProto(), file).Data(tensor);
            return (tensor.Name, new TensorData(type, shape, stored.Bytes.ToArray()));
        }
        catch (UnreadableModelException e)
        {
            throw new UsageException(e.Message, e);
        }
    }
}
