using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Testing;

/// <summary>
/// A random network of a dozen operators: values of several layouts (images, token rows, heads, vectors) that operators take,
/// join and bring into other layouts, with exporters' shape arithmetic in between. Every number is finite and of moderate size.
/// </summary>
internal sealed class RandomNetwork
{
    private static readonly int[] s_channels = [2, 3, 4, 6, 8];

    private readonly Random _random;
    private readonly bool _single;
    private readonly List<(string Name, long[] Shape)> _values = [];
    private readonly List<(string Name, long[] Shape)> _kernels = [];

    public RandomNetwork(int seed)
    {
        _random = new Random(seed);
        // Convolutions exist in single precision only; everything else is made in double.
        _single = _random.Next(2) == 0;
        Net = new Net(_single ? ElementType.Float32 : ElementType.Float64, opset: _random.Next(3) == 0 ? 13 : 17, seed: seed + 1);
        Net.Runs.Add(new() { ["N"] = 2 });
        Net.Runs.Add(new() { ["N"] = 3 });
        // Sizes of the batch are written −1 here.
        if (_single)
            _values.Add((Net.Input("image", "N", 3, 4, 6), [-1, 3, 4, 6]));
        if (!_single || _random.Next(2) == 0)
            _values.Add((Net.Input("tokens", "N", 5, 4), [-1, 5, 4]));
        if (_random.Next(3) == 0)
            _values.Add((Net.Input("vector", "N", 6), [-1, 6]));
        int operators = _random.Next(4, 14);
        for (int i = 0; i < operators || i < 40 && !HasLayers; i++)
            Step();
        var read = Net.Proto.Graph.Node.SelectMany(n => n.Input).ToHashSet();
        foreach ((string name, long[] shape) in _values.Where(v => !read.Contains(v.Name)).ToList())
            Net.Output(_random.Next(4) == 0 ? Net.Op("Identity", [name]) : Head(name, shape));
        // A value inside the network is an output too.
        if (_random.Next(4) == 0 && Net.Proto.Graph.Node[_random.Next(Net.Proto.Graph.Node.Count)].Output[0] is var inside && Net.Proto.Graph.Output.All(o => o.Name != inside))
            Net.Output(inside);
    }

    public Net Net { get; }

    private bool HasLayers => Net.Proto.Graph.Node.Count(n => n.OpType is "Conv" or "MatMul" or "Gemm") > 1;

    private T Any<T>(IReadOnlyList<T> list) => list[_random.Next(list.Count)];

    private int Channels => Any(s_channels);

    private static bool IsImage(long[] shape) => shape.Length == 4;

    private void Step()
    {
        (string x, long[] shape) = _random.Next(3) > 0 ? _values[^1] : Any(_values);
        if (_random.Next(5) == 0 && Binary(x, shape) || _random.Next(4) == 0 && Layout(x, shape) || _random.Next(3) == 0 && Layer(x, shape))
            return;
        Pointwise(x, shape);
    }

    private void Made(string value, params long[] shape) => _values.Add((value, shape));

    // Towards an output whose channels callers do not see, so that what is in front of it may grow.
    private string Head(string x, long[] shape) =>
        IsImage(shape) ? Net.Conv(x, (int)shape[1], 2, kernel: 1) : Net.Linear(x, (int)shape[^1], 2);

