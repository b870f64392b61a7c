using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Makes layers like a given one, which stand around it in the graph. The first is the layer itself, so that its name and its weight's go on.
/// </summary>
/// <param name="analysis">The graph, analysed.</param>
/// <param name="editor">Takes the edits.</param>
/// <param name="site">The layer.</param>
/// <param name="sharing">The layers that share its weight.</param>
/// <param name="builder">Takes the nodes.</param>
internal sealed class LayerCopies(AxisAnalysis analysis, GraphEditor editor, LayerSite site, SharingLayers sharing, SubnetBuilder builder)
{
    private readonly NodeProto _original = site.Node.Clone();
    private bool _first = true;

    private ModelGraph Graph => analysis.Graph;

    /// <summary>The value that the layer reads.</summary>
    public string Input => _original.Input[0];

    /// <summary>The layer's bias; null where it has none.</summary>
    public static ModuleBias? Bias(ModelGraph graph, GraphEditor editor, LayerSite site)
    {
        int input = site.Layer.BiasInput;
        if (input < 0 || site.Node.Input.Count <= input || site.Node.Input[input].Length == 0)
            return null;
        string whole = site.Node.Input[input];
        Constant? constant = graph.ConstantOf(whole);
        return new ModuleBias(whole, constant is null ? null : Slice, site.Axes.Attribute("beta"));

        string Slice(long first, long count)
        {
            // A Gemm may spread one number over all channels.
            if (constant.Shape.Count == 0 || constant.Shape[^1] == 1)
                return whole;
            var maps = new AxisMap?[constant.Shape.Count];
            maps[^1] = AxisMap.Pick((int)constant.Shape[^1], 0, [.. Enumerable.Range((int)first, (int)count)]);
            return editor.AddInitializer($"{constant.Name}_slice", graph.Model.Data(constant.Tensor).Map([.. maps], Fill.Zero));
        }
    }

    /// <summary>Adds a layer like the given one.</summary>
    /// <param name="role">Role of its weight.</param>
    /// <param name="reads">What it reads.</param>
    /// <param name="weights">Its weights, in the axis order of the given one's constant.</param>
    /// <param name="bias">Its bias; null for none.</param>
    public NodeProto Add(string role, string reads, LinearOperator weights, string? bias)
    {
        NodeProto layer = _first ? site.Node : _original.Clone();
        if (_first)
            Reuse(weights.Weight);
        else
        {
            layer.Name = Graph.NewName($"{site.Name}_branch");
            layer.Input[site.Layer.WeightInput] = Weight(role, weights.Weight);
        }

        _first = false;
        layer.Input[0] = reads;
        SetBias(layer, bias);
        GraphEditor.RemoveAttribute(layer, "alpha"); // The weights have it.
        if (reads != Input)
            GraphEditor.RemoveAttribute(layer, "transA");
        if (weights.Layout.Groups != site.Form.Groups)
            GraphEditor.SetInt(layer, "group", weights.Layout.Groups);
        if (!weights.Kernel.SequenceEqual(site.Kernel))
        {
            GraphEditor.RemoveAttribute(layer, "auto_pad");
            GraphEditor.SetInts(layer, "kernel_shape", weights.Kernel);
            GraphEditor.SetInts(layer, "pads", weights.Pads.Begin.Concat(weights.Pads.End));
        }

        layer.Output[0] = Graph.NewName($"{_original.Output[0]}_part");
        builder.Put(layer);
        return layer;
    }

    /// <summary>Puts the nodes around the layer; readers of its result get <paramref name="value"/>.</summary>
    public IReadOnlyList<NodeProto> Finish(string value)
    {
        builder.Finish(value, _original.Output[0]);
        int at = builder.Nodes.IndexOf(site.Node);
        editor.InsertBefore(site.Node, builder.Nodes.Take(at));
        editor.InsertAfter(site.Node, builder.Nodes.Skip(at + 1));
        return builder.Nodes;
    }

    private void Reuse(WeightExpression weight)
    {
        if (!sharing.IsReplaced)
        {
            sharing.IsReplaced = true;
            editor.Replace(site.Weight!, weight, [.. sharing.Sites.Select(s => s.WeightUse)], analysis.ConstantUses.Count(u => u.Constant == site.Weight));
        }

        // What the layer's transposes make has other numbers now, and may have other sizes.
        (NodeProto reader, int input) = (site.Node, site.Layer.WeightInput);
        foreach (NodeProto transpose in site.Transposes)
        {
            reader.Input[input] = transpose.Output[0] = Graph.NewName(transpose.Output[0]);
            (reader, input) = (transpose, 0);
        }
    }

    // A weight in the stored order passes through the same transposes as the layer's own.
    private string Weight(string role, WeightExpression weight)
    {
        string value = builder.Weight(role, () => weight);
        foreach (NodeProto transpose in site.Transposes.Reverse())
        {
            NodeProto copy = transpose.Clone();
            copy.Input.Clear();
            copy.Output.Clear();
            value = builder.Add(copy, value);
        }

        return value;
    }

    private void SetBias(NodeProto layer, string? bias)
    {
        int input = site.Layer.BiasInput;
        if (input < 0)
            return;
        if (bias is null)
            GraphEditor.RemoveAttribute(layer, "beta");
        bias ??= builder.MissingBias;
        while (layer.Input.Count > input)
            layer.Input.RemoveAt(layer.Input.Count - 1);
        if (bias is not null)
            layer.Input.Add(bias);
    }
}
