using System.Collections.Immutable;
using System.Numerics.Tensors;
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

    /// <summary>A polynomial of zeros.</summary>
    public MatrixPolynomial(int rows, int columns, ImmutableArray<int> taps)
        : this(new double[checked(rows * Count(taps) * columns)], rows, columns, taps)
    {
    }

    private MatrixPolynomial(double[] values, int rows, int columns, ImmutableArray<int> taps)
    {
        Rows = rows;
        Columns = columns;
        Taps = taps;
        TapCount = Count(taps);
        Values = values;
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
    public double[] Values { get; }

    /// <summary>The coefficients side by side: rows × (taps · columns).</summary>
    public MatrixView Unfolded => new(Values, Rows, TapCount * Columns);

    /// <summary>Sum of the squares of all elements.</summary>
    public double SquaredNorm => TensorPrimitives.SumOfSquares<double>(Values);

    /// <summary>Sum of the squares of the differences from a polynomial of the same form.</summary>
    public double SquaredDistance(MatrixPolynomial other)
    {
        double distance = TensorPrimitives.Distance<double>(Values, other.Values);
        return distance * distance;
    }

    /// <summary>The same elements with each tap of each row as a row, or the other way round.</summary>
    public MatrixPolynomial WithTaps(ImmutableArray<int> taps) => new(Values, Rows * TapCount / Count(taps), Columns, taps);

    /// <summary>One coefficient.</summary>
    public MatrixView this[int tap] => new(Values, tap * Columns, Rows, Columns, TapCount * Columns);

    /// <summary>Number of coefficients of a polynomial with so many powers of each variable.</summary>
    public static int Count(ImmutableArray<int> taps) => taps.Aggregate(1, (product, size) => checked(product * size));

    /// <summary>Powers of a product.</summary>
    public static ImmutableArray<int> Sum(ImmutableArray<int> left, ImmutableArray<int> right) =>
        [.. left.Zip(right, (a, b) => a + b - 1)];

    /// <summary>The product of two polynomials: the kernel of the right layer followed by the left.</summary>
    public static MatrixPolynomial operator *(MatrixPolynomial left, MatrixPolynomial right)
    {
        var product = new MatrixPolynomial(left.Rows, right.Columns, Sum(left.Taps, right.Taps));
        int[,] sums = TapSums(left.Taps, right.Taps);
        for (int x = 0; x < left.TapCount; x++)
            for (int u = 0; u < right.TapCount; u++)
                MatrixProduct.Add(product[sums[x, u]], left[x], right[u]);
        return product;
    }

    /// <summary>The difference of two polynomials of the same form.</summary>
    public static MatrixPolynomial operator -(MatrixPolynomial left, MatrixPolynomial right)
    {
        var difference = new MatrixPolynomial(left.Rows, left.Columns, left.Taps);
        TensorPrimitives.Subtract<double>(left.Values, right.Values, difference.Values);
        return difference;
    }

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

    /// <summary>
    /// This polynomial times the adjoint of <paramref name="other"/>: X[x] = Σ_u this[x+u]·other[u]ᵀ, for the x in
    /// <paramref name="taps"/>.
    /// </summary>
    public MatrixPolynomial Correlate(MatrixPolynomial other, ImmutableArray<int> taps)
    {
        var result = new MatrixPolynomial(Rows, other.Rows, taps);
        int[,] sums = TapSums(taps, other.Taps);
        for (int u = 0; u < other.TapCount; u++)
            for (int x = 0; x < result.TapCount; x++)
                MatrixProduct.AddTransposed(result[x], this[sums[x, u]], other[u]);

        return result;
    }

    /// <summary>All coefficients transposed.</summary>
    public MatrixPolynomial Transposed()
    {
        var result = new MatrixPolynomial(Columns, Rows, Taps);
        for (int tap = 0; tap < TapCount; tap++)
            this[tap].Transposed().CopyTo(result[tap]);
        return result;
    }

    /// <summary>This polynomial times z^<paramref name="shift"/>, with room for <paramref name="taps"/> powers.</summary>
    public MatrixPolynomial Shifted(ImmutableArray<int> shift, ImmutableArray<int> taps)
    {
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
