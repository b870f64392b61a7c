using System.Buffers;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using OnnxMorph.Axes;
using OnnxMorph.Kernels;

namespace OnnxMorph.Weights;

/// <summary>
/// Reads any range of an expression's elements, in row-major order, one byte each for types below one byte. Reading is
/// safe from several threads.
/// </summary>
internal abstract class TensorReader(WeightExpression expression) : IDisposable
{
    /// <summary>Most bytes of one piece of source that a reader holds for one window.</summary>
    protected const int SourceBudget = 8 << 20;

    /// <summary>Format of the elements.</summary>
    public ElementFormat Format { get; } = ElementEncoding.Format(expression.Type);

    /// <summary>Elements of the tensor.</summary>
    public long Count { get; } = expression.Count;

    /// <summary>Elements that are best read together.</summary>
    public virtual long Granularity => 1;

    /// <summary>Opens an expression and what it reads.</summary>
    public static TensorReader Open(WeightExpression expression, ReadContext context) => expression switch
    {
        StoredWeight { File: not null } stored => new FileReader(stored, context),
        StoredWeight stored => new MemoryReader(stored, context),
        ReshapedWeight reshaped => Open(reshaped.Source, context),
        FilledWeight filled => new FilledReader(filled),
        DiracWeight dirac => new DiracReader(dirac),
        OrthogonalWeight orthogonal => new OrthogonalReader(orthogonal),
        ComputedWeight computed => new ComputedReader(computed),
        MappedWeight mapped => new MappedReader(mapped, context),
        RotatedWeight rotated => new RotatedReader(rotated, context),
        SummedWeight summed => new SummedReader(summed, context),
        TransposedWeight transposed => new TransposedReader(transposed, context),
        PlacedWeight placed => new PlacedReader(placed, context),
        _ => throw new NotSupportedException($"No reader for {expression.GetType().Name}."),
    };

    /// <summary>Elements of a window of about <paramref name="bytes"/>: whole rows where rows are short.</summary>
    public long WindowLength(int bytes)
    {
        long length = Math.Max(8, bytes / Format.Size());
        return Granularity > 0 && Granularity < length ? length / Granularity * Granularity : length;
    }

    /// <summary>Reads the elements from <paramref name="first"/> on until <paramref name="destination"/> is full.</summary>
    public abstract void Read(long first, Span<byte> destination);

    /// <summary>Reads equal pieces, the first from <paramref name="first"/> on and each so many elements behind the one before, one after another.</summary>
    public virtual void ReadPieces(long first, long apart, int pieces, Span<byte> destination)
    {
        int length = destination.Length / pieces;
        for (int i = 0; i < pieces; i++)
            Read(first + i * apart, destination.Slice(i * length, length));
    }

    /// <inheritdoc/>
    public virtual void Dispose()
    {
    }
}

/// <summary>What the readers of one expression share.</summary>
/// <param name="device">Evaluates the maps.</param>
/// <param name="budget">Bytes of memory for what would otherwise be computed more than once.</param>
/// <param name="windowBytes">Bytes that are read at a time, whole rows where those are shorter.</param>
internal sealed class ReadContext(KernelDevice device, long budget, int windowBytes)
{
    private long _storedBytes;

    /// <summary>Evaluates the maps.</summary>
    public KernelDevice Device { get; } = device;

    /// <summary>Bytes that are read at a time, whole rows where those are shorter.</summary>
    public int WindowBytes { get; } = windowBytes;

    /// <summary>Bytes of the budget that are left.</summary>
    public long Budget { get; set; } = budget;

    /// <summary>Bytes of stored elements that were read.</summary>
    public long StoredBytes => Interlocked.Read(ref _storedBytes);

    /// <summary>Counts bytes of stored elements.</summary>
    public void Count(long bytes) => Interlocked.Add(ref _storedBytes, bytes);
}

/// <summary>Elements in memory.</summary>
internal sealed class MemoryReader(StoredWeight stored, ReadContext context) : TensorReader(stored)
{
    public override void Read(long first, Span<byte> destination)
    {
        context.Count(destination.Length);
        ReadOnlySpan<byte> bytes = stored.Bytes.Span;
        int bits = stored.Type.BitWidth();
        if (bits >= 8)
            bytes.Slice((int)(first * Format.Size()), destination.Length).CopyTo(destination);
        else
            ElementEncoding.Unpack(bits, bytes[(int)(first * bits / 8)..], (int)(first % (8 / bits)), destination);
    }
}

