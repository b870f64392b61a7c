using System.CommandLine;
using System.Text.Json;
using OnnxMorph.Alignment;
using OnnxMorph.Onnx;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph similarity SOURCE TARGET</c>: how much of a target a source could fill, and with what.</summary>
internal static class SimilarityCommand
{
    public static Command Create()
    {
        var source = new Argument<string>("SOURCE") { Description = "The ONNX file that weights would come from." };
        var target = new Argument<string>("TARGET") { Description = "The ONNX file that they would go to." };
        Option<bool> published = CommonOptions.Published();
        Option<bool> json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("similarity", "Aligns two models' blocks and layers by shape and says how alike they are, from 0 to 1.")
        {
            source, target, published, json, quiet,
        };
        command.SetAction(parsed =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            RunRule rule = parsed.GetValue(published) ? RunRule.Any : RunRule.Blocks;
            (NetworkAlignment alignment, NetworkSimilarity similarity) = terminal.Progress(_ =>
            {
                NetworkOutline from = Read(parsed.GetRequiredValue(source)), to = Read(parsed.GetRequiredValue(target));
                return (NetworkAlignment.Of(from, to, rule), NetworkSimilarity.Of(from, to, rule));
            });
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(
                    new SimilarityJson(similarity.Symmetric, similarity.Forward, similarity.Backward, alignment.Items, similarity.Warning), CliJson.Default.SimilarityJson));
            terminal.Table(["target", "source", "score"],
                alignment.Items.Select(item => (string[])[item.Target, item.Source ?? "", item.Source is null ? "" : $"{item.Score:f2}"]), 2);
            terminal.Line(FormattableString.Invariant($"similarity {similarity.Symmetric:f3}; the source fills {similarity.Forward:f3} of the target, and the target {similarity.Backward:f3} of the source"));
            if (similarity.Warning is { } warning)
                terminal.Line($"warning: {warning}");
            return (int)ExitCode.Done;
        });
        return command;
    }

    private static NetworkOutline Read(string path) => NetworkOutline.Of(OnnxReader.Read(path));
}
