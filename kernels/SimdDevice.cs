using System.Buffers;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace OnnxMorph.Kernels;

/// <summary>The kernels on the processor: block moves and <see cref="Vector{T}"/>; parallelism is the caller's, by windows.</summary>
[SkipLocalsInit]
internal sealed class SimdDevice : KernelDevice
{
    /// <summary>Columns that are gathered or summed at a time; what they need stays in the first-level cache.</summary>
    private const int Tile = 1024;

    /// <summary>Rows that are summed together, and how many of their columns at a time, so that all that these need stays in the first-level cache.</summary>
    private const int RowsTogether = 8, ColumnsTogether = 512;

    /// <summary>Rows of fewer pieces are read nearly in order, which the processor foresees.</summary>
    private const int ManyPieces = 64;

    public override string Name => $"cpu ({Vector<byte>.Count * 8}-bit vectors)";

    /// <summary>Runs through the loops for float32: rows and columns that are copied, drawn, and summed in few terms and many, in long pieces and one by one.</summary>
    internal static void RunOnce()
    {
        // So many rows that they are not multiplied out with the columns; the first of them are evaluated.
        const int Rows = 5000, Columns = 32;
        AxisTerms copiedRows = Terms(Rows, [[0], [Rows]]), summedRows = Terms(Rows, [[0], [Rows], [0, 1], [0, 1, Rows]]);
        int[][] all = [.. Enumerable.Range(0, Columns).Select(i => (int[])[i])], pieces = [.. all, [0], [0], [.. Enumerable.Range(0, Columns)], .. all[1..].Select(i => (int[])[i[0], 0])];
        int[][] single = [.. all.Select(i => (int[])[i[0] * 7 % Columns])];
        foreach ((AxisTerms rows, int[][] columns) in new[]
        {
            (copiedRows, [.. all, [0], [0], [Columns]]), (copiedRows, single), (summedRows, all), (summedRows, [.. all, [0], [Columns]]), (summedRows, pieces), (summedRows, single),
            (summedRows, [.. single.Select((i, c) => c % 3 == 0 ? i : [i[0], Columns])]),
        })
        {
            var map = new TensorMap(ElementFormat.Float32, [Rows, Columns], [rows, Terms(Columns, columns)], new KernelFill(Distribution.Normal, 1, 0, 0));
            var window = new MapWindow(map, 0, 4, 0, map.RowLength);
            Simd.Map(window, new byte[window.SourceBytes], new byte[window.OutputBytes]);
        }

        static AxisTerms Terms(int size, int[][] rows)
        {
            rows = [.. rows, .. Enumerable.Range(0, Math.Max(0, size - rows.Length)).Select(i => (int[])[i])];
            int[] sources = [.. rows.SelectMany(row => row)], starts = new int[rows.Length + 1];
            for (int i = 0; i < rows.Length; i++)
                starts[i + 1] = starts[i] + rows[i].Length;
            return new AxisTerms(size, 1, starts, sources, [.. sources.Select(_ => 1.0)]);
        }
    }

    public override void Map(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        window.Check(source.Length, output.Length);
        if (output.IsEmpty)
            return;
        switch (window.Map.IsPick ? window.Map.Format.Size() : 0, window.Map.Format)
        {
            case (1, _): Pick<byte>(window, source, output); break;
            case (2, _): Pick<ushort>(window, source, output); break;
            case (4, _): Pick<uint>(window, source, output); break;
            case (8, _): Pick<ulong>(window, source, output); break;
            case (16, _): Pick<UInt128>(window, source, output); break;
            case (_, ElementFormat.Float64): Sum<double, NearestRounding>(window, source, output); break;
            case (_, ElementFormat.Float32): Sum<float, NearestRounding>(window, source, output); break;
            default: SumHalves(window, source, output); break;
        }
    }

