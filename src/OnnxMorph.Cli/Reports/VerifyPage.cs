using OnnxMorph.Verification;

namespace OnnxMorph.Cli.Reports;

/// <summary>The report of <c>verify</c>.</summary>
internal static class VerifyPage
{
    public static Html Of(string parent, string child, VerificationReport report) => Page.Of(
        "verify", $"{parent} → {child}", Page.FromTo(parent, child),
        report.Passed ? "" : Html.Markup($"<p class=\"note bad\"><b>The child does not compute what the parent computes.</b> {report.Reason}</p>\n"),
        Page.Figures([
            VerificationParts.Figure(report),
            ("outputs", $"{report.Outputs.Count(o => o.Passed)} of {report.Outputs.Count}", "pass"),
            .. report.Outputs.Count == 0 ? [] : (IEnumerable<(string, Html, string?)>)[("largest difference", Text.Short(report.Outputs.Max(o => o.NoiseRatio)), $"times the noise floor; up to {Text.Short(report.Margin)} is rounding")],
            .. report.Certificate is { } certificate ? (IEnumerable<(string, Html, string?)>)[("certificate", certificate.Passed ? "holds" : "wrong", $"{Text.Some(certificate.Checked, "value")} proven, {certificate.Unproven.Count} not")] : [],
        ]),
        Html.Join(VerificationParts.Sections(report, "parent", "child")));
}
