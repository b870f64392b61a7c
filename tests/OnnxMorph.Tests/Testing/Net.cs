using System.Globalization;
using System.Runtime.InteropServices;
using Google.Protobuf;
using OnnxMorph.Onnx;
using OnnxMorph.Shapes;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Testing;

/// <summary>
/// Makes small ONNX models in a few lines: every method adds something to the graph and gives the name of the value.
/// Weights are seeded and different everywhere, so that nothing can be mixed up and still fit.
/// </summary>
internal sealed class Net
{
    private readonly Random _random;
    private int _names;

    public Net(ElementType type = ElementType.Float32, int opset = 17, int seed = 1, int ir = 8)
    {
        Type = type;
        _random = new Random(seed);
        Proto = new ModelProto { IrVersion = ir, Graph = new GraphProto { Name = "g" } };
        Proto.OpsetImport.Add(new OperatorSetIdProto { Domain = "", Version = opset });
        Proto.OpsetImport.Add(new OperatorSetIdProto { Domain = "com.microsoft", Version = 1 });
    }

    private Net(Net other, ModelProto proto)
    {
        (Type, _random, Proto) = (other.Type, other._random, proto);
        Runs.AddRange(other.Runs);
        foreach ((string input, int words) in other.Vocabulary)
            Vocabulary[input] = words;
    }

    public ModelProto Proto { get; }

    /// <summary>Version of the standard operator set.</summary>
    public int Opset
    {
        get => (int)Proto.OpsetImport[0].Version;
        set => Proto.OpsetImport[0].Version = value;
    }

    /// <summary>Element type of inputs and weights.</summary>
    public ElementType Type { get; }

    /// <summary>Sizes for symbolic dimensions, one dictionary for each run; every symbol needs one.</summary>
    public List<Dictionary<string, long>> Runs { get; } = [];

    /// <summary>Largest value (exclusive) of integer inputs by name; they are drawn from 0 on.</summary>
    public Dictionary<string, int> Vocabulary { get; } = [];

    public OnnxModel Model => new(Proto.Clone());

    /// <summary>The same with another graph.</summary>
    public Net With(ModelProto proto) => new(this, proto);

    public NodeProto Node(string name) => Proto.Graph.Node.Single(n => n.Name == name);

    public NodeProto Last => Proto.Graph.Node[^1];

    /// <summary>A graph input; sizes are numbers or names.</summary>
    public string Input(string name, params object[] shape) => Input(name, Type, shape);

    public string Input(string name, ElementType type, params object[] shape)
    {
        Proto.Graph.Input.Add(Value(name, type, shape));
        return name;
    }

    /// <summary>A graph output, with its shape left open unless sizes are given.</summary>
    public void Output(string value, ElementType? type = null, params object[] shape) =>
        Proto.Graph.Output.Add(shape.Length == 0 && type is null
            ? new ValueInfoProto { Name = value }
            : Value(value, type ?? Type, shape));

