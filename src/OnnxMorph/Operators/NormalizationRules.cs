using OnnxMorph.Axes;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Operators;

/// <summary>BatchNormalization: four vectors along the channels.</summary>
internal sealed class BatchNormalizationRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["BatchNormalization"];

    public override bool IsParameter(NodeAxes node, int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        node.KeepWhole(axes);
        node.Carries(NewChannels.Zero);
        AxisExpression channels = axes.Length > 1 ? axes[1] : axes[0];
        for (int input = 1; input < node.Node.Input.Count; input++)
            node.Tie(channels, node.In(input, 0));
        node.SetOut(0, axes);
        for (int output = 1; output < node.Node.Output.Count; output++)
            if (node.HasOutput(output))
                node.SetOut(output, [channels]);
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input is 1 or 4 ? FreshValue.One : FreshValue.Zero;

    public override FreshValue FreshOnZeros(NodeAxes node, int input) =>
        input == 1 ? NormOverPositions.ScaleOnZeros(node) : FreshValue.Zero;
}

/// <summary>What norms of each channel over its positions have in common.</summary>
internal static class NormOverPositions
{
    private const double DefaultEpsilon = 1e-5;

    /// <summary>
    /// A channel that is zero has mean 0 and variance 0: a scale of 1 would multiply its gradient by 1/√ε, hundreds, and training
    /// would throw the network far off with its first step. √ε makes the norm pass such a channel as it is.
    /// </summary>
    public static FreshValue ScaleOnZeros(NodeAxes node) => new(Math.Sqrt(node.Attribute("epsilon")?.F ?? DefaultEpsilon));
}

/// <summary>InstanceNormalization: each channel of each sample on its own, mean and variance over what follows.</summary>
internal sealed class InstanceNormalizationRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["InstanceNormalization"];

    public override bool IsParameter(NodeAxes node, int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        node.KeepWhole(axes);
        node.Carries(NewChannels.Zero);
        for (int input = 1; input <= 2; input++)
            node.Tie(axes[1], node.In(input, 0));
        foreach (AxisExpression axis in axes.Skip(2))
            node.Solver.RequireUniform(axis, node.Reason("it normalises over this axis"));
        node.SetOut(0, axes);
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.One : FreshValue.Zero;

    public override FreshValue FreshOnZeros(NodeAxes node, int input) => input == 1 ? NormOverPositions.ScaleOnZeros(node) : FreshValue.Zero;
}

/// <summary>
/// What layer and RMS norms over the last axis have in common. Uniform replication leaves mean and variance as they are. Beside
/// r copies of n channels, up to n' channels in all, a layer norm takes the mean as new channels and an RMS norm zeros; the
/// normalised values then come out 1/η times as large, η² = rn/n', and zero on the new channels, so the scale becomes η·γ and ε
/// η²·ε (METHODS.md §1).
/// </summary>
internal static class NormOverChannels
{
    /// <summary>Ties the normalised axis and gives that of the result.</summary>
    /// <param name="node">The norm.</param>
    /// <param name="normalized">The axis.</param>
    /// <param name="subtractsMean">Whether it is a layer norm.</param>
    /// <param name="scale">Number of the input that holds γ.</param>
    /// <param name="shift">Number of the input that holds β, where there is one.</param>
    public static AxisExpression Tie(NodeAxes node, AxisExpression normalized, bool subtractsMean, int scale, int shift)
    {
        Pin reason = node.Reason("it normalises over this axis");
        NewChannels alternatives = subtractsMean ? NewChannels.Mean : NewChannels.Zero;
        if (!IsVector(scale) || (node.Has(shift) && !IsVector(shift)))
            alternatives = NewChannels.None;
        node.Solver.RequireUniform(normalized, reason, alternatives);
        AxisExpression result = subtractsMean && alternatives != NewChannels.None ? node.Centred(normalized) : normalized;
        foreach (int input in (int[])[scale, shift])
        {
            if (!node.Has(input))
                continue;
            if (node.In(input, -1).Size > 1)
                node.Tie(result, node.In(input, -1));
            node.Carries(input, -1, NewChannels.Zero);
        }

        return result;

        bool IsVector(int input) => node.Has(input) && node.IsConstant(input) && node.Rank(input) > 0 && node.In(input, -1).Size == normalized.Size;
    }

