using System.Collections.Immutable;
using System.Numerics.Tensors;
using OnnxMorph.Kernels;

namespace OnnxMorph.Numerics;

/// <summary>
/// Division of matrix polynomials by least squares: X with ‖T − X·H‖² smallest, of smallest norm where X has more elements than T. With H and T
/// written out as matrices it is X·M = T, one system for all rows of X, where M[(x, l), (v, c)] = H[v−x][l, c]. Its normal
/// equations, M·Mᵀ or Mᵀ·M, whichever is smaller, are put together from products of H's coefficients; M itself is never made.
/// </summary>
internal static class PolynomialDivision
{
    /// <summary>The most equations that are solved at once: 2 GB of float64.</summary>
    public const int MostEquations = 16_000;

    // Solutions of normal equations lose half the digits, and more where they are near singular; each correction brings some back.
    private const int MostCorrections = 5;

    // What the rounding of a sum of products leaves of it for each term, squared.
    private const double SquaredRounding = 1.0 / (1L << 52) / (1L << 52);

    /// <summary>Equations to be solved for a division: the smaller side of M.</summary>
    /// <param name="rows">Rows of H's coefficients.</param>
    /// <param name="columns">Columns of H's coefficients.</param>
    /// <param name="quotient">Powers of X.</param>
    /// <param name="target">Powers of T.</param>
    public static long Equations(long rows, long columns, ImmutableArray<int> quotient, ImmutableArray<int> target) =>
        quotient.SequenceEqual(target) ? Math.Min(rows, columns)
            : Math.Min(rows * MatrixPolynomial.Count(quotient), columns * MatrixPolynomial.Count(target));

    /// <summary>Divides <paramref name="target"/> by <paramref name="divisor"/> from the right.</summary>
    /// <param name="target">T.</param>
    /// <param name="divisor">H.</param>
    /// <param name="taps">Powers of X; those of T are one less than these and H's together.</param>
    /// <param name="remainder">‖T − X·H‖².</param>
    /// <returns>X.</returns>
    public static MatrixPolynomial Divide(MatrixPolynomial target, MatrixPolynomial divisor, ImmutableArray<int> taps, out double remainder)
    {
        // A matrix divides every tap by itself.
        ImmutableArray<int> one = [.. taps.Select(_ => 1)];
        if (divisor.TapCount == 1 && !taps.SequenceEqual(one))
            return Divide(target.WithTaps(one), divisor, one, out remainder).WithTaps(taps);
        var quotient = new MatrixPolynomial(target.Rows, divisor.Rows, taps);
        bool leastNorm = (long)divisor.Rows * quotient.TapCount > (long)divisor.Columns * target.TapCount;
        MatrixView normal = leastNorm ? Inner(divisor, taps, target.TapCount) : Outer(divisor, taps);
        double largest = 0;
        for (int i = 0; i < normal.Rows; i++)
            largest = Math.Max(largest, normal[i, i]);
        if (largest == 0)
        {
            remainder = target.SquaredNorm;
            return quotient;
        }

        // Enough that rounding cannot make a singular matrix indefinite; corrections take its effect out again.
        if (!IsDominant(normal))
            for (int i = 0; i < normal.Rows; i++)
                normal[i, i] += 4 * normal.Rows * Math.ScaleB(largest, -52);
        var solver = new CholeskySolver(normal);
        // Rows of X do not depend on each other, and a few at a time take little memory.
        int rows = target.BlockRows;
        MatrixPolynomial rest = new(rows, target.Columns, target.Taps), gradient = new(rows, divisor.Rows, taps), next = new(rows, divisor.Rows, taps);
        remainder = 0;
        for (int row = 0; row < target.Rows; row += rows)
        {
            int count = Math.Min(rows, target.Rows - row);
            remainder += new Rows(target.Part(row, count), quotient.Part(row, count), rest.Part(0, count), gradient.Part(0, count), next.Part(0, count))
                .Divide(divisor, solver, leastNorm, floor: normal.Rows * SquaredRounding);
        }

        return quotient;
    }

    /// <summary>Some rows of the target and of the quotient, and room to compute with: one more target, two more quotients.</summary>
    private readonly record struct Rows(
        MatrixPolynomial Target, MatrixPolynomial Quotient, MatrixPolynomial Rest, MatrixPolynomial Gradient, MatrixPolynomial Next)
    {
        /// <summary>Finds the quotient.</summary>
        /// <param name="divisor">H.</param>
        /// <param name="solver">Of the normal equations.</param>
        /// <param name="leastNorm">Whether these are Mᵀ·M.</param>
        /// <param name="floor">What part of ‖T‖² a remainder is that is rounding and nothing else.</param>
        /// <returns>‖T − X·H‖².</returns>
        public double Divide(MatrixPolynomial divisor, CholeskySolver solver, bool leastNorm, double floor)
        {
            double remainder = Target.SquaredNorm;
            floor *= remainder;
            Target.Values.CopyTo(Rest.Values);
            // The remainder itself does not tell when to stop, unless it is nothing: most of it may be what no quotient takes away.
            double error = FindGradient(divisor);
            for (int i = 0; i <= MostCorrections && error > 0; i++)
            {
                FindStep(divisor, solver, leastNorm, first: i == 0);
                TensorPrimitives.Add(Quotient.Values, Next.Values, Next.Values);
                Rest.SetRemainder(Target, Next, divisor);
                double left = Rest.SquaredNorm, better = left <= floor ? 0 : FindGradient(divisor);
                if (better >= error)
                    break;
                Next.Values.CopyTo(Quotient.Values);
                remainder = left;
                if (better >= error / 4)
                    break;
                error = better;
            }

            return remainder;
        }

        // The gradient, rest·Mᵀ, and the square of its norm.
        private double FindGradient(MatrixPolynomial divisor)
        {
            Gradient.Values.Clear();
            Gradient.AddCorrelation(Rest, divisor);
            return Gradient.SquaredNorm;
        }

        // The step that takes the gradient away, in the place of the next quotient. The rest is lost.
        private void FindStep(MatrixPolynomial divisor, CholeskySolver solver, bool leastNorm, bool first)
        {
            if (!leastNorm)
            {
                Gradient.Values.CopyTo(Next.Values);
                solver.Solve(Next.Unfolded);
                return;
            }

            // What of the remainder no quotient makes is divided by nearly nothing, and rounding spreads it; a correction leaves it out first.
            if (!first)
            {
                Rest.Values.Clear();
                Rest.AddProduct(Gradient, divisor);
                solver.Solve(Rest.Unfolded);
            }

            solver.Solve(Rest.Unfolded);
            Next.Values.Clear();
            Next.AddCorrelation(Rest, divisor);
        }
    }

