using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Graph;

/// <summary>Where a value is read: input <paramref name="Input"/> of node number <paramref name="Node"/>.</summary>
public readonly record struct Use(int Node, int Input);

/// <summary>A tensor that the file holds: an initializer, or the value of a <c>Constant</c> node.</summary>
public sealed class Constant(string name, TensorProto tensor, NodeProto? node)
{
    /// <summary>Name of the initializer or of the node's output.</summary>
    public string Name { get; } = name;

    /// <summary>The tensor.</summary>
    public TensorProto Tensor { get; } = tensor;

    /// <summary>The <c>Constant</c> node, or null for an initializer.</summary>
    public NodeProto? Node { get; } = node;

    /// <summary>Element type.</summary>
    public ElementType Type => (ElementType)Tensor.DataType;

    /// <summary>Sizes of the axes.</summary>
    public IReadOnlyList<long> Shape => Tensor.Dims;

    /// <summary>Number of elements.</summary>
    public long Count => Tensor.Dims.Aggregate(1L, (product, size) => product * size);
}

/// <summary>
/// The main graph of a model with its names resolved: producers, uses and constants. A snapshot; build a new one after
/// the graph was edited.
/// </summary>
public sealed class ModelGraph
{
    private readonly Dictionary<string, int> _producers = [];
    private readonly Dictionary<string, List<Use>> _uses = [];
    private readonly Dictionary<string, Constant> _constants = [];
    private readonly Dictionary<string, int> _captured = [];
    private readonly Dictionary<string, int> _opsets = [];
    private readonly HashSet<string> _outputs = [];

    /// <summary>Resolves the main graph of <paramref name="model"/>.</summary>
    public ModelGraph(OnnxModel model)
    {
        Model = model;
        Nodes = Sorted(Proto);
        foreach (OperatorSetIdProto opset in model.Proto.OpsetImport)
            _opsets[opset.Domain] = checked((int)opset.Version);
        foreach (TensorProto initializer in Proto.Initializer)
            _constants[initializer.Name] = new Constant(initializer.Name, initializer, null);
        for (int n = 0; n < Nodes.Count; n++)
        {
            NodeProto node = Nodes[n];
            foreach (string output in node.Output)
                if (output.Length > 0)
                    _producers[output] = n;
            for (int i = 0; i < node.Input.Count; i++)
                if (node.Input[i].Length > 0)
                    UseList(node.Input[i]).Add(new Use(n, i));
            foreach (GraphProto subgraph in node.Subgraphs())
                Capture(subgraph, n);

            if (node.OpType == "Constant" && node.Domain is "" or "ai.onnx"
                && node.Attribute.FirstOrDefault(a => a.Name == "value")?.T is { } tensor && node.Output.Count == 1)
                _constants[node.Output[0]] = new Constant(node.Output[0], tensor, node);
        }

        foreach (ValueInfoProto output in Proto.Output)
            _outputs.Add(output.Name);
    }

    /// <summary>The model.</summary>
    public OnnxModel Model { get; }

    /// <summary>The main graph's message.</summary>
    public GraphProto Proto => Model.Proto.Graph;

    /// <summary>The nodes in an order in which they can be executed: the file's own, where that is one.</summary>
    public IReadOnlyList<NodeProto> Nodes { get; }

    /// <summary>All constants by name.</summary>
    public IEnumerable<Constant> Constants => _constants.Values;

    /// <summary>Inputs that a caller has to give: graph inputs without an initializer.</summary>
    public IEnumerable<ValueInfoProto> Inputs => Proto.Input.Where(input => !_constants.ContainsKey(input.Name));

    /// <summary>Number of the node that produces <paramref name="value"/>, or null for inputs and initializers.</summary>
    public int? Producer(string value) => _producers.TryGetValue(value, out int node) ? node : null;

    /// <summary>Everywhere that the main graph's nodes read <paramref name="value"/>.</summary>
    public IReadOnlyList<Use> Uses(string value) => _uses.TryGetValue(value, out List<Use>? uses) ? uses : [];

    /// <summary>Whether <paramref name="value"/> is an output of the model.</summary>
    public bool IsOutput(string value) => _outputs.Contains(value);

    /// <summary>Whether somebody other than the main graph's nodes reads <paramref name="value"/>: a caller or a subgraph.</summary>
    public bool IsReadElsewhere(string value) => IsOutput(value) || CapturedBy(value) is not null;

    /// <summary>The use of a constant that <paramref name="use"/> reads through nodes of a kind, by the first input of each; null where there is none.</summary>
    public Use? ConstantUse(Use use, Func<NodeProto, bool> through)
    {
        while (Nodes[use.Node].Input[use.Input] is var value && ConstantOf(value) is null)
        {
            if (Producer(value) is not { } n || !through(Nodes[n]))
                return null;
            use = new Use(n, 0);
        }

        return use;
    }

