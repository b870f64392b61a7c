using OnnxMorph.Morphs;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Operators;

public class PointwiseTests
{
    private const int Channels = 4;

    // x → linear layer → operator → linear layer, a branch for each operator.
    private static Net Branches(ElementType type, int opset, IEnumerable<(string Name, Func<Net, string, string> Op)> branches)
    {
        var net = new Net(type, opset) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Input("x", "N", 2, 5);
        foreach ((string name, Func<Net, string, string> op) in branches)
            net.Output(net.Op("MatMul", [op(net, net.Linear(x, 5, Channels, name)), net.Weight([Channels, 2])]));
        return net;
    }

    private static (string, Func<Net, string, string>) Plain(string op) => (op, (net, x) => net.Op(op, [x]));

    [Fact]
    public void OneOperandInDouble()
    {
        string[] names = ["Relu", "Sigmoid", "Tanh", "Exp", "Abs", "Neg", "Sin", "Cos", "Floor", "Ceil", "Round", "Sign", "Identity"];
        Layer.Grow(Branches(ElementType.Float64, 17, names.Select(Plain)), [.. names.Select(n => new Layer(n, Channels))]);
    }

    [Fact]
    public void OneOperand()
    {
        (string Name, Func<Net, string, string>)[] branches =
        [
            .. new[] { "Atan", "Asinh", "Cosh", "Sinh", "Erf", "Softplus", "Softsign", "Elu", "Selu", "Celu", "LeakyRelu", "HardSigmoid", "HardSwish", "Mish", "Gelu", "ThresholdedRelu", "Dropout" }.Select(Plain),
            ("Clip", (net, x) => net.Op("Clip", [x, net.Filled(-0.2), net.Filled(0.3)])),
            ("Shrink", (net, x) => net.Op("Shrink", [x], new { lambd = 0.2, bias = 0.1 })),
            ("MsGelu", (net, x) => net.Op("com.microsoft:Gelu", [x])),
            ("QuickGelu", (net, x) => net.Op("com.microsoft:QuickGelu", [x])),
            ("FastGelu", (net, x) => net.Op("com.microsoft:FastGelu", [x, net.Weight([Channels])])),
            ("BiasGelu", (net, x) => net.Op("com.microsoft:BiasGelu", [x, net.Weight([Channels])])),
            ("PRelu", (net, x) => net.Op("PRelu", [x, net.Weight([Channels])])),
            ("PReluOne", (net, x) => net.Op("PRelu", [x, net.Weight([1])])),
        ];
        Layer.Grow(Branches(ElementType.Float32, 20, branches), inDouble: false, [.. branches.Select(b => new Layer(b.Name, Channels))]);
    }

    /// <summary>Broadcasting from any side, with the own channels, one number, a row of another rank, several operands.</summary>
    [Fact]
    public void Broadcasting()
    {
        (string Name, Func<Net, string, string>)[] branches =
        [
            ("AddVector", (net, x) => net.Add(x, net.Weight([Channels]))),
            ("VectorSub", (net, x) => net.Op("Sub", [net.Weight([Channels]), x])),
            ("MulColumn", (net, x) => net.Mul(x, net.Weight([2, 1]))),
            ("MulTable", (net, x) => net.Mul(net.Weight([1, 2, Channels]), x)),
            ("AddScalar", (net, x) => net.Add(net.Filled(0.3), x)),
            ("AddOne", (net, x) => net.Add(x, net.Filled(0.3, 1, 1, 1))),
            ("MoreAxes", (net, x) => net.Op("Squeeze", [net.Add(x, net.Weight([1, 1, 1, Channels])), net.Ints(0)])),
            ("DivVector", (net, x) => net.Op("Div", [x, net.Positive(Channels)])),
            ("PowTwo", (net, x) => net.Op("Pow", [x, net.Filled(2)])),
            ("MaxVector", (net, x) => net.Op("Max", [x, net.Weight([Channels]), net.Filled(0.1, 1)])),
            ("SumThree", (net, x) => net.Op("Sum", [x, net.Weight([Channels]), x])),
            ("Twice", (net, x) => net.Mul(x, x)),
            ("TwiceAdded", (net, x) => net.Add(x, x)),
            ("Where", (net, x) => net.Op("Where", [net.Op("Greater", [x, net.Weight([Channels])]), x, net.Op("Neg", [x])])),
            ("WhereRows", (net, x) => net.Op("Where", [net.Bools([2, 1], true, false), x, net.Weight([Channels])])),
            ("Comparison", (net, x) => net.Op("Where", [net.Op("And", [net.Op("Less", [x, net.Filled(0.2)]), net.Op("Not", [net.Op("Less", [x, net.Filled(-0.2)])])]), x, net.Filled(0)])),
        ];
        Layer.Grow(Branches(ElementType.Float64, 17, branches), [.. branches.Select(b => new Layer(b.Name, Channels))]);
    }

