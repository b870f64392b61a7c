using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OnnxMorph.Kernels;

/// <summary>Takes the elements of a row that <see cref="ColumnPieces.Indices"/> name, where columns are walked one by one.</summary>
internal static class ColumnGather
{
    /// <summary>
    /// What the columns from <paramref name="start"/> on read. Elements are not checked one by one: the map checked every
    /// source against its axis, and the window found its source columns as the range of the same indices.
    /// </summary>
    /// <param name="row">Elements of the row from <paramref name="shift"/> on.</param>
    /// <param name="shift">Column of the first element.</param>
    /// <param name="columns">The element that each column reads.</param>
    /// <param name="start">The first column.</param>
    /// <param name="target">Receives the elements.</param>
    /// <param name="ahead">What is fetched meanwhile.</param>
    public static void Gather<T>(ReadOnlySpan<T> row, int shift, ColumnIndices columns, int start, Span<T> target, ref Ahead ahead)
        where T : unmanaged
    {
        ReadOnlySpan<int> indices = columns.Elements.AsSpan(start, target.Length);
        if (columns.Windows is not { } windows)
        {
            Single(row, shift, indices, target, ref ahead);
            return;
        }

        // Whole vectors between the first columns and the last.
        int first = Math.Min(target.Length, (ColumnWindows.Width - start % ColumnWindows.Width) % ColumnWindows.Width);
        int count = (target.Length - first) / ColumnWindows.Width * ColumnWindows.Width;
        ReadOnlySpan<int> distances = windows.Distances.AsSpan(start, target.Length);
        Present(row, shift, distances[..first], indices[..first], target[..first]);
        Windowed(row, shift, windows.Starts.AsSpan((start + first) / ColumnWindows.Width), distances.Slice(first, count), indices.Slice(first, count), target.Slice(first, count), ref ahead);
        Present(row, shift, distances[(first + count)..], indices[(first + count)..], target[(first + count)..]);
    }

    /// <inheritdoc cref="Gather{T}(ReadOnlySpan{T}, int, ColumnIndices, int, Span{T}, ref Ahead)"/>
    public static void Gather<T>(ReadOnlySpan<T> row, int shift, ColumnIndices columns, int start, Span<T> target)
        where T : unmanaged
    {
        Ahead nothing = default;
        Gather(row, shift, columns, start, target, ref nothing);
    }

    /// <summary>
    /// target = weight · weights · elements, summed over the two terms of columns, as <see cref="VectorSums"/> computes them, without a place for the
    /// elements in between.
    /// </summary>
    /// <param name="row">Elements of the row from <paramref name="shift"/> on.</param>
    /// <param name="shift">Column of the first element.</param>
    /// <param name="pieces">The columns.</param>
    /// <param name="start">The first column.</param>
    /// <param name="weight">The row's weight.</param>
    /// <param name="target">Receives the sums.</param>
    /// <param name="next">Elements from the row to the one that is summed behind it, which is fetched meanwhile.</param>
    /// <returns>How many columns it has computed; the rest, or all, have no windows that it can take.</returns>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public static int Combine(ReadOnlySpan<float> row, int shift, ColumnPieces pieces, int start, double weight, Span<float> target, nint next)
    {
        if (start % ColumnWindows.Width != 0 || pieces.Indices is not [{ Windows: { } windows } first, { Windows: { } others } second])
            return 0;
        int count = target.Length / ColumnWindows.Width * ColumnWindows.Width;
        ReadOnlySpan<double> factors = pieces.Weights[0].AsSpan(start, count), otherFactors = pieces.Weights[1].AsSpan(start, count);
        for (int i = 0; i < count;)
        {
            i = weight == 1
                ? CombineWindows<Plain>(row, shift, windows, others, factors, otherFactors, start, weight, target[..count], i, next)
                : CombineWindows<Scaled>(row, shift, windows, others, factors, otherFactors, start, weight, target[..count], i, next);
            // The elements of one vector lie apart, or the row that is at hand ends within them.
            for (int end = Math.Min(i + ColumnWindows.Width, count); i < end; i++)
            {
                double element = row[first.Elements[start + i] - shift], other = row[second.Elements[start + i] - shift];
                target[i] = NearestRounding.Round((weight * factors[i] * element) + (weight * otherFactors[i] * other));
            }
        }

        return count;
    }

