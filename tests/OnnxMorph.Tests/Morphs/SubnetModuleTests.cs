using OnnxMorph.Morphs.Subnet;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Morphs.SubnetNets;

namespace OnnxMorph.Tests.Morphs;

/// <summary>Modules in a layer's place.</summary>
public class SubnetModuleTests
{
    public static TheoryData<SubnetKind, int, int> Kinds =>
    [
        (SubnetKind.Sequential, 1, 3), (SubnetKind.Stacked, 3, 2), (SubnetKind.ReplicateAdd, 3, 1), (SubnetKind.ReplicateConcat, 2, 1),
    ];

    private static SubnetOptions Of(string module) => new(SubnetKind.Module) { Module = module };

    [Theory]
    [MemberData(nameof(Kinds))]
    public void Convolutions(SubnetKind kind, int branches, int length)
    {
        SubnetOptions options = new(kind) { Branches = branches, Length = length };
        Fits(Image((net, x) => net.Conv(x, 4, 5, name: "a")), options);
        Fits(Image((net, x) => net.Relu(net.BatchNorm(net.Conv(x, 4, 5, name: "a", bias: false), 5))), options);
        Fits(Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { strides = new[] { 2, 1 }, pads = new[] { 1, 2, 1, 0 }, dilations = new[] { 1, 1 } })), options);
        Fits(Image((net, x) => net.Conv(x, 4, 5, kernel: 2, name: "a", attributes: new { auto_pad = "SAME_UPPER" })), options);
        Fits(Image((net, x) => net.Conv(x, 4, 5, name: "a", dimensions: 1), 1), options);
        Fits(Image((net, x) => net.Conv(x, 4, 5, name: "a", dimensions: 3), 3), options);
        Fits(Image((net, x) => net.Conv(x, 4, 6, group: 2, name: "a")), options);
        Fits(Image((net, x) => net.Conv(x, 4, 8, group: 4, name: "a")), options);
        Fits(Image((net, x) => net.Conv(x, 4, 4, group: 4, name: "a", attributes: new { strides = new[] { 2, 1 }, pads = new[] { 1, 2, 1, 0 } })), options);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void TransposedConvolutions(SubnetKind kind, int branches, int length)
    {
        SubnetOptions options = new(kind) { Branches = branches, Length = length };
        foreach (int group in new[] { 1, 2, 4 })
            Fits(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, group == 4 ? 1 : 3, 3, 2]), net.Weight([group == 4 ? 4 : 3 * group])],
                new { group, strides = new[] { 2, 1 }, output_padding = new[] { 1, 0 }, pads = new[] { 1, 0, 0, 1 } }, "a")), options);
    }

    [Theory]
    [MemberData(nameof(Kinds))]
    public void MatrixProducts(SubnetKind kind, int branches, int length)
    {
        SubnetOptions options = new(kind) { Branches = branches, Length = length };
        foreach (ElementType type in new[] { ElementType.Float64, ElementType.Float32 })
        {
            Fits(Dense((net, x) => net.Op("Tanh", [net.Linear(net.Op("Unsqueeze", [x, net.Ints(1)]), 4, 5, "a")]), type), options);
            Fits(Dense((net, x) => net.Op("Gemm", [x, net.Weight([5, 4]), net.Weight([5])], new { transB = 1, alpha = 0.5, beta = 2.0 }, "a"), type), options);
        }

        Fits(Dense((net, x) => net.Op("MatMul", [x, net.Transpose(net.Weight([5, 4]), 1, 0)], name: "a")), options);
        Fits(Dense((net, x) => net.Op("MatMul", [x, net.Op("Transpose", [net.Op("Identity", [net.Weight([5, 4])])])], name: "a")), options);
        Fits(Dense((net, x) => net.Op("Gemm", [x, net.Weight([4, 5]), net.Weight([3, 1])], new { beta = 0.25 }, "a")), options);
        Fits(Dense((net, x) => net.Op("Gemm", [x, net.Weight([4, 5])], new { alpha = 2.0 }, "a")), options);
        Fits(Dense((net, x) => net.Op("Gemm", [net.Transpose(x, 1, 0), net.Weight([4, 5]), net.Weight([5])], new { transA = 1 }, "a")), options);

        foreach (int opset in new[] { 9, 21 })
        {
            Fits(Dense((net, x) => net.Op("Gemm", [x, net.Weight([4, 5]), net.Weight([5])], name: "a"), opset: opset), options);
            Fits(Image((net, x) => net.Conv(x, 4, 5, name: "a"), opset: opset), options, inDouble: opset > 9);
        }
    }

    [Theory]
    [InlineData("layer")]
    [InlineData("3x3, 1x1")]
    [InlineData("1, 3")]
    [InlineData("1x1, 3x3, 1")]
    [InlineData("1x1:x2, 3x3:+3, 1x1")]
    [InlineData("3x3:9, 3:13, 1x1:7, 2x4")]
    [InlineData("5x3, 3x3")]
    [InlineData("layer, (id | 1)")]
    [InlineData("(3x3, 3x3) | 1x1")]
    [InlineData("(1, 5x3) | 1x3 | 3x1 | layer")]
    [InlineData("(3x3 | (1x1, 1x1)), (1 | 3)")]
    [InlineData("3x3:3 & 5x5")]
    [InlineData("(3x3:3 & 5x5:4), 1x1")]
    [InlineData("1, (3x3:2 & layer:1 & 3)")]
    [InlineData("(1, (3:2 & (1:4, 3))) | (1 & 1)")]
    public void Expressions(string module)
    {
        Fits(Image((net, x) => net.Conv(x, 4, 5, name: "a")), Of(module));
        Fits(Image((net, x) => net.Conv(x, 4, 6, name: "a", attributes: new { strides = new[] { 2, 1 }, pads = new[] { 3, 2, 2, 1 }, dilations = new[] { 2, 1 } })), Of(module));
        if (!module.Contains('&'))
            Fits(Image((net, x) => net.Conv(x, 4, 6, group: 2, name: "a")), Of(module));
        if (!module.Contains('&'))
            Fits(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 3, 3]), net.Weight([6])], new { group = 2, strides = new[] { 2, 1 }, pads = new[] { 1, 1, 1, 1 } }, "a")), Of(module));
    }

    /// <summary>Paths past the layer without weights: where outputs stand where inputs do.</summary>
    [Theory]
    [InlineData("layer | id", 1)]
    [InlineData("3x3 | (1x1, 1x1) | id", 2)]
    [InlineData("(3x3 | id), (1 | id)", 2)]
    [InlineData("(1 | id), (id | (id, layer | id))", 1, "parentheses")]
    [InlineData("(1 | id), (id | ((id, layer) | id))", 1)]
    [InlineData("id, 5x5 | id", 1, "parentheses")]
    [InlineData("(id, (3x3 | (1:6, 1) | id)), id", 2)]
    public void PathsWithoutLayers(string module, int dimensions, string? wrong = null)
    {
        if (wrong is not null)
        {
            Assert.Contains(wrong, Assert.Throws<UsageException>(() => Subnet("*", Of(module))).Message);
            return;
        }

        int[] pads = [.. Enumerable.Repeat(2, 2 * dimensions)], dilations = [.. Enumerable.Repeat(2, dimensions)], strides = [.. Enumerable.Repeat(2, dimensions)];
        Fits(Image((net, x) => net.Conv(x, 4, 4, name: "a", dimensions: dimensions, attributes: new { pads, dilations }), dimensions), Of(module));
        Fits(Image((net, x) => net.Conv(x, 4, 4, name: "a", group: 2, dimensions: dimensions), dimensions), Of(module));
        Check.Refused(Check.Morph(Image((net, x) => net.Conv(x, 4, 4, name: "a", dimensions: dimensions, attributes: new { pads, strides }), dimensions), Subnet("*", Of(module))), "a", "other positions");
        Check.Refused(Check.Morph(Image((net, x) => net.Conv(x, 4, 4, name: "a", dimensions: dimensions, attributes: new { pads }), dimensions), Subnet("*", Of(module))), "a", "other positions");
    }

    /// <summary>Where every path leads through the layer, it may move positions as it likes.</summary>
    [Fact]
    public void EveryPathThroughTheLayer()
    {
        int[] pads = [2, 2, 2, 2], strides = [2, 2];
        Fits(Image((net, x) => net.Conv(x, 4, 4, name: "a", dimensions: 2, attributes: new { pads, strides }), 2), Of("layer, (id | 1)"));
    }
}
