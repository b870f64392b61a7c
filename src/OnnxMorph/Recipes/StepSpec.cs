using System.Globalization;
using OnnxMorph.Morphs;

namespace OnnxMorph.Recipes;

/// <summary>A step as it is written in a recipe or on the command line: a kind, the layers, and options by name.</summary>
/// <param name="Kind">widen, deepen, kernel or activation.</param>
/// <param name="Selector">The layers that it is for.</param>
/// <param name="Options">The options given, as text.</param>
public sealed record StepSpec(string Kind, string Selector, IReadOnlyDictionary<string, string> Options)
{
    // Counts beyond this are slips of the pen: a hundred layers behind each.
    private const int MostLayers = 100;

    /// <summary>The kinds of step, and the options that each takes.</summary>
    public static IReadOnlyDictionary<string, IReadOnlyList<string>> Kinds { get; } = new Dictionary<string, IReadOnlyList<string>>
    {
        ["widen"] = ["size", "method"],
        ["deepen"] = ["count", "method"],
        ["kernel"] = ["size"],
        ["activation"] = [],
    };

    /// <summary>Names of the ways to widen, as users write them, the default first.</summary>
    public static IReadOnlyList<string> WidenMethods { get; } = ["replicate", "zero", "opposed"];

    /// <summary>Names of the ways to deepen, the default first.</summary>
    public static IReadOnlyList<string> DeepenMethods { get; } = ["closed-form", "identity"];

    /// <summary>The step to carry out, drawing from <paramref name="seed"/>.</summary>
    /// <exception cref="UsageException">Kind, selector or an option is wrong.</exception>
    public MorphStep ToStep(ulong seed)
    {
        if (!Kinds.TryGetValue(Kind, out IReadOnlyList<string>? known))
            throw new UsageException($"'{Kind}' is no kind of step: write {string.Join(", ", Kinds.Keys)}.");
        if (Options.Keys.FirstOrDefault(o => !known.Contains(o)) is { } unknown)
            throw new UsageException($"A {Kind} step takes no '{unknown}': it takes {(known.Count == 0 ? "no options" : string.Join(" and ", known))}.");
        var selector = Morphs.Selector.Parse(Selector);
        switch (Kind)
        {
            case "widen":
                SizeRequest size = Size();
                WidenMethod widen = (WidenMethod)Method(WidenMethods);
                return new MorphStep(ToString(), selector, new WidenPass(selector, size, widen, seed).Apply);
            case "deepen":
                int count = Count();
                DeepenMethod deepen = (DeepenMethod)Method(DeepenMethods);
                return new MorphStep(ToString(), selector, new DeepenPass(selector, count, deepen, seed).Apply);
            case "kernel":
                return new MorphStep(ToString(), selector, new KernelPass(selector, Size()).Apply);
            default:
                return new MorphStep(ToString(), selector, new ActivationPass(selector).Apply);
        }
    }

    private SizeRequest Size() => Options.TryGetValue("size", out string? size)
        ? SizeRequest.Parse(size)
        : throw new UsageException($"A {Kind} step needs a size, such as x1.5, +2 or 96.");

    private int Count()
    {
        if (!Options.TryGetValue("count", out string? text))
            return 1;
        return int.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out int count) && count is >= 1 and <= MostLayers
            ? count
            : throw new UsageException($"'{text}' is not a count of layers: write a number from 1 to {MostLayers}.");
    }

    private int Method(IReadOnlyList<string> methods)
    {
        if (!Options.TryGetValue("method", out string? name))
            return 0;
        for (int i = 0; i < methods.Count; i++)
            if (methods[i] == name)
                return i;
        throw new UsageException($"'{name}' is no method of {Kind}: write {string.Join(", ", methods)}.");
    }

    /// <inheritdoc/>
    public override string ToString() => string.Join(' ', [Kind, Selector, .. Options.Select(o => $"{o.Key}={o.Value}")]);
}
