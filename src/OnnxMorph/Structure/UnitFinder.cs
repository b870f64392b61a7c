using OnnxMorph.Axes;
using OnnxMorph.Operators;

namespace OnnxMorph.Structure;

/// <summary>
/// Consecutive places of the spine that form one unit: a residual or parallel region with what belongs to it, a dense layer, or
/// a layer with what follows it.
/// </summary>
internal sealed class Unit(int first, int last, int core)
{
    /// <summary>Number of the first place.</summary>
    public int First { get; set; } = first;

    /// <summary>Number of the last place.</summary>
    public int Last { get; set; } = last;

    /// <summary>Number of the place that holds the region or dense layer; −1 where the unit is made of single steps.</summary>
    public int Core { get; } = core;
}

/// <summary>Divides the spine into units; what belongs to none is stem, head, or a transition between stages.</summary>
internal sealed class UnitFinder
{
    private readonly AxisAnalysis _analysis;
    private readonly ActivationGraph _graph;
    private readonly RegionFacts _facts;
    private readonly List<Place> _spine;
    private readonly Unit?[] _owner;

    public UnitFinder(AxisAnalysis analysis, ActivationGraph graph, RegionFacts facts, List<Place> spine)
    {
        (_analysis, _graph, _facts, _spine) = (analysis, graph, facts, spine);
        _owner = new Unit?[spine.Count];
    }

    /// <summary>The units in execution order.</summary>
    public List<Unit> Find()
    {
        for (int i = 0; i < _spine.Count; i++)
            if (IsCore(i))
                _owner[i] = new Unit(i, i, i);
        if (Units().Count == 0)
        {
            AddPlain(0, _spine.Count);
            return Units();
        }

        AddTails();
        AddLeads();
        AddUnskipped();
        // Layers between blocks that change no sizes are blocks of their own; those that do lead from one stage to the next.
        List<Unit> blocks = Units();
        foreach ((Unit a, Unit b) in blocks.Zip(blocks.Skip(1)))
            if (_facts.Extent(_spine[a.Last].Vertex) == _facts.Extent(_spine[b.First - 1].Vertex))
                AddPlain(a.Last + 1, b.First);
        return Units();
    }

    /// <summary>The region of a unit's core; null where it has none.</summary>
    public Region? Region(Unit unit) => unit.Core < 0 ? null : _spine[unit.Core].Step?.Before;

    /// <summary>
    /// Whether a residual unit works on the normalised or activated input, so that what follows the sum is not its own (He et al.
    /// 2016, pre-activation; pre-norm transformers).
    /// </summary>
    public bool IsPreActivation(Region region)
    {
        foreach (Step step in _facts.Main(region).Parts[0].Steps)
        {
            if (_facts.Layers(step) > 0)
                return false;
            if (IsElementwise(step))
                return true;
        }

        return false;
    }

    /// <summary>
    /// Adds to blocks of one kind what moves elements behind them until their result has the sizes of what they read: windows that are put
    /// together again.
    /// </summary>
    public void AddMoves(IReadOnlyList<IReadOnlyList<Unit>> blocks)
    {
        int length = blocks.Select(Moves).Where(l => l > 0).DefaultIfEmpty(0).Min();
        string[][] operators = [.. blocks.Select(block => Enumerable.Range(block[^1].Last + 1, length).TakeWhile(IsMoved).Select(i => _graph.Proto(_spine[i].Vertex)!.OpType).ToArray())];
        if (length > 0 && operators.All(own => own.Length == length && own.SequenceEqual(operators[0])))
            foreach (IReadOnlyList<Unit> block in blocks)
                Take(block[^1], block[^1].Last + 1, block[^1].Last + length);
    }

    // How many places behind a block move its elements until it has the sizes that it reads; none where it has them, or never gets them.
    private int Moves(IReadOnlyList<Unit> block)
    {
        if (_facts.Dims(_graph.Dominators[_spine[block[0].First].Steps[0].Vertex]) is not { } read || IsOf(block[^1].Last, read))
            return 0;
        for (int i = block[^1].Last + 1; IsMoved(i); i++)
            if (IsOf(i, read))
                return i - block[^1].Last;
        return 0;
    }

