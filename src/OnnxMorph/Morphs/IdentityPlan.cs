using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Shapes;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// The weights that a copy of a block starts with so that it gives on what it reads, put behind the block itself:
/// <list type="bullet">
/// <item>what ends each residual branch is zero: a norm's scale and bias, a trained scale, or the last layer's weight and bias;</item>
/// <item>layers without a skip are Dirac kernels, and batch norms identities;</item>
/// <item>activations in the way of what is given on are idempotent, and the block's own result, which the copy reads, comes from such
/// an activation (Net2Net, Chen, Goodfellow, Shlens 2016);</item>
/// <item>what moves elements on that way (into windows and out of them) leaves every element in its place in the end.</item>
/// </list>
/// Nothing behind a zero may have a zero derivative there, and no two zeros are multiplied: else the copy would never learn.
/// </summary>
internal sealed class IdentityPlan
{
    /// <summary>f(0) = 0 and f'(0) ≠ 0, or elements are only moved or averaged: a zero passes, and so does its gradient.</summary>
    private static readonly HashSet<string> s_keepsZero =
    [
        "Asin", "Asinh", "Atan", "Atanh", "Celu", "Dropout", "Elu", "Erf", "Gelu", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "PRelu",
        "Selu", "Sin", "Sinh", "Softsign", "Swish", "Tan", "Tanh", "com.microsoft:Gelu", "com.microsoft:QuickGelu",
        "AveragePool", "Cast", "DepthToSpace", "Expand", "Flatten", "GlobalAveragePool", "ReduceMean", "ReduceSum", "Reshape", "Resize",
        "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Upsample",
    ];

    private readonly AxisAnalysis _analysis;
    private readonly ModelGraph _graph;
    private readonly Block _block;
    private readonly HashSet<int> _inside;
    private readonly List<((int Node, int Input) Use, WeightExpression Value)> _starts = [];

    // Nodes that move elements of what is given on, the last first.
    private readonly List<int> _moves = [];

    private IdentityPlan(AxisAnalysis analysis, Block block)
    {
        (_analysis, _graph, _block) = (analysis, analysis.Graph, block);
        _inside = [.. block.Nodes];
    }

    /// <summary>What each input of the copy's nodes that does not start with the block's own weight starts with.</summary>
    public Dictionary<(int Node, int Input), WeightExpression> Starts { get; private set; } = [];

    /// <summary>Why the copy cannot be an identity; null where it can.</summary>
    public string? Refusal { get; private set; }

    /// <summary>Finds the plan for a block whose result has the sizes of what it reads.</summary>
    public static IdentityPlan For(AxisAnalysis analysis, Block block)
    {
        var plan = new IdentityPlan(analysis, block);
        plan.Refusal = plan.Same(block.Exit) ?? plan.Misplaced() ?? plan.Dead();
        foreach (var (use, value) in plan._starts)
            plan.Starts[use] = value;
        return plan;
    }

    /// <summary>
    /// What the constants start with from which the inputs of <see cref="Starts"/> are made, by nodes that only move elements; null, with the reason, where
    /// there is no plan, or an input is made in another way.
    /// </summary>
    public Dictionary<Use, WeightExpression>? ConstantStarts(out string why)
    {
        why = Refusal ?? "";
        if (Refusal is not null)
            return null;
        var starts = new Dictionary<Use, WeightExpression>();
        foreach (((int node, int input), WeightExpression value) in Starts)
        {
            var use = new Use(node, input);
            if (_graph.ConstantOf(_graph.Nodes[node].Input[input]) is not null)
            {
                starts[use] = value;
                continue;
            }

            if (WeightPath.Find(_analysis, use, new AxisMap?[value.Shape.Length], out why) is not { Zero: 0 } path)
                return null;
            ImmutableArray<long> shape = [.. path.Constant.Shape];
            why = $"{ModelGraph.Describe(_graph.Nodes[node])} reads a weight that other nodes make of '{path.Constant.Name}'";
            // A matrix that is the identity is its own transpose.
            if (value is FilledWeight filled && path.Constant.Type.IsScalable())
                starts[path.Use] = new FilledWeight(path.Constant.Type, shape, filled.Fill);
            else if (value is DiracWeight && value.Shape.Length == 2 && shape.SequenceEqual(value.Shape))
                starts[path.Use] = new DiracWeight(path.Constant.Type, shape);
            else
                return null;
        }

        return starts;
    }

