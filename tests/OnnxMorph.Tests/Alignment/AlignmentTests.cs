using OnnxMorph.Alignment;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Alignment;

/// <summary>Dynamic programming against every alignment there is.</summary>
public class AlignmentTests
{
    public static TheoryData<RunRule> Rules => [RunRule.Any, RunRule.Blocks];

    /// <summary>Scores of 0 are common, as between layers of different kinds.</summary>
    [Theory]
    [MemberData(nameof(Rules))]
    public void SequencesAreAlignedAtTheOptimum(RunRule rule)
    {
        var random = new Random(11);
        for (int n = 0; n < 1000; n++)
        {
            int targets = random.Next(0, 6), sources = random.Next(0, 5);
            double[,] scores = new double[targets, sources];
            bool[] blocks = [.. Enumerable.Range(0, targets).Select(_ => random.Next(2) == 0)];
            for (int i = 0; i < targets; i++)
                for (int j = 0; j < sources; j++)
                    scores[i, j] = random.Next(3) == 0 ? 0 : random.NextDouble();
            bool Repeats(int i, int j) => rule == RunRule.Any || (blocks[i] && scores[i, j] > 0);
            SequenceAlignment found = SequenceAlignment.Best(targets, sources, (i, j) => scores[i, j], Repeats);
            (double best, _) = Brute(targets, sources, (i, j) => scores[i, j], Repeats);
            Assert.Equal(best, found.Score, 1e-12);
            Assert.Equal(best, Value(found.Sources, (i, j) => scores[i, j], Repeats) ?? double.NaN, 1e-12);
        }
    }

    /// <summary>Long sequences, which are worked on several at a time, follow the recurrence to the last bit, and the alignment has its score.</summary>
    [Theory]
    [MemberData(nameof(Rules))]
    public void LongSequencesFollowTheRecurrence(RunRule rule)
    {
        var random = new Random(3);
        for (int n = 0; n < 60; n++)
        {
            int targets = random.Next(1, 50), sources = random.Next(1, 30);
            double[,] scores = new double[targets, sources];
            for (int i = 0; i < targets; i++)
                for (int j = 0; j < sources; j++)
                    scores[i, j] = random.Next(6) == 0 ? 0 : Math.Round(random.NextDouble() * (1 + n % 3), n % 2 == 0 ? 1 : 15);
            bool Repeats(int i, int j) => rule == RunRule.Any || scores[i, j] > 0;
            var best = new double[targets + 1, sources + 1];
            for (int i = 1; i <= targets; i++)
            {
                for (int j = 1; j <= sources; j++)
                {
                    best[i, j] = Math.Max(best[i - 1, j], best[i, j - 1]);
                    double sum = 0;
                    for (int k = i; k >= 1 && (k == i || (Repeats(k - 1, j - 1) && Repeats(i - 1, j - 1))); k--)
                        best[i, j] = Math.Max(best[i, j], best[k - 1, j - 1] + (sum += scores[k - 1, j - 1]) / Math.Sqrt(i - k + 1));
                }
            }

            SequenceAlignment found = SequenceAlignment.Best(targets, sources, (i, j) => scores[i, j], Repeats);
            Assert.Equal(best[targets, sources], found.Score);
            Assert.Equal(found.Score, Value(found.Sources, (i, j) => scores[i, j], Repeats) ?? double.NaN, 1e-12);
        }
    }

    [Theory]
    [MemberData(nameof(Rules))]
    public void NetworksAreAlignedAtTheOptimum(RunRule rule)
    {
        var random = new Random(5);
        for (int n = 0; n < 1000; n++)
        {
            NetworkOutline source = Draw(random), target = Draw(random);
            double best = Best(source, target, rule);
            NetworkAlignment found = NetworkAlignment.Of(source, target, rule);
            Assert.Equal(best, found.Score, 1e-12);
            Assert.All(found.Sources, pair => Assert.True(Fit(Layer(target, pair.Key), pair.Value) > 0));
            if (rule == RunRule.Any)
                continue;
            // What it says that goes where is an alignment of that score, inside blocks too. Published runs may hold what gets nothing.
            int[] sources = [.. found.Items.Select(item => item.Source is null ? -1 : source.Items.Select(s => s.Name).ToList().IndexOf(item.Source))];
            Assert.Equal(best, Value(sources, (i, j) => found.Items[i].Score, (_, _) => true) ?? double.NaN, 1e-12);
            for (int i = 0; i < sources.Length; i++)
            {
                (string To, AlignedLayer From)[] layers = [.. target.Items[i].Layers.Where(l => found.Sources.ContainsKey(l.Name)).Select(l => (l.Name, found.Sources[l.Name]))];
                Assert.Equal(found.Items[i].Score, layers.Sum(l => Fit(Layer(target, l.To), l.From)), 1e-12);
                int[] places = [.. layers.Select(l => source.Items[sources[i]].Layers.IndexOf(l.From))];
                Assert.True(places.Zip(places.Skip(1), (a, b) => a < b).All(ordered => ordered) && !places.Contains(-1));
            }
        }
    }

