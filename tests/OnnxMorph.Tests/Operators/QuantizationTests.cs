using Google.Protobuf;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;
using Array = OnnxMorph.Tests.Testing.Array;

namespace OnnxMorph.Tests.Operators;

/// <summary>
/// Quantised models in QDQ form. Scales are powers of two and the weights few bits, so that ONNX Runtime's sums are exact in any order
/// and a child must give the parent's outputs bit for bit.
/// </summary>
public class QuantizationTests
{
    private static readonly long[] s_image = [2, 3, 6, 6];

    private sealed class Quantised(ElementType element = ElementType.Int8, int zero = 0, bool perAxis = true)
    {
        private readonly Random _random = new(7);

        public Net Net { get; } = new();

        public string Integers(ElementType type, long[] shape, Func<int, long> value)
        {
            int count = (int)shape.Aggregate(1L, (a, b) => a * b);
            int size = type.BitWidth() / 8;
            var tensor = new TensorProto { Name = $"q{Net.Proto.Graph.Initializer.Count}", DataType = (int)type };
            tensor.Dims.AddRange(shape);
            tensor.RawData = ByteString.CopyFrom([.. Enumerable.Range(0, count).SelectMany(i => BitConverter.GetBytes(value(i)).Take(size))]);
            Net.Proto.Graph.Initializer.Add(tensor);
            return tensor.Name;
        }

        /// <summary>A power of two for each of <paramref name="count"/> channels, or for all.</summary>
        public string Scales(int count, int smallest = -6)
        {
            TensorProto tensor = Net.Tensor($"s{Net.Proto.Graph.Initializer.Count}", ElementType.Float32, perAxis ? [count] : [], () => Math.ScaleB(1, smallest + (perAxis ? _random.Next(3) : 1)));
            Net.Proto.Graph.Initializer.Add(tensor);
            return tensor.Name;
        }

        /// <summary>Small integers around the zero point behind DequantizeLinear; channels lie along <paramref name="axis"/>.</summary>
        public string Weight(long[] shape, int axis = 0)
        {
            string values = Integers(element, shape, _ => zero + _random.Next(-7, 8));
            string zeros = Integers(element, perAxis ? [shape[axis]] : [], _ => zero);
            return Net.Op("DequantizeLinear", [values, Scales((int)shape[axis]), zeros], new { axis });
        }

        public string Bias(int channels) =>
            Net.Op("DequantizeLinear", [Integers(ElementType.Int32, [channels], _ => _random.Next(-40, 41)), Scales(channels, -8)], new { axis = 0 });

        /// <summary>An activation through QuantizeLinear and DequantizeLinear with one scale.</summary>
        public string Rounded(string x, int zeroPoint, double scale = 0.125)
        {
            string[] parts = [Net.Tensor($"s{Net.Proto.Graph.Initializer.Count}", ElementType.Float32, [], () => scale) is var s && Keep(s) ? s.Name : "", Integers(ElementType.UInt8, [], _ => zeroPoint)];
            return Net.Op("DequantizeLinear", [Net.Op("QuantizeLinear", [x, .. parts]), .. parts]);
        }

        private bool Keep(TensorProto tensor)
        {
            Net.Proto.Graph.Initializer.Add(tensor);
            return true;
        }

        public string Conv(string x, int inputs, int outputs, string name, int group = 1) =>
            Net.Op("Conv", [x, Weight([outputs, inputs / group, 3, 3]), Bias(outputs)], new { pads = new[] { 1, 1, 1, 1 }, group }, name);

