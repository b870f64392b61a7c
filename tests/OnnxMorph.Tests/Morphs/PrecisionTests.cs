using Google.Protobuf;
using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>
/// Models in each of the four floating-point types. What was written is held to the same weights in float64, rounded once; the function is
/// run in float32 with the weights as they were written, since ONNX Runtime's CPU kernels have no bfloat16 and little float16.
/// </summary>
public class PrecisionTests
{
    private static Net Perceptron(ElementType type)
    {
        var net = new Net(type) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Linear(net.Input("x", "N", 5), 5, 8, "a");
        x = net.Add(x, net.Linear(net.Relu(net.Linear(x, 8, 12, "b")), 12, 8, "c"));
        net.Output(net.Linear(x, 8, 4, "head", bias: false));
        return net;
    }

    private static Net Convolutions(ElementType type)
    {
        var net = new Net(type) { Runs = { new() { ["N"] = 2 } } };
        string x = net.Relu(net.Conv(net.Input("x", "N", 3, 6, 6), 3, 6, name: "a"));
        x = net.Add(x, net.Conv(net.Relu(net.Conv(x, 6, 8, name: "b")), 8, 6, name: "c"));
        net.Output(net.Conv(x, 6, 4, kernel: 1, name: "head"));
        return net;
    }

    private static MorphStep[] Steps(bool convolutions) =>
    [
        Check.Widen("*", "x1.5"), Check.Deepen("b", method: DeepenMethod.Identity), Check.Widen("b", "+3", WidenMethod.Zero), Check.Widen("a", "+2", WidenMethod.Opposed),
        .. convolutions ? [Check.Kernel("*", "+2")] : (MorphStep[])[Check.Deepen("head", method: DeepenMethod.Identity)],
    ];

    public static TheoryData<ElementType, bool> Models => new MatrixTheoryData<ElementType, bool>(
        [ElementType.BFloat16, ElementType.Float16, ElementType.Float32, ElementType.Float64], [false, true]);

    [Theory]
    [MemberData(nameof(Models))]
    public void WrittenWeightsAreTheExactOnesRoundedOnce(ElementType type, bool convolutions)
    {
        Net net = convolutions ? Convolutions(type) : Perceptron(type);
        MorphResult result = Morpher.Morph(net.Model, Steps(convolutions), TestContext.Current.CancellationToken);
        Assert.All(result.Steps, step => Assert.NotEmpty(step.Changes));
        ModelProto child = Check.Written(result.Child);
        double unit = type switch { ElementType.BFloat16 => 1.0 / 256, ElementType.Float16 => 1.0 / 2048, ElementType.Float32 => 1.0 / (1 << 24), _ => Math.ScaleB(1, -53) };
        int changed = 0;
        foreach (Constant constant in new ModelGraph(result.Child).Constants.Where(c => c.Type.IsScalable()))
        {
            Assert.Equal(type, constant.Type);
            TensorProto written = child.Graph.Initializer.Single(i => i.Name == constant.Name);
            double[] values = Numbers.Decode(type, written.RawData.ToByteArray());
            double[] exact = new WeightEvaluator().EvaluateUnrounded(result.Child.Data(constant.Tensor));
            double scale = exact.Max(Math.Abs);
            changed += result.Child.Data(constant.Tensor) is StoredWeight ? 0 : 1;
            // What is drawn is rounded when it is drawn and again when it is scaled and added.
            Assert.All(exact.Zip(values), pair => Assert.InRange(Math.Abs(pair.First - pair.Second), 0, 2.01 * unit * Math.Abs(pair.First) + 0.05 * unit * scale));
        }

        Assert.True(changed >= 6);
    }

    [Theory]
    [MemberData(nameof(Models))]
    public void ChildrenComputeWhatTheirParentsDo(ElementType type, bool convolutions)
    {
        Net net = convolutions ? Convolutions(type) : Perceptron(type);
        MorphResult result = Morpher.Morph(net.Model, Steps(convolutions), TestContext.Current.CancellationToken);
        ElementType run = type == ElementType.Float64 && !convolutions ? ElementType.Float64 : ElementType.Float32;
        ModelProto parent = In(run, net.Proto), child = In(run, Check.Written(result.Child));
        string output = net.Proto.Graph.Output[0].Name;
        var feeds = Check.Feeds(net, net.Runs[0], 4).ToDictionary(f => f.Key, f => f.Value with { Type = run });
        double[] expected = Check.Run(parent, feeds)[output].Values, actual = Check.Run(child, feeds)[output].Values;
        double scale = expected.Max(Math.Abs);
        double tolerance = type switch { ElementType.BFloat16 => 0.02, ElementType.Float16 => 0.002, _ when run == ElementType.Float64 => 1e-12, _ => 1e-5 };
        Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, tolerance * scale));
    }

    /// <summary>float64 has no convolution in ONNX Runtime, nor bfloat16 a matrix product: the model is morphed, and verification says what it cannot run.</summary>
    [Theory]
    [InlineData(ElementType.BFloat16, "MatMul")]
    [InlineData(ElementType.BFloat16, "Conv")]
    [InlineData(ElementType.Float64, "Conv")]
    public void VerificationSaysWhatCannotBeRun(ElementType type, string operation)
    {
        string folder = Directory.CreateTempSubdirectory().FullName;
        try
        {
            string parent = Path.Combine(folder, "parent.onnx"), child = Path.Combine(folder, "child.onnx");
            File.WriteAllBytes(parent, (operation == "Conv" ? Convolutions(type) : Perceptron(type)).Proto.ToByteArray());
            var job = new MorphJob { Parent = parent, Output = child, Recipe = OnnxMorph.Recipes.Recipe.Parse("steps:\n  - widen: '*'\n    size: x1.5", "r") };
            string message = Assert.Throws<UnreadableModelException>(() => job.Run(TestContext.Current.CancellationToken)).Message;
            Assert.Contains($"'{operation}'", message);
            Assert.Contains("--no-verify", message);
            Assert.False(File.Exists(child));

            job = new MorphJob { Parent = parent, Output = child, Recipe = job.Recipe, Verify = null };
            job.Run(TestContext.Current.CancellationToken);
            Assert.All(OnnxReader.Read(child).Proto.Graph.Initializer, i => Assert.Equal((int)type, i.DataType));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static ModelProto In(ElementType type, ModelProto model)
    {
        ModelProto result = model.Clone();
        foreach (TensorProto tensor in result.Graph.Initializer.Where(i => ((ElementType)i.DataType).IsScalable()))
        {
            tensor.RawData = ByteString.CopyFrom(Numbers.Encode(type, Numbers.Decode((ElementType)tensor.DataType, tensor.RawData.ToByteArray())));
            tensor.DataType = (int)type;
        }

        foreach (ValueInfoProto value in result.Graph.Input.Concat(result.Graph.Output).Where(v => v.Type is not null))
            value.Type.TensorType.ElemType = (int)type;
        result.Graph.ValueInfo.Clear();
        return result;
    }
}
