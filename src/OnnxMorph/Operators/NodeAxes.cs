using System.Text;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Operators;

/// <summary>
/// One node with the axes of its inputs and outputs, as operator rules see it: sizes, constants and attributes to read,
/// and the few statements that a rule can make about axes.
/// </summary>
public sealed class NodeAxes
{
    private readonly AxisAnalysis _analysis;
    private readonly AxisExpression[]?[] _inputs;
    private readonly AxisExpression[]?[] _outputs;
    private readonly HashSet<(int Input, int Axis)> _seen = [];
    private readonly Dictionary<(int, int), NewChannels> _inputCarries = [];
    private readonly Dictionary<(int, int), NewChannels> _outputCarries = [];
    private readonly List<(AxisExpression Axis, int FromLast, bool[] Along)> _zeros = [];
    private NewChannels _carries;

    internal NodeAxes(AxisAnalysis analysis, int index, AxisExpression[]?[] inputs)
    {
        _analysis = analysis;
        Index = index;
        Node = analysis.Graph.Nodes[index];
        _inputs = inputs;
        _outputs = new AxisExpression[]?[Node.Output.Count];
    }

    /// <summary>The node.</summary>
    public NodeProto Node { get; }

    /// <summary>Its number in the graph.</summary>
    public int Index { get; }

    /// <summary>The node as a linear layer; null where it is none, or its sizes are not known.</summary>
    public LinearLayer? Layer { get; internal set; }

    /// <summary>The axis that the node makes out of its weights; null where it makes none, or its sizes are not known.</summary>
    public AxisExpression? Produced { get; internal set; }

    /// <summary>Why the node's rule was not asked; null where it was.</summary>
    public Pin? Unknown { get; internal set; }

    /// <summary>The solver that all nodes share.</summary>
    public AxisSolver Solver => _analysis.Solver;

    /// <summary>Version of the operator set that the node's operator comes from.</summary>
    public int Opset => _analysis.Graph.Opset(Node.Domain);

    /// <summary>Whether input <paramref name="input"/> is given and its sizes are known.</summary>
    public bool Has(int input) => input < _inputs.Length && _inputs[input] is not null;

    /// <summary>Whether output <paramref name="output"/> exists and its sizes are known.</summary>
    public bool HasOutput(int output) => output < Node.Output.Count && Node.Output[output].Length > 0 && OutputDims(output) is not null;

    /// <summary>Element type of an input.</summary>
    public ElementType Type(int input) => _analysis.Shapes.Type(Node.Input[input]);

    /// <summary>Number of axes of an input.</summary>
    public int Rank(int input) => _inputs[input]!.Length;

    /// <summary>Sizes of an output at the sizes that shapes were evaluated with; null where unknown.</summary>
    public long[]? OutputDims(int output) => _analysis.Shapes.Dims(Node.Output[output]);

    /// <summary>What axis <paramref name="axis"/> of an input is made of; negative axes count from the end.</summary>
    public AxisExpression In(int input, int axis)
    {
        AxisExpression[] axes = _inputs[input]!;
        if (axis < 0)
            axis += axes.Length;
        _seen.Add((input, axis));
        return Solver.Resolve(axes[axis]);
    }

    /// <summary>All axes of an input.</summary>
    public AxisExpression[] In(int input) => [.. Enumerable.Range(0, Rank(input)).Select(axis => In(input, axis))];

    /// <summary>What the axes of an output were said to be.</summary>
    public AxisExpression[] Out(int output) => [.. _outputs[output]!.Select(Solver.Resolve)];

    /// <summary>Says what the axes of an output are.</summary>
    public void SetOut(int output, params IEnumerable<AxisExpression> axes)
    {
        if (output >= Node.Output.Count || Node.Output[output].Length == 0)
            return;
        AxisExpression[] all = [.. axes];
        if (OutputDims(output) is { } dims && (dims.Length != all.Length || dims.Where((size, i) => size != all[i].Size).Any()))
            throw new InvalidOperationException(
                $"{ModelGraph.Describe(Node)}: the rule gives output {output} the axes [{string.Join(", ", all.Select(a => a.Size))}], ONNX Runtime [{string.Join(", ", dims)}].");
        _outputs[output] = all;
    }

