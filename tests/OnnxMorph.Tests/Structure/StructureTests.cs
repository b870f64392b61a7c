using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Shapes;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Structure;

/// <summary>What is found in networks whose structure is known.</summary>
public sealed class StructureTests
{
    internal static ModelStructure Of(OnnxModel model) => ModelStructure.Of(AxisAnalysis.Of(new ModelGraph(model), ShapeEvaluator.Evaluate(model)));

    /// <summary>
    /// One line a stage: blocks as their layers' roles in brackets, R in front of residual ones, counted where equal ones follow each
    /// other; the roles of what leads into the stage in front of them.
    /// </summary>
    internal static string Text(ModelStructure structure)
    {
        static string Roles(Section section) => string.Join(' ', section.Layers.Select(l => l.Role));
        static string Blocks(Stage stage)
        {
            var runs = new List<(string Text, int Count)>();
            foreach (string text in stage.Blocks.Select(b => $"{(b.IsResidual ? "R" : "")}[{Roles(b)}]"))
                if (runs.Count > 0 && runs[^1].Text == text)
                    runs[^1] = (text, runs[^1].Count + 1);
                else
                    runs.Add((text, 1));
            return string.Join(' ', runs.Select(r => r.Count == 1 ? r.Text : $"{r.Count}×{r.Text}"));
        }

        IEnumerable<string> stages = structure.Stages.Select(s => $"{(s.Transition is { Layers.Count: > 0 } t ? $"{Roles(t)} " : "")}{Blocks(s)}");
        return string.Join('\n', [$"stem {Roles(structure.Stem)}".Trim(), .. stages, $"head {Roles(structure.Head)}".Trim()]);
    }

    private static void Finds(Net net, string expected) => Assert.Equal(expected.ReplaceLineEndings("\n"), Text(Checked(net.Model)));

    // Every node of an activation is in one section, every block is what its nodes say.
    private static ModelStructure Checked(OnnxModel model)
    {
        ModelStructure structure = Of(model);
        List<Section> sections = [.. structure.Sections.Where(s => !structure.Blocks.Any(b => b.Parts.Contains(s)))];
        Assert.Equal(sections.Sum(s => s.Nodes.Count), sections.SelectMany(s => s.Nodes).Distinct().Count());
        Assert.Equal(structure.Sections.Count(), structure.Sections.Select(s => s.Path).Distinct().Count());
        var graph = new ModelGraph(model);
        foreach (Block block in structure.Blocks.SelectMany(b => b.Parts.Prepend(b)))
        {
            Assert.Contains(graph.Producer(block.Exit)!.Value, block.Nodes);
            Assert.DoesNotContain(graph.Producer(block.Entry) ?? -1, block.Nodes);
            Assert.Contains(block.Nodes, n => graph.Nodes[n].Input.Contains(block.Entry));
            Assert.All(block.Layers, l => Assert.Contains(l.Node, block.Nodes));
        }

        return structure;
    }

    private static Net Image(Action<Net, string> build, int channels = 3, int size = 16)
    {
        var net = new Net();
        build(net, net.Input("image", "N", channels, size, size));
        return net;
    }

    private static Net Tokens(Action<Net, string> build, int size = 8)
    {
        var net = new Net();
        build(net, net.Input("tokens", "N", "T", size));
        return net;
    }

    [Theory]
    [InlineData("digits_resnet.onnx", """
        stem a a.norm
        2×R[a a.norm b b.norm]
        [a a.norm b b.norm shortcut.a shortcut.a.norm] R[a a.norm b b.norm]
        [a a.norm b b.norm shortcut.a shortcut.a.norm] R[a a.norm b b.norm]
        head a
        """)]
    [InlineData("digits_resnet_folded.onnx", """
        stem a
        2×R[a b]
        [a b shortcut.a] R[a b]
        [a b shortcut.a] R[a b]
        head a
        """)]
    [InlineData("digits_mobilenet.onnx", """
        stem a a.norm
        R[a a.norm b b.norm gate.a gate.b c c.norm]
        [a a.norm b b.norm gate.a gate.b c c.norm] R[a a.norm b b.norm gate.a gate.b c c.norm]
        [a a.norm b b.norm gate.a gate.b c c.norm] R[a a.norm b b.norm gate.a gate.b c c.norm]
        head a a.norm b
        """)]
    [InlineData("digits_transformer.onnx", """
        stem a
        2×R[attention.norm attention.query+key+value attention.out mlp.norm mlp.a mlp.b]
        head norm a
        """)]
    public void TrainedModels(string file, string expected)
    {
        ModelStructure structure = Checked(OnnxReader.Read(Path.Combine(AppContext.BaseDirectory, "models", file)));
        Assert.Equal(expected.ReplaceLineEndings("\n"), Text(structure));
    }

