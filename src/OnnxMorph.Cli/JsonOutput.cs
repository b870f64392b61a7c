using System.Text.Json.Serialization;
using OnnxMorph.Alignment;
using OnnxMorph.Graph;
using OnnxMorph.Initialization;
using OnnxMorph.Morphs;
using OnnxMorph.Ranking;
using OnnxMorph.Safetensors;
using OnnxMorph.Transfer;
using OnnxMorph.Verification;

namespace OnnxMorph.Cli;

/// <summary>One step as <c>morph --json</c> prints it.</summary>
internal sealed record StepJson(
    string Step, Exactness Exactness, IReadOnlyList<Change> Changes, IReadOnlyList<RefusalJson> Refused, IReadOnlyList<string> Notes,
    IReadOnlyList<Factorisation> Factorisations);

/// <summary>A layer that was selected and not changed.</summary>
internal sealed record RefusalJson(string Node, string Reason);

/// <summary>What <c>morph --json</c> prints.</summary>
internal sealed record MorphJson(
    string? Output, IReadOnlyList<StepJson> Steps, long ParametersBefore, long ParametersAfter,
    IReadOnlyList<TensorReport> Tensors, VerificationReport? Verification)
{
    public static MorphJson Of(MorphReport report) => new(
        report.Output,
        [.. report.Steps.Select(s => new StepJson(s.Step, s.Exactness, s.Changes, [.. s.Refused.Select(r => new RefusalJson(r.Where, r.Why))], s.Notes, s.Factorisations))],
        report.ParametersBefore, report.ParametersAfter, report.Tensors, report.Verification);
}

/// <summary>A device as <c>devices --json</c> prints it.</summary>
/// <param name="Device">What <c>--device</c> calls it.</param>
/// <param name="Name">Name for people.</param>
/// <param name="MemoryBytes">Its memory; 0 for the processor.</param>
/// <param name="Chosen">Whether <c>--device auto</c> takes it for what is only moved, which is most of a morph.</param>
/// <param name="Computes">Whether <c>--device auto</c> would take it for large sums and random values, by the measurement here.</param>
/// <param name="MovedBytesPerSecond">Bytes read and written in a second where elements are only moved, the way over the bus included; 0 where it failed.</param>
/// <param name="DrawnBytesPerSecond">Bytes of normal float32 values in a second, likewise.</param>
/// <param name="Reason">What <c>--device auto</c> does with it and why.</param>
internal sealed record DeviceJson(
    string Device, string Name, long MemoryBytes, bool Chosen, bool Computes, double MovedBytesPerSecond, double DrawnBytesPerSecond, string Reason);

/// <summary>What <c>similarity --json</c> prints.</summary>
internal sealed record SimilarityJson(double Similarity, double Forward, double Backward, IReadOnlyList<AlignedItem> Items, string? Warning, AlignmentReport Alignment);

/// <summary>What <c>rank --json</c> prints: the best of the candidates first, and how many there are in all.</summary>
internal sealed record RankJson(string Target, int Ranked, IReadOnlyList<RankedModel> Candidates, IReadOnlyList<UnreadModel> Unreadable, int Analysed, string? Warning);

/// <summary>What every command prints with <c>--json</c> when it fails without a report of its own.</summary>
internal sealed record ErrorJson(string Error, int ExitCode);

/// <summary>Serialisers generated at build time: quick to start and safe to trim.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals,
    UseStringEnumConverter = true,
    WriteIndented = true)]
[JsonSerializable(typeof(ModelInspection))]
[JsonSerializable(typeof(MorphJson))]
[JsonSerializable(typeof(DeviceJson[]))]
[JsonSerializable(typeof(SimilarityJson))]
[JsonSerializable(typeof(RankJson))]
[JsonSerializable(typeof(TransferReport))]
[JsonSerializable(typeof(InitReport))]
[JsonSerializable(typeof(ExchangeReport))]
[JsonSerializable(typeof(ErrorJson))]
internal sealed partial class CliJson : JsonSerializerContext;
