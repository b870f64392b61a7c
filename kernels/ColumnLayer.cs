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
/// The k-th term of every column that has one, as segments in column order. Where segments are short the same terms stand as
/// entries too, which is faster to walk. Columns that are summed have a layer for what they read and one for what they draw.
/// </summary>
internal sealed class ColumnLayer
{
    private const int ShortSegment = 16;

    private ColumnLayer(Segment[] segments, bool first, ColumnEntries? entries)
    {
        Segments = segments;
        IsFirst = first;
        Entries = entries;
    }

    public Segment[] Segments { get; }

    /// <summary>Whether the terms are the first of their columns.</summary>
    public bool IsFirst { get; }

    /// <summary>The terms one by one; null where segments are to be walked.</summary>
    public ColumnEntries? Entries { get; }

    /// <summary>Whether the terms are drawn in every row, not only in fresh ones.</summary>
    public bool Draws => Segments[0].Source < 0;

    /// <summary>Splits a table of columns, each standing for <paramref name="run"/> elements, into layers.</summary>
    /// <param name="columns">The terms of each column.</param>
    /// <param name="run">Elements that a column stands for.</param>
    /// <param name="freshRows">Whether rows may be fresh, and columns then wanted by their positions.</param>
    /// <param name="pick">Whether columns are moved rather than summed.</param>
    public static ColumnLayer[] Split(TermTable columns, int run, bool freshRows, bool pick)
    {
        int depth = 0;
        for (int i = 0; i < columns.Count; i++)
            depth = Math.Max(depth, columns.Starts[i + 1] - columns.Starts[i]);
        var layers = new List<ColumnLayer>();
        for (int k = 0; k < depth; k++)
        {
            if (pick)
            {
                Add(k, _ => true);
                continue;
            }

            // Every column has one term at most here, so the order in which its terms are summed stays.
            Add(k, term => term.Source >= 0);
            Add(k, term => term.Source < 0);
        }

        ColumnEntries.ShareDraws([.. layers.Where(l => l.Draws), .. layers.Where(l => freshRows && !l.Draws)]);
        return [.. layers];

        void Add(int k, Func<Term, bool> belongs)
        {
            Segment[] segments = Segmented(columns, run, k, freshRows, belongs);
            if (segments.Length == 0)
                return;
            bool shortOnes = segments.Sum(s => (long)s.Length) < (long)segments.Length * ShortSegment;
            bool drawn = segments.Any(s => s.Source < 0) || freshRows;
            layers.Add(new ColumnLayer(segments, k == 0, shortOnes && !(pick && drawn) ? ColumnEntries.Of(segments) : null));
        }
    }

    /// <summary>The parts of segments that lie in the columns [<paramref name="start"/>, <paramref name="end"/>).</summary>
    public ClippedSegments Clip(int start, int end) => new(Segments, start, end);

    private static Segment[] Segmented(TermTable columns, int run, int k, bool freshRows, Func<Term, bool> belongs)
    {
        var segments = new List<Segment>();
        for (int i = 0; i < columns.Count; i++)
        {
            int index = columns.Starts[i] + k;
            if (index >= columns.Starts[i + 1] || !belongs(columns.Terms[index]))
                continue;
            Term term = columns.Terms[index];
            var segment = new Segment(
                i * run, term.Source < 0 ? -1 : (int)term.Source * run, term.Position * run, run, term.Weight);
            if (segments.Count > 0 && Continues(segments[^1], segment, freshRows))
                segments[^1] = segments[^1] with { Length = segments[^1].Length + run };
            else
                segments.Add(segment);
        }

        return [.. segments];
    }

    // Positions matter only where a fill may be asked for them: under a fresh row every column is.
    private static bool Continues(Segment last, Segment next, bool freshRows) =>
        next.Target == last.End && next.Weight == last.Weight
        && (next.Source < 0 ? last.Source < 0 : last.Source >= 0 && next.Source == last.Source + last.Length)
        && (!(freshRows || next.Source < 0) || next.Position == last.Position + last.Length);
}

/// <summary>The terms of a layer one by one, in column order.</summary>
internal sealed class ColumnEntries
{
    private ColumnEntries(int count)
    {
        Targets = new int[count];
        Sources = new int[count];
        Weights = new double[count];
    }

