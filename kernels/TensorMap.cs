namespace OnnxMorph.Kernels;

/// <summary>
/// Axis maps on a tensor, prepared for evaluation by windows. The tensor is seen as rows: the trailing axes that fit a
/// table are multiplied out once, unmapped axes at the very end become runs that move as blocks, and the leading axes
/// are multiplied out window by window. An output element is
/// Σ over the row's terms, in order, Σ over the column's terms, in order, of (row weight × column weight) × element,
/// each operation in float64 rounded by itself, and the sum is rounded once to the format; one without terms is zero.
/// Where every map is a pick, elements are moved as bits.
/// </summary>
public sealed class TensorMap
{
    /// <summary>Most outputs that trailing axes are multiplied out to.</summary>
    private const long TableLimit = 1 << 17;

    /// <summary>Most bytes of a row, unless the last axis alone takes more.</summary>
    private const long RowLimit = 1 << 20;

    private readonly MappedAxis[] _leading;

    /// <summary>Prepares <paramref name="maps"/>, one for each axis (null leaves the axis alone).</summary>
    /// <exception cref="ArgumentException">A map does not fit its axis, or the format cannot be scaled or drawn.</exception>
    public TensorMap(ElementFormat format, ReadOnlySpan<long> sourceShape, ReadOnlySpan<AxisTerms?> maps, KernelFill fill)
    {
        if (maps.Length != sourceShape.Length)
            throw new ArgumentException($"{maps.Length} maps for a tensor of rank {sourceShape.Length}.", nameof(maps));
        var axes = new MappedAxis[maps.Length];
        for (int axis = 0; axis < axes.Length; axis++)
        {
            if (maps[axis] is { } map && map.SourceSize != sourceShape[axis])
                throw new ArgumentException($"Axis {axis} has size {sourceShape[axis]}, its map expects {map.SourceSize}.", nameof(maps));
            axes[axis] = new MappedAxis(sourceShape[axis], maps[axis]);
        }

        Format = format;
        Fill = fill;
        IsPick = axes.All(a => a.Terms is null or { IsPick: true });
        if (!format.IsFloat() && !IsPick)
            throw new ArgumentException($"Elements of format {format} cannot be scaled.", nameof(format));
        if (!format.IsFloat() && axes.Any(a => a.Terms is { FreshSize: > 0 }) && fill.Distribution != Distribution.Constant)
            throw new ArgumentException($"Elements of format {format} are not drawn at random.", nameof(format));

        int split = axes.Length;
        long run = 1;
        for (; split > 0 && axes[split - 1].Terms is null && FitsRow(split, run * axes[split - 1].SourceSize, 1); split--)
            run *= axes[split - 1].SourceSize;
        int runStart = split;
        long outputs = 1, sources = 1, extended = 1;
        for (; split > 0 && FitsRow(split, run * outputs * axes[split - 1].Size, outputs * axes[split - 1].Size)
            && FitsRow(split, run * sources * axes[split - 1].SourceSize, 1); split--)
        {
            outputs *= axes[split - 1].Size;
            sources *= axes[split - 1].SourceSize;
            extended *= axes[split - 1].ExtendedSize;
        }

        _leading = axes[..split];
        Run = checked((int)run);
        RowLength = checked((int)(run * outputs));
        SourceRowLength = checked((int)(run * sources));
        ExtendedRowLength = run * extended;
        RowCount = _leading.Aggregate(1L, (product, axis) => checked(product * axis.Size));
        Columns = TermTable.Expand(axes.AsSpan(split, runStart - split), 0, (int)outputs);
        // Formats of two bytes are summed as float32.
        int elementSize = IsPick ? format.Size() : Math.Max(format.Size(), sizeof(float));
        Pieces = new ColumnPieces(Columns, Run, SourceRowLength, fresh: false, IsPick, elementSize);
        if (_leading.Any(a => a.Terms is { FreshSize: > 0 }))
            FreshPieces = new ColumnPieces(Columns, Run, SourceRowLength, fresh: true, IsPick, elementSize);
        bool copies = Array.TrueForAll(Pieces.Pieces, p => p.Count <= 1) && Array.TrueForAll(Pieces.Terms, t => t.Weight == 1);
        if (!IsPick && copies && Pieces.Pieces.Length > 1 && Pieces.DrawnLength == 0 && FreshPieces is null && RowLength >= SourceRowLength)
            SourcePieces = new ColumnPieces(TermTable.Expand([], 0, 1), SourceRowLength, SourceRowLength, fresh: false, moved: false, elementSize);

        bool FitsRow(int end, long length, long tableSize) =>
            end == axes.Length || (length * format.Size() <= RowLimit && tableSize <= TableLimit);
    }

    /// <summary>Format of the elements of source and output.</summary>
    public ElementFormat Format { get; }

    /// <summary>Values of the fresh positions; the position is the row-major index in the extended source.</summary>
    public KernelFill Fill { get; }

    /// <summary>Whether elements are moved as bits.</summary>
    public bool IsPick { get; }

    /// <summary>How many of the first axes the rows are made of; the others are within a row.</summary>
    public int LeadingAxes => _leading.Length;

    /// <summary>Rows of the output.</summary>
    public long RowCount { get; }

    /// <summary>Elements of an output row.</summary>
    public int RowLength { get; }

    /// <summary>Elements of a source row.</summary>
    public int SourceRowLength { get; }

    /// <summary>Whether each row's columns are the source row's, unchanged.</summary>
    public bool KeepsColumns =>
        IsPick && RowLength == SourceRowLength
        && (RowLength == 0 || (Pieces.Pieces is [{ Count: 1 } all] && (!all.IsRepeated || RowLength == 1) && Pieces.Terms[0].Index == 0));

    /// <summary>The source's own columns, where the output's are copies of them in several pieces: rows are then summed once for all copies. Null elsewhere.</summary>
    internal ColumnPieces? SourcePieces { get; }

    internal long ExtendedRowLength { get; }

    /// <summary>Elements that each entry of <see cref="Columns"/> stands for.</summary>
    internal int Run { get; }

    /// <summary>Terms of the columns, in units of <see cref="Run"/>.</summary>
    internal TermTable Columns { get; }

    /// <summary>The same columns in elements.</summary>
    internal ColumnPieces Pieces { get; }

    /// <summary>The columns of a fresh row; null where none is.</summary>
    internal ColumnPieces? FreshPieces { get; }

    /// <summary>Terms of the rows [<paramref name="first"/>, <paramref name="first"/> + <paramref name="count"/>).</summary>
    internal TermTable Rows(long first, int count) => TermTable.Expand(_leading, first, count);

    /// <summary>The source columns that the columns [<paramref name="start"/>, <paramref name="end"/>) read, as the smallest range.</summary>
    internal (int Start, int End) SourceColumns(int start, int end) =>
        start == 0 && end == RowLength ? (0, SourceRowLength) : Pieces.Reads(start, end).Source;
}
