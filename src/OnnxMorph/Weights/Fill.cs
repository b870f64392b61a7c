namespace OnnxMorph.Weights;

/// <summary>How a seeded fill draws its values.</summary>
public enum FillKind
{
    /// <summary>Every value is <see cref="Fill.Scale"/>.</summary>
    Constant,

    /// <summary>Uniform in (−Scale, Scale), before rounding to the element type.</summary>
    Uniform,

    /// <summary>Normal with mean 0 and standard deviation Scale.</summary>
    Normal,
}

/// <summary>
/// A counter-based fill: the value at row-major position p of the (extended) tensor depends on
/// (<paramref name="Seed"/>, p) alone, so that any window can be evaluated on any device with the same bits.
/// </summary>
/// <param name="Kind">The distribution.</param>
/// <param name="Scale">The constant, half-width or standard deviation.</param>
/// <param name="Seed">Key of the generator; unused for constants.</param>
public readonly record struct Fill(FillKind Kind, double Scale, ulong Seed)
{
    /// <summary>Zeros.</summary>
    public static Fill Zero => default;

    /// <summary>A fill with one value everywhere.</summary>
    public static Fill Constant(double value) => new(FillKind.Constant, value, 0);
}
