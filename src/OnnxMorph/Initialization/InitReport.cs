using System.Text.Json.Serialization;

namespace OnnxMorph.Initialization;

/// <summary>What a tensor starts with.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<TensorStart>))]
public enum TensorStart
{
    /// <summary>Normal draws.</summary>
    [JsonStringEnumMemberName("normal")]
    Normal,

    /// <summary>Uniform draws.</summary>
    [JsonStringEnumMemberName("uniform")]
    Uniform,

    /// <summary>A random semi-orthogonal matrix.</summary>
    [JsonStringEnumMemberName("orthogonal")]
    Orthogonal,

    /// <summary>Identity kernels.</summary>
    [JsonStringEnumMemberName("dirac")]
    Dirac,

    /// <summary>One number everywhere.</summary>
    [JsonStringEnumMemberName("number")]
    Number,

    /// <summary>The numbers that it had.</summary>
    [JsonStringEnumMemberName("kept")]
    Kept,
}

/// <summary>How a weight was counted and what that gave.</summary>
/// <param name="FreeParameters">P, its free parameters.</param>
/// <param name="Uses">How often each of them stands in the weight that the layer reads: more than once where the graph shares it.</param>
/// <param name="Share">Uses of a free parameter in structured sharing: the same, times positions for a periodic kernel as large as the data.</param>
/// <param name="FanIn">F_in.</param>
/// <param name="FanOut">F_out.</param>
/// <param name="Kappa">κ = F_in / √P.</param>
/// <param name="Gain">c.</param>
/// <param name="Variance">Variance of its elements; null for identity kernels.</param>
/// <param name="Scale">α, by which growth multiplies the standard deviation; 1 where it does not.</param>
/// <param name="LearningRateMultiplier">What to multiply the learning rate of the tensor by.</param>
public sealed record DrawnWeight(
    long FreeParameters, double Uses, double Share, double FanIn, double FanOut, double Kappa, double Gain, double? Variance, double Scale, double LearningRateMultiplier);

/// <summary>A tensor of the model.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="Layers">The nodes that read it, as selectors match them.</param>
/// <param name="Start">What it starts with.</param>
/// <param name="Number">The number, for <see cref="TensorStart.Number"/>.</param>
/// <param name="Weight">How it was counted; null where it is not drawn.</param>
/// <param name="Note">Why it was kept, or what to know of it.</param>
public sealed record InitialisedTensor(
    string Name, IReadOnlyList<long> Shape, IReadOnlyList<string> Layers, TensorStart Start, double? Number, DrawnWeight? Weight, string? Note);

/// <summary>What <c>init --json</c> prints.</summary>
/// <param name="Output">The file that was written.</param>
/// <param name="Method">The method.</param>
/// <param name="Growth">The growth rule; null where the method has none.</param>
/// <param name="Seed">Seed of the draws.</param>
/// <param name="Parameters">Elements of the model's floating-point constants.</param>
/// <param name="Tensors">The model's tensors.</param>
/// <param name="Notes">What a user should know.</param>
public sealed record InitReport(
    string Output, InitMethod Method, GrowthRule? Growth, ulong Seed, long Parameters, IReadOnlyList<InitialisedTensor> Tensors, IReadOnlyList<string> Notes)
{
    /// <summary>Learning-rate multipliers by the names of the tensors that were initialised.</summary>
    [JsonIgnore]
    public IReadOnlyDictionary<string, double> Multipliers => MultipliersOf(Tensors);

    internal static SortedDictionary<string, double> MultipliersOf(IEnumerable<InitialisedTensor> tensors) => new(
        tensors.Where(t => t.Start != TensorStart.Kept).ToDictionary(t => t.Name, t => t.Weight?.LearningRateMultiplier ?? 1), StringComparer.Ordinal);
}
