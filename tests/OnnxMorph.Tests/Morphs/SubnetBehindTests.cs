using OnnxMorph.Morphs;
using OnnxMorph.Morphs.Subnet;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Morphs.SubnetNets;

namespace OnnxMorph.Tests.Morphs;

/// <summary>What is put behind a layer's result.</summary>
public class SubnetBehindTests
{
    public static TheoryData<SubnetKind> Kinds =>
        [SubnetKind.Residual, SubnetKind.SkipAdd, SubnetKind.SkipConcat, SubnetKind.SplitAdd, SubnetKind.SplitConcat, SubnetKind.SqueezeExcite];

    /// <summary>Behind a convolution and behind its norm, whatever its form; values keep their positions, so skips fit.</summary>
    [Theory]
    [MemberData(nameof(Kinds))]
    public void Images(SubnetKind kind)
    {
        SubnetOptions options = new(kind) { Branches = 3 };
        for (int dimensions = 1; dimensions <= 3; dimensions++)
            Fits(Image((net, x) => net.Relu(net.Conv(x, 4, 4, name: "a", dimensions: dimensions)), dimensions), options);
        foreach (int opset in new[] { 9, 12, 21 })
            Fits(Image((net, x) => net.Relu(net.BatchNorm(net.Conv(x, 4, 4, name: "a"), 4)), opset: opset), options, inDouble: opset is > 10 and < 18);
        Fits(Image((net, x) => net.Conv(x, 4, 4, group: 2, name: "a")), options);
        Fits(Image((net, x) => net.Conv(x, 4, 4, group: 4, name: "a")), options);
        Fits(Image((net, x) => net.Add(net.Conv(x, 4, 4, name: "a", bias: false), net.Weight([1, 4, 1, 1]))), options);
        // A result that callers and two layers read.
        Fits(Image((net, x) =>
        {
            string a = net.Conv(x, 4, 4, name: "a");
            net.Output(a);
            return net.Mul(net.Relu(a), net.Op("Sigmoid", [a]));
        }), options);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Tokens(SubnetKind kind)
    {
        SubnetOptions options = new(kind) { Branches = 3 };
        foreach ((ElementType type, int opset, bool bias) in new[] { (ElementType.Float32, 17, true), (ElementType.Float64, 9, false), (ElementType.Float64, 18, true) })
            Fits(Dense((net, x) => net.Op("Tanh", [net.Linear(net.Reshape(x, 1, -1, 4), 4, 4, "a", bias)]), type, opset), options);
        if (kind != SubnetKind.SqueezeExcite)
            Fits(Dense((net, x) => net.Relu(net.Op("Gemm", [x, net.Weight([4, 4]), net.Weight([4])], name: "a"))), options);
    }

    /// <summary>New kernels reach along axes with several positions; where there is one, other taps would only ever see padding.</summary>
    [Theory]
    [InlineData(new int[0], 3, 3)]
    [InlineData(new[] { 3 }, 3, 1)]
    [InlineData(new[] { 2, 3 }, 1, 1)]
    public void ResidualKernelsReachAsFarAsThereArePositions(int[] averaged, long height, long width)
    {
        Net net = Image((net, x) => net.Conv(averaged.Length == 0 ? x : net.Op("ReduceMean", [x], new { axes = averaged }), 4, 4, kernel: 1, name: "a"));
        ModelProto child = Check.Written(Check.Morph(net, Subnet("a", new(SubnetKind.Residual))).Child);
        var kernels = child.Graph.Node.Where(n => n.OpType == "Conv" && n.Name != "a").Select(n => child.Graph.Initializer.Single(t => t.Name == n.Input[1]).Dims).ToList();
        Assert.Equal(2, kernels.Count);
        Assert.All(kernels, dims => Assert.Equal([4, 4, height, width], dims));
    }

    /// <summary>A skip becomes half of itself and a module that makes the other half.</summary>
    [Theory]
    [InlineData(null)]
    [InlineData("3x3, 1x1")]
    [InlineData("(1:x2, 3) | 5 | id")]
    public void SkipsAreSplit(string? module)
    {
        SubnetOptions options = new(SubnetKind.Residual) { Module = module };
        var net = Image((net, x) =>
        {
            string stem = net.Relu(net.Conv(x, 4, 6, name: "a"));
            return net.Relu(net.Op("Add", [net.Conv(net.Relu(net.Conv(stem, 6, 6)), 6, 6), stem], name: "sum"));
        });
        MorphResult result = Check.Morph(net, Subnet("sum", options));
        Assert.Single(result.Steps[0].Changes);
        Assert.Equal("residual", result.Steps[0].Factorisations.Single().Form);
        TensorProto kept = result.Child.Proto.Graph.Initializer.Single(t => t.Name == "sum_kept");
        Assert.Equal([6, 1, 1], kept.Dims);
        Check.Morph(net, Subnet("*", options));

        // Tokens, the skip in front.
        if (module is not null)
            return;
        net = Dense((net, x) =>
        {
            string stem = net.Op("Tanh", [net.Linear(net.Reshape(x, -1, 1, 4), 4, 6, "a")]);
            return net.Op("Add", [stem, net.Linear(net.Relu(net.Linear(stem, 6, 6)), 6, 6)], name: "sum");
        });
        Assert.Single(Check.Morph(net, Subnet("sum", options)).Steps[0].Changes);
    }

    [Fact]
    public void SumsThatAreNoSkips()
    {
        Net net = Image((net, x) => net.Op("Add", [net.Conv(x, 4, 6, name: "a"), net.Conv(x, 4, 6, name: "b")], name: "sum"));
        Check.Refused(Check.Morph(net, Subnet("sum", new(SubnetKind.Residual))), "sum", "neither of its operands");
        // No layer makes what is skipped, so nothing tells which axis holds the channels.
        net = Image((net, x) => net.Op("Add", [x, net.Conv(x, 4, 4, name: "a")], name: "sum"));
        Check.Refused(Check.Morph(net, Subnet("sum", new(SubnetKind.Residual))), "sum", "which axis");
        Assert.Throws<RefusedException>(() => Check.Morph(Image((net, x) => net.Add(net.Conv(x, 4, 6, name: "a"), net.Weight([1, 6, 1, 1]))), Subnet("add*", new(SubnetKind.Residual))));
    }

    /// <summary>Where a skip begins: the layer's input, else the nearest value that fits, else where it is told.</summary>
    [Theory]
    [InlineData(SubnetKind.SkipAdd)]
    [InlineData(SubnetKind.SkipConcat)]
    public void SkipsBegin(SubnetKind kind)
    {
        Net net = Image((net, x) =>
        {
            string a = net.Relu(net.Conv(x, 4, 6, name: "a"));
            string b = net.Relu(net.Conv(a, 6, 8, name: "b"));
            return net.Op("MaxPool", [net.Conv(b, 8, 6, name: "c")], new { kernel_shape = new[] { 1, 1 } });
        });
        string From(string? name, string layer = "c") => Check.Morph(net, Subnet(layer, new(kind) { From = name })).Child.Proto.Graph.Node
            .Single(n => n.Name == (kind == SubnetKind.SkipAdd ? $"{layer}_mul_1" : $"{layer}_concat")).Input[1];
        string relu = net.Proto.Graph.Node[1].Output[0];
        Assert.Equal(kind == SubnetKind.SkipAdd ? relu : net.Proto.Graph.Node[3].Output[0], From(null));
        Assert.Equal(relu, From(net.Proto.Graph.Node[1].Name));
        Assert.Equal("a_out", From("a"));

        MorphResult Morph(string layer, string? from) => Check.Morph(net, Subnet(layer, new(kind) { From = from }));
        Check.Refused(Morph("a", "c"), "a", "does not come before");
        Assert.Contains("no node 'd'", Assert.Throws<RefusedException>(() => Morph("a", "d")).Message);
        if (kind == SubnetKind.SkipAdd)
        {
            Check.Refused(Morph("c", "b"), "c", "does not fit");
            Check.Refused(Morph("a", null), "a", "no earlier value");
            return;
        }

        Net pooled = Image((net, x) => net.Conv(net.Op("MaxPool", [net.Conv(x, 4, 6, name: "a")], new { kernel_shape = new[] { 2, 2 }, pads = new[] { 1, 1, 0, 0 } }), 6, 6, name: "b", attributes: new { strides = new[] { 2, 2 }, pads = new[] { 1, 1, 1, 1 } }));
        Check.Refused(Check.Morph(pooled, Subnet("b", new(kind))), "b", "no earlier value");
    }

    /// <summary>Behind a bias and a norm that only lead on; in front of them where others read what is between.</summary>
    [Fact]
    public void WhereTheResultIs()
    {
        Net net = Image((net, x) => net.Relu(net.BatchNorm(net.Add(net.Conv(x, 4, 4, name: "a", bias: false), net.Weight([4, 1, 1])), 4)));
        IReadOnlyList<string> Order() => [.. Check.Morph(net, Subnet("a", new(SubnetKind.SqueezeExcite))).Child.Proto.Graph.Node.Select(n => n.OpType)];
        Assert.Equal(["Conv", "Add", "BatchNormalization", "GlobalAveragePool", "Conv", "Relu", "Conv", "Sigmoid", "Mul", "Mul", "Relu"], Order());
        net.Output(net.Proto.Graph.Node[1].Output[0]);
        Assert.Equal(["Conv", "Add", "GlobalAveragePool"], Order().Take(3));
        net = Image((net, x) => net.Relu(net.Add(net.Conv(x, 4, 4, name: "a", bias: false), net.Weight([2, 1, 1, 1]))));
        Assert.Equal(["Conv", "GlobalAveragePool"], Order().Take(2));
    }

    [Fact]
    public void Refusals()
    {
        Check.Refused(Check.Morph(Dense((net, x) => net.Linear(x, 4, 4, "a")), Subnet("a", new(SubnetKind.SqueezeExcite))), "a", "no positions");
        Check.Refused(Check.Morph(Dense((net, x) => net.Linear(net.Reshape(x, -1, 1, 4), 4, 4, "a")), Subnet("a", new(SubnetKind.SqueezeExcite))), "a", "single position");
        Check.Refused(Check.Morph(Image((net, x) => net.Conv(x, 4, 4, name: "a")), Subnet("a", new(SubnetKind.SplitConcat) { Branches = 5 })), "a", "cannot be shared out over 5");
        Check.Refused(Check.Morph(Image((net, x) => net.Conv(x, 4, 4, name: "a")), Subnet("a", new(SubnetKind.Residual) { Module = "3x3 | id" })), "a", "cannot start at 0");
        Check.Refused(Check.Morph(Image((net, x) => net.Conv(x, 4, 4, name: "a")), Subnet("a", new(SubnetKind.Residual) { Module = "3x3, 1:5" })), "a", "both 4 and 5");
    }

    /// <summary>The module of a residual block has random weights but for its last layers.</summary>
    [Fact]
    public void OnlyTheLastLayersOfAResidualBlockAreZero()
    {
        Net net = Image((net, x) => net.Op("Tanh", [net.Conv(x, 4, 4, name: "a")]));
        ModelProto child = Check.Written(Check.Morph(net, Subnet("a", new(SubnetKind.Residual) { Module = "(1:6, 3x3:2) & (3x3, 1:2)" })).Child);
        Assert.Equal(3, child.Graph.Node.Count(n => n.OpType == "Tanh"));
        double[] Size(string name) => Numbers.Decode(ElementType.Float32, child.Graph.Initializer.Single(t => t.Name == name).RawData.Span);
        foreach (NodeProto layer in child.Graph.Node.Where(n => n.OpType == "Conv" && n.Name != "a"))
            Assert.Equal(child.Graph.Node.Any(n => n.OpType == "Concat" && n.Input.Contains(layer.Output[0])), Size(layer.Input[1]).All(v => v == 0));
    }
}
