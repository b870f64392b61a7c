using System.Text.Json.Serialization;
using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Rules;

/// <summary>What blocks of a target start as whose source fills another block too.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<InsertedBlocks>))]
public enum InsertedBlocks
{
    /// <summary>The identity where they can, else repeats.</summary>
    [JsonStringEnumMemberName("identity")]
    Identity,

    /// <summary>Repeats of the source's block.</summary>
    [JsonStringEnumMemberName("repeat")]
    Repeat,

    /// <summary>
    /// Repeats, each with its residual branch divided by the number of repeats: the scale and shift of the norm that ends it, or its last
    /// layer's weight and bias. Repeats of a block that changes sizes, whose branch cannot be divided alike, start as identities.
    /// </summary>
    [JsonStringEnumMemberName("scaled")]
    Scaled,
}

/// <summary>What inserted blocks start with.</summary>
/// <param name="Starts">Uses of constants that start without effect.</param>
/// <param name="Matches">All matches, those at the ends of divided branches with their factor.</param>
internal sealed record BlockStarts(IReadOnlyDictionary<Use, WeightExpression> Starts, IReadOnlyList<UseMatch> Matches)
{
    /// <summary>Applies a rule.</summary>
    public static BlockStarts Of(AnalysedModel target, TransferPlan plan, InsertedBlocks rule)
    {
        var starts = new Dictionary<Use, WeightExpression>();
        var factors = new Dictionary<Use, double>();
        foreach (var repeats in plan.Pairs.Where(pair => rule != InsertedBlocks.Repeat && pair.Target is Block).GroupBy(pair => pair.Source).Where(g => g.Count() > 1))
        {
            List<(SectionPair Pair, Dictionary<Use, WeightExpression>? Starts)> blocks =
                [.. repeats.Select(pair => (pair, IdentityPlan.For(target.Analysis, (Block)pair.Target).ConstantStarts(out _)))];
            bool divided = rule == InsertedBlocks.Scaled && blocks.All(b => b.Starts is not null && b.Starts.Values.All(IsZero));
            foreach ((SectionPair pair, Dictionary<Use, WeightExpression>? identity) in blocks.Where(b => divided || b.Pair.Copy > 0))
                foreach ((Use use, WeightExpression start) in identity ?? [])
                    if (divided)
                        factors[use] = 1.0 / blocks.Count;
                    else
                        starts[use] = start;
        }

        return new BlockStarts(starts, factors.Count == 0 ? plan.Matches
            : [.. plan.Matches.Select(match => factors.TryGetValue(match.Target, out double factor) ? match with { Factor = match.Factor * factor } : match)]);
    }

    // The end of a residual branch, rather than a layer in the way of what is given on.
    private static bool IsZero(WeightExpression start) => start is FilledWeight { Fill: var fill } && fill == Fill.Zero;
}
