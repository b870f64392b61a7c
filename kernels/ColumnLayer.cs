namespace OnnxMorph.Kernels;

/// <summary>Adjacent columns of a row that read adjacent elements with one weight.</summary>
/// <param name="Target">First column of the output row.</param>
/// <param name="Source">First element of the source row, or −1 where the columns are fresh.</param>
/// <param name="Position">First element of the extended source row.</param>
/// <param name="Length">Elements.</param>
/// <param name="Weight">The factor.</param>
internal readonly record struct Segment(int Target, int Source, long Position, int Length, double Weight)
{
    public int End => Target + Length;
}

/// <summary>
/// The k-th term of every column that has one, as segments in column order. Where segments are short and none is fresh, the same
/// terms stand in arrays too, one entry for each column, which is faster to walk.
/// </summary>
internal sealed class ColumnLayer
{
    private const int ShortSegment = 16;

    private ColumnLayer(Segment[] segments, bool scattered)
    {
        Segments = segments;
        if (!scattered)
            return;
        int count = segments.Sum(s => s.Length);
        Targets = new int[count];
        Sources = new int[count];
        Weights = new double[count];
        int next = 0;
        foreach (Segment segment in segments)
            for (int i = 0; i < segment.Length; i++, next++)
                (Targets[next], Sources[next], Weights[next]) = (segment.Target + i, segment.Source + i, segment.Weight);
    }

    public Segment[] Segments { get; }

    /// <summary>Column of each entry, rising; null where segments are to be walked.</summary>
    public int[]? Targets { get; }

    /// <summary>Source element of each entry.</summary>
    public int[]? Sources { get; }

    /// <summary>Weight of each entry.</summary>
    public double[]? Weights { get; }

    /// <summary>Splits a table of columns, each standing for <paramref name="run"/> elements, into layers.</summary>
    public static ColumnLayer[] Split(TermTable columns, int run, bool hasFresh)
    {
        int depth = 0;
        for (int i = 0; i < columns.Count; i++)
            depth = Math.Max(depth, columns.Starts[i + 1] - columns.Starts[i]);
        var layers = new ColumnLayer[depth];
        var segments = new List<Segment>();
        for (int k = 0; k < depth; k++)
        {
            segments.Clear();
            for (int i = 0; i < columns.Count; i++)
            {
                int index = columns.Starts[i] + k;
                if (index >= columns.Starts[i + 1])
                    continue;
                Term term = columns.Terms[index];
                var segment = new Segment(
                    i * run, term.Source < 0 ? -1 : (int)term.Source * run, term.Position * run, run, term.Weight);
                if (segments.Count > 0 && Continues(segments[^1], segment, hasFresh))
                    segments[^1] = segments[^1] with { Length = segments[^1].Length + run };
                else
                    segments.Add(segment);
            }

            bool scattered = !hasFresh && segments.Sum(s => (long)s.Length) < (long)segments.Count * ShortSegment;
            layers[k] = new ColumnLayer([.. segments], scattered);
        }

        return layers;
    }

    /// <summary>The parts of segments that lie in the columns [<paramref name="start"/>, <paramref name="end"/>).</summary>
    public ClippedSegments Clip(int start, int end) => new(Segments, start, end);

    // Positions matter only where a fill may be asked for them: under a fresh row every column is.
    private static bool Continues(Segment last, Segment next, bool hasFresh) =>
        next.Target == last.End && next.Weight == last.Weight
        && (next.Source < 0 ? last.Source < 0 : last.Source >= 0 && next.Source == last.Source + last.Length)
        && (!hasFresh || next.Position == last.Position + last.Length);
}

/// <summary>Enumerates segments cut to a range of columns.</summary>
internal struct ClippedSegments
{
    private readonly Segment[] _segments;
    private readonly int _start;
    private readonly int _end;
    private int _index;

    public ClippedSegments(Segment[] segments, int start, int end)
    {
        _segments = segments;
        _start = start;
        _end = end;
        int low = 0, high = segments.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (segments[middle].End <= start)
                low = middle + 1;
            else
                high = middle;
        }

        _index = low - 1;
    }

    public readonly Segment Current
    {
        get
        {
            Segment segment = _segments[_index];
            int skip = Math.Max(0, _start - segment.Target);
            int length = Math.Min(_end, segment.End) - segment.Target - skip;
            return new Segment(
                segment.Target + skip, segment.Source < 0 ? -1 : segment.Source + skip, segment.Position + skip, length, segment.Weight);
        }
    }

    public readonly ClippedSegments GetEnumerator() => this;

    public bool MoveNext() => ++_index < _segments.Length && _segments[_index].Target < _end;
}
