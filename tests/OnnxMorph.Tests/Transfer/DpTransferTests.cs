using OnnxMorph.Alignment;
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

/// <summary>Weights carried along an alignment by DPIAT's operators (METHODS.md §4), held to their definitions index by index.</summary>
public class DpTransferTests
{
    private static (ModelProto Result, IReadOnlyList<TransferredTensor> Tensors) Carry(Net source, Net target, TransferOperator kind, RunRule rule = RunRule.Blocks)
    {
        AnalysedModel from = AnalysedModel.Of(source.Model), to = AnalysedModel.Of(target.Model);
        var plan = TransferPlan.Aligned(from, to, rule, new List<string>());
        WeightMapping mapping = kind == TransferOperator.Maps ? new ChannelMapping(from, to, plan.Matches, new TransferRules(), 1)
            : new ShapeMapping(from, to, plan.Matches, kind, new WeightEvaluator(), 1);
        IReadOnlyList<TransferredTensor> tensors = new WeightTransfer(from, to, plan.Matches, mapping, BlockStarts.Of(to, plan, kind == TransferOperator.Maps ? InsertedBlocks.Identity : InsertedBlocks.Repeat).Starts).Apply();
        return (Check.Written(to.Model), tensors);
    }

    private static Net Two(int[] widths, int[] kernels, int seed)
    {
        var net = new Net(seed: seed);
        string x = net.Input("image", 1, 3, 16, 16);
        for (int l = 0, channels = 3; l < widths.Length; channels = widths[l++])
        {
            (int k, int width) = (kernels[l], widths[l]);
            x = net.Op("Conv", [x, net.Weight([width, channels, k, k], name: $"w{l}"), net.Weight([width], name: $"b{l}")], new { pads = new[] { k / 2, k / 2, k / 2, k / 2 } });
            x = net.Relu(net.Op("BatchNormalization", [x, net.Weight([width], name: $"g{l}"), net.Weight([width], name: $"o{l}"), net.Weight([width], name: $"m{l}"), Named(net, $"v{l}", width)]));
        }

        net.Output(net.Op("Gemm", [net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), net.Weight([4, widths[^1]], name: "head"), net.Weight([4], name: "headb")], new { transB = 1 }));
        return net;
    }

    private static string Named(Net net, string name, int size)
    {
        string made = net.Positive(size);
        net.Proto.Graph.Initializer.Single(t => t.Name == made).Name = name;
        return name;
    }

    private static readonly int[] s_sourceWidths = [6, 12, 8], s_targetWidths = [9, 10, 8], s_sourceKernels = [5, 3, 5], s_targetKernels = [7, 3, 3];

    /// <summary>o = ⌊|a−b|/2⌋ along every axis, for weights, biases, scales and statistics alike.</summary>
    [Fact]
    public void ClipTakesTheMiddleAndFillsTheMiddle()
    {
        Net source = Two(s_sourceWidths, s_sourceKernels, 1), target = Two(s_targetWidths, s_targetKernels, 2);
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors) = Carry(source, target, TransferOperator.Clip);
        Assert.All(tensors, t => Assert.Equal(t.Name, t.Source));
        foreach (TensorProto tensor in target.Proto.Graph.Initializer)
        {
            double[] own = Numbers(target.Proto, tensor.Name), from = Numbers(source.Proto, tensor.Name);
            long[] b = [.. tensor.Dims], a = [.. source.Proto.Graph.Initializer.Single(t => t.Name == tensor.Name).Dims];
            Assert.Equal(Every(b, index =>
            {
                long[] at = [.. index.Select((i, axis) => a[axis] > b[axis] ? i + (a[axis] - b[axis]) / 2 : i - (b[axis] - a[axis]) / 2)];
                return at.Zip(a).All(p => p.First >= 0 && p.First < p.Second) ? from[Flat(at, a)] : own[Flat(index, b)];
            }), Numbers(result, tensor.Name));
        }
    }

    /// <summary>Indices that clip would leave to the target hold slices of the source.</summary>
    [Fact]
    public void FullLeavesNothing()
    {
        Net source = Two(s_sourceWidths, s_sourceKernels, 1), target = Two(s_targetWidths, s_targetKernels, 2);
        (ModelProto result, _) = Carry(source, target, TransferOperator.Full);
        (ModelProto clip, _) = Carry(source, target, TransferOperator.Clip);
        foreach (TensorProto tensor in target.Proto.Graph.Initializer)
        {
            double[] from = Numbers(source.Proto, tensor.Name), own = Numbers(target.Proto, tensor.Name), clipped = Numbers(clip, tensor.Name), full = Numbers(result, tensor.Name);
            Assert.All(full, value => Assert.Contains(value, from));
            Assert.All(Enumerable.Range(0, own.Length).Where(i => clipped[i] != own[i]), i => Assert.Equal(clipped[i], full[i]));
        }
    }

    /// <summary>The largest outputs by L1 norm, then the largest inputs of these; biases, scales and statistics go with them.</summary>
    [Fact]
    public void MagnitudeKeepsTheLargest()
    {
        Net source = Two([9, 8], [3, 3], 1), target = Two([5, 6], [3, 3], 2);
        (ModelProto result, _) = Carry(source, target, TransferOperator.Magnitude);
        double[] w = Numbers(source.Proto, "w1"), b = Numbers(source.Proto, "b1");
        int[] outputs = Largest(8, 6, o => Enumerable.Range(0, 9 * 9).Sum(i => Math.Abs(w[o * 81 + i])));
        int[] inputs = Largest(9, 5, i => outputs.Sum(o => Enumerable.Range(0, 9).Sum(k => Math.Abs(w[o * 81 + i * 9 + k]))));
        Assert.Equal([.. from o in outputs from i in inputs from k in Enumerable.Range(0, 9) select w[o * 81 + i * 9 + k]], Numbers(result, "w1"));
        Assert.Equal([.. outputs.Select(o => b[o])], Numbers(result, "b1"));
        double[] g = Numbers(source.Proto, "g1");
        int[] scales = Largest(8, 6, c => Math.Abs(g[c]));
        Assert.Equal([.. scales.Select(c => g[c])], Numbers(result, "g1"));
        Assert.Equal([.. scales.Select(c => Numbers(source.Proto, "m1")[c])], Numbers(result, "m1"));

        static int[] Largest(int size, int count, Func<int, double> norm) => [.. Enumerable.Range(0, size).OrderByDescending(norm).Take(count).Order()];
    }

    /// <summary>Growing by magnitude leads: what follows is the target's own.</summary>
    [Fact]
    public void MagnitudeLeadsWhereTheTargetIsLarger()
    {
        Net source = Two([5, 6], [3, 3], 1), target = Two([9, 8], [5, 3], 2);
        (ModelProto result, _) = Carry(source, target, TransferOperator.Magnitude);
        double[] own = Numbers(target.Proto, "w0"), from = Numbers(source.Proto, "w0");
        Assert.Equal(
            Every([9, 3, 5, 5], i => i[0] < 5 && i[2] is >= 1 and < 4 && i[3] is >= 1 and < 4 ? from[Flat([i[0], i[1], i[2] - 1, i[3] - 1], [5, 3, 3, 3])] : own[Flat(i, [9, 3, 5, 5])]),
            Numbers(result, "w0"));
    }

    /// <summary>Channel maps on an alignment give a wider and deeper network of the same family the source's function.</summary>
    [Theory]
    [InlineData("basic")]
    [InlineData("bottleneck")]
    public void MapsComputeWhatTheSourceComputes(string block)
    {
        Net source = Family(block, [6, 12], [2, 2], 1), target = Family(block, [8, 16], [3, 5], 2, stem: 8);
        (ModelProto result, IReadOnlyList<TransferredTensor> tensors) = Carry(source, target, TransferOperator.Maps);
        Assert.DoesNotContain(tensors, t => t.Origin == TensorOrigin.Fresh);
        SameFunction(source, result);
    }

    /// <summary>A matrix is turned round where one model stores it the other way; a bias is found in the layer or in a sum behind it.</summary>
    [Theory]
    [InlineData(TransferOperator.Maps)]
    [InlineData(TransferOperator.Clip)]
    [InlineData(TransferOperator.Magnitude)]
    [InlineData(TransferOperator.Full)]
    public void MatricesAreTurnedRound(TransferOperator kind)
    {
        Net source = Mlp("Gemm", 1), target = Mlp("MatMul", 2), turned = Mlp("Transpose", 3);
        foreach (Net to in new[] { target, turned })
        {
            (ModelProto result, IReadOnlyList<TransferredTensor> tensors) = Carry(source, to, kind);
            double[] w = Numbers(source.Proto, "w");
            Assert.Equal(to == target ? [.. from i in Enumerable.Range(0, 6) from o in Enumerable.Range(0, 5) select w[o * 6 + i]] : w, Numbers(result, "w"));
            Assert.Equal(TensorOrigin.Exact, tensors.Single(t => t.Name == "w").Origin);
            SameFunction(source, result);
        }

        static Net Mlp(string form, int seed)
        {
            var net = new Net(seed: seed);
            string x = net.Input("x", 2, 6), b = net.Weight([5], name: "b");
            string y = form switch
            {
                "Gemm" => net.Op("Gemm", [x, net.Weight([5, 6], name: "w"), b], new { transB = 1 }),
                "MatMul" => net.Add(net.Op("MatMul", [x, net.Weight([6, 5], name: "w")]), b),
                _ => net.Op("Gemm", [x, net.Transpose(net.Weight([5, 6], name: "w"), 1, 0), b]),
            };
            net.Output(net.Op("Gemm", [net.Relu(y), net.Weight([3, 5], name: "v"), net.Weight([3], name: "c")], new { transB = 1 }));
            return net;
        }
    }

    [Fact]
    public void NetworksWithNothingInCommonAreRefused()
    {
        Net source = new(seed: 1), target = Two([4], [3], 2);
        source.Output(source.Op("MatMul", [source.Op("MatMul", [source.Input("x", 2, 3, 4), source.Weight([2, 4, 5])]), source.Weight([2, 5, 4])]));
        Assert.StartsWith("No layer of the source", Assert.Throws<RefusedException>(() => Carry(source, target, TransferOperator.Clip)).Message, StringComparison.Ordinal);
    }

    private static double[] Every(long[] shape, Func<long[], double> value)
    {
        long count = shape.Aggregate(1L, (x, y) => x * y);
        return [.. Enumerable.Range(0, (int)count).Select(flat =>
        {
            var index = new long[shape.Length];
            long rest = flat;
            for (int axis = shape.Length - 1; axis >= 0; axis--)
                (rest, index[axis]) = Math.DivRem(rest, shape[axis]);
            return value(index);
        })];
    }

    private static long Flat(long[] index, long[] shape) => index.Zip(shape).Aggregate(0L, (at, p) => at * p.Second + p.First);
}
