using System.Collections.Immutable;
using System.Numerics.Tensors;
using CsCheck;
using MathNet.Numerics.LinearAlgebra;
using OnnxMorph.Kernels;
using OnnxMorph.Numerics;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Numerics;

public class NumericsTests
{
    private static MatrixPolynomial Draw(Random random, int rows, int columns, params ImmutableArray<int> taps)
    {
        var result = new MatrixPolynomial(rows, columns, taps);
        for (int i = 0; i < result.Values.Length; i++)
            result.Values[i] = 2 * random.NextDouble() - 1;
        return result;
    }

    private static int[] Powers(int tap, ImmutableArray<int> taps)
    {
        var powers = new int[taps.Length];
        for (int axis = taps.Length - 1; axis >= 0; axis--)
            (tap, powers[axis]) = Math.DivRem(tap, taps[axis]);
        return powers;
    }

    // The matrix of X ↦ X·H, written out: M[(x, l), (v, c)] = H[v−x][l, c].
    private static double[,] Written(MatrixPolynomial divisor, ImmutableArray<int> taps)
    {
        ImmutableArray<int> all = MatrixPolynomial.Sum(taps, divisor.Taps);
        var matrix = new double[divisor.Rows * MatrixPolynomial.Count(taps), divisor.Columns * MatrixPolynomial.Count(all)];
        for (int x = 0; x < MatrixPolynomial.Count(taps); x++)
            for (int v = 0; v < MatrixPolynomial.Count(all); v++)
                for (int u = 0; u < divisor.TapCount; u++)
                    if (Powers(x, taps).Zip(Powers(u, divisor.Taps), (a, b) => a + b).SequenceEqual(Powers(v, all)))
                        for (int l = 0; l < divisor.Rows; l++)
                            for (int c = 0; c < divisor.Columns; c++)
                                matrix[x * divisor.Rows + l, v * divisor.Columns + c] = divisor[u][l, c];
        return matrix;
    }

    private static (MatrixPolynomial, MatrixPolynomial, ImmutableArray<int>) Pair(Random random)
    {
        int axes = random.Next(0, 4);
        ImmutableArray<int> left = [.. Enumerable.Range(0, axes).Select(_ => random.Next(1, 4))], right = [.. Enumerable.Range(0, axes).Select(_ => random.Next(1, 4))];
        int inner = random.Next(1, 5);
        return (Draw(random, random.Next(1, 5), inner, left), Draw(random, inner, random.Next(1, 5), right), left);
    }

    [Fact]
    public void ProductsAreConvolutions() => Gen.Int.Sample(seed =>
    {
        (MatrixPolynomial left, MatrixPolynomial right, ImmutableArray<int> taps) = Pair(new Random(seed));
        double[,] matrix = Written(right, taps);
        MatrixPolynomial product = left * right, adjoint = new(left.Rows, left.Columns, taps);
        adjoint.AddCorrelation(product, right);
        for (int row = 0; row < left.Rows; row++)
        {
            double[] expected = [.. Enumerable.Range(0, matrix.GetLength(1)).Select(c => Enumerable.Range(0, matrix.GetLength(0)).Sum(r => left.Unfolded[row, r] * matrix[r, c]))];
            for (int c = 0; c < expected.Length; c++)
                Assert.Equal(expected[c], product.Unfolded[row, c], 1e-12);
            for (int r = 0; r < matrix.GetLength(0); r++)
                Assert.Equal(Enumerable.Range(0, expected.Length).Sum(c => expected[c] * matrix[r, c]), adjoint.Unfolded[row, r], 1e-10);
        }
    }, iter: 200);

    [Theory]
    [InlineData(1)]
    [InlineData(7)]
    [InlineData(127)]
    [InlineData(128)]
    [InlineData(129)]
    [InlineData(300)]
    public void CholeskySolves(int size)
    {
        var random = new Random(size);
        MatrixPolynomial a = Draw(random, size, size), right = Draw(random, 3, size);
        var matrix = new MatrixView(new double[size * size], size, size);
        MatrixProduct.Add(matrix, a[0], a[0].Transposed());
        for (int i = 0; i < size; i++)
            matrix[i, i] += 1;
        var whole = new MatrixView([.. matrix.Values], size, size);
        var solution = new MatrixView([.. right.Values], 3, size);
        new CholeskySolver(matrix).Solve(solution);
        var product = new MatrixView(new double[3 * size], 3, size);
        MatrixProduct.Add(product, solution, whole);
        for (int i = 0; i < product.Values.Length; i++)
            Assert.Equal(right.Values[i], product.Values[i], 1e-9);
    }

