using OnnxMorph.Kernels;

namespace OnnxMorph.BenchmarkDevice;

/// <summary>A kernel to measure, evaluated as one window.</summary>
internal sealed record KernelCase(string Name, MapWindow Window)
{
    private static readonly ElementFormat[] s_moved = [ElementFormat.Float32, ElementFormat.Float16, ElementFormat.Opaque8];
    private static readonly ElementFormat[] s_computed = [ElementFormat.Float32, ElementFormat.Float16];

    /// <summary>Every kernel, for sources of about <paramref name="size"/> bytes.</summary>
    public static IEnumerable<KernelCase> All(long size)
    {
        foreach (ElementFormat format in s_moved)
        {
            (int rows, int columns) = Sides(size / format.Size());
            (int filters, int channels) = Sides(size / format.Size() / 9);
            yield return Create("crop rows", format, [rows, columns], Pick(rows, Range(rows / 4, rows / 2)), null);
            yield return Create("crop columns", format, [rows, columns], null, Pick(columns, Range(columns / 8, columns / 2)));
            yield return Create("pad", format, [rows, columns], Pad(rows, 1 + rows / 8), Pad(columns, 1 + columns / 8));
            yield return Create("replicate rows", format, [rows, columns], Pick(rows, [.. Range(0, rows), .. Range(0, rows)]), null);
            yield return Create("replicate columns", format, [rows, columns], null, Pick(columns, [.. Range(0, columns), .. Range(0, columns)]));
            yield return Create("select rows", format, [rows, columns], Pick(rows, Shuffled(rows)), null);
            yield return Create("select channels 3x3", format, [filters, channels, 3, 3], null, Pick(channels, Shuffled(channels)), null, null);
            yield return Create("select single columns", format, [rows, columns], null, Pick(columns, Shuffled(columns)));
            yield return Create("grow 3x3 to 5x5", format, [filters, channels, 3, 3], null, null, Pad(3, 1), Pad(3, 1));
        }

        foreach (ElementFormat format in s_computed)
        {
            (int rows, int columns) = Sides(size / format.Size());
            (int filters, int channels) = Sides(size / format.Size() / 9);
            yield return Create("interpolate rows", format, [rows, columns], Mixed(rows), null);
            yield return Create("interpolate columns", format, [rows, columns], null, Mixed(columns));
            (AxisTerms copied, AxisTerms shared) = (Widened(filters).Copied, Widened(channels).Shared);
            yield return Create("ten widenings in one 3x3", format, [filters, channels, 3, 3], copied, shared, null, null);
            foreach (Distribution distribution in new[] { Distribution.Uniform, Distribution.Normal })
                yield return Create(
                    $"fill {distribution.ToString().ToLowerInvariant()}", format, [1, columns], new KernelFill(distribution, 0.02, 1, 0), Pick(1, Range(1, rows)), null);
        }
    }

    /// <summary>Numbers of ordinary size in every format, the same each time.</summary>
    public byte[] Source()
    {
        var source = new byte[Window.SourceBytes];
        for (int i = 0; i < source.Length; i++)
            source[i] = (byte)(i * 31 % 61);
        return source;
    }

    private static KernelCase Create(string name, ElementFormat format, long[] shape, params AxisTerms?[] maps) => Create(name, format, shape, default(KernelFill), maps);

    private static KernelCase Create(string name, ElementFormat format, long[] shape, KernelFill fill, params AxisTerms?[] maps)
    {
        var map = new TensorMap(format, shape, maps, fill);
        return new KernelCase(
            $"{name}, {(format == ElementFormat.Opaque8 ? "bytes" : format.ToString().ToLowerInvariant())}", new MapWindow(map, 0, checked((int)map.RowCount), 0, map.RowLength));
    }

    /// <summary>A matrix of so many elements, wider than high.</summary>
    private static (int Rows, int Columns) Sides(long elements)
    {
        int rows = Math.Max(4, (int)Math.Sqrt(elements / 4.0));
        return (rows, Math.Max(8, (int)(elements / rows)));
    }

    private static int[] Range(int start, int count) => [.. Enumerable.Range(start, count)];

    private static int[] Shuffled(int size) => [.. Enumerable.Range(0, size).OrderBy(i => i * 2654435761L % 1000003)];

    private static AxisTerms Pick(int size, int[] sources) => Terms(size, [.. sources.Select(source => (int[])[source])]);

    private static AxisTerms Pad(int size, int width)
    {
        int[][] nothing = [.. Enumerable.Repeat((int[])[], width)];
        return Terms(size, [.. nothing, .. Range(0, size).Select(i => (int[])[i]), .. nothing]);
    }

    private static AxisTerms Mixed(int size) => Terms(size, [.. Enumerable.Range(0, size - 1).Select(i => (int[])[i, i + 1])], k => k % 2 == 0 ? 0.3 : 0.7);

    /// <summary>What ten widenings, each by a sixteenth more copies, come to: on the side that makes the channels, and on the side that reads them, where the copies of a channel share its weight.</summary>
    private static (AxisTerms Copied, AxisTerms Shared) Widened(int size)
    {
        var sources = new List<int>(Range(0, size));
        for (int i = 0; i < 10; i++)
            sources.AddRange(sources.GetRange(7 * i % sources.Count, Math.Min(sources.Count - 7 * i % sources.Count, Math.Max(1, sources.Count / 16))));
        int[] copies = [.. sources.GroupBy(source => source).OrderBy(group => group.Key).Select(group => group.Count())];
        return (Pick(size, [.. sources]), Terms(size, [.. sources.Select(source => (int[])[source])], k => 1.0 / copies[sources[k]]));
    }

    private static AxisTerms Terms(int size, int[][] rows, Func<int, double>? weight = null)
    {
        int[] sources = [.. rows.SelectMany(row => row)], starts = new int[rows.Length + 1];
        for (int i = 0; i < rows.Length; i++)
            starts[i + 1] = starts[i] + rows[i].Length;
        return new AxisTerms(size, Math.Max(0, sources.Max() + 1 - size), starts, sources, [.. sources.Select((_, k) => weight?.Invoke(k) ?? 1)]);
    }
}
