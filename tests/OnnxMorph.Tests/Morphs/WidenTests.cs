using Google.Protobuf;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>What new channels are, by method: values of every layer are held to their relations by <see cref="Check"/>.</summary>
public class WidenTests
{
    private static Net TwoLayers(string activation, int hidden = 4, int outputs = 2)
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Op("MatMul", [net.Input("x", "N", 3), net.Weight([3, hidden])], name: "a");
        net.Output(net.Op("MatMul", [net.Op(activation, [x]), net.Weight([hidden, outputs])], name: "b"));
        return net;
    }

    private static double[] Weight(MorphResult result, string layer)
    {
        ModelProto child = Check.Written(result.Child);
        string name = child.Graph.Node.Single(n => n.Name == layer).Input[1];
        TensorProto weight = child.Graph.Initializer.Single(i => i.Name == name);
        return Numbers.Decode((ElementType)weight.DataType, weight.RawData.ToByteArray());
    }

    [Theory]
    [InlineData(ZeroSide.Consumer, false)]
    [InlineData(ZeroSide.Producer, true)]
    [InlineData(ZeroSide.Smaller, false)]
    public void OneSideOfNewChannelsIsZeroAndTheOtherIsNot(ZeroSide side, bool producer)
    {
        // Three weights make a channel, two read it.
        MorphResult result = Check.Morph(TwoLayers("Tanh"), Check.Widen("a", "+2", WidenMethod.Zero, side: side));
        double[] made = Weight(result, "a"), read = Weight(result, "b");
        Assert.Equal((18, 12), (made.Length, read.Length));
        Assert.All(Enumerable.Range(0, 18).Where(i => i % 6 >= 4), i => Assert.Equal(producer, made[i] == 0));
        Assert.All(Enumerable.Range(8, 4), i => Assert.Equal(!producer, read[i] == 0));
    }

    [Fact]
    public void TheSmallerSideIsTheProducerWhereItHasFewerWeights()
    {
        MorphResult result = Check.Morph(TwoLayers("Tanh", outputs: 5), Check.Widen("a", "+2", WidenMethod.Zero));
        Assert.All(Enumerable.Range(0, 18).Where(i => i % 6 >= 4), i => Assert.Equal(0, Weight(result, "a")[i]));
        // Sigmoid makes halves of zeros.
        result = Check.Morph(TwoLayers("Sigmoid", outputs: 5), Check.Widen("a", "+2", WidenMethod.Zero));
        Assert.All(Enumerable.Range(0, 18), i => Assert.NotEqual(0, Weight(result, "a")[i]));
        result = Check.Morph(TwoLayers("Sigmoid"), Check.Widen("*", "+2", WidenMethod.Zero, side: ZeroSide.Producer));
        Check.Refused(result, "a", "zeros");
    }

    /// <summary>Zeros pass an activation that is flat at 0, but channels made with them would never learn.</summary>
    [Theory]
    [InlineData("Relu", true)]
    [InlineData("Abs", true)]
    [InlineData("LeakyRelu", false)]
    [InlineData("Tanh", false)]
    public void ZerosAreNotMadeInFrontOfActivationsThatAreFlatAtZero(string activation, bool flat)
    {
        // By default the producer, which has fewer weights, would be zero.
        Assert.Equal(!flat, NewRowsAreZero(Check.Morph(TwoLayers(activation, outputs: 5), Check.Widen("a", "+2", WidenMethod.Zero))));
        MorphResult result = Check.Morph(TwoLayers(activation, outputs: 5), Check.Widen("*", "+2", WidenMethod.Zero, side: ZeroSide.Producer));
        if (flat)
            Check.Refused(result, "a", "never learn");
        else
            Assert.True(NewRowsAreZero(result));
    }

    [Theory]
    [InlineData(0, 6, true)]
    [InlineData(-6, 0, true)]
    [InlineData(-1, 1, false)]
    public void ZerosAreNotMadeInFrontOfALimitAtZero(double low, double high, bool flat)
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Op("MatMul", [net.Input("x", "N", 3), net.Weight([3, 4])], name: "a");
        x = net.Op("Clip", [x, net.Filled(low), net.Filled(high)]);
        net.Output(net.Op("MatMul", [x, net.Weight([4, 5])], name: "b"));
        Assert.Equal(!flat, NewRowsAreZero(Check.Morph(net, Check.Widen("a", "+2", WidenMethod.Zero))));
    }

    /// <summary>Of two factors that are both zero neither has a gradient.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ZerosAreNotMadeForBothFactorsOfAProduct(bool gated)
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Input("x", "N", 3), y = net.Op("MatMul", [x, net.Weight([3, 4])], name: "a");
        string by = gated ? net.Op("Tanh", [net.Op("MatMul", [x, net.Weight([3, 4])])]) : net.Weight([4]);
        net.Output(net.Op("MatMul", [net.Op("Mul", [y, by]), net.Weight([4, 9])], name: "b"));
        Assert.Equal(!gated, NewRowsAreZero(Check.Morph(net, Check.Widen("a", "+2", WidenMethod.Zero))));
    }

    /// <summary>
    /// Zeros go through activations that are written in several nodes, some of which make something else of them, and past gates that are no zeros;
    /// not where what was made of them meets no zeros, or others read it.
    /// </summary>
    [Theory]
    [InlineData("silu", true)]
    [InlineData("gelu", true)]
    [InlineData("excited", true)]
    [InlineData("twice", false)]
    [InlineData("shifted", false)]
    [InlineData("read", false)]
    public void ZerosGoThroughWhatMultipliesWhatBecomesOfThemWithZeros(string form, bool passes)
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Conv(net.Input("x", "N", 3, 4, 4), 3, 4, 1, name: "a"), gate = net.Op("Sigmoid", [x]);
        string y = form switch
        {
            "silu" or "read" => net.Mul(x, gate),
            "gelu" => net.Gelu(x),
            "excited" => net.Mul(x, net.Op("Sigmoid", [net.Conv(net.Op("Tanh", [net.Conv(net.Op("GlobalAveragePool", [x]), 4, 2, 1)]), 2, 4, 1)])),
            "twice" => net.Mul(gate, gate),
            _ => net.Add(x, gate),
        };
        string result = net.Conv(y, 4, 9, 1, name: "b");
        net.Output(form == "read" ? net.Add(result, net.Conv(gate, 4, 9, 1)) : net.Op("Identity", [result]));
        MorphResult child = Check.Morph(net, Check.Widen("a", "+2", WidenMethod.Zero, side: ZeroSide.Producer));
        Assert.Equal(passes, child.Steps[0].Changes.Count > 0);
        if (passes)
            Assert.True(Weight(child, "a")[12..].All(v => v == 0) && Weight(child, "b").Any(v => v != 0));
        else
            Check.Refused(child, "a", "zeros");
    }

    /// <summary>What goes past a flat activation learns; shapes that are read do not count.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void ZerosLearnWherePartOfThemGoesPastAFlatActivation(bool past)
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Op("MatMul", [net.Input("x", "N", 3), net.Weight([3, 4])], name: "a");
        net.Output(net.Op("MatMul", [net.Op("Relu", [x]), net.Weight([4, 5])], name: "b"));
        if (past)
            net.Output(net.Op("MatMul", [x, net.Weight([4, 2])], name: "c"));
        else
            net.Output(net.Op("Shape", [x], new { start = 0, end = 1 }), ElementType.Int64, 1);
        Assert.Equal(past, NewRowsAreZero(Check.Morph(net, Check.Widen("a", "+2", WidenMethod.Zero))));
    }

    /// <summary>A scale of 1 would multiply the gradient of what is zero by 1/√ε: training would start with a jump.</summary>
    [Fact]
    public void NormsPassChannelsThatStartAtZeroAsTheyAre()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 5 } } };
        string x = net.Op("MatMul", [net.Input("x", "N", 3), net.Weight([3, 4])], name: "a");
        net.Output(net.Op("MatMul", [net.Op("Tanh", [net.BatchNorm(x, 4, "norm")]), net.Weight([4, 5])], name: "b"));
        MorphResult result = Check.Morph(net, Check.Widen("a", "+2", WidenMethod.Zero));
        Assert.True(NewRowsAreZero(result));
        ModelProto child = Check.Written(result.Child);
        TensorProto made = child.Graph.Initializer.Single(t => t.Name == child.Graph.Node.Single(n => n.Name == "a").Input[1]);
        double[] weights = Numbers.Decode(ElementType.Float64, made.RawData.ToByteArray());
        for (int i = 0; i < weights.Length; i++)
            if (i % 6 >= 4)
                weights[i] = i - 8;
        made.RawData = ByteString.CopyFrom(Numbers.Encode(ElementType.Float64, weights));
        var values = Check.Run(child, Check.Feeds(net, net.Runs[0], 1));
        string before = child.Graph.Node.Single(n => n.Name == "norm").Input[0], behind = child.Graph.Node.Single(n => n.Name == "norm").Output[0];
        Assert.All(Enumerable.Range(0, 30).Where(i => i % 6 >= 4), i => Assert.Equal(values[before].Values[i], values[behind].Values[i], 1e-7 * Math.Abs(values[before].Values[i])));
    }

    /// <summary>The norm of an image's channel by its own mean and variance has the same factor, (γ²/ε)½ = 1 in the limit.</summary>
    [Fact]
    public void InstanceNormsHaveUnitGainAtZero()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Conv(net.Input("x", "N", 2, 4, 4), 2, 3, 1, name: "a");
        x = net.Op("InstanceNormalization", [x, net.Weight([3]), net.Weight([3])], new { epsilon = 0.04 }, "norm");
        net.Output(net.Conv(net.Op("Tanh", [x]), 3, 4, 3, name: "b"));
        MorphResult result = Check.Morph(net, Check.Widen("a", "+2", WidenMethod.Zero));
        Assert.All(Weight(result, "norm")[3..], scale => Assert.Equal(0.2, scale, 1e-7));
    }

    private static bool NewRowsAreZero(MorphResult result)
    {
        double[] made = Weight(result, "a");
        Assert.Equal(18, made.Length);
        return Enumerable.Range(0, 18).Where(i => i % 6 >= 4).All(i => made[i] == 0);
    }

    /// <summary>HyperCloning: a square weight is tiled and divided by the number of copies.</summary>
    [Fact]
    public void EqualSharesTile()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Op("MatMul", [net.Input("x", "N", 3), net.Weight([3, 4])], name: "a");
        x = net.Op("LayerNormalization", [x, net.Weight([4])], new { epsilon = 0.1 });
        x = net.Op("MatMul", [x, net.Weight([4, 4])], name: "b");
        net.Output(net.Op("MatMul", [net.Op("LayerNormalization", [x, net.Weight([4])], new { epsilon = 0.1 }), net.Weight([4, 2])], name: "c"));
        double[] before = Weight(Check.Morph(net), "b");
        var pass = new WidenPass(Selector.Parse("*"), SizeRequest.Parse("x3"), WidenMethod.Replicate, 1, equalShares: true);
        double[] after = Weight(Check.Morph(net, new MorphStep("x3", Selector.Parse("*"), pass.Apply)), "b");
        Assert.Equal(144, after.Length);
        for (int i = 0; i < 144; i++)
            Assert.Equal(before[i / 12 % 4 * 4 + i % 12 % 4] / 3, after[i], 1e-15);
    }

    /// <summary>Queries and keys are contracted over the size of a head: zeros on one side meet values of the child's own on the other.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void HeadsGrowWhereTheirNumberIsFixed(bool activated)
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2, ["T"] = 3 }, new() { ["N"] = 1, ["T"] = 1 } } };
        string x = net.Input("x", "N", "T", 5);
        string Heads(string name, params int[] order) =>
            net.Transpose(net.Reshape(net.Op("MatMul", [x, net.Weight([5, 6])], name: name), 0, 0, 2, 3), order);
        string q = Heads("q", 0, 2, 1, 3), k = Heads("k", 0, 2, 3, 1), v = Heads("v", 0, 2, 1, 3);
        // Where zeros do not stay zeros on the first side, the other takes them.
        if (activated)
            q = net.Op("Sigmoid", [q]);
        string scores = net.Add(net.Op("MatMul", [q, k]), net.Input("bias", "N", 2, 1, 1));
        string mixed = net.Transpose(net.Op("MatMul", [net.Op("Softmax", [scores], new { axis = -1 }), v]), 0, 2, 1, 3);
        net.Output(net.Op("MatMul", [net.Reshape(mixed, 0, 0, -1), net.Weight([6, 4])], name: "out"));

        MorphResult result = Check.Morph(net, Check.Widen("q", "x1.5"), Check.Widen("v", "+2", WidenMethod.Opposed));
        Check.Grown(result, "q", 10);
        double[] queries = Weight(result, "q"), keys = Weight(result, "k");
        double[] zeros = activated ? keys : queries, own = activated ? queries : keys;
        Assert.All(Enumerable.Range(0, 50).Where(i => i % 10 % 5 >= 3), i => Assert.Equal(0, zeros[i]));
        Assert.All(Enumerable.Range(0, 50), i => Assert.NotEqual(0, own[i]));
        Check.Grown(result, "v", 8, step: 1);
    }

    /// <summary>A Reshape takes the channels of one value from the sizes of another, as attention in exports does with heads × size.</summary>
    [Fact]
    public void SizesOfAnotherValueDoNotFollowIt()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2, ["T"] = 3 } } };
        string x = net.Op("MatMul", [net.Input("x", "N", "T", 5), net.Weight([5, 6])], name: "stream");
        string heads = net.Reshape(net.Op("MatMul", [x, net.Weight([6, 6])], name: "heads"), 0, 0, 2, 3);
        string joined = net.Op("Reshape", [net.Op("Tanh", [heads]), net.Shape(net.Size(x, 0), net.Size(x, 1), net.Size(x, 2))]);
        net.Output(net.Op("MatMul", [net.Add(x, net.Op("MatMul", [joined, net.Weight([6, 6])], name: "out")), net.Weight([6, 2])], name: "last"));
        MorphResult result = Check.Morph(net, Check.Widen("stream", "+3"), Check.Widen("heads", "x2"));
        Check.Grown(result, "stream", 9);
        Check.Grown(result, "heads", 12, step: 1);
    }
}
