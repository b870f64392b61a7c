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
        (OutlineScores scores, int[] parts) = OutlineScores.Of(source, target, rule);
        SequenceAlignment best = scores.Align(parts);
        var items = new List<AlignedItem>();
        var sources = new Dictionary<string, AlignedLayer>();
        for (int i = 0; i < target.Items.Length; i++)
        {
            NetworkItem item = target.Items[i];
            if (best.Sources[i] is not (>= 0 and var j) || scores.Fit(i, parts[j]) == 0)
            {
                items.Add(new AlignedItem(item.Name, null, 0));
                continue;
            }

            SequenceAlignment layers = scores.AlignLayers(i, parts[j]);
            items.Add(new AlignedItem(item.Name, source.Items[j].Name, layers.Score));
            for (int k = 0; k < item.Layers.Length; k++)
                if (layers.Sources[k] is >= 0 and var layer && item.Layers[k].Score(source.Items[j].Layers[layer]) > 0)
                    sources[item.Layers[k].Name] = source.Items[j].Layers[layer];
        }

        return new NetworkAlignment(best.Score, items, sources);
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
        (OutlineScores scores, int[] parts) = OutlineScores.Of(source, target, rule);
        return scores.Similarity(parts);
    }
}
