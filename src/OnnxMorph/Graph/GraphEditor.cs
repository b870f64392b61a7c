using System.Collections.Immutable;
using System.Runtime.InteropServices;
using Google.Protobuf;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Graph;

/// <summary>
/// Edits to the main graph of a model. Nodes are inserted and constants dropped when <see cref="Commit"/> is called; after
/// that the <see cref="ModelGraph"/> that the editor was made for is out of date.
/// </summary>
public sealed class GraphEditor(ModelGraph graph)
{
    private readonly Dictionary<NodeProto, List<NodeProto>> _after = new(ReferenceEqualityComparer.Instance);
    private readonly Dictionary<NodeProto, List<NodeProto>> _before = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<NodeProto> _removed = new(ReferenceEqualityComparer.Instance);
    private readonly HashSet<Constant> _maybeUnused = [];

    /// <summary>Adds an initializer and gives its name.</summary>
    public string AddInitializer(string hint, WeightExpression data)
    {
        var tensor = new TensorProto { Name = graph.NewName(hint) };
        graph.Model.SetData(tensor, data);
        graph.Proto.Initializer.Add(tensor);
        // Until IR version 3 every initializer had to be listed among the inputs.
        if (graph.Model.Proto.IrVersion < 4)
            graph.Proto.Input.Add(ValueInfo(tensor.Name, data.Type, data.Shape));
        return tensor.Name;
    }

    /// <summary>Adds an initializer of 64-bit or 32-bit integers.</summary>
    public string AddInts(string hint, ElementType type, ReadOnlySpan<long> values, ImmutableArray<long> shape)
    {
        byte[] bytes = type == ElementType.Int32
            ? MemoryMarshal.AsBytes<int>(values.ToArray().Select(v => checked((int)v)).ToArray()).ToArray()
            : MemoryMarshal.AsBytes(values).ToArray();
        return AddInitializer(hint, new StoredWeight(type, shape, bytes));
    }

    /// <summary>Replaces the data of a constant, for all who read it.</summary>
    public void Replace(Constant constant, WeightExpression data)
    {
        graph.Model.SetData(constant.Tensor, data);
        foreach (ValueInfoProto input in graph.Proto.Input)
            if (input.Name == constant.Name)
                SetDims(input, data.Shape);
    }

    /// <summary>
    /// Replaces the data of a constant for some of its readers: in place where these are all
    /// <paramref name="allUses"/> and nobody else reads it, else as an initializer of their own.
    /// </summary>
    public void Replace(Constant constant, WeightExpression data, IReadOnlyCollection<Use> uses, int allUses)
    {
        if (uses.Count == allUses && !graph.IsReadElsewhere(constant.Name))
        {
            Replace(constant, data);
            return;
        }

        string name = AddInitializer(constant.Name, data);
        foreach (Use use in uses)
            Rewire(use, name);
    }

    /// <summary>Lets one input read another value; what it read before is dropped where nobody reads it any more.</summary>
    public void Rewire(Use use, string value)
    {
        NodeProto node = graph.Nodes[use.Node];
        if (graph.ConstantOf(node.Input[use.Input]) is { } constant)
            _maybeUnused.Add(constant);
        node.Input[use.Input] = value;
    }

    /// <summary>Puts nodes right behind <paramref name="anchor"/>, after those put there before.</summary>
    public void InsertAfter(NodeProto anchor, params IEnumerable<NodeProto> nodes) => List(_after, anchor).AddRange(nodes);

    /// <summary>Puts nodes right before <paramref name="anchor"/>.</summary>
    public void InsertBefore(NodeProto anchor, params IEnumerable<NodeProto> nodes) => List(_before, anchor).AddRange(nodes);

    /// <summary>Puts nodes in the place of <paramref name="node"/>; constants that nobody reads then are dropped.</summary>
    public void Replace(NodeProto node, params IEnumerable<NodeProto> nodes)
    {
        InsertBefore(node, nodes);
        _removed.Add(node);
        _maybeUnused.UnionWith(node.Input.Select(graph.ConstantOf).OfType<Constant>());
    }

