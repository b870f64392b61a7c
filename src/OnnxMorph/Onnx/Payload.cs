using OnnxMorph.Weights;

namespace OnnxMorph.Onnx;

/// <summary>The content of a tensor that is not in its <see cref="TensorProto"/>.</summary>
/// <param name="External">Whether it belongs in a file beside the model rather than inside it.</param>
internal abstract record Payload(bool External);

/// <summary>Bytes that were left in a file.</summary>
/// <param name="File">Full path.</param>
/// <param name="Offset">Where the bytes start.</param>
/// <param name="Length">How many they are.</param>
/// <param name="Field">The field of <see cref="TensorProto"/> whose content they are.</param>
/// <param name="Values">How many numbers they encode, where <paramref name="Field"/> holds varints; else 0.</param>
/// <param name="External">Whether <paramref name="File"/> is external data rather than the model.</param>
internal sealed record FilePayload(string File, long Offset, long Length, int Field, long Values, bool External)
    : Payload(External);

/// <summary>What a pass has put in the tensor's place.</summary>
internal sealed record WeightPayload(WeightExpression Weight, bool External) : Payload(External);
