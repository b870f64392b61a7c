using Google.Protobuf;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;
using static OnnxMorph.Tests.Testing.Net;

namespace OnnxMorph.Tests.Testing;

/// <summary>
/// A single-precision model in double precision, so that rounding cannot hide an error: weights are evaluated in double
/// before anything is rounded, and operators that ONNX Runtime has in single precision only (convolutions, average pools …)
/// are written with ones that it has in double. Sizes are those of one run.
/// </summary>
internal sealed class DoubleModel
{
    private static readonly WeightEvaluator s_evaluator = new();

    private readonly IReadOnlyDictionary<string, long[]> _shapes;
    private readonly ModelProto _proto;
    private readonly List<NodeProto> _nodes = [];
    private int _names;

    private DoubleModel(OnnxModel model, IReadOnlyDictionary<string, long[]> shapes)
    {
        _shapes = shapes;
        _proto = model.Proto.Clone();
        foreach (TensorProto tensor in _proto.Tensors().Select(place => place.Tensor))
        {
            if ((ElementType)tensor.DataType != ElementType.Float32)
                continue;
            byte[] bytes = s_evaluator.Evaluate(Widen(model.Data(tensor)));
            tensor.ClearPayload();
            tensor.FloatData.Clear();
            tensor.DataType = (int)ElementType.Float64;
            tensor.RawData = ByteString.CopyFrom(bytes);
        }

        foreach (ValueInfoProto value in _proto.Graph.Input.Concat(_proto.Graph.Output))
            if (value.Type?.TensorType is { ElemType: (int)ElementType.Float32 } tensor)
                tensor.ElemType = (int)ElementType.Float64;
        _proto.Graph.ValueInfo.Clear();
        foreach (NodeProto node in _proto.Graph.Node)
            Lower(node);
        _proto.Graph.Node.Clear();
        _proto.Graph.Node.AddRange(_nodes);
    }

    /// <summary>The model in double precision.</summary>
    /// <param name="model">A model whose floating-point values are Float32.</param>
    /// <param name="shapes">Sizes of every value in the run to come.</param>
    public static ModelProto Of(OnnxModel model, IReadOnlyDictionary<string, long[]> shapes) => new DoubleModel(model, shapes)._proto;

    private static WeightExpression Widen(WeightExpression weight) => weight switch
    {
        StoredWeight stored => new StoredWeight(ElementType.Float64, stored.Shape, Numbers.Encode(ElementType.Float64, Numbers.Decode(stored.Type, s_evaluator.Evaluate(stored)))),
        FilledWeight filled => new FilledWeight(ElementType.Float64, filled.Shape, filled.Fill),
        ComputedWeight computed => new ComputedWeight(ElementType.Float64, computed.Shape, computed.Values),
        DiracWeight dirac => new DiracWeight(ElementType.Float64, dirac.Shape),
        ReshapedWeight reshaped => new ReshapedWeight(Widen(reshaped.Source), reshaped.Shape),
        MappedWeight mapped => Widen(mapped.Source).Map(mapped.Maps, mapped.Fill),
        RotatedWeight rotated => new RotatedWeight(Widen(rotated.Source), rotated.Axis, rotated.Groups, rotated.Seed, rotated.Transpose),
        SummedWeight summed => new SummedWeight([.. summed.Terms.Select(term => (term.Factor, Widen(term.Weight)))]),
        TransposedWeight transposed => new TransposedWeight(Widen(transposed.Source)),
        PlacedWeight placed => new PlacedWeight(Widen(placed.Outer), Widen(placed.Inner), placed.Start),
        _ => throw new ArgumentException(weight.GetType().Name),
    };

