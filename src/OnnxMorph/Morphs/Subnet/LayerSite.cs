using System.Collections.Immutable;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>A layer that a subnet goes into or behind.</summary>
/// <param name="Axes">Its node.</param>
/// <param name="Layer">What is known of it.</param>
/// <param name="Form">How its result carries channels, and what new layers there look like.</param>
internal sealed record LayerSite(NodeAxes Axes, LinearLayer Layer, LayerForm Form)
{
    /// <summary>The node.</summary>
    public NodeProto Node => Axes.Node;

    /// <summary>The layer's name.</summary>
    public string Name => ModelGraph.NameOf(Node);

    /// <summary>Its output channels.</summary>
    public long Channels => Axes.Out(0)[Layer.OutputAxis].Size;

    /// <summary>The constant that holds its weights; null where they are computed otherwise than by transposing.</summary>
    public Constant? Weight { get; private init; }

    /// <summary>The Transpose nodes between the constant and the layer, the layer's own first.</summary>
    public IReadOnlyList<NodeProto> Transposes { get; private init; } = [];

    /// <summary>The use of the constant.</summary>
    public Use WeightUse { get; private init; }

    /// <summary>The axes of the constant.</summary>
    public WeightLayout? Layout { get; private init; }

    /// <summary>Taps of its weight along each spatial axis, before anything is changed.</summary>
    public ImmutableArray<long> Kernel { get; private init; } = [];

    /// <summary>How many taps of a new layer behind it see something along each spatial axis (<see cref="TapReach.Behind"/>).</summary>
    public ImmutableArray<long> Reach { get; private init; } = [];

    /// <summary>Numbers in its weight, before anything is changed.</summary>
    public long Parameters { get; private init; }

    /// <summary>The layer as a site.</summary>
    /// <exception cref="SubnetRefusedException">No subnet can be put at it.</exception>
    public static LayerSite Of(Axes.AxisAnalysis analysis, NodeAxes axes, LinearLayer layer)
    {
        ElementType type = analysis.Shapes.Type(axes.Node.Output[0]);
        if (axes.Attribute("activation") is not null)
            throw new SubnetRefusedException("its activation is fused into it; export the model without fused nodes");
        if (!type.IsScalable())
            throw new SubnetRefusedException($"its result is {type}, not floating-point");
        int rank = axes.OutputDims(0)!.Length;
        var site = new LayerSite(axes, layer, new LayerForm(
            layer.SpatialAxes > 0 ? LayerKind.Conv : layer.BiasInput >= 0 ? LayerKind.Gemm : LayerKind.MatMul, type, rank, checked((int)layer.Groups)));
        if (site.Channels < 1 || layer.OutputAxis != site.Form.ChannelAxis)
            throw new SubnetRefusedException("it has no channels where new layers would have theirs");
        return (site with { Reach = TapReach.Of(axes, layer).Behind }).FindWeight(analysis);
    }

    // The weight seen through Identity and Transpose nodes that serve nobody else.
    private LayerSite FindWeight(Axes.AxisAnalysis analysis)
    {
        ModelGraph graph = analysis.Graph;
        int rank = Axes.Rank(Layer.WeightInput);
        // order[i]: which axis of the stored tensor axis i of the layer's input is.
        int[] order = [.. Enumerable.Range(0, rank)];
        var transposes = new List<NodeProto>();
        var use = new Use(Axes.Index, Layer.WeightInput);
        while (true)
        {
            string value = graph.Nodes[use.Node].Input[use.Input];
            if (graph.ConstantOf(value) is { } constant)
            {
                if (!constant.Type.IsScalable())
                    return this;
                int outAxis = Layer.WeightOutputAxis, inAxis = 1 - outAxis;
                LayerSite found = this with
                {
                    Weight = constant,
                    WeightUse = use,
                    Transposes = transposes,
                    Layout = new WeightLayout(order[outAxis], order[inAxis], [.. order.Skip(2)], Form.Groups, !Layer.Transposed),
                };
                found = found with { Kernel = [.. found.Layout!.Spatial.Select(axis => constant.Shape[axis])], Parameters = constant.Count };
                return found with { Pads = found.FindPads() };
            }

            if (graph.Producer(value) is not { } producer || graph.Uses(value).Count != 1 || graph.IsReadElsewhere(value)
                || graph.Nodes[producer] is not { OpType: "Transpose" } transpose || analysis.Node(producer) is not { } moved)
                return this;
            int[] perm = moved.IntList("perm")?.Select(axis => (int)axis).ToArray() ?? [.. Enumerable.Range(0, rank).Reverse()];
            order = [.. order.Select(axis => perm[axis])];
            transposes.Add(transpose);
            use = new Use(producer, 0);
        }
    }

    /// <summary>A kernel of <paramref name="taps"/> along each spatial axis, less those that see padding alone.</summary>
    public ImmutableArray<long> Neighbourhood(long taps) => [.. Reach.Select(most => Math.Min(taps, most))];

    /// <summary>Makes sure that all taps of a module's layers see something, if not in this place then in the layer's own.</summary>
    /// <param name="module">The module, with kernels for this place.</param>
    /// <exception cref="SubnetRefusedException">Some do not.</exception>
    public void RequireSeeing(Module module)
    {
        ImmutableArray<long> most = Kernel.IsEmpty ? Reach : [.. Reach.Zip(Kernel, Math.Max)];
        if (module.Operators.OfType<ModuleLayer>().Select(layer => TapReach.Refusal(layer.Kernel!.Value, most)).FirstOrDefault(why => why is not null) is { } why)
            throw new SubnetRefusedException(why);
    }

    /// <summary>The layer's own linear map.</summary>
    /// <exception cref="SubnetRefusedException">Its weights do not stand in the file, or it adds more than a bias.</exception>
    public LinearOperator Operator(ModelGraph graph)
    {
        if (Weight is null)
            throw new SubnetRefusedException("its weight is computed by other nodes, or is not floating-point");
        if (Node.Input.Count > 3 && Node.Input[3].Length > 0)
            throw new SubnetRefusedException("it adds another value as well; export the model without fused nodes");
        var whole = new LinearOperator(graph.Model.Data(Weight.Tensor), Layout!, Pads);
        return whole.Times(Axes.Attribute("alpha")?.F ?? 1);
    }

    /// <summary>Where the layer's kernel lies.</summary>
    public KernelPads Pads { get; private init; } = KernelPads.None(0);

    private KernelPads FindPads()
    {
        int spatial = Layer.SpatialAxes;
        if (spatial == 0)
            return KernelPads.None(0) with { Displaced = Axes.Int("transA", 0) == 0 ? null : "it transposes its input" };
        long[] ones = [.. Enumerable.Repeat(1L, spatial)];
        long[] dilations = Axes.IntList("dilations") ?? ones, strides = Axes.IntList("strides") ?? ones;
        ConvolutionPads? pads = ConvolutionPads.Of(Axes, Layer, [.. Kernel], out string reason);
        string? unknown = pads is null ? reason
            : pads.Automatic is { } mode ? $"auto_pad={mode} with a stride pads by an amount that depends on the caller's sizes" : null;
        string? displaced = Layer.Transposed || strides.Any(s => s != 1) ? KernelPads.OtherPositions : null;
        return new KernelPads([.. pads?.Begin ?? []], [.. pads?.End ?? []], [.. dilations], unknown, displaced);
    }
}
