using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Makes the nodes that are put behind one layer or around it. Layers that share a weight share the new weights too, each under its role.
/// </summary>
/// <param name="graph">Gives names.</param>
/// <param name="editor">Takes weights.</param>
/// <param name="name">What names are derived from.</param>
/// <param name="form">How the values carry their channels.</param>
/// <param name="activation">The network's own activation; null where it shows none.</param>
/// <param name="shared">Initializers by role.</param>
internal sealed class SubnetBuilder(
    ModelGraph graph, GraphEditor editor, string name, LayerForm form, NetworkActivation? activation, Dictionary<string, string> shared)
{
    /// <summary>The nodes in execution order.</summary>
    public List<NodeProto> Nodes { get; } = [];

    /// <summary>How the values carry their channels.</summary>
    public LayerForm Form => form;

    /// <summary>The initializer for a role, made where it does not exist yet.</summary>
    public string Weight(string role, Func<WeightExpression> make)
    {
        if (!shared.TryGetValue(role, out string? weight))
            shared[role] = weight = editor.AddInitializer($"{name}_{role.Replace(' ', '_')}", make());
        return weight;
    }

    /// <summary>A trainable number for each channel.</summary>
    public string Numbers(string role, long channels, double start) =>
        Weight(role, () => new FilledWeight(form.Type, form.ChannelShape(channels), Fill.Constant(start)));

    /// <summary>Integers.</summary>
    public string Ints(string role, params long[] values)
    {
        string key = $"{role} {string.Join(' ', values)}";
        if (!shared.TryGetValue(key, out string? weight))
            shared[key] = weight = editor.AddInts($"{name}_{role}", ElementType.Int64, values, [values.Length]);
        return weight;
    }

    /// <summary>One constant number.</summary>
    public string Number(double value) =>
        Weight(value.ToString(System.Globalization.CultureInfo.InvariantCulture), () => new FilledWeight(form.Type, [1], Fill.Constant(value)));

    /// <summary>A node with one output, whose value it gives.</summary>
    public string Add(string op, params IEnumerable<string> inputs) => Add(new NodeProto { OpType = op }, inputs);

    /// <summary>A node with one output: <paramref name="node"/> with a name, inputs and an output.</summary>
    public string Add(NodeProto node, params IEnumerable<string> inputs)
    {
        node.Name = graph.NewName($"{name}_{node.OpType.ToLowerInvariant()}");
        node.Input.AddRange(inputs);
        node.Output.Add(graph.NewName($"{node.Name}_output"));
        Nodes.Add(node);
        return node.Output[0];
    }

    /// <summary>Puts a node that has its inputs and output.</summary>
    public void Put(NodeProto node) => Nodes.Add(node);

    /// <summary>Lets the node that makes <paramref name="value"/>, which no other node reads, make <paramref name="result"/>.</summary>
    public void Finish(string value, string result) => Nodes.Last(node => node.Output.Contains(value)).Output[0] = result;

    /// <summary>The sum of values.</summary>
    public string Sum(IEnumerable<string> values) => values.Aggregate((sum, value) => Add("Add", sum, value));

    /// <summary>Values one behind the other along the channels.</summary>
    public string Concat(IEnumerable<string> values)
    {
        var node = new NodeProto { OpType = "Concat" };
        GraphEditor.SetInt(node, "axis", form.ChannelAxis);
        return Add(node, values);
    }

    /// <summary>Slices of a value along the channels, one behind the other.</summary>
    public string[] Split(string value, IReadOnlyList<long> sizes)
    {
        var node = new NodeProto { OpType = "Split" };
        GraphEditor.SetInt(node, "axis", form.ChannelAxis);
        // Sizes became an input in operator set 13.
        bool asInput = graph.Opset("") >= 13;
        if (!asInput)
            GraphEditor.SetInts(node, "split", sizes);
        Add(node, asInput ? [value, Ints("sizes", [.. sizes])] : [value]);
        while (node.Output.Count < sizes.Count)
            node.Output.Add(graph.NewName($"{node.Name}_output"));
        return [.. node.Output];
    }

    /// <summary>A new layer.</summary>
    /// <param name="role">Role of its weight.</param>
    /// <param name="value">What it reads.</param>
    /// <param name="layer">Its weights.</param>
    /// <param name="bias">Its bias, for kinds that take one; null for none.</param>
    public NodeProto Layer(string role, string value, LinearOperator layer, string? bias = null)
    {
        var node = new NodeProto { OpType = form.Kind.ToString() };
        if (form.Kind == LayerKind.Conv)
        {
            GraphEditor.SetInts(node, "kernel_shape", layer.Kernel);
            GraphEditor.SetInts(node, "pads", layer.Pads.Begin.Concat(layer.Pads.End));
            GraphEditor.SetInt(node, "group", layer.Layout.Groups);
        }

        bias ??= MissingBias;
        Add(node, bias is null ? [value, Weight(role, () => layer.Weight)] : [value, Weight(role, () => layer.Weight), bias]);
        return node;
    }

    /// <summary>What layers without a bias read in its place: a Gemm without a third operand exists from operator set 11 on.</summary>
    public string? MissingBias => form.Kind == LayerKind.Gemm && graph.Opset("") < 11 ? Number(0) : null;

    /// <summary>An activation that starts as the identity (<see cref="ParametricActivation"/>), like a node or the network's own.</summary>
    public string Parametric(string role, string value, long channels, NodeProto? like)
    {
        NetworkActivation? mixed = NetworkActivation.ToMix(Like(like) ?? activation, form.Type);
        return ParametricActivation.Emit(Nodes, graph, name, value, mixed, form.ChannelShape(channels), form.Type, linearShare: 1,
            (part, make) => part == "one" ? Number(1) : Weight($"{role} {part}", make));
    }

    /// <summary>An activation as it is, like a node or the network's own.</summary>
    public string Activation(string value, NodeProto? like)
    {
        return (Like(like) ?? activation ?? NetworkActivation.Relu).Emit(Nodes, graph, name, value);
    }

    // A module's own names mean nothing here.
    private static NetworkActivation? Like(NodeProto? node)
    {
        if (node is null)
            return null;
        node = node.Clone();
        node.Input.Clear();
        return new NetworkActivation(node);
    }
}
