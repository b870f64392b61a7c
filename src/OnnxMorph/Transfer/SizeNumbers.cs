using OnnxMorph.Graph;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>Numbers in a graph that follow from its sizes, like 1/√d in front of a softmax: they belong to the architecture and are no parameters.</summary>
internal static class SizeNumbers
{
    private static readonly double[] s_powers = [1, -1, 0.5, -0.5, 0.25, -0.25];

    /// <summary>Whether two different numbers are the same power of a size each, of values in their parts of two models.</summary>
    public static bool AreSizes((AnalysedModel Model, Section Section, double Number) a, (AnalysedModel Model, Section Section, double Number) b) =>
        a.Number != b.Number && s_powers.Any(power => IsSize(a.Model, a.Section, a.Number, power) && IsSize(b.Model, b.Section, b.Number, power));

    private static bool IsSize(AnalysedModel model, Section section, double value, double power) =>
        section.Nodes.SelectMany(n => model.Graph.Nodes[n].Output).SelectMany(v => model.Analysis.Shapes.Dims(v) ?? [])
            .Any(size => size > 1 && Math.Abs(Math.Pow(size, power) - value) <= 1e-6 * Math.Abs(value));

    /// <summary>A single number that stands in the file or follows from sizes that are known; null where it does neither.</summary>
    public static double? Value(AnalysedModel model, string value)
    {
        if (model.Graph.ConstantOf(value) is { Count: 1 } constant && constant.Type.IsScalable())
            return ConstantValues.Of(model.Graph, constant)[0];
        if (model.Analysis.Shapes.Ints(value) is [long integer])
            return integer;
        if (model.Graph.Producer(value) is not { } n || model.Graph.Nodes[n] is not { Input.Count: > 0 } node || !ModelGraph.IsStandard(node))
            return null;
        double? Operand(int i) => i < node.Input.Count ? Value(model, node.Input[i]) : null;
        return node.OpType switch
        {
            "Cast" or "Identity" or "Reshape" or "Squeeze" or "Unsqueeze" => Operand(0),
            "Sqrt" => Operand(0) is { } x ? Math.Sqrt(x) : null,
            "Reciprocal" => 1 / Operand(0),
            "Mul" => Operand(0) * Operand(1),
            "Div" => Operand(0) / Operand(1),
            "Pow" => Operand(0) is { } x && Operand(1) is { } power ? Math.Pow(x, power) : null,
            _ => null,
        };
    }
}
