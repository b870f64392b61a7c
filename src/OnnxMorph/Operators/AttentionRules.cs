using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>
/// What all fused attention operators share: hidden axes are heads × head size; whole heads may be added, a head's size may
/// not, since queries and keys are contracted over it. Query heads come in runs, one for each head of keys and values.
/// </summary>
internal abstract class AttentionRule : OperatorRule
{
    private const string HeadSize = "queries and keys are contracted over the size of a head";
    private const string Uneven = "its channels cannot be divided into its heads";

    /// <summary>The heads and head size of an axis; null, with everything pinned, where it does not divide.</summary>
    protected static (AxisExpression Heads, AxisExpression Size)? Heads(NodeAxes node, AxisExpression axis, long heads)
    {
        if (node.Solver.Factor(axis, heads, node.Reason(Uneven)) is { } parts)
            return (node.Solver.Resolve(parts.Outer), node.Solver.Resolve(parts.Inner));
        node.Pin(axis, Uneven);
        return null;
    }

    /// <summary>Ties query heads to those of keys and values and pins the head size; gives the query heads.</summary>
    protected static void TieHeads(NodeAxes node, (AxisExpression Heads, AxisExpression Size) query, params (AxisExpression Heads, AxisExpression Size)?[] others)
    {
        node.Pin(query.Size, HeadSize);
        foreach (var other in others)
        {
            if (other is not { } shared)
                continue;
            if (shared.Heads.Size == query.Heads.Size)
                node.Tie(query.Heads, shared.Heads);
            else if (node.Solver.Factor(query.Heads, shared.Heads.Size, node.Reason(Uneven)) is { } runs)
                node.Tie(runs.Outer, shared.Heads);
            else
            {
                node.Pin(query.Heads, Uneven);
                node.Pin(shared.Heads, Uneven);
            }
        }
    }

    /// <summary>
    /// Ties heads and head size to a cache [batch, heads, length, size] of past keys or values, whose other axes are pinned, and to what the
    /// node gives on as the present ones.
    /// </summary>
    protected static void TieCache(NodeAxes node, int past, int present, (AxisExpression Heads, AxisExpression Size) parts)
    {
        if (node.Has(past))
        {
            AxisExpression[] axes = node.In(past);
            for (int axis = 0; axis < axes.Length; axis++)
            {
                if (axes.Length == 4 && axis is 1 or 3)
                    node.Tie(axes[axis], axis == 1 ? parts.Heads : parts.Size);
                else
                    node.Pin(axes[axis], "an axis of its cache");
            }
        }

        if (present >= node.Node.Output.Count || node.Node.Output[present].Length == 0)
            return;
        if (node.OutputDims(present) is { Length: 4 } dims && dims[1] == parts.Heads.Size && dims[3] == parts.Size.Size)
        {
            node.SetOut(present, [node.Fixed(dims[0], "a batch axis"), node.Solver.Resolve(parts.Heads),
                node.Fixed(dims[2], "a sequence axis"), node.Solver.Resolve(parts.Size)]);
            return;
        }

        node.Pin(parts.Heads, "the sizes of its present keys and values are not known");
        node.Pin(parts.Size, "the sizes of its present keys and values are not known");
    }

    /// <summary>Ties the head axis of a bias or mask [… heads, queries, keys], which may be broadcast.</summary>
    protected static void TieBias(NodeAxes node, int input, AxisExpression heads)
    {
        if (!node.Has(input))
            return;
        AxisExpression[] axes = node.In(input);
        for (int axis = 0; axis < axes.Length; axis++)
        {
            if (axes.Length == 4 && axis == 1 && axes[axis].Size > 1)
                node.Tie(axes[axis], heads);
            else
                node.Pin(axes[axis], "an axis of its mask");
        }
    }

    /// <summary>Fixes every axis of the inputs from <paramref name="first"/> on.</summary>
    protected static void PinFrom(NodeAxes node, int first)
    {
        for (int input = first; input < node.Node.Input.Count; input++)
            node.PinInput(input, "its input has a form of its own");
    }

    /// <summary>Sets a head count attribute where the heads change.</summary>
    protected static void PatchHeads(NodePatch patch, string attribute, AxisExpression axis, long heads)
    {
        if (heads > 0 && patch.Axes.Solver.Factor(axis, heads, patch.Axes.Reason("")) is { } parts && patch.NewSize(parts.Outer) != heads)
            patch.SetInt(attribute, patch.NewSize(parts.Outer));
    }

