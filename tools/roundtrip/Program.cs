// Reads every model under a folder and writes it back unchanged, for tools/roundtrip_check.py to compare.
//
//   dotnet run --project tools/roundtrip -- IN OUT [LIMIT]
//
// IN is searched for .onnx and .pb files; OUT, which must not exist, gets the same tree. Files that are no models (test data
// are .pb too) are listed with the reason. LIMIT is the size in bytes from which weights go beside the model.
using System.Diagnostics;
using OnnxMorph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

if (args.Length is not (2 or 3) || !Directory.Exists(args[0]) || Directory.Exists(args[1]))
{
    Console.Error.WriteLine("usage: roundtrip IN OUT [LIMIT]    (OUT must not exist)");
    return (int)ExitCode.Usage;
}

var options = new WriteOptions { InlineLimit = args.Length == 3 ? long.Parse(args[2]) : int.MaxValue };
int written = 0, identical = 0, refused = 0;
long bytes = 0;
var clock = new Stopwatch();
foreach (string path in Directory.EnumerateFiles(args[0], "*", SearchOption.AllDirectories).Order(StringComparer.Ordinal))
{
    if (Path.GetExtension(path) is not (".onnx" or ".pb"))
        continue;
    string output = Path.Combine(args[1], Path.GetRelativePath(args[0], path));
    try
    {
        Directory.CreateDirectory(Path.GetDirectoryName(output)!);
        clock.Start();
        OnnxModel model = OnnxReader.Read(path);
        bytes += OnnxWriter.Write(model, output, new WeightEvaluator(), options).Bytes;
        clock.Stop();
        written++;
        identical += SameBytes(path, output) ? 1 : 0;
    }
    catch (UnreadableModelException e)
    {
        clock.Stop();
        refused++;
        Console.WriteLine($"refused: {e.Message}");
    }
}

Console.WriteLine($"{written} models written ({bytes / 1e6:F1} MB), {identical} of them byte for byte; {refused} files refused; {clock.Elapsed.TotalSeconds:F2} s, " +
    $"at most {Process.GetCurrentProcess().PeakWorkingSet64 / 1e6:F0} MB of memory");
return 0;

static bool SameBytes(string one, string two)
{
    using FileStream first = File.OpenRead(one), second = File.OpenRead(two);
    byte[] left = new byte[1 << 20], right = new byte[1 << 20];
    for (int read = 1; read > 0;)
    {
        read = first.ReadAtLeast(left, left.Length, throwOnEndOfStream: false);
        int other = second.ReadAtLeast(right, right.Length, throwOnEndOfStream: false);
        if (!left.AsSpan(0, read).SequenceEqual(right.AsSpan(0, other)))
            return false;
    }

    return true;
}
