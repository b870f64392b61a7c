using OnnxMorph.Axes;
using OnnxMorph.Morphs;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Operators;

public class NormalizationTests
{
    private static Net Image(Func<Net, string, string> op, int channels = 4, int opset = 17, int after = 0)
    {
        var net = new Net(opset: opset) { Runs = { new() { ["N"] = 2, ["H"] = 6, ["W"] = 5 }, new() { ["N"] = 1, ["H"] = 2, ["W"] = 2 } } };
        string y = op(net, net.Conv(net.Input("x", "N", 3, "H", "W"), 3, channels, name: "a"));
        net.Output(net.Conv(y, after == 0 ? channels : after, 2, name: "b"));
        return net;
    }

    private static Net Tokens(Func<Net, string, string> op, int channels = 4, int opset = 17, int after = 0, ElementType type = ElementType.Float64)
    {
        var net = new Net(type, opset) { Runs = { new() { ["N"] = 2, ["T"] = 3 }, new() { ["N"] = 1, ["T"] = 1 } } };
        string y = op(net, net.Linear(net.Input("x", "N", "T", 3), 3, channels, "a"));
        net.Output(net.Op("MatMul", [y, net.Weight([after == 0 ? channels : after, 2])], name: "b"));
        return net;
    }

    [Fact]
    public void Batch()
    {
        Layer.Grow(Image((net, x) => net.BatchNorm(x, 4)), new Layer("a", 4));
        // Over a concatenation, and on its own in front of the activation.
        Layer.Grow(Image((net, x) => net.Relu(net.BatchNorm(net.Op("Concat", [x, net.Op("Sigmoid", [net.BatchNorm(x, 4)])], new { axis = 1 }), 8)), after: 8), new Layer("a", 4));
        // Of a matrix.
        var net = new Net(ElementType.Float64);
        net.Output(net.Linear(net.BatchNorm(net.Linear(net.Input("x", 5, 3), 3, 4, "a"), 4), 4, 2));
        Layer.Grow(net, new Layer("a", 4));
    }

    [Fact]
    public void Instance() =>
        Layer.Grow(Image((net, x) => net.Op("InstanceNormalization", [x, net.Weight([4]), net.Weight([4])], new { epsilon = 0.1 })), inDouble: false, new Layer("a", 4));

    // Norms whose ε is an attribute hold it in single precision; sizes and ε are such that what it becomes is a float.
    private const double Epsilon = 0.09375;

    private static MorphResult GrowFilled(Net net, bool inDouble = true)
    {
        MorphResult result = Check.Morph(net, inDouble, Check.Widen("*", "x1.5"), Check.Widen("*", "+2", WidenMethod.Zero), Check.Widen("*", "x2", WidenMethod.Opposed));
        foreach ((int step, long size) in ((int, long)[])[(0, 6), (1, 8), (2, 16)])
            Check.Grown(result, "a", size, step);
        return result;
    }

