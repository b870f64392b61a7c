using OnnxMorph.Initialization;
using OnnxMorph.Tests.Testing;
using Xunit;
using Array = OnnxMorph.Tests.Testing.Array;

namespace OnnxMorph.Tests.Initialization;

/// <summary>Fans and variances against hand calculations and against what layers do to drawn inputs.</summary>
public sealed class VarianceTests
{
    // Valid pairs of a 3×3 kernel with padding 1 along an axis of n: 3n − 2.
    private static double Padded(double channels, double n) => channels * Math.Pow((3 * n - 2) / n, 2);

    private static void Holds(Net net, params (string Name, double FanIn, double Free, double Share, double Gain)[] layers) =>
        Holds(net, [GrowthRule.Variance, GrowthRule.Share, GrowthRule.Multipliers], layers);

    private static void Holds(Net net, GrowthRule[] rules, (string Name, double FanIn, double Free, double Share, double Gain)[] layers)
    {
        // One chain from the input to the output: (Πκ)^(1/L) is over all layers.
        double kappas = Math.Exp(layers.Average(l => Math.Log(l.FanIn / Math.Sqrt(l.Free)))), shares = Math.Exp(layers.Average(l => Math.Log(l.Share)));
        foreach (GrowthRule rule in rules)
        {
            Dictionary<string, DrawnWeight> weights = InitNets.Weights(net, new InitOptions { Growth = rule });
            Assert.Equal(layers.Length, weights.Count);
            foreach (var (name, fanIn, free, uses, gain) in layers)
            {
                Close(fanIn, weights[name].FanIn);
                Assert.Equal(free, weights[name].FreeParameters);
                Close(uses, weights[name].Share);
                Close(gain, weights[name].Gain);
                double square = rule switch { GrowthRule.Variance => fanIn / Math.Sqrt(free) / kappas, GrowthRule.Share => uses / shares, _ => 1 };
                Close(gain / fanIn * square, weights[name].Variance!.Value);
                Close(rule == GrowthRule.Multipliers ? 1 / uses : 1, weights[name].LearningRateMultiplier);
            }
        }
    }

    private static void Close(double expected, double actual) => Assert.True(Math.Abs(actual - expected) <= 1e-6 * Math.Abs(expected), $"{actual} instead of {expected}");

    [Fact]
    public void Network_a_has_the_variances_of_a_hand_calculation() => Holds(InitNets.A(),
        ("conv1.weight", Padded(1, 28), 288, 1, 2), ("conv2.weight", Padded(32, 14), 18432, 1, 2), ("fc1.weight", 3136, 200704, 1, 2), ("fc2.weight", 64, 640, 1, 1));

    [Fact]
    public void Network_b_has_the_variances_of_a_hand_calculation() => Holds(InitNets.B(),
        ("conv1.weight", Padded(1, 28), 288, 1, 2), ("conv2.weight", Padded(32, 14), 18432, 1, 2), ("periodic.weight", 3025, 3025, 3136, 2), ("fc.weight", 3136, 31360, 1, 1));

    [Fact]
    public void Network_c_has_the_variances_of_a_hand_calculation() => Holds(InitNets.C(), [GrowthRule.Variance],
        [("conv1.weight", Padded(1, 28), 288, 1, 2), ("conv2.weight", Padded(32, 14), 18432, 1, 2), ("circulant.weight", 3136, 3136, 1568, 2), ("fc.weight", 1568, 15680, 1, 1)]);

    [Fact]
    public void Network_c_with_smaller_blocks_has_them_under_every_rule() => Holds(InitNets.C(block: 98),
        ("conv1.weight", Padded(1, 28), 288, 1, 2), ("conv2.weight", Padded(32, 14), 18432, 1, 2), ("circulant.weight", 196, 196, 98, 2), ("fc.weight", 98, 980, 1, 1));

    [Fact]
    public void Network_d_has_the_variances_of_a_hand_calculation() => Holds(InitNets.D(),
        ("conv1.weight", Padded(1, 28), 288, 1, 2), ("conv2.weight", Padded(32, 14), 18432, 1, 2), ("conv3.weight", Padded(64, 7), 147456, 1, 2),
        ("circulant1.weight", Padded(256, 7), 2304, 256, 2), ("circulant2.weight", Padded(256, 7), 2304, 256, 2),
        ("fc1.weight", 12544, 802816, 1, 2), ("fc2.weight", 64, 640, 1, 1));

