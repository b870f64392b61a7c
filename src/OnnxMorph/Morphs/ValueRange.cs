using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;

namespace OnnxMorph.Morphs;

/// <summary>Bounds of what nodes make, where their operators have some.</summary>
internal static class ValueRange
{
    private static readonly (double, double) s_all = (double.NegativeInfinity, double.PositiveInfinity);

    private static readonly HashSet<string> s_notNegative = ["Relu", "Abs", "Softplus", "Exp"];

    private static readonly HashSet<string> s_upToOne = ["Sigmoid", "HardSigmoid", "Softmax"];

    // Elements are moved, left out or averaged with each other.
    private static readonly HashSet<string> s_withinInput = ["Identity", "Dropout", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Flatten", "Reshape", "Transpose", "Squeeze", "Unsqueeze", "Slice", "Split"];

    private const int Farthest = 8;

    /// <summary>Bounds of a node's results by its operator alone.</summary>
    public static (double Low, double High) Of(NodeAxes axes)
    {
        NodeProto node = axes.Node;
        if (!ModelGraph.IsStandard(node))
            return s_all;
        if (node.OpType != "Clip")
            return s_notNegative.Contains(node.OpType) ? (0, double.PositiveInfinity) : s_upToOne.Contains(node.OpType) ? (0, 1) : s_all;
        return (Bound("min", 1, double.NegativeInfinity), Bound("max", 2, double.PositiveInfinity));

        // The bounds became inputs in operator set 11; one that is computed may be anything.
        double Bound(string name, int input, double none) =>
            axes.Attribute(name)?.F ?? (node.Input.Count > input && node.Input[input].Length > 0 ? axes.Scalar(input) ?? double.NaN : none);
    }

    /// <summary>Bounds of a value, seen through nodes that make nothing larger or smaller.</summary>
    public static (double Low, double High) Of(AxisAnalysis analysis, string value)
    {
        for (int steps = 0; steps < Farthest && analysis.Graph.Producer(value) is { } n && analysis.Node(n) is { } axes; steps++)
        {
            if (!s_withinInput.Contains(axes.Node.OpType) || !ModelGraph.IsStandard(axes.Node))
                return Of(axes);
            // An average over padding may be of zeros.
            if (axes.Node.OpType == "AveragePool" && axes.Int("count_include_pad", 0) != 0)
                return s_all;
            value = axes.Node.Input[0];
        }

        return s_all;
    }
}
