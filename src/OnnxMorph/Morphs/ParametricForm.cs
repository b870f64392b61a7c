using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// A parametric activation as it stands in a graph: PRelu, or (1−a)·φ(x) + a·x as Add, two Mul and, unless an exporter folded it,
/// Sub.
/// </summary>
/// <param name="Region">Its nodes, those of φ among them, and the value that it is applied to.</param>
/// <param name="Parameters">The slopes, or the shares a.</param>
/// <param name="Activated">The value φ(x); null for PRelu.</param>
/// <param name="Complement">Number of the Sub that makes 1 − a; null where it is a constant.</param>
internal sealed record ParametricForm(ActivationRegion Region, double[] Parameters, string? Activated, int? Complement)
{
    /// <summary>All parametric activations of a graph, none inside another, in execution order.</summary>
    public static List<ParametricForm> Find(AxisAnalysis analysis)
    {
        var found = new List<ParametricForm>();
        var taken = new HashSet<int>();
        for (int n = analysis.Graph.Nodes.Count - 1; n >= 0; n--)
        {
            if (taken.Contains(n) || EndingAt(analysis, n) is not { } form)
                continue;
            taken.UnionWith(form.Region.Nodes);
            found.Add(form);
        }

        found.Reverse();
        return found;
    }

    /// <summary>Whether a part of an activation is parametric.</summary>
    public static bool IsIn(AxisAnalysis analysis, ActivationRegion region) => region.Nodes.Any(n => EndingAt(analysis, n) is not null);

    private static ParametricForm? EndingAt(AxisAnalysis analysis, int last)
    {
        ModelGraph graph = analysis.Graph;
        NodeProto node = graph.Nodes[last];
        if (!ModelGraph.IsStandard(node))
            return null;
        if (node.OpType == "PRelu" && Values(analysis, node.Input[1]) is { Length: > 0 } slopes)
            return new ParametricForm(new ActivationRegion(node.Input[0], [last]), slopes, null, null);
        if (node.OpType != "Add" || ActivationRegion.Smallest(analysis, last) is not { } region || Product(analysis, node.Input[0]) is not { } a
            || Product(analysis, node.Input[1]) is not { } b)
            return null;
        (var share, var rest) = a.Value == region.Input ? (a, b) : (b, a);
        // Shares that a trainer changed are those of the identity as long as the rest is 1 − a.
        if (share.Value != region.Input || Values(analysis, share.Factor) is not { Length: > 0 } shares)
            return null;
        int? sub = graph.Producer(rest.Factor);
        bool complement = sub is { } n && graph.Nodes[n] is { OpType: "Sub" } difference
            ? difference.Input[1] == share.Factor && Values(analysis, difference.Input[0]) is { } ones && ones.All(one => one == 1)
            : Values(analysis, rest.Factor) is { } folded && folded.Length == shares.Length && folded.Zip(shares).All(p => Math.Abs(p.First + p.Second - 1) < Rounding);
        return complement ? new ParametricForm(region, shares, rest.Value, sub) : null;
    }

    // 1 − a as an exporter folds it, in half precision at worst.
    private const double Rounding = 1.0 / 1024;

    // A product of something that weights make and something else, read by nobody but the sum.
    private static (string Factor, string Value)? Product(AxisAnalysis analysis, string value)
    {
        if (analysis.Graph.Producer(value) is not { } n || analysis.Graph.Nodes[n] is not { OpType: "Mul" } node || !ModelGraph.IsStandard(node))
            return null;
        bool first = analysis.IsWeight(node.Input[0]), second = analysis.IsWeight(node.Input[1]);
        return first == second ? null : first ? (node.Input[0], node.Input[1]) : (node.Input[1], node.Input[0]);
    }

    private static double[]? Values(AxisAnalysis analysis, string value) =>
        analysis.Graph.ConstantOf(value) is { } constant && constant.Type.IsScalable() ? ConstantValues.Of(analysis.Graph, constant) : null;
}