    /// <summary>
    /// The remainder is orthogonal to everything that a quotient can make. Along M's singular value σ a solution of equations
    /// with λ added leaves λσ/(σ²+λ) of T, which is √λ/2 at most; with λ of a rounding of M·Mᵀ.
    /// </summary>
    [Fact]
    public void DivisionIsLeastSquares() => Gen.Int.Sample(seed =>
    {
        var random = new Random(seed);
        (_, MatrixPolynomial divisor, ImmutableArray<int> taps) = Pair(random);
        MatrixPolynomial target = Draw(random, random.Next(1, 4), divisor.Columns, MatrixPolynomial.Sum(taps, divisor.Taps));
        MatrixPolynomial quotient = PolynomialDivision.Divide(target, divisor, taps, out double remainder);
        double[,] matrix = Written(divisor, taps);
        double rounding = 4 * Math.Min(matrix.GetLength(0), matrix.GetLength(1)) * Math.ScaleB(1, -52) * matrix.Cast<double>().Sum(v => v * v);
        MatrixPolynomial rest = Rest(target, quotient * divisor), gradient = new(quotient.Rows, quotient.Columns, taps);
        gradient.AddCorrelation(rest, divisor);
        Assert.InRange(Math.Sqrt(gradient.SquaredNorm), 0, Math.Sqrt(rounding * target.SquaredNorm) / 2);
        Assert.Equal(Math.Sqrt(rest.SquaredNorm), Math.Sqrt(remainder), 1e-12);
        Assert.Equal(Math.Sqrt(rest.SquaredNorm), Math.Sqrt(target.SquaredDistance(quotient, divisor)), 1e-12);
        // The smallest of all such quotients, where its digits are those of M and not of rounding.
        Matrix<double> written = Matrix<double>.Build.DenseOfArray(matrix);
        if (written.ConditionNumber() < 1e3)
        {
            Matrix<double> smallest = Matrix<double>.Build.DenseOfRowMajor(target.Rows, matrix.GetLength(1), target.Values.ToArray()) * written.PseudoInverse();
            for (int row = 0; row < target.Rows; row++)
                for (int column = 0; column < matrix.GetLength(0); column++)
                    Assert.Equal(smallest[row, column], quotient.Unfolded[row, column], 1e-9);
        }

        Assert.Equal(quotient.Rows * matrix.GetLength(0), quotient.Values.Length);
    }, iter: 200);

    private static MatrixPolynomial Rest(MatrixPolynomial target, MatrixPolynomial product)
    {
        var rest = new MatrixPolynomial(target.Rows, target.Columns, target.Taps);
        TensorPrimitives.Subtract(target.Values, product.Values, rest.Values);
        return rest;
    }

    /// <summary>Large targets are divided and compared some rows at a time; here a row has no part of the others' remainder.</summary>
    [Fact]
    public void RowsAreDividedByThemselves()
    {
        var random = new Random(4);
        MatrixPolynomial divisor = Draw(random, 2, 100_000, 1), quotient = Draw(random, 100, 2, 1), target = quotient * divisor;
        Assert.InRange(target.BlockRows, 1, 99);
        // What is added to the last row, (p, q, 1), is orthogonal to both rows of the divisor.
        MatrixView h = divisor[0];
        double determinant = h[0, 0] * h[1, 1] - h[0, 1] * h[1, 0];
        double p = (h[0, 1] * h[1, 2] - h[1, 1] * h[0, 2]) / determinant, q = (h[1, 0] * h[0, 2] - h[0, 0] * h[1, 2]) / determinant;
        target[0][99, 0] += p;
        target[0][99, 1] += q;
        target[0][99, 2] += 1;
        MatrixPolynomial found = PolynomialDivision.Divide(target, divisor, [1], out double remainder);
        for (int i = 0; i < quotient.Values.Length; i++)
            Assert.Equal(quotient.Values[i], found.Values[i], 1e-12);
        Assert.Equal(p * p + q * q + 1, remainder, 1e-9);
        Assert.Equal(p * p + q * q + 1, target.SquaredDistance(quotient, divisor), 1e-9);
    }

