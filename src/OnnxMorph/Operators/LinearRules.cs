using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>
/// Convolutions of any number of dimensions, grouped and depthwise: x[N, G×I, …] ⋆ W[G×O, I*, k…] + b[G×O].
/// </summary>
internal sealed class ConvolutionRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Conv", "com.microsoft:FusedConv"];

    public override bool HasWeights => true;

    public override void Tie(NodeAxes node)
    {
        long groups = node.Int("group", 1);
        const string Uneven = "its channels cannot be divided into its groups";
        AxisExpression result = node.In(1, 0);
        CarryChannels(node, groups);
        if (groups == 1)
            node.Contract(0, node.In(0, 1), 1, node.In(1, 1));
        else if (node.Solver.Factor(node.In(0, 1), groups, node.Reason(Uneven)) is { } input
            && node.Solver.Factor(node.In(1, 0), groups, node.Reason(Uneven)) is { } output)
        {
            node.Tie(input.Outer, output.Outer);
            node.Contract(0, input.Inner, 1, node.In(1, 1));
            result = node.In(1, 0);
        }
        else
        {
            node.Pin(node.In(0, 1), Uneven);
            node.Pin(node.In(1, 0), Uneven);
        }

        TieRest(node, 1, result);
    }

    /// <summary>
    /// The input's channels are summed over and those of the result made, so zeros and means go through; what a group makes of
    /// zeros is zero, but groups cannot be averaged.
    /// </summary>
    internal static void CarryChannels(NodeAxes node, long groups)
    {
        NewChannels channels = groups == 1 ? NewChannels.Zero | NewChannels.Mean : NewChannels.Zero;
        node.Carries(channels);
        // An activation that is fused in, and sums with a value of the graph, are not looked at.
        if (node.Attribute("activation") is not null || node.Has(3))
            node.OutputCarries(0, 1, NewChannels.None);
    }

    /// <summary>Ties bias and residual input to the result's channels and fixes batch and spatial axes' parts.</summary>
    internal static void TieRest(NodeAxes node, int spatialInput, AxisExpression channels)
    {
        if (node.Has(2))
            node.Tie(node.In(2, 0), channels);
        node.KeepWhole([node.In(0, 0), channels]);
        for (int axis = 2; axis < node.Rank(0); axis++)
        {
            node.Pin(node.In(0, axis), "it slides over this axis");
            node.Pin(node.In(spatialInput, axis), "it slides over this axis");
        }

        long[] dims = node.OutputDims(0)!;
        AxisExpression[] result = [node.In(0, 0), channels, .. dims.Skip(2).Select(size => node.Fixed(size, "a spatial size"))];
        if (node.Has(3))
            for (int axis = 0; axis < node.Rank(3); axis++)
                node.Tie(node.In(3, axis), result[axis]);
        node.SetOut(0, result);
    }

    public override void Patch(NodePatch patch) => PatchGroups(patch);

    /// <summary>Sets the number of groups where the outer part of the input's channels, which stands for them, changes.</summary>
    internal static void PatchGroups(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        long groups = node.Int("group", 1);
        if (groups > 1 && node.Solver.Factor(node.In(0, 1), groups, node.Reason("")) is { } channels)
        {
            long wanted = patch.NewSize(channels.Outer);
            if (wanted != groups)
                patch.SetInt("group", wanted);
        }
    }

    public override LinearLayer? AsLinear(NodeAxes node) =>
        !node.IsWeight(1) ? null : new LinearLayer(1, 2, 1, 0, node.Rank(1) - 2, node.Int("group", 1), false);

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.HeNormal : FreshValue.Zero;

    public override bool IsParameter(NodeAxes node, int input) => input is 1 or 2;

    public override WeightForm? Form(NodeAxes node, int input) => input == 1
        ? new WeightForm([WeightAxis.Output, WeightAxis.Input, .. Enumerable.Repeat(WeightAxis.Tap, node.Rank(1) - 2)], (int)node.Int("group", 1)) : null;

    // An activation that is fused in may be any.
    public override Homogeneity? Scaling(NodeAxes node) =>
        node.Attribute("activation") is null || node.Text("activation") == "Relu" ? Homogeneity.Product(2, 3) : null;
}

