using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Testing;

/// <summary>
/// A random network of a dozen operators as exporters write them: values of several layouts (images, volumes, signals, token rows,
/// windows, vectors) that operators take, join and bring into other layouts, with exporters' shape arithmetic in between. Every
/// number is finite and of moderate size.
/// </summary>
internal sealed class RandomNetwork
{
    private const int MostChannels = 16;
    private const long Batch = -1;

    // Sizes of inputs come before this one; others may be 1 already.
    private const long SmallSizes = -5;

    private static readonly int[] s_channels = [2, 3, 4, 6, 8];

    private readonly Random _random;
    private readonly bool _single;
    private readonly List<Value> _values = [];
    private readonly List<(string Name, int Inputs, int Outputs, int Dimensions)> _kernels = [];
    private readonly List<(string Name, long Rows, long Size)> _tables = [];
    private long _unknown = Batch;

    public RandomNetwork(int seed)
    {
        _random = new Random(seed);
        // Convolutions exist in single precision only; everything else is made in double.
        _single = _random.Next(3) > 0;
        // Files from before IR version 4 list their weights among the inputs.
        Net = new Net(_single ? ElementType.Float32 : ElementType.Float64, opset: Any(13, 16, 17, 18, 20), seed: seed + 1, ir: OneIn(8) ? 3 : 8);
        Net.Runs.Add(new() { ["N"] = 2, ["H"] = 4, ["W"] = 6, ["T"] = 5 });
        Net.Runs.Add(new() { ["N"] = 3, ["H"] = 5, ["W"] = 3, ["T"] = 4 });
        AddInputs();
        int operators = _random.Next(4, 14);
        for (int i = 0; i < operators || i < 40 && !HasLayers; i++)
            Step();
        var read = Net.Proto.Graph.Node.SelectMany(n => n.Input).ToHashSet();
        foreach (Value value in _values.Where(v => !read.Contains(v.Name)).ToList())
            Net.Output(OneIn(4) ? Net.Op("Identity", [value.Name]) : Head(value));
        // A value inside the network is an output too.
        if (OneIn(4) && Any(_values) is var inside && Net.Proto.Graph.Input.All(i => i.Name != inside.Name) && Net.Proto.Graph.Output.All(o => o.Name != inside.Name))
            Net.Output(inside.Name);
        if (OneIn(2))
            Net.DeclareSizes();
        // Some exporters give nodes no names.
        if (OneIn(8))
            foreach (var node in Net.Proto.Graph.Node)
                node.Name = "";
    }

    /// <summary>A value, its sizes (negative where callers choose them; equal numbers are equal sizes), and the axis of its channels.</summary>
    private readonly record struct Value(string Name, long[] Shape, int Axis)
    {
        public int Rank => Shape.Length;

        public long Channels => Shape[Axis];

        /// <summary>Whether positions follow the channels, as convolutions take them.</summary>
        public bool ChannelsFirst => Axis == 1 && Rank > 2;

        public long[] Positions => ChannelsFirst ? Shape[2..] : Shape[1..^1];

        public bool HasFixedPositions => Positions.All(s => s > 0);

        /// <summary>The shape of a weight with a number for each channel.</summary>
        public long[] Own => [Channels, .. Enumerable.Repeat(1L, Rank - 1 - Axis)];

        public long[] With(long channels)
        {
            long[] shape = [.. Shape];
            shape[Axis] = channels;
            return shape;
        }
    }

    public Net Net { get; }

    /// <summary>Whether ONNX Runtime can run the network in double precision.</summary>
    public bool InDouble { get; private set; } = true;

    private bool HasLayers => Net.Proto.Graph.Node.Count(n => n.OpType is "Conv" or "ConvTranspose" or "MatMul" or "Gemm") > 1;

    private bool OneIn(int n) => _random.Next(n) == 0;

    private T Any<T>(params IReadOnlyList<T> list) => list[_random.Next(list.Count)];

    private int Channels => Any(s_channels);

    private long NewSize => --_unknown;

    private void Require(int opset) => Net.Opset = Math.Max(opset, Net.Opset);

