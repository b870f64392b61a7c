namespace OnnxMorph.Recipes;

/// <summary>What the text of an option may be.</summary>
public enum OptionForm
{
    /// <summary>One of <see cref="StepOption.Choices"/>.</summary>
    Choice,

    /// <summary>A size: 96, x1.5, +2.</summary>
    Size,

    /// <summary>Sizes of a kernel: 5, x2, +2, 3x7, +2x+0.</summary>
    KernelSize,

    /// <summary>A whole number of at least 1.</summary>
    Number,

    /// <summary>Text whose form <see cref="StepOption.Description"/> tells.</summary>
    Text,
}

/// <summary>An option of a step: an entry of a recipe, and <c>--KIND-NAME</c> on the command line.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Form">What its text may be.</param>
/// <param name="Description">What it is for, in one sentence.</param>
public sealed record StepOption(string Name, OptionForm Form, string Description)
{
    /// <summary>What a choice may be, the default first.</summary>
    public IReadOnlyList<string> Choices { get; init; } = [];

    /// <summary>The largest number.</summary>
    public int Most { get; init; } = int.MaxValue;

    /// <summary>Whether a step must name it.</summary>
    public bool Required { get; init; }

    /// <summary>An option that takes one of <paramref name="choices"/>, the first by default.</summary>
    public static StepOption Choice(string name, string description, params IReadOnlyList<string> choices) =>
        new(name, OptionForm.Choice, description) { Choices = choices };
}

/// <summary>A kind of step: what recipes and the command line know of a pass.</summary>
/// <param name="Name">Its name: the first key of a recipe's step, and <c>--NAME</c> on the command line.</param>
/// <param name="Description">What it does, in one sentence.</param>
/// <param name="Options">Its options. The first is what follows SELECTOR= on the command line.</param>
/// <param name="Pass">Makes the pass of a step.</param>
public sealed record StepKind(
    string Name, string Description, IReadOnlyList<StepOption> Options, Func<StepArguments, Func<Axes.AxisAnalysis, Morphs.StepReport>> Pass)
{
    /// <summary>The option that follows SELECTOR= on the command line; null where only a selector is given.</summary>
    public StepOption? Main { get; init; }

    /// <summary>Examples of what is written behind <c>--NAME</c>.</summary>
    public required string Examples { get; init; }
}

/// <summary>A step's selector, seed and options as its pass reads them.</summary>
public sealed class StepArguments(StepSpec step, StepKind kind, ulong seed)
{
    /// <summary>The layers that the step is for.</summary>
    public Morphs.Selector Selector { get; } = Morphs.Selector.Parse(step.Selector);

    /// <summary>Seed of everything random in the step.</summary>
    public ulong Seed => seed;

    /// <summary>The text of an option; null where it was not given.</summary>
    public string? Text(string option) => step.Options.GetValueOrDefault(option);

    /// <summary>A size.</summary>
    /// <exception cref="UsageException">The text is not one.</exception>
    public Morphs.SizeRequest Size(string option) => Morphs.SizeRequest.Parse(Text(option)!);

    /// <summary>Sizes of a kernel.</summary>
    /// <exception cref="UsageException">The text is not one.</exception>
    public Morphs.KernelSize KernelSize(string option) => Morphs.KernelSize.Parse(Text(option)!);

    /// <summary>A whole number, or <paramref name="otherwise"/> where none was given.</summary>
    /// <exception cref="UsageException">The text is not one, or it is too large.</exception>
    public int Number(string option, int otherwise)
    {
        if (Text(option) is not { } text)
            return otherwise;
        int most = kind.Options.Single(o => o.Name == option).Most;
        return int.TryParse(text, System.Globalization.NumberStyles.None, System.Globalization.CultureInfo.InvariantCulture, out int number) && number >= 1 && number <= most
            ? number
            : throw new UsageException($"'{text}' is not a {option}: write a whole number from 1{(most < int.MaxValue ? $" to {most}" : "")}.");
    }

    /// <summary>The choice made, as its number in the option's list; 0 where none was.</summary>
    /// <exception cref="UsageException">It is not in the list.</exception>
    public int Choice(string option)
    {
        if (Text(option) is not { } text)
            return 0;
        IReadOnlyList<string> choices = kind.Options.Single(o => o.Name == option).Choices;
        for (int i = 0; i < choices.Count; i++)
            if (choices[i] == text)
                return i;
        throw new UsageException($"'{text}' is no {option} of {kind.Name}: write {string.Join(", ", choices)}.");
    }
}
