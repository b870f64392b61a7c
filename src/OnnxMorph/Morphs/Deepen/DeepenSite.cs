using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>A layer that is to be deepened, with the constant that holds its weights where there is one.</summary>
internal sealed class DeepenSite
{
    private readonly List<(string Value, ImmutableArray<int> Axes)> _moved = [];

    private DeepenSite(AxisAnalysis analysis, NodeAxes axes, LinearLayer layer)
    {
        (Axes, Layer) = (axes, layer);
        Type = analysis.Shapes.Type(axes.Node.Output[0]);
        Kernel = [.. Enumerable.Range(0, layer.SpatialAxes).Select(axis => checked((int)axes.In(layer.WeightInput, axis + 2).Size))];
        if (IsConvolution)
        {
            Window = ConvolutionWindow.Of(axes, layer, Kernel, out string? why);
            WindowUnknown = why;
        }

        FindWeight(analysis);
    }

    /// <summary>The layer's node.</summary>
    public NodeAxes Axes { get; }

    /// <summary>Which of its inputs and axes are which.</summary>
    public LinearLayer Layer { get; }

    /// <summary>Element type of its result.</summary>
    public ElementType Type { get; }

    /// <summary>Taps along each spatial axis.</summary>
    public ImmutableArray<int> Kernel { get; }

    /// <summary>How a convolution lays its kernel over its input; null for matrix products, and with <see cref="WindowUnknown"/>.</summary>
    public ConvolutionWindow? Window { get; }

    /// <summary>Why the window of a convolution is not known; null where it is.</summary>
    public string? WindowUnknown { get; }

    /// <summary>The constant behind the layer's weight, seen through Identity and Transpose; null where other nodes compute it.</summary>
    public Constant? Constant { get; private set; }

    /// <summary>The constant as the layer's weight; null with it.</summary>
    public LayerWeight? Weight { get; private set; }

    /// <summary>What users call the layer.</summary>
    public string Name => ModelGraph.NameOf(Axes.Node);

    /// <summary>Groups of its channels.</summary>
    public int Groups => (int)Layer.Groups;

    /// <summary>Output channels of a group.</summary>
    public int Outputs => checked((int)(Axes.Out(0)[Layer.OutputAxis].Size / Layer.Groups));

    /// <summary>Whether it is a convolution of either kind.</summary>
    public bool IsConvolution => Layer.SpatialAxes > 0;

    /// <summary>Whether new layers like it are Gemm nodes; MatMul nodes where they are not convolutions either.</summary>
    public bool IsGemm => Axes.Node.OpType == "Gemm";

    /// <summary>Whether it has a bias.</summary>
    public bool HasBias => Layer.BiasInput >= 0 && Axes.Node.Input.Count > Layer.BiasInput && Axes.Node.Input[Layer.BiasInput].Length > 0;

    /// <summary>What tells layers that can share new layers: readers of one constant in the same way.</summary>
    public object SharingKey => Weight is { } weight
        ? (Constant, weight.OutputAxis, weight.InputAxis, string.Join(',', weight.KernelAxes), Groups, Axes.Node.OpType)
        : this;

    /// <summary>The site of a layer; null with the reason where layers like it are not deepened.</summary>
    public static DeepenSite? Of(AxisAnalysis analysis, NodeAxes axes, LinearLayer layer, out string why)
    {
        ElementType type = analysis.Shapes.Type(axes.Node.Output[0]);
        why = axes.Attribute("activation") is not null || axes.Node.Input.Count > 3 ? "an activation or a sum is fused into it; export the model without fused nodes"
            : !type.IsScalable() ? $"its result is {type}, not floating-point"
            : axes.Out(0)[layer.OutputAxis].Size < 1 ? "it has no channels"
            : "";
        return why.Length == 0 ? new DeepenSite(analysis, axes, layer) : null;
    }

    /// <summary>New layers' weights that copy each channel of a group: Dirac kernels, as the new layer's operator lays them out.</summary>
    /// <param name="channels">Channels of a group.</param>
    /// <param name="kernel">Taps along each spatial axis.</param>
    public LayerWeight Dirac(int channels, ImmutableArray<int> kernel) => Inserted(new DiracWeight(Type, InsertedShape(channels, channels, kernel)));

