using OnnxMorph.Weights;

namespace OnnxMorph.Onnx;

/// <summary>Evaluates weights for the writer.</summary>
public interface IWeightSource
{
    /// <summary>
    /// Writes the <see cref="WeightExpression.ByteLength"/> bytes of <paramref name="weight"/> in raw layout. The
    /// destination only takes writes in order; it counts them and throws <see cref="OperationCanceledException"/> when the
    /// run is cancelled.
    /// </summary>
    void Write(WeightExpression weight, Stream destination);
}