/// <summary>Elements in a file.</summary>
internal sealed class FileReader : TensorReader
{
    // Fewer bytes between two pieces are sooner read along than left out by another call of the operating system.
    private const int MostSkippedBytes = 1 << 14;

    private readonly StoredWeight _stored;
    private readonly ReadContext _context;
    private readonly SafeFileHandle _handle;

    public FileReader(StoredWeight stored, ReadContext context)
        : base(stored)
    {
        _stored = stored;
        _context = context;
        try
        {
            _handle = File.OpenHandle(stored.File!);
        }
        catch (Exception error) when (error is IOException or UnauthorizedAccessException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"The weights in '{stored.File}' cannot be opened: {error.Message}", error);
        }
    }

    public override void Read(long first, Span<byte> destination)
    {
        int bits = _stored.Type.BitWidth();
        if (bits >= 8)
        {
            ReadBytes(first * Format.Size(), destination);
            return;
        }

        long start = first * bits / 8;
        int length = (int)(_stored.Type.RawSize(first + destination.Length) - start);
        byte[] packed = ArrayPool<byte>.Shared.Rent(length);
        ReadBytes(start, packed.AsSpan(0, length));
        ElementEncoding.Unpack(bits, packed, (int)(first % (8 / bits)), destination);
        ArrayPool<byte>.Shared.Return(packed);
    }

    public override void ReadPieces(long first, long apart, int pieces, Span<byte> destination)
    {
        int length = destination.Length / pieces;
        long stride = apart * Format.Size();
        int together = (int)Math.Clamp(_context.WindowBytes / stride, 1, pieces);
        if (_stored.Type.BitWidth() < 8 || together == 1 || stride - length > MostSkippedBytes)
        {
            base.ReadPieces(first, apart, pieces, destination);
            return;
        }

        byte[] buffer = ArrayPool<byte>.Shared.Rent((int)((together - 1) * stride) + length);
        for (int done = 0; done < pieces; done += together)
        {
            int count = Math.Min(together, pieces - done);
            ReadBytes(first * Format.Size() + done * stride, buffer.AsSpan(0, (int)((count - 1) * stride) + length));
            for (int i = 0; i < count; i++)
                buffer.AsSpan((int)(i * stride), length).CopyTo(destination[((done + i) * length)..]);
        }

        ArrayPool<byte>.Shared.Return(buffer);
    }

    public override void Dispose() => _handle.Dispose();

    private void ReadBytes(long start, Span<byte> destination)
    {
        _context.Count(destination.Length);
        while (!destination.IsEmpty)
        {
            int read = RandomAccess.Read(_handle, destination, _stored.Offset + start);
            if (read == 0)
                throw new UnreadableModelException(
                    $"'{_stored.File}' ends inside a weight of {_stored.ByteLength} bytes at offset {_stored.Offset}; the file is cut short.");
            destination = destination[read..];
            start += read;
        }
    }
}

/// <summary>Elements of a fill.</summary>
internal sealed class FilledReader(FilledWeight filled) : TensorReader(filled)
{
    private readonly KernelFill _fill = ElementEncoding.Fill(filled.Type, filled.Fill);

    public override void Read(long first, Span<byte> destination) => _fill.Write(Format, first, destination);
}

/// <summary>Numbers in memory, rounded to the element type.</summary>
internal sealed class ComputedReader(ComputedWeight computed) : TensorReader(computed)
{
    public override void Read(long first, Span<byte> destination) =>
        FloatConversion.Round(Format, computed.Values.Span.Slice((int)first, destination.Length / Format.Size()), destination);
}

/// <summary>Elements of orthogonal matrices. A matrix is made as a whole, by the first window that asks for it.</summary>
internal sealed class OrthogonalReader(OrthogonalWeight orthogonal) : TensorReader(orthogonal)
{
    private readonly Lock _lock = new();
    private (long Matrix, double[] Rows)? _last;

    public override void Read(long first, Span<byte> destination)
    {
        int rows = orthogonal.Rows, columns = orthogonal.Columns;
        var values = new double[destination.Length / Format.Size()];
        double[] matrix = [];
        long current = -1;
        for (int i = 0; i < values.Length; i++)
        {
            (long number, long at) = Math.DivRem(first + i, (long)rows * columns);
            if (number != current)
                (current, matrix) = (number, Matrix(number));
            (long row, long column) = Math.DivRem(at, columns);
            values[i] = orthogonal.Scale * matrix[rows <= columns ? at : column * rows + row];
        }

        FloatConversion.Round(Format, values, destination);
    }