    [Fact]
    public void A_large_kernel_in_zero_padding_has_the_fan_of_what_it_meets()
    {
        var net = new Net();
        string x = net.Input("x", 1, 1, 56, 56);
        net.Output(net.Op("Conv", [x, net.Weight([1, 1, 55, 55], name: "w")], new { pads = (int[])[27, 27, 27, 27] }));
        // Along an axis tap t meets 56 − |t − 27| positions: 55·56 − 2·(1 + … + 27) = 2324 pairs, 41.5 a result.
        Assert.Equal(41.5 * 41.5, InitNets.Weights(net, new InitOptions())["w"].FanIn, 1e-9);
        Assert.Equal(1, InitNets.Weights(net, new InitOptions())["w"].Share);
    }

    [Fact]
    public void Fans_out_are_what_an_input_reaches()
    {
        var net = new Net();
        string x = net.Input("x", 1, 4, 9, 9);
        net.Output(net.Op("Conv", [x, net.Weight([6, 2, 3, 3], name: "w")], new { group = 2, strides = (int[])[2, 2] }));
        DrawnWeight w = InitNets.Weights(net, new InitOptions())["w"];
        Assert.Equal(2 * 9, w.FanIn, 1e-9);
        // 4×4 results of 3 channels a group, 9 pairs each, over 9×9 inputs.
        Assert.Equal(3 * 9 * 16 / 81.0, w.FanOut, 1e-9);
        foreach ((FanMode mode, double fan) in ((FanMode, double)[])[(FanMode.FanIn, w.FanIn), (FanMode.FanOut, w.FanOut), (FanMode.Average, (w.FanIn + w.FanOut) / 2), (FanMode.Geometric, Math.Sqrt(w.FanIn * w.FanOut))])
            Close(1 / fan, InitNets.Weights(net, new InitOptions { Mode = mode })["w"].Variance!.Value);
        Close(2.0 / (2 * 9), InitNets.Weights(net, new InitOptions { Method = InitMethod.He })["w"].Variance!.Value);
        Close(2.0 / (2 * 9 + 3 * 9), InitNets.Weights(net, new InitOptions { Method = InitMethod.Xavier })["w"].Variance!.Value);
        Close(1.0 / (2 * 9), InitNets.Weights(net, new InitOptions { Method = InitMethod.Lecun })["w"].Variance!.Value);
    }

    public static TheoryData<string> Layers => ["zero-padded", "padded in front", "mirrored", "side by side", "asymmetric", "SAME_LOWER", "circular", "circular by slices", "strided", "dilated", "grouped", "transposed",
        "transposed, grouped", "circulant", "circulant matrix", "tiled", "two halves", "zeros in the weight", "matrix in front", "einsum", "uniform"];

    private static Net Layer(string kind)
    {
        var net = new Net(opset: 19);
        string x = net.Input("x", 2, 8, 10, 10);
        string W(params long[] shape) => net.Weight(shape, name: $"w{shape.Length}.{net.Proto.Graph.Initializer.Count}");
        string Conv(string from, object attributes) => net.Op("Conv", [from, W(8, 8, 5, 5)], attributes);
        net.Output(kind switch
        {
            "zero-padded" or "uniform" => Conv(x, new { pads = (int[])[2, 2, 2, 2] }),
            "padded in front" => Conv(net.Op("Pad", [x, net.Ints(0, 0, 2, 1, 0, 0, 0, 2)]), new { pads = (int[])[1, 0, 1, 0] }),
            "mirrored" => Conv(net.Op("Pad", [x, net.Ints(0, 0, 2, 2, 0, 0, 2, 2)], new { mode = "reflect" }), new { kernel_shape = (int[])[5, 5] }),
            "side by side" => Conv(net.Op("Pad", [net.Op("Concat", [x, net.Op("Neg", [x])], new { axis = 3 }), net.Ints(0, 0, 2, 2, 0, 0, 2, 2)]), new { kernel_shape = (int[])[5, 5] }),
            "asymmetric" => Conv(x, new { pads = (int[])[4, 0, 1, 3] }),
            "SAME_LOWER" => Conv(x, new { auto_pad = "SAME_LOWER", strides = (int[])[3, 3] }),
            "circular" => Conv(net.Op("Pad", [x, net.Ints(0, 0, 2, 3, 0, 0, 2, 1)], new { mode = "wrap" }), new { kernel_shape = (int[])[5, 5] }),
            "circular by slices" => Conv(Wrap(Wrap(x, 2), 3), new { kernel_shape = (int[])[5, 5] }),
            "strided" => Conv(x, new { pads = (int[])[2, 2, 2, 2], strides = (int[])[2, 3] }),
            "dilated" => Conv(x, new { pads = (int[])[4, 4, 4, 4], dilations = (int[])[2, 2] }),
            "grouped" => net.Op("Conv", [x, W(16, 2, 3, 3)], new { group = 4, pads = (int[])[1, 1, 1, 1] }),
            "transposed" => net.Op("ConvTranspose", [x, W(8, 6, 3, 3)], new { strides = (int[])[2, 2], pads = (int[])[1, 1, 1, 1], output_padding = (int[])[1, 1] }),
            "transposed, grouped" => net.Op("ConvTranspose", [x, W(8, 3, 4, 4)], new { strides = (int[])[2, 2], group = 2 }),
            "circulant" => net.Op("Conv", [x, net.Op("Gather", [W(8, 3, 3), InitNets.Circulant(net, 8)], new { axis = 0 })], new { pads = (int[])[1, 1, 1, 1] }),
            "circulant matrix" => net.Op("MatMul", [x, net.Op("Gather", [W(10), InitNets.Circulant(net, 10)], new { axis = 0 })]),
            "tiled" => net.Op("MatMul", [x, net.Op("Tile", [W(10, 3), net.Ints(1, 4)])]),
            "two halves" => net.Op("MatMul", [x, net.Op("Concat", [W(4, 12), W(6, 12)], new { axis = 0 })]),
            "zeros in the weight" => net.Op("MatMul", [x, net.Op("Pad", [W(4, 12), net.Ints(3, 0, 3, 0)])]),
            "matrix in front" => net.Op("MatMul", [W(12, 10), x]),
            "einsum" => net.Op("Einsum", [x, W(8, 10, 6)], new { equation = "nchw,cwo->nho" }),
            _ => throw new ArgumentException(kind),
        });
        return net;

        string Wrap(string value, int axis) => net.Op("Concat",
            [net.Op("Slice", [value, net.Ints(-2), net.Ints(long.MaxValue), net.Ints(axis)]), value, net.Op("Slice", [value, net.Ints(0), net.Ints(2), net.Ints(axis)])], new { axis });
    }

