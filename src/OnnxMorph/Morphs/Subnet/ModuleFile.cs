using System.Collections.Immutable;
using System.Globalization;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Modules as ONNX files with one input and one output: convolutions that keep positions, matrix products, activations, Add, Concat and
/// Identity. The numbers in the weights say nothing, only their sizes; a weight may be a graph input instead of an initializer.
/// </summary>
internal sealed class ModuleFile
{
    private static readonly HashSet<string> s_aliases = ["Identity", "Dropout"];
    private static readonly HashSet<string> s_reluFamily = ["Relu", "LeakyRelu", "PRelu"];

    private readonly string _path;
    private readonly ModelGraph _graph;
    private readonly Dictionary<string, ValueInfoProto> _declared;
    private readonly Dictionary<string, int> _values = [];
    private readonly ImmutableArray<ModuleOperator>.Builder _operators = ImmutableArray.CreateBuilder<ModuleOperator>();
    private readonly List<long?> _channels = [null];

    private ModuleFile(string path)
    {
        _path = path;
        OnnxModel model = OnnxReader.Read(path);
        FunctionInliner.Inline(model);
        _graph = new ModelGraph(model);
        _declared = _graph.Inputs.ToDictionary(i => i.Name);
    }

    /// <summary>Reads a module.</summary>
    /// <exception cref="UsageException">The file has something else in it.</exception>
    /// <exception cref="OnnxMorphException">The file cannot be read.</exception>
    public static Module Read(string path)
    {
        var file = new ModuleFile(path);
        GraphProto graph = file._graph.Proto;
        string[] inputs = [.. file._declared.Keys.Where(input => !file._graph.Uses(input).All(use => use.Input > 0))];
        if (inputs.Length != 1 || graph.Output.Count != 1)
            throw file.Wrong($"it has {inputs.Length} inputs and {graph.Output.Count} outputs besides weights, and a module has one of each");
        file._values[inputs[0]] = 0;
        int result = file.Value(graph.Output[0].Name);
        if (result == 0 || result != file._operators.Count)
            file.Add(new ModuleSum([result]), file._channels[result]);
        return new Module(file._operators.ToImmutable())
        {
            Ends = file._channels[0] is { } first && file._channels[^1] is { } last ? (first, last) : null,
        };
    }

    // Producers before readers.
    private int Value(string name)
    {
        if (_values.TryGetValue(name, out int known))
            return known;
        if (_graph.Producer(name) is not { } producer)
            throw Wrong($"'{name}' is no value that its input leads to");
        NodeProto node = _graph.Nodes[producer];
        return _values[name] = Operator(node);
    }

    private int Operator(NodeProto node)
    {
        if (ParametricActivation.IsMixed(node) || (ModelGraph.IsStandard(node) && s_reluFamily.Contains(node.OpType)))
            return Activation(node);
        if (!ModelGraph.IsStandard(node))
            throw Unfit(node, "is no layer, activation, sum or concatenation");
        switch (node.OpType)
        {
            case "Conv" or "Gemm" or "MatMul":
                return Layer(node);
            case "Add" or "Sum" when node.Input.Where(i => _graph.ConstantOf(i) is null).ToList() is var terms and not []:
                // What is constant is a bias, and the layer's own is the one that counts.
                int[] parts = [.. terms.Select(Value)];
                return parts.Length == 1 ? parts[0] : Add(new ModuleSum([.. parts]), parts.Select(p => _channels[p]).FirstOrDefault(c => c is not null));
            case "Concat":
                int[] joined = [.. node.Input.Select(Value)];
                return Add(new ModuleConcat([.. joined]), joined.Aggregate((long?)0, (sum, part) => sum + _channels[part]));
            case var op when s_aliases.Contains(op):
                return Value(node.Input[0]);
            default:
                throw Unfit(node, "is no layer, activation, sum or concatenation");
        }
    }

    private int Activation(NodeProto node)
    {
        int input = Value(node.Input[0]);
        NodeProto like = node.Clone();
        like.Input.Clear();
        like.Output.Clear();
        // A PRelu's slope would be a weight of its own.
        return Add(new ModuleActivation(input, node.OpType == "PRelu" ? null : like), _channels[input]);
    }

    private int Layer(NodeProto node)
    {
        long Int(string name, long otherwise) => node.Attribute.FirstOrDefault(a => a.Name == name)?.I ?? otherwise;
        long[]? Ints(string name) => node.Attribute.FirstOrDefault(a => a.Name == name)?.Ints.ToArray();

        int input = Value(node.Input[0]);
        long?[] sizes = Sizes(node.Input[1]) ?? throw Unfit(node, "has a weight that is neither an initializer nor an input of known rank");
        bool convolution = node.OpType == "Conv";
        if (Int("group", 1) != 1 || Int("transA", 0) != 0 || (!convolution && sizes.Length != 2))
            throw Unfit(node, "has groups, transposes its input or has a stack of weights");
        ImmutableArray<long> kernel = [1];
        if (convolution)
        {
            long[] taps = Ints("kernel_shape") ?? [.. sizes.Skip(2).Select(s => s ?? throw Unfit(node, "does not say how large its kernel is"))];
            kernel = [.. taps];
            long[] pads = Ints("pads") ?? new long[2 * taps.Length];
            bool same = node.Attribute.FirstOrDefault(a => a.Name == "auto_pad")?.S.ToStringUtf8().StartsWith("SAME", StringComparison.Ordinal) ?? false;
            if (Ints("strides")?.Any(s => s != 1) is true || Ints("dilations")?.Any(d => d != 1) is true
                || (!same && taps.Where((size, axis) => pads[axis] + pads[axis + taps.Length] != size - 1).Any()))
                throw Unfit(node, "has a stride, a dilation or pads that change positions, which only the layer that the module replaces may");
        }

        bool outFirst = convolution || Int("transB", 0) != 0;
        (long? inputs, long? outputs) = outFirst ? (sizes[1], sizes[0]) : (sizes[0], sizes[1]);
        if (input == 0)
            _channels[0] ??= inputs;
        return Add(new ModuleLayer(input, kernel, outputs is { } width ? SizeRequest.Parse(width.ToString(CultureInfo.InvariantCulture)) : null), outputs);
    }

    private long?[]? Sizes(string weight) =>
        _graph.ConstantOf(weight) is { } constant ? [.. constant.Shape.Select(size => (long?)size)]
        : _declared.GetValueOrDefault(weight)?.Type?.TensorType?.Shape is { } shape ? [.. shape.Dim.Select(d => d.HasDimValue && d.DimValue > 0 ? (long?)d.DimValue : null)]
        : null;

    private int Add(ModuleOperator added, long? channels)
    {
        if (_operators.Count >= ModuleText.MostParts)
            throw Wrong($"it has more than {ModuleText.MostParts} operators");
        _operators.Add(added);
        _channels.Add(channels);
        return _operators.Count;
    }

    private UsageException Unfit(NodeProto node, string why) => Wrong($"{ModelGraph.Describe(node)} {why}");

    private UsageException Wrong(string why) => new($"'{_path}' is not a module: {why}.");
}
