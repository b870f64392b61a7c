namespace OnnxMorph.Kernels;

/// <summary>A matrix in float64 that lies row by row in an array, or a part of one.</summary>
/// <param name="Values">The array.</param>
/// <param name="Offset">Index of element [0, 0].</param>
/// <param name="Rows">Number of rows.</param>
/// <param name="Columns">Elements of a row.</param>
/// <param name="Stride">Elements from a row to the next.</param>
public readonly record struct MatrixView(double[] Values, int Offset, int Rows, int Columns, int Stride)
{
    /// <summary>A whole array as a matrix.</summary>
    public MatrixView(double[] values, int rows, int columns)
        : this(values, 0, rows, columns, columns)
    {
    }

    /// <summary>One element.</summary>
    public ref double this[int row, int column] => ref Values[Offset + row * Stride + column];

    /// <summary>One row.</summary>
    public Span<double> Row(int row) => Values.AsSpan(Offset + row * Stride, Columns);

    /// <summary>Some rows and columns.</summary>
    public MatrixView Part(int row, int column, int rows, int columns) =>
        this with { Offset = Offset + row * Stride + column, Rows = rows, Columns = columns };

    /// <summary>Copies all elements to a matrix of the same sizes.</summary>
    public void CopyTo(MatrixView target)
    {
        for (int row = 0; row < Rows; row++)
            Row(row).CopyTo(target.Row(row));
    }

    /// <summary>Sets all elements to zero.</summary>
    public void Clear()
    {
        for (int row = 0; row < Rows; row++)
            Row(row).Clear();
    }

    /// <summary>A copy with rows and columns exchanged.</summary>
    public MatrixView Transposed()
    {
        var result = new MatrixView(new double[Rows * Columns], Columns, Rows);
        TransposeTo(result);
        return result;
    }

    /// <summary>Copies element [i, j] to [j, i] of a matrix with as many rows as this one has columns and the other way round.</summary>
    public void TransposeTo(MatrixView target)
    {
        // Squares of which both sides fit the first-level cache.
        const int side = 32;
        for (int top = 0; top < Rows; top += side)
        {
            for (int left = 0; left < Columns; left += side)
            {
                int height = Math.Min(side, Rows - top);
                for (int column = left; column < Math.Min(left + side, Columns); column++)
                {
                    Span<double> to = target.Row(column).Slice(top, height);
                    for (int row = 0; row < to.Length; row++)
                        to[row] = this[top + row, column];
                }
            }
        }
    }
}
