using OnnxMorph.Graph;
using OnnxMorph.Initialization;
using OnnxMorph.Onnx;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Factors for channels from their means (Hu, Shen, Sun 2018): <c>y → y · 2σ(W₂·relu(W₁·mean(y) + b₁) + b₂)</c>, the mean being over
/// spatial or token axes. W₂ and b₂ are 0, so every factor is 2σ(0) = 1; they have gradients at once, W₁ and b₁ from the first step on.
/// </summary>
internal sealed class SqueezeExciteRewriter : BehindRewriter
{
    /// <summary>How many channels share a hidden unit.</summary>
    public required int Reduction { get; init; }

    public override Exactness Exactness => Exactness.BitExact;

    public override Rewrite Prepare(LayerSite site)
    {
        if (site.Form.Rank < 3)
            throw new SubnetRefusedException("its result has no positions to take a mean over");
        if (Enumerable.Range(0, site.Form.Rank).All(axis => axis == 0 || axis == site.Form.ChannelAxis || site.Axes.HasOnePosition(0, axis)))
            throw new SubnetRefusedException("its result has a single position, which is its own mean");
        return sharing => PutBehind(site, sharing, (builder, value) => Write(builder, value, site.Channels));
    }

    private string Write(SubnetBuilder builder, string value, long channels)
    {
        LayerForm form = builder.Form.Dense();
        long hidden = (channels + Reduction - 1) / Reduction;
        var he = Draws.He(channels, Seed, $"squeeze {value}");
        string squeezed = builder.Add("Relu", Biased("squeeze", Mean(builder, value), form.Filled(hidden, channels, form.PointKernel, he), hidden));
        string excited = builder.Add("Sigmoid", Biased("excite", squeezed, form.Filled(channels, hidden, form.PointKernel, Fill.Zero), channels));
        return builder.Add("Mul", value, builder.Add("Mul", excited, builder.Number(2)));

        string Biased(string role, string input, LinearOperator layer, long outputs)
        {
            string bias = builder.Weight($"{role} bias", () => new FilledWeight(form.Type, [outputs], Fill.Zero));
            return form.Kind == LayerKind.MatMul
                ? builder.Add("Add", builder.Layer($"{role} weight", input, layer).Output[0], bias)
                : builder.Layer($"{role} weight", input, layer, bias).Output[0];
        }
    }

    // Over all axes but samples and channels.
    private string Mean(SubnetBuilder builder, string value)
    {
        LayerForm form = builder.Form;
        if (form.Kind == LayerKind.Conv)
            return builder.Add("GlobalAveragePool", value);
        long[] axes = [.. Enumerable.Range(1, form.Rank - 2).Select(axis => (long)axis)];
        var node = new NodeProto { OpType = "ReduceMean" };
        GraphEditor.SetInt(node, "keepdims", 1);
        // Axes became an input in operator set 18.
        if (Graph.Opset("") >= 18)
            return builder.Add(node, value, builder.Ints("axes", axes));
        GraphEditor.SetInts(node, "axes", axes);
        return builder.Add(node, value);
    }
}