    /// <summary>Similarity from its definition, with the scores of networks with themselves found by brute force too.</summary>
    [Theory]
    [MemberData(nameof(Rules))]
    public void SimilarityIsMadeOfFourOptima(RunRule rule)
    {
        var random = new Random(7);
        for (int n = 0; n < 300; n++)
        {
            NetworkOutline a = Draw(random), b = Draw(random);
            double forward = Best(a, b, rule) / Best(b, b, rule), backward = Best(b, a, rule) / Best(a, a, rule);
            NetworkSimilarity found = NetworkSimilarity.Of(a, b, rule);
            Assert.Equal(forward, found.Forward, 1e-12);
            Assert.Equal(backward, found.Backward, 1e-12);
            Assert.Equal(Math.Sqrt(forward * backward), found.Symmetric, 1e-12);
            Assert.Equal(found.Symmetric < 0.5, found.Warning is not null);
        }
    }

    private static NetworkOutline Draw(Random random)
    {
        int layers = 0, blocks = 0;
        return new NetworkOutline([.. Enumerable.Range(0, random.Next(1, 5)).Select(_ => random.Next(2) == 0
            ? new NetworkItem("", false, [Layer()]) : new NetworkItem($"block{blocks++}", true, [.. Enumerable.Range(0, random.Next(1, 4)).Select(_ => Layer())]))]);

        AlignedLayer Layer() => random.Next(3) == 0
            ? new AlignedLayer($"{layers++}", AlignedKind.Norm, [random.Next(1, 4)])
            : new AlignedLayer($"{layers++}", AlignedKind.Convolution, [random.Next(1, 4), random.Next(1, 4), 1 + 2 * random.Next(2)]);
    }

    private static AlignedLayer Layer(NetworkOutline outline, string name) => outline.Items.SelectMany(item => item.Layers).Single(layer => layer.Name == name);

    // The best alignment of two networks: all of blocks, for each of which all of layers.
    private static double Best(NetworkOutline source, NetworkOutline target, RunRule rule)
    {
        var inside = new double[target.Items.Length, source.Items.Length];
        for (int i = 0; i < target.Items.Length; i++)
        {
            for (int j = 0; j < source.Items.Length; j++)
            {
                (NetworkItem to, NetworkItem from) = (target.Items[i], source.Items[j]);
                if (to.IsBlock == from.IsBlock)
                    inside[i, j] = Brute(to.Layers.Length, from.Layers.Length, (a, b) => Fit(to.Layers[a], from.Layers[b]), (_, _) => rule == RunRule.Any).Best;
            }
        }

        return Brute(target.Items.Length, source.Items.Length, (i, j) => inside[i, j], (i, j) => rule == RunRule.Any || (target.Items[i].IsBlock && inside[i, j] > 0)).Best;
    }

    /// <summary>Worked by hand: 8→16 outputs halve the score, 3×3 in 1×1 makes a ninth; linear layers do not fit convolutions.</summary>
    [Fact]
    public void ScoresOfLayers()
    {
        var layer = new AlignedLayer("a", AlignedKind.Convolution, [16, 8, 3, 3]);
        Assert.Equal(1, layer.Score(layer));
        Assert.Equal(0.5 / 9, layer.Score(new AlignedLayer("b", AlignedKind.Convolution, [8, 8, 1, 1])), 1e-15);
        Assert.Equal(0, layer.Score(new AlignedLayer("b", AlignedKind.Convolution, [16, 8, 3])));
        Assert.Equal(0, new AlignedLayer("c", AlignedKind.Linear, [4, 4]).Score(new AlignedLayer("d", AlignedKind.Embedding, [4, 4])));
    }

