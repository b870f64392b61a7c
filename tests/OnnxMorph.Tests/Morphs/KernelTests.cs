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

    private static MorphResult Grows(Net net, string size, params long[] kernel)
    {
        MorphResult result = Check.Morph(net, Check.Kernel("*", size));
        NodeProto node = result.Child.Proto.Graph.Node.Single(n => n.Name == "a");
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

        // With a stride the pads of SAME depend on the size.
        var symbolic = Image((net, x) => net.Conv(x, 4, 3, name: "a", attributes: new { auto_pad, strides = new[] { 2, 2 } }), 2, 4, 7);
        MorphResult result = Check.Morph(symbolic, Check.Kernel("*", "5"));
        if (auto_pad.StartsWith("SAME", StringComparison.Ordinal))
            Check.Refused(result, "a", "depends on the caller's sizes");
        foreach (int size in new[] { 4, 5, 6, 7 })
        {
            var net = new Net();
            net.Output(net.Conv(net.Input("x", 1, 4, size, size + 1), 4, 3, name: "a", attributes: new { auto_pad, strides = new[] { 2, 3 } }));
            Grows(net, "5", 5, 5);
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
        Check.Refused(Check.Morph(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 2, 2])], new { auto_pad = "SAME_UPPER", strides = new[] { 2, 2 } }, "a")), inDouble: false, Check.Kernel("*", "4")), "a", "");
        Check.Refused(Check.Morph(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 2, 2])], new { output_shape = new[] { 9, 9 }, strides = new[] { 2, 2 } }, "a"), 2, 4), inDouble: false, Check.Kernel("*", "4")), "a", "");
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
        Check.Refused(result, "computed", "its weight is computed");
        Check.Refused(Check.Morph(net, Check.Kernel("*", "3")), "a", "already");
    }

    [Fact]
    public void GrownAndThenMore() =>
        Check.Morph(Image((net, x) => net.Conv(net.Relu(net.Conv(x, 4, 6, name: "a")), 6, 3, kernel: 1, name: "b")),
            Check.Kernel("a", "5"), Check.Widen("*", "x1.5"), Check.Kernel("*", "+1"), Check.Deepen("*"), Check.Kernel("*", "+2"), Check.Widen("*", "+3", WidenMethod.Opposed));
}
