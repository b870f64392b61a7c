using OnnxMorph.Axes;
using OnnxMorph.Weights;

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
        int? centred = CentredAxis(node);
        for (int axis = 0; axis < rank; axis++)
        {
            AxisExpression? shared = null;
            AxisExpression? broadcast = null;
            var along = new bool[node.Node.Input.Count];
            for (int input = 0; input < node.Node.Input.Count; input++)
            {
                if (!node.Has(input))
                    continue;
                int own = axis - (rank - node.Rank(input));
                if (own < 0)
                    continue;
                along[input] = node.In(input, own).Size > 1;
                AxisExpression part = node.In(input, own);
                if (part.Size == 1)
                    broadcast = part;
                else if (shared is null)
                    shared = part;
                else
                    node.Tie(shared, part);
            }

            axes[axis] = shared ?? broadcast ?? node.Fixed(1, "an axis of size 1");
            NewChannels carried = NewChannelRules.Through(node, along);
            node.LearnsFromZeros(axes[axis], rank - 1 - axis, along);
            for (int input = 0; input < node.Node.Input.Count; input++)
                if (node.Has(input) && axis - (rank - node.Rank(input)) is >= 0 and var own)
                    node.Carries(input, own, carried);
            if (axis == centred)
            {
                node.Carries(0, axis, NewChannels.Mean);
                axes[axis] = node.Centred(axes[axis]);
                carried = NewChannels.Zero;
            }

            for (int output = 0; output < node.Node.Output.Count; output++)
                node.OutputCarries(output, axis, carried);
        }

        if (!KeepsSums(node))
            node.KeepWhole(axes);
        if (Partial(node) is { } operand && node.Has(operand))
            node.RequireCopies(node.In(operand));

        for (int output = 0; output < node.Node.Output.Count; output++)
            if (node.HasOutput(output))
                node.SetOut(output, axes);
    }

    // The axis of x − mean(x) that the mean is over, as exporters write the first half of a layer norm.
    private static int? CentredAxis(NodeAxes node) =>
        node.Node.OpType == "Sub" && node.Has(0) && node.Has(1) && node.Rank(0) == node.Rank(1)
        && node.Producer(1) is { OpType: "ReduceMean" } mean && mean.Input[0] == node.Node.Input[0]
            ? ReductionRule.KeptAxis(mean, node) : null;

    // Linear in its only varying operand, with scalars beside it.
    private static bool KeepsSums(NodeAxes node) => node.Node.OpType switch
    {
        "Neg" or "Dropout" => true,
        "Mul" => IsScalar(node, 0) || IsScalar(node, 1),
        "Div" => IsScalar(node, 1),
        _ => false,
    };

    private static bool IsScalar(NodeAxes node, int input) => node.In(input).All(a => a.Size == 1);

    // The operand that may leave the operator's domain, so that the result is infinite or no number. Constants that are read
    // as they stand have fresh values inside it.
    private static int? Partial(NodeAxes node) => node.Node.OpType switch
    {
        "Acos" or "Acosh" or "Asin" or "Atanh" or "Log" or "Reciprocal" or "Sqrt" or "Tan" => 0,
        "Div" or "Mod" => node.IsConstant(1) ? null : 1,
        "Pow" => !node.IsConstant(1) ? 1 : node.Scalar(1) is double power && power >= 0 && power == Math.Floor(power) ? null : 0,
        _ => null,
    };

    public override FreshValue Fresh(NodeAxes node, int input) => node.Node.OpType switch
    {
        "Mul" or "Div" or "Pow" or "Max" or "Min" => FreshValue.One,
        "PRelu" => FreshValue.Quarter,
        _ => FreshValue.Zero,
    };

    // A vector along one axis that is added to what a layer or a norm makes is its bias, one that multiplies it its scale; other constants
    // are tables and numbers that the network was built with.
    public override bool IsParameter(NodeAxes node, int input) => node.Node.OpType switch
    {
        "PRelu" or "BiasGelu" or "FastGelu" => input == 1,
        "Add" or "Mul" => node.Has(1 - input) && !node.IsWeight(1 - input) && node.Rank(input) > 0 && node.In(input).Count(axis => axis.Size > 1) <= 1
            && node.IsMadeByParameters(1 - input),
        _ => false,
    };

    public override Homogeneity? Scaling(NodeAxes node)
    {
        int inputs = node.Node.Input.Count;
        switch (node.Node.OpType)
        {
            case "Abs" or "Dropout" or "LeakyRelu" or "Neg" or "PRelu" or "Relu":
                return Homogeneity.Of();
            case "Add" or "Max" or "Mean" or "Min" or "Sub" or "Sum":
                return Homogeneity.Sum(inputs);
            case "Where":
                return new Homogeneity([], [1, 2]);
            case "Mul":
                return Homogeneity.Product();
            case "Div":
                return new Homogeneity([(0, 1), (1, -1)], []);
            case "Sqrt":
                return Homogeneity.Of(0.5);
            case "Reciprocal":
                return Homogeneity.Of(-1);
            case "Pow":
                return node.Scalar(1) is { } power ? Homogeneity.Of(power) : null;
            case "Clip":
                return NewChannelRules.Limit(node, 1, "min", double.NegativeInfinity) is 0 or double.NegativeInfinity
                    && NewChannelRules.Limit(node, 2, "max", double.PositiveInfinity) is 0 or double.PositiveInfinity ? Homogeneity.Of() : null;
            default:
                return null;
        }
    }
}