    private double[] Matrix(long number)
    {
        lock (_lock)
        {
            if (_last is not { } last || last.Matrix != number)
            {
                int few = Math.Min(orthogonal.Rows, orthogonal.Columns), many = Math.Max(orthogonal.Rows, orthogonal.Columns);
                _last = last = (number, OrthonormalRows.Draw(few, many, orthogonal.Seed, number * few * many));
            }

            return last.Rows;
        }
    }
}

/// <summary>Elements of Dirac kernels: one 1 for each output channel.</summary>
internal sealed class DiracReader : TensorReader
{
    private readonly long _channels;
    private readonly long _positions;
    private readonly long _centre;
    private readonly byte[] _one;

    public DiracReader(DiracWeight dirac)
        : base(dirac)
    {
        if (dirac.Shape.Length < 2)
            throw new ArgumentException($"A Dirac kernel of rank {dirac.Shape.Length}; it needs output and input channels.", nameof(dirac));
        _channels = dirac.Shape[1];
        _positions = 1;
        foreach (long size in dirac.Shape[2..])
        {
            _centre = _centre * size + size / 2;
            _positions *= size;
        }

        UInt128 one = ElementEncoding.Constant(dirac.Type, 1);
        _one = MemoryMarshal.AsBytes(new ReadOnlySpan<UInt128>(in one))[..Format.Size()].ToArray();
    }

    public override void Read(long first, Span<byte> destination)
    {
        destination.Clear();
        int size = Format.Size();
        long end = first + destination.Length / size;
        long kernel = _channels * _positions;
        if (kernel == 0)
            return;
        for (long output = first / kernel; output * kernel < end; output++)
        {
            long element = output * kernel + output % _channels * _positions + _centre;
            if (element >= first && element < end)
                _one.CopyTo(destination[(int)((element - first) * size)..]);
        }
    }
}

/// <summary>Elements of a tensor under axis maps.</summary>
internal sealed class MappedReader : TensorReader
{
    private readonly TensorReader _source;
    private readonly TensorMap _map;
    private readonly KernelDevice _device;

    public MappedReader(MappedWeight mapped, ReadContext context)
        : base(mapped)
    {
        CheckType(mapped);
        AxisTerms?[] terms = [.. mapped.Maps.Select(m => m is null or { IsIdentity: true, FreshSize: 0 } ? null : Terms(m))];
        bool hasFresh = mapped.Maps.Any(m => m is { FreshSize: > 0 });
        KernelFill fill = hasFresh ? ElementEncoding.Fill(mapped.Type, mapped.Fill) : default;
        _map = new TensorMap(Format, mapped.Source.Shape.AsSpan(), terms, fill);
        _source = ReadsAgain(mapped, context.WindowBytes) ? KeptReader.Open(mapped.Source, context, files: false) : Open(mapped.Source, context);
        _device = context.Device;
    }

    public override long Granularity => _map.RowLength;

    public override void Read(long first, Span<byte> destination)
    {
        int size = Format.Size();
        while (!destination.IsEmpty)
        {
            (long row, long column) = Math.DivRem(first, _map.RowLength);
            int rows = column == 0 ? destination.Length / size / _map.RowLength : 0;
            int columnEnd = rows > 0 ? _map.RowLength : (int)Math.Min(_map.RowLength, column + destination.Length / size);
            int elements = Math.Max(1, rows) * (columnEnd - (int)column);
            ReadWindow(row, Math.Max(1, rows), (int)column, columnEnd, destination[..(elements * size)]);
            destination = destination[(elements * size)..];
            first += elements;
        }
    }

    public override void Dispose() => _source.Dispose();

    /// <summary>Whether windows read elements of the source more than once: copies within a row share what a window has read, unless windows cut rows.</summary>
    private bool ReadsAgain(MappedWeight mapped, int windowBytes)
    {
        int axes = (long)_map.RowLength * Format.Size() <= windowBytes ? _map.LeadingAxes : mapped.Maps.Length;
        return mapped.Maps.Take(axes).Any(m => m is { RepeatsSources: true });
    }

