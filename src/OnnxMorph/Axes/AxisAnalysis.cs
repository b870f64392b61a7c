using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Shapes;
using OnnxMorph.Weights;

namespace OnnxMorph.Axes;

/// <summary>
/// What every axis of a graph is made of. Walks the nodes once in execution order, asks each operator's rule, and leaves
/// every value's axes as expressions over spaces; spaces that must not change carry the reason.
/// Each use of a constant has axes of its own, so that a vector that an exporter merged from several equal ones does not
/// tie what only looks alike; weights with more than one axis that several nodes share are tied, since they are one weight.
/// </summary>
public sealed class AxisAnalysis
{
    private readonly Dictionary<string, AxisExpression[]> _values = [];
    private readonly HashSet<string> _weights = [];
    private readonly List<(Constant Constant, Use Use, AxisExpression[] Axes)> _constantUses = [];
    private readonly NodeAxes?[] _nodes;

    private AxisAnalysis(ModelGraph graph, ShapeTable shapes)
    {
        Graph = graph;
        Shapes = shapes;
        Lineage = new ShapeLineage(graph, shapes);
        _nodes = new NodeAxes?[graph.Nodes.Count];
    }

    /// <summary>The graph.</summary>
    public ModelGraph Graph { get; }

    /// <summary>Its shapes.</summary>
    public ShapeTable Shapes { get; }

    /// <summary>Where computed shapes come from.</summary>
    public ShapeLineage Lineage { get; }

    /// <summary>The solver that holds the spaces.</summary>
    public AxisSolver Solver { get; } = new();

    /// <summary>Every use of a tensor constant by a node that was analysed, with the axes it has there.</summary>
    public IReadOnlyList<(Constant Constant, Use Use, AxisExpression[] Axes)> ConstantUses => _constantUses;

    /// <summary>The axes of node number <paramref name="node"/>; null where it was not analysed (it only computes shapes).</summary>
    public NodeAxes? Node(int node) => _nodes[node];

    /// <summary>Where zeros turn into something else that meets zeros again.</summary>
    internal GatedZeros Gated { get; private set; } = null!;

    /// <summary>All values with their axes.</summary>
    public IEnumerable<KeyValuePair<string, AxisExpression[]>> Values => _values;

    /// <summary>Axes of a computed value or graph input; null where unknown.</summary>
    public AxisExpression[]? Axes(string value) => _values.GetValueOrDefault(value);

    /// <summary>Whether a value is computed from constants alone.</summary>
    public bool IsWeight(string value) => _weights.Contains(value) || Graph.ConstantOf(value) is not null;

    /// <summary>Analyses a graph whose shapes are known.</summary>
    public static AxisAnalysis Of(ModelGraph graph, ShapeTable shapes)
    {
        var analysis = new AxisAnalysis(graph, shapes);
        analysis.Run();
        if (shapes.Other is { } other)
        {
            var twin = new AxisAnalysis(graph, other);
            twin.Run();
            analysis.PinWhatDiffers(twin);
        }

        analysis.Solver.Settle();
        return analysis;
    }

    private void Run()
    {
        foreach (ValueInfoProto input in Graph.Inputs)
            if (Shapes.Dims(input.Name) is { } dims)
                _values[input.Name] = Fixed(dims, new Pin($"input '{input.Name}'", "callers give it"));
        for (int n = 0; n < Graph.Nodes.Count; n++)
            Visit(n);
        Gated = new GatedZeros(this);
        foreach (NodeAxes node in _nodes.OfType<NodeAxes>())
            node.Bar(Gated);
        foreach (ValueInfoProto output in Graph.Proto.Output)
            PinAll(_values.GetValueOrDefault(output.Name), new Pin($"output '{output.Name}'", "callers read it"));
        foreach ((Constant constant, Use use, AxisExpression[] axes) in _constantUses)
            if (Graph.IsReadElsewhere(constant.Name))
                PinAll(axes, new Pin($"constant '{constant.Name}'", "an output or a subgraph reads it"));
        foreach (ValueInfoProto output in Graph.Proto.Output)
            PinSizes(output.Name, new Pin($"output '{output.Name}'", "it gives this size to callers"));
        Solver.JoinComposites();
        TieSharedWeights();
        Solver.JoinComposites();
    }

    // Sizes that callers choose may happen to fit: a batch of 2 looks like a 2 in a Reshape. At another choice it does not.
    private void PinWhatDiffers(AxisAnalysis twin)
    {
        var comparison = new TwinComparison(Solver, twin.Solver);
        foreach ((string value, AxisExpression[] axes) in _values)
            if (twin.Axes(value) is { } others)
                comparison.Compare(axes, others, new Pin($"value '{value}'", "what its axes are made of depends on the sizes that callers choose"));
        foreach (var ((constant, _, axes), (_, _, others)) in _constantUses.Zip(twin._constantUses))
            comparison.Compare(axes, others, new Pin($"constant '{constant.Name}'", "what its axes are made of depends on the sizes that callers choose"));
    }

