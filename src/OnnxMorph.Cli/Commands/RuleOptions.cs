using System.CommandLine;
using OnnxMorph.Structure;
using OnnxMorph.Transfer;
using OnnxMorph.Transfer.Rules;

namespace OnnxMorph.Cli.Commands;

/// <summary>The options of <c>transfer</c> that say which channels and blocks go where: a preset, and single rules that override it.</summary>
internal sealed class RuleOptions
{
    private const string DefaultPreset = "im-init";

    private readonly Option<string?> _preset = Choice(
        "--preset", TransferRules.Presets.Keys,
        $"A named set of the rules below, to compare with: {string.Join(", ", TransferRules.Presets.Keys)} ({DefaultPreset} by default). A rule given beside it counts.");

    private readonly Option<string?> _width = Choice<WidthRule>(
        "--width", "Which channels go where: importance (the largest; evenly where the target has more), uniform, leading, centre, stride, merge (similar ones become one) or interpolate.");

    private readonly Option<string?> _importance = Choice<ImportanceMeasure>(
        "--importance", "What makes a channel important: gamma (norms' |γ|, without a norm as l1) or l1 (the weights that make it).");

    private readonly Option<string?> _added = Choice<AddedChannels>(
        "--added", "What channels beyond the source's are: copies, zeros, or next (those of the next block).");

    private readonly Option<string?> _sharing = Choice<MapSharing>(
        "--maps", "What shares one choice of channels: space (every tensor that touches a channel space) or tensor (none; by sizes alone).");

    private readonly Option<string?> _scale = Choice<ScaleRule>(
        "--scale", "What weights are multiplied by where layers sum over channels: shares (shared out over copies, with noise that cancels), equal (divided by the copies), none, root (√(nS/nT)) or ratio (nS/nT).");

    private readonly Option<string?> _depth = Choice<DepthRule>(
        "--depth", "Which block of a stage takes which: even (spread), first (in order, then the last again) or cyclic (in order, then from the start).");

    private readonly Option<string?> _inserted = Choice<InsertedBlocks>(
        "--inserted", "What blocks start as whose source fills another too: identity, repeat, or scaled (repeats that share out their branch).");

    /// <summary>All of them.</summary>
    public IEnumerable<Option> All => [_preset, _width, _importance, _added, _sharing, _scale, _depth, _inserted];

    /// <summary>The rules that a command line asks for.</summary>
    /// <exception cref="UsageException">They do not go with the method.</exception>
    public TransferRules Read(ParseResult parsed, TransferMethod method)
    {
        if (method != TransferMethod.Isomorphic && new[] { _preset, _depth }.FirstOrDefault(o => parsed.GetValue(o) is not null) is { } foreign)
            throw new UsageException($"{foreign.Name} goes with --method isomorphic, which pairs the blocks of stages; {method.ToString().ToLowerInvariant()} finds them itself.");
        TransferRules rules = TransferRules.Presets[parsed.GetValue(_preset) ?? DefaultPreset];
        return rules with
        {
            Width = Given(_width, rules.Width),
            Importance = Given(_importance, rules.Importance),
            Added = Given(_added, rules.Added),
            Maps = Given(_sharing, rules.Maps),
            Scale = Given(_scale, rules.Scale),
            Depth = Given(_depth, rules.Depth),
            Inserted = Given(_inserted, rules.Inserted),
        };

        T Given<T>(Option<string?> option, T otherwise) where T : struct, Enum => parsed.GetValue(option) is { } name ? Enum.Parse<T>(name, ignoreCase: true) : otherwise;
    }

    private static Option<string?> Choice<T>(string name, string description) where T : struct, Enum =>
        Choice(name, Enum.GetNames<T>().Select(n => n.ToLowerInvariant()), description);

    private static Option<string?> Choice(string name, IEnumerable<string> values, string description)
    {
        var option = new Option<string?>(name) { Description = description, HelpName = name[2..].ToUpperInvariant() };
        option.AcceptOnlyFromAmong([.. values]);
        return option;
    }
}
