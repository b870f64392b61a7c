using OnnxMorph.Morphs;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>Every option of deepening on every kind of layer, borders and sizes below the kernel's among the inputs.</summary>
public class DeepenOptionTests
{
    private static readonly Dictionary<string, Func<Net>> s_layers = new()
    {
        ["conv"] = () => DeepenTests.Image((net, x) => net.Relu(net.Conv(x, 4, 5, name: "a"))),
        ["conv no bias"] = () => DeepenTests.Image((net, x) => net.Relu(net.BatchNorm(net.Conv(x, 4, 5, name: "a", bias: false), 5))),
        ["strided"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { strides = new[] { 2, 3 }, pads = new[] { 1, 2, 1, 0 } })),
        ["dilated"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { dilations = new[] { 2, 1 }, pads = new[] { 2, 1, 2, 1 } })),
        ["strided and dilated"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { dilations = new[] { 1, 2 }, strides = new[] { 2, 2 }, pads = new[] { 1, 3, 1, 2 } })),
        ["grouped"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 6, group: 2, name: "a")),
        ["depthwise"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 4, group: 4, name: "a")),
        ["depthwise, two each"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 8, group: 4, name: "a")),
        ["even kernel"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, kernel: 2, name: "a", attributes: new { auto_pad = "SAME_LOWER" })),
        ["1-D"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 5, name: "a", dimensions: 1), 1),
        ["3-D"] = () => DeepenTests.Image((net, x) => net.Conv(x, 4, 3, kernel: 2, name: "a", dimensions: 3, attributes: new { pads = new[] { 0, 1, 1, 1, 0, 1 } }), 3),
        ["transposed"] = () => DeepenTests.Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 5, 3, 2]), net.Weight([5])],
            new { strides = new[] { 2, 1 }, output_padding = new[] { 1, 0 }, pads = new[] { 1, 0, 0, 1 } }, "a")),
        ["transposed, cut off"] = () => DeepenTests.Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 5, 4, 3])],
            new { strides = new[] { 3, 2 }, pads = new[] { 1, 1, 1, 1 }, dilations = new[] { 1, 2 } }, "a")),
        ["transposed, grouped"] = () => DeepenTests.Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 3, 3]), net.Weight([6])],
            new { group = 2, strides = new[] { 2, 2 }, pads = new[] { 1, 1, 1, 1 } }, "a")),
        ["Gemm"] = () => Dense((net, x) => net.Op("Gemm", [x, net.Weight([4, 5]), net.Weight([3, 1])], new { alpha = 0.5, beta = 2.0 }, "a")),
        ["Gemm transB"] = () => Dense((net, x) => net.Op("Tanh", [net.Op("Gemm", [x, net.Weight([5, 4])], new { transB = 1 }, "a")])),
        ["Gemm transA"] = () => Dense((net, x) => net.Op("Gemm", [net.Transpose(x, 1, 0), net.Weight([4, 5]), net.Weight([5])], new { transA = 1, beta = 0.5 }, "a")),
        ["MatMul"] = () => Dense((net, x) => net.Relu(net.Linear(net.Op("Unsqueeze", [x, net.Ints(0)]), 4, 5, "a"))),
        ["MatMul transposed"] = () => Dense((net, x) => net.Op("MatMul", [x, net.Transpose(net.Weight([5, 4]), 1, 0)], name: "a")),
    };

    private static readonly Dictionary<string, DeepenOptions> s_options = new()
    {
        ["rotation last"] = new() { Order = DeepenOrder.Last, Channels = SizeRequest.Parse("x1.5") },
        ["rotation first"] = new() { Order = DeepenOrder.First, Channels = SizeRequest.Parse("+5"), Count = 2 },
        ["kernels"] = new() { Kernels = KernelPair.Parse("4,3"), Count = 2, Channels = SizeRequest.Parse("x2") },
        ["kernel second"] = new() { Kernels = KernelPair.Parse("2,4"), Channels = SizeRequest.Parse("x2") },
        ["mirror"] = new() { Activation = DeepenActivation.Mirror, Count = 2 },
        ["mirror identity"] = new() { Activation = DeepenActivation.Mirror, Method = DeepenMethod.Identity, Kernels = KernelPair.Parse("4,3") },
        ["linear"] = new() { Activation = DeepenActivation.None, Order = DeepenOrder.First, Channels = SizeRequest.Parse("x2"), Kernels = KernelPair.Parse("2,4") },
        ["norm"] = new() { Method = DeepenMethod.Identity, Norm = DeepenNorm.Identity, Count = 2, Kernels = KernelPair.Parse("4,2") },
        ["norm of a rotation"] = new() { Norm = DeepenNorm.Identity, Activation = DeepenActivation.Mirror },
        ["general"] = new() { Method = DeepenMethod.General, Channels = SizeRequest.Parse("x1.2"), Count = 2 },
        ["general, dense"] = new() { Method = DeepenMethod.General, Channels = SizeRequest.Parse("x9"), Kernels = KernelPair.Parse("3,2") },
        ["general, mirrored"] = new() { Method = DeepenMethod.General, Channels = SizeRequest.Parse("x9"), Kernels = KernelPair.Parse("2,3"), Activation = DeepenActivation.Mirror },
        ["practical"] = new() { Method = DeepenMethod.Practical, Kernels = KernelPair.Parse("4,3") },
        ["zero residual"] = new() { Method = DeepenMethod.ZeroResidual, Channels = SizeRequest.Parse("x1.5"), Count = 2 },
        ["zero residual with norm"] = new() { Method = DeepenMethod.ZeroResidual, Kernels = KernelPair.Parse("2,3"), Norm = DeepenNorm.Identity },
    };

    private static Net Dense(Func<Net, string, string> layer, ElementType type = ElementType.Float32)
    {
        var net = new Net(type) { Runs = { new() { ["N"] = 3 } } };
        net.Output(layer(net, net.Input("x", "N", 4)));
        return net;
    }

    public static TheoryData<string> Options => [.. s_options.Keys];

    public static TheoryData<string> Layers => [.. s_layers.Keys];

    [Theory]
    [MemberData(nameof(Options))]
    public void EveryLayer(string name)
    {
        DeepenOptions options = s_options[name];
        foreach ((string layer, Func<Net> make) in s_layers)
        {
            Net net = make();
            MorphResult result;
            try
            {
                result = Check.Morph(net, Check.Deepen("*", options));
            }
            catch (Exception e)
            {
                throw new InvalidOperationException($"{layer}: {e.Message}", e);
            }

            if (Reason(layer, name) is { } reason)
                Check.Refused(result, "a", reason);
            else
                Check.Grown(result, "a", 1 + options.Count * (options.Method == DeepenMethod.ZeroResidual ? 2 : 1));
            DeepenTests.SameBits(net, result);
        }
    }

    // What cannot be: a tanh is no mirror pair, a batch norm wants channels on axis 1, 5 channels are not 4·(2 − 1).
    private static string? Reason(string layer, string options) => (layer, options) switch
    {
        ("Gemm transB", "mirror" or "mirror identity" or "norm of a rotation" or "general, mirrored") => "which a mirror pair needs",
        ("MatMul", "norm" or "norm of a rotation" or "zero residual with norm") => "axis 1",
        _ => null,
    };
}