    public override FreshValue Fresh(NodeAxes node, int input) => FreshValue.Zero;
}

/// <summary>ONNX's Attention: queries, keys and values as [batch, heads, length, size] or [batch, length, heads × size].</summary>
internal sealed class StandardAttentionRule : AttentionRule
{
    public override IEnumerable<string> Operators => ["Attention"];

    public override void Tie(NodeAxes node)
    {
        var parts = new (AxisExpression Heads, AxisExpression Size)?[3];
        for (int input = 0; input < 3; input++)
            parts[input] = node.Rank(input) == 4
                ? (node.In(input, 1), node.In(input, 3))
                : Heads(node, node.In(input, 2), HeadCount(node, input));
        if (parts[0] is not { } query || parts[1] is not { } keys || parts[2] is not { } values)
        {
            PinFrom(node, 0);
            return;
        }

        TieHeads(node, query, keys, values);
        node.Pin(keys.Size, "queries and keys are contracted over the size of a head");
        foreach (int input in (int[])[1, 2])
            node.Tie(node.In(0, 0), node.In(input, 0));
        for (int input = 0; input < 3; input++)
            node.Pin(node.In(input, node.Rank(input) == 4 ? 2 : 1), "a sequence axis");
        TieBias(node, 3, query.Heads);
        TieCache(node, 4, 1, keys);
        TieCache(node, 5, 2, values);
        PinFrom(node, 6);
        long[] dims = node.OutputDims(0)!;
        AxisExpression heads = node.Solver.Resolve(query.Heads), size = node.Solver.Resolve(values.Size);
        node.SetOut(0, dims.Length == 4
            ? [node.In(0, 0), heads, node.Fixed(dims[2], "a sequence axis"), size]
            : [node.In(0, 0), node.Fixed(dims[1], "a sequence axis"), AxisSolver.Product([heads, size])]);
    }

    private static long HeadCount(NodeAxes node, int input) => node.Int(input == 0 ? "q_num_heads" : "kv_num_heads", 1);

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        if (node.Rank(0) != 3)
            return;
        PatchHeads(patch, "q_num_heads", node.In(0, 2), HeadCount(node, 0));
        PatchHeads(patch, "kv_num_heads", node.In(1, 2), HeadCount(node, 1));
    }
}

/// <summary>ONNX Runtime's Attention, which holds the weights of the three projections: W[in*, q + k + v].</summary>
internal sealed class PackedAttentionRule : AttentionRule
{
    public override IEnumerable<string> Operators => ["com.microsoft:Attention"];

    public override bool IsParameter(NodeAxes node, int input) => input is 1 or 2;

    public override WeightForm? Form(NodeAxes node, int input) => input == 1 ? new WeightForm([WeightAxis.Input, WeightAxis.Output], 3, PartAxis: 1) : null;

    private static long[] Parts(NodeAxes node) =>
        node.IntList("qkv_hidden_sizes") ?? [.. Enumerable.Repeat(node.In(1, 1).Size / 3, 3)];