    /// <summary>A reason that names this node.</summary>
    public Pin Reason(string why) => new(ModelGraph.Describe(Node), why);

    /// <summary>Makes two axes one.</summary>
    public void Tie(AxisExpression left, AxisExpression right, string why = "its operands' axes are made of parts that do not line up") =>
        Solver.Unify(left, right, Reason(why));

    /// <summary>Fixes an axis.</summary>
    public void Pin(AxisExpression axis, string why) => Solver.Pin(axis, Reason(why));

    /// <summary>
    /// Demands that none of these axes of a weight is summed over later: its entries would be split over copies, and the node
    /// would not make of the parts what it makes of the whole.
    /// </summary>
    public void KeepWhole(IEnumerable<AxisExpression> axes, string why = "it is not linear, so the weight that it makes cannot be split over copies")
    {
        foreach (AxisExpression axis in axes)
            Solver.RequirePrimal(axis, Reason(why));
    }

    /// <summary>Demands that new channels are copies, since the node may turn channels of the child's own into infinities.</summary>
    public void RequireCopies(IEnumerable<AxisExpression> axes, string why = "it is not finite everywhere, so only copies of channels go through")
    {
        foreach (AxisExpression axis in axes)
            Solver.RequireCopies(axis, Reason(why));
    }

    /// <summary>Demands that a weight is only ever picked from, since its numbers are rounded one by one.</summary>
    public void RequirePicks(AxisExpression axis, string why) => Solver.RequirePicks(axis, Reason(why));

    /// <summary>Fixes every axis of an input.</summary>
    public void PinInput(int input, string why)
    {
        if (Has(input))
            foreach (AxisExpression axis in In(input))
                Pin(axis, why);
    }

    /// <summary>
    /// Says which new channels, beside copies, go through the node as what they are on every axis of every input and output:
    /// <see cref="NewChannels.Zero"/> where zeros give zeros, <see cref="NewChannels.Mean"/> where the node is linear. What is not
    /// said does not go through.
    /// </summary>
    public void Carries(NewChannels kinds) => _carries = kinds;

    /// <summary>Says the same of one axis of an input.</summary>
    public void Carries(int input, int axis, NewChannels kinds) => _inputCarries[(input, Normalize(axis, Rank(input)))] = kinds;

    /// <summary>Says the same of one axis of an output.</summary>
    public void OutputCarries(int output, int axis, NewChannels kinds) => _outputCarries[(output, axis)] = kinds;

    /// <summary>Says that channels of zeros along an axis of the result must learn through the node (<see cref="NewChannelRules.IsFlatAtZero"/>).</summary>
    /// <param name="axis">What the axis is made of.</param>
    /// <param name="fromLast">Its number, counted from the last.</param>
    /// <param name="along">For each input whether it runs along the axis.</param>
    public void LearnsFromZeros(AxisExpression axis, int fromLast, bool[] along) => _zeros.Add((axis, fromLast, along));

    /// <summary>The axis of a value less its mean over it: a space of its own where <paramref name="normalized"/> is one.</summary>
    public AxisExpression Centred(AxisExpression normalized)
    {
        if (Solver.Resolve(normalized) is not SpaceAxis { Dual: false } space)
            return normalized;
        Pin reason = Reason("it normalises over this axis");
        AxisExpression result = Solver.Fresh(space.Size, reason);
        Solver.Centre(space, result, reason);
        return result;
    }

    /// <summary>The node that makes an input; null where it is a constant or the caller's.</summary>
    public NodeProto? Producer(int input) =>
        input < Node.Input.Count && _analysis.Graph.Producer(Node.Input[input]) is { } n ? _analysis.Graph.Nodes[n] : null;