/// <summary>Transposed convolutions: x[N, G×I, …] with W[G×I*, O, k…] + b[G×O].</summary>
internal sealed class TransposedConvolutionRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["ConvTranspose"];

    public override bool HasWeights => true;

    public override void Tie(NodeAxes node)
    {
        long groups = node.Int("group", 1);
        const string Uneven = "its channels cannot be divided into its groups";
        AxisExpression result = node.In(1, 1);
        ConvolutionRule.CarryChannels(node, groups);
        if (groups == 1)
            node.Contract(0, node.In(0, 1), 1, node.In(1, 0));
        else if (node.Solver.Factor(node.In(0, 1), groups, node.Reason(Uneven)) is { } input
            && node.Solver.Factor(node.In(1, 0), groups, node.Reason(Uneven)) is { } weight)
        {
            node.Tie(input.Outer, weight.Outer);
            node.Contract(0, input.Inner, 1, weight.Inner);
            result = AxisSolver.Product([node.Solver.Resolve(input.Outer), node.In(1, 1)]);
        }
        else
        {
            node.Pin(node.In(0, 1), Uneven);
            node.Pin(node.In(1, 0), Uneven);
            node.Pin(node.In(1, 1), Uneven);
            result = node.Fixed(groups * node.In(1, 1).Size, Uneven);
        }

        ConvolutionRule.TieRest(node, 1, result);
    }

    public override void Patch(NodePatch patch) => ConvolutionRule.PatchGroups(patch);

    public override LinearLayer? AsLinear(NodeAxes node) =>
        !node.IsWeight(1) ? null : new LinearLayer(1, 2, 1, 1, node.Rank(1) - 2, node.Int("group", 1), true);

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.HeNormal : FreshValue.Zero;

    public override bool IsParameter(NodeAxes node, int input) => input is 1 or 2;

    public override WeightForm? Form(NodeAxes node, int input) => input == 1
        ? new WeightForm([WeightAxis.Input, WeightAxis.Output, .. Enumerable.Repeat(WeightAxis.Tap, node.Rank(1) - 2)], (int)node.Int("group", 1)) : null;

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Product(2);
}

/// <summary>MatMul with numpy's broadcasting: [… m, k] · [… k, n].</summary>
internal sealed class MatMulRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["MatMul"];

    public override bool HasWeights => true;

    public override void Tie(NodeAxes node)
    {
        int leftRank = node.Rank(0), rightRank = node.Rank(1);
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        AxisExpression leftInner = node.In(0, -1);
        AxisExpression rightInner = node.In(1, rightRank == 1 ? 0 : -2);
        node.Contract(0, leftInner, 1, rightInner);

        int leftBatch = Math.Max(leftRank - 2, 0), rightBatch = Math.Max(rightRank - 2, 0);
        int batch = Math.Max(leftBatch, rightBatch);
        var axes = new List<AxisExpression>();
        for (int axis = 0; axis < batch; axis++)
        {
            int l = axis - (batch - leftBatch), r = axis - (batch - rightBatch);
            AxisExpression? left = l >= 0 ? node.In(0, l) : null, right = r >= 0 ? node.In(1, r) : null;
            if (left is { Size: > 1 } && right is { Size: > 1 })
            {
                node.Tie(left, right);
                node.KeepWhole([left]);
                node.OutputCarries(0, axis, NewChannels.Zero);
            }

            axes.Add(left is { Size: > 1 } || right is null ? left! : right);
        }

        if (leftRank > 1)
            axes.Add(node.In(0, -2));
        if (rightRank > 1)
            axes.Add(node.In(1, -1));
        node.SetOut(0, axes);
    }

    public override LinearLayer? AsLinear(NodeAxes node)
    {
        int rank = node.OutputDims(0)!.Length;
        if (node.IsWeight(1) && !node.IsWeight(0) && node.Rank(1) == 2 && node.Rank(0) > 1)
            return new LinearLayer(1, -1, rank - 1, 1, 0, 1, false);
        return null;
    }

    // Stacks of matrices and matrices on the left make an axis as well, if not one that a layer can be put behind.
    public override AxisExpression? Produces(NodeAxes node) =>
        !node.HasOutput(0) || node.IsWeight(0) == node.IsWeight(1) ? null
        : node.IsWeight(1) && node.Rank(1) > 1 ? node.Out(0)[^1]
        : node.IsWeight(0) && node.Rank(0) > 1 ? node.Out(0)[node.Rank(1) > 1 ? ^2 : ^1]
        : null;

    public override FreshValue Fresh(NodeAxes node, int input) => FreshValue.HeNormal;

    public override WeightForm? Form(NodeAxes node, int input) => WeightForm.Matrix(node.Rank(input), transposed: input == 0);

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Product();
}

