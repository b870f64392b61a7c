using System.Collections.Immutable;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>A module whose layers are composed in series and in parallel.</summary>
internal abstract record ModuleTree
{
    /// <summary>The layers in it, as numbers of the values that they make.</summary>
    public abstract IEnumerable<int> Layers { get; }

    /// <summary>
    /// Contracts a module's edges until one is left: two in series at a value that nothing else reads or makes, two in parallel, and the
    /// parts of a concatenation that begin at one value. Null where more than one stays.
    /// </summary>
    public static ModuleTree? Of(Module module)
    {
        // An edge ends at a value, or in a slot of a concatenation.
        var edges = new List<(int From, (int Value, int Slot) To, ModuleTree Tree)>();
        for (int value = 1; value <= module.Result; value++)
        {
            ModuleOperator producer = module.Producer(value);
            for (int i = 0; i < producer.Inputs.Length; i++)
                edges.Add((producer.Inputs[i], (value, producer is ModuleConcat && producer.Inputs.Length > 1 ? i : -1), producer is ModuleLayer ? new LayerTree(value) : PassTree.Instance));
        }

        while (ContractOne())
        {
        }

        return edges is [(0, (_, -1), { } tree)] ? tree : null;

        bool ContractOne()
        {
            foreach (var parallel in edges.GroupBy(e => (e.From, e.To)).Where(g => g.Count() > 1))
                return Replace([.. parallel], (parallel.Key.From, parallel.Key.To, new SumTree([.. parallel.Select(e => e.Tree)])));
            foreach (var slots in edges.Where(e => e.To.Slot >= 0).GroupBy(e => e.To.Value))
                if (slots.Select(e => e.To.Slot).Distinct().Count() == slots.Count() && slots.Select(e => e.From).Distinct().Count() == 1)
                    return Replace([.. slots], (slots.First().From, (slots.Key, -1), new ConcatTree([.. slots.OrderBy(e => e.To.Slot).Select(e => e.Tree)])));
            for (int value = 1; value < module.Result; value++)
                if (edges.Where(e => e.To.Value == value).ToList() is [{ To.Slot: -1 } into] && edges.Where(e => e.From == value).ToList() is [var from])
                    return Replace([into, from], (into.From, from.To, SeriesTree.Of(into.Tree, from.Tree)));
            return false;
        }

        bool Replace(List<(int, (int, int), ModuleTree)> old, (int, (int, int), ModuleTree) merged)
        {
            edges.RemoveAll(old.Contains);
            edges.Add(merged);
            return true;
        }
    }
}

/// <summary>One layer.</summary>
internal sealed record LayerTree(int Value) : ModuleTree
{
    public override IEnumerable<int> Layers => [Value];
}

/// <summary>A path without layers: the identity, as long as its activations are.</summary>
internal sealed record PassTree : ModuleTree
{
    public static PassTree Instance { get; } = new();

    public override IEnumerable<int> Layers => [];
}

/// <summary>One after the other; every part has layers.</summary>
internal sealed record SeriesTree(ImmutableArray<ModuleTree> Parts) : ModuleTree
{
    public override IEnumerable<int> Layers => Parts.SelectMany(p => p.Layers);

    /// <summary><paramref name="second"/> behind <paramref name="first"/>.</summary>
    public static ModuleTree Of(ModuleTree first, ModuleTree second) =>
        Flat(first).Concat(Flat(second)).ToImmutableArray() switch
        {
            [] => PassTree.Instance,
            [var only] => only,
            var parts => new SeriesTree(parts),
        };

    private static IEnumerable<ModuleTree> Flat(ModuleTree tree) => tree switch
    {
        PassTree => [],
        SeriesTree series => series.Parts,
        _ => [tree],
    };
}

/// <summary>The sum of all.</summary>
internal sealed record SumTree(ImmutableArray<ModuleTree> Parts) : ModuleTree
{
    public override IEnumerable<int> Layers => Parts.SelectMany(p => p.Layers);
}

/// <summary>One behind the other along the channels.</summary>
internal sealed record ConcatTree(ImmutableArray<ModuleTree> Parts) : ModuleTree
{
    public override IEnumerable<int> Layers => Parts.SelectMany(p => p.Layers);
}
