using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Verification;

/// <summary>A small graph that writes itself as an ONNX file: a protobuf writer of its own, so that tests trust no code under test.</summary>
internal sealed record TestGraph
{
    public sealed record Node(string Op, string[] Inputs, string[] Outputs, params (string Name, object Value)[] Attributes)
    {
        public string Domain { get; init; } = "";
    }

    public sealed record Value(string Name, ElementType Type, params object[] Shape)
    {
        /// <summary>A serialised TypeProto in place of a tensor type.</summary>
        public byte[]? TypeProto { get; init; }
    }

    public ImmutableArray<Value> Inputs { get; init; } = [];

    public ImmutableArray<Value> Outputs { get; init; } = [];

    public ImmutableArray<Node> Nodes { get; init; } = [];

    public ImmutableSortedDictionary<string, (long[] Shape, float[] Values)> Weights { get; init; } =
        ImmutableSortedDictionary<string, (long[], float[])>.Empty;

    public int Opset { get; init; } = 17;

    public int IrVersion { get; init; } = 8;

    public TestGraph WithWeight(string name, float[] values) => this with { Weights = Weights.SetItem(name, (Weights[name].Shape, values)) };

    /// <summary>The graph with one number of a weight changed.</summary>
    public TestGraph WithNumber(string name, int index, Func<float, float> change)
    {
        float[] values = [.. Weights[name].Values];
        values[index] = change(values[index]);
        return WithWeight(name, values);
    }

    public string Save(string path)
    {
        File.WriteAllBytes(path, Model());
        return path;
    }

    public static float[] Random(int seed, int count, double scale = 1)
    {
        var random = new Random(seed);
        return [.. Enumerable.Range(0, count).Select(_ => (float)(scale * (2 * random.NextDouble() - 1)))];
    }

    private byte[] Model()
    {
        var graph = new MemoryStream();
        foreach (Node node in Nodes)
            Bytes(graph, 1, Serialize(node));
        Bytes(graph, 2, "g"u8);
        foreach ((string name, (long[] shape, float[] values)) in Weights)
            Bytes(graph, 5, Tensor(name, ElementType.Float32, shape, MemoryMarshal.AsBytes(values.AsSpan())));
        foreach (Value input in Inputs)
            Bytes(graph, 11, Serialize(input));
        foreach (Value output in Outputs)
            Bytes(graph, 12, Serialize(output));

        var model = new MemoryStream();
        Number(model, 1, IrVersion);
        Bytes(model, 7, graph.ToArray());
        foreach (string domain in Nodes.Select(n => n.Domain).Append("").Distinct())
        {
            var opset = new MemoryStream();
            Bytes(opset, 1, Encoding.UTF8.GetBytes(domain));
            Number(opset, 2, domain.Length == 0 ? Opset : 1);
            Bytes(model, 8, opset.ToArray());
        }

        return model.ToArray();
    }

    private static byte[] Serialize(Node node)
    {
        var stream = new MemoryStream();
        foreach (string input in node.Inputs)
            Bytes(stream, 1, Encoding.UTF8.GetBytes(input));
        foreach (string output in node.Outputs)
            Bytes(stream, 2, Encoding.UTF8.GetBytes(output));
        Bytes(stream, 4, Encoding.UTF8.GetBytes(node.Op));
        Bytes(stream, 7, Encoding.UTF8.GetBytes(node.Domain));
        foreach ((string name, object value) in node.Attributes)
        {
            var attribute = new MemoryStream();
            Bytes(attribute, 1, Encoding.UTF8.GetBytes(name));
            switch (value)
            {
                case int number:
                    Number(attribute, 3, number);
                    Number(attribute, 20, 2);
                    break;
                case int[] numbers:
                    foreach (int number in numbers)
                        Number(attribute, 8, number);
                    Number(attribute, 20, 7);
                    break;
                case long[] numbers:
                    Bytes(attribute, 5, Tensor("", ElementType.Int64, [numbers.Length], MemoryMarshal.AsBytes(numbers.AsSpan())));
                    Number(attribute, 20, 4);
                    break;
                default:
                    throw new ArgumentException(name);
            }

            Bytes(stream, 5, attribute.ToArray());
        }

        return stream.ToArray();
    }

    private static byte[] Serialize(Value value)
    {
        var shape = new MemoryStream();
        foreach (object size in value.Shape)
        {
            var dimension = new MemoryStream();
            if (size is string symbol)
                Bytes(dimension, 2, Encoding.UTF8.GetBytes(symbol));
            else
                Number(dimension, 1, (int)size);
            Bytes(shape, 1, dimension.ToArray());
        }

        var tensor = new MemoryStream();
        Number(tensor, 1, (int)value.Type);
        Bytes(tensor, 2, shape.ToArray());
        var type = new MemoryStream();
        Bytes(type, 1, tensor.ToArray());
        var info = new MemoryStream();
        Bytes(info, 1, Encoding.UTF8.GetBytes(value.Name));
        Bytes(info, 2, value.TypeProto ?? type.ToArray());
        return info.ToArray();
    }

    public static byte[] Tensor(string name, ElementType type, long[] shape, ReadOnlySpan<byte> raw)
    {
        var stream = new MemoryStream();
        foreach (long size in shape)
            Number(stream, 1, size);
        Number(stream, 2, (int)type);
        Bytes(stream, 8, Encoding.UTF8.GetBytes(name));
        Bytes(stream, 9, raw);
        return stream.ToArray();
    }

    public static void Number(Stream stream, int field, long value)
    {
        Varint(stream, (ulong)field << 3);
        Varint(stream, (ulong)value);
    }

    public static void Bytes(Stream stream, int field, ReadOnlySpan<byte> value)
    {
        Varint(stream, ((ulong)field << 3) | 2);
        Varint(stream, (ulong)value.Length);
        stream.Write(value);
    }

    public static void Fixed32(Stream stream, int field, float value)
    {
        Varint(stream, ((ulong)field << 3) | 5);
        Span<byte> bytes = stackalloc byte[4];
        BinaryPrimitives.WriteSingleLittleEndian(bytes, value);
        stream.Write(bytes);
    }

    public static void Varint(Stream stream, ulong value)
    {
        for (; value >= 0x80; value >>= 7)
            stream.WriteByte((byte)(value | 0x80));
        stream.WriteByte((byte)value);
    }
}

/// <summary>The probe over graphs that the test wrote: path to graph.</summary>
internal sealed class TestProbe(IReadOnlyDictionary<string, TestGraph> graphs) : IModelProbe
{
    private readonly Dictionary<string, TestGraph> _graphs = new(graphs);

    public IReadOnlyList<string> Values(string modelPath) => [.. _graphs[modelPath].Nodes.SelectMany(n => n.Outputs)];

    public void Expose(string modelPath, IReadOnlyList<string> values, string exposedPath)
    {
        // Types and shapes of the new outputs are left to the runtime's own inference.
        TestGraph exposed = _graphs[modelPath] with
        {
            Outputs = [.. values.Select(v => new TestGraph.Value(v, ElementType.Float32) { TypeProto = [] })],
        };
        _graphs[exposedPath] = exposed;
        exposed.Save(exposedPath);
    }

    public IReadOnlyList<ProbedInitializer> FloatInitializers(string modelPath, long maxBytes) =>
        [.. _graphs[modelPath].Weights.Select(w => new ProbedInitializer(w.Key, ElementType.Float32, [.. w.Value.Shape],
            MemoryMarshal.AsBytes(w.Value.Values.AsSpan()).ToArray()))];
}
