using OnnxMorph.Axes;

namespace OnnxMorph.Morphs;

/// <summary>
/// The maps that a morph chose for spaces, and what follows for whole axes: products are Kronecker products of their
/// parts' maps, concatenations direct sums.
/// </summary>
/// <param name="solver">The solver that the spaces belong to.</param>
/// <param name="maps">
/// For each changed space the relation of the child's channels to the parent's: a channel is a copy of a parent's, one of the child's
/// own (an index from the parent's size on, equal indices being equal channels), zero (no taps), or a mean (several taps).
/// </param>
/// <param name="equalShares">Whether copies are read alike, without noise, so that they stay copies.</param>
internal sealed class SpaceMaps(AxisSolver solver, IReadOnlyDictionary<Space, AxisMap> maps, bool equalShares = false)
{
    /// <summary>Size of an axis in the child.</summary>
    public long NewSize(AxisExpression axis) => solver.Resolve(axis) switch
    {
        SpaceAxis s => maps.TryGetValue(s.Space, out AxisMap? map) ? map.Size : s.Size,
        ProductAxis p => p.Parts.Aggregate(1L, (size, part) => size * NewSize(part)),
        ConcatAxis c => c.Parts.Sum(NewSize),
        AxisExpression other => other.Size,
    };

    /// <summary>Whether any space of the axis has a map.</summary>
    public bool Changes(AxisExpression axis) => solver.Leaves(axis).Any(leaf => maps.ContainsKey(leaf.Space));

    /// <summary>Whether new channels along the axis are zero, in any of its spaces.</summary>
    public bool AddsZeros(AxisExpression axis) => solver.Leaves(axis).Any(leaf =>
        !leaf.Dual && maps.TryGetValue(leaf.Space, out AxisMap? map) && Enumerable.Range(0, map.Size).Any(c => map[c].Length == 0));

    /// <summary>The relation of a value's axis, or null where it stays.</summary>
    public AxisMap? Relation(AxisExpression axis) => Of(axis, 0, _ => false);

    /// <summary>
    /// The map of a weight's axis, or null where it stays. Where the axis is contracted, the entries of a channel are split over
    /// its copies and cancel over equal channels of the child's own (METHODS.md §1: W'·E = W, W'·F = 0), with shares drawn
    /// from <paramref name="seed"/>.
    /// </summary>
    /// <param name="axis">The axis.</param>
    /// <param name="seed">Seed of shares and noise.</param>
    /// <param name="live">
    /// Whether a weight along a space meets channels that are zero already (a norm's scale, say), so that it need not be zero
    /// itself to keep them so.
    /// </param>
    public AxisMap? Of(AxisExpression axis, ulong seed, Func<Space, bool> live) =>
        Changes(axis) ? Build(solver.Resolve(axis), seed, live) : null;

    /// <summary>How many of the child's channels along an axis hold none of <paramref name="kinds"/>, of all of them.</summary>
    public double Share(AxisExpression axis, NewChannels kinds) => solver.Resolve(axis) switch
    {
        SpaceAxis s when maps.TryGetValue(s.Space, out AxisMap? map) => Share(map, kinds),
        ProductAxis p => p.Parts.Aggregate(1.0, (product, part) => product * Share(part, kinds)),
        // Parts are only ever copied where a mean is taken over all of them.
        _ => 1,
    };

    private static double Share(AxisMap map, NewChannels kinds)
    {
        int others = 0;
        for (int c = 0; c < map.Size; c++)
            if (map[c].Length == 0 ? kinds.HasFlag(NewChannels.Zero) : map[c].Length > 1 && kinds.HasFlag(NewChannels.Mean))
                others++;
        return (double)(map.Size - others) / map.Size;
    }

    /// <summary>Size of the noise over copies, relative to freshly initialised weights (METHODS.md §3: 3 %).</summary>
    private const double Noise = 0.03;

    private AxisMap Build(AxisExpression axis, ulong seed, Func<Space, bool> live) => axis switch
    {
        SpaceAxis { Dual: true } s when maps.TryGetValue(s.Space, out AxisMap? map) =>
            s.Space.IsPicked ? FirstCopies(map) : Dual(map, equalShares ? null : Seeds.For(seed, $"space {s.Space.Id}")),
        SpaceAxis s when maps.TryGetValue(s.Space, out AxisMap? map) => live(s.Space) ? Live(map) : map,
        ProductAxis p => p.Parts.Select(part => Build(part, seed, live)).Aggregate(AxisMap.Kronecker),
        ConcatAxis c => AxisMap.DirectSum([.. c.Parts.Select(part => Build(part, seed, live))]),
        _ => AxisMap.Identity(checked((int)axis.Size)),
    };

