using System.Buffers;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;

namespace OnnxMorph.Kernels;

/// <summary>
/// Sums of matrix products in float64, C += s·A·B or s·A·Bᵀ, on the machine's cores. Every element of C adds its products one after the
/// other with fused multiply-adds, so that neither the width of vectors nor the number of threads changes a bit.
/// </summary>
public static class MatrixProduct
{
    // A tile of C, 4 rows by 3 vectors, stays in registers while it sums over a block of B's rows. The block's columns are packed
    // tile by tile to be read in order, and as many rows of A as fit the second-level cache meet all of them.
    private const int TileRows = 4;
    private const int BlockRows = 64;
    private const int Depth = 256;

    private static readonly int s_tileColumns = 3 * (Vector512.IsHardwareAccelerated ? Vector512<double>.Count : Vector<double>.Count);

    // Products of fewer multiplications are not worth a second thread.
    private const long SerialWork = 1 << 18;

    /// <summary>Adds <paramref name="scale"/>·A·B to C.</summary>
    /// <param name="c">C, rows × columns.</param>
    /// <param name="a">A, rows × inner.</param>
    /// <param name="b">B, inner × columns.</param>
    /// <param name="scale">The factor s.</param>
    /// <exception cref="ArgumentException">The sizes do not fit.</exception>
    public static void Add(MatrixView c, MatrixView a, MatrixView b, double scale = 1) => Add(c, a, b, scale, transposed: false);

    /// <summary>Adds <paramref name="scale"/>·A·Bᵀ to C.</summary>
    /// <param name="c">C, rows × columns.</param>
    /// <param name="a">A, rows × inner.</param>
    /// <param name="b">B, columns × inner.</param>
    /// <param name="scale">The factor s.</param>
    /// <exception cref="ArgumentException">The sizes do not fit.</exception>
    public static void AddTransposed(MatrixView c, MatrixView a, MatrixView b, double scale = 1) => Add(c, a, b, scale, transposed: true);

    private static void Add(MatrixView c, MatrixView a, MatrixView b, double scale, bool transposed)
    {
        (int inner, int columns) = transposed ? (b.Columns, b.Rows) : (b.Rows, b.Columns);
        if (a.Rows != c.Rows || columns != c.Columns || a.Columns != inner)
            throw new ArgumentException($"{a.Rows}×{a.Columns} times {inner}×{columns} is not {c.Rows}×{c.Columns}.");
        int panels = (c.Columns + s_tileColumns - 1) / s_tileColumns, blocks = (c.Rows + BlockRows - 1) / BlockRows;
        bool parallel = (long)c.Rows * c.Columns * a.Columns >= SerialWork;
        double[] packed = ArrayPool<double>.Shared.Rent(panels * s_tileColumns * Math.Min(Depth, inner));
        for (int k = 0; k < inner; k += Depth)
        {
            int first = k, depth = Math.Min(Depth, inner - k);
            For(panels, parallel, panel => Pack(b, transposed, scale, first, depth, panel, packed.AsSpan(panel * s_tileColumns * depth, s_tileColumns * depth)));
            For(blocks, parallel, block => AddBlock(c, a, first, depth, block, packed));
        }

        ArrayPool<double>.Shared.Return(packed);
    }

    private static void For(int count, bool parallel, Action<int> body)
    {
        if (parallel)
            Parallel.For(0, count, body);
        else
            for (int i = 0; i < count; i++)
                body(i);
    }

    // The columns of one panel side by side, times the factor; columns beyond the last are zero.
    private static void Pack(MatrixView b, bool transposed, double scale, int firstRow, int depth, int panel, Span<double> packed)
    {
        int column = panel * s_tileColumns, width = Math.Min(s_tileColumns, (transposed ? b.Rows : b.Columns) - column);
        packed.Clear();
        if (transposed)
        {
            for (int i = 0; i < width; i++)
            {
                ReadOnlySpan<double> values = b.Row(column + i).Slice(firstRow, depth);
                for (int row = 0; row < values.Length; row++)
                    packed[row * s_tileColumns + i] = scale * values[row];
            }

            return;
        }

        for (int row = 0; row < depth; row++)
        {
            ReadOnlySpan<double> values = b.Row(firstRow + row).Slice(column, width);
            Span<double> target = packed.Slice(row * s_tileColumns, width);
            for (int i = 0; i < target.Length; i++)
                target[i] = scale * values[i];
        }
    }

    private static void AddBlock(MatrixView c, MatrixView a, int firstRow, int depth, int block, double[] packed)
    {
        int first = block * BlockRows, last = Math.Min(first + BlockRows, c.Rows);
        Span<double> edge = stackalloc double[TileRows * s_tileColumns];
        for (int column = 0; column < c.Columns; column += s_tileColumns)
        {
            int width = Math.Min(s_tileColumns, c.Columns - column);
            ReadOnlySpan<double> panel = packed.AsSpan(column * depth, s_tileColumns * depth);
            for (int row = first; row < last; row += TileRows)
            {
                int height = Math.Min(TileRows, last - row);
                ref double factors = ref a[row, firstRow];
                if (height == TileRows && width == s_tileColumns)
                {
                    AddTile(ref c[row, column], c.Stride, ref factors, a.Stride, panel, depth);
                    continue;
                }

                // At an edge the tile is one of its own, of which only what C has is copied back; rows that A has not are its last once more.
                MatrixView part = c.Part(row, column, height, width);
                for (int i = 0; i < height; i++)
                    part.Row(i).CopyTo(edge[(i * s_tileColumns)..]);
                AddTile(ref edge[0], s_tileColumns, ref factors, a.Stride, panel, depth, height);
                for (int i = 0; i < height; i++)
                    edge.Slice(i * s_tileColumns, width).CopyTo(part.Row(i));
            }
        }
    }

