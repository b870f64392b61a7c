using OnnxMorph.Alignment;

namespace OnnxMorph.Cli.Reports;

/// <summary>The report of <c>similarity</c>.</summary>
internal static class SimilarityPage
{
    public static Html Of(string source, string target, NetworkSimilarity similarity, AlignmentReport alignment) => Page.Of(
        "similarity", $"{source} → {target}", Page.FromTo(source, target),
        Page.Figures(
            ("similarity", Text.Short(similarity.Symmetric), "from 0 to 1, both ways"),
            ("the source fills", Text.Percent(similarity.Forward), "of the target"),
            ("the target fills", Text.Percent(similarity.Backward), "of the source"),
            ("aligned", $"{alignment.Pairs.Count} of {alignment.TargetItems.Count}", "parts of the target")),
        similarity.Warning is not { } warning ? "" : Html.Markup($"<p class=\"note\">{warning}</p>\n"),
        AlignmentParts.Columns(alignment, source, target),
        AlignmentParts.Matrix(alignment),
        AlignmentParts.Table(alignment));
}