    // The left inverse of a relation that takes no arithmetic: of the copies of a channel the first is read alone.
    private static AxisMap FirstCopies(AxisMap primal)
    {
        var read = new bool[primal.SourceSize + primal.FreshSize];
        var sources = new int[primal.Size];
        for (int c = 0; c < sources.Length; c++)
        {
            sources[c] = primal[c] is [{ Weight: 1 } tap] && tap.Source < primal.SourceSize && !read[tap.Source] ? tap.Source : -1;
            if (sources[c] >= 0)
                read[sources[c]] = true;
        }

        return AxisMap.Pick(primal.SourceSize, 0, sources);
    }

    // Channels that are zero get entries of the child's own.
    internal static AxisMap Live(AxisMap map)
    {
        int fresh = map.FreshSize;
        var rows = new Tap[map.Size][];
        for (int c = 0; c < map.Size; c++)
            rows[c] = map[c].Length > 0 ? map[c].ToArray() : [new Tap(map.SourceSize + fresh++, 1)];
        return fresh == map.FreshSize ? map : AxisMap.FromTaps(map.SourceSize, fresh, rows);
    }

    /// <summary>
    /// The map of a weight's contracted axis against a value that <paramref name="primal"/> relates: shares of each
    /// parent channel over its copies that sum to 1, each drawn in [0.25, 0.75] before they are normalised, and noise over
    /// them that sums to 0 (METHODS.md §1: the free part N), so that copies part in training; weights of equal fresh
    /// channels that sum to 0; a lone fresh channel is not read. A channel that is a multiple of the parent's is read by its inverse. Channels that are zero are read with weights of the child's own,
    /// equal means with noise that sums to 0 over them.
    /// </summary>
    /// <param name="primal">The relation.</param>
    /// <param name="seed">Seed of shares and noise; without one copies get equal shares and no noise.</param>
    internal static AxisMap Dual(AxisMap primal, ulong? seed)
    {
        int parents = primal.SourceSize;
        var members = new List<int>?[parents + primal.FreshSize];
        var means = new List<int>();
        var rows = new Tap[]?[primal.Size];
        int fresh = 0;
        for (int c = 0; c < primal.Size; c++)
        {
            if (primal[c].Length != 1)
            {
                if (primal[c].Length == 0)
                    rows[c] = [new Tap(parents + fresh++, 1)];
                else
                    means.Add(c);
                continue;
            }

            (members[primal[c][0].Source] ??= []).Add(c);
        }

        Random? random = seed is { } given ? new Random(unchecked((int)given)) : null;
        for (int source = 0; source < members.Length; source++)
        {
            if (members[source] is not { } copies)
                continue;
            if (source < parents)
            {
                if (copies.Count == 1)
                {
                    rows[copies[0]] = [new Tap(source, 1 / Weight(copies[0]))];
                    continue;
                }

                if (random is null)
                {
                    foreach (int copy in copies)
                        rows[copy] = [new Tap(source, 1.0 / copies.Count / Weight(copy))];
                    continue;
                }

                double[] shares = [.. copies.Select(_ => 0.25 + 0.5 * random.NextDouble())];
                double[] noise = [.. copies.Select(_ => Noise * (2 * random.NextDouble() - 1))];
                double sum = shares.Sum(), mean = noise.Average();
                for (int k = 0; k < copies.Count; k++)
                    rows[copies[k]] = [new Tap(source, shares[k] / sum / Weight(copies[k])), new Tap(parents + fresh, (noise[k] - mean) / Weight(copies[k]))];
                fresh++;
            }
            else if (copies.Count > 1)
            {
                // Pairs of opposite sign; an odd one out is not read.
                for (int k = 0; k + 1 < copies.Count; k += 2, fresh++)
                {
                    rows[copies[k]] = [new Tap(parents + fresh, 1)];
                    rows[copies[k + 1]] = [new Tap(parents + fresh, -1)];
                }
            }
        }

        foreach (int[] equal in means.GroupBy(c => c, new EqualRows(primal)).Select(group => group.ToArray()))
        {
            if (equal.Length == 1 || random is null)
                continue;
            double[] noise = [.. equal.Select(_ => Noise * (2 * random.NextDouble() - 1))];
            double mean = noise.Average();
            for (int k = 0; k < equal.Length; k++)
                rows[equal[k]] = [new Tap(parents + fresh, noise[k] - mean)];
            fresh++;
        }

        return AxisMap.FromTaps(parents, fresh, [.. rows.Select(row => row ?? [])]);

        double Weight(int channel) => primal[channel][0].Weight;
    }

    /// <summary>Indices of a map that have the same terms. Long sums mostly differ in where they start.</summary>
    private sealed class EqualRows(AxisMap map) : IEqualityComparer<int>
    {
        public bool Equals(int x, int y) => map[x].SequenceEqual(map[y]);

        public int GetHashCode(int index) => HashCode.Combine(map[index].Length, map[index][0], map[index][^1]);
    }
}
