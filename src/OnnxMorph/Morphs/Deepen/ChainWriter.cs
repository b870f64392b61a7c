using System.Collections.Immutable;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// Writes new layers, and what stands between them, into a graph. One writer serves the layers that share a weight: what is put behind one of
/// them shares its weights with what is put behind the others.
/// </summary>
/// <param name="graph">The graph.</param>
/// <param name="editor">Takes the edits.</param>
/// <param name="options">What is asked for.</param>
/// <param name="norms">Gets the new batch norms.</param>
/// <param name="reach">How many taps of new layers see something for one of the layers at least.</param>
internal sealed class ChainWriter(ModelGraph graph, GraphEditor editor, DeepenOptions options, List<InsertedNorm> norms, TapReach reach)
{
    private readonly Dictionary<string, string> _weights = [];

    /// <summary>Puts a chain in the place of a layer and gives the names of its nodes.</summary>
    public List<string> Write(DeepenSite site, DeepenChain chain)
    {
        NodeProto node = site.Axes.Node;
        string name = site.Name, result = node.Output[0];
        NetworkActivation? activation = NetworkActivation.Behind(graph, result);
        string? bias = chain.MovesBias && chain.Original < chain.Layers.Count - 1 ? TakeBias(node, site) : null;
        IReadOnlyList<ConvolutionWindow?> windows = chain.Windows(site);
        var before = new List<NodeProto>();
        var after = new List<NodeProto>();
        string value = node.Input[0];
        for (int i = 0; i < chain.Layers.Count; i++)
        {
            bool last = i == chain.Layers.Count - 1;
            List<NodeProto> nodes = i < chain.Original ? before : after;
            if (i == chain.Original)
            {
                if (i > 0)
                    editor.Rewire(new Use(site.Axes.Index, 0), value);
                windows[i]?.Write(node);
                node.Output[0] = last ? result : graph.NewName($"{result}_first");
                value = node.Output[0];
            }
            else
            {
                string role = i < chain.Original ? "first" : "second";
                LayerWeight weight = chain.Layers[i]!;
                NodeProto layer = Layer($"{name}_{role}", value, site, Weight($"layer {i}", $"{name}_{role}_weight", () => weight.Data), windows[i]);
                // What comes first reads the layer's input as the layer does.
                if (i == 0 && node.Attribute.FirstOrDefault(a => a.Name == "transA") is { } transposed)
                {
                    layer.Attribute.Add(transposed.Clone());
                    node.Attribute.Remove(transposed);
                }

                if (last && bias is not null)
                    AddBias(layer, node, bias, site);
                else if (NeedsBias(site))
                    layer.Input.Add(Zero(name, site));
                layer.Output.Add(last ? result : graph.NewName($"{result}_inner"));
                value = layer.Output[0];
                nodes.Add(layer);
            }

            if (!last)
            {
                LayerWeight weight = chain.Layers[i] ?? site.Weight ?? site.Dirac(site.Outputs, site.Kernel);
                value = Between(nodes, site, value, (long)weight.Outputs * site.Groups, options.Activation == DeepenActivation.Mirror ? activation ?? NetworkActivation.Relu : activation, $" {i}");
            }
        }

        editor.InsertBefore(node, before);
        editor.InsertAfter(node, after);
        return [.. before.Select(n => n.Name), name, .. after.Select(n => n.Name)];
    }

