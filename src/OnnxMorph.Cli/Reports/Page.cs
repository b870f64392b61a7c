using System.Security.Cryptography;
using System.Text;

namespace OnnxMorph.Cli.Reports;

/// <summary>
/// The frame of every report: one HTML file that is XML as well, with style and script inside. It loads nothing, and its content security
/// policy forbids everything but these two.
/// </summary>
internal static class Page
{
    private static readonly Html s_style = Resource("report.css"), s_script = Resource("report.js");

    /// <summary>A report.</summary>
    /// <param name="kind">The command that made it.</param>
    /// <param name="title">What it is about, as plain text.</param>
    /// <param name="heading">The same as markup.</param>
    /// <param name="body">What stands below the heading.</param>
    public static Html Of(string kind, string title, Html heading, params IEnumerable<Html> body) => Html.Markup($"""
        <!DOCTYPE html>
        <html xmlns="http://www.w3.org/1999/xhtml" lang="en">
        <head>
        <meta charset="utf-8"/>
        <meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{s_hash}'"/>
        <meta name="viewport" content="width=device-width, initial-scale=1"/>
        <meta name="generator" content="onnxmorph"/>
        <title>{title} – onnxmorph {kind}</title>
        <style>
        {s_style}</style>
        </head>
        <body>
        <main>
        <header>
        <p class="kind">onnxmorph {kind}</p>
        <h1>{heading}</h1>
        </header>
        {body}
        </main>
        <script>{s_script}</script>
        </body>
        </html>

        """);

    /// <summary>A section with a heading and a sentence on how to read it.</summary>
    public static Html Section(string title, string caption, params IEnumerable<Html> content) => Html.Markup($"""
        <section>
        <h2>{title}</h2>
        <p class="caption">{caption}</p>
        {content}
        </section>

        """);

    /// <summary>Two files, one made from or held against the other.</summary>
    public static Html FromTo(string from, string to) => Html.Markup($"""{from}<span class="arrow"> → </span>{to}""");

    /// <summary>The figures that matter most, side by side; each has a name, a value and, where it needs one, an explanation.</summary>
    public static Html Figures(params IEnumerable<(string Name, Html Value, string? Explanation)> figures) => Html.Markup($"""
        <dl class="figures">
        {figures.Select(f => Html.Markup($"<div><dt>{f.Name}</dt><dd>{f.Value}{(f.Explanation is null ? "" : Html.Markup($"<small>{f.Explanation}</small>"))}</dd></div>\n"))}</dl>

        """);

    /// <summary>A table in a box that scrolls where the window is narrow.</summary>
    /// <param name="columns">Names of the columns; those that end in # hold numbers, one that ends in * takes the room that is left.</param>
    /// <param name="rows">The rows.</param>
    /// <param name="isLong">Whether to offer a filter.</param>
    public static Html Table(string[] columns, IEnumerable<Html> rows, bool isLong = false) => Html.Markup($"""
        <div class="scroll"><table{(isLong ? Html.Markup($" class=\"long\"") : "")}>
        <thead><tr>{columns.Select(c => Html.Markup($"<th scope=\"col\"{(c.EndsWith('#') ? Html.Markup($" class=\"number\"") : c.EndsWith('*') ? Html.Markup($" class=\"rest\"") : "")}>{c.TrimEnd('#', '*')}</th>"))}</tr></thead>
        <tbody>
        {rows}</tbody>
        </table></div>

        """);

    /// <summary>A list of sentences; nothing where there are none.</summary>
    public static Html List(IEnumerable<Html> items)
    {
        List<Html> all = [.. items];
        return all.Count == 0 ? "" : Html.Markup($"""<ul class="plain">{all.Select(item => Html.Markup($"<li>{item}</li>\n"))}</ul>""");
    }

    /// <summary>Names from models, one behind the other.</summary>
    public static Html Names(IEnumerable<string> names) => Html.Join(names.Select((name, i) => Html.Markup($"{(i > 0 ? ", " : "")}<code>{name}</code>")));

    /// <summary>A section of sentences; nothing where there are none.</summary>
    public static Html Notes(IReadOnlyList<string> notes) =>
        notes.Count == 0 ? "" : Section("Notes", "What to know of the result.", List(notes.Select(note => (Html)note)));

    private static readonly string s_hash = Convert.ToBase64String(SHA256.HashData(Encoding.UTF8.GetBytes(s_script.ToString())));

    private static Html Resource(string name)
    {
        using Stream stream = typeof(Page).Assembly.GetManifestResourceStream($"OnnxMorph.Cli.Reports.{name}")!;
        return Html.Trusted(new StreamReader(stream).ReadToEnd());
    }
}
