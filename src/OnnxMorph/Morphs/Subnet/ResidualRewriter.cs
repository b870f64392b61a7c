using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Residual blocks. Behind a layer: <c>y → y + F(y)</c> with a module F of random layers whose last ones are 0; these have gradients at
/// once, the others from the first step on. Activations behind the last layers start as the identity, since few have φ(0) = 0 and a
/// gradient there. At a sum with a skip: <c>s → ½·s + M(s)</c>, a trainable factor for each channel beside a
/// module M that computes ½·s (Wei, Wang, Chen 2017).
/// </summary>
internal sealed class ResidualRewriter : BehindRewriter
{
    private const long Kernel = 3;

    /// <summary>F or M; null for two layers with an activation between.</summary>
    public required Module? Module { get; init; }

    public override Rewrite Prepare(LayerSite site)
    {
        ImmutableArray<long> own = site.Layer.SpatialAxes > 0 ? [.. site.Axes.In(site.Layer.WeightInput).Skip(2).Select(axis => axis.Size)] : [];
        Module module = (Module ?? CommonModules.Chain(own.IsEmpty ? [1] : site.Neighbourhood(Kernel), 2)).At(own, site.Channels, site.Channels);
        site.RequireSeeing(module);
        SortedSet<int> last = module.LastLayers(module.Result), tail = module.Tail(module.Result);
        if (last.Contains(0))
            throw new SubnetRefusedException("the module has a path without layers, which cannot start at 0");
        long[] widths = ModuleWidths.Of(module, site.Channels, site.Channels, site.Form.Groups);
        return sharing => PutBehind(site, sharing, (builder, value) =>
        {
            var layers = module.Layers.ToDictionary(v => v, v => new WeightedLayer(Fresh(builder.Form, v, value), Main: false));
            string added = new ModuleWriter(module, layers, site.Channels) { Parametric = tail }.Write(builder, value);
            return builder.Add("Add", value, added);
        });

        LinearOperator Fresh(LayerForm form, int value, string name)
        {
            var layer = (ModuleLayer)module.Producer(value);
            long inputs = widths[layer.Input] / form.Groups, outputs = widths[value] / form.Groups;
            double fanIn = inputs * layer.Kernel!.Value.Aggregate(1.0, (a, b) => a * b);
            Fill he = new(FillKind.Normal, Math.Sqrt(2 / fanIn), Seeds.For(Seed, $"residual {name} {value}"));
            return form.Filled(outputs, inputs, layer.Kernel.Value, last.Contains(value) ? Fill.Zero : he);
        }
    }

    /// <summary>The rewrite of a sum whose one operand is a skip; null where the node is no sum of two values.</summary>
    /// <exception cref="SubnetRefusedException">Neither operand is a skip that can be split.</exception>
    public override Rewrite? PrepareOther(NodeAxes axes)
    {
        NodeProto node = axes.Node;
        if (node.OpType != "Add" || !ModelGraph.IsStandard(node) || axes.IsWeight(0) || axes.IsWeight(1) || !Analysis.Shapes.Type(node.Output[0]).IsScalable()
            || !axes.HasOutput(0) || !axes.In(0).Select(a => a.Size).SequenceEqual(axes.In(1).Select(a => a.Size)))
            return null;
        int operand = IsSkip(node, 0) ? 0 : IsSkip(node, 1) ? 1 : throw new SubnetRefusedException("neither of its operands is a skip: a value that the other is made of");
        LayerForm form = Form(axes, operand);
        long channels = axes.In(operand)[form.ChannelAxis].Size;
        Module module = (Module ?? CommonModules.Chain([1], 2)).At(form.PointKernel, channels, channels);
        string name = ModelGraph.NameOf(node);
        IReadOnlyDictionary<int, WeightedLayer> layers = ModuleWeights.Of(
            module, form.Identity(channels).Times(0.5), main: false, form, evenShares: false, Seeds.For(Seed, $"skip {name}"));
        return sharing =>
        {
            string skip = node.Input[operand];
            var builder = new SubnetBuilder(Graph, Editor, name, form, NetworkActivation.Behind(Graph, node.Output[0]), sharing.Initializers);
            string kept = builder.Add("Mul", skip, builder.Numbers("kept", channels, 0.5));
            string changed = new ModuleWriter(module, layers, channels).Write(builder, skip);
            node.Input[operand] = builder.Add("Add", kept, changed);
            Editor.InsertBefore(node, builder.Nodes);
            return [.. builder.Nodes, node];
        };
    }

    private bool IsSkip(NodeProto sum, int operand) =>
        Graph.Producer(sum.Input[1 - operand]) is { } other
        && Ancestors.Of(Graph, Graph.Nodes[other]).Append(other).Any(n => Graph.Nodes[n].Input.Contains(sum.Input[operand]));

    // The channels lie on the one axis that layers make: axis 1 of images and sequences, or the last.
    private LayerForm Form(NodeAxes axes, int operand)
    {
        AxisExpression[] value = axes.In(operand);
        int[] made = [.. Enumerable.Range(0, value.Length).Where(axis => Analysis.Solver.Leaves(value[axis]).Any())];
        ElementType type = Analysis.Shapes.Type(axes.Node.Output[0]);
        return made is [1] && value.Length > 2 ? new LayerForm(LayerKind.Conv, type, value.Length, 1)
            : made is [int last] && last == value.Length - 1 ? new LayerForm(LayerKind.MatMul, type, value.Length, 1)
            : throw new SubnetRefusedException("which axis of its skip holds the channels is not known");
    }
}
