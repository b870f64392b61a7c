using OnnxMorph.Morphs;

namespace OnnxMorph.Cli.Reports;

/// <summary>The report of <c>morph</c>.</summary>
internal static class MorphPage
{
    public static Html Of(string parent, string child, MorphReport report)
    {
        List<TensorRow> tensors = [.. report.Tensors.Select(t => new TensorRow(t.Name, t.Shape, t.Origin, null, null))];
        return Page.Of(
            "morph", $"{parent} → {child}", Page.FromTo(parent, child),
            report.Output is null ? Html.Markup($"<p class=\"note bad\"><b>The child failed verification and was not written.</b> {report.Verification?.Reason}</p>\n") : "",
            Page.Figures([
                ("parameters", Html.Markup($"{Text.Count(report.ParametersBefore)} → {Text.Count(report.ParametersAfter)}"), $"{Text.Full(report.ParametersBefore)} → {Text.Full(report.ParametersAfter)}"),
                ("changes", Text.Full(report.Steps.Sum(s => s.Changes.Count)), $"in {Text.Some(report.Steps.Count, "step")}"),
                ("left alone", Text.Full(report.Steps.Sum(s => s.Refused.Count)), "with the reason below"),
                report.Verification is { } result ? VerificationParts.Figure(result) : ("not verified", "–", "as asked for"),
            ]),
            Page.Section("Steps", "In the order in which they were carried out: what changed, and what was selected but left alone because it cannot be changed exactly.", report.Steps.Select(Step)),
            Page.Section("Where the weights come from", "Exact: the parent's bytes. Mapped: computed from a tensor of the parent. Fresh: new.", OriginParts.Bar(tensors)),
            Html.Join(report.Verification is { } verification ? VerificationParts.Sections(verification, "parent", "child") : []),
            Page.Section("Tensors", "Every floating-point tensor of the child.", OriginParts.Table(tensors, null)));
    }

    private static Html Step(StepReport step) => Html.Markup($"""
        <div class="step"><h3><code>{step.Step}</code></h3>
        <p class="muted">{step.Changes.Count} changed, {step.Refused.Count} left alone; keeps the function: {Text.Name(step.Exactness)}</p>
        {(step.Changes.Count == 0 ? "" : Page.Table(["change", "before#", "after#", "where*"], step.Changes.GroupBy(c => (c.What, c.Before, c.After)).Select(same => Html.Markup($"""
            <tr><td>{same.Key.What}</td><td class="number">{Text.Full(same.Key.Before)}</td><td class="number">{Text.Full(same.Key.After)}</td><td class="long">{Names(same.Select(c => c.Where))}</td></tr>

            """))))}
        {(step.Factorisations.Count == 0 ? "" : Html.Markup($"<details><summary>What {Text.Some(step.Factorisations.Count, "layer")} became</summary>{Page.List(step.Factorisations.Select(Chain))}</details>"))}
        {Page.List(step.Refused.GroupBy(r => r.Why).Select(same => Html.Markup($"<b>left alone</b>: {same.Key}: {Names(same.Select(r => r.Where))}")))}
        {Page.List(step.Notes.Select(note => Html.Markup($"note: {note}")))}
        </div>

        """);

    private static Html Chain(Factorisation chain) => Html.Markup(
        $"<code>{chain.Node}</code> became {chain.Form}: {Page.Names(chain.Child)}{(chain.Residual is { } residual ? $", with a residual of {Text.Short(residual)}" : "")}");

    // A few names are read at once, many when they are asked for.
    private static Html Names(IEnumerable<string> names)
    {
        List<string> all = [.. names];
        return all.Count <= 4 ? Page.Names(all) : Html.Markup($"<details><summary>{all.Count} layers</summary><p>{Page.Names(all)}</p></details>");
    }
}
