using OnnxMorph.Onnx;

namespace OnnxMorph;

/// <summary>
/// A file that appears under its name only when it is whole. A file beside it is opened at once, so that a place that cannot be written to
/// shows before the work is done.
/// </summary>
public sealed class OutputFile : IDisposable
{
    private readonly bool _force;
    private readonly string _temporary;
    private readonly FileStream _stream;

    /// <summary>Makes sure that a file can be written.</summary>
    /// <param name="path">The file.</param>
    /// <param name="force">Whether one that exists may be replaced.</param>
    /// <exception cref="UsageException">Something is in the way.</exception>
    /// <exception cref="OnnxMorphException">Its folder does not exist or cannot be written to.</exception>
    public OutputFile(string path, bool force)
    {
        (Path, _force) = (System.IO.Path.GetFullPath(path), force);
        OnnxWriter.CheckFree(Path, force);
        _temporary = System.IO.Path.Combine(System.IO.Path.GetDirectoryName(Path)!, $".{System.IO.Path.GetFileName(Path)}.{System.IO.Path.GetRandomFileName()}");
        try
        {
            _stream = new FileStream(_temporary, FileMode.CreateNew, FileAccess.Write);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unwritable(e);
        }
    }

    /// <summary>Its full path.</summary>
    public string Path { get; }

    /// <summary>Writes the content and gives the file its name; once.</summary>
    /// <exception cref="OnnxMorphException">It cannot be written.</exception>
    public void Write(Action<Stream> content, CancellationToken cancellation = default)
    {
        try
        {
            using (_stream)
                content(_stream);
            cancellation.ThrowIfCancellationRequested();
            File.Move(_temporary, Path, _force);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw Unwritable(e);
        }
    }

    /// <summary>Takes away what was not given its name.</summary>
    public void Dispose()
    {
        _stream.Dispose();
        File.Delete(_temporary);
    }

    private OnnxMorphException Unwritable(Exception e) => new(ExitCode.InputOutput, $"'{Path}' cannot be written: {e.Message}", e);
}