    private void ReadWindow(long firstRow, int rows, int columnStart, int columnEnd, Span<byte> destination)
    {
        var window = new MapWindow(_map, firstRow, rows, columnStart, columnEnd);
        if (window.TryGetCopiedRows(out long[] copies))
        {
            int length = columnEnd - columnStart;
            ReadRows(copies, columnStart, length, destination);
            return;
        }

        if (window.SourceBytes > SourceBudget && destination.Length > Format.Size())
        {
            // Many terms a row: less of the output at a time keeps the source that it needs in bounds.
            if (rows > 1)
            {
                int upper = rows / 2 * (columnEnd - columnStart) * Format.Size();
                ReadWindow(firstRow, rows / 2, columnStart, columnEnd, destination[..upper]);
                ReadWindow(firstRow + rows / 2, rows - rows / 2, columnStart, columnEnd, destination[upper..]);
                return;
            }

            int middle = (columnStart + columnEnd) / 2;
            int left = (middle - columnStart) * Format.Size();
            ReadWindow(firstRow, 1, columnStart, middle, destination[..left]);
            ReadWindow(firstRow, 1, middle, columnEnd, destination[left..]);
            return;
        }

        byte[] buffer = ArrayPool<byte>.Shared.Rent((int)window.SourceBytes);
        Span<byte> source = buffer.AsSpan(0, (int)window.SourceBytes);
        ReadRows(window.SourceRows, window.SourceColumnStart, window.SourceColumnEnd - window.SourceColumnStart, source);
        _device.Map(window, source, destination);
        ArrayPool<byte>.Shared.Return(buffer);
    }

    /// <summary>Reads the same columns of several source rows, neighbours at once.</summary>
    private void ReadRows(IReadOnlyList<long> rows, int columnStart, int length, Span<byte> destination)
    {
        int bytes = length * Format.Size();
        bool whole = length == _map.SourceRowLength;
        for (int i = 0; i < rows.Count;)
        {
            int end = i + 1;
            while (end < rows.Count && rows[end] == rows[end - 1] + 1)
                end++;
            long first = rows[i] * _map.SourceRowLength + columnStart;
            Span<byte> part = destination[(i * bytes)..(end * bytes)];
            if (whole)
                _source.Read(first, part);
            else
                _source.ReadPieces(first, _map.SourceRowLength, end - i, part);
            i = end;
        }
    }

    private static void CheckType(MappedWeight mapped)
    {
        if (!mapped.Type.IsScalable() && mapped.Maps.Any(m => m is { IsPick: false }))
            throw new RefusedException(
                $"Quantised or integer weights ({mapped.Type}) cannot be scaled or mixed, only copied and cut; convert the model to float first.");
        if (mapped.Type == ElementType.Float8E8M0 && mapped.Maps.Any(HasZero))
            throw new RefusedException($"Elements of type {mapped.Type} have no zero to pad with; convert the model to float first.");
    }

    private static bool HasZero(AxisMap? map)
    {
        for (int i = 0; i < map?.Size; i++)
            if (map[i].IsEmpty)
                return true;
        return false;
    }

    private static AxisTerms Terms(AxisMap map)
    {
        ReadOnlySpan<Tap> taps = map.AllTaps;
        var sources = new int[taps.Length];
        var weights = new double[taps.Length];
        for (int i = 0; i < taps.Length; i++)
            (sources[i], weights[i]) = (taps[i].Source, taps[i].Weight);
        return new AxisTerms(map.SourceSize, map.FreshSize, map.Starts.ToArray(), sources, weights);
    }
}

/// <summary>
/// Elements of a tensor with one axis rotated. The tensor is outer × groups blocks of [n × inner]; each block's projections on
/// the rotation's vectors take a pass over the block and little memory, and with them any range of the block can be
/// rotated by itself.
/// </summary>
internal sealed class RotatedReader : TensorReader
{
    private const int CachedBlocks = 16;

    private readonly TensorReader _source;
    private readonly BlockRotation _rotation;
    private readonly int _groups;
    private readonly int _columns;
    private readonly long _blockLength;
    private readonly Dictionary<long, Lazy<double[]>> _projections = [];
    private readonly Queue<long> _cached = [];

    public RotatedReader(RotatedWeight rotated, ReadContext context)
        : base(rotated)
    {
        if (!rotated.Type.IsScalable())
            throw new RefusedException($"Quantised or integer weights ({rotated.Type}) cannot be rotated; convert the model to float first.");
        long size = rotated.Shape[rotated.Axis];
        if (rotated.Groups < 1 || size % rotated.Groups != 0)
            throw new ArgumentException($"An axis of {size} has no {rotated.Groups} equal groups.", nameof(rotated));
        _groups = rotated.Groups;
        long inner = 1;
        foreach (long length in rotated.Shape[(rotated.Axis + 1)..])
            inner *= length;
        _columns = checked((int)inner);
        int rows = (int)(size / _groups);
        _blockLength = (long)rows * _columns;
        _rotation = new BlockRotation(_groups, rows, rotated.Reflections, rotated.Seed, rotated.Transpose);
        _source = KeptReader.Open(rotated.Source, context, files: true);
    }

