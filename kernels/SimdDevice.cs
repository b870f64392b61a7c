using System.Buffers;
using System.Numerics;
using System.Numerics.Tensors;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

namespace OnnxMorph.Kernels;

/// <summary>The kernels on the processor: block moves and <see cref="Vector{T}"/>; parallelism is the caller's, by windows.</summary>
internal sealed class SimdDevice : KernelDevice
{
    /// <summary>Columns that are summed at a time; their sums stay in the first-level cache.</summary>
    private const int Tile = 2048;

    /// <summary>The same where columns are drawn: columns that draw the same positions are best summed together.</summary>
    private const int DrawnTile = 16384;

    public override string Name => $"cpu ({Vector<byte>.Count * 8}-bit vectors)";

    public override void Map(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        window.Check(source.Length, output.Length);
        if (output.IsEmpty)
            return;
        if (window.Map.IsPick)
            Pick(window, source, output);
        else
            Scale(window, source, output);
    }

    private static void Pick(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        int size = window.Map.Format.Size();
        int sourceBytes = (window.SourceColumnEnd - window.SourceColumnStart) * size;
        int outputBytes = (window.ColumnEnd - window.ColumnStart) * size;
        for (int row = 0; row < window.Rows.Count; row++)
        {
            Span<byte> target = output.Slice(row * outputBytes, outputBytes);
            int first = window.Rows.Starts[row];
            if (first == window.Rows.Starts[row + 1] || window.Map.Layers.Length == 0)
            {
                target.Clear();
                continue;
            }

            Term term = window.Rows.Terms[first];
            ReadOnlySpan<byte> origin = term.Source < 0 ? default : source.Slice((int)term.Source * sourceBytes, sourceBytes);
            switch (size)
            {
                case 1: PickRow<byte>(window, term, origin, target); break;
                case 2: PickRow<ushort>(window, term, origin, target); break;
                case 4: PickRow<uint>(window, term, origin, target); break;
                case 8: PickRow<ulong>(window, term, origin, target); break;
                default: PickRow<UInt128>(window, term, origin, target); break;
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PickRow<T>(MapWindow window, Term term, ReadOnlySpan<byte> sourceBytes, Span<byte> targetBytes)
        where T : unmanaged
    {
        ReadOnlySpan<T> source = MemoryMarshal.Cast<byte, T>(sourceBytes);
        Span<T> target = MemoryMarshal.Cast<byte, T>(targetBytes);
        TensorMap map = window.Map;
        ColumnLayer layer = map.Layers[0];
        if (layer.Entries is { } entries)
        {
            PickEntries(window, entries, source, target);
            return;
        }

        int written = window.ColumnStart;
        foreach (Segment segment in layer.Clip(window.ColumnStart, window.ColumnEnd))
        {
            if (segment.Target > written)
                target[(written - window.ColumnStart)..(segment.Target - window.ColumnStart)].Clear();
            Span<T> part = target.Slice(segment.Target - window.ColumnStart, segment.Length);
            if (segment.Source >= 0 && term.Source >= 0)
                source.Slice(segment.Source - window.SourceColumnStart, segment.Length).CopyTo(part);
            else
                map.Fill.Write(map.Format, term.Position * map.ExtendedRowLength + segment.Position, MemoryMarshal.AsBytes(part));
            written = segment.End;
        }

        target[(written - window.ColumnStart)..].Clear();
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void PickEntries<T>(MapWindow window, ColumnEntries entries, ReadOnlySpan<T> source, Span<T> target)
        where T : unmanaged
    {
        (int start, int end) = entries.Range(window.ColumnStart, window.ColumnEnd);
        ReadOnlySpan<int> sources = entries.Sources.AsSpan(start, end - start);
        if (sources.Length == target.Length)
        {
            Gather(source, window.SourceColumnStart, sources, target);
            return;
        }

        // Checked where the window was made: targets and sources lie inside it.
        target.Clear();
        ref T origin = ref MemoryMarshal.GetReference(source);
        ref T first = ref MemoryMarshal.GetReference(target);
        ReadOnlySpan<int> columns = entries.Targets.AsSpan(start, end - start);
        for (int i = 0; i < columns.Length; i++)
            Unsafe.Add(ref first, columns[i] - window.ColumnStart) = Unsafe.Add(ref origin, sources[i] - window.SourceColumnStart);
    }

    /// <summary>
    /// The elements of a source row that the entries name. Not checked one by one: the map checked every source against
    /// its axis, and the window found its source columns as the range of the same entries.
    /// </summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Gather<T>(ReadOnlySpan<T> source, int shift, ReadOnlySpan<int> sources, Span<T> target)
        where T : unmanaged
    {
        ref T origin = ref MemoryMarshal.GetReference(source);
        for (int i = 0; i < target.Length; i++)
            target[i] = Unsafe.Add(ref origin, sources[i] - shift);
    }

    private static void Scale(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        switch (window.Map.Format)
        {
            case ElementFormat.Float16: Scale<ushort, Float16Format>(window, source, output); break;
            case ElementFormat.BFloat16: Scale<ushort, BFloat16Format>(window, source, output); break;
            case ElementFormat.Float32: Scale<float, Float32Format>(window, source, output); break;
            default: Scale<double, Float64Format>(window, source, output); break;
        }
    }

    private static void Scale<T, TFormat>(MapWindow window, ReadOnlySpan<byte> sourceBytes, Span<byte> outputBytes)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        ReadOnlySpan<T> source = MemoryMarshal.Cast<byte, T>(sourceBytes);
        Span<T> output = MemoryMarshal.Cast<byte, T>(outputBytes);
        int tileLength = window.Map.HasFresh ? DrawnTile : Tile;
        double[] sums = ArrayPool<double>.Shared.Rent(tileLength);
        double[] values = ArrayPool<double>.Shared.Rent(tileLength);
        T[] gathered = ArrayPool<T>.Shared.Rent(tileLength);
        int width = window.ColumnEnd - window.ColumnStart;
        int sourceWidth = window.SourceColumnEnd - window.SourceColumnStart;
        double[] draws = ArrayPool<double>.Shared.Rent(window.Map.Layers.Select(layer => layer.Entries?.Drawn?.Count ?? 0).Append(0).Max());
        T[] summed = ArrayPool<T>.Shared.Rent(window.Map.CopiesColumns ? sourceWidth : 0);
        for (int row = 0; row < window.Rows.Count; row++)
        {
            Span<T> target = output.Slice(row * width, width);
            if (window.Map.CopiesColumns)
            {
                Span<T> whole = summed.AsSpan(0, sourceWidth);
                for (int start = 0; start < sourceWidth; start += tileLength)
                {
                    Span<T> part = whole.Slice(start, Math.Min(tileLength, sourceWidth - start));
                    Span<double> tile = sums.AsSpan(0, part.Length);
                    SumSource<T, TFormat>(window, row, start, source, tile, values);
                    FloatConversion.Round(window.Map.Format, tile, MemoryMarshal.AsBytes(part));
                }

                PickRow<T>(window, default, MemoryMarshal.AsBytes(whole), MemoryMarshal.AsBytes(target));
                continue;
            }

            if (typeof(T) == typeof(float) && TryScaleSingles(
                window, row, MemoryMarshal.Cast<byte, float>(sourceBytes), MemoryMarshal.Cast<T, float>(target)))
                continue;
            for (int start = 0; start < width; start += tileLength)
            {
                int length = Math.Min(tileLength, width - start);
                Span<double> tile = sums.AsSpan(0, length);
                SumTile<T, TFormat>(window, row, window.ColumnStart + start, source, tile, values, gathered, draws);
                FloatConversion.Round(window.Map.Format, tile, MemoryMarshal.AsBytes(target.Slice(start, length)));
            }
        }

        ArrayPool<double>.Shared.Return(sums);
        ArrayPool<double>.Shared.Return(values);
        ArrayPool<T>.Shared.Return(gathered);
        ArrayPool<double>.Shared.Return(draws);
        ArrayPool<T>.Shared.Return(summed);
    }

    /// <summary>The most common scaling, one term an element in blocks, in one pass; the operations are those of the general way.</summary>
    private static bool TryScaleSingles(MapWindow window, int row, ReadOnlySpan<float> source, Span<float> target)
    {
        int first = window.Rows.Starts[row];
        if (window.Rows.Starts[row + 1] != first + 1 || window.Map.HasFresh || window.Map.Layers is not [{ Entries: null } layer])
            return false;
        Term term = window.Rows.Terms[first];
        int sourceWidth = window.SourceColumnEnd - window.SourceColumnStart;
        ReadOnlySpan<float> origin = source.Slice((int)term.Source * sourceWidth, sourceWidth);
        int written = window.ColumnStart;
        foreach (Segment segment in layer.Clip(window.ColumnStart, window.ColumnEnd))
        {
            target[(written - window.ColumnStart)..(segment.Target - window.ColumnStart)].Clear();
            FloatConversion.Scale(
                origin.Slice(segment.Source - window.SourceColumnStart, segment.Length), term.Weight * segment.Weight,
                target.Slice(segment.Target - window.ColumnStart, segment.Length));
            written = segment.End;
        }

        target[(written - window.ColumnStart)..].Clear();
        return true;
    }

    /// <summary>Sums the terms of a row over the source columns from <paramref name="start"/> on, before columns are copied.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SumSource<T, TFormat>(
        MapWindow window, int row, int start, ReadOnlySpan<T> source, Span<double> sums, Span<double> values)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        TensorMap map = window.Map;
        int sourceWidth = window.SourceColumnEnd - window.SourceColumnStart;
        if (window.Rows.Starts[row] == window.Rows.Starts[row + 1])
            sums.Clear();
        for (int r = window.Rows.Starts[row]; r < window.Rows.Starts[row + 1]; r++)
        {
            Term term = window.Rows.Terms[r];
            ReadOnlySpan<double> elements = term.Source >= 0
                ? FloatConversion.Widen<T, TFormat>(map.Format, source.Slice((int)term.Source * sourceWidth + start, sums.Length), values)
                : Fresh<T, TFormat>(map, term.Position * map.ExtendedRowLength + window.SourceColumnStart + start, values[..sums.Length]);
            if (r == window.Rows.Starts[row])
                VectorSums.Multiply(elements, term.Weight, sums);
            else
                VectorSums.MultiplyAdd(elements, term.Weight, sums);
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void SumTile<T, TFormat>(
        MapWindow window, int row, int columnStart, ReadOnlySpan<T> source, Span<double> sums, Span<double> values, Span<T> gathered,
        Span<double> draws)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        TensorMap map = window.Map;
        int sourceWidth = window.SourceColumnEnd - window.SourceColumnStart;
        int columnEnd = columnStart + sums.Length;

        // The first term is assigned rather than added to zero, which would turn −0 into +0.
        bool assign = true;
        sums.Clear();
        for (int r = window.Rows.Starts[row]; r < window.Rows.Starts[row + 1]; r++, assign = false)
        {
            Term term = window.Rows.Terms[r];
            ReadOnlySpan<T> origin = term.Source < 0 ? default : source.Slice((int)term.Source * sourceWidth, sourceWidth);
            DrawTile<T, TFormat>(map, term, columnStart, columnEnd, fresh: true, draws);
            if (term.Source < 0)
                DrawTile<T, TFormat>(map, term, columnStart, columnEnd, fresh: false, draws);
            foreach (ColumnLayer layer in map.Layers)
            {
                bool first = assign && layer.IsFirst;
                if (layer.Entries is { } entries)
                {
                    AddEntries<T, TFormat>(window, entries, term, columnStart, origin, sums, values, gathered, draws, first);
                    continue;
                }

                foreach (Segment segment in layer.Clip(columnStart, columnEnd))
                {
                    Span<double> part = sums.Slice(segment.Target - columnStart, segment.Length);
                    double weight = term.Weight * segment.Weight;
                    ReadOnlySpan<double> elements = segment.Source >= 0 && term.Source >= 0
                        ? FloatConversion.Widen<T, TFormat>(map.Format, origin.Slice(segment.Source - window.SourceColumnStart, segment.Length), values)
                        : Fresh<T, TFormat>(map, term.Position * map.ExtendedRowLength + segment.Position, values[..segment.Length]);
                    if (first)
                        VectorSums.Multiply(elements, weight, part);
                    else
                        VectorSums.MultiplyAdd(elements, weight, part);
                }
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddEntries<T, TFormat>(
        MapWindow window, ColumnEntries entries, Term row, int columnStart,
        ReadOnlySpan<T> source, Span<double> sums, Span<double> values, Span<T> gathered, ReadOnlySpan<double> draws, bool assign)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        (int start, int end) = entries.Range(columnStart, columnStart + sums.Length);
        if (start == end)
            return;
        ReadOnlySpan<int> columns = entries.Targets.AsSpan(start, end - start);
        ReadOnlySpan<double> weights = entries.Weights.AsSpan(start, end - start);
        ReadOnlySpan<double> elements;
        if (row.Source >= 0 && entries.Sources[start] >= 0)
        {
            Span<T> read = gathered[..columns.Length];
            Gather(source, window.SourceColumnStart, entries.Sources.AsSpan(start, end - start), read);
            elements = FloatConversion.Widen<T, TFormat>(window.Map.Format, read, values);
        }
        else
        {
            Gather(draws, 0, entries.Places.AsSpan(start, end - start), values[..columns.Length]);
            elements = values[..columns.Length];
        }

        if (columns.Length == sums.Length)
        {
            // Every column of the tile has an entry, so the entries are the columns.
            VectorSums.MultiplyAdd(elements, weights, row.Weight, sums, assign);
            return;
        }

        for (int i = 0; i < columns.Length; i++)
        {
            double product = row.Weight * weights[i] * elements[i];
            ref double sum = ref sums[columns[i] - columnStart];
            sum = assign ? product : sum + product;
        }
    }

    /// <summary>Draws for the entries of a tile at their places in <paramref name="draws"/>: for columns that are fresh, or for those that are not.</summary>
    private static void DrawTile<T, TFormat>(TensorMap map, Term row, int columnStart, int columnEnd, bool fresh, Span<double> draws)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        DrawnPositions? drawn = null;
        int low = int.MaxValue, high = 0;
        foreach (ColumnLayer layer in map.Layers)
        {
            if (layer.Draws != fresh || layer.Entries is not { Drawn: not null } entries)
                continue;
            (int start, int end) = entries.Range(columnStart, columnEnd);
            if (start == end)
                continue;
            ReadOnlySpan<int> places = entries.Places.AsSpan(start, end - start);
            drawn = entries.Drawn;
            low = Math.Min(low, TensorPrimitives.Min(places));
            high = Math.Max(high, TensorPrimitives.Max(places) + 1);
        }

        if (drawn is null)
            return;
        foreach ((long position, int place, int length) in drawn.Runs(low, high))
            Fresh<T, TFormat>(map, row.Position * map.ExtendedRowLength + position, draws.Slice(place, length));
    }

    /// <summary>Draws consecutive positions into <paramref name="values"/>.</summary>
    private static ReadOnlySpan<double> Fresh<T, TFormat>(TensorMap map, long position, Span<double> values)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        T[] elements = ArrayPool<T>.Shared.Rent(values.Length);
        Span<T> drawn = elements.AsSpan(0, values.Length);
        map.Fill.Write(map.Format, position, MemoryMarshal.AsBytes(drawn));
        ReadOnlySpan<double> result = FloatConversion.Widen<T, TFormat>(map.Format, drawn, values);
        if (typeof(T) == typeof(double))
        {
            result.CopyTo(values);
            result = values;
        }

        ArrayPool<T>.Shared.Return(elements);
        return result;
    }
}
