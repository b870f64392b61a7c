using BenchmarkDotNet.Attributes;
using OnnxMorph.Numerics;
using OnnxMorph.Weights;

namespace OnnxMorph.Benchmarks;

/// <summary>Least squares for a layer of 256 → 256 channels, 3×3 taps into 3×3 and 3×3.</summary>
[ShortRunJob]
public class FactoringBenchmarks
{
    private readonly MatrixPolynomial _layer = new(256, 256, [3, 3]);

    /// <summary>Channels between the halves: the layer's own, and enough for both halves to be dense.</summary>
    [Params(256, 768)]
    public int Channels { get; set; }

    /// <summary>Draws the layer.</summary>
    [GlobalSetup]
    public void Setup()
    {
        var random = new Random(1);
        for (int i = 0; i < _layer.Values.Length; i++)
            _layer.Values[i] = random.NextDouble() - 0.5;
    }

    /// <summary>Algorithm 1.</summary>
    [Benchmark]
    public double General() => Factoring().Alternate()!.Residual;

    /// <summary>Algorithm 2.</summary>
    [Benchmark]
    public double Practical() => Factoring().Shrink()!.Residual;

    private KernelFactoring Factoring() => new(_layer, Channels, [3, 3], [3, 3], ElementType.Float32, 1);
}