    private void Lower(NodeProto node)
    {
        switch (node.OpType)
        {
            case "Cast" when node.Attribute.Single(a => a.Name == "to").I == (int)ElementType.Float32:
                node.Attribute.Single(a => a.Name == "to").I = (int)ElementType.Float64;
                _nodes.Add(node);
                break;
            case "Conv" or "FusedConv":
                Convolution(node);
                break;
            case "ConvTranspose":
                TransposedConvolution(node);
                break;
            case "AveragePool":
                AveragePool(node);
                break;
            case "GlobalAveragePool":
                Mean(node.Input[0], Rank(node.Input[0]), node.Output[0]);
                break;
            case "PRelu":
                string negative = Add("Mul", [Add("Min", [node.Input[0], Zero()]), node.Input[1]]);
                Add("Add", [Add("Relu", [node.Input[0]]), negative], node.Output[0]);
                break;
            case "LeakyRelu":
                string below = Add("Mul", [Add("Min", [node.Input[0], Zero()]), Constant([1], [Float(node, "alpha", 0.01)])]);
                Add("Add", [Add("Relu", [node.Input[0]]), below], node.Output[0]);
                break;
            case "Elu":
                string tail = Add("Sub", [Add("Exp", [Add("Min", [node.Input[0], Zero()])]), One()]);
                Add("Add", [Add("Relu", [node.Input[0]]), Add("Mul", [tail, Constant([1], [Float(node, "alpha", 1)])])], node.Output[0]);
                break;
            case "Gelu":
                string odd = Add("Add", [Add("Tanh", [node.Input[0]]), One()]);
                Add("Mul", [Add("Mul", [node.Input[0], odd]), Constant([1], [0.5])], node.Output[0]);
                break;
            case "Erf":
                // Another odd function: what holds for it holds for parent and child alike.
                Add("Tanh", [node.Input[0]], node.Output[0]);
                break;
            case "HardSwish":
                string gate = Add("Add", [Add("Mul", [node.Input[0], Constant([1], [1.0 / 6])]), Constant([1], [0.5])]);
                Add("Mul", [node.Input[0], Add("Min", [Add("Max", [gate, Zero()]), One()])], node.Output[0]);
                break;
            case "Softplus":
                Add("Log", [Add("Add", [Add("Exp", [node.Input[0]]), One()])], node.Output[0]);
                break;
            case "InstanceNormalization":
                InstanceNormalization(node);
                break;
            default:
                _nodes.Add(node);
                break;
        }
    }

    // Over all positions; the axes became an input in operator set 18.
    private string Mean(string value, int rank, string? output = null)
    {
        int[] axes = [.. Enumerable.Range(2, rank - 2)];
        return _proto.OpsetImport.First(o => o.Domain.Length == 0).Version < 18 ? Add("ReduceMean", [value], output, new { axes })
            : Add("ReduceMean", [value, Int64([.. axes.Select(a => (long)a)])], output);
    }

    private void InstanceNormalization(NodeProto node)
    {
        int spatial = Rank(node.Input[0]) - 2;
        string Own(string vector) => Reshape(vector, [-1, .. Enumerable.Repeat(1L, spatial)]);
        string centred = Add("Sub", [node.Input[0], Mean(node.Input[0], spatial + 2)]);
        string square = Add("Mul", [centred, centred]);
        string variance = Add("Add", [Mean(square, spatial + 2), Constant([1], [Float(node, "epsilon", 1e-5)])]);
        string normed = Add("Div", [centred, Add("Sqrt", [variance])]);
        Add("Add", [Add("Mul", [normed, Own(node.Input[1])]), Own(node.Input[2])], node.Output[0]);
    }

    private void Convolution(NodeProto node)
    {
        int spatial = Rank(node.Input[0]) - 2;
        long[] weight = _shapes[node.Input[1]], input = _shapes[node.Input[0]], output = _shapes[node.Output[0]];
        long[] kernel = weight[2..], strides = Ints(node, "strides", 1, spatial), dilations = Ints(node, "dilations", 1, spatial);
        string columns = Columns(node.Input[0], input, Pads(node, input[2..], output[2..], kernel, strides, dilations), kernel, strides, dilations, output[2..], flip: false);
        long groups = Int(node, "group", 1), taps = kernel.Aggregate(1L, (a, b) => a * b);
        string x = Reshape(columns, input[0], groups, input[1] / groups, taps, output.Skip(2).Aggregate(1L, (a, b) => a * b));
        string w = Reshape(node.Input[1], groups, weight[0] / groups, weight[1], taps);
        Finish(node, Add("Einsum", [x, w], null, new { equation = "ngitp,goit->ngop" }), output);
    }