    private bool Layer(string x, long[] shape)
    {
        int channels = Channels;
        if (IsImage(shape))
        {
            int inputs = (int)shape[1];
            int[] groups = [.. new[] { 1, 1, 2, 3, inputs }.Where(g => inputs % g == 0 && channels % g == 0)];
            int group = Any(groups), kernel = _random.Next(1, 4);
            if (_random.Next(4) == 0)
            {
                string transposed = Net.Op("ConvTranspose", [x, Net.Weight([inputs, channels / group, kernel, kernel]), Net.Weight([channels])], new { group, strides = new[] { 1, 1 } });
                return Trim(transposed, channels, shape, kernel - 1);
            }

            if (_random.Next(5) == 0 && _kernels.FirstOrDefault(k => k.Shape[1] == inputs && k.Shape[0] <= 8) is { Name: not null } shared)
            {
                Made(Net.Op("Conv", [x, shared.Name], new { auto_pad = "SAME_LOWER" }), -1, shared.Shape[0], shape[2], shape[3]);
                return true;
            }

            string y = Net.Conv(x, inputs, channels, kernel, group, attributes: new { auto_pad = Any(new[] { "SAME_UPPER", "SAME_LOWER" }) }, bias: _random.Next(2) == 0);
            if (group == 1)
                _kernels.Add((Net.Last.Input[1], [channels, inputs, kernel, kernel]));
            Made(_random.Next(2) == 0 ? Net.BatchNorm(y, channels) : y, -1, channels, shape[2], shape[3]);
            return true;
        }

        int features = (int)shape[^1];
        if (shape.Length == 2 && _random.Next(2) == 0)
        {
            int transB = _random.Next(2);
            Made(Net.Op("Gemm", [x, Net.Weight(transB == 1 ? [channels, features] : [features, channels]), Net.Weight(_random.Next(2) == 0 ? [channels] : [1])],
                new { transB, alpha = 0.5, beta = 2.0 }), -1, channels);
            return true;
        }

        switch (_random.Next(6))
        {
            case 0 when features % 2 == 0 && shape.Length == 3:
                Attention(x, shape);
                return true;
            case 1:
                Made(Net.Op("MatMul", [x, Net.Transpose(Net.Weight([channels, features]), 1, 0)]), [.. shape[..^1], channels]);
                return true;
            case 2 when shape.Length == 3:
                Made(Net.Op("Einsum", [x, Net.Weight([features, channels])], new { equation = "btc,cd->btd" }), [.. shape[..^1], channels]);
                return true;
            case 3 when features == channels:
                // One weight twice.
                string w = Net.Weight([features, features]);
                Made(Net.Op("MatMul", [Net.Op("Tanh", [Net.Op("MatMul", [x, w])]), w]), shape);
                return true;
            default:
                Made(Net.Linear(x, features, channels), [.. shape[..^1], channels]);
                return true;
        }
    }

    private bool Trim(string image, long channels, long[] shape, int extra)
    {
        if (extra > 0)
            image = Net.Op("Slice", [image, Net.Ints(0, 0), Net.Ints(shape[2], -extra), Net.Ints(2, 3)]);
        Made(image, -1, channels, shape[2], shape[3]);
        return true;
    }

    private void Attention(string x, long[] shape)
    {
        long tokens = shape[1], heads = Any(new long[] { 1, 2, 3 }), size = 2;
        string qkv = Net.Linear(x, (int)shape[2], (int)(3 * heads * size));
        string[] parts;
        if (_random.Next(2) == 0)
        {
            parts = [.. Net.Ops("Split", 3, [qkv, Net.Ints(heads * size, heads * size, heads * size)], new { axis = 2 })
                .Select(p => Net.Transpose(Net.Op("Reshape", [p, Net.Shape(Net.Size(p, 0), tokens, heads, size)]), 0, 2, 1, 3))];
        }
        else
        {
            string all = Net.Transpose(Net.Reshape(qkv, -1, tokens, 3, heads, size), 2, 0, 3, 1, 4);
            parts = [.. Enumerable.Range(0, 3).Select(i => Net.Op("Gather", [all, Net.Int(i)], new { axis = 0 }))];
        }

        string scores = Net.Op("Softmax", [Net.Op("MatMul", [parts[0], Net.Transpose(parts[1], 0, 1, 3, 2)])], new { axis = -1 });
        string mixed = Net.Transpose(Net.Op("MatMul", [scores, parts[2]]), 0, 2, 1, 3);
        Made(Net.Op("Reshape", [mixed, _random.Next(2) == 0 ? Net.Ints(0, tokens, -1) : Net.Shape(Net.Size(x, 0), Net.Size(x, 1), heads * size)]), -1, tokens, heads * size);
    }

    private void Pointwise(string x, long[] shape)
    {
        int axis = IsImage(shape) ? 1 : shape.Length - 1;
        long channels = shape[axis];
        long[] own = IsImage(shape) ? [channels, 1, 1] : [channels];
        switch (_random.Next(14))
        {
            case 0:
                Made(Net.Add(x, Net.Weight(own)), shape);
                break;
            case 1:
                Made(Net.Mul(x, Net.Weight(own)), shape);
                break;
            case 2:
                Made(Net.Op("Sub", [Net.Weight(_random.Next(2) == 0 ? own : [1]), x]), shape);
                break;
            case 3:
                Made(Net.Op("Div", [x, Net.Positive(own)]), shape);
                break;
            case 4:
                Made(Net.Op("Clip", [x, Net.Filled(-0.7), Net.Filled(0.9)]), shape);
                break;
            case 5 when !IsImage(shape):
                // ε is an attribute in single precision; what it is multiplied by would be rounded to that, so it is next to nothing.
                Made(Net.Op("LayerNormalization", [x, Net.Weight(own), Net.Weight(own)], new { axis = -1, epsilon = 1e-30 }), shape);
                if (Net.Proto.OpsetImport[0].Version < 17)
                    Net.Proto.OpsetImport[0].Version = 17;
                break;
            case 6:
                Made(Net.Op("Where", [Net.Op("Greater", [x, Net.Weight(own)]), x, Net.Mul(x, Net.Filled(0.1))]), shape);
                break;
            case 7:
                Made(Net.Op("Sub", [x, Net.Op("ReduceMean", [x], new { axes = new[] { axis } })]), shape);
                break;
            case 8:
                Made(Net.Mul(x, Net.Op("Sigmoid", [x])), shape);
                break;
            case 10:
                Norm(x, shape, axis, own, subtractsMean: true);
                break;
            case 11:
                Norm(x, shape, axis, own, subtractsMean: false);
                break;
            case 9 when IsImage(shape):
                Made(Net.BatchNorm(x, (int)channels), shape);
                break;
            default:
                Made(Net.Op(Any(new[] { "Relu", "Tanh", "Sigmoid", "Abs", "Sin", "Neg" }), [x]), shape);
                break;
        }
    }

