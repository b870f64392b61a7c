using System.Collections.Immutable;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>The modules of the kinds that need no description.</summary>
internal static class CommonModules
{
    /// <summary>Taps of new depthwise layers: as few as see a neighbour, since one tap would be a factor alone.</summary>
    internal const long DepthwiseKernel = 3;

    /// <summary>The layer, then new layers that see one position, or their neighbours where a group is one channel.</summary>
    public static Module Sequential(LayerSite site, int length) => Stacked(site, 1, length);

    /// <summary>The layer several times.</summary>
    public static Module ReplicateAdd(LayerSite site, int branches) => Stacked(site, branches, 1);

    /// <summary>New layers one after the other with activations between.</summary>
    public static Module Chain(ImmutableArray<long> kernel, int length) =>
        new([.. Enumerable.Range(0, 2 * length - 1).Select(i => i % 2 == 0 ? new ModuleLayer(i, kernel) : (ModuleOperator)new ModuleActivation(i))]);

    /// <summary>
    /// Chains side by side. Each has an activation, behind it where it is one layer: the parts of a sum without one would have the same
    /// gradient for ever.
    /// </summary>
    public static Module Stacked(LayerSite site, int branches, int length)
    {
        ImmutableArray<long> added = site.Form.SpatialAxes > 0 && site.Channels == site.Form.Groups ? site.Neighbourhood(DepthwiseKernel) : [1];
        var operators = new List<ModuleOperator>();
        var ends = new List<int>();
        for (int branch = 0; branch < branches; branch++)
        {
            operators.Add(new ModuleLayer(0, null));
            for (int i = 1; i < length; i++)
            {
                operators.Add(new ModuleActivation(operators.Count));
                operators.Add(new ModuleLayer(operators.Count, added));
            }

            if (length == 1 && branches > 1)
                operators.Add(new ModuleActivation(operators.Count));
            ends.Add(operators.Count);
        }

        if (branches > 1)
            operators.Add(new ModuleSum([.. ends]));
        return new Module([.. operators]);
    }

    /// <summary>The layer several times, each making some of the channels.</summary>
    public static Module ReplicateConcat(int branches) => new(
    [
        .. Enumerable.Range(0, branches).Select(_ => new ModuleLayer(0, null)),
        new ModuleConcat([.. Enumerable.Range(1, branches)]),
    ]);
}
