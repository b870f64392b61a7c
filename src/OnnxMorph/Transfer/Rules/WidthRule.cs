using System.Text.Json.Serialization;

namespace OnnxMorph.Transfer.Rules;

/// <summary>Which channels of a source the channels of a target are, where there are fewer or more (METHODS.md §3.3).</summary>
[JsonConverter(typeof(JsonStringEnumConverter<WidthRule>))]
public enum WidthRule
{
    /// <summary>Of more channels the most important in their order (<see cref="ImportanceMeasure"/>); of fewer each as often as <see cref="Uniform"/> says.</summary>
    [JsonStringEnumMemberName("importance")]
    Importance,

    /// <summary>Channel i is ⌊(i+½)·nS/nT⌋, in both directions (IM Init's shared map as reconstructed).</summary>
    [JsonStringEnumMemberName("uniform")]
    Uniform,

    /// <summary>The first; beyond the last again from the first (FNA's slice; HyperCloning's tiles).</summary>
    [JsonStringEnumMemberName("leading")]
    Leading,

    /// <summary>The middle; where there are fewer, uniformly.</summary>
    [JsonStringEnumMemberName("centre")]
    Centre,

    /// <summary>
    /// Every (nS/nT)-th from the first where that is a whole number, else nT places spread from the first to the last, rounded to even (weight
    /// selection, Xu et al. 2024); where there are fewer, uniformly.
    /// </summary>
    [JsonStringEnumMemberName("stride")]
    Stride,

    /// <summary>Clusters of similar channels, each one channel of the target with the mean norm of its members; where there are fewer, uniformly.</summary>
    [JsonStringEnumMemberName("merge")]
    Merge,

    /// <summary>Linear interpolation between neighbours, weights rescaled to the source's standard deviation, in both directions.</summary>
    [JsonStringEnumMemberName("interpolate")]
    Interpolate,
}

/// <summary>How important a channel is.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<ImportanceMeasure>))]
public enum ImportanceMeasure
{
    /// <summary>Σ |γ| over the norms behind what makes the channel; without a norm as <see cref="L1"/>.</summary>
    [JsonStringEnumMemberName("gamma")]
    Gamma,

    /// <summary>Σ |w| over what makes the channel.</summary>
    [JsonStringEnumMemberName("l1")]
    L1,
}

/// <summary>What the channels are that a target has beyond its source's.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<AddedChannels>))]
public enum AddedChannels
{
    /// <summary>Copies of channels.</summary>
    [JsonStringEnumMemberName("copies")]
    Copies,

    /// <summary>Zero, with norms at their neutral numbers (FNA).</summary>
    [JsonStringEnumMemberName("zeros")]
    Zeros,

    /// <summary>The same channel of the next block of the stage; a copy where that has other sizes, or there is none (AKI of bert2BERT, Chen et al. 2022).</summary>
    [JsonStringEnumMemberName("next")]
    Next,
}

/// <summary>What shares one choice of channels.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<MapSharing>))]
public enum MapSharing
{
    /// <summary>Every tensor that touches a channel space; groups, heads and parts of concatenations are mapped on their own.</summary>
    [JsonStringEnumMemberName("space")]
    Space,

    /// <summary>Nothing: each axis of each tensor is mapped by its sizes alone.</summary>
    [JsonStringEnumMemberName("tensor")]
    Tensor,
}
