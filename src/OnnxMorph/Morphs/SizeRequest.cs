using System.Globalization;

namespace OnnxMorph.Morphs;

/// <summary>A size as users write it: <c>96</c>, <c>x1.5</c> or <c>+2</c>.</summary>
public readonly record struct SizeRequest
{
    /// <summary>
    /// The largest size that an axis may be given. No trained network comes near it, and a slip of the finger beyond it would
    /// fill the memory with indices before the disk could refuse.
    /// </summary>
    public const long Largest = 1 << 20;

    private readonly char _kind;
    private readonly double _number;

    private SizeRequest(char kind, double number)
    {
        _kind = kind;
        _number = number;
    }

    /// <summary>Reads a size.</summary>
    /// <param name="text">The text.</param>
    /// <param name="orNone">Whether <c>+0</c> is a size too: it leaves one of several as it is.</param>
    /// <exception cref="UsageException">The text is not a size.</exception>
    public static SizeRequest Parse(string text, bool orNone = false)
    {
        char kind = text.Length > 0 && text[0] is 'x' or '+' ? text[0] : '=';
        string digits = kind == '=' ? text : text[1..];
        bool valid = kind == 'x'
            ? double.TryParse(digits, NumberStyles.AllowDecimalPoint, CultureInfo.InvariantCulture, out double number) && number >= 1
            : double.TryParse(digits, NumberStyles.None, CultureInfo.InvariantCulture, out number) && number >= (orNone && kind == '+' ? 0 : 1);
        return valid && number <= int.MaxValue
            ? new SizeRequest(kind, number)
            : throw new UsageException($"'{text}' is not a size: write a number such as 96, a factor of at least 1 such as x1.5, or an increase such as +2.");
    }

    /// <summary>The size that is asked for where the size is <paramref name="current"/> now; halves are rounded up.</summary>
    /// <exception cref="UsageException">That is more than <see cref="Largest"/>.</exception>
    public long Apply(long current)
    {
        double size = _kind switch
        {
            'x' => Math.Floor(current * _number + 0.5),
            '+' => current + _number,
            _ => _number,
        };
        return size <= Math.Max(Largest, current)
            ? (long)size
            : throw new UsageException($"'{this}' would make an axis of {current} one of {size:N0}, and {Largest:N0} is the most; ask for less.");
    }

    /// <inheritdoc/>
    public override string ToString() =>
        _kind == '=' ? _number.ToString(CultureInfo.InvariantCulture) : string.Create(CultureInfo.InvariantCulture, $"{_kind}{_number}");
}
