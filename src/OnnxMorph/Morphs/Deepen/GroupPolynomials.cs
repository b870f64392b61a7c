using OnnxMorph.Numerics;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>Weights of layers as matrix polynomials, one for each group.</summary>
internal static class GroupPolynomials
{
    /// <summary>Reads the weights of a layer.</summary>
    public static MatrixPolynomial[] Read(LayerWeight weight)
    {
        double[] values = new WeightEvaluator().EvaluateUnrounded(weight.Data);
        MatrixPolynomial[] groups = [.. Enumerable.Range(0, weight.Groups).Select(_ => new MatrixPolynomial(weight.Outputs, weight.Inputs, weight.Kernel))];
        Visit(groups, weight, weight.Data.Shape.AsSpan(), (group, tap, row, at, stride) =>
        {
            Span<double> columns = groups[group][tap].Row(row);
            for (int column = 0; column < columns.Length; column++)
                columns[column] = values[at + column * stride];
        });
        return groups;
    }

    /// <summary>Weights of a layer that is laid out as another one.</summary>
    /// <param name="groups">The polynomials, equal in form.</param>
    /// <param name="layout">Whose axes and groups are meant; its sizes do not count.</param>
    /// <param name="reverse">Whether taps stand in the opposite order.</param>
    public static LayerWeight Write(MatrixPolynomial[] groups, LayerWeight layout, bool reverse = false)
    {
        var shape = new long[layout.Data.Shape.Length];
        shape[layout.OutputAxis] = groups[0].Rows;
        shape[layout.InputAxis] = groups[0].Columns;
        shape[layout.GroupedAxis] *= groups.Length;
        foreach ((int axis, int taps) in layout.KernelAxes.Zip(groups[0].Taps))
            shape[axis] = taps;
        var values = new double[groups.Sum(g => g.Values.Length)];
        Visit(groups, layout, shape, (group, tap, row, at, stride) =>
        {
            ReadOnlySpan<double> columns = groups[group][reverse ? groups[group].TapCount - 1 - tap : tap].Row(row);
            for (int column = 0; column < columns.Length; column++)
                values[at + column * stride] = columns[column];
        });
        return layout with { Data = new ComputedWeight(layout.Data.Type, [.. shape], values) };
    }

    // Every row of every tap with the place of its first column in a tensor of the shape, and how far apart columns lie there.
    private static void Visit(MatrixPolynomial[] groups, LayerWeight layout, ReadOnlySpan<long> shape, Action<int, int, int, int, int> visit)
    {
        var strides = new int[shape.Length];
        for (int axis = shape.Length - 1, stride = 1; axis >= 0; stride *= (int)shape[axis--])
            strides[axis] = stride;
        int outputs = strides[layout.OutputAxis], inputs = strides[layout.InputAxis];
        for (int group = 0; group < groups.Length; group++)
        {
            MatrixPolynomial polynomial = groups[group];
            int start = group * strides[layout.GroupedAxis] * (layout.GroupedAxis == layout.OutputAxis ? polynomial.Rows : polynomial.Columns);
            for (int tap = 0; tap < polynomial.TapCount; tap++)
            {
                int place = start;
                for (int axis = polynomial.Taps.Length - 1, rest = tap; axis >= 0; axis--)
                {
                    (rest, int power) = Math.DivRem(rest, polynomial.Taps[axis]);
                    place += power * strides[layout.KernelAxes[axis]];
                }

                for (int row = 0; row < polynomial.Rows; row++)
                    visit(group, tap, row, place + row * outputs, inputs);
            }
        }
    }
}