    public override void Tie(NodeAxes node)
    {
        node.Contract(0, node.In(0, 2), 1, node.In(1, 0));
        node.Carries(0, 2, NewChannels.Zero | NewChannels.Mean);
        if (node.Has(2))
            node.Tie(node.In(2, 0), node.In(1, 1));
        long heads = node.Int("num_heads", 1);
        long[] sizes = Parts(node);
        AxisExpression rest = node.In(1, 1);
        var parts = new (AxisExpression Heads, AxisExpression Size)?[3];
        for (int i = 0; i < 3; i++)
        {
            if (node.Solver.SplitAt(rest, sizes[i], node.Reason("its projections cannot be told apart")) is not { } cut)
            {
                PinFrom(node, 0);
                return;
            }

            parts[i] = Heads(node, cut.Head, heads);
            rest = node.Solver.Resolve(cut.Tail);
        }

        node.Pin(node.In(0, 0), "a batch axis");
        node.Pin(node.In(0, 1), "a sequence axis");
        if (parts[0] is not { } query || parts[1] is not { } keys || parts[2] is not { } values || node.Int("do_rotary", 0) != 0)
        {
            PinFrom(node, 0);
            return;
        }

        TieHeads(node, query, keys, values);
        node.Pin(keys.Size, "queries and keys are contracted over the size of a head");
        // Without sizes of their own all three projections are equally large.
        if (node.IntList("qkv_hidden_sizes") is null)
            node.Pin(values.Size, "its three projections have the same size");
        node.PinInput(3, "its mask");
        // Past keys and values stand in one tensor, [2, batch, heads, length, size].
        if (node.Has(4))
        {
            node.Pin(values.Size, "an axis of its cache");
            foreach (int axis in Enumerable.Range(0, node.Rank(4)))
            {
                if (axis == 2)
                    node.Tie(node.In(4, axis), query.Heads);
                else
                    node.Pin(node.In(4, axis), "an axis of its cache");
            }
        }

        TieBias(node, 5, query.Heads);
        PinFrom(node, 6);
        node.SetOut(0, [node.In(0, 0), node.In(0, 1), AxisSolver.Product([node.Solver.Resolve(query.Heads), node.Solver.Resolve(values.Size)])]);
        if (node.Node.Output.Count < 2 || node.Node.Output[1].Length == 0)
            return;
        node.Pin(values.Size, "an axis of its cache");
        if (node.OutputDims(1) is { Length: 5 } dims)
            node.SetOut(1, dims.Select((size, axis) => axis == 2 ? node.Solver.Resolve(query.Heads) : node.Fixed(size, "an axis of its cache")));
        else
            node.Pin(query.Heads, "the sizes of its present keys and values are not known");
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        long[] sizes = Parts(node);
        AxisExpression rest = node.In(1, 1);
        var grown = new long[3];
        for (int i = 0; i < 3; i++)
        {
            if (node.Solver.SplitAt(rest, sizes[i], node.Reason("")) is not { } cut)
                throw patch.Refuse("its projections cannot be told apart");
            if (i == 0)
                PatchHeads(patch, "num_heads", cut.Head, node.Int("num_heads", 1));
            grown[i] = patch.NewSize(cut.Head);
            rest = node.Solver.Resolve(cut.Tail);
        }

        if (node.IntList("qkv_hidden_sizes") is not null && !grown.SequenceEqual(sizes))
            patch.SetInts("qkv_hidden_sizes", grown);
    }

    public override AxisExpression? Produces(NodeAxes node) => node.HasOutput(0) && node.IsWeight(1) ? node.Out(0)[2] : null;

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.HeNormal : FreshValue.Zero;
}

/// <summary>ONNX Runtime's attention over projected queries, keys and values: [batch, length, heads × size].</summary>
internal sealed class ProjectedAttentionRule : AttentionRule
{
    public override IEnumerable<string> Operators => ["com.microsoft:MultiHeadAttention", "com.microsoft:GroupQueryAttention"];

    public override bool IsParameter(NodeAxes node, int input) => input == 3 && !Grouped(node);

    private static bool Grouped(NodeAxes node) => node.Node.OpType == "GroupQueryAttention";

    private static long KeyHeads(NodeAxes node) => node.Int(Grouped(node) ? "kv_num_heads" : "num_heads", 1);

    public override void Tie(NodeAxes node)
    {
        // Packed forms hold queries, keys and values in one axis in an order that no other part of the graph tells.
        if (!node.Has(1) || !node.Has(2) || Enumerable.Range(0, 3).Any(i => node.Rank(i) != 3) || node.Int("do_rotary", 0) is not (0 or 1))
        {
            PinFrom(node, 0);
            return;
        }

        var query = Heads(node, node.In(0, 2), node.Int("num_heads", 1));
        var keys = Heads(node, node.In(1, 2), KeyHeads(node));
        var values = Heads(node, node.In(2, 2), KeyHeads(node));
        if (query is not { } q || keys is not { } k || values is not { } v)
        {
            PinFrom(node, 0);
            return;
        }

        TieHeads(node, q, k, v);
        node.Pin(k.Size, "queries and keys are contracted over the size of a head");
        if (Grouped(node))
            node.Pin(v.Size, "keys and values share one head size");
        for (int input = 0; input < 3; input++)
        {
            node.Tie(node.In(0, 0), node.In(input, 0));
            node.Pin(node.In(input, 1), "a sequence axis");
        }

        if (Grouped(node))
        {
            TieCache(node, 3, 1, k);
            TieCache(node, 4, 2, v);
            PinFrom(node, 5);
        }
        else
        {
            if (node.Has(3))
                node.Tie(node.In(3, 0), AxisSolver.Concat([node.In(0, 2), node.In(1, 2), node.In(2, 2)]));
            node.PinInput(4, "its mask");
            TieBias(node, 5, q.Heads);
            TieCache(node, 6, 1, k);
            TieCache(node, 7, 2, v);
            PinFrom(node, 8);
        }

        node.SetOut(0, [node.In(0, 0), node.In(0, 1), AxisSolver.Product([node.Solver.Resolve(q.Heads), node.Solver.Resolve(v.Size)])]);
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        if (!node.Has(1) || node.Rank(0) != 3)
            return;
        PatchHeads(patch, "num_heads", node.In(0, 2), node.Int("num_heads", 1));
        if (Grouped(node))
            PatchHeads(patch, "kv_num_heads", node.In(1, 2), KeyHeads(node));
    }
}

