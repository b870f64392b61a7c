using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Initialization;

/// <summary>
/// A value computed from constants alone, where a node that computes activations reads it.
/// </summary>
/// <param name="Node">The reader.</param>
/// <param name="Input">Which of its inputs.</param>
/// <param name="Constants">The floating-point constants that the value is made of.</param>
internal sealed record WeightUse(NodeAxes Node, int Input, IReadOnlyList<Constant> Constants)
{
    // More elements than these are not traced: that takes some 50 bytes for each.
    private const long MostTraced = 1 << 26;

    private (long[]? Elements, string? Why)? _elements;

    /// <summary>Name of the value.</summary>
    public string Value => Node.Node.Input[Input];

    /// <summary>Sizes of the value.</summary>
    public IReadOnlyList<long> Shape => [.. Node.In(Input).Select(axis => axis.Size)];

    /// <summary>All of them, in execution order.</summary>
    public static List<WeightUse> Find(AxisAnalysis analysis)
    {
        ModelGraph graph = analysis.Graph;
        var found = new List<WeightUse>();
        for (int n = 0; n < graph.Nodes.Count; n++)
        {
            if (analysis.Node(n) is not { } node || node.Node.Output.All(o => o.Length == 0 || analysis.IsWeight(o)))
                continue;
            for (int input = 0; input < node.Node.Input.Count; input++)
                if (node.Node.Input[input] is { Length: > 0 } value && analysis.IsWeight(value) && Behind(analysis, value) is { Count: > 0 } constants)
                    found.Add(new WeightUse(node, input, constants));
        }

        return found;
    }

    /// <summary>
    /// For each element of the value the number of the element of <see cref="Constants"/> that it is, counted from 1 through all of them, 0 being a
    /// zero; null where they are those of one constant, each once.
    /// </summary>
    /// <param name="analysis">The graph.</param>
    /// <param name="why">Why they cannot be told; null where they can.</param>
    public long[]? Elements(AxisAnalysis analysis, out string? why)
    {
        if (_elements is not { } found)
            _elements = found = MovesOnly(analysis) ? (null, null) : Traced(analysis);
        why = found.Why;
        return found.Elements;
    }

    private (long[]?, string?) Traced(AxisAnalysis analysis)
    {
        if (Shape.Aggregate(1L, (a, b) => a * b) > MostTraced)
            return (null, $"the layer's weight, which other nodes make of it, has more than {MostTraced} elements");
        return ElementTrace.Of(analysis.Graph, Value, [.. Constants.Select(c => (c.Name, (long[])[.. c.Shape]))]) is { } elements
            ? (elements, null) : (null, "other nodes compute its weight from it, and do not only choose elements");
    }

    private bool MovesOnly(AxisAnalysis analysis) => Constants.Count == 1
        && analysis.Graph.ConstantUse(new Use(Node.Index, Input), node => OperatorRules.For(node)?.MovesElements == true) is not null;

    // The tensors behind a value. What has one element is a number that the graph computes with, unless it is read as it stands.
    private static List<Constant> Behind(AxisAnalysis analysis, string value)
    {
        ModelGraph graph = analysis.Graph;
        if (graph.ConstantOf(value) is { } direct)
            return direct.Type.IsScalable() ? [direct] : [];
        var found = new List<Constant>();
        var seen = new HashSet<string>();
        var open = new Stack<string>([value]);
        while (open.TryPop(out string? next))
        {
            if (!seen.Add(next))
                continue;
            if (graph.ConstantOf(next) is { } constant)
            {
                if (constant.Type.IsScalable() && constant.Count > 1 && !found.Contains(constant))
                    found.Add(constant);
            }
            else if (graph.Producer(next) is { } n)
            {
                foreach (string input in graph.Nodes[n].Input.Where(i => i.Length > 0))
                    open.Push(input);
            }
        }

        return [.. found.OrderBy(c => c.Name, StringComparer.Ordinal)];
    }
}
