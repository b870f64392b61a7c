using System.Collections.Immutable;
using System.Text.Json.Serialization;

namespace OnnxMorph.Alignment;

/// <summary>What a layer is, as far as weights of one kind never go to another.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<AlignedKind>))]
public enum AlignedKind
{
    /// <summary>A convolution; weight [outputs, inputs of a group, taps…].</summary>
    [JsonStringEnumMemberName("convolution")]
    Convolution,

    /// <summary>A transposed convolution; weight [inputs, outputs of a group, taps…].</summary>
    [JsonStringEnumMemberName("transposed-convolution")]
    TransposedConvolution,

    /// <summary>A matrix product; weight [outputs, inputs], whichever way it is stored.</summary>
    [JsonStringEnumMemberName("linear")]
    Linear,

    /// <summary>A norm; weight [channels].</summary>
    [JsonStringEnumMemberName("norm")]
    Norm,

    /// <summary>A recurrent layer; weight [gates × hidden units, inputs].</summary>
    [JsonStringEnumMemberName("recurrent")]
    Recurrent,

    /// <summary>A table; weight [rows, channels].</summary>
    [JsonStringEnumMemberName("embedding")]
    Embedding,
}

/// <summary>A layer as alignment sees it: its kind and the shape of its weight, never the weight's numbers.</summary>
/// <param name="Name">Its name in the model.</param>
/// <param name="Kind">Its kind.</param>
/// <param name="Shape">Shape of its weight, laid out as its kind says.</param>
public sealed record AlignedLayer(string Name, AlignedKind Kind, ImmutableArray<long> Shape)
{
    /// <summary>
    /// How well weights of <paramref name="source"/> fit this layer: Π over axes of min(a/b, b/a), 1 for equal shapes and 0 for layers of
    /// another kind or rank (DPIAT, layer score; METHODS.md §4).
    /// </summary>
    public double Score(AlignedLayer source) => Score(Kind, Shape.AsSpan(), source.Kind, source.Shape.AsSpan());

    /// <summary>The same of two kinds and shapes; equal both ways round.</summary>
    internal static double Score(AlignedKind kind, ReadOnlySpan<long> shape, AlignedKind otherKind, ReadOnlySpan<long> other)
    {
        if (kind != otherKind || shape.Length != other.Length)
            return 0;
        double score = 1;
        for (int axis = 0; axis < shape.Length; axis++)
            score *= (double)Math.Min(shape[axis], other[axis]) / Math.Max(Math.Max(shape[axis], other[axis]), 1);
        return score;
    }
}
