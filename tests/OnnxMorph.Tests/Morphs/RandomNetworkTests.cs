using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>
/// Random networks under random steps of every kind: the child relates to the parent as recorded, in double precision, or layers are
/// refused; nothing else ever happens. Cases that fail are shrunk and written as tests for <see cref="RandomNetworkCases"/>. The
/// environment variable ONNXMORPH_RANDOM_NETWORKS raises the number of networks, ONNXMORPH_RANDOM_SEED is the first seed,
/// and ONNXMORPH_RANDOM_REPORT names a file that failures are written to as they are found.
/// </summary>
public class RandomNetworkTests
{
    // Many failures have one cause.
    private const int MostShrunk = 4;

    [Fact]
    public void ChildrenComputeWhatTheirParentsCompute()
    {
        int count = int.TryParse(Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_NETWORKS"), out int more) ? more : 120;
        int first = int.TryParse(Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_SEED"), out int seed) ? seed : 0;
        var failures = new List<string>();
        int changed = 0;
        DirectoryInfo folder = Directory.CreateTempSubdirectory("onnxmorph-");
        try
        {
            Parallel.For(first, first + count, new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount }, i =>
            {
                RandomCase drawn = RandomCase.Draw(i, folder.FullName);
                try
                {
                    if (drawn.Holds())
                        Interlocked.Increment(ref changed);
                }
                catch (Exception e)
                {
                    lock (failures)
                        failures.Add(Describe(i, drawn, e, shrink: failures.Count < MostShrunk));
                }
            });
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.True(count < 50 || 3 * changed > 2 * count, $"Only {changed} of {count} networks changed.");
    }

    private static string Describe(int seed, RandomCase drawn, Exception failure, bool shrink)
    {
        string smallest = shrink ? $"\n{Shrinker.Shrink(drawn, $"Seed{seed}")}" : "";
        string text = $"{seed}: {string.Join("; ", drawn.Steps.Select(s => $"{s.Spec}"))}: {failure.GetType().Name}: {failure.Message}{smallest}\n";
        if (Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_REPORT") is { } report)
            File.AppendAllText(report, text);
        return text;
    }
}
