using System.Collections.Immutable;
using BenchmarkDotNet.Attributes;
using OnnxMorph.Axes;
using OnnxMorph.Kernels;
using OnnxMorph.Morphs;
using OnnxMorph.Weights;

namespace OnnxMorph.Benchmarks;

/// <summary>
/// Map kernels on one core beside copying as many bytes as they write, source and output each larger than the second-level cache:
/// the ratio is how far from copy bandwidth a kernel is.
/// </summary>
[ShortRunJob]
public class MapBenchmarks
{
    private const int Rows = 1024;
    private const int Columns = 4096;
    private readonly Dictionary<string, Case> _cases = [];

    private sealed record Case(MapWindow Window, byte[] Source, byte[] Output);

    /// <summary>What is measured.</summary>
    [ParamsSource(nameof(Names))]
    public string Name { get; set; } = "";

    /// <summary>Every case.</summary>
    public static IEnumerable<string> Names =>
    [
        "crop rows", "crop columns", "pad rows", "pad columns", "replicate rows", "replicate columns", "select rows", "select columns",
        "select channels 3x3", "grow kernel 3x3 to 5x5", "scaled replicate rows", "scaled replicate columns", "interpolate rows",
        "interpolate columns", "scaled replicate rows bf16", "scaled replicate rows f16", "fresh normal columns",
        "widen behind positions", "widen 3x3", "widen dense", "one morph", "ten morphs",
    ];

    /// <summary>Prepares the case.</summary>
    [GlobalSetup]
    public void Setup()
    {
        int[] Shuffled(int size) => [.. Enumerable.Range(0, size).OrderBy(i => i * 2654435761L % 1000003)];
        AxisMap Half(int size) => AxisMap.FromTaps(size, 0, [.. Enumerable.Range(0, 2 * size).Select(i => new[] { new Tap(i % size, 0.3) })]);
        AxisMap Mixed(int size) => AxisMap.FromTaps(
            size, 0, [.. Enumerable.Range(0, size - 1).Select(i => new[] { new Tap(i, 0.1 + 0.8 * i / size), new Tap(i + 1, 0.9 - 0.8 * i / size) })]);
        int[] Range(int start, int count) => [.. Enumerable.Range(start, count)];
        AxisMap Widened(int size) => AxisMap.Pick(size, 0, [.. Range(0, size), .. Shuffled(size).Take(size / 4)]);
        AxisMap Read(int size) => SpaceMaps.Dual(Widened(size), seed: 1);
        AxisMap Times(AxisMap map, int positions) => AxisMap.Kronecker(map, AxisMap.Identity(positions));
        Case made = Name switch
        {
            "crop rows" => Create([Rows, Columns], [AxisMap.Pick(Rows, 0, Range(100, 800)), null]),
            "crop columns" => Create([Rows, Columns], [null, AxisMap.Pick(Columns, 0, Range(500, 3000))]),
            "pad rows" => Create([Rows, Columns], [AxisMap.ZeroPad(Rows, 64, 64), null]),
            "pad columns" => Create([Rows, Columns], [null, AxisMap.ZeroPad(Columns, 500, 500)]),
            "replicate rows" => Create([Rows, Columns], [AxisMap.Pick(Rows, 0, [.. Range(0, Rows), .. Range(0, Rows)]), null]),
            "replicate columns" => Create([Rows, Columns], [null, AxisMap.Pick(Columns, 0, [.. Range(0, Columns), .. Range(0, Columns)])]),
            "select rows" => Create([Rows, Columns], [AxisMap.Pick(Rows, 0, Shuffled(Rows)), null]),
            "select columns" => Create([Rows, Columns], [null, AxisMap.Pick(Columns, 0, Shuffled(Columns))]),
            "select channels 3x3" => Create([Rows, 450, 3, 3], [null, AxisMap.Pick(450, 0, Shuffled(450)), null, null]),
            "grow kernel 3x3 to 5x5" => Create([Rows / 2, 512, 3, 3], [null, null, AxisMap.ZeroPad(3, 1, 1), AxisMap.ZeroPad(3, 1, 1)]),
            "scaled replicate rows" => Create([Rows, Columns], [Half(Rows), null]),
            "scaled replicate columns" => Create([Rows, Columns], [null, Half(Columns)]),
            "interpolate rows" => Create([Rows, Columns], [Mixed(Rows), null]),
            "interpolate columns" => Create([Rows, Columns], [null, Mixed(Columns)]),
            "scaled replicate rows bf16" => Create([Rows, Columns], [Half(Rows), null], ElementFormat.BFloat16),
            "scaled replicate rows f16" => Create([Rows, Columns], [Half(Rows), null], ElementFormat.Float16),
            // What widening by a quarter makes of a layer's weights: copied rows, and entries shared out over copied columns.
            "widen behind positions" => Create([64, 512 * 49], [Widened(64), Times(Read(512), 49)]),
            "widen 3x3" => Create([512, 512, 3, 3], [Widened(512), Read(512), null, null]),
            "widen dense" => Create([Rows, Columns], [Widened(Rows), Read(Columns)]),
            "one morph" => Create([512, 512, 3, 3], OneFor(Morphs(512, 10))),
            "ten morphs" => Create([512, 512, 3, 3], Morphs(512, 10)),
            _ => Create([Rows, 64], [null, AxisMap.Pick(64, 4096, Range(64, 4096))]),
        };
        _cases[Name] = made;
    }