    // The input spread out by the stride, then a convolution with the kernel turned round.
    private void TransposedConvolution(NodeProto node)
    {
        int spatial = Rank(node.Input[0]) - 2;
        long[] weight = _shapes[node.Input[1]], input = [.. _shapes[node.Input[0]]], output = _shapes[node.Output[0]];
        long[] kernel = weight[2..], strides = Ints(node, "strides", 1, spatial), dilations = Ints(node, "dilations", 1, spatial);
        long[] pads = Ints(node, "pads", 0, 2 * spatial), extra = Ints(node, "output_padding", 0, spatial);
        string mode = Text(node, "auto_pad", "NOTSET");
        if (mode.StartsWith("SAME", StringComparison.Ordinal) || node.Attribute.Any(a => a.Name == "output_shape"))
        {
            // The result's size says how much is cut off; where it is longer than what the kernel reaches, zeros follow.
            for (int axis = 0; axis < spatial; axis++)
            {
                long whole = (input[axis + 2] - 1) * strides[axis] + (kernel[axis] - 1) * dilations[axis] + 1 + extra[axis];
                long cut = Math.Max(whole - output[axis + 2], 0);
                pads[axis] = mode == "SAME_UPPER" ? cut / 2 : (cut + 1) / 2;
                pads[spatial + axis] = cut - pads[axis];
                extra[axis] += Math.Max(output[axis + 2] - whole, 0);
            }
        }

        string value = node.Input[0];
        for (int axis = 0; axis < spatial; axis++)
        {
            int at = axis + 2;
            value = Reshape(value, [.. input[..(at + 1)], 1, .. input[(at + 1)..]]);
            var widen = new long[2 * (input.Length + 1)];
            widen[input.Length + 1 + at + 1] = strides[axis] - 1;
            value = Pad(value, widen);
            input[at] *= strides[axis];
            value = Reshape(value, input);
        }

        var border = new long[2 * spatial];
        for (int axis = 0; axis < spatial; axis++)
        {
            border[axis] = (kernel[axis] - 1) * dilations[axis] - pads[axis];
            border[spatial + axis] = (kernel[axis] - 1) * dilations[axis] - pads[spatial + axis] + extra[axis] - (strides[axis] - 1);
        }

        long groups = Int(node, "group", 1), taps = kernel.Aggregate(1L, (a, b) => a * b);
        string columns = Columns(value, input, border, kernel, [.. kernel.Select(_ => 1L)], dilations, output[2..], flip: true);
        string x = Reshape(columns, input[0], groups, input[1] / groups, taps, output.Skip(2).Aggregate(1L, (a, b) => a * b));
        string w = Reshape(node.Input[1], groups, weight[0] / groups, weight[1], taps);
        Finish(node, Add("Einsum", [x, w], null, new { equation = "ngitp,giot->ngop" }), output);
    }

    private void AveragePool(NodeProto node)
    {
        int spatial = Rank(node.Input[0]) - 2;
        long[] input = _shapes[node.Input[0]], output = _shapes[node.Output[0]];
        long[] kernel = Ints(node, "kernel_shape", 1, spatial), strides = Ints(node, "strides", 1, spatial), ones = [.. kernel.Select(_ => 1L)];
        if (Int(node, "count_include_pad", 0) != 0 || Int(node, "ceil_mode", 0) != 0)
            throw new NotSupportedException("a pool of another kind");
        long[] pads = Pads(node, input[2..], output[2..], kernel, strides, ones);
        string ones1 = Constant([1, 1, .. input[2..]], [.. Enumerable.Repeat(1.0, (int)input.Skip(2).Aggregate(1L, (a, b) => a * b))]);
        string sums = Add("ReduceSum", [Columns(node.Input[0], input, pads, kernel, strides, ones, output[2..], flip: false), Int64(2)], null, new { keepdims = 0 });
        string counts = Add("ReduceSum", [Columns(ones1, [1, 1, .. input[2..]], pads, kernel, strides, ones, output[2..], flip: false), Int64(2)], null, new { keepdims = 0 });
        Add("Div", [sums, counts], node.Output[0]);
    }

