using System.Collections.Immutable;
using Google.Protobuf;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

/// <summary>A folder that is gone after the test.</summary>
internal sealed class TemporaryFolder : IDisposable
{
    private readonly DirectoryInfo _folder = Directory.CreateTempSubdirectory("onnxmorph-");

    public string Root => _folder.FullName;

    public string this[string name] => Path.Combine(Root, name);

    public string Write(string name, IMessage model) => Write(name, model.ToByteArray());

    public string Write(string name, byte[] bytes)
    {
        Directory.CreateDirectory(Path.GetDirectoryName(this[name])!);
        File.WriteAllBytes(this[name], bytes);
        return this[name];
    }

    /// <summary>Names of the files in the folder, sorted.</summary>
    public string[] Names() => [.. _folder.EnumerateFileSystemInfos("*", SearchOption.AllDirectories).Select(f => Path.GetRelativePath(Root, f.FullName)).Order(StringComparer.Ordinal)];

    public void Dispose() => _folder.Delete(recursive: true);
}

/// <summary>Evaluates the one kind of weight that needs no evaluation.</summary>
internal sealed class StoredWeights : IWeightSource
{
    public IWeightReader Open(WeightExpression weight) => new BytesReader(Bytes(weight));

    public static byte[] Bytes(WeightExpression weight)
    {
        var stored = (StoredWeight)weight;
        if (stored.File is null)
            return stored.Bytes.ToArray();
        using FileStream file = File.OpenRead(stored.File);
        file.Position = stored.Offset;
        var bytes = new byte[stored.ByteLength];
        file.ReadExactly(bytes);
        return bytes;
    }
}

/// <summary>Bytes in windows that are small, so that a file has many.</summary>
internal sealed class BytesReader(byte[] bytes, Action? before = null) : IWeightReader
{
    public int WindowBytes => 1000;

    public bool IsLarge => false;

    public void Read(long start, Span<byte> destination)
    {
        before?.Invoke();
        bytes.AsSpan((int)start, destination.Length).CopyTo(destination);
    }

    public void Dispose()
    {
    }
}

/// <summary>Small models by hand.</summary>
internal static class Models
{
    public static ValueInfoProto Value(string name, params long[] shape)
    {
        var type = new TypeProto.Types.Tensor { ElemType = (int)ElementType.Float32, Shape = new() };
        type.Shape.Dim.AddRange(shape.Select(size => new TensorShapeProto.Types.Dimension { DimValue = size }));
        return new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = type } };
    }

    public static NodeProto Node(string op, string[] inputs, string[] outputs, params AttributeProto[] attributes)
    {
        var node = new NodeProto { OpType = op };
        node.Input.AddRange(inputs);
        node.Output.AddRange(outputs);
        node.Attribute.AddRange(attributes);
        return node;
    }

    public static AttributeProto Attribute(string name, GraphProto graph) =>
        new() { Name = name, G = graph, Type = AttributeProto.Types.AttributeType.Graph };

    public static AttributeProto Attribute(string name, TensorProto tensor) =>
        new() { Name = name, T = tensor, Type = AttributeProto.Types.AttributeType.Tensor };

    public static GraphProto Graph(string[] inputs, string[] outputs, params NodeProto[] nodes)
    {
        var graph = new GraphProto { Name = "g" };
        graph.Input.AddRange(inputs.Select(name => Value(name, 2)));
        graph.Output.AddRange(outputs.Select(name => Value(name, 2)));
        graph.Node.AddRange(nodes);
        return graph;
    }

    public static ModelProto Model(GraphProto graph)
    {
        var model = new ModelProto { IrVersion = 8, Graph = graph };
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = 13 });
        return model;
    }

    /// <summary>x (2 values) → Relu → y, with the initializers unused.</summary>
    public static ModelProto With(params TensorProto[] initializers)
    {
        ModelProto model = Model(Graph(["x"], ["y"], Node("Relu", ["x"], ["y"])));
        model.Graph.Initializer.AddRange(initializers);
        return model;
    }

    public static TensorProto Raw(string name, ElementType type, long[] shape, byte[] bytes)
    {
        var tensor = new TensorProto { Name = name, DataType = (int)type, RawData = ByteString.CopyFrom(bytes) };
        tensor.Dims.AddRange(shape);
        return tensor;
    }

    public static TensorProto Floats(string name, params float[] values) =>
        Raw(name, ElementType.Float32, [values.Length], [.. values.SelectMany(BitConverter.GetBytes)]);

    public static TensorProto External(string name, long[] shape, string location, long? offset = null, long? length = null)
    {
        var tensor = new TensorProto { Name = name, DataType = (int)ElementType.Float32, DataLocation = TensorProto.Types.DataLocation.External };
        tensor.Dims.AddRange(shape);
        tensor.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = location });
        if (offset is not null)
            tensor.ExternalData.Add(new StringStringEntryProto { Key = "offset", Value = $"{offset}" });
        if (length is not null)
            tensor.ExternalData.Add(new StringStringEntryProto { Key = "length", Value = $"{length}" });
        return tensor;
    }

    /// <summary>Bytes that are easy to tell apart: 0, 1, 2 … from <paramref name="seed"/> on.</summary>
    public static byte[] Bytes(int count, int seed = 0) => [.. Enumerable.Range(seed, count).Select(i => (byte)(i * 31 % 251))];

    public static WrittenModel Write(this OnnxModel model, string path, WriteOptions? options = null) =>
        OnnxWriter.Write(model, path, new StoredWeights(), options, cancellation: TestContext.Current.CancellationToken);

    public static StoredWeight Weight(ElementType type, long[] shape, byte[] bytes) => new(type, [.. shape], bytes);

    /// <summary>Parses a file with Google.Protobuf alone, as the reference for what reader and writer do.</summary>
    public static ModelProto Parse(string path) => ModelProto.Parser.ParseFrom(File.ReadAllBytes(path));

    /// <summary>The raw bytes of a tensor of a parsed file, external ones from beside it.</summary>
    public static byte[] RawBytes(TensorProto tensor, string path)
    {
        if (tensor.DataLocation != TensorProto.Types.DataLocation.External)
            return tensor.RawData.ToByteArray();
        ImmutableDictionary<string, string> place = tensor.ExternalData.ToImmutableDictionary(e => e.Key, e => e.Value);
        byte[] file = File.ReadAllBytes(Path.Combine(Path.GetDirectoryName(path)!, place["location"]));
        return file[int.Parse(place["offset"])..][..int.Parse(place["length"])];
    }
}
