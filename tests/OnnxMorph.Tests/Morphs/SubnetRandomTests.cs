using OnnxMorph.Morphs;
using OnnxMorph.Morphs.Subnet;
using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>
/// Random subnets, among them random modules, in random networks: the child computes the same, or layers are refused; nothing else ever
/// happens. The environment variable ONNXMORPH_RANDOM_NETWORKS raises the number of networks.
/// </summary>
public class SubnetRandomTests
{
    [Fact]
    public void ChildrenComputeWhatTheirParentsCompute()
    {
        int count = int.TryParse(Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_NETWORKS"), out int more) ? more : 25;
        int first = int.TryParse(Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_SEED"), out int seed) ? seed : 0;
        var failures = new List<string>();
        int changed = 0;
        for (int i = first; i < first + count; i++)
        {
            try
            {
                changed += Holds(i) ? 1 : 0;
            }
            catch (Exception e)
            {
                failures.Add($"{i}: {e.GetType().Name}: {e.Message}");
            }
        }

        Assert.True(failures.Count == 0, string.Join('\n', failures));
        Assert.True(count < 20 || changed > 0.9 * count, $"Only {changed} of {count} networks changed.");
    }

    private static bool Holds(int seed)
    {
        Net net = new RandomNetwork(seed).Net;
        var random = new Random(~seed);
        bool solved = false;
        var steps = new List<MorphStep>();
        for (int i = random.Next(1, 4); i > 0; i--)
        {
            var kind = (SubnetKind)random.Next(Enum.GetValues<SubnetKind>().Length);
            string? module = kind == SubnetKind.Module || (kind == SubnetKind.Residual && random.Next(2) == 0) ? Module(random, 2) : null;
            // What is solved for is rounded to the layer's own precision.
            solved |= module is not null;
            steps.Add(SubnetNets.Subnet("*", new(kind) { Branches = random.Next(1, 4), Length = random.Next(1, 4), Reduction = random.Next(1, 4), Module = module }, (ulong)random.Next()));
        }

        if (random.Next(2) == 0)
            steps.Insert(random.Next(steps.Count + 1), Check.Widen("*", "x1.5", seed: (ulong)random.Next()));
        return Check.Morph(net, inDouble: !solved, [.. steps]).Steps.Any(s => s.Changes.Count > 0);
    }

    // Only layers that others follow have widths of their own: most modules then end in as many channels as the layer.
    private static string Module(Random random, int depth, bool last = true)
    {
        if (depth == 0 || random.Next(4) == 0)
            return random.Next(last ? 3 : 6) switch
            {
                0 => "id",
                1 => "layer",
                2 => "1",
                3 => "1:x2",
                4 => $"1:+{random.Next(1, 4)}",
                _ => "layer:x1.5",
            };
        string join = new[] { ", ", " | ", ", ", " | ", " & " }[random.Next(5)];
        int parts = random.Next(2, 4);
        return $"({string.Join(join, Enumerable.Range(1, parts).Select(part => Module(random, depth - 1, join == ", " ? last && part == parts : last)))})";
    }
}
