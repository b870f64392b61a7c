using System.Collections.Immutable;
using OnnxMorph.Weights;

namespace OnnxMorph.Runtime;

/// <summary>One dimension as a model declares it.</summary>
/// <param name="Size">The fixed size, or −1 where it is decided at run time.</param>
/// <param name="Symbol">The name of a run-time size; null where it is fixed or has no name.</param>
public readonly record struct Dimension(long Size, string? Symbol)
{
    /// <summary>Whether the model fixes the size.</summary>
    public bool IsFixed => Size >= 0;

    /// <inheritdoc/>
    public override string ToString() => IsFixed ? Size.ToString() : Symbol ?? "?";
}

/// <summary>What a value of a model is.</summary>
public enum ValueKind
{
    /// <summary>A dense tensor.</summary>
    Tensor,

    /// <summary>A sequence of values.</summary>
    Sequence,

    /// <summary>A map from keys to values, as ZipMap makes.</summary>
    Map,

    /// <summary>Sparse tensors, optional and opaque values.</summary>
    Other,
}

/// <summary>An input or output as the model declares it.</summary>
/// <param name="Name">The value's name.</param>
/// <param name="Kind">Tensor, sequence, map or other.</param>
/// <param name="Type">The element type of a tensor; <see cref="ElementType.Undefined"/> otherwise.</param>
/// <param name="Shape">The dimensions; empty for scalars and also where no shape is declared, which ONNX Runtime's C# API does not tell apart.</param>
public sealed record ValueInfo(string Name, ValueKind Kind, ElementType Type, ImmutableArray<Dimension> Shape)
{
    /// <summary>Type and shape for messages, such as <c>Float32[N,3,224,224]</c>.</summary>
    public string Signature => Kind == ValueKind.Tensor ? $"{Type}[{string.Join(',', Shape)}]" : Kind.ToString();
}
