using System.Text;

namespace OnnxMorph.Cli.Reports;

/// <summary>The file that <c>--report</c> names.</summary>
internal static class ReportFile
{
    /// <summary>Makes sure, before the work is done, that the report can be written; null where none was asked for.</summary>
    /// <param name="path">What the user named.</param>
    /// <param name="force">Whether a file that exists may be replaced.</param>
    /// <param name="others">The other files of the run.</param>
    /// <exception cref="UsageException">It is no name for a report, or a file is in the way.</exception>
    /// <exception cref="OnnxMorphException">It cannot be written.</exception>
    public static OutputFile? Open(string? path, bool force, params IEnumerable<string?> others)
    {
        if (path is null)
            return null;
        // With --force a model's name in this place would cost the model.
        if (!(Path.GetExtension(path).ToLowerInvariant() is ".html" or ".htm" or ".xhtml"))
            throw new UsageException($"'{path}' does not end in .html; name a file for the report.");
        if (others.Any(other => other is not null && Path.GetFullPath(other) == Path.GetFullPath(path)))
            throw new UsageException($"'{path}' is named for the report and for something else; give the report a name of its own.");
        return new OutputFile(path, force);
    }

    /// <summary>Writes the report.</summary>
    public static void Write(this OutputFile file, Html page) => file.Write(stream => stream.Write(Encoding.UTF8.GetBytes(page.ToString())));
}