    /// <summary>A network with a block more: the block is fed twice, at 2/√2 of its score.</summary>
    [Fact]
    public void ADeeperTargetRepeatsBlocks()
    {
        NetworkOutline shallow = Residual(2), deep = Residual(3);
        NetworkAlignment alignment = NetworkAlignment.Of(shallow, deep);
        Assert.Equal(4, shallow.Items.Length);
        // Each block has two convolutions, stem and head one layer each.
        Assert.Equal(1 + 2 + 2 * 2 / Math.Sqrt(2) + 1, alignment.Score, 1e-12);
        Assert.All(alignment.Items, item => Assert.NotNull(item.Source));
        Assert.Equal(5, alignment.Items.Count);
        NetworkSimilarity similarity = NetworkSimilarity.Of(shallow, deep), same = NetworkSimilarity.Of(deep, deep), other = NetworkSimilarity.Of(deep, shallow);
        Assert.Equal(1, similarity.Backward, 1e-12);
        Assert.Equal(alignment.Score / 8, similarity.Forward, 1e-12);
        Assert.Equal(Math.Sqrt(similarity.Forward * similarity.Backward), similarity.Symmetric, 1e-12);
        Assert.Equal((1.0, 1.0, 1.0), (same.Symmetric, same.Forward, same.Backward));
        Assert.Equal((similarity.Symmetric, similarity.Backward), (other.Symmetric, other.Forward));
    }

    [Fact]
    public void OutlinesHaveLayersOfAllKinds()
    {
        var net = new Net { Runs = { new() { ["T"] = 3 } } };
        string x = net.Op("Gather", [net.Weight([7, 4]), net.Input("ids", ElementType.Int64, "T", 1)], name: "table");
        x = net.Op("LSTM", [x, net.Weight([1, 20, 4]), net.Weight([1, 20, 5])], new { hidden_size = 5 }, "recurrent");
        x = net.Op("Squeeze", [x, net.Ints(1)]);
        x = net.Op("Conv", [net.Transpose(x, 1, 2, 0), net.Weight([6, 5, 1])], name: "conv");
        x = net.BatchNorm(x, 6, "norm");
        x = net.Op("ConvTranspose", [x, net.Weight([6, 2, 3])], name: "up");
        net.Output(net.Op("MatMul", [net.Transpose(x, 0, 2, 1), net.Weight([2, 9])], name: "linear"));
        var layers = NetworkOutline.Of(net.Model).Items.SelectMany(item => item.Layers).ToDictionary(l => l.Name, l => $"{l.Kind} {string.Join('×', l.Shape)}");
        Assert.Equal("Embedding 7×4", layers["table"]);
        Assert.Equal("Recurrent 20×4", layers["recurrent"]);
        Assert.Equal("Convolution 6×5×1", layers["conv"]);
        Assert.Equal("Norm 6", layers["norm"]);
        Assert.Equal("TransposedConvolution 6×2×3", layers["up"]);
        Assert.Equal("Linear 9×2", layers["linear"]);
    }

    private static NetworkOutline Residual(int blocks)
    {
        var net = new Net { Runs = { new() } };
        string x = net.Relu(net.Conv(net.Input("x", 1, 3, 8, 8), 3, 4));
        for (int i = 0; i < blocks; i++)
            x = net.Relu(net.Add(x, net.Conv(net.Relu(net.Conv(x, 4, 4)), 4, 4)));
        net.Output(net.Op("Gemm", [net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), net.Weight([4, 5]), net.Weight([5])]));
        return NetworkOutline.Of(net.Model);
    }

    // The layer score once more, from its definition.
    private static double Fit(AlignedLayer a, AlignedLayer b) => a.Kind != b.Kind || a.Shape.Length != b.Shape.Length ? 0
        : a.Shape.Zip(b.Shape, (p, q) => Math.Min((double)p / q, (double)q / p)).Aggregate(1.0, (x, y) => x * y);

    // All vectors of sources for targets.
    private static (double Best, int[] Sources) Brute(int targets, int sources, Func<int, int, double> score, Func<int, int, bool> repeats)
    {
        double best = 0;
        int[] chosen = [.. Enumerable.Repeat(-1, targets)], vector = new int[targets];
        for (long code = 0; code < (long)Math.Pow(sources + 1, targets); code++)
        {
            long rest = code;
            for (int i = 0; i < targets; i++, rest /= sources + 1)
                vector[i] = (int)(rest % (sources + 1)) - 1;
            if (Value(vector, score, repeats) is { } value && value > best)
                (best, chosen) = (value, [.. vector]);
        }

        return (best, chosen);
    }

    // Null where the vector is no alignment: out of order, a source's targets apart, or a run of what must not repeat.
    private static double? Value(IReadOnlyList<int> vector, Func<int, int, double> score, Func<int, int, bool> repeats)
    {
        int[] used = [.. vector.Where(s => s >= 0)];
        if (!used.SequenceEqual(used.Order()))
            return null;
        double value = 0;
        foreach (int source in used.Distinct())
        {
            int[] run = [.. Enumerable.Range(0, vector.Count).Where(i => vector[i] == source)];
            if (run[^1] - run[0] + 1 != run.Length || (run.Length > 1 && !run.All(i => repeats(i, source))))
                return null;
            value += run.Sum(i => score(i, source)) / Math.Sqrt(run.Length);
        }

        return value;
    }
}
