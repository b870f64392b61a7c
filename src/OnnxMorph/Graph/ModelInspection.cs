using OnnxMorph.Axes;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Graph;

/// <summary>An input or output of a model; a size that callers choose is its name, or "?".</summary>
public sealed record ValueReport(string Name, string Type, IReadOnlyList<string> Shape);

/// <summary>A layer with weights: its place in the network and what its output channels are made of.</summary>
/// <param name="Name">The node's name, as selectors match it.</param>
/// <param name="Operator">The operator.</param>
/// <param name="Channels">Output channels.</param>
/// <param name="Kernel">Kernel sizes; empty for matrix products.</param>
/// <param name="Groups">Groups of a convolution.</param>
/// <param name="Space">What the output channels are made of, in the names of <see cref="SpaceReport"/>.</param>
public sealed record LayerReport(string Name, string Operator, long Channels, IReadOnlyList<long> Kernel, long Groups, string Space);

/// <summary>A channel space: what changes together when it changes.</summary>
/// <param name="Name">A name that holds within one report.</param>
/// <param name="Size">Channels.</param>
/// <param name="MayChange">Whether it can be widened.</param>
/// <param name="Uniform">Whether only by a whole factor, every channel equally often.</param>
/// <param name="Producers">The layers that make it.</param>
/// <param name="Values">How many values carry it.</param>
/// <param name="Reasons">Why it may not change, or only in some ways.</param>
public sealed record SpaceReport(
    string Name, int Size, bool MayChange, bool Uniform, IReadOnlyList<string> Producers, int Values, IReadOnlyList<string> Reasons);

/// <summary>What a model is made of and where it may change: what <c>inspect</c> prints.</summary>
public sealed record ModelInspection(
    string? Producer, int Opset, int Nodes, long Parameters, IReadOnlyList<ValueReport> Inputs, IReadOnlyList<ValueReport> Outputs,
    ModelStructure Structure, IReadOnlyList<LayerReport> Layers, IReadOnlyList<SpaceReport> Spaces)
{
    /// <summary>Elements of a model's floating-point constants in its main graph.</summary>
    public static long CountParameters(OnnxModel model) =>
        new ModelGraph(model).Constants.Where(c => c.Type.IsScalable()).Sum(c => c.Count);

    /// <summary>Inspects a model.</summary>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load it.</exception>
    public static ModelInspection Of(OnnxModel model)
    {
        (model, ModelGraph graph, AxisAnalysis analysis, ModelStructure structure) = AnalysedModel.Of(model);
        var layers = new List<LayerReport>();
        var producers = new Dictionary<Space, List<string>>();
        for (int n = 0; n < graph.Nodes.Count; n++)
        {
            if (analysis.Node(n) is not { Produced: { } produced } axes)
                continue;
            AxisExpression channels = analysis.Solver.Resolve(produced);
            string name = ModelGraph.NameOf(axes.Node);
            Operators.LinearLayer? layer = axes.Layer;
            long[] kernel = layer is null ? [] : [.. axes.In(layer.WeightInput).TakeLast(layer.SpatialAxes).Select(a => a.Size)];
            layers.Add(new LayerReport(name, axes.Node.OpType, channels.Size, kernel, layer?.Groups ?? 1, channels.ToString()!));
            foreach (Space space in analysis.Solver.Leaves(channels).Select(l => l.Space).Distinct())
            {
                if (!producers.TryGetValue(space, out List<string>? list))
                    producers[space] = list = [];
                list.Add(name);
            }
        }

        // What values carry, not what only a kernel or a table has.
        var carried = new Dictionary<Space, int>();
        foreach ((string value, AxisExpression[] axes) in analysis.Values)
            if (!analysis.IsWeight(value) && analysis.Shapes.Type(value).IsScalable())
                foreach (Space space in axes.SelectMany(analysis.Solver.Leaves).Select(l => l.Space).Distinct())
                    carried[space] = carried.GetValueOrDefault(space) + 1;
        return new ModelInspection(
            model.Proto.HasProducerName ? model.Proto.ProducerName : null, graph.Opset(""), graph.Nodes.Count, CountParameters(model),
            [.. graph.Inputs.Select(Describe)], [.. graph.Proto.Output.Select(Describe)], structure, layers,
            [.. analysis.Solver.Spaces.Where(carried.ContainsKey).Select(space => Describe(space, producers.GetValueOrDefault(space) ?? [], carried[space]))]);
    }

    private static SpaceReport Describe(Space space, List<string> producers, int values)
    {
        bool uniform = space.Uniform is not null && space.Filling is null;
        IEnumerable<Pin> reasons = space.Pins.Count > 0 ? space.Pins
            : ((Pin?[])[space.CopiesOnly, .. uniform ? (Pin?[])[space.UniformReason, space.NoMeans, space.NoZeros] : []]).OfType<Pin>().Distinct();
        return new SpaceReport(space.ToString(), space.Size, space.Pins.Count == 0, uniform, producers, values, [.. reasons.Select(r => r.ToString())]);
    }

    private static ValueReport Describe(ValueInfoProto value) => new(
        value.Name,
        value.Type?.TensorType is { } tensor ? ((ElementType)tensor.ElemType).ToString() : value.Type?.ValueCase.ToString() ?? "?",
        [.. value.Type?.TensorType?.Shape?.Dim.Select(d => d.HasDimValue ? d.DimValue.ToString() : d.HasDimParam && d.DimParam.Length > 0 ? d.DimParam : "?") ?? []]);
}
