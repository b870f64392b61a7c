using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>Reshape and Flatten: the same elements in the same order, under other axes.</summary>
internal sealed class ReshapeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Reshape", "Flatten"];

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    public override bool MovesElements => true;

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        long[] dims = node.OutputDims(0)!;
        const string Uneven = "it cuts axes where their parts do not end";
        AxisExpression rest = node.Solver.Resolve(AxisSolver.Product(node.In(0)));
        var axes = new AxisExpression[dims.Length];
        for (int axis = 0; axis < dims.Length; axis++)
        {
            if (dims[axis] == 1)
            {
                axes[axis] = node.Fixed(1, "an axis of size 1");
                continue;
            }

            if (node.Solver.Factor(rest, dims[axis], node.Reason(Uneven)) is not { } factors)
            {
                node.PinInput(0, Uneven);
                for (int done = 0; done < axis; done++)
                    node.Pin(axes[done], Uneven);
                node.SetOut(0, dims.Select(size => node.Fixed(size, Uneven)));
                return;
            }

            axes[axis] = factors.Outer;
            rest = node.Solver.Resolve(factors.Inner);
        }

        node.SetOut(0, axes.Select(node.Solver.Resolve));
        if (node.Has(1))
            node.In(1);
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        if (node.Node.OpType == "Flatten")
            return;
        if (node.Ints(1) is not { } target)
            throw patch.Refuse("its target shape is computed from data");
        bool zeroCopies = node.Int("allowzero", 0) == 0;
        AxisExpression[] input = node.In(0), output = node.Out(0);
        patch.FollowSizes(1, target, j => target[j] == -1 ? patch.NewSize(output[j])
            : target[j] == 0 && zeroCopies ? patch.NewSize(input[j]) : null);
    }
}

/// <summary>Transpose.</summary>
internal sealed class TransposeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Transpose"];

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    public override bool MovesElements => true;

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        AxisExpression[] axes = node.In(0);
        long[] order = node.IntList("perm") ?? [.. Enumerable.Range(0, axes.Length).Reverse().Select(i => (long)i)];
        node.SetOut(0, order.Select(axis => axes[axis]));
    }
}

/// <summary>Squeeze and Unsqueeze: axes of size 1 come and go.</summary>
internal sealed class SqueezeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Squeeze", "Unsqueeze"];

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    public override bool MovesElements => true;

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        AxisExpression[] axes = node.In(0);
        long[] dims = node.OutputDims(0)!;
        long[]? listed = node.IntList("axes") ?? node.Ints(1);
        bool squeeze = node.Node.OpType == "Squeeze";
        if (listed is null && (!squeeze || node.Node.Input.Count > 1))
        {
            node.PinInput(0, "which axes it changes is computed from data");
            return;
        }

        int rank = squeeze ? axes.Length : dims.Length;
        var changed = (listed?.Select(a => NodeAxes.Normalize(a, rank)) ?? Enumerable.Range(0, rank).Where(i => axes[i].Size == 1)).ToHashSet();
        var kept = new Queue<AxisExpression>(axes);
        node.SetOut(0, squeeze
            ? axes.Where((_, i) => !changed.Contains(i))
            : Enumerable.Range(0, rank).Select(i => changed.Contains(i) ? node.Fixed(1, "an axis of size 1") : kept.Dequeue()));
    }
}

/// <summary>Expand: axes of size 1 are repeated.</summary>
internal sealed class ExpandRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Expand"];

    public override bool Rearranges => true;

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        AxisExpression[] axes = node.In(0);
        long[] dims = node.OutputDims(0)!;
        AxisExpression[] result = [.. dims.Select((size, axis) =>
        {
            int own = axis - (dims.Length - axes.Length);
            return own >= 0 && axes[own].Size == size ? axes[own]
                : node.IsSymbolic(0, axis) ? node.Fixed(size, "its size depends on the caller's")
                : node.Solver.Fresh(size, node.Reason("an axis of size 1"));
        })];
        node.KeepWhole(result);
        node.SetOut(0, result);
        node.In(1);
    }

    public override void Patch(NodePatch patch)
    {
        if (patch.Axes.Ints(1) is { } target && target.Length == patch.Axes.Out(0).Length)
            patch.FollowSizes(1, target, j => target[j] == 1 ? patch.NewSize(patch.Axes.Out(0)[j]) : null);
        else if (patch.Axes.Out(0).Any(a => patch.NewSize(a) != a.Size))
            throw patch.Refuse("its target shape cannot be followed");
    }
}

