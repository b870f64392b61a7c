using OnnxMorph.Axes;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;
using Array = OnnxMorph.Tests.Testing.Array;

namespace OnnxMorph.Tests.Morphs;

public sealed class DeepenBlocksTests
{
    private static Net Image(Action<Net, string> build, int channels = 4, int ir = 8)
    {
        var net = new Net(ir: ir) { Runs = { new() { ["N"] = 2 }, new() { ["N"] = 1 } } };
        build(net, net.Input("image", "N", channels, 6, 6));
        return net;
    }

    private static Net Tokens(Action<Net, string> build, int size = 8)
    {
        var net = new Net { Runs = { new() { ["N"] = 2, ["T"] = 5 }, new() { ["N"] = 1, ["T"] = 1 } } };
        build(net, net.Input("tokens", "N", "T", size));
        return net;
    }

    /// <summary>
    /// Deepens all blocks and checks that every value of the parent stays, that outputs keep their bits and, where asked, that the
    /// copies learn.
    /// </summary>
    private static MorphResult Deepens(Net net, int blocks, int count = 1, string selector = "blocks:*", bool learns = true)
    {
        MorphResult result = Check.Morph(net, Check.DeepenBlocks(selector, count));
        Assert.True(blocks == result.Steps[0].Changes.Count, string.Join(" | ", result.Steps[0].Refused));
        Assert.All(result.Steps[0].Changes, c => Assert.Equal(1 + count, c.After));
        ModelProto child = Check.Written(result.Child);
        var feeds = Check.Feeds(net, net.Runs[0], 9);
        Dictionary<string, Array> before = Outputs(net.Proto, feeds), after = Outputs(child, feeds);
        foreach ((string output, Array values) in before)
            Assert.Equal(values.Values, after[output].Values);
        if (learns)
            CopiesLearn(net.Proto, child, feeds);
        return result;
    }

    private static Dictionary<string, Array> Outputs(ModelProto model, Dictionary<string, Array> feeds) =>
        Check.Run(model, feeds, [.. model.Graph.Output.Select(o => o.Name)]).Where(r => model.Graph.Output.Any(o => o.Name == r.Key)).ToDictionary(r => r.Key, r => r.Value);

    // What starts at zero has a gradient, and as soon as it is not zero any more everything else in the copy has one too, where the
    // same tensor of the block has. Single numbers are bounds and the like.
    private static void CopiesLearn(ModelProto parent, ModelProto child, Dictionary<string, Array> feeds)
    {
        var old = parent.Graph.Initializer.Select(t => t.Name).ToHashSet();
        string[] fresh = [.. child.Graph.Initializer.Where(t => !old.Contains(t.Name) && (ElementType)t.DataType == ElementType.Float32 && Values(child, t.Name).Length > 1).Select(t => t.Name)];
        string[] zeros = [.. fresh.Where(name => Values(child, name).All(v => v == 0))];
        Func<string, bool> now = Matter(child, feeds);
        Assert.DoesNotContain(zeros, name => !now(name));
        ModelProto started = child.Clone();
        foreach (string name in zeros)
            Disturb(started, name);
        Func<string, bool> later = Matter(started, feeds), before = Matter(parent, feeds);
        Assert.DoesNotContain(fresh.Except(zeros), name => !later(name) && before(name[..name.LastIndexOf("_copy", StringComparison.Ordinal)]));
    }

    // Whether outputs depend on a tensor.
    private static Func<string, bool> Matter(ModelProto model, Dictionary<string, Array> feeds)
    {
        Dictionary<string, Array> before = Outputs(model, feeds);
        return tensor =>
        {
            ModelProto other = model.Clone();
            Disturb(other, tensor);
            Dictionary<string, Array> after = Outputs(other, feeds);
            return before.Any(o => o.Value.Values.Zip(after[o.Key].Values).Any(v => Math.Abs(v.First - v.Second) > 1e-6 * Math.Max(1, Math.Abs(v.First))));
        };
    }

    private static double[] Values(ModelProto model, string name) =>
        Numbers.Decode(ElementType.Float32, model.Graph.Initializer.Single(t => t.Name == name).RawData.ToByteArray());