        /// <summary>What a static quantiser makes of a small residual network with a depthwise convolution.</summary>
        public static Quantised Residual(ElementType element = ElementType.Int8, int zero = 0, bool perAxis = true)
        {
            var q = new Quantised(element, zero, perAxis);
            Net net = q.Net;
            string x = q.Rounded(net.Input("x", [.. s_image.Cast<object>()]), 128);
            x = q.Rounded(net.Relu(q.Conv(x, 3, 6, "stem")), 0);
            string y = q.Rounded(net.Relu(q.Conv(x, 6, 8, "expand")), 0);
            y = q.Rounded(net.Relu(q.Conv(y, 8, 8, "depthwise", group: 8)), 0);
            x = q.Rounded(net.Add(x, q.Rounded(q.Conv(y, 8, 6, "project"), 128)), 100, 0.25);
            x = net.Op("Flatten", [net.Op("MaxPool", [x], new { kernel_shape = new[] { 6, 6 } })]);
            net.Output(net.Op("Gemm", [x, q.Weight([4, 6]), q.Bias(4)], new { transB = 1 }, "head"));
            return q;
        }
    }

    // Every output of the child is the parent's, bit for bit, and every shared value its relation.
    private static MorphResult Same(Net net, params MorphStep[] steps)
    {
        MorphResult result = Check.Morph(net, inDouble: false, steps);
        ModelProto child = Check.Written(result.Child);
        for (int seed = 1; seed < 4; seed++)
        {
            Dictionary<string, Array> feeds = Check.Feeds(net, net.Runs.FirstOrDefault() ?? [], seed);
            foreach (Array feed in feeds.Values)
                for (int i = 0; i < feed.Values.Length; i++)
                    feed.Values[i] = Math.Round(feed.Values[i] * 64) / 8;
            foreach (string output in net.Proto.Graph.Output.Select(o => o.Name))
            {
                double[] expected = Check.Run(net.Proto, feeds)[output].Values;
                Assert.Equal(expected, Check.Run(child, feeds)[output].Values);
                Assert.True(expected.Distinct().Count() > 1);
            }
        }

        return result;
    }

    private static TensorProto Weights(MorphResult result, string layer)
    {
        ModelProto child = Check.Written(result.Child);
        NodeProto quantised = child.Graph.Node.Single(n => n.Output.Contains(child.Graph.Node.Single(n => n.Name == layer).Input[1]));
        return child.Graph.Initializer.Single(i => i.Name == quantised.Input[0]);
    }

    [Theory]
    [InlineData(ElementType.Int8, 0, true)]
    [InlineData(ElementType.Int8, 0, false)]
    [InlineData(ElementType.UInt8, 128, true)]
    [InlineData(ElementType.UInt8, 120, false)]
    [InlineData(ElementType.Int8, -3, true)]
    public void ChannelsAreCopiedAndReadOnce(ElementType element, int zero, bool perAxis)
    {
        MorphResult result = Same(Quantised.Residual(element, zero, perAxis).Net, Check.Widen("*", "x1.5"), Check.Widen("expand", "+3", seed: 4));
        Check.Grown(result, "stem", 9);
        Check.Grown(result, "project", 9);
        Check.Grown(result, "expand", 12);
        Check.Grown(result, "depthwise", 12);
        Check.Grown(result, "expand", 15, step: 1);
        Check.Refused(result, "head", "callers read it");

        // What new channels are read with stands for zero.
        TensorProto read = Weights(result, "project");
        Assert.Equal([9, 15, 3, 3], read.Dims);
        byte[] bytes = read.RawData.ToByteArray();
        Assert.All(Enumerable.Range(0, bytes.Length).Where(i => i / 9 % 15 >= 8), i => Assert.Equal((byte)zero, bytes[i]));
        Assert.Contains(Enumerable.Range(0, bytes.Length), i => bytes[i] != (byte)zero);
    }

