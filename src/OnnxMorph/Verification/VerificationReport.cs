using System.Text;
using System.Text.Encodings.Web;
using System.Text.Json;
using System.Text.Json.Serialization;
using OnnxMorph.Certification;

namespace OnnxMorph.Verification;

/// <summary>How close a child's outputs are to the parent's, from best to worst.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<Exactness>))]
public enum Exactness
{
    /// <summary>Every bit of every output is the same.</summary>
    [JsonStringEnumMemberName("bit-exact")]
    BitExact,

    /// <summary>The differences are rounding: within the margin over the parent's own noise floor.</summary>
    [JsonStringEnumMemberName("rounding")]
    Rounding,

    /// <summary>Beyond rounding, but within <see cref="VerifyOptions.ApproximateLimit"/> of every output's own scale.</summary>
    [JsonStringEnumMemberName("approximate")]
    Approximate,

    /// <summary>The child computes something else, or what it computes could not be compared.</summary>
    [JsonStringEnumMemberName("different")]
    Different,
}

/// <summary>Whether a child computes what its parent computes. <see cref="ToJson"/> is what <c>verify --json</c> prints.</summary>
/// <param name="Passed">Whether <paramref name="Exactness"/> is at least what was asked for.</param>
/// <param name="Exactness">The worst over the outputs.</param>
/// <param name="Reason">One sentence on why it did not pass; null where it did.</param>
/// <param name="Margin">How many times the noise floor a difference may be to count as rounding.</param>
/// <param name="Outputs">One entry for each output of the parent, in its order; none where the comparison could not be made, and <paramref name="Reason"/> says why.</param>
/// <param name="Inputs">The draws or samples that both models ran on.</param>
/// <param name="Skipped">Draws that the parent itself could not run, or gave NaN on.</param>
/// <param name="Notes">What else the user should know: arrays left out, draws that prove little.</param>
public sealed record VerificationReport(
    bool Passed,
    Exactness Exactness,
    string? Reason,
    double Margin,
    IReadOnlyList<OutputReport> Outputs,
    IReadOnlyList<DrawReport> Inputs,
    IReadOnlyList<SkippedDraw> Skipped,
    IReadOnlyList<string> Notes)
{
    /// <summary>The check of the certificate that was given; null where none was.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public CertificateReport? Certificate { get; init; }

    /// <summary>This report with the check of a certificate, which fails it where the certificate is wrong.</summary>
    public VerificationReport With(CertificateReport certificate) => this with
    {
        Certificate = certificate,
        Passed = Passed && certificate.Passed,
        Reason = Reason ?? (certificate.Passed ? null : $"The certificate is wrong about '{certificate.Failed[0].Value}': {certificate.Failed[0].Reason}."),
    };

    /// <summary>The report as one JSON document; infinite numbers become the strings "Infinity" and "NaN".</summary>
    public string ToJson()
    {
        using var bytes = new MemoryStream();
        // Names and paths stay readable: the document goes to a terminal or a file, not into HTML.
        var options = new JsonWriterOptions { Indented = true, Encoder = JavaScriptEncoder.UnsafeRelaxedJsonEscaping };
        using (var writer = new Utf8JsonWriter(bytes, options))
            JsonSerializer.Serialize(writer, this, VerificationJson.Default.VerificationReport);
        return Encoding.UTF8.GetString(bytes.GetBuffer().AsSpan(0, (int)bytes.Length));
    }
}

/// <summary>The comparison of one output over all draws.</summary>
/// <param name="Name">The output's name.</param>
/// <param name="Passed">Whether its exactness is at least what was asked for.</param>
/// <param name="Exactness">Its class.</param>
/// <param name="MaxAbs">Largest absolute difference of an element, in the output's own unit.</param>
/// <param name="MaxRel">Largest difference over the largest absolute value of the same draw's output. Never a sum, never over a single small element.</param>
/// <param name="MaxUlp">Largest difference counted in representable numbers of the output's type; for elements near zero this is large without harm.</param>
/// <param name="NoiseFloor">The parent's own noise where the child came closest to the margin or passed it, relative as <paramref name="MaxRel"/>.</param>
/// <param name="NoiseRatio">Largest difference over noise floor of any judged slice: it is this that <see cref="VerificationReport.Margin"/> bounds.</param>
/// <param name="Worst">Draw and slice in which <paramref name="NoiseRatio"/> was met; null where no element differs.</param>
/// <param name="FirstDivergence">On failure the first value in the parent's order that differs beyond its noise; null where it passed or intermediate values were not available.</param>
public sealed record OutputReport(
    string Name,
    bool Passed,
    Exactness Exactness,
    double MaxAbs,
    double MaxRel,
    long MaxUlp,
    double NoiseFloor,
    double NoiseRatio,
    string? Worst,
    string? FirstDivergence);

/// <summary>One set of inputs that was run.</summary>
/// <param name="Description">Where the values come from.</param>
/// <param name="Shapes">The shape of each input.</param>
public sealed record DrawReport(string Description, IReadOnlyDictionary<string, IReadOnlyList<long>> Shapes);

/// <summary>One set of inputs that was not compared.</summary>
/// <param name="Description">Where the values come from.</param>
/// <param name="Reason">Why the parent gives nothing to compare with.</param>
public sealed record SkippedDraw(string Description, string Reason);

/// <summary>Serialisers generated at build time: quick to start and safe to trim.</summary>
[JsonSourceGenerationOptions(
    PropertyNamingPolicy = JsonKnownNamingPolicy.CamelCase,
    NumberHandling = JsonNumberHandling.AllowNamedFloatingPointLiterals)]
[JsonSerializable(typeof(VerificationReport))]
public sealed partial class VerificationJson : JsonSerializerContext;
