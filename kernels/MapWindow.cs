namespace OnnxMorph.Kernels;

/// <summary>
/// A rectangle of a mapped tensor to evaluate: rows × columns of <see cref="TensorMap"/>'s view, and the part of the
/// source that it reads. The caller gathers <see cref="SourceRows"/>, each cut to the source columns, one after
/// another in the source buffer.
/// </summary>
public sealed class MapWindow
{
    /// <summary>Prepares the window of <paramref name="rowCount"/> rows and the columns [<paramref name="columnStart"/>, <paramref name="columnEnd"/>).</summary>
    public MapWindow(TensorMap map, long firstRow, int rowCount, int columnStart, int columnEnd)
    {
        Map = map;
        ColumnStart = columnStart;
        ColumnEnd = columnEnd;
        Rows = map.Rows(firstRow, rowCount).Gathered(out long[] sourceRows);
        SourceRows = sourceRows;
        (SourceColumnStart, SourceColumnEnd) = map.SourceColumns(columnStart, columnEnd);
    }

    /// <summary>The map.</summary>
    public TensorMap Map { get; }

    /// <summary>First output column.</summary>
    public int ColumnStart { get; }

    /// <summary>The column behind the last.</summary>
    public int ColumnEnd { get; }

    /// <summary>The source rows that are read, rising.</summary>
    public IReadOnlyList<long> SourceRows { get; }

    /// <summary>First source column that is read.</summary>
    public int SourceColumnStart { get; }

    /// <summary>The source column behind the last that is read.</summary>
    public int SourceColumnEnd { get; }

    /// <summary>Bytes of the source buffer.</summary>
    public long SourceBytes => (long)SourceRows.Count * (SourceColumnEnd - SourceColumnStart) * Map.Format.Size();

    /// <summary>Bytes of the output.</summary>
    public long OutputBytes => (long)Rows.Count * (ColumnEnd - ColumnStart) * Map.Format.Size();

    /// <summary>Terms of the rows; their sources are places in <see cref="SourceRows"/>.</summary>
    internal TermTable Rows { get; }

    /// <summary>
    /// Where every output row of the window is a source row unchanged, which one each is; false where any is not.
    /// </summary>
    public bool TryGetCopiedRows(out long[] sources)
    {
        sources = [];
        if (!Map.KeepsColumns || Rows.Terms.Length != Rows.Count)
            return false;
        for (int row = 0; row < Rows.Count; row++)
            if (Rows.Starts[row] != row || Rows.Terms[row].Source < 0)
                return false;
        sources = Array.ConvertAll(Rows.Terms, term => SourceRows[(int)term.Source]);
        return true;
    }

    internal void Check(int sourceBytes, int outputBytes)
    {
        if (sourceBytes != SourceBytes)
            throw new ArgumentException($"{sourceBytes} bytes of source for a window that reads {SourceBytes}.");
        if (outputBytes != OutputBytes)
            throw new ArgumentException($"{outputBytes} bytes of output for a window of {OutputBytes}.");
    }
}
