namespace OnnxMorph.Alignment;

/// <summary>An item of a target and what it gets.</summary>
/// <param name="Target">The target's block, or its layer where it is in none.</param>
/// <param name="Source">The source's item; null where it gets none.</param>
/// <param name="Score">How well they fit: the sum over the layers that do.</param>
public sealed record AlignedItem(string Target, string? Source, double Score);

/// <summary>Where each layer of a target gets its weights from.</summary>
/// <param name="Score">The sum that dynamic programming found, S(source → target).</param>
/// <param name="Items">The target's items in execution order.</param>
/// <param name="Sources">For each layer of the target, by name, the source's; layers that get nothing are left out.</param>
public sealed record NetworkAlignment(double Score, IReadOnlyList<AlignedItem> Items, IReadOnlyDictionary<string, AlignedLayer> Sources)
{
    /// <summary>Aligns a source with a target: blocks with blocks and layers with layers, and inside blocks layers again.</summary>
    /// <param name="source">Where weights come from.</param>
    /// <param name="target">Where they go.</param>
    /// <param name="rule">Which runs of targets one source may feed.</param>
    public static NetworkAlignment Of(NetworkOutline source, NetworkOutline target, RunRule rule = RunRule.Blocks)
    {
        var table = new ItemScores(source, target, rule);
        SequenceAlignment best = SequenceAlignment.Best(target.Items.Length, source.Items.Length, (i, j) => table[i, j].Score,
            (i, j) => rule == RunRule.Any || (target.Items[i].IsBlock && table[i, j].Score > 0));
        var items = new List<AlignedItem>();
        var sources = new Dictionary<string, AlignedLayer>();
        for (int i = 0; i < target.Items.Length; i++)
        {
            NetworkItem to = target.Items[i];
            if (best.Sources[i] is not (>= 0 and var j) || table[i, j].Score == 0)
            {
                items.Add(new AlignedItem(to.Name, null, 0));
                continue;
            }

            SequenceAlignment layers = table[i, j];
            items.Add(new AlignedItem(to.Name, source.Items[j].Name, layers.Score));
            for (int k = 0; k < to.Layers.Length; k++)
                if (layers.Sources[k] is >= 0 and var from && to.Layers[k].Score(source.Items[j].Layers[from]) > 0)
                    sources[to.Layers[k].Name] = source.Items[j].Layers[from];
        }

        return new NetworkAlignment(best.Score, items, sources);
    }

    // The inner alignment of two items. Networks repeat their blocks: most pairs have been aligned before.
    private sealed class ItemScores(NetworkOutline source, NetworkOutline target, RunRule rule)
    {
        private readonly Dictionary<(string, string), SequenceAlignment> _known = [];

        public SequenceAlignment this[int i, int j]
        {
            get
            {
                (NetworkItem to, NetworkItem from) = (target.Items[i], source.Items[j]);
                if (!_known.TryGetValue((to.Key, from.Key), out SequenceAlignment? found))
                {
                    _known[(to.Key, from.Key)] = found = to.IsBlock != from.IsBlock
                        ? new SequenceAlignment(0, [.. Enumerable.Repeat(-1, to.Layers.Length)])
                        : SequenceAlignment.Best(to.Layers.Length, from.Layers.Length, (a, b) => to.Layers[a].Score(from.Layers[b]), (_, _) => rule == RunRule.Any);
                }

                return found;
            }
        }
    }
}

/// <summary>How alike two networks are, from 0 to 1 (DPIAT; METHODS.md §4).</summary>
/// <param name="Symmetric">√(S(A→B)·S(B→A) / (S(A→A)·S(B→B))).</param>
/// <param name="Forward">S(A→B)/S(B→B): how much of the target B the source A fills.</param>
/// <param name="Backward">S(B→A)/S(A→A).</param>
public sealed record NetworkSimilarity(double Symmetric, double Forward, double Backward)
{
    /// <summary>Below this the authors found that transfer hurts almost always (28 of 31 pairs), above it almost never (1 of 36).</summary>
    public const double Doubtful = 0.5;

    /// <summary>What to say to who wants to transfer; null where nothing speaks against it.</summary>
    public string? Warning => Symmetric < Doubtful
        ? $"Below {Doubtful} transfer hurt more often than it helped; take another source, or train from scratch." : null;

    /// <summary>The similarity of a source and a target.</summary>
    public static NetworkSimilarity Of(NetworkOutline source, NetworkOutline target, RunRule rule = RunRule.Blocks)
    {
        double S(NetworkOutline from, NetworkOutline to) => NetworkAlignment.Of(from, to, rule).Score;
        double forward = S(source, target), backward = S(target, source), own = S(source, source), other = S(target, target);
        return own == 0 || other == 0 ? new NetworkSimilarity(0, 0, 0) : new NetworkSimilarity(Math.Sqrt(forward * backward / (own * other)), forward / other, backward / own);
    }
}
