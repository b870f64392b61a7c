using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>How a layer is made two.</summary>
public enum DeepenMethod
{
    /// <summary>
    /// G = Q·(QᵀG): the layer's weights are rotated by an orthogonal matrix and the new 1×1 layer rotates back, so that both
    /// are dense (METHODS.md §2, closed form). Layers with one output channel a group get the identity form.
    /// </summary>
    ClosedForm,

    /// <summary>The new layer is the identity: Dirac kernels, an identity matrix (Net2Deeper).</summary>
    Identity,
}

/// <summary>
/// Deepens layers: <c>G → F₁, φₐ, F₂</c> with F₂·F₁ = G. The activation between the halves starts as the identity and
/// learns: a parametric ReLU whose slopes start at 1, or φₐ(x) = (1−a)·φ(x) + a·x with a = 1 for the network's own φ.
/// All padding stays with the first half and the second has a 1×1 kernel or sees whole neighbourhoods, so that borders
/// are kept too.
/// </summary>
public sealed class DeepenPass(Selector selector, int count, DeepenMethod method, ulong seed)
{
    /// <summary>Size of the kernel of a new depthwise layer: as small as sees its neighbours.</summary>
    private const int DepthwiseKernel = 3;

    /// <summary>ONNX Runtime has no PRelu of double precision; there φ is the ReLU itself.</summary>
    private static readonly NodeProto s_relu = new() { OpType = "Relu" };

    private static readonly HashSet<string> s_passedOver = ["BatchNormalization", "Add", "Identity", "Dropout", "InstanceNormalization", "LayerNormalization"];

    /// <summary>One selected layer, with the constant that holds its weights where it can be rotated.</summary>
    private sealed record Site(NodeAxes Axes, LinearLayer Layer, ElementType Type, Constant? Weight, int RotatedAxis);

