namespace OnnxMorph.Structure;

/// <summary>A vertex of a sequence, with what lies between it and the vertex in front of it where that is more than an edge.</summary>
internal sealed record Step(int Vertex, Region? Before);

/// <summary>Vertices one behind the other: whatever passes the first passes them all.</summary>
internal sealed record Sequence(IReadOnlyList<Step> Steps);

/// <summary>What lies between two vertices, both excluded: a single-entry single-exit region.</summary>
/// <param name="Entry">The vertex that all of it reads from.</param>
/// <param name="Join">The vertex that all of it leads to.</param>
/// <param name="Direct">Whether an edge leads past it: a skip.</param>
/// <param name="Branches">What runs side by side.</param>
internal sealed record Region(int Entry, int Join, bool Direct, IReadOnlyList<Branch> Branches);

/// <summary>One side of a region: a sequence, or several that read each other's results (dense layers), in execution order.</summary>
internal sealed record Branch(IReadOnlyList<Sequence> Parts);

/// <summary>
/// The program structure tree of a network (Johnson, Pearson, Pingali 1994). Vertex v follows u in a sequence where v is u's
/// immediate post-dominator and u is v's immediate dominator; what lies between them, the <em>link</em> of u, is a region whose
/// branches are sequences again. Linear in the edges, given the dominators.
/// </summary>
internal sealed class RegionTree
{
    private readonly ActivationGraph _graph;

    // By vertex: the one that follows it in its sequence (−1 at the end), and the first of its sequence.
    private readonly int[] _next, _head;

    // By the first vertex of a sequence: the vertex whose link holds it, and the first vertex of the sibling in that link that it
    // leads to (−1 where it leads to the end of the link). Siblings thus form a tree.
    private readonly int[] _link, _leads;

    /// <summary>Builds the tree of a graph.</summary>
    public RegionTree(ActivationGraph graph)
    {
        _graph = graph;
        _next = [.. Enumerable.Repeat(-1, graph.Count)];
        _head = [.. _next];
        _link = [.. _next];
        _leads = [.. _next];
        FindSequences();
        Root = Build(Groups());
    }

    /// <summary>The sequence from the source to the sink.</summary>
    public Sequence Root { get; }

    /// <summary>All sequences, those inside another before it.</summary>
    public List<Sequence> Sequences { get; } = [];

    private void FindSequences()
    {
        var last = new int[_graph.Count];
        foreach (int v in _graph.Order)
        {
            int before = _graph.Dominators[v];
            bool follows = v != ActivationGraph.Source && _graph.PostDominators[before] == v;
            _head[v] = follows ? _head[before] : v;
            last[_head[v]] = v;
            if (follows)
                _next[before] = v;
        }

        foreach (int head in Heads())
        {
            int dominator = _graph.Dominators[head];
            _link[head] = _next[dominator] >= 0 ? dominator : _link[_head[dominator]];
            int exit = _graph.PostDominators[last[head]];
            _leads[head] = exit == _next[_link[head]] ? -1 : exit;
        }
    }

    private IEnumerable<int> Heads() => _graph.Order.Where(v => v != ActivationGraph.Source && _head[v] == v);

    // Siblings that lead to the same vertex and read each other's results on the way belong to one branch.
    private int[] Groups()
    {
        int[] group = [.. Enumerable.Range(0, _graph.Count)];
        foreach (int v in _graph.Order)
        {
            int from = _head[v];
            foreach (int s in _graph.Successors(v))
            {
                int to = _head[s];
                if (from == to || s == _leads[from] || _link[from] < 0 || _link[from] != _link[to])
                    continue;
                while (_leads[to] != _leads[from])
                    to = _leads[to];
                group[Find(group, to)] = Find(group, from);
            }
        }

        return group;
    }

    private static int Find(int[] group, int head)
    {
        while (group[head] != head)
            head = group[head] = group[group[head]];
        return head;
    }

    // From the leaves, without recursion: networks may be nested as deeply as they are long.
    private Sequence Build(int[] group)
    {
        ILookup<int, int> inside = Heads().Where(h => _leads[h] < 0).ToLookup(h => _link[h]);
        ILookup<int, int> leading = Heads().Where(h => _leads[h] >= 0).ToLookup(h => _leads[h]);
        var order = new List<int> { ActivationGraph.Source };
        for (int i = 0; i < order.Count; i++)
        {
            order.AddRange(leading[order[i]]);
            for (int v = order[i]; v >= 0; v = _next[v])
                order.AddRange(inside[v]);
        }

        var built = new Dictionary<int, Sequence>();
        foreach (int head in Enumerable.Reverse(order))
        {
            var steps = new List<Step> { new(head, Between(_graph.Dominators[head], head, leading[head])) };
            for (int v = head; _next[v] >= 0; v = _next[v])
                steps.Add(new Step(_next[v], Between(v, _next[v], inside[v])));
            Sequences.Add(built[head] = new Sequence(steps));
        }

        return built[ActivationGraph.Source];

        Region? Between(int entry, int join, IEnumerable<int> heads)
        {
            List<Branch> branches = [.. heads.GroupBy(h => Find(group, h)).Select(g => new Branch([.. g.Select(h => built[h])]))];
            return branches.Count == 0 ? null : new Region(entry, join, _graph.Predecessors(join).Contains(entry), branches);
        }
    }
}
