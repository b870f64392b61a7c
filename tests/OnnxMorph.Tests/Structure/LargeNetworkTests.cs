using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Shapes;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Structure;

/// <summary>
/// Long and deeply nested networks: a chain of a hundred thousand nodes takes two seconds of processor time, and no nesting
/// overflows the stack. Sizes are given here, since ONNX Runtime alone would take minutes to load them.
/// </summary>
public sealed class LargeNetworkTests
{
    private static ModelStructure Of(Func<Net, string, string> build)
    {
        var net = new Net();
        net.Output(build(net, net.Conv(net.Input("image", 1, 2, 2, 2), 2, 2, 1)));
        OnnxModel model = net.Model;
        var values = net.Proto.Graph.Node.SelectMany(n => n.Output).Append("image").ToDictionary(v => v, _ => (ElementType.Float32, (long[]?)[1, 2, 2, 2]));
        return ModelStructure.Of(AxisAnalysis.Of(new ModelGraph(model), new ShapeTable(values, [])));
    }

    private static string Layer(Net net, string x) => net.Relu(net.Conv(x, 2, 2, 1));

    [Fact]
    public void Chain()
    {
        const int Blocks = 4000;
        ModelStructure structure = Of((net, x) =>
        {
            for (int i = 0; i < Blocks; i++)
                x = net.Relu(net.Add(x, net.Conv(Layer(net, x), 2, 2, 1)));
            return net.Conv(x, 2, 2, 1);
        });
        Assert.Equal(Blocks, structure.Blocks.Count(b => b.IsResidual));
        Assert.Single(structure.Stages);
    }

    /// <summary>Skips inside of skips, and one value that is added again and again.</summary>
    [Fact]
    public void Nesting()
    {
        const int Depth = 4000;
        ModelStructure structure = Of((net, x) =>
        {
            var skips = new Stack<string>();
            for (int i = 0; i < Depth; i++)
            {
                skips.Push(x);
                x = Layer(net, x);
            }

            while (skips.TryPop(out string? skip))
                x = Layer(net, net.Add(x, skip));
            return x;
        });
        Assert.Equal(2 * Depth, structure.Sections.SelectMany(s => s.Layers).Select(l => l.Node).Distinct().Count() - 1);

        structure = Of((net, image) =>
        {
            string x = image;
            for (int i = 0; i < Depth; i++)
                x = net.Op("Tanh", [net.Add(net.Conv(x, 2, 2, 1), net.Conv(image, 2, 2, 1))]);
            return x;
        });
        Assert.Equal(2 * Depth, structure.Sections.SelectMany(s => s.Layers).Select(l => l.Node).Distinct().Count() - 1);
    }
}
