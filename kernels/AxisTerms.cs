namespace OnnxMorph.Kernels;

/// <summary>
/// A sparse linear map along one axis in compressed rows: output index c is Σ weights[k] · extended[sources[k]] over k in
/// [starts[c], starts[c + 1]). Sources from <paramref name="sourceSize"/> on are fresh.
/// </summary>
public sealed class AxisTerms(int sourceSize, int freshSize, int[] starts, int[] sources, double[] weights)
{
    /// <summary>Size of the source axis.</summary>
    public int SourceSize { get; } = sourceSize;

    /// <summary>Fresh indices behind the source's own.</summary>
    public int FreshSize { get; } = freshSize;

    /// <summary>Size of the output axis.</summary>
    public int Size => Starts.Length - 1;

    internal int[] Starts { get; } = starts;

    internal int[] Sources { get; } = sources;

    internal double[] Weights { get; } = weights;

    internal bool IsPick
    {
        get
        {
            for (int i = 0; i < Size; i++)
                if (Starts[i + 1] - Starts[i] > 1)
                    return false;
            return Weights.AsSpan().IndexOfAnyExcept(1.0) < 0;
        }
    }
}
