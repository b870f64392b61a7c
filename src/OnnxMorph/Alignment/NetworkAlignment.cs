namespace OnnxMorph.Alignment;

/// <summary>Where each layer of a target gets its weights from.</summary>
/// <param name="Score">The sum that dynamic programming found, S(source → target).</param>
/// <param name="Sources">For each layer of the target, by name, the source's; layers that get nothing are left out.</param>
public sealed record NetworkAlignment(double Score, IReadOnlyDictionary<string, AlignedLayer> Sources)
{
    /// <summary>Aligns a source with a target: blocks with blocks and layers with layers, and inside blocks layers again.</summary>
    public static NetworkAlignment Of(NetworkOutline source, NetworkOutline target, RunRule rule = RunRule.Blocks)
    {
        // Networks repeat their blocks: most pairs have been scored before.
        var known = new Dictionary<(string, string), SequenceAlignment>();
        SequenceAlignment items = SequenceAlignment.Best(target.Items.Length, source.Items.Length, (i, j) => Inside(i, j).Score,
            (i, j) => rule == RunRule.Any || (target.Items[i].IsBlock && Inside(i, j).Score > 0));
        var sources = new Dictionary<string, AlignedLayer>();
        for (int i = 0; i < items.Sources.Count; i++)
        {
            if (items.Sources[i] < 0)
                continue;
            SequenceAlignment layers = Inside(i, items.Sources[i]);
            for (int k = 0; k < layers.Sources.Count; k++)
                if (layers.Sources[k] is >= 0 and var from && target.Items[i].Layers[k].Score(source.Items[items.Sources[i]].Layers[from]) > 0)
                    sources[target.Items[i].Layers[k].Name] = source.Items[items.Sources[i]].Layers[from];
        }

        return new NetworkAlignment(items.Score, sources);

        SequenceAlignment Inside(int i, int j)
        {
            (NetworkItem to, NetworkItem from) = (target.Items[i], source.Items[j]);
            if (!known.TryGetValue((to.Key, from.Key), out SequenceAlignment? found))
            {
                known[(to.Key, from.Key)] = found = to.IsBlock != from.IsBlock
                    ? new SequenceAlignment(0, [.. Enumerable.Repeat(-1, to.Layers.Length)])
                    : SequenceAlignment.Best(to.Layers.Length, from.Layers.Length, (a, b) => to.Layers[a].Score(from.Layers[b]), (_, _) => rule == RunRule.Any);
            }

            return found;
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

    /// <summary>The similarity of a source and a target.</summary>
    public static NetworkSimilarity Of(NetworkOutline source, NetworkOutline target, RunRule rule = RunRule.Blocks)
    {
        double S(NetworkOutline from, NetworkOutline to) => NetworkAlignment.Of(from, to, rule).Score;
        double forward = S(source, target), backward = S(target, source), own = S(source, source), other = S(target, target);
        return own == 0 || other == 0 ? new NetworkSimilarity(0, 0, 0) : new NetworkSimilarity(Math.Sqrt(forward * backward / (own * other)), forward / other, backward / own);
    }
}
