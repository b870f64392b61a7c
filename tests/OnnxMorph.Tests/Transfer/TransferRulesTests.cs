using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Transfer;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Transfer.TransferNets;

namespace OnnxMorph.Tests.Transfer;

/// <summary>Each rule of a transfer held to loops over the numbers, and presets to the rules that they name.</summary>
public class TransferRulesTests
{
    private const double Rounding = 1e-6;

    // first → norm → second, around a space of some channels.
    private static Net Pair(int channels, int seed, int kernel = 1)
    {
        var net = new Net(seed: seed);
        string x = net.Op("Conv", [net.Input("image", 2, 2, 8, 8), net.Weight([channels, 2, kernel, kernel], name: "first")], new { pads = Enumerable.Repeat(kernel / 2, 4).ToArray() });
        x = net.Op("BatchNormalization", [x, net.Weight([channels], name: "gamma"), net.Weight([channels], name: "beta"), net.Weight([channels], name: "mean"), Positive(net, channels)]);
        x = net.Op("Conv", [net.Relu(x), net.Weight([5, channels, 1, 1], name: "second")]);
        net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [net.Relu(x)])]), 5, 3));
        return net;
    }

    private static string Positive(Net net, int channels)
    {
        string name = net.Positive(channels);
        return net.Proto.Graph.Initializer.Single(t => t.Name == name).Name = "variance";
    }

    private static double[] Row(double[] values, int rows, int row) => values[(row * values.Length / rows)..((row + 1) * values.Length / rows)];

    private static double[] Column(double[] second, int channels, int c) => [.. Enumerable.Range(0, 5).Select(o => second[o * channels + c])];

    private static void Close(IEnumerable<double> expected, IEnumerable<double> actual, double tolerance = Rounding)
    {
        double[] own = [.. expected], other = [.. actual];
        Assert.Equal(own.Length, other.Length);
        Assert.All(own.Zip(other), pair => Assert.Equal(pair.First, pair.Second, tolerance));
    }

    private static int[] Largest(IEnumerable<double> importance, int count) =>
        [.. importance.Index().OrderByDescending(c => c.Item).Take(count).Select(c => c.Index).Order()];

    /// <summary>Rules that pick: rows of what makes the channels, the norm's numbers, and columns of what reads them are the same channels.</summary>
    [Theory]
    [InlineData(WidthRule.Importance, ImportanceMeasure.Gamma, 9, 5)]
    [InlineData(WidthRule.Importance, ImportanceMeasure.L1, 9, 5)]
    [InlineData(WidthRule.Importance, ImportanceMeasure.Gamma, 5, 9)]
    [InlineData(WidthRule.Uniform, ImportanceMeasure.Gamma, 9, 5)]
    [InlineData(WidthRule.Uniform, ImportanceMeasure.Gamma, 5, 12)]
    [InlineData(WidthRule.Leading, ImportanceMeasure.Gamma, 9, 5)]
    [InlineData(WidthRule.Leading, ImportanceMeasure.Gamma, 5, 12)]
    [InlineData(WidthRule.Centre, ImportanceMeasure.Gamma, 9, 5)]
    [InlineData(WidthRule.Stride, ImportanceMeasure.Gamma, 9, 3)]
    [InlineData(WidthRule.Stride, ImportanceMeasure.Gamma, 9, 4)]
    [InlineData(WidthRule.Stride, ImportanceMeasure.Gamma, 4, 9)]
    public void OneChoiceHoldsForEveryTensor(WidthRule width, ImportanceMeasure importance, int from, int to)
    {
        Net source = Pair(from, 1), target = Pair(to, 2);
        double[] first = Numbers(source.Proto, "first"), second = Numbers(source.Proto, "second"), gamma = Numbers(source.Proto, "gamma");
        int[] chosen = width switch
        {
            WidthRule.Importance when to < from && importance == ImportanceMeasure.Gamma => Largest(gamma.Select(Math.Abs), to),
            WidthRule.Importance when to < from => Largest(Enumerable.Range(0, from).Select(c => Row(first, from, c).Sum(Math.Abs)), to),
            WidthRule.Leading => [.. Enumerable.Range(0, to).Select(i => i % from)],
            WidthRule.Centre => [.. Enumerable.Range((from - to) / 2, to)],
            WidthRule.Stride when from % to == 0 => [0, 3, 6],
            WidthRule.Stride when to < from => [0, 3, 5, 8],
            _ => [.. Enumerable.Range(0, to).Select(i => (int)Math.Floor((i + 0.5) * from / to))],
        };
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target, new TransferRules { Width = width, Importance = importance, Scale = ScaleRule.Equal });
        Assert.DoesNotContain(tensors, t => t.Origin == TensorOrigin.Fresh);
        foreach (string name in new[] { "first", "gamma", "beta", "mean", "variance" })
            Assert.Equal(chosen.SelectMany(c => Row(Numbers(source.Proto, name), from, c)), Numbers(result, name));
        for (int i = 0; i < to; i++)
            Close(Column(second, from, chosen[i]).Select(w => w / chosen.Count(c => c == chosen[i])), Column(Numbers(result, "second"), to, i));
        if (to > from)
            SameFunction(source, result);
    }

    /// <summary>Along an axis that is summed over: as it is, √(nS/nT), nS/nT.</summary>
    [Theory]
    [InlineData(ScaleRule.None, 9, 5)]
    [InlineData(ScaleRule.None, 5, 9)]
    [InlineData(ScaleRule.Root, 9, 5)]
    [InlineData(ScaleRule.Root, 5, 9)]
    [InlineData(ScaleRule.Ratio, 9, 5)]
    [InlineData(ScaleRule.Ratio, 5, 9)]
    public void ReadersAreScaled(ScaleRule scale, int from, int to)
    {
        Net source = Pair(from, 1);
        (ModelProto result, _, _) = Carry(source, Pair(to, 2), new TransferRules { Width = WidthRule.Uniform, Scale = scale });
        double factor = scale switch { ScaleRule.Root => Math.Sqrt((double)from / to), ScaleRule.Ratio => (double)from / to, _ => 1 };
        for (int i = 0; i < to; i++)
            Close(Column(Numbers(source.Proto, "second"), from, (2 * i + 1) * from / (2 * to)).Select(w => factor * w), Column(Numbers(result, "second"), to, i));
        Assert.Equal(Enumerable.Range(0, to).SelectMany(i => Row(Numbers(source.Proto, "first"), from, (2 * i + 1) * from / (2 * to))), Numbers(result, "first"));
    }

    /// <summary>
    /// Shares over copies: what they sum to is the source's weight, the parts are unequal, and noise of 3 % of the weights' scale is in them, whatever that is.
    /// </summary>
    [Theory]
    [InlineData(1)]
    [InlineData(1e-3)]
    public void SharesSumToTheWeightAndPartCopies(double size)
    {
        Net source = Pair(40, 1);
        TensorProto tensor = source.Proto.Graph.Initializer.Single(t => t.Name == "second");
        double[] second = [.. Numbers(source.Proto, "second").Select(w => size * w)];
        tensor.RawData = Google.Protobuf.ByteString.CopyFrom(Testing.Numbers.Encode(ElementType.Float32, second));
        (ModelProto result, _, _) = Carry(source, Pair(80, 2));
        double[] read = Numbers(result, "second");
        double rms = Math.Sqrt(second.Average(w => w * w)), noise = 0;
        for (int c = 0; c < 40; c++)
        {
            double[] own = Column(Numbers(source.Proto, "second"), 40, c), a = Column(read, 80, 2 * c), b = Column(read, 80, 2 * c + 1);
            Close(own, a.Zip(b, (x, y) => x + y), Rounding * size);
            // Without noise the parts would be multiples of each other: a = s·w.
            double share = a.Zip(own, (x, w) => x * w).Sum() / own.Sum(w => w * w);
            Assert.InRange(share, 0.15, 0.85);
            noise += a.Zip(own, (x, w) => (x - share * w) * (x - share * w)).Sum();
        }

        // (n₁ − n₂)/2 of uniform numbers in ±3 %, times numbers of the weights' size halved: 0.03/√6 · ½, less what the fitted share takes.
        Assert.InRange(Math.Sqrt(noise / 200) / rms, 0.003, 0.009);
    }

    /// <summary>Linear interpolation with the source's standard deviation; vectors are interpolated and no more.</summary>
    [Theory]
    [InlineData(9, 5)]
    [InlineData(5, 9)]
    public void InterpolationKeepsTheDeviation(int from, int to)
    {
        Net source = Pair(from, 1);
        (ModelProto result, _, _) = Carry(source, Pair(to, 2), new TransferRules { Width = WidthRule.Interpolate, Scale = ScaleRule.None });
        double[] At(Func<int, double[]> of, int i)
        {
            double at = Math.Clamp((i + 0.5) * from / to - 0.5, 0, from - 1);
            int below = (int)at;
            double share = at - below;
            return [.. of(below).Zip(of(Math.Min(below + 1, from - 1)), (x, y) => (1 - share) * x + share * y)];
        }

        double[] gamma = Numbers(source.Proto, "gamma"), first = Numbers(source.Proto, "first"), second = Numbers(source.Proto, "second");
        Close(Enumerable.Range(0, to).SelectMany(i => At(c => [gamma[c]], i)), Numbers(result, "gamma"));
        double[] rows = [.. Enumerable.Range(0, to).SelectMany(i => At(c => Row(first, from, c), i))];
        Close(rows.Select(w => w * Deviation(first) / Deviation(rows)), Numbers(result, "first"));
        double[] columns = [.. Enumerable.Range(0, to).SelectMany(i => At(c => Column(second, from, c), i))], read = Numbers(result, "second");
        Close(columns.Select(w => w * Deviation(second) / Deviation(columns)), Enumerable.Range(0, to).SelectMany(i => Column(read, to, i)));
        Assert.Equal(Deviation(second), Deviation(read), 1e-6);

        static double Deviation(double[] values) => Math.Sqrt(values.Average(v => (v - values.Average()) * (v - values.Average())));
    }

    /// <summary>Merged channels: rows of the members' mean norm, means of the norm's numbers, sums of what reads them.</summary>
    [Fact]
    public void SimilarChannelsAreMerged()
    {
        const int From = 9, To = 4;
        Net source = Pair(From, 1);
        (ModelProto result, _, _) = Carry(source, Pair(To, 2), new TransferRules { Width = WidthRule.Merge });
        double[] first = Numbers(source.Proto, "first");
        string[] makers = ["first", "gamma", "beta", "mean", "variance"];
        double[][] points = [.. Enumerable.Range(0, From).Select(c => makers.SelectMany(name =>
        {
            double[] values = Numbers(source.Proto, name);
            return Row(values, From, c).Select(v => v / Math.Sqrt(values.Sum(w => w * w) / From));
        }).ToArray())];
        int[][] clusters = Ward(points, To);
        Assert.Contains(clusters, c => c.Length > 2);
        foreach ((int i, int[] members) in clusters.Index())
        {
            double[] mean = [.. Enumerable.Range(0, 2).Select(k => members.Average(c => Row(first, From, c)[k]))];
            double norm = members.Average(c => Norm(Row(first, From, c)));
            Close(mean.Select(w => w * norm / Norm(mean)), Row(Numbers(result, "first"), To, i));
            Assert.Equal(norm, Norm(Row(Numbers(result, "first"), To, i)), 1e-6);
            foreach (string name in makers[1..])
                Assert.Equal(members.Average(c => Numbers(source.Proto, name)[c]), Numbers(result, name)[i], 1e-6);
            Close(Enumerable.Range(0, 5).Select(o => members.Sum(c => Numbers(source.Proto, "second")[o * From + c])), Column(Numbers(result, "second"), To, i));
        }

        static double Norm(double[] values) => Math.Sqrt(values.Sum(v => v * v));
    }

    /// <summary>Merging undoes copying: a network made wider computes the same when similar channels are merged again.</summary>
    [Theory]
    [InlineData("basic")]
    [InlineData("inverted")]
    [InlineData("grouped")]
    public void MergingUndoesCopies(string block)
    {
        Net source = block == "grouped" ? Grouped(8, 2, 2, 1) : Family(block, [6, 8], [2, 2], 1);
        Net wide = block == "grouped" ? Grouped(16, 2, 2, 2) : Family(block, [12, 16], [2, 2], 2, stem: 12);
        (ModelProto grown, _, _) = Carry(source, wide);
        (ModelProto back, _, _) = Carry(wide.With(grown), source, new TransferRules { Width = WidthRule.Merge });
        SameFunction(source, back);
    }

    /// <summary>Clusters by the definition, from scratch after every joining.</summary>
    [Fact]
    public void ClustersJoinWhatAddsLeast()
    {
        var random = new Random(3);
        for (int trial = 0; trial < 40; trial++)
        {
            double[][] points = [.. Enumerable.Range(0, 3 + trial % 12).Select(_ => Enumerable.Range(0, 3).Select(_ => random.NextDouble()).ToArray())];
            int count = 1 + random.Next(points.Length);
            Assert.Equal(Ward(points, count), ChannelClusters.Of(points, count));
        }
    }

    private static int[][] Ward(double[][] points, int count)
    {
        List<int[]> clusters = [.. points.Select((_, i) => (int[])[i])];
        double Spread(IEnumerable<int> members) => Enumerable.Range(0, points[0].Length).Sum(d =>
        {
            double mean = members.Average(c => points[c][d]);
            return members.Sum(c => (points[c][d] - mean) * (points[c][d] - mean));
        });
        while (clusters.Count > count)
        {
            (int[] a, int[] b) = (from x in clusters from y in clusters where x[0] < y[0] orderby Spread([.. x, .. y]) - Spread(x) - Spread(y) select (x, y)).First();
            clusters.RemoveAll(c => c == a || c == b);
            clusters.Add([.. a.Concat(b).Order()]);
        }

        return [.. clusters.OrderBy(c => c[0])];
    }

    /// <summary>FNA: leading slices in zeros, norms neutral beyond, kernels in the middle of zeros, last blocks repeated.</summary>
    [Fact]
    public void FnaPutsSlicesIntoZeros()
    {
        Net source = Pair(5, 1), target = Pair(8, 2, kernel: 3);
        (ModelProto result, _, _) = Carry(source, target, TransferRules.Presets["fna"]);
        double[] first = Numbers(source.Proto, "first"), second = Numbers(source.Proto, "second");
        Assert.Equal(
            from o in Enumerable.Range(0, 8) from i in Enumerable.Range(0, 2) from k in Enumerable.Range(0, 9) select o < 5 && k == 4 ? first[o * 2 + i] : 0,
            Numbers(result, "first"));
        Assert.Equal(from o in Enumerable.Range(0, 5) from c in Enumerable.Range(0, 8) select c < 5 ? second[o * 5 + c] : 0, Numbers(result, "second"));
        foreach (string name in new[] { "beta", "mean" })
            Assert.Equal([.. Numbers(source.Proto, name), 0, 0, 0], Numbers(result, name));
        // Neutral beyond: what is normalised is as large as what is read.
        double[] gamma = Numbers(result, "gamma"), variance = Numbers(result, "variance");
        Assert.Equal(Numbers(source.Proto, "gamma"), gamma[..5]);
        Assert.All(Enumerable.Range(5, 3), c => Assert.Equal(1, gamma[c] / Math.Sqrt(variance[c] + 1e-5), 1e-6));
        SameFunction(source, result);
    }

    /// <summary>Channels that are zero may be read with anything.</summary>
    [Fact]
    public void ZerosAreReadAtRandomWhereSharesAre()
    {
        Net source = Family("basic", [6, 8], [2, 2], 1), target = Family("basic", [9, 11], [2, 3], 2, stem: 7);
        (ModelProto result, _, _) = Carry(source, target, new TransferRules { Width = WidthRule.Leading, Added = AddedChannels.Zeros });
        SameFunction(source, result);
        double[] read = Numbers(Carry(Pair(5, 1), Pair(8, 2), new TransferRules { Added = AddedChannels.Zeros }).Result, "second");
        Assert.All(read, w => Assert.NotEqual(0, w));
    }

    /// <summary>Weight selection maps each axis of each tensor by its sizes: the channels of groups as if there were none.</summary>
    [Fact]
    public void WeightSelectionKnowsSizesAlone()
    {
        Net source = Net(12, 3, 1), target = Net(8, 4, 2);
        (ModelProto result, _, _) = Carry(source, target, TransferRules.Presets["weight-selection"]);
        int[] rows = [0, 2, 3, 5, 6, 8, 9, 11], columns = [0, 2];
        double[] own = Numbers(source.Proto, "grouped");
        Assert.Equal(from o in rows from i in columns from k in Enumerable.Range(0, 9) select own[(o * 4 + i) * 9 + k], Numbers(result, "grouped"));

        static Net Net(int width, int groups, int seed)
        {
            var net = new Net(seed: seed);
            string x = net.ConvUnit(net.Input("image", 2, 3, 8, 8), 3, width, 1);
            x = net.Op("Conv", [x, net.Weight([width, width / groups, 3, 3], name: "grouped")], new { group = groups, pads = new[] { 1, 1, 1, 1 } });
            net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [net.Relu(x)])]), width, 3));
            return net;
        }
    }

    /// <summary>Groups by their summed importance, and inside each that stays its own most important channels; what reads them reads these.</summary>
    [Theory]
    [InlineData(12, 3, 4, 2)]
    [InlineData(12, 3, 9, 3)]
    [InlineData(12, 2, 8, 4)]
    public void GroupsKeepTheirMostImportantChannels(int from, int groups, int to, int newGroups)
    {
        Net source = Net(from, groups, 1), target = Net(to, newGroups, 2);
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target);
        Assert.DoesNotContain(tensors, t => t.Origin == TensorOrigin.Fresh);
        (int size, int newSize) = (from / groups, to / newGroups);
        double[] first = Numbers(source.Proto, "gamma1"), second = Numbers(source.Proto, "gamma2");
        // Groups are those of what is read and of what is made.
        double[] sums = [.. Enumerable.Range(0, groups).Select(g => Enumerable.Range(g * size, size).Sum(c => Math.Abs(first[c]) + Math.Abs(second[c])))];
        int[] kept = newGroups < groups ? Largest(sums, newGroups) : [.. Enumerable.Range(0, newGroups).Select(g => (2 * g + 1) * groups / (2 * newGroups))];
        int[] Inside(double[] gamma, int g) => newSize < size ? Largest(Enumerable.Range(g * size, size).Select(c => Math.Abs(gamma[c])), newSize) : [.. Enumerable.Range(0, size)];
        int[] read = [.. kept.SelectMany(g => Inside(first, g).Select(c => g * size + c))], made = [.. kept.SelectMany(g => Inside(second, g).Select(c => g * size + c))];
        double[] own = Numbers(source.Proto, "grouped");
        Assert.Equal(read.Select(c => first[c]), Numbers(result, "gamma1"));
        Assert.Equal(made.Select(c => second[c]), Numbers(result, "gamma2"));
        Assert.Equal(
            from o in Enumerable.Range(0, to)
            from i in Enumerable.Range(o / newSize * newSize, newSize)
            from k in Enumerable.Range(0, 9)
            select own[(made[o] * size + read[i] % size) * 9 + k], Numbers(result, "grouped"));
        double[] last = Numbers(source.Proto, "last"), entry = Numbers(source.Proto, "entry");
        int copies = newGroups > groups ? 2 : 1;
        Assert.Equal(read.SelectMany(c => Row(entry, from, c)), Numbers(result, "entry"));
        if (copies == 1)
            Assert.Equal(Enumerable.Range(0, 5).SelectMany(o => made.Select(c => last[o * from + c])), Numbers(result, "last"));

        static Net Net(int width, int groups, int seed)
        {
            var net = new Net(seed: seed);
            string Norm(string x, string name) => net.Relu(net.Op("BatchNormalization", [x, net.Weight([width], name: name), net.Weight([width]), net.Weight([width]), net.Positive(width)]));
            string x = Norm(net.Op("Conv", [net.Input("image", 2, 3, 8, 8), net.Weight([width, 3, 1, 1], name: "entry")]), "gamma1");
            x = Norm(net.Op("Conv", [x, net.Weight([width, width / groups, 3, 3], name: "grouped")], new { group = groups, pads = new[] { 1, 1, 1, 1 } }), "gamma2");
            x = net.Relu(net.Op("Conv", [x, net.Weight([5, width, 1, 1], name: "last")]));
            net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), 5, 3));
            return net;
        }
    }

    /// <summary>AKI: of each layer the channels beyond the source's are those of the same layer a block further on.</summary>
    [Fact]
    public void AkiAddsNeuronsOfTheNextBlock()
    {
        Net source = Net(4, 3, 1), target = Net(6, 3, 2);
        (ModelProto result, _, _) = Carry(source, target, TransferRules.Presets["aki"]);
        for (int block = 0; block < 3; block++)
        {
            double[] own = Numbers(source.Proto, $"hidden{block}"), next = Numbers(source.Proto, $"hidden{Math.Min(block + 1, 2)}");
            Close(
                from o in Enumerable.Range(0, 6)
                from i in Enumerable.Range(0, 6)
                let of = o < 4 ? own : next
                select of[o % 4 * 4 + i % 4] / (i % 4 < 2 ? 2 : 1), Numbers(result, $"hidden{block}"));
            double[] bias = Numbers(source.Proto, $"bias{block}"), behind = Numbers(source.Proto, $"bias{Math.Min(block + 1, 2)}");
            Assert.Equal([.. bias, behind[0], behind[1]], Numbers(result, $"bias{block}"));
        }

        static Net Net(int width, int depth, int seed)
        {
            var net = new Net(seed: seed);
            string x = net.ConvUnit(net.Input("image", 2, 3, 8, 8), 3, width, 1);
            for (int b = 0; b < depth; b++)
            {
                string y = net.Relu(net.Op("Conv", [x, net.Weight([width, width, 1, 1], name: $"hidden{b}"), net.Weight([width], name: $"bias{b}")]));
                x = net.Relu(net.Add(x, net.Conv(y, width, width, 1)));
            }

            net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), width, 3));
            return net;
        }
    }

    [Theory]
    [InlineData(DepthRule.First, 5, 3, new[] { 0, 1, 2 })]
    [InlineData(DepthRule.First, 3, 6, new[] { 0, 1, 2, 2, 2, 2 })]
    [InlineData(DepthRule.Cyclic, 3, 7, new[] { 0, 1, 2, 1, 2, 1, 2 })]
    [InlineData(DepthRule.Cyclic, 4, 2, new[] { 0, 1 })]
    [InlineData(DepthRule.Cyclic, 1, 3, new[] { 0, 0, 0 })]
    public void BlocksAreTakenByTheRule(DepthRule rule, int sources, int targets, int[] expected)
    {
        var isomorphism = Isomorphism.Of(
            AnalysedModel.Of(Family("basic", [6], [sources], 1).Model), AnalysedModel.Of(Family("basic", [6], [targets], 1).Model), rule);
        Assert.Equal(expected.Select(s => $"stage1/block{s + 1}"), isomorphism.Pairs.Where(p => p.Target is Block).Select(p => p.Source.Path));
    }

    /// <summary>Layers of a transformer are all alike: the cycle begins at the first.</summary>
    [Fact]
    public void CyclesBeginAtTheFirstBlockThatIsLikeTheOthers()
    {
        var isomorphism = Isomorphism.Of(AnalysedModel.Of(Transformer(8, 2, 3, 1).Model), AnalysedModel.Of(Transformer(8, 2, 7, 1).Model), DepthRule.Cyclic);
        Assert.Equal(new[] { 0, 1, 2, 0, 1, 2, 0 }.Select(s => $"stage1/block{s + 1}"), isomorphism.Pairs.Where(p => p.Target is Block).Select(p => p.Source.Path));
    }

    /// <summary>Repeats that share out their branch: what ends it is divided by the number of repeats, in all of them, and in no others.</summary>
    [Theory]
    [InlineData("norm")]
    [InlineData("layer")]
    [InlineData("layer whose weight is transposed")]
    public void RepeatsShareOutTheirBranch(string ends)
    {
        Net source = Net(2, 1), target = Net(4, 2);
        (ModelProto scaled, _, _) = Carry(source, target, new TransferRules { Inserted = InsertedBlocks.Scaled });
        (ModelProto repeated, _, _) = Carry(source, target, new TransferRules { Inserted = InsertedBlocks.Repeat });
        (ModelProto identity, _, _) = Carry(source, target);
        foreach (string name in new[] { "end", "shift" })
            for (int b = 1; b < 4; b++)
            {
                // Even: blocks 2 to 4 of the target take block 2, the only one behind the first.
                double[] own = Numbers(source.Proto, $"{name}1");
                Close(own.Select(v => v / 3), Numbers(scaled, $"{name}{b}"));
                Assert.Equal(own, Numbers(repeated, $"{name}{b}"));
                Assert.Equal(b == 1 ? own : [.. own.Select(_ => 0.0)], Numbers(identity, $"{name}{b}"));
            }

        Assert.Equal(Numbers(source.Proto, "end0"), Numbers(scaled, "end0"));
        SameFunction(source, identity);

        Net Net(int depth, int seed)
        {
            var net = new Net(seed: seed);
            var pads = new { pads = new[] { 1, 1, 1, 1 } };
            string x = net.ConvUnit(net.Input("image", 2, 3, 8, 8), 3, 6);
            for (int b = 0; b < depth; b++)
            {
                int stride = b == 0 ? 2 : 1;
                string y = net.ConvUnit(x, 6, 6, stride: stride);
                if (ends == "norm")
                {
                    y = net.Conv(y, 6, 6, 3, bias: false, attributes: pads);
                    y = net.Op("BatchNormalization", [y, net.Weight([6], name: $"end{b}"), net.Weight([6], name: $"shift{b}"), net.Weight([6]), net.Positive(6)]);
                }
                else
                {
                    string weight = net.Weight([6, 6, 3, 3], name: $"end{b}");
                    y = net.Op("Conv", [y, ends == "layer" ? weight : net.Op("Transpose", [weight], new { perm = new[] { 1, 0, 2, 3 } }), net.Weight([6], name: $"shift{b}")], pads);
                }

                x = net.Relu(net.Add(b == 0 ? net.ConvUnit(x, 6, 6, 1, 2, activation: null) : x, y));
            }

            net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), 6, 3));
            return net;
        }
    }

    /// <summary>What is larger everywhere computes what the source does (METHODS.md §3, up): groups, depthwise layers, gates, residual streams, heads.</summary>
    [Theory]
    [InlineData("grouped")]
    [InlineData("gated")]
    [InlineData("transformer")]
    public void LargerNetworksComputeTheSame(string kind)
    {
        (Net source, Net target) = Networks(kind, up: true);
        foreach (ScaleRule scale in new[] { ScaleRule.Shares, ScaleRule.Equal })
        {
            (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target, new TransferRules { Scale = scale });
            Assert.DoesNotContain(tensors, t => t.Origin == TensorOrigin.Fresh);
            SameFunction(source, result);
        }
    }

    /// <summary>Every preset and every width rule fills every tensor of every kind of network in both directions with numbers, and ONNX Runtime runs it.</summary>
    [Theory]
    [InlineData("grouped", true)]
    [InlineData("grouped", false)]
    [InlineData("gated", true)]
    [InlineData("gated", false)]
    [InlineData("transformer", true)]
    [InlineData("transformer", false)]
    public void EveryRuleFillsEveryNetwork(string kind, bool up)
    {
        (Net source, Net target) = Networks(kind, up);
        foreach (TransferRules rules in TransferRules.Presets.Values.Concat(Enum.GetValues<WidthRule>().Select(width => new TransferRules { Width = width, Importance = ImportanceMeasure.L1 })))
        {
            (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target, rules);
            Assert.DoesNotContain(tensors, t => t.Origin == TensorOrigin.Fresh);
            Assert.Equal(target.Proto.Graph.Node, result.Graph.Node);
            Assert.All(Check.Run(result, Check.Feeds(target, [], 3), [])[result.Graph.Output[0].Name].Values, v => Assert.True(double.IsFinite(v)));
        }
    }

    [Fact]
    public void RulesThatDoNotGoTogetherAreRefused()
    {
        Assert.Contains("--maps tensor", Refusal(new() { Maps = MapSharing.Tensor }), StringComparison.Ordinal);
        Assert.Contains("--maps space", Refusal(new() { Maps = MapSharing.Tensor, Width = WidthRule.Leading, Added = AddedChannels.Next }), StringComparison.Ordinal);
        Assert.Contains("--added copies", Refusal(new() { Width = WidthRule.Interpolate, Added = AddedChannels.Zeros }), StringComparison.Ordinal);
        Assert.Contains("preserve", Refusal(new() { Width = WidthRule.Interpolate }, TransferMethod.Preserve), StringComparison.Ordinal);
        Assert.All(TransferRules.Presets.Values, rules => rules.Check(TransferMethod.Isomorphic));

        static string Refusal(TransferRules rules, TransferMethod method = TransferMethod.Isomorphic) => Assert.Throws<UsageException>(() => rules.Check(method)).Message;
    }

    private static (Net Source, Net Target) Networks(string kind, bool up)
    {
        (Net small, Net large) = kind switch
        {
            "grouped" => (Grouped(8, 2, 2, 1), Grouped(18, 3, 3, 2)),
            "gated" => (Gated(6, 2, 1), Gated(11, 4, 2)),
            _ => (Transformer(8, 2, 2, 1), Transformer(16, 4, 3, 2)),
        };
        return up ? (small, large) : (large, small);
    }

    // Inverted residuals with a depthwise layer and a gate.
    private static Net Gated(int width, int depth, int seed)
    {
        var net = new Net(seed: seed);
        string x = net.ConvUnit(net.Input("image", 2, 3, 12, 12), 3, width);
        for (int b = 0; b < depth; b++)
        {
            string y = net.ConvUnit(net.ConvUnit(x, width, 2 * width, 1), 2 * width, 2 * width, 3, group: 2 * width);
            x = net.Add(x, net.ConvUnit(net.Gated(y, 2 * width), 2 * width, width, 1, activation: null));
        }

        net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), width, 3));
        return net;
    }

    private static Net Transformer(int width, int heads, int depth, int seed)
    {
        var net = new Net(seed: seed);
        string x = net.Linear(net.Input("tokens", 2, 5, 6), 6, width);
        for (int b = 0; b < depth; b++)
            x = net.TransformerLayer(x, width, heads, decomposed: false);
        net.Output(net.Linear(net.Norm(x, width, decomposed: false), width, 3));
        return net;
    }
}
