using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// Puts copies of blocks behind them that start as identities (METHODS.md §2, whole layers): <c>y = B(x) → y = B'(B(x))</c>, B' having the
/// block's weights but for those of its <see cref="IdentityPlan"/>. What a copy learns from is thus the block itself.
/// </summary>
public sealed class DeepenBlocksPass(Selector selector, int count)
{
    /// <summary>Deepens the graph that <paramref name="analysis"/> describes, in place.</summary>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var report = new StepReport($"deepen {selector}={count}", Exactness.BitExact);
        var structure = ModelStructure.Of(analysis);
        HashSet<int> activations = [.. structure.Sections.SelectMany(s => s.Nodes)];
        var editor = new GraphEditor(analysis.Graph);
        foreach (Block block in selector.Blocks(structure))
        {
            string where = $"block '{block.Path}'{(block.Scope is { } scope ? $" ({scope})" : "")}";
            string? why = Refusal(analysis, block);
            IdentityPlan? plan = why is null ? IdentityPlan.For(analysis, block) : null;
            if ((why ?? plan!.Refusal) is { } refusal)
            {
                report.Refused.Add(new Pin(where, refusal));
                continue;
            }

            new Copier(analysis, editor, activations, block, plan!).Copy(count, report);
            report.Changes.Add(new Change(where, "blocks", 1, 1 + count));
        }

        editor.Commit();
        return report;
    }

    private static string? Refusal(AxisAnalysis analysis, Block block)
    {
        ModelGraph graph = analysis.Graph;
        if (block.Entry.Length == 0 || analysis.Shapes.Dims(block.Entry) is not { } before || analysis.Shapes.Dims(block.Exit) is not { } after)
            return "ONNX Runtime does not know the sizes of what it reads or makes";
        if (!before.SequenceEqual(after) || analysis.Shapes.Type(block.Entry) != analysis.Shapes.Type(block.Exit)
            || (analysis.Shapes.Other is { } other && !(other.Dims(block.Entry) ?? []).SequenceEqual(other.Dims(block.Exit) ?? [])))
            return $"it makes {string.Join('×', after)} of {string.Join('×', before)}, so that no copy fits behind it";
        foreach (NodeProto node in block.Nodes.Select(n => graph.Nodes[n]))
        {
            if (node.Subgraphs().Any())
                return $"{ModelGraph.Describe(node)} runs a subgraph";
            if (node.Output.FirstOrDefault(o => o != block.Exit && graph.IsOutput(o)) is { } output)
                return $"it gives '{output}' to callers, who would get none from a copy";
        }

        return null;
    }

    /// <summary>Copies one block.</summary>
    /// <param name="analysis">The graph.</param>
    /// <param name="editor">Takes the copies.</param>
    /// <param name="activations">All nodes of activations; others compute weights and sizes.</param>
    /// <param name="block">The block.</param>
    /// <param name="plan">What its copies start with.</param>
    private sealed class Copier(AxisAnalysis analysis, GraphEditor editor, HashSet<int> activations, Block block, IdentityPlan plan)
    {
        private readonly ModelGraph _graph = analysis.Graph;
        private readonly HashSet<int> _inside = [.. block.Nodes];
        private List<int> _copied = [];

        /// <summary>Puts <paramref name="count"/> copies behind the block; the last makes the block's result under its old name.</summary>
        public void Copy(int count, StepReport report)
        {
            _copied = [.. block.Nodes.Concat(Support()).Order()];
            NodeProto last = _graph.Nodes[_graph.Producer(block.Exit)!.Value];
            int at = last.Output.IndexOf(block.Exit);
            string first = _graph.NewName($"{block.Exit}_before"), value = first;
            for (int k = 1; k <= count; k++)
            {
                string exit = k == count ? block.Exit : _graph.NewName($"{block.Exit}_copy{k}");
                List<NodeProto> nodes = Nodes(value, exit, $"_copy{k}");
                editor.InsertAfter(last, nodes);
                report.Copies.Add(new BlockCopy(block.Path, value, exit, [.. nodes.Select(n => n.Name)]));
                value = exit;
            }

            last.Output[at] = first;
        }

        // Nodes that compute weights or sizes for the block: a copy needs its own where they read the block's values, or where what
        // they make of constants is for this block alone.
        private IEnumerable<int> Support()
        {
            var needed = new SortedSet<int>();
            var open = new Stack<int>(block.Nodes);
            while (open.TryPop(out int n))
                foreach (string input in _graph.Nodes[n].Input.Where((_, i) => !plan.Starts.ContainsKey((n, i))))
                    if (_graph.Producer(input) is { } p && !activations.Contains(p) && _graph.ConstantOf(input) is null && needed.Add(p))
                        open.Push(p);

            var own = new HashSet<int>(_inside);
            foreach (int n in needed)
                if (_graph.Nodes[n].Input.Any(i => i == block.Entry || (_graph.Producer(i) is { } p && own.Contains(p))))
                    own.Add(n);
            foreach (int n in needed.Reverse())
                if (_graph.Nodes[n].Output.All(o => analysis.IsWeight(o) && !_graph.IsReadElsewhere(o) && _graph.Uses(o).All(u => own.Contains(u.Node))))
                    own.Add(n);
            return own.Where(needed.Contains);
        }

        private List<NodeProto> Nodes(string entry, string exit, string suffix)
        {
            var values = new Dictionary<string, string> { [block.Entry] = entry };
            var constants = new Dictionary<Constant, string>();
            var starts = new Dictionary<(string Value, Fill? Fill), string>();
            var nodes = new List<NodeProto>();
            foreach (int n in _copied)
            {
                NodeProto donor = _graph.Nodes[n], copy = donor.Clone();
                copy.Name = _graph.NewName(ModelGraph.NameOf(donor) + suffix);
                for (int i = 0; i < copy.Input.Count; i++)
                    copy.Input[i] = Input(new Use(n, i), donor.Input[i]);
                for (int o = 0; o < copy.Output.Count; o++)
                    if (donor.Output[o] is { Length: > 0 } made)
                        copy.Output[o] = values[made] = made == block.Exit ? exit : _graph.NewName(made + suffix);
                nodes.Add(copy);
            }

            return nodes;

            string Input(Use use, string value)
            {
                if (plan.Starts.TryGetValue((use.Node, use.Input), out WeightExpression? start))
                    return Once(starts, (value, (start as FilledWeight)?.Fill), () => editor.AddInitializer(value + suffix, start));
                if (values.TryGetValue(value, out string? own))
                    return own;
                return _graph.ConstantOf(value) is { } constant && IsOwn(constant)
                    ? Once(constants, constant, () => editor.AddInitializer(constant.Name + suffix, _graph.Model.Data(constant.Tensor)))
                    : value;
            }
        }

        // Numbers that learn are the copy's own. A table or matrix that others read too is one for the whole network (a rotary
        // embedding, a weight that all blocks share); equal vectors are often one only because an exporter merged them. A number that
        // stands in a node (an exponent, an ε) is not trained, and would be as an initializer.
        private bool IsOwn(Constant constant) => constant.Type.IsScalable() && (constant.Node is null || constant.Count > 1)
            && (constant.Shape.Count(s => s > 1) < 2 || analysis.ConstantUses.Where(u => u.Constant == constant).All(u => _copied.Contains(u.Use.Node)));

        private static string Once<TKey>(Dictionary<TKey, string> made, TKey key, Func<string> make)
            where TKey : notnull
        {
            if (!made.TryGetValue(key, out string? name))
                made[key] = name = make();
            return name;
        }
    }
}
