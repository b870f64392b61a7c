namespace OnnxMorph.Verification;

/// <summary>What to verify on and how strictly.</summary>
public sealed record VerifyOptions
{
    /// <summary>
    /// The default <see cref="Margin"/>. The floor is a maximum over a handful of equivalent evaluations of the parent,
    /// which can miss the true maximum by a factor of about 2. The child may do more roundings than the parent, or larger
    /// ones where it works on larger intermediate values (free parts that cancel later): independent roundings add in
    /// squares, so 16 times as many of the parent's size, or as many 4 times as large, make 4 times the noise. 2 · 4 = 8.
    /// </summary>
    public const double DefaultMargin = 8;

    /// <summary>
    /// Where "approximate" ends and "different" begins, relative to an output's own scale: 2⁻¹⁰, the step of half
    /// precision. It names a class of difference and never lets a child pass that was asked to differ by rounding only.
    /// </summary>
    public const double ApproximateLimit = 1.0 / 1024;

    /// <summary>The user's samples: .npz, .npy, .pb, a test_data_set folder or a folder of them. Null draws inputs.</summary>
    public string? InputsPath { get; init; }

    /// <summary>Seed of the drawn inputs and of the rounding-unit perturbations.</summary>
    public ulong Seed { get; init; }

    /// <summary>The worst exactness that passes. A pass that declares itself approximate is verified with <see cref="Exactness.Approximate"/>.</summary>
    public Exactness Accept { get; init; } = Exactness.Rounding;

    /// <summary>How many times the noise floor a difference may be to count as rounding.</summary>
    public double Margin { get; init; } = DefaultMargin;

    /// <summary>
    /// Reads and rewrites models, for what ONNX Runtime cannot show: the first value that diverges, and the noise that
    /// perturbed weights make, without which the floor is too low for models with only integer inputs. Null does without.
    /// </summary>
    public IModelProbe? Probe { get; init; }
}
