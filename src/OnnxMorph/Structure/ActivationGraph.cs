using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;

namespace OnnxMorph.Structure;

/// <summary>
/// The trunk of a network: the nodes that activations flow through on their way from the inputs to the outputs, with one
/// source and one sink added. Not on it are weights and what is computed from them, sizes and what is computed from them, and
/// <em>satellites</em>: masks and caches, which reach a layer only beside what layers have made; values that a caller takes on
/// the way; and what conditions many places of the trunk at once, such as a time embedding or an encoder's result.
/// </summary>
internal sealed class ActivationGraph
{
    /// <summary>The vertex in front of all inputs.</summary>
    public const int Source = 0;

    private readonly AxisAnalysis _analysis;
    private readonly List<int> _nodes = [];
    private readonly List<string?> _values = [];
    private readonly Dictionary<string, int> _producers = [];
    private readonly List<List<int>> _successors = [], _predecessors = [];
    private readonly bool[] _onTrunk;

    /// <summary>Finds the trunk of a graph.</summary>
    public ActivationGraph(AxisAnalysis analysis)
    {
        _analysis = analysis;
        AddVertices();
        // Vertices before this one have edges only among themselves; the sink gets its edges last.
        Sink = Add(-1);
        var cut = new HashSet<(int From, int To)>();
        CutBesideInputs(cut);
        CutOutputsOnTheWay(cut);
        Apply(cut);
        _onTrunk = Trunk();
        while (Conditioner() is { Count: > 0 } edges)
        {
            Apply(edges);
            _onTrunk = Trunk();
        }

        for (int v = 0; v < Sink; v++)
        {
            _successors[v].RemoveAll(s => !_onTrunk[s]);
            _predecessors[v].RemoveAll(p => !_onTrunk[p]);
        }

        for (int v = 0; v < Sink; v++)
            if (_onTrunk[v] && _successors[v].Count == 0)
                Connect(v, Sink);
        Dominators = Forward(Order);
        PostDominators = new DominatorTree(Count, Order.Reverse(), v => _successors[v]);
    }

    /// <summary>The vertex behind all outputs.</summary>
    public int Sink { get; }

    /// <summary>Number of vertices, those off the trunk included.</summary>
    public int Count => _nodes.Count;

    /// <summary>The vertices of the trunk in execution order, source and sink included.</summary>
    public IEnumerable<int> Order => Enumerable.Range(0, Count).Where(v => _onTrunk[v]);

    /// <summary>What every path from the source passes.</summary>
    public DominatorTree Dominators { get; }

    /// <summary>What every path to the sink passes.</summary>
    public DominatorTree PostDominators { get; }

    /// <summary>Number of the node at a vertex; −1 for the source, the sink and inputs.</summary>
    public int Node(int vertex) => _nodes[vertex];

    /// <summary>The node at a vertex; null for the source, the sink and inputs.</summary>
    public NodeProto? Proto(int vertex) => _nodes[vertex] < 0 ? null : _analysis.Graph.Nodes[_nodes[vertex]];

    /// <summary>The value that a vertex makes, the first of several; null for the source and the sink.</summary>
    public string? Value(int vertex) => _values[vertex];

    /// <summary>The vertex of a node; null where it is none of an activation.</summary>
    public int? VertexOf(int node) => _analysis.Graph.Nodes[node].Output.FirstOrDefault(_producers.ContainsKey) is { } value ? _producers[value] : null;

    /// <summary>The vertex at which an activation is made; null for weights and sizes.</summary>
    public int? Producer(string value) => _producers.TryGetValue(value, out int vertex) ? vertex : null;

    /// <summary>Edges out of a vertex; each neighbour once.</summary>
    public IReadOnlyList<int> Successors(int vertex) => _successors[vertex];

    /// <summary>Edges into a vertex; each neighbour once.</summary>
    public IReadOnlyList<int> Predecessors(int vertex) => _predecessors[vertex];

