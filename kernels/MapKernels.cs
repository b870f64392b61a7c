using ILGPU;

namespace OnnxMorph.Kernels;

/// <summary>What a map kernel reads and writes; one thread computes one output element.</summary>
internal struct MapArguments<T>
    where T : unmanaged
{
    public ArrayView<T> Source;
    public ArrayView<T> Output;
    public ArrayView<int> RowStarts;
    public ArrayView<Term> RowTerms;
    public ArrayView<int> ColumnStarts;
    public ArrayView<Term> ColumnTerms;

    /// <summary>Elements of a gathered source row, and the source column that it starts with.</summary>
    public int SourceWidth;
    public int SourceColumnStart;

    /// <summary>Elements of an output row in the window, and the column that it starts with.</summary>
    public int Width;
    public int ColumnStart;

    /// <summary>Elements that one entry of the column table stands for.</summary>
    public int Run;
    public long ExtendedRowLength;
}

/// <summary>
/// The map kernels for accelerators: the definition in <see cref="TensorMap"/> written out for one element, in the same
/// order of operations as <see cref="SimdDevice"/>.
/// </summary>
internal static class MapKernels
{
    /// <summary>Moves one element, or makes a fresh one.</summary>
    public static void Pick<T, TFresh>(Index1D index, MapArguments<T> arguments, TFresh fresh)
        where T : unmanaged
        where TFresh : unmanaged, IFresh<T>
    {
        int row = index / arguments.Width;
        int column = index - row * arguments.Width + arguments.ColumnStart;
        int entry = column / arguments.Run;
        int within = column - entry * arguments.Run;
        int rowTerm = arguments.RowStarts[row];
        int columnTerm = arguments.ColumnStarts[entry];
        T value = default;
        if (rowTerm < arguments.RowStarts[row + 1] && columnTerm < arguments.ColumnStarts[entry + 1])
            value = Element(arguments, fresh, arguments.RowTerms[rowTerm], arguments.ColumnTerms[columnTerm], within);
        arguments.Output[index] = value;
    }

    /// <summary>Sums the terms of one element.</summary>
    public static void Scale<T, TFormat, TFresh>(Index1D index, MapArguments<T> arguments, TFresh fresh, AcceleratorReals reals)
        where T : unmanaged
        where TFormat : unmanaged, IFloatFormat<T>
        where TFresh : unmanaged, IFresh<T>
    {
        int row = index / arguments.Width;
        int column = index - row * arguments.Width + arguments.ColumnStart;
        int entry = column / arguments.Run;
        int within = column - entry * arguments.Run;
        double sum = 0;
        bool assign = true;
        for (int r = arguments.RowStarts[row]; r < arguments.RowStarts[row + 1]; r++)
        {
            Term rowTerm = arguments.RowTerms[r];
            for (int c = arguments.ColumnStarts[entry]; c < arguments.ColumnStarts[entry + 1]; c++)
            {
                Term columnTerm = arguments.ColumnTerms[c];
                double element = default(TFormat).ToDouble(Element(arguments, fresh, rowTerm, columnTerm, within));
                double product = reals.Multiply(reals.Multiply(rowTerm.Weight, columnTerm.Weight), element);
                sum = assign ? product : sum + product;
                assign = false;
            }
        }

        arguments.Output[index] = default(TFormat).FromDouble(sum);
    }

    private static T Element<T, TFresh>(MapArguments<T> arguments, TFresh fresh, Term rowTerm, Term columnTerm, int within)
        where T : unmanaged
        where TFresh : unmanaged, IFresh<T>
    {
        if (rowTerm.Source < 0 || columnTerm.Source < 0)
            return fresh.At(rowTerm.Position * arguments.ExtendedRowLength + columnTerm.Position * arguments.Run + within);
        long sourceColumn = columnTerm.Source * arguments.Run + within - arguments.SourceColumnStart;
        return arguments.Source[rowTerm.Source * arguments.SourceWidth + sourceColumn];
    }
}