    /// <summary>
    /// Whether what an input reads is made by a node with parameters, nodes that only move elements in between, or normalised by several
    /// nodes: (x − mean) ÷ √var, or x · 1/√var.
    /// </summary>
    public bool IsMadeByParameters(int input)
    {
        for (NodeProto? node = Producer(input); node is not null; node = _analysis.Graph.Producer(node.Input[0]) is { } n ? _analysis.Graph.Nodes[n] : null)
        {
            if (OperatorRules.For(node) is not { } rule || _analysis.Graph.Producer(node.Output[0]) is not { } index || _analysis.Node(index) is not { Unknown: null } axes)
                return false;
            if (rule.MovesElements)
                continue;
            bool divides = node.OpType == "Div" || (node.OpType == "Mul" && Enumerable.Range(0, 2).Any(i => axes.Producer(i) is { OpType: "Reciprocal" or "Div" or "Pow" }));
            return Enumerable.Range(0, node.Input.Count).Any(i => axes.Has(i) && axes.IsWeight(i) && rule.IsParameter(axes, i))
                || (divides && Enumerable.Range(0, 2).All(i => !axes.IsWeight(i)));
        }

        return false;
    }

    /// <summary>All nodes that read what an input reads, this one included.</summary>
    public IEnumerable<NodeProto> Readers(int input) => _analysis.Graph.Uses(Node.Input[input]).Select(use => _analysis.Graph.Nodes[use.Node]);

    /// <summary>A fixed axis.</summary>
    public AxisExpression Fixed(long size, string why) => new FixedAxis(size, Reason(why));

    /// <summary>
    /// Sums over <paramref name="value"/> against <paramref name="weight"/>: the weight's axis is the dual of the value's.
    /// Where neither side comes from weights alone, both are a pair: copies on both sides would count twice.
    /// </summary>
    public void Contract(int valueInput, AxisExpression value, int weightInput, AxisExpression weight)
    {
        if (IsWeight(weightInput))
            Tie(value, AxisSolver.Dualize(weight));
        else if (IsWeight(valueInput))
            Tie(weight, AxisSolver.Dualize(value));
        else
            Solver.Pair(value, weight, Reason("it sums over this axis of two activations"));
    }

    /// <summary>Whether an input is computed from constants alone.</summary>
    public bool IsWeight(int input) => _analysis.IsWeight(Node.Input[input]);

    /// <summary>Whether an input stands in the file as it is read.</summary>
    public bool IsConstant(int input) => _analysis.Graph.ConstantOf(Node.Input[input]) is not null;

    /// <summary>Whether an input is made by a node whose first input stands in the file.</summary>
    public bool IsProducedFromConstant(int input) => Producer(input) is { Input: [var first, ..] } && _analysis.Graph.ConstantOf(first) is not null;

    /// <summary>The elements of an integer input that stands in the file, as numbers of its type; null where it does not.</summary>
    public long[]? Integers(int input) =>
        _analysis.Graph.ConstantOf(Node.Input[input]) is { } constant ? ConstantValues.Integers(_analysis.Graph, constant) : null;

    /// <summary>The number that an input holds where it is a constant with one element; null otherwise.</summary>
    public double? Scalar(int input)
    {
        if (Ints(input) is [long integer])
            return integer;
        if (_analysis.Graph.ConstantOf(Node.Input[input]) is not { Count: 1 } constant || !constant.Type.IsScalable())
            return null;
        return ConstantValues.Of(_analysis.Graph, constant)[0];
    }

    /// <summary>The integers of an input whose value is known; null where it is computed from data.</summary>
    public long[]? Ints(int input) => input < Node.Input.Count && Node.Input[input].Length > 0
        ? _analysis.Shapes.Ints(Node.Input[input]) : null;

    /// <summary>The integers of any value of the graph; null where it is computed from data.</summary>
    public long[]? IntsOf(string value) => _analysis.Shapes.Ints(value);

    /// <summary>Whether the size of an input's axis depends on the sizes that callers choose.</summary>
    public bool IsSymbolicInput(int input, int axis) => _analysis.Shapes.IsSymbolic(Node.Input[input], axis);

    /// <summary>Whether the size of an output's axis depends on the sizes that callers choose.</summary>
    public bool IsSymbolic(int output, int axis) => _analysis.Shapes.IsSymbolic(Node.Output[output], axis);