    private void AddInputs()
    {
        long height = 4, width = 6, tokens = 5;
        object h = height, w = width, t = tokens;
        if (OneIn(3))
            (h, w, t, height, width, tokens) = ("H", "W", "T", NewSize, NewSize, NewSize);
        if (_single && !OneIn(4))
            Given(Net.Input("image", "N", 3, h, w), 1, Batch, 3, height, width);
        if (_single && OneIn(4))
            Given(Net.Input("signal", "N", 4, t), 1, Batch, 4, tokens);
        if (_single && OneIn(8))
            Given(Net.Input("volume", "N", 2, 3, 4, 3), 1, Batch, 2, 3, 4, 3);
        if (_values.Count == 0 || OneIn(2))
        {
            if (OneIn(3))
                Given(Embedded(Net.Input("ids", ElementType.Int64, "N", t), 4, tokens), 2, Batch, tokens, 4);
            else
                Given(Net.Input("tokens", "N", t, 4), 2, Batch, tokens, 4);
        }

        if (OneIn(3))
            Given(Net.Input("vector", "N", 6), 1, Batch, 6);
    }

    private string Embedded(string ids, int size, long tokens)
    {
        const int Words = 7;
        Net.Vocabulary[ids] = Words;
        string table = Net.Weight([Words, size]);
        _tables.Add((table, Words, size));
        string x = Net.Op("Gather", [table, ids], new { axis = 0 });
        return tokens > 0 && OneIn(2) ? Net.Add(x, Net.Weight([1, tokens, size])) : x;
    }

    private void Step()
    {
        Value x = _random.Next(3) > 0 ? _values[^1] : Any(_values);
        if (OneIn(5) && Binary(x) || OneIn(4) && Layout(x) || OneIn(3) && Layer(x))
            return;
        Pointwise(x);
    }

    private void Given(string name, int axis, params long[] shape) => _values.Add(new Value(name, shape, axis));

    private bool Made(string name, Value like, long[]? shape = null)
    {
        _values.Add(new Value(name, shape ?? like.Shape, like.Axis));
        return true;
    }

    // Towards an output whose channels callers do not see, so that what is in front of it may grow.
    private string Head(Value x) => x.ChannelsFirst ? Net.Conv(x.Name, (int)x.Channels, 2, kernel: 1, dimensions: x.Rank - 2)
        : x.Axis != x.Rank - 1 ? x.Name
        : _tables.FirstOrDefault(t => t.Size == x.Channels) is { Name: { } table } && OneIn(2) ? Net.Op("MatMul", [x.Name, Net.Transpose(table, 1, 0)])
        : Net.Linear(x.Name, (int)x.Channels, 2);

    // A weight as files hold it: an initializer or a constant node, as it is read or in another order.
    private string Stored(params long[] shape)
    {
        switch (_random.Next(10))
        {
            case 0:
                return Net.AsConstantNode(Net.Weight(shape));
            case 1:
                return Net.Op("Identity", [Net.Weight(shape)]);
            case 2:
                int[] order = [.. Enumerable.Range(0, shape.Length)];
                _random.Shuffle(order);
                return Net.Transpose(Net.Weight([.. order.Select((_, axis) => shape[System.Array.IndexOf(order, axis)])]), order);
            case 3:
                return Net.Reshape(Net.Weight([shape[0], shape[1..].Aggregate(1L, (a, b) => a * b)]), shape);
            default:
                return Net.Weight(shape);
        }
    }

    private bool Layer(Value x) => x.ChannelsFirst ? OneIn(4) ? TransposedConvolution(x) : Convolution(x) : x.Axis == x.Rank - 1 && Dense(x);

    private int Group(long inputs, long channels) => (int)Any([.. new[] { 1, 1, 2, 3, inputs, inputs }.Where(g => inputs % g == 0 && channels % g == 0)]);

