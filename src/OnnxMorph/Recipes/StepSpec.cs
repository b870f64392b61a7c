using OnnxMorph.Morphs;

namespace OnnxMorph.Recipes;

/// <summary>A step as it is written in a recipe or on the command line: a kind, the layers, and options by name.</summary>
/// <param name="Kind">Name of a kind in <see cref="StepKinds.All"/>.</param>
/// <param name="Selector">The layers that it is for.</param>
/// <param name="Options">The options given, as text.</param>
public sealed record StepSpec(string Kind, string Selector, IReadOnlyDictionary<string, string> Options)
{
    /// <summary>The step to carry out, drawing from <paramref name="seed"/>.</summary>
    /// <exception cref="UsageException">Kind, selector or an option is wrong.</exception>
    public MorphStep ToStep(ulong seed)
    {
        if (StepKinds.All.FirstOrDefault(k => k.Name == Kind) is not { } kind)
            throw new UsageException($"'{Kind}' is no kind of step: write {string.Join(", ", StepKinds.All.Select(k => k.Name))}.");
        var known = kind.Options.Select(o => o.Name).ToList();
        if (Options.Keys.FirstOrDefault(o => !known.Contains(o)) is { } unknown)
            throw new UsageException($"A {Kind} step takes no '{unknown}': it takes {(known.Count == 0 ? "no options" : string.Join(", ", known))}.");
        if (kind.Options.FirstOrDefault(o => o.Required && !Options.ContainsKey(o.Name)) is { } missing)
            throw new UsageException($"A {Kind} step needs a {missing.Name}, such as {kind.Examples}.");
        var arguments = new StepArguments(this, kind, seed);
        return new MorphStep(ToString(), arguments.Selector, kind.Pass(arguments));
    }

    /// <inheritdoc/>
    public override string ToString() => string.Join(' ', [Kind, Selector, .. Options.Select(o => $"{o.Key}={o.Value}")]);
}