    /// <summary>Puts x + F(x) behind a layer: F is two layers like it with its activation between them, and the second makes 0.</summary>
    public List<string> WriteResidual(DeepenSite site, int channels)
    {
        NodeProto node = site.Axes.Node;
        string name = site.Name, result = node.Output[0];
        NetworkActivation activation = NetworkActivation.Behind(graph, result) ?? NetworkActivation.Relu;
        (ImmutableArray<int> First, ImmutableArray<int> Second) kernels = options.Kernels?.For(site.Layer.SpatialAxes) ?? (Seeing(site), Seeing(site));
        var nodes = new List<NodeProto>();
        string value = node.Output[0] = graph.NewName($"{result}_first");
        for (int k = 0; k < options.Count; k++)
        {
            var random = new Fill(FillKind.Normal, LayerWeight.HeScale(site.Outputs, kernels.First), Seeds.For(options.Seed, $"residual {name} {k}"));
            string inner = Half("first", site.Filled(channels, site.Outputs, kernels.First, random), kernels.First, value);
            inner = Norm(nodes, site, inner, (long)channels * site.Groups, $" {k}");
            inner = activation.Emit(nodes, graph, name, inner);
            inner = Half("second", site.Filled(site.Outputs, channels, kernels.Second, Fill.Zero), kernels.Second, inner);
            var sum = new NodeProto { OpType = "Add", Name = graph.NewName($"{name}_add") };
            sum.Input.AddRange([value, inner]);
            sum.Output.Add(value = k == options.Count - 1 ? result : graph.NewName($"{result}_inner"));
            nodes.Add(sum);

            string Half(string role, LayerWeight weight, ImmutableArray<int> kernel, string input)
            {
                ConvolutionWindow? window = site.IsConvolution ? ConvolutionWindow.Same(kernel, ConvolutionWindow.DilationsOf(site.Axes, site.Layer)) : null;
                NodeProto layer = Layer($"{name}_{role}", input, site, Weight($"{role} {k}", $"{name}_{role}_weight", () => weight.Data), window);
                if (site.HasBias || NeedsBias(site))
                    layer.Input.Add(Weight($"{role} bias {k}", $"{name}_{role}_bias", () => new FilledWeight(site.Type, [(long)weight.Outputs * site.Groups], Fill.Zero)));
                layer.Output.Add(graph.NewName($"{name}_{role}_output"));
                nodes.Add(layer);
                return layer.Output[0];
            }
        }

        editor.InsertAfter(node, nodes);
        return [name, .. nodes.Select(n => n.Name)];
    }

    // As large as the layer's own, less the taps that would see padding alone on a smaller map.
    private ImmutableArray<int> Seeing(DeepenSite site) => [.. site.Kernel.Zip(reach.Behind, (taps, most) => (int)Math.Min(taps, most))];

    /// <summary>Puts identity layers behind the activation that follows a layer, and the activation once more behind each: φ(φ(x)) = φ(x).</summary>
    public List<string> WriteIdempotent(DeepenSite site, NetworkActivation activation)
    {
        NodeProto anchor = activation.Node;
        string name = site.Name, result = anchor.Output[0];
        ImmutableArray<int> kernel = options.Kernels?.For(site.Layer.SpatialAxes)?.Second ?? LayerFactoring.IdentityKernel(site, reach);
        ConvolutionWindow? window = site.IsConvolution ? ConvolutionWindow.Same(kernel, ConvolutionWindow.DilationsOf(site.Axes, site.Layer)) : null;
        var nodes = new List<NodeProto>();
        string value = anchor.Output[0] = graph.NewName($"{result}_first");
        for (int k = 0; k < options.Count; k++)
        {
            NodeProto layer = Layer($"{name}_second", value, site, Weight($"layer {k}", $"{name}_second_weight", () => site.Dirac(site.Outputs, kernel).Data), window);
            if (NeedsBias(site))
                layer.Input.Add(Zero(name, site));
            layer.Output.Add(graph.NewName($"{result}_inner"));
            nodes.Add(layer);
            value = Norm(nodes, site, layer.Output[0], (long)site.Outputs * site.Groups, $" {k}");
            value = activation.Emit(nodes, graph, name, value);
        }

        nodes[^1].Output[0] = result;
        editor.InsertAfter(anchor, nodes);
        return [ModelGraph.NameOf(anchor), .. nodes.Select(n => n.Name)];
    }

