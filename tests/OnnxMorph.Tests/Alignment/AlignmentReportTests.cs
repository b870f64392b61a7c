using OnnxMorph.Alignment;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Alignment;

/// <summary>Two networks side by side: their parts, scores, pairs and tensors.</summary>
public class AlignmentReportTests
{
    private static readonly AnalysedModel s_shallow = Residual(2), s_deep = Residual(4);

    [Fact]
    public void AnAlignmentHasTheOutlinesItemsAndScores()
    {
        NetworkOutline source = NetworkOutline.Of(s_shallow), target = NetworkOutline.Of(s_deep);
        var alignment = NetworkAlignment.Of(source, target);
        var report = AlignmentReport.Of(s_shallow, s_deep, alignment);
        Assert.Equal(source.Items.Select(i => i.Name), report.SourceItems.Select(i => i.Name));
        Assert.Equal(target.Items.Select(i => i.Name), report.TargetItems.Select(i => i.Name));
        Assert.Equal(
            alignment.Items.Where(i => i.Source is not null).Select(i => (i.Target, i.Source, i.Score)),
            report.Pairs.Select(p => (p.Target, (string?)p.Source, p.Score)));
        Assert.All(report.Pairs, p =>
        {
            Assert.Equal((p.Target, p.Source), (report.TargetItems[p.TargetIndex].Name, report.SourceItems[p.SourceIndex].Name));
            Assert.Equal(p.Score, report.Scores[p.TargetIndex][p.SourceIndex]);
        });
        // Each block of the source feeds two, the second as a copy.
        Assert.Equal([0, 0, 1, 1], report.Pairs.Where(p => p.Source.StartsWith("stage", StringComparison.Ordinal)).Select(p => p.Copy).Order());
    }

    /// <summary>Every score against the longest common subsequence of layers, weighted by the overlap of their shapes.</summary>
    [Fact]
    public void ScoresAreThoseOfAligningTwoPartsAlone()
    {
        AnalysedModel wide = Residual(3, 6);
        var report = AlignmentReport.Of(s_deep, wide, NetworkAlignment.Of(NetworkOutline.Of(s_deep), NetworkOutline.Of(wide)));
        bool IsBlock(ItemReport item) => item.Name == item.Section;
        for (int i = 0; i < report.TargetItems.Count; i++)
            for (int j = 0; j < report.SourceItems.Count; j++)
            {
                (ItemReport to, ItemReport from) = (report.TargetItems[i], report.SourceItems[j]);
                Assert.Equal(IsBlock(to) == IsBlock(from) ? Common(to.Layers, from.Layers) : 0, report.Scores[i][j], 1e-12);
            }

        Assert.Contains(report.Scores, row => row.Any(s => s is > 0 and < 1));
    }

    [Fact]
    public void PartsAreSectionsOrTheLayersThatAreNamed()
    {
        var sections = AlignmentReport.Of(s_shallow, s_deep, [("stem", "stem"), ("stage1/block1", "stage1/block1"), ("stage1/block2", "stage1/block1"), ("head", "head")]);
        Assert.Equal(["stem", "stage1/block1", "stage1/block2", "head"], sections.SourceItems.Select(i => i.Name));
        Assert.Equal(["stem", "stage1/block1", "stage1/block2", "stage1/block3", "stage1/block4", "head"], sections.TargetItems.Select(i => i.Name));
        Assert.Equal([(0, 0, 0), (1, 1, 0), (2, 1, 1), (5, 3, 0)], sections.Pairs.Select(p => (p.TargetIndex, p.SourceIndex, p.Copy)));
        // Named by its layers, a section stands as these, filled or not, in both networks.
        var layers = AlignmentReport.Of(s_shallow, s_deep, [("first", "first"), ("stage1/block1", "stage1/block2"), ("last", null)]);
        Assert.Equal(["first", "stage1/block1", "stage1/block2", "last"], layers.SourceItems.Select(i => i.Name));
        Assert.Equal(["stem", "stage1/block1", "stage1/block2", "head"], layers.SourceItems.Select(i => i.Section));
        Assert.Equal([(0, 0, 0), (1, 2, 0)], layers.Pairs.Select(p => (p.TargetIndex, p.SourceIndex, p.Copy)));
    }