    /// <summary>Sets an integer attribute.</summary>
    public static void SetInt(NodeProto node, string name, long value)
    {
        AttributeProto attribute = Attribute(node, name, AttributeProto.Types.AttributeType.Int);
        attribute.I = value;
    }

    /// <summary>Sets a floating-point attribute.</summary>
    public static void SetFloat(NodeProto node, string name, float value) =>
        Attribute(node, name, AttributeProto.Types.AttributeType.Float).F = value;

    /// <summary>Sets an integer list attribute.</summary>
    public static void SetInts(NodeProto node, string name, params IEnumerable<long> values)
    {
        AttributeProto attribute = Attribute(node, name, AttributeProto.Types.AttributeType.Ints);
        attribute.Ints.Clear();
        attribute.Ints.AddRange(values);
    }

    /// <summary>Sets a text attribute.</summary>
    public static void SetText(NodeProto node, string name, string value) =>
        Attribute(node, name, AttributeProto.Types.AttributeType.String).S = ByteString.CopyFromUtf8(value);

    /// <summary>Removes an attribute.</summary>
    public static void RemoveAttribute(NodeProto node, string name)
    {
        if (node.Attribute.FirstOrDefault(a => a.Name == name) is { } attribute)
            node.Attribute.Remove(attribute);
    }

    /// <summary>Carries out insertions and drops constants that nobody reads any more.</summary>
    public void Commit()
    {
        if (_after.Count + _before.Count > 0)
        {
            var nodes = new List<NodeProto>(graph.Proto.Node.Count);
            foreach (NodeProto node in graph.Proto.Node)
            {
                nodes.AddRange(_before.GetValueOrDefault(node) ?? []);
                if (!_removed.Contains(node))
                    nodes.Add(node);
                nodes.AddRange(_after.GetValueOrDefault(node) ?? []);
            }

            graph.Proto.Node.Clear();
            graph.Proto.Node.AddRange(nodes);
        }

        DropUnused();
    }

    // A constant goes when no node, output or subgraph reads it, and with it the Identity nodes that only led to it.
    private void DropUnused()
    {
        foreach (Constant constant in _maybeUnused)
        {
            bool dropped = true;
            while (dropped)
            {
                dropped = false;
                foreach (NodeProto node in graph.Proto.Node.Where(n => n.OpType == "Identity" && graph.ConstantOf(n.Output[0]) == constant).ToList())
                {
                    if (IsRead(node.Output[0]))
                        continue;
                    graph.Proto.Node.Remove(node);
                    dropped = true;
                }
            }

            if (IsRead(constant.Name))
                continue;
            if (constant.Node is { } holder)
                graph.Proto.Node.Remove(holder);
            else
                graph.Proto.Initializer.Remove(constant.Tensor);
            if (graph.Proto.Input.FirstOrDefault(i => i.Name == constant.Name) is { } input)
                graph.Proto.Input.Remove(input);
        }
    }

    private bool IsRead(string value) =>
        graph.IsReadElsewhere(value) || graph.Proto.Node.Any(n => n.Input.Contains(value));

    internal static ValueInfoProto ValueInfo(string name, ElementType type, ImmutableArray<long> shape)
    {
        var info = new ValueInfoProto { Name = name, Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)type } } };
        SetDims(info, shape);
        return info;
    }

    private static void SetDims(ValueInfoProto info, ImmutableArray<long> shape)
    {
        if (info.Type?.TensorType is not { } tensor)
            return;
        tensor.Shape = new TensorShapeProto();
        tensor.Shape.Dim.AddRange(shape.Select(size => new TensorShapeProto.Types.Dimension { DimValue = size }));
    }

    private static AttributeProto Attribute(NodeProto node, string name, AttributeProto.Types.AttributeType type)
    {
        AttributeProto? attribute = node.Attribute.FirstOrDefault(a => a.Name == name);
        if (attribute is null)
            node.Attribute.Add(attribute = new AttributeProto { Name = name });
        attribute.Type = type;
        return attribute;
    }

    private static List<NodeProto> List(Dictionary<NodeProto, List<NodeProto>> lists, NodeProto anchor)
    {
        if (!lists.TryGetValue(anchor, out List<NodeProto>? list))
            lists[anchor] = list = [];
        return list;
    }
}
