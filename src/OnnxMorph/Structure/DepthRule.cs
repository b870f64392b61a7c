using System.Text.Json.Serialization;

namespace OnnxMorph.Structure;

/// <summary>Which of a stage's blocks in a source each of a target's blocks takes its weights from. The first always takes the first.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<DepthRule>))]
public enum DepthRule
{
    /// <summary>Spread evenly: block j of dT, behind the first, takes 1 + ⌊(j−1)(dS−2)/(dT−2) + ½⌋ of dS (IM Init; METHODS.md §3.2).</summary>
    [JsonStringEnumMemberName("even")]
    Even,

    /// <summary>The first dT in their order; beyond the last the last again (FNA, Fang et al. 2020; weight selection, Xu et al. 2024).</summary>
    [JsonStringEnumMemberName("first")]
    First,

    /// <summary>
    /// In their order, and from the start once they are used up: 1 2 3 1 2 3 (stacking, Gong et al. 2019; HMT). A first block that is unlike
    /// the others is left out of the cycle.
    /// </summary>
    [JsonStringEnumMemberName("cyclic")]
    Cyclic,
}

/// <summary>The rules as functions of places.</summary>
internal static class DepthRules
{
    /// <summary>The source of the block at <paramref name="place"/> of <paramref name="count"/>, among <paramref name="sources"/>.</summary>
    public static int Donor(this DepthRule rule, int place, int count, int sources) => rule switch
    {
        DepthRule.First => Math.Min(place, sources - 1),
        DepthRule.Cyclic => place % sources,
        _ => count == 1 ? 0 : (int)Math.Floor((double)place * (sources - 1) / (count - 1) + 0.5),
    };
}
