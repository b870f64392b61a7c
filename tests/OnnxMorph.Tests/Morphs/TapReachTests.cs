using OnnxMorph.Morphs;
using OnnxMorph.Morphs.Subnet;
using OnnxMorph.Tests.Testing;
using Xunit;
using static OnnxMorph.Tests.Morphs.SubnetNets;

namespace OnnxMorph.Tests.Morphs;

/// <summary>On maps of one row no new layer has taps above or below it: they would see padding alone and never learn.</summary>
public class TapReachTests
{
    // One row of five positions.
    private static Net Row(int kernel = 1, int group = 1) => Fixed(1, 5, (net, x) => net.Relu(net.Conv(x, 4, 4, kernel, group, "a")));

    private static Net Fixed(int height, int width, Func<Net, string, string> layer)
    {
        var net = new Net { Runs = { new() } };
        net.Output(layer(net, net.Input("x", 2, 4, height, width)));
        return net;
    }

    private static MorphStep Deepen(DeepenOptions options) => Check.Deepen("*", options);

    // Kernels of the child's convolutions, in order.
    private static string Kernels(MorphResult result)
    {
        Assert.Empty(result.Steps[0].Refused);
        return string.Join(' ', result.Child.Proto.Graph.Node.Where(n => n.OpType == "Conv")
            .Select(n => string.Join('x', result.Child.Proto.Graph.Initializer.Single(t => t.Name == n.Input[1]).Dims.Skip(2))));
    }

    [Theory]
    [InlineData(DeepenMethod.ClosedForm, DeepenActivation.Parametric)]
    [InlineData(DeepenMethod.Identity, DeepenActivation.Parametric)]
    [InlineData(DeepenMethod.Identity, DeepenActivation.Idempotent)]
    [InlineData(DeepenMethod.ZeroResidual, DeepenActivation.Parametric)]
    public void KernelsThatDeepenMustSeeTheMap(DeepenMethod method, DeepenActivation activation)
    {
        foreach (string kernels in (string[])["3,3", "1,3", "1x3,3x1"])
            Check.Refused(Check.Morph(Row(), Deepen(new() { Method = method, Activation = activation, Kernels = KernelPair.Parse(kernels) })), "a", "never learn");
        Assert.EndsWith("1x5", Kernels(Check.Morph(Row(), Deepen(new() { Method = method, Activation = activation, Kernels = KernelPair.Parse("1x3,1x5") }))));
    }

    [Fact]
    public void TheLayersOwnKernelMustSeeTheMapToo() =>
        Check.Refused(Check.Morph(Row(), Deepen(new() { Kernels = KernelPair.Parse("3,1") })), "a", "along axis 2 its input has 1 position");

    /// <summary>In front of a layer the map may be larger than behind it, or smaller.</summary>
    [Fact]
    public void WhatComesFirstSeesTheInput()
    {
        Net down = Fixed(3, 5, (net, x) => net.Relu(net.Conv(x, 4, 4, 3, name: "a", attributes: new { strides = new[] { 1, 2 } })));
        var first = new DeepenOptions { Order = DeepenOrder.First, Kernels = KernelPair.Parse("3,3") };
        Assert.Equal("3x3 3x3", Kernels(Check.Morph(down, Deepen(first))));
        Check.Refused(Check.Morph(down, Deepen(first with { Order = DeepenOrder.Last })), "a", "never learn");
    }

    /// <summary>Least squares lets the second half see what the first makes of the padding.</summary>
    [Fact]
    public void HalvesThatLookBeyondTheMapSeeTheOther() =>
        Assert.Equal("3x3 3x3", Kernels(Check.Morph(Row(), Deepen(new() { Method = DeepenMethod.General, Kernels = KernelPair.Parse("3,3") }))));

    [Fact]
    public void KernelsOfTheirOwnChoiceFit()
    {
        Assert.Equal("3x3 1x3 1x3", Kernels(Check.Morph(Row(3), Deepen(new() { Method = DeepenMethod.ZeroResidual }))));
        Assert.Equal("1x1 1x3", Kernels(Check.Morph(Row(1, 4), Deepen(new() { Method = DeepenMethod.Identity }))));
        Assert.Equal("1x1 1x3", Kernels(Check.Morph(Row(1, 4), Subnet("a", new(SubnetKind.Sequential)))));
        Assert.Equal("1x1 1x3 1x3", Kernels(Check.Morph(Row(), Subnet("a", new(SubnetKind.Residual)))));
        // A dilated kernel reaches further than its taps tell.
        Net dilated = Fixed(2, 3, (net, x) => net.Conv(x, 4, 4, name: "a", attributes: new { dilations = new[] { 2, 2 }, pads = new[] { 2, 2, 2, 2 } }));
        Assert.Equal("3x3 1x3 1x3", Kernels(Check.Morph(dilated, Deepen(new() { Method = DeepenMethod.ZeroResidual }))));
    }

    [Fact]
    public void ModulesMustSeeTheMap()
    {
        Check.Refused(Check.Morph(Row(), Subnet("a", new(SubnetKind.Module) { Module = "(3x3, 1x1) | 1x1" })), "a", "never learn");
        Check.Refused(Check.Morph(Row(), Subnet("a", new(SubnetKind.Residual) { Module = "1x1, 3x1" })), "a", "never learn");
        Fits(Row(), new(SubnetKind.Module) { Module = "(1x3, 1x1) | 1x1" });
        // The layer's own taps may have been useless before.
        Fits(Row(3), new(SubnetKind.Module) { Module = "(3x3, 1x1) | 1x1" });
    }

    /// <summary>What one layer cannot see another may that shares the new weights.</summary>
    [Fact]
    public void LayersThatShareWeightsSeeTogether()
    {
        Net net = Fixed(3, 5, (net, x) =>
        {
            string w = net.Weight([4, 1, 1, 1]);
            string y = net.Relu(net.Op("Conv", [x, w], new { group = 4 }, "a"));
            y = net.Op("MaxPool", [y], new { kernel_shape = new[] { 3, 1 } });
            return net.Op("Conv", [y, w], new { group = 4 }, "b");
        });
        MorphResult deepened = Check.Morph(net, Deepen(new() { Method = DeepenMethod.Identity }));
        Assert.Equal("1x1 3x3 1x1 3x3", Kernels(deepened));
        Assert.Equal(2, deepened.Child.Proto.Graph.Initializer.Count(t => t.Dims.Count == 4));
        Assert.Equal("1x1 3x3 1x1 1x3", Kernels(Check.Morph(net, Subnet("*", new(SubnetKind.Sequential)))));
    }
}
