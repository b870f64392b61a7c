using OnnxMorph.Onnx;
using OnnxMorph.Shapes;
using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Shapes;

public sealed class ShapeEvaluatorTests
{
    /// <summary>Two lengths that callers choose may be equal by chance in one evaluation, but not in both.</summary>
    [Fact]
    public void SizesOfDifferentNamesAreToldApart()
    {
        var net = new Net();
        string x = net.Relu(net.Input("x", "N", "T", 6)), y = net.Relu(net.Input("y", "N", "S", 6));
        net.Output(x);
        net.Output(y);
        ShapeTable shapes = ShapeEvaluator.Evaluate(net.Model);
        Assert.NotEqual(shapes.Other!.Dims(x)![1], shapes.Other.Dims(y)![1]);
        Assert.NotEqual(shapes.Dims(x)![1], shapes.Other.Dims(x)![1]);
        Assert.NotEqual(shapes.Dims(y)![1], shapes.Other.Dims(y)![1]);
        Assert.Equal(shapes.Other.Dims(x)![0], shapes.Other.Dims(y)![0]);
    }

    /// <summary>Where the network adds them, they must be equal all the same.</summary>
    [Fact]
    public void SizesThatMustBeEqualAre()
    {
        var net = new Net();
        string sum = net.Add(net.Input("x", "N", "T", 6), net.Input("y", "N", "S", 6));
        net.Output(sum);
        ShapeTable shapes = ShapeEvaluator.Evaluate(net.Model);
        Assert.Equal(shapes.Other!.Dims("x")![1], shapes.Other.Dims("y")![1]);
        Assert.NotEqual(shapes.Dims(sum)![1], shapes.Other.Dims(sum)![1]);
    }

    /// <summary>Loaded a few nodes at a time, what is computed of sizes in one segment and used in another: the same as all at once.</summary>
    [Theory]
    [InlineData(1)]
    [InlineData(5)]
    public void SegmentsGiveWhatTheWholeGives(int nodes)
    {
        for (int seed = 0; seed < 40; seed++)
        {
            OnnxModel model = new RandomNetwork(seed).Net.Model;
            ShapeTable whole = ShapeEvaluator.Evaluate(model, _ => true, int.MaxValue), parts = ShapeEvaluator.Evaluate(model, _ => true, nodes);
            Same(whole, parts);
            if (whole.Other is { } other)
                Same(other, parts.Other!);
        }

        static void Same(ShapeTable whole, ShapeTable parts)
        {
            foreach (string value in whole.Values)
            {
                Assert.Equal(whole.Dims(value), parts.Dims(value));
                Assert.Equal(whole.Type(value), parts.Type(value));
                Assert.Equal(whole.Ints(value), parts.Ints(value));
            }
        }
    }
}