    private void Visit(int n)
    {
        NodeProto node = Graph.Nodes[n];
        Lineage.Visit(node);
        if (node.OpType == "Constant" && ModelGraph.IsStandard(node))
        {
            _weights.UnionWith(node.Output);
            if (Graph.ConstantOf(node.Output[0]) is null && Shapes.Dims(node.Output[0]) is { } dims)
                _values[node.Output[0]] = Fixed(dims, new Pin(ModelGraph.Describe(node), "its numbers stand in an attribute"));
            return;
        }

        if (node.Input.Any(i => i.Length > 0) && node.Input.All(i => i.Length == 0 || IsWeight(i)))
            _weights.UnionWith(node.Output);
        // Identity of a constant is the constant, seen through at each use.
        if (node.OpType == "Identity" && ModelGraph.IsStandard(node) && Graph.ConstantOf(node.Input[0]) is not null
            && !Graph.IsReadElsewhere(node.Output[0]))
            return;

        OperatorRule? rule = OperatorRules.For(node);
        AxisExpression[]?[] inputs = [.. node.Input.Select((value, i) => InputAxes(node, new Use(n, i), value))];
        bool known = rule is { Unsupported: null }
            && node.Input.Select((value, i) => value.Length == 0 || inputs[i] is not null).All(x => x)
            && node.Output.Count > 0 && Shapes.Dims(node.Output[0]) is not null
            && !node.Attribute.Any(a => a.G is not null || a.Graphs.Count > 0);
        var axes = new NodeAxes(this, n, inputs);
        _nodes[n] = axes;
        if (known)
        {
            rule!.Tie(axes);
            axes.Layer = rule.AsLinear(axes);
            axes.Produced = rule.Produces(axes);
        }
        else
        {
            Pin reason = axes.Unknown = axes.Reason(
                rule is null ? "its operator has no rule"
                : rule.Unsupported is { } why ? why
                : node.Attribute.Any(a => a.G is not null) ? "it runs a subgraph"
                : "ONNX Runtime does not know its shapes");
            foreach (AxisExpression[]? input in inputs)
                PinAll(input, reason);
        }

        axes.Finish();
        ReadSizes(axes, known ? rule : null);
        for (int output = 0; output < node.Output.Count; output++)
        {
            string value = node.Output[output];
            if (value.Length == 0 || axes.Outputs[output] is not { } result)
                continue;
            _values[value] = result;
            if (Graph.CapturedBy(value) is { } reader)
            {
                var reason = new Pin(ModelGraph.Describe(Graph.Nodes[reader]), "its subgraph reads this value");
                PinAll(result, reason);
                PinSizes(value, reason);
            }
        }
    }

    // A size that becomes a number which the network computes with must stay what it is in the parent: where it is known, it
    // can be written down; where it is not, the axis must stay. Integers go on being sizes until a float is made of them.
    private void ReadSizes(NodeAxes node, OperatorRule? rule)
    {
        if (Lineage.IsFrozen(node.Node))
        {
            foreach (SizeSource source in Lineage.AllSources(node.Node.Input[0]))
                if (Axes(source.Value) is { } read)
                    node.ReadsSizes.Add(read[source.Axis]);
        }
        else if (rule is null || (node.Node.Output.Count > 0 && Shapes.Type(node.Node.Output[0]).IsScalable()))
        {
            for (int input = 0; input < node.Node.Input.Count; input++)
                if (rule is null || !rule.ListsSizes(input))
                    PinSizes(node.Node.Input[input], node.Reason("the network computes with this size"));
        }
    }

    /// <summary>Fixes every axis whose size <paramref name="value"/> is computed from.</summary>
    public void PinSizes(string value, Pin reason)
    {
        foreach (SizeSource source in Lineage.AllSources(value))
            if (Axes(source.Value) is { } read)
                Solver.Pin(read[source.Axis], reason);
    }

    private AxisExpression[]? InputAxes(NodeProto node, Use use, string value)
    {
        if (value.Length == 0)
            return null;
        if (_values.TryGetValue(value, out AxisExpression[]? axes))
            return axes;
        if (Graph.ConstantOf(value) is not { } constant)
            return null;
        var trivial = new Pin($"constant '{constant.Name}'", "an axis of size 1");
        AxisExpression[] own = constant.Type == ElementType.String
            ? Fixed(constant.Shape, new Pin($"constant '{constant.Name}'", "text is not morphed"))
            : [.. constant.Shape.Select(size => Solver.Fresh(size, trivial))];
        if (!constant.Type.IsScalable() && OperatorRules.For(node)?.IsQuantised(use.Input) != true)
        {
            // Masks and tables can be copied; they can neither be split over copies nor drawn.
            var reason = new Pin($"constant '{constant.Name}'", $"its elements are {constant.Type}, which can only be copied");
            foreach (AxisExpression axis in own)
            {
                Solver.RequirePrimal(axis, reason);
                Solver.RequireCopies(axis, reason);
            }
        }

        _constantUses.Add((constant, use, own));
        return own;
    }

    private void TieSharedWeights()
    {
        foreach (var shared in _constantUses.GroupBy(u => u.Constant.Name).Where(g => g.Count() > 1))
        {
            var uses = shared.ToList();
            if (uses[0].Constant.Shape.Count(size => size > 1) < 2)
                continue;
            var reason = new Pin($"shared weight '{shared.Key}'", "its uses need different forms");
            foreach (var use in uses.Skip(1))
            {
                for (int axis = 0; axis < use.Axes.Length; axis++)
                {
                    AxisExpression first = AxisSolver.Primal(Solver.Resolve(uses[0].Axes[axis])), other = AxisSolver.Primal(Solver.Resolve(use.Axes[axis]));
                    // An embedding that is the output's projection too: a norm lies between, so they have the same size.
                    if (!Solver.AreCentred(first, other))
                        Solver.Unify(first, other, reason);
                }
            }
        }
    }

    private void PinAll(AxisExpression[]? axes, Pin reason)
    {
        foreach (AxisExpression axis in axes ?? [])
            Solver.Pin(axis, reason);
    }

    private static AxisExpression[] Fixed(IEnumerable<long> sizes, Pin reason) =>
        [.. sizes.Select(size => new FixedAxis(size, reason))];
}