    private bool Convolution(Value x)
    {
        int dimensions = x.Rank - 2, inputs = (int)x.Channels, channels = OneIn(6) && inputs <= 8 ? 2 * inputs : Channels;
        if (OneIn(6) && _kernels.Where(k => k.Inputs == inputs && k.Outputs <= 8 && k.Dimensions == dimensions).ToList() is { Count: > 0 } fitting)
        {
            var shared = Any(fitting);
            return Made(Net.Op("Conv", [x.Name, shared.Name], new { auto_pad = "SAME_LOWER" }), x, x.With(shared.Outputs));
        }

        int group = Group(inputs, channels), kernel = _random.Next(1, 4), stride = OneIn(4) ? 2 : 1, dilation = OneIn(4) ? 2 : 1;
        string weight = Stored([channels, inputs / group, .. Enumerable.Repeat((long)kernel, dimensions)]);
        string[] read = OneIn(2) ? [x.Name, weight] : [x.Name, weight, Net.Weight([channels])];
        int[] dilations = [.. Enumerable.Repeat(dilation, dimensions)], strides = [.. Enumerable.Repeat(stride, dimensions)];
        long[] positions = [.. x.Positions.Select(p => stride == 1 ? p : p > 0 ? (p + 1) / 2 : NewSize)];
        string y;
        if (OneIn(3) && kernel > 1 && stride == 1 && dilation == 1 && x.Positions.All(p => p >= kernel))
        {
            // No pads: the result is smaller.
            y = OneIn(2) ? Net.Op("Conv", read, new { group, auto_pad = "VALID" }) : Net.Op("Conv", read, new { group });
            positions = [.. x.Positions.Select(p => p - kernel + 1)];
        }
        else if (OneIn(3) && dilation == 1)
        {
            // ONNX Runtime computes no such pads for dilated kernels.
            y = Net.Op("Conv", read, new { group, strides, auto_pad = Any("SAME_UPPER", "SAME_LOWER") });
        }
        else
        {
            // As many pads as the kernel reaches over, on both sides or unevenly.
            int reach = (kernel - 1) * dilation;
            int[] begin = [.. Enumerable.Range(0, dimensions).Select(_ => OneIn(3) ? _random.Next(reach + 1) : reach / 2)];
            int[] pads = [.. begin, .. begin.Select(b => reach - b)];
            y = OneIn(2) ? Net.Op("Conv", read, new { group, strides, dilations, pads, kernel_shape = Enumerable.Repeat(kernel, dimensions).ToArray() })
                : Net.Op("Conv", read, new { group, strides, dilations, pads });
        }

        if (OneIn(12))
        {
            // As ONNX Runtime saves optimised models.
            (Net.Last.OpType, Net.Last.Domain) = ("FusedConv", "com.microsoft");
            Net.Last.Attribute.Add(Net.Attribute("activation", Any("Relu", "Tanh")));
        }

        if (group == 1)
            _kernels.Add((weight, inputs, channels, dimensions));
        var result = new Value(y, [x.Shape[0], channels, .. positions], 1);
        return Made(Behind(result), result);
    }

    // What exporters leave behind a convolution: nothing, a bias of its own, a norm.
    private string Behind(Value x) => _random.Next(7) switch
    {
        0 => Net.Add(x.Name, Net.Weight(x.Own)),
        1 or 2 => Net.BatchNorm(x.Name, (int)x.Channels),
        3 => Net.Op("InstanceNormalization", [x.Name, Net.Weight([x.Channels]), Net.Weight([x.Channels])], new { epsilon = 0.1 }),
        4 when x.Channels % 2 == 0 => GroupNorm(x),
        _ => x.Name,
    };

    // As PyTorch exports it: groups as channels of an instance norm.
    private string GroupNorm(Value x)
    {
        int groups = OneIn(2) && x.Channels % 4 == 0 ? 4 : 2;
        string normed = Net.Op("InstanceNormalization", [Net.Reshape(x.Name, 0, groups, -1), Net.Filled(1, groups), Net.Filled(0, groups)], new { epsilon = 0.1 });
        string back = x.HasFixedPositions && OneIn(2) ? Net.Reshape(normed, [-1, .. x.Shape[1..]]) : Net.Op("Reshape", [normed, Net.Op("Shape", [x.Name])]);
        return Net.Add(Net.Mul(back, Net.Weight(x.Own)), Net.Weight(x.Own));
    }

    private bool TransposedConvolution(Value x)
    {
        int dimensions = x.Rank - 2, inputs = (int)x.Channels, channels = Channels, group = Group(inputs, channels);
        string[] Read(int taps) => [x.Name, Stored([inputs, channels / group, .. Enumerable.Repeat((long)taps, dimensions)]), Net.Weight([channels])];
        int[] All(int value, int times = 1) => [.. Enumerable.Repeat(value, times * dimensions)];
        long[] Times(int factor) => [x.Shape[0], channels, .. x.Positions.Select(p => factor == 1 ? p : p > 0 ? 2 * p : NewSize)];
        bool small = x.Positions.All(p => p is < 0 or <= 6);
        switch (_random.Next(4))
        {
            case 0 when small:
                return Made(Net.Op("ConvTranspose", Read(2), new { group, strides = All(2) }), x, Times(2));
            case 1 when small:
                return Made(Net.Op("ConvTranspose", Read(3), new { group, strides = All(2), pads = All(1, 2), output_padding = All(1) }), x, Times(2));
            case 2:
                return Made(Net.Op("ConvTranspose", Read(3), new { group, pads = All(1, 2) }), x, Times(1));
            case 3 when x.HasFixedPositions:
                int taps = _random.Next(1, 4);
                string whole = Net.Op("ConvTranspose", Read(taps), new { group, strides = All(1) });
                if (taps > 1)
                    whole = Net.Op("Slice", [whole, Net.Ints([.. All(0)]), Net.Ints([.. All(1 - taps)]), Net.Ints([.. Enumerable.Range(2, dimensions)])]);
                return Made(whole, x, Times(1));
            default:
                return false;
        }
    }

