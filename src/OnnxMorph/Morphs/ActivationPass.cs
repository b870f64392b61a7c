using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>The form that activations are brought into.</summary>
public enum ActivationForm
{
    /// <summary>With a trainable share a of the identity, which starts at 0.</summary>
    Parametric,

    /// <summary>Without parameters: φ itself where the share is 0 everywhere, nothing where it is 1 everywhere.</summary>
    Plain,
}

/// <summary>
/// Makes activations parametric, <c>φ(x) → (1−a)·φ(x) + a·x</c> with a trainable a that starts at 0 (Wei, Wang, Chen 2017), or
/// plain again; Relu and LeakyRelu become PRelu with their own slope. One a for each channel where the network tells which
/// axis holds channels, else one for all. An activation may be one node or several (<see cref="ActivationRegion"/>).
/// </summary>
public sealed class ActivationPass(Selector selector, ActivationForm to = ActivationForm.Parametric)
{
    // LeakyRelu's alpha where the node names none.
    private const double DefaultLeak = 0.01;

    // Sub, Mul and Add broadcast by themselves from here on.
    private const int BroadcastingOpset = 7;

    /// <summary>Rewrites the selected activations of the graph that <paramref name="analysis"/> describes, in place.</summary>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var report = new StepReport($"activation {selector}{(to == ActivationForm.Parametric ? "" : " (plain)")}", Exactness.BitExact);
        var editor = new GraphEditor(analysis.Graph);
        if (to == ActivationForm.Parametric)
            foreach (ActivationRegion region in ActivationRegion.Find(analysis).Where(r => Selects(analysis, r.Nodes)))
                MakeParametric(analysis, editor, region, report);
        else
            MakePlain(analysis, editor, report);
        editor.Commit();
        return report;
    }

    private bool Selects(AxisAnalysis analysis, IEnumerable<int> nodes) => nodes.Any(n => selector.Matches(analysis, n));

    private void MakeParametric(AxisAnalysis analysis, GraphEditor editor, ActivationRegion region, StepReport report)
    {
        ModelGraph graph = analysis.Graph;
        NodeProto last = graph.Nodes[region.Last];
        string result = last.Output[0], name = ModelGraph.NameOf(last);
        ElementType type = analysis.Shapes.Type(result);
        if (analysis.Node(region.Last) is not { } axes || !axes.HasOutput(0) || !type.IsScalable())
        {
            report.Refused.Add(new Pin(ModelGraph.Describe(last), "ONNX Runtime does not know its shape, or it is not floating-point"));
            return;
        }

        if (graph.Opset("") < BroadcastingOpset)
        {
            report.Refused.Add(axes.Reason($"operator set {graph.Opset("")} does not broadcast; convert the model to {BroadcastingOpset} or later"));
            return;
        }

        if (ParametricForm.IsIn(analysis, region))
        {
            // '*' is for those that take the step.
            if (!selector.IsEverything)
                report.Refused.Add(axes.Reason("it is parametric already"));
            return;
        }

        ImmutableArray<long> shape = ShareShape(analysis, axes);
        var chain = new List<NodeProto>();
        // ONNX Runtime has no PRelu of double precision.
        bool slope = region.Nodes.Count == 1 && last.OpType is "Relu" or "LeakyRelu" && ModelGraph.IsStandard(last) && type != ElementType.Float64;
        if (slope)
        {
            double start = last.OpType == "Relu" ? 0 : axes.Attribute("alpha")?.F ?? DefaultLeak;
            ParametricActivation.Emit(chain, graph, name, region.Input, null, shape, type, start, Weight);
            editor.Replace(last, chain);
        }
        else
        {
            last.Output[0] = graph.NewName($"{result}_activated");
            ParametricActivation.Mix(chain, graph, name, region.Input, last.Output[0], shape, type, 0, Weight);
            editor.InsertAfter(last, chain);
        }

        // The last new node makes the value under its old name.
        chain[^1].Output[0] = result;
        IEnumerable<string> kept = slope ? [] : region.Nodes.Select(n => graph.Nodes[n].Name);
        report.Activations.Add(new ActivationRewrite(name, "parametric", [.. kept, .. chain.Select(c => c.Name)]));
        report.Changes.Add(new Change(ModelGraph.Describe(last), "activation parameters", 0, shape.Aggregate(1L, (a, b) => a * b)));

        string Weight(string role, Func<WeightExpression> make) => editor.AddInitializer($"{name}_{role}", make());
    }

    private void MakePlain(AxisAnalysis analysis, GraphEditor editor, StepReport report)
    {
        // What stands for a value whose activation is gone.
        var instead = new Dictionary<string, string>();
        foreach (ParametricForm form in ParametricForm.Find(analysis).Where(f => Selects(analysis, f.Region.Nodes)))
            MakePlain(analysis, editor, form, instead, report);
    }

    private static void MakePlain(AxisAnalysis analysis, GraphEditor editor, ParametricForm form, Dictionary<string, string> instead, StepReport report)
    {
        ModelGraph graph = analysis.Graph;
        NodeProto last = graph.Nodes[form.Region.Last];
        string name = ModelGraph.NameOf(last), result = last.Output[0];
        double low = form.Parameters.Min(), high = form.Parameters.Max();
        // Not a number is neither.
        bool equal = low == high;
        if (!equal || (form.Activated is not null && low is not (0 or 1)))
        {
            string range = equal ? FormattableString.Invariant($"are {low:g3}") : FormattableString.Invariant($"lie between {low:g3} and {high:g3}");
            report.Refused.Add(new Pin(ModelGraph.Describe(last), form.Activated is null
                ? $"its slopes {range}, and only one slope for all has a plain form"
                : $"its shares of the identity {range}, and only 0 or 1 everywhere leaves it plain"));
            return;
        }

        string input = instead.GetValueOrDefault(form.Region.Input, form.Region.Input);
        string? kept = low == 1 ? input : form.Activated;
        List<NodeProto> rest = [];
        if (kept is null || graph.IsReadElsewhere(result))
        {
            var node = new NodeProto { OpType = kept is not null ? "Identity" : low == 0 ? "Relu" : "LeakyRelu", Name = last.Name };
            node.Input.Add(kept ?? input);
            node.Output.Add(result);
            if (node.OpType == "LeakyRelu")
                GraphEditor.SetFloat(node, "alpha", (float)low);
            rest.Add(node);
        }
        else
        {
            instead[result] = kept;
            foreach (Use use in graph.Uses(result))
                editor.Rewire(use, kept);
        }

        // What led to the activation goes with it where the identity is left, all but the activation itself elsewhere.
        HashSet<int> alive = low == 1 ? [] : [.. Makers(analysis, form)];
        foreach (int n in form.Region.Nodes)
            if (n != form.Region.Last && !alive.Contains(n))
                editor.Replace(graph.Nodes[n]);
        if (form.Complement is { } complement && graph.Uses(graph.Nodes[complement].Output[0]).Count == 1)
            editor.Replace(graph.Nodes[complement]);
        editor.Replace(last, rest);
        IEnumerable<string> child = form.Region.Nodes.Where(alive.Contains).Select(n => graph.Nodes[n].Name).Concat(rest.Select(n => n.Name));
        report.Activations.Add(new ActivationRewrite(name, low == 1 ? "identity" : "plain", [.. child]));
        report.Changes.Add(new Change(ModelGraph.Describe(last), "activation parameters", form.Parameters.Length, 0));
    }

    // The nodes of the region that the activation inside it is made of.
    private static IEnumerable<int> Makers(AxisAnalysis analysis, ParametricForm form)
    {
        var open = new Stack<string>();
        if (form.Activated is { } activated)
            open.Push(activated);
        while (open.TryPop(out string? value))
        {
            if (value == form.Region.Input || analysis.Graph.Producer(value) is not { } n || !form.Region.Nodes.Contains(n))
                continue;
            yield return n;
            foreach (string input in analysis.Graph.Nodes[n].Input)
                open.Push(input);
        }
    }

    // The channel axis is the one axis of the result that layers make; where there is none or several, one share serves all.
    private static ImmutableArray<long> ShareShape(AxisAnalysis analysis, NodeAxes axes)
    {
        AxisExpression[] result = axes.Out(0);
        int[] made = [.. Enumerable.Range(0, result.Length).Where(axis => analysis.Solver.Leaves(result[axis]).Any())];
        return made.Length == 1 ? [result[made[0]].Size, .. Enumerable.Repeat(1L, result.Length - 1 - made[0])] : [1];
    }
}
