using CsCheck;
using Xunit;

namespace OnnxMorph.Kernels.Tests;

public class MatrixProductTests
{
    private static MatrixView Draw(Random random, int rows, int columns)
    {
        // A part of a larger matrix, so that rows do not follow each other.
        int left = random.Next(3), right = random.Next(3), above = random.Next(2);
        var whole = new MatrixView(new double[(rows + above) * (columns + left + right)], rows + above, columns + left + right);
        for (int i = 0; i < whole.Values.Length; i++)
            whole.Values[i] = 2 * random.NextDouble() - 1;
        return whole.Part(above, left, rows, columns);
    }

    /// <summary>Every element adds its products in order with fused multiply-adds: the bits of one loop, whatever the tiles and threads.</summary>
    [Fact]
    public void HasTheBitsOfOneLoop() => Gen.Int.Sample(seed =>
    {
        var random = new Random(seed);
        bool large = random.Next(8) == 0;
        int rows = random.Next(large ? 150 : 20), inner = random.Next(large ? 600 : 20), columns = random.Next(large ? 100 : 40);
        MatrixView a = Draw(random, rows, inner), b = Draw(random, inner, columns), c = Draw(random, rows, columns);
        double scale = new[] { 1, -1, 0.3 }[random.Next(3)];
        double[] before = [.. c.Values], expected = [.. c.Values];
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                for (int k = 0; k < inner; k++)
                {
                    ref double sum = ref expected[c.Offset + i * c.Stride + j];
                    sum = Math.FusedMultiplyAdd(a[i, k], scale * b[k, j], sum);
                }

        if (random.Next(2) == 0)
            MatrixProduct.Add(c, a, b, scale);
        else
            MatrixProduct.AddTransposed(c, a, b.Transposed(), scale);
        Assert.Equal(expected, c.Values);
        Assert.Equal(rows * inner * columns > 0, !before.AsSpan().SequenceEqual(c.Values));
    }, iter: 100);

    [Fact]
    public void SizesMustFit()
    {
        var random = new Random(1);
        Assert.Throws<ArgumentException>(() => MatrixProduct.Add(Draw(random, 2, 3), Draw(random, 2, 4), Draw(random, 5, 3)));
        Assert.Throws<ArgumentException>(() => MatrixProduct.Add(Draw(random, 2, 3), Draw(random, 3, 4), Draw(random, 4, 3)));
        Assert.Throws<ArgumentException>(() => MatrixProduct.AddTransposed(Draw(random, 2, 3), Draw(random, 2, 4), Draw(random, 4, 3)));
    }

    [Theory]
    [InlineData(3, 5)]
    [InlineData(32, 64)]
    [InlineData(33, 70)]
    [InlineData(100, 1)]
    public void Transposes(int rows, int columns)
    {
        MatrixView matrix = Draw(new Random(2), rows, columns), transposed = matrix.Transposed();
        Assert.Equal((columns, rows), (transposed.Rows, transposed.Columns));
        for (int i = 0; i < rows; i++)
            for (int j = 0; j < columns; j++)
                Assert.Equal(matrix[i, j], transposed[j, i]);
    }
}
