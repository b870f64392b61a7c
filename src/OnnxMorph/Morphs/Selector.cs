using System.IO.Enumeration;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Structure;

namespace OnnxMorph.Morphs;

/// <summary>
/// What a step is for: a glob over node names, or <c>blocks:</c> and a glob over the paths or scopes of the structure that
/// <c>inspect</c> prints, which stands for all nodes of what it names; <c>*</c> is everything that takes the change.
/// </summary>
public sealed class Selector
{
    private readonly string _pattern;
    private (AxisAnalysis Analysis, HashSet<int> Nodes)? _selected;

    private Selector(string text, string pattern, bool blocks)
    {
        Text = text;
        _pattern = pattern;
        SelectsBlocks = blocks;
    }

    /// <summary>The selector as the user wrote it.</summary>
    public string Text { get; }

    /// <summary>Reads a selector.</summary>
    /// <exception cref="UsageException">The selector is empty or of an unknown kind.</exception>
    public static Selector Parse(string text)
    {
        int colon = text.IndexOf(':');
        string kind = colon < 0 ? "layers" : text[..colon];
        string pattern = kind is "layers" or "blocks" && colon >= 0 ? text[(colon + 1)..] : text;
        if (pattern.Length == 0)
            throw new UsageException("A selector is empty: give a glob over node names, such as '*', or over blocks, such as 'blocks:stage2/*'.");
        return new Selector(text, pattern, kind == "blocks");
    }

    /// <summary>Whether the selector names parts of the structure rather than nodes.</summary>
    public bool SelectsBlocks { get; }

    /// <summary>Whether the selector takes every layer.</summary>
    public bool IsEverything => _pattern == "*";

    /// <summary>Whether the selector names a node; a node's own name names it, whatever characters it has.</summary>
    /// <exception cref="UsageException">The selector names blocks, which only the whole graph tells.</exception>
    public bool Matches(NodeProto node) => !SelectsBlocks ? Fits(ModelGraph.NameOf(node))
        : throw new UsageException($"'{Text}' selects blocks, and this step works on nodes: give a glob over node names, such as '*'.");

    /// <summary>Whether the selector names node number <paramref name="node"/>, by its name or as a part of a block.</summary>
    public bool Matches(AxisAnalysis analysis, int node)
    {
        if (!SelectsBlocks)
            return Matches(analysis.Graph.Nodes[node]);
        if (_selected is not { } selected || selected.Analysis != analysis)
            _selected = selected = (analysis, [.. ModelStructure.Of(analysis).Sections.Where(Fits).SelectMany(s => s.Nodes)]);
        return selected.Nodes.Contains(node);
    }

    /// <summary>The blocks that the selector names; a part of a block only where it does not name the whole.</summary>
    internal IEnumerable<Block> Blocks(ModelStructure structure) =>
        structure.Blocks.SelectMany(block => Fits(block) ? [block] : block.Parts.Where(Fits));

    private bool Fits(Section section) => Fits(section.Path) || (section.Scope is { } scope && Fits(scope));

    private bool Fits(string name) => _pattern == name || FileSystemName.MatchesSimpleExpression(_pattern, name, ignoreCase: false);

    /// <summary>
    /// The nodes that the selector names, in execution order. Layers with weights whose shapes nobody knows are reported as
    /// refused.
    /// </summary>
    internal IEnumerable<NodeAxes> Nodes(AxisAnalysis analysis, StepReport report)
    {
        for (int n = 0; n < analysis.Graph.Nodes.Count; n++)
        {
            NodeProto node = analysis.Graph.Nodes[n];
            if (!Matches(analysis, n) || analysis.Node(n) is not { } axes)
                continue;
            if (axes.Unknown is null)
                yield return axes;
            else if (OperatorRules.For(node) is { HasWeights: true })
                report.Refused.Add(axes.Unknown);
        }
    }

    /// <summary>The linear layers among <see cref="Nodes"/>.</summary>
    internal IEnumerable<(NodeAxes Axes, LinearLayer Layer)> Layers(AxisAnalysis analysis, StepReport report) =>
        Nodes(analysis, report).Where(axes => axes.Layer is not null).Select(axes => (axes, axes.Layer!));

    /// <inheritdoc/>
    public override string ToString() => Text;
}
