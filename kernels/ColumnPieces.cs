using System.Runtime.CompilerServices;

namespace OnnxMorph.Kernels;

/// <summary>One term of a column: weight × an element of the row.</summary>
/// <param name="Index">The element of the source row, or the complement of its place among what the row draws.</param>
/// <param name="Weight">The factor.</param>
internal readonly record struct ColumnTerm(int Index, double Weight);

/// <summary>
/// Adjacent columns whose terms read adjacent elements with the same weights, each term naming the first column's element; or columns that are all
/// the same.
/// </summary>
/// <param name="Target">First column of the output row.</param>
/// <param name="Length">Columns.</param>
/// <param name="First">Number of the first term; a column without terms is zero.</param>
/// <param name="Count">Terms of each column.</param>
/// <param name="IsRepeated">Whether all columns have the terms of the first.</param>
internal readonly record struct ColumnPiece(int Target, int Length, int First, int Count, bool IsRepeated)
{
    public int End => Target + Length;

    /// <summary>How many of its columns lie before <paramref name="start"/>, and how many in [<paramref name="start"/>, <paramref name="end"/>).</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public (int Skip, int Length) Within(int start, int end)
    {
        int skip = Math.Max(0, start - Target);
        return (skip, Math.Min(end, End) - Target - skip);
    }
}

/// <summary>A <see cref="ColumnPiece"/> that is only moved, in as few bytes as the walk over many such needs.</summary>
/// <param name="Target">First column of the output row.</param>
/// <param name="Index">As of its <see cref="ColumnTerm"/>.</param>
/// <param name="Length">Columns.</param>
/// <param name="IsRepeated">As of the piece.</param>
internal readonly record struct ColumnMove(int Target, int Index, int Length, bool IsRepeated);

/// <summary>
/// The columns of a row as pieces, and where pieces are short also column by column, which is faster to walk. What a row draws is packed,
/// each position once, since copies of a column share what they draw.
/// </summary>
internal sealed class ColumnPieces
{
    /// <summary>Pieces shorter than this on average are walked column by column: those that are moved, those that are summed, and those that are moved through windows.</summary>
    private const int ShortMoved = 2, ShortSummed = 6, ShortWindowed = 16;

    /// <summary>Sums of more terms are long enough to be walked by themselves.</summary>
    private const int DeepSum = 8;

    private readonly List<(long Position, int Place)> _runs = [];

    private readonly ColumnMove[] _moves = [];

    /// <summary>Cuts a table of columns, each standing for <paramref name="run"/> elements.</summary>
    /// <param name="columns">The terms of each column.</param>
    /// <param name="run">Elements that a column stands for.</param>
    /// <param name="sourceLength">Elements of the source row.</param>
    /// <param name="fresh">Whether the row is fresh, so that every term is drawn.</param>
    /// <param name="moved">Whether columns are moved rather than summed.</param>
    /// <param name="elementSize">Bytes of an element in the type that is computed with.</param>
    public ColumnPieces(TermTable columns, int run, int sourceLength, bool fresh, bool moved, int elementSize)
    {
        long[] positions = Pack(columns, run, fresh);
        SourceLength = fresh ? 0 : sourceLength;
        Terms = Array.ConvertAll(columns.Terms, term => new ColumnTerm(
            fresh || term.Source < 0 ? ~(Array.BinarySearch(positions, term.Position) * run) : (int)term.Source * run, term.Weight));
        var pieces = new List<ColumnPiece>();
        for (int i = 0; i < columns.Count; i++)
        {
            var piece = new ColumnPiece(i * run, run, columns.Starts[i], columns.Starts[i + 1] - columns.Starts[i], IsRepeated: false);
            if (pieces.Count > 0 && !pieces[^1].IsRepeated && Continues(pieces[^1], piece, pieces[^1].Length))
                pieces[^1] = pieces[^1] with { Length = pieces[^1].Length + run };
            else if (run == 1 && pieces.Count > 0 && (pieces[^1].IsRepeated || pieces[^1].Length == 1) && Continues(pieces[^1], piece, 0))
                pieces[^1] = pieces[^1] with { Length = pieces[^1].Length + 1, IsRepeated = true };
            else
                pieces.Add(piece);
        }

        Pieces = [.. pieces];
        HasGaps = pieces.Exists(p => p.Count == 0);
        Depth = pieces.Count == 0 ? 0 : pieces.Max(p => p.Count);
        if (Depth == 1)
            _moves = [.. pieces.Where(p => p.Count == 1).Select(p => new ColumnMove(p.Target, Terms[p.First].Index, p.Length, p.IsRepeated))];
        int length = columns.Count * run;
        bool IsShort(int than) => (long)pieces.Count * than > length;
        bool fast = ColumnWindows.AreFast(elementSize), filled = (long)Depth * columns.Count <= 2L * Terms.Length;
        if (Depth is > 0 and <= DeepSum && filled && IsShort(moved ? ShortMoved : ShortSummed))
            Spread(length, moved, fast, share: 0);
        else if (Depth > 0 && moved && fast && IsShort(ShortWindowed))
            Spread(length, moved, fast, share: 0.75);
    }

