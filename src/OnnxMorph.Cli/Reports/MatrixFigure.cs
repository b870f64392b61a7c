using OnnxMorph.Alignment;

namespace OnnxMorph.Cli.Reports;

/// <summary>
/// How well each part of the source fits each of the target, as a picture: rows are the target's parts, columns the source's, and the pairs
/// that were chosen are framed. Neighbours that fit alike are drawn as one area, since networks repeat their blocks.
/// </summary>
internal sealed class MatrixFigure
{
    private const double Width = 690, Corner = 100, Largest = 24, Smallest = 2, Labelled = 11, Numbered = 21;

    // More areas than this are drawn without titles and in this many shades, for a page of a few megabytes that opens at once.
    private const int Titled = 8_000, Shades = 40;

    private readonly AlignmentReport _alignment;
    private readonly double _size, _left, _top;
    private readonly bool _labelled;

    private MatrixFigure(AlignmentReport alignment)
    {
        _alignment = alignment;
        int columns = Math.Max(1, alignment.SourceItems.Count);
        double left = Math.Max(Corner, Widest(alignment.TargetItems, Name));
        _labelled = (Width - left) / columns >= Labelled;
        _left = _labelled ? left : Math.Max(Corner, Widest(alignment.TargetItems, AlignmentFigure.Stage));
        _top = Widest(alignment.SourceItems, _labelled ? Name : AlignmentFigure.Stage) + 6;
        _size = Math.Clamp(Math.Floor((Width - _left) / columns * 2) / 2, Smallest, Largest);
    }

    /// <summary>Draws the matrix.</summary>
    public static Html Draw(AlignmentReport alignment) => new MatrixFigure(alignment).Draw();

    private Html Draw()
    {
        int rows = _alignment.TargetItems.Count, columns = _alignment.SourceItems.Count;
        (double width, double height) = (columns * _size, rows * _size);
        double all = _left + width + 1;
        return Html.Markup($"""
            <div class="scroll"><svg class="matrix" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {all} {_top + height + 6}" style="min-width:{all * 0.72:0}px;max-width:{all * 1.16:0}px" role="group" aria-label="How well each part of the source fits each part of the target">
            <text class="small end" x="{_left - 8}" y="{_top - 6}">target ↓  source →</text>
            <rect class="ground" x="{_left}" y="{_top}" width="{width}" height="{height}"/>
            {Cells()}{Grid(rows, columns)}{Cuts(rows, columns)}{Chosen()}{Values()}{RowLabels()}{ColumnLabels()}</svg></div>

            """);
    }

    private static string Name(ItemReport item) => Text.Tail(item.Name, 24);

    private static double Widest(IReadOnlyList<ItemReport> items, Func<ItemReport, string> label) => 12 + 5.9 * items.Select(i => label(i).Length).DefaultIfEmpty().Max();

    private double X(int source) => _left + source * _size;

    private double Y(int target) => _top + target * _size;

    private IEnumerable<Html> Cells()
    {
        var scores = _alignment.Scores;
        List<(int First, int Count)> rows = Runs(scores.Count, (a, b) => scores[a].SequenceEqual(scores[b]) && Layers(a) == Layers(b));
        List<(int First, int Count)> columns = Runs(_alignment.SourceItems.Count, (a, b) => scores.All(row => row[a] == row[b]));
        var areas = from row in rows
                    from column in columns
                    where scores[row.First][column.First] > 0
                    select (Row: row, Column: column, Fit: AlignmentFigure.Fit(_alignment, row.First, column.First));
        return rows.Count * columns.Count <= Titled
            ? areas.Select(a => Html.Markup($"""
                <rect class="cell" x="{X(a.Column.First)}" y="{Y(a.Row.First)}" width="{a.Column.Count * _size}" height="{a.Row.Count * _size}" fill-opacity="{a.Fit:0.###}">{Title(a.Row.First, a.Row.Count, a.Column.First, a.Column.Count, a.Fit)}</rect>

                """))
            : Lines();

        Html Title(int i, int height, int j, int width, double fit) => Html.Markup(
            $"<title>{Range(_alignment.TargetItems, i, height)} from {Range(_alignment.SourceItems, j, width)}: fits {Text.Short(fit * 100)} % (score {Text.Short(scores[i][j])} of {Layers(i)})</title>");

        int Layers(int target) => _alignment.TargetItems[target].Layers.Count;
    }

    // Row by row, neighbours of one shade in one stroke.
    private IEnumerable<Html> Lines()
    {
        int Shade(int i, int j) => (int)Math.Ceiling(AlignmentFigure.Fit(_alignment, i, j) * Shades);
        var lines = from i in Enumerable.Range(0, _alignment.TargetItems.Count)
                    from run in Runs(_alignment.SourceItems.Count, (a, b) => Shade(i, a) == Shade(i, b))
                    select (Shade: Shade(i, run.First), Path: Html.Markup($"M{X(run.First)} {Y(i) + _size / 2}h{run.Count * _size}"));
        return lines.Where(line => line.Shade > 0).GroupBy(line => line.Shade, line => line.Path).Select(shade => Html.Markup($"""
            <path class="cells" stroke-width="{_size}" stroke-opacity="{(double)shade.Key / Shades:0.###}" d="{shade}"/>

            """));
    }