    /// <summary>
    /// The lower triangle of M·Mᵀ: block (x, x') is the sum of H[u]·H[u']ᵀ over all u − u' = x' − x, so blocks of one difference are equal.
    /// </summary>
    private static MatrixView Outer(MatrixPolynomial divisor, ImmutableArray<int> taps)
    {
        int size = divisor.Rows, count = MatrixPolynomial.Count(taps);
        MatrixView normal = Square(count * size);
        // Numbers of sums tell differences: u − u' = x' − x where x + u and x' + u' are one power.
        int[,] sums = MatrixPolynomial.TapSums(taps, divisor.Taps);
        var done = new bool[count, count];
        for (int x = 0; x < count; x++)
        {
            for (int y = 0; y <= x; y++)
            {
                if (done[x, y])
                    continue;
                MatrixView block = normal.Part(x * size, y * size, size, size);
                for (int u = 0; u < divisor.TapCount; u++)
                    for (int w = 0; w < divisor.TapCount; w++)
                        if (sums[x, u] == sums[y, w])
                            MatrixProduct.AddTransposed(block, divisor[u], divisor[w]);
                foreach ((int x2, int y2) in SameDifference(taps, x, y))
                {
                    done[x2, y2] = true;
                    if ((x2, y2) != (x, y))
                        block.CopyTo(normal.Part(x2 * size, y2 * size, size, size));
                }
            }
        }

        return normal;
    }

    /// <summary>The lower triangle of Mᵀ·M: block (v, v') is the sum of H[v−x]ᵀ·H[v'−x] over all x.</summary>
    private static MatrixView Inner(MatrixPolynomial divisor, ImmutableArray<int> taps, int targetTaps)
    {
        int size = divisor.Columns;
        MatrixView normal = Square(targetTaps * size);
        int[,] sums = MatrixPolynomial.TapSums(taps, divisor.Taps);
        MatrixView product = Square(size);
        for (int u = 0; u < divisor.TapCount; u++)
        {
            MatrixView adjoint = divisor[u].Transposed();
            for (int w = 0; w <= u; w++)
            {
                product.Clear();
                MatrixProduct.Add(product, adjoint, divisor[w]);
                for (int x = 0; x < sums.GetLength(0); x++)
                    for (int row = 0; row < size; row++)
                    {
                        Span<double> target = normal.Part(sums[x, u] * size, sums[x, w] * size, size, size).Row(row);
                        TensorPrimitives.Add(target, product.Row(row), target);
                    }
            }
        }

        return normal;
    }

    // All pairs of powers that lie as far apart as x and y.
    private static IEnumerable<(int, int)> SameDifference(ImmutableArray<int> taps, int x, int y)
    {
        int count = MatrixPolynomial.Count(taps);
        int[] Powers(int tap)
        {
            var powers = new int[taps.Length];
            for (int axis = taps.Length - 1; axis >= 0; axis--)
                (tap, powers[axis]) = Math.DivRem(tap, taps[axis]);
            return powers;
        }

        int[] difference = [.. Powers(x).Zip(Powers(y), (a, b) => a - b)];
        for (int other = 0; other < count; other++)
        {
            int[] powers = Powers(other);
            int moved = 0;
            bool inside = true;
            for (int axis = 0; axis < taps.Length; axis++)
            {
                int power = powers[axis] + difference[axis];
                inside &= power >= 0 && power < taps[axis];
                moved = moved * taps[axis] + power;
            }

            if (inside)
                yield return (moved, other);
        }
    }

    /// <summary>
    /// Whether the elements beside the diagonal make up half of it at most in every row. By Gershgorin's theorem the matrix is then well
    /// conditioned as it is; it is so for the rotations that factors of one tap start with.
    /// </summary>
    private static bool IsDominant(MatrixView lower)
    {
        var sums = new double[lower.Rows];
        for (int row = 0; row < lower.Rows; row++)
        {
            ReadOnlySpan<double> beside = lower.Row(row)[..row];
            sums[row] += Moments.Of(beside).AbsoluteSum;
            for (int column = 0; column < beside.Length; column++)
                sums[column] += Math.Abs(beside[column]);
        }

        return Enumerable.Range(0, lower.Rows).All(i => sums[i] <= lower[i, i] / 2);
    }

    private static MatrixView Square(int size) => new(new double[checked(size * size)], size, size);
}
