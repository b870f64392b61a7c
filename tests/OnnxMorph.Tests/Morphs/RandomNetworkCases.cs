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
}
