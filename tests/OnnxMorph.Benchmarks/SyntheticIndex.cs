using OnnxMorph.Onnx;
using OnnxMorph.Ranking;

namespace OnnxMorph.Benchmarks;

/// <summary>
/// An index of networks that do not exist, for `onnxmorph rank TARGET --index FILE`. Their files are there, so that the command finds them as
/// they were read, but hold nothing.
/// </summary>
internal static class SyntheticIndex
{
    /// <summary>The index of a folder.</summary>
    public static string File(string folder) => Path.Combine(folder, "index.db");

    /// <summary>Writes an index of so many networks, the same each time.</summary>
    public static void Write(string folder, int count)
    {
        var random = new Random(1);
        Directory.CreateDirectory(folder);
        using var index = new ModelIndex(File(folder));
        foreach (int[] batch in Enumerable.Range(0, count).Chunk(1000))
        {
            index.Add([.. batch.Select(i =>
            {
                string path = Path.GetFullPath(Path.Combine(folder, $"{i:d5}.onnx"));
                using (FileStream stream = System.IO.File.Create(path))
                    stream.SetLength(20_000_000);
                FileStamp stamp = FileStamp.Of(path);
                return new ModelEntry(path, stamp.Length, ModelIndex.Nanoseconds(stamp.LastWrite), $"{i:x32}", ModelIndex.ReaderVersion, SyntheticNetworks.Draw(random));
            })]);
        }
    }
}