    /// <summary>Rescales γ and ε for the child's channels.</summary>
    public static void Patch(NodePatch patch, AxisExpression normalized, int scale, double epsilon)
    {
        double share = patch.Share(normalized);
        if (share == 1)
            return;
        double exact = epsilon * share;
        // An attribute is a float32 whatever the node computes in.
        if (patch.Axes.Type(0) == ElementType.Float64 && Math.Abs((float)exact - exact) > exact * Math.ScaleB(1, -50))
            throw patch.Refuse("it computes in float64, and its epsilon cannot be rescaled as exactly; ask for a multiple of the channels");
        patch.Scale(scale, Math.Sqrt(share));
        patch.SetFloat("epsilon", (float)exact);
    }
}

/// <summary>Layer and RMS normalisation over the last axes.</summary>
internal sealed class LayerNormalizationRule : OperatorRule
{
    private const double DefaultEpsilon = 1e-5f;

    public override IEnumerable<string> Operators =>
        ["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "com.microsoft:SimplifiedLayerNormalization"];

    public override bool IsParameter(NodeAxes node, int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0), result = node.In(0);
        node.KeepWhole(axes);
        node.Carries(NewChannels.None);
        int first = NodeAxes.Normalize(node.Int("axis", -1), axes.Length);
        bool subtractsMean = node.Node.OpType == "LayerNormalization";
        // Over several axes, channels cannot be told from what is no channel.
        bool channels = first == axes.Length - 1;
        if (channels)
        {
            result[first] = NormOverChannels.Tie(node, axes[first], subtractsMean, scale: 1, shift: 2);
            node.Carries(0, first, subtractsMean ? NewChannels.Mean : NewChannels.Zero);
            node.OutputCarries(0, first, NewChannels.Zero);
        }

        for (int axis = first; axis < axes.Length && !channels; axis++)
            node.Solver.RequireUniform(axes[axis], node.Reason("it normalises over this axis"));
        for (int input = 1; input < node.Node.Input.Count; input++)
        {
            if (!node.Has(input))
                continue;
            for (int axis = 0; axis < node.Rank(input) - (channels ? 1 : 0); axis++)
            {
                AxisExpression part = node.In(input, axis);
                if (part.Size > 1)
                    node.Tie(axes[axes.Length - node.Rank(input) + axis], part);
            }
        }

        node.SetOut(0, result);
        for (int output = 1; output < node.Node.Output.Count; output++)
            if (node.HasOutput(output))
                node.SetOut(output, axes.Select((a, i) => i < first ? a : node.Fixed(1, "a statistic")));
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        if (NodeAxes.Normalize(node.Int("axis", -1), node.Rank(0)) != node.Rank(0) - 1)
            return;
        AxisExpression normalized = node.In(0, -1);
        // Statistics that somebody reads would be those of the child.
        if (patch.Share(normalized) != 1 && Enumerable.Range(1, Math.Max(node.Node.Output.Count - 1, 0)).Any(o => node.Node.Output[o].Length > 0))
            throw patch.Refuse("its statistics are read");
        NormOverChannels.Patch(patch, normalized, scale: 1, ChannelNormEpsilon(node)!.Value);
    }

    public override double? ChannelNormEpsilon(NodeAxes node) => node.Attribute("epsilon")?.F ?? DefaultEpsilon;

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.One : FreshValue.Zero;
}

/// <summary>GroupNormalization: mean and variance over the channels of a group and the positions.</summary>
internal sealed class GroupNormalizationRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["GroupNormalization"];

    public override bool IsParameter(NodeAxes node, int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        node.KeepWhole(axes);
        long groups = node.Int("num_groups", 1);
        if (node.Solver.Factor(axes[1], groups, node.Reason("its groups")) is not { } channels)
        {
            node.PinInput(0, "its channels cannot be divided into its groups");
            node.PinInput(1, "its channels cannot be divided into its groups");
            node.PinInput(2, "its channels cannot be divided into its groups");
            return;
        }

        node.Solver.RequireUniform(channels.Inner, node.Reason("it normalises over the channels of a group"));
        for (int input = 1; input <= 2; input++)
            // One value a group until operator set 20, one a channel from 21 on.
            node.Tie(node.In(input, 0), node.In(input, 0).Size == groups && channels.Inner.Size != 1 ? channels.Outer : node.In(0, 1));
        foreach (AxisExpression axis in axes.Skip(2))
            node.Solver.RequireUniform(axis, node.Reason("it normalises over this axis"));
        node.SetOut(0, node.In(0));
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        if (node.Solver.Factor(node.In(0, 1), node.Int("num_groups", 1), node.Reason("")) is { } channels)
            patch.SetInt("num_groups", patch.NewSize(channels.Outer));
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.One : FreshValue.Zero;
}

