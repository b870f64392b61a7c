using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

public class KernelTests
{
    private static Net Image(Func<Net, string, string> layer, int dimensions = 2, params int[] sizes)
    {
        string[] axes = [.. new[] { "H", "W", "D" }.Take(dimensions)];
        var net = new Net();
        foreach (int size in sizes.Length > 0 ? sizes : [1, 2, 5, 8])
            net.Runs.Add(new(axes.Select((a, i) => KeyValuePair.Create(a, (long)size + i))));
        net.Output(layer(net, net.Input("x", [1, 4, .. axes])));
        return net;
    }

    private static MorphResult Grows(Net net, string size, params long[] kernel) => Grows(net, size, TapPlace.Both, kernel);

    private static MorphResult Grows(Net net, string size, TapPlace place, params long[] kernel)
    {
        MorphResult result = Check.Morph(net, Check.Kernel("*", size, place));
        NodeProto node = result.Child.Proto.Graph.Node.Single(n => n.Name == "a");
        Assert.True(result.Steps[0].Changes.Count > 0, string.Join(" | ", result.Steps[0].Refused));
        Assert.Equal(kernel, node.Attribute.Single(a => a.Name == "kernel_shape").Ints);
        Assert.Equal(kernel, result.Child.Proto.Graph.Initializer.Single(t => t.Name == node.Input[1]).Dims.Skip(2));
        KernelPadding padding = Assert.Single(result.Steps[0].Kernels);
        Assert.Equal(kernel, net.Proto.Graph.Initializer[0].Dims.Skip(2).Zip(padding.Before.Zip(padding.After, (b, a) => (long)b + a), (k, extra) => k + extra));
        return result;
    }

    [Fact]
    public void ConvolutionsOfAnyKind()
    {
        Grows(Image((net, x) => net.Conv(x, 4, 3, name: "a")), "5", 5, 5);
        Grows(Image((net, x) => net.Conv(x, 4, 3, name: "a")), "x3", 9, 9);
        // Even kernels have their extra tap behind.
        Assert.Equal([0, 0], Grows(Image((net, x) => net.Conv(x, 4, 3, name: "a")), "+1", 4, 4).Steps[0].Kernels[0].Before);
        Assert.Equal([1, 1], Grows(Image((net, x) => net.Conv(x, 4, 3, kernel: 2, name: "a")), "+3", 5, 5).Steps[0].Kernels[0].Before);
        Grows(Image((net, x) => net.Conv(x, 4, 4, kernel: 1, group: 2, name: "a")), "3", 3, 3);
        Grows(Image((net, x) => net.Conv(x, 4, 4, group: 4, name: "a")), "7", 7, 7);
        Grows(Image((net, x) => net.Conv(x, 4, 3, name: "a", attributes: new { pads = new[] { 2, 3, 1, 2 }, strides = new[] { 2, 3 } })), "5", 5, 5);
        Grows(Image((net, x) => net.Conv(x, 4, 3, name: "a", attributes: new { pads = new[] { 2, 4, 2, 4 }, dilations = new[] { 2, 3 } })), "+2", 5, 5);
        Grows(Image((net, x) => net.Conv(x, 4, 3, kernel: 1, name: "a", attributes: new { kernel_shape = new[] { 1, 1 } })), "4", 4, 4);
        // Without pads, down to the smallest input.
        Grows(Image((net, x) => net.Conv(x, 4, 3, name: "a", attributes: new { }), 2, 3, 6), "7", 7, 7);
        Grows(Image((net, x) => net.Op("Conv", [x, net.Weight([3, 4, 1, 3])], new { pads = new[] { 0, 1, 0, 1 } }, "a")), "+2", 3, 5);
        Grows(Image((net, x) => net.Conv(x, 4, 3, name: "a", dimensions: 1), 1), "6", 6);
        Grows(Image((net, x) => net.Conv(x, 4, 3, kernel: 1, name: "a", dimensions: 3), 3, 1, 3), "3", 3, 3, 3);
    }

