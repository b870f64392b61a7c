using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>
/// Linear quantisation, q = round(x / scale) + zero and x = (q − zero)·scale: scales and zero points are one number each, or lie along
/// one axis. Activations keep their channels, which it rounds one by one. A weight can be picked from: copies of what is rounded are
/// rounded copies, and 0 is rounded to 0 exactly; it can neither be split over copies nor drawn.
/// </summary>
internal sealed class QuantizeRule : OperatorRule
{
    public override IEnumerable<string> Operators => ["QuantizeLinear", "DequantizeLinear"];

    public override bool IsQuantised(int input) => input is 0 or 2;

    public override void Tie(NodeAxes node)
    {
        int axis = Axis(node);
        bool blocked = IsBlocked(node);
        int? scaled = null;
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
            {
                node.Tie(node.In(0, axis), node.In(input, 0));
                scaled = axis;
            }
        }

        AxisExpression[] axes = node.In(0);
        for (int i = 0; i < axes.Length; i++)
        {
            if (!IsWeight(node))
                node.KeepWhole([axes[i]], "it rounds, so what it makes cannot be split over copies");
            else if (i == scaled)
                node.KeepWhole([axes[i]], "its scales lie along an axis that is summed over");
            else if (node.IsConstant(0) && node.Node.OpType == "DequantizeLinear" && ZeroPoint(node) is null)
                node.KeepWhole([axes[i]], "its zero points differ, so no one number stands for 0");
            if (IsWeight(node))
                node.RequirePicks(axes[i], "its weight is quantised: channels can be copied, with --widen-method replicate, but not drawn or mixed");
        }

        if (ZeroPoint(node) == 0)
            node.Carries(NewChannels.Zero);
        node.SetOut(0, axes);
    }

    /// <summary>Whether scales or zero points lie along an axis that has a map.</summary>
    public static bool Scales(NodeAxes node, IReadOnlyList<AxisMap?> maps) =>
        IsBlocked(node) || (maps[Axis(node)] is not null && Enumerable.Range(1, node.Node.Input.Count - 1).Any(input => node.Has(input) && node.In(input).Any(a => a.Size > 1)));

    private static int Axis(NodeAxes node) => NodeAxes.Normalize(node.Int("axis", 1), Math.Max(node.Rank(0), 1));

    private static bool IsBlocked(NodeAxes node) => node.Int("block_size", 0) != 0;

    // A weight that stands in the file as it is rounded or just before: nothing between could change what was picked.
    private static bool IsWeight(NodeAxes node) =>
        node.IsConstant(0) || (node.Producer(0) is { OpType: "QuantizeLinear" or "DequantizeLinear" } && node.IsWeight(0) && node.IsProducedFromConstant(0));

    /// <summary>The integer that stands for 0 everywhere; null where there is no one such integer.</summary>
    public static long? ZeroPoint(NodeAxes node)
    {
        if (node.Node.Input.Count < 3 || node.Node.Input[2].Length == 0)
            return 0;
        return node.Integers(2) is { Length: > 0 } zeros && zeros.All(zero => zero == zeros[0]) ? zeros[0] : null;
    }

    public override FreshValue Fresh(NodeAxes node, int input) => input == 1 ? FreshValue.One : FreshValue.Zero;
}

/// <summary>Layers that compute in integers: their sums are rounded once more, with scales that no rule follows.</summary>
internal sealed class IntegerLayerRule : OperatorRule
{
    public override IEnumerable<string> Operators =>
    [
        "QLinearConv", "QLinearMatMul", "ConvInteger", "MatMulInteger", "com.microsoft:QGemm", "com.microsoft:MatMulIntegerToFloat",
        "com.microsoft:DynamicQuantizeMatMul", "com.microsoft:MatMulNBits", "com.microsoft:QAttention",
    ];

    public override bool HasWeights => true;

    public override string? Unsupported =>
        "it computes with quantised integers; export the model with QuantizeLinear and DequantizeLinear around float layers (QDQ) instead";

    public override void Tie(NodeAxes node) => throw new InvalidOperationException(Unsupported);
}
