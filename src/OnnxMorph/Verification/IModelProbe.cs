using System.Collections.Immutable;
using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>What verification needs to know of a model file beyond its inputs and outputs. The graph's owner implements it.</summary>
public interface IModelProbe
{
    /// <summary>The names of the main graph's node outputs, in topological order.</summary>
    IReadOnlyList<string> Values(string modelPath);

    /// <summary>
    /// Writes the model with <paramref name="values"/> as its only outputs to <paramref name="exposedPath"/>, in a fresh
    /// folder that the caller deletes with everything in it.
    /// </summary>
    void Expose(string modelPath, IReadOnlyList<string> values, string exposedPath);

    /// <summary>
    /// Floating-point weights of the main graph in file order, as many as fit in <paramref name="maxBytes"/>: initializers,
    /// and the tensors of <c>Constant</c> nodes under the name of their output, which ONNX Runtime loads as initializers.
    /// Leave out constants that are sizes or scales (fewer than 5 numbers): moved by a rounding unit they may change shapes.
    /// </summary>
    IReadOnlyList<ProbedInitializer> FloatInitializers(string modelPath, long maxBytes);
}

/// <summary>The value of an initializer.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Type">Element type.</param>
/// <param name="Shape">Sizes of the axes.</param>
/// <param name="Bytes">Row-major, little-endian.</param>
public sealed record ProbedInitializer(string Name, ElementType Type, ImmutableArray<long> Shape, byte[] Bytes);