    private static void Disturb(ModelProto model, string name)
    {
        int at = 0;
        double[] values = [.. Values(model, name).Select(v => v + 0.05 * (1 + ++at % 5))];
        model.Graph.Initializer.Single(t => t.Name == name).RawData = Google.Protobuf.ByteString.CopyFrom(Numbers.Encode(ElementType.Float32, values));
    }

    [Theory]
    [InlineData(1, true)]
    [InlineData(3, false)]
    public void ResidualBlocks(int count, bool norm)
    {
        MorphResult result = Deepens(Image((net, x) => net.Classifier(net.Basic(net.Basic(net.Basic(x, 4, 4, norm: norm), 4, 8, 2, norm), 8, 8, norm: norm), 8)), 2, count);
        Check.Refused(result, "stage2/block1", "makes 2×8×3×3 of 2×4×6×6");
        // Found again, the copies are blocks like the others.
        Assert.Equal([1 + count, 2 + count], StructureTests.Of(result.Child).Stages.Select(s => s.Blocks.Count));
        Deepens(Image((net, x) => net.Classifier(net.Bottleneck(net.Bottleneck(x, 4, 8, norm: norm), 8, 8, norm: norm), 8)), 1, count);
        Deepens(Image((net, x) => net.Classifier(net.Relu(net.PreActivation(net.PreActivation(x, 4, 4), 4, 4)), 4)), 2, count);
    }

    /// <summary>MaxViT (Tu et al. 2022): blocks of a convolution, windows and a grid, whose last attention ends inside its windows.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void BlocksThatEndInWindows(bool restores)
    {
        // From and to [N, windows, tokens, channels]; a grid takes tokens far apart where a window takes neighbours.
        string Into(Net net, string x, bool grid) => net.Reshape(net.Transpose(net.Reshape(x, 0, 4, 2, 3, 2, 3), grid ? [0, 3, 5, 2, 4, 1] : [0, 2, 4, 3, 5, 1]), 0, grid ? 9 : 4, grid ? 4 : 9, 4);
        string Back(Net net, string x, bool grid) => grid
            ? net.Reshape(net.Transpose(net.Reshape(x, 0, 3, 3, 2, 2, 4), restores ? [0, 5, 3, 1, 4, 2] : [0, 5, 4, 1, 3, 2]), 0, 4, 6, 6)
            : net.Reshape(net.Transpose(net.Reshape(x, 0, 2, 2, 3, 3, 4), 0, 5, 1, 3, 2, 4), 0, 4, 6, 6);
        string Block(Net net, string x)
        {
            x = net.InvertedResidual(x, 4, 4, norm: false);
            foreach (bool grid in new[] { false, true })
            {
                string tokens = Into(net, x, grid);
                tokens = net.Add(tokens, net.Linear(net.Gelu(net.Linear(net.Norm(tokens, 4), 4, 6)), 6, 4));
                x = Back(net, tokens, grid);
            }

            return x;
        }

        Net net = Image((net, x) => net.Classifier(Block(net, Block(net, net.ConvUnit(x, 4, 4))), 4));
        if (restores)
        {
            Assert.Equal([3, 3], StructureTests.Of(net.Model).Stages.SelectMany(s => s.Blocks).Select(b => b.Parts.Count));
            Deepens(net, 2, 2);
        }
        else
        {
            MorphResult result = Check.Morph(net, Check.DeepenBlocks("blocks:*", 1));
            Assert.Empty(result.Steps[0].Changes);
            Check.Refused(result, "stage1/block1", "do not leave them in their places");
        }
    }

