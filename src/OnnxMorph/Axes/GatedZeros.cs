using OnnxMorph.Graph;
using OnnxMorph.Operators;

namespace OnnxMorph.Axes;

/// <summary>
/// Values along whose axes channels of zeros turn into something else, all of which is multiplied by zeros again: σ(x) in x·σ(x), 1 + erf(x/√2)
/// in GELU as exporters write it, the gates of a squeeze-excite unit. Zeros go through such a part of the graph although they do not go
/// through its nodes one by one; what its values hold there is the child's own.
/// </summary>
internal sealed class GatedZeros
{
    private readonly AxisAnalysis _analysis;

    // By value and axis, counted from the last; true where all that is made of it meets zeros.
    private readonly Dictionary<(string Value, int Axis), bool> _lost = [];

    /// <summary>Finds them once all nodes have been seen.</summary>
    public GatedZeros(AxisAnalysis analysis)
    {
        _analysis = analysis;
        List<NodeAxes> pointwise = [.. Enumerable.Range(0, analysis.Graph.Nodes.Count).Select(analysis.Node).OfType<NodeAxes>()
            .Where(node => node.Unknown is null && node.Node.Output.Count == 1 && IsPointwise(node))];
        foreach (NodeAxes node in pointwise)
            for (int axis = 0; axis < node.OutputDims(0)!.Length; axis++)
                if (Loses(node, axis))
                    _lost[(node.Node.Output[0], axis)] = false;
        // Readers stand behind what they read.
        foreach (NodeAxes node in Enumerable.Reverse(pointwise))
            for (int axis = 0; axis < node.OutputDims(0)!.Length; axis++)
                if (_lost.ContainsKey((node.Node.Output[0], axis)))
                    _lost[(node.Node.Output[0], axis)] = MeetsZeros(node.Node.Output[0], axis);
    }

    /// <summary>Whether zeros along an axis of a value become something else that meets zeros again.</summary>
    /// <param name="value">The value.</param>
    /// <param name="axis">The axis, counted from the last.</param>
    public bool Holds(string value, int axis) => _lost.GetValueOrDefault((value, axis));

    /// <summary>Whether zeros along an axis of a value become something else.</summary>
    /// <param name="value">The value.</param>
    /// <param name="axis">The axis, counted from the last.</param>
    public bool Loses(string value, int axis) => _lost.ContainsKey((value, axis));

    private static bool IsPointwise(NodeAxes node) => OperatorRules.For(node.Node) is PointwiseRule;

    // Whether a node makes something else of zeros, or of what was made of them, and no other factor is zero.
    private bool Loses(NodeAxes node, int axis)
    {
        bool[] along = [.. Enumerable.Range(0, node.Node.Input.Count).Select(input => Runs(node, input, axis))];
        List<int> changing = [.. Enumerable.Range(0, along.Length).Where(input => along[input] && !node.IsWeight(input))];
        List<int> lost = [.. changing.Where(input => _lost.ContainsKey((node.Node.Input[input], axis)))];
        return lost.Count > 0
            ? !(node.Node.OpType == "Mul" && ModelGraph.IsStandard(node.Node) && lost.Count < changing.Count)
            : along.Any(a => a) && !node.GivesZeros(node.OutputDims(0)!.Length - 1 - axis);
    }

    private static bool Runs(NodeAxes node, int input, int axis) =>
        node.Has(input) && node.Rank(input) > axis && node.In(input, node.Rank(input) - 1 - axis).Size > 1;

    private bool MeetsZeros(string value, int axis)
    {
        if (_analysis.Graph.IsReadElsewhere(value))
            return false;
        foreach (Use use in _analysis.Graph.Uses(value))
        {
            if (_analysis.Node(use.Node) is not { Unknown: null } reader || !IsPointwise(reader) || reader.Node.Output.Count != 1)
                return false;
            if (_lost.TryGetValue((reader.Node.Output[0], axis), out bool meets) && !meets)
                return false;
        }

        return true;
    }
}
