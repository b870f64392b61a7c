using System.Collections.Immutable;
using OnnxMorph.Kernels;

namespace OnnxMorph.Numerics;

/// <summary>
/// A polynomial in one variable for each spatial axis whose coefficients are matrices, in float64. The kernel W[outputs, inputs, taps…]
/// of a convolution is one, and layers that follow each other multiply: G(z) = F₂(z)·F₁(z) is G[v] = Σ F₂[v−u]·F₁[u].
/// </summary>
internal sealed class MatrixPolynomial
{
    /// <summary>The most elements: 2 GB of float64.</summary>
    public static readonly int MostElements = Array.MaxLength / sizeof(double);

    // 64 MB of float64.
    private const int BlockElements = 1 << 23;
    private const int LeastBlockRows = 64;

    private readonly double[] _values;
    private readonly int _offset;

    /// <summary>A polynomial of zeros.</summary>
    public MatrixPolynomial(int rows, int columns, ImmutableArray<int> taps)
        : this(new double[checked(rows * Count(taps) * columns)], rows, columns, taps)
    {
    }

    /// <summary>A polynomial of these elements, [row, tap, column], which it keeps.</summary>
    public MatrixPolynomial(double[] values, int rows, int columns, ImmutableArray<int> taps)
        : this(values, 0, rows, columns, taps)
    {
    }

    private MatrixPolynomial(double[] values, int offset, int rows, int columns, ImmutableArray<int> taps)
    {
        _values = values;
        _offset = offset;
        Rows = rows;
        Columns = columns;
        Taps = taps;
        TapCount = Count(taps);
    }

    /// <summary>Rows of each coefficient.</summary>
    public int Rows { get; }

    /// <summary>Columns of each coefficient.</summary>
    public int Columns { get; }

    /// <summary>How many powers of each variable there are.</summary>
    public ImmutableArray<int> Taps { get; }

    /// <summary>Number of coefficients.</summary>
    public int TapCount { get; }

    /// <summary>The elements, [row, tap, column].</summary>
    public Span<double> Values => _values.AsSpan(_offset, Rows * TapCount * Columns);

    /// <summary>The coefficients side by side: rows × (taps · columns).</summary>
    public MatrixView Unfolded => Run(0, TapCount);

    /// <summary>Sum of the squares of all elements.</summary>
    public double SquaredNorm => Moments.Of(Values).SquareSum;

    // Taps along the last axis, whose coefficients stand side by side in sums as well.
    private int LastTaps => Taps.IsEmpty ? 1 : Taps[^1];

    /// <summary>The same elements with each tap of each row as a row, or the other way round.</summary>
    public MatrixPolynomial WithTaps(ImmutableArray<int> taps) => new(_values, _offset, Rows * TapCount / Count(taps), Columns, taps);

    /// <summary>Some rows of all coefficients, in the same place.</summary>
    public MatrixPolynomial Part(int row, int rows) => new(_values, _offset + row * TapCount * Columns, rows, Columns, Taps);

    /// <summary>One coefficient.</summary>
    public MatrixView this[int tap] => Run(tap, 1);

    // Coefficients of one number after the other, side by side.
    private MatrixView Run(int tap, int count) => new(_values, _offset + tap * Columns, Rows, count * Columns, TapCount * Columns);

    /// <summary>Number of coefficients of a polynomial with so many powers of each variable.</summary>
    public static int Count(ImmutableArray<int> taps) => taps.Aggregate(1, (product, size) => checked(product * size));

    /// <summary>Powers of a product.</summary>
    public static ImmutableArray<int> Sum(ImmutableArray<int> left, ImmutableArray<int> right) =>
        [.. left.Zip(right, (a, b) => a + b - 1)];

    /// <summary>The product of two polynomials: the kernel of the right layer followed by the left.</summary>
    public static MatrixPolynomial operator *(MatrixPolynomial left, MatrixPolynomial right)
    {
        var product = new MatrixPolynomial(left.Rows, right.Columns, Sum(left.Taps, right.Taps));
        product.AddProduct(left, right);
        return product;
    }