    public static ValueInfoProto Value(string name, ElementType type, params object[] shape)
    {
        var dims = new TensorShapeProto();
        foreach (object size in shape)
            dims.Dim.Add(size is string symbol
                ? new TensorShapeProto.Types.Dimension { DimParam = symbol }
                : new TensorShapeProto.Types.Dimension { DimValue = Convert.ToInt64(size, CultureInfo.InvariantCulture) });
        return new ValueInfoProto
        {
            Name = name,
            Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)type, Shape = dims } },
        };
    }

    /// <summary>An initializer with values in ±<paramref name="scale"/>.</summary>
    public string Weight(long[] shape, double scale = 0.6, string? name = null) => Add(Tensor(name ?? Name("w"), shape, () => scale * (2 * _random.NextDouble() - 1)));

    /// <summary>An initializer with values in [0.5, 1.5).</summary>
    public string Positive(params long[] shape) => Add(Tensor(Name("p"), shape, () => 0.5 + _random.NextDouble()));

    /// <summary>An initializer with one number everywhere; a scalar unless a shape is given.</summary>
    public string Filled(double value, params long[] shape) => Add(Tensor(Name("c"), shape, () => value));

    /// <summary>Given floats of single precision, such as the scales of a Resize.</summary>
    public string Floats(params double[] values) => FloatsOf([values.Length], values);

    public string FloatsOf(long[] shape, double[] values)
    {
        int next = 0;
        return Add(Tensor(Name("f"), ElementType.Float32, shape, () => values[next++]));
    }

    public string Ints(params long[] values) => IntsOf([values.Length], values);

    public string Int(long value) => IntsOf([], [value]);

    public string IntsOf(long[] shape, long[] values, string? name = null) => Add(IntTensor(name ?? Name("i"), shape, values));

    public string Bools(long[] shape, params bool[] values)
    {
        var tensor = new TensorProto { Name = Name("m"), DataType = (int)ElementType.Bool, RawData = ByteString.CopyFrom([.. values.Select(v => (byte)(v ? 1 : 0))]) };
        tensor.Dims.AddRange(shape);
        return Add(tensor);
    }

    /// <summary>The last weight that was added becomes a Constant node.</summary>
    public string AsConstantNode(string initializer)
    {
        TensorProto tensor = Proto.Graph.Initializer.Single(t => t.Name == initializer);
        Proto.Graph.Initializer.Remove(tensor);
        if (Proto.Graph.Input.FirstOrDefault(i => i.Name == initializer) is { } listed)
            Proto.Graph.Input.Remove(listed);
        var node = new NodeProto { OpType = "Constant", Name = Name("constant") };
        node.Attribute.Add(new AttributeProto { Name = "value", T = tensor, Type = AttributeProto.Types.AttributeType.Tensor });
        node.Output.Add(initializer);
        Proto.Graph.Node.Insert(0, node);
        return initializer;
    }

    public TensorProto Tensor(string name, long[] shape, Func<double> next) => Tensor(name, Type, shape, next);

    public static TensorProto Tensor(string name, ElementType type, long[] shape, Func<double> next)
    {
        double[] values = [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(_ => next())];
        var tensor = new TensorProto { Name = name, DataType = (int)type, RawData = ByteString.CopyFrom(Numbers.Encode(type, values)) };
        tensor.Dims.AddRange(shape);
        return tensor;
    }

    public static TensorProto IntTensor(string name, long[] shape, long[] values)
    {
        var tensor = new TensorProto { Name = name, DataType = (int)ElementType.Int64, RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes<long>(values)) };
        tensor.Dims.AddRange(shape);
        return tensor;
    }

    private string Add(TensorProto tensor)
    {
        Proto.Graph.Initializer.Add(tensor);
        if (Proto.IrVersion < 4)
            Proto.Graph.Input.Add(Value(tensor.Name, (ElementType)tensor.DataType, [.. tensor.Dims.Cast<object>()]));
        return tensor.Name;
    }

    private string Name(string hint) => $"{hint}{++_names}";

    /// <summary>A node with one output. Attributes are the properties of an anonymous object.</summary>
    public string Op(string op, string[] inputs, object? attributes = null, string? name = null) => Ops(op, 1, inputs, attributes, name)[0];

    public string[] Ops(string op, int outputs, string[] inputs, object? attributes = null, string? name = null)
    {
        NodeProto node = NewNode(op, inputs, attributes, name ?? Name(op.ToLowerInvariant()));
        node.Output.AddRange(Enumerable.Range(0, outputs).Select(i => i == 0 ? $"{node.Name}_out" : $"{node.Name}_out{i}"));
        Proto.Graph.Node.Add(node);
        return [.. node.Output];
    }

    public static NodeProto NewNode(string op, string[] inputs, object? attributes, string name)
    {
        int colon = op.IndexOf(':');
        var node = new NodeProto { OpType = op[(colon + 1)..], Name = name };
        if (colon > 0)
            node.Domain = op[..colon];
        node.Input.AddRange(inputs);
        foreach (var property in attributes?.GetType().GetProperties() ?? [])
            node.Attribute.Add(Attribute(property.Name, property.GetValue(attributes)!));
        return node;
    }

    public static AttributeProto Attribute(string name, object value)
    {
        var attribute = new AttributeProto { Name = name };
        switch (value)
        {
            case int number:
                attribute.I = number;
                attribute.Type = AttributeProto.Types.AttributeType.Int;
                break;
            case double number:
                attribute.F = (float)number;
                attribute.Type = AttributeProto.Types.AttributeType.Float;
                break;
            case string text:
                attribute.S = ByteString.CopyFromUtf8(text);
                attribute.Type = AttributeProto.Types.AttributeType.String;
                break;
            case int[] numbers:
                attribute.Ints.AddRange(numbers.Select(n => (long)n));
                attribute.Type = AttributeProto.Types.AttributeType.Ints;
                break;
            case long[] numbers:
                attribute.Ints.AddRange(numbers);
                attribute.Type = AttributeProto.Types.AttributeType.Ints;
                break;
            case double[] numbers:
                attribute.Floats.AddRange(numbers.Select(n => (float)n));
                attribute.Type = AttributeProto.Types.AttributeType.Floats;
                break;
            case string[] texts:
                attribute.Strings.AddRange(texts.Select(ByteString.CopyFromUtf8));
                attribute.Type = AttributeProto.Types.AttributeType.Strings;
                break;
            case TensorProto tensor:
                attribute.T = tensor;
                attribute.Type = AttributeProto.Types.AttributeType.Tensor;
                break;
            case GraphProto graph:
                attribute.G = graph;
                attribute.Type = AttributeProto.Types.AttributeType.Graph;
                break;
            default:
                throw new ArgumentException($"{name}: {value.GetType()}");
        }

        return attribute;
    }

    public string Relu(string x) => Op("Relu", [x]);

    public string Add(string a, string b) => Op("Add", [a, b]);

    public string Mul(string a, string b) => Op("Mul", [a, b]);

    /// <summary>MatMul with a weight [inputs, outputs] and, by default, a bias.</summary>
    public string Linear(string x, int inputs, int outputs, string? name = null, bool bias = true)
    {
        string y = Op("MatMul", [x, Weight([inputs, outputs])], name: name);
        return bias ? Add(y, Weight([outputs])) : y;
    }

    /// <summary>A convolution that keeps the spatial size unless <paramref name="attributes"/> are given.</summary>
    public string Conv(string x, int inputs, int outputs, int kernel = 3, int group = 1, string? name = null, object? attributes = null, bool bias = true, int dimensions = 2)
    {
        long[] shape = [outputs, inputs / group, .. Enumerable.Repeat((long)kernel, dimensions)];
        string[] values = bias ? [x, Weight(shape), Weight([outputs])] : [x, Weight(shape)];
        string y = Op("Conv", values, attributes ?? new { pads = Enumerable.Repeat(kernel / 2, 2 * dimensions).ToArray() }, name);
        if (group > 1)
            Last.Attribute.Add(Attribute("group", group));
        return y;
    }

    public string BatchNorm(string x, int channels, string? name = null) =>
        Op("BatchNormalization", [x, Weight([channels]), Weight([channels]), Weight([channels]), Positive(channels)], new { epsilon = 0.1 }, name);

    public string Reshape(string x, params long[] target) => Op("Reshape", [x, Ints(target)]);

    public string Transpose(string x, params int[] perm) => Op("Transpose", [x], new { perm });

    /// <summary>Declares the sizes of all intermediate values, as exporters do that infer shapes.</summary>
    public void DeclareSizes()
    {
        ShapeTable shapes = ShapeEvaluator.Evaluate(Model);
        foreach (string value in Proto.Graph.Node.SelectMany(n => n.Output))
            if (Proto.Graph.Output.All(o => o.Name != value) && shapes.Dims(value) is { } dims)
                Proto.Graph.ValueInfo.Add(Value(value, shapes.Type(value), [.. dims.Select((size, axis) => shapes.IsSymbolic(value, axis) ? (object)$"unk_{value}_{axis}" : size)]));
    }

    /// <summary>A reduction that keeps its axes; these became an input in operator set 18.</summary>
    public string Reduce(string op, string x, params int[] axes) =>
        Opset < 18 ? Op(op, [x], new { axes }) : Op(op, [x, Ints([.. axes.Select(a => (long)a)])]);

    /// <summary>One size of a value, as exporters compute it.</summary>
    public string Size(string x, int axis) => Op("Gather", [Op("Shape", [x]), Int(axis)], new { axis = 0 });

    /// <summary>Sizes put together as a shape: numbers, or names of values with one size each.</summary>
    public string Shape(params object[] sizes) => Op("Concat",
        [.. sizes.Select(size => size is string value ? Op("Unsqueeze", [value, Ints(0)]) : Ints(Convert.ToInt64(size, CultureInfo.InvariantCulture)))],
        new { axis = 0 });
}