    // Norm and activation behind a layer with so many channels.
    private string Between(List<NodeProto> nodes, DeepenSite site, string value, long channels, NetworkActivation? activation, string step)
    {
        value = Norm(nodes, site, value, channels, step);
        if (options.Activation == DeepenActivation.None)
            return value;
        if (options.Activation == DeepenActivation.Mirror)
            return activation!.Emit(nodes, graph, site.Name, value);
        // ONNX Runtime has no PRelu of double precision; there φ is the ReLU itself.
        NetworkActivation? mixed = NetworkActivation.ToMix(activation, site.Type);
        return ParametricActivation.Emit(
            nodes, graph, site.Name, value, mixed, site.ChannelShape(channels), site.Type, linearShare: 1,
            (role, make) => Weight(role + step, $"{site.Name}_{role}", make));
    }

    // (x − 0)/√(v + ε)·1 + 0 with v + ε = 1 to the last bit, where the type can hold v; bfloat16 rounds the difference away.
    private string Norm(List<NodeProto> nodes, DeepenSite site, string value, long channels, string step)
    {
        if (options.Norm == DeepenNorm.None)
            return value;
        float epsilon = site.Type == ElementType.Float16 ? 1f / (1 << 10) : 1f / (1 << 17);
        // Statistics are a layer's own, even where it shares its weights.
        string owner = options.Calibrate is null ? "" : site.Name;
        string Vector(string role, double start) =>
            Weight($"norm {role}{owner}{step}", $"{site.Name}_norm_{role}", () => new FilledWeight(site.Type, [channels], Fill.Constant(start)));

        string hint = $"{site.Name}_norm";
        var node = new NodeProto { OpType = "BatchNormalization", Name = graph.NewName(hint) };
        node.Input.AddRange([value, Vector("scale", 1), Vector("bias", 0), Vector("mean", 0), Vector("variance", 1 - epsilon)]);
        node.Attribute.Add(new AttributeProto { Name = "epsilon", Type = AttributeProto.Types.AttributeType.Float, F = epsilon });
        node.Output.Add(graph.NewName($"{hint}_output"));
        nodes.Add(node);
        norms.Add(new InsertedNorm(node, site.Type, epsilon));
        return node.Output[0];
    }

    private NodeProto Layer(string hint, string input, DeepenSite site, string weight, ConvolutionWindow? window)
    {
        var node = new NodeProto { OpType = site.IsConvolution ? "Conv" : site.IsGemm ? "Gemm" : "MatMul", Name = graph.NewName(hint) };
        node.Input.AddRange([input, weight]);
        if (site.IsGemm)
            GraphEditor.SetInt(node, "transB", 1);
        window?.Write(node);
        if (site.IsConvolution)
            GraphEditor.SetInt(node, "group", site.Groups);
        return node;
    }

    private string? TakeBias(NodeProto node, DeepenSite site)
    {
        if (!site.HasBias)
            return null;
        int input = site.Layer.BiasInput;
        string bias = node.Input[input];
        if (NeedsBias(site))
            node.Input[input] = Zero(site.Name, site);
        else if (input == node.Input.Count - 1)
            node.Input.RemoveAt(input);
        else
            node.Input[input] = "";
        return bias;
    }

    private static void AddBias(NodeProto layer, NodeProto first, string bias, DeepenSite site)
    {
        layer.Input.Add(bias);
        // Gemm's beta scales the bias, which has moved.
        if (site.IsGemm && first.Attribute.FirstOrDefault(a => a.Name == "beta") is { } beta)
            layer.Attribute.Add(beta.Clone());
    }

    // A Gemm without a third operand exists from operator set 11 on.
    private static bool NeedsBias(DeepenSite site) => site.IsGemm && site.Axes.Opset < 11;

    private string Zero(string name, DeepenSite site) => Weight("zero", $"{name}_zero", () => new FilledWeight(site.Type, [1], Fill.Zero));

    // The initializer that layers sharing a weight share under a key.
    private string Weight(string key, string hint, Func<WeightExpression> make)
    {
        if (!_weights.TryGetValue(key, out string? name))
            _weights[key] = name = editor.AddInitializer(hint, make());
        return name;
    }
}
