namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// The identity behind a layer as layers side by side (Cai, Yang, Zhang, Han, Yu 2018, path level): the sum of layers that each make a
/// share of it, or layers that each make some of the channels. Each has an activation that starts as the identity: behind it in a sum, since
/// sums of linear layers would get the same gradients for ever; else in front of it, where the layer mixes what is below 0 into
/// other channels, since directly before a Relu its slope would be without effect.
/// </summary>
internal sealed class SplitRewriter : BehindRewriter
{
    /// <summary>Layers side by side.</summary>
    public required int Branches { get; init; }

    /// <summary>Whether each makes some of the channels; else each makes a share of all.</summary>
    public required bool Concatenates { get; init; }

    public override Rewrite Prepare(LayerSite site)
    {
        if (Concatenates && site.Channels < Branches)
            throw new SubnetRefusedException($"its {site.Channels} channels cannot be shared out over {Branches} branches");
        LayerForm form = site.Form.Dense();
        Module shares = CommonModules.ReplicateAdd(site, Branches).At(form.PointKernel, site.Channels, site.Channels);
        ulong seed = Seeds.For(Seed, $"split {site.Name}");
        return sharing => PutBehind(site, sharing, (builder, value) =>
        {
            if (Concatenates)
                return Concat(builder, value, EvenParts.Of(site.Channels, Branches));
            var layers = ModuleWeights.Of(shares, form.Identity(site.Channels), main: false, form, evenShares: true, seed);
            return new ModuleWriter(shares, layers, site.Channels).Write(builder, value);
        });
    }

    private static string Concat(SubnetBuilder builder, string value, long[] sizes)
    {
        LayerForm form = builder.Form.Dense();
        string[] parts = builder.Split(value, sizes);
        return builder.Concat(parts.Select((part, b) =>
        {
            // One channel has nothing to be mixed with.
            string activated = sizes[b] > 1 ? builder.Parametric($"{b}", part, sizes[b], like: null) : part;
            return builder.Layer($"{b} weight", activated, form.Identity(sizes[b])).Output[0];
        }).ToList());
    }
}