    private bool Dense(Value x)
    {
        int channels = Channels, features = (int)x.Channels;
        if (x.Rank == 2 && OneIn(2))
        {
            int transB = _random.Next(2);
            return Made(Net.Op("Gemm", [x.Name, Stored(transB == 1 ? [channels, features] : [features, channels]), Net.Weight(OneIn(2) ? [channels] : [1])],
                new { transB, alpha = 0.5, beta = 2.0 }), x, x.With(channels));
        }

        switch (_random.Next(9))
        {
            case 0 or 1 when x.Rank == 3:
                Attention(x);
                return true;
            case 2:
                return Made(Net.Op("MatMul", [x.Name, Net.Transpose(Net.Weight([channels, features]), 1, 0)]), x, x.With(channels));
            case 3 when x.Rank == 3:
                return Made(Net.Op("Einsum", [x.Name, Net.Weight([features, channels])], new { equation = "btc,cd->btd" }), x, x.With(channels));
            case 4 when features == channels:
                // One weight twice.
                string w = Net.Weight([features, features]);
                return Made(Net.Op("MatMul", [Net.Op("Tanh", [Net.Op("MatMul", [x.Name, w])]), w]), x);
            case 5:
                // A gated MLP (Shazeer 2020).
                string gate = Net.Linear(x.Name, features, channels, bias: OneIn(2)), up = Net.Linear(x.Name, features, channels, bias: false);
                string gated = Net.Mul(OneIn(2) ? Net.Mul(gate, Net.Op("Sigmoid", [gate])) : Net.Relu(gate), up);
                string down = Net.Linear(gated, channels, features, bias: false);
                return Made(OneIn(2) ? Net.Add(x.Name, down) : down, x);
            case 6 when x.Rank == 3 && _single && OneIn(2):
                Recurrent(x, Any(2, 3));
                return true;
            default:
                string y = Net.Op("MatMul", [x.Name, Stored(features, channels)]);
                return Made(OneIn(2) ? y : OneIn(2) ? Net.Add(y, Net.Weight([channels])) : Net.Add(Net.Weight([channels]), y), x, x.With(channels));
        }
    }

    // ONNX Runtime has recurrent layers of single precision only.
    private void Recurrent(Value x, int hidden)
    {
        InDouble = false;
        (string op, int gates) = Any(("LSTM", 4), ("GRU", 3), ("RNN", 1));
        int directions = OneIn(3) ? 2 : 1;
        string[] read = [Net.Transpose(x.Name, 1, 0, 2), Net.Weight([directions, gates * hidden, x.Channels]), Net.Weight([directions, gates * hidden, hidden]), Net.Weight([directions, 2 * gates * hidden])];
        string y = op == "GRU" ? Net.Op(op, read, new { hidden_size = hidden, direction = directions == 2 ? "bidirectional" : "forward", linear_before_reset = 1 })
            : Net.Op(op, read, new { hidden_size = hidden, direction = directions == 2 ? "bidirectional" : "forward" });
        // [T, directions, N, hidden]
        y = directions == 1 ? Net.Op("Squeeze", [y, Net.Ints(1)]) : Net.Reshape(Net.Transpose(y, 0, 2, 1, 3), 0, 0, -1);
        Made(Net.Transpose(y, 1, 0, 2), x, x.With(directions * hidden));
    }