/// <summary>Operators whose result along one axis depends on all of it, in a way that copies would change.</summary>
internal sealed class AlongAxisRule : OperatorRule
{
    public override IEnumerable<string> Operators =>
    [
        "Softmax", "LogSoftmax", "Hardmax", "ArgMax", "ArgMin", "CumSum", "LRN", "LpNormalization", "MeanVarianceNormalization",
    ];

    public override Homogeneity? Scaling(NodeAxes node) => node.Node.OpType == "CumSum" ? Homogeneity.Of() : null;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        int rank = axes.Length;
        int first, count = 1;
        switch (node.Node.OpType)
        {
            case "Softmax" or "LogSoftmax" or "Hardmax" when node.Opset < 13:
                // Before operator set 13 the input is seen as a matrix: everything from the axis on is normalised together.
                first = NodeAxes.Normalize(node.Int("axis", 1), rank);
                count = rank - first;
                break;
            case "Softmax" or "LogSoftmax" or "Hardmax" or "LpNormalization":
                first = NodeAxes.Normalize(node.Int("axis", -1), rank);
                break;
            case "ArgMax" or "ArgMin":
                first = NodeAxes.Normalize(node.Int("axis", 0), rank);
                break;
            case "LRN":
                first = 1;
                break;
            case "CumSum" when node.Ints(1) is [long axis]:
                first = NodeAxes.Normalize(axis, rank);
                break;
            default:
                first = 0;
                count = rank;
                break;
        }

        for (int axis = first; axis < first + count; axis++)
            node.Pin(axes[axis], "its result along this axis depends on all of it");
        node.KeepWhole(axes);
        if (node.Node.OpType is "ArgMax" or "ArgMin")
            node.SetOut(0, node.Int("keepdims", 1) != 0
                ? axes.Select((a, i) => i == first ? node.Fixed(1, "an index") : a)
                : axes.Where((_, i) => i != first));
        else
            node.SetOut(0, axes);
    }
}

/// <summary>Reductions over axes.</summary>
internal sealed class ReductionRule : OperatorRule
{
    public override IEnumerable<string> Operators =>
    [
        "ReduceMean", "ReduceMax", "ReduceMin", "ReduceSum", "ReduceSumSquare", "ReduceL1", "ReduceL2", "ReduceLogSum",
        "ReduceLogSumExp", "ReduceProd",
    ];

    public override Homogeneity? Scaling(NodeAxes node) => node.Node.OpType switch
    {
        "ReduceMean" or "ReduceMax" or "ReduceMin" or "ReduceSum" or "ReduceL1" or "ReduceL2" => Homogeneity.Of(),
        "ReduceSumSquare" => Homogeneity.Of(2),
        _ => null,
    };

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        if (Listed(node.Node, node) is not { } listed)
        {
            node.PinInput(0, "which axes it reduces is computed from data");
            return;
        }

        HashSet<int> reduced = Reduced(node, listed);
        foreach (int axis in reduced)
        {
            switch (node.Node.OpType)
            {
                case "ReduceMean":
                    // The mean of the mean is the mean; of zeros beside it, a part of it, which Patch makes good.
                    node.Solver.RequireUniform(axes[axis], node.Reason("it takes the mean over this axis"), NewChannels.Zero | NewChannels.Mean);
                    break;
                case "ReduceMax" or "ReduceMin":
                    node.Solver.RequireCopies(axes[axis], node.Reason("it takes the largest or smallest value over this axis"));
                    break;
                default:
                    node.Pin(axes[axis], "it sums over this axis");
                    break;
            }
        }

