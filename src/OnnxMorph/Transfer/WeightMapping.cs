using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>How a constant of a source becomes one of a target.</summary>
/// <param name="source">The source.</param>
internal abstract class WeightMapping(AnalysedModel source)
{
    /// <summary>Where weights come from.</summary>
    protected AnalysedModel Source { get; } = source;

    /// <summary>The target's constant.</summary>
    /// <param name="to">The target's constant; its type is the source's.</param>
    /// <param name="match">The uses that were matched.</param>
    /// <param name="from">The source's constant.</param>
    /// <exception cref="TransferRefusedException">There is no way.</exception>
    public abstract WeightExpression Map(Constant to, UseMatch match, Constant from);

    /// <summary>Which channels of the source a vector of the target stands for; null where no channel stands for one.</summary>
    public virtual AxisMap? Channels(UseMatch match) => null;

    /// <summary>The same for two axes.</summary>
    public virtual AxisMap? Channels(AxisExpression to, AxisExpression from) => null;

    /// <summary>The source's numbers, laid out as the target's are.</summary>
    protected WeightExpression Data(Constant from, UseMatch match)
    {
        WeightExpression data = Source.Graph.Model.Data(from.Tensor);
        if (match.Reshaped is { } value)
            data = new ReshapedWeight(data, [.. Source.Analysis.Shapes.Dims(value) ?? throw new TransferRefusedException($"ONNX Runtime does not know the sizes of '{value}'")]);
        return match.Transposed ? new TransposedWeight(data) : data;
    }
}