/// <summary>Rotary positions: pairs of entries inside a head are rotated, so heads may be added and their size stays.</summary>
internal sealed class RotaryEmbeddingRule : AttentionRule
{
    public override IEnumerable<string> Operators => ["RotaryEmbedding", "com.microsoft:RotaryEmbedding"];

    // ONNX: X, cos, sin, positions. ONNX Runtime: X, positions, cos, sin. The caches hold half a head.
    private static long HeadCount(NodeAxes node)
    {
        if (node.Int("num_heads", 0) is > 0 and var given)
            return given;
        int cache = node.Node.Domain == "com.microsoft" ? 2 : 1;
        long size = node.Int("rotary_embedding_dim", 0) == 0 && node.Has(cache) ? 2 * node.In(cache, -1).Size : 0;
        return size > 0 && node.In(0, -1).Size % size == 0 ? node.In(0, -1).Size / size : 0;
    }

    public override void Tie(NodeAxes node)
    {
        PinFrom(node, 1);
        AxisExpression[] axes = node.In(0);
        if (axes.Length == 4)
            node.Pin(axes[3], "it rotates inside a head");
        else if (HeadCount(node) is > 0 and var heads && Heads(node, axes[2], heads) is { } parts)
            node.Pin(parts.Size, "it rotates inside a head");
        else
            node.Pin(axes[^1], "it rotates inside a head");
        node.SetOut(0, node.In(0));
    }

    public override void Patch(NodePatch patch)
    {
        if (patch.Axes.Rank(0) == 3)
            PatchHeads(patch, "num_heads", patch.Axes.In(0, 2), patch.Axes.Int("num_heads", 0));
    }
}

/// <summary>ONNX Runtime's layer norms with a residual sum in front: x + skip (+ bias), normalised over the last axis.</summary>
internal sealed class SkipNormalizationRule : OperatorRule
{
    public override IEnumerable<string> Operators =>
        ["com.microsoft:SkipLayerNormalization", "com.microsoft:SkipSimplifiedLayerNormalization"];

    public override bool IsParameter(NodeAxes node, int input) => input > 1;

    private const double DefaultEpsilon = 1e-12f;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        bool subtractsMean = SubtractsMean(node);
        NewChannels summed = subtractsMean ? NewChannels.Mean : NewChannels.Zero;
        int bias = subtractsMean ? 4 : 3;
        foreach (int input in (int[])[0, 1, bias])
        {
            if (!node.Has(input))
                continue;
            node.Carries(input, -1, summed);
            for (int axis = 0; axis < node.Rank(input); axis++)
                if (node.In(input, axis).Size > 1)
                    node.Tie(axes[axes.Length - node.Rank(input) + axis], node.In(input, axis));
        }

        AxisExpression[] sum = node.In(0), result = node.In(0);
        result[^1] = NormOverChannels.Tie(node, sum[^1], subtractsMean, scale: 2, shift: subtractsMean ? 3 : int.MaxValue);
        node.SetOut(0, result);
        node.OutputCarries(0, result.Length - 1, NewChannels.Zero);
        for (int output = 1; output < node.Node.Output.Count; output++)
        {
            if (!node.HasOutput(output))
                continue;
            node.SetOut(output, node.OutputDims(output)!.Select((size, axis) => size == sum[axis].Size ? sum[axis] : node.Fixed(size, "a statistic")));
            node.OutputCarries(output, sum.Length - 1, summed);
        }
    }

    private static bool SubtractsMean(NodeAxes node) => node.Node.OpType == "SkipLayerNormalization";

    public override void Patch(NodePatch patch) =>
        NormOverChannels.Patch(patch, patch.Axes.In(0, -1), scale: 2, ChannelNormEpsilon(patch.Axes)!.Value);

    public override double? ChannelNormEpsilon(NodeAxes node) => node.Attribute("epsilon")?.F ?? DefaultEpsilon;

    public override FreshValue Fresh(NodeAxes node, int input) => input == 2 ? FreshValue.One : FreshValue.Zero;
}

