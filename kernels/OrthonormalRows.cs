using System.Runtime.InteropServices;

namespace OnnxMorph.Kernels;

/// <summary>
/// Rows of unit length at right angles to each other, uniformly distributed: normal draws made orthogonal in order (Gram and Schmidt; the
/// distribution is Haar's since the triangular factor's diagonal is positive). Everything is float64 with a fixed order of operations, so
/// neither threads nor vector width change a bit.
/// </summary>
public static class OrthonormalRows
{
    /// <summary>Draws <paramref name="rows"/> rows of <paramref name="columns"/> elements, row-major.</summary>
    /// <param name="rows">How many; at most as many as there are columns.</param>
    /// <param name="columns">Elements of each.</param>
    /// <param name="seed">Key of the draws.</param>
    /// <param name="position">Position of the first draw.</param>
    public static double[] Draw(int rows, int columns, ulong seed, long position)
    {
        ArgumentOutOfRangeException.ThrowIfGreaterThan(rows, columns);
        var values = new double[checked(rows * columns)];
        new KernelFill(Distribution.Normal, 1, seed, 0).Write(ElementFormat.Float64, position, MemoryMarshal.AsBytes(values.AsSpan()));
        // One pass leaves errors of the size of the condition number; the second takes them away.
        for (int pass = 0; pass < 2; pass++)
        {
            for (int done = 0; done < rows; done++)
            {
                int current = done;
                Span<double> row = values.AsSpan(current * columns, columns);
                VectorSums.Add<double>(row, 1 / Math.Sqrt(VectorSums.Dot(row, row)), row, assign: true);
                if (rows - current - 1 > 0)
                    Parallel.For(current + 1, rows, next =>
                    {
                        Span<double> other = values.AsSpan(next * columns, columns);
                        ReadOnlySpan<double> unit = values.AsSpan(current * columns, columns);
                        VectorSums.Add<double>(unit, -VectorSums.Dot(unit, other), other, assign: false);
                    });
            }
        }

        return values;
    }
}