    // Adds to a tile, with as many rows of A as there are.
    private static void AddTile(ref double c, int strideC, ref double a, int strideA, ReadOnlySpan<double> packed, int depth, int rows = TileRows)
    {
        ref double a1 = ref Unsafe.Add(ref a, rows > 1 ? strideA : 0), a2 = ref Unsafe.Add(ref a1, rows > 2 ? strideA : 0);
        ref double a3 = ref Unsafe.Add(ref a2, rows > 3 ? strideA : 0);
        if (Vector512.IsHardwareAccelerated)
            AddTile<Vector512<double>, Widest>(ref c, strideC, ref a, ref a1, ref a2, ref a3, packed, depth);
        else
            AddTile<Vector<double>, Usual>(ref c, strideC, ref a, ref a1, ref a2, ref a3, packed, depth);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddTile<TVector, TLanes>(
        ref double c, int strideC, ref double a, ref double a1, ref double a2, ref double a3, ReadOnlySpan<double> packed, int depth)
        where TLanes : ILanes<TVector>
    {
        int n = TLanes.Count;
        ref double b = ref MemoryMarshal.GetReference(packed);
        ref double c1 = ref Unsafe.Add(ref c, strideC), c2 = ref Unsafe.Add(ref c1, strideC), c3 = ref Unsafe.Add(ref c2, strideC);
        TVector c00 = TLanes.Load(ref c, 0), c01 = TLanes.Load(ref c, n), c02 = TLanes.Load(ref c, 2 * n);
        TVector c10 = TLanes.Load(ref c1, 0), c11 = TLanes.Load(ref c1, n), c12 = TLanes.Load(ref c1, 2 * n);
        TVector c20 = TLanes.Load(ref c2, 0), c21 = TLanes.Load(ref c2, n), c22 = TLanes.Load(ref c2, 2 * n);
        TVector c30 = TLanes.Load(ref c3, 0), c31 = TLanes.Load(ref c3, n), c32 = TLanes.Load(ref c3, 2 * n);
        for (int k = 0; k < depth; k++)
        {
            TVector b0 = TLanes.Load(ref b, 0), b1 = TLanes.Load(ref b, n), b2 = TLanes.Load(ref b, 2 * n);
            b = ref Unsafe.Add(ref b, 3 * n);
            TVector factor = TLanes.All(Unsafe.Add(ref a, k));
            c00 = TLanes.MultiplyAdd(factor, b0, c00);
            c01 = TLanes.MultiplyAdd(factor, b1, c01);
            c02 = TLanes.MultiplyAdd(factor, b2, c02);
            factor = TLanes.All(Unsafe.Add(ref a1, k));
            c10 = TLanes.MultiplyAdd(factor, b0, c10);
            c11 = TLanes.MultiplyAdd(factor, b1, c11);
            c12 = TLanes.MultiplyAdd(factor, b2, c12);
            factor = TLanes.All(Unsafe.Add(ref a2, k));
            c20 = TLanes.MultiplyAdd(factor, b0, c20);
            c21 = TLanes.MultiplyAdd(factor, b1, c21);
            c22 = TLanes.MultiplyAdd(factor, b2, c22);
            factor = TLanes.All(Unsafe.Add(ref a3, k));
            c30 = TLanes.MultiplyAdd(factor, b0, c30);
            c31 = TLanes.MultiplyAdd(factor, b1, c31);
            c32 = TLanes.MultiplyAdd(factor, b2, c32);
        }

        TLanes.Store(c00, ref c, 0);
        TLanes.Store(c01, ref c, n);
        TLanes.Store(c02, ref c, 2 * n);
        TLanes.Store(c10, ref c1, 0);
        TLanes.Store(c11, ref c1, n);
        TLanes.Store(c12, ref c1, 2 * n);
        TLanes.Store(c20, ref c2, 0);
        TLanes.Store(c21, ref c2, n);
        TLanes.Store(c22, ref c2, 2 * n);
        TLanes.Store(c30, ref c3, 0);
        TLanes.Store(c31, ref c3, n);
        TLanes.Store(c32, ref c3, 2 * n);
    }

    // What the tile does with vectors of one width.
    private interface ILanes<TVector>
    {
        static abstract int Count { get; }

        static abstract TVector Load(ref double at, int offset);

        static abstract void Store(TVector value, ref double at, int offset);

        static abstract TVector All(double value);

        static abstract TVector MultiplyAdd(TVector left, TVector right, TVector sum);
    }

    // Vector<T> stays at 256 bits where the processor has more.
    private readonly struct Widest : ILanes<Vector512<double>>
    {
        public static int Count => Vector512<double>.Count;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<double> Load(ref double at, int offset) => Vector512.LoadUnsafe(ref at, (nuint)offset);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Store(Vector512<double> value, ref double at, int offset) => value.StoreUnsafe(ref at, (nuint)offset);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<double> All(double value) => Vector512.Create(value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector512<double> MultiplyAdd(Vector512<double> left, Vector512<double> right, Vector512<double> sum) =>
            Vector512.FusedMultiplyAdd(left, right, sum);
    }

    private readonly struct Usual : ILanes<Vector<double>>
    {
        public static int Count => Vector<double>.Count;

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector<double> Load(ref double at, int offset) => Vector.LoadUnsafe(ref at, (nuint)offset);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static void Store(Vector<double> value, ref double at, int offset) => value.StoreUnsafe(ref at, (nuint)offset);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector<double> All(double value) => new(value);

        [MethodImpl(MethodImplOptions.AggressiveInlining)]
        public static Vector<double> MultiplyAdd(Vector<double> left, Vector<double> right, Vector<double> sum) =>
            Vector.FusedMultiplyAdd(left, right, sum);
    }
}