    /// <summary>Computes vectors of columns from number <paramref name="i"/> on; gives the number of the first that it cannot. Without calls, so that all stays in registers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static unsafe int CombineWindows<TRow>(
        ReadOnlySpan<float> row, int shift, ColumnWindows windows, ColumnWindows others, ReadOnlySpan<double> factors, ReadOnlySpan<double> otherFactors,
        int start, double weight, Span<float> target, int i, nint next)
        where TRow : struct
    {
        ref float origin = ref MemoryMarshal.GetReference(row), first = ref MemoryMarshal.GetReference(target);
        ref double left = ref MemoryMarshal.GetReference(factors), right = ref MemoryMarshal.GetReference(otherFactors);
        ref int distances = ref windows.Distances[start], otherDistances = ref others.Distances[start];
        ref int window = ref windows.Starts[(start + i) / ColumnWindows.Width], otherWindow = ref others.Starts[(start + i) / ColumnWindows.Width];
        uint last = (uint)Math.Max(0, row.Length - ColumnWindows.Width + 1);
        Vector256<double> factor = Vector256.Create(weight);
        for (; i < target.Length; i += ColumnWindows.Width)
        {
            // Columns apart have a negative start.
            int from = window - shift, otherFrom = otherWindow - shift;
            if ((uint)from >= last || (uint)otherFrom >= last)
                break;
            window = ref Unsafe.Add(ref window, 1);
            otherWindow = ref Unsafe.Add(ref otherWindow, 1);
            Sse.Prefetch0(Unsafe.AsPointer(ref Unsafe.Add(ref origin, from + next)));
            (Vector256<double> low, Vector256<double> high) = Vector256.Widen(
                Avx2.PermuteVar8x32(Vector256.LoadUnsafe(ref origin, (nuint)from), Vector256.LoadUnsafe(ref distances, (nuint)i)));
            (Vector256<double> otherLow, Vector256<double> otherHigh) = Vector256.Widen(
                Avx2.PermuteVar8x32(Vector256.LoadUnsafe(ref origin, (nuint)otherFrom), Vector256.LoadUnsafe(ref otherDistances, (nuint)i)));
            low = (Weights(ref left, i, factor) * low) + (Weights(ref right, i, factor) * otherLow);
            high = (Weights(ref left, i + 4, factor) * high) + (Weights(ref right, i + 4, factor) * otherHigh);
            FloatConversion.Canonical(Vector256.Narrow(low, high)).StoreUnsafe(ref first, (nuint)i);
        }

        return i;

        static Vector256<double> Weights(ref double weights, int at, Vector256<double> factor)
        {
            Vector256<double> columns = Vector256.LoadUnsafe(ref weights, (nuint)at);
            return typeof(TRow) == typeof(Plain) ? columns : factor * columns;
        }
    }

    /// <summary>A row of weight 1, as most are.</summary>
    private readonly struct Plain;

    /// <summary>A row of another weight.</summary>
    private readonly struct Scaled;

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static unsafe void Single<T>(ReadOnlySpan<T> row, int shift, ReadOnlySpan<int> indices, Span<T> target, ref Ahead ahead)
        where T : unmanaged
    {
        Ahead next = ahead;
        fixed (T* origin = row, first = target)
        fixed (int* index = indices)
        {
            T* source = origin - shift;
            int i = 0;
            for (; i <= indices.Length - Ahead.Step; i += Ahead.Step)
            {
                next.Fetch();
                // Four at a time, their indices two by two, and taken before any is stored: the compiler cannot know that stores change no index.
                for (int j = i; j < i + Ahead.Step; j += 4)
                {
                    ulong low = *(ulong*)(index + j), high = *(ulong*)(index + j + 2);
                    if (sizeof(T) == sizeof(uint))
                    {
                        // Stored two by two as well.
                        uint* words = (uint*)source;
                        ulong head = words[(uint)low] | ((ulong)words[low >> 32] << 32), tail = words[(uint)high] | ((ulong)words[high >> 32] << 32);
                        *(ulong*)(first + j) = head;
                        *(ulong*)(first + j + 2) = tail;
                        continue;
                    }

                    T a = source[(uint)low], b = source[low >> 32], c = source[(uint)high], d = source[high >> 32];
                    first[j] = a;
                    first[j + 1] = b;
                    first[j + 2] = c;
                    first[j + 3] = d;
                }
            }

            for (; i < indices.Length; i++)
                first[i] = source[index[i]];
        }

        ahead = next;
    }

    /// <summary>Eight columns at a time, as one vector in another order where they read within eight elements.</summary>
    private static void Windowed<T>(
        ReadOnlySpan<T> row, int shift, ReadOnlySpan<int> starts, ReadOnlySpan<int> distances, ReadOnlySpan<int> indices, Span<T> target, ref Ahead ahead)
        where T : unmanaged
    {
        for (int i = 0; i < target.Length;)
        {
            i = Permute(row, shift, starts, distances, target, ref ahead, i);
            // The elements of one vector lie apart, or the row that is at hand ends within them.
            int count = Math.Min(ColumnWindows.Width, target.Length - i);
            Present(row, shift, distances.Slice(i, count), indices.Slice(i, count), target.Slice(i, count));
            i += count;
        }
    }

    /// <summary>Moves vectors of columns from number <paramref name="i"/> on; gives the number of the first that it cannot. Without calls, so that all stays in registers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static int Permute<T>(ReadOnlySpan<T> row, int shift, ReadOnlySpan<int> starts, ReadOnlySpan<int> distances, Span<T> target, ref Ahead ahead, int i)
        where T : unmanaged
    {
        ref int origin = ref Unsafe.As<T, int>(ref MemoryMarshal.GetReference(row)), first = ref Unsafe.As<T, int>(ref MemoryMarshal.GetReference(target));
        ref int distance = ref MemoryMarshal.GetReference(distances), window = ref Unsafe.Add(ref MemoryMarshal.GetReference(starts), i / ColumnWindows.Width);
        uint last = (uint)Math.Max(0, row.Length - ColumnWindows.Width + 1);
        Ahead next = ahead;
        for (; i < target.Length; i += ColumnWindows.Width)
        {
            // Columns apart have a negative start.
            int from = window - shift;
            if ((uint)from >= last)
                break;
            window = ref Unsafe.Add(ref window, 1);
            if (i % Ahead.Step == 0)
                next.Fetch();
            Vector256<int> permutation = Vector256.LoadUnsafe(ref distance, (nuint)i);
            Vector256<int> elements = Avx2.PermuteVar8x32(Vector256.LoadUnsafe(ref origin, (nuint)from), permutation);
            Vector256.AndNot(elements, Vector256.ShiftRightArithmetic(permutation, 31)).StoreUnsafe(ref first, (nuint)i);
        }

        ahead = next;
        return i;
    }

    /// <summary>One by one, where some may be missing.</summary>
    private static void Present<T>(ReadOnlySpan<T> row, int shift, ReadOnlySpan<int> distances, ReadOnlySpan<int> indices, Span<T> target)
        where T : unmanaged
    {
        for (int i = 0; i < target.Length; i++)
            target[i] = distances[i] == ColumnWindows.Missing ? default : row[indices[i] - shift];
    }
}

