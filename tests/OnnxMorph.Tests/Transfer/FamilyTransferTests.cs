using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Transfer;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Transfer.TransferNets;
using Array = OnnxMorph.Tests.Testing.Array;

namespace OnnxMorph.Tests.Transfer;

/// <summary>
/// Families of classifiers in small: whole transfers between files, up and down, with statistics set on samples. What torchvision's networks give stands
/// in docs/transfer_pairs.md.
/// </summary>
public class FamilyTransferTests
{
    /// <summary>
    /// The two are isomorphic, all weights come from the source, ONNX Runtime runs the result, and activations at the end of every stage have means and
    /// deviations like the source's: within a factor of three, or means nearer than a third of the deviation.
    /// </summary>
    [Theory]
    [InlineData("basic", true)]
    [InlineData("basic", false)]
    [InlineData("bottleneck", false)]
    [InlineData("grouped", true)]
    [InlineData("grouped", false)]
    [InlineData("gated", true)]
    [InlineData("gated", false)]
    [InlineData("dense", true)]
    [InlineData("shuffle", true)]
    [InlineData("shuffle", false)]
    [InlineData("transformer", false)]
    public void MembersFillEachOther(string family, bool norm)
    {
        Net small = Member(family, 1, [2, 2], norm, 1), large = Member(family, 2, [3, 4], norm, 2);
        foreach ((Net source, Net target) in new[] { (small, large), (large, small) })
        {
            (TransferReport report, ModelProto result, double[] pixels) = Calibrated(source, target);
            Assert.DoesNotContain(report.Tensors, t => t.Origin == TensorOrigin.Fresh);
            AnalysedModel model = AnalysedModel.Of(new OnnxModel(result));
            Assert.Equal(2, model.Structure.Stages.Count);
            Assert.Equal(model.Structure.Stages.Select(s => s.Path), report.Stages.Select(s => s.Path));
            var seen = Check.Run(result, new() { ["image"] = new Array(ElementType.Float32, [Samples, 3, 16, 16], pixels) });
            foreach ((Stage stage, StageStatistics statistics) in model.Structure.Stages.Zip(report.Stages))
            {
                double[] values = seen[stage.Blocks[^1].Exit].Values;
                double mean = values.Average(), deviation = Math.Sqrt(values.Average(v => (v - mean) * (v - mean)));
                Assert.Equal(deviation, statistics.TargetDeviation, 1e-3 * deviation);
                Assert.Equal(mean, statistics.TargetMean, 1e-3 * deviation);
                Assert.InRange(deviation / statistics.SourceDeviation, 1.0 / 3, 3);
                Assert.True(Math.Abs(mean - statistics.SourceMean) <= statistics.SourceDeviation / 3 || mean / statistics.SourceMean is >= 1.0 / 3 and <= 3, $"{stage.Path}: {statistics}");
            }
        }
    }