    [Fact]
    public void ScopesAndSignatures()
    {
        var net = new Net();
        string x = net.ConvUnit(net.Input("image", "N", 3, 16, 16), 3, 4, name: "/stem/conv/Conv");
        x = net.Basic(net.Basic(x, 4, 4, scope: "/layer1/layer1.0"), 4, 4, scope: "/layer1/layer1.1");
        net.Classifier(net.Basic(net.Basic(x, 4, 8, 2, scope: "/layer2/layer2.0"), 8, 8, scope: "/layer2/layer2.1"), 8);
        ModelStructure structure = Checked(net.Model);
        Assert.Equal(["layer1/layer1.0", "layer1/layer1.1", "layer2/layer2.0", "layer2/layer2.1"], structure.Blocks.Select(b => b.Scope));
        Assert.Equal(["stage1/block1", "stage1/block2", "stage2/block1", "stage2/block2"], structure.Blocks.Select(b => b.Path));
        Assert.Equal("stem/conv", structure.Stem.Scope);
        string[] signatures = [.. structure.Blocks.Select(b => b.Signature)];
        Assert.Equal(signatures[0], signatures[1]);
        Assert.Equal(signatures[0], signatures[3]);
        Assert.NotEqual(signatures[0], signatures[2]);
        Assert.Equal([true, true, false, true], structure.Blocks.Select(b => b.IsResidual));
        Assert.Equal(structure.Blocks.SkipLast(1).Select(b => b.Exit), structure.Blocks.Skip(1).Select(b => b.Entry));
    }