    private static void Pick<T>(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
        where T : unmanaged
    {
        using var rows = new RowReader<T>(window, MemoryMarshal.Cast<byte, T>(source), window.Map.Pieces);
        Span<T> results = MemoryMarshal.Cast<byte, T>(output);
        int width = window.ColumnEnd - window.ColumnStart;
        for (int row = 0; row < window.Rows.Count; row++)
        {
            Span<T> target = results.Slice(row * width, width);
            if (window.Rows.Starts[row] == window.Rows.Starts[row + 1])
                target.Clear();
            else
                PickRow(rows.Read(window.Rows.Terms[window.Rows.Starts[row]]), window.ColumnStart, target, rows.Next(window.Rows.Starts[row] + 1));
        }
    }

    /// <summary>The columns from <paramref name="start"/> on of a row whose columns are copies.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PickRow<T>(Row<T> row, int start, Span<T> target, Ahead next)
        where T : unmanaged
    {
        if (row.Pieces.Indices is not null)
        {
            ColumnGather.Gather(row.Source, row.Start, row.Pieces.Indices[0], start, row.Nothing, target, ref next);
            return;
        }

        if (row.Pieces.HasGaps)
            target.Clear();
        int end = start + target.Length;
        ref T source = ref MemoryMarshal.GetReference(row.Source), drawn = ref MemoryMarshal.GetReference(row.Drawn), first = ref MemoryMarshal.GetReference(target);
        foreach (ref readonly ColumnMove move in row.Pieces.MovesFrom(start))
        {
            if (move.Target >= end)
                break;
            next.Fetch();
            int skip = Math.Max(0, start - move.Target), length = Math.Min(end - move.Target, move.Length) - skip;
            ref T to = ref Unsafe.Add(ref first, move.Target + skip - start);
            if (move.IsRepeated)
                MemoryMarshal.CreateSpan(ref to, length).Fill(move.Index >= 0 ? row.Source[move.Index - row.Start] : row.Drawn[~move.Index]);
            else
                Copy(ref move.Index >= 0 ? ref Unsafe.Add(ref source, move.Index + skip - row.Start) : ref Unsafe.Add(ref drawn, ~move.Index + skip), ref to, length);
        }
    }

    /// <summary>
    /// Copies; a call costs more than the few elements of a kernel's positions, which two words or vectors that overlap move. Not checked, for the
    /// same reason as <see cref="ColumnGather"/>.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Copy<T>(ref T source, ref T target, int length)
        where T : unmanaged
    {
        ref byte from = ref Unsafe.As<T, byte>(ref source), to = ref Unsafe.As<T, byte>(ref target);
        int bytes = length * Unsafe.SizeOf<T>();
        switch (bytes)
        {
            case > 32 and <= 40:
                // A second vector would cross into the next cache line as often as the first.
                (Vector256<byte> most, ulong rest) = (Vector256.LoadUnsafe(ref from), Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref from, bytes - 8)));
                most.StoreUnsafe(ref to);
                Unsafe.WriteUnaligned(ref Unsafe.Add(ref to, bytes - 8), rest);
                break;
            case >= 32 and <= 64:
                (Vector256<byte> head, Vector256<byte> tail) = (Vector256.LoadUnsafe(ref from), Vector256.LoadUnsafe(ref from, (nuint)bytes - 32));
                head.StoreUnsafe(ref to);
                tail.StoreUnsafe(ref to, (nuint)bytes - 32);
                break;
            case >= 16 and < 32:
                (Vector128<byte> first, Vector128<byte> last) = (Vector128.LoadUnsafe(ref from), Vector128.LoadUnsafe(ref from, (nuint)bytes - 16));
                first.StoreUnsafe(ref to);
                last.StoreUnsafe(ref to, (nuint)bytes - 16);
                break;
            case >= 8 and < 16:
                (ulong low, ulong high) = (Unsafe.ReadUnaligned<ulong>(ref from), Unsafe.ReadUnaligned<ulong>(ref Unsafe.Add(ref from, bytes - 8)));
                Unsafe.WriteUnaligned(ref to, low);
                Unsafe.WriteUnaligned(ref Unsafe.Add(ref to, bytes - 8), high);
                break;
            default:
                MemoryMarshal.CreateReadOnlySpan(ref source, length).CopyTo(MemoryMarshal.CreateSpan(ref target, length));
                break;
        }
    }

    /// <summary>Formats of two bytes are computed with as float32, which holds them exactly, and rounded to it in a way that leaves their own rounding open.</summary>
    private static void SumHalves(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        float[] sources = ArrayPool<float>.Shared.Rent(source.Length / 2), results = ArrayPool<float>.Shared.Rent(output.Length / 2);
        FloatConversion.WidenToSingle(window.Map.Format, source, sources);
        Sum<float, OddRounding>(
            window, MemoryMarshal.AsBytes(sources.AsSpan(0, source.Length / 2)), MemoryMarshal.AsBytes(results.AsSpan(0, output.Length / 2)));
        FloatConversion.RoundOdd(window.Map.Format, results.AsSpan(0, output.Length / 2), output);
        ArrayPool<float>.Shared.Return(sources);
        ArrayPool<float>.Shared.Return(results);
    }

    private static void Sum<T, TRounding>(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        using var rows = new RowReader<T>(window, MemoryMarshal.Cast<byte, T>(source), window.Map.SourcePieces ?? window.Map.Pieces);
        Span<T> results = MemoryMarshal.Cast<byte, T>(output);
        int width = window.ColumnEnd - window.ColumnStart;
        if (window.Map.SourcePieces is null)
        {
            for (int row = 0; row < window.Rows.Count;)
            {
                int together = rows.CountTogether(row);
                if (together > 1)
                    SumTogether<T, TRounding>(window, row, together, rows, results.Slice(row * width, together * width));
                else
                    SumRow<T, TRounding>(window, row, rows, window.ColumnStart, results.Slice(row * width, width));
                row += together;
            }

            return;
        }

        // The source's own columns first, then their copies.
        int sourceWidth = window.SourceColumnEnd - window.SourceColumnStart;
        T[] summed = ArrayPool<T>.Shared.Rent(sourceWidth);
        Span<T> whole = summed.AsSpan(0, sourceWidth);
        for (int row = 0; row < window.Rows.Count; row++)
        {
            SumRow<T, TRounding>(window, row, rows, window.SourceColumnStart, whole);
            PickRow(rows.Of(whole, window.Map.Pieces, 1), window.ColumnStart, results.Slice(row * width, width), default);
        }

        ArrayPool<T>.Shared.Return(summed);
    }

    /// <summary>Rows of one term whose columns are walked one by one, some columns at a time, so that their weights are at hand for all rows.</summary>
    private static void SumTogether<T, TRounding>(MapWindow window, int first, int count, RowReader<T> rows, Span<T> target)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        int width = target.Length / count;
        for (int done = 0; done < width; done += ColumnsTogether)
        {
            int columns = Math.Min(ColumnsTogether, width - done);
            for (int row = 0; row < count; row++)
            {
                ReadOnlySpan<Term> terms = window.Rows.Terms.AsSpan(window.Rows.Starts[first + row]);
                nint next = row + 1 < count ? (nint)(terms[1].Source - terms[0].Source) * (window.SourceColumnEnd - window.SourceColumnStart) : 0;
                SumSpread<T, TRounding>(rows.Read(terms[0]), window.ColumnStart + done, target.Slice(row * width + done, columns), next);
            }
        }
    }

    private static void SumRow<T, TRounding>(MapWindow window, int row, RowReader<T> rows, int start, Span<T> target)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        ReadOnlySpan<Term> terms = window.Rows.Terms.AsSpan(window.Rows.Starts[row]..window.Rows.Starts[row + 1]);
        if (terms.IsEmpty)
        {
            target.Clear();
            return;
        }

        if (terms.Length == 1)
        {
            Row<T> only = rows.Read(terms[0]);
            if (only.IsSpread)
                SumSpread<T, TRounding>(only, start, target, next: 0);
            else
                SumPieces<T, TRounding>(only, only, 1, start, target);
            return;
        }

        if (terms.Length == 2 && rows.AreInPlace)
        {
            SumPieces<T, TRounding>(rows.Read(terms[0]), rows.Read(terms[1]), 2, start, target);
            return;
        }

        double[] buffer = ArrayPool<double>.Shared.Rent(target.Length);
        Span<double> sums = buffer.AsSpan(0, target.Length);
        for (int i = 0; i < terms.Length; i++)
        {
            Row<T> read = rows.Read(terms[i]);
            // Columns without terms are not written.
            if (i == 0 && read.Pieces.HasGaps)
                sums.Clear();
            AddRow(read, start, sums, assign: i == 0);
        }

        VectorSums.Round<T, TRounding>(sums, target);
        ArrayPool<double>.Shared.Return(buffer);
    }

    /// <summary>A row of one or two terms, piece by piece; most pieces then have one or two terms in all.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SumPieces<T, TRounding>(Row<T> first, Row<T> second, int rows, int start, Span<T> target)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        int end = start + target.Length;
        foreach (ColumnPiece piece in first.Pieces.From(start))
        {
            if (piece.Target >= end)
                break;
            (int skip, int length) = piece.Within(start, end);
            Span<T> whole = target.Slice(piece.Target + skip - start, length), part = whole;
            if (piece.IsRepeated)
            {
                (skip, length) = (0, 1);
                part = whole[..1];
            }

            ReadOnlySpan<ColumnTerm> terms = first.Pieces.Terms.AsSpan(piece.First, piece.Count);
            switch (rows * piece.Count)
            {
                case 0:
                    part.Clear();
                    break;
                case 1:
                    VectorSums.Scale<T, TRounding>(first.At(terms[0].Index, skip, length), first.Weight * terms[0].Weight, part);
                    break;
                case 2:
                    ColumnTerm other = terms[^1];
                    VectorSums.Combine<T, TRounding>(
                        first.At(terms[0].Index, skip, length), first.Weight * terms[0].Weight,
                        second.At(other.Index, skip, length), second.Weight * other.Weight, part);
                    break;
                default:
                    SumPiece<T, TRounding>(first, second, rows, terms, skip, part);
                    break;
            }

            if (piece.IsRepeated)
                whole[1..].Fill(whole[0]);
        }
    }

    private static void SumPiece<T, TRounding>(Row<T> first, Row<T> second, int rows, ReadOnlySpan<ColumnTerm> terms, int skip, Span<T> target)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        Span<double> buffer = stackalloc double[Math.Min(Tile, target.Length)];
        for (int done = 0; done < target.Length; done += Tile)
        {
            Span<double> sums = buffer[..Math.Min(Tile, target.Length - done)];
            for (int row = 0; row < rows; row++)
            {
                Row<T> read = row == 0 ? first : second;
                if (sums.Length == 1)
                {
                    sums[0] = VectorSums.Add(read.Source, read.Drawn, terms, skip + done, read.Start, read.Weight, row == 0 ? null : sums[0]);
                    continue;
                }

                for (int k = 0; k < terms.Length; k++)
                    VectorSums.Add(read.At(terms[k].Index, skip + done, sums.Length), read.Weight * terms[k].Weight, sums, assign: row + k == 0);
            }

            VectorSums.Round<T, TRounding>(sums, target.Slice(done, sums.Length));
        }
    }

    /// <summary>A row of one term whose columns are walked one by one; <paramref name="next"/> elements behind it is the next such row.</summary>
    private static void SumSpread<T, TRounding>(Row<T> row, int start, Span<T> target, nint next)
        where T : unmanaged
        where TRounding : struct, IRounding
    {
        Span<T> gathered = stackalloc T[Tile], others = stackalloc T[Tile];
        Span<double> sums = stackalloc double[Tile];
        int combined = typeof(T) == typeof(float) && typeof(TRounding) == typeof(NearestRounding)
            ? ColumnGather.Combine(MemoryMarshal.Cast<T, float>(row.Source), row.Start, row.Pieces, start, row.Weight, Unsafe.BitCast<T, float>(row.Nothing), MemoryMarshal.Cast<T, float>(target), next) : 0;
        for (int done = combined; done < target.Length; done += Tile)
        {
            Span<T> part = target.Slice(done, Math.Min(Tile, target.Length - done));
            ColumnGather.Gather(row.Source, row.Start, row.Pieces.Indices![0], start + done, row.Nothing, gathered[..part.Length]);
            ReadOnlySpan<double> weights = row.Pieces.Weights[0].AsSpan(start + done, part.Length);
            if (row.Pieces.Depth == 1)
            {
                VectorSums.Scale<T, TRounding>(gathered, weights, row.Weight, part);
                continue;
            }

            if (row.Pieces.Depth == 2)
            {
                ColumnGather.Gather(row.Source, row.Start, row.Pieces.Indices[1], start + done, row.Nothing, others[..part.Length]);
                VectorSums.Combine<T, TRounding>(gathered, weights, others, row.Pieces.Weights[1].AsSpan(start + done, part.Length), row.Weight, part);
                continue;
            }

            AddSpread(row, start + done, sums[..part.Length], gathered, assign: true);
            VectorSums.Round<T, TRounding>(sums[..part.Length], part);
        }
    }

    /// <summary>Adds one term of a row of several.</summary>
    private static void AddRow<T>(Row<T> row, int start, Span<double> sums, bool assign)
        where T : unmanaged
    {
        if (row.IsSpread)
        {
            Span<T> gathered = stackalloc T[Tile];
            for (int done = 0; done < sums.Length; done += Tile)
                AddSpread(row, start + done, sums.Slice(done, Math.Min(Tile, sums.Length - done)), gathered, assign);
            return;
        }

        int end = start + sums.Length;
        foreach (ColumnPiece piece in row.Pieces.From(start))
        {
            if (piece.Target >= end)
                break;
            (int skip, int length) = piece.Within(start, end);
            Span<double> part = sums.Slice(piece.Target + skip - start, length);
            ReadOnlySpan<ColumnTerm> terms = row.Pieces.Terms.AsSpan(piece.First, piece.Count);
            if (length == 1 && terms.Length > 0)
            {
                part[0] = VectorSums.Add(row.Source, row.Drawn, terms, piece.IsRepeated ? 0 : skip, row.Start, row.Weight, assign ? null : part[0]);
                continue;
            }

            for (int k = 0; k < terms.Length; k++)
            {
                if (piece.IsRepeated)
                    VectorSums.Add(VectorSums.Add(row.Source, row.Drawn, terms.Slice(k, 1), 0, row.Start, row.Weight, null), part, assign && k == 0);
                else
                    VectorSums.Add(row.At(terms[k].Index, skip, length), row.Weight * terms[k].Weight, part, assign && k == 0);
            }
        }
    }

    private static void AddSpread<T>(Row<T> row, int start, Span<double> sums, Span<T> gathered, bool assign)
        where T : unmanaged
    {
        for (int k = 0; k < row.Pieces.Depth; k++)
        {
            ColumnGather.Gather(row.Source, row.Start, row.Pieces.Indices![k], start, row.Nothing, gathered[..sums.Length]);
            VectorSums.Add(gathered[..sums.Length], row.Pieces.Weights[k].AsSpan(start, sums.Length), row.Weight, sums, assign && k == 0);
        }
    }

    /// <summary>One row to read: the columns of the source that the window holds, and what the row draws.</summary>
    private readonly ref struct Row<T>
        where T : unmanaged
    {
        public ColumnPieces Pieces { get; init; }

        public double Weight { get; init; }

        /// <summary>Elements of the source row from <see cref="Start"/> on; what <see cref="ColumnPieces.Indices"/> name behind it as well.</summary>
        public ReadOnlySpan<T> Source { get; init; }

        public int Start { get; init; }

        public ReadOnlySpan<T> Drawn { get; init; }

        /// <summary>What columns read that have no term: zero bits where they are moved, and where they are summed what makes a zero of the sign of the weight beside it.</summary>
        public T Nothing { get; init; }

        /// <summary>Whether columns are walked one by one. What stands for missing terms is only without effect under finite weights.</summary>
        public bool IsSpread => Pieces.Indices is not null && double.IsFinite(Weight);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public ReadOnlySpan<T> At(int index, int skip, int length) =>
            index >= 0 ? Source.Slice(index + skip - Start, length) : Drawn.Slice(~index + skip, length);
    }

    /// <summary>
    /// Makes the rows of a window readable. A row that draws, or whose columns are walked one by one and not all there, takes the buffer, and the next
    /// such row takes it over.
    /// </summary>
    private ref struct RowReader<T>
        where T : unmanaged
    {
        private readonly MapWindow _window;
        private readonly ReadOnlySpan<T> _source;
        private readonly ColumnPieces _pieces;
        private readonly T[] _buffer;
        private readonly (int Start, int End) _drawn, _freshDrawn;

        /// <summary>A reader of <paramref name="source"/>, the window's.</summary>
        public RowReader(MapWindow window, ReadOnlySpan<T> source, ColumnPieces pieces)
        {
            _window = window;
            _source = source;
            _pieces = pieces;
            ColumnPieces? fresh = window.Map.FreshPieces;
            _buffer = ArrayPool<T>.Shared.Rent(Math.Max(pieces.BufferLength, fresh?.BufferLength ?? 0));
            (_drawn, _freshDrawn) = (Drawn(pieces), Drawn(fresh));

            (int, int) Drawn(ColumnPieces? pieces) => pieces is null || pieces.DrawnLength == 0 ? (0, 0)
                : window.ColumnEnd - window.ColumnStart == window.Map.RowLength ? (0, pieces.DrawnLength)
                : pieces.Reads(window.ColumnStart, window.ColumnEnd).Drawn;
        }

        /// <summary>Whether no row takes the buffer, so that several can be read at a time.</summary>
        public readonly bool AreInPlace => _pieces.DrawnLength == 0 && _pieces.Indices is null && _window.Map.FreshPieces is null;

        /// <summary>How many rows from <paramref name="first"/> on can be summed together: those of one term whose columns are walked one by one and all in the source.</summary>
        public readonly int CountTogether(int first)
        {
            if (_pieces.Indices is null || _pieces.ReadsBehindSource || _pieces.DrawnLength > 0)
                return 1;
            int end = first;
            while (end < Math.Min(first + RowsTogether, _window.Rows.Count) && _window.Rows.Starts[end + 1] == _window.Rows.Starts[end] + 1
                && _window.Rows.Terms[_window.Rows.Starts[end]] is { Source: >= 0 } term && double.IsFinite(term.Weight))
                end++;
            return Math.Max(1, end - first);
        }

        public readonly void Dispose() => ArrayPool<T>.Shared.Return(_buffer);

        /// <summary>The row that a term reads.</summary>
        public readonly Row<T> Read(Term term)
        {
            int width = _window.SourceColumnEnd - _window.SourceColumnStart;
            bool fresh = term.Source < 0;
            ColumnPieces pieces = fresh ? _window.Map.FreshPieces! : _pieces;
            Row<T> row = Of(fresh ? default : _source.Slice((int)term.Source * width, width), pieces, term.Weight);
            (int start, int end) = fresh ? _freshDrawn : _drawn;
            if (start < end)
                foreach ((long position, int place, int length) in pieces.Runs(start, end))
                    Draw(term.Position * _window.Map.ExtendedRowLength + position, _buffer.AsSpan(pieces.SourceLength + place, length));
            return row;
        }

        /// <summary>The source row of a term, to be fetched while the one before it is read; nothing where rows are read nearly in order, which the processor foresees.</summary>
        public readonly Ahead Next(int term)
        {
            if (!Ahead.IsSupported || _pieces.Pieces.Length < ManyPieces || term >= _window.Rows.Terms.Length || _window.Rows.Terms[term].Source < 0)
                return default;
            int width = _window.SourceColumnEnd - _window.SourceColumnStart;
            int steps = _pieces.Indices is null ? _pieces.Pieces.Length : (_window.ColumnEnd - _window.ColumnStart) / Ahead.Step;
            return new Ahead(MemoryMarshal.AsBytes(_source.Slice((int)_window.Rows.Terms[term].Source * width, width)), steps);
        }

        /// <summary>Elements of the window's source columns, under the map's columns.</summary>
        public readonly Row<T> Of(ReadOnlySpan<T> source, ColumnPieces pieces, double weight)
        {
            var row = new Row<T> { Pieces = pieces, Weight = weight, Source = source, Start = _window.SourceColumnStart, Nothing = Nothing(weight) };
            if (pieces.DrawnLength == 0 && !pieces.ReadsBehindSource)
                return row;
            int behind = pieces.SourceLength + pieces.DrawnLength;
            ReadOnlySpan<T> drawn = _buffer.AsSpan(pieces.SourceLength, pieces.DrawnLength);
            if (pieces.Indices is null)
                return row with { Drawn = drawn };
            source.CopyTo(_buffer.AsSpan(_window.SourceColumnStart));
            _buffer[behind] = row.Nothing;
            return row with { Source = _buffer, Start = 0, Drawn = drawn };
        }

        private readonly void Draw(long position, Span<T> elements)
        {
            KernelFill fill = _window.Map.Fill;
            ElementFormat format = _window.Map.Format;
            if (format.Size() == Unsafe.SizeOf<T>())
            {
                fill.Write(format, position, MemoryMarshal.AsBytes(elements));
                return;
            }

            byte[] halves = ArrayPool<byte>.Shared.Rent(2 * elements.Length);
            fill.Write(format, position, halves.AsSpan(0, 2 * elements.Length));
            FloatConversion.WidenToSingle(format, halves.AsSpan(0, 2 * elements.Length), MemoryMarshal.Cast<T, float>(elements));
            ArrayPool<byte>.Shared.Return(halves);
        }

        private readonly T Nothing(double weight) =>
            _window.Map.IsPick || _window.Map.SourcePieces is not null ? default
            : typeof(T) == typeof(double) ? (T)(object)double.CopySign(1, weight)
            : (T)(object)float.CopySign(1, (float)double.Sign(double.CopySign(1, weight)));
    }
}