    private void Attention(Value x)
    {
        long tokens = x.Shape[1], heads = Any(1, 2, 3), size = 2, all = heads * size;
        object t = tokens > 0 ? tokens : Net.Size(x.Name, 1);
        if (_single && OneIn(8))
        {
            InDouble = false;
            string[] rows = [.. Enumerable.Range(0, 3).Select(_ => Net.Linear(x.Name, (int)x.Channels, (int)all))];
            Made(Net.Op("com.microsoft:MultiHeadAttention", rows, new { num_heads = (int)heads }, $"attention{Net.Proto.Graph.Node.Count}"), x, x.With(all));
            return;
        }

        string Apart(string value) => Net.Transpose(Net.Op("Reshape", [value, Net.Shape(Net.Size(value, 0), t, heads, size)]), 0, 2, 1, 3);
        string[] parts;
        switch (_random.Next(3))
        {
            case 0:
                string qkv = Net.Linear(x.Name, (int)x.Channels, (int)(3 * all));
                parts = [.. Net.Ops("Split", 3, [qkv, Net.Ints(all, all, all)], new { axis = 2 }).Select(Apart)];
                break;
            case 1 when tokens > 0:
                string five = Net.Transpose(Net.Reshape(Net.Linear(x.Name, (int)x.Channels, (int)(3 * all)), -1, tokens, 3, heads, size), 2, 0, 3, 1, 4);
                parts = [.. Enumerable.Range(0, 3).Select(i => Net.Op("Gather", [five, Net.Int(i)], new { axis = 0 }))];
                break;
            default:
                parts = [.. Enumerable.Range(0, 3).Select(_ => Apart(Net.Linear(x.Name, (int)x.Channels, (int)all, bias: OneIn(2))))];
                break;
        }

        string scores = Net.Op("MatMul", [parts[0], Net.Transpose(parts[1], 0, 1, 3, 2)]);
        if (OneIn(2))
            scores = OneIn(2) ? Net.Op("Div", [scores, Net.Filled(1.5)]) : Net.Mul(scores, Net.Filled(0.7));
        if (tokens > 0 && OneIn(3))
            scores = Net.Add(scores, Net.Weight([1, 1, tokens, tokens], scale: 3));
        string mixed = Net.Transpose(Net.Op("MatMul", [Net.Op("Softmax", [scores], new { axis = -1 }), parts[2]]), 0, 2, 1, 3);
        string joined = Net.Op("Reshape", [mixed, tokens > 0 && OneIn(2) ? Net.Ints(0, tokens, -1) : Net.Shape(Net.Size(x.Name, 0), Net.Size(x.Name, 1), all)]);
        if (OneIn(2))
            Made(joined, x, x.With(all));
        else
            Made(Net.Add(x.Name, Net.Linear(joined, (int)all, (int)x.Channels)), x);
    }

    private void Pointwise(Value x)
    {
        string value = x.Name;
        switch (_random.Next(20))
        {
            case 0:
                Made(Net.Add(value, Net.Weight(x.Own)), x);
                break;
            case 1:
                Made(Net.Mul(value, Net.Weight(x.Own)), x);
                break;
            case 2:
                Made(Net.Op("Sub", [Net.Weight(OneIn(2) ? x.Own : [1]), value]), x);
                break;
            case 3:
                Made(Net.Op("Div", [value, Net.Positive(x.Own)]), x);
                break;
            case 4:
                Made(Net.Op("Clip", [value, Net.Filled(-0.7), Net.Filled(0.9)]), x);
                break;
            case 5 when x.Axis == x.Rank - 1:
                // ε is an attribute in single precision; what it is multiplied by would be rounded to that, so it is next to nothing. A vector of
                // zeros, as a Relu makes, would then become whatever its rounding is: it is moved away from there.
                Made(Net.Op("LayerNormalization", [Net.Add(value, Net.Weight(x.Own)), Net.Weight(x.Own), Net.Weight(x.Own)], new { axis = -1, epsilon = 1e-30 }), x);
                Require(opset: 17);
                break;
            case 6:
                // Continuous where the two meet: else rounding would decide.
                string bound = Net.Weight(x.Own);
                Made(Net.Op("Where", [Net.Op("Greater", [value, bound]), value, Net.Add(Net.Mul(Net.Op("Sub", [value, bound]), Net.Filled(0.1)), bound)]), x);
                break;
            case 7:
                Made(Net.Op("Sub", [value, Net.Reduce("ReduceMean", value, x.Axis)]), x);
                break;
            case 8:
                Made(Net.Mul(value, Net.Op("Sigmoid", [value])), x);
                break;
            case 9 when x.ChannelsFirst:
                Made(Net.BatchNorm(value, (int)x.Channels), x);
                break;
            case 10:
                Norm(x, subtractsMean: true);
                break;
            case 11:
                Norm(x, subtractsMean: false);
                break;
            case 12 when Net.Opset >= 20 && _single:
                Made(Net.Op("Gelu", [value], new { approximate = Any("none", "tanh") }), x);
                break;
            case 12:
                Made(Net.Gelu(value), x);
                break;
            case 13 when _single:
                string erf = Net.Op("Erf", [Net.Op("Div", [value, Net.Filled(Math.Sqrt(2))])]);
                Made(Net.Mul(Net.Mul(value, Net.Add(erf, Net.Filled(1))), Net.Filled(0.5)), x);
                break;
            case 14 when _single:
                Made(OneIn(2) ? Net.Op("PRelu", [value, Net.Weight(OneIn(2) ? x.Own : [1])]) : Net.Op("LeakyRelu", [value], new { alpha = 0.2 }), x);
                break;
            case 15 when _single:
                Made(OneIn(3) ? Net.Mul(value, Net.Op("Tanh", [Net.Op("Softplus", [value])])) : Net.Op(Any("HardSwish", "Elu", "Softplus"), [value]), x);
                Require(opset: 14);
                break;
            case 16:
                string six = Net.Op("Clip", [Net.Add(value, Net.Filled(3)), Net.Filled(0), Net.Filled(6)]);
                Made(Net.Op("Div", [Net.Mul(value, six), Net.Filled(6)]), x);
                break;
            case 17:
                Made(OneIn(3) ? Net.Op("Softmax", [value], new { axis = OneIn(2) ? x.Axis : x.Axis - x.Rank }) : Net.Op(Any("Identity", "Dropout"), [value]), x);
                break;
            default:
                Made(Net.Op(Any("Relu", "Relu", "Tanh", "Sigmoid", "Abs", "Sin", "Neg"), [value]), x);
                break;
        }
    }