    /// <summary>Beside the copies, the mean before the norm and zeros behind it.</summary>
    [Fact]
    public void LayerNorm()
    {
        MorphResult result = GrowFilled(Tokens((net, x) => net.Op("LayerNormalization", [x, net.Weight([4]), net.Weight([4])], new { epsilon = Epsilon }, name: "norm")));
        AxisMap before = result.Relations["a_out"][2]!, after = result.Relations["norm_out"][2]!;
        for (int c = 0; c < 16; c++)
        {
            Assert.Equal(c < 4 ? [c] : [0, 1, 2, 3], before[c].ToArray().Select(t => t.Source));
            Assert.All(before[c].ToArray(), t => Assert.Equal(c < 4 ? 1 : 0.25, t.Weight, 1e-15));
            Assert.Equal(c < 4 ? [new Tap(c, 1)] : [], after[c].ToArray());
        }

        GrowFilled(Tokens((net, x) => net.Op("LayerNormalization", [x, net.Weight([4])], new { epsilon = Epsilon, axis = 2 })));
        // A residual stream that a norm begins with and no norm adds to.
        GrowFilled(Tokens((net, x) =>
        {
            string normed = net.Op("LayerNormalization", [x, net.Weight([4]), net.Weight([4])], new { epsilon = Epsilon });
            string sum = net.Add(x, net.Linear(net.Op("Tanh", [net.Linear(normed, 4, 5, "up")]), 5, 4, "down"));
            return net.Op("LayerNormalization", [sum, net.Weight([4]), net.Weight([4])], new { epsilon = Epsilon });
        }));
        // What is normalised again as it stands cannot be both zero and a mean: whole copies only.
        Layer.Grow(Tokens((net, x) =>
        {
            string normed = net.Op("LayerNormalization", [x, net.Weight([4]), net.Weight([4])], new { epsilon = 0.1 });
            return net.Op("LayerNormalization", [net.Add(normed, net.Linear(normed, 4, 4, "b2")), net.Weight([4]), net.Weight([4])], new { epsilon = 0.1 });
        }), new Layer("a", 4, How.Uniformly, Because: "it normalises over this axis"));
        // Not linear before the norm, or one shift for all channels behind it.
        Layer.Grow(Tokens((net, x) => net.Op("LayerNormalization", [net.Relu(x), net.Weight([4])], new { epsilon = 0.1 })), new Layer("a", 4, How.Uniformly, Because: "it normalises over this axis"));
        Layer.Grow(Tokens((net, x) => net.Op("Sigmoid", [net.Op("LayerNormalization", [x, net.Weight([4])], new { epsilon = 0.1 })])), new Layer("a", 4, How.Uniformly, Because: "it normalises over this axis"));
        // Over heads and sizes at once: both are taken equally often.
        Layer.Grow(Tokens((net, x) => net.Reshape(net.Op("LayerNormalization", [net.Reshape(x, 0, 0, 2, 2), net.Weight([2, 2])], new { epsilon = 0.1, axis = -2 }), 0, 0, 4)), new Layer("a", 4, How.Uniformly));
        // Beside what callers give the mean is over something fixed.
        Layer.Grow(Tokens((net, x) => net.Op("LayerNormalization", [net.Op("Concat", [x, "x"], new { axis = 2 }), net.Weight([7])], new { epsilon = 0.1 }), after: 7), new Layer("a", 4, How.Never));
        // Two layers under one norm grow by the same factor.
        var net = Tokens((net, x) => net.Op("LayerNormalization", [net.Op("Concat", [x, net.Linear("x", 3, 6, "c")], new { axis = 2 }), net.Weight([10])], new { epsilon = 0.1 }), after: 10);
        result = Check.Morph(net, Check.Widen("a", "x2.5"));
        Check.Grown(result, "a", 12);
        Assert.Equal(18, result.Relations["c_out"][2]!.Size);
    }

    private static string TakenApart(Net net, string x, int channels, bool affine = true)
    {
        string mean = net.Op("ReduceMean", [x], new { axes = new[] { -1 } });
        string centred = net.Op("Sub", [x, mean]);
        string variance = net.Op("ReduceMean", [net.Op("Pow", [centred, net.Filled(2)])], new { axes = new[] { -1 } });
        string scaled = net.Op("Div", [centred, net.Op("Sqrt", [net.Add(variance, net.Filled(0.1))])]);
        return affine ? net.Add(net.Mul(scaled, net.Weight([channels])), net.Weight([channels])) : scaled;
    }

    [Fact]
    public void LayerNormTakenApart()
    {
        MorphResult result = Layer.Grow(Tokens((net, x) => TakenApart(net, x, 4)), new Layer("a", 4));
        // ε and the scale took the factor: no node was added.
        Assert.DoesNotContain(result.Child.Proto.Graph.Node, n => n.Name.EndsWith("_share", StringComparison.Ordinal));
        // Without a scale that could take it, a factor stands in the graph.
        result = Layer.Grow(Tokens((net, x) => TakenApart(net, x, 4, affine: false)), new Layer("a", 4));
        Assert.Contains(result.Child.Proto.Graph.Node, n => n.Name.Contains("_share", StringComparison.Ordinal));
        // Normalised again as it stands.
        Layer.Grow(Tokens((net, x) => TakenApart(net, TakenApart(net, x, 4), 4)), new Layer("a", 4, How.Uniformly, Because: "mean"));
    }

    // 1e-5·4/6 is no float32, and what is lost of it shows in float64 where the variance is small.
    [Fact]
    public void EpsilonsOfFloat64ThatAFloat32CannotHold()
    {
        Net Norm(ElementType type) => Tokens((net, x) => net.Op("LayerNormalization", [x, net.Weight([4])], new { epsilon = 1e-5 }, name: "norm"), type: type);
        Check.Refused(Check.Morph(Norm(ElementType.Float64), Check.Widen("a", "6")), "a", "epsilon");
        Assert.Equal(8, Check.Grown(Check.Morph(Norm(ElementType.Float64), Check.Widen("a", "8")), "a", 8));
        Assert.Equal(6, Check.Grown(Check.Morph(Norm(ElementType.Float32), inDouble: false, Check.Widen("a", "6")), "a", 6));
    }

