namespace OnnxMorph.Cli.Tests.Testing;

/// <summary>A folder of a test's own, deleted with everything in it.</summary>
internal sealed class Workspace : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("onnxmorph-test-").FullName;

    /// <summary>The full path of a file in the folder.</summary>
    public string this[string name] => Path.Combine(_folder, name);

    /// <summary>Whether anything is in the folder; unlike <see cref="Snapshot"/> safe while another process writes there.</summary>
    public bool HasEntries => Directory.EnumerateFileSystemEntries(_folder, "*", new EnumerationOptions { AttributesToSkip = 0 }).Any();

    /// <summary>Everything in the folder, hidden files too, with the content of each file.</summary>
    public SortedDictionary<string, string> Snapshot() => new(
        Directory.EnumerateFileSystemEntries(_folder, "*", new EnumerationOptions { RecurseSubdirectories = true, AttributesToSkip = 0 })
            .ToDictionary(path => Path.GetRelativePath(_folder, path), path => Directory.Exists(path) ? "folder" : Convert.ToHexString(File.ReadAllBytes(path))),
        StringComparer.Ordinal);

    /// <summary>A model of the repository.</summary>
    public static string Model(string name) => Path.Combine(AppContext.BaseDirectory, "models", name);

    /// <summary>The held-out images and their classes.</summary>
    public static string Samples => Model("digits_samples.npz");

    public void Dispose() => Directory.Delete(_folder, recursive: true);
}
