using Spectre.Console;

namespace OnnxMorph.Cli;

/// <summary>
/// Where text goes: results for people to standard output, or to standard error when a JSON document takes standard output;
/// progress to standard error, as one line that is only there while the work runs.
/// </summary>
internal sealed class Terminal(bool json, bool quiet)
{
    // A file or a pipe has no width to fold lines at.
    private const int Unfolded = 1 << 16;

    private readonly IAnsiConsole _results = json ? Error : To(Console.Out, Console.IsOutputRedirected);

    private static IAnsiConsole Error => field ??= To(Console.Error, Console.IsErrorRedirected);

    private static IAnsiConsole To(TextWriter writer, bool redirected)
    {
        IAnsiConsole console = AnsiConsole.Create(new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) });
        if (redirected)
            console.Profile.Width = Unfolded;
        return console;
    }

    /// <summary>A line for people; markup is not interpreted.</summary>
    public void Line(string text = "")
    {
        if (!quiet)
            _results.WriteLine(text);
    }

    /// <summary>A heading.</summary>
    public void Heading(string text)
    {
        if (!quiet)
            _results.Write(new Text(text + "\n", new Style(decoration: Decoration.Bold)));
    }

    /// <summary>A table whose first row is its header; columns named in <paramref name="numeric"/> are aligned to the right.</summary>
    public void Table(string[] header, IEnumerable<string[]> rows, params int[] numeric)
    {
        if (quiet)
            return;
        var table = new Table().Border(TableBorder.None).Collapse();
        for (int i = 0; i < header.Length; i++)
        {
            var column = new TableColumn(new Text(header[i], new Style(decoration: Decoration.Dim))) { NoWrap = i + 1 < header.Length };
            table.AddColumn(numeric.Contains(i) ? column.RightAligned() : column);
        }

        foreach (string[] row in rows)
            table.AddRow(row.Select(cell => new Text(cell)));
        _results.Write(table);
    }

    /// <summary>Runs work with a line on standard error that says what it is at; silent where that is no terminal.</summary>
    public T Progress<T>(Func<IProgress<string>, T> work)
    {
        if (quiet || Console.IsErrorRedirected)
            return work(new Reporter(_ => { }));
        return Error.Status().Start("starting", status => work(new Reporter(stage => status.Status(stage))));
    }

    // System.Progress posts to a thread pool, which may print a stage after the next has begun.
    private sealed class Reporter(Action<string> report) : IProgress<string>
    {
        public void Report(string value) => report(value);
    }
}