    [Fact]
    public void PartsMayBeTheLayersOfBlocks()
    {
        string[] from = Layers(s_shallow), to = Layers(s_deep);
        // The source's blocks are the target's first and last.
        (string, string?)[] parts = [.. to.Select((layer, i) => (layer, i < 3 ? from[i] : i < 7 ? null : from[i - 4]))];
        var report = AlignmentReport.Of(s_shallow, s_deep, parts);
        Assert.Equal(to, report.TargetItems.Select(i => i.Name));
        Assert.Equal(from, report.SourceItems.Select(i => i.Name));
        Assert.Equal(parts.Where(p => p.Item2 is not null), report.Pairs.Select(p => (p.Target, (string?)p.Source)));
        Assert.All(report.TargetItems, item => Assert.Equal(2, item.Tensors.Count));

        static string[] Layers(AnalysedModel model) => [.. NetworkOutline.Of(model).Items.SelectMany(item => item.Layers).Select(layer => layer.Name)];
    }

    /// <summary>A weight that reaches its node through a Transpose, and a bias behind it, belong to the layer's part.</summary>
    [Fact]
    public void EachTensorIsInThePartThatReadsIt()
    {
        var report = AlignmentReport.Of(s_shallow, s_deep, [("stem", "stem"), ("head", "head")]);
        foreach ((AnalysedModel model, IReadOnlyList<ItemReport> items) in new[] { (s_shallow, report.SourceItems), (s_deep, report.TargetItems) })
            Assert.Equal(
                model.Graph.Constants.Where(c => c.Type.IsScalable()).Select(c => c.Name).Order(),
                items.SelectMany(i => i.Tensors).Order());
        Assert.Equal(["first.w", "first.b"], report.SourceItems[0].Tensors);
        Assert.Equal(["out.w", "out.b"], report.SourceItems[^1].Tensors);
        // As layers, each has what is read from it up to the next.
        var layers = AlignmentReport.Of(s_shallow, s_deep, [("last", null)]);
        Assert.Equal(["out.w", "out.b"], layers.SourceItems.Single(i => i.Name == "last").Tensors);
        Assert.Equal(5 * 4, layers.SourceItems.Single(i => i.Name == "last").Parameters);
    }

    private static AnalysedModel Residual(int blocks, int width = 4)
    {
        var net = new Net { Runs = { new() } };
        string x = net.Relu(net.Op("Conv", [net.Input("x", 1, 3, 8, 8), net.Weight([width, 3, 3, 3], name: "first.w"), net.Weight([width], name: "first.b")], new { pads = (int[])[1, 1, 1, 1] }, "first"));
        for (int i = 0; i < blocks; i++)
            x = net.Relu(net.Add(x, net.Conv(net.Relu(net.Conv(x, width, width)), width, width)));
        x = net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]);
        x = net.Op("MatMul", [x, net.Op("Transpose", [net.Weight([5, width], name: "out.w")], new { perm = (int[])[1, 0] })], name: "last");
        net.Output(net.Add(x, net.Weight([5], name: "out.b")));
        return AnalysedModel.Of(net.Model);
    }

    private static double Common(IReadOnlyList<AlignedLayer> a, IReadOnlyList<AlignedLayer> b)
    {
        double[,] best = new double[a.Count + 1, b.Count + 1];
        for (int i = 1; i <= a.Count; i++)
            for (int j = 1; j <= b.Count; j++)
            {
                (AlignedLayer x, AlignedLayer y) = (a[i - 1], b[j - 1]);
                double fit = x.Kind != y.Kind || x.Shape.Length != y.Shape.Length ? 0
                    : x.Shape.Zip(y.Shape, (p, q) => Math.Min((double)p / q, (double)q / p)).Aggregate(1.0, (p, q) => p * q);
                best[i, j] = Math.Max(best[i - 1, j - 1] + fit, Math.Max(best[i - 1, j], best[i, j - 1]));
            }

        return best[a.Count, b.Count];
    }
}
