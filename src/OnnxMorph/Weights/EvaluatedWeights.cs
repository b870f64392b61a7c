using OnnxMorph.Onnx;

namespace OnnxMorph.Weights;

/// <summary>Weights for the writer, evaluated as they are written.</summary>
public sealed class EvaluatedWeights(WeightEvaluator evaluator) : IWeightSource
{
    /// <inheritdoc/>
    public void Write(WeightExpression weight, Stream destination) => evaluator.Write(weight, destination);
}