    [Theory]
    [MemberData(nameof(Layers))]
    public void The_second_moment_is_preserved(string kind)
    {
        const int Seeds = 40;
        Net net = Layer(kind);
        string output = net.Proto.Graph.Output[0].Name;
        var moments = new double[Seeds];
        for (int seed = 0; seed < Seeds; seed++)
        {
            var options = new InitOptions { Growth = GrowthRule.None, Seed = (ulong)seed, Distribution = kind == "uniform" ? DrawDistribution.Uniform : DrawDistribution.Normal };
            (InitPlan plan, var model) = InitNets.Plan(net, options);
            Assert.All(plan.Tensors, t => Assert.NotNull(t.Weight));
            Array result = Check.Run(Check.Written(model), InitNets.Normal(net, seed + 100), [output])[output];
            moments[seed] = result.Values.Average(v => v * v);
        }

        // The mean over seeds has this standard error; a He variance is off by 20 % or more where borders or sharing count.
        double mean = moments.Average(), error = Math.Sqrt(moments.Average(m => (m - mean) * (m - mean)) / (Seeds - 1));
        Assert.True(error < 0.08 && Math.Abs(mean - 1) < 4 * error, $"{mean} ± {error}");
    }

    [Theory]
    [InlineData("Relu", 2)]
    [InlineData("LeakyRelu", 2 / (1 + 0.01 * 0.01))]
    [InlineData("Clip", 2.0)]
    [InlineData("Identity", 1)]
    [InlineData("batch norm", 2)]
    [InlineData("instance norm", 1)]
    [InlineData("residual", 1)]
    [InlineData("PRelu", 2 / (1 + 0.25 * 0.25))]
    // ∫ (z·Φ(z))² φ(z) dz and the like, by adaptive quadrature in float64.
    [InlineData("SiLU", 2.81076)]
    [InlineData("GELU", 2.35172)]
    [InlineData("Tanh", 2.53618)]
    public void The_gain_is_that_of_the_activation_behind(string kind, double expected)
    {
        var net = new Net();
        string x = net.Input("x", 2, 4, 6, 6);
        string y = net.Conv(x, 4, 4, name: "conv");
        string weight = net.Last.Input[1];
        net.Output(kind switch
        {
            "Clip" => net.Op("Clip", [y, net.Filled(0)]),
            "batch norm" => net.Relu(net.BatchNorm(y, 4)),
            "instance norm" => net.Relu(net.Op("InstanceNormalization", [y, net.Positive(4), net.Weight([4])])),
            "residual" => net.Relu(net.Add(y, x)),
            "PRelu" => net.Op("PRelu", [y, net.Weight([4, 1, 1])]),
            "SiLU" => net.Mul(y, net.Op("Sigmoid", [y])),
            "GELU" => net.Mul(net.Mul(y, net.Add(net.Op("Erf", [net.Op("Div", [y, net.Filled(Math.Sqrt(2))])]), net.Filled(1))), net.Filled(0.5)),
            _ => net.Op(kind, [y]),
        });
        Assert.Equal(expected, InitNets.Weights(net, new InitOptions())[weight].Gain, 2e-4);
    }
}
