using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Graph;

/// <summary>Values that somebody other than the main graph's nodes reads, and graphs in unusual forms.</summary>
public class SubgraphTests
{
    private static GraphProto Branch(string name, string output, params NodeProto[] nodes)
    {
        var graph = new GraphProto { Name = name };
        graph.Node.AddRange(nodes);
        graph.Output.Add(new ValueInfoProto { Name = output, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)ElementType.Float64 } } });
        return graph;
    }

    private static NodeProto Node(string op, string output, object? attributes, params string[] inputs)
    {
        NodeProto node = Net.NewNode(op, inputs, attributes, output);
        node.Output.Add(output);
        return node;
    }

    [Fact]
    public void AValueThatASubgraphReadsStays()
    {
        var net = new Net(ElementType.Float64);
        string x = net.Input("x", 2, 3);
        string a = net.Linear(x, 3, 4, "a"), b = net.Linear(net.Op("Tanh", [net.Linear(x, 3, 5, "inner")]), 5, 4, "b");
        string positive = net.Op("Greater", [net.Op("ReduceMax", [x], new { keepdims = 0 }), net.Filled(0.5)]);
        string y = net.Op("If", [positive], new { then_branch = Branch("t", "ty", Node("Relu", "ty", null, a)), else_branch = Branch("e", "ey", Node("Neg", "ey", null, b)) }, "if");
        net.Output(net.Op("ReduceSum", [y]));
        Layer.Grow(net, new Layer("a", 4, How.Never, Because: "If 'if': its subgraph reads"), new Layer("b", 4, How.Never, Because: "If 'if'"), new Layer("inner", 5));
    }

    /// <summary>A weight that a subgraph reads, itself or behind Identity, keeps its values for it whatever a step does elsewhere.</summary>
    [Theory]
    [InlineData("itself")]
    [InlineData("identity")]
    [InlineData("output")]
    [InlineData("identity output")]
    public void AWeightThatOthersReadKeepsItsValues(string how)
    {
        foreach (MorphStep step in new[] { Check.Widen("*", "x1.5"), Check.Deepen("*"), Check.Kernel("*", "+2") })
        {
            var net = new Net { Runs = { new() { ["H"] = 4 } } };
            string x = net.Input("x", 2, 4, "H", 4);
            string w = net.Weight([4, 4, 3, 3]);
            string y = net.Relu(net.Op("Conv", [x, w], new { pads = new[] { 1, 1, 1, 1 } }, "a"));
            y = net.Conv(y, 4, 4, name: "b");
            string seen = how.StartsWith("identity", StringComparison.Ordinal) ? net.Op("Identity", [w]) : w;
            if (how.EndsWith("output", StringComparison.Ordinal))
                net.Output(seen, ElementType.Float32, 4, 4, 3, 3);
            else
            {
                GraphProto[] branches = [Branch("t", "ty", Node("Abs", "ty", null, seen)), Branch("e", "ey", Node("Neg", "ey", null, seen))];
                foreach (GraphProto branch in branches)
                    branch.Output[0].Type.TensorType.ElemType = (int)ElementType.Float32;
                string positive = net.Op("Greater", [net.Op("ReduceMax", [x], new { keepdims = 0 }), net.Filled(0.5)]);
                net.Output(net.Op("If", [positive], new { then_branch = branches[0], else_branch = branches[1] }));
            }

            net.Output(y);
            Check.Morph(net, inDouble: how.EndsWith("output", StringComparison.Ordinal), step);
        }
    }

    [Fact]
    public void LoopsReadFromOutside()
    {
        var net = new Net(ElementType.Float64);
        string x = net.Input("x", 2, 4);
        string a = net.Linear(x, 4, 4, "a");
        string w = net.Weight([4, 4]);
        var body = new GraphProto { Name = "body" };
        body.Input.AddRange([Net.Value("i", ElementType.Int64), Net.Value("go", ElementType.Bool), Net.Value("state", ElementType.Float64, 2, 4)]);
        body.Node.AddRange([Node("Identity", "again", null, "go"), Node("MatMul", "next", null, "state", w), Node("Add", "sum", null, "next", a)]);
        body.Output.AddRange([Net.Value("again", ElementType.Bool), Net.Value("sum", ElementType.Float64, 2, 4)]);
        string y = net.Op("Loop", [net.Int(3), "", x], new { body }, "loop");
        net.Output(net.Linear(net.Op("Tanh", [net.Linear(net.Op("Expand", [net.Reshape(y, 2, 4), net.Ints(2, 4)]), 4, 6, "behind")]), 6, 2, "b"));
        // The weight is one of the main graph too.
        net.Output(net.Op("MatMul", [net.Op("Tanh", [net.Linear(x, 4, 4, "c")]), w]));
        Layer.Grow(net, new Layer("a", 4, How.Never, Because: "Loop 'loop'"), new Layer("behind", 6), new Layer("c", 4, How.Never, Because: "subgraph"));
        Check.Morph(net, Check.Deepen("*"));
    }

    /// <summary>Shapes that leave the network, are read inside a subgraph, or count loops are what callers know: they stay.</summary>
    [Fact]
    public void SizesThatOthersRead()
    {
        var net = new Net(ElementType.Float64);
        string y = net.Linear(net.Input("x", 2, 3), 3, 4, "a");
        net.Output(net.Op("Shape", [net.Op("Tanh", [y])]), ElementType.Int64, 2);
        net.Output(net.Linear(y, 4, 2, "b"));
        Layer.Grow(net, new Layer("a", 4, How.Never, Because: "gives this size to callers"));

        net = new Net(ElementType.Float64);
        y = net.Linear(net.Input("x", 2, 3), 3, 4, "a");
        net.Output(net.Op("Mul", [net.Size(y, 1), net.Int(2)]), ElementType.Int64);
        net.Output(net.Linear(y, 4, 2, "b"));
        Layer.Grow(net, new Layer("a", 4, How.Never, Because: "gives this size to callers"));

        net = new Net(ElementType.Float64);
        y = net.Linear(net.Input("x", 2, 3), 3, 4, "a");
        string shape = net.Op("Shape", [y]);
        string positive = net.Op("Greater", [net.Op("ReduceMax", ["x"], new { keepdims = 0 }), net.Filled(0.5)]);
        net.Output(net.Op("If", [positive], new { then_branch = Branch("t", "ty", Node("Cast", "ty", new { to = 11 }, shape)), else_branch = Branch("e", "ey", Node("Cast", "ey", new { to = 11 }, shape)) }));
        net.Output(net.Linear(y, 4, 2, "b"));
        Layer.Grow(net, new Layer("a", 4, How.Never, Because: "If"));

        net = new Net(ElementType.Float64);
        y = net.Linear(net.Input("x", 2, 3), 3, 4, "a");
        var body = new GraphProto { Name = "body" };
        body.Input.AddRange([Net.Value("i", ElementType.Int64), Net.Value("go", ElementType.Bool), Net.Value("state", ElementType.Float64, 2, 3)]);
        body.Node.AddRange([Node("Identity", "again", null, "go"), Node("Add", "sum", null, "state", "state")]);
        body.Output.AddRange([Net.Value("again", ElementType.Bool), Net.Value("sum", ElementType.Float64, 2, 3)]);
        net.Output(net.Op("Loop", [net.Size(y, 1), "", "x"], new { body }, "loop"));
        net.Output(net.Linear(y, 4, 2, "b"));
        Layer.Grow(net, new Layer("a", 4, How.Never, Because: "Loop 'loop'"));
    }

    /// <summary>Integers made of sizes that end up in the numbers of the network.</summary>
    [Theory]
    [InlineData("Range")]
    [InlineData("RangeSum")]
    [InlineData("OneHot")]
    [InlineData("Gather")]
    [InlineData("Table")]
    [InlineData("Where")]
    [InlineData("Pow")]
    [InlineData("TopK")]
    [InlineData("EyeLike")]
    [InlineData("Trilu")]
    public void SizesThatBecomeNumbers(string how)
    {
        var net = new Net(ElementType.Float64);
        string y = net.Linear(net.Input("x", 2, 3), 3, 4, "a");
        string size = net.Size(y, 1);
        string Float(string v) => net.Op("Cast", [v], new { to = (int)ElementType.Float64 });
        string number = how switch
        {
            "Range" => net.Mul(net.Op("Tanh", [y]), Float(net.Op("Range", [net.Int(0), size, net.Int(1)]))),
            "RangeSum" => net.Op("ReduceSum", [Float(net.Op("Range", [net.Int(0), size, net.Int(1)]))]),
            "OneHot" => net.Op("OneHot", [net.Ints(0, 2), size, net.Floats(0, 1)]),
            "Gather" => net.Op("Gather", [net.Weight([9]), size]),
            "Table" => net.Op("Gather", [net.Weight([9]), net.Op("Gather", [net.Ints([.. Enumerable.Range(0, 100).Select(i => i % 9L)]), net.Op("Mul", [size, net.Int(20)])])]),
            "Where" => net.Op("Where", [net.Op("Equal", [size, net.Int(4)]), net.Filled(1), net.Filled(2)]),
            "Pow" => net.Op("Pow", [net.Filled(2), size]),
            "TopK" => net.Ops("TopK", 2, ["x", net.Op("Unsqueeze", [net.Op("Sub", [size, net.Int(2)]), net.Ints(0)])])[0],
            "EyeLike" => net.Op("EyeLike", [net.Op("ConstantOfShape", [net.Shape(size, size)])], new { dtype = (int)ElementType.Float64 }),
            "Trilu" => net.Op("Trilu", [net.Weight([5, 5]), net.Op("Sub", [size, net.Int(4)])]),
            _ => throw new ArgumentException(how),
        };
        net.Output(number);
        net.Output(net.Linear(y, 4, 2, "b"));
        // Whatever is done, the child gives the parent's numbers; a size that is written down is as good as a refusal.
        MorphResult result = Check.Morph(net, Check.Widen("*", "x1.5"));
        Assert.True(result.Steps[0].Changes.Count == 0 || how is "Range" or "RangeSum" or "Table" or "EyeLike");
    }

    /// <summary>Nodes in any order: who reads a value may stand in front of who makes it.</summary>
    [Fact]
    public void NodesInAnyOrder()
    {
        for (int seed = 0; seed < 6; seed++)
        {
            var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
            string x = net.Input("x", "N", 3);
            string y = net.Linear(x, 3, 4, "a");
            y = net.Op("Sub", [y, net.Op("ReduceMean", [y], new { axes = new[] { 1 } })]);
            y = net.Op("Reshape", [net.Op("Reshape", [y, net.Shape(net.Size(y, 0), 2, 2)]), net.Shape(net.Size(y, 0), -1)]);
            net.Output(net.Linear(y, 4, 2, "b"));
            NodeProto[] nodes = [.. net.Proto.Graph.Node];
            new Random(seed).Shuffle(nodes);
            net.Proto.Graph.Node.Clear();
            net.Proto.Graph.Node.AddRange(nodes);
            Layer.Grow(net, new Layer("a", 4, How.Uniformly));
            Check.Morph(net, Check.Deepen("*", 2), Check.Widen("*", "x2"));
            List<string> order = [.. new ModelGraph(net.Model).Nodes.SelectMany(n => n.Output)];
            foreach (NodeProto node in net.Proto.Graph.Node)
                foreach (string input in node.Input.Where(order.Contains))
                    Assert.True(order.IndexOf(input) < order.IndexOf(node.Output[0]));
        }
    }

    [Fact]
    public void NodesInOrderStayInOrder()
    {
        var net = new Net();
        string x = net.Input("x", 2, 3);
        net.Output(net.Add(net.Relu(x), net.Op("Tanh", [net.Relu(x)])));
        Assert.Equal(net.Proto.Graph.Node.Select(n => n.Name), new ModelGraph(net.Model).Nodes.Select(n => n.Name));
    }

    /// <summary>Constants whose numbers stand in attributes other than 'value', an unknown operator, a rank that depends on data.</summary>
    [Fact]
    public void UnusualNodes()
    {
        var net = new Net(ElementType.Float32);
        string x = net.Input("x", 2, 3);
        string y = net.Linear(x, 3, 4, "a");
        y = net.Op("Reshape", [y, net.Op("Constant", [], new { value_ints = new[] { -1, 2, 2 } })]);
        y = net.Op("Reshape", [net.Mul(y, net.Op("Constant", [], new { value_float = 0.5 })), net.Op("Constant", [], new { value_ints = new[] { -1, 4 } })]);
        y = net.Linear(net.Relu(y), 4, 5, "b");
        y = net.Add(y, net.Op("Constant", [], new { value_floats = new[] { 1.0, 2, 3, 4, 5 } }));
        net.Output(net.Linear(y, 5, 2, "c"));
        Layer.Grow(net, inDouble: false, new Layer("a", 4, Unit: 2), new Layer("b", 5, How.Never, Because: "attribute"));

        // The rank of what Reshape makes depends on data: nothing behind it is known, and nothing may fail.
        net = new Net(ElementType.Float64);
        x = net.Input("x", 2, 4);
        string target = net.Input("target", ElementType.Int64, 2);
        net.Vocabulary["target"] = 1;
        y = net.Op("Reshape", [net.Linear(x, 4, 4, "a"), net.Op("Add", [target, net.Ints(2, 4)])]);
        y = net.Op("MatMul", [y, net.Weight([4, 4])], name: "b");
        y = net.Op("Add", [net.Op("Transpose", [y]), net.Weight([4, 1])]);
        net.Output(net.Op("MatMul", [net.Weight([3, 4]), y], name: "c"));
        Layer.Grow(net, new Layer("a", 4, How.Never));
        foreach (int length in new[] { 1, 2 })
        {
            net = new Net(ElementType.Float64);
            x = net.Op("NonZero", [net.Op("Cast", [net.Input("x", 2, 4)], new { to = (int)ElementType.Float32 })]);
            y = net.Op("Cast", [net.Transpose(x, 1, 0)], new { to = (int)ElementType.Float64 });
            y = net.Linear(net.Op("Tanh", [net.Linear(y, 2, 4, "a")]), 4, 3, "b");
            net.Output(net.Op("ReduceMax", [y], new { axes = new[] { 0 } }));
            Check.Morph(net, Check.Widen("*", "x1.5"), Check.Deepen("*"), Check.Kernel("*", "+2"));
        }
    }

    [Fact]
    public void DeclaredSizesFollow()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Input("x", "N", 3);
        string y = net.Linear(x, 3, 4, "a");
        string rows = net.Reshape(y, -1, 2);
        net.Output(net.Linear(net.Reshape(net.Op("Tanh", [rows]), -1, 4), 4, 2, "b"));
        net.Proto.Graph.ValueInfo.AddRange([Net.Value(y, ElementType.Float64, "N", 4), Net.Value(rows, ElementType.Float64, "rows", 2), Net.Value("a_out", ElementType.Float64, "N", "channels")]);
        MorphResult result = Check.Morph(net, Check.Widen("a", "6"));
        var declared = result.Child.Proto.Graph.ValueInfo.ToDictionary(v => v.Name, v => v.Type.TensorType.Shape.Dim);
        Assert.Equal(("N", 6), (declared[y][0].DimParam, declared[y][1].DimValue));
        Assert.False(declared[rows][0].HasDimValue || declared[rows][0].HasDimParam);
        Assert.Equal(2, declared[rows][1].DimValue);
        Assert.False(declared["a_out"][1].HasDimValue || declared["a_out"][1].HasDimParam);
    }
}
