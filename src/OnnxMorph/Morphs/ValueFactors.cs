using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// Makes good what comes out as a multiple of what it must be: a mean of squares over channels of which some are zero. The
/// factor is followed through the rest of a decomposed norm (+ε, √, ÷) to the scale behind it, so that ε and γ take it and the
/// graph stays as it is (METHODS.md §1: ε' = η²·ε, γ' = η·γ); where there is no such chain, a multiplication is put behind the node.
/// </summary>
/// <param name="analysis">The graph.</param>
/// <param name="editor">What puts multiplications into it; null where it has to stay as it is.</param>
internal sealed class ValueFactors(AxisAnalysis analysis, GraphEditor? editor)
{
    private readonly Dictionary<Use, double> _constants = [];
    private readonly Dictionary<string, double> _values = [];

    /// <summary>For each value that is a multiple of the parent's, the factor.</summary>
    public IReadOnlyDictionary<string, double> Values => _values;

    /// <summary>Uses of constants that are multiplied, with what by.</summary>
    public IReadOnlyDictionary<Use, double> Constants => _constants;

    /// <summary>A node behind which the factor would have to be made good by another node, and nothing edits the graph; null where there is none.</summary>
    public NodeAxes? Unfollowed { get; private set; }

    /// <summary>What a use of a constant is multiplied by.</summary>
    public double Of(Use use) => _constants.GetValueOrDefault(use, 1);

    /// <summary>Takes what a node asked for.</summary>
    public void Add(NodePatch patch)
    {
        foreach ((int input, double factor) in patch.InputFactors)
            _constants[new Use(patch.Axes.Index, input)] = factor;
        if (patch.OutputFactor != 1)
            Follow(patch.Axes, patch.OutputFactor);
    }

    private void Follow(NodeAxes node, double factor)
    {
        ModelGraph graph = analysis.Graph;
        var constants = new Dictionary<Use, double>();
        var values = new Dictionary<string, double>();
        string value = node.Node.Output[0];
        double current = factor;
        while (current != 1)
        {
            values[value] = current;
            if (graph.IsReadElsewhere(value) || graph.Uses(value) is not [var use] || !Step(use, ref current, constants))
            {
                if (editor is null)
                    Unfollowed ??= node;
                else
                    Multiply(editor, node.Node, 1 / factor);
                return;
            }

            value = graph.Nodes[use.Node].Output[0];
        }

        foreach ((Use use, double by) in constants)
            _constants[use] = by;
        foreach ((string passed, double by) in values)
            _values[passed] = by;
    }

    // What a node makes of a multiple; false where it makes none of it.
    private bool Step(Use use, ref double factor, Dictionary<Use, double> constants)
    {
        NodeProto node = analysis.Graph.Nodes[use.Node];
        if (!ModelGraph.IsStandard(node))
            return false;
        var other = new Use(use.Node, 1 - use.Input);
        bool constant = node.Input.Count == 2 && analysis.Graph.ConstantOf(node.Input[other.Input]) is { } c && c.Type.IsScalable();
        switch (node.OpType)
        {
            case "Add" when constant:
                constants[other] = factor;
                return true;
            case "Sqrt":
                factor = Math.Sqrt(factor);
                return true;
            case "Reciprocal":
                factor = 1 / factor;
                return true;
            case "Pow" when use.Input == 0 && analysis.Node(use.Node)?.Scalar(1) is { } power:
                factor = Math.Pow(factor, power);
                return true;
            case "Cast" when ((ElementType)(node.Attribute.FirstOrDefault(a => a.Name == "to")?.I ?? 0)).IsScalable():
                return true;
            case "Div" when use.Input == 1:
                factor = 1 / factor;
                return true;
            case "Div" or "Mul" when constant:
                constants[other] = node.OpType == "Div" ? factor : 1 / factor;
                factor = 1;
                return true;
            case "Mul" when node.Input[0] != node.Input[1]:
                return true;
            default:
                return false;
        }
    }

    private void Multiply(GraphEditor editor, NodeProto node, double by)
    {
        ModelGraph graph = analysis.Graph;
        string value = node.Output[0], whole = graph.NewName($"{value}_part");
        ElementType type = analysis.Shapes.Type(value);
        var product = new NodeProto { OpType = "Mul", Name = graph.NewName($"{ModelGraph.NameOf(node)}_share") };
        product.Input.AddRange([whole, editor.AddInitializer($"{ModelGraph.NameOf(node)}_share", new FilledWeight(type, [], Fill.Constant(by)))]);
        product.Output.Add(value);
        node.Output[0] = whole;
        editor.InsertAfter(node, product);
    }
}
