using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Containment;

namespace OnnxMorph.Transfer;

/// <summary>Where a constant is used in a target, and the use in a source that does the same there.</summary>
/// <param name="Target">The use in the target.</param>
/// <param name="Source">The use in the source.</param>
/// <param name="Pair">The parts of the networks that they are in.</param>
/// <param name="Nodes">The nodes that the constants reach: the target's and the source's.</param>
/// <param name="OutputAxis">The target's axis that has a layer's outputs.</param>
/// <param name="Transposed">Whether one of them is a matrix that is stored the other way round.</param>
/// <param name="Fit">How a layer's weight lies in the target's, where that is known; null where it is chosen.</param>
/// <param name="Factor">What the source's numbers are multiplied by.</param>
internal sealed record UseMatch(Use Target, Use Source, SectionPair Pair, (int Target, int Source) Nodes, int OutputAxis = 0, bool Transposed = false, WeightFit? Fit = null, double Factor = 1)
{
    /// <summary>The value of the source that nodes make of its constant by giving it other axes, where the target's constant stands for that; null elsewhere.</summary>
    public string? Reshaped { get; init; }
}

/// <summary>How a layer's weight lies in a target's.</summary>
/// <param name="Taps">For each spatial axis, which tap of the source each tap of the target is; −1 for none.</param>
/// <param name="Pieces">Which of the channels that are read carry the source's; null where all do.</param>
/// <param name="Made">Which of the source's channels are made, where not all are.</param>
/// <param name="Mirror">κ where what is read goes through an activation φ beside its negative, φ(x) − φ(−x) = κ·x; null where it does not.</param>
/// <param name="Layout">For each axis of the stored constant, which axes of the layer's weight it becomes, outermost first; null where they are the same.</param>
internal sealed record WeightFit(IReadOnlyList<int[]> Taps, IReadOnlyList<AxisPiece>? Pieces, AxisPiece? Made = null, double? Mirror = null, IReadOnlyList<int[]>? Layout = null);

/// <summary>
/// Finds for the constants of one part of a target those of a part of a source: layers by their role, other nodes with weights
/// (biases, position tables) by their operator and the layer that they stand behind.
/// </summary>
internal sealed class UseMatching(AnalysedModel source, AnalysedModel target)
{
    private readonly HashSet<int> _ownTrunk = Trunk(source), _otherTrunk = Trunk(target);
    private readonly List<UseMatch> _matches = [];
    private readonly HashSet<(Use, Use)> _seen = [];
    private SectionPair _pair = null!;
    private (int Target, int Source) _nodes;
    private WeightFit? _fit;
    private bool _isWeight;
    private double _factor = 1;

    /// <summary>The matches of all constants that have one, by the roles of layers in parts of networks that are alike.</summary>
    public static IReadOnlyList<UseMatch> ByRole(AnalysedModel source, AnalysedModel target, IEnumerable<SectionPair> pairs)
    {
        var matching = new UseMatching(source, target);
        foreach (SectionPair pair in pairs)
            matching.Add(pair);
        return matching.Matches;
    }

    /// <summary>The matches of the constants of layers that were aligned, and of biases that are added behind them.</summary>
    public static IReadOnlyList<UseMatch> ByLayer(AnalysedModel source, AnalysedModel target, IEnumerable<(int Target, int Source, SectionPair Pair)> layers)
    {
        var matching = new UseMatching(source, target);
        foreach ((int to, int from, SectionPair pair) in layers)
        {
            (matching._pair, matching._nodes) = (pair, (to, from));
            matching.Match(to, from);
        }

        return matching.Matches;
    }

    /// <summary>Adds the constants behind two uses.</summary>
    public void Add(Filled filled, SectionPair pair, WeightFit? fit)
    {
        (_pair, _nodes, _fit, _factor) = (pair, (filled.Target.Node, filled.Source.Node), fit, filled.Factor);
        _isWeight = filled.Layers is not null;
        if (filled.Layers is var (to, from))
            MatchWeights(to, target.Analysis.Node(to)!.Layer!, from, source.Analysis.Node(from)!.Layer!);
        else
            Descend(filled.Target, filled.Source, (target.Analysis.Shapes.Dims(target.Graph.Nodes[filled.Target.Node].Input[filled.Target.Input])?.Length ?? 1) - 1);
    }