    [Fact]
    public void RootMeanSquare()
    {
        GrowFilled(Tokens((net, x) => net.Op("RMSNormalization", [x, net.Weight([4])], new { epsilon = Epsilon }), opset: 23));
        GrowFilled(Tokens((net, x) => net.Op("SimplifiedLayerNormalization", [x, net.Weight([4])], new { epsilon = Epsilon, axis = -1 }), type: ElementType.Float32), inDouble: false);
        Layer.Grow(Tokens((net, x) =>
        {
            string power = net.Op("ReduceMean", [net.Mul(x, x), net.Ints(-1)]);
            return net.Mul(net.Mul(x, net.Op("Reciprocal", [net.Op("Sqrt", [net.Add(power, net.Filled(0.1))])])), net.Weight([4]));
        }, opset: 18), new Layer("a", 4));
        // Normalised again as it stands: zeros stay zeros.
        GrowFilled(Tokens((net, x) =>
        {
            string normed = net.Op("RMSNormalization", [x, net.Weight([4])], new { epsilon = Epsilon });
            return net.Op("RMSNormalization", [net.Add(normed, net.Op("Tanh", [net.Linear(normed, 4, 4, "b2")])), net.Weight([4])], new { epsilon = Epsilon });
        }, opset: 23));
        Layer.Grow(Tokens((net, x) => net.Op("RMSNormalization", [net.Op("Exp", [x]), net.Weight([4])], new { epsilon = 0.1 }), opset: 23), new Layer("a", 4, How.Uniformly, Because: "it normalises over this axis"));
    }

    /// <summary>Scale and bias are per group until operator set 20, per channel from 21 on.</summary>
    [Theory]
    [InlineData(18, 2)]
    [InlineData(18, 4)]
    [InlineData(21, 2)]
    [InlineData(21, 8)]
    [InlineData(21, 1)]
    public void Group(int opset, int groups)
    {
        int parameters = opset < 21 ? groups : 8;
        var net = Image((net, x) => net.Op("GroupNormalization", [x, net.Weight([parameters]), net.Weight([parameters])], new { num_groups = groups, epsilon = 0.1 }), channels: 8, opset: opset);
        // (From operator set 21 on ONNX Runtime computes the statistics in single precision whatever is given.) Whole new groups; with one group of all channels every channel alike.
        Layer.Grow(net, inDouble: opset < 21, groups == 1 ? new Layer("a", 8, How.Uniformly) : new Layer("a", 8, Unit: 8 / groups));
    }

    /// <summary>The export of older operator sets: an instance norm of the groups, then scale and bias of the channels.</summary>
    [Fact]
    public void GroupByReshape() =>
        Layer.Grow(Image((net, x) =>
        {
            string groups = net.Op("Reshape", [x, net.Ints(0, 2, -1)]);
            string normed = net.Op("InstanceNormalization", [groups, net.Filled(1, 2), net.Filled(0, 2)], new { epsilon = 0.1 });
            return net.Add(net.Mul(net.Op("Reshape", [normed, net.Op("Shape", [x])]), net.Weight([8, 1, 1])), net.Weight([8, 1, 1]));
        }, channels: 8), inDouble: false, new Layer("a", 8, Unit: 4));

    [Theory]
    [InlineData(11)]
    [InlineData(13)]
    public void Softmax(int opset)
    {
        foreach (string op in new[] { "Softmax", "LogSoftmax" })
        {
            Layer.Grow(Tokens((net, x) => net.Op(op, [x], new { axis = -1 }), opset: opset), new Layer("a", 4, How.Never, Because: op));
            // Over the tokens: until operator set 13 everything behind the axis is taken together.
            Layer.Grow(Tokens((net, x) => net.Op(op, [x], new { axis = 1 }), opset: opset), new Layer("a", 4, opset < 13 ? How.Never : How.Freely, Because: opset < 13 ? op : ""));
            Layer.Grow(Tokens((net, x) => net.Op(op, [x]), opset: opset), new Layer("a", 4, How.Never, Because: op));
        }
    }

