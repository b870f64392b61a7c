using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Verification;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>Layers that share a weight and are alike in everything that new weights depend on, so that they go on sharing.</summary>
/// <param name="sites">The layers that are rewritten.</param>
internal sealed class SharingLayers(IReadOnlyList<LayerSite> sites)
{
    /// <summary>The layers.</summary>
    public IReadOnlyList<LayerSite> Sites => sites;

    /// <summary>New initializers by role.</summary>
    public Dictionary<string, string> Initializers { get; } = [];

    /// <summary>Whether the shared weight holds its new data already.</summary>
    public bool IsReplaced { get; set; }
}

/// <summary>Changes the graph at a layer that was found to fit, and gives the nodes that stand for the layer.</summary>
/// <param name="sharing">The layers that new weights are shared with.</param>
internal delegate IReadOnlyList<NodeProto> Rewrite(SharingLayers sharing);

/// <summary>A family of subnets: what it needs of a layer, and what it puts in its place or behind it.</summary>
internal abstract class SubnetRewriter
{
    /// <summary>The graph, analysed.</summary>
    public required AxisAnalysis Analysis { get; init; }

    /// <summary>Takes the edits.</summary>
    public required GraphEditor Editor { get; init; }

    /// <summary>Seed of everything random.</summary>
    public required ulong Seed { get; init; }

    /// <summary>The graph.</summary>
    public ModelGraph Graph => Analysis.Graph;

    /// <summary>The class of exactness that it keeps.</summary>
    public virtual Exactness Exactness => Exactness.Rounding;

    /// <summary>Looks whether the subnet fits a layer; nothing is changed.</summary>
    /// <exception cref="SubnetRefusedException">It does not.</exception>
    public abstract Rewrite Prepare(LayerSite site);

    /// <summary>
    /// Looks whether the subnet fits a node that is no layer; nothing is changed. Null where the kind has nothing to do with such nodes.
    /// </summary>
    /// <exception cref="SubnetRefusedException">It does not fit.</exception>
    public virtual Rewrite? PrepareOther(NodeAxes axes) => null;

    /// <summary>A builder for the nodes at a layer.</summary>
    protected SubnetBuilder Builder(LayerSite site, SharingLayers sharing) =>
        new(Graph, Editor, site.Name, site.Form, NetworkActivation.Behind(Graph, site.Node.Output[0]), sharing.Initializers);
}
