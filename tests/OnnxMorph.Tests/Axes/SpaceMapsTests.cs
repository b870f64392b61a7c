using OnnxMorph.Axes;
using OnnxMorph.Morphs;
using Xunit;

namespace OnnxMorph.Tests.Axes;

/// <summary>
/// The maps that follow for whole axes, held to their definition in dense linear algebra: a value is child = E·parent + F·free,
/// and a weight W contracted against it must become W' with W'·E = W and W'·F = 0.
/// </summary>
public class SpaceMapsTests
{
    private static readonly Pin s_why = new("test", "it does not fit");

    [Fact]
    public void MapsOfRandomAxes()
    {
        for (int seed = 0; seed < 1500; seed++)
        {
            var random = new Random(seed);
            var solver = new AxisSolver();
            List<Space> spaces = [];
            for (int i = 0; i < 3; i++)
                spaces.Add(((SpaceAxis)solver.Fresh(random.Next(2, 4), s_why)).Space);
            AxisExpression axis = Expression(random, spaces, 0);
            if (axis.Size > 40)
                continue;
            var maps = spaces.Where(_ => random.Next(4) > 0).ToDictionary(s => s, s => Picks(random, s.Size));
            var spaceMaps = new SpaceMaps(solver, maps);

            List<int?[]> index = Indices(axis, maps);
            Assert.Equal(index.Count, spaceMaps.NewSize(axis));
            if (spaceMaps.Of(axis, 7, _ => false) is not { } primal)
            {
                Assert.DoesNotContain(solver.Leaves(axis), leaf => maps.ContainsKey(leaf.Space));
                continue;
            }

            // E by walking over the indices; equal fresh indices where all parts are equal, and only there.
            int parent = (int)axis.Size;
            Assert.Equal((parent, index.Count), (primal.SourceSize, primal.Size));
            var fresh = new Dictionary<int, string>();
            for (int c = 0; c < primal.Size; c++)
            {
                Tap tap = Assert.Single(primal[c].ToArray());
                Assert.Equal(1, tap.Weight);
                if (index[c] is [{ } source])
                    Assert.Equal(source, tap.Source);
                else
                {
                    string parts = string.Join(' ', index[c]);
                    Assert.InRange(tap.Source, parent, parent + primal.FreshSize - 1);
                    Assert.Equal(parts, fresh.TryAdd(tap.Source, parts) ? parts : fresh[tap.Source]);
                }
            }

            Assert.Equal(fresh.Count, fresh.Values.Distinct().Count());

            // Contracted: D·[E F] = [1 0] for any draw of the fresh values.
            AxisMap dual = spaceMaps.Of(AxisSolver.Dualize(axis), 7, _ => false)!;
            Assert.Equal((parent, primal.Size), (dual.SourceSize, dual.Size));
            double[,] e = Dense(primal), d = Dense(dual);
            // The weight is 1 at parent index w, 0 elsewhere, and random at its own fresh indices.
            double[] free = [.. Enumerable.Range(0, dual.FreshSize).Select(_ => random.NextDouble() - 0.5)];
            double[] draws = [.. Enumerable.Range(0, primal.Size).Select(c => free.Select((value, f) => value * d[c, parent + f]).Sum())];
            for (int w = 0; w < parent; w++)
                for (int x = 0; x < parent + primal.FreshSize; x++)
                {
                    double sum = 0;
                    for (int c = 0; c < primal.Size; c++)
                        sum += (d[c, w] + draws[c]) * e[c, x];
                    Assert.Equal(w == x ? 1 : 0, sum, 1e-10);
                }
        }
    }

