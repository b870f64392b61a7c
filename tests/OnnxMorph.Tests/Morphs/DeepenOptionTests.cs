using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>Every option of deepening on every kind of layer, borders and sizes below the kernel's among the inputs.</summary>
public class DeepenOptionTests
{
    private static readonly Dictionary<string, Func<Net>> s_layers = new()
    {
        ["conv"] = () => DeepenTests.Image((net, x) => net.Relu(net.Conv(x, 4, 5, name: "a"))),
        ["conv no bias"] = () => DeepenTests.Image((net, x) => net.Relu(net.BatchNorm(net.Conv(x, 4, 5, name: "a", bias: false), 5))),
        ["strided"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { strides = new[] { 2, 3 }, pads = new[] { 1, 2, 1, 0 } })),
        ["dilated"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { dilations = new[] { 2, 1 }, pads = new[] { 2, 1, 2, 1 } })),
        ["strided and dilated"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { dilations = new[] { 1, 2 }, strides = new[] { 2, 2 }, pads = new[] { 1, 3, 1, 2 } })),
        ["grouped"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 6, group: 2, name: "a")),
        ["depthwise"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 4, group: 4, name: "a")),
        ["depthwise, two each"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 8, group: 4, name: "a")),
        ["even kernel"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, kernel: 2, name: "a", attributes: new { auto_pad = "SAME_LOWER" })),
        ["1-D"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, name: "a", dimensions: 1), 1),
        ["3-D"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 3, kernel: 2, name: "a", dimensions: 3, attributes: new { pads = new[] { 0, 1, 1, 1, 0, 1 } }), 3),
        ["transposed"] = () => DeepenTests.Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 5, 3, 2]), net.Weight([5])],
            new { strides = new[] { 2, 1 }, output_padding = new[] { 1, 0 }, pads = new[] { 1, 0, 0, 1 } }, "a")),
        ["transposed, cut off"] = () => DeepenTests.Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 5, 4, 3])],
            new { strides = new[] { 3, 2 }, pads = new[] { 1, 1, 1, 1 }, dilations = new[] { 1, 2 } }, "a")),
        ["transposed, grouped"] = () => DeepenTests.Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 3, 3]), net.Weight([6])],
            new { group = 2, strides = new[] { 2, 2 }, pads = new[] { 1, 1, 1, 1 } }, "a")),
        ["Gemm"] = () => Dense((net, x) => net.Op("Gemm", [x, net.Weight([4, 5]), net.Weight([3, 1])], new { alpha = 0.5, beta = 2.0 }, "a")),
        ["Gemm transB"] = () => Dense((net, x) => net.Op("Tanh", [net.Op("Gemm", [x, net.Weight([5, 4])], new { transB = 1 }, "a")])),
        ["Gemm transA"] = () => Dense((net, x) => net.Op("Gemm", [net.Transpose(x, 1, 0), net.Weight([4, 5]), net.Weight([5])], new { transA = 1, beta = 0.5 }, "a")),
        ["MatMul"] = () => Dense((net, x) => net.Relu(net.Linear(net.Op("Unsqueeze", [x, net.Ints(0)]), 4, 5, "a"))),
        ["MatMul transposed"] = () => Dense((net, x) => net.Op("MatMul", [x, net.Transpose(net.Weight([5, 4]), 1, 0)], name: "a")),
    };

    private static readonly Dictionary<string, DeepenOptions> s_options = new()
    {
        ["rotation last"] = new() { Order = DeepenOrder.Last, Channels = SizeRequest.Parse("x1.5") },
        ["rotation first"] = new() { Order = DeepenOrder.First, Channels = SizeRequest.Parse("+5"), Count = 2 },
        ["kernels"] = new() { Kernels = KernelPair.Parse("4,3"), Count = 2, Channels = SizeRequest.Parse("x2") },
        ["kernel second"] = new() { Kernels = KernelPair.Parse("2,4"), Channels = SizeRequest.Parse("x2") },
        ["mirror"] = new() { Activation = DeepenActivation.Mirror, Count = 2 },
        ["mirror identity"] = new() { Activation = DeepenActivation.Mirror, Method = DeepenMethod.Identity, Kernels = KernelPair.Parse("4,3") },
        ["linear"] = new() { Activation = DeepenActivation.None, Order = DeepenOrder.First, Channels = SizeRequest.Parse("x2"), Kernels = KernelPair.Parse("2,4") },
        ["norm"] = new() { Method = DeepenMethod.Identity, Norm = DeepenNorm.Identity, Count = 2, Kernels = KernelPair.Parse("4,2") },
        ["norm of a rotation"] = new() { Norm = DeepenNorm.Identity, Activation = DeepenActivation.Mirror },
        ["general"] = new() { Method = DeepenMethod.General, Channels = SizeRequest.Parse("x1.2"), Count = 2 },
        ["general, dense"] = new() { Method = DeepenMethod.General, Channels = SizeRequest.Parse("x9"), Kernels = KernelPair.Parse("3,2") },
        ["general, mirrored"] = new() { Method = DeepenMethod.General, Channels = SizeRequest.Parse("x9"), Kernels = KernelPair.Parse("2,3"), Activation = DeepenActivation.Mirror },
        ["practical"] = new() { Method = DeepenMethod.Practical, Kernels = KernelPair.Parse("4,3") },
        ["zero residual"] = new() { Method = DeepenMethod.ZeroResidual, Channels = SizeRequest.Parse("x1.5"), Count = 2 },
        ["zero residual with norm"] = new() { Method = DeepenMethod.ZeroResidual, Kernels = KernelPair.Parse("2,3"), Norm = DeepenNorm.Identity },
    };

    private static Net Dense(Func<Net, string, string> layer, ElementType type = ElementType.Float32)
    {
        var net = new Net(type) { Runs = { new() { ["N"] = 3 } } };
        net.Output(layer(net, net.Input("x", "N", 4)));
        return net;
    }

    public static TheoryData<string> Options => [.. s_options.Keys];

    public static TheoryData<string> Layers => [.. s_layers.Keys];

    [Theory]
    [MemberData(nameof(Options))]
    public void EveryLayer(string name)
    {
        DeepenOptions options = s_options[name];
        foreach ((string layer, Func<Net> make) in s_layers)
        {
            Net net = make();
            MorphResult result;
            try
            {
                result = Check.Morph(net, Check.Deepen("*", options));
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"{layer}: {e.Message}", e);
            }

            if (Reason(layer, name) is { } reason)
                Check.Refused(result, "a", reason);
            else
                Check.Grown(result, "a", 1 + options.Count * (options.Method == DeepenMethod.ZeroResidual ? 2 : 1));
            DeepenTests.SameBits(net, result);
        }
    }

    // What cannot be: a tanh is no mirror pair, a batch norm wants channels on axis 1, 5 channels are not 4·(2 − 1).
    private static string? Reason(string layer, string options) => (layer, options) switch
    {
        ("Gemm transB", "mirror" or "mirror identity" or "norm of a rotation" or "general, mirrored") => "which a mirror pair needs",
        ("MatMul", "norm" or "norm of a rotation" or "zero residual with norm") => "axis 1",
        _ => null,
    };

    /// <summary>φ behind a mirror pair undoes itself with the factor that the table says.</summary>
    [Theory]
    [InlineData("Relu")]
    [InlineData("LeakyRelu", "alpha", 0.3)]
    [InlineData("LeakyRelu")]
    [InlineData("Softplus")]
    [InlineData("HardSwish")]
    [InlineData("Gelu")]
    [InlineData("com.microsoft:Gelu")]
    [InlineData("com.microsoft:QuickGelu", "alpha", 1.3)]
    [InlineData("Sigmoid", "gate")]
    [InlineData("HardSigmoid", "gate")]
    public void MirroredActivations(string op, string? attribute = null, double value = 0)
    {
        foreach (DeepenMethod method in new[] { DeepenMethod.ClosedForm, DeepenMethod.Identity, DeepenMethod.General })
        {
            var net = new Net(opset: 20);
            string y = net.Op("MatMul", [net.Input("x", 3, 4), net.Weight([4, 5])], name: "a");
            string z = net.Op(op, [y]);
            if (attribute == "gate")
                z = net.Mul(y, z);
            else if (attribute is not null)
                net.Last.Attribute.Add(Net.Attribute(attribute, value));
            net.Output(z);
            MorphResult result = Check.Morph(net, inDouble: false, Check.Deepen("*", new DeepenOptions { Method = method, Activation = DeepenActivation.Mirror, Count = 2 }));
            Check.Grown(result, "a", 3);
            string own = op[(op.IndexOf(':') + 1)..];
            Assert.Equal(3, result.Child.Proto.Graph.Node.Count(n => n.OpType == own));
            Assert.Equal(attribute == "gate" ? 3 : 0, result.Child.Proto.Graph.Node.Count(n => n.OpType == "Mul"));
        }
    }

    [Theory]
    [InlineData("Tanh")]
    [InlineData("Elu")]
    [InlineData("Celu")]
    [InlineData("Selu")]
    [InlineData("Mish")]
    [InlineData("Sigmoid")]
    [InlineData("Softsign")]
    [InlineData("Clip")]
    [InlineData("ThresholdedRelu")]
    public void ActivationsWithoutMirror(string op)
    {
        var net = new Net(opset: 20);
        net.Output(net.Op(op, [net.Add(net.Op("MatMul", [net.Input("x", 3, 4), net.Weight([4, 5])], name: "a"), net.Weight([5]))]));
        Check.Refused(Check.Morph(net, inDouble: false, Check.Deepen("*", new DeepenOptions { Activation = DeepenActivation.Mirror })), "a", "which a mirror pair needs");
    }

    [Fact]
    public void IdempotentActivations()
    {
        var options = new DeepenOptions { Method = DeepenMethod.Identity, Activation = DeepenActivation.Idempotent, Count = 2 };
        foreach (DeepenNorm norm in Enum.GetValues<DeepenNorm>())
        {
            Net net = DeepenTests.Image((net, x) =>
            {
                string y = net.Relu(net.Conv(x, 4, 6, group: 2, name: "a"));
                y = net.Op("Clip", [net.Add(net.BatchNorm(net.Conv(y, 6, 6, name: "b"), 6), y), net.Filled(-0.2), net.Filled(0.3)]);
                return net.Conv(y, 6, 2, name: "c");
            });
            MorphResult result = Check.Morph(net, Check.Deepen("*", options with { Norm = norm }));
            Check.Grown(result, "a", 3);
            Check.Grown(result, "b", 3);
            Check.Refused(result, "c", "no activation");
            Assert.All(result.Steps[0].Factorisations, f => Assert.Equal("idempotent", f.Form));
            Assert.Equal(3, result.Child.Proto.Graph.Node.Count(n => n.OpType == "Clip" && n.Input.Count == 3));
            DeepenTests.SameBits(net, result);
        }

        // One activation behind two layers takes new ones once; others are not idempotent, or behind more than the layer makes.
        var joined = new Net(ElementType.Float64);
        string x = joined.Input("x", 3, 4);
        joined.Output(joined.Relu(joined.Add(joined.Op("MatMul", [x, joined.Weight([4, 5])], name: "left"), joined.Op("MatMul", [x, joined.Weight([4, 5])], name: "right"))));
        joined.Output(joined.Op("Tanh", [joined.Op("MatMul", [x, joined.Weight([4, 5])], name: "tanh")]));
        joined.Output(joined.Relu(joined.Add(joined.Op("MatMul", [x, joined.Weight([4, 5])], name: "broadcast"), joined.Input("z", 2, 3, 5))));
        MorphResult once = Check.Morph(joined, Check.Deepen("*", options));
        Check.Grown(once, "left", 3);
        Check.Refused(once, "right", "a layer already");
        Check.Refused(once, "tanh", "not idempotent");
        Check.Refused(once, "broadcast", "other sizes");
    }

    [Theory]
    [InlineData(ElementType.Float16)]
    [InlineData(ElementType.Float32)]
    public void Precisions(ElementType type)
    {
        foreach (DeepenOptions options in s_options.Values)
        {
            var net = new Net(type);
            net.Output(net.Relu(net.Conv(net.Input("x", 2, 4, 5, 4), 4, 6, name: "a")));
            MorphResult result = Check.Morph(net, inDouble: false, Check.Deepen("*", options));
            Check.Grown(result, "a", 1 + options.Count * (options.Method == DeepenMethod.ZeroResidual ? 2 : 1));
            DeepenTests.SameBits(net, result);
        }
    }

    /// <summary>Weights that layers share stay shared; where somebody else reads them too, they stay what they are.</summary>
    [Theory]
    [InlineData(DeepenMethod.General)]
    [InlineData(DeepenMethod.Practical)]
    [InlineData(DeepenMethod.ClosedForm)]
    public void SharedWeights(DeepenMethod method)
    {
        var options = new DeepenOptions { Method = method, Channels = SizeRequest.Parse("x2"), Count = 2 };
        var net = new Net(ElementType.Float64);
        string w = net.Weight([3, 4]);
        net.Output(net.Op("MatMul", [net.Input("l", 2, 3), w], name: "a"));
        net.Output(net.Op("Tanh", [net.Op("MatMul", [net.Input("r", 5, 3), w], name: "b")]));
        MorphResult result = Check.Morph(net, Check.Deepen("*", options));
        Check.Grown(result, "a", 3);
        Assert.Equal(3, result.Child.Proto.Graph.Initializer.Count(t => t.Dims is [> 2, > 2]));
        Check.Refused(Check.Morph(net, Check.Deepen("a", options)), "a", "is read by others too");
        Check.Refused(Check.Morph(net, Check.Deepen("a", options with { Activation = DeepenActivation.Mirror, Channels = null })), "a", "is read by others too");

        // Mirror pairs of different φ need different weights behind them.
        net = new Net();
        w = net.Weight([3, 4]);
        net.Output(net.Relu(net.Op("MatMul", [net.Input("l", 2, 3), w], name: "a")));
        net.Output(net.Op("Softplus", [net.Op("MatMul", [net.Input("r", 5, 3), w], name: "b")]));
        Check.Grown(Check.Morph(net, inDouble: false, Check.Deepen("*", options with { Activation = DeepenActivation.Mirror })), "b", 3);
        net.Last.OpType = "LeakyRelu";
        result = Check.Morph(net, inDouble: false, Check.Deepen("*", options with { Activation = DeepenActivation.Mirror }));
        Check.Refused(result, "b", "is read by others too");
    }

    /// <summary>Values that lead from a constant to the layer are declared anew.</summary>
    [Fact]
    public void DeclaredWeights()
    {
        var net = new Net();
        string w = net.Op("Identity", [net.Transpose(net.Op("Identity", [net.Weight([3, 4, 3, 5])]), 3, 1, 0, 2)]);
        net.Output(net.Op("Conv", [net.Input("x", 1, 4, 6, 6), w], new { pads = new[] { 1, 1, 1, 1 } }, "a"));
        foreach (NodeProto node in net.Proto.Graph.Node.SkipLast(1))
            net.Proto.Graph.ValueInfo.Add(Net.Value(node.Output[0], net.Type, node.OpType == "Identity" && node.Input[0][0] == 'w' ? [3, 4, 3, 5] : [5, 4, 3, 3]));
        foreach (DeepenOptions options in s_options.Values)
            Check.Grown(Check.Morph(net, Check.Deepen("*", options)), "a", 1 + options.Count * (options.Method == DeepenMethod.ZeroResidual ? 2 : 1));

        // One that callers read stays what it is.
        net.Output(net.Proto.Graph.Node[0].Output[0]);
        Check.Refused(Check.Morph(net, Check.Deepen("*", new DeepenOptions { Method = DeepenMethod.Practical })), "a", "computed by other nodes");
    }

    [Fact]
    public void LeastSquaresResiduals()
    {
        Net net = DeepenTests.Image((net, x) => net.Conv(x, 4, 25, kernel: 5, group: 1, name: "a"));
        var options = new DeepenOptions { Method = DeepenMethod.General, Kernels = KernelPair.Parse("3,3") };
        foreach (DeepenMethod method in new[] { DeepenMethod.General, DeepenMethod.Practical })
        {
            // 27 weights a side for 25 equations, and still not enough: see NumericsTests.
            Net few = DeepenTests.Image((net, x) => net.Conv(net.Op("Slice", [x, net.Ints(0), net.Ints(1), net.Ints(1)]), 1, 25, kernel: 5, name: "a"));
            Check.Refused(Check.Morph(few, Check.Deepen("*", options with { Method = method, Channels = SizeRequest.Parse("3") })), "a", "residual of");
            Check.Grown(Check.Morph(few, Check.Deepen("*", options with { Method = method, Channels = SizeRequest.Parse("4") })), "a", 2);
        }

        Check.Refused(Check.Morph(net, Check.Deepen("*", options with { Channels = SizeRequest.Parse("5") })), "a", "residual of");
        MorphResult result = Check.Morph(net, Check.Deepen("*", options with { Channels = SizeRequest.Parse("x3") }));
        Factorisation factorisation = Assert.Single(result.Steps[0].Factorisations);
        Assert.Equal("least squares", factorisation.Form);
        Assert.InRange(factorisation.Residual!.Value, 1e-40, 1e-24);
        Assert.Contains("residual", Assert.Single(result.Steps[0].Notes), StringComparison.Ordinal);
        // Both halves are dense and of one standard deviation.
        double[][] halves = [.. result.Child.Proto.Graph.Initializer.Where(t => t.Dims.Count == 4).Select(t => new WeightEvaluator().EvaluateUnrounded(result.Child.Data(t)))];
        Assert.Equal([4 * 75 * 9, 25 * 75 * 9], halves.Select(h => h.Length).Order());
        Assert.All(halves, h => Assert.True(h.Count(v => Math.Abs(v) < 1e-9) < h.Length / 100));
        Assert.Equal(Deviation(halves[0]), Deviation(halves[1]), 1e-12);

        static double Deviation(double[] values) => Math.Sqrt(values.Average(v => v * v) - Math.Pow(values.Average(), 2));
    }

    [Fact]
    public void ClosedFormIsDense()
    {
        foreach (DeepenOrder order in new[] { DeepenOrder.Last, DeepenOrder.First })
        {
            var net = new Net();
            net.Output(net.Conv(net.Input("x", 1, 6, 4, 4), 6, 6, name: "a"));
            MorphResult result = Check.Morph(net, Check.Deepen("*", new DeepenOptions { Order = order, Channels = SizeRequest.Parse("9") }));
            var weights = result.Child.Proto.Graph.Initializer.Where(t => t.Dims.Count == 4).Select(t => (t.Dims, Values: new WeightEvaluator().EvaluateUnrounded(result.Child.Data(t)))).ToList();
            Assert.Equal(order == DeepenOrder.Last ? [[6, 9, 1, 1], [9, 6, 3, 3]] : new long[][] { [9, 6, 1, 1], [6, 9, 3, 3] }, weights.Select(w => w.Dims.ToArray()).OrderBy(d => d[2]));
            Assert.All(weights, w => Assert.DoesNotContain(w.Values, v => Math.Abs(v) < 1e-7));
        }
    }

    [Fact]
    public void ZeroResidualsLearn()
    {
        Net net = DeepenTests.Image((net, x) => net.Op("Tanh", [net.Conv(x, 4, 6, name: "a")]));
        MorphResult result = Check.Morph(net, Check.Deepen("*", new DeepenOptions { Method = DeepenMethod.ZeroResidual, Channels = SizeRequest.Parse("40") }));
        double[] Weights(string name) => new WeightEvaluator().EvaluateUnrounded(result.Child.Data(result.Child.Proto.Graph.Initializer.Single(t => t.Name == name)));
        Assert.All(Weights("a_second_weight").Concat(Weights("a_second_bias")), w => Assert.Equal(0, w));
        Assert.Equal(Math.Sqrt(2.0 / (6 * 9)), Math.Sqrt(Weights("a_first_weight").Average(w => w * w)), 0.01);
        Assert.Equal(2, result.Child.Proto.Graph.Node.Count(n => n.OpType == "Tanh"));
    }

    /// <summary>Norms take the statistics that their own input has over the samples.</summary>
    [Fact]
    public void Calibration()
    {
        string file = Path.Combine(Path.GetTempPath(), $"{Guid.NewGuid():N}.pb");
        try
        {
            Net net = DeepenTests.Image((net, x) => net.Relu(net.Conv(net.Relu(net.Conv(x, 4, 6, name: "a")), 6, 6, group: 3, name: "b")));
            var random = new Random(4);
            TensorProto sample = net.Tensor("x", [2, 4, 5, 3], () => 3 * random.NextDouble() + 1);
            using (FileStream stream = File.Create(file))
                Google.Protobuf.MessageExtensions.WriteTo(sample, stream);
            foreach (DeepenOptions options in new DeepenOptions[] { new(), new() { Activation = DeepenActivation.Mirror }, new() { Method = DeepenMethod.ZeroResidual }, new() { Method = DeepenMethod.Identity, Activation = DeepenActivation.Idempotent } })
            {
                MorphResult result = Check.Morph(net, Check.Deepen("*", options with { Norm = DeepenNorm.Identity, Calibrate = file }));
                Assert.Equal(OnnxMorph.Verification.Exactness.Rounding == result.Steps[0].Exactness, options.Method != DeepenMethod.ZeroResidual);
                ModelProto child = Check.Written(result.Child);
                var feeds = new Dictionary<string, Testing.Array> { ["x"] = new(net.Type, [.. sample.Dims], Numbers.Decode(net.Type, sample.RawData.Span)) };
                var values = Check.Run(child, feeds);
                List<NodeProto> norms = [.. child.Graph.Node.Where(n => n.OpType == "BatchNormalization")];
                Assert.Equal(2, norms.Count);
                foreach (NodeProto norm in norms)
                {
                    double[] Vector(int input) => Numbers.Decode(net.Type, child.Graph.Initializer.Single(t => t.Name == norm.Input[input]).RawData.Span);
                    Testing.Array seen = values[norm.Input[0]];
                    int channels = (int)seen.Shape[1], positions = (int)(seen.Shape[2] * seen.Shape[3]);
                    float epsilon = norm.Attribute.Single(a => a.Name == "epsilon").F;
                    for (int c = 0; c < channels; c++)
                    {
                        double[] own = [.. seen.Values.Where((_, i) => i / positions % channels == c)];
                        double mean = own.Average(), variance = own.Average(v => v * v) - mean * mean;
                        Assert.Equal(mean, Vector(2)[c], 1e-5);
                        Assert.Equal(mean, Vector(3)[c], 1e-5);
                        Assert.Equal(variance, Vector(4)[c], 1e-5);
                        Assert.Equal(Math.Sqrt(Vector(4)[c] + epsilon), Vector(1)[c], 1e-6);
                    }
                }
            }
        }
        finally
        {
            File.Delete(file);
        }
    }

    [Fact]
    public void Refusals()
    {
        void Refuses(string layer, DeepenOptions options, string because) => Check.Refused(Check.Morph(s_layers[layer](), Check.Deepen("*", options)), "a", because);
        Refuses("1-D", new() { Kernels = KernelPair.Parse("1x3,3x1") }, "its kernel has 1 axis");
        Refuses("conv", new() { Kernels = KernelPair.Parse("2,2"), Channels = SizeRequest.Parse("x2") }, "does not fit the second half's of 2×2");
        Refuses("conv", new() { Kernels = KernelPair.Parse("2,3"), Order = DeepenOrder.Last }, "does not fit the first half's of 2×2");
        Refuses("conv", new() { Kernels = KernelPair.Parse("1,2"), Method = DeepenMethod.General }, "less far than its own of 3×3");
        Refuses("conv", new() { Kernels = KernelPair.Parse("2,3"), Method = DeepenMethod.Identity }, "does not fit the first half's");
        Refuses("conv", new() { Channels = SizeRequest.Parse("3") }, "needs 4 channels between the halves, and it has 3");
        Refuses("conv", new() { Channels = SizeRequest.Parse("4"), Order = DeepenOrder.Last }, "needs 5 channels between the halves, and it has 4");
        Refuses("conv", new() { Channels = SizeRequest.Parse("3"), Method = DeepenMethod.Practical }, "residual of");
        Refuses("MatMul", new() { Norm = DeepenNorm.Identity }, "channels on axis 1, and its lie on axis 2; a layer norm cannot");

        // Pads that follow from the caller's sizes.
        var net = new Net { Runs = { new() { ["H"] = 5 } } };
        net.Output(net.Op("Conv", [net.Input("x", 1, 3, "H", 6), net.Weight([4, 3, 3, 3])], new { auto_pad = "SAME_UPPER", strides = new[] { 2, 2 } }, "a"));
        Check.Refused(Check.Morph(net, Check.Deepen("*", new DeepenOptions { Method = DeepenMethod.General })), "a", "auto_pad");
        Check.Grown(Check.Morph(net, Check.Deepen("*")), "a", 2);

        // Whole groups.
        MorphResult rounded = Check.Morph(s_layers["grouped"](), Check.Deepen("*", new DeepenOptions { Channels = SizeRequest.Parse("7") }));
        Assert.Contains(rounded.Steps[0].Notes, n => n.Contains("8 channels between the halves, in whole groups of 2", StringComparison.Ordinal));
    }

    [Fact]
    public void Usage()
    {
        foreach (string text in new[] { "", "3", "3,", "3,3,3", "0,3", "3,-1", "3x,3", "a,b", "256,1" })
            Assert.Contains("pair of kernels", Assert.Throws<UsageException>(() => KernelPair.Parse(text)).Message, StringComparison.Ordinal);
        Assert.Equal("1x3,3x1", KernelPair.Parse("1x3, 3x1").ToString());
        foreach (DeepenOptions options in new DeepenOptions[]
        {
            new() { Method = DeepenMethod.General, Order = DeepenOrder.Last },
            new() { Method = DeepenMethod.Identity, Channels = SizeRequest.Parse("8") },
            new() { Activation = DeepenActivation.Idempotent },
            new() { Method = DeepenMethod.ZeroResidual, Activation = DeepenActivation.Mirror },
            new() { Calibrate = "samples.npz" },
        })
            Assert.Throws<UsageException>(options.Validate);
    }
}
