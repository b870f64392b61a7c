using OnnxMorph.Weights;

namespace OnnxMorph.Onnx;

/// <summary>Evaluates weights for the writer.</summary>
public interface IWeightSource
{
    /// <summary>Opens a weight; the caller disposes the reader.</summary>
    IWeightReader Open(WeightExpression weight);
}

/// <summary>The bytes of a weight in raw layout, in windows. Reading is safe from several threads.</summary>
public interface IWeightReader : IDisposable
{
    /// <summary>Bytes that are best read together: windows start at multiples of it.</summary>
    int WindowBytes { get; }

    /// <summary>Whether reading holds so much memory that nothing should be read beside it.</summary>
    bool IsLarge { get; }

    /// <summary>Reads a window, or the first bytes of one, from byte <paramref name="start"/> on until <paramref name="destination"/> is full.</summary>
    void Read(long start, Span<byte> destination);
}
