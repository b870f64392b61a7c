using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

/// <summary>What is accepted and refused, with ONNX Runtime as the judge wherever it gives one.</summary>
public class ModelCheckTests
{
    private static NodeProto Relu(string input, string output) => Models.Node("Relu", [input], [output]);

    private static GraphProto Body(string output, params NodeProto[] nodes) => Models.Graph([], [output], nodes);

    private static NodeProto If(GraphProto then, string output = "z") => Models.Node("If", ["cond"], [output],
        Models.Attribute("then_branch", then), Models.Attribute("else_branch", Body("q", Relu("x", "q"))));

    private static ModelProto Model(params NodeProto[] nodes)
    {
        ModelProto model = Models.Model(Models.Graph(["x"], ["z"], nodes));
        model.Graph.Initializer.Add(Models.Raw("cond", ElementType.Bool, [], [1]));
        return model;
    }

    private static ModelProto Change(ModelProto model, Action<ModelProto> change)
    {
        change(model);
        return model;
    }

    private static ModelProto Function(params NodeProto[] body)
    {
        ModelProto model = Model(new NodeProto { OpType = "f", Domain = "d", Input = { "x" }, Output = { "z" } });
        model.OpsetImport.Add(new OperatorSetIdProto { Domain = "d", Version = 1 });
        model.Functions.Add(new FunctionProto { Name = "f", Domain = "d", Input = { "a" }, Output = { "r" }, Node = { body }, OpsetImport = { model.OpsetImport[0] } });
        return model;
    }

    public static TheoryData<string, string?> Cases => new()
    {
        { "sorted", null },
        { "unsorted", null },
        { "unsorted diamond", null },
        { "cycle", "depends on its own output" },
        { "cycle behind", "the Add node that makes 'a' depends on its own output" },
        { "dangling", "node 'n' (Relu) reads the value 'nope', which nothing defines" },
        { "two nodes, one output", "'z', an output of the Abs node that makes 'z', is defined twice" },
        { "node makes the input", "'x', an output of" },
        { "node makes an initializer", "'cond', an output of" },
        { "two inputs", "'x', a graph input, is defined twice" },
        { "no such output", "returns the value 'z', which nothing defines" },
        { "subgraph reads outer", null },
        { "subgraph reads later", null },
        { "subgraph reads its own node", "depends on its own output" },
        { "subgraph unsorted", "not in topological order" },
        { "subgraph dangling", "reads the value 'nope'" },
        { "subgraph shadows", "defines 'y' again" },
        { "initializer gives input its default", null },
        { "function", null },
        { "function unsorted", "not in topological order" },
        { "function dangling", "reads the value 'nope'" },
        { "no operator set", "opset_import" },
        { "no version", "ir_version" },
    };

    private static ModelProto Build(string name) => name switch
    {
        "sorted" => Model(Relu("x", "y"), Relu("y", "z")),
        "unsorted" => Model(Relu("y", "z"), Relu("x", "y")),
        "unsorted diamond" => Model(Models.Node("Add", ["a", "b"], ["z"]), Relu("y", "a"), Models.Node("Neg", ["y"], ["b"]), Relu("x", "y")),
        "cycle" => Model(Models.Node("Add", ["x", "z"], ["y"]), Relu("y", "z")),
        "cycle behind" => Model(Relu("b", "z"), Relu("a", "b"), Models.Node("Add", ["a", "x"], ["a"])),
        "dangling" => Model(new NodeProto(Relu("nope", "z")) { Name = "n" }),
        "two nodes, one output" => Model(Relu("x", "z"), Models.Node("Abs", ["x"], ["z"])),
        "node makes the input" => Model(Relu("x", "z"), Relu("z", "x")),
        "node makes an initializer" => Model(Relu("x", "z"), Relu("x", "cond")),
        "two inputs" => Change(Model(Relu("x", "z")), m => m.Graph.Input.Add(m.Graph.Input[0])),
        "no such output" => Model(Relu("x", "y")),
        "subgraph reads outer" => Model(Relu("x", "y"), If(Body("p", Relu("y", "p")))),
        "subgraph reads later" => Model(If(Body("p", Relu("y", "p"))), Relu("x", "y")),
        "subgraph reads its own node" => Model(If(Body("p", Relu("z", "p")))),
        "subgraph unsorted" => Model(If(Body("p", Relu("r", "p"), Relu("x", "r")))),
        "subgraph dangling" => Model(If(Body("p", Relu("nope", "p")))),
        "subgraph shadows" => Model(Relu("x", "y"), If(Body("y", Relu("x", "y")), "w"), Models.Node("Add", ["y", "w"], ["z"])),
        "initializer gives input its default" => Change(Model(Models.Node("Add", ["x", "d"], ["z"])), m =>
        {
            m.Graph.Input.Add(Models.Value("d", 2));
            m.Graph.Initializer.Add(Models.Floats("d", 1, 2));
        }),
        "function" => Function(Relu("a", "b"), Relu("b", "r")),
        "function unsorted" => Function(Relu("b", "r"), Relu("a", "b")),
        "function dangling" => Function(Relu("nope", "r")),
        "no operator set" => Change(Model(Relu("x", "z")), m => m.OpsetImport.Clear()),
        "no version" => Change(Model(Relu("x", "z")), m => m.ClearIrVersion()),
        _ => throw new ArgumentException(name),
    };