    // A layer or RMS norm as exporters take it apart.
    private void Norm(string x, long[] shape, int axis, long[] own, bool subtractsMean)
    {
        string Mean(string value) => Net.Op("ReduceMean", [value], new { axes = new[] { axis } });
        string centred = subtractsMean ? Net.Op("Sub", [x, Mean(x)]) : x;
        string square = _random.Next(2) == 0 ? Net.Mul(centred, centred) : Net.Op("Pow", [centred, Net.Filled(2)]);
        string root = Net.Op("Sqrt", [Net.Add(Mean(square), Net.Filled(0.1))]);
        string normed = _random.Next(2) == 0 ? Net.Op("Div", [centred, root]) : Net.Mul(centred, Net.Op("Reciprocal", [root]));
        if (_random.Next(4) > 0)
            normed = Net.Mul(normed, Net.Weight(own));
        Made(subtractsMean ? Net.Add(normed, Net.Weight(own)) : normed, shape);
    }

    private bool Binary(string x, long[] shape)
    {
        var fitting = _values.Where(v => v.Shape.SequenceEqual(shape)).ToList();
        (string other, _) = Any(fitting);
        int axis = IsImage(shape) ? 1 : shape.Length - 1;
        switch (_random.Next(4))
        {
            case 0:
                Made(Net.Op(Any(new[] { "Add", "Mul", "Sub", "Max", "Min" }), [x, other]), shape);
                return true;
            case 1:
                long[] joined = [.. shape];
                joined[axis] *= 2;
                if (joined[axis] > 16)
                    return false;
                Made(Net.Op("Concat", [x, other], new { axis = _random.Next(2) == 0 ? axis : axis - shape.Length }), joined);
                return true;
            case 2 when IsImage(shape):
                // Squeeze and excite.
                string s = Net.Conv(Net.Op("GlobalAveragePool", [x]), (int)shape[1], 2, kernel: 1);
                Made(Net.Mul(x, Net.Op("Sigmoid", [Net.Conv(Net.Relu(s), 2, (int)shape[1], kernel: 1)])), shape);
                return true;
            default:
                (string, long[] Shape) partner = Any(_values);
                if (partner.Shape.Length != shape.Length || IsImage(shape) && !partner.Shape[2..].SequenceEqual(shape[2..])
                    || !IsImage(shape) && !partner.Shape[..^1].SequenceEqual(shape[..^1]) || partner.Shape[axis] + shape[axis] > 16)
                    return false;
                long[] both = [.. shape];
                both[axis] += partner.Shape[axis];
                Made(Net.Op("Concat", [x, partner.Item1], new { axis }), both);
                return true;
        }
    }

