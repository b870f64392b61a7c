using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Containment;

/// <summary>
/// A source and a filled target as models that give the values which the target carries of the source, under the same names, with the same channels in
/// the same places: what can be compared where their outputs cannot.
/// </summary>
internal static class CarriedModels
{
    /// <summary>The two models.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target, filled.</param>
    /// <param name="plan">What it carries.</param>
    /// <param name="values">Values of the target with those that they carry.</param>
    /// <returns>Null where the channels of none of the values lie so that they can be picked.</returns>
    public static (OnnxModel Source, OnnxModel Target)? Of(AnalysedModel source, AnalysedModel target, ContainmentPlan plan, IEnumerable<(string Target, string Source)> values)
    {
        OnnxModel own = source.Model.Clone(), other = target.Model.Clone();
        own.Proto.Graph.Output.Clear();
        other.Proto.Graph.Output.Clear();
        foreach (ValueInfoProto input in target.Graph.Inputs)
            if (plan.Inputs.TryGetValue(input.Name, out string? name) && name != input.Name)
                Rename(other, input.Name, name);
        var names = new HashSet<string>();
        foreach ((string to, string from) in values)
        {
            if (plan.Positions(to, from) is not { } positions)
                continue;
            string name = Name((to, from));
            if (!names.Add(name))
                continue;
            Give(own, from, name);
            Give(other, Picked(other, to, name, positions, target.Analysis.Shapes.Type(to)), name);
        }

        return names.Count == 0 ? null : (own, other);
    }

    /// <summary>The name under which both give a value.</summary>
    public static string Name((string Target, string Source) value) => $"{value.Source}, as {value.Target}";

    private static void Give(OnnxModel model, string value, string name)
    {
        model.Proto.Graph.Node.Add(new NodeProto { OpType = "Identity", Name = name, Input = { value }, Output = { name } });
        model.Proto.Graph.Output.Add(new ValueInfoProto { Name = name });
    }

    // An input under another name, which no value has.
    private static void Rename(OnnxModel model, string from, string to)
    {
        GraphProto graph = model.Proto.Graph;
        if (graph.Input.Any(i => i.Name == to) || graph.Initializer.Any(t => t.Name == to) || graph.Node.Any(n => n.Output.Contains(to)))
            return;
        graph.Input.First(i => i.Name == from).Name = to;
        graph.Node.Insert(0, new NodeProto { OpType = "Identity", Name = $"{to} as {from}", Input = { to }, Output = { from } });
    }

    // The source's channels among a value's.
    private static string Picked(OnnxModel model, string value, string name, IReadOnlyList<(int[] Indices, double[] Factors)?> positions, ElementType type)
    {
        var editor = new GraphEditor(new ModelGraph(model));
        foreach ((int axis, (int[] Indices, double[] Factors)? position) in positions.Index())
        {
            if (position is not var (indices, factors))
                continue;
            NodeProto pick = Add("Gather", axis, editor.AddInts($"{name}.channels", ElementType.Int64, [.. indices.Select(i => (long)i)], [indices.Length]));
            GraphEditor.SetInt(pick, "axis", axis);
            if (factors.Any(factor => factor != 1))
                Add("Div", axis, editor.AddInitializer($"{name}.factors", new ComputedWeight(type, [indices.Length, .. Enumerable.Repeat(1L, positions.Count - axis - 1)], factors)));
        }

        return value;

        NodeProto Add(string operation, int axis, string constant)
        {
            string result = $"{name}.{operation}.{axis}";
            var node = new NodeProto { OpType = operation, Name = result, Input = { value, constant }, Output = { result } };
            model.Proto.Graph.Node.Add(node);
            value = result;
            return node;
        }
    }
}
