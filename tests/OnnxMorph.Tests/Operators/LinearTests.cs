using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Operators;

public class LinearTests
{
    [Theory]
    [InlineData(1, 1, 1, 1)]
    [InlineData(1, 2, 2, 2)]
    [InlineData(2, 1, 2, 1)]
    [InlineData(2, 2, 1, 2)]
    [InlineData(3, 1, 1, 2)]
    [InlineData(3, 2, 2, 1)]
    public void ConvolutionsOfAnyKind(int dimensions, int group, int stride, int dilation)
    {
        string[] axes = [.. new[] { "D", "H", "W" }.Take(dimensions)];
        var net = new Net();
        foreach (int size in dimensions < 3 ? new[] { 2, 5, 6 } : [2])
            net.Runs.Add(new(axes.Select((a, i) => KeyValuePair.Create(a, (long)size + i))) { ["N"] = size == 5 ? 1 : 2 });
        string x = net.Input("x", ["N", 4, .. axes]);
        int[] ones = [.. Enumerable.Repeat(1, dimensions)];
        string y = net.Conv(x, 4, 4, dimensions: dimensions, name: "a");
        y = net.Conv(net.Op("Tanh", [y]), 4, 8, group: group, dimensions: dimensions, name: "b", attributes: new
        {
            strides = ones.Select(_ => stride).ToArray(),
            dilations = ones.Select(_ => dilation).ToArray(),
            pads = ones.Select((_, i) => i + dilation).Concat(ones.Select(_ => dilation)).ToArray(),
        });
        y = net.Conv(net.Op("Sigmoid", [y]), 8, 8, group: 8, dimensions: dimensions, name: "depthwise");
        net.Output(net.Conv(net.Relu(y), 8, 3, kernel: 1, dimensions: dimensions, bias: false, name: "c"));
        // The groups of the second grow with its input, so its input and output grow by whole groups.
        Layer.Grow(net, new Layer("a", 4, Unit: Unit(4)), new Layer("b", 8, Unit: Unit(8)), new Layer("depthwise", 8, Unit: Unit(8)));

        int Unit(int channels) => group == 1 ? 1 : channels / group;
    }

    /// <summary>A depthwise convolution with several outputs a channel: channels × multiplier.</summary>
    [Fact]
    public void DepthwiseWithMultiplier()
    {
        var net = new Net { Runs = { new() { ["H"] = 4 }, new() { ["H"] = 1 } } };
        string x = net.Input("x", 2, 3, "H", 5);
        string y = net.Conv(net.Conv(x, 3, 4, name: "a"), 4, 12, group: 4, name: "b");
        net.Output(net.Conv(net.Relu(y), 12, 2, name: "c"));
        Layer.Grow(net, new Layer("a", 4), new Layer("b", 12, Unit: 3));
    }

    [Theory]
    [InlineData(1, 1, 2)]
    [InlineData(1, 2, 2)]
    [InlineData(2, 2, 2)]
    [InlineData(2, 1, 1)]
    public void TransposedConvolution(int group, int stride, int dimensions)
    {
        string[] axes = [.. new[] { "H", "W" }.Take(dimensions)];
        var net = new Net();
        foreach (int size in new[] { 1, 4 })
            net.Runs.Add(new(axes.Select((a, i) => KeyValuePair.Create(a, (long)size + i))) { ["N"] = 2 });
        string x = net.Input("x", ["N", 3, .. axes]);
        int[] ones = [.. Enumerable.Repeat(1, dimensions)];
        long[] kernel = [.. ones.Select((_, i) => 2L + i)];
        string y = net.Op("ConvTranspose", [net.Relu(net.Conv(x, 3, 4, dimensions: dimensions, name: "a")), net.Weight([4, 6 / group, .. kernel]), net.Weight([6])], new
        {
            group,
            strides = ones.Select(_ => stride).ToArray(),
            output_padding = ones.Select((_, i) => i == 0 ? stride - 1 : 0).ToArray(),
            pads = ones.Select(_ => 0).Concat(ones.Select(_ => 1)).ToArray(),
        }, "t");
        net.Output(net.Conv(net.Relu(y), 6, 2, dimensions: dimensions, name: "c"));
        Layer.Grow(net, new Layer("a", 4, Unit: group == 1 ? 1 : 4 / group), new Layer("t", 6, Unit: group == 1 ? 1 : 6 / group));
    }

