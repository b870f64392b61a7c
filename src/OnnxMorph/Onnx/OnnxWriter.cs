namespace OnnxMorph.Onnx;

/// <summary>How a model is written.</summary>
public sealed record WriteOptions
{
    /// <summary>Whether files that exist may be replaced.</summary>
    public bool Force { get; init; }

    /// <summary>Bytes that the model file may have before its weights go to a file of their own; protobuf ends at 2 GiB.</summary>
    public long InlineLimit { get; init; } = int.MaxValue;

    /// <summary>
    /// Looks at the whole output, at the path given, before it takes its place; false drops it. Null accepts it.
    /// </summary>
    public Func<string, bool>? Accept { get; init; }

    /// <summary>A file that takes its place together with the model, or not at all.</summary>
    public Companion? Companion { get; init; }

    /// <summary>Threads that evaluate and write; what they write does not depend on it.</summary>
    public int Threads { get; init; } = Environment.ProcessorCount;
}

/// <summary>A file that belongs to a model.</summary>
/// <param name="Path">Where it is to stand.</param>
/// <param name="Write">Writes its content.</param>
public sealed record Companion(string Path, Action<Stream> Write);

/// <summary>What was written.</summary>
/// <param name="Path">The model file.</param>
/// <param name="DataPath">Its external data, or null.</param>
/// <param name="Bytes">Bytes of both.</param>
/// <param name="Accepted">Whether the files are there; false where <see cref="WriteOptions.Accept"/> dropped them.</param>
public sealed record WrittenModel(string Path, string? DataPath, long Bytes, bool Accepted);

/// <summary>
/// Writes ONNX files. All sizes are computed first, so that every piece can be written at its place by any thread: what no pass has touched is
/// copied from the file that it was read from, what one has changed is evaluated. Files appear under their names only when they are whole.
/// </summary>
public static class OnnxWriter
{
    /// <summary>
    /// Writes <paramref name="model"/> to <paramref name="path"/>, and to <c>path.data</c> the weights that belong in a file
    /// of their own: those that were external in the input, and all initializers where the model file would be too large.
    /// The file that the model was read from may itself be replaced; the model object cannot be used afterwards.
    /// </summary>
    /// <param name="model">The model.</param>
    /// <param name="path">The file to write.</param>
    /// <param name="weights">Evaluates the weights that <see cref="OnnxModel.SetData"/> has replaced.</param>
    /// <param name="options">How to write; the defaults replace nothing.</param>
    /// <param name="progress">Told the bytes written so far, of <see cref="OutputBytes"/>.</param>
    /// <param name="cancellation">Ends the run; nothing is left behind.</param>
    /// <exception cref="UsageException">A file is in the way.</exception>
    /// <exception cref="OnnxMorphException">The model is inconsistent, or a file cannot be read or written.</exception>
    /// <exception cref="OperationCanceledException">The run was cancelled.</exception>
    public static WrittenModel Write(
        OnnxModel model, string path, IWeightSource weights, WriteOptions? options = null,
        IProgress<long>? progress = null, CancellationToken cancellation = default)
    {
        options ??= new();
        path = Path.GetFullPath(path);
        string dataPath = path + ".data";
        OutputLayout layout = Layout(model, dataPath, options);
        bool hasData = layout.Data.Count > 0;
        string? companionPath = options.Companion is null ? null : Path.GetFullPath(options.Companion.Path);
        CheckTargets(model, path, [.. new[] { hasData ? dataPath : null, companionPath }.OfType<string>()], options.Force);

        // The files have their own names in a folder of their own, so that the model finds its data there as well.
        string folder = Path.Combine(Path.GetDirectoryName(path)!, $".{Path.GetFileName(path)}.{Path.GetRandomFileName()}");
        string temporary = Path.Combine(folder, Path.GetFileName(path)), temporaryData = Path.Combine(folder, Path.GetFileName(dataPath));
        bool accepted;
        try
        {
            Directory.CreateDirectory(folder);
            model.CheckSourcesUnchanged();
            var counter = new ByteCounter(progress, cancellation);
            if (hasData)
                PieceWriter.Write(temporaryData, layout.DataBytes, layout.Data, weights, options.Threads, counter);
            PieceWriter.Write(temporary, layout.ModelBytes, InSequence(layout.Model), weights, options.Threads, counter);
            counter.Report();

            model.CheckSourcesUnchanged();
            cancellation.ThrowIfCancellationRequested();
            accepted = options.Accept?.Invoke(temporary) ?? true;
            if (accepted)
            {
                var files = new List<(string From, string To)>();
                if (hasData)
                    files.Add((temporaryData, dataPath));
                if (options.Companion is { } companion)
                {
                    string temporaryCompanion = temporary + ".companion";
                    using (FileStream stream = File.Create(temporaryCompanion))
                        companion.Write(stream);
                    files.Add((temporaryCompanion, companionPath!));
                }

                cancellation.ThrowIfCancellationRequested();
                Publish(files, (temporary, path), options.Force);
            }
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{path}' cannot be written: {e.Message}", e);
        }
        finally
        {
            DeleteQuietly(folder);
        }

        return new(path, hasData ? dataPath : null, layout.ModelBytes + layout.DataBytes, accepted);
    }

