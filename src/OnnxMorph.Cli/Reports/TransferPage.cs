using OnnxMorph.Transfer;
using OnnxMorph.Verification;

namespace OnnxMorph.Cli.Reports;

/// <summary>The report of <c>transfer</c>.</summary>
internal static class TransferPage
{
    public static Html Of(TransferReport report)
    {
        (string source, string target) = (Path.GetFileName(report.Source), Path.GetFileName(report.Target));
        List<TensorRow> tensors = [.. report.Tensors.Select(t => new TensorRow(t.Name, t.Shape, t.Origin, t.Source, t.Note))];
        ILookup<string, TensorRow> byName = tensors.ToLookup(t => t.Name);
        int again = report.Parts.Count(p => p.Copy > 0);
        OriginCounts all = OriginParts.Count(tensors);
        return Page.Of(
            $"transfer --method {report.Method.ToString().ToLowerInvariant()}", $"{source} → {target}", Page.FromTo(source, target),
            Page.Figures([
                ("from the source", Text.Percent(all.Exact + all.Mapped, all.All), $"of the target's {Text.Some(tensors.Count, "tensor")}, by elements"),
                ("parameters", Html.Markup($"{Text.Count(report.ParametersBefore)} → {Text.Count(report.ParametersAfter)}"), $"{Text.Full(report.ParametersBefore)} → {Text.Full(report.ParametersAfter)}"),
                ("parts filled", $"{report.Parts.Count(p => p.Source is not null)} of {report.Parts.Count}", again == 0 ? "each from a part of its own" : $"{again} of them from one used before"),
                .. report.Verification is { } result ? [Comparison(result)] : Array.Empty<(string, Html, string?)>(),
            ]),
            Page.Notes(report.Notes),
            States(report.Parts),
            Page.Section(
                "Where the weights come from",
                "Exact: the source's numbers as they are. Mapped: computed from a tensor of the source. Fresh: the target's own, for which the source has nothing.",
                OriginParts.Bar(tensors), Reasons(tensors)),
            AlignmentParts.Columns(report.Alignment, source, target, item => OriginParts.Count(item.Tensors.SelectMany(name => byName[name]))),
            AlignmentParts.Matrix(report.Alignment),
            Stages(report.Stages),
            Html.Join(report.Verification is { } verification ? VerificationParts.Sections(verification, "source", "target", required: false) : []),
            Html.Join(report.Carried is { } carried ? VerificationParts.Sections(carried, "source", "target", "Values that are exact") : []),
            Page.Section(
                "Tensors", "Every floating-point tensor of the target, below the part that reads it and the part of the source that this was filled from.",
                OriginParts.Table(tensors, report.Alignment)));
    }

    private static (string, Html, string?) Comparison(VerificationReport result) => result.Passed
        ? ("computes what the source does", Html.Markup($"<span class=\"good\">✓ {Text.Name(result.Exactness)}</span>"), $"on {Text.Some(result.Inputs.Count, "set")} of inputs")
        : ("compared with the source", Text.Name(result.Exactness), "the outputs below say how far");

    private static Html Reasons(List<TensorRow> tensors)
    {
        var reasons = tensors.Where(t => t.Note is not null).GroupBy(t => (t.Origin, t.Note)).OrderByDescending(g => g.Key.Origin).ToList();
        return reasons.Count == 0 ? "" : Html.Markup($"""
            <h3 class="after">Tensors without the source's numbers, and why</h3>
            {Page.List(reasons.Select(same => Html.Markup($"{OriginParts.Tag(same.Key.Origin)} {same.Key.Note}: {Page.Names(same.Take(3).Select(t => t.Name))}{(same.Count() > 3 ? $" and {same.Count() - 3} more" : "")}")))}
            """);
    }

    private static Html States(IReadOnlyList<PartReport> parts) => parts.All(part => part.State is null) ? "" : Page.Section(
        "What is exact",
        "Exact: computes what the source's part computes. Without effect: gives on what it reads, or is not used yet. Approximate: has the source's weights, but not all that they need. Fresh: has its own.",
        Page.Table(["target", "source", "", "why"], parts.Select(part => Html.Markup($"""
            <tr><td>{part.Target}</td><td>{part.Source ?? ""}</td><td class="{(part.State == PartState.Exact ? "good" : "")}">{Text.Name(part.State) ?? ""}</td><td>{part.Reason ?? ""}</td></tr>

            """))));

    private static Html Stages(IReadOnlyList<StageStatistics> stages) => stages.Count == 0 ? "" : Page.Section(
        "Activations",
        "What comes out at the end of each stage on the samples that were given, in the source and in the result.",
        Page.Table(["end of", "source mean#", "deviation#", "result mean#", "deviation#", "result / source#"], stages.Select(s => Html.Markup($"""
            <tr><td>{s.Path}</td><td class="number">{Text.Short(s.SourceMean)}</td><td class="number">{Text.Short(s.SourceDeviation)}</td><td class="number">{Text.Short(s.TargetMean)}</td><td class="number">{Text.Short(s.TargetDeviation)}</td><td class="number">{Text.Short(s.TargetDeviation / s.SourceDeviation)}</td></tr>

            """))));
}