    [Fact]
    public void SharesOfCopiesDiffer()
    {
        // Two copies of channel 0, three of channel 1, one of 2: positive shares, never equal, summing to one.
        AxisMap dual = SpaceMaps.Dual(AxisMap.Pick(3, 0, [0, 1, 2, 1, 0, 1]), 3);
        double[] shares = [.. Enumerable.Range(0, 6).Select(c => dual[c][0].Weight)];
        double[] noise = [.. Enumerable.Range(0, 6).Select(c => dual[c].Length == 2 ? dual[c][1].Weight : 0)];
        // Copies differ in noise as well, which cancels over them.
        Assert.Equal([3, 4, -1, 4, 3, 4], Enumerable.Range(0, 6).Select(c => dual[c].Length == 2 ? dual[c][1].Source : -1));
        Assert.Equal(0, noise[0] + noise[4], 1e-15);
        Assert.Equal(0, noise[1] + noise[3] + noise[5], 1e-15);
        Assert.Equal(5, noise.Where(n => n != 0).Distinct().Count());
        Assert.All(noise, n => Assert.InRange(n, -0.06, 0.06));
        Assert.Equal(1, shares[0] + shares[4], 1e-15);
        Assert.Equal(1, shares[1] + shares[3] + shares[5], 1e-15);
        Assert.Equal(1, shares[2]);
        Assert.Equal(6, shares.Distinct().Count());
        Assert.All(shares, share => Assert.InRange(share, 0.1, 1));
    }

    [Fact]
    public void FreshChannelsCancelInPairsOrAreNotRead()
    {
        AxisMap dual = SpaceMaps.Dual(AxisMap.Pick(2, 2, [0, 1, 2, 2, 3, 2]), 3);
        Assert.Equal(1, dual.FreshSize);
        Assert.Equal([new Tap(2, 1)], dual[2].ToArray());
        Assert.Equal([new Tap(2, -1)], dual[3].ToArray());
        Assert.True(dual[4].IsEmpty && dual[5].IsEmpty);
    }

    // What each child index stands for: one parent index, or the sources of its parts where one of them is fresh.
    private static List<int?[]> Indices(AxisExpression axis, Dictionary<Space, AxisMap> maps)
    {
        switch (axis)
        {
            case SpaceAxis s when maps.TryGetValue(s.Space, out AxisMap? map):
                return [.. Enumerable.Range(0, map.Size).Select(c => map[c][0].Source is var source && source < s.Size ? new int?[] { source } : [null, source])];
            case ProductAxis p:
                List<int?[]> product = [[0]];
                foreach (AxisExpression part in p.Parts)
                    product = [.. product.SelectMany(o => Indices(part, maps).Select(i => o is [{ } a] && i is [{ } b] ? new int?[] { a * (int)part.Size + b } : [null, .. o, -1, .. i, -2]))];
                return product;
            case ConcatAxis c:
                var joined = new List<int?[]>();
                int offset = 0;
                for (int k = 0; k < c.Parts.Length; k++)
                {
                    joined.AddRange(Indices(c.Parts[k], maps).Select(i => i is [{ } source] ? new int?[] { source + offset } : [null, -3 - k, .. i]));
                    offset += (int)c.Parts[k].Size;
                }

                return joined;
            default:
                return [.. Enumerable.Range(0, (int)axis.Size).Select(i => new int?[] { i })];
        }
    }

    private static AxisExpression Expression(Random random, List<Space> spaces, int depth) => (depth > 1 ? 0 : random.Next(3)) switch
    {
        1 => AxisSolver.Product([Expression(random, spaces, depth + 1), Expression(random, spaces, depth + 1)]),
        2 => AxisSolver.Concat([Expression(random, spaces, depth + 1), Expression(random, spaces, depth + 1)]),
        _ => random.Next(5) == 0 ? new FixedAxis(random.Next(1, 3), s_why) : new SpaceAxis(spaces[random.Next(spaces.Count)], false),
    };

    // Every channel of the parent in its place, then copies and fresh channels, some of them equal.
    private static AxisMap Picks(Random random, int size)
    {
        int fresh = random.Next(3);
        int[] sources = [.. Enumerable.Range(0, size), .. Enumerable.Range(0, random.Next(4)).Select(_ => random.Next(size + fresh)), .. Enumerable.Range(size, fresh)];
        return AxisMap.Pick(size, fresh, sources);
    }

    private static double[,] Dense(AxisMap map)
    {
        var dense = new double[map.Size, map.SourceSize + map.FreshSize];
        for (int c = 0; c < map.Size; c++)
            foreach (Tap tap in map[c])
                dense[c, tap.Source] += tap.Weight;
        return dense;
    }
}
