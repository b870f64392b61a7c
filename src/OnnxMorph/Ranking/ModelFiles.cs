namespace OnnxMorph.Ranking;

/// <summary>The model files that a command line names.</summary>
internal static class ModelFiles
{
    /// <summary>
    /// Files as they are named, and those that end in .onnx in folders and the folders below, in order of their names; each once. Folders that are
    /// links are entered only where they are named.
    /// </summary>
    /// <param name="paths">Files and folders.</param>
    /// <param name="unread">Takes folders below that cannot be entered.</param>
    /// <exception cref="OnnxMorphException">A file or folder that was named does not exist or cannot be entered.</exception>
    public static List<string> Of(IEnumerable<string> paths, List<UnreadModel> unread)
    {
        var files = new List<string>();
        foreach (string path in paths)
        {
            if (File.Exists(path))
                files.Add(path);
            else if (Directory.Exists(path))
                files.AddRange(In(path, unread));
            else
                throw new OnnxMorphException(ExitCode.InputOutput, $"'{path}' does not exist; check the path.");
        }

        return [.. files.DistinctBy(Path.GetFullPath)];
    }

    private static List<string> In(string folder, List<UnreadModel> unread)
    {
        var files = new List<string>();
        var open = new Stack<string>([folder]);
        while (open.TryPop(out string? next))
        {
            try
            {
                foreach (FileSystemInfo entry in new DirectoryInfo(next).EnumerateFileSystemInfos())
                {
                    string path = Path.Combine(next, entry.Name);
                    if (entry is FileInfo && entry.Extension.Equals(".onnx", StringComparison.OrdinalIgnoreCase))
                        files.Add(path);
                    else if (entry is DirectoryInfo && entry.LinkTarget is null)
                        open.Push(path);
                }
            }
            catch (Exception e) when (e is IOException or UnauthorizedAccessException)
            {
                if (next == folder)
                    throw new OnnxMorphException(ExitCode.InputOutput, $"'{folder}' cannot be read: {e.Message}", e);
                unread.Add(new UnreadModel(next, $"'{next}' cannot be read: {e.Message}"));
            }
        }

        files.Sort(StringComparer.Ordinal);
        return files;
    }
}
