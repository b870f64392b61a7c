namespace OnnxMorph.Structure;

/// <summary>
/// Immediate dominators of a directed acyclic graph with one root: the last vertex that every path from the root passes on
/// its way. With edges turned round, post-dominators. O(edges · log vertices): a common ancestor is found over jump pointers
/// (Myers 1983, applicative random-access lists).
/// </summary>
internal sealed class DominatorTree
{
    private readonly int[] _parent, _jump, _depth;

    /// <summary>Dominators of all vertices that <paramref name="order"/> lists.</summary>
    /// <param name="vertices">Number of vertices.</param>
    /// <param name="order">The vertices in topological order; the root is first and reaches all others.</param>
    /// <param name="predecessors">The edges into a vertex.</param>
    public DominatorTree(int vertices, IEnumerable<int> order, Func<int, IReadOnlyList<int>> predecessors)
    {
        _parent = new int[vertices];
        _jump = new int[vertices];
        _depth = new int[vertices];
        bool first = true;
        foreach (int v in order)
        {
            IReadOnlyList<int> from = predecessors(v);
            if (first)
                (_parent[v], _jump[v]) = (v, v);
            else
                Add(v, from.Aggregate(CommonAncestor));
            first = false;
        }
    }

    /// <summary>The immediate dominator of <paramref name="vertex"/>; the root is its own.</summary>
    public int this[int vertex] => _parent[vertex];

    /// <summary>Whether every path to <paramref name="vertex"/> passes <paramref name="dominator"/>; a vertex dominates itself.</summary>
    public bool Dominates(int dominator, int vertex) => CommonAncestor(dominator, vertex) == dominator;

    private void Add(int vertex, int parent)
    {
        _parent[vertex] = parent;
        _depth[vertex] = _depth[parent] + 1;
        int jump = _jump[parent];
        bool balanced = _depth[parent] - _depth[jump] == _depth[jump] - _depth[_jump[jump]];
        _jump[vertex] = balanced ? _jump[jump] : parent;
    }

    private int CommonAncestor(int a, int b)
    {
        if (_depth[a] < _depth[b])
            (a, b) = (b, a);
        while (_depth[a] > _depth[b])
            a = _depth[_jump[a]] >= _depth[b] ? _jump[a] : _parent[a];
        while (a != b)
            (a, b) = _jump[a] != _jump[b] ? (_jump[a], _jump[b]) : (_parent[a], _parent[b]);
        return a;
    }
}