    private bool IsOf(int i, long[] dims) => _facts.Dims(_spine[i].Vertex) is { } own && own.AsSpan().SequenceEqual(dims);

    private bool IsMoved(int i) => i < _spine.Count && _owner[i] is null && !_spine[i].Opens && _spine[i].Step is { Before: null } step
        && _graph.Proto(step.Vertex) is { } node && OperatorRules.For(node) is ReshapeRule or TransposeRule or SqueezeRule;

    private List<Unit> Units() => [.. _owner.OfType<Unit>().Distinct()];

    private bool IsCore(int i) => _spine[i].Dense is not null || (_spine[i].Step!.Before is { } region && _facts.Kind(region) != RegionKind.Part);

    private bool HasLayers(int i) => _spine[i].Step is { } step && _facts.Signature(step).Length > 0 && !IsMove(step);

    // A transpose counts in signatures and is no layer.
    private bool IsMove(Step step) => step.Before is null && !_graph.IsLayer(step.Vertex) && !_facts.IsProduct(step.Vertex);

    // Norms and activations, written as one node or several.
    private bool IsElementwise(Step step) => _graph.Proto(step.Vertex) is { } node && OperatorRules.For(node)
        is PointwiseRule or BatchNormalizationRule or LayerNormalizationRule or GroupNormalizationRule or InstanceNormalizationRule;

    private void Take(Unit unit, int from, int to)
    {
        (unit.First, unit.Last) = (Math.Min(unit.First, from), Math.Max(unit.Last, to));
        for (int i = from; i <= to; i++)
            _owner[i] = unit;
    }

    // What follows a block without layers and ends with the block's sizes is its own: the activation or norm behind the sum, a
    // channel shuffle. All blocks of a kind have the same; a norm before the head is none of theirs.
    private void AddTails()
    {
        var tails = new List<(Unit Unit, int Length)>();
        foreach (Unit unit in Units())
        {
            int length = 0;
            if (Region(unit) is { } region && !IsPreActivation(region))
                for (int i = unit.Last + 1; IsLayerless(i); i++)
                    if (_facts.Dims(_spine[i].Vertex) is { } dims && _facts.Dims(region.Join) is { } own && dims.AsSpan().SequenceEqual(own))
                        length = i - unit.Last;
            tails.Add((unit, length));
        }

        foreach (var kind in tails.GroupBy(t => Region(t.Unit) is { } region ? _facts.Signature(region) : 0))
        {
            int length = kind.Min(t => t.Length);
            string[] Operators(Unit unit) => [.. Enumerable.Range(unit.Last + 1, length).Select(i => _graph.Proto(_spine[i].Vertex)!.OpType)];
            if (length > 0 && kind.All(t => Operators(t.Unit).SequenceEqual(Operators(kind.First().Unit))))
                foreach ((Unit unit, _) in kind.ToList())
                    Take(unit, unit.Last + 1, unit.Last + length);
        }
    }

    private bool IsLayerless(int i) => i < _spine.Count && _owner[i] is null && !_spine[i].Opens && !HasLayers(i) && _graph.Proto(_spine[i].Vertex) is not null;

    // Norms and activations between a block and the next that the one before did not take are the next one's; so is a node
    // that deals the channels out to the branches, and the layer in front of a parallel block where all such blocks have one.
    private void AddLeads()
    {
        foreach (Unit unit in Units())
        {
            if (_spine[unit.First].Opens)
                continue;
            if (unit.First > 0 && _graph.Proto(_spine[unit.First - 1].Vertex) is { Output.Count: > 1 } && IsLayerless(unit.First - 1))
                Take(unit, unit.First - 1, unit.First - 1);
            int from = unit.First;
            while (from > 0 && IsLayerless(from - 1) && IsElementwise(_spine[from - 1].Step!))
                from--;
            if (from < unit.First && from > 0 && _owner[from - 1] is not null)
                Take(unit, from, unit.First - 1);
        }

        var squeezes = new List<(Unit Unit, int From, string Signature)>();
        foreach (Unit unit in Units().Where(u => Region(u) is { } r && _facts.Kind(r) == RegionKind.Concatenation && !_spine[u.First].Opens))
        {
            int from = unit.First;
            while (from > 0 && _owner[from - 1] is null && !_spine[from - 1].Opens && _facts.Extent(_spine[from - 1].Vertex).Positions == _facts.Extent(Region(unit)!.Entry).Positions
                && _facts.Extent(_spine[from - 1].Vertex).Channels == _facts.Extent(Region(unit)!.Entry).Channels)
                from--;
            if (Enumerable.Range(from, unit.First - from).Sum(i => _facts.Layers(_spine[i].Step!)) == 1)
                squeezes.Add((unit, from, string.Join(' ', Enumerable.Range(from, unit.First - from).SelectMany(i => _facts.Signature(_spine[i].Step!)))));
        }

        foreach (var alike in squeezes.GroupBy(s => s.Signature).Where(g => g.Count() > 1))
            foreach ((Unit unit, int from, _) in alike)
                Take(unit, from, unit.First - 1);
    }

