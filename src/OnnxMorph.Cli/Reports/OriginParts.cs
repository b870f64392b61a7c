using OnnxMorph.Alignment;
using OnnxMorph.Morphs;

namespace OnnxMorph.Cli.Reports;

/// <summary>How many elements of tensors are of which origin.</summary>
internal readonly record struct OriginCounts(long Exact, long Mapped, long Fresh)
{
    public long All => Exact + Mapped + Fresh;

    /// <summary>The origins with their names, as <c>--json</c> spells them.</summary>
    public IEnumerable<(string Name, long Count)> Parts => [("exact", Exact), ("mapped", Mapped), ("fresh", Fresh)];

    public override string ToString() => string.Join(", ", Parts.Where(p => p.Count > 0).Select(p => $"{Text.Full(p.Count)} {p.Name}"));
}

/// <summary>A tensor as reports show it.</summary>
internal sealed record TensorRow(string Name, IReadOnlyList<long> Shape, TensorOrigin Origin, string? Source, string? Note)
{
    public long Elements => Shape.Aggregate(1L, (product, size) => product * size);
}

/// <summary>Where a model's tensors come from: a bar with its key, and the table of all of them.</summary>
internal static class OriginParts
{
    public static string Name(TensorOrigin origin) => origin switch
    {
        TensorOrigin.Exact => "exact",
        TensorOrigin.Mapped => "mapped",
        _ => "fresh",
    };

    public static OriginCounts Count(IEnumerable<TensorRow> tensors)
    {
        var counts = tensors.ToLookup(t => t.Origin, t => t.Elements);
        return new OriginCounts(counts[TensorOrigin.Exact].Sum(), counts[TensorOrigin.Mapped].Sum(), counts[TensorOrigin.Fresh].Sum());
    }

    /// <summary>All elements as one bar.</summary>
    public static Html Bar(IReadOnlyList<TensorRow> tensors)
    {
        OriginCounts counts = Count(tensors);
        return Html.Markup($"""
            <div class="bar" role="img" aria-label="{counts.ToString()}">{counts.Parts.Where(p => p.Count > 0).Select(p => Html.Markup($"<span class=\"{p.Name}\" style=\"width:{100.0 * p.Count / counts.All:0.###}%\" title=\"{p.Name}\"></span>"))}</div>
            <ul class="key">
            {counts.Parts.Select(p => Html.Markup($"<li><i class=\"{p.Name}\"></i>{p.Name}: <b>{Text.Percent(p.Count, counts.All)}</b> <small>{Text.Some(p.Count, "element")}, {Text.Some(tensors.Count(t => Name(t.Origin) == p.Name), "tensor")}</small></li>\n"))}</ul>

            """);
    }

    /// <summary>An origin as a coloured word.</summary>
    public static Html Tag(TensorOrigin origin) => Html.Markup($"<span class=\"tag {Name(origin)}\">{Name(origin)}</span>");

    /// <summary>All tensors, below the items that read them and what these were filled from where an alignment is known.</summary>
    public static Html Table(IReadOnlyList<TensorRow> tensors, AlignmentReport? alignment)
    {
        string[] columns = alignment is not null ? ["tensor", "shape", "elements#", "origin", "source", "note"] : ["tensor", "shape", "elements#", "origin"];
        ILookup<string, TensorRow> byName = tensors.ToLookup(t => t.Name);
        Dictionary<int, ItemPair> pairs = alignment?.Pairs.ToDictionary(p => p.TargetIndex) ?? [];
        var shown = new HashSet<string>();
        var rows = new List<Html>();
        foreach ((int i, ItemReport item) in (alignment?.TargetItems ?? []).Index())
            Add(item.Name, [.. item.Tensors.Where(shown.Add).SelectMany(name => byName[name])], pairs.GetValueOrDefault(i));
        Add(alignment is null ? null : "elsewhere", [.. tensors.Where(t => !shown.Contains(t.Name))]);
        return Page.Table(columns, rows, isLong: true);

        void Add(string? group, List<TensorRow> own, ItemPair? pair = null)
        {
            if (own.Count == 0)
                return;
            if (group is not null)
                rows.Add(Html.Markup($"<tr class=\"group\" data-level=\"1\"><th scope=\"rowgroup\" colspan=\"{columns.Length}\">{group}{(pair is null ? "" : Html.Markup($"<span>from {pair.Source}{(pair.Copy > 0 ? ", again" : "")}</span>"))}<span>{Count(own).ToString()}</span></th></tr>\n"));
            rows.AddRange(own.Select(t => Html.Markup($"""
                <tr data-origin="{Name(t.Origin)}"><td class="name">{t.Name}</td><td>{Text.Shape(t.Shape)}</td><td class="number">{Text.Full(t.Elements)}</td><td>{Tag(t.Origin)}</td>{(alignment is not null ? Html.Markup($"<td class=\"name\">{t.Source}</td><td class=\"long muted\">{t.Note}</td>") : "")}</tr>

                """)));
        }
    }
}