    /// <summary>The pieces in column order, without gaps.</summary>
    public ColumnPiece[] Pieces { get; }

    /// <summary>The terms that pieces name.</summary>
    public ColumnTerm[] Terms { get; }

    /// <summary>Elements of the source row; none where the row is fresh.</summary>
    public int SourceLength { get; }

    /// <summary>Elements that a row draws.</summary>
    public int DrawnLength { get; private set; }

    /// <summary>Whether columns have no terms.</summary>
    public bool HasGaps { get; }

    /// <summary>The most terms that a column has.</summary>
    public int Depth { get; }

    /// <summary>
    /// Where pieces are short: for each k the index of every column's k-th term into the source row, what is drawn behind it, and, without windows, behind
    /// that one element for the columns that have no k-th term. Null elsewhere.
    /// </summary>
    public ColumnIndices[]? Indices { get; private set; }

    /// <summary>The weights beside <see cref="Indices"/>: for a term that is not there +0 in place of a first one and −0, which changes no sum, of others.</summary>
    public double[][] Weights { get; private set; } = [];

    /// <summary>Whether <see cref="Indices"/> name anything behind the source row.</summary>
    public bool ReadsBehindSource { get; private set; }

    /// <summary>Elements of a buffer for the source row, what is drawn, and the one for what is not there.</summary>
    public int BufferLength => SourceLength + DrawnLength + 1;

    /// <summary>The pieces from the one on that holds column <paramref name="start"/>; the first may begin before it.</summary>
    public ReadOnlySpan<ColumnPiece> From(int start) => Pieces.AsSpan(FirstEndingBehind(Pieces, start, piece => piece.End));

    /// <summary>What is moved of pieces of one term each, from column <paramref name="start"/> on; the first may begin before it.</summary>
    public ReadOnlySpan<ColumnMove> MovesFrom(int start) => _moves.AsSpan(FirstEndingBehind(_moves, start, move => move.Target + move.Length));

    private static int FirstEndingBehind<T>(T[] items, int column, Func<T, int> end)
    {
        int low = 0, high = items.Length;
        while (low < high)
        {
            int middle = (low + high) >>> 1;
            if (end(items[middle]) <= column)
                low = middle + 1;
            else
                high = middle;
        }

        return low;
    }

    /// <summary>The smallest ranges of source elements and of drawn ones that the columns [<paramref name="start"/>, <paramref name="end"/>) read.</summary>
    public ((int Start, int End) Source, (int Start, int End) Drawn) Reads(int start, int end)
    {
        (int Start, int End) source = (int.MaxValue, 0), drawn = (int.MaxValue, 0);
        foreach (ColumnPiece piece in From(start))
        {
            if (piece.Target >= end)
                break;
            (int skip, int length) = piece.IsRepeated ? (0, 1) : piece.Within(start, end);
            foreach (ColumnTerm term in Terms.AsSpan(piece.First, piece.Count))
            {
                if (term.Index >= 0)
                    source = (Math.Min(source.Start, term.Index + skip), Math.Max(source.End, term.Index + skip + length));
                else
                    drawn = (Math.Min(drawn.Start, ~term.Index + skip), Math.Max(drawn.End, ~term.Index + skip + length));
            }
        }

        return (source.Start < source.End ? source : (0, 0), drawn.Start < drawn.End ? drawn : (0, 0));
    }