/// <summary>Tile: an axis repeated as a whole is a fixed number times the axis.</summary>
internal sealed class TileRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Tile"];

    public override bool Rearranges => true;

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        AxisExpression[] axes = node.In(0);
        long[] dims = node.OutputDims(0)!;
        node.In(1);
        node.SetOut(0, axes.Select((axis, i) => dims[i] == axis.Size ? axis
            : axis.Size == 0 ? node.Fixed(dims[i], "an empty axis")
            : AxisSolver.Product([node.Fixed(dims[i] / axis.Size, "its repeats are fixed"), axis])));
    }
}

/// <summary>DepthToSpace and SpaceToDepth: blocks of positions are a fixed factor of the channels.</summary>
internal sealed class PixelShuffleRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["DepthToSpace", "SpaceToDepth"];

    public override bool Rearranges => true;

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        AxisExpression[] axes = node.In(0);
        long[] dims = node.OutputDims(0)!;
        long block = node.Int("blocksize", 1);
        Pin reason = node.Reason("its blocks of positions are fixed");
        for (int axis = 2; axis < axes.Length; axis++)
            node.Pin(axes[axis], "it moves positions into channels");
        AxisExpression channels;
        if (node.Node.OpType == "SpaceToDepth")
            channels = AxisSolver.Product([new FixedAxis(block * block, reason), axes[1]]);
        else
        {
            bool channelsFirst = node.Text("mode") == "CRD";
            long depth = axes[1].Size / (block * block);
            if (node.Solver.Factor(axes[1], channelsFirst ? depth : block * block, reason) is not { } factors)
            {
                node.PinInput(0, "its channels do not divide into its blocks");
                return;
            }

            node.Pin(channelsFirst ? factors.Inner : factors.Outer, "its blocks of positions are fixed");
            channels = node.Solver.Resolve(channelsFirst ? factors.Outer : factors.Inner);
        }

        node.SetOut(0, [node.In(0, 0), channels, .. dims.Skip(2).Select(size => node.Fixed(size, "a spatial size"))]);
    }
}

/// <summary>Concat: the direct sum of its inputs along one axis.</summary>
internal sealed class ConcatRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Concat"];

    public override bool Rearranges => true;

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Sum(node.Node.Input.Count);

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        int rank = node.Rank(0), along = NodeAxes.Normalize(node.Int("axis", 0), rank);
        AxisExpression[] axes = node.In(0);
        for (int input = 1; input < node.Node.Input.Count; input++)
            for (int axis = 0; axis < rank; axis++)
                if (axis != along)
                    node.Tie(axes[axis], node.In(input, axis));
        axes = node.In(0);
        axes[along] = AxisSolver.Concat(Enumerable.Range(0, node.Node.Input.Count).Select(i => node.In(i, along)));
        node.SetOut(0, axes);
    }
}

/// <summary>Split: an axis cut into parts.</summary>
internal sealed class SplitRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Split"];

    public override bool Rearranges => true;

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    private static int Along(NodeAxes node) => NodeAxes.Normalize(node.Int("axis", 0), node.Rank(0));

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        int along = Along(node);
        const string Uneven = "it cuts the axis where its parts do not end";
        AxisExpression rest = node.In(0, along);
        for (int output = 0; output < node.Node.Output.Count; output++)
        {
            AxisExpression[] axes = node.In(0);
            if (!node.HasOutput(output) || node.Solver.SplitAt(rest, node.OutputDims(output)![along], node.Reason(Uneven)) is not { } halves)
            {
                node.Pin(node.In(0, along), Uneven);
                node.Pin(rest, Uneven);
                for (int other = 0; other < node.Node.Output.Count; other++)
                    if (node.HasOutput(other))
                        node.SetOut(other, axes.Select((a, i) => i == along ? node.Fixed(node.OutputDims(other)![along], Uneven) : a));
                return;
            }

            axes[along] = halves.Head;
            node.SetOut(output, axes);
            rest = node.Solver.Resolve(halves.Tail);
        }
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        int along = Along(node), outputs = node.Node.Output.Count;
        long[] old = [.. Enumerable.Range(0, outputs).Select(i => node.Out(i)[along].Size)];
        long[] sizes = [.. Enumerable.Range(0, outputs).Select(i => patch.NewSize(node.Out(i)[along]))];
        if (node.Node.Input.Count > 1 && node.Node.Input[1].Length > 0)
            patch.FollowValues(1, old, sizes);
        else if (sizes.SequenceEqual(old))
            return;
        else if (node.IntList("split") is not null)
            patch.SetInts("split", sizes);
        else if (sizes.Distinct().Count() > 1)
            throw patch.Refuse("it splits evenly and its parts would differ");
    }
}

