using OnnxMorph.Alignment;

namespace OnnxMorph.Cli.Reports;

/// <summary>The sections that show an alignment.</summary>
internal static class AlignmentParts
{
    public static Html Columns(AlignmentReport alignment, string source, string target, Func<ItemReport, OriginCounts>? origins = null) => Page.Section(
        "Alignment",
        "Blocks in the order of execution, the source's on the left. A block is the higher the more layers it has, and the number in it counts its weights. "
            + "A ribbon is the wider and stronger the better the source's block fits the target's; a broken edge means that the source was used before. Blocks with a broken frame have no partner."
            + (origins is null ? "" : " The strip at the target's right edge shows how much of a block is exact (green), mapped (blue) and fresh (hatched)."),
        AlignmentFigure.Draw(alignment, source, target, origins));

    public static Html Matrix(AlignmentReport alignment) => Page.Section(
        "Scores",
        "How well each part of the source (columns) fits each of the target (rows), from nothing to entirely: the sum over layers that fit, over the number of the target's layers. Frames mark the pairs that were chosen.",
        MatrixFigure.Draw(alignment));

    public static Html Table(AlignmentReport alignment)
    {
        ILookup<int, ItemPair> pairs = alignment.Pairs.ToLookup(p => p.TargetIndex);
        return Page.Section(
            "Parts of the target", "Each with what it gets its weights from. A score counts the layers that fit, each by the shapes' overlap.",
            Page.Table(["target", "layers#", "weights#", "source*", "score#", "fits#"], alignment.TargetItems.Select((item, i) => Html.Markup($"""
                <tr><td class="name">{item.Name}</td><td class="number">{item.Layers.Count}</td><td class="number">{Text.Full(item.Parameters)}</td>{(pairs[i].FirstOrDefault() is { } pair
                    ? Html.Markup($"<td class=\"name\">{pair.Source}</td><td class=\"number\">{pair.Score:0.00}</td><td class=\"number\">{Text.Percent(AlignmentFigure.Fit(alignment, i, pair.SourceIndex))}</td>")
                    : Html.Markup($"<td class=\"muted\">none</td><td></td><td></td>"))}</tr>

                """)), isLong: true));
    }
}
