using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer;

/// <summary>
/// What the positions along an axis are: a class token and the rows and columns of patches, say. Read off the nodes that put the axis
/// together: concatenations, and reshapes that flatten the axes of an image.
/// </summary>
internal static class PositionGrid
{
    /// <summary>The parts of an axis of a value, one behind the other, each with its sizes, outermost first.</summary>
    public static long[][] Of(AnalysedModel model, string value, int axis)
    {
        while (model.Analysis.Shapes.Dims(value) is { } dims && model.Graph.Producer(value) is { } n)
        {
            NodeProto node = model.Graph.Nodes[n];
            string input = node.Input.FirstOrDefault(i => i.Length > 0 && !model.Analysis.IsWeight(i)) ?? "";
            if (!ModelGraph.IsStandard(node) || model.Analysis.Shapes.Dims(input) is not { } from)
                break;
            switch (node.OpType)
            {
                case "Concat" when NodeAxis(node, dims.Length) == axis:
                    return [.. node.Input.SelectMany(part => Of(model, part, axis))];
                case "Transpose":
                    long[] perm = [.. node.Attribute.FirstOrDefault(a => a.Name == "perm")?.Ints ?? Enumerable.Range(0, dims.Length).Reverse().Select(i => (long)i)];
                    axis = (int)perm[axis];
                    break;
                case "Reshape" or "Flatten" when Flattened(from, dims, axis) is var (first, count):
                    if (count > 1)
                        return [from[first..(first + count)]];
                    axis = first;
                    break;
                default:
                    // What works on each element alone, or along other axes.
                    if (from.Length != dims.Length || from[axis] != dims[axis] || node.OpType is "Reshape" or "Flatten" or "Slice" or "Gather")
                        return [[dims[axis]]];
                    break;
            }

            value = input;
        }

        return [[model.Analysis.Shapes.Dims(value)?[axis] ?? 1]];
    }

    /// <summary>The map between axes of positions; null where they are not made of parts of the same number and kind.</summary>
    public static AxisMap? Map(long[][] from, long[][] to) =>
        from.Length != to.Length || from.Zip(to).Any(part => part.First.Length != part.Second.Length) ? null
            : AxisMap.DirectSum([.. from.Zip(to, (own, other) => own.Zip(other, (size, newSize) => AxisMap.Interpolate((int)size, (int)newSize)).Aggregate(AxisMap.Kronecker))]);

    private static int NodeAxis(NodeProto node, int rank) =>
        node.Attribute.FirstOrDefault(a => a.Name == "axis")?.I is { } axis ? (int)(axis < 0 ? axis + rank : axis) : -1;

    // The axes that a reshape made an axis of: those with the same number of elements in front and behind.
    private static (int First, int Count)? Flattened(long[] from, long[] to, int axis)
    {
        long before = to[..axis].Aggregate(1L, (a, b) => a * b), product = 1;
        for (int first = 0; first < from.Length; first++)
        {
            if (product == before && from[first] != 1)
            {
                long size = 1;
                for (int count = 1; first + count <= from.Length; count++)
                {
                    size *= from[first + count - 1];
                    if (size == to[axis])
                        return (first, count);
                }
            }

            product *= from[first];
        }

        return null;
    }
}
