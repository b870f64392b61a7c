using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// The way from a constant to a layer that reads it through nodes which only move or convert elements (Identity, Cast,
/// Transpose, Reshape, quantisation, …). Maps of the axes that the layer sees become maps of the constant's own axes, and the nodes in
/// between follow: <c>constant → Transpose → Reshape [o, i, k] → layer</c>.
/// </summary>
internal sealed class WeightPath
{
    private readonly List<(int Node, long[] Target)> _reshaped = [];

    private WeightPath(Use use, AxisMap?[] maps)
    {
        Use = use;
        Maps = maps;
    }

    /// <summary>Where the constant is read.</summary>
    public Use Use { get; private set; }

    /// <summary>The maps of the constant's axes.</summary>
    public AxisMap?[] Maps { get; private set; }

    /// <summary>The constant.</summary>
    public Constant Constant { get; private set; } = null!;

    /// <summary>What stands for 0 in the constant: the zero point where it is quantised.</summary>
    public long Zero { get; private set; }

    /// <summary>New sizes of the values on the way.</summary>
    public Dictionary<string, long[]> Sizes { get; } = [];

    /// <summary>
    /// The way to the constant behind the layer's input <paramref name="use"/>, whose axes get <paramref name="maps"/>; null
    /// with the reason where there is none that can be followed.
    /// </summary>
    public static WeightPath? Find(AxisAnalysis analysis, Use use, AxisMap?[] maps, out string why)
    {
        var path = new WeightPath(use, maps);
        while (true)
        {
            string value = analysis.Graph.Nodes[path.Use.Node].Input[path.Use.Input];
            why = "its weight is computed by other nodes";
            if (analysis.Graph.ConstantOf(value) is { } constant)
            {
                path.Constant = constant;
                return path;
            }

            if (analysis.Graph.Producer(value) is not { } producer || !path.TryPass(analysis, producer, value, ref why))
                return null;
        }
    }

    private bool TryPass(AxisAnalysis analysis, int producer, string value, ref string why)
    {
        NodeProto node = analysis.Graph.Nodes[producer];
        if (!ModelGraph.IsStandard(node) || analysis.Shapes.Dims(value) is not { } output)
            return false;
        long[] sizes = [.. output.Select((size, axis) => Maps[axis]?.Size ?? size)];
        switch (node.OpType)
        {
            case "Identity" or "Cast":
                break;
            case "QuantizeLinear" or "DequantizeLinear":
                if (analysis.Node(producer) is not { } quantised || QuantizeRule.ZeroPoint(quantised) is not { } zero || QuantizeRule.Scales(quantised, Maps))
                {
                    why = $"its weight is quantised by {ModelGraph.Describe(node)} with scales or zero points of more than output channels";
                    return false;
                }

                Zero = node.OpType == "DequantizeLinear" ? zero : 0;
                break;
            case "Transpose":
                long[] order = node.Attribute.FirstOrDefault(a => a.Name == "perm")?.Ints.ToArray()
                    ?? [.. Enumerable.Range(0, output.Length).Reverse().Select(axis => (long)axis)];
                Maps = [.. Enumerable.Range(0, output.Length).Select(axis => Maps[Array.IndexOf(order, axis)])];
                break;
            case "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze":
                if ((analysis.Shapes.Dims(node.Input[0]) ?? analysis.Graph.ConstantOf(node.Input[0])?.Shape) is not { } input
                    || Unshaped(input, output, Maps) is not { } maps)
                {
                    why = $"its weight is reshaped by {ModelGraph.Describe(node)} across the axes of the kernel";
                    return false;
                }

                _reshaped.Add((producer, sizes));
                Maps = maps;
                break;
            default:
                return false;
        }

        if (analysis.Graph.Uses(value).Count > 1 || analysis.Graph.IsReadElsewhere(value))
        {
            why = $"the result of {ModelGraph.Describe(node)}, through which its weight runs, is read by others too";
            return false;
        }

        Sizes[value] = sizes;
        Use = new Use(producer, 0);
        return true;
    }

    /// <summary>Lets the nodes on the way follow the new sizes: all that give axes other sizes become Reshape nodes.</summary>
    public void Rewrite(ModelGraph graph, GraphEditor editor)
    {
        foreach ((int index, long[] target) in _reshaped)
        {
            NodeProto node = graph.Nodes[index];
            node.OpType = "Reshape";
            node.Attribute.Clear();
            const int FirstWithInput = 5;
            if (graph.Opset("") < FirstWithInput)
            {
                GraphEditor.SetInts(node, "shape", target);
                continue;
            }

            string sizes = editor.AddInts($"{ModelGraph.NameOf(node)}_sizes", ElementType.Int64, target, [target.Length]);
            if (node.Input.Count > 1)
                editor.Rewire(new Use(index, 1), sizes);
            else
                node.Input.Add(sizes);
        }
    }

    /// <summary>
    /// The maps of the axes <paramref name="input"/> that act as <paramref name="maps"/> do once the tensor is reshaped to
    /// <paramref name="output"/>; null where a mapped axis is made of parts of several.
    /// </summary>
    internal static AxisMap?[]? Unshaped(IReadOnlyList<long> input, IReadOnlyList<long> output, IReadOnlyList<AxisMap?> maps)
    {
        if (input.Count == 0 || input.Contains(0))
            return null;
        var result = new AxisMap?[input.Count];
        // Walks both lists in step: each run of axes of the one side holds the same elements as a run of the other. Axes of
        // size 1 join the run in front of them.
        for (int i = 0, o = 0; i < input.Count || o < output.Count;)
        {
            int firstIn = i, firstOut = o;
            long left = 1, right = 1;
            do
            {
                if (i < input.Count && (left <= right || o == output.Count))
                    left *= input[i++];
                else
                    right *= output[o++];
            }
            while (left != right || (left == 1 && i < input.Count));
            while (i < input.Count && input[i] == 1)
                i++;
            while (o < output.Count && output[o] == 1)
                o++;

            if (Enumerable.Range(firstOut, o - firstOut).All(axis => maps[axis] is null))
                continue;
            int[] carriers = [.. Enumerable.Range(firstIn, i - firstIn).Where(axis => input[axis] > 1)];
            if (carriers.Length > 1)
                return null;
            result[carriers.Length == 1 ? carriers[0] : firstIn] = Enumerable.Range(firstOut, o - firstOut)
                .Select(axis => maps[axis] ?? AxisMap.Identity(checked((int)output[axis]))).Aggregate(AxisMap.Kronecker);
        }

        return result;
    }
}
