using Google.Protobuf;
using OnnxMorph.Morphs;
using OnnxMorph.Morphs.Subnet;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Morphs.SubnetNets;

namespace OnnxMorph.Tests.Morphs;

/// <summary>Modules that are solved, modules from files, and how modules are written.</summary>
public sealed class SubnetModuleFormsTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("onnxmorph-tests-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private static SubnetOptions Of(string module) => new(SubnetKind.Module) { Module = module };

    /// <summary>Too narrow for the closed form, or with paths that it cannot use: one layer makes up for random others.</summary>
    [Theory]
    [InlineData("(3x3:2 & 3x3:8), 1x1", true)]
    [InlineData("(1x1:2 & 3x3:8), 1x1", true)]
    [InlineData("(id & 3x3:6), 3", true)]
    [InlineData("(id & (1, 3x3:3)), layer, 1", true)]
    [InlineData("(3x3 | 1), (id & 1:2), 1", false)]
    [InlineData("1:20, (3x3:3 & 3x3:3), 1", true)]
    [InlineData("1:20, (3x3:2 & 3x3:2), 1", null)]
    public void Solved(string module, bool? strided)
    {
        foreach (int opset in new[] { 12, 17 })
        {
            Net net = Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { pads = new[] { 1, 2, 1, 2 }, dilations = new[] { 1, 2 } }), opset: opset);
            if (strided is null)
                Check.Refused(Check.Morph(net, Subnet("*", Of(module))), "a", "between at least");
            else
                Fits(net, Of(module), inDouble: false);
        }

        Net fast = Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { pads = new[] { 1, 1, 1, 1 }, strides = new[] { 2, 2 } }));
        if (strided is true && !module.Contains("id"))
            Fits(fast, Of(module), inDouble: false);
    }

    [Theory]
    [InlineData("(1:3 & 1:4), 1")]
    [InlineData("(id & 1), 1")]
    [InlineData("1:2 & (1:4, 1)")]
    public void SolvedMatrices(string module)
    {
        Fits(Dense((net, x) => net.Linear(net.Reshape(x, -1, 1, 4), 4, 5, "a")), Of(module));
        Fits(Dense((net, x) => net.Op("Gemm", [x, net.Weight([5, 4]), net.Weight([5])], new { transB = 1, alpha = 0.5, beta = 2.0 }, "a")), Of(module));
        Fits(Dense((net, x) => net.Op("MatMul", [x, net.Transpose(net.Weight([5, 4]), 1, 0)], name: "a")), Of(module));
    }

    /// <summary>A bridge is neither in series nor in parallel.</summary>
    private string Bridge(int kernel, bool weights, int opset = 17)
    {
        var net = new Net(opset: opset);
        string Layer(string x, int inputs, int outputs)
        {
            string weight = net.Weight([outputs, inputs, kernel, kernel]);
            if (!weights)
            {
                net.Proto.Graph.Initializer.Remove(net.Proto.Graph.Initializer.Single(t => t.Name == weight));
                net.Proto.Graph.Input.Add(Net.Value(weight, ElementType.Float32, "o", "i", kernel, kernel));
            }

            return net.Op("Conv", [x, weight], new { pads = new[] { kernel / 2, kernel / 2, kernel / 2, kernel / 2 }, kernel_shape = new[] { kernel, kernel } });
        }

        string x = net.Input("x", 1, 4, "H", "W");
        string u = net.Relu(Layer(x, 4, 6)), v = Layer(x, 4, 6);
        string bridged = net.Op("Elu", [net.Add(v, Layer(u, 6, 6))], new { alpha = 0.3 });
        net.Output(net.Op("Identity", [net.Add(Layer(u, 6, 5), net.Op("HardSwish", [Layer(bridged, 6, 5)]))]), ElementType.Float32, 1, 5, "H", "W");
        string file = Path.Combine(_folder, $"bridge{kernel}{weights}.onnx");
        File.WriteAllBytes(file, net.Proto.ToByteArray());
        return file;
    }

    [Theory]
    [InlineData(true)]
    [InlineData(false)]
    public void BridgesFromFiles(bool weights)
    {
        SubnetOptions options = Of(Bridge(3, weights));
        MorphResult result = Fits(Image((net, x) => net.Conv(x, 4, 5, name: "a")), options, inDouble: false);
        Assert.Equal(5, result.Child.Proto.Graph.Node.Count(n => n.OpType == "Conv"));
        Assert.Equal(["Elu", "HardSwish", "PRelu"], result.Child.Proto.Graph.Node.Select(n => n.OpType).Where(op => op is "Elu" or "HardSwish" or "PRelu").Order());
        Assert.Equal(0.3f, result.Child.Proto.Graph.Node.Single(n => n.OpType == "Elu").Attribute.Single().F);
        Fits(Image((net, x) => net.Conv(x, 4, 6, group: 2, name: "a", attributes: new { strides = new[] { 2, 1 }, pads = new[] { 1, 2, 1, 0 } })), options, inDouble: false);
        Fits(Image((net, x) => net.Conv(x, 4, 6, kernel: 1, name: "a")), options, inDouble: false);
        Fits(Image((net, x) => net.Op("ConvTranspose", [x, net.Weight([4, 3, 3, 3]), net.Weight([6])], new { group = 2, strides = new[] { 2, 1 }, pads = new[] { 1, 1, 1, 1 } }, "a")), options, inDouble: false);
        // A kernel of 5×5 has no place in layers of 3×3.
        Check.Refused(Check.Morph(Image((net, x) => net.Conv(x, 4, 5, kernel: 5, name: "a")), Subnet("*", options)), "a", "series and parallel");
        Check.Refused(Check.Morph(Image((net, x) => net.Conv(x, 4, 5, name: "a", dimensions: 1), 1), Subnet("*", options)), "a", "1 spatial axes");
    }

    /// <summary>Widths of a file that are those of its ends follow the layer, others grow with it.</summary>
    [Fact]
    public void FilesScaleToTheLayer()
    {
        var module = new Net();
        string x = module.Input("x", 1, 4, "H", "W");
        module.Output(module.Conv(module.Relu(module.Conv(x, 4, 16, kernel: 3)), 16, 8, kernel: 1));
        string file = Path.Combine(_folder, "module.onnx");
        File.WriteAllBytes(file, module.Proto.ToByteArray());
        foreach ((int inputs, int outputs, int inner) in new[] { (4, 8, 16), (4, 4, 8), (4, 6, 12) })
        {
            MorphResult result = Fits(Image((net, x) => net.Conv(x, inputs, outputs, name: "a")), Of(file));
            Assert.Equal([inner, inputs, 3, 3], result.Child.Proto.Graph.Initializer.Single(t => t.Dims is [_, _, 3, 3]).Dims);
        }

        // One layer after the other is the same from text.
        byte[] Child(string text) => Check.Written(Check.Morph(Image((net, x) => net.Conv(x, 4, 8, name: "a")), Subnet("*", Of(text))).Child).ToByteArray();
        Assert.Equal(Child("3x3:16, 1x1"), Child(file));
    }

    [Fact]
    public void FilesThatAreNoModules()
    {
        UsageException Wrong(Action<Net> build)
        {
            var net = new Net();
            build(net);
            string file = Path.Combine(_folder, "wrong.onnx");
            File.WriteAllBytes(file, net.Proto.ToByteArray());
            return Assert.Throws<UsageException>(() => Subnet("*", Of(file)));
        }

        Assert.Contains("MaxPool", Wrong(net => net.Output(net.Op("MaxPool", [net.Input("x", 1, 4, 8, 8)], new { kernel_shape = new[] { 1, 1 } }))).Message);
        Assert.Contains("stride", Wrong(net => net.Output(net.Conv(net.Input("x", 1, 4, 8, 8), 4, 4, attributes: new { strides = new[] { 2, 2 }, pads = new[] { 1, 1, 1, 1 } }))).Message);
        Assert.Contains("stride", Wrong(net => net.Output(net.Conv(net.Input("x", 1, 4, 8, 8), 4, 4, attributes: new { }))).Message);
        Assert.Contains("groups", Wrong(net => net.Output(net.Conv(net.Input("x", 1, 4, 8, 8), 4, 4, group: 2))).Message);
        Assert.Contains("1 inputs and 2 outputs", Wrong(net =>
        {
            string y = net.Conv(net.Input("x", 1, 4, 8, 8), 4, 4);
            net.Output(y);
            net.Output(net.Relu(y));
        }).Message);
        Assert.Contains("2 inputs", Wrong(net => net.Output(net.Add(net.Relu(net.Input("x", 1, 4, 8, 8)), net.Relu(net.Input("z", 1, 4, 8, 8))))).Message);
    }

    [Theory]
    [InlineData("", "character 1: a kernel")]
    [InlineData("3x3,", "character 5: a kernel")]
    [InlineData("3x3, 1 | 1", "',' and '|' stand beside each other")]
    [InlineData("(3x3", "a ')' is missing")]
    [InlineData("3x3)", "')' is not expected")]
    [InlineData("3x0", "instead of '0'")]
    [InlineData("3x999", "instead of '999'")]
    [InlineData("conv", "instead of 'conv'")]
    [InlineData("3:0", "not a size")]
    [InlineData("3:x0.5", "not a size")]
    [InlineData("3x3 1x1", "'1' is not expected")]
    public void ExpressionsThatAreWrong(string module, string why) =>
        Assert.Contains(why, Assert.Throws<UsageException>(() => Subnet("*", Of(module))).Message, StringComparison.Ordinal);

    [Theory]
    [InlineData("1x1", "no layer of the module holds its kernel of 3×3")]
    [InlineData("3x1 | 1x3", "no path of the module holds its kernel")]
    [InlineData("3x3:2, 1x1", "between at least 4 and 5 channels")]
    [InlineData("3x3, 1x1:7", "has 7 channels where 5 are needed")]
    [InlineData("3x3:3 & 3x3:3", "6 channels together where 5")]
    [InlineData("3x3 | id", "cannot make 5 channels of 4")]
    [InlineData("3x3 | 3", null)]
    [InlineData("3x3x3", "no place in a layer with 2 spatial axes")]
    [InlineData("id", "no weights")]
    [InlineData("id | id", "cannot make 5 channels of 4")]
    public void LayersThatModulesDoNotFit(string module, string? why)
    {
        Net net = Image((net, x) => net.Conv(x, 4, 5, name: "a"));
        if (why is null)
            Fits(net, Of(module));
        else
            Check.Refused(Check.Morph(net, Subnet("*", Of(module))), "a", why);
    }

    [Fact]
    public void ASmallerKernelMustSeeTheMiddle()
    {
        // Without pads, 1×1 beside 3×3 would have more positions.
        Net net = Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { pads = new[] { 1, 0, 1, 0 } }));
        net.Runs[1]["W"] = 3;
        Check.Refused(Check.Morph(net, Subnet("*", Of("3x3 | 1x1"))), "a", "without cropping");
        Fits(net, Of("3x3 | 1x3"));
        // Pads that are not even leave one place.
        Fits(Image((net, x) => net.Conv(x, 4, 5, name: "a", attributes: new { pads = new[] { 2, 0, 0, 2 } })), Of("3x3 | 1x1"));
    }

    /// <summary>3×3 beside 1×1: what is added up is the layer, tap by tap.</summary>
    [Fact]
    public void PartsAddUpToTheLayer()
    {
        Net net = Image((net, x) => net.Conv(x, 4, 5, name: "a", bias: false));
        ModelProto child = Check.Written(Fits(net, Of("3x3 | 1x1")).Child);
        float[] Weights(ModelProto model, int size) => [.. Numbers.Decode(ElementType.Float32, model.Graph.Initializer.Single(t => t.Dims.Count == 4 && t.Dims[3] == size).RawData.Span).Select(v => (float)v)];
        float[] whole = Weights(net.Proto, 3), part = Weights(child, 3), point = Weights(child, 1);
        for (int i = 0; i < whole.Length; i++)
            Assert.Equal(whole[i], part[i] + (i % 9 == 4 ? point[i / 9] : 0), 6);
        Assert.All(point, value => Assert.NotEqual(0, value));
    }
}