    /// <summary>Whether what a use of the target reads has a match, or what it is made of by nodes that only move elements.</summary>
    public bool Knows(Use to)
    {
        Use stored = target.Graph.ConstantUse(to, node => OperatorRules.For(node)?.MovesElements == true) ?? to;
        return _matches.Exists(match => match.Target == stored || (match.Nodes.Target == to.Node && match.Target.Node != to.Node));
    }

    /// <summary>The matches so far. A constant's use is filled once.</summary>
    public IReadOnlyList<UseMatch> Matches => [.. _matches.DistinctBy(match => match.Target)];

    private void Add(SectionPair pair)
    {
        _pair = pair;
        Dictionary<string, int> from = Places(source, pair.Source, _ownTrunk), to = Places(target, pair.Target, _otherTrunk);
        foreach ((string place, int node) in to)
        {
            if (from.TryGetValue(place, out int own))
            {
                _nodes = (node, own);
                Match(node, own);
            }
        }
    }

    // Other nodes compute weights and sizes.
    private static HashSet<int> Trunk(AnalysedModel model) => [.. model.Structure.Sections.SelectMany(s => s.Nodes)];

    // Nodes with weights, under names that parts of the same roles have in common.
    private static Dictionary<string, int> Places(AnalysedModel model, Section section, HashSet<int> trunk)
    {
        var roles = section.Layers.ToDictionary(l => l.Node, l => l.Role);
        var inside = section.Nodes.ToHashSet();
        var behind = new Dictionary<int, string>();
        var places = new Dictionary<string, int>();
        foreach (int n in section.Nodes)
        {
            NodeProto node = model.Graph.Nodes[n];
            string before = string.Join('|', node.Input.Select(model.Graph.Producer).OfType<int>()
                .Where(inside.Contains).Select(p => behind.GetValueOrDefault(p, "")).Where(place => place.Length > 0).Distinct());
            behind[n] = roles.GetValueOrDefault(n, before);
            if (Weights(model, node, trunk).Length == 0)
                continue;
            string name = roles.TryGetValue(n, out string? role) ? role : $"{node.Domain}:{node.OpType} behind {before}";
            string place = name;
            for (int number = 2; !places.TryAdd(place, n); number++)
                place = $"{name} {number}";
        }

        return places;
    }

    private void Match(int to, int from)
    {
        NodeProto own = source.Graph.Nodes[from], other = target.Graph.Nodes[to];
        int[] ownInputs = Weights(source, own, _ownTrunk), otherInputs = Weights(target, other, _otherTrunk);
        if (source.Analysis.Node(from)?.Layer is { } ownLayer && target.Analysis.Node(to)?.Layer is { } otherLayer)
        {
            MatchWeights(to, otherLayer, from, ownLayer);
            if (Bias(target, to, otherInputs) is { } otherBias && Bias(source, from, ownInputs) is { } ownBias)
                Descend(otherBias, ownBias);
        }
        else if (own.OpType == other.OpType && own.Domain == other.Domain && ownInputs.Length == otherInputs.Length)
        {
            // Operands of a sum may stand in either order.
            foreach ((int ownInput, int otherInput) in ownInputs.Zip(otherInputs))
                Descend(new Use(to, otherInput), new Use(from, ownInput));
        }
    }

    // A layer's own bias, or the constant that is added right behind it.
    private static Use? Bias(AnalysedModel model, int node, int[] weights)
    {
        int bias = model.Analysis.Node(node)!.Layer!.BiasInput;
        if (weights.Contains(bias))
            return new Use(node, bias);
        foreach (Use use in model.Graph.Uses(model.Graph.Nodes[node].Output[0]))
            if (model.Graph.Nodes[use.Node] is { OpType: "Add" } sum && ModelGraph.IsStandard(sum) && model.Analysis.IsWeight(sum.Input[1 - use.Input]))
                return new Use(use.Node, 1 - use.Input);
        return null;
    }

