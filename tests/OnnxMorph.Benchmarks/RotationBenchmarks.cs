using BenchmarkDotNet.Attributes;
using OnnxMorph.Weights;

namespace OnnxMorph.Benchmarks;

/// <summary>A rotation of VGG's first dense layer, 4096 × 25088 float32, along either axis, on all cores.</summary>
[ShortRunJob]
public class RotationBenchmarks
{
    private RotatedWeight? _rotated;

    /// <summary>The rotated axis.</summary>
    [Params(0, 1)]
    public int Axis { get; set; }

    /// <summary>Prepares the expression.</summary>
    [GlobalSetup]
    public void Setup()
    {
        var bytes = new byte[4096L * 25088 * 4];
        for (int i = 0; i < bytes.Length; i++)
            bytes[i] = (byte)(i * 31 % 61);
        _rotated = new RotatedWeight(new StoredWeight(ElementType.Float32, [4096, 25088], bytes), Axis, 1, 1, true);
    }

    /// <summary>Evaluates it.</summary>
    [Benchmark]
    public void Rotate() => new WeightEvaluator().Write(_rotated!, Stream.Null);
}