/// <summary>Gemm: alpha · A' · B' + beta · C.</summary>
internal sealed class GemmRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Gemm"];

    public override bool HasWeights => true;

    public override void Tie(NodeAxes node)
    {
        int transA = (int)node.Int("transA", 0), transB = (int)node.Int("transB", 0);
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        node.Contract(0, node.In(0, 1 - transA), 1, node.In(1, transB));
        AxisExpression[] axes = [node.In(0, transA), node.In(1, 1 - transB)];
        if (node.Has(2))
        {
            for (int axis = 0; axis < node.Rank(2); axis++)
            {
                AxisExpression part = node.In(2, axis);
                if (part.Size != 1)
                    node.Tie(part, axes[axis + 2 - node.Rank(2)]);
                else
                    node.OutputCarries(0, axis + 2 - node.Rank(2), NewChannels.Mean);
            }

            for (int axis = 0; axis < 2 - node.Rank(2); axis++)
                node.OutputCarries(0, axis, NewChannels.Mean);

            node.KeepWhole(axes);
        }

        node.SetOut(0, axes);
    }

    public override LinearLayer? AsLinear(NodeAxes node) =>
        node.IsWeight(1) && !node.IsWeight(0)
            ? new LinearLayer(1, 2, 1, node.Int("transB", 0) == 0 ? 1 : 0, 0, 1, false)
            : null;

    public override FreshValue Fresh(NodeAxes node, int input) => input == 2 ? FreshValue.Zero : FreshValue.HeNormal;

    public override bool IsParameter(NodeAxes node, int input) => true;

    public override WeightForm? Form(NodeAxes node, int input) =>
        input == 2 ? null : WeightForm.Matrix(2, (node.Int(input == 0 ? "transA" : "transB", 0) != 0) == (input == 1));

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Product(2);
}

/// <summary>Einsum without ellipsis or repeated letters in one operand: letters are axes, missing letters are summed over.</summary>
internal sealed class EinsumRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Einsum"];

    public override void Tie(NodeAxes node)
    {
        string equation = (node.Text("equation") ?? "").Replace(" ", "");
        string[] sides = equation.Split("->");
        string[] operands = sides[0].Split(',');
        if (sides.Length != 2 || equation.Contains('.') || operands.Length > 2 || operands.Any(o => o.Distinct().Count() != o.Length))
        {
            for (int i = 0; i < node.Node.Input.Count; i++)
                node.PinInput(i, "an Einsum equation of this form is not followed");
            return;
        }

        node.Carries(NewChannels.Zero | NewChannels.Mean);
        foreach (char letter in sides[1].Where(letter => operands.All(o => o.Contains(letter)) && operands.Length > 1))
            node.OutputCarries(0, sides[1].IndexOf(letter), NewChannels.Zero);
        var axes = new Dictionary<char, AxisExpression>();
        for (int i = 0; i < operands.Length; i++)
        {
            for (int axis = 0; axis < operands[i].Length; axis++)
            {
                char letter = operands[i][axis];
                AxisExpression part = node.In(i, axis);
                if (sides[1].Contains(letter))
                {
                    if (axes.TryGetValue(letter, out AxisExpression? other) && other.Size > 1 && part.Size > 1)
                    {
                        node.Tie(other, part);
                        node.KeepWhole([part]);
                    }

                    if (other is null || other.Size == 1)
                        axes[letter] = part;
                }
                else if (axes.TryGetValue(letter, out AxisExpression? left))
                    node.Contract(0, left, 1, part);
                else
                    axes[letter] = part;
            }
        }

        foreach ((char letter, AxisExpression part) in axes)
            if (!sides[1].Contains(letter) && operands.Count(o => o.Contains(letter)) == 1)
                node.Pin(part, "it sums over this axis");
        node.SetOut(0, sides[1].Select(letter => node.Solver.Resolve(axes[letter])));
    }

    // The letters that only the weight brings into the result.
    public override AxisExpression? Produces(NodeAxes node)
    {
        if (node.Node.Input.Count != 2 || !node.HasOutput(0) || node.IsWeight(0) == node.IsWeight(1))
            return null;
        string[] sides = (node.Text("equation") ?? "").Replace(" ", "").Split("->");
        string[] operands = sides[0].Split(',');
        if (sides.Length != 2 || operands.Length != 2 || sides[1].Contains('.'))
            return null;
        string values = operands[node.IsWeight(0) ? 1 : 0];
        AxisExpression[] made = [.. sides[1].Select((letter, axis) => (letter, axis)).Where(x => !values.Contains(x.letter)).Select(x => node.Out(0)[x.axis])];
        return made.Length == 0 ? null : node.Solver.Resolve(AxisSolver.Product(made));
    }

    public override FreshValue Fresh(NodeAxes node, int input) => FreshValue.HeNormal;

    public override WeightForm? Form(NodeAxes node, int input)
    {
        string[] sides = (node.Text("equation") ?? "").Replace(" ", "").Split("->");
        string[] operands = sides[0].Split(',');
        if (sides.Length != 2 || operands.Length != node.Node.Input.Count || sides[0].Contains('.') || operands.Any(o => o.Distinct().Count() != o.Length))
            return null;
        return new WeightForm([.. operands[input].Select(letter => !sides[1].Contains(letter) ? WeightAxis.Input
            : operands.Where((_, other) => other != input).Any(o => o.Contains(letter)) ? WeightAxis.Stack : WeightAxis.Output)]);
    }

    public override Homogeneity? Scaling(NodeAxes node) => new([.. Enumerable.Range(0, node.Node.Input.Count).Select(i => (i, 1.0))], []);
}

