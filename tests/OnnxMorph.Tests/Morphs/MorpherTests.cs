using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Verification;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>Steps that go wrong: whatever a step does to the graph, its result is checked before it is kept.</summary>
public sealed class MorpherTests
{
    private static RefusedException Refused(Net net, Action<NodeProto> spoil)
    {
        var step = new MorphStep("a step", Selector.Parse("*"), analysis =>
        {
            foreach (NodeProto node in analysis.Graph.Nodes)
                spoil(node);
            var report = new StepReport("a step", Exactness.BitExact);
            report.Changes.Add(new Change("something", "things", 1, 2));
            return report;
        });
        return Assert.Throws<RefusedException>(() => Morpher.Morph(net.Model, [step], TestContext.Current.CancellationToken));
    }

    [Fact]
    public void GraphsThatDoNotLoadAreRefused()
    {
        var net = new Net();
        net.Output(net.Op("Relu", [net.Input("x", 2, 3)], name: "a"));
        RefusedException e = Refused(net, node => node.OpType = "Rellu");
        Assert.Contains("'a step'", e.Message);
        Assert.Contains("Rellu", e.Message);
        Assert.Contains("select fewer layers", e.Message);
    }

    [Fact]
    public void SizesThatNobodyPromisedAreRefused()
    {
        var net = new Net();
        net.Output(net.Op("Conv", [net.Input("x", 1, 1, 8, 8), net.Weight([1, 1, 3, 3])], name: "a"));
        RefusedException e = Refused(net, node => GraphEditor.SetInts(node, "pads", 1, 1, 1, 1));
        Assert.Contains("Conv 'a'", e.Message);
        Assert.Contains("1×1×8×8 instead of 1×1×6×6", e.Message);
    }

    // Shapes are evaluated at a batch of 2 first and of 3 then.
    [Fact]
    public void SizesAreCheckedAtEveryChoiceOfTheCallersSizes()
    {
        var net = new Net();
        string x = net.Input("x", "N", 6);
        string sizes = net.Shape(net.Size(x, 0), 6), two = net.Ints(2, 6);
        net.Output(net.Op("Expand", [net.Weight([1, 6]), sizes], name: "a"));
        RefusedException e = Refused(net, node =>
        {
            if (node.OpType == "Expand")
                node.Input[1] = two;
        });
        Assert.Contains("2×6 instead of 3×6", e.Message);
    }

    // Both axes of a Gram matrix are channels: what one step adds along either is not what the step before made of the other.
    [Fact]
    public void StepsAfterARelationWasLostGoOn()
    {
        var net = new Net();
        string x = net.Conv(net.Input("x", 3, 2, 6), 2, 4, 3, name: "conv", dimensions: 1);
        string gram = net.Op("MatMul", [x, net.Op("Transpose", [x], new { perm = new long[] { 0, 2, 1 } })], name: "gram");
        net.Output(net.Linear(net.Op("Flatten", [gram]), 16, 3));
        MorphResult result = Check.Morph(net, Check.Widen("conv", "x1.5"), Check.Widen("conv", "+3", WidenMethod.Zero, side: ZeroSide.Consumer), Check.Widen("conv", "x1.25"));
        Assert.Equal([6L, 9L, 11L], result.Steps.Select(s => s.Changes[0].After));
        Assert.Contains(gram, result.Unstated);
        Assert.DoesNotContain(gram, result.Relations.Keys);
        Assert.Contains(x, result.Relations.Keys);
    }
}