    /// <summary>Two layers joined element by element are one space; so are both operands of a gate.</summary>
    [Fact]
    public void JoinedLayersGrowTogether()
    {
        foreach (string op in new[] { "Add", "Sub", "Mul", "Max" })
        {
            var net = new Net(ElementType.Float64);
            string x = net.Input("x", 2, 3);
            string joined = net.Op(op, [net.Linear(x, 3, 4, "a"), net.Op("Tanh", [net.Linear(x, 3, 4, "b")])]);
            net.Output(net.Linear(joined, 4, 2, "c"));
            var result = Check.Morph(net, Check.Widen("a", "7"));
            Check.Grown(result, "a", 7);
            Assert.Equal(7, Assert.Single(result.Relations["b_out"], m => m is not null)!.Size);
        }
    }

    /// <summary>Partial functions may turn channels that nobody reads into infinities, and 0·∞ is not 0: only copies go through.</summary>
    [Fact]
    public void PartialFunctionsTakeCopiesOnly()
    {
        (string Name, Func<Net, string, string>)[] branches =
        [
            ("Sqrt", (net, x) => net.Op("Sqrt", [net.Add(net.Relu(x), net.Positive(Channels))])),
            ("Log", (net, x) => net.Op("Log", [net.Add(net.Relu(x), net.Positive(Channels))])),
            ("Reciprocal", (net, x) => net.Op("Reciprocal", [net.Add(net.Relu(x), net.Positive(Channels))])),
            ("Denominator", (net, x) => net.Op("Div", [net.Filled(1), net.Add(net.Relu(x), net.Positive(Channels))])),
            ("Root", (net, x) => net.Op("Pow", [net.Add(net.Relu(x), net.Positive(Channels)), net.Filled(0.5)])),
            ("Exponent", (net, x) => net.Op("Pow", [net.Positive(Channels), x])),
        ];
        Layer.Grow(Branches(ElementType.Float64, 17, branches), [.. branches.Select(b => new Layer(b.Name, Channels, How.ByCopies))]);
    }

    /// <summary>A deviation without epsilon that the exporter takes the root of: fresh entries of 0 would divide by 0.</summary>
    [Fact]
    public void RootsOfConstants()
    {
        var net = new Net(ElementType.Float64);
        string x = net.Input("x", 2, 3);
        string y = net.Op("Div", [net.Linear(x, 3, 4, "a"), net.Op("Sqrt", [net.Positive(4)])]);
        net.Output(net.Linear(y, 4, 2, "b"));
        var result = Check.Morph(net, Check.Widen("a", "6", WidenMethod.Replicate), Check.Widen("a", "8", WidenMethod.Zero));
        Check.Grown(result, "a", 6);
    }

    [Fact]
    public void CastsKeepChannels()
    {
        var net = new Net(ElementType.Float64);
        string x = net.Input("x", 2, 3);
        string y = net.Op("Cast", [net.Linear(x, 3, 4, "a")], new { to = (int)ElementType.Float32 });
        y = net.Op("Cast", [net.Op("Cast", [y], new { to = (int)ElementType.Int64 })], new { to = (int)ElementType.Float64 });
        net.Output(net.Linear(y, 4, 2, "b"));
        Layer.Grow(net, new Layer("a", 4), new Layer("b", 2, How.Never, Because: "output"));
    }

