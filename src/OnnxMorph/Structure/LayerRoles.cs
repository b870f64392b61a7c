using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Structure;

/// <summary>Gives the layers of a unit their roles (<see cref="LayerPlace.Role"/>).</summary>
internal sealed class LayerRoles(AxisAnalysis analysis, ActivationGraph graph, RegionFacts facts)
{
    private readonly Dictionary<int, string> _roles = [];

    // For each prefix, how many letters are taken, and the layer that a norm would follow.
    private readonly Dictionary<string, int> _letters = [];
    private readonly Dictionary<string, string> _before = [];

    /// <summary>The layers among the vertices of a unit.</summary>
    public IReadOnlyList<LayerPlace> Of(IEnumerable<Step> steps, IReadOnlyList<int> vertices)
    {
        Dictionary<int, string> attention = Attention(vertices);
        Walk(steps, "", attention);
        foreach (int v in vertices.Where(v => !_roles.ContainsKey(v)).Order())
            if (graph.IsLayer(v))
                _roles[v] = facts.IsLookup(v) ? "embedding" : Role(v, attention.ContainsKey(v) ? "" : "beside.", false, attention)!;
        return [.. from role in _roles
            let node = graph.Node(role.Key)
            orderby node
            select new LayerPlace(node, ModelGraph.NameOf(analysis.Graph.Nodes[node]), role.Value)];
    }

    private void Walk(IEnumerable<Step> steps, string prefix, Dictionary<int, string> attention)
    {
        bool normalised = false;
        foreach (Step step in steps)
        {
            if (step.Before is { } region)
            {
                foreach ((Branch branch, string inner) in Prefixes(region, prefix))
                    foreach (Sequence part in branch.Parts)
                        Walk(part.Steps, inner, attention);
                normalised |= facts.Layers(region) == 0 && region.Branches.SelectMany(b => b.Parts).SelectMany(p => p.Steps).Any(s => graph.Proto(s.Vertex)?.OpType == "ReduceMean");
            }

            if (Role(step.Vertex, prefix, normalised, attention) is not { } role)
                continue;
            _roles[step.Vertex] = role;
            normalised = false;
        }
    }

    private string? Role(int vertex, string prefix, bool normalised, Dictionary<int, string> attention)
    {
        if (graph.Proto(vertex) is not { } node)
            return null;
        if (attention.TryGetValue(vertex, out string? role))
            return _before[prefix] = prefix + role;
        if (facts.IsLookup(vertex))
            return prefix + "embedding";
        if (graph.IsLayer(vertex))
        {
            int letter = _letters[prefix] = _letters.GetValueOrDefault(prefix) + 1;
            return _before[prefix] = prefix + (letter <= 26 ? $"{(char)('a' + letter - 1)}" : $"layer{letter}");
        }

        bool vector = graph.Predecessors(vertex).Count == 1 && node.Input.Any(i => analysis.Graph.ConstantOf(i) is { Count: > 1 } c && c.Type.IsScalable());
        bool norm = OperatorRules.For(node) is BatchNormalizationRule or LayerNormalizationRule or GroupNormalizationRule or InstanceNormalizationRule
            || (normalised && node.OpType == "Mul" && vector);
        if (norm)
            return _before.Remove(prefix, out string? before) ? $"{before}.norm" : $"{prefix}norm";
        return node.OpType == "Mul" && vector ? $"{prefix}scale" : null;
    }

    private IEnumerable<(Branch, string)> Prefixes(Region region, string prefix)
    {
        Branch main = facts.Main(region);
        RegionKind kind = facts.Kind(region);
        bool product = graph.Proto(region.Join)?.OpType == "Mul";
        // Of two factors the one with the activation is the gate.
        Branch? gate = !product ? null : region.Direct ? main : region.Branches.MaxBy(b => b.Parts.Sum(p => p.Steps.Count));
        int number = 0;
        foreach (Branch branch in region.Branches)
        {
            number++;
            yield return (branch, kind switch
            {
                RegionKind.Residual when branch != main => $"{prefix}shortcut.",
                RegionKind.Concatenation when region.Branches.Count(b => b.Parts.Any(p => facts.Layers(p) > 0)) > 1 => $"{prefix}branch{number}.",
                _ => branch == gate ? $"{prefix}gate." : prefix,
            });
        }
    }

    // Follows every layer to the products that it reaches: what is multiplied first are queries and keys, what the result is
    // multiplied with are values.
    private Dictionary<int, string> Attention(IReadOnlyList<int> vertices)
    {
        var inside = vertices.ToHashSet();
        var roles = new Dictionary<int, string>();
        var behind = new HashSet<int>(); // products, and what comes from them without a layer between
        foreach (int v in vertices.Order())
            if (facts.IsProduct(v) || (!graph.IsLayer(v) && Read(v).Any(behind.Contains)))
                behind.Add(v);
        if (behind.Count == 0)
            return roles;
        foreach (int layer in vertices.Where(v => graph.IsLayer(v) && !facts.IsLookup(v)).Order())
        {
            var reached = new SortedSet<int>(); // 0 query, 1 key, 2 value
            var open = new Stack<int>([layer]);
            var seen = new HashSet<int>();
            while (open.TryPop(out int v))
                foreach (int next in graph.Readers(v).Where(s => inside.Contains(s) && !graph.IsLayer(s)))
                {
                    if (facts.IsProduct(next))
                        reached.UnionWith(Sides(next, v, behind));
                    else if (seen.Add(next))
                        open.Push(next);
                }

            if (reached.Count > 0)
                roles[layer] = string.Join('+', reached.Select(r => r switch { 0 => "query", 1 => "key", _ => "value" }));
            else if (Read(layer).Any(behind.Contains) && !roles.ContainsValue("out"))
                roles[layer] = "out";
        }

        return roles;
    }

    private IEnumerable<int> Read(int vertex) => graph.Reads(graph.Proto(vertex)!).Select(value => graph.Producer(value)!.Value);

    private IEnumerable<int> Sides(int product, int from, HashSet<int> behind)
    {
        NodeProto node = graph.Proto(product)!;
        List<int> inputs = [.. Enumerable.Range(0, node.Input.Count).Where(i => graph.Producer(node.Input[i]) == from)];
        bool context = Read(product).Any(p => p != product && behind.Contains(p));
        // Fused attention reads all three.
        return context ? [2] : inputs.Select(i => Math.Min(i, 2));
    }
}
