using System.CommandLine;
using System.Text.Json;
using OnnxMorph.Alignment;
using OnnxMorph.Cli.Reports;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph similarity SOURCE TARGET</c>: how much of a target a source could fill, and with what.</summary>
internal static class SimilarityCommand
{
    public static Command Create()
    {
        var source = new Argument<string>("SOURCE") { Description = "The ONNX file that weights would come from." };
        var target = new Argument<string>("TARGET") { Description = "The ONNX file that they would go to." };
        Option<bool> published = CommonOptions.Published();
        Option<string?> page = CommonOptions.Report();
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("similarity", "Aligns two models' blocks and layers by shape and says how alike they are, from 0 to 1.")
        {
            source, target, published, page, force, json, quiet,
        };
        command.SetAction(parsed =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            RunRule rule = parsed.GetValue(published) ? RunRule.Any : RunRule.Blocks;
            string first = parsed.GetRequiredValue(source), second = parsed.GetRequiredValue(target);
            using OutputFile? file = ReportFile.Open(parsed.GetValue(page), parsed.GetValue(force), first, second);
            (NetworkAlignment alignment, NetworkSimilarity similarity, Lazy<AlignmentReport> report) = terminal.Progress(_ =>
            {
                AnalysedModel fromModel = AnalysedModel.Of(OnnxReader.Read(first)), toModel = AnalysedModel.Of(OnnxReader.Read(second));
                NetworkOutline from = NetworkOutline.Of(fromModel), to = NetworkOutline.Of(toModel);
                var best = NetworkAlignment.Of(from, to, rule);
                return (best, NetworkSimilarity.Of(from, to, rule), new Lazy<AlignmentReport>(() => AlignmentReport.Of(fromModel, toModel, best, rule)));
            });
            file?.Write(SimilarityPage.Of(Path.GetFileName(first), Path.GetFileName(second), similarity, report.Value));
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(
                    new SimilarityJson(similarity.Symmetric, similarity.Forward, similarity.Backward, alignment.Items, similarity.Warning, report.Value), CliJson.Default.SimilarityJson));
            terminal.Table(["target", "source", "score"],
                alignment.Items.Select(item => (string[])[item.Target, item.Source ?? "", item.Source is null ? "" : $"{item.Score:f2}"]), 2);
            terminal.Line(FormattableString.Invariant($"similarity {similarity.Symmetric:f3}; the source fills {similarity.Forward:f3} of the target, and the target {similarity.Backward:f3} of the source"));
            if (similarity.Warning is { } warning)
                terminal.Line($"warning: {warning}");
            terminal.Wrote(file);
            return (int)ExitCode.Done;
        });
        return command;
    }
}