    [Theory]
    [MemberData(nameof(Cases))]
    public void GraphsAreCheckedAsOnnxRuntimeChecksThem(string name, string? words)
    {
        byte[] bytes = Build(name).ToByteArray();
        Exception? theirs = Record.Exception(() =>
        {
            using var options = new SessionOptions { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };
            using var session = new InferenceSession(bytes, options);
        });
        Assert.Equal(words is null, theirs is null);

        Exception? ours = Record.Exception(() => OnnxReader.Read(new MemoryStream(bytes)));
        if (words is null)
            Assert.Null(ours);
        else
            Assert.Contains(words, Assert.IsType<UnreadableModelException>(ours).Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TwoInitializersOfOneNameAreRefused()
    {
        var e = Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(new MemoryStream(
            Models.With(Models.Floats("w", 1), Models.Floats("w", 2)).ToByteArray())));
        Assert.Contains("two initializers are called 'w'", e.Message, StringComparison.Ordinal);
    }

    public static TheoryData<string, string> Tensors => new()
    {
        { "short", "has 7 bytes, but Float32 with dimensions [2] needs 8" },
        { "negative", "the negative dimension -2" },
        { "overflow", "more than any file can hold" },
        { "overflow of zero", "more than any file can hold" },
        { "unknown type", "element type 99" },
        { "no type", "element type 0" },
        { "twice", "twice, in raw_data and float_data" },
        { "wrong field", "is of type Float32 but holds its elements in int32_data" },
        { "text as raw", "is of type String but holds its elements in raw_data" },
        { "nothing", "has 0 numbers" },
        { "too few", "has 1 numbers" },
        { "half a complex", "Complex64 with dimensions [2] needs 4" },
    };

    [Theory]
    [MemberData(nameof(Tensors))]
    public void TensorsMustAgreeWithTheirTypeAndDimensions(string name, string words)
    {
        TensorProto tensor = Models.Floats("w", 1, 2);
        switch (name)
        {
            case "short": tensor.RawData = ByteString.CopyFrom(new byte[7]); break;
            case "negative": tensor.Dims[0] = -2; break;
            case "overflow": tensor.Dims.AddRange([1L << 62, 1L << 62]); break;
            case "overflow of zero": tensor.Dims.AddRange([0, 1L << 62, 1L << 62]); break;
            case "unknown type": tensor.DataType = 99; break;
            case "no type": tensor.ClearDataType(); break;
            case "twice": tensor.FloatData.AddRange([1, 2]); break;
            case "wrong field": tensor.ClearRawData(); tensor.Int32Data.AddRange([1, 2]); break;
            case "text as raw": tensor.DataType = (int)ElementType.String; break;
            case "nothing": tensor.ClearRawData(); break;
            case "too few": tensor.ClearRawData(); tensor.FloatData.Add(1); break;
            case "half a complex": tensor.ClearRawData(); tensor.DataType = (int)ElementType.Complex64; tensor.FloatData.AddRange([1, 2, 3]); break;
        }

        var e = Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(new MemoryStream(Models.With(tensor).ToByteArray())));
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.Contains("initializer 'w'", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void ContentLeftInTheFileIsCheckedToo()
    {
        using var folder = new TemporaryFolder();
        TensorProto integers = new() { Name = "w", DataType = (int)ElementType.Int64, Dims = { 1500 } };
        integers.Int64Data.AddRange(new long[1499]);
        TensorProto floats = new() { Name = "w", DataType = (int)ElementType.Float32, Dims = { 500 } };
        floats.FloatData.AddRange(new float[499]);
        TensorProto raw = Models.Raw("w", ElementType.Float16, [1000], new byte[1999]);
        foreach ((TensorProto tensor, string words) in new[] { (integers, "has 1499 numbers"), (floats, "has 499 numbers"), (raw, "has 1999 bytes") })
        {
            var e = Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(folder.Write("m.onnx", Models.With(tensor))));
            Assert.Contains(words, e.Message, StringComparison.Ordinal);
        }
    }

    [Fact]
    public void PiecesOfContentAreRefused()
    {
        using var folder = new TemporaryFolder();
        TensorProto tensor = new() { Name = "w", DataType = (int)ElementType.Float32, Dims = { 800 } };
        tensor.FloatData.AddRange(new float[400]);
        byte[] twice = [.. tensor.ToByteArray(), .. new TensorProto { FloatData = { new float[400] } }.ToByteArray()];

        // A tensor of the same size holds its place until the bytes are exchanged.
        var placeholder = new TensorProto { DocString = new string('-', twice.Length) };
        placeholder.DocString = placeholder.DocString[..^(placeholder.CalculateSize() - twice.Length)];
        byte[] model = Models.With(placeholder).ToByteArray();
        twice.CopyTo(model.AsSpan(model.AsSpan().IndexOf(placeholder.ToByteArray())));

        Assert.Equal(800, ModelProto.Parser.ParseFrom(model).Graph.Initializer[0].FloatData.Count);
        var e = Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(folder.Write("m.onnx", model)));
        Assert.Contains("several pieces", e.Message, StringComparison.Ordinal);
    }
}