    // A layer or RMS norm as exporters take it apart.
    private void Norm(Value x, bool subtractsMean)
    {
        string Mean(string value) => Net.Reduce("ReduceMean", value, x.Axis);
        string centred = subtractsMean ? Net.Op("Sub", [x.Name, Mean(x.Name)]) : x.Name;
        string square = OneIn(2) ? Net.Mul(centred, centred) : Net.Op("Pow", [centred, Net.Filled(2)]);
        string root = Net.Op("Sqrt", [Net.Add(Mean(square), Net.Filled(0.1))]);
        string normed = OneIn(2) ? Net.Op("Div", [centred, root]) : Net.Mul(centred, Net.Op("Reciprocal", [root]));
        if (!OneIn(4))
            normed = Net.Mul(normed, Net.Weight(x.Own));
        Made(subtractsMean ? Net.Add(normed, Net.Weight(x.Own)) : normed, x);
    }

    private bool Binary(Value x)
    {
        Value other = Any(_values.FindAll(v => v.Axis == x.Axis && v.Shape.SequenceEqual(x.Shape)));
        switch (_random.Next(5))
        {
            case 0:
                return Made(Net.Op(Any("Add", "Mul", "Sub", "Max", "Min"), [x.Name, other.Name]), x);
            case 1:
                return Joined(x, other);
            case 2 when x.ChannelsFirst:
                // Squeeze and excite.
                int positions = x.Rank - 2;
                string means = OneIn(2) ? Net.Op("GlobalAveragePool", [x.Name]) : Net.Reduce("ReduceMean", x.Name, [.. Enumerable.Range(2, positions)]);
                string s = Net.Conv(means, (int)x.Channels, 2, kernel: 1, dimensions: positions);
                return Made(Net.Mul(x.Name, Net.Op("Sigmoid", [Net.Conv(Net.Relu(s), 2, (int)x.Channels, kernel: 1, dimensions: positions)])), x);
            case 3 when x.ChannelsFirst:
                // A residual branch of a block.
                int dimensions = x.Rank - 2;
                string y = Net.Conv(x.Name, (int)x.Channels, (int)x.Channels, dimensions: dimensions, bias: false);
                y = Net.Relu(OneIn(2) ? Net.BatchNorm(y, (int)x.Channels) : y);
                y = Net.Conv(y, (int)x.Channels, (int)x.Channels, dimensions: dimensions);
                return Made(OneIn(2) ? Net.Relu(Net.Add(y, x.Name)) : Net.Add(x.Name, y), x);
            case 3 when x.Rank == 3 && _single && OneIn(3):
                InDouble = false;
                string name = $"norm{Net.Proto.Graph.Node.Count}";
                return Made(Net.Op("com.microsoft:SkipLayerNormalization", [x.Name, other.Name, Net.Weight(x.Own), Net.Weight(x.Own)], new { epsilon = 0.1 }, name), x);
            default:
                return Joined(x, Any(_values));
        }
    }

    private bool Joined(Value x, Value other)
    {
        if (other.Rank != x.Rank || other.Axis != x.Axis || !other.With(x.Channels).SequenceEqual(x.Shape) || x.Channels + other.Channels > MostChannels)
            return false;
        return Made(Net.Op("Concat", [x.Name, other.Name], new { axis = OneIn(2) ? x.Axis : x.Axis - x.Rank }), x, x.With(x.Channels + other.Channels));
    }

    private bool Layout(Value x) => OneIn(2) ? Parts(x) : x.ChannelsFirst ? FromPositions(x) : FromRows(x);

