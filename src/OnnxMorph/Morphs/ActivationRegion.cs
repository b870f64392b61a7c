using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;

namespace OnnxMorph.Morphs;

/// <summary>
/// An activation as it stands in a graph: nodes that work on each element of one value alone, from a single node
/// (<c>Relu</c>) to what exporters write for GELU (<c>Div, Erf, Add, Mul, Mul</c>), SiLU (<c>Sigmoid, Mul</c>), HardSwish or Mish.
/// </summary>
/// <param name="Input">The value that the activation is applied to.</param>
/// <param name="Nodes">Numbers of its nodes in execution order; the last makes its result.</param>
internal sealed record ActivationRegion(string Input, IReadOnlyList<int> Nodes)
{
    // More nodes than any activation is written with.
    private const int MostNodes = 24;

    /// <summary>Operators that are activations by themselves.</summary>
    private static readonly HashSet<string> s_activations =
    [
        "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu", "Selu", "Shrink", "Sigmoid",
        "Softplus", "Softsign", "Swish", "Tanh", "ThresholdedRelu",
        "com.microsoft:BiasGelu", "com.microsoft:FastGelu", "com.microsoft:Gelu", "com.microsoft:QuickGelu",
    ];

    /// <summary>Operators that make an activation of nodes which come together again: x·σ(x), x/(1+|x|), x where x > 0 else αx.</summary>
    private static readonly HashSet<string> s_bends =
        [.. s_activations, "Abs", "Atan", "Cos", "Erf", "Exp", "Log", "Max", "Min", "Sin", "Where"];

    /// <summary>Number of the node that makes the result.</summary>
    public int Last => Nodes[^1];

    /// <summary>All activations of a graph, none inside another, in execution order.</summary>
    public static List<ActivationRegion> Find(AxisAnalysis analysis)
    {
        var found = new List<ActivationRegion>();
        var taken = new HashSet<int>();
        // From the back, so that what nodes come together to is seen before its parts.
        for (int n = analysis.Graph.Nodes.Count - 1; n >= 0; n--)
        {
            if (taken.Contains(n) || EndingAt(analysis, n) is not { } region || region.Nodes.Any(taken.Contains))
                continue;
            taken.UnionWith(region.Nodes);
            found.Add(region);
        }

        found.Reverse();
        return found;
    }

    /// <summary>
    /// The smallest set of element-wise nodes that ends at node <paramref name="last"/> and reads one value; null where the
    /// way back from it comes to no such value, or others read values inside.
    /// </summary>
    internal static ActivationRegion? Smallest(AxisAnalysis analysis, int last)
    {
        ModelGraph graph = analysis.Graph;
        var nodes = new SortedSet<int>();
        var open = new Dictionary<string, int>();
        if (!Enter(last))
            return null;
        // What is made last may be made of the others, never the other way round.
        while (open.Count > 1)
        {
            (string value, int producer) = open.MaxBy(o => o.Value);
            open.Remove(value);
            if (producer < 0 || nodes.Count == MostNodes || !Enter(producer))
                return null;
        }

        if (open.Count == 0)
            return null;
        string input = open.Keys.Single();
        bool inside = nodes.Where(n => n != last).All(n => graph.Nodes[n].Output.All(
            value => !graph.IsReadElsewhere(value) && graph.Uses(value).All(use => nodes.Contains(use.Node))));
        return inside && SameForm(input, graph.Nodes[last].Output[0]) ? new ActivationRegion(input, [.. nodes]) : null;

        bool Enter(int n)
        {
            if (!IsPointwise(graph.Nodes[n]))
                return false;
            nodes.Add(n);
            foreach (string value in graph.Nodes[n].Input)
                if (value.Length > 0 && !analysis.IsWeight(value))
                    open[value] = graph.Producer(value) ?? -1;
            return true;
        }

        bool SameForm(string from, string to) => analysis.Shapes.Type(from) == analysis.Shapes.Type(to)
            && analysis.Shapes.Dims(from) is { } before && analysis.Shapes.Dims(to) is { } after && before.SequenceEqual(after);
    }