/// <summary>LSTM, GRU and RNN: gates × hidden, as ONNX lays them out.</summary>
internal sealed class RecurrentRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["LSTM", "GRU", "RNN"];

    private static int Gates(NodeAxes node) => node.Node.OpType switch { "LSTM" => 4, "GRU" => 3, _ => 1 };

    public override void Tie(NodeAxes node)
    {
        int gates = Gates(node);
        bool batchFirst = node.Int("layout", 0) != 0;
        AxisExpression hidden = node.In(2, 2);
        node.Carries(0, 2, NewChannels.Zero | NewChannels.Mean);
        // W[directions, gates×hidden, in*], R[directions, gates×hidden, hidden*], B[directions, 2×gates×hidden].
        node.Contract(0, node.In(0, 2), 1, node.In(1, 2));
        hidden = AxisSolver.Dualize(hidden);
        foreach (int input in (int[])[1, 2])
            TieGates(node, input, 1, gates, hidden);
        if (node.Has(3))
            TieGates(node, 3, 1, 2 * gates, hidden);
        for (int input = 1; input <= 3; input++)
            if (node.Has(input))
                node.Pin(node.In(input, 0), "its directions are fixed");
        if (node.Has(4))
            node.Pin(node.In(4, 0), "sequence lengths");
        foreach (int input in (int[])[5, 6])
        {
            if (!node.Has(input))
                continue;
            node.Tie(node.In(input, 2), hidden);
            node.Pin(node.In(input, 0), "its directions are fixed");
            node.Tie(node.In(input, 1), node.In(0, batchFirst ? 0 : 1));
        }

        if (node.Has(7))
            TieGates(node, 7, 1, 3, hidden);
        hidden = node.Solver.Resolve(hidden);
        for (int output = 0; output < node.Node.Output.Count; output++)
        {
            if (!node.HasOutput(output))
                continue;
            long[] dims = node.OutputDims(output)!;
            node.SetOut(output, [.. dims.SkipLast(1).Select((size, axis) => node.Fixed(size, "a sequence, direction or batch axis")), hidden]);
        }

        foreach (int axis in (int[])[0, 1])
            node.Pin(node.In(0, axis), "a sequence or batch axis");
    }

    public override AxisExpression? Produces(NodeAxes node) =>
        Enumerable.Range(0, node.Node.Output.Count).Where(node.HasOutput).Select(output => node.Out(output)[^1]).FirstOrDefault();

    private static void TieGates(NodeAxes node, int input, int axis, int gates, AxisExpression hidden)
    {
        Pin reason = node.Reason("its gates cannot be told apart");
        if (node.Solver.Factor(node.In(input, axis), gates, reason) is { } factors)
        {
            node.Pin(factors.Outer, "its gates are fixed");
            node.Tie(factors.Inner, hidden);
        }
        else
        {
            node.Pin(node.In(input, axis), "its gates cannot be told apart");
            node.Pin(hidden, "its gates cannot be told apart");
        }
    }

    public override void Patch(NodePatch patch)
    {
        NodeAxes node = patch.Axes;
        if (node.Attribute("hidden_size") is not null)
            patch.SetInt("hidden_size", patch.NewSize(node.In(2, 2)));
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input is 1 or 2 ? FreshValue.HeNormal : FreshValue.Zero;

    private const int Peepholes = 7;

    public override bool IsParameter(NodeAxes node, int input) => input is 1 or 2 or 3 or Peepholes;

    // Each gate is a map of its own on what all of them read.
    public override WeightForm? Form(NodeAxes node, int input) => input is 1 or 2
        ? new WeightForm([WeightAxis.Stack, WeightAxis.Output, WeightAxis.Input], Gates(node), PartAxis: 1) : null;
}