    [Fact]
    public void AlongAnAxis()
    {
        Layer.Grow(Tokens((net, x) => net.Op("CumSum", [x, net.Int(1)])), new Layer("a", 4));
        Layer.Grow(Tokens((net, x) => net.Op("CumSum", [x, net.Int(-1)])), new Layer("a", 4, How.Never, Because: "CumSum"));
        Layer.Grow(Tokens((net, x) => net.Op("LpNormalization", [x], new { axis = 1, p = 2 })), new Layer("a", 4));
        Layer.Grow(Tokens((net, x) => net.Op("LpNormalization", [x])), new Layer("a", 4, How.Never, Because: "LpNormalization"));
        Layer.Grow(Image((net, x) => net.Op("LRN", [x], new { size = 3 })), inDouble: false, new Layer("a", 4, How.Never, Because: "LRN"));
        Layer.Grow(Image((net, x) => net.Op("MeanVarianceNormalization", [x])), inDouble: false, new Layer("a", 4, How.Never));
        var net = Tokens((net, x) => net.Mul(x, net.Op("Cast", [net.Op("ArgMax", [x], new { axis = 1 })], new { to = (int)ElementType.Float64 })));
        Layer.Grow(net, new Layer("a", 4));
        net = Tokens((net, x) => net.Mul(x, net.Op("Cast", [net.Op("ArgMax", [x], new { axis = -1 })], new { to = (int)ElementType.Float64 })));
        Layer.Grow(net, new Layer("a", 4, How.Never, Because: "ArgMax"));
    }

    [Theory]
    [InlineData(13)]
    [InlineData(18)]
    public void Reductions(int opset)
    {
        string Reduce(Net net, string op, string x, int axis, int keepdims) =>
            opset < 18 && op != "ReduceSum" ? net.Op(op, [x], new { axes = new[] { axis }, keepdims }) : net.Op(op, [x, net.Ints(axis)], new { keepdims });
        foreach (string op in new[] { "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceL2", "ReduceLogSumExp", "ReduceProd", "ReduceSumSquare", "ReduceL1" })
        {
            var type = op is "ReduceProd" or "ReduceL1" or "ReduceSumSquare" ? ElementType.Float32 : ElementType.Float64;
            // Over the tokens the channels go through, with the axis kept or dropped.
            Layer.Grow(Tokens((net, x) => net.Add(x, Reduce(net, op, x, 1, 1)), opset: opset, type: type), inDouble: type == ElementType.Float64, new Layer("a", 4));
            Layer.Grow(Tokens((net, x) => Reduce(net, op, x, -2, 0), opset: opset, type: type), inDouble: type == ElementType.Float64, new Layer("a", 4));
            // Over the channels it depends on the operator.
            How how = op switch { "ReduceMean" => How.Freely, "ReduceMax" or "ReduceMin" => How.ByCopies, _ => How.Never };
            Layer.Grow(Tokens((net, x) => net.Add(x, Reduce(net, op, x, -1, 1)), opset: opset, type: type), inDouble: type == ElementType.Float64, new Layer("a", 4, how, Because: op));
        }
    }

    [Fact]
    public void ReductionsOverEverything()
    {
        Layer.Grow(Tokens((net, x) => net.Add(x, net.Op("ReduceMean", [x]))), new Layer("a", 4));
        Layer.Grow(Tokens((net, x) => net.Add(x, net.Op("ReduceMax", [x])), opset: 18), new Layer("a", 4, How.ByCopies));
        Layer.Grow(Tokens((net, x) => net.Op("ReduceMean", [x], new { noop_with_empty_axes = 1 }), opset: 18), new Layer("a", 4));
        Layer.Grow(Tokens((net, x) => net.Add(x, net.Op("ReduceMean", [x, net.Ints(0, 2)])), opset: 18), new Layer("a", 4));
    }

