using OnnxMorph.Morphs;
using OnnxMorph.Morphs.Subnet;
using OnnxMorph.Onnx;
using OnnxMorph.Recipes;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Morphs.SubnetNets;

namespace OnnxMorph.Tests.Morphs;

/// <summary>What holds for every kind of subnet.</summary>
public class SubnetPassTests
{
    public static TheoryData<SubnetKind> Kinds => [.. Enum.GetValues<SubnetKind>()];

    private static SubnetOptions Of(SubnetKind kind) => new(kind) { Module = kind == SubnetKind.Module ? "(1, layer) | layer" : null };

    /// <summary>Layers that share a weight go on sharing, and what is new with it; readers of another kind keep the weight as it was.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void SharedWeights(SubnetKind kind)
    {
        var net = new Net(ElementType.Float64);
        string w = net.Weight([4, 4]);
        string Layer(string x, string name) => net.Op("MatMul", [x, w], name: name);
        net.Output(Layer(net.Op("Tanh", [Layer(net.Input("l", 2, 3, 4), "a")]), "b"));
        net.Output(net.Op("Tanh", [net.Op("Gemm", [net.Input("r", 5, 4), w, net.Weight([4])], name: "c")]));
        net.Output(net.Op("Gather", [w, net.Ints(2, 0)]));
        MorphResult together = Check.Morph(net, Subnet("*", Of(kind))), alone = Check.Morph(net, Subnet("a", Of(kind)));
        // What is new for a and b stands once.
        Assert.Equal(Weights(alone, "a").Order(), Weights(together, "a").Order());
        Assert.Equal(Weights(together, "b"), Weights(together, "a"));
        bool replaces = kind is SubnetKind.Sequential or SubnetKind.Stacked or SubnetKind.Module or SubnetKind.ReplicateAdd or SubnetKind.ReplicateConcat;
        Assert.Equal(replaces, alone.Steps[0].Notes.Any(n => n.Contains("no longer shared")));

        // Convolutions that see one weight in different ways have no new weights in common.
        net = new Net();
        w = net.Weight([4, 4, 3, 3]);
        foreach ((string name, int pad, int dilation) in new[] { ("a", 1, 1), ("b", 2, 2), ("c", 2, 1), ("d", 1, 1) })
            net.Output(net.Op("Conv", [net.Input($"x{name}", 1, 4, 6, 6), w], new { pads = new[] { pad, pad, pad, pad }, dilations = new[] { dilation, dilation } }, name));
        MorphResult result = Check.Morph(net, Subnet("*", Of(kind)));
        Assert.Equal(Weights(result, "a"), Weights(result, "d"));
    }

    // Initializers of the nodes that stand for a layer.
    private static List<string> Weights(MorphResult result, string layer)
    {
        GraphProto graph = result.Child.Proto.Graph;
        IReadOnlyList<string> nodes = result.Steps[0].Factorisations.Single(f => f.Node == layer).Child;
        var names = graph.Initializer.Select(t => t.Name).ToHashSet();
        return [.. graph.Node.Where(n => nodes.Contains(n.Name)).SelectMany(n => n.Input).Where(names.Contains).Distinct()];
    }

    /// <summary>No two weights of one form have an output channel in common, not even where the layer's own is 0: copies part in training.</summary>
    [Theory]
    [InlineData(SubnetKind.Stacked, 1)]
    [InlineData(SubnetKind.Stacked, 2)]
    [InlineData(SubnetKind.ReplicateAdd, 1)]
    [InlineData(SubnetKind.SplitAdd, 1)]
    public void CopiesDiffer(SubnetKind kind, int length)
    {
        foreach (double dead in new[] { 1.0, 0.0 })
        {
            Net net = Image((net, x) => net.Conv(x, 4, 4, name: "a", bias: false));
            TensorProto weight = net.Proto.Graph.Initializer.Single();
            double[] values = Numbers.Decode(ElementType.Float32, weight.RawData.Span);
            for (int i = 0; i < values.Length; i++)
                values[i] *= i < 36 ? 0 : dead;
            weight.RawData = Google.Protobuf.ByteString.CopyFrom(Numbers.Encode(ElementType.Float32, values));
            ModelProto child = Check.Written(Check.Morph(net, Subnet("a", new(kind) { Branches = 4, Length = length })).Child);
            var alike = child.Graph.Initializer.Where(t => t.Dims.Count == 4 && (kind != SubnetKind.SplitAdd || t.Dims[3] == 1)).GroupBy(t => string.Join(' ', t.Dims)).ToList();
            Assert.All(alike, same => Assert.True(same.Count() >= 4));
            foreach (var same in alike)
            {
                List<double[]> rows = [.. same.SelectMany(t => Numbers.Decode(ElementType.Float32, t.RawData.Span).Chunk((int)(t.Dims[1] * t.Dims[2] * t.Dims[3])))];
                for (int i = 0; i < rows.Count; i++)
                    for (int j = 0; j < i; j++)
                        Assert.True(rows[i].Zip(rows[j], (a, b) => Math.Abs(a - b)).Max() > 1e-3, $"rows {i} and {j} of {same.Key} are the same.");
            }
        }
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void HalfPrecision(SubnetKind kind)
    {
        var net = new Net(ElementType.Float16);
        net.Output(net.Relu(net.Conv(net.Input("x", 1, 4, 5, 5), 4, 4, name: "a")));
        net.Output(net.Relu(net.Linear(net.Input("z", 2, 3, 4), 4, 4, "b")));
        Assert.Equal(2, Check.Morph(net, Subnet("*", Of(kind))).Steps[0].Changes.Count);
    }

    /// <summary>What was put in can be widened, deepened and rewritten in turn, and every relation holds.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void MorphsOnTop(SubnetKind kind)
    {
        Net net = Image((net, x) =>
        {
            string y = net.Relu(net.BatchNorm(net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4, name: "a"), 4));
            return net.Op("Gemm", [net.Op("Flatten", [net.Op("GlobalAveragePool", [y])]), net.Weight([4, 3]), net.Weight([3])]);
        });
        Check.Morph(net, Subnet("a", Of(kind)), Check.Widen("*", "x1.5"), Subnet("*", Of(kind), 2), Check.Kernel("*", "+2"), Check.Deepen("*"), Check.Widen("*", "+1", WidenMethod.Zero));
    }

