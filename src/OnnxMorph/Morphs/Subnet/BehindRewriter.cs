using OnnxMorph.Graph;
using OnnxMorph.Onnx;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Puts nodes behind a layer's result: behind its bias and its batch norm too, where nothing else reads what is between.
/// </summary>
internal abstract class BehindRewriter : SubnetRewriter
{
    /// <summary>The node that makes a layer's result.</summary>
    protected NodeProto ResultOf(LayerSite site)
    {
        NodeProto node = site.Node;
        while (node.Output.Count(o => o.Length > 0) == 1 && !Graph.IsReadElsewhere(node.Output[0]) && Graph.Uses(node.Output[0]) is [var use]
            && Graph.Nodes[use.Node] is var next && ModelGraph.IsStandard(next) && Continues(site, next, use.Input))
            node = next;
        return node;
    }

    private bool Continues(LayerSite site, NodeProto node, int input) =>
        node.OpType == "BatchNormalization" ? input == 0
        : node.OpType == "Add" && Graph.ConstantOf(node.Input[1 - input]) is { } bias && bias.Shape.Count <= site.Form.Rank
            && bias.Shape.Select((size, i) => size == 1 || i + site.Form.Rank - bias.Shape.Count == site.Form.ChannelAxis).All(x => x);

    /// <summary>Puts behind a layer's result what <paramref name="write"/> makes of it; readers get that instead.</summary>
    protected IReadOnlyList<NodeProto> PutBehind(LayerSite site, SharingLayers sharing, Func<SubnetBuilder, string, string> write)
    {
        NodeProto last = ResultOf(site);
        SubnetBuilder builder = Builder(site, sharing);
        string result = last.Output[0];
        string inner = last.Output[0] = Graph.NewName($"{result}_layer");
        builder.Finish(write(builder, inner), result);
        Editor.InsertAfter(last, builder.Nodes);
        return [site.Node, .. builder.Nodes];
    }
}
