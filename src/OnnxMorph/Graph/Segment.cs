using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Graph;

/// <summary>The nodes that compute one value of a graph from values of a cut, with the constants that they read.</summary>
internal sealed class Segment
{
    private readonly ModelGraph _graph;
    private readonly SortedSet<int> _nodes;
    private readonly SortedSet<string> _constants = new(StringComparer.Ordinal);
    private readonly SortedSet<string> _inputs = new(StringComparer.Ordinal);

    /// <summary>Follows a value back to the cut.</summary>
    /// <param name="value">The value, which a node makes.</param>
    /// <param name="graph">Its graph.</param>
    /// <param name="cut">Where to stop: values that are given.</param>
    public Segment(string value, ModelGraph graph, IReadOnlySet<string> cut)
    {
        _graph = graph;
        Value = value;
        _nodes = [graph.Producer(value)!.Value];
        var open = new Stack<int>(_nodes);
        while (open.TryPop(out int n))
        {
            foreach (string name in ModelGraph.Reads(graph.Nodes[n]))
            {
                if (cut.Contains(name))
                    _inputs.Add(name);
                else if (graph.Producer(name) is not { } producer)
                    // Or a name that a subgraph makes for itself.
                    _constants.Add(name);
                else if (_nodes.Add(producer))
                    open.Push(producer);
            }
        }
    }

    /// <summary>The value that is computed.</summary>
    public string Value { get; }

    /// <summary>The values of the cut that it is computed from.</summary>
    public IReadOnlyCollection<string> Inputs => _inputs;

    /// <summary>The segment as a model that holds all it needs.</summary>
    /// <param name="declare">Element type and sizes of an input; negative where they are not known.</param>
    public ModelProto ToModel(Func<string, (ElementType Type, long[] Dims)> declare)
    {
        var graph = new GraphProto { Name = "segment" };
        graph.Node.AddRange(_nodes.Select(n => _graph.Nodes[n].Clone()));
        graph.Initializer.AddRange(_graph.Proto.Initializer.Where(t => _constants.Contains(t.Name)).OrderBy(t => t.Name, StringComparer.Ordinal).Select(t => t.Clone()));
        graph.SparseInitializer.AddRange(_graph.Proto.SparseInitializer.Where(t => _constants.Contains(t.Values.Name)).Select(t => t.Clone()));
        graph.Output.Add(new ValueInfoProto { Name = Value });
        foreach (string name in _inputs)
        {
            (ElementType type, long[] dims) = declare(name);
            var shape = new TensorShapeProto();
            shape.Dim.AddRange(dims.Select(size => size < 0 ? new TensorShapeProto.Types.Dimension() : new TensorShapeProto.Types.Dimension { DimValue = size }));
            graph.Input.Add(new ValueInfoProto
            {
                Name = name,
                Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = (int)type, Shape = shape } },
            });
        }

        // A node of several results may make one that is given here, and is not asked for it.
        foreach (NodeProto node in graph.Node)
            for (int i = 0; i < node.Output.Count; i++)
                if (_inputs.Contains(node.Output[i]))
                    node.Output[i] += ".again";
        var model = new ModelProto { IrVersion = _graph.Model.Proto.IrVersion, Graph = graph };
        model.OpsetImport.AddRange(_graph.Model.Proto.OpsetImport);
        model.Functions.AddRange(_graph.Model.Proto.Functions);
        _graph.Model.Embed(model);
        return model;
    }
}
