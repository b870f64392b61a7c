using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Transfer;

/// <summary>Targets that somebody else designed: what contains the source computes what it computes, and what does not is told from it.</summary>
public class ContainmentTests
{
    private static Net Convolutional(int[] widths, int kernel, int seed, bool second = false, bool branch = false, bool gate = false, string activation = "Relu", int classes = 5)
    {
        var net = new Net(seed: seed);
        string x = net.Input("image", 2, 3, 9, 9);
        for (int l = 0, channels = 3; l < widths.Length; channels = widths[l++])
        {
            x = net.Op("Conv", [x, net.Weight([widths[l], channels, kernel, kernel]), net.Weight([widths[l]])], new { pads = Enumerable.Repeat(kernel / 2, 4).ToArray() });
            if (second)
                x = net.Op("Conv", [x, net.Weight([widths[l], widths[l], 3, 3])], new { pads = new[] { 1, 1, 1, 1 } });
            if (branch)
                x = net.Op("Add", [x, net.Op("Conv", [net.Op("Tanh", [x]), net.Weight([widths[l], widths[l], 1, 1])])]);
            x = activation == "PRelu" ? net.Op("PRelu", [x, net.Weight([widths[l], 1, 1])]) : net.Op(activation, [x]);
            if (gate)
                x = net.Op("Mul", [x, net.Weight([widths[l], 1, 1])]);
        }

        x = net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]);
        x = net.Op("Gemm", [x, net.Weight([classes, widths[^1]]), net.Weight([classes])], new { transB = 1 });
        net.Output(net.Op("Identity", [x], name: "logits"));
        return net;
    }

    private static void Holds(Net source, Net target)
    {
        ModelProto? filled = Containing.Fill(source.Model, target.Model, out string why);
        Assert.True(filled is not null, why);
        new RandomCase(source, true, []).HoldsAsWritten(filled);
    }

    [Theory]
    [InlineData(5, false, false, false, "Relu")]
    [InlineData(3, true, false, false, "Relu")]
    [InlineData(3, false, true, false, "Relu")]
    [InlineData(3, false, false, true, "PRelu")]
    [InlineData(7, true, true, true, "PRelu")]
    public void LargerConvolutionalNetworksContainSmallerOnes(int kernel, bool second, bool branch, bool gate, string activation) =>
        Holds(Convolutional([4, 6], 3, 1), Convolutional([7, 6], kernel, 2, second, branch, gate, activation));

    /// <summary>Layers stand before, between and behind those of the source.</summary>
    [Fact]
    public void DeeperNetworksContainShallowerOnes() => Holds(Convolutional([4], 3, 1), Convolutional([5, 8, 6], 3, 2));

    private static Net Normed(int width, double epsilon, int seed)
    {
        var net = new Net(seed: seed, opset: 17);
        string x = net.Op("MatMul", [net.Input("tokens", 2, 3, 5), net.Weight([5, width])]);
        x = net.Op("LayerNormalization", [x, net.Weight([width]), net.Weight([width])], new { axis = -1, epsilon });
        net.Output(net.Op("Identity", [net.Op("MatMul", [x, net.Weight([width, 4])])], name: "result"));
        return net;
    }

    /// <summary>The target's ε is what it is: it decides how many copies there are, or what the channels are multiplied by (METHODS.md §1).</summary>
    [Theory]
    [InlineData(0.1, 12, 0.1)]
    [InlineData(0.1, 12, 0.05)]
    [InlineData(0.1, 9, 0.06666667)]
    [InlineData(0.1, 9, 0.3)]
    [InlineData(0.1, 6, 0.2)]
    public void NormsOverMoreChannelsKeepTheirEpsilon(double epsilon, int width, double other) => Holds(Normed(6, epsilon, 1), Normed(width, other, 2));

    [Fact]
    public void WhatIsNotContainedIsRefusedWithTheReason()
    {
        Assert.Null(Containing.Fill(Convolutional([6, 6], 3, 1).Model, Convolutional([4, 6], 3, 2).Model, out string narrower));
        Assert.Contains("Conv", narrower, StringComparison.Ordinal);
        Assert.Null(Containing.Fill(Convolutional([4], 5, 1).Model, Convolutional([4], 3, 2).Model, out string smaller));
        Assert.Contains("cannot be made to carry", smaller, StringComparison.Ordinal);
        Assert.Null(Containing.Fill(Convolutional([4, 4], 3, 1).Model, Convolutional([8], 3, 2).Model, out _));
        Assert.Null(Containing.Fill(Convolutional([4], 3, 1, activation: "Tanh").Model, Convolutional([4], 3, 2).Model, out _));
    }

    /// <summary>What is in front of a last layer for other classes computes what it did.</summary>
    [Fact]
    public void HeadsForOtherClassesStay()
    {
        Net source = Convolutional([4, 6], 3, 1), target = Convolutional([8, 12], 3, 2, classes: 7);
        string features = target.Proto.Graph.Node[^2].Input[0], own = source.Proto.Graph.Node[^2].Input[0];
        ModelProto filled = Containing.Fill(source.Model, target.Model, out _)!;
        Dictionary<string, Testing.Array> feeds = Check.Feeds(source, [], seed: 3);
        double[] before = Check.Run(source.Proto, feeds)[own].Values, after = Check.Run(filled, feeds)[features].Values;
        foreach (int sample in Enumerable.Range(0, 2))
            foreach (double value in before[(6 * sample)..(6 * sample + 6)])
                Assert.Contains(after[(12 * sample)..(12 * sample + 12)], other => Math.Abs(other - value) < 1e-5);
    }
}
