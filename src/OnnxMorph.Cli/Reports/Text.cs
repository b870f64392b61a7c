using System.Globalization;
using OnnxMorph.Transfer;
using OnnxMorph.Verification;

namespace OnnxMorph.Cli.Reports;

/// <summary>Numbers and names as people read them.</summary>
internal static class Text
{
    /// <summary>A count in at most four digits: <c>11.7 M</c>.</summary>
    public static string Count(long count)
    {
        (double value, string unit) = count switch
        {
            >= 1_000_000_000 => (count / 1e9, "\u00a0G"),
            >= 1_000_000 => (count / 1e6, "\u00a0M"),
            >= 10_000 => (count / 1e3, "\u00a0k"),
            _ => (count, ""),
        };
        return value.ToString(unit.Length == 0 ? "N0" : value >= 100 ? "0" : "0.0", CultureInfo.InvariantCulture) + unit;
    }

    /// <summary>A count with all its digits, in groups of three.</summary>
    public static string Full(long count) => count.ToString("N0", CultureInfo.InvariantCulture);

    /// <summary>A number with three significant digits.</summary>
    public static string Short(double value) => value.ToString("g3", CultureInfo.InvariantCulture);

    /// <summary>A share in percent; one that is not whole never reads 0 or 100.</summary>
    public static string Percent(double share) =>
        share == 0 ? "0 %" : Math.Abs(share - 1) < 1e-9 ? "100 %" : FormattableString.Invariant($"{Math.Clamp(100 * share, 0.1, 99.9):0.0} %");

    /// <summary>A part of a whole in percent.</summary>
    public static string Percent(long part, long whole) => Percent(whole == 0 ? 0 : (double)part / whole);

    /// <summary>Sizes, such as <c>64×3×7×7</c>.</summary>
    public static string Shape(IReadOnlyList<long> shape) => shape.Count == 0 ? "scalar" : string.Join('×', shape);

    /// <summary>A thing or several.</summary>
    public static string Some(long count, string what) => $"{Full(count)} {what}{(count == 1 ? "" : "s")}";

    /// <summary>A class of exactness, as <c>--json</c> spells it.</summary>
    public static string Name(Exactness exactness) => exactness switch
    {
        Exactness.BitExact => "bit-exact",
        Exactness.Rounding => "rounding",
        Exactness.Approximate => "approximate",
        _ => "different",
    };

    /// <summary>What a part computes, in words; null where nothing was promised.</summary>
    public static string? Name(PartState? state) => state switch
    {
        PartState.Exact => "exact",
        PartState.WithoutEffect => "without effect",
        PartState.Approximate => "approximate",
        PartState.Fresh => "fresh",
        _ => null,
    };

    /// <summary>At most so many characters of a name, its end, where names differ.</summary>
    public static string Tail(string name, int length)
    {
        if (name.Length <= length)
            return name;
        int start = name.Length - length + 1;
        return "…" + name[(char.IsLowSurrogate(name[start]) ? start + 1 : start)..];
    }
}