    [Theory]
    [InlineData(0, 0, 1, 1)]
    [InlineData(0, 1, 0.5, 2)]
    [InlineData(1, 0, 2, 0.5)]
    [InlineData(1, 1, 0.25, -1)]
    public void Gemm(int transA, int transB, double alpha, double beta)
    {
        foreach (string c in new[] { "vector", "row", "column", "full", "one", "scalar", "none" })
        {
            var net = new Net(ElementType.Float64);
            string x = net.Op("Tanh", [net.Linear(net.Input("x", 5, 3), 3, 4, "a")]);
            if (transA == 1)
                x = net.Transpose(x, 1, 0);
            string[] inputs = [x, net.Weight(transB == 1 ? [6, 4] : [4, 6])];
            if (c != "none")
                inputs = [.. inputs, net.Weight(c switch { "vector" => [6], "row" => [1, 6], "column" => [5, 1], "full" => [5, 6], "one" => [1], _ => [] })];
            string y = net.Op("Gemm", inputs, new { transA, transB, alpha, beta }, "g");
            net.Output(net.Linear(net.Relu(y), 6, 2, "b"));
            Layer.Grow(net, new Layer("a", 4), new Layer("g", 6), new Layer("b", 2, How.Never));
        }
    }

    [Fact]
    public void GemmWithTheWeightOnTheLeft()
    {
        var net = new Net(ElementType.Float64);
        string x = net.Transpose(net.Linear(net.Input("x", 5, 3), 3, 4, "a"), 1, 0);
        string y = net.Op("Gemm", [net.Weight([6, 4]), x], name: "g");
        net.Output(net.Op("MatMul", [net.Weight([2, 6]), net.Op("Tanh", [y])]));
        Layer.Grow(net, new Layer("a", 4));
    }