    public override void Read(long first, Span<byte> destination)
    {
        _source.Read(first, destination);
        int count = destination.Length / Format.Size();
        double[] values = ArrayPool<double>.Shared.Rent(count);
        Span<double> elements = values.AsSpan(0, count);
        FloatConversion.Widen(Format, destination, elements);
        for (int done = 0; done < count;)
        {
            (long block, long offset) = Math.DivRem(first + done, _blockLength);
            int length = (int)Math.Min(_blockLength - offset, count - done);
            double[] finished = length == _blockLength
                ? Project(block, new ReadOnlyMemory<double>(values, done, length))
                : Projections(block);
            _rotation.Apply((int)(block % _groups), offset, elements.Slice(done, length), _columns, finished);
            done += length;
        }

        FloatConversion.Round(Format, elements, destination);
        ArrayPool<double>.Shared.Return(values);
    }

    public override void Dispose() => _source.Dispose();

    /// <summary>Projections of a block that is in memory as a whole.</summary>
    private double[] Project(long block, ReadOnlyMemory<double> elements)
    {
        int group = (int)(block % _groups);
        var projections = new double[_rotation.Reflections * _columns];
        _rotation.Project(group, 0, elements, _columns, projections);
        _rotation.Finish(group, _columns, projections);
        return projections;
    }

    /// <summary>Projections of a block that windows cut: computed by the first window that asks, kept for its neighbours.</summary>
    private double[] Projections(long block)
    {
        Lazy<double[]>? lazy;
        lock (_cached)
        {
            if (!_projections.TryGetValue(block, out lazy))
            {
                lazy = new Lazy<double[]>(() => ProjectByPanels(block));
                _projections.Add(block, lazy);
                _cached.Enqueue(block);
                if (_cached.Count > CachedBlocks)
                    _projections.Remove(_cached.Dequeue());
            }
        }

        return lazy.Value;
    }

    private double[] ProjectByPanels(long block)
    {
        int group = (int)(block % _groups);
        var projections = new double[_rotation.Reflections * _columns];
        int panel = Math.Clamp(SourceBudget / sizeof(double) / Math.Max(1, _columns), 1, _rotation.Size);
        byte[] bytes = new byte[panel * _columns * Format.Size()];
        double[] values = new double[panel * _columns];
        for (int row = 0; row < _rotation.Size; row += panel)
        {
            int length = Math.Min(panel, _rotation.Size - row) * _columns;
            Span<byte> read = bytes.AsSpan(0, length * Format.Size());
            _source.Read(block * _blockLength + (long)row * _columns, read);
            FloatConversion.Widen(Format, read, values.AsSpan(0, length));
            _rotation.Project(group, row, values.AsMemory(0, length), _columns, projections);
        }

        _rotation.Finish(group, _columns, projections);
        return projections;
    }
}

/// <summary>Elements of a weighted sum of tensors.</summary>
internal sealed class SummedReader : TensorReader
{
    private readonly (double Factor, TensorReader Reader)[] _terms;

    public SummedReader(SummedWeight summed, ReadContext context)
        : base(summed)
    {
        if (!summed.Type.IsScalable())
            throw new RefusedException($"Quantised or integer weights ({summed.Type}) cannot be added; convert the model to float first.");
        _terms = [.. summed.Terms.Select(term => (term.Factor, Open(term.Weight, context)))];
    }

    public override long Granularity => _terms.Max(term => term.Reader.Granularity);

    public override void Read(long first, Span<byte> destination)
    {
        int count = destination.Length / Format.Size();
        double[] buffer = ArrayPool<double>.Shared.Rent(2 * count);
        Span<double> sum = buffer.AsSpan(0, count), values = buffer.AsSpan(count, count);
        sum.Clear();
        foreach ((double factor, TensorReader reader) in _terms)
        {
            reader.Read(first, destination);
            FloatConversion.Widen(Format, destination, values);
            for (int i = 0; i < count; i++)
                sum[i] += factor * values[i];
        }

        FloatConversion.Round(Format, sum, destination);
        ArrayPool<double>.Shared.Return(buffer);
    }

