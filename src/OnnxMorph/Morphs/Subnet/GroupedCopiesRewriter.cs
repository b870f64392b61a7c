namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Copies of a layer side by side that each make some of its channels (Cai, Yang, Zhang, Han, Yu 2018: replication and concatenation).
/// Where channels come in groups, each copy has some of the groups and reads their channels alone.
/// </summary>
internal sealed class GroupedCopiesRewriter : ModuleRewriter
{
    /// <summary>Layers side by side.</summary>
    public required int Branches { get; init; }

    public override Rewrite Prepare(LayerSite site)
    {
        int groups = site.Form.Groups;
        if ((groups > 1 ? groups : site.Channels) < Branches)
            throw new SubnetRefusedException($"its {(groups > 1 ? $"{groups} groups" : $"{site.Channels} channels")} cannot be shared out over {Branches} branches");
        if (groups == 1)
            return base.Prepare(site);
        LinearOperator whole = site.Operator(Graph);
        ModuleBias? bias = LayerCopies.Bias(Graph, Editor, site);
        if (bias is { Slice: null })
            throw new SubnetRefusedException(ModuleBias.Computed);
        long[] parts = EvenParts.Of(groups, Branches);
        return sharing =>
        {
            SubnetBuilder builder = Builder(site, sharing);
            var copies = new LayerCopies(Analysis, Editor, site, sharing, builder);
            string[] inputs = builder.Split(copies.Input, [.. parts.Select(part => part * whole.Inputs)]);
            var outputs = new List<string>();
            long first = 0;
            for (int b = 0; b < parts.Length; first += parts[b++])
                outputs.Add(copies.Add($"{b} weight", inputs[b], whole.SomeGroups((int)first, (int)parts[b]),
                    bias?.Slice!(first * whole.Outputs, parts[b] * whole.Outputs)).Output[0]);
            return copies.Finish(builder.Concat(outputs));
        };
    }
}

/// <summary>Shares out a number as evenly as it goes.</summary>
internal static class EvenParts
{
    /// <summary><paramref name="parts"/> whole numbers with the sum <paramref name="whole"/>, of which no two differ by more than 1.</summary>
    public static long[] Of(long whole, int parts) => [.. Enumerable.Range(0, parts).Select(p => whole * (p + 1) / parts - whole * p / parts)];
}