/// <summary>Slice: a range of an axis.</summary>
internal sealed class SliceRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Slice"];

    public override bool Rearranges => true;

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    // Starts, ends, axes and steps are inputs 1 to 4 from operator set 10 on, attributes before.
    private static (long[]? Starts, long[]? Ends, long[]? Axes, long[]? Steps) Ranges(NodeAxes node) => node.Opset < 10
        ? (node.IntList("starts"), node.IntList("ends"), node.IntList("axes"), null)
        : (node.Ints(1), node.Ints(2), node.Ints(3), node.Ints(4));

    private static bool IsGiven(NodeAxes node, int input) => node.Node.Input.Count > input && node.Node.Input[input].Length > 0;

    private static (long Start, long Length) Normalize(long start, long end, long size)
    {
        start = Math.Clamp(start < 0 ? start + size : start, 0, size);
        end = Math.Clamp(end < 0 ? end + size : end, 0, size);
        return (start, Math.Max(end - start, 0));
    }

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        AxisExpression[] axes = node.In(0);
        long[] dims = node.OutputDims(0)!;
        (long[]? starts, long[]? ends, long[]? listed, long[]? steps) = Ranges(node);
        if (starts is null || ends is null || (listed is null && IsGiven(node, 3)) || (steps is null && IsGiven(node, 4)))
        {
            node.PinInput(0, "its range is computed from data");
            return;
        }

        for (int k = 0; k < starts.Length; k++)
        {
            int axis = NodeAxes.Normalize(listed?[k] ?? k, axes.Length);
            AxisExpression whole = axes[axis];
            long step = steps?[k] ?? 1;
            Pin reason = node.Reason("it cuts the axis where its parts do not end");
            (long start, long length) = Normalize(starts[k], ends[k], whole.Size);
            // Where callers choose some of the parts, a position means another place at other sizes.
            bool composite = node.IsSymbolicInput(0, axis) && node.Solver.Leaves(whole).Any();
            if (step == 1 && length == whole.Size && (!composite || ends[k] >= int.MaxValue))
                continue;
            if (step == 1 && !composite && node.Solver.SplitAt(whole, start, reason) is { } head
                && node.Solver.SplitAt(head.Tail, length, reason) is { } middle)
            {
                axes[axis] = node.Solver.Resolve(middle.Head);
                continue;
            }

            node.Pin(whole, step == 1 ? reason.Why : "it takes every so many elements");
            axes[axis] = node.Fixed(dims[axis], reason.Why);
        }

        node.SetOut(0, axes);
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        (long[]? starts, long[]? ends, long[]? listed, _) = Ranges(node);
        if (starts is null || ends is null)
            return;
        AxisExpression[] axes = node.In(0);
        long[] newStarts = [.. starts], newEnds = [.. ends];
        for (int k = 0; k < starts.Length; k++)
        {
            AxisExpression whole = axes[NodeAxes.Normalize(listed?[k] ?? k, axes.Length)];
            long size = patch.NewSize(whole), from = 0, to = size;
            if (size == whole.Size && !node.Solver.FreeLeaves(whole).Any())
                continue;
            (long start, long length) = Normalize(starts[k], ends[k], whole.Size);
            if (length < whole.Size)
            {
                Pin reason = node.Reason("");
                if (node.Solver.SplitAt(whole, start, reason) is not { } head || node.Solver.SplitAt(head.Tail, length, reason) is not { } middle)
                    continue;
                from = patch.NewSize(head.Head);
                to = from + patch.NewSize(middle.Head);
            }

            // Positions keep their side: from the front, from the back, or beyond the ends.
            newStarts[k] = starts[k] >= 0 ? from : from == 0 && starts[k] <= -size ? starts[k] : from - size;
            newEnds[k] = ends[k] < 0 ? to - size : to == size && ends[k] >= size ? ends[k] : to;
        }

        if (node.Opset >= 10)
        {
            patch.FollowValues(1, starts, newStarts);
            patch.FollowValues(2, ends, newEnds);
            return;
        }

        patch.SetInts("starts", newStarts);
        patch.SetInts("ends", newEnds);
    }
}