    /// <summary>Whether a vertex is a layer: it makes channels out of weights.</summary>
    public bool IsLayer(int vertex) => _nodes[vertex] >= 0 && IsLayerNode(_nodes[vertex]);

    /// <summary>The activations that a node reads: its own inputs, less lists of sizes and positions, and what its subgraphs read.</summary>
    public IEnumerable<string> Reads(NodeProto node)
    {
        OperatorRule? rule = OperatorRules.For(node);
        return node.Input.Where((_, i) => rule is null || !rule.ListsSizes(i)).Concat(node.Subgraphs().SelectMany(Captured))
            .Where(_producers.ContainsKey).Distinct();
    }

    /// <summary>The vertices that read what a vertex makes, on the trunk or off it.</summary>
    public IEnumerable<int> Readers(int vertex) =>
        Proto(vertex)!.Output.SelectMany(_analysis.Graph.Uses).Select(use => VertexOf(use.Node)).OfType<int>().Distinct();

    private bool IsLayerNode(int node) => _analysis.Node(node) is { } axes && (axes.Layer ?? (object?)axes.Produced) is not null;

    private static IEnumerable<string> Captured(GraphProto subgraph) =>
        subgraph.Node.SelectMany(n => n.Input.Concat(n.Subgraphs().SelectMany(Captured))).Concat(subgraph.Output.Select(o => o.Name));

    private void AddVertices()
    {
        ModelGraph graph = _analysis.Graph;
        HashSet<int> needed = Needed();
        Add(-1);
        foreach (ValueInfoProto input in graph.Inputs)
        {
            _producers[input.Name] = Add(-1, input.Name);
            Connect(Source, _producers[input.Name]);
        }

        for (int n = 0; n < graph.Nodes.Count; n++)
        {
            NodeProto node = graph.Nodes[n];
            // Sizes carry nothing of the activation that they are read from.
            if (!needed.Contains(n) || (ModelGraph.IsStandard(node) && node.OpType is "Shape" or "Size"))
                continue;
            List<string> reads = [.. Reads(node)];
            // What is looked up by positions alone is an activation all the same.
            if (reads.Count == 0 && (!IsLayerNode(n) || node.Output.All(_analysis.IsWeight)))
                continue;
            int vertex = Add(n, node.Output.FirstOrDefault(o => o.Length > 0));
            foreach (int from in reads.Select(value => _producers[value]).Distinct())
                Connect(from, vertex);
            foreach (string output in node.Output.Where(o => o.Length > 0))
                _producers[output] = vertex;
        }
    }

    // The nodes that an output depends on.
    private HashSet<int> Needed()
    {
        ModelGraph graph = _analysis.Graph;
        var needed = new HashSet<int>();
        for (int n = graph.Nodes.Count - 1; n >= 0; n--)
            if (graph.Nodes[n].Output.Any(o => graph.IsReadElsewhere(o) || graph.Uses(o).Any(u => needed.Contains(u.Node))))
                needed.Add(n);
        return needed;
    }

    // Values before the first layer that no layer takes as what it works on: they only meet the trunk beside it.
    private void CutBesideInputs(HashSet<(int, int)> cut)
    {
        var raw = new bool[Count];
        for (int v = 0; v < Sink; v++)
            raw[v] = v == Source || (!IsLayer(v) && _predecessors[v].All(p => raw[p]));
        if (raw.Take(Sink).All(r => r))
            return;
        var main = new bool[Count];
        for (int v = Sink - 1; v >= 0; v--)
            main[v] = raw[v] && _successors[v].Any(s => raw[s] ? main[s] : IsLayer(s) && WorksOn(s) == v);
        for (int v = 0; v < Sink; v++)
            if (raw[v] && !main[v])
                cut.UnionWith(_successors[v].Where(s => !raw[s] || main[s]).Select(s => (v, s)).Concat(_predecessors[v].Where(p => main[p]).Select(p => (p, v))));
    }

