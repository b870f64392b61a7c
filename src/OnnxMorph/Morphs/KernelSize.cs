using System.Text.RegularExpressions;

namespace OnnxMorph.Morphs;

/// <summary>
/// The sizes of a kernel as users write them: one for every spatial axis (<c>5</c>, <c>x2</c>, <c>+2</c>), or one for each
/// with an x between them (<c>3x7</c>, <c>+2x+0</c>, <c>5xx2</c>).
/// </summary>
public sealed partial class KernelSize
{
    private readonly SizeRequest[] _sizes;

    private KernelSize(SizeRequest[] sizes) => _sizes = sizes;

    /// <summary>What <see cref="Parse"/> takes, as a regular expression.</summary>
    public const string Pattern = $"^{Size}(x{Size})*$";

    private const string Size = "(x[0-9]+([.][0-9]+)?|[+]?[0-9]+)";

    /// <summary>Reads the sizes of a kernel.</summary>
    /// <exception cref="UsageException">The text is not one.</exception>
    public static KernelSize Parse(string text)
    {
        if (Form().Match(text) is not { Success: true } match)
            throw new UsageException($"'{text}' is no kernel size: write one for all axes such as 5 or +2, or one for each such as 3x7 or +2x+0.");
        string[] parts = [match.Groups[1].Value, .. match.Groups[3].Captures.Select(c => c.Value[1..])];
        return new KernelSize([.. parts.Select(part => SizeRequest.Parse(part, orNone: parts.Length > 1))]);
    }

    /// <summary>
    /// The sizes that are asked for where the kernel has sizes <paramref name="kernel"/> now; null where it has another
    /// number of axes.
    /// </summary>
    /// <exception cref="UsageException">That is more taps than <see cref="SizeRequest.Largest"/>.</exception>
    public long[]? Apply(IReadOnlyList<long> kernel)
    {
        if (_sizes.Length != 1 && _sizes.Length != kernel.Count)
            return null;
        long[] sizes = [.. kernel.Select((current, axis) => _sizes[_sizes.Length == 1 ? 0 : axis].Apply(current))];
        return sizes.Aggregate(1.0, (taps, size) => taps * size) <= Math.Max(SizeRequest.Largest, kernel.Aggregate(1.0, (taps, size) => taps * size))
            ? sizes
            : throw new UsageException($"'{this}' would make a kernel of {string.Join('×', kernel)} one of {string.Join('×', sizes)}, and {SizeRequest.Largest:N0} taps is the most; ask for less.");
    }

    /// <inheritdoc/>
    public override string ToString() => string.Join('x', _sizes);

    [GeneratedRegex($"^{Size}(x{Size})*$", RegexOptions.CultureInvariant)]
    private static partial Regex Form();
}
