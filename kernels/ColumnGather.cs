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
    /// <param name="nothing">What stands for an element that is missing.</param>
    /// <param name="target">Receives the elements.</param>
    /// <param name="ahead">What is fetched meanwhile.</param>
    public static void Gather<T>(ReadOnlySpan<T> row, int shift, ColumnIndices columns, int start, T nothing, Span<T> target, ref Ahead ahead)
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
        Present(row, shift, distances[..first], indices[..first], nothing, target[..first]);
        Windowed(
            row, shift, windows.Starts.AsSpan((start + first) / ColumnWindows.Width), distances.Slice(first, count), indices.Slice(first, count), nothing,
            target.Slice(first, count), ref ahead);
        Present(row, shift, distances[(first + count)..], indices[(first + count)..], nothing, target[(first + count)..]);
    }

    /// <inheritdoc cref="Gather{T}(ReadOnlySpan{T}, int, ColumnIndices, int, T, Span{T}, ref Ahead)"/>
    public static void Gather<T>(ReadOnlySpan<T> row, int shift, ColumnIndices columns, int start, T nothing, Span<T> target)
        where T : unmanaged
    {
        Ahead ahead = default;
        Gather(row, shift, columns, start, nothing, target, ref ahead);
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
    /// <param name="nothing">What stands for an element that is missing.</param>
    /// <param name="target">Receives the sums.</param>
    /// <param name="next">Elements from the row to the one that is summed behind it, which is fetched meanwhile.</param>
    /// <returns>How many columns it has computed; it takes whole vectors of columns that have windows.</returns>
    public static int Combine(ReadOnlySpan<float> row, int shift, ColumnPieces pieces, int start, double weight, float nothing, Span<float> target, nint next)
    {
        if (start % ColumnWindows.Width != 0 || pieces.Indices is not [{ Windows: { } windows } first, { Windows: { } others } second])
            return 0;
        int count = target.Length / ColumnWindows.Width * ColumnWindows.Width;
        var combination = new Combination
        {
            Row = row,
            Shift = shift,
            Windows = windows.Starts.AsSpan(start / ColumnWindows.Width),
            OtherWindows = others.Starts.AsSpan(start / ColumnWindows.Width),
            Distances = windows.Distances.AsSpan(start, count),
            OtherDistances = others.Distances.AsSpan(start, count),
            Elements = first.Elements.AsSpan(start, count),
            OtherElements = second.Elements.AsSpan(start, count),
            Factors = pieces.Weights[0].AsSpan(start, count),
            OtherFactors = pieces.Weights[1].AsSpan(start, count),
            Weight = weight,
            Nothing = nothing,
            Target = target[..count],
            Next = next,
        };
        if (weight == 1)
            combination.Run<Plain>();
        else
            combination.Run<Scaled>();
        return count;
    }

    /// <summary>Sums of two terms of columns, whole vectors of them; the parameters of <see cref="Combine"/>, and for each column those of its two terms.</summary>
    private readonly ref struct Combination
    {
        public required ReadOnlySpan<float> Row { get; init; }

        public required int Shift { get; init; }

        public required ReadOnlySpan<int> Windows { get; init; }

        public required ReadOnlySpan<int> OtherWindows { get; init; }

        public required ReadOnlySpan<int> Distances { get; init; }

        public required ReadOnlySpan<int> OtherDistances { get; init; }

        public required ReadOnlySpan<int> Elements { get; init; }

        public required ReadOnlySpan<int> OtherElements { get; init; }

        public required ReadOnlySpan<double> Factors { get; init; }

        public required ReadOnlySpan<double> OtherFactors { get; init; }

        public required double Weight { get; init; }

        public required float Nothing { get; init; }

        public required Span<float> Target { get; init; }

        public required nint Next { get; init; }

        public void Run<TRow>()
            where TRow : struct
        {
            for (int i = 0; i < Target.Length;)
                i = TakeApart<TRow>(TakeWindows<TRow>(i));
        }

        /// <summary>Sums from column <paramref name="i"/> on while both terms have windows; gives the first column that it leaves. Without calls, so that all stays in registers.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private unsafe int TakeWindows<TRow>(int i)
            where TRow : struct
        {
            ref float origin = ref MemoryMarshal.GetReference(Row), target = ref MemoryMarshal.GetReference(Target);
            ref int distances = ref MemoryMarshal.GetReference(Distances), otherDistances = ref MemoryMarshal.GetReference(OtherDistances);
            ref int window = ref Unsafe.Add(ref MemoryMarshal.GetReference(Windows), i / ColumnWindows.Width);
            ref int otherWindow = ref Unsafe.Add(ref MemoryMarshal.GetReference(OtherWindows), i / ColumnWindows.Width);
            ref double factors = ref MemoryMarshal.GetReference(Factors), otherFactors = ref MemoryMarshal.GetReference(OtherFactors);
            (int shift, nint next, double weight) = (Shift, Next, Weight);
            uint last = LastWindow;
            int end = Target.Length;
            Vector256<float> nothing = Vector256.Create(Nothing);
            for (; i < end; i += ColumnWindows.Width)
            {
                int from = window - shift, otherFrom = otherWindow - shift;
                if ((uint)from >= last || (uint)otherFrom >= last)
                    break;
                window = ref Unsafe.Add(ref window, 1);
                otherWindow = ref Unsafe.Add(ref otherWindow, 1);
                Sse.Prefetch0(Unsafe.AsPointer(ref Unsafe.Add(ref origin, from + next)));
                Sum<TRow>(
                    Permuted(ref Unsafe.Add(ref origin, from), ref Unsafe.Add(ref distances, i), nothing), ref Unsafe.Add(ref factors, i),
                    Permuted(ref Unsafe.Add(ref origin, otherFrom), ref Unsafe.Add(ref otherDistances, i), nothing), ref Unsafe.Add(ref otherFactors, i),
                    weight).StoreUnsafe(ref target, (nuint)i);
            }

            return i;
        }

        /// <summary>Sums from column <paramref name="i"/> on while a term has no window, or one that ends behind the row that is at hand; gives the first column that it leaves.</summary>
        [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
        private unsafe int TakeApart<TRow>(int i)
            where TRow : struct
        {
            ref double factors = ref MemoryMarshal.GetReference(Factors), otherFactors = ref MemoryMarshal.GetReference(OtherFactors);
            uint last = LastWindow;
            float nothing = Nothing;
            fixed (float* row = Row)
            fixed (int* elements = Elements, otherElements = OtherElements)
            {
                float* origin = row - Shift;
                for (; i < Target.Length; i += ColumnWindows.Width)
                {
                    int from = Windows[i / ColumnWindows.Width] - Shift, otherFrom = OtherWindows[i / ColumnWindows.Width] - Shift;
                    if ((uint)from < last && (uint)otherFrom < last)
                        break;
                    Sum<TRow>(
                        Gathered(origin, elements + i, nothing), ref Unsafe.Add(ref factors, i),
                        Gathered(origin, otherElements + i, nothing), ref Unsafe.Add(ref otherFactors, i),
                        Weight).CopyTo(Target[i..]);
                }
            }

            return i;
        }

        /// <summary>Windows start before this element of the row that is at hand.</summary>
        private uint LastWindow => (uint)Math.Max(0, Row.Length - ColumnWindows.Width + 1);
    }

    /// <summary>(weight · factors) · elements + (weight · otherFactors) · others, rounded once.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Sum<TRow>(Vector256<float> elements, ref double factors, Vector256<float> others, ref double otherFactors, double weight)
        where TRow : struct
    {
        if (Vector512.IsHardwareAccelerated)
        {
            Vector512<double> sums = Weights(ref factors) * Avx512F.ConvertToVector512Double(elements) + Weights(ref otherFactors) * Avx512F.ConvertToVector512Double(others);
            return FloatConversion.Canonical(Avx512F.ConvertToVector256Single(sums));
        }

        (Vector256<double> low, Vector256<double> high) = Vector256.Widen(elements);
        (Vector256<double> otherLow, Vector256<double> otherHigh) = Vector256.Widen(others);
        return FloatConversion.Canonical(Vector256.Narrow(
            HalfWeights(ref factors) * low + HalfWeights(ref otherFactors) * otherLow,
            HalfWeights(ref Unsafe.Add(ref factors, 4)) * high + HalfWeights(ref Unsafe.Add(ref otherFactors, 4)) * otherHigh));

        Vector512<double> Weights(ref double weights)
        {
            Vector512<double> columns = Vector512.LoadUnsafe(ref weights);
            return typeof(TRow) == typeof(Plain) ? columns : Vector512.Create(weight) * columns;
        }

        Vector256<double> HalfWeights(ref double weights)
        {
            Vector256<double> columns = Vector256.LoadUnsafe(ref weights);
            return typeof(TRow) == typeof(Plain) ? columns : Vector256.Create(weight) * columns;
        }
    }

    /// <summary>Eight columns that read within eight elements, of which those with a negative distance are missing.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector256<float> Permuted(ref float window, ref int distances, Vector256<float> nothing)
    {
        Vector256<int> permutation = Vector256.LoadUnsafe(ref distances);
        return Avx.BlendVariable(Avx2.PermuteVar8x32(Vector256.LoadUnsafe(ref window), permutation), nothing, permutation.AsSingle());
    }

    /// <summary>Eight columns that read anywhere, of which those with a negative element are missing. Processors gather no faster by themselves.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static unsafe Vector256<float> Gathered(float* origin, int* elements, float nothing)
    {
        return Vector256.Create(At(elements[0]), At(elements[1]), At(elements[2]), At(elements[3]), At(elements[4]), At(elements[5]), At(elements[6]), At(elements[7]));

        float At(int element) => element < 0 ? nothing : origin[(uint)element];
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
        ReadOnlySpan<T> row, int shift, ReadOnlySpan<int> starts, ReadOnlySpan<int> distances, ReadOnlySpan<int> indices, T nothing, Span<T> target,
        ref Ahead ahead)
        where T : unmanaged
    {
        for (int i = 0; i < target.Length;)
        {
            i = Permute(row, shift, starts, distances, nothing, target, ref ahead, i);
            // The elements of one vector lie apart, or the row that is at hand ends within them.
            int count = Math.Min(ColumnWindows.Width, target.Length - i);
            Present(row, shift, distances.Slice(i, count), indices.Slice(i, count), nothing, target.Slice(i, count));
            i += count;
        }
    }

    /// <summary>Moves vectors of columns from number <paramref name="i"/> on; gives the number of the first that it cannot. Without calls, so that all stays in registers.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization | MethodImplOptions.NoInlining)]
    private static int Permute<T>(
        ReadOnlySpan<T> row, int shift, ReadOnlySpan<int> starts, ReadOnlySpan<int> distances, T nothing, Span<T> target, ref Ahead ahead, int i)
        where T : unmanaged
    {
        ref float origin = ref Unsafe.As<T, float>(ref MemoryMarshal.GetReference(row)), first = ref Unsafe.As<T, float>(ref MemoryMarshal.GetReference(target));
        Vector256<float> absent = Vector256.Create(Unsafe.As<T, float>(ref nothing));
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
            Permuted(ref Unsafe.Add(ref origin, from), ref Unsafe.Add(ref distance, i), absent).StoreUnsafe(ref first, (nuint)i);
        }

        ahead = next;
        return i;
    }

    /// <summary>One by one, where some may be missing.</summary>
    private static void Present<T>(ReadOnlySpan<T> row, int shift, ReadOnlySpan<int> distances, ReadOnlySpan<int> indices, T nothing, Span<T> target)
        where T : unmanaged
    {
        for (int i = 0; i < target.Length; i++)
            target[i] = distances[i] == ColumnWindows.Missing ? nothing : row[indices[i] - shift];
    }
}

/// <summary>The element that each column reads, where columns are walked one by one.</summary>
/// <param name="Elements">Their numbers; <see cref="ColumnWindows.Missing"/> for a column that has none, where there are windows.</param>
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

    /// <summary>The distance of a column that has no element.</summary>
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