    /// <summary>New layers' weights that a fill makes.</summary>
    /// <param name="outputs">Output channels of a group.</param>
    /// <param name="inputs">Input channels of a group.</param>
    /// <param name="kernel">Taps along each spatial axis.</param>
    /// <param name="fill">The fill.</param>
    public LayerWeight Filled(int outputs, int inputs, ImmutableArray<int> kernel, Fill fill) =>
        Inserted(new FilledWeight(Type, InsertedShape(outputs, inputs, kernel), fill));

    /// <summary>Shape of one value a channel that broadcasts against the layer's result, with so many channels in all.</summary>
    public ImmutableArray<long> ChannelShape(long channels) =>
        [channels, .. Enumerable.Repeat(1L, Axes.Out(0).Length - 1 - Layer.OutputAxis)];

    /// <summary>Why its kernel must not have so many taps, those it has not yet around its own; null where it may.</summary>
    public string? GrowthRefusal(ImmutableArray<int> kernel)
    {
        int[] extra = [.. kernel.Zip(Kernel, (after, before) => after - before)];
        long[] own = [.. Kernel.Select(taps => (long)taps)];
        return extra.All(taps => taps == 0) || ConvolutionPads.Of(Axes, Layer, own, out _) is not { } pads ? null
            : TapReach.GrowthRefusal(Axes, Layer, pads, own, [.. extra.Select(taps => taps / 2)], [.. extra.Select(taps => taps - taps / 2)]);
    }

    /// <summary>Tells the new sizes of what moves the constant to the layer, now that the constant has another shape.</summary>
    public void ReportSizes(ImmutableArray<long> shape, Dictionary<string, long[]> sizes)
    {
        foreach ((string value, ImmutableArray<int> axes) in _moved)
            sizes[value] = [.. axes.Select(axis => shape[axis])];
    }

    // [outputs, inputs, taps…] for Conv and for Gemm with transB, [inputs, outputs] for MatMul.
    private ImmutableArray<long> InsertedShape(int outputs, int inputs, ImmutableArray<int> kernel) =>
        IsConvolution ? [(long)outputs * Groups, inputs, .. kernel.Select(taps => (long)taps)] : IsGemm ? [outputs, inputs] : [inputs, outputs];

    private LayerWeight Inserted(WeightExpression data) => IsConvolution
        ? new LayerWeight(data, 0, 1, [.. Enumerable.Range(2, Layer.SpatialAxes)], Groups, 0)
        : IsGemm ? new LayerWeight(data, 0, 1, [], 1, 0) : new LayerWeight(data, 1, 0, [], 1, 1);

    private void FindWeight(AxisAnalysis analysis)
    {
        ModelGraph graph = analysis.Graph;
        string value = Axes.Node.Input[Layer.WeightInput];
        ImmutableArray<int> axes = [.. Enumerable.Range(0, Axes.Rank(Layer.WeightInput))];
        while (graph.ConstantOf(value)?.Name != value)
        {
            // An Identity of a constant is the constant, for all who read it; what is transposed must be the layer's alone.
            if (graph.Producer(value) is not { } producer || graph.IsReadElsewhere(value)
                || graph.Nodes[producer] is not { OpType: "Identity" or "Transpose" } node || !ModelGraph.IsStandard(node)
                || (node.OpType == "Transpose" && graph.Uses(value).Count != 1))
                return;
            ImmutableArray<int> order = [.. Enumerable.Range(0, axes.Length)];
            if (node.OpType == "Transpose")
                order = node.Attribute.FirstOrDefault(a => a.Name == "perm") is { } perm ? [.. perm.Ints.Select(axis => (int)axis)] : [.. order.Reverse()];
            _moved.Add((value, order));
            for (int i = 0; i < _moved.Count - 1; i++)
                _moved[i] = (_moved[i].Value, [.. _moved[i].Axes.Select(axis => order[axis])]);
            axes = [.. axes.Select(axis => order[axis])];
            value = node.Input[0];
        }

        Constant? constant = graph.ConstantOf(value);
        if (constant is null || !constant.Type.IsScalable())
            return;
        int output = Layer.WeightOutputAxis, input = 1 - output;
        Constant = constant;
        Weight = new LayerWeight(
            graph.Model.Data(constant.Tensor), axes[output], axes[input], [.. axes.Skip(2)], Groups, axes[IsConvolution ? 0 : output]);
    }
}