    [Theory]
    [InlineData("SAME_UPPER")]
    [InlineData("SAME_LOWER")]
    [InlineData("VALID")]
    [InlineData("NOTSET")]
    public void AutoPad(string auto_pad)
    {
        int[] sizes = auto_pad is "VALID" or "NOTSET" ? [3, 7] : [1, 2, 5];
        foreach (int kernel in new[] { 2, 3 })
            foreach (int dilation in new[] { 1, 2 })
                foreach (string size in new[] { "+1", "+2", "x2" })
                {
                    // ONNX Runtime takes auto_pad with dilations for what it pads without them; other shapes are left to the parent.
                    long grown = size == "x2" ? 2 * kernel : kernel + size[1] - '0';
                    if (dilation == 1 || auto_pad is "NOTSET")
                        Grows(Image((net, x) => net.Conv(x, 4, 3, kernel, name: "a", attributes: new { auto_pad, dilations = new[] { dilation, dilation } }), 2, [.. sizes.Select(s => s * dilation)]), size, grown, grown);
                }

        // With a stride the pads of SAME depend on the size: both sides may grow alike, and nothing else.
        var symbolic = Image((net, x) => net.Conv(x, 4, 3, name: "a", attributes: new { auto_pad, strides = new[] { 2, 2 } }), 2, 4, 5, 6, 7);
        Grows(symbolic, "5", 5, 5);
        Grows(symbolic, "+4x+0", 7, 3);
        if (auto_pad.StartsWith("SAME", StringComparison.Ordinal))
        {
            Check.Refused(Check.Morph(symbolic, Check.Kernel("*", "4")), "a", "depends on the caller's sizes");
            Check.Refused(Check.Morph(symbolic, Check.Kernel("*", "5", TapPlace.End)), "a", "depends on the caller's sizes");
            Check.Refused(Check.Morph(Image((net, x) => net.Conv(x, 4, 3, kernel: 2, name: "a", attributes: new { auto_pad, strides = new[] { 3, 3 } }), 2, 4, 5, 6), Check.Kernel("*", "4")),
                "a", "depends on the caller's sizes");
            // A kernel of one tap is never padded.
            Grows(Image((net, x) => net.Conv(x, 4, 3, kernel: 1, name: "a", attributes: new { auto_pad, strides = new[] { 2, 3 } }), 2, 4, 5, 6, 7), "4", 4, 4);
        }

        // Without pads there is one result of four, for which a tap in front is beyond the border.
        foreach (int size in auto_pad is "VALID" or "NOTSET" ? [5, 6, 7] : new[] { 4, 5, 6, 7 })
        {
            Net Fixed()
            {
                var net = new Net();
                net.Output(net.Conv(net.Input("x", 1, 4, size, size + 1), 4, 3, name: "a", attributes: new { auto_pad, strides = new[] { 2, 3 } }));
                return net;
            }

            Grows(Fixed(), "5", 5, 5);
            Grows(Fixed(), "+1", TapPlace.Begin, 4, 4);
        }
    }

