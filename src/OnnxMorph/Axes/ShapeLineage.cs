using System.Collections.Immutable;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Shapes;
using OnnxMorph.Weights;

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

    /// <summary>What is computed from all of <paramref name="elements"/>.</summary>
    public static ElementLineage Union(IEnumerable<ElementLineage> elements) =>
        new(elements.Aggregate(ImmutableHashSet<SizeSource>.Empty, (sum, e) => sum.Union(e.Sources)), false);
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
        _elements.TryGetValue(value, out ElementLineage[]? elements) ? ElementLineage.Union(elements).Sources : [];

    /// <summary>
    /// Whether a node makes numbers to compute with of sizes that are the same for all callers. What comes behind it keeps
    /// the parent's numbers, which can be written down.
    /// </summary>
    public bool IsFrozen(NodeProto node) =>
        node.OpType == "Cast" && ModelGraph.IsStandard(node) && shapes.Type(node.Output[0]).IsScalable()
        && shapes.Ints(node.Input[0]) is not null && !AllSources(node.Input[0]).Any(s => shapes.IsSymbolic(s.Value, s.Axis));

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

        OperatorRule? rule = OperatorRules.For(node);
        string[] data = [.. node.Input.Where((_, i) => rule is null || !rule.ListsSizes(i))];
        if (!data.Any(_elements.ContainsKey) || IsFrozen(node))
            return;
        foreach (string output in node.Output.Where(o => o.Length > 0))
        {
            long count = shapes.Dims(output)?.Aggregate(1L, (a, b) => a * b) ?? 0;
            _elements[output] = Propagate(node, data, count is <= 0 or > MostElements ? 1 : (int)count);
        }
    }

    private ElementLineage[] Propagate(NodeProto node, string[] inputs, int count)
    {
        ElementLineage[] first = this[inputs[0]];
        bool alone = inputs.Skip(1).All(input => AllSources(input).IsEmpty);
        switch (node.OpType)
        {
            case "Identity" or "Cast" or "Unsqueeze" or "Squeeze" or "Reshape" or "Flatten" when first.Length == count:
                return first;
            case "Gather" when alone && shapes.Dims(inputs[0]) is [long length] && length == first.Length
                && shapes.Ints(inputs[1]) is { } indices && indices.Length == count:
                return [.. indices.Select(i => first[i < 0 ? i + length : i])];
            case "Concat":
                ElementLineage[] joined = [.. inputs.SelectMany(input => this[input])];
                if (joined.Length == count)
                    return joined;
                break;
            // Its range is known and does not itself depend on sizes.
            case "Slice" when node.Input.Count >= 3 && node.Input.Skip(1).All(input => AllSources(input).IsEmpty)
                && shapes.Dims(inputs[0])?.Length == 1 && shapes.Ints(node.Input[1]) is [long from] && shapes.Ints(node.Input[2]) is [long]
                && (node.Input.Count < 5 || node.Input[4].Length == 0 || shapes.Ints(node.Input[4]) is [1]):
                int start = Clamp((int)Math.Clamp(from, int.MinValue, int.MaxValue), first.Length);
                if (start + count <= first.Length)
                    return first[start..(start + count)];
                break;
            case "Add" or "Sub" or "Mul" or "Div" or "Mod" or "Min" or "Max" or "Floor" or "Ceil" or "Round" or "Where" or "Equal":
                ElementLineage[][] operands = [.. inputs.Select(input => this[input])];
                if (operands.All(x => x.Length == count || x.Length == 1))
                    return [.. Enumerable.Range(0, count).Select(i => ElementLineage.Union(operands.Select(x => x[x.Length == 1 ? 0 : i])))];
                break;
        }

        // Which integers a range that depends on sizes takes depends on them too. Floats are what they are, however they are spread out.
        IEnumerable<string> all = shapes.Type(node.Output[0]).IsScalable() ? inputs : node.Input;
        ElementLineage union = ElementLineage.Union(all.Where(i => i.Length > 0).SelectMany(input => this[input]));
        return [.. Enumerable.Repeat(union, count)];
    }

    private ElementLineage[] NoneFor(string value)
    {
        if (value.Length == 0)
            return [];
        long count = graph.ConstantOf(value)?.Count ?? shapes.Dims(value)?.Aggregate(1L, (a, b) => a * b) ?? 1;
        return [.. Enumerable.Repeat(ElementLineage.None, (int)Math.Clamp(count, 0, MostElements))];
    }

    private static int Clamp(int index, int rank) => Math.Clamp(index < 0 ? index + rank : index, 0, rank);
}