/// <summary>Gather: rows of a table; the indexed axis is fixed.</summary>
internal sealed class GatherRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Gather"];

    public override bool Rearranges => true;

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of();

    public override WeightForm? Form(NodeAxes node, int input)
    {
        if (input != 0 || node.IsWeight(1) || !node.Has(0))
            return null;
        int along = NodeAxes.Normalize(node.Int("axis", 0), node.Rank(0));
        return new WeightForm([.. Enumerable.Range(0, node.Rank(0)).Select(axis => axis == along ? WeightAxis.Stack : WeightAxis.Output)]);
    }

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        AxisExpression[] axes = node.In(0);
        int along = NodeAxes.Normalize(node.Int("axis", 0), axes.Length);
        node.Pin(axes[along], "it picks indices along this axis");
        AxisExpression[] indices = node.In(1);
        foreach (AxisExpression axis in indices)
            node.Pin(axis, "its indices");
        node.SetOut(0, [.. axes.Take(along), .. indices, .. axes.Skip(along + 1)]);
    }

    // An embedding: rows of a weight, picked by data.
    public override AxisExpression? Produces(NodeAxes node) =>
        node.IsWeight(0) && !node.IsWeight(1) && node.Rank(0) == 2 && node.Int("axis", 0) == 0 && node.HasOutput(0) ? node.Out(0)[^1] : null;

    public override FreshValue Fresh(NodeAxes node, int input) => FreshValue.HeNormal;
}

/// <summary>Pad: axes that are padded get fixed parts in front and behind.</summary>
internal sealed class PadRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Pad"];

    public override bool Rearranges => true;

    // What it pads with stands beside the values.
    public override Homogeneity? Scaling(NodeAxes node) =>
        (node.Attribute("value")?.F ?? 0) == 0 ? new Homogeneity([(0, 1)], [2]) : null;

    public override bool ListsSizes(int input) => input > 0;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        long[] dims = node.OutputDims(0)!;
        long[]? pads = node.IntList("pads") ?? node.IntList("paddings") ?? node.Ints(1);
        node.KeepWhole(axes);
        for (int input = 1; input < node.Node.Input.Count; input++)
            if (node.Has(input))
                node.In(input);
        bool constant = (node.Text("mode") ?? "constant") == "constant";
        // Mirrored and repeated positions hold what others hold; a number that is padded with must be 0 to leave zeros alone.
        bool zero = !constant || (node.Attribute("value")?.F ?? 0) == 0 && (node.Node.Input.Count < 3 || node.Node.Input[2].Length == 0 || node.Scalar(2) == 0);
        node.Carries(zero ? NewChannels.Zero | NewChannels.Mean : NewChannels.Mean);
        // The axes that the pads are for became an input in operator set 18.
        bool listed = node.Node.Input.Count > 3 && node.Node.Input[3].Length > 0;
        List<int>? padded = !listed ? [.. Enumerable.Range(0, axes.Length)]
            : node.Ints(3)?.Select(axis => NodeAxes.Normalize(axis, axes.Length)).ToList();
        bool known = pads is not null && padded is not null && pads.Length == 2 * padded.Count;
        node.SetOut(0, axes.Select((axis, i) =>
        {
            int at = known ? padded!.IndexOf(i) : -1;
            (long before, long after) = at < 0 ? (0, 0) : (pads![at], pads[at + padded!.Count]);
            if (known && before == 0 && after == 0)
                return axis;
            if (known && constant && before >= 0 && after >= 0)
            {
                const string Why = "padding that the parent does not know";
                return AxisSolver.Concat([node.Fixed(before, Why), axis, node.Fixed(after, Why)]);
            }

            // Pads that are computed, negative or mirrored: an axis whose size stays is taken as padded too.
            node.Pin(axis, "it pads this axis");
            return node.Fixed(dims[i], "it pads this axis");
        }));
    }
}