    /// <summary>The same seed gives the same bytes, another one others.</summary>
    [Fact]
    public void Seeds()
    {
        static byte[] Child(ulong seed) => Google.Protobuf.MessageExtensions.ToByteArray(
            Check.Written(Check.Morph(Image((net, x) => net.Conv(x, 4, 4, name: "a")), Subnet("a", new(SubnetKind.Stacked), seed)).Child));

        Assert.Equal(Child(1), Child(1));
        Assert.NotEqual(Child(1), Child(2));
    }

    [Fact]
    public void Refusals()
    {
        var net = new Net();
        string x = net.Conv(net.Input("x", 1, 4, 4, 4), 4, 4, name: "a");
        string fused = net.Op("com.microsoft:FusedConv", [x, net.Weight([4, 4, 1, 1]), net.Weight([4])], new { activation = "Relu" }, "fused");
        string sum = net.Op("com.microsoft:FusedConv", [fused, net.Weight([4, 4, 1, 1]), net.Weight([4]), x], new { activation = "Relu" }, "sum");
        net.Output(net.Op("Conv", [sum, net.Mul(net.Weight([4, 4, 1, 1]), net.Filled(0.5))], name: "made"));
        MorphResult result = Check.Morph(net, inDouble: false, Subnet("*", new(SubnetKind.Stacked)));
        Check.Refused(result, "fused", "activation is fused");
        Check.Refused(result, "sum", "activation is fused");
        Check.Refused(result, "made", "computed by other nodes");
        Assert.Single(Check.Morph(net, inDouble: false, Subnet("made", new(SubnetKind.SqueezeExcite))).Steps[0].Changes);
        Assert.Throws<RefusedException>(() => Morpher.Morph(net.Model, [Subnet("nothing", new(SubnetKind.Stacked))], TestContext.Current.CancellationToken));

        // Slices of a bias that is no constant.
        net = new Net(ElementType.Float64);
        net.Output(net.Op("Gemm", [net.Input("x", 2, 4), net.Weight([4, 4]), net.Input("bias", 4)], name: "a"));
        Check.Refused(Check.Morph(net, Subnet("a", new(SubnetKind.ReplicateConcat))), "a", "bias is computed");
        Assert.Single(Check.Morph(net, Subnet("a", new(SubnetKind.Stacked))).Steps[0].Changes);
    }

    [Theory]
    [InlineData("kind: stacked\n    branches: 3", null)]
    [InlineData("kind: module\n    module: (3x3, 3x3) | 1x1", null)]
    [InlineData("kind: residual\n    module: 3x3:x2, 1x1", null)]
    [InlineData("kind: skip-add\n    from: conv1", null)]
    [InlineData("kind: module", "needs a module")]
    [InlineData("kind: module\n    module: 3x", "not understood")]
    [InlineData("kind: parallel", "'parallel' is no kind of subnet")]
    [InlineData("branches: 3", "needs a kind")]
    [InlineData("kind: squeeze-excite\n    branches: 3", "squeeze-excite takes no 'branches': it is for stacked, replicate-add")]
    [InlineData("kind: stacked\n    branches: 0", "not a branches")]
    [InlineData("kind: stacked\n    module: 3x3", "takes no 'module'")]
    public void Recipes(string options, string? wrong)
    {
        string text = $"steps:\n  - subnet: '*'\n    {options}";
        if (wrong is null)
            Assert.Equal("subnet", Recipe.Parse(Recipe.Parse(text, "recipe.yaml").ToYaml(), "again").Steps.Single().Kind);
        else
            Assert.Contains(wrong, Assert.Throws<UsageException>(() => Recipe.Parse(text, "recipe.yaml")).Message, StringComparison.Ordinal);
    }
}
