using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer;

/// <summary>How the axes of a stored constant become those of the weight that a layer reads, through nodes that bring it into form.</summary>
internal static class StoredAxes
{
    /// <summary>Whether a node puts axes together or parts them.</summary>
    public static bool Regroups(NodeProto node) => node.OpType is "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze";

    /// <summary>For each axis of a node's input, which axes of the layer's weight it becomes; null where that cannot be told.</summary>
    /// <param name="model">The model.</param>
    /// <param name="n">The node.</param>
    /// <param name="input">Which of its inputs.</param>
    /// <param name="behind">The same for the axes of the node's output; null where these are the weight's own.</param>
    public static IReadOnlyList<int[]>? Before(AnalysedModel model, int n, int input, IReadOnlyList<int[]>? behind)
    {
        NodeProto node = model.Graph.Nodes[n];
        if (!ModelGraph.IsStandard(node) || model.Analysis.Shapes.Dims(node.Input[input]) is not { } dims || model.Analysis.Shapes.Dims(node.Output[0]) is not { } made)
            return null;
        behind ??= [.. made.Select((_, axis) => (int[])[axis])];
        switch (node.OpType)
        {
            case "Transpose":
                long[] order = model.Analysis.Node(n)!.IntList("perm") ?? [.. Enumerable.Range(0, dims.Length).Select(axis => (long)(dims.Length - 1 - axis))];
                return [.. Enumerable.Range(0, dims.Length).Select(axis => behind[Array.IndexOf(order, axis)])];
            case var _ when Regroups(node):
                return input == 0 ? Grouped(dims, made, behind) : null;
            case "Identity" or "Cast" or "Add" or "Sub" or "Mul" or "Div":
                return [.. dims.Select((size, axis) => size == made[axis + made.Length - dims.Length] ? behind[axis + made.Length - dims.Length] : [])];
            default:
                return null;
        }
    }

    // Axes that are put together, or parted into axes of their own; null where axes are cut across.
    private static List<int[]>? Grouped(long[] dims, long[] made, IReadOnlyList<int[]> behind)
    {
        var groups = new List<int[]>();
        int next = 0;
        foreach (long size in dims)
        {
            var group = new List<int>();
            for (long count = 1; count < size; next++)
            {
                if (next == made.Length || size % (count * made[next]) != 0)
                    return null;
                count *= made[next];
                group.AddRange(behind[next]);
            }

            groups.Add([.. group]);
        }

        return groups;
    }
}