    /// <summary>A copy of as many bytes as the kernel writes.</summary>
    [Benchmark(Baseline = true)]
    public void Copy()
    {
        Case c = _cases[Name];
        int from = Math.Min(c.Source.Length, c.Output.Length);
        for (int at = 0; at < c.Output.Length; at += from)
            c.Source.AsSpan(0, Math.Min(from, c.Output.Length - at)).CopyTo(c.Output.AsSpan(at));
    }

    /// <summary>The kernel.</summary>
    [Benchmark]
    public void Map() => KernelDevice.Simd.Map(_cases[Name].Window, _cases[Name].Source, _cases[Name].Output);

    /// <summary>Widenings by a few channels, alternately of what a layer makes and of what it reads, as the one map that they fuse into.</summary>
    private static ImmutableArray<AxisMap?> Morphs(int channels, int count)
    {
        WeightExpression weight = new FilledWeight(ElementType.Float32, [channels, channels, 3, 3], default);
        for (int i = 0; i < count; i++)
        {
            AxisMap Grown(long size) => AxisMap.Pick((int)size, 0, [.. Enumerable.Range(0, (int)size), .. Enumerable.Range(7 * i, (int)size / 16)]);
            var maps = new AxisMap?[4];
            maps[i % 2] = i % 2 == 0 ? Grown(weight.Shape[0]) : SpaceMaps.Dual(Grown(weight.Shape[1]), (ulong)i);
            weight = weight.Map([.. maps], new Fill(FillKind.Normal, 0.02, 1));
        }

        return ((MappedWeight)weight).Maps;
    }

    /// <summary>One widening of rows and columns to the sizes of <paramref name="maps"/>.</summary>
    private static ImmutableArray<AxisMap?> OneFor(ImmutableArray<AxisMap?> maps)
    {
        AxisMap Grown(AxisMap map) => AxisMap.Pick((int)map.SourceSize, 0, [.. Enumerable.Range(0, (int)map.SourceSize), .. Enumerable.Range(0, (int)(map.Size - map.SourceSize))]);
        return [Grown(maps[0]!), SpaceMaps.Dual(Grown(maps[1]!), 1), null, null];
    }

    private static Case Create(long[] shape, ImmutableArray<AxisMap?> maps, ElementFormat format = ElementFormat.Float32)
    {
        AxisTerms?[] terms = [.. maps.Select(m => m is null ? null : new AxisTerms(
            m.SourceSize, m.FreshSize, m.Starts.ToArray(),
            Array.ConvertAll(m.AllTaps.ToArray(), t => t.Source), Array.ConvertAll(m.AllTaps.ToArray(), t => t.Weight)))];
        var map = new TensorMap(format, shape, terms, new KernelFill(Distribution.Normal, 0.02, 1, 0));
        var window = new MapWindow(map, 0, (int)map.RowCount, 0, map.RowLength);
        var source = new byte[window.SourceBytes];
        for (int i = 0; i < source.Length; i++)
            source[i] = (byte)(i * 31 % 61);
        return new Case(window, source, new byte[window.OutputBytes]);
    }
}