    [Fact]
    public void MatMulOfAnyRank()
    {
        // A vector, a matrix, a stack of rows; weights per position and weights on the left.
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2 } } };
        string x = net.Input("x", "N", 4, 3);
        string y = net.Op("Tanh", [net.Linear(x, 3, 6, "a")]);
        string byPosition = net.Op("MatMul", [net.Op("Unsqueeze", [y, net.Ints(2)]), net.Weight([4, 6, 2])]);
        string stacked = net.Op("MatMul", [net.Op("Unsqueeze", [y, net.Ints(1)]), net.Weight([1, 5, 6, 2])]);
        string vector = net.Op("MatMul", [y, net.Weight([6])]);
        string left = net.Op("MatMul", [net.Weight([7, 6]), net.Transpose(y, 0, 2, 1)]);
        string leftVector = net.Op("MatMul", [net.Weight([6]), net.Transpose(y, 0, 2, 1)]);
        foreach (string output in new[] { byPosition, stacked, vector, left, leftVector })
            net.Output(output);
        Layer.Grow(net, new Layer("a", 6));
    }

    [Fact]
    public void Einsum()
    {
        foreach (string form in new[] { "bsi,io->bso", "bsi,oi->bos", "bsi,ois->bso", "b s i , i o -> b s o", "bsi,io->ob", "bsi,i->bs", "bsi,bsi->bsi", "bsi->bis" })
        {
            var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2 } } };
            string x = net.Op("Tanh", [net.Linear(net.Input("x", "N", 4, 3), 3, 6, "a")]);
            string letters = form.Replace(" ", "");
            string[] operands = letters[..letters.IndexOf('-')].Split(',');
            long Size(char c) => c switch { 's' => 4, 'i' => 6, 'o' => 5, _ => 0 };
            string[] inputs = operands.Length == 1 ? [x] : form == "bsi,bsi->bsi" ? [x, x] : [x, net.Weight([.. operands[1].Select(Size)])];
            string y = net.Op("Einsum", inputs, new { equation = form });
            net.Output(letters.EndsWith("->bsi", StringComparison.Ordinal) || letters.EndsWith("->bis", StringComparison.Ordinal) ? net.Op("MatMul", [letters.EndsWith("bis", StringComparison.Ordinal) ? net.Transpose(y, 0, 2, 1) : y, net.Weight([6, 2])]) : y);
            Layer.Grow(net, new Layer("a", 6));
        }
    }

    [Theory]
    [InlineData("...i,io->...o")]
    [InlineData("bsi->bs")]
    [InlineData("bsi,io")]
    [InlineData("bsi,bti->bst")]
    public void EinsumThatSumsOverTheChannels(string equation)
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2 } } };
        string x = net.Linear(net.Input("x", "N", 4, 3), 3, 6, "a");
        string[] inputs = equation.Contains("io", StringComparison.Ordinal) ? [x, net.Weight([6, 5])] : equation == "bsi->bs" ? [x] : [x, x];
        net.Output(net.Op("Einsum", inputs, new { equation }));
        Layer.Grow(net, new Layer("a", 6, How.Never, Because: "Einsum"));
    }

    [Theory]
    [InlineData("LSTM", 4, "forward", 0, false)]
    [InlineData("LSTM", 4, "bidirectional", 0, true)]
    [InlineData("LSTM", 4, "reverse", 0, true)]
    [InlineData("GRU", 3, "forward", 0, true)]
    [InlineData("GRU", 3, "bidirectional", 1, false)]
    [InlineData("RNN", 1, "forward", 0, false)]
    [InlineData("RNN", 1, "bidirectional", 0, true)]
    public void Recurrent(string op, int gates, string direction, int linearBeforeReset, bool everything)
    {
        // Sequence, batch, features; the hidden state is joined with a layer of the same width, so that it grows with it.
        const int Hidden = 4;
        int directions = direction == "bidirectional" ? 2 : 1;
        var net = new Net { Runs = { new() { ["T"] = 5, ["N"] = 2 }, new() { ["T"] = 1, ["N"] = 3 } } };
        string x = net.Input("x", "T", "N", 3);
        string features = net.Op("Tanh", [net.Linear(x, 3, 5, "a")]);
        var inputs = new List<string> { features, net.Weight([directions, gates * Hidden, 5]), net.Weight([directions, gates * Hidden, Hidden]) };
        if (everything)
        {
            string state = net.Op("Expand", [net.Weight([directions, 1, Hidden]), net.Shape(directions, net.Size(x, 1), Hidden)]);
            inputs.AddRange([net.Weight([directions, 2 * gates * Hidden]), "", state]);
            if (op == "LSTM")
                inputs.AddRange([state, net.Weight([directions, 3 * Hidden])]);
        }

        object attributes = op == "GRU" ? new { hidden_size = Hidden, direction, linear_before_reset = linearBeforeReset } : new { hidden_size = Hidden, direction };
        string[] outputs = net.Ops(op, op == "LSTM" ? 3 : 2, [.. inputs], attributes, "rnn");
        // [T, directions, N, hidden] → [T, N, directions × hidden], beside a layer that adds to each direction.
        string flat = net.Reshape(net.Transpose(outputs[0], 0, 2, 1, 3), 0, 0, directions * Hidden);
        string beside = net.Add(flat, net.Linear(x, 3, directions * Hidden, "beside"));
        net.Output(net.Linear(beside, directions * Hidden, 2, "b"));
        net.Output(net.Linear(net.Op("ReduceMax", [outputs[1]], new { axes = new[] { 0 }, keepdims = 0 }), Hidden, 2, "last"));
        Layer.Grow(net, inDouble: false, new Layer("a", 5), new Layer("beside", directions * Hidden, Unit: directions));
    }

    /// <summary>Scores of two activations contract the head size, which stays; whole heads grow.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Attention(bool fused)
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2, ["T"] = 3 }, new() { ["N"] = 1, ["T"] = 1 } } };
        string x = net.Input("x", "N", "T", 5);
        string Heads(string v) => net.Transpose(net.Op("Reshape", [v, net.Shape(net.Size(v, 0), net.Size(v, 1), 3, 2)]), 0, 2, 1, 3);
        string[] parts = fused ? net.Ops("Split", 3, [net.Linear(x, 5, 18, "qkv"), net.Ints(6, 6, 6)], new { axis = -1 })
            : [net.Linear(x, 5, 6, "q"), net.Linear(x, 5, 6, "k"), net.Linear(x, 5, 6, "v")];
        string q = Heads(parts[0]), k = Heads(parts[1]), v = Heads(parts[2]);
        string width = net.Op("Sqrt", [net.Op("Cast", [net.Size(q, 3)], new { to = (int)ElementType.Float64 })]);
        string scores = net.Op("Div", [net.Op("MatMul", [q, net.Transpose(k, 0, 1, 3, 2)]), width]);
        string mixed = net.Op("MatMul", [net.Op("Softmax", [scores], new { axis = -1 }), v]);
        string joined = net.Op("Reshape", [net.Transpose(mixed, 0, 2, 1, 3), net.Shape(net.Size(x, 0), net.Size(x, 1), 6)]);
        net.Output(net.Linear(joined, 6, 4, "o"));
        if (fused)
            Layer.Grow(net, new Layer("qkv", 18, Unit: 6));
        else
            Layer.Grow(net, new Layer("q", 6, Unit: 2), new Layer("k", 6, Unit: 2), new Layer("v", 6, Unit: 2));
    }

    /// <summary>1/√d is computed with: the channels may grow, the number stays what it is in the parent.</summary>
    [Fact]
    public void ASizeThatTheNetworkComputesWithStaysTheParents()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2 } } };
        string x = net.Linear(net.Input("x", "N", 3), 3, 6, "a");
        string d = net.Op("Cast", [net.Size(x, 1)], new { to = (int)ElementType.Float64 });
        net.Output(net.Linear(net.Op("Div", [x, net.Op("Sqrt", [d])]), 6, 2, "b"));
        Check.Grown(Check.Morph(net, Check.Widen("a", "x1.5")), "a", 9);

        // With the batch in it, it is no constant.
        net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2 }, new() { ["N"] = 3 } } };
        x = net.Linear(net.Input("x", "N", 3), 3, 6, "a");
        d = net.Op("Cast", [net.Op("Size", [x])], new { to = (int)ElementType.Float64 });
        net.Output(net.Linear(net.Op("Div", [x, d]), 6, 2, "b"));
        Layer.Grow(net, new Layer("a", 6, How.Never, Because: "computes with this size"));
    }

    /// <summary>Positions are computed with, and what they were added to is spread out by sizes: those are no numbers.</summary>
    [Fact]
    public void SizesThatOnlySpreadNumbersOutAreNotComputedWith()
    {
        var net = new Net(ElementType.Float64, 18) { Runs = { new() { ["N"] = 2 }, new() { ["N"] = 5 } } };
        string x = net.Linear(net.Input("x", "N", 3), 3, 6, "a");
        string positions = net.Op("Range", [net.Int(0), net.Op("Squeeze", [net.Op("Shape", [x], new { start = 0, end = 1 })]), net.Int(1)]);
        x = net.Add(x, net.Op("Unsqueeze", [net.Op("Cast", [positions], new { to = (int)ElementType.Float64 }), net.Ints(1)]));
        string size = net.Op("Shape", [x], new { start = 1, end = 2 }), shape = net.Op("Concat", [net.Ints(2, -1), size], new { axis = 0 });
        string y = net.Op("Expand", [net.Op("Unsqueeze", [x, net.Ints(0)]), net.Op("Concat", [net.Ints(2, 1), size], new { axis = 0 })]);
        net.Output(net.Linear(net.Relu(net.Op("Reshape", [y, shape])), 6, 2, "b"));
        Check.Grown(Check.Morph(net, Check.Widen("a", "x1.5")), "a", 9);
    }

    [Fact]
    public void GatedUnitsAndSqueezeExcite()
    {
        var net = new Net { Runs = { new() { ["H"] = 4, ["W"] = 3 }, new() { ["H"] = 1, ["W"] = 1 } } };
        string x = net.Input("x", 2, 3, "H", "W");
        string y = net.Relu(net.BatchNorm(net.Conv(x, 3, 8, name: "a"), 8));
        string s = net.Conv(net.Op("GlobalAveragePool", [y]), 8, 2, kernel: 1, name: "reduce");
        s = net.Op("Sigmoid", [net.Conv(net.Relu(s), 2, 8, kernel: 1, name: "expand")]);
        y = net.Mul(y, s);
        string[] halves = net.Ops("Split", 2, [net.Conv(y, 8, 12, name: "glu")], new { axis = 1 });
        y = net.Mul(halves[0], net.Op("Sigmoid", [halves[1]]));
        net.Output(net.Conv(y, 6, 2, name: "b"));
        Layer.Grow(net, new Layer("a", 8), new Layer("reduce", 2), new Layer("expand", 8), new Layer("glu", 12, Unit: 2));
    }

    /// <summary>A residual stream, and a bottleneck in it.</summary>
    [Fact]
    public void ResidualStream()
    {
        var net = new Net { Runs = { new() { ["H"] = 5, ["W"] = 3 } } };
        string x = net.Relu(net.Conv(net.Input("x", 2, 3, "H", "W"), 3, 8, name: "stem"));
        for (int block = 0; block < 2; block++)
        {
            string y = net.Relu(net.BatchNorm(net.Conv(x, 8, 4, kernel: 1, name: $"down{block}"), 4));
            y = net.Conv(net.Relu(net.Conv(y, 4, 4, group: 2, name: $"mid{block}")), 4, 8, kernel: 1, name: $"up{block}");
            x = net.Relu(net.Add(x, y));
        }

        net.Output(net.Op("Gemm", [net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), net.Weight([8, 3]), net.Weight([3])], name: "head"));
        MorphResult result = Layer.Grow(net, new Layer("stem", 8), new Layer("up0", 8), new Layer("up1", 8), new Layer("down1", 4, Unit: 2), new Layer("mid1", 4, Unit: 2));
        Check.Refused(result, "head", "callers read it");
    }

    [Fact]
    public void SharedWeights()
    {
        // Siamese: one weight, two inputs; both uses grow and stay one tensor.
        var net = new Net(ElementType.Float64);
        string w = net.Weight([3, 4]), a = net.Input("l", 2, 3), b = net.Input("r", 2, 3);
        string left = net.Op("Tanh", [net.Op("MatMul", [a, w], name: "a")]), right = net.Op("Tanh", [net.Op("MatMul", [b, w], name: "b")]);
        net.Output(net.Linear(net.Op("Concat", [left, right], new { axis = 1 }), 8, 2, "c"));
        MorphResult result = Layer.Grow(net, new Layer("a", 4), new Layer("b", 4));
        Assert.Single(result.Child.Proto.Graph.Initializer, t => t.Dims is [3, 14]);

        // One weight between different spaces: [4, 4] as in → out and as out → in.
        net = new Net(ElementType.Float64);
        w = net.Weight([4, 4]);
        string x = net.Op("Tanh", [net.Linear(net.Input("x", 2, 3), 3, 4, "a")]);
        string y = net.Op("Tanh", [net.Op("MatMul", [x, w], name: "b")]);
        net.Output(net.Linear(net.Op("MatMul", [y, w], name: "c"), 4, 2));
        Layer.Grow(net, new Layer("a", 4), new Layer("b", 4), new Layer("c", 4));

        // A convolution in two places.
        net = new Net { Runs = { new() { ["H"] = 4 } } };
        string image = net.Conv(net.Input("x", 1, 3, "H", 4), 3, 4, name: "a");
        string kernel = net.Weight([4, 4, 3, 3]);
        for (int i = 0; i < 2; i++)
            image = net.Relu(net.Op("Conv", [image, kernel], new { pads = new[] { 1, 1, 1, 1 } }, $"shared{i}"));
        net.Output(net.Conv(image, 4, 2, name: "b"));
        Layer.Grow(net, new Layer("a", 4), new Layer("shared0", 4), new Layer("shared1", 4));
    }

    /// <summary>An embedding table that is the output matrix too: rows are read in one place and contracted in the other.</summary>
    [Fact]
    public void TiedEmbedding()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2 } }, Vocabulary = { ["ids"] = 7 } };
        string table = net.Weight([7, 4]);
        string x = net.Op("Gather", [table, net.Input("ids", ElementType.Int64, "N", 3)]);
        x = net.Add(x, net.Linear(net.Op("Tanh", [x]), 4, 4, "a"));
        net.Output(net.Op("MatMul", [x, net.Transpose(table, 1, 0)]));
        MorphResult result = Layer.Grow(net, new Layer("a", 4));
        Assert.Contains(result.Steps[0].Notes, n => n.Contains("no longer shared", StringComparison.Ordinal));
    }

    [Fact]
    public void WeightsBehindOtherNodes()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Input("x", "N", 3);
        string identity = net.Op("Identity", [net.Op("Identity", [net.Weight([3, 4])])]);
        x = net.Relu(net.Op("MatMul", [x, identity], name: "identity"));
        x = net.Relu(net.Op("MatMul", [x, net.AsConstantNode(net.Weight([4, 5]))], name: "constant"));
        x = net.Relu(net.Op("MatMul", [x, net.Transpose(net.Weight([6, 5]), 1, 0)], name: "transposed"));
        x = net.Relu(net.Op("MatMul", [x, net.Reshape(net.Weight([12, 3]), 6, 6)], name: "reshaped"));
        net.Output(net.Op("Gemm", [x, net.Op("Unsqueeze", [net.Weight([6]), net.Ints(1)]), net.AsConstantNode(net.Weight([1]))], name: "last"));
        Layer.Grow(net, new Layer("identity", 4), new Layer("constant", 5), new Layer("transposed", 6));
    }

    /// <summary>Until IR version 3 every initializer is a graph input too, and its declaration follows.</summary>
    [Fact]
    public void InitializersAmongTheInputs()
    {
        var net = new Net(opset: 8, ir: 3) { Runs = { new() { ["N"] = 2 } } };
        string x = net.Input("x", "N", 3, 4, 4);
        string y = net.Relu(net.Conv(x, 3, 4, name: "a"));
        y = net.Op("Reshape", [y, net.Ints(-1, 64)]);
        net.Output(net.Op("Gemm", [y, net.Weight([64, 2]), net.Weight([2])], name: "b"));
        MorphResult result = Check.Morph(net, inDouble: false, Check.Widen("*", "x1.5"), Check.Deepen("*"), Check.Kernel("a", "5"));
        Check.Grown(result, "a", 6);
        ModelProto child = result.Child.Proto;
        foreach (TensorProto tensor in child.Graph.Initializer)
            Assert.Equal(tensor.Dims, child.Graph.Input.Single(i => i.Name == tensor.Name).Type.TensorType.Shape.Dim.Select(d => d.DimValue));
    }

    [Theory]
    [InlineData(ElementType.Float16)]
    [InlineData(ElementType.Float64)]
    public void OtherPrecisions(ElementType type)
    {
        var net = new Net(type) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Input("x", "N", 3);
        x = net.Relu(net.BatchNorm(net.Linear(x, 3, 4, "a"), 4));
        net.Output(net.Op("Gemm", [x, net.Weight([4, 2]), net.Weight([2])], name: "b"));
        MorphResult result = Check.Morph(net, Check.Widen("*", "x1.5"), Check.Deepen("a"), Check.Widen("a", "+2", WidenMethod.Opposed));
        Check.Grown(result, "a", 6);
        Check.Grown(result, "a", 8, 2);
    }

    /// <summary>A value that is read twice by one node, and a layer between two outputs.</summary>
    [Fact]
    public void OutputsInside()
    {
        var net = new Net(ElementType.Float64);
        string x = net.Input("x", 2, 3);
        string a = net.Op("MatMul", [x, net.Weight([3, 4])], name: "a");
        string b = net.Op("Tanh", [net.Op("MatMul", [a, net.Weight([4, 5])], name: "b")]);
        net.Output(a);
        net.Output(net.Linear(net.Mul(b, b), 5, 2, "c"));
        MorphResult result = Layer.Grow(net, new Layer("a", 4, How.Never, Because: "callers read it"), new Layer("b", 5));
        // Deepened, the output keeps its name.
        Check.Morph(net, Check.Deepen("*", 2));
    }
}
