using System.Collections.Immutable;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Shapes;

namespace OnnxMorph.Axes;

/// <summary>An axis of a value, whose size a shape computation reads.</summary>
public readonly record struct SizeSource(string Value, int Axis);

/// <summary>
/// Where one element of a computed shape comes from: the axis sizes it depends on, and whether it is such a size itself
/// (<paramref name="Direct"/>) rather than computed from it. No sources: it does not depend on any shape.
/// </summary>
public sealed record ElementLineage(ImmutableHashSet<SizeSource> Sources, bool Direct)
{
    /// <summary>An element that depends on no shape.</summary>
    public static ElementLineage None { get; } = new([], false);
}

/// <summary>
/// Follows sizes through the small integer tensors that exporters compute shapes with (Shape, Gather, Concat, …), element
/// by element. It tells which entries of a Reshape's target follow the child by themselves; the values are ONNX Runtime's.
/// </summary>
public sealed class ShapeLineage(ModelGraph graph, ShapeTable shapes)
{
    // Shape vectors are short; a longer integer tensor is data, whose elements need not be told apart.
    private const int MostElements = 64;

    private readonly Dictionary<string, ElementLineage[]> _elements = [];

    /// <summary>Lineage of every element of <paramref name="value"/>; all none where it depends on no shape.</summary>
    public ElementLineage[] this[string value] =>
        _elements.TryGetValue(value, out ElementLineage[]? elements) ? elements : NoneFor(value);

    /// <summary>Everything that <paramref name="value"/> depends on.</summary>
    public ImmutableHashSet<SizeSource> AllSources(string value) =>
        _elements.TryGetValue(value, out ElementLineage[]? elements) ? Union(elements).Sources : [];

    /// <summary>Follows the sizes through one node; nodes are to be visited in execution order.</summary>
    public void Visit(NodeProto node)
    {
        if (!ModelGraph.IsStandard(node) || node.Output.Count == 0)
            return;
        switch (node.OpType)
        {
            case "Shape" when shapes.Dims(node.Input[0]) is { } dims:
                int rank = dims.Length;
                int start = Clamp((int)(node.Attribute.FirstOrDefault(a => a.Name == "start")?.I ?? 0), rank);
                int end = Clamp((int)(node.Attribute.FirstOrDefault(a => a.Name == "end")?.I ?? rank), rank);
                _elements[node.Output[0]] = [.. Enumerable.Range(start, Math.Max(end - start, 0))
                    .Select(axis => new ElementLineage([new SizeSource(node.Input[0], axis)], true))];
                return;
            case "Size" when shapes.Dims(node.Input[0]) is { } sizes:
                _elements[node.Output[0]] =
                    [new ElementLineage([.. sizes.Select((_, axis) => new SizeSource(node.Input[0], axis))], false)];
                return;
        }

        if (!node.Input.Any(_elements.ContainsKey) || shapes.Dims(node.Output[0]) is not { } outDims)
            return;
        long count = outDims.Aggregate(1L, (a, b) => a * b);
        if (count is <= 0 or > MostElements)
            count = 1;
        foreach (string output in node.Output)
            if (output.Length > 0)
                _elements[output] = Propagate(node, (int)count);
    }

    private ElementLineage[] Propagate(NodeProto node, int count)
    {
        ElementLineage[] data = this[node.Input[0]];
        switch (node.OpType)
        {
            case "Identity" or "Cast" or "Unsqueeze" or "Squeeze" or "Reshape" or "Flatten" when data.Length == count:
                return data;
            case "Gather" when shapes.Ints(node.Input[1]) is { } indices && indices.Length == count
                && shapes.Dims(node.Input[0])?.Length == 1:
                return [.. indices.Select(i => data[i < 0 ? i + data.Length : i])];
            case "Concat":
                ElementLineage[] joined = [.. node.Input.SelectMany(input => this[input])];
                if (joined.Length == count)
                    return joined;
                break;
            case "Slice" when node.Input.Count >= 3 && shapes.Dims(node.Input[0])?.Length == 1
                && shapes.Ints(node.Input[1]) is [long from] && shapes.Ints(node.Input[2]) is [long]
                && (node.Input.Count < 5 || node.Input[4].Length == 0 || shapes.Ints(node.Input[4]) is [1]):
                int first = Clamp((int)Math.Clamp(from, int.MinValue, int.MaxValue), data.Length);
                if (first + count <= data.Length)
                    return data[first..(first + count)];
                break;
            case "Add" or "Sub" or "Mul" or "Div" or "Mod" or "Min" or "Max" or "Floor" or "Ceil" or "Round" or "Where" or "Equal":
                ElementLineage[][] inputs = [.. node.Input.Select(input => this[input])];
                if (inputs.All(x => x.Length == count || x.Length == 1))
                    return [.. Enumerable.Range(0, count).Select(i => Union(inputs.Select(x => x[x.Length == 1 ? 0 : i])))];
                break;
        }

        ElementLineage all = Union(node.Input.Where(i => i.Length > 0).SelectMany(input => this[input]));
        return [.. Enumerable.Repeat(all, count)];
    }

    private ElementLineage[] NoneFor(string value)
    {
        if (value.Length == 0)
            return [];
        long count = graph.ConstantOf(value)?.Count ?? shapes.Dims(value)?.Aggregate(1L, (a, b) => a * b) ?? 1;
        return [.. Enumerable.Repeat(ElementLineage.None, (int)Math.Clamp(count, 0, MostElements))];
    }

    private static ElementLineage Union(IEnumerable<ElementLineage> elements) =>
        new(elements.Aggregate(ImmutableHashSet<SizeSource>.Empty, (sum, e) => sum.Union(e.Sources)), false);

    private static int Clamp(int index, int rank) => Math.Clamp(index < 0 ? index + rank : index, 0, rank);
}