    /// <summary>Number of a node whose subgraph reads <paramref name="value"/>, or null.</summary>
    public int? CapturedBy(string value) => _captured.TryGetValue(value, out int node) ? node : null;

    /// <summary>The constant behind <paramref name="value"/>, seen through Identity nodes; null where it is computed.</summary>
    public Constant? ConstantOf(string value)
    {
        while (!_constants.ContainsKey(value) && Producer(value) is { } n && Nodes[n].OpType == "Identity" && IsStandard(Nodes[n]))
            value = Nodes[n].Input[0];
        return _constants.GetValueOrDefault(value);
    }

    /// <summary>Version of an operator set that the model imports; 0 where it does not.</summary>
    public int Opset(string domain) =>
        _opsets.TryGetValue(domain == "ai.onnx" ? "" : domain, out int version) ? version
        : domain is "" or "ai.onnx" && _opsets.TryGetValue("ai.onnx", out version) ? version : 0;

    /// <summary>Whether a node's operator is one of ONNX's own.</summary>
    public static bool IsStandard(NodeProto node) => node.Domain is "" or "ai.onnx";

    /// <summary>What users call a node: its name, or the name of its first output where it has none.</summary>
    public static string NameOf(NodeProto node) =>
        node.Name.Length > 0 ? node.Name : node.Output.FirstOrDefault(o => o.Length > 0) ?? node.OpType;

    /// <summary>A node for messages: operator and name.</summary>
    public static string Describe(NodeProto node) => $"{node.OpType} '{NameOf(node)}'";

    /// <summary>
    /// A name based on <paramref name="hint"/> that no value, node or dimension of the model bears, subgraphs included;
    /// each call gives another.
    /// </summary>
    public string NewName(string hint)
    {
        _names ??= CollectNames();
        string name = hint;
        for (int i = 1; !_names.Add(name); i++)
            name = $"{hint}_{i}";
        return name;
    }

    private HashSet<string>? _names;

    private HashSet<string> CollectNames()
    {
        var names = new HashSet<string>();
        AddNames(Proto, names);
        return names;
    }

    private static void AddNames(GraphProto graph, HashSet<string> names)
    {
        foreach (TensorProto initializer in graph.Initializer)
            names.Add(initializer.Name);
        foreach (SparseTensorProto initializer in graph.SparseInitializer)
            names.Add(initializer.Values?.Name ?? "");
        foreach (ValueInfoProto value in graph.Input.Concat(graph.Output).Concat(graph.ValueInfo))
            names.Add(value.Name);
        foreach (NodeProto node in graph.Node)
        {
            names.Add(node.Name);
            names.UnionWith(node.Input);
            names.UnionWith(node.Output);
            foreach (GraphProto subgraph in node.Subgraphs())
                AddNames(subgraph, names);
        }
    }

    // ONNX Runtime takes nodes in any order; whoever walks over them wants producers first.
    private static List<NodeProto> Sorted(GraphProto graph)
    {
        var producers = new Dictionary<string, NodeProto>();
        foreach (NodeProto node in graph.Node)
            foreach (string output in node.Output)
                producers.TryAdd(output, node);
        var sorted = new List<NodeProto>(graph.Node.Count);
        var visited = new HashSet<NodeProto>(ReferenceEqualityComparer.Instance);
        var open = new Stack<(NodeProto Node, IEnumerator<string> Inputs)>();
        foreach (NodeProto last in graph.Node)
        {
            Open(last);
            while (open.TryPeek(out var top))
            {
                if (!top.Inputs.MoveNext())
                    sorted.Add(open.Pop().Node);
                else if (producers.TryGetValue(top.Inputs.Current, out NodeProto? producer))
                    Open(producer);
            }
        }

        return sorted;

        void Open(NodeProto node)
        {
            if (visited.Add(node))
                open.Push((node, Reads(node).GetEnumerator()));
        }
    }

    /// <summary>Names of everything that a node reads, what its subgraphs make for themselves among it.</summary>
    internal static IEnumerable<string> Reads(NodeProto node) => node.Input.Where(i => i.Length > 0).Concat(
        node.Subgraphs().SelectMany(g => g.Node.SelectMany(Reads).Concat(g.Output.Select(o => o.Name))));

    private List<Use> UseList(string value)
    {
        if (!_uses.TryGetValue(value, out List<Use>? uses))
            _uses[value] = uses = [];
        return uses;
    }

    // Names that a subgraph reads and does not define are the outer graph's. A name defined inside hides the outer one;
    // taking it as captured all the same only pins more than is needed, and ONNX forbids such reuse anyway.
    private void Capture(GraphProto subgraph, int node)
    {
        foreach (NodeProto inner in subgraph.Node)
        {
            foreach (string input in inner.Input)
                _captured.TryAdd(input, node);
            foreach (GraphProto nested in inner.Subgraphs())
                Capture(nested, node);
        }

        foreach (ValueInfoProto output in subgraph.Output)
            _captured.TryAdd(output.Name, node);
    }
}
