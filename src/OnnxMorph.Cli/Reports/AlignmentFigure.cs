using OnnxMorph.Alignment;

namespace OnnxMorph.Cli.Reports;

/// <summary>
/// The alignment as two columns of blocks in execution order, the source's left and the target's right, with a ribbon for each pair. A block is
/// the higher the more layers it has; a ribbon is as wide and as strong as the source's block fits the target's.
/// </summary>
internal sealed class AlignmentFigure
{
    private const double Width = 490, Column = 190, Top = 34, StageLabel = 22, Gap = 3;

    // Of a network this long the blocks are drawn as low as their names allow.
    private const int Long = 60;

    private readonly AlignmentReport _alignment;
    private readonly Func<ItemReport, OriginCounts>? _origins;
    private readonly double[] _sources, _targets;
    private readonly double _height;
    private readonly bool _isLong;

    private AlignmentFigure(AlignmentReport alignment, Func<ItemReport, OriginCounts>? origins)
    {
        (_alignment, _origins) = (alignment, origins);
        _isLong = Math.Max(alignment.SourceItems.Count, alignment.TargetItems.Count) > Long;
        _sources = Stacked(alignment.SourceItems);
        _targets = Stacked(alignment.TargetItems);
        double source = Bottom(alignment.SourceItems, _sources), target = Bottom(alignment.TargetItems, _targets);
        _height = Math.Max(source, target) + 8;
        // The shorter column is spread so that its blocks stand beside their partners.
        if (source < target)
            Spread(alignment.SourceItems, _sources, alignment.Pairs.ToLookup(p => p.SourceIndex, p => Middle(alignment.TargetItems, _targets, p.TargetIndex)));
        else
            Spread(alignment.TargetItems, _targets, alignment.Pairs.ToLookup(p => p.TargetIndex, p => Middle(alignment.SourceItems, _sources, p.SourceIndex)));
    }

    /// <summary>Draws an alignment.</summary>
    /// <param name="alignment">The two networks and the pairs.</param>
    /// <param name="source">The source's name.</param>
    /// <param name="target">The target's.</param>
    /// <param name="origins">Where an item's tensors come from, for targets that were filled.</param>
    public static Html Draw(AlignmentReport alignment, string source, string target, Func<ItemReport, OriginCounts>? origins = null) =>
        new AlignmentFigure(alignment, origins).Draw(source, target);

    /// <summary>How much of an item of the target its source fits: the score over the number of layers, 0 to 1.</summary>
    public static double Fit(AlignmentReport alignment, int target, int source) =>
        Math.Clamp(alignment.Scores[target][source] / Math.Max(1, alignment.TargetItems[target].Layers.Count), 0, 1);

    /// <summary>What stands in front of the first slash of an item's section: its stage.</summary>
    public static string Stage(ItemReport item) => item.Section.Split('/')[0];

    /// <summary>An item's name below the heading of its stage.</summary>
    public static string Label(ItemReport item, int length) =>
        Text.Tail(item.Name.StartsWith(Stage(item) + "/", StringComparison.Ordinal) && item.Name == item.Section ? item.Name[(Stage(item).Length + 1)..] : item.Name, length);

    private Html Draw(string source, string target) => Html.Markup($"""
        <div class="scroll"><svg class="alignment" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {Width} {_height}" role="group" aria-label="Which block of the target gets its weights from which block of the source">
        <defs><pattern id="hatch" width="5" height="5" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect class="hatch" width="3" height="5"/></pattern></defs>
        <text class="head" x="0" y="13">{Text.Tail(source, 28)}<title>{source}</title></text><text class="head" x="{Width - Column}" y="13">{Text.Tail(target, 28)}<title>{target}</title></text>
        {Ribbons()}{Items(_alignment.SourceItems, _sources, isSource: true)}{Items(_alignment.TargetItems, _targets, isSource: false)}</svg></div>

        """);

    private double Height(ItemReport item) =>
        (_isLong ? 15 : 19) + (_isLong ? 1 : 4) * Math.Clamp(item.Layers.Count - 1, 0, 14);

    private static bool BeginsStage(IReadOnlyList<ItemReport> items, int i) => i == 0 || Stage(items[i - 1]) != Stage(items[i]);

    // How far an item must stand below the end of the one before.
    private static double Space(IReadOnlyList<ItemReport> items, int i) => BeginsStage(items, i) ? StageLabel : Gap;

    private double[] Stacked(IReadOnlyList<ItemReport> items)
    {
        var tops = new double[items.Count];
        double y = Top - 8;
        for (int i = 0; i < items.Count; y = tops[i] + Height(items[i]), i++)
            tops[i] = y + Space(items, i);
        return tops;
    }

    private double Bottom(IReadOnlyList<ItemReport> items, double[] tops) => items.Count == 0 ? Top : tops[^1] + Height(items[^1]);

    private double Middle(IReadOnlyList<ItemReport> items, double[] tops, int i) => tops[i] + Height(items[i]) / 2;