    [Theory]
    [InlineData(ElementType.Int8, 0, true)]
    [InlineData(ElementType.UInt8, 128, false)]
    [InlineData(ElementType.UInt8, 7, true)]
    public void NewTapsStandForZero(ElementType element, int zero, bool perAxis)
    {
        MorphResult result = Same(
            Quantised.Residual(element, zero, perAxis).Net,
            Check.Kernel("expand", "5"), Check.Widen("*", "x1.5"), Check.Kernel("*", "3x7"), Check.Kernel("*", "7"), Check.Widen("*", "+1"));
        Assert.Equal(4, result.Steps[3].Changes.Count);
        TensorProto weight = Weights(result, "expand");
        Assert.Equal([13, 10, 7, 7], weight.Dims);
        byte[] bytes = weight.RawData.ToByteArray();
        Assert.All(Enumerable.Range(0, bytes.Length).Where(i => i % 49 is < 14 or >= 35), i => Assert.Equal((byte)zero, bytes[i]));
    }

    [Fact]
    public void LayersAndActivationsAreAddedBesideQuantisedOnes()
    {
        MorphResult result = Same(
            Quantised.Residual().Net, Check.Deepen("expand", method: DeepenMethod.Identity), Check.Widen("*", "x1.5"));
        Check.Grown(result, "expand", 12, step: 1);
    }

    [Fact]
    public void WhatCannotBePickedIsRefusedWithTheReason()
    {
        MorphResult result = Check.Morph(
            Quantised.Residual().Net, inDouble: false,
            Check.Widen("*", "+2", WidenMethod.Zero), Check.Widen("*", "x2", WidenMethod.Opposed));
        foreach (int step in new[] { 0, 1 })
            foreach (string layer in new[] { "stem", "expand", "depthwise", "project" })
                Check.Refused(result, layer, "--widen-method replicate", step);
    }

    /// <summary>A float layer whose channels an integer weight reads: new channels are drawn and read with zeros; pairs could not part.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void DrawnChannelsAreReadWithZeros(bool perAxis)
    {
        var q = new Quantised(ElementType.UInt8, 119, perAxis);
        Net net = q.Net;
        string x = net.Op("Conv", [net.Input("x", [.. s_image.Cast<object>()]), net.Weight([5, 3, 1, 1])], name: "made");
        net.Output(net.Op("Conv", [net.Op("Tanh", [x]), q.Weight([4, 5, 1, 1])], name: "read"));
        MorphResult result = Check.Morph(
            net, inDouble: false, Check.Widen("made", "+2", WidenMethod.Zero), Check.Widen("made", "+2", WidenMethod.Zero, side: ZeroSide.Producer), Check.Widen("made", "x2", WidenMethod.Opposed));
        Check.Grown(result, "made", 7);
        Check.Refused(result, "made", "quantised", 1);
        Check.Refused(result, "made", "quantised", 2);
        byte[] bytes = Weights(result, "read").RawData.ToByteArray();
        Assert.Equal(28, bytes.Length);
        Assert.All(Enumerable.Range(0, 28).Where(i => i % 7 >= 5), i => Assert.Equal(119, bytes[i]));
    }

    /// <summary>Large language models are stored so: Transpose between DequantizeLinear and MatMul, a norm over the stream.</summary>
    [Fact]
    public void ANormedStreamIsCopiedWhole()
    {
        var q = new Quantised();
        Net net = q.Net;
        net.Runs.Add(new() { ["N"] = 3 });
        string Weight(int inputs, int outputs) => net.Transpose(q.Weight([outputs, inputs]), 1, 0);
        string x = net.Op("MatMul", [net.Input("x", "N", 4), Weight(4, 6)], name: "stream");
        string y = net.Op("LayerNormalization", [x, net.Weight([6]), net.Weight([6])], new { epsilon = 0.1 });
        y = net.Relu(net.Op("MatMul", [y, Weight(6, 5)], name: "hidden"));
        x = net.Add(x, net.Op("MatMul", [y, Weight(5, 6)], name: "back"));
        net.Output(net.Op("MatMul", [x, Weight(6, 2)], name: "head"));
        MorphResult result = Check.Morph(net, inDouble: false, Check.Widen("*", "x1.5"));
        Check.Grown(result, "stream", 12);
        Check.Grown(result, "hidden", 8);
    }

