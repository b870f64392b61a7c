using OnnxMorph.Axes;

namespace OnnxMorph.Morphs;

/// <summary>
/// The maps that a morph chose for spaces, and what follows for whole axes: products are Kronecker products of their
/// parts' maps, concatenations direct sums.
/// </summary>
/// <param name="solver">The solver that the spaces belong to.</param>
/// <param name="maps">
/// For each changed space the relation child = E·parent + F·free as picks: an index below the parent's size is a copy of
/// that channel, one from there on a channel of the child's own, equal indices being equal channels.
/// </param>
internal sealed class SpaceMaps(AxisSolver solver, IReadOnlyDictionary<Space, AxisMap> maps)
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

    /// <summary>
    /// The map of an axis, or null where it stays. Where the axis is contracted, the entries of a channel are split over
    /// its copies and cancel over equal channels of the child's own (METHODS.md §1: W'·E = W, W'·F = 0), with shares drawn
    /// from <paramref name="seed"/>.
    /// </summary>
    public AxisMap? Of(AxisExpression axis, ulong seed) =>
        Changes(axis) ? Build(solver.Resolve(axis), seed) : null;

    /// <summary>Size of the noise over copies, relative to freshly initialised weights (METHODS.md §3: 3 %).</summary>
    private const double Noise = 0.03;

    private AxisMap Build(AxisExpression axis, ulong seed) => axis switch
    {
        SpaceAxis s when maps.TryGetValue(s.Space, out AxisMap? map) => s.Dual ? Dual(map, Seeds.For(seed, $"space {s.Space.Id}")) : map,
        ProductAxis p => p.Parts.Select(part => Build(part, seed)).Aggregate(AxisMap.Kronecker),
        ConcatAxis c => AxisMap.DirectSum([.. c.Parts.Select(part => Build(part, seed))]),
        _ => AxisMap.Identity(checked((int)axis.Size)),
    };

    /// <summary>
    /// The map of a weight's contracted axis against a value that <paramref name="primal"/> relates: shares of each
    /// parent channel over its copies that sum to 1, each drawn in [0.25, 0.75] before they are normalised, and noise over
    /// them that sums to 0 (METHODS.md §1: the free part N), so that copies part in training; weights of equal fresh
    /// channels that sum to 0; a lone fresh channel is not read.
    /// </summary>
    internal static AxisMap Dual(AxisMap primal, ulong seed)
    {
        int parents = primal.SourceSize;
        var members = new SortedDictionary<int, List<int>>();
        for (int c = 0; c < primal.Size; c++)
        {
            int source = primal[c][0].Source;
            if (!members.TryGetValue(source, out List<int>? list))
                members[source] = list = [];
            list.Add(c);
        }

        var random = new Random(unchecked((int)seed));
        var rows = new Tap[]?[primal.Size];
        int fresh = 0;
        foreach ((int source, List<int> copies) in members)
        {
            if (source < parents)
            {
                if (copies.Count == 1)
                {
                    rows[copies[0]] = [new Tap(source, 1)];
                    continue;
                }

                double[] shares = [.. copies.Select(_ => 0.25 + 0.5 * random.NextDouble())];
                double[] noise = [.. copies.Select(_ => Noise * (2 * random.NextDouble() - 1))];
                double sum = shares.Sum(), mean = noise.Average();
                for (int k = 0; k < copies.Count; k++)
                    rows[copies[k]] = [new Tap(source, shares[k] / sum), new Tap(parents + fresh, noise[k] - mean)];
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

        return AxisMap.FromTaps(parents, fresh, [.. rows.Select(row => row ?? [])]);
    }
}