    // Makes a value of the copy what the copy reads. Gives the reason where it cannot.
    private string? Same(string value)
    {
        if (value == _block.Entry)
            return null;
        if (Inside(value) is not { } n)
            return $"it gives on '{value}', which comes from elsewhere";
        NodeProto node = _graph.Nodes[n];
        switch (Name(node))
        {
            case "Identity" or "Dropout":
                return Same(node.Input[0]);
            case "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze" or "Transpose":
                _moves.Add(n);
                return Same(node.Input[0]);
            case "Add" or "Sum" when node.Input.Count == 2 && node.Input.All(i => !_analysis.IsWeight(i)):
                return SameSum(node);
            case "Relu" or "Clip":
                return IsFixed(n) ? Same(node.Input[0]) : $"what it gives on does not pass {ModelGraph.Describe(node)} unchanged";
            case "Add" when _analysis.IsWeight(node.Input[0]) != _analysis.IsWeight(node.Input[1]) && IsBias(node, out int bias):
                Start(n, bias, Fill.Zero);
                return Same(node.Input[1 - bias]);
            case "BatchNormalization" when node.Input.Skip(1).All(_analysis.IsWeight):
                // With variance 1 − ε the norm divides by exactly 1.
                double epsilon = _analysis.Node(n)!.Attribute("epsilon")?.F ?? 1e-5f;
                foreach ((int input, double start) in new[] { (1, 1), (2, 0), (3, 0), (4, 1 - epsilon) })
                    Start(n, input, Fill.Constant(start));
                return Same(node.Input[0]);
            default:
                return Dirac(n) ? Same(node.Input[_analysis.Node(n)!.Layer!.WeightInput == 0 ? 1 : 0]) : NoIdentity(node);
        }
    }

    private string NoIdentity(NodeProto node) => _block.IsResidual
        ? $"{ModelGraph.Describe(node)} stands behind the sum of its residual branch and would act twice; deepen its layers instead, with --deepen-method zero-residual"
        : $"it has no skip, and {ModelGraph.Describe(node)} cannot be an identity";

    // Where the elements of what is read end up, at both assignments of the sizes that callers choose. A reshape leaves them in their order.
    private string? Misplaced()
    {
        foreach (ShapeTable shapes in new[] { _analysis.Shapes, _analysis.Shapes.Other }.OfType<ShapeTable>())
        {
            int[]? places = null;
            foreach (int n in _moves.AsEnumerable().Reverse().Where(n => Name(_graph.Nodes[n]) == "Transpose"))
            {
                if (shapes.Dims(_graph.Nodes[n].Input[0]) is not { } dims)
                    return $"ONNX Runtime does not know the sizes of '{_graph.Nodes[n].Input[0]}'";
                places = Transposed(places ?? [.. Enumerable.Range(0, (int)dims.Aggregate(1L, (a, b) => a * b))], dims, _analysis.Node(n)!.IntList("perm"));
            }

            if (places is not null && places.Index().Any(place => place.Index != place.Item))
                return $"{ModelGraph.Describe(_graph.Nodes[_moves[0]])} and what moves elements before it do not leave them in their places";
        }

        return null;
    }

    private static int[] Transposed(int[] elements, long[] dims, long[]? perm)
    {
        int rank = dims.Length;
        perm ??= [.. Enumerable.Range(0, rank).Select(axis => (long)(rank - 1 - axis))];
        var strides = new int[rank];
        for (int axis = rank - 1, stride = 1; axis >= 0; stride *= (int)dims[axis--])
            strides[axis] = stride;
        var moved = new int[elements.Length];
        var at = new int[rank];
        for (int i = 0, from = 0; i < moved.Length; i++)
        {
            moved[i] = elements[from];
            for (int axis = rank - 1; axis >= 0; axis--)
            {
                int stride = strides[perm[axis]];
                from += stride;
                if (++at[axis] < dims[perm[axis]])
                    break;
                from -= stride * at[axis];
                at[axis] = 0;
            }
        }

        return moved;
    }

