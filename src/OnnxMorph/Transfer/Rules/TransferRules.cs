using OnnxMorph.Structure;

namespace OnnxMorph.Transfer.Rules;

/// <summary>
/// How weights are carried from one network of a family to another. Each part is chosen by itself; the defaults are those that did best in METHODS.md §3
/// and docs/transfer-rules.md.
/// </summary>
public sealed record TransferRules
{
    /// <summary>Named sets of rules: this project's default and methods to compare with, as far as they are known (docs/methods.md).</summary>
    public static IReadOnlyDictionary<string, TransferRules> Presets { get; } = new Dictionary<string, TransferRules>
    {
        ["im-init"] = new(),
        ["fna"] = new()
        {
            Width = WidthRule.Leading,
            Added = AddedChannels.Zeros,
            Maps = MapSharing.Tensor,
            Scale = ScaleRule.None,
            Depth = DepthRule.First,
            Inserted = InsertedBlocks.Repeat,
        },
        ["weight-selection"] = new()
        {
            Width = WidthRule.Stride,
            Maps = MapSharing.Tensor,
            Scale = ScaleRule.None,
            Depth = DepthRule.First,
            Inserted = InsertedBlocks.Repeat,
        },
        ["aki"] = new()
        {
            Width = WidthRule.Leading,
            Added = AddedChannels.Next,
            Scale = ScaleRule.Equal,
            Depth = DepthRule.Cyclic,
            Inserted = InsertedBlocks.Repeat,
        },
        ["hypercloning"] = new() { Width = WidthRule.Leading, Scale = ScaleRule.Equal },
        ["hmt"] = new() { Width = WidthRule.Interpolate, Scale = ScaleRule.None, Depth = DepthRule.Cyclic, Inserted = InsertedBlocks.Repeat },
    };

    /// <summary>Which channels go where.</summary>
    public WidthRule Width { get; init; }

    /// <summary>What makes a channel important (<see cref="WidthRule.Importance"/>).</summary>
    public ImportanceMeasure Importance { get; init; }

    /// <summary>What further channels are.</summary>
    public AddedChannels Added { get; init; }

    /// <summary>What shares one choice of channels.</summary>
    public MapSharing Maps { get; init; }

    /// <summary>What weights are multiplied by along axes that are summed over.</summary>
    public ScaleRule Scale { get; init; }

    /// <summary>Which blocks go where.</summary>
    public DepthRule Depth { get; init; }

    /// <summary>What blocks start as whose source fills another block too.</summary>
    public InsertedBlocks Inserted { get; init; }

    /// <summary>Refuses rules that do not go together.</summary>
    /// <exception cref="UsageException">They do not; the message says which and what to take instead.</exception>
    public void Check(TransferMethod method)
    {
        if (Maps == MapSharing.Tensor && (Width is WidthRule.Importance or WidthRule.Merge))
            throw new UsageException("What is important or similar is measured on whole channel spaces: with --maps tensor take --width uniform, leading, centre, stride or interpolate.");
        if (Maps == MapSharing.Tensor && Added == AddedChannels.Next)
            throw new UsageException("Channels of the next block are added to whole channel spaces: with --added next take --maps space.");
        if (Width == WidthRule.Interpolate && Added != AddedChannels.Copies)
            throw new UsageException("Interpolation makes all channels alike, there are none to add: take --added copies, or another --width.");
        if (method == TransferMethod.Preserve && Width == WidthRule.Interpolate)
            throw new UsageException("Interpolation mixes channels and keeps no function: with --method preserve take another --width.");
    }
}
