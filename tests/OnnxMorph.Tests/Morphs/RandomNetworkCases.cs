using OnnxMorph.Morphs;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>Cases that failed once, shrunk (<see cref="RandomNetworkTests"/>).</summary>
public class RandomNetworkCases
{
    /// <summary>The declared size of a weight behind an Identity went on naming the whole weight, and ONNX Runtime planned memory for that.</summary>
    [Fact]
    public void DeclaredSizesOfWeightsFollow()
    {
        foreach (string kind in new[] { "replicate-concat", "replicate-add", "split-concat", "skip-concat", "stacked" })
        {
            var net = new Net { Runs = { new() { ["N"] = 2 } } };
            string x = net.Op("Conv", [net.Input("x", "N", 3, 4, 4), net.Op("Identity", [net.Weight([6, 3, 1, 1])])]);
            net.Output(net.Op("Conv", [net.Relu(x), net.Weight([2, 6, 1, 1])]));
            net.DeclareSizes();
            RandomCase.Hold(net, ($"subnet * kind={kind}", 1));
        }
    }

    /// <summary>A residual block that ends in an activation with φ(0) ≠ 0 did not start at 0.</summary>
    [Fact]
    public void ResidualBlocksMayEndInActivations()
    {
        var net = new Net(ElementType.Float64);
        net.Output(net.Op("Sigmoid", [net.Op("MatMul", [net.Input("x", 2, 3), net.Weight([3, 4])])]));
        RandomCase.Hold(net, ("subnet * kind=residual module=(1&(layer,1,id))", 1));
        RandomCase.Hold(net, ("subnet * kind=residual module=((1,id)|(1,1))", 1));
    }

    /// <summary>A skip began inside a decomposed GELU; ONNX Runtime fused it and lost the value that the skip reads.</summary>
    [Fact]
    public void SkipsDoNotBeginInsideActivations()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Input("x", "N", 6, 4, 4);
        string cube = net.Op("Mul", [net.Op("Pow", [x, net.Filled(3)]), net.Filled(0.044715)]);
        string tanh = net.Op("Tanh", [net.Op("Mul", [net.Op("Add", [x, cube]), net.Filled(0.7978846)])]);
        string gelu = net.Op("Mul", [net.Op("Mul", [x, net.Filled(0.5)], name: "half"), net.Op("Add", [tanh, net.Filled(1)])], name: "gelu");
        net.Output(net.Op("Conv", [gelu, net.Weight([4, 6, 1, 1])], name: "conv"));
        MorphResult result = Check.Morph(net, SeededStep.Parse("subnet * kind=skip-concat from=half", 1).Step);
        Check.Refused(result, "conv", "inside an activation of several nodes, which ends at 'gelu'");
        RandomCase.Hold(net, ("subnet * kind=skip-concat from=gelu", 1));
    }
}
