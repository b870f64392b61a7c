using BenchmarkDotNet.Attributes;
using OnnxMorph.Alignment;
using OnnxMorph.Ranking;

namespace OnnxMorph.Benchmarks;

/// <summary>EfficientNet-B0 against an index of 10,000 networks, without the command around it.</summary>
[ShortRunJob]
public class RankingBenchmarks
{
    private readonly string _folder = Directory.CreateTempSubdirectory("onnxmorph-bench-").FullName;
    private readonly NetworkOutline _target = SyntheticNetworks.EfficientNet(1, 1);
    private ModelIndex? _index;

    /// <summary>Writes the index.</summary>
    [GlobalSetup]
    public void Setup()
    {
        SyntheticIndex.Write(_folder, 10_000);
        _index = new ModelIndex(SyntheticIndex.File(_folder));
    }

    /// <summary>Takes it away.</summary>
    [GlobalCleanup]
    public void Cleanup()
    {
        _index!.Dispose();
        Directory.Delete(_folder, recursive: true);
    }

    /// <summary>The index read.</summary>
    [Benchmark]
    public int Load()
    {
        using var index = new ModelIndex(SyntheticIndex.File(_folder));
        return index.Models.Count;
    }

    /// <summary>All similarities.</summary>
    [Benchmark]
    public int Score() => ModelRanking.Score(_target, _index!.Outlines, [.. _index.Models.Select(m => m.Outline)], RunRule.Blocks, default).Count;
}
