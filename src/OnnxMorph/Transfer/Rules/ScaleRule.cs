using System.Text.Json.Serialization;
using OnnxMorph.Axes;
using OnnxMorph.Morphs;

namespace OnnxMorph.Transfer.Rules;

/// <summary>What weights are multiplied by along an axis that a layer sums over (METHODS.md §3.4).</summary>
[JsonConverter(typeof(JsonStringEnumConverter<ScaleRule>))]
public enum ScaleRule
{
    /// <summary>
    /// A channel's weight is shared out over the channels that hold it: over copies unequally and with noise that sums to 0, so that they part in
    /// training; what was merged is read with the sum. Nothing where channels are left out.
    /// </summary>
    [JsonStringEnumMemberName("shares")]
    Shares,

    /// <summary>The same with equal shares and no noise: divided by the number of copies, which then stay copies.</summary>
    [JsonStringEnumMemberName("equal")]
    Equal,

    /// <summary>As it is.</summary>
    [JsonStringEnumMemberName("none")]
    None,

    /// <summary>√(nS/nT): sums of independent terms keep their variance.</summary>
    [JsonStringEnumMemberName("root")]
    Root,

    /// <summary>nS/nT: sums of equal terms keep their mean.</summary>
    [JsonStringEnumMemberName("ratio")]
    Ratio,
}

/// <summary>Makes the map of an axis that is summed over from the map of the channels.</summary>
/// <param name="scale">The rule.</param>
/// <param name="interpolated">Whether channels lie between the source's, so that none holds one alone.</param>
internal sealed class AxisReading(ScaleRule scale, bool interpolated)
{
    /// <summary>The map by which channels are read that <paramref name="made"/> makes: of weights, child = map·parent.</summary>
    /// <param name="made">The map of the channels.</param>
    /// <param name="seed">Seed of shares and noise.</param>
    public AxisMap Of(AxisMap made, ulong seed)
    {
        double ratio = (double)made.SourceSize / made.Size;
        return scale switch
        {
            ScaleRule.Shares or ScaleRule.Equal when interpolated => Known(made).Times(Math.Min(1, ratio)),
            ScaleRule.Shares => Shared(made, seed),
            ScaleRule.Equal => Shared(made, null),
            ScaleRule.Root => Known(made).Times(Math.Sqrt(ratio)),
            ScaleRule.Ratio => Known(made).Times(ratio),
            _ => Known(made),
        };
    }

    /// <summary>The readers of some rows of a map; the others are not read.</summary>
    public static AxisMap Shared(AxisMap made, Func<int, bool> read, ulong? seed)
    {
        int[] rows = [.. Enumerable.Range(0, made.Size).Where(read)];
        AxisMap dual = SpaceMaps.Dual(AxisMap.FromTaps(made.SourceSize, made.FreshSize, [.. rows.Select(c => made[c].ToArray())]), seed);
        var all = Enumerable.Repeat<Tap[]>([], made.Size).ToArray();
        foreach ((int k, int c) in rows.Index())
            all[c] = dual[k].ToArray();
        return AxisMap.FromTaps(dual.SourceSize, dual.FreshSize, all);
    }

    // W'[:, c] = Σ_j W[:, j]·E[c, j] / Σ_c' E[c', j]: 1 / count of copies, and the sum of what was merged. Copies alone get noise too. What some
    // channel holds by itself is read from there, whatever means it is part of.
    private static AxisMap Shared(AxisMap made, ulong? seed)
    {
        HashSet<int> merged = [], alone = [];
        var held = new double[made.SourceSize];
        for (int c = 0; c < made.Size; c++)
            foreach (Tap tap in made[c])
            {
                (made[c].Length > 1 ? merged : alone).Add(tap.Source);
                if (tap.Source < held.Length)
                    held[tap.Source] += tap.Weight;
            }

        merged.ExceptWith(alone);
        if (merged.Count == 0)
            return SpaceMaps.Dual(made, seed);
        bool[] mixed = [.. Enumerable.Range(0, made.Size).Select(c => made[c].ToArray().Any(tap => merged.Contains(tap.Source)))];
        AxisMap copies = Shared(made, c => !mixed[c], seed);
        return AxisMap.FromTaps(copies.SourceSize, copies.FreshSize, [.. mixed.Select((own, c) =>
            own ? (Tap[])[.. made[c].ToArray().Select(tap => tap with { Weight = tap.Weight / held[tap.Source] })] : copies[c].ToArray())]);
    }

    // Channels of the target's own are not read.
    private static AxisMap Known(AxisMap made) => made.FreshSize == 0 ? made
        : AxisMap.FromTaps(made.SourceSize, 0, [.. Enumerable.Range(0, made.Size).Select(c => made[c].ToArray().Where(tap => tap.Source < made.SourceSize).ToArray())]);
}
