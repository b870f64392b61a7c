namespace OnnxMorph.Transfer.Rules;

/// <summary>
/// Clusters of points by Ward's criterion (Ward 1963): from single points on, the two clusters are joined whose joining adds least to the sum of
/// squared distances from the clusters' means, |A|·|B| / (|A|+|B|) · ‖mean A − mean B‖².
/// </summary>
internal static class ChannelClusters
{
    /// <summary><paramref name="count"/> clusters, each in order, in the order of their first members.</summary>
    public static IReadOnlyList<int[]> Of(double[][] points, int count)
    {
        int n = points.Length;
        double[][] means = [.. points.Select(p => p.ToArray())];
        List<int>?[] clusters = [.. Enumerable.Range(0, n).Select(i => new List<int> { i })];
        var nearest = new int[n];
        var cost = new double[n];
        for (int i = 0; i < n; i++)
            Search(i);
        for (int left = n; left > count; left--)
        {
            int best = -1;
            for (int i = 0; i < n; i++)
                if (clusters[i] is not null && (best < 0 || cost[i] < cost[best]))
                    best = i;
            (int a, int b) = (Math.Min(best, nearest[best]), Math.Max(best, nearest[best]));
            (List<int> kept, List<int> joined) = (clusters[a]!, clusters[b]!);
            for (int d = 0; d < means[a].Length; d++)
                means[a][d] = (kept.Count * means[a][d] + joined.Count * means[b][d]) / (kept.Count + joined.Count);
            kept.AddRange(joined);
            clusters[b] = null;
            Search(a);
            // Joining makes no cluster nearer to another than its two parts were, but to those parts' nearest others may change.
            for (int i = 0; i < n; i++)
                if (clusters[i] is not null && i != a && (nearest[i] == a || nearest[i] == b))
                    Search(i);
        }

        return [.. clusters.OfType<List<int>>().Select(members => members.Order().ToArray()).OrderBy(members => members[0])];

        void Search(int i)
        {
            (nearest[i], cost[i]) = (-1, double.PositiveInfinity);
            for (int j = 0; j < n; j++)
                if (j != i && clusters[j] is not null && Cost(i, j) is var found && found < cost[i])
                    (nearest[i], cost[i]) = (j, found);
        }

        double Cost(int i, int j)
        {
            double sum = 0;
            double[] x = means[i], y = means[j];
            for (int d = 0; d < x.Length; d++)
                sum += (x[d] - y[d]) * (x[d] - y[d]);
            return sum * clusters[i]!.Count * clusters[j]!.Count / (clusters[i]!.Count + clusters[j]!.Count);
        }
    }
}