    /// <summary>The runs of adjacent positions of the extended row among the places [<paramref name="start"/>, <paramref name="end"/>).</summary>
    public IEnumerable<(long Position, int Place, int Length)> Runs(int start, int end)
    {
        int run = _runs.BinarySearch((0L, start), Comparer<(long, int Place)>.Create((a, b) => a.Place.CompareTo(b.Place)));
        for (run = run < 0 ? ~run - 1 : run; run < _runs.Count && _runs[run].Place < end; run++)
        {
            (long position, int place) = _runs[run];
            int from = Math.Max(place, start), to = Math.Min(run + 1 < _runs.Count ? _runs[run + 1].Place : DrawnLength, end);
            yield return (position + from - place, from, to - from);
        }
    }

    /// <summary>Packs the positions that are drawn and gives them, each once and rising.</summary>
    private long[] Pack(TermTable columns, int run, bool fresh)
    {
        if (!fresh && Array.TrueForAll(columns.Terms, term => term.Source >= 0))
            return [];
        long[] positions = [.. columns.Terms.Where(t => fresh || t.Source < 0).Select(t => t.Position).Distinct().Order()];
        for (int i = 0; i < positions.Length; i++)
            if (i == 0 || positions[i] != positions[i - 1] + 1)
                _runs.Add((positions[i] * run, i * run));
        DrawnLength = positions.Length * run;
        return positions;
    }

    /// <summary>Whether <paramref name="next"/> reads what lies <paramref name="distance"/> elements behind what the first column of <paramref name="last"/> reads.</summary>
    private bool Continues(ColumnPiece last, ColumnPiece next, int distance)
    {
        if (next.Count != last.Count)
            return false;
        for (int k = 0; k < next.Count; k++)
        {
            ColumnTerm before = Terms[last.First + k], after = Terms[next.First + k];
            bool follows = after.Index == (before.Index >= 0 ? before.Index + distance : before.Index - distance);
            if (!follows || after.Weight != before.Weight)
                return false;
        }

        return true;
    }

    /// <summary>Fills <see cref="Indices"/> and what stands beside them.</summary>
    /// <param name="length">Columns.</param>
    /// <param name="moved">Whether columns are moved, so that there are no weights.</param>
    /// <param name="fast">Whether the processor can take windows at once.</param>
    /// <param name="share">Share of the columns that must have windows for this to be worth it.</param>
    private void Spread(int length, bool moved, bool fast, double share)
    {
        var indices = new ColumnIndices[Depth];
        var weights = new double[Depth][];
        int nothing = SourceLength + DrawnLength;
        bool behind = false;
        for (int k = 0; k < Depth; k++)
        {
            int[] elements = new int[length];
            weights[k] = new double[moved ? 0 : length];
            foreach (ColumnPiece piece in Pieces)
            {
                Span<int> columns = elements.AsSpan(piece.Target, piece.Length);
                bool exists = k < piece.Count;
                ColumnTerm term = exists ? Terms[piece.First + k] : new ColumnTerm(0, k == 0 ? 0.0 : -0.0);
                int index = !exists ? fast ? ColumnWindows.Missing : nothing : term.Index < 0 ? SourceLength + ~term.Index : term.Index;
                for (int i = 0; i < columns.Length; i++)
                    columns[i] = exists && !piece.IsRepeated ? index + i : index;
                if (!moved)
                    weights[k].AsSpan(piece.Target, piece.Length).Fill(term.Weight);
                behind |= index >= SourceLength;
            }

            indices[k] = fast ? ColumnIndices.Of(elements, behind ? BufferLength : SourceLength) : new ColumnIndices(elements, null);
            if (share > 0 && (indices[k].Windows?.Share ?? 0) < share)
                return;
        }

        (Indices, Weights, ReadsBehindSource) = (indices, weights, behind);
    }
}
