using System.IO.Hashing;
using Google.Protobuf;
using OnnxMorph.Onnx;
using OnnxMorph.Shapes;

namespace OnnxMorph.Ranking;

/// <summary>What tells whether two files hold the same graph, whatever their weights.</summary>
internal static class GraphIdentity
{
    /// <summary>
    /// A hash of the model's messages without the content of large tensors, as 32 hexadecimal digits. Integers that shapes may depend on count:
    /// two models with the same identity have the same outline.
    /// </summary>
    public static string Of(OnnxModel model)
    {
        OnnxModel copy = model.Clone();
        foreach (TensorPlace place in copy.Proto.Tensors())
        {
            if (!place.Tensor.HasPayload)
                continue;
            if (ShapeEvaluator.MayBeSizes(place.Tensor))
                place.Tensor.RawData = copy.Embedded(place.Tensor).RawData;
            // Where the content is says nothing about the graph.
            place.Tensor.ClearPayload();
        }

        return Hash(copy.Proto.ToByteArray());
    }

    /// <summary>The hash of bytes as 32 hexadecimal digits.</summary>
    public static string Hash(ReadOnlySpan<byte> bytes) => Convert.ToHexStringLower(XxHash128.Hash(bytes));
}
