using Google.Protobuf;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Recipes;
using OnnxMorph.Shapes;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Testing;

/// <summary>Random steps of every kind in <see cref="StepKinds.All"/>, with random options, for one network.</summary>
internal sealed class RandomSteps(Random random, Net net, string folder)
{
    private static readonly string[] s_weighted = [.. StepKinds.All.Select(k => k.Name), "widen", "subnet"];

    private readonly Lazy<string[]> _blocks = new(() =>
        [.. ModelStructure.Of(AxisAnalysis.Of(new ModelGraph(net.Model), ShapeEvaluator.Evaluate(net.Model))).Sections.Select(s => s.Path)]);

    /// <summary>A step, one that means something: options that do not go together are drawn again.</summary>
    public SeededStep Next()
    {
        while (true)
        {
            string name = Any(s_weighted);
            StepKind kind = StepKinds.All.Single(k => k.Name == name);
            NodeProto[] layers = [.. net.Proto.Graph.Node.Where(n => n.OpType is "Conv" or "ConvTranspose" || (name != "kernel" && n.OpType is ("MatMul" or "Gemm")))];
            if (layers.Length == 0)
                continue;
            var options = kind.Options.Where(o => o.Required || random.Next(3) == 0).ToDictionary(o => o.Name, Text);
            var step = new SeededStep(new StepSpec(name, Selector(layers), options), (ulong)random.Next());
            try
            {
                _ = step.Step;
                return step;
            }
            catch (UsageException)
            {
                continue;
            }
        }
    }

    private T Any<T>(params IReadOnlyList<T> list) => list[random.Next(list.Count)];

    private string Selector(NodeProto[] layers)
    {
        int draw = random.Next(16);
        if (draw < 8)
            return "*";
        if (draw < 10 && _blocks.Value is { Length: > 0 } blocks)
            return random.Next(3) == 0 ? "blocks:*" : $"blocks:{Any(blocks)}";
        return ModelGraph.NameOf(Any(draw < 14 ? layers : [.. net.Proto.Graph.Node]));
    }

    private string Text(StepOption option) => option.Form switch
    {
        OptionForm.Choice => Any(option.Choices),
        OptionForm.Size => Any("x1.5", "x2", "+1", "+3", "x4"),
        OptionForm.KernelSize => Any("+1", "+2", "3", "+0x+2", "4x1", "+1x+0x+2"),
        OptionForm.Number => $"{random.Next(1, 4)}",
        _ => option.Name switch
        {
            "module" => Module(depth: 2),
            "from" => ModelGraph.NameOf(Any(net.Proto.Graph.Node)),
            "kernels" => Any("3,3", "3,1", "1,3", "4,2", "3x4,2x1"),
            "calibrate" => Samples(),
            _ => throw new InvalidOperationException($"No way to draw a {option.Name}."),
        },
    };

    // Only layers that others follow have widths of their own: most modules then end in as many channels as the layer.
    private string Module(int depth, bool last = true)
    {
        if (depth == 0 || random.Next(4) == 0)
            return last ? Any("id", "layer", "1", "3x3") : Any("id", "layer", "1", "1:x2", "1:+1", "1:+3", "layer:x1.5");
        char join = Any(',', ',', '|', '|', '&');
        int parts = random.Next(2, 4);
        return $"({string.Join(join, Enumerable.Range(1, parts).Select(part => Module(depth - 1, join != ',' ? last : last && part == parts)))})";
    }

    // A test_data_set folder.
    private string Samples()
    {
        string path = Path.Combine(folder, "samples");
        Directory.CreateDirectory(path);
        int input = 0;
        foreach ((string name, Array value) in Check.Feeds(net, net.Runs[0], seed: 7))
        {
            int next = 0;
            TensorProto tensor = value.Type == ElementType.Int64 ? Net.IntTensor(name, value.Shape, [.. value.Values.Select(v => (long)v)])
                : Net.Tensor(name, value.Type, value.Shape, () => value.Values[next++]);
            File.WriteAllBytes(Path.Combine(path, $"input_{input++}.pb"), tensor.ToByteArray());
        }

        return path;
    }
}
