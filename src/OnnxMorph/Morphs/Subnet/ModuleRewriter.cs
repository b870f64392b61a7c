using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Puts a module of linear layers in a layer's place: <c>y = G·x + b → y = Σ over the module's paths of the product of their layers + b</c>
/// (Wei, Wang, Rui, Chen 2016; Wei, Wang, Chen 2017).
/// </summary>
internal sealed class ModuleRewriter : SubnetRewriter
{
    /// <summary>The module for a layer.</summary>
    public required Func<LayerSite, Module> Module { get; init; }

    /// <summary>Whether the parts of sums get equal shares.</summary>
    public bool EvenShares { get; init; }

    public override Rewrite Prepare(LayerSite site)
    {
        LinearOperator whole = site.Operator(Graph);
        Module module = Module(site).At(whole.Kernel, site.Form.Groups * whole.Inputs, site.Channels);
        ulong seed = Seeds.For(Seed, $"module {site.Weight!.Name}");
        IReadOnlyDictionary<int, WeightedLayer> layers = ModuleWeights.Of(module, whole, main: true, site.Form, EvenShares, seed);
        if (site.Axes.Int("transA", 0) != 0 && module.Operators.Where((o, i) => o.Inputs.Contains(0) && layers.GetValueOrDefault(i + 1) is not { Main: true }).Any())
            throw new SubnetRefusedException("it transposes its input, which only a layer like itself can");
        ModuleBias? bias = Bias(site, module);
        return sharing => Write(site, sharing, module, layers, bias, whole);
    }

    private ModuleBias? Bias(LayerSite site, Module module)
    {
        int input = site.Layer.BiasInput;
        NodeProto node = site.Node;
        if (input < 0 || node.Input.Count <= input || node.Input[input].Length == 0)
            return null;
        string whole = node.Input[input];
        SortedSet<int> ends = module.LastLayers(module.Result);
        ends.Remove(0);
        if (ends.Count == 0 || (module.Operators.Any(o => o is ModuleConcat) && ends.Count > 1 && Graph.ConstantOf(whole) is null))
            throw new SubnetRefusedException("its bias is computed by other nodes, and the module needs slices of it");
        return new ModuleBias(whole, Slice, site.Axes.Attribute("beta"));

        string Slice(long first, long count)
        {
            Constant bias = Graph.ConstantOf(whole)!;
            // A Gemm may spread one number over all channels.
            if (bias.Shape.Count == 0 || bias.Shape[^1] == 1)
                return whole;
            var maps = new Axes.AxisMap?[bias.Shape.Count];
            maps[^1] = Axes.AxisMap.Pick((int)bias.Shape[^1], 0, [.. Enumerable.Range((int)first, (int)count)]);
            return Editor.AddInitializer($"{bias.Name}_slice", Graph.Model.Data(bias.Tensor).Map([.. maps], Fill.Zero));
        }
    }

    private List<NodeProto> Write(
        LayerSite site, SharingLayers sharing, Module module, IReadOnlyDictionary<int, WeightedLayer> layers, ModuleBias? bias, LinearOperator whole)
    {
        SubnetBuilder builder = Builder(site, sharing);
        NodeProto node = site.Node, original = node.Clone();
        string result = node.Output[0];
        bool first = true;
        var writer = new ModuleWriter(builder, module, layers) { Bias = bias, Main = Main };
        builder.Finish(writer.Write(original.Input[0], site.Form.Groups * whole.Inputs), result);
        int at = builder.Nodes.IndexOf(node);
        Editor.InsertBefore(node, builder.Nodes.Take(at));
        Editor.InsertAfter(node, builder.Nodes.Skip(at + 1));
        return builder.Nodes;

        // The layer itself is the first of those that are like it, so that its name and its weight's go on.
        NodeProto Main(string role, string reads, LinearOperator weights, string? ownBias)
        {
            NodeProto layer = first ? node : original.Clone();
            if (!first)
            {
                layer.Name = Graph.NewName($"{site.Name}_branch");
                layer.Input[site.Layer.WeightInput] = Weight(site, builder, role, weights);
            }
            else if (!sharing.IsReplaced)
            {
                sharing.IsReplaced = true;
                Editor.Replace(site.Weight!, weights.Weight, [.. sharing.Sites.Select(s => s.WeightUse)], Analysis.ConstantUses.Count(u => u.Constant == site.Weight));
            }

            first = false;
            layer.Input[0] = reads;
            SetBias(layer, site, builder, ownBias);
            GraphEditor.RemoveAttribute(layer, "alpha"); // The weights have it.
            if (reads != original.Input[0])
                GraphEditor.RemoveAttribute(layer, "transA");
            if (!weights.Kernel.SequenceEqual(whole.Kernel))
            {
                GraphEditor.RemoveAttribute(layer, "auto_pad");
                GraphEditor.SetInts(layer, "kernel_shape", weights.Kernel);
                GraphEditor.SetInts(layer, "pads", weights.Pads.Begin.Concat(weights.Pads.End));
            }

            if (layer == node)
                RenameTransposed(site);
            layer.Output[0] = Graph.NewName($"{result}_part");
            builder.Put(layer);
            return layer;
        }
    }

    // What the layer's own transposes make has other numbers now, and may have other sizes.
    private void RenameTransposed(LayerSite site)
    {
        (NodeProto reader, int input) = (site.Node, site.Layer.WeightInput);
        foreach (NodeProto transpose in site.Transposes)
        {
            reader.Input[input] = transpose.Output[0] = Graph.NewName(transpose.Output[0]);
            (reader, input) = (transpose, 0);
        }
    }

    // A weight in the stored order passes through the same transposes as the layer's own.
    private static string Weight(LayerSite site, SubnetBuilder builder, string role, LinearOperator weights)
    {
        string value = builder.Weight(role, () => weights.Weight);
        foreach (NodeProto transpose in site.Transposes.Reverse())
        {
            NodeProto copy = transpose.Clone();
            copy.Input.Clear();
            copy.Output.Clear();
            value = builder.Add(copy, value);
        }

        return value;
    }

    private static void SetBias(NodeProto layer, LayerSite site, SubnetBuilder builder, string? bias)
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
