using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Verification;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// A new skip from an earlier value h to a layer's result f (METHODS.md §2): <c>f → λ·f + (1−λ)·h</c> with one λ for each channel,
/// all 1, or <c>f → [I | 0]·concat(f, h)</c>. λ has the gradient of f − h, and the zeros that of h.
/// </summary>
internal sealed class SkipRewriter : BehindRewriter
{
    /// <summary>Whether values are concatenated; else they are added.</summary>
    public required bool Concatenates { get; init; }

    /// <summary>Name of the node that makes h; null takes the nearest that fits.</summary>
    public required string? From { get; init; }

    public override Exactness Exactness => Exactness.BitExact;

    // Values that activations of several nodes make on the way, with the result of the activation. ONNX Runtime fuses such nodes, and
    // some of its fusions (FastGelu) forget that others read a value inside.
    private Dictionary<string, string> Inside => field ??= ActivationRegion.Find(Analysis)
        .SelectMany(region => region.Nodes.SkipLast(1).SelectMany(n => Graph.Nodes[n].Output).Select(value => (Value: value, End: region.Last)))
        .ToDictionary(inside => inside.Value, inside => ModelGraph.NameOf(Graph.Nodes[inside.End]));

    public override Rewrite Prepare(LayerSite site)
    {
        string skip = From is null ? Nearest(site) : Named(site, From);
        long skipped = Analysis.Shapes.Dims(skip)![site.Form.ChannelAxis];
        return sharing => PutBehind(site, sharing, (builder, value) => Concatenates
            ? Concat(builder, value, skip, site.Channels, skipped)
            : Mix(builder, value, skip, site.Channels));
    }

    private static string Mix(SubnetBuilder builder, string value, string skip, long channels)
    {
        string share = builder.Numbers("share", channels, 1);
        string rest = builder.Add("Sub", builder.Number(1), share);
        return builder.Add("Add", builder.Add("Mul", share, value), builder.Add("Mul", rest, skip));
    }

    private static string Concat(SubnetBuilder builder, string value, string skip, long channels, long skipped)
    {
        string both = builder.Concat([value, skip]);
        return builder.Layer($"mix {skipped}", both, builder.Form.Dense().Identity(channels).WithZeroInputs(skipped)).Output[0];
    }

    // The layer's own input where it fits; else, of the values that the layer is made of and that layers made, the last.
    private string Nearest(LayerSite site)
    {
        string input = site.Node.Input[0];
        if (Misfit(site, input) is not { } why)
            return input;
        SortedSet<int> behind = Ancestors.Of(Graph, site.Node);
        return behind.Reverse().SelectMany(n => Graph.Nodes[n].Output)
            .FirstOrDefault(value => value.Length > 0 && Misfit(site, value) is null && MadeByLayers(value))
            ?? throw new SubnetRefusedException($"no earlier value has its result's shape, and its input does not: {why}");
    }

    private bool MadeByLayers(string value) => Analysis.Axes(value) is { } axes && axes.Any(axis => Analysis.Solver.Leaves(axis).Any());

    private string Named(LayerSite site, string name)
    {
        int found = Enumerable.Range(0, Graph.Nodes.Count).FirstOrDefault(n => ModelGraph.NameOf(Graph.Nodes[n]) == name, -1);
        if (found < 0)
            throw new RefusedException($"The model has no node '{name}' to begin a skip at; 'onnxmorph inspect' lists the layers' names.");
        if (found >= site.Axes.Index)
            throw new SubnetRefusedException($"'{name}' does not come before it");
        string value = Graph.Nodes[found].Output[0];
        return Misfit(site, value) is { } why ? throw new SubnetRefusedException($"the skip from '{name}' does not fit: {why}") : value;
    }

    // Why a value cannot be the skip: sizes must agree at whatever callers choose, but for the channels of a concatenation.
    private string? Misfit(LayerSite site, string value)
    {
        if (Analysis.IsWeight(value) || Analysis.Shapes.Type(value) != site.Form.Type)
            return "it is no value of the same type";
        if (Inside.TryGetValue(value, out string? end))
            return $"it lies inside an activation of several nodes, which ends at '{end}'";
        string result = site.Node.Output[0];
        bool same = Same(Analysis.Shapes.Dims(value), Analysis.Shapes.Dims(result))
            && (Analysis.Shapes.Other is not { } other || Same(other.Dims(value), other.Dims(result)));
        return same ? null : $"it has sizes {(Analysis.Shapes.Dims(value) is { } dims ? string.Join('×', dims) : "unknown")} instead of {string.Join('×', Analysis.Shapes.Dims(result)!)}";

        bool Same(long[]? own, long[]? wanted) => own is not null && wanted is not null && own.Length == wanted.Length
            && own.Zip(wanted).Select((pair, axis) => pair.First == pair.Second || (Concatenates && axis == site.Form.ChannelAxis)).All(x => x);
    }
}

/// <summary>Finds what a node's result is made of.</summary>
internal static class Ancestors
{
    /// <summary>Numbers of the nodes that make, directly or not, what <paramref name="node"/> reads.</summary>
    public static SortedSet<int> Of(ModelGraph graph, NodeProto node)
    {
        var found = new SortedSet<int>();
        var open = new Stack<NodeProto>([node]);
        while (open.TryPop(out NodeProto? next))
            foreach (string input in next.Input)
                if (graph.Producer(input) is { } producer && found.Add(producer))
                    open.Push(graph.Nodes[producer]);
        return found;
    }
}