/// <summary>The element that each column reads, where columns are walked one by one.</summary>
/// <param name="Elements">Their numbers; <see cref="ColumnWindows.Missing"/> for a column that is moved and has none.</param>
/// <param name="Windows">How to take several at a time; null where they lie apart, or the processor cannot.</param>
internal sealed record ColumnIndices(int[] Elements, ColumnWindows? Windows)
{
    /// <summary>Finds the windows of <paramref name="elements"/>, the elements of a row of <paramref name="length"/>, where enough columns have some to be worth it.</summary>
    public static ColumnIndices Of(int[] elements, int length)
    {
        var windows = ColumnWindows.Find(elements, length);
        return new ColumnIndices(elements, windows.Share >= 0.5 || elements.Contains(ColumnWindows.Missing) ? windows : null);
    }
}

/// <summary>Columns that are walked one by one, eight at a time: where each eight read within eight elements, and which of those.</summary>
/// <param name="Starts">For each eight columns the first of the elements; <see cref="Apart"/> where they lie further apart.</param>
/// <param name="Distances">For each column its distance from there, or <see cref="Missing"/>.</param>
internal sealed record ColumnWindows(int[] Starts, int[] Distances)
{
    /// <summary>Columns, and elements that they read within.</summary>
    public const int Width = 8;