    /// <summary>Weights that are stored as floats and rounded in the graph, as quantisation-aware training exports them.</summary>
    [Fact]
    public void WeightsThatAreRoundedInTheGraphArePicked()
    {
        var q = new Quantised();
        Net net = q.Net;
        string Weight(long[] shape)
        {
            string scales = q.Scales((int)shape[0]), zeros = q.Integers(ElementType.Int8, [shape[0]], _ => 0);
            return net.Op("DequantizeLinear", [net.Op("QuantizeLinear", [net.Weight(shape), scales, zeros], new { axis = 0 }), scales, zeros], new { axis = 0 });
        }

        string x = q.Rounded(net.Relu(net.Op("Conv", [q.Rounded(net.Input("x", [.. s_image.Cast<object>()]), 128), Weight([6, 3, 3, 3])], name: "a")), 0);
        net.Output(net.Op("Conv", [x, Weight([4, 6, 3, 3])], name: "b"));
        MorphResult result = Same(net, Check.Widen("a", "x1.5"), Check.Kernel("*", "5"));
        Check.Grown(result, "a", 9);
        Check.Refused(Check.Morph(net, inDouble: false, Check.Widen("a", "+2", WidenMethod.Zero)), "a", "quantised");
    }

    [Fact]
    public void ScalesAlongWhatIsSummedOverAndMixedZeroPointsAreRefused()
    {
        var q = new Quantised();
        Net net = q.Net;
        string x = net.Op("MatMul", [net.Input("x", 2, 3), net.Weight([3, 6])], name: "a");
        x = net.Op("MatMul", [net.Relu(x), q.Weight([6, 5], axis: 0)], name: "b");
        string zeros = q.Integers(ElementType.UInt8, [4], i => 126 + i);
        string values = q.Integers(ElementType.UInt8, [5, 4], i => 120 + i);
        net.Output(net.Op("MatMul", [x, net.Op("DequantizeLinear", [values, q.Scales(4), zeros], new { axis = 1 })], name: "c"));
        MorphResult result = Check.Morph(net, inDouble: false, Check.Widen("*", "x2"));
        Check.Refused(result, "a", "scales lie along an axis that is summed over");
        Check.Refused(result, "b", "zero points differ");
    }

    [Theory]
    [InlineData("QLinearConv")]
    [InlineData("ConvInteger")]
    [InlineData("MatMulInteger")]
    [InlineData("QLinearMatMul")]
    public void LayersThatComputeInIntegersAreRefusedWithTheReason(string op)
    {
        var q = new Quantised(perAxis: false);
        Net net = q.Net;
        bool product = op.StartsWith("MatMul", StringComparison.Ordinal) || op == "QLinearMatMul";
        string x = net.Input("x", ElementType.UInt8, product ? [2, 3] : [1, 3, 4, 4]);
        string weight = q.Integers(ElementType.Int8, product ? [3, 5] : [5, 3, 1, 1], i => i - 7);
        string scale = q.Scales(1), zeroX = q.Integers(ElementType.UInt8, [], _ => 3), zeroW = q.Integers(ElementType.Int8, [], _ => 0);
        string[] inputs = op.StartsWith("QLinear", StringComparison.Ordinal) ? [x, scale, zeroX, weight, scale, zeroW, scale, zeroX] : [x, weight, zeroX, zeroW];
        string y = net.Op(op, inputs, name: "layer");
        bool integers = op.EndsWith("Integer", StringComparison.Ordinal);
        net.Output(y, integers ? ElementType.Int32 : ElementType.UInt8, product ? [2, 5] : [1, 5, 4, 4]);
        MorphResult result = Morpher.Morph(net.Model, [Check.Widen("*", "x2"), Check.Kernel("*", "+2"), Check.Deepen("*")], TestContext.Current.CancellationToken);
        for (int step = 0; step < 3; step++)
            Check.Refused(result, "layer", "QuantizeLinear and DequantizeLinear", step);
    }
}
