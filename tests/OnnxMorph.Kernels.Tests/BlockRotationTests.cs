using Xunit;

namespace OnnxMorph.Kernels.Tests;

public class BlockRotationTests
{
    [Theory]
    [InlineData(1)]
    [InlineData(3)]
    [InlineData(16)]
    [InlineData(70)]
    public void IsTheProductOfItsReflections(int size)
    {
        const int Reflections = 5, Groups = 2, Group = 1;
        double[,] expected = new double[size, size];
        for (int i = 0; i < size; i++)
            expected[i, i] = 1;
        for (int r = 0; r < Reflections; r++)
        {
            double[] v = [.. Enumerable.Range(0, size).Select(i => RandomDraw.Value(Distribution.Normal, 9, (Group * Reflections + r) * size + i))];
            double norm = v.Sum(x => x * x);
            var next = new double[size, size];
            for (int i = 0; i < size; i++)
                for (int j = 0; j < size; j++)
                    for (int k = 0; k < size; k++)
                        next[i, j] += expected[i, k] * ((k == j ? 1 : 0) - 2 * v[k] * v[j] / norm);
            expected = next;
        }

        double[] q = Matrix(new BlockRotation(Groups, size, Reflections, 9, transpose: false), Group);
        double[] transposed = Matrix(new BlockRotation(Groups, size, Reflections, 9, transpose: true), Group);
        for (int i = 0; i < size; i++)
            for (int j = 0; j < size; j++)
            {
                Assert.Equal(expected[i, j], q[i * size + j], 1e-12);
                Assert.Equal(expected[j, i], transposed[i * size + j], 1e-12);
            }
    }

    [Fact]
    public void IsOrthogonalAndDense()
    {
        const int Size = 300;
        double[] q = Matrix(new BlockRotation(1, Size, 16, 3, transpose: false), 0);
        for (int i = 0; i < Size; i += 7)
            for (int j = 0; j < Size; j++)
            {
                double dot = 0;
                for (int k = 0; k < Size; k++)
                    dot += q[i * Size + k] * q[j * Size + k];
                Assert.Equal(i == j ? 1 : 0, dot, 1e-12);
            }

        Assert.DoesNotContain(0.0, q);
    }

    [Fact]
    public void PanelsAndColumnCountsDoNotChangeABit()
    {
        const int Size = 40, Columns = 300;
        var random = new Random(1);
        double[] matrix = [.. Enumerable.Range(0, Size * Columns).Select(_ => random.NextDouble() - 0.5)];
        var rotation = new BlockRotation(1, Size, 16, 5, transpose: true);
        double[] whole = Rotate(rotation, 0, matrix, Columns, Size);
        Assert.Equal(whole, Rotate(rotation, 0, matrix, Columns, 7));
        for (int column = 0; column < Columns; column += 97)
        {
            double[] single = [.. Enumerable.Range(0, Size).Select(i => matrix[i * Columns + column])];
            Assert.Equal(Enumerable.Range(0, Size).Select(i => whole[i * Columns + column]), Rotate(rotation, 0, single, 1, Size));
        }
    }

    private static double[] Matrix(BlockRotation rotation, int group)
    {
        var identity = new double[rotation.Size * rotation.Size];
        for (int i = 0; i < rotation.Size; i++)
            identity[i * rotation.Size + i] = 1;
        return Rotate(rotation, group, identity, rotation.Size, rotation.Size);
    }

    private static double[] Rotate(BlockRotation rotation, int group, double[] matrix, int columns, int panel)
    {
        var projections = new double[rotation.Reflections * columns];
        for (int row = 0; row < rotation.Size; row += panel)
            rotation.Project(
                group, row, matrix.AsMemory(row * columns, Math.Min(panel, rotation.Size - row) * columns), columns, projections);
        rotation.Finish(group, columns, projections);
        double[] result = [.. matrix];
        int middle = result.Length / 3;
        rotation.Apply(group, 0, result.AsSpan(0, middle), columns, projections);
        rotation.Apply(group, middle, result.AsSpan(middle), columns, projections);
        return result;
    }
}