    /// <summary>Adds <paramref name="scale"/>·left·right.</summary>
    public void AddProduct(MatrixPolynomial left, MatrixPolynomial right, double scale = 1)
    {
        int[,] sums = TapSums(left.Taps, right.Taps);
        int run = right.LastTaps;
        for (int x = 0; x < left.TapCount; x++)
            for (int u = 0; u < right.TapCount; u += run)
                MatrixProduct.Add(Run(sums[x, u], run), left[x], right.Run(u, run), scale);
    }

    /// <summary>Becomes target − left·right.</summary>
    public void SetRemainder(MatrixPolynomial target, MatrixPolynomial left, MatrixPolynomial right)
    {
        target.Values.CopyTo(Values);
        AddProduct(left, right, -1);
    }

    /// <summary>Adds left times the adjoint of right: Σ_u left[x+u]·right[u]ᵀ for every x that this polynomial has.</summary>
    public void AddCorrelation(MatrixPolynomial left, MatrixPolynomial right)
    {
        int[,] sums = TapSums(Taps, right.Taps);
        int run = right.LastTaps;
        for (int u = 0; u < right.TapCount; u += run)
            for (int x = 0; x < TapCount; x++)
                MatrixProduct.AddTransposed(this[x], left.Run(sums[x, u], run), right.Run(u, run));
    }

    /// <summary>Sum of the squares of the differences from left·right, which is made a few rows at a time.</summary>
    public double SquaredDistance(MatrixPolynomial left, MatrixPolynomial right)
    {
        int rows = BlockRows;
        var block = new MatrixPolynomial(rows, Columns, Taps);
        double sum = 0;
        for (int row = 0; row < Rows; row += rows)
        {
            int count = Math.Min(rows, Rows - row);
            MatrixPolynomial rest = block.Part(0, count);
            rest.SetRemainder(Part(row, count), left.Part(row, count), right);
            sum += rest.SquaredNorm;
        }

        return sum;
    }

    /// <summary>So many rows at a time are enough for products to be fast, and no burden on memory.</summary>
    public int BlockRows => Math.Clamp(BlockElements / Math.Max(1, TapCount * Columns), Math.Min(LeastBlockRows, Rows), Rows);

    /// <summary>
    /// The number of the coefficient of z^(x+u) for those of z^x and z^u; numbers count the last variable fastest, so that they
    /// grow with either argument.
    /// </summary>
    public static int[,] TapSums(ImmutableArray<int> left, ImmutableArray<int> right)
    {
        ImmutableArray<int> all = Sum(left, right);
        var sums = new int[Count(left), Count(right)];
        for (int x = 0; x < sums.GetLength(0); x++)
        {
            for (int u = 0; u < sums.GetLength(1); u++)
            {
                int place = 1;
                for (int axis = all.Length - 1, a = x, b = u; axis >= 0; axis--)
                {
                    sums[x, u] += (a % left[axis] + b % right[axis]) * place;
                    place *= all[axis];
                    a /= left[axis];
                    b /= right[axis];
                }
            }
        }

        return sums;
    }

    /// <summary>All coefficients transposed.</summary>
    public MatrixPolynomial Transposed()
    {
        var result = new MatrixPolynomial(Columns, Rows, Taps);
        for (int tap = 0; tap < TapCount; tap++)
            this[tap].TransposeTo(result[tap]);
        return result;
    }

    /// <summary>This polynomial times z^<paramref name="shift"/>, with room for <paramref name="taps"/> powers; itself where there is room for no more.</summary>
    public MatrixPolynomial Shifted(ImmutableArray<int> shift, ImmutableArray<int> taps)
    {
        if (taps.SequenceEqual(Taps))
            return this;
        var result = new MatrixPolynomial(Rows, Columns, taps);
        int[,] sums = TapSums(Taps, [.. taps.Zip(Taps, (all, own) => all - own + 1)]);
        int first = 0;
        for (int axis = 0; axis < taps.Length; axis++)
            first = first * (taps[axis] - Taps[axis] + 1) + shift[axis];
        for (int tap = 0; tap < TapCount; tap++)
            this[tap].CopyTo(result[sums[tap, first]]);
        return result;
    }
}