    /// <summary>Where a narrower network has as many channels before as behind, there is no border between stages; blocks go to blocks all the same.</summary>
    [Fact]
    public void StagesThatWidthAlonePartsAreOne()
    {
        Net narrow = Mobile(6, 8, 8), wide = Mobile(8, 12, 16);
        AnalysedModel small = AnalysedModel.Of(narrow.Model), large = AnalysedModel.Of(wide.Model);
        Assert.Equal([2, 4], small.Structure.Stages.Select(s => s.Blocks.Count));
        Assert.Equal([2, 2, 2], large.Structure.Stages.Select(s => s.Blocks.Count));
        foreach ((AnalysedModel from, AnalysedModel to) in new[] { (small, large), (large, small) })
        {
            var isomorphism = Isomorphism.Of(from, to);
            Assert.Null(isomorphism.Difference);
            Assert.Equal(to.Structure.Blocks.Zip(from.Structure.Blocks), isomorphism.Pairs.Where(p => p.Target is Block).Select(p => ((Block)p.Target, (Block)p.Source)));
        }

        foreach ((Net source, Net target) in new[] { (narrow, wide), (wide, narrow) })
        {
            (TransferReport report, _, _) = Calibrated(source, target);
            Assert.DoesNotContain(report.Tensors, t => t.Origin == TensorOrigin.Fresh);
            Assert.Equal(AnalysedModel.Of(target.Model).Structure.Stages.Select(s => s.Path), report.Stages.Select(s => s.Path));
            Assert.All(report.Stages, s => Assert.InRange(s.TargetDeviation / s.SourceDeviation, 1.0 / 3, 3));
        }

        static Net Mobile(params int[] widths)
        {
            var net = new Net(seed: widths[0]);
            string x = net.ConvUnit(net.Input("image", "batch", 3, 16, 16), 3, 4);
            int channels = 4;
            for (int stage = 0; stage < 3; stage++)
                for (int b = 0; b < 2; b++, channels = widths[stage])
                    x = net.InvertedResidual(x, channels, widths[stage], b == 0 && stage < 2 ? 2 : 1);
            net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), channels, 3));
            return net;
        }
    }

    /// <summary>Networks of different families are refused with the first difference, whatever else differs behind it.</summary>
    [Theory]
    [InlineData("basic", "gated", "stage1/block1 of the source has layers a, b where stage1/block1 of the target has layers a, b (depthwise), gate.a, gate.b, c.")]
    [InlineData("gated", "inverted", "stage1/block1 of the source has layers a, b (depthwise), gate.a, gate.b, c where stage1/block1 of the target has layers a, b (depthwise), c.")]
    public void OtherFamiliesAreRefused(string source, string target, string difference)
    {
        RefusedException refused = Assert.Throws<RefusedException>(() => TransferPlan.Isomorphic(
            AnalysedModel.Of(Member(source, 1, [2, 2], true, 1).Model), AnalysedModel.Of(Member(target, 1, [2, 2], true, 2).Model)));
        Assert.Contains(difference, refused.Message, StringComparison.Ordinal);
    }

    // Two stages, each of which halves the image and has blocks of one kind.
    private static Net Member(string family, int width, int[] depths, bool norm, int seed)
    {
        var net = new Net(seed: seed);
        // Where no norm takes the channels' means away, the mean over a few that are chosen is any number.
        int channels = (family == "transformer" ? 32 : 8) * width, first = channels;
        string x = net.ConvUnit(net.Input("image", "batch", 3, 16, 16), 3, channels, norm: norm);
        for (int stage = 0; stage < 2; stage++)
        {
            int outputs = first * (stage + 1);
            if (family == "transformer")
            {
                x = net.Conv(x, channels, outputs, 2, attributes: new { strides = new[] { 2, 2 } });
                x = net.Transpose(net.Reshape(x, 0, outputs, -1), 0, 2, 1);
                for (int b = 0; b < depths[stage]; b++)
                    x = net.TransformerLayer(x, outputs, 2 * width);
                x = net.Op("Reshape", [net.Transpose(x, 0, 2, 1), net.Ints(0, outputs, 8 >> stage, 8 >> stage)]);
                channels = outputs;
                continue;
            }

            if (family == "dense")
            {
                int growth = 4 * width;
                for (int b = 0; b < depths[stage]; b++, channels += growth)
                    x = net.Op("Concat", [x, net.ConvUnit(net.Relu(net.BatchNorm(x, channels)), channels, growth, activation: null, norm: false)], new { axis = 1 });
                x = net.Conv(net.Relu(net.BatchNorm(x, channels)), channels, outputs, 1, bias: false);
                x = net.Op("AveragePool", [x], new { kernel_shape = new[] { 2, 2 }, strides = new[] { 2, 2 } });
                channels = outputs;
                continue;
            }

            for (int b = 0; b < depths[stage]; b++, channels = outputs)
            {
                int stride = b == 0 ? 2 : 1;
                x = family switch
                {
                    "basic" => net.Basic(x, channels, outputs, stride, norm),
                    "bottleneck" => net.Bottleneck(x, channels, outputs, stride, norm),
                    "inverted" => net.InvertedResidual(x, channels, outputs, stride, 2, norm),
                    "grouped" => Grouped(net, x, channels, outputs, stride, norm, 2 * width),
                    "gated" => Gated(net, x, channels, outputs, stride, norm),
                    "shuffle" => Shuffle(net, x, channels, outputs, stride, norm, 8 >> stage),
                    _ => throw new ArgumentException(family),
                };
            }
        }

        net.Output(net.Op("Gemm", [net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), net.Weight([5, channels]), net.Weight([5])], new { transB = 1 }));
        return Settled(net);
    }

    // Random weights and biases as large as trained ones keep activations of one size.
    private static Net Settled(Net net)
    {
        foreach (NodeProto node in net.Proto.Graph.Node.Where(n => n.OpType is "Conv" or "MatMul" or "Add"))
        {
            if (net.Proto.Graph.Initializer.FirstOrDefault(t => t.Name == node.Input[1]) is not { Dims.Count: > 0 } weight)
                continue;
            double[] values = Testing.Numbers.Decode(ElementType.Float32, weight.RawData.ToByteArray());
            double size = node.OpType switch
            {
                "Conv" => Math.Pow(weight.Dims.Skip(1).Aggregate(1L, (a, b) => a * b), -0.5),
                "MatMul" => Math.Pow(weight.Dims[0], -0.5),
                _ => 0.1,
            };
            double scale = size / Math.Sqrt(values.Average(v => v * v));
            weight.RawData = Google.Protobuf.ByteString.CopyFrom(Testing.Numbers.Encode(ElementType.Float32, [.. values.Select(v => v * scale)]));
        }

        return net;
    }

    // RegNetX's block (Radosavovic et al. 2020).
    private static string Grouped(Net net, string x, int inputs, int outputs, int stride, bool norm, int groups)
    {
        string y = net.ConvUnit(net.ConvUnit(x, inputs, outputs, 1, norm: norm), outputs, outputs, 3, stride, groups, norm);
        y = net.ConvUnit(y, outputs, outputs, 1, norm: norm, activation: null);
        return net.Relu(net.Add(y, inputs == outputs && stride == 1 ? x : net.ConvUnit(x, inputs, outputs, 1, stride, norm: norm, activation: null)));
    }

    // MobileNetV3's block (Howard et al. 2019).
    private static string Gated(Net net, string x, int inputs, int outputs, int stride, bool norm)
    {
        string y = net.ConvUnit(net.ConvUnit(x, inputs, 2 * inputs, 1, norm: norm), 2 * inputs, 2 * inputs, 3, stride, 2 * inputs, norm);
        y = net.ConvUnit(net.Gated(y, 2 * inputs), 2 * inputs, outputs, 1, norm: norm, activation: null);
        return inputs == outputs && stride == 1 ? net.Add(x, y) : y;
    }

    // ShuffleNetV2's unit (Ma et al. 2018): half of the channels pass by; where the image is halved, both halves read all.
    private static string Shuffle(Net net, string x, int inputs, int outputs, int stride, bool norm, int size)
    {
        int half = outputs / 2, read = stride == 1 ? half : inputs;
        string[] halves = stride == 1 ? net.Ops("Split", 2, [x, net.Ints(half, half)], new { axis = 1 }) : [x, x];
        string first = stride == 1 ? halves[0]
            : net.ConvUnit(net.ConvUnit(x, inputs, inputs, 3, 2, inputs, norm, null), inputs, half, 1, norm: norm);
        string second = net.ConvUnit(halves[1], read, half, 1, norm: norm);
        second = net.ConvUnit(net.ConvUnit(second, half, half, 3, stride, half, norm, null), half, half, 1, norm: norm);
        string both = net.Op("Concat", [first, second], new { axis = 1 });
        return net.Reshape(net.Transpose(net.Reshape(both, 0, 2, half, size, size), 0, 2, 1, 3, 4), 0, outputs, size, size);
    }
}
