using OnnxMorph.Certification;
using OnnxMorph.Verification;

namespace OnnxMorph.Cli.Reports;

/// <summary>A comparison of two models: outputs with their differences, inputs, and the check of a certificate.</summary>
internal static class VerificationParts
{
    /// <summary>The result in one figure, of models that have to compute the same.</summary>
    public static (string Name, Html Value, string? Explanation) Figure(VerificationReport report) => (
        report.Passed ? "verified" : "not verified",
        Html.Markup($"<span class=\"{(report.Passed ? "good" : "bad")}\">{(report.Passed ? "✓" : "✗")} {Text.Name(report.Exactness)}</span>"),
        $"on {Text.Some(report.Inputs.Count, "set")} of inputs");

    /// <summary>The sections of a comparison.</summary>
    /// <param name="report">What was found.</param>
    /// <param name="parent">What the first model is called: the parent, the source.</param>
    /// <param name="child">What the other is called.</param>
    /// <param name="what">The heading of what was compared.</param>
    /// <param name="required">Whether the two have to compute the same: a smaller target of a transfer cannot.</param>
    public static IEnumerable<Html> Sections(VerificationReport report, string parent, string child, string what = "Outputs", bool required = true)
    {
        yield return Page.Section(
            what,
            $"Both models ran under ONNX Runtime on the same inputs. The noise floor is how far equivalent evaluations of the {parent} lie apart; differences up to {Text.Short(report.Margin)} times as large count as rounding.",
            report.Reason is { } reason ? Html.Markup($"<p{(required ? Html.Markup($" class=\"bad\"") : "")}>{reason}</p>\n") : "",
            report.Outputs.Count == 0 ? "" : Page.Table(["output", "result", "max abs#", "max rel#", "max ulp#", "noise floor#", "times floor#", "of the margin*"], report.Outputs.Select(o => Row(o, report.Margin, required))),
            Page.List(report.Outputs.Where(o => o.Worst is not null || o.FirstDivergence is not null).Select(Details)));
        if (report.Certificate is { } certificate)
            yield return Section(certificate);
        yield return Page.Section(what == "Outputs" ? "Inputs" : $"{what}: inputs", $"What the {parent} and the {child} were run on.",
            Page.Table(["inputs", "shapes*"], report.Inputs.Select(input => Html.Markup($"""
                <tr><td>{input.Description}</td><td>{input.Shapes.Select((s, i) => Html.Markup($"{(i > 0 ? ", " : "")}<code>{s.Key}</code> {Text.Shape(s.Value)}"))}</td></tr>

                """))),
            Page.List(report.Skipped.Select(s => Html.Markup($"left out {s.Description}: {s.Reason}"))),
            Page.List(report.Notes.Select(note => (Html)note)));
    }

    private static Html Row(OutputReport output, double margin, bool required)
    {
        double share = margin > 0 ? output.NoiseRatio / margin : double.PositiveInfinity;
        return Html.Markup($"""
            <tr><td class="name">{output.Name}</td><td class="{(output.Passed ? "good" : required ? "bad" : "")}">{Text.Name(output.Exactness)}</td><td class="number">{Text.Short(output.MaxAbs)}</td><td class="number">{Text.Short(output.MaxRel)}</td><td class="number">{Text.Full(output.MaxUlp)}</td><td class="number">{Text.Short(output.NoiseFloor)}</td><td class="number">{Text.Short(output.NoiseRatio)}</td><td><div class="meter{(share <= 1 ? "" : required ? " over" : " beyond")}" role="img" aria-label="{Text.Short(100 * share)} % of the margin"><span style="width:{(double.IsFinite(share) ? Math.Clamp(100 * share, 0, 100) : 100)}%"></span></div></td></tr>

            """);
    }

    private static Html Details(OutputReport output) => Html.Markup(
        $"<code>{output.Name}</code>{(output.Worst is { } worst ? $": largest over its noise in {worst}" : "")}{(output.FirstDivergence is { } first ? Html.Markup($"; <b>first differs at</b> <code>{first}</code>") : "")}");

    private static Html Section(CertificateReport certificate)
    {
        (string verdict, bool good) = certificate switch
        {
            { Passed: false } => ("The certificate is wrong.", false),
            { Unproven.Count: > 0 } => ("Nothing in the certificate is wrong, but not all of it could be proven.", true),
            _ => ("The certificate is proven.", true),
        };
        return Page.Section("Certificate", "What the morph stated about each value, checked from the two files alone: it holds for all inputs, not only for those that were run.",
            Html.Markup($"<p><b class=\"{(good ? "good" : "bad")}\">{verdict}</b> What it says of {Text.Some(certificate.Checked, "value")} holds.</p>\n"),
            Page.List(certificate.Failed.Select(f => Html.Markup($"<span class=\"bad\">wrong</span>: <code>{f.Value}</code>: {f.Reason}"))),
            Page.List(certificate.Unproven.Select(u => Html.Markup($"not proven: <code>{u.Value}</code>: {u.Reason}"))));
    }
}
