using MathNet.Numerics.LinearAlgebra;
using MathNet.Numerics.LinearAlgebra.Double;
using OnnxMorph.Kernels;

namespace OnnxMorph.Numerics;

/// <summary>
/// Solves X·P = B for symmetric positive definite P = L·Lᵀ. The factorisation runs by blocks, as LAPACK's dpotrf does: Math.NET factors
/// those on the diagonal, and everything else is matrix products.
/// </summary>
internal sealed class CholeskySolver
{
    private const int Block = 128;

    private readonly MatrixView _factor;

    /// <summary>The inverses of L's diagonal blocks.</summary>
    private readonly List<MatrixView> _inverses = [];

    /// <summary>Factors a matrix in its own place.</summary>
    /// <param name="matrix">P, of which the lower triangle is read. Its content is lost.</param>
    /// <exception cref="ArgumentException">P is not positive definite.</exception>
    public CholeskySolver(MatrixView matrix)
    {
        _factor = matrix;
        int size = matrix.Rows;
        for (int start = 0; start < size; start += Block)
        {
            int length = Math.Min(Block, size - start), end = start + length, rest = size - end;
            Matrix<double> lower = DenseMatrix.Create(length, length, (i, j) => matrix[start + Math.Max(i, j), start + Math.Min(i, j)]).Cholesky().Factor;
            var inverse = new MatrixView(lower.Inverse().ToRowMajorArray(), length, length);
            _inverses.Add(inverse);
            if (rest == 0)
                break;
            // The panel below the block becomes P·L⁻ᵀ, and what is right of it loses panel·panelᵀ, in its lower triangle.
            var panel = new MatrixView(new double[rest * length], rest, length);
            MatrixProduct.Add(panel, matrix.Part(end, start, rest, length), inverse.Transposed());
            for (int row = 0; row < rest; row++)
                panel.Row(row).CopyTo(matrix.Part(end, start, rest, length).Row(row));
            MatrixView transposed = panel.Transposed();
            for (int row = 0; row < rest; row += Block)
            {
                int rows = Math.Min(Block, rest - row);
                MatrixProduct.Add(matrix.Part(end + row, end, rows, row + rows), panel.Part(row, 0, rows, length), transposed.Part(0, 0, length, row + rows), -1);
            }
        }
    }

    /// <summary>Solves X·P = B.</summary>
    /// <param name="right">B, one right side a row; becomes X.</param>
    public void Solve(MatrixView right)
    {
        int size = _factor.Rows;
        // Y·Lᵀ = B from the first block on, then X·L = Y from the last.
        for (int block = 0; block < _inverses.Count; block++)
        {
            (int start, int length) = (block * Block, _inverses[block].Rows);
            MatrixView own = right.Part(0, start, right.Rows, length);
            if (start > 0)
                MatrixProduct.Add(own, right.Part(0, 0, right.Rows, start), _factor.Part(start, 0, length, start).Transposed(), -1);
            Multiply(own, _inverses[block].Transposed());
        }

        for (int block = _inverses.Count - 1; block >= 0; block--)
        {
            (int start, int length) = (block * Block, _inverses[block].Rows);
            int end = start + length;
            MatrixView own = right.Part(0, start, right.Rows, length);
            if (end < size)
                MatrixProduct.Add(own, right.Part(0, end, right.Rows, size - end), _factor.Part(end, start, size - end, length), -1);
            Multiply(own, _inverses[block]);
        }
    }

    private static void Multiply(MatrixView matrix, MatrixView factor)
    {
        var product = new MatrixView(new double[matrix.Rows * matrix.Columns], matrix.Rows, matrix.Columns);
        MatrixProduct.Add(product, matrix, factor);
        for (int row = 0; row < matrix.Rows; row++)
            product.Row(row).CopyTo(matrix.Row(row));
    }
}
