using OnnxMorph.Tests.Testing;
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
}
