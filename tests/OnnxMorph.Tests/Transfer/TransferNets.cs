using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Transfer;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Weights;
using Xunit;
using Array = OnnxMorph.Tests.Testing.Array;

namespace OnnxMorph.Tests.Transfer;

/// <summary>Networks to carry weights between, and what is compared of the results.</summary>
internal static class TransferNets
{
    /// <summary>Samples of images that <see cref="Calibrated"/> takes.</summary>
    public const int Samples = 16;

    private static readonly double s_tolerance = 1e-4;

    /// <summary>Residual blocks of one width whose middle layer has groups.</summary>
    public static Net Grouped(int width, int groups, int depth, int seed)
    {
        var net = new Net(seed: seed);
        string x = net.ConvUnit(net.Input("image", 2, 3, 12, 12), 3, width);
        for (int b = 0; b < depth; b++)
        {
            string y = net.ConvUnit(net.ConvUnit(x, width, width, 1), width, width, 3, group: groups);
            x = net.Relu(net.Add(x, net.ConvUnit(y, width, width, 1, activation: null)));
        }

        net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), width, 3));
        return net;
    }

    /// <summary>Stages of blocks: the widths and depths of a network, and what its blocks are.</summary>
    public static Net Family(string block, int[] widths, int[] depths, int seed, bool norm = true, int classes = 5, int stem = 6)
    {
        var net = new Net(seed: seed);
        string x = net.ConvUnit(net.Input("image", 2, 3, 16, 16), 3, stem, norm: norm);
        int channels = stem;
        foreach ((int width, int depth) in widths.Zip(depths))
        {
            for (int b = 0; b < depth; b++, channels = width)
            {
                int stride = b == 0 ? 2 : 1;
                x = block switch
                {
                    "basic" => net.Basic(x, channels, width, stride, norm),
                    "bottleneck" => net.Bottleneck(x, channels, width, stride, norm),
                    "inverted" => net.InvertedResidual(x, channels, width, stride, 2, norm),
                    "plain" => net.ConvUnit(x, channels, width, stride: stride, norm: norm),
                    _ => throw new ArgumentException(block),
                };
            }
        }

        x = net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]);
        net.Output(net.Op("Gemm", [x, net.Weight([classes, channels]), net.Weight([classes])], new { transB = 1 }));
        return net;
    }

    /// <summary>A transfer between networks of one family by the library's own steps, as the file that is written.</summary>
    public static (ModelProto Result, IReadOnlyList<TransferredTensor> Tensors, (WeightTransfer Weights, IReadOnlyList<SectionPair> Pairs) Transfer) Carry(
        Net source, Net target, TransferRules? given = null)
    {
        TransferRules rules = given ?? new TransferRules();
        rules.Check(TransferMethod.Isomorphic);
        OnnxModel model = target.Model;
        SharedConstants.Part(model);
        AnalysedModel from = AnalysedModel.Of(source.Model), to = AnalysedModel.Of(model);
        TransferPlan plan = TransferPlan.Isomorphic(from, to, rules.Depth);
        var blocks = BlockStarts.Of(to, plan, rules.Inserted);
        var mapping = new ChannelMapping(from, to, blocks.Matches, rules, 1, TransferPlan.Next(from, to, plan.Pairs));
        var transfer = new WeightTransfer(from, to, blocks.Matches, mapping, blocks.Starts);
        IReadOnlyList<TransferredTensor> tensors = transfer.Apply();
        return (Check.Written(to.Model), tensors, (transfer, plan.Pairs));
    }

    public static void SameFunction(Net source, ModelProto result)
    {
        var feeds = Check.Feeds(source, [], 3);
        Array expected = Check.Run(source.Proto, feeds, [])[source.Proto.Graph.Output[0].Name];
        Array actual = Check.Run(result, feeds, [])[result.Graph.Output[0].Name];
        double scale = expected.Values.Max(Math.Abs);
        Assert.True(scale > 1e-3);
        Assert.All(expected.Values.Zip(actual.Values), pair => Assert.Equal(pair.First, pair.Second, s_tolerance * scale));
    }

    public static double[] Numbers(ModelProto model, string name)
    {
        TensorProto tensor = model.Graph.Initializer.Single(t => t.Name == name);
        return Testing.Numbers.Decode((ElementType)tensor.DataType, tensor.RawData.ToByteArray());
    }

    /// <summary>A transfer between files whose statistics are set on samples, and the samples.</summary>
    public static (TransferReport Report, ModelProto Result, double[] Pixels) Calibrated(Net source, Net target)
    {
        using var folder = new TemporaryFolder();
        string In(string name) => Path.Combine(folder.Path, name);
        File.WriteAllBytes(In("source.onnx"), Google.Protobuf.MessageExtensions.ToByteArray(source.Proto));
        File.WriteAllBytes(In("target.onnx"), Google.Protobuf.MessageExtensions.ToByteArray(target.Proto));
        var random = new Random(7);
        double[] pixels = [.. Enumerable.Range(0, Samples * 3 * 16 * 16).Select(_ => (double)(float)(2 * random.NextDouble() - 1))];
        Npy(In("image.npy"), pixels, Samples, 3, 16, 16);
        TransferReport report = new TransferJob
        {
            Source = In("source.onnx"),
            Target = In("target.onnx"),
            Output = In("result.onnx"),
            Calibrate = In("image.npy"),
            Verify = null,
        }.Run(TestContext.Current.CancellationToken);
        return (report, ModelProto.Parser.ParseFrom(File.ReadAllBytes(In("result.onnx"))), pixels);
    }

    /// <summary>Writes samples as float32.</summary>
    public static void Npy(string path, double[] values, params int[] shape)
    {
        string header = $"{{'descr': '<f4', 'fortran_order': False, 'shape': ({string.Join(", ", shape)}), }}";
        header = header.PadRight(128 - 10 - 1) + "\n";
        using var file = new BinaryWriter(File.Create(path));
        file.Write([0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y', 1, 0]);
        file.Write((ushort)header.Length);
        file.Write(System.Text.Encoding.ASCII.GetBytes(header));
        foreach (double value in values)
            file.Write((float)value);
    }
}