    private static KernelFactoring Factoring(MatrixPolynomial layer, int channels, ImmutableArray<int> first, ImmutableArray<int> second) =>
        new(layer, channels, first, second, ElementType.Float64, 5);

    private static void Multiply(MatrixPolynomial layer, KernelFactors? factors)
    {
        Assert.NotNull(factors);
        MatrixPolynomial product = factors.Second * factors.First;
        ImmutableArray<int> before = [.. product.Taps.Zip(layer.Taps, (all, own) => (all - own) / 2)];
        MatrixPolynomial target = layer.Shifted(before, product.Taps);
        double residual = Rest(target, product).SquaredNorm / target.SquaredNorm;
        Assert.InRange(residual, 0, 1e-24);
        Assert.Equal(residual, factors.Residual, 1e-26);
    }

    [Theory]
    [InlineData(8, 8, 8, 3, 3)]
    [InlineData(8, 8, 10, 3, 3)]
    [InlineData(8, 8, 26, 3, 3)]
    [InlineData(5, 7, 7, 3, 2)]
    [InlineData(5, 7, 60, 2, 3)]
    [InlineData(7, 5, 5, 1, 3)]
    [InlineData(7, 5, 7, 4, 1)]
    [InlineData(1, 1, 1, 3, 4)]
    [InlineData(1, 9, 3, 3, 3)]
    public void LayersAreFactored(int outputs, int inputs, int channels, int first, int second)
    {
        MatrixPolynomial layer = Draw(new Random(channels), outputs, inputs, 3, 3);
        Multiply(layer, Factoring(layer, channels, [first, first], [second, second]).Alternate());
        if (channels >= outputs && first >= 3)
            Multiply(layer, Factoring(layer, channels, [first, first], [second, second]).Shrink());
    }

    /// <summary>
    /// The published count of weights is not enough: with one input and three channels, two kernels of 3×3 have 27 weights a side for 25 equations,
    /// but aᵢ·aⱼ − aⱼ·aᵢ = 0 takes three of them away, and the products span 24 of 25 dimensions at most.
    /// </summary>
    [Fact]
    public void TheCountOfWeightsDoesNotDecide()
    {
        MatrixPolynomial layer = Draw(new Random(1), 25, 1, 5, 5);
        KernelFactors factors = Factoring(layer, 3, [3, 3], [3, 3]).Alternate()!;
        Assert.InRange(factors.Residual, 1e-6, 1);
        factors = Factoring(layer, 3, [3, 3], [3, 3]).Shrink()!;
        Assert.InRange(factors.Residual, 1e-6, 1);
        // One channel more is enough.
        Multiply(layer, Factoring(layer, 4, [3, 3], [3, 3]).Alternate());
    }

    /// <summary>Dense layers behind flattened images read many times more channels than they make: a square matrix of them would have no room.</summary>
    [Theory]
    [InlineData(3, 50_000)]
    [InlineData(50_000, 3)]
    public void LayersOfManyChannelsAreFactored(int outputs, int inputs)
    {
        MatrixPolynomial layer = Draw(new Random(2), outputs, inputs, 1);
        Multiply(layer, Factoring(layer, 4, [1], [1]).Alternate());
        Multiply(layer, Factoring(layer, 4, [1], [1]).Shrink());
    }

    [Fact]
    public void WhatIsTooLargeToComputeWithIsKnownBefore()
    {
        MatrixPolynomial layer = Draw(new Random(2), 2, 3, 3);
        Assert.False(Factoring(layer, 4, [3], [3]).IsTooLarge);
        // 3 inputs and 3 taps for each channel.
        Assert.False(Factoring(layer, MatrixPolynomial.MostElements / 9, [3], [3]).IsTooLarge);
        Assert.True(Factoring(layer, MatrixPolynomial.MostElements / 9 + 1, [3], [3]).IsTooLarge);
    }

    /// <summary>A layer that is the product of two smaller ones is found to be one.</summary>
    [Fact]
    public void ProductsAreFound()
    {
        var random = new Random(3);
        MatrixPolynomial layer = Draw(random, 6, 2, 1) * Draw(random, 2, 5, 3);
        KernelFactors factors = Factoring(layer, 2, [3], [1]).Alternate()!;
        Assert.InRange(factors.Residual, 0, 1e-24);
    }
}
