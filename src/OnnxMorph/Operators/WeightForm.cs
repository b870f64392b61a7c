namespace OnnxMorph.Operators;

/// <summary>What an axis of a weight is to the linear map that an operator makes of the weight.</summary>
public enum WeightAxis
{
    /// <summary>One map beside the other, on inputs of their own: batches of a matrix product, directions, rows of a table.</summary>
    Stack,

    /// <summary>What the map gives.</summary>
    Output,

    /// <summary>What the map sums over.</summary>
    Input,

    /// <summary>Taps of a kernel, which slides over the spatial axes in the same order.</summary>
    Tap,
}

/// <summary>A weight as the operator that reads it uses it: the linear map y = T(w)·x, axis by axis.</summary>
/// <param name="Axes">What each axis of the weight is.</param>
/// <param name="Parts">Into how many maps of their own <paramref name="PartAxis"/> falls: groups of a convolution, gates of a recurrent layer.</param>
/// <param name="PartAxis">The axis that holds the parts, one behind the other.</param>
public sealed record WeightForm(IReadOnlyList<WeightAxis> Axes, int Parts = 1, int PartAxis = 0)
{
    /// <summary>A stack of matrices [… inputs, outputs], or [… outputs, inputs] where <paramref name="transposed"/>.</summary>
    public static WeightForm Matrix(int rank, bool transposed) => new(rank == 1 ? [WeightAxis.Input]
        : [.. Enumerable.Repeat(WeightAxis.Stack, rank - 2), transposed ? WeightAxis.Output : WeightAxis.Input, transposed ? WeightAxis.Input : WeightAxis.Output]);

    /// <summary>Product of the sizes of the axes of a kind, within one part.</summary>
    public double Size(IReadOnlyList<long> shape, WeightAxis kind) =>
        Axes.Index().Where(a => a.Item == kind).Aggregate(1.0, (product, a) => product * shape[a.Index] / (a.Index == PartAxis ? Parts : 1));
}