    [Fact]
    public void TransposedConvolutions()
    {
        foreach (int group in new[] { 1, 2 })
            foreach (int dilation in new[] { 1, 2 })
            {
                Grows(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 3, 2]), net.Weight([3 * group])], new { group, dilations = new[] { dilation, dilation }, strides = new[] { 2, 1 }, output_padding = new[] { 1, 0 }, pads = new[] { 1, 0, 0, 1 } }, "a")), "+2", 5, 4);
                Grows(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 3, 2])], new { group, dilations = new[] { dilation, dilation } }, "a")), "+1", 4, 3);
            }

        Grows(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 2, 2])], new { auto_pad = "VALID", strides = new[] { 2, 2 } }, "a")), "x2", 4, 4);
    }

    [Theory]
    [InlineData("SAME_UPPER")]
    [InlineData("SAME_LOWER")]
    [InlineData("NOTSET")]
    [InlineData("VALID")]
    public void TransposedConvolutionsWithPadsToFind(string auto_pad)
    {
        Net Transposed(int taps, int stride, int[]? output_shape, int dilation = 1, int padding = 0)
        {
            object attributes = output_shape is null
                ? new { auto_pad, strides = new[] { stride, stride }, dilations = new[] { dilation, dilation }, output_padding = new[] { padding, padding } }
                : new { auto_pad, output_shape, strides = new[] { stride, stride }, dilations = new[] { dilation, dilation }, output_padding = new[] { padding, padding } };
            if (output_shape is null)
                return Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, taps, taps])], attributes, "a"), 2, 1, 3);
            var net = new Net();
            net.Output(net.Op("ConvTranspose", [net.Input("x", 2, 4, 3, 4), net.Weight([4, 3, taps, taps])], attributes, "a"));
            return net;
        }

        foreach (TapPlace place in Enum.GetValues<TapPlace>())
            foreach ((int taps, int stride, int dilation, int padding) in new[] { (2, 2, 1, 0), (3, 2, 1, 0), (4, 2, 1, 0), (3, 1, 2, 0), (3, 3, 2, 0) })
                Grows(Transposed(taps, stride, null, dilation, padding), "+1x+2", place, taps + 1, taps + 2);
        foreach (int[] shape in new[] { new[] { 5, 7 }, [6, 8], [7, 9], [4, 4] })
            foreach (TapPlace place in Enum.GetValues<TapPlace>())
                Grows(Transposed(3, 2, shape), "+2x+1", place, 5, 4);
        // A result longer than the kernel reaches.
        Grows(Transposed(3, 2, [8, 10]), "+2x+1", TapPlace.End, 5, 4);
        Grows(Transposed(3, 2, [8, 10]), "+0x+1", TapPlace.Begin, 3, 4);
        Grows(Transposed(1, 3, [9, 12]), "3", 3, 3);

        if (auto_pad.StartsWith("SAME", StringComparison.Ordinal))
        {
            Check.Refused(Check.Morph(Transposed(1, 2, null), inDouble: false, Check.Kernel("*", "4")), "a", "by ONNX");
            Check.Refused(Check.Morph(Transposed(3, 2, null, padding: 1), inDouble: false, Check.Kernel("*", "4")), "a", "by ONNX");
        }

        Check.Refused(Check.Morph(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 2, 2])], new { auto_pad, output_shape = new[] { 9, 9 }, strides = new[] { 2, 2 } }, "a"), 2, 4), Check.Kernel("*", "4")), "a", "");
    }

    [Fact]
    public void AxesAreGrownByThemselvesAndWhereAsked()
    {
        Net Plain() => Image((net, x) => net.Conv(x, 4, 3, name: "a", attributes: new { pads = new[] { 2, 1, 0, 1 }, dilations = new[] { 1, 2 } }), 2, 5, 8);
        Assert.Equal([0, 2], Grows(Plain(), "3x7", 3, 7).Steps[0].Kernels[0].Before);
        Assert.Equal([1, 0], Grows(Plain(), "+2x+0", 5, 3).Steps[0].Kernels[0].After);
        Assert.Equal([3, 0], Grows(Plain(), "x2x+1", TapPlace.End, 6, 4).Steps[0].Kernels[0].After.Zip([0, 1], (a, b) => a - b));
        MorphResult begin = Grows(Plain(), "4xx2", TapPlace.Begin, 4, 6);
        Assert.Equal([1, 3], begin.Steps[0].Kernels[0].Before);
        Assert.Equal([0, 0], begin.Steps[0].Kernels[0].After);
        Assert.Equal([3L, 7, 0, 1], begin.Child.Proto.Graph.Node.Single().Attribute.Single(a => a.Name == "pads").Ints);
        Grows(Image((net, x) => net.Conv(x, 4, 3, name: "a", dimensions: 3), 3, 2), "3x+1x5", TapPlace.End, 3, 4, 5);
        Grows(Image((net, x) => net.Conv(x, 4, 4, group: 4, name: "a")), "+0x+3", TapPlace.Begin, 3, 6);
        foreach (TapPlace place in Enum.GetValues<TapPlace>())
            Grows(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 3, 2]), net.Weight([6])], new { group = 2, dilations = new[] { 2, 1 }, strides = new[] { 2, 3 }, output_padding = new[] { 1, 2 } }, "a")), "+0x+2", place, 3, 4);
        Check.Refused(Check.Morph(Plain(), Check.Kernel("*", "3x3x3")), "a", "2 axes");
        Check.Refused(Check.Morph(Plain(), Check.Kernel("*", "+0x+0")), "a", "already");
        Check.Refused(Check.Morph(Plain(), Check.Kernel("*", "7x2")), "a", "cannot take any away");
    }

    [Theory]
    [InlineData("")]
    [InlineData("3x")]
    [InlineData("x3x")]
    [InlineData("3,7")]
    [InlineData("+0")]
    [InlineData("0x3")]
    [InlineData("3x-1")]
    [InlineData("x0.5x2")]
    [InlineData("99999999999")]
    public void NoKernelSize(string text) => Assert.Throws<UsageException>(() => KernelSize.Parse(text));

    [Theory]
    [InlineData("5", new long[] { 5, 5, 5 })]
    [InlineData("x1.5", new long[] { 5, 2, 8 })]
    [InlineData("3x7x+2", new long[] { 3, 7, 7 })]
    [InlineData("x2x4xx3", new long[] { 6, 4, 15 })]
    [InlineData("+0x+0x6", new long[] { 3, 1, 6 })]
    public void KernelSizes(string text, long[] sizes)
    {
        Assert.Equal(text, KernelSize.Parse(text).ToString());
        Assert.Equal(sizes, KernelSize.Parse(text).Apply([3, 1, 5]));
    }

    [Fact]
    public void NobodyGetsMillionsOfTaps() =>
        Assert.Contains("is the most", Assert.Throws<UsageException>(() => KernelSize.Parse("2000").Apply([3, 3])).Message);

    [Fact]
    public void FusedConvolutions()
    {
        Net Fused(object attributes) => Image((net, x) =>
        {
            net.Op("com.microsoft:FusedConv", [x, net.Weight([4, 4, 3, 3]), net.Weight([4]), x], attributes, "a");
            return net.Last.Output[0];
        });
        Grows(Fused(new { pads = new[] { 1, 1, 1, 1 }, activation = "Relu" }), "5x4", 5, 4);
        Grows(Fused(new { auto_pad = "SAME_LOWER", activation = "Tanh" }), "+2", TapPlace.End, 5, 5);
    }

    [Fact]
    public void WeightsBehindNodesThatMoveThem()
    {
        void Holds(Func<Net, string> weight, long[] shape, string size = "+2x+1", TapPlace place = TapPlace.Begin)
        {
            Net net = Image((net, x) => net.Op("Conv", [x, weight(net)], new { auto_pad = "SAME_UPPER" }, "a"), 2, 5);
            MorphResult result = Check.Morph(net, Check.Kernel("*", size, place));
            Assert.Equal(shape, result.Child.Proto.Graph.Initializer.Single(i => i.Name == net.Proto.Graph.Initializer[0].Name).Dims);
            result = Check.Morph(net, Check.Kernel("*", size, place), Check.Widen("*", "x2"), Check.Kernel("*", "+1x+0", place));
            Assert.Single(result.Steps[2].Changes);
        }

        Holds(net => net.Op("Identity", [net.Weight([3, 4, 3, 3])]), [3, 4, 5, 4]);
        Holds(net => net.Transpose(net.Weight([3, 2, 4, 3]), 3, 2, 0, 1), [5, 3, 4, 3]);
        Holds(net => net.Op("Transpose", [net.Weight([3, 2, 4, 3])]), [4, 4, 4, 3]);
        Holds(net => net.Reshape(net.Transpose(net.Weight([2, 3, 4, 5]), 3, 2, 1, 0), 0, 4, -1, 2), [3, 5, 4, 5]);
        Holds(net => net.Op("Unsqueeze", [net.Weight([3, 4]), net.Ints(2, 3)]), [3, 48], "3x4");
        Holds(net => net.Op("Unsqueeze", [net.Weight([3, 4, 3]), net.Ints(-2)]), [3, 4 * 3, 4]);
        Holds(net => net.Op("Squeeze", [net.Weight([3, 1, 4, 2, 2]), net.Ints(1)]), [3, 1, 4, 4, 3]);
        Holds(net => net.Reshape(net.Weight([3, 4 * 2 * 3]), 3, 4, 2, 3), [3, 4 * 4 * 4]);
        Holds(net => net.Op("Cast", [net.Op("Identity", [net.Weight([3, 4, 1, 1])])], new { to = 1 }), [3, 4, 3, 2]);

        void Stays(Func<Net, string> weight, string why)
        {
            Net net = Image((net, x) => net.Op("Conv", [x, weight(net)], new { auto_pad = "SAME_UPPER" }, "a"));
            Check.Refused(Check.Morph(net, Check.Kernel("*", "+2x+1")), "a", why);
        }

        Stays(net => net.Reshape(net.Weight([6, 4, 3]), 3, 4, 2, 3), "across the axes of the kernel");
        Stays(net => net.Reshape(net.Weight([3, 4, 2, 3]), 3, 4, 3, 2), "across the axes of the kernel");
        Stays(net => net.Op("Neg", [net.Weight([3, 4, 3, 3])]), "computed by other nodes");
        Stays(net =>
        {
            string w = net.Transpose(net.Weight([3, 4, 3, 3]), 0, 1, 3, 2);
            net.Output(net.Op("ReduceSum", [w], name: "sum"));
            return w;
        }, "is read by others too");
    }

    [Fact]
    public void TheSameWeightInTwoOrders()
    {
        var net = Image((net, x) =>
        {
            string w = net.Weight([4, 4, 3, 3]);
            string y = net.Relu(net.Op("Conv", [x, w], new { pads = new[] { 1, 1, 1, 1 } }, "a"));
            return net.Op("Conv", [y, net.Transpose(w, 0, 1, 3, 2)], new { pads = new[] { 1, 1, 1, 1 } }, "b");
        });
        Assert.Single(Check.Morph(net, Check.Kernel("*", "5")).Child.Proto.Graph.Initializer);
        Assert.Equal(2, Check.Morph(net, Check.Kernel("*", "3x5")).Child.Proto.Graph.Initializer.Count);
    }

    [Fact]
    public void SharedKernels()
    {
        var net = Image((net, x) =>
        {
            string w = net.Weight([4, 4, 3, 3]);
            string y = net.Relu(net.Op("Conv", [x, w], new { pads = new[] { 1, 1, 1, 1 } }, "a"));
            y = net.Relu(net.Op("Conv", [y, w], new { pads = new[] { 2, 2, 2, 2 }, dilations = new[] { 2, 2 } }, "b"));
            return net.Op("ConvTranspose", [y, w], new { pads = new[] { 1, 1, 1, 1 } }, "c");
        });
        Assert.Single(Check.Morph(net, Check.Kernel("*", "5")).Child.Proto.Graph.Initializer);
        Assert.Equal(2, Check.Morph(net, Check.Kernel("b", "5")).Child.Proto.Graph.Initializer.Count);
    }

    [Fact]
    public void Refusals()
    {
        var net = Image((net, x) => net.Conv(net.Relu(net.Op("Conv", [x, net.Mul(net.Weight([4, 4, 3, 3]), net.Filled(0.5))], new { pads = new[] { 1, 1, 1, 1 } }, "computed")), 4, 4, name: "a"));
        MorphResult result = Check.Morph(net, Check.Kernel("*", "2"));
        Check.Refused(result, "a", "growing cannot take any away");
        Check.Refused(Check.Morph(net, Check.Kernel("*", "3")), "a", "already");
        Check.Refused(Check.Morph(net, Check.Kernel("*", "4")), "computed", "its weight is computed");
    }

    [Fact]
    public void GrownAndThenMore() =>
        Check.Morph(Image((net, x) => net.Conv(net.Relu(net.Conv(x, 4, 6, name: "a")), 6, 3, kernel: 1, name: "b")),
            Check.Kernel("a", "5"), Check.Widen("*", "x1.5"), Check.Kernel("*", "+1"), Check.Deepen("*"), Check.Kernel("*", "+2"), Check.Widen("*", "+3", WidenMethod.Opposed));

    // Behind a mean over all positions, as in squeeze-excite; where one axis has several positions, it can grow alone.
    [Fact]
    public void TapsThatWouldSeeNothingButPaddingAreNotAdded()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Input("x", "N", 3, 1, 8);
        string gate = net.Conv(net.Op("GlobalAveragePool", [x]), 3, 3, 1, name: "gate");
        net.Output(net.Conv(net.Mul(x, gate), 3, 2, 1, name: "row"));
        MorphResult result = Check.Morph(net, Check.Kernel("*", "+2"));
        Check.Refused(result, "gate", "along axis 2 its input has 1 position");
        Check.Refused(result, "row", "for each axis its own");
        Check.Grown(Check.Morph(net, Check.Kernel("row", "1x3")), "row", 3);
    }

    /// <summary>A kernel grows if and only if its outermost new taps change a result, as ONNX Runtime computes it.</summary>
    [Fact]
    public void KernelsGrowAsFarAsTapsSeeTheInput()
    {
        var random = new Random(7);
        int grown = 0, refused = 0;
        for (int i = 0; i < 500; i++)
        {
            bool transposed = random.Next(3) == 0;
            int size = random.Next(1, 6), kernel = random.Next(1, 4), stride = random.Next(1, 3), dilation = random.Next(1, 3), extra = random.Next(1, 4);
            int[] pads = [random.Next(3), random.Next(3)], around = [extra / 2, extra - extra / 2];
            int span = (kernel - 1) * dilation + 1;
            if ((transposed ? (size - 1) * stride + span - pads.Sum() - 1 : size + pads.Sum() - span) < 0)
                continue;
            string op = transposed ? "ConvTranspose" : "Conv";
            bool dead = false;
            foreach (int side in (int[])[0, 1])
            {
                if (around[side] == 0)
                    continue;
                double[] taps = new double[kernel + extra];
                taps[side == 0 ? 0 : ^1] = 1;
                dead |= Run(op, taps, size, stride, dilation, [pads[0] + around[0] * dilation, pads[1] + around[1] * dilation]).All(v => v == 0);
            }

            var net = new Net { Runs = { new() } };
            net.Output(net.Op(op, [net.Input("x", 1, 1, size), net.Weight([1, 1, kernel])], new { pads, strides = new[] { stride }, dilations = new[] { dilation } }, "a"));
            MorphResult result = Check.Morph(net, Check.Kernel("a", $"+{extra}"));
            Assert.True(dead == result.Steps[0].Refused.Any(p => p.Why.Contains("never learn", StringComparison.Ordinal)), $"case {i}: {op}, {kernel} + {extra} taps over {size}");
            _ = dead ? refused++ : grown++;
        }

        Assert.True(grown > 50 && refused > 50, $"{grown} grown, {refused} refused");

        static double[] Run(string op, double[] taps, int size, int stride, int dilation, int[] pads)
        {
            var probe = new Net();
            string weight = probe.FloatsOf([1, 1, taps.Length], taps);
            probe.Output(probe.Op(op, [probe.Input("x", 1, 1, size), weight], new { pads, strides = new[] { stride }, dilations = new[] { dilation } }, "a"));
            return Check.Run(probe.Proto, Check.Feeds(probe, [], 3), [])[probe.Proto.Graph.Output[0].Name].Values;
        }
    }
}
