using System.IO.Enumeration;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;

namespace OnnxMorph.Morphs;

/// <summary>Which layers a step is for: a glob over node names; <c>*</c> is every layer that takes the change.</summary>
public sealed class Selector
{
    private readonly string _pattern;

    private Selector(string text, string pattern)
    {
        Text = text;
        _pattern = pattern;
    }

    /// <summary>The selector as the user wrote it.</summary>
    public string Text { get; }

    /// <summary>Reads a selector.</summary>
    /// <exception cref="UsageException">The selector is empty or of an unknown kind.</exception>
    public static Selector Parse(string text)
    {
        int colon = text.IndexOf(':');
        string kind = colon < 0 ? "layers" : text[..colon];
        string pattern = kind == "layers" && colon >= 0 ? text[(colon + 1)..] : text;
        if (kind == "blocks")
            throw new UsageException($"'{text}' selects blocks, and this step works on layers: give a glob over node names, such as '*'.");
        if (pattern.Length == 0)
            throw new UsageException("A selector is empty: give a glob over node names, such as '*'.");
        return new Selector(text, pattern);
    }

    /// <summary>Whether the selector takes every layer.</summary>
    public bool IsEverything => _pattern == "*";

    /// <summary>Whether the selector names a node; a node's own name names it, whatever characters it has.</summary>
    public bool Matches(NodeProto node) => _pattern == ModelGraph.NameOf(node) ||
        FileSystemName.MatchesSimpleExpression(_pattern, ModelGraph.NameOf(node), ignoreCase: false);

    /// <summary>
    /// The nodes that the selector names, in execution order. Layers with weights whose shapes nobody knows are reported as
    /// refused.
    /// </summary>
    internal IEnumerable<NodeAxes> Nodes(AxisAnalysis analysis, StepReport report)
    {
        for (int n = 0; n < analysis.Graph.Nodes.Count; n++)
        {
            NodeProto node = analysis.Graph.Nodes[n];
            if (!Matches(node) || analysis.Node(n) is not { } axes)
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
