using OnnxMorph.Morphs;
using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

/// <summary>
/// Random networks under random steps: the child relates to the parent as recorded, in double precision, or the step is refused;
/// nothing else ever happens. The environment variable ONNXMORPH_RANDOM_NETWORKS raises the number of networks.
/// </summary>
public class RandomNetworkTests
{
    [Fact]
    public void ChildrenComputeWhatTheirParentsCompute()
    {
        int count = int.TryParse(Environment.GetEnvironmentVariable("ONNXMORPH_RANDOM_NETWORKS"), out int more) ? more : 120;
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
        Assert.True(count < 50 || changed > count / 2, $"Only {changed} of {count} networks changed.");
    }

    private static bool Holds(int seed)
    {
        Net net = new RandomNetwork(seed).Net;
        var random = new Random(~seed);
        MorphStep[] steps = [.. Enumerable.Range(0, random.Next(1, 6)).Select(_ => Step(random, net))];
        try
        {
            return Check.Morph(net, steps).Steps.Any(s => s.Changes.Count > 0);
        }
        catch (RefusedException)
        {
            // A selector that fits no layer of this kind.
            return false;
        }
    }

    private static MorphStep Step(Random random, Net net)
    {
        string[] layers = [.. net.Proto.Graph.Node.Where(n => n.OpType is "Conv" or "ConvTranspose" or "MatMul" or "Gemm").Select(n => n.Name)];
        string selector = random.Next(2) == 0 || layers.Length == 0 ? "*" : layers[random.Next(layers.Length)];
        ulong seed = (ulong)random.Next();
        return random.Next(6) switch
        {
            0 => Check.Deepen(selector, Deepening(random, seed)),
            1 => Check.Kernel(selector, new[] { "+1", "+2", "3", "+0x+2", "4x+1" }[random.Next(5)], (TapPlace)random.Next(3)),
            _ => Check.Widen(selector, new[] { "x1.5", "x2", "+1", "+3" }[random.Next(4)], (WidenMethod)random.Next(3), seed, (ZeroSide)random.Next(3)),
        };
    }

    private static DeepenOptions Deepening(Random random, ulong seed)
    {
        T? Sometimes<T>(params T[] values) => random.Next(2) == 0 ? default : values[random.Next(values.Length)];
        var method = (DeepenMethod)random.Next(5);
        return new DeepenOptions
        {
            Method = method,
            Count = random.Next(1, 3),
            Seed = seed,
            Order = method == DeepenMethod.ClosedForm ? (DeepenOrder)random.Next(3) : DeepenOrder.Automatic,
            Channels = method != DeepenMethod.Identity && Sometimes("x1.5", "+1", "x4") is { } channels ? SizeRequest.Parse(channels) : null,
            Kernels = Sometimes("3,3", "3,1", "1,3", "4,2", "3x4,2x1") is { } kernels ? KernelPair.Parse(kernels) : null,
            Activation = method == DeepenMethod.ZeroResidual ? DeepenActivation.Parametric
                : (DeepenActivation)(method == DeepenMethod.Identity ? random.Next(4) : new[] { 0, 0, 1, 3 }[random.Next(4)]),
            Norm = (DeepenNorm)random.Next(2),
        };
    }
}
