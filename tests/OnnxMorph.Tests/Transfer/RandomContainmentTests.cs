using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Transfer;

/// <summary>
/// Children of random networks under random steps of every kind, with other numbers in the place of everything that is trained: the parent
/// is found in them, and they compute what it computes. The environment variable ONNXMORPH_RANDOM_TARGETS raises the number of networks,
/// ONNXMORPH_RANDOM_SEED is the first seed, and ONNXMORPH_RANDOM_REPORT names a file that failures are written to as they are found.
/// </summary>
public class RandomContainmentTests
{
    [Fact]
    public void ParentsAreFoundInTheirChildren()
    {
        int count = int.TryParse(Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_TARGETS"), out int more) ? more : 60;
        int first = int.TryParse(Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_SEED"), out int seed) ? seed : 0;
        var failures = new List<string>();
        int changed = 0;
        DirectoryInfo folder = Directory.CreateTempSubdirectory("onnxmorph-");
        try
        {
            Parallel.For(first, first + count, new ParallelOptions { MaxDegreeOfParallelism = Environment.ProcessorCount }, i =>
            {
                RandomCase drawn = RandomCase.Draw(i, folder.FullName);
                string failure;
                try
                {
                    if (drawn.Child() is not { } child)
                        return;
                    Interlocked.Increment(ref changed);
                    if (Containing.Find(drawn.Net.Model, Containing.Redrawn(child, i), out string why) is { Obstacle: null } found)
                    {
                        try
                        {
                            drawn.HoldsAsWritten(found.Filled);
                            return;
                        }
                        catch (Exception e)
                        {
                            failure = $"{e.Message} First of all {Containing.FirstWrong(found, drawn.Net)}.";
                        }
                    }
                    else
                        failure = $"not found: {why}";
                }
                catch (Exception e)
                {
                    failure = $"{e.GetType().Name}: {e.Message}";
                }

                lock (failures)
                    failures.Add(Describe(i, drawn, failure));
            });
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        Assert.True(failures.Count == 0, $"{failures.Count} of {changed}\n{string.Join('\n', failures)}");
    }

    private static string Describe(int seed, RandomCase drawn, string failure)
    {
        string text = $"{seed}: {string.Join("; ", drawn.Steps.Select(s => $"{s.Spec}"))}: {failure}";
        if (Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_REPORT") is { } report)
            File.AppendAllText(report, text + "\n");
        return text;
    }
}
