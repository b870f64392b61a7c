using System.Collections.Immutable;
using System.Globalization;

namespace OnnxMorph.Morphs;

/// <summary>How a layer G is made two, or given two more (METHODS.md §2, Depth).</summary>
public enum DeepenMethod
{
    /// <summary>
    /// G = Q·(QᵀG) or (GQᵀ)·Q with orthonormal rows or columns of Q, and random weights in the channels that are left over. Layers whose channels are one a
    /// group have nothing to rotate and get the identity form.
    /// </summary>
    ClosedForm,

    /// <summary>Least squares for one half given the other, in turns, until the residual is 0 (algorithm 1 of Wei, Wang, Rui, Chen 2016).</summary>
    General,

    /// <summary>Least squares with ever fewer taps in the second half, until the residual is 0 (algorithm 2 of the same).</summary>
    Practical,

    /// <summary>The new layer is the identity: Dirac kernels, an identity matrix (Net2Deeper).</summary>
    Identity,

    /// <summary>x + F(x) behind the layer: F is two layers like it, and what the second makes is 0.</summary>
    ZeroResidual,
}

/// <summary>Which half of the closed form is the rotation, and thus without neighbourhood.</summary>
public enum DeepenOrder
{
    /// <summary>The second where it has the channels and the kernels for it, else the first.</summary>
    Automatic,

    /// <summary>The second: F₁ = QᵀG + N, F₂ = Q.</summary>
    Last,

    /// <summary>The first: F₁ = Q, F₂ = GQᵀ + N.</summary>
    First,
}

/// <summary>What stands between the halves.</summary>
public enum DeepenActivation
{
    /// <summary>φ with a trainable share of the identity that starts at all of it.</summary>
    Parametric,

    /// <summary>φ on x and on −x: φ(x) − φ(−x) = κ·x.</summary>
    Mirror,

    /// <summary>The layer goes behind the φ that follows it, and is followed by φ again: φ(φ(x)) = φ(x).</summary>
    Idempotent,

    /// <summary>Nothing.</summary>
    None,
}

/// <summary>A norm between the halves.</summary>
public enum DeepenNorm
{
    /// <summary>None.</summary>
    None,

    /// <summary>A batch norm that starts as the identity.</summary>
    Identity,
}

/// <summary>The kernels of both halves as users write them: taps along every axis, or along each: <c>3,3</c>, <c>1x3,3x1</c>.</summary>
public sealed record KernelPair
{
    // A slip of the pen beyond this fills the memory.
    private const int MostTaps = 255;

    private readonly int[] _first;
    private readonly int[] _second;

    private KernelPair(int[] first, int[] second) => (_first, _second) = (first, second);

    /// <summary>Reads two kernels.</summary>
    /// <exception cref="UsageException">The text is not a pair of kernels.</exception>
    public static KernelPair Parse(string text)
    {
        string[] halves = text.Split(',');
        int[][] sizes = [.. halves.Select(half => half.Trim().Split('x').Select(Taps).ToArray())];
        return sizes.Length == 2 && sizes.All(half => half.All(taps => taps is >= 1 and <= MostTaps))
            ? new KernelPair(sizes[0], sizes[1])
            : throw new UsageException($"'{text}' is not a pair of kernels: write the taps of the first and of the second half, such as 3,3 or 1x3,3x1.");

        static int Taps(string digits) => int.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out int taps) ? taps : 0;
    }

    /// <summary>The kernels for a layer with so many spatial axes; null where they are given for another number.</summary>
    internal (ImmutableArray<int> First, ImmutableArray<int> Second)? For(int axes) => axes == 0 ? ([], []) :
        Along(_first, axes) is { } first && Along(_second, axes) is { } second ? (first, second) : null;

    private static ImmutableArray<int>? Along(int[] sizes, int axes) =>
        sizes.Length == axes ? [.. sizes] : sizes.Length == 1 ? [.. Enumerable.Repeat(sizes[0], axes)] : null;

    /// <inheritdoc/>
    public override string ToString() => $"{string.Join('x', _first)},{string.Join('x', _second)}";
}

/// <summary>What to deepen with.</summary>
public sealed record DeepenOptions
{
    /// <summary>Layers put behind each, or blocks of two for <see cref="DeepenMethod.ZeroResidual"/>.</summary>
    public int Count { get; init; } = 1;

    /// <summary>How.</summary>
    public DeepenMethod Method { get; init; }

    /// <summary>Which half of the closed form is the rotation.</summary>
    public DeepenOrder Order { get; init; }

    /// <summary>Channels between the halves, from the layer's own output channels; as many as these where null.</summary>
    public SizeRequest? Channels { get; init; }

    /// <summary>Kernels of both halves; null leaves them to the method.</summary>
    public KernelPair? Kernels { get; init; }

    /// <summary>What stands between the halves.</summary>
    public DeepenActivation Activation { get; init; }

    /// <summary>The norm in front of the activation.</summary>
    public DeepenNorm Norm { get; init; }

    /// <summary>Samples of the model's inputs (.npz, .npy, .pb, a test_data_set folder) whose statistics the norm takes; null has it start at mean 0.</summary>
    public string? Calibrate { get; init; }

    /// <summary>Seed of everything random.</summary>
    public ulong Seed { get; init; }

    /// <summary>Refuses options that say nothing together.</summary>
    /// <exception cref="UsageException">They do.</exception>
    public void Validate()
    {
        Require(Order == DeepenOrder.Automatic || Method == DeepenMethod.ClosedForm, "order", "the closed form", "the closed-form method");
        Require(Channels is null || Method != DeepenMethod.Identity, "channels", "methods other than identity, whose new layer has the channels of the old one", "another method");
        Require(Activation != DeepenActivation.Idempotent || Method == DeepenMethod.Identity, "an idempotent activation", "the identity method, since φ does not go through any other layer", "the identity method");
        Require(Activation == DeepenActivation.Parametric || Method != DeepenMethod.ZeroResidual, "an activation", "methods other than zero-residual, which has the network's own between its layers", "no activation");
        Require(Calibrate is null || Norm != DeepenNorm.None, "calibrate", "a norm", "norm identity");
    }

    private static void Require(bool condition, string option, string meantFor, string remedy)
    {
        if (!condition)
            throw new UsageException($"A deepen step takes {option} only with {meantFor}: write {remedy}.");
    }

    /// <inheritdoc/>
    public override string ToString() => string.Join(", ", ((string?[])
    [
        Method switch { DeepenMethod.ClosedForm => "closed form", DeepenMethod.ZeroResidual => "zero residual", _ => Method.ToString().ToLowerInvariant() },
        Order == DeepenOrder.Automatic ? null : $"rotation {Order.ToString().ToLowerInvariant()}",
        Channels is { } channels ? $"channels {channels}" : null,
        Kernels is { } kernels ? $"kernels {kernels}" : null,
        Activation == DeepenActivation.Parametric ? null : $"activation {Activation.ToString().ToLowerInvariant()}",
        Norm == DeepenNorm.None ? null : Calibrate is null ? "batch norm" : "calibrated batch norm",
    ]).Where(part => part is not null));
}
