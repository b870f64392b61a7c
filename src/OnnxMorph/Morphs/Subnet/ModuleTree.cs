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
        var readers = new int[module.Result + 1];
        foreach (int input in module.Operators.SelectMany(o => o.Inputs))
            readers[input]++;
        var into = new List<Edge>[module.Result + 1];
        for (int value = 1; value <= module.Result; value++)
        {
            ModuleOperator producer = module.Producer(value);
            into[value] = [.. producer.Inputs.Select((from, i) => new Edge(
                from, producer is ModuleConcat { Parts.Length: > 1 } ? i : null, producer is ModuleLayer ? new LayerTree(value) : PassTree.Instance))];
            // What one contraction makes possible ends at this value too.
            while (MergeParallel(into[value]) || MergeConcat(into[value]) || MergeSeries(into[value]))
            {
            }
        }

        return into[module.Result] is [{ From: 0, Slot: null } only] ? only.Tree : null;

        bool MergeParallel(List<Edge> edges)
        {
            if (edges.GroupBy(e => (e.From, e.Slot)).FirstOrDefault(g => g.Count() > 1)?.ToList() is not { } same)
                return false;
            readers[same[0].From] -= same.Count - 1;
            edges.RemoveAll(same.Contains);
            edges.Add(same[0] with { Tree = new SumTree([.. same.Select(e => e.Tree)]) });
            return true;
        }

        bool MergeConcat(List<Edge> edges)
        {
            if (edges.Count < 2 || edges.Any(e => e.Slot is null || e.From != edges[0].From) || edges.DistinctBy(e => e.Slot).Count() < edges.Count)
                return false;
            readers[edges[0].From] -= edges.Count - 1;
            var whole = new Edge(edges[0].From, null, new ConcatTree([.. edges.OrderBy(e => e.Slot).Select(e => e.Tree)]));
            edges.Clear();
            edges.Add(whole);
            return true;
        }

        bool MergeSeries(List<Edge> edges)
        {
            int at = edges.FindIndex(e => e.From > 0 && readers[e.From] == 1 && into[e.From] is [{ Slot: null }]);
            if (at < 0)
                return false;
            Edge before = into[edges[at].From][0];
            edges[at] = edges[at] with { From = before.From, Tree = SeriesTree.Of(before.Tree, edges[at].Tree) };
            return true;
        }
    }

    /// <summary>What leads from one value to another, or to one part of a concatenation.</summary>
    private sealed record Edge(int From, int? Slot, ModuleTree Tree);
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
