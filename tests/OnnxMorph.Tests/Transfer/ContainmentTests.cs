using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Transfer;
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

    /// <summary>Families as torchvision has them: deeper, wider, or both.</summary>
    [Theory]
    [InlineData("basic", new[] { 4, 6 }, new[] { 1, 2 }, new[] { 4, 6 }, new[] { 2, 4 }, true)]
    [InlineData("basic", new[] { 4, 6 }, new[] { 1, 2 }, new[] { 6, 9 }, new[] { 2, 3 }, false)]
    [InlineData("bottleneck", new[] { 4, 8 }, new[] { 1, 1 }, new[] { 8, 12 }, new[] { 2, 2 }, true)]
    [InlineData("plain", new[] { 4, 6 }, new[] { 1, 1 }, new[] { 5, 7 }, new[] { 2, 3 }, false)]
    [InlineData("plain", new[] { 4, 6 }, new[] { 1, 2 }, new[] { 4, 6 }, new[] { 2, 2 }, true)]
    [InlineData("inverted", new[] { 4, 6 }, new[] { 1, 2 }, new[] { 6, 8 }, new[] { 2, 3 }, true)]
    public void LargerMembersOfFamiliesContainSmallerOnes(string block, int[] widths, int[] depths, int[] wider, int[] deeper, bool norm)
    {
        Net source = TransferNets.Family(block, widths, depths, 1, norm);
        HoldsFirst(source, TransferNets.Family(block, wider, deeper, 2, norm, stem: 8));
    }

    private static void HoldsFirst(Net source, Net target)
    {
        ModelProto? filled = Containing.Fill(source.Model, target.Model, out string why);
        Assert.True(filled is not null, why);
        TransferNets.SameFunction(source, filled);
    }

    private static Net Mobile(int[] widths, bool gated, string activation, int seed)
    {
        var net = new Net(seed: seed);
        string x = net.Input("image", 2, 3, 12, 12);
        for (int l = 0, channels = 3; l < widths.Length; channels = widths[l++])
        {
            int inner = 2 * widths[l];
            x = net.ConvUnit(x, channels, inner, 1, activation: activation);
            x = net.ConvUnit(x, inner, inner, 3, stride: 2, group: inner, activation: activation);
            if (gated)
            {
                string gate = net.Relu(net.Conv(net.Op("GlobalAveragePool", [x]), inner, 4, 1));
                x = net.Mul(x, net.Op("Sigmoid", [net.Conv(gate, 4, inner, 1)]));
            }

            x = net.ConvUnit(x, inner, widths[l], 1, activation: null);
        }

        net.Output(net.Conv(x, widths[^1], 3, 1));
        return net;
    }

    /// <summary>A sigmoid is never 1: its gate stands at ½, and what reads it or what it reads is twice as large.</summary>
    [Theory]
    [InlineData("Relu")]
    [InlineData("HardSwish")]
    public void SqueezeAndExcitationIsAdded(string activation) => HoldsFirst(Mobile([4, 6], false, activation, 1), Mobile([6, 7], true, activation, 2));

    private static Net Transformer(int size, int heads, int head, int layers, int hidden, int seed, bool causal = false)
    {
        var net = new Net(seed: seed);
        string x = net.Add(net.Linear(net.Input("tokens", 2, 5, 6), 6, size), net.Weight([5, size]));
        for (int l = 0; l < layers; l++)
        {
            x = net.Add(x, Attention(net.Norm(x, size)));
            x = net.Add(x, net.Linear(net.Gelu(net.Linear(net.Norm(x, size), size, hidden)), hidden, size));
        }

        net.Output(net.Linear(net.Norm(x, size), size, 4));
        return net;

        string Attention(string from)
        {
            string Heads(params int[] perm) => net.Transpose(net.Reshape(net.Linear(from, size, heads * head), 0, 0, heads, head), perm);
            string scores = net.Op("Div", [net.Op("MatMul", [Heads(0, 2, 1, 3), Heads(0, 2, 3, 1)]), net.Filled(Math.Sqrt(head))]);
            if (causal)
                scores = net.Add(scores, net.FloatsOf([5, 5], [.. Enumerable.Range(0, 25).Select(i => i % 5 > i / 5 ? -1e4 : 0)]));
            string chosen = net.Op("MatMul", [net.Op("Softmax", [scores], new { axis = -1 }), Heads(0, 2, 1, 3)]);
            return net.Linear(net.Reshape(net.Transpose(chosen, 0, 2, 1, 3), 0, 0, heads * head), heads * head, size);
        }
    }

    /// <summary>More heads, larger heads, more layers, a wider stream under norms.</summary>
    [Theory]
    [InlineData(6, 3, 2, 1, 8, false)]
    [InlineData(6, 2, 4, 1, 8, false)]
    [InlineData(6, 2, 2, 3, 8, true)]
    [InlineData(12, 4, 2, 1, 8, false)]
    [InlineData(8, 3, 3, 2, 12, true)]
    public void LargerTransformersContainSmallerOnes(int size, int heads, int head, int layers, int hidden, bool causal) =>
        HoldsFirst(Transformer(6, 2, 2, 1, 8, 1, causal), Transformer(size, heads, head, layers, hidden, 2, causal));

    private static Net Pyramid(int[] widths, int seed)
    {
        var net = new Net(seed: seed);
        string x = net.Input("image", 2, 3, 16, 16);
        var skips = new Stack<(string Value, int Width)>();
        int channels = 3;
        foreach (int width in widths)
        {
            x = net.ConvUnit(x, channels, width);
            skips.Push((x, width));
            (x, channels) = (net.Op("MaxPool", [x], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } }), width);
        }

        foreach ((string value, int width) in skips)
        {
            x = net.Op("ConvTranspose", [x, net.Weight([channels, width, 2, 2]), net.Weight([width])], new { strides = new[] { 2, 2 } });
            x = net.ConvUnit(net.Op("Concat", [value, x], new { axis = 1 }), 2 * width, width);
            channels = width;
        }

        net.Output(net.Conv(x, channels, 2, 1));
        return net;
    }

    [Fact]
    public void WiderPyramidsContainNarrowerOnes() => HoldsFirst(Pyramid([4, 6], 1), Pyramid([5, 9], 2));

    /// <summary>A layer with its kernel behind an activation that is undone: what it reads holds x and −x, in each group where it has groups.</summary>
    [Theory]
    [InlineData(4)]
    [InlineData(1)]
    public void LayersUndoActivationsInFrontOfThem(int groups)
    {
        Net source = Strided(1, groups, 0), target = Strided(2, groups, 16);
        HoldsFirst(source, target);

        static Net Strided(int seed, int groups, int inner)
        {
            var net = new Net(seed: seed);
            string x = net.Relu(net.Conv(net.Input("image", 2, 3, 9, 9), 3, 4, 3));
            if (inner > 0)
                x = net.Op("LeakyRelu", [net.Op("Conv", [x, net.Weight([inner, 4 / groups, 1, 1])], new { group = groups })], new { alpha = 0.3 });
            int read = inner > 0 ? inner : 4;
            x = net.Op("Conv", [x, net.Weight([4, read / groups, 3, 3]), net.Weight([4])], new { group = groups, strides = new[] { 2, 2 }, pads = new[] { 1, 1, 1, 1 } });
            net.Output(net.Conv(net.Relu(x), 4, 2, 1));
            return net;
        }
    }

    [Fact]
    public void WhatIsNotContainedIsToldWithTheReason()
    {
        Assert.Null(Containing.Fill(Convolutional([6, 6], 3, 1).Model, Convolutional([4, 6], 3, 2).Model, out string narrower));
        Assert.Contains("makes 2×4×9×9 and the source's Relu", narrower, StringComparison.Ordinal);
        Assert.Null(Containing.Fill(Convolutional([4], 5, 1).Model, Convolutional([4], 3, 2).Model, out string smaller));
        Assert.Contains("has a kernel of 3×3 whose taps do not see all that those of the source's Conv", smaller, StringComparison.Ordinal);
        Assert.Null(Containing.Fill(Convolutional([4, 4], 3, 1).Model, Convolutional([8], 3, 2).Model, out _));
        Assert.Null(Containing.Fill(Convolutional([4], 3, 1, activation: "Tanh").Model, Convolutional([4], 3, 2).Model, out string other));
        Assert.Contains("does something else than the source's Tanh", other, StringComparison.Ordinal);
        Net larger = Convolutional([4], 3, 1);
        larger.Proto.Graph.Input[0].Type.TensorType.Shape.Dim[3].DimValue = 12;
        Assert.Null(Containing.Find(Convolutional([4], 3, 1).Model, larger.Model, out string sizes));
        Assert.Contains("callers give it as 2×3×9×12, and the source's as 2×3×9×9", sizes, StringComparison.Ordinal);
    }

    /// <summary>Up to what stands in the way a target is exact, and each part says so.</summary>
    [Theory]
    [InlineData(new[] { 4, 6, 6 }, new[] { 5, 8, 4 }, "Relu", "Relu", "Relu", 1)]
    [InlineData(new[] { 4, 6, 6 }, new[] { 5, 8, 7 }, "Relu", "Elu", "Conv", 0)]
    // A layer that the source needs later is not spent on giving on what another cannot hold.
    [InlineData(new[] { 6, 6, 6 }, new[] { 6, 4, 6 }, "Relu", "Relu", "Relu", 0)]
    public void WhatIsInFrontOfAnObstacleIsExact(int[] widths, int[] others, string activation, string other, string kind, int last)
    {
        Net source = Convolutional(widths, 3, 1, activation: activation), target = Convolutional(others, 3, 2, activation: other);
        Containing.Found found = Containing.Find(source.Model, target.Model, out string why)!;
        Assert.Equal(why, found.Obstacle);
        (string to, string from) = Assert.Single(found.Plan.Carried);
        Assert.Equal(source.Proto.Graph.Node.Where(n => n.OpType == kind).ElementAt(last).Output[0], from);
        Assert.Equal(last, target.Proto.Graph.Node.Where(n => n.OpType == target.Proto.Graph.Node.Single(m => m.Output.Contains(to)).OpType).ToList().FindIndex(n => n.Output.Contains(to)));
        Assert.Contains(found.Parts, part => part is { State: PartState.Approximate, Reason: not null });
        Dictionary<string, Testing.Array> feeds = Check.Feeds(source, [], seed: 3);
        Testing.Array before = Check.Run(source.Proto, feeds)[from], after = Check.Run(found.Filled, feeds)[to];
        (int samples, int own, int all) = ((int)before.Shape[0], (int)before.Shape[1], (int)after.Shape[1]);
        int[] channels = found.Plan.Positions(to, from)![1]?.Indices ?? [.. Enumerable.Range(0, own)];
        int map = before.Values.Length / samples / own;
        for (int sample = 0; sample < samples; sample++)
            for (int c = 0; c < own; c++)
                for (int i = 0; i < map; i++)
                    Assert.Equal(before.Values[(((sample * own) + c) * map) + i], after.Values[(((sample * all) + channels[c]) * map) + i], 1e-5);
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
