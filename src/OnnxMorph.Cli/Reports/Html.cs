using System.Globalization;
using System.Runtime.CompilerServices;
using System.Text;

namespace OnnxMorph.Cli.Reports;

/// <summary>
/// Well-formed markup. It is written as interpolated strings, <c>Markup($"&lt;td&gt;{name}&lt;/td&gt;")</c>, in which the literal parts are
/// markup and everything put between them is text, encoded, unless it is markup itself.
/// </summary>
internal readonly struct Html
{
    private readonly string? _markup;

    private Html(string markup) => _markup = markup;

    /// <summary>Markup with encoded text in it.</summary>
    public static Html Markup(Handler handler) => new(handler.ToString());

    /// <summary>One piece of markup behind the other.</summary>
    public static Html Join(IEnumerable<Html> pieces) => new(string.Concat(pieces.Select(p => p._markup)));

    /// <summary>Markup that comes with the program.</summary>
    public static Html Trusted(string markup) => new(markup);

    /// <summary>Text, encoded.</summary>
    public static implicit operator Html(string? text) => new(Encode(text));

    /// <summary>The markup; lines end in a single line feed wherever the program was built.</summary>
    public override string ToString() => (_markup ?? "").ReplaceLineEndings("\n");

    // What XML has no character for becomes U+FFFD; white space keeps its kind in attributes too.
    private static string Encode(string? text)
    {
        var encoded = new StringBuilder();
        foreach (Rune rune in (text ?? "").EnumerateRunes()) // halves of surrogate pairs come as U+FFFD
        {
            encoded.Append(rune.Value switch
            {
                '<' => "&lt;",
                '>' => "&gt;",
                '&' => "&amp;",
                '"' => "&quot;",
                '\'' => "&#39;",
                '\t' or '\n' or '\r' or 0x85 or 0x2028 or 0x2029 => $"&#{rune.Value};",
                < ' ' or (>= 0x7f and < 0xa0) or 0xfffe or 0xffff => "\ufffd",
                _ => rune.ToString(),
            });
        }

        return encoded.ToString();
    }

    /// <summary>What the compiler makes of an interpolated string that is to be <see cref="Html"/>.</summary>
    [InterpolatedStringHandler]
    public readonly struct Handler(int literalLength, int formattedCount)
    {
        private readonly StringBuilder _markup = new(literalLength + 16 * formattedCount);

        public void AppendLiteral(string markup) => _markup.Append(markup);

        public void AppendFormatted(string? text) => _markup.Append(Encode(text));

        public void AppendFormatted(Html markup) => _markup.Append(markup._markup);

        public void AppendFormatted(IEnumerable<Html> pieces) => _markup.AppendJoin("", pieces.Select(p => p._markup));

        /// <summary>A number; coordinates need no more than two decimals.</summary>
        public void AppendFormatted(double number, string format = "0.##") => _markup.Append(Encode(number.ToString(format, CultureInfo.InvariantCulture)));

        public void AppendFormatted(long number, string format = "D") => _markup.Append(Encode(number.ToString(format, CultureInfo.InvariantCulture)));

        public override string ToString() => _markup.ToString();
    }
}