    // x[N, C, …] → [N, C, taps, outputs…]: what each tap of the kernel sees at each place.
    private string Columns(string x, long[] input, long[] pads, long[] kernel, long[] strides, long[] dilations, long[] outputs, bool flip)
    {
        int spatial = kernel.Length;
        string padded = Pad(x, [0, 0, .. pads[..spatial], 0, 0, .. pads[spatial..]]);
        var slices = new List<string>();
        int taps = (int)kernel.Aggregate(1L, (a, b) => a * b);
        for (int tap = 0; tap < taps; tap++)
        {
            var starts = new long[spatial];
            for (int axis = spatial - 1, rest = tap; axis >= 0; axis--)
            {
                (rest, int k) = Math.DivRem(rest, (int)kernel[axis]);
                starts[axis] = (flip ? kernel[axis] - 1 - k : k) * dilations[axis];
            }

            long[] ends = [.. starts.Select((start, axis) => start + (outputs[axis] - 1) * strides[axis] + 1)];
            string slice = Add("Slice", [padded, Int64(starts), Int64(ends), Int64([.. Enumerable.Range(2, spatial)]), Int64(strides)]);
            slices.Add(Reshape(slice, [input[0], input[1], 1, .. outputs]));
        }

        return Add("Concat", [.. slices], null, new { axis = 2 });
    }

    private void Finish(NodeProto node, string product, long[] output)
    {
        string activation = Text(node, "activation", "");
        var terms = new List<string> { Reshape(product, output) };
        if (node.Input.Count > 2 && node.Input[2].Length > 0)
            terms.Add(Reshape(node.Input[2], [.. output.Select((size, axis) => axis == 1 ? size : 1)]));
        if (node.Input.Count > 3)
            terms.Add(node.Input[3]);
        string sum = Add("Sum", [.. terms], activation.Length == 0 ? node.Output[0] : null);
        if (activation.Length > 0)
            Add(activation, [sum], node.Output[0]);
    }

    private string Pad(string x, long[] pads) => pads.All(p => p == 0) ? x : Add("Pad", [x, Int64(pads)]);

    private static long[] Pads(NodeProto node, long[] input, long[] output, long[] kernel, long[] strides, long[] dilations)
    {
        int spatial = kernel.Length;
        string mode = Text(node, "auto_pad", "NOTSET");
        if (!mode.StartsWith("SAME", StringComparison.Ordinal))
            return Ints(node, "pads", 0, 2 * spatial);
        var pads = new long[2 * spatial];
        for (int axis = 0; axis < spatial; axis++)
        {
            long total = Math.Max(0, (output[axis] - 1) * strides[axis] + dilations[axis] * (kernel[axis] - 1) + 1 - input[axis]);
            pads[axis] = mode == "SAME_UPPER" ? total / 2 : (total + 1) / 2;
            pads[spatial + axis] = total - pads[axis];
        }

        return pads;
    }

    private int Rank(string value) => _shapes[value].Length;

    private static long Int(NodeProto node, string name, long otherwise) => node.Attribute.FirstOrDefault(a => a.Name == name)?.I ?? otherwise;

    private static double Float(NodeProto node, string name, double otherwise) => node.Attribute.FirstOrDefault(a => a.Name == name)?.F ?? otherwise;

    private static string Text(NodeProto node, string name, string otherwise) => node.Attribute.FirstOrDefault(a => a.Name == name)?.S.ToStringUtf8() ?? otherwise;

    private static long[] Ints(NodeProto node, string name, long otherwise, int count) =>
        node.Attribute.FirstOrDefault(a => a.Name == name)?.Ints.ToArray() ?? [.. Enumerable.Repeat(otherwise, count)];

    private string Zero() => Constant([1], [0]);

    private string One() => Constant([1], [1]);

    private string Constant(long[] shape, double[] values)
    {
        int next = 0;
        TensorProto tensor = Net.Tensor($"double.{++_names}", ElementType.Float64, shape, () => values[next++]);
        _proto.Graph.Initializer.Add(tensor);
        return tensor.Name;
    }

    private string Int64(params long[] values)
    {
        TensorProto tensor = IntTensor($"double.{++_names}", [values.Length], values);
        _proto.Graph.Initializer.Add(tensor);
        return tensor.Name;
    }

    private string Reshape(string x, params long[] shape) => Reshape(x, shape, null);

    private string Reshape(string x, long[] shape, string? output) => Add("Reshape", [x, Int64(shape)], output);

    private string Add(string op, string[] inputs, string? output = null, object? attributes = null)
    {
        string name = $"double.{++_names}";
        NodeProto node = NewNode(op, inputs, attributes, name);
        node.Output.Add(output ?? name);
        _nodes.Add(node);
        return node.Output[0];
    }
}
