using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer.Containment;

/// <summary>A layer whose weight is stored, with the bias that stands in it or is added right behind it.</summary>
/// <param name="Node">Its node.</param>
/// <param name="Axes">Its node's axes.</param>
/// <param name="Layer">What kind of layer it is.</param>
/// <param name="Bias">The use of its bias; null where it has none.</param>
/// <param name="Input">The value that it reads.</param>
internal sealed record LayerView(int Node, NodeAxes Axes, LinearLayer Layer, Use? Bias, string Input)
{
    /// <summary>Whether each input channel has a kernel of its own.</summary>
    public bool IsDepthwise => Layer.Groups > 1 && Axes.In(Layer.WeightInput)[1].Size == 1;

    /// <summary>How many channels a group of a convolution reads.</summary>
    public long GroupInputs => Layer.Transposed ? Axes.In(Layer.WeightInput)[0].Size / Layer.Groups : Axes.In(Layer.WeightInput)[1].Size;

    /// <summary>What the product of input and weight is multiplied by.</summary>
    public double ProductFactor => Axes.Node.OpType == "Gemm" ? Axes.Attribute("alpha")?.F ?? 1 : 1;

    /// <summary>What the bias is multiplied by.</summary>
    public double BiasFactor => Axes.Node.OpType == "Gemm" && Bias?.Node == Node ? Axes.Attribute("beta")?.F ?? 1 : 1;

    /// <summary>Whether an activation is part of it.</summary>
    public bool IsActivated => Axes.Attribute("activation") is not null;

    /// <summary>Whether it reads its input the other way round.</summary>
    public bool TransposesInput => Axes.Node.OpType == "Gemm" && Axes.Int("transA", 0) != 0;

    /// <summary>Taps along each spatial axis.</summary>
    public long[] Kernel => [.. Axes.In(Layer.WeightInput).TakeLast(Layer.SpatialAxes).Select(axis => axis.Size)];

    /// <summary>The layer that makes a value; null where none does.</summary>
    public static LayerView? Of(AnalysedModel model, string value)
    {
        if (model.Graph.Producer(value) is not { } n)
            return null;
        NodeProto node = model.Graph.Nodes[n];
        if (Own(model, n) is { } own)
            return own;
        if (node.OpType != "Add" || !ModelGraph.IsStandard(node) || !model.Analysis.IsWeight(node.Input[0]) == !model.Analysis.IsWeight(node.Input[1]))
            return null;
        int bias = model.Analysis.IsWeight(node.Input[0]) ? 0 : 1;
        string product = node.Input[1 - bias];
        return model.Graph.Producer(product) is { } p && Own(model, p) is { Bias: null } layer && !model.Graph.IsReadElsewhere(product) && model.Graph.Uses(product).Count == 1
            && model.Analysis.Shapes.Dims(node.Input[bias]) is [_] or { Length: > 1 } && IsVector(model, node.Input[bias], layer)
            ? layer with { Bias = new Use(n, bias) } : null;
    }

    // One number for each of the layer's outputs.
    private static bool IsVector(AnalysedModel model, string value, LayerView layer) =>
        model.Analysis.Shapes.Dims(value) is { } dims && model.Analysis.Shapes.Dims(model.Graph.Nodes[layer.Node].Output[0]) is { } made
        && layer.Layer.OutputAxis - (made.Length - dims.Length) is >= 0 and var axis && dims.Where((size, i) => i != axis).All(size => size == 1);

    private static LayerView? Own(AnalysedModel model, int n)
    {
        NodeProto node = model.Graph.Nodes[n];
        if (model.Analysis.Node(n) is not { Layer: { } layer } axes || !model.Analysis.IsWeight(node.Input[layer.WeightInput]) || axes.Has(layer.WeightInput) is false
            || !(ModelGraph.IsStandard(node) ? node.OpType is "Conv" or "ConvTranspose" or "MatMul" or "Gemm" : node.OpType == "FusedConv" && !axes.Has(3)))
            return null;
        Use? bias = layer.BiasInput >= 0 && layer.BiasInput < node.Input.Count && node.Input[layer.BiasInput].Length > 0 ? new Use(n, layer.BiasInput) : null;
        return new LayerView(n, axes, layer, bias, node.Input[layer.WeightInput == 0 ? 1 : 0]);
    }
}
