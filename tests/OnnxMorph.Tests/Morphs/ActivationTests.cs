using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

public sealed class ActivationTests
{
    private static MorphStep Activation(string selector)
    {
        var parsed = Selector.Parse(selector);
        return new MorphStep($"--activation {selector}", parsed, new ActivationPass(parsed).Apply);
    }

    [Theory]
    [InlineData("Relu")]
    [InlineData("LeakyRelu")]
    [InlineData("Elu")]
    [InlineData("Sigmoid")]
    [InlineData("Tanh")]
    [InlineData("HardSwish")]
    [InlineData("Softplus")]
    public void AParametricActivationStartsAsTheActivation(string activation)
    {
        var net = new Net { Runs = { new() { ["N"] = 3 } } };
        string x = net.Linear(net.Input("x", "N", 4), 4, 6, "a");
        net.Output(net.Linear(net.Op(activation, [x], activation == "LeakyRelu" ? new { alpha = 0.2 } : null, name: "act"), 6, 2, "b"));
        MorphResult result = Check.Morph(net, inDouble: false, Activation("act"), Check.Widen("*", "x1.5"), Check.Deepen("*"));
        Assert.Equal(6, result.Steps[0].Changes.Single().After);
        ParametricRewrite rewrite = Assert.Single(result.Steps[0].Activations);
        Assert.Equal("act", rewrite.Node);
        // The child has the parameter, one value a channel, and it starts at φ: slope 0 or 0.2, share 0.
        TensorProto parameter = result.Child.Proto.Graph.Initializer.Single(t => t.Name is "act_slope" or "act_linear_share");
        Assert.Equal([9L], parameter.Dims);
        byte[] bytes = new WeightEvaluator().Evaluate(result.Child.Data(parameter));
        Assert.All(Enumerable.Range(0, 6), i => Assert.Equal(activation == "LeakyRelu" ? 0.2f : 0f, BitConverter.ToSingle(bytes, 4 * i)));
    }

    [Fact]
    public void SlopesLieAlongTheChannelsOfImages()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Op("Conv", [net.Input("x", "N", 3, 5, 5), net.Weight([4, 3, 3, 3])], name: "conv");
        net.Output(net.Op("GlobalAveragePool", [net.Op("Relu", [x], name: "act")]));
        MorphResult result = Check.Morph(net, inDouble: false, Activation("*"));
        TensorProto slope = result.Child.Proto.Graph.Initializer.Single(t => t.Name == "act_slope");
        Assert.Equal([4L, 1, 1], slope.Dims);
        Assert.DoesNotContain(result.Child.Proto.Graph.Node, n => n.OpType == "Relu");
    }
}