    // Channels taken apart and joined again.
    private bool Parts(Value x)
    {
        long channels = x.Channels;
        int axis = x.Axis;
        switch (_random.Next(5))
        {
            case 0 when channels > 1:
                // Parts, in another order, one of them changed or dropped.
                long cut = _random.Next(1, (int)channels);
                string[] parts = Net.Ops("Split", 2, [x.Name, Net.Ints(cut, channels - cut)], new { axis });
                Made(parts[0], x, x.With(cut));
                return OneIn(2) ? Made(parts[1], x, x.With(channels - cut)) : Made(Net.Op("Concat", [Net.Op("Tanh", [parts[1]]), parts[0]], new { axis }), x);
            case 1 when channels % 2 == 0:
                string[] halves = Net.Opset < 18 ? Net.Ops("Split", 2, [x.Name], new { axis }) : Net.Ops("Split", 2, [x.Name], new { axis, num_outputs = 2 });
                return Made(Net.Mul(halves[0], Net.Op("Sigmoid", [halves[1]])), x, x.With(channels / 2));
            case 2 when channels > 2:
                long from = _random.Next(1, (int)channels - 1);
                return Made(Net.Op("Slice", [x.Name, Net.Ints(OneIn(2) ? from - channels : from), Net.Ints(Any(channels, long.MaxValue, int.MaxValue)), Net.Ints(axis)]),
                    x, x.With(channels - from));
            case 3 when channels > 2:
                string end = Net.Op("Unsqueeze", [Net.Op("Sub", [Net.Size(x.Name, axis), Net.Int(1)]), Net.Ints(0)]);
                return Made(Net.Op("Slice", [x.Name, Net.Ints(0), end, Net.Ints(axis)]), x, x.With(channels - 1));
            case 4 when channels % 2 == 0:
                // Channels moved between groups, as ShuffleNet does.
                string[] sizes = [.. Enumerable.Range(0, x.Rank).Select(a => x.Shape[a] < 0 ? Net.Size(x.Name, a) : "")];
                object Size(int a) => sizes[a].Length > 0 ? sizes[a] : x.Shape[a];
                object half = OneIn(2) ? channels / 2 : Net.Op("Div", [Net.Size(x.Name, axis), Net.Int(2)]);
                string apart = Net.Op("Reshape", [x.Name, Net.Shape([.. Enumerable.Range(0, axis).Select(Size), 2, half, .. Enumerable.Range(axis + 1, x.Rank - axis - 1).Select(Size)])]);
                int[] perm = [.. Enumerable.Range(0, x.Rank + 1)];
                (perm[axis], perm[axis + 1]) = (perm[axis + 1], perm[axis]);
                string moved = Net.Transpose(apart, perm);
                return Made(Net.Op("Reshape", [moved, OneIn(2) ? Net.Op("Shape", [x.Name]) : Net.Shape([.. Enumerable.Range(0, x.Rank).Select(a => a == axis ? (object)channels : Size(a))])]), x);
            default:
                return false;
        }
    }

