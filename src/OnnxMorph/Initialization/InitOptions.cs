using System.Text.Json.Serialization;
using OnnxMorph.Morphs;

namespace OnnxMorph.Initialization;

/// <summary>How weights are initialised.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<InitMethod>))]
public enum InitMethod
{
    /// <summary>Variances from the fans as used, growth made consistent (after Yang, Ding, Chan, Hu, Peng and Zeng 2021; this project's reconstruction).</summary>
    [JsonStringEnumMemberName("normed")]
    Normed,

    /// <summary>2 / fan (He, Zhang, Ren, Sun 2015), fans by the kernel's size.</summary>
    [JsonStringEnumMemberName("he")]
    He,

    /// <summary>2 / (fan-in + fan-out) (Glorot, Bengio 2010), fans by the kernel's size.</summary>
    [JsonStringEnumMemberName("xavier")]
    Xavier,

    /// <summary>1 / fan-in (LeCun, Bottou, Orr, Müller 1998), fans by the kernel's size.</summary>
    [JsonStringEnumMemberName("lecun")]
    Lecun,

    /// <summary>Random semi-orthogonal matrices, uniformly distributed (Saxe, McClelland, Ganguli 2014).</summary>
    [JsonStringEnumMemberName("orthogonal")]
    Orthogonal,

    /// <summary>Identity kernels.</summary>
    [JsonStringEnumMemberName("dirac")]
    Dirac,

    /// <summary>He, with what ends each residual branch at zero (Goyal et al. 2017).</summary>
    [JsonStringEnumMemberName("zero-residual")]
    ZeroResidual,
}

/// <summary>How the growth of layers that share parameters is made consistent (docs/init.md).</summary>
[JsonConverter(typeof(JsonStringEnumConverter<GrowthRule>))]
public enum GrowthRule
{
    /// <summary>Variances that make relative gradients equal along chains of positively homogeneous operators.</summary>
    [JsonStringEnumMemberName("variance")]
    Variance,

    /// <summary>The same by the number of uses of each parameter in structured sharing alone.</summary>
    [JsonStringEnumMemberName("share")]
    Share,

    /// <summary>Learning-rate multipliers for shared parameters; variances as they are.</summary>
    [JsonStringEnumMemberName("multipliers")]
    Multipliers,

    /// <summary>The same as a multiplication in the graph.</summary>
    [JsonStringEnumMemberName("reparametrised")]
    Reparametrised,

    /// <summary>Nothing: variances from the fans alone.</summary>
    [JsonStringEnumMemberName("none")]
    None,
}

/// <summary>What the variance is inverse to.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<FanMode>))]
public enum FanMode
{
    /// <summary>c / F_in: signals keep their second moment.</summary>
    [JsonStringEnumMemberName("fan-in")]
    FanIn,

    /// <summary>c / F_out: gradients do.</summary>
    [JsonStringEnumMemberName("fan-out")]
    FanOut,

    /// <summary>2c / (F_in + F_out).</summary>
    [JsonStringEnumMemberName("average")]
    Average,

    /// <summary>c / √(F_in·F_out).</summary>
    [JsonStringEnumMemberName("geometric")]
    Geometric,
}

/// <summary>The distribution that weights are drawn from.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<DrawDistribution>))]
public enum DrawDistribution
{
    /// <summary>Normal with mean 0.</summary>
    [JsonStringEnumMemberName("normal")]
    Normal,

    /// <summary>Uniform in ±√(3·variance).</summary>
    [JsonStringEnumMemberName("uniform")]
    Uniform,
}

/// <summary>What to initialise and how.</summary>
public sealed record InitOptions
{
    /// <summary>The method.</summary>
    public InitMethod Method { get; init; }

    /// <summary>Growth, for <see cref="InitMethod.Normed"/>.</summary>
    public GrowthRule Growth { get; init; } = GrowthRule.Share;

    /// <summary>What the variance is inverse to; null is the method's own.</summary>
    public FanMode? Mode { get; init; }

    /// <summary>The distribution.</summary>
    public DrawDistribution Distribution { get; init; }

    /// <summary>Gain c of the second moment for every layer; null is the method's own, from the activation that follows for <c>normed</c> and <c>orthogonal</c>.</summary>
    public double? Gain { get; init; }

    /// <summary>The layers whose parameters are initialised.</summary>
    public Selector Layers { get; init; } = Selector.Parse("*");

    /// <summary>Seed of all draws. One seed gives one set of draws, which every method and growth only scales.</summary>
    public ulong Seed { get; init; }
}
