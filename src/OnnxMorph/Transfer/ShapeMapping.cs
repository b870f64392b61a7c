using System.Text.Json.Serialization;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>How a tensor becomes one of another shape.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<TransferOperator>))]
public enum TransferOperator
{
    /// <summary>This project's: one map for each channel space, shared by all tensors that touch it, shares for what is summed over copies.</summary>
    [JsonStringEnumMemberName("maps")]
    Maps,

    /// <summary>DPIAT's: the middle of longer axes; into the middle of shorter ones, where the rest keeps its own numbers.</summary>
    [JsonStringEnumMemberName("clip")]
    Clip,

    /// <summary>DPIAT's: the outputs, then the inputs with the largest L1 norm, in their order; shorter axes lead.</summary>
    [JsonStringEnumMemberName("magnitude")]
    Magnitude,

    /// <summary>DPIAT's: as clip, and what clip leaves to the target is drawn from the source's slices.</summary>
    [JsonStringEnumMemberName("full")]
    Full,
}

/// <summary>DPIAT's operators: each tensor for itself, axis by axis (METHODS.md §4).</summary>
internal sealed class ShapeMapping : WeightMapping
{
    private readonly AnalysedModel _target;
    private readonly TransferOperator _kind;
    private readonly WeightEvaluator _evaluator;
    private readonly ulong _seed;

    // By the layers' nodes, the weights whose magnitudes rank the channels of all their tensors.
    private readonly Dictionary<(int, int), UseMatch> _weights = [];
    private readonly Dictionary<(UseMatch Weights, int Outputs), int[]> _outputs = [];

    /// <summary>A mapping by shape.</summary>
    /// <param name="source">Where weights come from.</param>
    /// <param name="target">Where they go.</param>
    /// <param name="matches">What goes where.</param>
    /// <param name="kind">The operator: not <see cref="TransferOperator.Maps"/>, which is <see cref="ChannelMapping"/>.</param>
    /// <param name="evaluator">Evaluates the weights that magnitudes are measured on.</param>
    /// <param name="seed">Seed of slices that are drawn.</param>
    public ShapeMapping(AnalysedModel source, AnalysedModel target, IEnumerable<UseMatch> matches, TransferOperator kind, WeightEvaluator evaluator, ulong seed)
        : base(source)
    {
        (_target, _kind, _evaluator, _seed) = (target, kind, evaluator, seed);
        foreach (UseMatch match in matches)
            _weights.TryAdd(match.Nodes, match);
    }

    /// <inheritdoc/>
    public override WeightExpression Map(Constant to, UseMatch match, Constant from)
    {
        WeightExpression data = Data(from, match);
        int rank = data.Shape.Length;
        if (to.Shape.Count != rank)
            throw new TransferRefusedException($"it has {to.Shape.Count} axes, and {rank} in the source");
        var maps = new AxisMap[rank];
        var start = new long[rank];

        // Outputs first: which inputs are largest is asked of the outputs that stay.
        foreach (int axis in Enumerable.Range(0, rank).OrderBy(axis => axis != match.OutputAxis))
        {
            (int a, int b) = ((int)data.Shape[axis], (int)to.Shape[axis]);
            bool ranked = _kind == TransferOperator.Magnitude && axis < 2;
            int[] indices = a > b ? ranked ? Largest(match, data, maps, axis, b) : [.. Enumerable.Range((a - b) / 2, b)]
                : a < b && _kind == TransferOperator.Full ? Filled(a, b, $"{to.Name} axis {axis}")
                : [.. Enumerable.Range(0, a)];
            maps[axis] = AxisMap.Pick(a, 0, indices);
            start[axis] = ranked ? 0 : (b - indices.Length) / 2;
        }

        WeightExpression inner = data.Map([.. maps], Fill.Zero);
        return inner.Shape.SequenceEqual(to.Shape) ? inner : new PlacedWeight(_target.Graph.Model.Data(to.Tensor), inner, [.. start]);
    }

    // The source in the middle, drawn indices of it around.
    private int[] Filled(int a, int b, string name)
    {
        var random = new Random(unchecked((int)Seeds.For(_seed, name)));
        return [.. Enumerable.Range(0, b).Select(i => i - (b - a) / 2 is var own && own >= 0 && own < a ? own : random.Next(a))];
    }

    // The indices with the largest L1 norms: of outputs those of the layer's weights, whose biases and norms go with them.
    private int[] Largest(UseMatch match, WeightExpression data, AxisMap?[] maps, int axis, int count)
    {
        if (axis != match.OutputAxis)
            return Largest(data.Map([.. maps.Select((map, i) => i == match.OutputAxis ? map : null)], Fill.Zero), axis, count);
        UseMatch weights = _weights[match.Nodes];
        WeightExpression ranking = Data(Source.Graph.ConstantOf(Source.Graph.Nodes[weights.Source.Node].Input[weights.Source.Input])!, weights);
        if (ranking.Shape[weights.OutputAxis] != data.Shape[axis])
            return Largest(data, axis, count);
        if (!_outputs.TryGetValue((weights, count), out int[]? largest))
            _outputs[(weights, count)] = largest = Largest(ranking, weights.OutputAxis, count);
        return largest;
    }

    private int[] Largest(WeightExpression data, int axis, int count) => ChannelRule.Most([.. _evaluator.Measure(data, axis).Select(m => m.AbsoluteSum)], count);
}