    // Matrices may be stored either way, and be turned round on the way to their layer.
    private void MatchWeights(int to, LinearLayer otherLayer, int from, LinearLayer ownLayer)
    {
        (Use Use, int OutputAxis)? other = Matrix(target, to, otherLayer), own = Matrix(source, from, ownLayer);
        if (other is not { } t || own is not { } s)
            Descend(new Use(to, otherLayer.WeightInput), new Use(from, ownLayer.WeightInput), otherLayer.WeightOutputAxis);
        else if (_seen.Add((t.Use, s.Use)))
            _matches.Add(new UseMatch(t.Use, s.Use, _pair, _nodes, t.OutputAxis, t.OutputAxis != s.OutputAxis, _fit, _factor));
    }

    // Where a layer's matrix is stored, and which of its axes has the outputs; null for other weights.
    private static (Use, int)? Matrix(AnalysedModel model, int layer, LinearLayer axes)
    {
        if (axes.SpatialAxes > 0)
            return null;
        (var use, int output) = (new Use(layer, axes.WeightInput), axes.WeightOutputAxis);
        while (true)
        {
            string value = model.Graph.Nodes[use.Node].Input[use.Input];
            if (model.Graph.ConstantOf(value) is { } constant)
                return constant.Shape.Count == 2 ? (use, output) : null;
            if (model.Graph.Producer(value) is not { } n || model.Graph.Nodes[n] is not { OpType: "Transpose" } node || !ModelGraph.IsStandard(node)
                || model.Analysis.Shapes.Dims(value) is not { Length: 2 })
                return null;
            if (model.Analysis.Node(n)!.IntList("perm") is not [0, 1])
                output = 1 - output;
            use = new Use(n, 0);
        }
    }

    // Inputs that no activation reaches but through its sizes.
    private static int[] Weights(AnalysedModel model, NodeProto node, HashSet<int> trunk) =>
        [.. Enumerable.Range(0, node.Input.Count).Where(i => node.Input[i].Length > 0
            && (model.Graph.ConstantOf(node.Input[i]) is not null || (model.Graph.Producer(node.Input[i]) is { } p && !trunk.Contains(p))))];

    // Through nodes that bring a weight into form, where both models have the same.
    private void Descend(Use to, Use from, int outputAxis = 0)
    {
        if (!_seen.Add((to, from)))
            return;
        string other = target.Graph.Nodes[to.Node].Input[to.Input], own = source.Graph.Nodes[from.Node].Input[from.Input];
        if (target.Graph.ConstantOf(other) is not null)
        {
            if (source.Graph.ConstantOf(own) is not null)
                _matches.Add(new UseMatch(to, from, _pair, _nodes, outputAxis, false, _fit, _factor));
            else if (source.Graph.ConstantUse(from, node => ModelGraph.IsStandard(node) && node.OpType is "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze" or "Identity") is { } stored)
                _matches.Add(new UseMatch(to, stored, _pair, _nodes, outputAxis, false, _fit, _factor) { Reshaped = own });
            return;
        }

        if (target.Graph.Producer(other) is not { } t || source.Graph.Producer(own) is not { } s || _otherTrunk.Contains(t) || _ownTrunk.Contains(s))
            return;
        NodeProto otherNode = target.Graph.Nodes[t], ownNode = source.Graph.Nodes[s];
        if (otherNode.OpType != ownNode.OpType || otherNode.Domain != ownNode.Domain || otherNode.Input.Count != ownNode.Input.Count)
            return;
        WeightFit? outer = _fit;
        for (int input = 0; input < otherNode.Input.Count; input++)
        {
            if (otherNode.Input[input].Length == 0 || ownNode.Input[input].Length == 0)
                continue;
            // What is known of the layer's axes is known of the constant's through this node, or nothing may be filled.
            if (outer is not null && _isWeight && StoredAxes.Before(target, t, input, outer.Layout) is { } layout && (StoredAxes.Regroups(otherNode)
                || StoredAxes.Before(source, s, input, outer.Layout) is { } ownLayout && ownLayout.Zip(layout).All(p => p.First.SequenceEqual(p.Second))))
                _fit = outer with { Layout = layout };
            else if (outer is not null)
                continue;
            Descend(new Use(t, input), new Use(s, input), outputAxis);
            _fit = outer;
        }
    }
}