    // Blocks that change sizes have no skip where the skip would be an identity (inverted residuals). They run through the same
    // layers as the residual branches of the network and end without an activation, as these do.
    private void AddUnskipped()
    {
        var branches = Units().Select(Region).OfType<Region>()
            .Where(r => r.Direct && _facts.Kind(r) == RegionKind.Residual && _facts.Main(r).Parts.Count == 1)
            .Select(r => _facts.Signature(_facts.Main(r).Parts[0])).Where(s => s.Length > 1)
            .DistinctBy(s => string.Join(' ', s)).ToList();
        for (int end = _spine.Count - 1; end > 0; end--)
        {
            if (_owner[end] is not null || !EndsLinear(end))
                continue;
            (int first, int matched) = branches.Select(b => Match(b, end)).Where(m => m.Matched > 1)
                .OrderByDescending(m => m.Matched).FirstOrDefault((end, 0));
            if (matched == 0)
                continue;
            int last = end;
            while (IsLayerless(last + 1) && IsNorm(last + 1))
                last++;
            Take(new Unit(first, last, -1), first, last);
        }
    }

    // A layer whose result goes on without an activation: into the next layer, or a block that begins with one.
    private bool EndsLinear(int end)
    {
        if (_spine[end].Step is not { } step || !_graph.IsLayer(step.Vertex))
            return false;
        int next = end + 1;
        while (IsLayerless(next) && IsNorm(next))
            next++;
        return next < _spine.Count && (_owner[next] is not null || (!_spine[next].Opens && HasLayers(next)));
    }

    private bool IsNorm(int i) => _graph.Proto(_spine[i].Vertex) is { } node
        && (node.OpType is "BatchNormalization" or "Identity" or "Dropout" || (node.OpType is "Add" or "Mul" && _graph.Predecessors(_spine[i].Vertex).Count == 1));

    // How much of a branch's end stands before and at a place, and where it begins.
    private (int First, int Matched) Match(int[] branch, int end)
    {
        int left = branch.Length, first = end;
        for (int i = end; i >= 0 && _owner[i] is null && _spine[i].Step is { } step; i--)
        {
            int[] signature = _facts.Signature(step);
            if (signature.Length > left || !branch.AsSpan(left - signature.Length, signature.Length).SequenceEqual(signature))
                break;
            if (signature.Length > 0)
                (left, first) = (left - signature.Length, i);
            if (left == 0 || _spine[i].Opens)
                break;
        }

        return (first, branch.Length - left);
    }

    // A layer with what follows it in its sizes; a depthwise layer together with the one that mixes its channels.
    private void AddPlain(int from, int to)
    {
        Unit? unit = null;
        bool depthwise = false;
        for (int i = from; i < to; i++)
        {
            if (_spine[i].Step is not { } step || _graph.Proto(step.Vertex) is null || _spine[i].Opens)
                unit = null;
            if (_spine[i].Step is null || _graph.Proto(_spine[i].Vertex) is null)
                continue;
            if (HasLayers(i))
            {
                if (unit is null || !depthwise)
                    unit = new Unit(i, i, -1);
                depthwise = _facts.IsDepthwise(_spine[i].Vertex);
            }
            else if (unit is not null && !SameSizes(_spine[unit.Last].Vertex, _spine[i].Vertex))
                unit = null;
            if (unit is not null)
                Take(unit, i, i);
        }
    }

    private bool SameSizes(int a, int b) => _facts.Extent(a) == _facts.Extent(b);
}