    private bool FromPositions(Value x)
    {
        long channels = x.Channels, count = x.HasFixedPositions ? x.Positions.Aggregate(1L, (a, b) => a * b) : 0;
        int dimensions = x.Rank - 2;
        string Rows() => Net.Size(x.Name, 0);
        switch (_random.Next(12))
        {
            case 0 or 1:
                // Patches: positions become tokens.
                string flat = dimensions == 1 ? x.Name : OneIn(2) || count == 0 ? Net.Reshape(x.Name, 0, 0, -1) : Net.Op("Reshape", [x.Name, Net.Shape(Rows(), Net.Size(x.Name, 1), count)]);
                Given(Net.Transpose(flat, 0, 2, 1), 2, x.Shape[0], dimensions == 1 ? x.Shape[2] : count > 0 ? count : NewSize, channels);
                return true;
            case 2:
                Given(Net.Op("Flatten", [OneIn(3) ? Net.Op("GlobalMaxPool", [x.Name]) : Net.Reduce("ReduceMean", x.Name, [.. Enumerable.Range(2, dimensions)])]), 1, x.Shape[0], channels);
                InDouble &= Net.Proto.Graph.Node.All(n => n.OpType != "GlobalMaxPool");
                return true;
            case 3 when count > 0 && channels * count <= 160:
                string vector = Any<Func<string>>(() => Net.Op("Flatten", [x.Name]), () => Net.Reshape(x.Name, -1, channels * count), () => Net.Op("Reshape", [x.Name, Net.Shape(Rows(), -1)]))();
                Given(Net.Linear(vector, (int)(channels * count), 4), 1, x.Shape[0], 4);
                return true;
            case 4:
                int[] ones = [.. Enumerable.Repeat(1, 2 * dimensions)], threes = [.. Enumerable.Repeat(3, dimensions)];
                return Made(Net.Op("AveragePool", [x.Name], new { kernel_shape = threes, pads = ones }), x);
            case 5:
                int[] twos = [.. Enumerable.Repeat(2, dimensions)];
                return x.Positions.All(p => p is (< Batch and > SmallSizes) or >= 2)
                    && Made(Net.Op("MaxPool", [x.Name], new { kernel_shape = twos, strides = twos }), x, [x.Shape[0], channels, .. x.Positions.Select(p => p > 0 ? p / 2 : NewSize)]);
            case 6 when channels <= 8:
                var more = new long[2 * x.Rank];
                (more[1], more[x.Rank + 1]) = (1, 2);
                return Made(Net.Op("Pad", [x.Name, Net.Ints(more), Net.Filled(0.25)]), x, x.With(channels + 3));
            case 7 when x.HasFixedPositions && x.Positions.All(p => p <= 6):
                var around = new long[2 * x.Rank];
                for (int a = 2; a < x.Rank; a++)
                    (around[a], around[x.Rank + a]) = (_random.Next(2), _random.Next(2));
                return Made(Net.Op("Pad", [x.Name, Net.Ints(around)], new { mode = Any("constant", "edge") }), x, [.. x.Shape.Select((s, a) => s < 0 ? s : s + around[a] + around[x.Rank + a])]);
            case 8 when dimensions == 2 && channels % 4 == 0 && x.Positions.All(p => p <= 6):
                return Made(Net.Op("DepthToSpace", [x.Name], new { blocksize = 2, mode = Any("DCR", "CRD") }), x, [x.Shape[0], channels / 4, .. x.Positions.Select(p => p > 0 ? 2 * p : NewSize)]);
            case 9 when dimensions == 2:
                // Channels behind the positions, as ConvNeXt's norms and dense layers take them.
                Given(Net.Transpose(x.Name, 0, 2, 3, 1), 3, x.Shape[0], x.Shape[2], x.Shape[3], channels);
                return true;
            case 10 when dimensions == 2 && x.Positions.All(p => p <= 6) && OneIn(2):
                InDouble = false;
                return Made(Net.Op("Resize", [x.Name, "", Net.Floats(1, 1, 2, 2)], new { mode = Any("nearest", "linear") }), x, [x.Shape[0], channels, .. x.Positions.Select(p => p > 0 ? 2 * p : NewSize)]);
            default:
                return false;
        }
    }

    private bool FromRows(Value x)
    {
        long channels = x.Channels;
        switch (_random.Next(6))
        {
            case 0 when x.Rank == 3:
                Given(OneIn(2) ? Net.Op("Squeeze", [Net.Reduce("ReduceMax", x.Name, 1), Net.Ints(1)]) : Net.Op("Gather", [x.Name, Net.Int(0)], new { axis = 1 }), 1, x.Shape[0], channels);
                return true;
            case 1 when channels % 2 == 0 && x.Positions.All(p => p > 0):
                string heads = Net.Reshape(x.Name, [0, .. x.Shape[1..^1], channels / 2, 2]);
                heads = Net.Add(heads, Net.Weight([channels / 2, 1]));
                return Made(OneIn(2) ? Net.Op("Reshape", [heads, Net.Op("Shape", [x.Name])]) : Net.Reshape(heads, [-1, .. x.Shape[1..]]), x);
            case 2 when _single && x.Rank == 3:
                // Rows become positions of a convolution.
                Given(Net.Transpose(x.Name, 0, 2, 1), 1, x.Shape[0], channels, x.Shape[1]);
                return true;
            case 3 when x.Rank == 4:
                Given(Net.Transpose(x.Name, 0, 3, 1, 2), 1, x.Shape[0], channels, x.Shape[1], x.Shape[2]);
                return true;
            case 4 when x.Rank == 4 && x.Positions.All(p => p > 0 && p % 2 == 0):
                // Windows (Swin).
                string windows = Net.Transpose(Net.Op("Reshape", [x.Name, Net.Shape(Net.Size(x.Name, 0), x.Shape[1] / 2, 2, x.Shape[2] / 2, 2, channels)]), 0, 1, 3, 2, 4, 5);
                Given(Net.Reshape(windows, -1, 4, channels), 2, NewSize, 4, channels);
                return true;
            case 5 when x.Rank == 3:
                // A learned token in front.
                string token = Net.Op("Expand", [Net.Weight([1, 1, channels]), Net.Shape(Net.Size(x.Name, 0), 1, channels)]);
                Given(Net.Op("Concat", [token, x.Name], new { axis = 1 }), 2, x.Shape[0], x.Shape[1] > 0 ? x.Shape[1] + 1 : NewSize, channels);
                return true;
            default:
                return false;
        }
    }
}
