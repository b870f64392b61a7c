using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Alignment;

/// <summary>An item of a network: a block, or a layer that is in none.</summary>
/// <param name="Path">Its place in the structure.</param>
/// <param name="IsBlock">Whether it is a block.</param>
/// <param name="Layers">Its layers in execution order; one where it is no block.</param>
public sealed record NetworkItem(string Path, bool IsBlock, ImmutableArray<AlignedLayer> Layers)
{
    /// <summary>What users know it by: the path of a block, the name of a layer.</summary>
    public string Name => IsBlock ? Path : Layers[0].Name;
}

/// <summary>What alignment needs to know of a network: a sequence of layers and blocks (DPIAT's two levels), without weights.</summary>
/// <param name="Items">The items in execution order.</param>
public sealed record NetworkOutline(ImmutableArray<NetworkItem> Items)
{
    /// <summary>The outline of a model.</summary>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load it.</exception>
    public static NetworkOutline Of(OnnxModel model) => Of(AnalysedModel.Of(model));

    /// <summary>The outline of an analysed model.</summary>
    public static NetworkOutline Of(AnalysedModel model)
    {
        (AxisAnalysis analysis, ModelStructure structure) = (model.Analysis, model.Structure);
        IReadOnlyDictionary<int, string> names = Names(model);
        var items = new List<NetworkItem>();
        AddLayers(structure.Stem);
        foreach (Stage stage in structure.Stages)
        {
            if (stage.Transition is { } transition)
                AddLayers(transition);
            foreach (Block block in stage.Blocks)
                if (Layers(block) is { Length: > 0 } layers)
                    items.Add(new NetworkItem(block.Path, true, layers));
        }

        AddLayers(structure.Head);
        return new NetworkOutline([.. items]);

        ImmutableArray<AlignedLayer> Layers(Section section) => [.. section.Layers.Select(place => Describe(analysis, place with { Name = names[place.Node] })).OfType<AlignedLayer>()];

        void AddLayers(Section section) => items.AddRange(Layers(section).Select(layer => new NetworkItem(section.Path, false, [layer])));
    }

    /// <summary>A name for each layer, by number of node: that of its node, or of what it makes where other nodes have the same.</summary>
    public static IReadOnlyDictionary<int, string> Names(AnalysedModel model)
    {
        List<LayerPlace> places = [.. model.Structure.Sections.SelectMany(s => s.Layers).DistinctBy(place => place.Node)];
        return places.GroupBy(place => place.Name).SelectMany(same => same.Select(place =>
            (place.Node, Name: same.Skip(1).Any() ? model.Graph.Nodes[place.Node].Output[0] : place.Name))).ToDictionary(p => p.Node, p => p.Name);
    }

    // Null for what no weights are carried to: trained scales.
    private static AlignedLayer? Describe(AxisAnalysis analysis, LayerPlace place)
    {
        if (analysis.Node(place.Node) is not { } axes)
            return null;
        if (axes.Layer is { } layer)
        {
            ImmutableArray<long> shape = [.. axes.In(layer.WeightInput).Select(axis => axis.Size)];
            return layer.SpatialAxes > 0
                ? new AlignedLayer(place.Name, layer.Transposed ? AlignedKind.TransposedConvolution : AlignedKind.Convolution, shape)
                : new AlignedLayer(place.Name, AlignedKind.Linear, [shape[layer.WeightOutputAxis], shape[1 - layer.WeightOutputAxis]]);
        }

        long[][] constants = [.. axes.Node.Input.Select(analysis.Graph.ConstantOf).OfType<Constant>().Where(c => c.Type.IsScalable()).Select(c => c.Shape.ToArray())];
        return place.Role.EndsWith("norm", StringComparison.Ordinal) && constants.Length > 0
                ? new AlignedLayer(place.Name, AlignedKind.Norm, [constants[0].Max()])
            : place.Role.EndsWith("embedding", StringComparison.Ordinal) && constants is [{ Length: 2 } table, ..]
                ? new AlignedLayer(place.Name, AlignedKind.Embedding, [.. table])
            : axes.Node.OpType is "LSTM" or "GRU" or "RNN" && constants is [{ Length: 3 } gates, ..]
                ? new AlignedLayer(place.Name, AlignedKind.Recurrent, [gates[0] * gates[1], gates[2]])
            : null;
    }
}