    // One side is what is given on, the other vanishes.
    private string? SameSum(NodeProto node)
    {
        string? why = null;
        foreach ((int skip, int branch) in new[] { (0, 1), (1, 0) })
        {
            (int before, int moves) = (_starts.Count, _moves.Count);
            // A branch that is the value itself gives the better reason.
            string? zero = Zero(node.Input[branch]);
            string? same = zero is null ? Same(node.Input[skip]) : null;
            if (zero is null && same is null)
                return null;
            _starts.RemoveRange(before, _starts.Count - before);
            _moves.RemoveRange(moves, _moves.Count - moves);
            why = node.Input[branch] == _block.Entry ? why : zero ?? same;
        }

        return why;
    }

    // Whether the block's result, which the copy reads, passes an activation unchanged.
    private bool IsFixed(int activation)
    {
        (double low, double high) = ValueRange.Of(_analysis.Node(activation)!);
        (double least, double most) = Inside(_block.Exit) is { } last ? ValueRange.Of(_analysis.Node(last)!) : (double.NegativeInfinity, double.PositiveInfinity);
        return least >= low && most <= high;
    }

    // Makes a layer the identity: every output channel is its input channel, the kernel's centre is where the result is.
    private bool Dirac(int n)
    {
        NodeProto node = _graph.Nodes[n];
        if (_analysis.Node(n) is not { Layer: { Transposed: false } layer } axes || !axes.IsWeight(layer.WeightInput) || axes.Attribute("activation") is not null
            || Name(node) is not ("Conv" or "MatMul" or "Gemm") || (Name(node) == "Gemm" && (axes.Int("transA", 0) != 0 || (axes.Attribute("alpha")?.F ?? 1) != 1)))
            return false;
        long[] weight = Dims(node.Input[layer.WeightInput]);
        if (layer.SpatialAxes == 0 ? weight is not [var a, var b] || a != b : weight[0] != layer.Groups * weight[1] || !IsCentred(axes, weight[2..]))
            return false;
        _starts.Add(((n, layer.WeightInput), new DiracWeight(_analysis.Shapes.Type(node.Output[0]), [.. weight])));
        if (layer.BiasInput >= 0 && axes.Has(layer.BiasInput))
            Start(n, layer.BiasInput, Fill.Zero);
        return true;
    }

    private static bool IsCentred(NodeAxes axes, long[] kernel)
    {
        long[] ones = [.. kernel.Select(_ => 1L)], dilations = axes.IntList("dilations") ?? ones;
        long[] half = [.. kernel.Zip(dilations, (k, d) => d * (k - 1) / 2)];
        return kernel.All(k => k % 2 == 1) && (axes.IntList("strides") ?? ones).All(s => s == 1)
            && (axes.Text("auto_pad") ?? "NOTSET") switch
            {
                "NOTSET" => (axes.IntList("pads") ?? [.. ones.Concat(ones).Select(_ => 0L)]).SequenceEqual(half.Concat(half)),
                "VALID" => kernel.All(k => k == 1),
                _ => true,
            };
    }

    // Makes a value of the copy zero. Gives the reason where it cannot.
    private string? Zero(string value)
    {
        if (Inside(value) is not { } n)
            return $"'{value}' is added to what it reads and cannot be made to vanish";
        NodeProto node = _graph.Nodes[n];
        string name = Name(node);
        NodeAxes axes = _analysis.Node(n)!;
        string why = $"{ModelGraph.Describe(node)} ends its residual branch, which cannot be made to vanish and learn";
        int[] weights = [.. Enumerable.Range(0, node.Input.Count).Where(i => node.Input[i].Length > 0 && _analysis.IsWeight(node.Input[i]))];
        if (axes.Attribute("activation") is not null)
            return why;
        if (OperatorRules.For(node) is BatchNormalizationRule or LayerNormalizationRule or GroupNormalizationRule or InstanceNormalizationRule && weights.Contains(1))
            return ZeroInputs(n, [.. weights.Where(i => i is 1 or 2)]);
        if (axes.Layer is { } layer)
            return weights.Length == node.Input.Count(v => v.Length > 0) - 1 ? ZeroInputs(n, weights) : why;
        string[] data = [.. node.Input.Where((v, i) => v.Length > 0 && !weights.Contains(i))];
        switch (name)
        {
            case "Einsum" when weights.Length == 1:
                return ZeroInputs(n, weights);
            case "Mul" when weights is [var scale] && Count(node.Input[scale]) > 1:
                return ZeroInputs(n, weights);
            case "Add" or "Sub" or "Sum" or "Concat" when weights.All(i => name != "Concat" && Count(node.Input[i]) > 1):
                ZeroInputs(n, weights);
                return data.Select(Zero).FirstOrDefault(reason => reason is not null);
            case "Mul" or "MatMul":
                // One factor is enough; of an attention, the values.
                string? first = null;
                foreach (string factor in name == "MatMul" ? data.Reverse() : data)
                {
                    int before = _starts.Count;
                    if (Zero(factor) is not { } reason)
                        return null;
                    _starts.RemoveRange(before, _starts.Count - before);
                    first ??= reason;
                }

                return first ?? why;
            case "Div" when data.Length > 0 && data[0] == node.Input[0]:
                return Zero(data[0]);
            case "Pad" when (axes.Text("mode") ?? "constant") != "constant" || node.Input.Count < 3 || node.Input[2].Length == 0 || axes.Scalar(2) == 0:
                return Zero(node.Input[0]);
            default:
                return s_keepsZero.Contains(name) ? Zero(node.Input[0]) : why;
        }
    }

