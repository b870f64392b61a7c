using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>Writes what rules asked of their nodes into the graph.</summary>
internal static class PatchWriter
{
    public static void Write(NodePatch patch, AxisAnalysis analysis, GraphEditor editor)
    {
        NodeProto node = patch.Axes.Node;
        foreach ((string name, long value) in patch.IntAttributes)
            GraphEditor.SetInt(node, name, value);
        foreach ((string name, float value) in patch.FloatAttributes)
            GraphEditor.SetFloat(node, name, value);
        foreach ((string name, long[] values) in patch.IntListAttributes)
            GraphEditor.SetInts(node, name, values);
        foreach ((int input, long?[] elements) in patch.IntInputs)
            Override(patch.Axes, input, elements, analysis, editor);
    }

    // Where every other element is known and does not depend on shapes, a constant of its own replaces the input. Otherwise
    // the computation stays, and a Where puts the new elements over its result.
    private static void Override(NodeAxes axes, int input, long?[] elements, AxisAnalysis analysis, GraphEditor editor)
    {
        string old = axes.Node.Input[input];
        string hint = $"{ModelGraph.NameOf(axes.Node)}_input{input}";
        ElementLineage[] lineage = analysis.Lineage[old];
        long[]? known = axes.Ints(input);
        bool constant = known is not null && known.Length == elements.Length
            && elements.Select((e, i) => e is not null || (i < lineage.Length && lineage[i].Sources.IsEmpty)).All(x => x);
        ElementType type = analysis.Graph.ConstantOf(old)?.Type ?? analysis.Shapes.Type(old);
        // A single size may stand as a scalar; what replaces it has the same rank.
        ImmutableArray<long> shape = analysis.Shapes.Dims(old) is { } dims ? [.. dims]
            : analysis.Graph.ConstantOf(old) is { } listed ? [.. listed.Shape] : [elements.Length];
        string values = editor.AddInts(hint, type, [.. elements.Select((e, i) => e ?? (constant ? known![i] : 0))], shape);
        var use = new Use(axes.Index, input);
        if (constant)
        {
            editor.Rewire(use, values);
            return;
        }

        byte[] mask = [.. elements.Select(e => (byte)(e is null ? 0 : 1))];
        string chosen = analysis.Graph.NewName($"{hint}_sizes");
        var where = new NodeProto { OpType = "Where", Name = analysis.Graph.NewName($"{hint}_where") };
        where.Input.AddRange([editor.AddInitializer($"{hint}_mask", new StoredWeight(ElementType.Bool, shape, mask)), values, old]);
        where.Output.Add(chosen);
        editor.InsertBefore(axes.Node, where);
        editor.Rewire(use, chosen);
    }
}