    private static string Range(IReadOnlyList<ItemReport> items, int first, int count) =>
        count == 1 ? items[first].Name : $"{items[first].Name} … {items[first + count - 1].Name}";

    private static List<(int First, int Count)> Runs(int count, Func<int, int, bool> same)
    {
        var runs = new List<(int First, int Count)>();
        for (int i = 0; i < count; i++)
            if (runs.Count > 0 && same(runs[^1].First, i))
                runs[^1] = (runs[^1].First, runs[^1].Count + 1);
            else
                runs.Add((i, 1));
        return runs;
    }

    private Html Grid(int rows, int columns) => _size < 8 ? "" : Html.Markup($"""
        <path class="grid" d="{Enumerable.Range(1, Math.Max(0, columns - 1)).Select(j => Html.Markup($"M{X(j)} {_top}v{rows * _size}"))}{Enumerable.Range(1, Math.Max(0, rows - 1)).Select(i => Html.Markup($"M{_left} {Y(i)}h{columns * _size}"))}"/>

        """);

    // Between stages.
    private Html Cuts(int rows, int columns) => Html.Markup($"""
        <path class="cut" d="{Stages(_alignment.SourceItems).Skip(1).Select(s => Html.Markup($"M{X(s.First)} {_top}v{rows * _size}"))}{Stages(_alignment.TargetItems).Skip(1).Select(s => Html.Markup($"M{_left} {Y(s.First)}h{columns * _size}"))}"/>

        """);

    private static List<(int First, int Count)> Stages(IReadOnlyList<ItemReport> items) =>
        Runs(items.Count, (a, b) => AlignmentFigure.Stage(items[a]) == AlignmentFigure.Stage(items[b]));

    // In percent, where there is room.
    private IEnumerable<Html> Values() =>
        from i in Enumerable.Range(0, _size < Numbered ? 0 : _alignment.TargetItems.Count)
        from j in Enumerable.Range(0, _alignment.SourceItems.Count)
        let fit = AlignmentFigure.Fit(_alignment, i, j)
        where fit >= 0.005
        select Html.Markup($"<text class=\"value{(fit > 0.65 ? " dark" : "")}\" x=\"{X(j) + _size / 2}\" y=\"{Y(i) + _size / 2 + 3.2}\">{fit * 100:0}</text>\n");

    private Html Chosen()
    {
        (double inset, double stroke) = (Math.Min(1, _size / 8), Math.Min(1.6, _size / 8));
        return Html.Markup($"""
            <polyline class="path" stroke-width="{stroke}" stroke-opacity="0.5" points="{_alignment.Pairs.Select(p => Html.Markup($"{X(p.SourceIndex) + _size / 2},{Y(p.TargetIndex) + _size / 2} "))}"/>
            {_alignment.Pairs.Select(p => Html.Markup($"<rect class=\"chosen\" stroke-width=\"{stroke}\" x=\"{X(p.SourceIndex) + inset}\" y=\"{Y(p.TargetIndex) + inset}\" width=\"{_size - 2 * inset}\" height=\"{_size - 2 * inset}\" rx=\"1\"/>\n"))}
            """);
    }

    private IEnumerable<Html> RowLabels() => Labels(_alignment.TargetItems).Select(label =>
        Html.Markup($"<text class=\"{(_labelled ? "label" : "stage")} end\" x=\"{_left - 8}\" y=\"{_top + label.At + 3.6}\">{label.Text}<title>{label.Full}</title></text>\n"));

    private IEnumerable<Html> ColumnLabels() => Labels(_alignment.SourceItems).Select(label =>
        Html.Markup($"<text class=\"{(_labelled ? "label" : "stage")}\" transform=\"translate({_left + label.At + 3.6} {_top - 8}) rotate(-90)\">{label.Text}<title>{label.Full}</title></text>\n"));

    // Every item, or every stage that has room for its name.
    private IEnumerable<(string Text, string Full, double At)> Labels(IReadOnlyList<ItemReport> items)
    {
        if (_labelled)
            return items.Select((item, i) => (Name(item), item.Name, (i + 0.5) * _size));
        var labels = new List<(string Text, string Full, double At)>();
        foreach ((int first, int count) in Stages(items))
        {
            double at = (first + count / 2.0) * _size;
            string stage = AlignmentFigure.Stage(items[first]);
            if (labels.Count == 0 || at - labels[^1].At >= Labelled)
                labels.Add((stage, stage, at));
        }

        return labels;
    }
}
