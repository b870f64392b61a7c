using OnnxMorph.Morphs;
using OnnxMorph.Morphs.Subnet;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>Small nets with a layer 'a', and what subnets promise about it.</summary>
internal static class SubnetNets
{
    /// <summary>A net on images of sizes that callers choose, the smallest among them.</summary>
    public static Net Image(Func<Net, string, string> layer, int dimensions = 2, int opset = 17)
    {
        string[] axes = [.. new[] { "H", "W", "D" }.Take(dimensions)];
        var net = new Net(opset: opset) { Runs = { new(axes.Select((a, i) => KeyValuePair.Create(a, 4L + i))), new(axes.Select(a => KeyValuePair.Create(a, 1L))) } };
        net.Output(layer(net, net.Input("x", [2, 4, .. axes])));
        return net;
    }

    /// <summary>A net on rows of 4 numbers.</summary>
    public static Net Dense(Func<Net, string, string> layer, ElementType type = ElementType.Float64, int opset = 17)
    {
        var net = new Net(type, opset) { Runs = { new() { ["N"] = 3 } } };
        net.Output(layer(net, net.Input("x", "N", 4)));
        return net;
    }

    public static MorphStep Subnet(string selector, SubnetOptions options, ulong seed = 1)
    {
        var pass = new SubnetPass(Selector.Parse(selector), options, seed);
        return new MorphStep($"--subnet {selector}={options.Kind}", Selector.Parse(selector), pass.Apply);
    }

    /// <summary>The child computes the same, and layer 'a' was rewritten.</summary>
    public static MorphResult Fits(Net net, SubnetOptions options, bool inDouble = true)
    {
        MorphResult result = Check.Morph(net, inDouble, Subnet("*", options));
        Assert.True(result.Steps[0].Changes.Count > 0, string.Join(" | ", result.Steps[0].Refused));
        Assert.Empty(result.Steps[0].Refused);
        return result;
    }
}