    /// <summary>Whether an axis of an output has size 1, whatever callers choose.</summary>
    public bool HasOnePosition(int output, int axis) => OutputDims(output)![axis] == 1 && !IsSymbolic(output, axis);

    /// <summary>Whether a size that a shape computation reads depends on the sizes that callers choose.</summary>
    public bool IsSymbolic(SizeSource source) => _analysis.Shapes.IsSymbolic(source.Value, source.Axis);

    /// <summary>Where the elements of an integer input come from.</summary>
    public ElementLineage[] Lineage(int input) => _analysis.Lineage[Node.Input[input]];

    /// <summary>Axes of any value of the graph; null where unknown.</summary>
    public AxisExpression[]? AxesOf(string value) => _analysis.Axes(value);

    /// <summary>An integer attribute.</summary>
    public long Int(string name, long otherwise) => Attribute(name)?.I ?? otherwise;

    /// <summary>An integer list attribute; null where absent.</summary>
    public long[]? IntList(string name) => Attribute(name)?.Ints.ToArray();

    /// <summary>A text attribute; null where absent.</summary>
    public string? Text(string name) => Attribute(name)?.S is { } s ? Encoding.UTF8.GetString(s.Span) : null;

    /// <summary>An attribute; null where absent.</summary>
    public AttributeProto? Attribute(string name) => Node.Attribute.FirstOrDefault(a => a.Name == name);

    /// <summary>An axis number brought into [0, rank).</summary>
    public static int Normalize(long axis, int rank) => (int)(axis < 0 ? axis + rank : axis);

    /// <summary>Axes whose sizes the node turns into numbers that the network computes with.</summary>
    public List<AxisExpression> ReadsSizes { get; } = [];

    internal AxisExpression[]?[] Inputs => _inputs;

    internal AxisExpression[]?[] Outputs => _outputs;

    // A rule that overlooks an axis must not let it through: what it never looked at is fixed.
    internal void Finish()
    {
        for (int input = 0; input < _inputs.Length; input++)
            for (int axis = 0; axis < (_inputs[input]?.Length ?? 0); axis++)
                if (!_seen.Contains((input, axis)))
                    Pin(In(input, axis), $"its input {input} must keep this axis");
        for (int output = 0; output < _outputs.Length; output++)
            if (_outputs[output] is null && HasOutput(output))
                _outputs[output] = [.. OutputDims(output)!.Select(size => Fixed(size, "its result has a size of its own"))];
    }

    /// <summary>Whether the rule said that zeros along an axis of the first output stay zeros.</summary>
    internal bool GivesZeros(int axis) => _outputCarries.GetValueOrDefault((0, axis), _carries).HasFlag(NewChannels.Zero);

    // Whether zeros come to something is known when all nodes have been seen.
    internal void Bar(GatedZeros gated)
    {
        Bar(_inputs, _inputCarries, gated);
        Bar(_outputs, _outputCarries, gated);
        foreach ((AxisExpression axis, int fromLast, bool[] along) in _zeros)
            if (NewChannelRules.IsFlatAtZero(this, [.. along.Select((runs, input) => runs && !gated.Loses(Node.Input[input], fromLast))]))
                Solver.Forbid(axis, NewChannels.Zero, Reason("its derivative at 0 is 0, so that new channels of zeros would never learn"));
    }

    private void Bar(AxisExpression[]?[] values, Dictionary<(int, int), NewChannels> carries, GatedZeros gated)
    {
        const NewChannels All = NewChannels.Zero | NewChannels.Mean;
        for (int value = 0; value < values.Length; value++)
        {
            for (int axis = 0; axis < (values[value]?.Length ?? 0); axis++)
            {
                NewChannels barred = All & ~carries.GetValueOrDefault((value, axis), _carries);
                if (gated.Holds(Node.Output.FirstOrDefault() ?? "", values[value]!.Length - 1 - axis))
                    barred &= ~NewChannels.Zero;
                if (barred != NewChannels.None && values[value]![axis] is not FixedAxis)
                    Solver.Forbid(values[value]![axis], barred, Reason("zeros or means do not go through it as they are"));
            }
        }
    }
}