    /// <summary>Column of each entry, rising.</summary>
    public int[] Targets { get; }

    /// <summary>Source element of each entry; −1 where it is fresh.</summary>
    public int[] Sources { get; }

    /// <summary>Weight of each entry.</summary>
    public double[] Weights { get; }

    /// <summary>Place of each entry's position among <see cref="Drawn"/>.</summary>
    public int[] Places { get; private set; } = [];

    /// <summary>What the layers of the row draw, each position once; null where nothing is drawn.</summary>
    public DrawnPositions? Drawn { get; private set; }

    public static ColumnEntries Of(Segment[] segments)
    {
        var entries = new ColumnEntries(segments.Sum(s => s.Length));
        int next = 0;
        foreach (Segment segment in segments)
            for (int i = 0; i < segment.Length; i++, next++)
                (entries.Targets[next], entries.Sources[next], entries.Weights[next]) =
                    (segment.Target + i, segment.Source < 0 ? -1 : segment.Source + i, segment.Weight);
        return entries;
    }

    /// <summary>
    /// Lets layers draw together: columns that sum several terms often share positions. Those that draw in every row come first.
    /// </summary>
    public static void ShareDraws(IReadOnlyList<ColumnLayer> layers)
    {
        var drawn = new DrawnPositions();
        foreach (IGrouping<bool, ColumnLayer> kind in layers.Where(l => l.Entries is not null).GroupBy(l => l.Draws))
        {
            long[][] positions = [.. kind.Select(Positions)];
            int[] places = drawn.Add([.. positions.SelectMany(p => p)]);
            int next = 0;
            foreach (ColumnEntries entries in kind.Select(l => l.Entries!))
            {
                entries.Drawn = drawn;
                entries.Places = places[next..(next += entries.Targets.Length)];
            }
        }
    }

    private static long[] Positions(ColumnLayer layer)
    {
        var positions = new long[layer.Entries!.Targets.Length];
        int next = 0;
        foreach (Segment segment in layer.Segments)
            for (int i = 0; i < segment.Length; i++)
                positions[next++] = segment.Position + i;
        return positions;
    }

    /// <summary>The entries whose columns lie in [<paramref name="start"/>, <paramref name="end"/>).</summary>
    public (int Start, int End) Range(int start, int end) => (LowerBound(start), LowerBound(end));

    private int LowerBound(int column)
    {
        if (column == 0)
            return 0;
        int index = Array.BinarySearch(Targets, column);
        return index < 0 ? ~index : index;
    }
}

/// <summary>Positions of a row that entries draw, packed one behind the other.</summary>
internal sealed class DrawnPositions
{
    private readonly List<(long Position, int Place)> _runs = [];

    /// <summary>How many positions are packed.</summary>
    public int Count { get; private set; }

    /// <summary>Packs the distinct ones of positions, rising, behind those that are there, and gives the place of each.</summary>
    public int[] Add(long[] positions)
    {
        long[] distinct = [.. positions];
        Array.Sort(distinct);
        int first = Count, count = 0;
        foreach (long position in distinct)
        {
            if (count > 0 && distinct[count - 1] == position)
                continue;
            if (count == 0 || distinct[count - 1] + 1 != position)
                _runs.Add((position, first + count));
            distinct[count++] = position;
        }

        Count += count;
        return Array.ConvertAll(positions, p => first + Array.BinarySearch(distinct, 0, count, p));
    }

    /// <summary>The runs of adjacent positions among the places [<paramref name="start"/>, <paramref name="end"/>).</summary>
    public IEnumerable<(long Position, int Place, int Length)> Runs(int start, int end)
    {
        int run = _runs.BinarySearch((0L, start), Comparer<(long, int Place)>.Create((a, b) => a.Place.CompareTo(b.Place)));
        for (run = run < 0 ? ~run - 1 : run; run < _runs.Count && _runs[run].Place < end; run++)
        {
            (long position, int place) = _runs[run];
            int from = Math.Max(place, start), to = Math.Min(run + 1 < _runs.Count ? _runs[run + 1].Place : Count, end);
            yield return (position + from - place, from, to - from);
        }
    }
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
