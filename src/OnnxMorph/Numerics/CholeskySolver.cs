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
        var panels = new double[Math.Max(0, size - Block) * Block];
        for (int start = 0; start < size; start += Block)
        {
            int length = Math.Min(Block, size - start), end = start + length, rest = size - end;
            Matrix<double> lower = DenseMatrix.Create(length, length, (i, j) => matrix[start + Math.Max(i, j), start + Math.Min(i, j)]).Cholesky().Factor;
            var inverse = new MatrixView(lower.Inverse().ToRowMajorArray(), length, length);
            _inverses.Add(inverse);
            // The panel below the block becomes P·L⁻ᵀ, and what is right of it loses panel·panelᵀ, in its lower triangle.
            MatrixView below = matrix.Part(end, start, rest, length), panel = new(panels, rest, length);
            below.CopyTo(panel);
            below.Clear();
            MatrixProduct.AddTransposed(below, panel, inverse);
            for (int row = 0; row < rest; row += Block)
            {
                int rows = Math.Min(Block, rest - row);
                MatrixProduct.AddTransposed(matrix.Part(end + row, end, rows, row + rows), below.Part(row, 0, rows, length), below.Part(0, 0, row + rows, length), -1);
            }
        }
    }

    /// <summary>Solves X·P = B.</summary>
    /// <param name="right">B, one right side a row; becomes X.</param>
    public void Solve(MatrixView right)
    {
        var buffer = new double[right.Rows * Block];
        // Y·Lᵀ = B from the first block on, then X·L = Y from the last.
        for (int block = 0; block < _inverses.Count; block++)
        {
            (MatrixView own, int start, int length) = Part(block);
            MatrixProduct.AddTransposed(own, right.Part(0, 0, right.Rows, start), _factor.Part(start, 0, length, start), -1);
            MatrixView rest = Take(own);
            MatrixProduct.AddTransposed(own, rest, _inverses[block]);
        }

        for (int block = _inverses.Count - 1; block >= 0; block--)
        {
            (MatrixView own, int start, int length) = Part(block);
            int end = start + length, behind = _factor.Rows - end;
            MatrixProduct.Add(own, right.Part(0, end, right.Rows, behind), _factor.Part(end, start, behind, length), -1);
            MatrixView rest = Take(own);
            MatrixProduct.Add(own, rest, _inverses[block]);
        }

        (MatrixView, int, int) Part(int block) =>
            (right.Part(0, block * Block, right.Rows, _inverses[block].Rows), block * Block, _inverses[block].Rows);

        // A copy, and zeros in its place.
        MatrixView Take(MatrixView matrix)
        {
            var copy = new MatrixView(buffer, matrix.Rows, matrix.Columns);
            matrix.CopyTo(copy);
            matrix.Clear();
            return copy;
        }
    }
}