    private string? ZeroInputs(int n, IEnumerable<int> inputs)
    {
        foreach (int input in inputs)
            Start(n, input, Fill.Zero);
        return null;
    }

    // Two zeros that are multiplied have no gradient.
    private string? Dead()
    {
        var zero = new HashSet<string>();
        var starts = _starts.Where(s => s.Value is FilledWeight { Fill: var fill } && fill == Fill.Zero).Select(s => s.Use).ToHashSet();
        foreach (int n in _block.Nodes)
        {
            NodeProto node = _graph.Nodes[n];
            bool[] zeros = [.. node.Input.Select((v, i) => starts.Contains((n, i)) || zero.Contains(v))];
            int[] operands = [.. Enumerable.Range(0, zeros.Length).Where(i => !_analysis.IsWeight(node.Input[i]) || starts.Contains((n, i)))];
            LinearLayer? layer = _analysis.Node(n)?.Layer;
            bool product = layer is not null || Name(node) is "Mul" or "MatMul" or "Einsum";
            if (product && layer is null && operands.Length > 1 && operands.All(i => zeros[i]))
                return $"{ModelGraph.Describe(node)} multiplies two results that would both be zero, and nothing would learn";
            bool vanishes = layer is not null ? (zeros[layer.WeightInput] || zeros[1 - layer.WeightInput]) && (layer.BiasInput < 0 || layer.BiasInput >= zeros.Length || zeros[layer.BiasInput])
                : OperatorRules.For(node) is BatchNormalizationRule or LayerNormalizationRule or GroupNormalizationRule or InstanceNormalizationRule
                    ? zeros.Length > 1 && zeros[1] && (zeros.Length < 3 || zeros[2])
                : product ? zeros.Any(z => z)
                : Name(node) is "Add" or "Sub" or "Sum" or "Concat" ? zeros.All(z => z)
                : zeros.Length > 0 && zeros[0] && (s_keepsZero.Contains(Name(node)) || Name(node) is "Div" or "Pad");
            if (vanishes)
                zero.UnionWith(node.Output);
        }

        return null;
    }

    // The bias of a product that has none of its own.
    private bool IsBias(NodeProto node, out int input)
    {
        int bias = input = _analysis.IsWeight(node.Input[0]) ? 0 : 1;
        return Inside(node.Input[1 - bias]) is { } n && _analysis.Node(n)?.Layer is not null;
    }

    private void Start(int n, int input, Fill fill)
    {
        string value = _graph.Nodes[n].Input[input];
        ElementType type = _graph.ConstantOf(value)?.Type ?? _analysis.Shapes.Type(value);
        _starts.Add(((n, input), new FilledWeight(type, [.. Dims(value)], fill)));
    }

    private long Count(string value) => Dims(value).Aggregate(1L, (a, b) => a * b);

    private long[] Dims(string value) => _graph.ConstantOf(value) is { } constant ? [.. constant.Shape] : _analysis.Shapes.Dims(value)!;

    private int? Inside(string value) => _graph.Producer(value) is { } n && _inside.Contains(n) ? n : null;

    private static string Name(NodeProto node) => ModelGraph.IsStandard(node) ? node.OpType : $"{node.Domain}:{node.OpType}";
}
