using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

public class SelectorTests
{
    [Theory]
    [InlineData("*", "anything", true)]
    [InlineData("/layer?/*", "/layer3/conv", true)]
    [InlineData("/layer?/*", "/layer10/conv", false)]
    [InlineData("conv1", "conv1", true)]
    [InlineData("conv1", "Conv1", false)]
    [InlineData("conv1", "conv12", false)]
    [InlineData("layers:conv*", "conv12", true)]
    [InlineData("model/conv:0", "model/conv:0", true)]
    [InlineData("a[0]", "a[0]", true)]
    [InlineData(@"scope\conv", @"scope\conv", true)]
    [InlineData(@"scope\\conv", @"scope\conv", true)]
    [InlineData(@"two\*", "two*", true)]
    [InlineData(@"two\*", "two", false)]
    [InlineData("two*", "two*", true)]
    public void Names(string selector, string name, bool matches) =>
        Assert.Equal(matches, Selector.Parse(selector).Matches(new NodeProto { Name = name }));

    [Fact]
    public void ANodeWithoutANameIsCalledAfterItsOutput()
    {
        var node = new NodeProto { OpType = "Conv" };
        node.Output.AddRange(["", "y"]);
        Assert.True(Selector.Parse("y").Matches(node));
    }

    [Fact]
    public void BlocksAreFoundInTheWholeGraph()
    {
        Assert.True(Selector.Parse("blocks:*").SelectsBlocks);
        Assert.False(Selector.Parse("blocks*").SelectsBlocks);
        Assert.Throws<UsageException>(() => Selector.Parse("blocks:*").Matches(new NodeProto { Name = "a" }));
    }

    [Theory]
    [InlineData("")]
    [InlineData("layers:")]
    [InlineData("blocks:")]
    public void NoSelector(string text) => Assert.Throws<UsageException>(() => Selector.Parse(text));

    [Theory]
    [InlineData("96", 64, 96)]
    [InlineData("x1.5", 64, 96)]
    [InlineData("x1.5", 3, 5)]
    [InlineData("x1", 3, 3)]
    [InlineData("+2", 64, 66)]
    public void Sizes(string text, long from, long to)
    {
        SizeRequest size = SizeRequest.Parse(text);
        Assert.Equal(to, size.Apply(from));
        Assert.Equal(text, size.ToString());
    }

    [Theory]
    [InlineData("")]
    [InlineData("x")]
    [InlineData("x0.5")]
    [InlineData("-3")]
    [InlineData("1.5")]
    [InlineData("+1.5")]
    [InlineData("x1,5")]
    [InlineData("0")]
    [InlineData("xNaN")]
    [InlineData("1e3")]
    [InlineData("99999999999")]
    public void NoSize(string text) => Assert.Throws<UsageException>(() => SizeRequest.Parse(text));
}