    /// <summary>Bytes that <see cref="Write"/> will write, for a progress bar.</summary>
    public static long OutputBytes(OnnxModel model, string path, WriteOptions? options = null)
    {
        OutputLayout layout = Layout(model, path + ".data", options ?? new());
        return layout.ModelBytes + layout.DataBytes;
    }

    private static OutputLayout Layout(OnnxModel model, string dataPath, WriteOptions options)
    {
        try
        {
            model.Validate();
        }
        catch (UnreadableModelException e)
        {
            throw new OnnxMorphException(ExitCode.VerificationFailed, $"The model to write is inconsistent: {e.Message}", e);
        }

        return OutputLayout.Of(model, Path.GetFileName(dataPath), options.InlineLimit);
    }

    /// <summary>Checks that a file may be written: its folder is there, and nothing is in the way.</summary>
    /// <exception cref="UsageException">Something is in the way.</exception>
    /// <exception cref="OnnxMorphException">The folder does not exist.</exception>
    internal static void CheckFree(string path, bool force)
    {
        string folder = Path.GetDirectoryName(path) ?? "";
        if (!Directory.Exists(folder))
            throw new OnnxMorphException(ExitCode.InputOutput, $"The folder '{folder}' does not exist; create it first.");
        if (Directory.Exists(path))
            throw new UsageException($"'{path}' is a folder; name a file for the output.");
        if (!force && File.Exists(path))
            throw new UsageException($"'{path}' exists; choose another name or allow it to be replaced with --force.");
    }

    private static void CheckTargets(OnnxModel model, string path, IReadOnlyList<string> others, bool force)
    {
        foreach (string target in others.Prepend(path))
            CheckFree(target, force);
        if (model.Path is null)
            return;
        // Replacing the input as a whole is what --force is for; replacing only its weights would destroy it.
        bool replacesInput = SameFile(path, Path.GetFullPath(model.Path));
        foreach (string target in replacesInput ? others.Where(o => o != path + ".data") : others.Prepend(path))
            CheckSpared(model, target);
    }

    /// <summary>Checks that replacing <paramref name="target"/> takes nothing from <paramref name="model"/>.</summary>
    /// <exception cref="UsageException">The model's content is in that file.</exception>
    internal static void CheckSpared(OnnxModel model, string target)
    {
        if (model.Sources.Any(source => SameFile(target, source)))
            throw new UsageException($"'{target}' holds weights of the input '{model.Path}'; choose another name for the output.");
    }

    /// <summary>Whether replacing <paramref name="target"/> replaces <paramref name="source"/>: a link to it is not the file.</summary>
    private static bool SameFile(string target, string source) => string.Equals(
        Path.Combine(ExternalData.RealPath(Path.GetDirectoryName(target)!), Path.GetFileName(target)),
        ExternalData.RealPath(source), ExternalData.PathComparison);

    private static IEnumerable<(long Offset, Piece Piece)> InSequence(List<Piece> pieces)
    {
        long offset = 0;
        foreach (Piece piece in pieces)
        {
            yield return (offset, piece);
            offset += piece.Length;
        }
    }

    /// <summary>Gives every file its name, or none. The model comes last: where it stands, all that belongs to it does.</summary>
    private static void Publish(List<(string From, string To)> files, (string From, string To) model, bool force)
    {
        var moved = new List<(string From, string To)>();
        try
        {
            foreach ((string from, string to) in files)
            {
                if (force && File.Exists(to))
                    Move(to, $"{model.From}.replaced{moved.Count}");
                Move(from, to);
            }

            File.Move(model.From, model.To, force);
        }
        catch
        {
            foreach ((string from, string to) in Enumerable.Reverse(moved))
                File.Move(to, from);
            throw;
        }

        void Move(string from, string to)
        {
            File.Move(from, to);
            moved.Add((from, to));
        }
    }

    private static void DeleteQuietly(string folder)
    {
        try
        {
            if (Directory.Exists(folder))
                Directory.Delete(folder, recursive: true);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            // The error that led here, or the output that is whole, matters more than a temporary file that stays.
        }
    }
}