    private bool Layout(string x, long[] shape)
    {
        int axis = IsImage(shape) ? 1 : shape.Length - 1;
        long channels = shape[axis];
        string Batch() => Net.Size(x, 0);
        switch (_random.Next(13))
        {
            case 0 when channels > 1:
                // Parts, in another order, one of them changed or dropped.
                long cut = _random.Next(1, (int)channels);
                string[] parts = Net.Ops("Split", 2, [x, Net.Ints(cut, channels - cut)], new { axis });
                Made(parts[0], [.. shape.Select((s, i) => i == axis ? cut : s)]);
                if (_random.Next(2) == 0)
                    Made(parts[1], [.. shape.Select((s, i) => i == axis ? channels - cut : s)]);
                else
                    Made(Net.Op("Concat", [Net.Op("Tanh", [parts[1]]), parts[0]], new { axis }), shape);
                return true;
            case 1 when channels % 2 == 0:
                string[] halves = Net.Ops("Split", 2, [x], new { axis });
                Made(Net.Mul(halves[0], Net.Op("Sigmoid", [halves[1]])), [.. shape.Select((s, i) => i == axis ? s / 2 : s)]);
                return true;
            case 2 when channels > 2:
                bool fromBack = _random.Next(2) == 0;
                long from = _random.Next(1, (int)channels - 1);
                Made(Net.Op("Slice", [x, Net.Ints(fromBack ? from - channels : from), Net.Ints(Any(new[] { channels, long.MaxValue, int.MaxValue })), Net.Ints(axis)]),
                    [.. shape.Select((s, i) => i == axis ? s - from : s)]);
                return true;
            case 3 when channels > 2:
                string end = Net.Op("Unsqueeze", [Net.Op("Sub", [Net.Size(x, axis), Net.Int(1)]), Net.Ints(0)]);
                Made(Net.Op("Slice", [x, Net.Ints(0), end, Net.Ints(axis)]), [.. shape.Select((s, i) => i == axis ? s - 1 : s)]);
                return true;
            case 4 when IsImage(shape) && channels % 2 == 0:
                string apart = Net.Op("Reshape", [x, Net.Shape(Batch(), 2, _random.Next(2) == 0 ? channels / 2 : Net.Op("Div", [Net.Size(x, 1), Net.Int(2)]), shape[2], shape[3])]);
                Made(Net.Reshape(Net.Transpose(apart, 0, 2, 1, 3, 4), 0, -1, shape[2], shape[3]), shape);
                return true;
            case 5 when IsImage(shape):
                // Patches: positions become tokens.
                string flat = _random.Next(2) == 0 ? Net.Reshape(x, 0, 0, -1) : Net.Op("Reshape", [x, Net.Shape(Batch(), Net.Size(x, 1), shape[2] * shape[3])]);
                Made(Net.Transpose(flat, 0, 2, 1), -1, shape[2] * shape[3], channels);
                return true;
            case 6 when IsImage(shape):
                Made(Net.Op("Flatten", [Net.Op("ReduceMean", [x], new { axes = new[] { 2, 3 } })]), -1, channels);
                return true;
            case 7 when IsImage(shape) && shape[1] * shape[2] * shape[3] <= 160:
                string vector = Any(new Func<string>[] { () => Net.Op("Flatten", [x]), () => Net.Reshape(x, -1, shape[1] * shape[2] * shape[3]), () => Net.Op("Reshape", [x, Net.Shape(Batch(), -1)]) })();
                Made(Net.Linear(vector, (int)(shape[1] * shape[2] * shape[3]), 4), -1, 4);
                return true;
            case 8 when IsImage(shape):
                if (_random.Next(2) == 0 || shape[2] % 2 == 1 || shape[3] % 2 == 1)
                    Made(Net.Op("AveragePool", [x], new { kernel_shape = new[] { 3, 3 }, pads = new[] { 1, 1, 1, 1 } }), shape);
                else
                    Made(Net.Op("MaxPool", [x], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } }), shape[0], channels, shape[2] / 2, shape[3] / 2);
                return true;
            case 9 when IsImage(shape) && channels <= 8:
                Made(Net.Op("Pad", [x, Net.Ints(0, 1, 0, 0, 0, 2, 0, 0), Net.Filled(0.25)]), -1, channels + 3, shape[2], shape[3]);
                return true;
            case 10 when IsImage(shape) && channels % 4 == 0 && shape[2] <= 6:
                Made(Net.Op("DepthToSpace", [x], new { blocksize = 2, mode = Any(new[] { "DCR", "CRD" }) }), -1, channels / 4, 2 * shape[2], 2 * shape[3]);
                return true;
            case 11 when shape.Length == 3:
                if (_random.Next(2) == 0)
                    Made(Net.Op("ReduceMax", [x], new { axes = new[] { 1 }, keepdims = 0 }), -1, channels);
                else
                    Made(Net.Op("Gather", [x, Net.Int(0)], new { axis = 1 }), -1, channels);
                return true;
            case 12 when channels % 2 == 0 && !IsImage(shape):
                string heads = Net.Reshape(x, [0, .. shape[1..^1], channels / 2, 2]);
                heads = Net.Add(heads, Net.Weight([channels / 2, 1]));
                Made(_random.Next(2) == 0 ? Net.Op("Reshape", [heads, Net.Op("Shape", [x])]) : Net.Reshape(heads, [-1, .. shape[1..]]), shape);
                return true;
            default:
                return false;
        }
    }
}