    [Fact]
    public void Pools()
    {
        (string Op, object? Attributes)[] pools =
        [
            ("MaxPool", new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } }),
            ("MaxPool", new { kernel_shape = new[] { 3, 3 }, pads = new[] { 1, 1, 1, 1 }, strides = new[] { 2, 1 } }),
            ("AveragePool", new { kernel_shape = new[] { 2, 2 } }),
            ("GlobalAveragePool", null),
            ("GlobalMaxPool", null),
        ];
        foreach ((string op, object? attributes) in pools)
            Layer.Grow(Image((net, x) => net.Op(op, [x], attributes)), inDouble: op != "GlobalMaxPool", new Layer("a", 4));
        Layer.Grow(Image((net, x) => net.Op("LpPool", [x], new { kernel_shape = new[] { 2, 2 } })), inDouble: false, new Layer("a", 4));
        Layer.Grow(Image((net, x) => net.Op("GlobalLpPool", [x])), inDouble: false, new Layer("a", 4));
        Layer.Grow(Image((net, x) =>
        {
            string[] both = net.Ops("MaxPool", 2, [x], new { kernel_shape = new[] { 2, 2 } });
            return net.Mul(both[0], net.Op("Cast", [both[1]], new { to = (int)ElementType.Float32 }));
        }), inDouble: false, new Layer("a", 4, How.Never, Because: "indices"));
    }

    [Fact]
    public void Resampling()
    {
        Layer.Grow(Image((net, x) => net.Op("Resize", [x, "", net.Floats(1, 1, 2, 2)], new { mode = "nearest" })), inDouble: false, new Layer("a", 4));
        Layer.Grow(Image((net, x) => net.Op("Resize", [x, "", net.Floats(1, 1, 1.5, 2)], new { mode = "linear" })), inDouble: false, new Layer("a", 4));
        // Sizes: two of them the value's own, so that the channels must be followed.
        Layer.Grow(Image((net, x) => net.Op("Resize", [x, "", "", net.Shape(net.Size(x, 0), net.Size(x, 1), 7, 9)], new { mode = "nearest" })), inDouble: false, new Layer("a", 4));
        Layer.Grow(Image((net, x) => net.Op("Resize", [x, "", "", net.Shape(net.Size(x, 0), 4, 7, 9)], new { mode = "linear" })), inDouble: false, new Layer("a", 4));
        Layer.Grow(Image((net, x) => net.Op("Resize", [x, "", "", net.Op("Concat", [net.Op("Shape", [x], new { end = 2 }), net.Op("Mul", [net.Op("Shape", [x], new { start = 2 }), net.Int(2)])], new { axis = 0 })], new { mode = "nearest" })), inDouble: false, new Layer("a", 4));
        // As PyTorch computes them: floats of the sizes, floored.
        Layer.Grow(Image((net, x) =>
        {
            string Twice(int axis) => net.Op("Cast", [net.Op("Floor", [net.Mul(net.Op("Cast", [net.Size(x, axis)], new { to = (int)ElementType.Float32 }), net.Filled(2))])], new { to = (int)ElementType.Int64 });
            return net.Op("Resize", [x, "", "", net.Op("Concat", [net.Op("Slice", [net.Op("Shape", [x]), net.Ints(0), net.Ints(2)]), net.Shape(Twice(2), Twice(3))], new { axis = 0 })], new { mode = "nearest" });
        }), inDouble: false, new Layer("a", 4));
        Layer.Grow(Image((net, x) => net.Op("Resize", [x, "", net.Floats(2, 3)], new { mode = "nearest", axes = new[] { 2, 3 } }), opset: 18), inDouble: false, new Layer("a", 4));
        Layer.Grow(Image((net, x) => net.Op("Upsample", [x, net.Floats(1, 1, 2, 3)], new { mode = "nearest" }), opset: 9), inDouble: false, new Layer("a", 4));
    }

    [Fact]
    public void Regions()
    {
        var net = new Net();
        string x = net.Conv(net.Input("x", 1, 3, 6, 6), 3, 4, name: "a");
        string boxes = net.Op("Concat", [net.Filled(0.5, 3, 2), net.Filled(4, 3, 2)], new { axis = 1 });
        net.Output(net.Conv(net.Op("RoiAlign", [x, boxes, net.Ints(0, 0, 0)], new { output_height = 2, output_width = 2 }), 4, 2, name: "b"));
        net.Output(net.Conv(net.Op("GridSample", [x, net.Weight([1, 2, 3, 2])]), 4, 2, name: "c"));
        Layer.Grow(net, inDouble: false, new Layer("a", 4));
    }

    [Fact]
    public void Quantisation()
    {
        // Per tensor the channels go through.
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Linear(net.Input("x", "N", 3), 3, 4, "a");
        string scale = net.Filled(0.05);
        x = net.Op("DequantizeLinear", [net.Op("QuantizeLinear", [x, scale]), scale]);
        net.Output(net.Linear(x, 4, 2, "b"));
        Layer.Grow(net, inDouble: false, new Layer("a", 4));

        // Per channel the scales follow.
        net = new Net { Runs = { new() { ["N"] = 2 } } };
        x = net.Linear(net.Input("x", "N", 3), 3, 4, "a");
        scale = net.Positive(4);
        x = net.Op("DequantizeLinear", [net.Op("QuantizeLinear", [net.Mul(x, net.Filled(50)), scale], new { axis = 1 }), scale], new { axis = -1 });
        net.Output(net.Linear(x, 4, 2, "b"));
        Layer.Grow(net, inDouble: false, new Layer("a", 4));
    }
}
