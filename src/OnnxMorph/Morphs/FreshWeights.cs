using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Initialization;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>What one use of a constant holds on channels that the parent does not have.</summary>
/// <param name="Analysis">The analysis.</param>
/// <param name="Use">The use.</param>
/// <param name="Axes">Axes of the constant in this use.</param>
/// <param name="Value">The kind of value.</param>
/// <param name="Reader">The node that decides it: the reader, or the one behind nodes that only move elements.</param>
/// <param name="Input">Which of its inputs the constant reaches.</param>
internal sealed record FreshWeights(AxisAnalysis Analysis, Use Use, AxisExpression[] Axes, FreshValue Value, NodeAxes Reader, int Input)
{
    /// <summary>What a use of a constant holds.</summary>
    /// <param name="analysis">The analysis.</param>
    /// <param name="use">The use.</param>
    /// <param name="axes">Axes of the constant in it.</param>
    /// <param name="onZeros">Whether the new channels that it meets are zero.</param>
    public static FreshWeights Of(AxisAnalysis analysis, Use use, AxisExpression[] axes, bool onZeros)
    {
        NodeAxes node = analysis.Node(use.Node)!;
        int input = use.Input;
        OperatorRule rule = OperatorRules.For(node.Node)!;
        while (rule.MovesElements && analysis.Graph.Uses(node.Node.Output[0]) is [var next, ..] && analysis.Node(next.Node) is { } reader)
        {
            (node, input) = (reader, next.Input);
            if (OperatorRules.For(node.Node) is not { } readerRule)
                break;
            rule = readerRule;
        }

        bool contracted = axes.Any(axis => analysis.Solver.Leaves(axis).Any(leaf => leaf.Dual));
        return new FreshWeights(
            analysis, use, axes,
            contracted ? FreshValue.HeNormal : onZeros ? rule.FreshOnZeros(node, input) : rule.Fresh(node, input), node, input);
    }

    /// <summary>The fill of new channels: a number, or normal draws with variance 2 / fan-in.</summary>
    /// <param name="constant">The constant.</param>
    /// <param name="newSize">Size of an axis in the child.</param>
    /// <param name="seed">The user's seed.</param>
    public Fill Fill(Constant constant, Func<AxisExpression, long> newSize, ulong seed)
    {
        if (Value.Constant is { } number)
            return Weights.Fill.Constant(number);
        double count = Axes.Aggregate(1.0, (product, axis) => product * newSize(axis));
        double fanIn = Reader.Layer is { } layer && layer.WeightInput == Input && Reader.Index == Use.Node
            ? count / newSize(Axes[layer.WeightOutputAxis]) / (layer.Transposed ? layer.Groups : 1)
            : Axes.Where(axis => Analysis.Solver.Leaves(axis).Any(leaf => leaf.Dual)).Aggregate(1.0, (product, axis) => product * newSize(axis));
        return Draws.He(fanIn, seed, $"fresh {constant.Name}");
    }

    /// <summary>
    /// Whether another operand of the reader brings a space to where the constant meets it, so that new channels that are zero are
    /// so without the constant. What the constant is contracted against does not come through.
    /// </summary>
    public bool IsLive(Space space)
    {
        return Enumerable.Range(0, Reader.Node.Input.Count).Where(other => other != Input && Reader.Has(other) && !Reader.IsWeight(other))
            .Sum(other => Count(Reader.In(other), dual: false)) > Count(Axes, dual: true);

        int Count(AxisExpression[] axes, bool dual) =>
            axes.SelectMany(Analysis.Solver.Leaves).Count(leaf => leaf.Dual == dual && ReferenceEquals(leaf.Space, space));
    }
}