/// <summary>ONNX Runtime's embeddings of words, positions and segments, summed and layer-normalised: three tables [rows, channels].</summary>
internal sealed class EmbeddingNormalizationRule : OperatorRule
{
    private const double DefaultEpsilon = 1e-12f;
    private const int FirstTable = 2, LastTable = 4, Scale = 5, Shift = 6;

    public override IEnumerable<string> Operators => ["com.microsoft:EmbedLayerNormalization"];

    public override bool IsParameter(NodeAxes node, int input) => input is >= FirstTable and <= Shift;

    public override WeightForm? Form(NodeAxes node, int input) =>
        input is >= FirstTable and <= LastTable ? new WeightForm([WeightAxis.Stack, WeightAxis.Output]) : null;

    public override bool HasWeights => true;

    public override void Tie(NodeAxes node)
    {
        AxisExpression channels = node.In(FirstTable, 1);
        for (int table = FirstTable; table <= LastTable; table++)
        {
            if (!node.Has(table))
                continue;
            node.Tie(channels, node.In(table, 1));
            node.Carries(table, 1, NewChannels.Mean);
        }

        channels = node.Solver.Resolve(channels);
        AxisExpression normed = NormOverChannels.Tie(node, channels, subtractsMean: true, Scale, Shift);
        for (int output = 0; output < node.Node.Output.Count; output++)
        {
            if (!node.HasOutput(output))
                continue;
            // The normalised sum, positions of the mask's end, the sum itself.
            long[] dims = node.OutputDims(output)!;
            node.SetOut(output, dims.Select((size, axis) => axis < 2 || dims.Length < 3 ? node.Fixed(size, "a batch or sequence axis") : output == 0 ? normed : channels));
            node.OutputCarries(output, 2, output == 0 ? NewChannels.Zero : NewChannels.Mean);
        }
    }

    public override void Patch(NodePatch patch) => NormOverChannels.Patch(patch, patch.Axes.In(FirstTable, 1), Scale, ChannelNormEpsilon(patch.Axes)!.Value);

    public override double? ChannelNormEpsilon(NodeAxes node) => node.Attribute("epsilon")?.F ?? DefaultEpsilon;

    public override AxisExpression? Produces(NodeAxes node) => node.Has(FirstTable) && node.IsWeight(FirstTable) ? node.In(FirstTable, 1) : null;

    public override FreshValue Fresh(NodeAxes node, int input) =>
        input == Scale ? FreshValue.One : input == Shift ? FreshValue.Zero : FreshValue.HeNormal;
}

/// <summary>ONNX Runtime's MatMul with transposed operands and a factor.</summary>
internal sealed class FusedMatMulRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["com.microsoft:FusedMatMul"];

    public override WeightForm? Form(NodeAxes node, int input) => node.Rank(input) < 2 || node.Int("transBatchA", 0) != 0 || node.Int("transBatchB", 0) != 0 ? null
        : WeightForm.Matrix(node.Rank(input), (node.Int(input == 0 ? "transA" : "transB", 0) != 0) == (input == 1));

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Product();

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        int left = node.Rank(0), right = node.Rank(1);
        bool transA = node.Int("transA", 0) != 0, transB = node.Int("transB", 0) != 0;
        bool simple = left >= 2 && right >= 2 && (right == 2 || right == left) && node.Int("transBatchA", 0) == 0 && node.Int("transBatchB", 0) == 0;
        if (!simple)
        {
            node.PinInput(0, "a product of this form is not followed");
            node.PinInput(1, "a product of this form is not followed");
            return;
        }

        node.Contract(0, node.In(0, transA ? -2 : -1), 1, node.In(1, transB ? -1 : -2));
        var axes = new List<AxisExpression>();
        for (int axis = 0; axis < left - 2; axis++)
        {
            AxisExpression own = node.In(0, axis);
            if (right == left && node.In(1, axis) is { Size: > 1 } other)
            {
                if (own.Size > 1)
                {
                    node.Tie(own, other);
                    node.OutputCarries(0, axis, NewChannels.Zero);
                }
                else
                    own = other;
            }

            axes.Add(own);
        }

        node.SetOut(0, [.. axes, node.In(0, transA ? -1 : -2), node.In(1, transB ? -2 : -1)]);
    }

    public override AxisExpression? Produces(NodeAxes node) =>
        node.HasOutput(0) && node.IsWeight(1) && !node.IsWeight(0) ? node.Out(0)[^1] : null;

    public override FreshValue Fresh(NodeAxes node, int input) => FreshValue.HeNormal;
}
