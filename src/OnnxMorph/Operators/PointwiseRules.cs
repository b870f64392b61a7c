using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>Operators that work on each element on its own; operands of several are broadcast against each other.</summary>
internal sealed class PointwiseRule : OperatorRule
{
    public override IEnumerable<string> Operators =>
    [
        // One operand.
        "Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "BitwiseNot", "Ceil", "Celu", "Clip", "Cos", "Cosh", "Dropout",
        "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish", "IsInf", "IsNaN", "LeakyRelu", "Log", "Mish", "Neg",
        "Not", "Reciprocal", "Relu", "Round", "Selu", "Shrink", "Sigmoid", "Sign", "Sin", "Sinh", "Softplus", "Softsign", "Sqrt",
        "Swish", "Tan", "Tanh", "ThresholdedRelu", "com.microsoft:Gelu", "com.microsoft:QuickGelu",

        // Several, broadcast.
        "Add", "And", "BitShift", "BitwiseAnd", "BitwiseOr", "BitwiseXor", "Div", "Equal", "Greater", "GreaterOrEqual", "Less",
        "LessOrEqual", "Max", "Mean", "Min", "Mod", "Mul", "Or", "PRelu", "Pow", "Sub", "Sum", "Where", "Xor",
        "com.microsoft:BiasGelu", "com.microsoft:FastGelu",
    ];

    public override void Tie(NodeAxes node)
    {
        int rank = node.OutputDims(0)!.Length;
        var axes = new AxisExpression[rank];
        for (int axis = 0; axis < rank; axis++)
        {
            AxisExpression? shared = null;
            AxisExpression? broadcast = null;
            for (int input = 0; input < node.Node.Input.Count; input++)
            {
                if (!node.Has(input))
                    continue;
                int own = axis - (rank - node.Rank(input));
                if (own < 0)
                    continue;
                AxisExpression part = node.In(input, own);
                if (part.Size == 1)
                    broadcast = part;
                else if (shared is null)
                    shared = part;
                else
                    node.Tie(shared, part);
            }

            if (LeavesDomain(node, axis, rank))
                node.Solver.RequireCopies(shared ?? broadcast ?? node.Fixed(1, ""), node.Reason("new random channels could lie outside its domain"));
            axes[axis] = shared ?? broadcast ?? node.Fixed(1, "an axis of size 1");
            // A scale or a sum does not care whether an axis is contracted later; anything else would not commute with it.
            if (!KeepsSums(node))
                node.Solver.RequirePrimal(axes[axis], node.Reason("a non-linear operator on a weight that is summed over later"));
        }

        for (int output = 0; output < node.Node.Output.Count; output++)
            if (node.HasOutput(output))
                node.SetOut(output, axes);
    }

    // Whether random values can become NaN or infinite, which even a weight of zero would carry on. Fresh operands that are
    // constants start at 1; a whole exponent takes any base.
    private static bool LeavesDomain(NodeAxes node, int axis, int rank) => node.Node.OpType switch
    {
        "Acos" or "Acosh" or "Asin" or "Atanh" or "Exp" or "Log" or "Mod" or "Reciprocal" or "Sqrt" or "Tan" => true,
        "Div" => !node.IsWeight(1) && axis - (rank - node.Rank(1)) is >= 0 and var own && node.In(1, own).Size > 1,
        "Pow" => node.Scalar(1) is not { } exponent || exponent < 0 || exponent != Math.Floor(exponent),
        _ => false,
    };

    // Linear in its only varying operand, with scalars beside it.
    private static bool KeepsSums(NodeAxes node) =>
        node.Node.OpType is "Neg" or "Dropout"
        || (node.Node.OpType is "Mul" or "Div"
            && Enumerable.Range(0, node.Node.Input.Count).Count(i => node.Has(i) && node.In(i).Any(a => a.Size != 1)) <= 1);

    public override FreshValue Fresh(NodeAxes node, int input) => node.Node.OpType switch
    {
        "Mul" or "Div" or "Pow" or "Max" or "Min" => FreshValue.One,
        "PRelu" => FreshValue.Quarter,
        _ => FreshValue.Zero,
    };
}

/// <summary>Operators that give their first input on, element by element.</summary>
internal sealed class PassThroughRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Identity", "Cast"];

    public override bool MovesElements => true;

    public override void Tie(NodeAxes node) => node.SetOut(0, node.In(0));

    // What the network computes with stays as it is in the parent (a scale 1/√d, say).
    public override void Patch(NodePatch patch)
    {
        if (patch.Axes.ReadsSizes.Any(axis => patch.NewSize(axis) != axis.Size))
            patch.OverrideInput(0, [.. patch.Axes.Ints(0)!.Select(size => (long?)size)]);
    }
}

/// <summary>Linear quantisation: scales and zero points lie along one axis.</summary>
internal sealed class QuantizeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["QuantizeLinear", "DequantizeLinear"];

    public override void Tie(NodeAxes node)
    {
        int axis = NodeAxes.Normalize(node.Int("axis", 1), Math.Max(node.Rank(0), 1));
        bool blocked = node.Int("block_size", 0) != 0;
        for (int input = 1; input < node.Node.Input.Count; input++)
        {
            if (!node.Has(input) || node.Rank(input) == 0)
                continue;
            if (blocked || node.Rank(input) > 1)
            {
                node.PinInput(0, "block-wise quantisation");
                node.PinInput(input, "block-wise quantisation");
            }
            else if (node.In(input, 0).Size > 1)
                node.Tie(node.In(0, axis), node.In(input, 0));
        }

        AxisExpression[] axes = node.In(0);
        foreach (AxisExpression part in axes)
            node.Solver.RequirePrimal(part, node.Reason("a quantised weight cannot be split over copies"));
        node.SetOut(0, axes);
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.One : FreshValue.Zero;
}

/// <summary>Operators that read sizes or make tensors; no axis of theirs is anybody else's.</summary>
internal sealed class SizeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Shape", "Size"];

    public override void Tie(NodeAxes node) => node.In(0);
}

/// <summary>Tensors made from a list of sizes.</summary>
internal sealed class ConstantOfShapeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["ConstantOfShape"];

    public override void Tie(NodeAxes node)
    {
        long[] dims = node.OutputDims(0)!;
        node.SetOut(0, dims.Select((size, axis) => node.IsSymbolic(0, axis)
            ? node.Fixed(size, "its size depends on the caller's")
            : node.Solver.Fresh(size, node.Reason("an axis of size 1"))));
        foreach (AxisExpression axis in node.In(0))
            node.Pin(axis, "it lists sizes");
    }

    public override void Patch(NodePatch patch)
    {
        if (patch.Axes.Ints(0) is { } sizes)
            patch.FollowSizes(0, sizes, _ => false);
    }
}
