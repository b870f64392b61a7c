using OnnxMorph.Axes;

namespace OnnxMorph.Transfer.Rules;

/// <summary>Makes the map of channels that a rule says.</summary>
/// <param name="rules">The rules.</param>
internal sealed class ChannelRule(TransferRules rules)
{
    /// <summary>Whether channels are neither copies nor left out but mixtures of neighbours.</summary>
    public bool Interpolates => rules.Width == WidthRule.Interpolate;

    /// <summary>The map from <paramref name="from"/> channels to another number <paramref name="to"/>.</summary>
    /// <param name="from">How many the source has.</param>
    /// <param name="to">How many the target has.</param>
    /// <param name="importance">How important the source's are.</param>
    /// <param name="features">Points of which those of similar channels lie near each other.</param>
    public AxisMap Map(int from, int to, Func<double[]> importance, Func<double[][]> features)
    {
        if (Interpolates)
            return AxisMap.Interpolate(from, to);
        if (rules.Width == WidthRule.Merge && to < from)
            return Means(from, ChannelClusters.Of(features(), to));
        AxisMap map = AxisMap.Pick(from, 0, rules.Width switch
        {
            WidthRule.Leading => [.. Enumerable.Range(0, to).Select(i => i % from)],
            WidthRule.Centre when to < from => [.. Enumerable.Range((from - to) / 2, to)],
            WidthRule.Stride when to < from => Strided(from, to),
            WidthRule.Importance when to < from => Most(importance(), to),
            _ => Uniform(from, to),
        });
        return rules.Added == AddedChannels.Zeros ? Copies(map, later: false) : map;
    }

    /// <summary>The map where nothing is known but sizes.</summary>
    public AxisMap Map(int from, int to) => Map(from, to, Unknown<double[]>, Unknown<double[][]>);

    /// <summary>For each of <paramref name="to"/> indices one of <paramref name="from"/>, ⌊(i+½)·from/to⌋.</summary>
    public static int[] Uniform(int from, int to) => [.. Enumerable.Range(0, to).Select(i => (int)((2L * i + 1) * from / (2L * to)))];

    /// <summary>The indices of the most important channels, in their order.</summary>
    public static int[] Most(double[] importance, int count) =>
        [.. Enumerable.Range(0, importance.Length).OrderByDescending(c => importance[c]).ThenBy(c => c).Take(count).Order()];

    /// <summary>The rows of a map that hold a source's channel for the first time, or those that hold one again; the others are zero.</summary>
    public static AxisMap Copies(AxisMap map, bool later)
    {
        var seen = new HashSet<int>();
        return AxisMap.FromTaps(map.SourceSize, map.FreshSize, [.. Enumerable.Range(0, map.Size).Select(c =>
        {
            bool again = map[c] is [{ } tap, ..] && !seen.Add(tap.Source);
            return again == later ? map[c].ToArray() : [];
        })]);
    }

    private static int[] Strided(int from, int to) => from % to == 0
        ? [.. Enumerable.Range(0, to).Select(i => i * (from / to))]
        : [.. Enumerable.Range(0, to).Select(i => to == 1 ? 0 : (int)Math.Round((double)i * (from - 1) / (to - 1), MidpointRounding.ToEven))];

    private static AxisMap Means(int from, IReadOnlyList<int[]> clusters) =>
        AxisMap.FromTaps(from, 0, [.. clusters.Select(members => (Tap[])[.. members.Select(c => new Tap(c, 1.0 / members.Length))])]);

    private static T Unknown<T>() => throw new InvalidOperationException("Channels cannot be measured on sizes alone.");
}