        node.KeepWhole(axes);
        node.Carries(node.Node.OpType switch
        {
            "ReduceMean" or "ReduceSum" => NewChannels.Zero | NewChannels.Mean,
            "ReduceMax" or "ReduceMin" or "ReduceSumSquare" or "ReduceL1" or "ReduceL2" or "ReduceProd" => NewChannels.Zero,
            _ => NewChannels.None,
        });
        node.SetOut(0, node.Int("keepdims", 1) != 0
            ? axes.Select((a, i) => reduced.Contains(i) ? node.Fixed(1, "a reduced axis") : a)
            : axes.Where((_, i) => !reduced.Contains(i)));
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        if (node.Node.OpType != "ReduceMean" || Listed(node.Node, node) is not { } listed)
            return;
        double share = Reduced(node, listed).Aggregate(1.0, (product, axis) => product * patch.ZeroShare(node.In(0, axis)));
        if (share != 1)
            patch.Compensate(share);
    }

    // The axes became an input in operator set 18 (13 for ReduceSum).
    private static long[]? Listed(NodeProto reduction, NodeAxes known) =>
        reduction.Attribute.FirstOrDefault(a => a.Name == "axes")?.Ints.ToArray()
        ?? (reduction.Input.Count > 1 && reduction.Input[1].Length > 0 ? known.IntsOf(reduction.Input[1]) : []);

    private static HashSet<int> Reduced(NodeAxes node, long[] listed)
    {
        int rank = node.Rank(0);
        bool nothing = listed.Length == 0 && node.Int("noop_with_empty_axes", 0) != 0;
        return [.. nothing ? [] : listed.Length == 0 ? Enumerable.Range(0, rank) : listed.Select(a => NodeAxes.Normalize(a, rank))];
    }

    /// <summary>The one axis that a reduction of <paramref name="reader"/>'s input 0 is over and keeps as an axis of size 1; null where it does otherwise.</summary>
    internal static int? KeptAxis(NodeProto reduction, NodeAxes reader) =>
        Listed(reduction, reader) is [long axis] && (reduction.Attribute.FirstOrDefault(a => a.Name == "keepdims")?.I ?? 1) != 0
            ? NodeAxes.Normalize(axis, reader.Rank(0)) : null;
}

/// <summary>Pooling and resampling: batch and channels go through, positions are the operator's own.</summary>
internal sealed class SpatialRule : OperatorRule
{
    public override IEnumerable<string> Operators =>
    [
        "AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Resize", "Upsample", "RoiAlign",
        "MaxRoiPool", "GridSample",
    ];

    // Where it extrapolates, it may do so with a number of its own.
    public override Homogeneity? Scaling(NodeAxes node) => node.Text("coordinate_transformation_mode") == "tf_crop_and_resize" ? null : Homogeneity.Of();

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        bool resize = node.Node.OpType is "Resize" or "Upsample";
        long[] dims = node.OutputDims(0)!;
        if (dims.Length != axes.Length || dims[1] != axes[1].Size)
        {
            node.PinInput(0, "it does not keep the channels");
            return;
        }

        for (int axis = resize ? 0 : 2; axis < axes.Length; axis++)
            if (!resize || axes[axis].Size != dims[axis])
                node.Pin(axes[axis], "it samples along this axis");
        for (int input = 1; input < node.Node.Input.Count; input++)
            node.PinInput(input, "its input has a form of its own");
        node.KeepWhole(axes);
        node.Carries(node.Node.OpType switch
        {
            "AveragePool" or "GlobalAveragePool" or "Upsample" => NewChannels.Zero | NewChannels.Mean,
            // Where it extrapolates, it may do so with a number of its own.
            "Resize" => node.Text("coordinate_transformation_mode") == "tf_crop_and_resize" ? NewChannels.None : NewChannels.Zero | NewChannels.Mean,
            _ => NewChannels.Zero,
        });
        bool regions = node.Node.OpType is "RoiAlign" or "MaxRoiPool";
        AxisExpression[] result =
        [
            .. dims.Select((size, axis) => axis == 1 || (axis == 0 && !regions) || (resize && axes[axis].Size == size)
                ? axes[axis] : node.Fixed(size, "a spatial size")),
        ];
        for (int output = 0; output < node.Node.Output.Count; output++)
            if (node.HasOutput(output))
                node.SetOut(output, result);
        // Indices of MaxPool count through the whole tensor, so they change with the channels.
        if (node.HasOutput(1))
            node.Pin(axes[1], "its indices count over the channels");
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        if (node.Node.OpType == "Resize" && node.Node.Input.Count > 3 && node.Ints(3) is { } sizes
            && node.IntList("axes") is null && sizes.Length == node.Rank(0))
            patch.FollowSizes(3, sizes, _ => null);
    }
}
