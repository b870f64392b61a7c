using System.Buffers;
using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;

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
    private static readonly int s_tileColumns = 3 * Vector<double>.Count;

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
        int last = Math.Min((block + 1) * BlockRows, c.Rows);
        Span<double> edge = stackalloc double[s_tileColumns];
        for (int column = 0; column < c.Columns; column += s_tileColumns)
        {
            int width = Math.Min(s_tileColumns, c.Columns - column);
            ReadOnlySpan<double> panel = packed.AsSpan(column * depth, s_tileColumns * depth);
            int row = block * BlockRows;
            for (; width == s_tileColumns && row <= last - TileRows; row += TileRows)
                AddTile(ref c[row, column], c.Stride, ref a[row, firstRow], a.Stride, panel, depth);
            for (; row < last; row++)
            {
                Span<double> sums = c.Row(row).Slice(column, width);
                sums.CopyTo(edge);
                AddRow(edge, a.Row(row).Slice(firstRow, depth), panel);
                edge[..width].CopyTo(sums);
            }
        }
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddTile(ref double c, int strideC, ref double a, int strideA, ReadOnlySpan<double> packed, int depth)
    {
        int n = Vector<double>.Count;
        ref double b = ref MemoryMarshal.GetReference(packed);
        ref double c1 = ref Unsafe.Add(ref c, strideC), c2 = ref Unsafe.Add(ref c1, strideC), c3 = ref Unsafe.Add(ref c2, strideC);
        ref double a1 = ref Unsafe.Add(ref a, strideA), a2 = ref Unsafe.Add(ref a1, strideA), a3 = ref Unsafe.Add(ref a2, strideA);
        Vector<double> c00 = Load(ref c, 0), c01 = Load(ref c, n), c02 = Load(ref c, 2 * n);
        Vector<double> c10 = Load(ref c1, 0), c11 = Load(ref c1, n), c12 = Load(ref c1, 2 * n);
        Vector<double> c20 = Load(ref c2, 0), c21 = Load(ref c2, n), c22 = Load(ref c2, 2 * n);
        Vector<double> c30 = Load(ref c3, 0), c31 = Load(ref c3, n), c32 = Load(ref c3, 2 * n);
        for (int k = 0; k < depth; k++)
        {
            Vector<double> b0 = Load(ref b, 0), b1 = Load(ref b, n), b2 = Load(ref b, 2 * n);
            b = ref Unsafe.Add(ref b, 3 * n);
            var factor = new Vector<double>(Unsafe.Add(ref a, k));
            c00 = Vector.FusedMultiplyAdd(factor, b0, c00);
            c01 = Vector.FusedMultiplyAdd(factor, b1, c01);
            c02 = Vector.FusedMultiplyAdd(factor, b2, c02);
            factor = new Vector<double>(Unsafe.Add(ref a1, k));
            c10 = Vector.FusedMultiplyAdd(factor, b0, c10);
            c11 = Vector.FusedMultiplyAdd(factor, b1, c11);
            c12 = Vector.FusedMultiplyAdd(factor, b2, c12);
            factor = new Vector<double>(Unsafe.Add(ref a2, k));
            c20 = Vector.FusedMultiplyAdd(factor, b0, c20);
            c21 = Vector.FusedMultiplyAdd(factor, b1, c21);
            c22 = Vector.FusedMultiplyAdd(factor, b2, c22);
            factor = new Vector<double>(Unsafe.Add(ref a3, k));
            c30 = Vector.FusedMultiplyAdd(factor, b0, c30);
            c31 = Vector.FusedMultiplyAdd(factor, b1, c31);
            c32 = Vector.FusedMultiplyAdd(factor, b2, c32);
        }

        Store(c00, ref c, 0);
        Store(c01, ref c, n);
        Store(c02, ref c, 2 * n);
        Store(c10, ref c1, 0);
        Store(c11, ref c1, n);
        Store(c12, ref c1, 2 * n);
        Store(c20, ref c2, 0);
        Store(c21, ref c2, n);
        Store(c22, ref c2, 2 * n);
        Store(c30, ref c3, 0);
        Store(c31, ref c3, n);
        Store(c32, ref c3, 2 * n);
    }

    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AddRow(Span<double> sums, ReadOnlySpan<double> factors, ReadOnlySpan<double> packed)
    {
        int n = Vector<double>.Count;
        ref double c = ref MemoryMarshal.GetReference(sums);
        ref double b = ref MemoryMarshal.GetReference(packed);
        Vector<double> c0 = Load(ref c, 0), c1 = Load(ref c, n), c2 = Load(ref c, 2 * n);
        foreach (double value in factors)
        {
            var factor = new Vector<double>(value);
            c0 = Vector.FusedMultiplyAdd(factor, Load(ref b, 0), c0);
            c1 = Vector.FusedMultiplyAdd(factor, Load(ref b, n), c1);
            c2 = Vector.FusedMultiplyAdd(factor, Load(ref b, 2 * n), c2);
            b = ref Unsafe.Add(ref b, 3 * n);
        }

        Store(c0, ref c, 0);
        Store(c1, ref c, n);
        Store(c2, ref c, 2 * n);
    }

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<double> Load(ref double at, int offset) => Vector.LoadUnsafe(ref at, (nuint)offset);

    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static void Store(Vector<double> value, ref double at, int offset) => value.StoreUnsafe(ref at, (nuint)offset);
}