/// <summary>Operators that give their first input on, element by element.</summary>
internal sealed class PassThroughRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Identity", "Cast"];

    public override bool MovesElements => true;

    public override Homogeneity? Scaling(NodeAxes node) =>
        node.Node.OpType == "Identity" || ((ElementType)node.Int("to", 0)).IsScalable() ? Homogeneity.Of() : null;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = node.In(0);
        bool rounds = node.Node.OpType == "Cast" && !((ElementType)node.Int("to", 0)).IsScalable();
        if (rounds)
            node.KeepWhole(axes);
        node.Carries(rounds ? NewChannels.Zero : NewChannels.Zero | NewChannels.Mean);
        node.SetOut(0, axes);
    }

    // What the network computes with stays as it is in the parent (a scale 1/√d, say).
    public override void Patch(NodePatch patch)
    {
        if (patch.Axes.ReadsSizes.Any(axis => patch.NewSize(axis) != axis.Size))
            patch.OverrideInput(0, [.. patch.Axes.Ints(0)!.Select(size => (long?)size)]);
    }
}

/// <summary>Operators that read sizes or make tensors; no axis of theirs is anybody else's.</summary>
internal sealed class SizeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["Shape", "Size"];

    public override Homogeneity? Scaling(NodeAxes node) => Homogeneity.Of(0);

    public override void Tie(NodeAxes node)
    {
        node.Carries(NewChannels.Zero | NewChannels.Mean);
        node.In(0);
        // Shapes are followed from value to value; a constant has other forms at other uses.
        if (node.IsConstant(0))
            node.PinInput(0, "it reads the sizes of a constant");
    }
}

/// <summary>Tensors made from a list of sizes.</summary>
internal sealed class ConstantOfShapeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["ConstantOfShape"];

    public override bool ListsSizes(int input) => true;

    public override void Tie(NodeAxes node)
    {
        AxisExpression[] axes = [.. node.OutputDims(0)!.Select((size, axis) => node.IsSymbolic(0, axis)
            ? node.Fixed(size, "its size depends on the caller's")
            : node.Solver.Fresh(size, node.Reason("an axis of size 1")))];
        node.KeepWhole(axes);
        node.SetOut(0, axes);
        foreach (AxisExpression axis in node.In(0))
            node.Pin(axis, "it lists sizes");
    }

    public override void Patch(NodePatch patch)
    {
        if (patch.Axes.Ints(0) is { } sizes)
            patch.FollowSizes(0, sizes, _ => null);
    }
}
