using System.Collections.Immutable;
using System.Globalization;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>
/// Modules as short expressions: <c>3x3, 1x1</c> is one layer after the other with an activation between, <c>3x3 | 1x1</c> the sum of two
/// and <c>3x3 &amp; 1x1</c> their concatenation; <c>(1x1:x2, 3x3) | id</c>.
/// <code>
/// module = part {"," part} | part {"|" part} | part {"&amp;" part}
/// part   = kernel [":" width] | "id" | "(" module ")"
/// kernel = number {"x" number} | "layer"
/// width  = number | "x" factor | "+" number
/// </code>
/// Parts joined in different ways stand in parentheses, so that nobody has to know which binds first.
/// </summary>
internal sealed class ModuleText
{
    /// <summary>The most operators of a module.</summary>
    public const int MostParts = 200;

    private const long LargestKernel = 255;

    private readonly string _text;
    private readonly ImmutableArray<ModuleOperator>.Builder _operators = ImmutableArray.CreateBuilder<ModuleOperator>();
    private int _at;
    private int _depth;

    private ModuleText(string text) => _text = text;

    /// <summary>Reads an expression.</summary>
    /// <exception cref="UsageException">It is not one.</exception>
    public static Module Parse(string text)
    {
        var reader = new ModuleText(text);
        int result = reader.Joined(0);
        if (reader.Peek() is { } rest)
            throw reader.Wrong($"'{rest}' is not expected here");
        // The result is the last value, and an operator's.
        if (result == 0 || result != reader._operators.Count)
            reader.Add(new ModuleSum([result]));
        return new Module(reader._operators.ToImmutable());
    }

    private int Joined(int input)
    {
        if (++_depth > MostParts)
            throw Wrong("it has too many parentheses");
        var parts = new List<int> { Part(input) };
        char? join = Peek();
        while (Peek() is ',' or '|' or '&')
        {
            if (Peek() != join)
                throw Wrong($"'{join}' and '{Peek()}' stand beside each other; put parentheses around what belongs together");
            _at++;
            parts.Add(join == ',' ? Part(Add(new ModuleActivation(parts[^1]))) : Part(input));
        }

        _depth--;
        return join switch
        {
            '|' when parts.Count > 1 => Add(new ModuleSum([.. parts])),
            '&' when parts.Count > 1 => Add(new ModuleConcat([.. parts])),
            _ => parts[^1],
        };
    }

    private int Part(int input)
    {
        if (Peek() == '(')
        {
            _at++;
            int result = Joined(input);
            if (Peek() != ')')
                throw Wrong("a ')' is missing");
            _at++;
            return result;
        }

        string word = Word();
        if (word == "id")
            return input;
        ImmutableArray<long>? kernel = word == "layer" ? null : [.. word.Split('x').Select(Taps)];
        SizeRequest? width = null;
        if (Peek() == ':')
        {
            _at++;
            width = SizeRequest.Parse(Word());
        }

        return Add(new ModuleLayer(input, kernel, width));
    }

    private long Taps(string number) =>
        long.TryParse(number, NumberStyles.None, CultureInfo.InvariantCulture, out long taps) && taps is >= 1 and <= LargestKernel
            ? taps
            : throw Wrong($"a kernel such as 3x3, 'layer' or 'id' is expected instead of '{number}'");

    private int Add(ModuleOperator added)
    {
        if (_operators.Count >= MostParts)
            throw Wrong($"it has more than {MostParts} parts");
        _operators.Add(added);
        return _operators.Count;
    }

    private char? Peek()
    {
        while (_at < _text.Length && char.IsWhiteSpace(_text[_at]))
            _at++;
        return _at < _text.Length ? _text[_at] : null;
    }

    private string Word()
    {
        Peek();
        int start = _at;
        while (_at < _text.Length && (char.IsAsciiLetterOrDigit(_text[_at]) || _text[_at] is '.' or '+'))
            _at++;
        return _text[start.._at];
    }

    private UsageException Wrong(string why) =>
        new($"The module '{_text}' is not understood at character {_at + 1}: {why}; write something like '(3x3, 3x3) | 1x1'.");
}
