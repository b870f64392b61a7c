using System.CommandLine;
using OnnxMorph.Kernels;
using Spectre.Console;

namespace OnnxMorph.Cli;

/// <summary>
/// Where text goes: results for people to standard output, or to standard error when a JSON document takes standard output;
/// progress to standard error, as one line that is only there while the work runs.
/// </summary>
internal sealed class Terminal
{
    // A file or a pipe has no width to fold lines at.
    private const int Unfolded = 1 << 16;

    private readonly TextWriter _output, _error;
    private readonly bool _quiet;
    private readonly IAnsiConsole _results;

    /// <summary>The terminal of one run of a command.</summary>
    /// <param name="configuration">The streams to write to.</param>
    /// <param name="json">Whether a JSON document takes standard output.</param>
    /// <param name="quiet">Whether only errors are printed.</param>
    public Terminal(InvocationConfiguration configuration, bool json, bool quiet)
    {
        (_output, _error, Json, _quiet) = (configuration.Output, configuration.Error, json, quiet);
        _results = To(json ? _error : _output);
    }

    /// <summary>Whether the user asked for a JSON document.</summary>
    public bool Json { get; }

    private static bool IsTerminal(TextWriter writer) =>
        ReferenceEquals(writer, Console.Out) ? !Console.IsOutputRedirected
        : ReferenceEquals(writer, Console.Error) && !Console.IsErrorRedirected;

    private static IAnsiConsole To(TextWriter writer)
    {
        bool terminal = IsTerminal(writer);
        var settings = new AnsiConsoleSettings { Out = new AnsiConsoleOutput(writer) };
        if (!terminal)
        {
            // Build servers' enrichers would colour what goes to a file.
            settings.Ansi = AnsiSupport.No;
            settings.ColorSystem = ColorSystemSupport.NoColors;
            settings.Enrichment.UseDefaultEnrichers = false;
        }

        IAnsiConsole console = AnsiConsole.Create(settings);
        if (!terminal)
            console.Profile.Width = Unfolded;
        return console;
    }

    /// <summary>The one JSON document.</summary>
    public void Document(string json) => _output.WriteLine(json);

    /// <summary>Why the run did not end well; printed even when quiet.</summary>
    public void Failure(string sentence) => _error.WriteLine(sentence);

    /// <summary>A line for people; markup is not interpreted.</summary>
    public void Line(string text = "")
    {
        if (!_quiet)
            _results.WriteLine(text);
    }

    /// <summary>Names the report that was written, where one was.</summary>
    public void Wrote(OutputFile? report)
    {
        if (report is not null)
            Line($"wrote {report.Path}");
    }

    /// <summary>Says what the user should know of the device that was used.</summary>
    public void Warn(KernelDevice device)
    {
        if (device.Warning is { } warning)
            Line($"warning: {warning}");
    }

    /// <summary>A heading.</summary>
    public void Heading(string text)
    {
        if (!_quiet)
            _results.Write(new Text(text + "\n", new Style(decoration: Decoration.Bold)));
    }

    /// <summary>A table whose first row is its header; columns named in <paramref name="numeric"/> are aligned to the right.</summary>
    public void Table(string[] header, IEnumerable<string[]> rows, params int[] numeric)
    {
        if (_quiet)
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
        if (_quiet || !IsTerminal(_error))
            return work(new Reporter(_ => { }));
        return To(_error).Status().Start("starting", status => work(new Reporter(stage => status.Status(stage))));
    }

    // System.Progress posts to a thread pool, which may print a stage after the next has begun.
    private sealed class Reporter(Action<string> report) : IProgress<string>
    {
        public void Report(string value) => report(value);
    }
}
