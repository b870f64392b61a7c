using System.Numerics;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;

namespace OnnxMorph.Kernels;

/// <summary>
/// One way to an accelerator and back: a stream with page-locked memory on this side and memory on the other. Windows on different lanes overlap,
/// so that the bus carries one while another is computed. All memory grows and is kept, and so do the columns of the map that was last here, which are the same in all
/// of its windows. Used by one thread at a time, to which the accelerator is bound.
/// </summary>
internal sealed class AcceleratorLane(Accelerator accelerator) : IDisposable
{
    /// <summary>Parts of a page-locked buffer begin where any type may.</summary>
    private const int Alignment = 16;

    private readonly PageLockedBuffer _up = new(accelerator), _down = new(accelerator);
    private MemoryBuffer1D<byte, Stride1D.Dense>? _source, _rows, _columns, _output;
    private TermTable? _columnsThere;

    /// <summary>Orders what the lane does.</summary>
    public AcceleratorStream Stream { get; } = accelerator.CreateStream();

    /// <summary>Sends a window's source and tables on their way.</summary>
    public void Send(MapWindow window, ReadOnlySpan<byte> source)
    {
        TermTable rows = window.Rows, columns = window.Map.Columns;
        bool known = ReferenceEquals(columns, _columnsThere);
        long rowsAt = Aligned(source.Length), columnsAt = Aligned(rowsAt + SizeOf(rows));
        _up.Reserve(columnsAt + (known ? 0 : SizeOf(columns)));
        source.CopyTo(_up.Part(0, source.Length));
        _up.CopyTo(Room(ref _source, source.Length), Stream, 0, source.Length);
        Write(rows, rowsAt);
        _up.CopyTo(Room(ref _rows, SizeOf(rows)), Stream, rowsAt, SizeOf(rows));
        if (!known)
        {
            _columnsThere = null;
            Write(columns, columnsAt);
            _up.CopyTo(Room(ref _columns, SizeOf(columns)), Stream, columnsAt, SizeOf(columns));
            _columnsThere = columns;
        }

        Room(ref _output, window.OutputBytes);
    }

    /// <summary>What a kernel needs to know of the window that was sent.</summary>
    public MapArguments<T> Arguments<T>(MapWindow window)
        where T : unmanaged
    {
        TermTable rows = window.Rows, columns = window.Map.Columns;
        return new()
        {
            Source = View<T>(_source!, 0, window.SourceBytes / Interop.SizeOf<T>()),
            Output = View<T>(_output!, 0, window.OutputBytes / Interop.SizeOf<T>()),
            RowTerms = View<Term>(_rows!, 0, rows.Terms.Length),
            RowStarts = View<int>(_rows!, TermBytes(rows), rows.Starts.Length),
            ColumnTerms = View<Term>(_columns!, 0, columns.Terms.Length),
            ColumnStarts = View<int>(_columns!, TermBytes(columns), columns.Starts.Length),
            SourceWidth = window.SourceColumnEnd - window.SourceColumnStart,
            SourceColumnStart = window.SourceColumnStart,
            Width = window.ColumnEnd - window.ColumnStart,
            ColumnStart = window.ColumnStart,
            Run = window.Map.Run,
            ExtendedRowLength = window.Map.ExtendedRowLength,
        };
    }

    /// <summary>Fetches what was computed, and waits for it.</summary>
    public void Receive(Span<byte> output)
    {
        _down.Reserve(output.Length);
        _down.CopyFrom(_output!, Stream, output.Length);
        Stream.Synchronize();
        _down.Part(0, output.Length).CopyTo(output);
    }

    /// <summary>Copies on the accelerator, from the memory of outputs to that of sources.</summary>
    public void CopyThere(long bytes) => Room(ref _source, bytes).CopyFrom(Stream, Room(ref _output, bytes).AsRawArrayView(0, bytes), 0);

    /// <summary>After an error: waits until nothing uses the lane's memory any more, and takes nothing for granted that is in it.</summary>
    public void Abandon()
    {
        _columnsThere = null;
        try
        {
            Stream.Synchronize();
        }
        catch (AcceleratorException)
        {
            // The error that led here, once more.
        }
    }

    public void Dispose()
    {
        foreach (IDisposable? part in (IDisposable?[])[_source, _rows, _columns, _output, _up, _down, Stream])
            part?.Dispose();
    }

    // Terms, then starts, so that both are aligned; TermBytes is where the starts begin.
    private void Write(TermTable table, long offset)
    {
        MemoryMarshal.AsBytes<Term>(table.Terms).CopyTo(_up.Part(offset, TermBytes(table)));
        MemoryMarshal.AsBytes<int>(table.Starts).CopyTo(_up.Part(offset + TermBytes(table), sizeof(int) * table.Starts.Length));
    }

    private static int TermBytes(TermTable table) => checked(table.Terms.Length * Interop.SizeOf<Term>());

    private static long SizeOf(TermTable table) => TermBytes(table) + (long)sizeof(int) * table.Starts.Length;

    private static long Aligned(long offset) => (offset + Alignment - 1) / Alignment * Alignment;

    private MemoryBuffer1D<byte, Stride1D.Dense> Room(ref MemoryBuffer1D<byte, Stride1D.Dense>? buffer, long bytes)
    {
        if (buffer is null || buffer.LengthInBytes < bytes)
        {
            buffer?.Dispose();
            buffer = null;
            // No smaller than the one element that stands in where there is none, since a view of nothing has no address.
            buffer = accelerator.Allocate1D<byte>(Math.Max(4096, bytes > 1 << 29 ? Aligned(bytes) : (long)BitOperations.RoundUpToPowerOf2((ulong)bytes)));
        }

        return buffer;
    }

    private static ArrayView<T> View<T>(MemoryBuffer buffer, long offset, long count)
        where T : unmanaged =>
        buffer.AsRawArrayView(offset, Math.Max(1, count) * Interop.SizeOf<T>()).Cast<T>();
}