    private static ActivationRegion? EndingAt(AxisAnalysis analysis, int last)
    {
        NodeProto node = analysis.Graph.Nodes[last];
        if (!IsPointwise(node) || Smallest(analysis, last) is not { } core)
            return null;
        if (core.Nodes.Count > 1)
            return core.Nodes.Any(n => s_bends.Contains(Name(analysis.Graph.Nodes[n]))) ? core.WithScale(analysis) : null;
        return node.OpType == "Clip" ? core.WithShift(analysis)
            : s_activations.Contains(Name(node)) || (node.OpType is "Max" or "Min" && node.Input.Count > 1) ? core
            : ThroughExponential(analysis, last);
    }

    // x·(1 + erf(x/√2))·½: the factor may stand behind.
    private ActivationRegion WithScale(AxisAnalysis analysis) =>
        Behind(analysis) is { } next && analysis.Graph.Nodes[next].OpType is "Mul" or "Div" && ReadsScalar(analysis, next)
            ? this with { Nodes = [.. Nodes, next] } : this;

    // HardSigmoid as Add 3, Clip to [0, 6], Div 6.
    private ActivationRegion WithShift(AxisAnalysis analysis) =>
        Before(analysis, Nodes[0]) is { } before && analysis.Graph.Nodes[before].OpType is "Add" or "Sub" && ReadsScalar(analysis, before)
        && WithScale(analysis) is { Nodes.Count: 2 } scaled && Smallest(analysis, before) is { } shift
            ? new ActivationRegion(shift.Input, [before, .. scaled.Nodes]) : this;

    // Softplus as Exp, Add 1, Log, and the sigmoid as Neg, Exp, Add 1, Reciprocal (or a constant divided by it).
    private static ActivationRegion? ThroughExponential(AxisAnalysis analysis, int last)
    {
        NodeProto end = analysis.Graph.Nodes[last];
        if (!(end.OpType is "Log" or "Reciprocal" || (end.OpType == "Div" && analysis.IsWeight(end.Input[0])))
            || Before(analysis, last) is not { } sum || analysis.Graph.Nodes[sum].OpType != "Add" || !ReadsScalar(analysis, sum)
            || Before(analysis, sum) is not { } exponential || analysis.Graph.Nodes[exponential].OpType != "Exp")
            return null;
        List<int> nodes = [exponential, sum, last];
        if (Before(analysis, exponential) is { } sign && analysis.Graph.Nodes[sign].OpType == "Neg")
            nodes.Insert(0, sign);
        return new ActivationRegion(analysis.Graph.Nodes[nodes[0]].Input[0], nodes);
    }

    // The only reader of the result.
    private int? Behind(AxisAnalysis analysis)
    {
        string result = analysis.Graph.Nodes[Last].Output[0];
        return !analysis.Graph.IsReadElsewhere(result) && analysis.Graph.Uses(result) is [var use] ? use.Node : null;
    }

    // The element-wise node that makes what node n alone reads.
    private static int? Before(AxisAnalysis analysis, int n)
    {
        string? value = analysis.Graph.Nodes[n].Input.FirstOrDefault(i => i.Length > 0 && !analysis.IsWeight(i));
        return value is not null && analysis.Graph.Producer(value) is { } producer && IsPointwise(analysis.Graph.Nodes[producer])
            && analysis.Graph.Uses(value).Count == 1 && !analysis.Graph.IsReadElsewhere(value) ? producer : null;
    }

    // Whether the node works on one value and one number.
    private static bool ReadsScalar(AxisAnalysis analysis, int n) =>
        analysis.Graph.Nodes[n].Input.Count == 2 && analysis.Graph.Nodes[n].Input.Count(i => analysis.Graph.ConstantOf(i) is { Count: 1 }) == 1;

    private static string Name(NodeProto node) => ModelGraph.IsStandard(node) ? node.OpType : $"{node.Domain}:{node.OpType}";

    private static bool IsPointwise(NodeProto node) =>
        node.OpType != "Dropout" && node.Output.Count == 1 && OperatorRules.For(node) is PointwiseRule;
}