    [Theory]
    [InlineData(true, "stem a a.norm\n2×R[a a.norm b b.norm]\n[a a.norm b b.norm shortcut.a shortcut.a.norm] R[a a.norm b b.norm]\nhead a")]
    [InlineData(false, "stem a\n2×R[a b]\n[a b shortcut.a] R[a b]\nhead a")]
    public void BasicBlocks(bool norm, string expected) => Finds(Image((net, x) =>
    {
        x = net.Op("MaxPool", [net.ConvUnit(x, 3, 4, norm: norm)], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } });
        x = net.Basic(net.Basic(x, 4, 4, norm: norm), 4, 4, norm: norm);
        net.Classifier(net.Basic(net.Basic(x, 4, 8, 2, norm), 8, 8, norm: norm), 8);
    }), expected);

    [Fact]
    public void Bottlenecks() => Finds(Image((net, x) =>
    {
        x = net.ConvUnit(x, 3, 4, norm: false);
        x = net.Bottleneck(net.Bottleneck(net.Bottleneck(x, 4, 8, norm: false), 8, 8, norm: false), 8, 8, norm: false);
        net.Classifier(net.Bottleneck(net.Bottleneck(x, 8, 16, 2, norm: false), 16, 16, norm: false), 16);
    }), "stem a\n[a b c shortcut.a] 2×R[a b c]\n[a b c shortcut.a] R[a b c]\nhead a");

    /// <summary>A norm that the projection and the branch share is the next block's; the last is the head's.</summary>
    [Fact]
    public void PreActivations() => Finds(Image((net, x) =>
    {
        x = net.PreActivation(net.PreActivation(net.Conv(x, 3, 4), 4, 4), 4, 4);
        x = net.PreActivation(net.PreActivation(x, 4, 8, 2), 8, 8);
        net.Classifier(net.Relu(net.BatchNorm(x, 8)), 8);
    }), "stem a\n2×R[norm a a.norm b]\n[norm shortcut.a a a.norm b] R[norm a a.norm b]\nhead norm a");

    /// <summary>Blocks without a skip are told by the layers that the others' branches have.</summary>
    [Theory]
    [InlineData(true, "stem a a.norm\n[a a.norm b b.norm]\n[a a.norm b b.norm c c.norm] 2×R[a a.norm b b.norm c c.norm]\n[a a.norm b b.norm c c.norm] R[a a.norm b b.norm c c.norm]\nhead a a.norm b")]
    [InlineData(false, "stem a\n[a b]\n[a b c] 2×R[a b c]\n[a b c] R[a b c]\nhead a b")]
    public void InvertedResiduals(bool norm, string expected) => Finds(Image((net, x) =>
    {
        x = net.InvertedResidual(net.ConvUnit(x, 3, 4, norm: norm), 4, 6, expand: 1, norm: norm);
        x = net.InvertedResidual(net.InvertedResidual(net.InvertedResidual(x, 6, 8, 2, norm: norm), 8, 8, norm: norm), 8, 8, norm: norm);
        x = net.InvertedResidual(net.InvertedResidual(x, 8, 12, norm: norm), 12, 12, norm: norm);
        net.Classifier(net.ConvUnit(x, 12, 20, 1, norm: norm), 20);
    }), expected);

    /// <summary>As PyTorch writes it: every layer concatenates the results of all before it.</summary>
    [Fact]
    public void DenseLayers() => Finds(Image((net, x) =>
    {
        string Layer(string value, int channels) => net.Conv(net.Relu(net.BatchNorm(value, channels)), channels, 2);
        string Stage(string value, int channels, int layers)
        {
            var all = new List<string> { value };
            for (int i = 0; i < layers; i++)
                all.Add(Layer(all.Count == 1 ? value : net.Op("Concat", [.. all], new { axis = 1 }), channels + 2 * i));
            return net.Op("Concat", [.. all], new { axis = 1 });
        }

        x = Stage(net.Conv(x, 3, 4), 4, 3);
        x = net.Op("AveragePool", [net.Conv(net.Relu(net.BatchNorm(x, 10)), 10, 6, 1)], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } });
        net.Classifier(net.Relu(net.BatchNorm(Stage(x, 6, 4), 14)), 14);
    }), "stem a\n3×[norm a]\nnorm a 4×[norm a]\nhead norm a");

    /// <summary>As Keras writes it: every layer concatenates its input and its result.</summary>
    [Fact]
    public void DenseLayersOneByOne() => Finds(Image((net, x) =>
    {
        x = net.Conv(x, 3, 4);
        for (int i = 0; i < 3; i++)
            x = net.Op("Concat", [x, net.Conv(net.Relu(net.BatchNorm(x, 4 + 2 * i)), 4 + 2 * i, 2)], new { axis = 1 });
        net.Classifier(net.Relu(net.BatchNorm(x, 10)), 10);
    }), "stem a\n3×[norm a]\nhead norm a");

    [Fact]
    public void ParallelBranches() => Finds(Image((net, x) =>
    {
        string Module(string value, int channels) => net.Op("Concat",
        [
            net.ConvUnit(value, channels, 4, 1, norm: false),
            net.ConvUnit(net.ConvUnit(value, channels, 3, 1, norm: false), 3, 4, norm: false),
            net.ConvUnit(net.Op("MaxPool", [value], new { kernel_shape = new[] { 3, 3 }, pads = new[] { 1, 1, 1, 1 } }), channels, 4, 1, norm: false),
        ], new { axis = 1 });
        x = Module(Module(net.ConvUnit(net.ConvUnit(x, 3, 4, norm: false), 4, 6, norm: false), 6), 12);
        net.Classifier(Module(net.Op("MaxPool", [x], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } }), 12), 12);
    }), "stem a b\n2×[branch1.a branch2.a branch2.b branch3.a]\n[branch1.a branch2.a branch2.b branch3.a]\nhead a");

    /// <summary>The layer that squeezes in front of two parallel ones belongs to them (SqueezeNet).</summary>
    [Fact]
    public void SqueezeInFrontOfBranches() => Finds(Image((net, x) =>
    {
        string Fire(string value, int channels)
        {
            string y = net.ConvUnit(value, channels, 3, 1, norm: false);
            return net.Op("Concat", [net.ConvUnit(y, 3, 4, 1, norm: false), net.ConvUnit(y, 3, 4, norm: false)], new { axis = 1 });
        }

        x = net.Op("MaxPool", [net.ConvUnit(x, 3, 6, norm: false)], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } });
        net.Classifier(Fire(Fire(x, 6), 8), 8);
    }), "stem a\n2×[a branch1.a branch2.a]\nhead a");

    /// <summary>Long skips frame levels: what they lead past is found as if they were not there.</summary>
    [Theory]
    [InlineData("Concat")]
    [InlineData("Add")]
    public void UNet(string join) => Finds(Image((net, x) =>
    {
        string Down(string value) => net.Op("MaxPool", [value], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } });
        string Join(string a, string b) => join == "Add" ? net.Add(a, b) : net.Op("Concat", [a, b], new { axis = 1 });
        string Up(string value, int channels, int to) => net.Op("ConvTranspose", [value, net.Weight([channels, to, 2, 2])], new { strides = new[] { 2, 2 } });
        int joined = join == "Add" ? 1 : 2;
        string one = net.ConvUnit(net.ConvUnit(x, 3, 4), 4, 4);
        string two = net.ConvUnit(net.ConvUnit(Down(one), 4, 6), 6, 6);
        string three = net.ConvUnit(net.ConvUnit(Down(two), 6, 8), 8, 8);
        string back = net.ConvUnit(net.ConvUnit(Join(two, Up(three, 8, 6)), joined * 6, 6), 6, 6);
        back = net.ConvUnit(net.ConvUnit(Join(one, Up(back, 6, 4)), joined * 4, 4), 4, 4);
        net.Output(net.Conv(back, 4, 1, 1));
    }), "stem\n2×[a a.norm]\n2×[a a.norm]\n2×[a a.norm]\n[a] 2×[a a.norm]\n[a] 2×[a a.norm]\nhead a");

    [Fact]
    public void UNetOfResidualBlocks() => Finds(Image((net, x) =>
    {
        string one = net.Basic(net.ConvUnit(x, 3, 4, norm: false), 4, 4, norm: false);
        string two = net.Basic(net.Basic(one, 4, 8, 2, norm: false), 8, 8, norm: false);
        string up = net.Op("Resize", [two, "", net.Floats(1, 1, 2, 2)]);
        string back = net.ConvUnit(net.Op("Concat", [one, up], new { axis = 1 }), 12, 4, norm: false);
        net.Output(net.Conv(net.Basic(back, 4, 4, norm: false), 4, 2, 1));
    }), "stem a\nR[a b]\n[a b shortcut.a] R[a b]\na R[a b]\nhead a");

    /// <summary>Residual blocks inside a long skip (super-resolution), and blocks that are residual blocks themselves.</summary>
    [Fact]
    public void BlocksInsideOfSkips()
    {
        Net Build(bool nested) => Image((net, x) =>
        {
            string Small(string value) => net.Add(value, net.Mul(net.Conv(net.Relu(net.Conv(value, 4, 4)), 4, 4), net.Filled(0.2)));
            string Block(string value) => nested ? net.Add(value, net.Mul(Small(Small(value)), net.Filled(0.2))) : Small(value);
            string features = net.Conv(x, 3, 4);
            string deep = net.Conv(Block(Block(Block(features))), 4, 4);
            string y = net.Conv(net.Op("DepthToSpace", [net.Conv(net.Add(features, deep), 4, 8)], new { blocksize = 2 }), 2, 3);
            net.Output(y);
        });

        Finds(Build(nested: false), "stem a\n3×R[a b]\nhead a b c");
        Finds(Build(nested: true), "stem a\n3×R[a b c d]\nhead a b c");
        Assert.All(Checked(Build(nested: true).Model).Blocks, b => Assert.Equal([$"{b.Path}/part1", $"{b.Path}/part2"], b.Parts.Select(p => p.Path)));
    }

    /// <summary>Residual blocks whose results are all concatenated at the end (residual dense networks).</summary>
    [Fact]
    public void ResidualBlocksUnderOneConcatenation() => Finds(Image((net, x) =>
    {
        var all = new List<string>();
        string y = net.Conv(x, 3, 4);
        for (int i = 0; i < 4; i++)
            all.Add(y = net.Add(y, net.Conv(net.Op("Concat", [y, net.Relu(net.Conv(y, 4, 3))], new { axis = 1 }), 7, 4, 1)));
        net.Output(net.Conv(net.Conv(net.Op("Concat", [.. all], new { axis = 1 }), 16, 4, 1), 4, 3));
    }), "stem a\n4×R[a b]\nhead a b");

    [Fact]
    public void PlainChain() => Finds(Image((net, x) =>
    {
        string Pool(string value) => net.Op("MaxPool", [value], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } });
        x = Pool(net.ConvUnit(net.ConvUnit(x, 3, 4, norm: false), 4, 4, norm: false));
        x = Pool(net.ConvUnit(net.ConvUnit(x, 4, 8, norm: false), 8, 8, norm: false));
        x = net.Relu(net.Op("Gemm", [net.Op("Flatten", [x]), net.Weight([128, 6]), net.Weight([6])]));
        net.Output(net.Op("Gemm", [x, net.Weight([6, 3]), net.Weight([3])]));
    }), "stem\n2×[a]\n2×[a]\nhead a b");

    /// <summary>A depthwise layer and the one behind it are one block (MobileNetV1).</summary>
    [Fact]
    public void SeparableChain() => Finds(Image((net, x) =>
    {
        string Separable(string value, int inputs, int outputs, int stride = 1) => net.ConvUnit(net.ConvUnit(value, inputs, inputs, stride: stride, group: inputs), inputs, outputs, 1);
        x = Separable(Separable(net.ConvUnit(x, 3, 4), 4, 8), 8, 8, 2);
        net.Classifier(x, 8);
    }), "stem\n[a a.norm] [a a.norm b b.norm]\n[a a.norm b b.norm]\nhead a");

    [Fact]
    public void DenseNetworkOfMatrices() => Finds(Tokens((net, x) =>
    {
        x = net.Relu(net.Linear(net.Relu(net.Linear(x, 8, 6)), 6, 6));
        net.Output(net.Linear(x, 6, 2));
    }), "stem\n2×[a]\nhead a");

    [Theory]
    [InlineData(true, true, "attention.norm attention.query attention.key attention.value attention.out mlp.norm mlp.a mlp.b", "head norm a")]
    [InlineData(true, false, "attention.norm attention.query attention.key attention.value attention.out mlp.norm mlp.a mlp.b", "head norm a")]
    [InlineData(false, true, "attention.query attention.key attention.value attention.out attention.out.norm mlp.a mlp.b mlp.b.norm", "head a")]
    [InlineData(false, false, "attention.query attention.key attention.value attention.out attention.out.norm mlp.a mlp.b mlp.b.norm", "head a")]
    public void Transformers(bool preNorm, bool decomposed, string roles, string head)
    {
        foreach (int layers in new[] { 1, 3 })
            Finds(Tokens((net, x) =>
            {
                x = net.Linear(x, 8, 8);
                string mask = net.Mul(net.Op("Unsqueeze", [net.Input("mask", "N", 1, "T"), net.Ints(1)]), net.Filled(-1e4));
                for (int i = 0; i < layers; i++)
                    x = net.TransformerLayer(x, 8, 2, preNorm, decomposed, mask);
                net.Output(net.Linear(preNorm ? net.Norm(x, 8, decomposed) : x, 8, 3));
            }), $"stem a\n{(layers == 1 ? "" : $"{layers}×")}R[{roles}]\n{head}");
    }

    /// <summary>A decoder reads an encoder's result in every layer; that is beside its blocks and not in their way.</summary>
    [Fact]
    public void CrossAttention()
    {
        Net net = Tokens((net, x) =>
        {
            string memory = net.Input("memory", "N", "M", 8);
            x = net.Linear(x, 8, 8);
            for (int i = 0; i < 2; i++)
            {
                x = net.Add(x, net.Attention(net.Norm(x, 8), 8, 2));
                x = net.Add(x, net.Attention(net.Norm(x, 8), 8, 2, memory));
                x = net.Add(x, net.Mlp(net.Norm(x, 8), 8));
            }

            net.Output(net.Linear(net.Norm(x, 8), 8, 3));
        });
        const string Attention = "norm {0}.query {0}.key {0}.value {0}.out";
        string Roles(string part) => string.Format(System.Globalization.CultureInfo.InvariantCulture, "{0}." + Attention, part);
        Finds(net, $"stem a\n2×R[{Roles("attention")} {Roles("attention2")} mlp.norm mlp.a mlp.b]\nhead norm a");
        Assert.All(Checked(net.Model).Blocks, b => Assert.Equal(["memory"], b.Beside));
    }

    /// <summary>What is added in every block, such as the embedding of a time, is beside the blocks.</summary>
    [Fact]
    public void ConditionedBlocks() => Finds(Image((net, x) =>
    {
        string time = net.Relu(net.Op("Gemm", [net.Input("time", "N", 5), net.Weight([5, 6])]));
        string Block(string value)
        {
            string shift = net.Op("Unsqueeze", [net.Op("Gemm", [time, net.Weight([6, 4])]), net.Ints(2, 3)]);
            return net.Add(value, net.Conv(net.Relu(net.Add(net.Conv(net.Relu(value), 4, 4), shift)), 4, 4));
        }

        net.Output(net.Conv(net.Relu(Block(Block(Block(net.Conv(x, 3, 4))))), 4, 3));
    }), "stem beside.a a\n3×R[beside.a a b]\nhead a");

    /// <summary>Values that callers take on the way are at the end of nothing.</summary>
    [Fact]
    public void OutputsOnTheWay() => Finds(Tokens((net, x) =>
    {
        x = net.Linear(x, 8, 8);
        for (int i = 0; i < 3; i++)
        {
            string y = net.Relu(net.Linear(net.Norm(x, 8), 8, 8));
            net.Output(net.Op("Transpose", [y], new { perm = new[] { 1, 0, 2 } }));
            net.Output(y);
            x = net.Add(x, net.Linear(y, 8, 8));
        }

        net.Output(net.Linear(x, 8, 3));
    }), "stem a\n3×R[norm a b]\nhead a");

    [Fact]
    public void RecurrentLayers() => Finds(Image((net, _) =>
    {
        string words = net.Op("Gather", [net.Weight([7, 4]), net.Input("words", ElementType.Int64, "T", "N")]);
        string Lstm(string value, int inputs) => net.Op("Squeeze", [net.Op("LSTM", [value, net.Weight([1, 20, inputs]), net.Weight([1, 20, 5])], new { hidden_size = 5 }), net.Ints(1)]);
        net.Output(net.Linear(Lstm(Lstm(words, 4), 5), 5, 3));
    }), "stem embedding\n2×[a]\nhead a");

    /// <summary>No layer, one layer, and inputs that go straight out.</summary>
    [Fact]
    public void AlmostNothing()
    {
        Finds(Tokens((net, x) => net.Output(net.Relu(x))), "stem\nhead");
        Finds(Tokens((net, x) => net.Output(net.Linear(x, 8, 8))), "stem\n[a]\nhead");
        Finds(Tokens((net, x) => net.Output(net.Add(x, net.Linear(net.Relu(net.Linear(x, 8, 8)), 8, 8)))), "stem\nR[a b]\nhead");
    }

    [Fact]
    public void EveryRandomNetworkHasAStructure()
    {
        for (int seed = 0; seed < 40; seed++)
            Checked(new RandomNetwork(seed).Net.Model);
    }
}
