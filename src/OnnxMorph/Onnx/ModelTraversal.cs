namespace OnnxMorph.Onnx;

/// <summary>A tensor and the way to it, for messages.</summary>
/// <param name="Tensor">The tensor.</param>
/// <param name="Node">The node that holds it in an attribute, or null for an initializer.</param>
/// <param name="Attribute">That attribute.</param>
public readonly record struct TensorPlace(TensorProto Tensor, NodeProto? Node = null, AttributeProto? Attribute = null)
{
    /// <summary>"initializer 'w'" or "attribute 'value' of node 'n' (Constant)".</summary>
    public override string ToString() =>
        Attribute is null ? $"initializer '{Tensor.Name}'"
        : Node is null ? $"attribute '{Attribute.Name}' of a function"
        : $"attribute '{Attribute.Name}' of {Node.Describe()}";
}

/// <summary>Walks over the nested messages of a model.</summary>
public static class ModelTraversal
{
    /// <summary>What messages call a node: its name and operator, or what it makes where it has no name.</summary>
    public static string Describe(this NodeProto node) =>
        node.Name != "" ? $"node '{node.Name}' ({node.OpType})" : $"the {node.OpType} node that makes '{node.Output.FirstOrDefault()}'";

    /// <summary>The graphs in the attributes of <paramref name="node"/>.</summary>
    public static IEnumerable<GraphProto> Subgraphs(this NodeProto node)
    {
        foreach (AttributeProto attribute in node.Attribute)
        {
            if (attribute.G is not null)
                yield return attribute.G;
            foreach (GraphProto graph in attribute.Graphs)
                yield return graph;
        }
    }

    /// <summary>Every tensor of the model: initializers and attributes, also of subgraphs, functions and training graphs.</summary>
    public static IEnumerable<TensorPlace> Tensors(this ModelProto model)
    {
        IEnumerable<GraphProto?> graphs = [model.Graph, .. model.TrainingInfo.SelectMany(info => new[] { info.Initialization, info.Algorithm })];
        return graphs.OfType<GraphProto>().SelectMany(Tensors)
            .Concat(model.Functions.SelectMany(function => function.Node.SelectMany(Tensors)))
            .Concat(model.Functions.SelectMany(function => function.AttributeProto.SelectMany(attribute => Tensors(attribute, null))));
    }

    /// <summary>Every tensor of the graph: initializers and attributes, also of subgraphs.</summary>
    public static IEnumerable<TensorPlace> Tensors(this GraphProto graph) =>
        graph.Initializer.Select(tensor => new TensorPlace(tensor))
            .Concat(graph.SparseInitializer.SelectMany(Parts).Select(tensor => new TensorPlace(tensor)))
            .Concat(graph.Node.SelectMany(Tensors));

    private static IEnumerable<TensorPlace> Tensors(NodeProto node) => node.Attribute.SelectMany(attribute => Tensors(attribute, node));

    private static IEnumerable<TensorPlace> Tensors(AttributeProto attribute, NodeProto? node)
    {
        if (attribute.T is not null)
            yield return new(attribute.T, node, attribute);
        foreach (TensorProto tensor in attribute.Tensors)
            yield return new(tensor, node, attribute);
        if (attribute.SparseTensor is not null)
            foreach (TensorProto tensor in Parts(attribute.SparseTensor))
                yield return new(tensor, node, attribute);
        foreach (TensorProto tensor in attribute.SparseTensors.SelectMany(Parts))
            yield return new(tensor, node, attribute);
        if (attribute.G is not null)
            foreach (TensorPlace place in attribute.G.Tensors())
                yield return place;
        foreach (TensorPlace place in attribute.Graphs.SelectMany(Tensors))
            yield return place;
    }

    private static IEnumerable<TensorProto> Parts(SparseTensorProto sparse)
    {
        if (sparse.Values is not null)
            yield return sparse.Values;
        if (sparse.Indices is not null)
            yield return sparse.Indices;
    }
}