    /// <summary>
    /// Weights computed from weights: what is not linear may not be split over copies. Each is multiplied from the right.
    /// </summary>
    [Theory]
    [InlineData("Neg", true)]
    [InlineData("Scaled", true)]
    [InlineData("Divided", true)]
    [InlineData("Transposed", true)]
    [InlineData("Product", true)]
    [InlineData("Padded", false)]
    [InlineData("Tiled", true)]
    [InlineData("Joined", true)]
    [InlineData("Reciprocal", false)]
    [InlineData("Quotient", false)]
    [InlineData("Abs", false)]
    [InlineData("Squared", false)]
    [InlineData("Shifted", false)]
    [InlineData("Rounded", false)]
    [InlineData("Normalised", false)]
    [InlineData("BatchNorm", false)]
    [InlineData("Repeated", false)]
    [InlineData("Ones", false)]
    [InlineData("Gemm", false)]
    [InlineData("Elementwise", false)]
    public void ComputedWeights(string form, bool passes)
    {
        var net = new Net(ElementType.Float64);
        string x = net.Input("x", 3, 3);
        string y = net.Linear(x, 3, 4, "a");
        string w = form switch
        {
            "Neg" => net.Op("Neg", [net.Weight([4, 2])]),
            "Scaled" => net.Mul(net.Weight([4, 2]), net.Filled(0.3)),
            "Divided" => net.Op("Div", [net.Weight([4, 2]), net.Filled(0.3)]),
            "Transposed" => net.Transpose(net.Reshape(net.Weight([8]), 2, 4), 1, 0),
            "Product" => net.Op("MatMul", [net.Weight([4, 3]), net.Weight([3, 2])]),
            "Padded" => net.Op("Pad", [net.Weight([4, 2]), net.Ints(0, 1, 0, 1), net.Filled(0.5)]),
            "Tiled" => net.Op("Tile", [net.Weight([4, 2]), net.Ints(1, 2)]),
            "Joined" => net.Op("Concat", [net.Weight([4, 2]), net.Weight([4, 1])], new { axis = 1 }),
            "Reciprocal" => net.Op("Reciprocal", [net.Positive(4, 2)]),
            "Quotient" => net.Op("Div", [net.Filled(1), net.Positive(4, 2)]),
            "Abs" => net.Op("Abs", [net.Weight([4, 2])]),
            "Squared" => net.Mul(net.Weight([4, 2], name: "same"), "same"),
            "Shifted" => net.Add(net.Weight([4, 2]), net.Filled(0.3)),
            "Rounded" => net.Op("Cast", [net.Op("Cast", [net.Weight([4, 2], 5)], new { to = (int)ElementType.Int32 })], new { to = (int)ElementType.Float64 }),
            "Normalised" => net.Op("LayerNormalization", [net.Weight([4, 2]), net.Weight([2])], new { axis = -1 }),
            "BatchNorm" => net.BatchNorm(net.Weight([4, 2]), 2),
            "Repeated" => net.Op("Expand", [net.Weight([1, 2]), net.Ints(4, 2)]),
            "Ones" => net.Op("ConstantOfShape", [net.Ints(4, 2)], new { value = Net.Tensor("", ElementType.Float64, [1], () => 0.5) }),
            "Gemm" => net.Op("Gemm", [net.Weight([4, 3]), net.Weight([3, 2]), net.Weight([2])]),
            "Elementwise" => net.Op("Einsum", [net.Weight([4, 2]), net.Weight([4, 2])], new { equation = "ab,ab->ab" }),
            _ => throw new ArgumentException(form),
        };
        net.Output(net.Op("MatMul", [y, w]));
        Layer.Grow(net, new Layer("a", 4, passes ? How.Freely : How.Never));
    }
}