    // Each item is moved to the middle of its partners as far as the order of the items and the height of the drawing allow.
    private void Spread(IReadOnlyList<ItemReport> items, double[] tops, ILookup<int, double> partners)
    {
        double end = Top - 8;
        for (int i = 0; i < items.Count; end = tops[i] + Height(items[i]), i++)
            tops[i] = Math.Max(end + Space(items, i), partners[i].DefaultIfEmpty(double.NegativeInfinity).Average() - Height(items[i]) / 2);
        double limit = _height - 8;
        for (int i = items.Count - 1; i >= 0; limit = tops[i] - Space(items, i), i--)
            tops[i] = Math.Min(tops[i], limit - Height(items[i]));
    }

    private IEnumerable<Html> Ribbons()
    {
        ILookup<int, ItemPair> bySource = _alignment.Pairs.ToLookup(p => p.SourceIndex);
        foreach (ItemPair pair in _alignment.Pairs)
        {
            ItemReport from = _alignment.SourceItems[pair.SourceIndex], to = _alignment.TargetItems[pair.TargetIndex];
            double fit = Fit(_alignment, pair.TargetIndex, pair.SourceIndex), share = Math.Max(0.12, fit);
            // A source's targets share its height.
            int siblings = bySource[pair.SourceIndex].Count();
            double own = Height(from) / siblings, a = _sources[pair.SourceIndex] + own * (pair.Copy + 0.5), b = Middle(_alignment.TargetItems, _targets, pair.TargetIndex);
            (double left, double right) = (own * share * (siblings > 1 ? 0.45 : 0.5), Height(to) * share / 2);
            double x = Column, end = Width - Column, bend = (x + end) / 2;
            Html again = pair.Copy > 0 ? " again" : "";
            yield return Html.Markup($"""
                <path class="ribbon{again}" data-source="{pair.SourceIndex}" data-target="{pair.TargetIndex}" fill-opacity="{0.2 + 0.35 * fit}" d="M{x} {a - left}C{bend} {a - left} {bend} {b - right} {end} {b - right}V{b + right}C{bend} {b + right} {bend} {a + left} {x} {a + left}Z"><title>{pair.Source} → {pair.Target}: fits {Text.Short(fit * 100)} % (score {Text.Short(pair.Score)} of {to.Layers.Count}){(pair.Copy > 0 ? ", used again" : "")}</title></path>

                """);
        }
    }

    private IEnumerable<Html> Items(IReadOnlyList<ItemReport> items, double[] tops, bool isSource)
    {
        HashSet<int> paired = [.. _alignment.Pairs.Select(p => isSource ? p.SourceIndex : p.TargetIndex)];
        double x = isSource ? 0 : Width - Column;
        foreach ((int i, ItemReport item) in items.Index())
        {
            if (BeginsStage(items, i))
                yield return Html.Markup($"<text class=\"stage\" x=\"{x}\" y=\"{tops[i] - 6}\">{Text.Tail(Stage(item), 34)}</text>\n");
            bool alone = !paired.Contains(i);
            double height = Height(item), baseline = tops[i] + Math.Min(height / 2, 12) + 3.8;
            string note = !alone ? Text.Count(item.Parameters) : isSource ? "not used" : "no source";
            yield return Html.Markup($"""
                <g class="item{(alone ? " alone" : "")}" data-side="{(isSource ? "source" : "target")}" data-index="{i}"><title>{Describe(item)}{(alone ? $"\n{note}" : "")}</title><rect class="box" x="{x + 0.5}" y="{tops[i] + 0.5}" width="{Column - 1}" height="{height - 1}" rx="3"/>{(isSource ? [] : Shares(item, x, tops[i], height))}<text x="{x + 9}" y="{baseline}">{Label(item, (int)((Column - 27 - 5.8 * note.Length) / 6.6))}</text><text class="small end" x="{x + Column - 12}" y="{baseline}">{note}</text></g>

                """);
        }
    }

    private string Describe(ItemReport item)
    {
        IEnumerable<string> layers = item.Layers.Select(layer => $"{layer.Kind} {Text.Shape(layer.Shape)}  {layer.Name}");
        string origins = _origins?.Invoke(item) is { All: > 0 } counts ? $"\n{counts}" : "";
        return $"{item.Name}: {Text.Some(item.Layers.Count, "layer")}, {Text.Some(item.Parameters, "weight")}{origins}\n{string.Join('\n', layers)}".TrimEnd();
    }

    // Along the outer edge, how much of the item's tensors is exact, mapped and fresh.
    private IEnumerable<Html> Shares(ItemReport item, double x, double y, double height)
    {
        if (_origins?.Invoke(item) is not { All: > 0 } counts)
            yield break;
        double top = y + 1, all = height - 2;
        foreach ((string name, long count) in counts.Parts.Where(p => p.Count > 0))
        {
            double part = all * count / counts.All;
            yield return Html.Markup($"<rect class=\"share {name}\" x=\"{x + Column - 7}\" y=\"{top}\" width=\"6\" height=\"{part}\"/>");
            top += part;
        }
    }
}
