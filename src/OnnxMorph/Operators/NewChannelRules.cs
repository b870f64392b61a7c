using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>
/// Which new channels, beside copies, pointwise operators let through: zeros through f with f(0) = 0, means through what is
/// linear along the axis.
/// </summary>
internal static class NewChannelRules
{
    private const NewChannels Both = NewChannels.Zero | NewChannels.Mean;

    // Functions of one operand that are 0 at 0, whatever their attributes.
    private static readonly HashSet<string> s_zeroAtZero =
    [
        "Abs", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Celu", "Elu", "Erf", "Floor", "Gelu", "HardSwish", "LeakyRelu", "Mish", "PRelu", "Relu",
        "Round", "Selu", "Sign", "Sin", "Sinh", "Softsign", "Sqrt", "Swish", "Tan", "Tanh", "QuickGelu", "BiasGelu", "FastGelu",
    ];

    // Functions of one operand whose derivative is 0 at 0 as well, by the convention of training frameworks where there is a kink;
    // sizes have none at all.
    private static readonly HashSet<string> s_flatAtZero = ["Abs", "Ceil", "Floor", "Relu", "Round", "Shape", "Sign", "Size", "ThresholdedRelu"];

    /// <summary>
    /// Whether channels that are zero would never learn because of a pointwise node: it passes nothing of the gradient back where its
    /// operands are 0, and no other node that reads them does.
    /// </summary>
    /// <param name="node">The node.</param>
    /// <param name="along">For each input whether it runs along the channels.</param>
    public static bool IsFlatAtZero(NodeAxes node, bool[] along)
    {
        int[] zeros = [.. Enumerable.Range(0, along.Length).Where(input => along[input] && !node.IsWeight(input))];
        bool flat = node.Node.OpType switch
        {
            "Mul" => zeros.Length > 1,
            "Pow" => node.Scalar(1) is > 1,
            "Shrink" => node.Attribute("lambd") is null or { F: > 0 },
            "Clip" => Limit(node, 1, "min", double.NegativeInfinity) == 0 || Limit(node, 2, "max", double.PositiveInfinity) == 0,
            _ => s_flatAtZero.Contains(node.Node.OpType),
        };
        return flat && zeros.Length > 0 && zeros.All(input => node.Readers(input).All(reader => ReferenceEquals(reader, node.Node) || s_flatAtZero.Contains(reader.OpType)));
    }

    /// <summary>What goes along one axis through a pointwise node.</summary>
    /// <param name="node">The node.</param>
    /// <param name="along">For each input whether it runs along the axis; the others hold one value for all of it.</param>
    public static NewChannels Through(NodeAxes node, bool[] along)
    {
        bool all = along.Where((_, input) => node.Node.Input[input].Length > 0).All(a => a);
        switch (node.Node.OpType)
        {
            case "Neg" or "Dropout":
                return Both;
            case "Add" or "Sub" or "Sum" or "Mean":
                // A number added to all channels is added to their mean as well, but zeros are zeros no more.
                return all ? Both : NewChannels.Mean;
            case "Mul":
                return along.Count(a => a) < 2 ? Both : NewChannels.Zero;
            case "Div":
                // What is divided by along the axis must not be zero: constants are filled with ones.
                return !along[1] ? Both : along[0] && node.IsConstant(1) ? NewChannels.Zero : NewChannels.None;
            case "Pow":
                return node.Scalar(1) is > 0 ? NewChannels.Zero : NewChannels.None;
            case "Max" or "Min":
                // Constants along the axis would be filled with ones.
                return all && !Enumerable.Range(0, along.Length).Any(node.IsConstant) ? NewChannels.Zero : NewChannels.None;
            case "Where":
                return along[0] ? all ? NewChannels.Zero : NewChannels.None : along[1] && along[2] ? Both : NewChannels.None;
            case "Clip":
                return Limit(node, 1, "min", double.NegativeInfinity) <= 0 && Limit(node, 2, "max", double.PositiveInfinity) >= 0 ? NewChannels.Zero : NewChannels.None;
            case "Shrink":
                return node.Attribute("lambd") is null or { F: >= 0 } ? NewChannels.Zero : NewChannels.None;
            case "ThresholdedRelu":
                return node.Attribute("alpha") is null or { F: >= 0 } ? NewChannels.Zero : NewChannels.None;
            default:
                return s_zeroAtZero.Contains(node.Node.OpType) && (along.Length == 1 || along[0]) ? NewChannels.Zero : NewChannels.None;
        }
    }

    // A limit of Clip: an attribute until operator set 11, an input from then on; no number where it is computed.
    public static double Limit(NodeAxes node, int input, string attribute, double none) =>
        node.Attribute(attribute) is { } given ? given.F
        : node.Node.Input.Count <= input || node.Node.Input[input].Length == 0 ? none
        : node.Scalar(input) ?? double.NaN;
}
