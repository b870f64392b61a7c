using Google.Protobuf;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Graph;

public sealed class FunctionInlinerTests
{
    private static NodeProto Node(string op, string domain, string[] inputs, string[] outputs, params AttributeProto[] attributes)
    {
        var node = new NodeProto { OpType = op, Name = $"{op} {outputs[0]}" };
        if (domain.Length > 0)
            node.Domain = domain;
        node.Input.AddRange(inputs);
        node.Output.AddRange(outputs);
        node.Attribute.AddRange(attributes);
        return node;
    }

    private static ValueInfoProto Value(string name) => new()
    {
        Name = name,
        Type = new TypeProto
        {
            TensorType = new TypeProto.Types.Tensor
            {
                ElemType = 1,
                Shape = new TensorShapeProto { Dim = { new TensorShapeProto.Types.Dimension { DimValue = 2 }, new TensorShapeProto.Types.Dimension { DimValue = 3 } } },
            },
        },
    };

    private static AttributeProto Float(string name, float value) => new() { Name = name, F = value, Type = AttributeProto.Types.AttributeType.Float };

    private static AttributeProto Reference(string name, string to) => new() { Name = name, RefAttrName = to, Type = AttributeProto.Types.AttributeType.Float };

    private static OperatorSetIdProto Opset(string domain, int version) => new() { Domain = domain, Version = version };

    // leak(x, shift; slope = 0.5) = LeakyRelu(x; slope) − shift; twice(a, b; slope) = (leak(leak(a, b; slope), b), |a|). Both have an
    // inner value called t, as the graph has.
    private static ModelProto Model()
    {
        var leak = new FunctionProto
        {
            Name = "leak",
            Domain = "mine",
            Input = { "x", "shift" },
            Output = { "y" },
            OpsetImport = { Opset("", 17) },
            AttributeProto = { Float("slope", 0.5f) },
            Node = { Node("LeakyRelu", "", ["x"], ["t"], Reference("alpha", "slope")), Node("Sub", "", ["t", "shift"], ["y"]) },
        };
        var twice = new FunctionProto
        {
            Name = "twice",
            Domain = "mine",
            Input = { "a", "b" },
            Output = { "c", "d" },
            Attribute = { "slope" },
            OpsetImport = { Opset("", 17), Opset("mine", 1) },
            Node = { Node("leak", "mine", ["a", "b"], ["t"], Reference("slope", "slope")), Node("leak", "mine", ["t", "b"], ["c"]), Node("Abs", "", ["a"], ["d"]) },
        };
        return new ModelProto
        {
            IrVersion = 9,
            OpsetImport = { Opset("", 17), Opset("mine", 1) },
            Functions = { leak, twice },
            Graph = new GraphProto
            {
                Name = "graph",
                Input = { Value("x"), Value("b") },
                Output = { Value("y"), Value("same"), Value("t") },
                Node =
                {
                    Node("Neg", "", ["x"], ["t"]),
                    Node("twice", "mine", ["t", "b"], ["y", "same"], Float("slope", 0.25f)),
                },
            },
        };
    }

    [Fact]
    public void TheInlinedModelComputesTheSame()
    {
        ModelProto proto = Model();
        var inlined = new OnnxModel(proto.Clone());
        FunctionInliner.Inline(inlined);
        inlined.Validate();
        Assert.Empty(inlined.Proto.Functions);
        Assert.Equal(["Neg", "LeakyRelu", "Sub", "LeakyRelu", "Sub", "Abs"], inlined.Proto.Graph.Node.Select(n => n.OpType));
        Assert.Equal([0.25f, 0.5f], inlined.Proto.Graph.Node.Where(n => n.OpType == "LeakyRelu").Select(n => n.Attribute.Single(a => a.Name == "alpha").F));
        Assert.All(inlined.Proto.Graph.Node.SelectMany(n => n.Attribute), a => Assert.Empty(a.RefAttrName));

        var feeds = new Dictionary<string, Testing.Array>
        {
            ["x"] = new(ElementType.Float32, [2, 3], [1, -2, 3, -4, 5, -6]),
            ["b"] = new(ElementType.Float32, [2, 3], [0.5, 0.25, -1, 2, 0, 7]),
        };
        var expected = Check.Run(proto, feeds, []);
        var actual = Check.Run(inlined.Proto, feeds, []);
        foreach (string output in new[] { "y", "same", "t" })
            Assert.Equal(expected[output].Values, actual[output].Values);
        // LeakyRelu(−1; 0.25) − 0.5 = −0.75, then LeakyRelu(−0.75; 0.5) − 0.5 = −0.875.
        Assert.Equal(-0.875, actual["y"].Values[0]);
    }

    [Fact]
    public void FunctionsForOtherOperatorSetsAreLeftAlone()
    {
        ModelProto proto = Model();
        proto.Functions[0].OpsetImport[0].Version = 11;
        proto.Functions[1].OpsetImport[0].Version = 11;
        var model = new OnnxModel(proto);
        byte[] before = proto.ToByteArray();
        FunctionInliner.Inline(model);
        Assert.Equal(before, model.Proto.ToByteArray());
    }
}