    /// <summary>The distance of a column that has no element and is zero.</summary>
    public const int Missing = -1;

    /// <summary>The start of columns that have no window.</summary>
    public const int Apart = -1;

    /// <summary>Share of the columns that have windows.</summary>
    public double Share => Starts.Length == 0 ? 1 : Starts.Count(start => start != Apart) / (double)Starts.Length;

    /// <summary>Whether the processor brings eight elements of so many bytes into another order at once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public static bool AreFast(int elementSize) => elementSize == sizeof(float) && Avx2.IsSupported;

    /// <summary>Finds the windows of columns.</summary>
    /// <param name="indices">The element that each column reads; negative where it reads none.</param>
    /// <param name="length">Elements of the row.</param>
    public static ColumnWindows Find(ReadOnlySpan<int> indices, int length)
    {
        int[] starts = new int[(indices.Length + Width - 1) / Width], distances = new int[indices.Length];
        for (int i = 0; i < indices.Length; i += Width)
        {
            ReadOnlySpan<int> columns = indices[i..Math.Min(i + Width, indices.Length)];
            (int low, int high) = (int.MaxValue, 0);
            foreach (int index in columns)
            {
                if (index >= 0)
                    (low, high) = (Math.Min(low, index), Math.Max(high, index));
            }

            // The window must not end behind the row.
            low = Math.Max(0, Math.Min(low, length - Width));
            starts[i / Width] = high - low < Width && length >= Width ? low : Apart;
            for (int j = 0; j < columns.Length; j++)
                distances[i + j] = columns[j] < 0 ? Missing : Math.Max(0, columns[j] - low);
        }

        return new ColumnWindows(starts, distances);
    }
}

/// <summary>
/// What is fetched from memory while something else is computed. The processor foresees no elements that are chosen one by one, and a row
/// fetched at once would drive the one out that is being read.
/// </summary>
internal unsafe struct Ahead
{
    /// <summary>Columns after which the next lines are fetched.</summary>
    public const int Step = 16;

    /// <summary>Bytes that the processor fetches at a time.</summary>
    private const int Line = 64;

    /// <summary>Whether the processor can be asked to.</summary>
    public static bool IsSupported => Sse.IsSupported;

    /// <summary>Parts of a line that steps count in. Four fields in all: the compiler keeps structures of more in memory.</summary>
    private const int Unit = 256;

    private readonly byte* _end;
    private readonly int _rate;
    private byte* _at;
    private int _due;

    /// <summary>Fetches <paramref name="bytes"/> within <paramref name="steps"/> calls.</summary>
    public Ahead(ReadOnlySpan<byte> bytes, int steps)
    {
        // Not pinned: fetching what has moved is without effect.
        _at = (byte*)Unsafe.AsPointer(ref MemoryMarshal.GetReference(bytes));
        _end = _at + bytes.Length;
        _rate = (int)Math.Min(int.MaxValue / 2, (long)((bytes.Length / Line) + 1) * Unit / Math.Max(1, steps) + 1);
    }

    /// <summary>Fetches the next part.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    public void Fetch()
    {
        for (_due += _rate; _due >= Unit && _at < _end; _due -= Unit, _at += Line)
            Sse.Prefetch0(_at);
    }
}
