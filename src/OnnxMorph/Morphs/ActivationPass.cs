using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// Makes activations parametric, <c>φ(x) → (1−a)·φ(x) + a·x</c> with a trainable a that starts at 0; Relu and LeakyRelu become PRelu
/// with their own slope. One a for each channel where the network tells which axis holds channels, else one for all.
/// </summary>
public sealed class ActivationPass(Selector selector)
{
    /// <summary>Makes the selected activations of the graph that <paramref name="analysis"/> describes parametric, in place.</summary>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var report = new StepReport($"activation {selector}", Exactness.BitExact);
        ModelGraph graph = analysis.Graph;
        var editor = new GraphEditor(graph);
        for (int n = 0; n < graph.Nodes.Count; n++)
        {
            NodeProto node = graph.Nodes[n];
            bool relu = node.OpType is "Relu" or "LeakyRelu" && ModelGraph.IsStandard(node);
            if (!(relu || ParametricActivation.IsMixed(node)) || !selector.Matches(node))
                continue;
            ElementType type = analysis.Shapes.Type(node.Output[0]);
            if (analysis.Node(n) is not { } axes || !axes.HasOutput(0) || !type.IsScalable())
            {
                report.Refused.Add(new Pin(ModelGraph.Describe(node), "ONNX Runtime does not know its shape, or it is not floating-point"));
                continue;
            }

            const double DefaultLeak = 0.01; // LeakyRelu's alpha where the node names none.
            double start = node.OpType != "LeakyRelu" ? 0 : axes.Attribute("alpha")?.F ?? DefaultLeak;
            string name = ModelGraph.NameOf(node);
            var chain = new List<NodeProto>();
            ParametricActivation.Emit(
                chain, graph, name, node.Input[0], relu ? null : new NetworkActivation(node), ShareShape(analysis, axes), type, start,
                (role, make) => editor.AddInitializer($"{name}_{role}", make()));
            // The last new node makes the value under its old name; the old node goes.
            chain[^1].Output[0] = node.Output[0];
            editor.Replace(node, chain);
            report.Activations.Add(new ParametricRewrite(name, [.. chain.Select(c => c.Name)]));
            report.Changes.Add(new Change(ModelGraph.Describe(node), "activation parameters", 0, ShareShape(analysis, axes).Aggregate(1L, (a, b) => a * b)));
        }

        editor.Commit();
        return report;
    }

    // The channel axis is the one axis of the result that layers make; where there is none or several, one share serves all.
    private static ImmutableArray<long> ShareShape(AxisAnalysis analysis, NodeAxes axes)
    {
        AxisExpression[] result = axes.Out(0);
        int[] made = [.. Enumerable.Range(0, result.Length).Where(axis => analysis.Solver.Leaves(result[axis]).Any())];
        return made.Length == 1 ? [result[made[0]].Size, .. Enumerable.Repeat(1L, result.Length - 1 - made[0])] : [1];
    }
}