    /// <summary>Deepens the graph that <paramref name="analysis"/> describes, in place.</summary>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var report = new StepReport($"deepen {selector}={count} ({(method == DeepenMethod.ClosedForm ? "closed form" : "identity")})",
            method == DeepenMethod.ClosedForm ? Exactness.Rounding : Exactness.BitExact);
        var editor = new GraphEditor(analysis.Graph);
        var sites = new List<Site>();
        foreach ((NodeAxes axes, LinearLayer layer) in selector.Layers(analysis, report))
        {
            if (Refusal(analysis, axes, layer) is { } why)
                report.Refused.Add(axes.Reason(why));
            else
                sites.Add(FindWeight(analysis, axes, layer));
        }

        // A weight can be rotated when all who read it are deepened in the same way; the new layer is then shared as well.
        foreach (var shared in sites.GroupBy(s => s.Weight is null ? (object)s : (s.Weight, s.RotatedAxis, s.Layer.Groups, s.Axes.Node.OpType)))
        {
            Constant? weight = shared.First().Weight;
            bool rotate = weight is not null && !analysis.Graph.IsReadElsewhere(weight.Name) && analysis.ConstantUses.Count(u => u.Constant == weight) == shared.Count();
            if (rotate)
                editor.Replace(weight!, Rotated(analysis, shared.First(), weight!));
            var layers = new Inserted(analysis.Graph, editor);
            foreach (Site site in shared)
            {
                report.Changes.Add(new Change(ModelGraph.Describe(site.Axes.Node), "layers", 1, 1 + count));
                report.Factorisations.Add(Insert(analysis.Graph, editor, layers, rotate ? site : site with { Weight = null }));
            }
        }

        editor.Commit();
        return report;
    }

    private static string? Refusal(AxisAnalysis analysis, NodeAxes axes, LinearLayer layer)
    {
        if (axes.Attribute("activation") is not null)
            return "its activation is fused into it; export the model without fused nodes";
        if (!analysis.Shapes.Type(axes.Node.Output[0]).IsScalable())
            return $"its result is {analysis.Shapes.Type(axes.Node.Output[0])}, not floating-point";
        return axes.Out(0)[layer.OutputAxis].Size < 1 ? "it has no channels" : null;
    }

    private static long PerGroup(NodeAxes axes, LinearLayer layer) => axes.Out(0)[layer.OutputAxis].Size / layer.Groups;

    // The weight seen through Identity and Transpose, and which of its axes holds the output channels.
    private Site FindWeight(AxisAnalysis analysis, NodeAxes axes, LinearLayer layer)
    {
        ElementType type = analysis.Shapes.Type(axes.Node.Output[0]);
        var none = new Site(axes, layer, type, null, 0);
        // One channel a group leaves nothing to rotate; a transposed layer's groups do not lie along its output axis.
        if (method != DeepenMethod.ClosedForm || PerGroup(axes, layer) < 2 || (layer.Transposed && layer.Groups > 1))
            return none;
        string value = axes.Node.Input[layer.WeightInput];
        int axis = layer.WeightOutputAxis;
        while (analysis.Graph.ConstantOf(value) is null)
        {
            if (analysis.Graph.Producer(value) is not { } producer || analysis.Graph.Uses(value).Count != 1 || analysis.Graph.IsReadElsewhere(value)
                || analysis.Graph.Nodes[producer] is not { OpType: "Transpose" } transpose || analysis.Node(producer) is not { } moved)
                return none;
            axis = moved.IntList("perm") is { } order ? (int)order[axis] : moved.Rank(0) - 1 - axis;
            value = transpose.Input[0];
        }

        Constant constant = analysis.Graph.ConstantOf(value)!;
        return constant.Type.IsScalable() ? none with { Weight = constant, RotatedAxis = axis } : none;
    }

    // Every inserted layer rotates once more: with count layers the first half is Q_countᵀ … Q₁ᵀ·G.
    private WeightExpression Rotated(AxisAnalysis analysis, Site site, Constant weight)
    {
        WeightExpression data = analysis.Graph.Model.Data(weight.Tensor);
        for (int k = 0; k < count; k++)
            data = new RotatedWeight(data, site.RotatedAxis, (int)site.Layer.Groups, RotationSeed(weight, k), transpose: true);
        return data;
    }

    private ulong RotationSeed(Constant weight, int k) => Seeds.For(seed, $"rotation {weight.Name} {k}");

    private Factorisation Insert(ModelGraph graph, GraphEditor editor, Inserted layers, Site site)
    {
        NodeProto node = site.Axes.Node;
        string name = ModelGraph.NameOf(node), result = node.Output[0];
        NodeProto? activation = FollowingActivation(graph, result) ?? (site.Type == ElementType.Float64 ? s_relu : null);
        string value = node.Output[0] = graph.NewName($"{result}_first");

        // A rotated layer hands its bias to the last half, so that the rotation is undone before it is added.
        string? bias = null;
        if (site.Weight is not null && site.Layer.BiasInput >= 0 && node.Input.Count > site.Layer.BiasInput && node.Input[site.Layer.BiasInput].Length > 0)
        {
            bias = node.Input[site.Layer.BiasInput];
            if (NeedsBias(site))
                node.Input[site.Layer.BiasInput] = layers.Zero(name, site);
            else if (site.Layer.BiasInput == node.Input.Count - 1)
                node.Input.RemoveAt(site.Layer.BiasInput);
            else
                node.Input[site.Layer.BiasInput] = "";
        }

        var chain = new List<NodeProto>();
        for (int k = count - 1; k >= 0; k--)
        {
            string step = $" {k}";
            value = ParametricActivation.Emit(
                chain, graph, name, value, activation, ChannelShape(site), site.Type, linearShare: 1,
                (role, make) => layers.Weight(role + step, $"{name}_{role}", make));
            NodeProto second = layers.Second(name, value, site, site.Weight is { } weight ? RotationSeed(weight, k) : null, k);
            if (k == 0 && bias is not null)
                AddBias(second, node, bias, site.Layer);
            else if (NeedsBias(site))
                second.Input.Add(layers.Zero(name, site));
            second.Output.Add(k == 0 ? result : graph.NewName($"{result}_inner"));
            value = second.Output[0];
            chain.Add(second);
        }

        editor.InsertAfter(node, chain);
        return new Factorisation(name, site.Weight is null ? "identity" : "rotation", [name, .. chain.Select(c => c.Name)]);
    }

    // One value a channel, in the form that broadcasts against the layer's result.
    private static ImmutableArray<long> ChannelShape(Site site)
    {
        AxisExpression[] axes = site.Axes.Out(0);
        return [axes[site.Layer.OutputAxis].Size, .. Enumerable.Repeat(1L, axes.Length - 1 - site.Layer.OutputAxis)];
    }

    // A Gemm without a third operand exists from operator set 11 on.
    private static bool NeedsBias(Site site) => site.Axes.Node.OpType == "Gemm" && site.Axes.Opset < 11;

    private static void AddBias(NodeProto second, NodeProto first, string bias, LinearLayer layer)
    {
        second.Input.Add(bias);
        // Gemm's beta scales the bias, which has moved.
        if (layer.SpatialAxes == 0 && first.Attribute.FirstOrDefault(a => a.Name == "beta") is { } beta)
            second.Attribute.Add(beta.Clone());
    }

    // The first activation that the layer's result runs into, through norms and sums.
    private static NodeProto? FollowingActivation(ModelGraph graph, string value)
    {
        for (int steps = 0; steps < 8; steps++)
        {
            var readers = graph.Uses(value).Select(u => graph.Nodes[u.Node]).ToList();
            if (readers.FirstOrDefault(r => ParametricActivation.IsMixed(r)) is { } found)
                return found;
            if (readers.FirstOrDefault(r => s_passedOver.Contains(r.OpType)) is not { } next)
                return null;
            value = next.Output[0];
        }

        return null;
    }

    /// <summary>The nodes and weights that are put behind layers; layers that share a weight share these.</summary>
    private sealed class Inserted(ModelGraph graph, GraphEditor editor)
    {
        private readonly Dictionary<string, string> _weights = [];

        /// <summary>The initializer that layers sharing a weight share under <paramref name="key"/>.</summary>
        public string Weight(string key, string hint, Func<WeightExpression> make)
        {
            if (!_weights.TryGetValue(key, out string? name))
                _weights[key] = name = editor.AddInitializer(hint, make());
            return name;
        }

        public string Zero(string name, Site site) => Weight("zero", $"{name}_zero", () => new FilledWeight(site.Type, [1], Fill.Zero));

        public NodeProto Second(string name, string input, Site site, ulong? rotation, int k)
        {
            LinearLayer layer = site.Layer;
            AxisExpression channelAxis = site.Axes.Out(0)[layer.OutputAxis];
            long channels = channelAxis.Size, perGroup = channels / layer.Groups;
            ElementType type = site.Type;
            bool convolution = layer.SpatialAxes > 0;
            bool gemm = site.Axes.Node.OpType == "Gemm";
            var node = new NodeProto { OpType = convolution ? "Conv" : gemm ? "Gemm" : "MatMul", Name = graph.NewName($"{name}_second") };
            int kernel = rotation is null && perGroup == 1 ? DepthwiseKernel : 1;
            ImmutableArray<long> shape = convolution ? [channels, perGroup, .. Enumerable.Repeat((long)kernel, layer.SpatialAxes)] : [channels, channels];
            string weight = Weight($"second {k}", $"{name}_second_weight", () =>
            {
                var dirac = new DiracWeight(type, shape);
                // MatMul multiplies from the right: its matrix is Qᵀ, which Gemm and convolutions write as Q.
                return rotation is { } q ? new RotatedWeight(dirac, 0, (int)layer.Groups, q, transpose: !convolution && !gemm) : dirac;
            });
            node.Input.AddRange([input, weight]);
            if (gemm)
                GraphEditor.SetInt(node, "transB", 1);
            if (convolution)
            {
                GraphEditor.SetInts(node, "kernel_shape", Enumerable.Repeat((long)kernel, layer.SpatialAxes));
                GraphEditor.SetInts(node, "pads", Enumerable.Repeat((long)(kernel / 2), 2 * layer.SpatialAxes));
                GraphEditor.SetInt(node, "group", layer.Groups);
            }

            return node;
        }
    }
}