    /// <summary>What vanishes is the last thing in the branch that can: a norm, a scale, or a layer.</summary>
    [Fact]
    public void WhatVanishes()
    {
        string[] Zeros(Func<Net, string, string> branch, int blocks = 1)
        {
            Net net = Image((net, x) => net.Classifier(net.Add(branch(net, x), x), 4));
            ModelProto child = Check.Written(Deepens(net, blocks).Child);
            // Readers of new zeros, by operator.
            var zeros = child.Graph.Initializer.Where(t => t.Name.EndsWith("_copy1", StringComparison.Ordinal) && t.DataType == (int)ElementType.Float32 && Values(child, t.Name).All(v => v == 0)).Select(t => t.Name).ToHashSet();
            return [.. child.Graph.Node.SelectMany(n => n.Input.Where(zeros.Contains).Select(_ => n.OpType))];
        }

        Assert.Equal(["Conv", "Conv"], Zeros((net, x) => net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4)));
        Assert.Equal(["Conv"], Zeros((net, x) => net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4, bias: false)));
        Assert.Equal(["BatchNormalization", "BatchNormalization"], Zeros((net, x) => net.BatchNorm(net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4), 4)));
        Assert.Equal(["Mul"], Zeros((net, x) => net.Mul(net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4), net.Positive(4, 1, 1))));
        Assert.Equal(["Conv", "Conv"], Zeros((net, x) => net.Mul(net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4), net.Filled(0.1))));
        Assert.Equal(["Conv", "Conv"], Zeros((net, x) => net.Gelu(net.Conv(x, 4, 4))));
        Assert.Equal(["Conv", "Conv"], Zeros((net, x) => net.Mul(net.Conv(x, 4, 4), net.Op("Sigmoid", [net.Conv(x, 4, 4, 1)]))));
        Assert.Equal(["Conv", "Conv"], Zeros((net, x) => net.Gated(net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4), 4)));
        Assert.Equal(["Conv", "Conv", "Conv", "Conv"], Zeros((net, x) => net.Add(net.Conv(net.Relu(x), 4, 4), net.Conv(net.Op("Tanh", [x]), 4, 4, 1))));
        Assert.Equal(["Conv", "Conv"], Zeros((net, x) => net.Transpose(net.Transpose(net.Conv(net.Relu(x), 4, 4), 0, 2, 3, 1), 0, 3, 1, 2)));
        Assert.Equal(["MatMul", "Add"], Zeros((net, x) => net.Transpose(net.Linear(net.Relu(net.Transpose(x, 0, 2, 3, 1)), 4, 4), 0, 3, 1, 2)));
    }

    [Fact]
    public void InvertedResiduals() =>
        Deepens(Image((net, x) => net.Classifier(net.InvertedResidual(net.InvertedResidual(net.InvertedResidual(x, 4, 6, 2), 6, 6), 6, 6), 6)), 2, 2);

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void PreNormTransformers(bool decomposed)
    {
        Net Build() => Tokens((net, x) =>
        {
            string mask = net.Mul(net.Op("Unsqueeze", [net.Input("mask", "N", 1, "T"), net.Ints(1)]), net.Filled(-2));
            for (int i = 0; i < 2; i++)
                x = net.TransformerLayer(x, 8, 2, true, decomposed, mask);
            net.Output(net.Linear(net.Norm(x, 8, decomposed), 8, 3));
        });
        Deepens(Build(), 2, 2, learns: false);
        // A part alone, and every part but the whole.
        Deepens(Build(), 1, 1, "blocks:stage1/block1/attention");
        Deepens(Build(), 1, 1, "blocks:stage1/block2/mlp");
        Deepens(Build(), 4, 1, "blocks:stage1/block?/*", learns: false);
    }

    [Fact]
    public void PostNormTransformersAreRefused()
    {
        foreach (bool decomposed in new[] { true, false })
        {
            Net net = Tokens((net, x) => net.Output(net.Linear(net.TransformerLayer(x, 8, 2, preNorm: false, decomposed), 8, 3)));
            MorphResult result = Check.Morph(net, Check.DeepenBlocks("blocks:*"));
            Assert.Empty(result.Steps[0].Changes);
            Check.Refused(result, "stage1/block1", "zero-residual");
        }
    }

    /// <summary>The memory is read by the copy as by the block.</summary>
    [Fact]
    public void CrossAttention()
    {
        Net net = Tokens((net, x) =>
        {
            string memory = net.Input("memory", "N", "M", 8);
            for (int i = 0; i < 2; i++)
            {
                x = net.Add(x, net.Attention(net.Norm(x, 8), 8, 2));
                x = net.Add(x, net.Attention(net.Norm(x, 8), 8, 2, memory));
                x = net.Add(x, net.Mlp(net.Norm(x, 8), 8));
            }

            net.Output(net.Linear(net.Norm(x, 8), 8, 3));
        });
        net.Runs[0]["M"] = 3;
        net.Runs[1]["M"] = 2;
        Deepens(net, 2, learns: false);
    }

    /// <summary>Dirac layers where there is no skip and the activation is idempotent.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void PlainBlocks(bool norm)
    {
        Deepens(Image((net, x) => net.Classifier(net.ConvUnit(net.ConvUnit(x, 4, 4, 5, norm: norm), 4, 6, norm: norm), 6)), 1, 2);
        Deepens(Image((net, x) => net.Classifier(net.ConvUnit(net.ConvUnit(x, 4, 4, group: 4, norm: norm), 4, 4, 1, norm: norm), 4)), 1);
        Deepens(Image((net, x) =>
        {
            string Clip(string value) => net.Op("Clip", [value, net.Filled(0), net.Filled(0.5)]);
            net.Classifier(Clip(net.Conv(Clip(net.Conv(x, 4, 4, group: 2)), 4, 4, bias: false)), 4);
        }), 2);
    }

    [Fact]
    public void PlainMatrices()
    {
        Deepens(Tokens((net, x) => net.Output(net.Linear(net.Relu(net.Linear(net.Relu(net.Linear(x, 8, 8)), 8, 8)), 8, 3))), 2);
        var net = new Net { Runs = { new() { ["N"] = 3 } } };
        string y = net.Relu(net.Op("Gemm", [net.Input("x", "N", 4), net.Weight([4, 4]), net.Weight([4])], new { transB = 1, beta = 0.5 }));
        net.Output(net.Op("Gemm", [y, net.Weight([4, 2]), net.Weight([2])]));
        Deepens(net, 1);
    }

    [Fact]
    public void Refusals()
    {
        void Refuses(Net net, string because, string block = "stage1/block1")
        {
            MorphResult result = Check.Morph(net, Check.DeepenBlocks("blocks:*"));
            Check.Refused(result, block, because);
        }

        // Activations that act twice, or of other bounds.
        Refuses(Image((net, x) => net.Classifier(net.Op("Tanh", [net.Conv(x, 4, 4)]), 4)), "Tanh");
        Refuses(Image((net, x) => net.Classifier(net.Op("LeakyRelu", [net.Add(x, net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4))]), 4)), "LeakyRelu");
        Refuses(Image((net, x) => net.Classifier(net.Relu(net.Conv(x, 4, 4, attributes: new { pads = new[] { 2, 2, 2, 2 }, dilations = new[] { 1, 1 }, strides = new[] { 1, 1 }, kernel_shape = new[] { 3, 3 } })), 4)), "of 2×4×6×6");
        Refuses(Image((net, x) => net.Classifier(net.Relu(net.Conv(x, 4, 4, attributes: new { pads = new[] { 2, 2, 0, 0 } })), 4)), "Conv");
        Refuses(Image((net, x) => net.Classifier(net.Relu(net.Conv(net.Op("Clip", [net.Conv(x, 4, 4, group: 4), net.Filled(-0.1), net.Filled(0.2)]), 4, 4, 1)), 4)), "Clip");
        // What vanishes would not learn again.
        Refuses(Image((net, x) => net.Classifier(net.Add(x, net.Relu(net.Conv(x, 4, 4))), 4)), "Relu");
        Refuses(Image((net, x) =>
        {
            string y = net.Op("Tanh", [net.Conv(x, 4, 4, bias: false)]);
            net.Classifier(net.Add(x, net.Mul(y, y)), 4);
        }), "both be zero");
        // The branch has a skip of its own, or nothing to vanish.
        Refuses(Image((net, x) =>
        {
            string Inner(string value) => net.Add(value, net.Conv(net.Relu(net.Conv(value, 4, 4)), 4, 4));
            string Outer(string value) => net.Add(value, net.Mul(Inner(Inner(value)), net.Filled(0.2)));
            net.Classifier(Outer(Outer(x)), 4);
        }), "cannot be made to vanish");
        Refuses(Tokens((net, x) => net.Output(net.Linear(net.Add(x, net.Op("Softmax", [net.Linear(x, 8, 8)], new { axis = -1 })), 8, 3))), "Softmax");
        // Callers of a cache would get none from a copy.
        Refuses(Tokens((net, x) =>
        {
            for (int i = 0; i < 2; i++)
            {
                string kept = net.Linear(net.Norm(x, 8), 8, 8);
                net.Output(net.Op("Identity", [kept]));
                x = net.Add(x, net.Linear(net.Relu(kept), 8, 8));
            }

            net.Output(net.Linear(x, 8, 3));
        }), "to callers");
        Assert.Throws<RefusedException>(() => Morpher.Morph(Image((net, x) => net.Classifier(net.Basic(x, 4, 4), 4)).Model, [Check.DeepenBlocks("blocks:stage7/*")], TestContext.Current.CancellationToken));
    }

    /// <summary>Where a block of blocks cannot vanish, the blocks inside can be repeated.</summary>
    [Fact]
    public void BlocksInsideOfBlocks() => Deepens(Image((net, x) =>
    {
        string Inner(string value) => net.Add(value, net.Conv(net.Relu(net.Conv(value, 4, 4)), 4, 4));
        string Outer(string value) => net.Add(value, net.Mul(Inner(Inner(value)), net.Filled(0.2)));
        net.Classifier(Outer(Outer(x)), 4);
    }), 4, 1, "blocks:*/part?");

    /// <summary>A weight used twice in a block is one weight in its copy; one that other blocks use too stays theirs.</summary>
    [Fact]
    public void SharedWeights()
    {
        Net tied = Image((net, x) =>
        {
            string w = net.Weight([4, 4, 3, 3], name: "tied");
            string Layer(string value) => net.Op("Conv", [value, w], new { pads = new[] { 1, 1, 1, 1 } });
            net.Classifier(net.Relu(net.Add(x, net.Conv(net.Relu(Layer(net.Relu(Layer(x)))), 4, 4))), 4);
        });
        ModelProto child = Check.Written(Deepens(tied, 1).Child);
        Assert.Single(child.Graph.Initializer, t => t.Name == "tied_copy1");
        Assert.Equal(2, child.Graph.Node.Count(n => n.Input.Contains("tied_copy1")));

        Net shared = Image((net, x) =>
        {
            string w = net.Weight([4, 4, 3, 3], name: "shared"), merged = net.Weight([4], name: "merged");
            string Block(string value) => net.Relu(net.Add(value, net.Conv(net.Relu(net.Op("Conv", [value, w, merged], new { pads = new[] { 1, 1, 1, 1 } })), 4, 4)));
            net.Classifier(Block(Block(x)), 4);
        });
        child = Check.Written(Deepens(shared, 2).Child);
        Assert.Equal(4, child.Graph.Node.Count(n => n.Input.Contains("shared")));
        // Equal vectors are one only because an exporter merged them.
        Assert.Equal(3, child.Graph.Initializer.Count(t => t.Name.StartsWith("merged", StringComparison.Ordinal)));
    }

    /// <summary>Weights behind Identity and Transpose, in Constant nodes, and among the inputs of old files.</summary>
    [Fact]
    public void WeightsInOtherPlaces()
    {
        Net net = Image((net, x) =>
        {
            string w = net.AsConstantNode(net.Weight([4, 4, 3, 3]));
            string y = net.Relu(net.Op("Conv", [x, net.Op("Identity", [w])], new { pads = new[] { 1, 1, 1, 1 } }));
            string v = net.Transpose(net.Weight([3, 3, 4, 4]), 2, 3, 0, 1);
            net.Classifier(net.Add(x, net.Op("Conv", [y, v], new { pads = new[] { 1, 1, 1, 1 } })), 4);
        });
        Deepens(net, 1, 2);
        Deepens(Image((net, x) => net.Classifier(net.Basic(net.Basic(x, 4, 4), 4, 4), 4), ir: 3), 2);
    }

    /// <summary>A number that stands in a node is not trained; as an initializer the copy's would be, exponents among them.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void NumbersInNodesStayThere(bool inNodes)
    {
        Net net = Image((net, x) =>
        {
            string power = net.Filled(2);
            string y = net.Op("Pow", [net.Conv(x, 4, 4), inNodes ? net.AsConstantNode(power) : power]);
            net.Classifier(net.Add(x, net.Conv(y, 4, 4)), 4);
        });
        ModelProto child = Check.Written(Deepens(net, 1).Child);
        string[] powers = [.. child.Graph.Node.Where(n => n.OpType == "Pow").Select(n => n.Input[1])];
        Assert.Equal(inNodes ? 1 : 2, powers.Distinct().Count());
        Assert.Equal(!inNodes, child.Graph.Initializer.Any(t => powers.Contains(t.Name)));
    }

    /// <summary>The copy gives the block's result under its old name, whoever reads it.</summary>
    [Fact]
    public void ResultsThatOthersRead()
    {
        Net net = Image((net, x) =>
        {
            string y = net.Basic(x, 4, 4);
            net.Output(y);
            string z = net.Basic(y, 4, 4);
            net.Output(net.Reshape(z, -1, 4));
            net.Classifier(net.Op("Concat", [z, y], new { axis = 1 }), 8);
        });
        MorphResult result = Deepens(net, 2);
        Assert.All(result.Steps[0].Copies, c => Assert.Contains(c.Exit, net.Proto.Graph.Node.SelectMany(n => n.Output)));
    }

    [Fact]
    public void WithOtherSteps()
    {
        Net net = Image((net, x) => net.Classifier(net.Basic(net.Basic(net.ConvUnit(x, 4, 4), 4, 4), 4, 4), 4));
        MorphResult result = Check.Morph(net,
            Check.DeepenBlocks("blocks:stage1/block1"), Check.Widen("blocks:*", "x1.5"), Check.DeepenBlocks("blocks:*", 2), Check.Deepen("*", 1, DeepenMethod.Identity),
            Check.Widen("*", "+1", WidenMethod.Zero));
        Assert.Equal([1, 3], new[] { 0, 2 }.Select(step => result.Steps[step].Changes.Count));
    }

    /// <summary>Other steps take the layers of the blocks.</summary>
    [Fact]
    public void LayersOfBlocks()
    {
        Net net = Image((net, x) => net.Classifier(net.Basic(net.Basic(net.ConvUnit(x, 4, 4, name: "stem"), 4, 4), 4, 8, 2, scope: "/layer2/layer2.0"), 8));
        int Layers(string selector) => Check.Morph(net, Check.Kernel(selector, "+2")).Steps[0].Changes.Count;
        Assert.Equal(6, Layers("*"));
        Assert.Equal(1, Layers("blocks:stem"));
        Assert.Equal(2, Layers("blocks:stage1/block1"));
        Assert.Equal(5, Layers("blocks:stage*"));
        Assert.Equal(3, Layers("blocks:layer2/*"));
        // Both layers of the block make the residual stream or its inner channels; the stem follows the stream.
        MorphResult wide = Check.Morph(net, Check.Widen("blocks:stage1/*", "6"));
        Assert.Equal([6, 6], wide.Steps[0].Changes.Select(c => (int)c.After));
        AxisMap?[] stem = wide.Relations[net.Node("stem").Output[0]];
        Assert.Equal(6, stem[1]!.Size);
    }

    /// <summary>Networks of random blocks under random steps, blocks among them.</summary>
    [Fact]
    public void RandomNetworks()
    {
        int changed = 0;
        for (int seed = 0; seed < 10; seed++)
        {
            var random = new Random(seed);
            Net net = Image((net, x) =>
            {
                int channels = 4;
                for (int i = random.Next(2, 5); i > 0; i--)
                {
                    int to = random.Next(3) == 0 ? 8 : channels, stride = random.Next(3) == 0 ? 2 : 1;
                    bool norm = random.Next(2) == 0;
                    x = random.Next(5) switch
                    {
                        0 => net.Basic(x, channels, to, stride, norm, random.Next(2) == 0 ? "Relu" : "Tanh"),
                        1 => net.Bottleneck(x, channels, to, stride, norm),
                        2 => net.PreActivation(x, channels, to, stride),
                        3 => net.InvertedResidual(x, channels, to, stride, norm: norm),
                        _ => net.Relu(net.Add(net.Gated(net.ConvUnit(x, channels, to, norm: norm), to), to == channels ? x : net.Conv(x, channels, to, 1))),
                    };
                    channels = to;
                }

                net.Classifier(x, channels);
            });
            MorphStep Step() => random.Next(4) switch
            {
                0 => Check.Widen("blocks:*", "x1.5", (WidenMethod)random.Next(3)),
                1 => Check.Kernel("*", "+2"),
                _ => Check.DeepenBlocks("blocks:*", random.Next(1, 3)),
            };
            changed += Check.Morph(net, Step(), Step(), Step()).Steps.Sum(s => s.Changes.Count(c => c.What == "blocks"));
        }

        Assert.True(changed > 10, $"Only {changed} blocks were deepened.");
    }
}
