using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>BatchNormalization: four vectors along the channels.</summary>
internal sealed class BatchNormalizationRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["BatchNormalization"];

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        node.KeepWhole(axes);
        AxisExpression channels = axes.Length > 1 ? axes[1] : axes[0];
        for (int input = 1; input < node.Node.Input.Count; input++)
            node.Tie(channels, node.In(input, 0));
        node.SetOut(0, axes);
        for (int output = 1; output < node.Node.Output.Count; output++)
            if (node.HasOutput(output))
                node.SetOut(output, [channels]);
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input is 1 or 4 ? FreshValue.One : FreshValue.Zero;
}

/// <summary>InstanceNormalization: each channel of each sample on its own, mean and variance over what follows.</summary>
internal sealed class InstanceNormalizationRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["InstanceNormalization"];

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        node.KeepWhole(axes);
        for (int input = 1; input <= 2; input++)
            node.Tie(axes[1], node.In(input, 0));
        foreach (AxisExpression axis in axes.Skip(2))
            node.Solver.RequireUniform(axis, node.Reason("it normalises over this axis"));
        node.SetOut(0, axes);
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.One : FreshValue.Zero;
}

/// <summary>Layer and RMS normalisation over the last axes: uniform replication leaves mean and variance as they are.</summary>
internal sealed class LayerNormalizationRule : OperatorRule
{
    public override IEnumerable<string> Operators =>
        ["LayerNormalization", "RMSNormalization", "SimplifiedLayerNormalization", "com.microsoft:SimplifiedLayerNormalization"];

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        node.KeepWhole(axes);
        int first = NodeAxes.Normalize(node.Int("axis", -1), axes.Length);
        for (int axis = first; axis < axes.Length; axis++)
            node.Solver.RequireUniform(axes[axis], node.Reason("it normalises over this axis"));
        for (int input = 1; input < node.Node.Input.Count; input++)
        {
            if (!node.Has(input))
                continue;
            for (int axis = 0; axis < node.Rank(input); axis++)
            {
                AxisExpression part = node.In(input, axis);
                if (part.Size > 1)
                    node.Tie(axes[axes.Length - node.Rank(input) + axis], part);
            }
        }

        node.SetOut(0, axes);
        for (int output = 1; output < node.Node.Output.Count; output++)
            if (node.HasOutput(output))
                node.SetOut(output, axes.Select((a, i) => i < first ? a : node.Fixed(1, "a statistic")));
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.One : FreshValue.Zero;
}

/// <summary>GroupNormalization: mean and variance over the channels of a group and the positions.</summary>
internal sealed class GroupNormalizationRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["GroupNormalization"];

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

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        // The axes became an input in operator set 18 (13 for ReduceSum).
        long[]? listed = node.IntList("axes") ?? (node.Node.Input.Count > 1 && node.Node.Input[1].Length > 0 ? node.Ints(1) : []);
        if (listed is null)
        {
            node.PinInput(0, "which axes it reduces is computed from data");
            return;
        }

        bool nothing = listed.Length == 0 && node.Int("noop_with_empty_axes", 0) != 0;
        var reduced = (nothing ? [] : listed.Length == 0 ? Enumerable.Range(0, axes.Length) : listed.Select(a => NodeAxes.Normalize(a, axes.Length))).ToHashSet();
        foreach (int axis in reduced)
        {
            switch (node.Node.OpType)
            {
                case "ReduceMean":
                    node.Solver.RequireUniform(axes[axis], node.Reason("it takes the mean over this axis"));
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
        node.SetOut(0, node.Int("keepdims", 1) != 0
            ? axes.Select((a, i) => reduced.Contains(i) ? node.Fixed(1, "a reduced axis") : a)
            : axes.Where((_, i) => !reduced.Contains(i)));
    }
}

/// <summary>Pooling and resampling: batch and channels go through, positions are the operator's own.</summary>
internal sealed class SpatialRule : OperatorRule
{
    public override IEnumerable<string> Operators =>
    [
        "AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "Resize", "Upsample", "RoiAlign",
        "MaxRoiPool", "GridSample",
    ];

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
