namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Puts a module of linear layers in a layer's place: <c>y = G·x + b → y = Σ over the module's paths of the product of their layers + b</c>
/// (Wei, Wang, Rui, Chen 2016; Wei, Wang, Chen 2017).
/// </summary>
internal class ModuleRewriter : SubnetRewriter
{
    /// <summary>The module for a layer.</summary>
    public required Func<LayerSite, Module> Module { get; init; }

    /// <summary>Whether the parts of sums get equal shares.</summary>
    public bool EvenShares { get; init; }

    public override Rewrite Prepare(LayerSite site)
    {
        LinearOperator whole = site.Operator(Graph);
        long inputs = site.Form.Groups * whole.Inputs;
        Module module = Module(site).At(whole.Kernel, inputs, site.Channels);
        site.RequireSeeing(module);
        IReadOnlyDictionary<int, WeightedLayer> layers = ModuleWeights.Of(module, whole, main: true, site.Form, EvenShares, Seeds.For(Seed, $"module {site.Weight!.Name}"));
        if (site.Axes.Int("transA", 0) != 0 && module.Operators.Where((o, i) => o.Inputs.Contains(0) && layers.GetValueOrDefault(i + 1) is not { Main: true }).Any())
            throw new SubnetRefusedException("it transposes its input, which only a layer like itself can");
        var writer = new ModuleWriter(module, layers, inputs);
        if (LayerCopies.Bias(Graph, Editor, site) is { } bias)
            writer.AddBias(bias);
        return sharing =>
        {
            SubnetBuilder builder = Builder(site, sharing);
            var copies = new LayerCopies(Analysis, Editor, site, sharing, builder);
            return copies.Finish(writer.Write(builder, copies.Input, copies.Add));
        };
    }
}
