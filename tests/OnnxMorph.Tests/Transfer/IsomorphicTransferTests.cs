using OnnxMorph.Axes;
using OnnxMorph.Calibration;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Transfer;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Transfer.TransferNets;
using Array = OnnxMorph.Tests.Testing.Array;

namespace OnnxMorph.Tests.Transfer;

/// <summary>Weights carried between networks of one family, held to what ONNX Runtime computes and to the weights by hand.</summary>
public class IsomorphicTransferTests
{
    /// <summary>A target that is wider and deeper everywhere computes what the source computes (METHODS.md §3.6).</summary>
    [Theory]
    [InlineData("basic", true)]
    [InlineData("basic", false)]
    [InlineData("bottleneck", true)]
    [InlineData("inverted", true)]
    [InlineData("inverted", false)]
    [InlineData("plain", true)]
    [InlineData("plain", false)]
    public void LargerTargetsComputeWhatTheSourceComputes(string block, bool norm)
    {
        Net source = Family(block, [6, 8], [2, 2], 1, norm), target = Family(block, [10, 13], [3, 5], 2, norm, stem: 8);
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target);
        Assert.DoesNotContain(tensors, t => t.Origin == TensorOrigin.Fresh);
        Assert.Equal(target.Proto.Graph.Node, result.Graph.Node);
        SameFunction(source, result);
    }

    [Fact]
    public void TheSameArchitectureGetsTheSourcesBytes()
    {
        Net source = Family("basic", [6, 8], [2, 2], 1), target = Family("basic", [6, 8], [2, 2], 2);
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target);
        Assert.All(tensors, t => Assert.Equal(TensorOrigin.Exact, t.Origin));
        foreach (TensorProto tensor in source.Proto.Graph.Initializer.Where(t => t.DataType == (int)ElementType.Float32))
            Assert.Equal(tensor.RawData, result.Graph.Initializer.Single(t => t.Name == tensor.Name).RawData);
    }

    /// <summary>Branches that are concatenated with what they read, where layers of the target repeat layers of the source.</summary>
    [Fact]
    public void DenseBlocksRepeatLayers()
    {
        Net source = Dense(4, 3, 1), target = Dense(7, 5, 2);
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target);
        Assert.DoesNotContain(tensors, t => t.Origin == TensorOrigin.Fresh);
        SameFunction(source, result);

        static Net Dense(int growth, int layers, int seed)
        {
            var net = new Net(seed: seed);
            int channels = 2 * growth;
            string x = net.ConvUnit(net.Input("image", 2, 3, 12, 12), 3, channels);
            for (int l = 0; l < layers; l++, channels += growth)
                x = net.Op("Concat", [x, net.Conv(net.Relu(net.BatchNorm(x, channels)), channels, growth, bias: false)], new { axis = 1 });
            x = net.Op("Flatten", [net.Op("GlobalAveragePool", [net.Relu(net.BatchNorm(x, channels))])]);
            net.Output(net.Linear(x, channels, 3));
            return net;
        }
    }

    /// <summary>Grouped convolutions: groups and channels inside groups are mapped on their own.</summary>
    [Fact]
    public void GroupsAndChannelsInsideThemAreMapped()
    {
        Net source = Grouped(8, 2, 2, 1), target = Grouped(18, 3, 3, 2);
        (ModelProto result, _, _) = Carry(source, target);
        SameFunction(source, result);
    }

    /// <summary>A smaller target gets the channels with the largest scales, in their order, along every axis that they stand on.</summary>
    [Fact]
    public void SmallerTargetsGetTheMostImportantChannels()
    {
        Net source = Net(6, 1), target = Net(4, 2);
        double[] gamma = Numbers(source.Proto, "gamma");
        int[] kept = [.. Enumerable.Range(0, 6).OrderByDescending(c => Math.Abs(gamma[c])).Take(4).Order()];
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target);
        Assert.Equal(kept.Select(c => gamma[c]), Numbers(result, "gamma"));
        double[] first = Numbers(source.Proto, "first"), second = Numbers(source.Proto, "second");
        Assert.Equal(kept.SelectMany(c => first[(c * 27)..((c + 1) * 27)]), Numbers(result, "first"));
        Assert.Equal(Enumerable.Range(0, 5).SelectMany(o => kept.Select(c => second[o * 6 + c])), Numbers(result, "second"));
        Assert.Equal("gamma", tensors.Single(t => t.Name == "gamma").Source);

        static Net Net(int channels, int seed)
        {
            var net = new Net(seed: seed);
            string x = net.Op("Conv", [net.Input("image", 2, 3, 8, 8), net.Weight([channels, 3, 3, 3], name: "first")], new { pads = new[] { 1, 1, 1, 1 } });
            x = net.Relu(net.Op("BatchNormalization", [x, net.Weight([channels], name: "gamma"), net.Weight([channels]), net.Weight([channels]), net.Positive(channels)]));
            x = net.Relu(net.Op("Conv", [x, net.Weight([5, channels, 1, 1], name: "second")]));
            net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), 5, 3));
            return net;
        }
    }

    /// <summary>A kernel of another size is cut or padded around its middle; a table of positions is interpolated.</summary>
    [Fact]
    public void KernelsAreCentred()
    {
        Net source = Net(3, 1), target = Net(5, 2);
        (ModelProto result, _, _) = Carry(source, target);
        SameFunction(source, result);
        (ModelProto back, _, _) = Carry(target.With(result), source);
        Assert.Equal(Numbers(source.Proto, "kernel"), Numbers(back, "kernel"));

        static Net Net(int kernel, int seed)
        {
            var net = new Net(seed: seed);
            string x = net.Op("Conv", [net.Input("image", 2, 3, 8, 8), net.Weight([4, 3, kernel, kernel], name: "kernel")], new { pads = Enumerable.Repeat(kernel / 2, 4).ToArray() });
            x = net.Relu(net.Conv(net.Relu(x), 4, 4));
            net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), 4, 3));
            return net;
        }
    }

    /// <summary>
    /// Patches of another size: the first layer makes the same of an image of one colour, and the table of positions, a plane over rows and columns
    /// behind a row for the class, is that plane at the middles of the larger patches.
    /// </summary>
    [Fact]
    public void PatchesAndTheirPositionsAreResized()
    {
        const int Width = 4;
        Net source = Vit(4, 1), target = Vit(8, 2);
        TensorProto table = source.Proto.Graph.Initializer.Single(t => t.Name == "positions");
        double[] plane = [.. Enumerable.Range(0, 17 * Width).Select(i => i < Width ? 9 : 0.25 * ((i / Width - 1) / 4) - 0.5 * ((i / Width - 1) % 4) + i % Width)];
        table.RawData = Google.Protobuf.ByteString.CopyFrom(Testing.Numbers.Encode(ElementType.Float32, plane));
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target);
        Assert.DoesNotContain(tensors, t => t.Origin == TensorOrigin.Fresh);
        double[] resized = Numbers(result, "positions");
        Assert.Equal(Enumerable.Repeat(9.0, Width), resized[..Width]);
        for (int patch = 0; patch < 4; patch++)
            for (int c = 0; c < Width; c++)
                Assert.Equal(0.25 * (0.5 + 2 * (patch / 2)) - 0.5 * (0.5 + 2 * (patch % 2)) + c, resized[Width + patch * Width + c], 1e-6);
        double[] Sums(double[] kernel, int size) => [.. kernel.Chunk(size * size).Select(k => k.Sum())];
        Assert.All(Sums(Numbers(source.Proto, "patches"), 4).Zip(Sums(Numbers(result, "patches"), 8)), pair => Assert.Equal(pair.First, pair.Second, 1e-5));

        static Net Vit(int patch, int seed)
        {
            var net = new Net(seed: seed);
            string x = net.Op("Conv", [net.Input("image", 2, 3, 16, 16), net.Weight([Width, 3, patch, patch], name: "patches"), net.Weight([Width])], new { strides = new[] { patch, patch } });
            x = net.Transpose(net.Reshape(x, 2, Width, -1), 0, 2, 1);
            x = net.Op("Concat", [net.Op("Expand", [net.Weight([1, 1, Width], name: "class"), net.Ints(2, 1, Width)]), x], new { axis = 1 });
            x = net.Add(x, net.Weight([1, 1 + 256 / patch / patch, Width], name: "positions"));
            x = net.TransformerLayer(net.TransformerLayer(x, Width, 2), Width, 2);
            net.Output(net.Linear(net.Op("Gather", [net.Norm(x, Width), net.Int(0)], new { axis = 1 }), Width, 3));
            return net;
        }
    }

    [Fact]
    public void AHeadOfOtherClassesStaysTheTargets()
    {
        Net source = Family("basic", [6], [2], 1, classes: 5), target = Family("basic", [8], [2], 2, classes: 9);
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target);
        TransferredTensor[] fresh = [.. tensors.Where(t => t.Origin == TensorOrigin.Fresh)];
        Assert.Equal([[9], [9, 8]], fresh.Select(t => t.Shape).OrderBy(s => s.Count));
        Assert.All(fresh, t => Assert.Contains("callers", t.Note, StringComparison.Ordinal));
        Assert.All(fresh, t => Assert.Equal(Numbers(target.Proto, t.Name), Numbers(result, t.Name)));
    }

    /// <summary>What an exporter merged because it was equal before training parts again.</summary>
    [Fact]
    public void MergedVectorsPart()
    {
        Net source = Family("basic", [6], [2], 1), target = Family("basic", [6], [2], 2);
        TensorProto[] vectors = [.. target.Proto.Graph.Initializer.Where(t => t.Dims.Count == 1 && t.Dims[0] == 6)];
        Assert.True(vectors.Length > 4);
        foreach (TensorProto vector in vectors.Skip(1))
        {
            target.Proto.Graph.Initializer.Remove(vector);
            NodeProto identity = Testing.Net.NewNode("Identity", [vectors[0].Name], null, $"merged {vector.Name}");
            identity.Output.Add(vector.Name);
            target.Proto.Graph.Node.Insert(0, identity);
        }

        (ModelProto result, IReadOnlyList<TransferredTensor> tensors, _) = Carry(source, target);
        Assert.All(tensors, t => Assert.Equal(TensorOrigin.Exact, t.Origin));
        Assert.All(vectors, v => Assert.Equal(Numbers(source.Proto, v.Name), Numbers(result, v.Name)));
        SameFunction(source, result);
    }

    [Theory]
    [InlineData("basic", "bottleneck", "stage1/block1 of the source has layers a, b where stage1/block1 of the target has layers a, b, c.")]
    [InlineData("basic", "inverted", "stage1/block1 of the source has layers a, b where stage1/block1 of the target has layers a, b (depthwise), c.")]
    public void TheFirstDifferenceIsNamed(string source, string target, string difference) =>
        Assert.Equal(difference, Isomorphism.Of(AnalysedModel.Of(Family(source, [6, 8], [2, 2], 1).Model), AnalysedModel.Of(Family(target, [6, 8], [2, 2], 1).Model)).Difference);

    [Fact]
    public void NumbersOfStagesAreCompared() => Assert.Equal("the source has 2 stages and the target 3.", Isomorphism.Of(
        AnalysedModel.Of(Family("basic", [6, 8], [2, 2], 1).Model), AnalysedModel.Of(Family("basic", [6, 8, 9], [2, 2, 1], 1).Model)).Difference);

    /// <summary>METHODS.md §3.2: 1 + ⌊(j−1)(dS−2)/(dT−2) + ½⌋ behind the first block.</summary>
    [Theory]
    [InlineData(5, 3, new[] { 0, 1, 4 })]
    [InlineData(5, 2, new[] { 0, 1 })]
    [InlineData(3, 6, new[] { 0, 1, 1, 2, 2, 2 })]
    [InlineData(1, 3, new[] { 0, 0, 0 })]
    [InlineData(4, 1, new[] { 0 })]
    public void BlocksAreSpreadEvenly(int sources, int targets, int[] expected)
    {
        var isomorphism = Isomorphism.Of(
            AnalysedModel.Of(Family("basic", [6], [sources], 1).Model), AnalysedModel.Of(Family("basic", [6], [targets], 1).Model));
        Assert.Equal(expected.Select(s => $"stage1/block{s + 1}"), isomorphism.Pairs.Where(p => p.Target is Block).Select(p => p.Source.Path));
    }

    /// <summary>
    /// Batch norms, or layers that have none, make what the source's made, channel by channel, over all samples and in the network as it then is; and sums
    /// behind blocks that stand for several are what the source's last one is.
    /// </summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void StatisticsAreSetInOnePass(bool norm)
    {
        Net source = Family("basic", [8, 9], [5, 2], 1, norm), target = Family("basic", [6, 7], [2, 2], 2, norm);
        (ModelProto carried, _, var transfer) = Carry(source, target, new TransferRules { Width = WidthRule.Uniform });
        using var folder = new TemporaryFolder();
        string samples = Path.Combine(folder.Path, "image.npy");
        var random = new Random(5);
        const int Count = 10;
        double[] pixels = [.. Enumerable.Range(0, Count * 3 * 16 * 16).Select(_ => 2 * random.NextDouble() - 1)];
        Npy(samples, pixels, Count, 3, 16, 16);
        var notes = new List<string>();
        (string Target, string Source, int SourceAxis, AxisMap Channels)[] layers = [.. transfer.Weights.Results()], sums = [.. transfer.Weights.Sums(transfer.Pairs)];
        Assert.Equal(2, sums.Length);
        var results = layers.Concat(sums).ToList();
        var measured = ActivationStatistics.Measure(source.Model, results.Select(r => (r.Source, r.SourceAxis)).Distinct().ToDictionary(r => r.Source, r => r.SourceAxis), samples, notes);
        AnalysedModel model = AnalysedModel.Of(new OnnxModel(carried));
        int set = Recalibration.Run(model, results.ToDictionary(r => r.Target, r => TransferJob.Targets(r.Channels, measured[r.Source])), samples, notes);
        Assert.True(set > 8);
        ModelProto calibrated = Check.Written(model.Model);

        // The model takes two images at a time.
        var seen = new Dictionary<string, List<Array>>();
        foreach (double[] pair in pixels.Chunk(2 * 3 * 16 * 16))
            foreach ((string name, Array value) in Check.Run(calibrated, new() { ["image"] = new Array(ElementType.Float32, [2, 3, 16, 16], pair) }))
                (seen.TryGetValue(name, out List<Array>? all) ? all : seen[name] = []).Add(value);
        int held = 0;
        // What a sum sets its branch to takes the place of what the branch's own layer was set to.
        var ends = sums.SelectMany(s => calibrated.Graph.Node.Single(n => n.Output[0] == s.Target).Input).ToHashSet();
        foreach (var (value, from, _, channels) in sums.Concat(layers.Where(l => !ends.Contains(l.Target))))
        {
            if (!calibrated.Graph.Node.Any(n => n.OpType is "Conv" or "BatchNormalization" or "Add" && n.Output[0] == value))
                continue;
            (double[] mean, double[] variance) = Moments(seen[value]);
            double[] wanted = [.. Enumerable.Range(0, channels.Size).Select(c => measured[from][channels[c][0].Source].Variance)];
            bool isLayer = layers.Any(l => l.Target == value);
            Close([.. Enumerable.Range(0, channels.Size).Select(c => measured[from][channels[c][0].Source].Mean * (isLayer ? 1 : Math.Sqrt(variance[c] / wanted[c])))], mean);
            if (isLayer)
                Close(wanted, variance);
            // A sum cannot vary less than what its branch leaves of the skip, nor a weak branch be blown up.
            else if (norm)
                Assert.True(3 * wanted.Zip(variance).Count(v => Math.Abs(v.First - v.Second) < 1e-3 * v.First) >= 2 * wanted.Length);
            held++;
        }

        Assert.True(held > 8);

        static void Close(double[] expected, double[] actual) =>
            Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 2e-4 * Math.Max(1, expected.Max(Math.Abs))));
    }

    /// <summary>A copy makes of the samples what the source makes, however far its statistics are from theirs: nothing is set but what differs.</summary>
    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void CalibratingACopyChangesNothing(bool norm)
    {
        Net source = Family("basic", [6, 8], [2, 2], 1, norm), target = Family("basic", [6, 8], [2, 2], 2, norm);
        (TransferReport report, ModelProto result, _) = Calibrated(source, target);
        SameFunction(source, result);
        Assert.All(report.Stages, s => Assert.Equal(s.SourceDeviation, s.TargetDeviation, 1e-4 * s.SourceDeviation));
    }

    private static (double[] Mean, double[] Variance) Moments(List<Array> values)
    {
        int channels = (int)values[0].Shape[1], positions = values[0].Values.Length / (int)values[0].Shape[0] / channels;
        double[][] of = [.. Enumerable.Range(0, channels).Select(c => values.SelectMany(v => v.Values.Where((_, i) => i / positions % channels == c)).ToArray())];
        return ([.. of.Select(v => v.Average())], [.. of.Select(v => v.Average(x => (x - v.Average()) * (x - v.Average())))]);
    }
}