    public override void Dispose()
    {
        foreach ((_, TensorReader reader) in _terms)
            reader.Dispose();
    }
}

/// <summary>Elements of a transposed matrix: for rows of the result, columns of the source.</summary>
internal sealed class TransposedReader(TransposedWeight transposed, ReadContext context) : TensorReader(transposed)
{
    private readonly TensorReader _source = KeptReader.Open(transposed.Source, context, files: false);
    private readonly long _rows = transposed.Shape[0], _columns = transposed.Shape[1];

    public override long Granularity => _columns;

    public override void Read(long first, Span<byte> destination)
    {
        int size = Format.Size();
        long end = first + destination.Length / size;
        if (end == first)
            return;
        // Columns top … bottom of the source, for each of its rows that the range touches.
        (long top, long bottom) = (first / _columns, (end - 1) / _columns);
        int width = (int)(bottom - top + 1);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(width * size);
        for (long column = 0; column < _columns; column++)
        {
            Span<byte> row = buffer.AsSpan(0, width * size);
            _source.Read(column * _rows + top, row);
            for (int i = 0; i < width; i++)
            {
                long element = (top + i) * _columns + column;
                if (element >= first && element < end)
                    row.Slice(i * size, size).CopyTo(destination[(int)((element - first) * size)..]);
            }
        }

        ArrayPool<byte>.Shared.Return(buffer);
    }

    public override void Dispose() => _source.Dispose();
}

/// <summary>Elements of a tensor of which a box is another tensor's.</summary>
internal sealed class PlacedReader : TensorReader
{
    private readonly TensorReader _outer, _inner;

    // Axes in front of those that the box fills, and of these with the one in front of them one run of elements.
    private readonly long[] _sizes, _boxes, _starts;
    private readonly long _run, _boxRun, _runStart;

    public PlacedReader(PlacedWeight placed, ReadContext context)
        : base(placed)
    {
        (_outer, _inner) = (Open(placed.Outer, context), Open(placed.Inner, context));
        int split = placed.Shape.Length;
        long filled = 1;
        while (split > 0 && placed.Inner.Shape[split - 1] == placed.Shape[split - 1])
            filled *= placed.Shape[--split];
        split--;
        (_run, _boxRun, _runStart) = split < 0 ? (filled, filled, 0) : (filled * placed.Shape[split], filled * placed.Inner.Shape[split], filled * placed.Start[split]);
        split = Math.Max(split, 0);
        (_sizes, _boxes, _starts) = ([.. placed.Shape[..split]], [.. placed.Inner.Shape[..split]], [.. placed.Start[..split]]);
    }

    public override long Granularity => _run;

    public override void Read(long first, Span<byte> destination)
    {
        _outer.Read(first, destination);
        int size = Format.Size();
        long end = first + destination.Length / size;
        if (end == first || _boxRun == 0)
            return;
        var runs = new List<(long Inner, int At, int Length)>();
        for (long row = first / _run; row <= (end - 1) / _run; row++)
        {
            if (Box(row) is not { } boxRow)
                continue;
            long start = Math.Max(first, row * _run + _runStart), stop = Math.Min(end, row * _run + _runStart + _boxRun);
            if (start < stop)
                runs.Add((boxRow * _boxRun + start - row * _run - _runStart, (int)(start - first), (int)(stop - start)));
        }

        if (runs.Count == 0)
            return;
        // The box's own order is that of its runs: one range of it is read, and handed out.
        long from = runs[0].Inner;
        int length = (int)(runs[^1].Inner + runs[^1].Length - from);
        byte[] buffer = ArrayPool<byte>.Shared.Rent(length * size);
        _inner.Read(from, buffer.AsSpan(0, length * size));
        foreach ((long inner, int at, int count) in runs)
            buffer.AsSpan((int)(inner - from) * size, count * size).CopyTo(destination[(at * size)..]);
        ArrayPool<byte>.Shared.Return(buffer);
    }

    public override void Dispose()
    {
        _outer.Dispose();
        _inner.Dispose();
    }

    // The box's row for a row of the whole; null outside.
    private long? Box(long row)
    {
        long box = 0, scale = 1;
        for (int axis = _sizes.Length - 1; axis >= 0; axis--)
        {
            (row, long index) = Math.DivRem(row, _sizes[axis]);
            index -= _starts[axis];
            if (index < 0 || index >= _boxes[axis])
                return null;
            box += index * scale;
            scale *= _boxes[axis];
        }

        return box;
    }
}