    // What a layer applies its weights to: states and masks come behind it.
    private int WorksOn(int layer) => _producers[Reads(Proto(layer)!).First()];

    // Ends without a layer, beside which the trunk goes on from all that they read: values that callers take on the way.
    private void CutOutputsOnTheWay(HashSet<(int, int)> cut)
    {
        var end = new bool[Count];
        for (int v = Sink - 1; v > Source; v--)
            end[v] = !IsLayer(v) && _successors[v].All(s => end[s]);
        var beside = new bool[Count];
        for (int v = 1; v < Sink; v++)
            beside[v] = end[v] && _predecessors[v].All(p => end[p] ? beside[p] : _successors[p].Any(s => !end[s]));
        for (int v = Sink - 1; v > Source; v--)
            beside[v] &= _successors[v].All(s => beside[s]);
        for (int v = 1; v < Sink; v++)
            if (!beside[v])
                cut.UnionWith(_successors[v].Where(s => beside[s]).Select(s => (v, s)));
    }

    // Where several inputs meet again and again, the one that is read in the most places conditions the trunk: its edges.
    private List<(int, int)> Conditioner()
    {
        // The sink has no edges yet.
        DominatorTree dominators = Forward(Order.Where(v => v != Sink));
        var origin = new int[Count];
        var meetings = new Dictionary<int, HashSet<int>>();
        foreach (int v in Order.Where(v => v != Source && v != Sink))
        {
            origin[v] = dominators[v] == Source ? v : origin[dominators[v]];
            if (dominators[v] == Source)
                foreach (int p in _predecessors[v].Where(p => p != Source && _onTrunk[p]))
                    (meetings.TryGetValue(origin[p], out HashSet<int>? met) ? met : meetings[origin[p]] = []).Add(v);
        }

        var several = meetings.Where(m => m.Value.Count > 1).ToList();
        if (several.Count < 2)
            return [];
        int conditioner = several.OrderByDescending(m => m.Value.Count).ThenBy(m => m.Value.Max()).First().Key;
        return [.. from v in meetings[conditioner] from p in _predecessors[v] where _onTrunk[p] && origin[p] == conditioner select (p, v)];
    }

    private DominatorTree Forward(IEnumerable<int> order) => new(Count, order, v => [.. _predecessors[v].Where(p => _onTrunk[p])]);

    // What the source reaches and what reaches an output, or ends where something was cut off.
    private bool[] Trunk()
    {
        var reached = new bool[Count];
        reached[Source] = reached[Sink] = true;
        for (int v = 1; v < Sink; v++)
            reached[v] = _predecessors[v].Any(p => reached[p]);
        var reaches = new bool[Count];
        for (int v = Sink - 1; v >= 0; v--)
            reaches[v] = (_nodes[v] >= 0 && Proto(v)!.Output.Any(_analysis.Graph.IsReadElsewhere)) || _successors[v].Any(s => reaches[s]);
        reaches[Source] = reaches[Sink] = true;
        return [.. reached.Zip(reaches, (a, b) => a && b)];
    }

    private int Add(int node, string? value = null)
    {
        _nodes.Add(node);
        _values.Add(value);
        _successors.Add([]);
        _predecessors.Add([]);
        return _nodes.Count - 1;
    }

    private void Connect(int from, int to)
    {
        _successors[from].Add(to);
        _predecessors[to].Add(from);
    }

    private void Apply(IReadOnlyCollection<(int From, int To)> edges)
    {
        foreach (var outgoing in edges.ToLookup(e => e.From, e => e.To))
            _successors[outgoing.Key].RemoveAll(outgoing.ToHashSet().Contains);
        foreach (var into in edges.ToLookup(e => e.To, e => e.From))
            _predecessors[into.Key].RemoveAll(into.ToHashSet().Contains);
    }
}
