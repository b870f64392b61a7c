using System.Buffers.Binary;
using System.Text;
using System.Text.Json;
using OnnxMorph.Onnx;
using OnnxMorph.Safetensors;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Safetensors;

/// <summary>Files against the format as it is published: length, header, bytes.</summary>
public sealed class SafetensorsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("onnxmorph-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private string File(string name) => Path.Combine(_folder, name);

    [Fact]
    public void ExportedWeightsStandUnderTheirNames()
    {
        string model = Path.Combine(AppContext.BaseDirectory, "models", "digits_resnet.onnx");
        ExchangeReport report = WeightExchange.Export(model, File("w.safetensors"), false, new WeightEvaluator(), TestContext.Current.CancellationToken);
        byte[] bytes = System.IO.File.ReadAllBytes(File("w.safetensors"));
        int header = checked((int)BinaryPrimitives.ReadInt64LittleEndian(bytes));
        Assert.Equal(0, header % 8);
        using var document = JsonDocument.Parse(Encoding.UTF8.GetString(bytes, 8, header));
        GraphProto graph = ModelProto.Parser.ParseFrom(System.IO.File.ReadAllBytes(model)).Graph;
        var initializers = graph.Initializer.ToDictionary(t => t.Name);

        // Vectors that were equal before training, which the exporter stored once, have their own names behind an Identity.
        foreach (NodeProto node in graph.Node.Where(n => n.OpType == "Identity" && initializers.ContainsKey(n.Input[0])))
            initializers[node.Output[0]] = initializers[node.Input[0]];
        int end = 0;
        foreach (JsonProperty entry in document.RootElement.EnumerateObject().Where(e => e.Name != "__metadata__"))
        {
            int[] offsets = [.. entry.Value.GetProperty("data_offsets").EnumerateArray().Select(o => o.GetInt32())];
            Assert.Equal(end, offsets[0]);
            end = offsets[1];
            TensorProto tensor = initializers[entry.Name];
            Assert.Equal(tensor.Dims, entry.Value.GetProperty("shape").EnumerateArray().Select(s => s.GetInt64()));
            Assert.Equal(tensor.DataType == (int)ElementType.Float32 ? "F32" : "I64", entry.Value.GetProperty("dtype").GetString());
            Assert.Equal(tensor.RawData.ToByteArray(), bytes[(8 + header + offsets[0])..(8 + header + offsets[1])]);
        }

        Assert.Equal(bytes.Length, 8 + header + end);
        Assert.Equal(initializers.Keys.Order(), report.Tensors.Select(t => t.Name).Order());
    }

    [Fact]
    public void ImportedWeightsTakeTheirPlaces()
    {
        var net = new Net();
        net.Output(net.Op("Gemm", [net.Input("x", 2, 3), net.Weight([3, 4], name: "w"), net.Weight([4], name: "b")]));
        Write(net, "model.onnx");
        float[] w = [.. Enumerable.Range(0, 12).Select(i => i / 4f)];
        Safetensors("w.safetensors", """{"w":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]},"extra":{"dtype":"I64","shape":[],"data_offsets":[48,56]}}""",
            [.. w.SelectMany(BitConverter.GetBytes), .. new byte[8]]);
        ExchangeReport report = WeightExchange.Import(File("model.onnx"), File("w.safetensors"), File("out.onnx"), false, new WeightEvaluator(), TestContext.Current.CancellationToken);
        Assert.Equal("w", Assert.Single(report.Tensors).Name);
        Assert.Equal(["extra"], report.LeftOut);
        Assert.Equal(["b"], report.Kept);
        var written = ModelProto.Parser.ParseFrom(System.IO.File.ReadAllBytes(File("out.onnx"))).Graph.Initializer.ToDictionary(t => t.Name);
        Assert.Equal(w.SelectMany(BitConverter.GetBytes), written["w"].RawData);
        Assert.Equal(net.Proto.Graph.Initializer.Single(t => t.Name == "b").RawData, written["b"].RawData);
    }

    [Theory]
    [InlineData("""{"w":{"dtype":"F32","shape":[4,3],"data_offsets":[0,48]}}""", "'w' is Float32[4, 3] in 'w.safetensors' and Float32[3, 4] in the model.")]
    [InlineData("""{"w":{"dtype":"I32","shape":[3,4],"data_offsets":[0,48]}}""", "'w' is Int32[3, 4] in 'w.safetensors' and Float32[3, 4] in the model.")]
    [InlineData("""{"v":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}""", "None of the 1 names in 'w.safetensors' is one of the model's parameters")]
    public void WeightsThatDoNotFitAreRefused(string header, string reason)
    {
        var net = new Net();
        net.Output(net.Op("MatMul", [net.Input("x", 2, 3), net.Weight([3, 4], name: "w")]));
        Write(net, "model.onnx");
        Safetensors("w.safetensors", header, new byte[48]);
        var refused = Assert.Throws<RefusedException>(() => WeightExchange.Import(
            File("model.onnx"), File("w.safetensors"), File("out.onnx"), false, new WeightEvaluator(), TestContext.Current.CancellationToken));
        Assert.StartsWith(reason, refused.Message, StringComparison.Ordinal);
        Assert.False(System.IO.File.Exists(File("out.onnx")));
    }

    [Theory]
    [InlineData("""{"w":{"dtype":"F32","shape":[3,4],"data_offsets":[0,44]}}""")]
    [InlineData("""{"w":{"dtype":"F32","shape":[3,4],"data_offsets":[8,56]}}""")]
    [InlineData("""{"w":{"dtype":"F32","shape":[3,-4],"data_offsets":[0,48]}}""")]
    [InlineData("""{"w":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}}""")]
    [InlineData("""{"w":{"dtype":"F31","shape":[3,4],"data_offsets":[0,48]}}""")]
    [InlineData("""{"w":{"dtype":"F32","shape":[3,4]}}""")]
    [InlineData("""{"w":7}""")]
    [InlineData("""[1]""")]
    [InlineData("""{"w":""")]
    public void HeadersThatLieAreUnreadable(string header)
    {
        Safetensors("w.safetensors", header, new byte[48]);
        Assert.Contains("w.safetensors", Assert.Throws<UnreadableModelException>(() => SafetensorsFile.Read(File("w.safetensors"))).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void FilesThatAreCutShortAreUnreadable()
    {
        Safetensors("w.safetensors", """{"w":{"dtype":"F32","shape":[3,4],"data_offsets":[0,48]}}""", new byte[48]);
        byte[] whole = System.IO.File.ReadAllBytes(File("w.safetensors"));
        Assert.Single(SafetensorsFile.Read(File("w.safetensors")));
        for (int length = 0; length < whole.Length; length++)
        {
            System.IO.File.WriteAllBytes(File("cut.safetensors"), whole[..length]);
            Assert.Throws<UnreadableModelException>(() => SafetensorsFile.Read(File("cut.safetensors")));
        }
    }

    private void Write(Net net, string name)
    {
        using FileStream file = System.IO.File.Create(File(name));
        Google.Protobuf.MessageExtensions.WriteTo(net.Proto, file);
    }

    private void Safetensors(string name, string header, byte[] data)
    {
        byte[] text = Encoding.UTF8.GetBytes(header);
        System.IO.File.WriteAllBytes(File(name), [.. BitConverter.GetBytes((long)text.Length), .. text, .. data]);
    }
}
