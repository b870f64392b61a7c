namespace OnnxMorph.Kernels;

/// <summary>
/// A sparse linear map along one axis in compressed rows: output index c is Σ weights[k] · extended[sources[k]] over k in
/// [starts[c], starts[c + 1]). Sources from the source size on are fresh.
/// </summary>
public sealed class AxisTerms
{
    /// <summary>A map with these rows.</summary>
    /// <exception cref="ArgumentException">The rows do not rise from 0 to the number of terms, or a source is out of range.</exception>
    public AxisTerms(int sourceSize, int freshSize, int[] starts, int[] sources, double[] weights)
    {
        if (starts.Length == 0 || starts[0] != 0 || starts[^1] != sources.Length || weights.Length != sources.Length)
            throw new ArgumentException("The rows do not cover the terms.", nameof(starts));
        for (int i = 1; i < starts.Length; i++)
            if (starts[i] < starts[i - 1])
                throw new ArgumentException("The rows do not rise.", nameof(starts));
        foreach (int source in sources)
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)source, (uint)(sourceSize + freshSize), nameof(sources));
        SourceSize = sourceSize;
        FreshSize = freshSize;
        Starts = starts;
        Sources = sources;
        Weights = weights;
    }

    /// <summary>Size of the source axis.</summary>
    public int SourceSize { get; }

    /// <summary>Fresh indices behind the source's own.</summary>
    public int FreshSize { get; }

    /// <summary>Size of the output axis.</summary>
    public int Size => Starts.Length - 1;

    internal int[] Starts { get; }

    internal int[] Sources { get; }

    internal double[] Weights { get; }

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
