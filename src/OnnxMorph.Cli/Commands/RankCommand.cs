using System.CommandLine;
using System.Text.Json;
using OnnxMorph.Alignment;
using OnnxMorph.Ranking;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph rank TARGET CANDIDATE...</c>: which trained model is the best source for a target.</summary>
internal static class RankCommand
{
    // What a person reads; documents hold all.
    private const int Shown = 20;

    public static Command Create()
    {
        var target = new Argument<string>("TARGET") { Description = "The ONNX file that weights would go to." };
        var candidates = new Argument<string[]>("CANDIDATE")
        {
            Description = "ONNX files that they could come from, and folders of such files; all models of the index where none is named.",
            Arity = ArgumentArity.ZeroOrMore,
        };
        var index = new Option<string?>("--index") { Description = "Keep what is read of candidates in this file, and read no candidate twice.", HelpName = "FILE" };
        var top = new Option<int?>("--top") { Description = $"Print the N best only; {Shown} by default, and all with --json.", HelpName = "N" };
        var prune = new Option<bool>("--prune") { Description = "Forget models of the index whose files are gone, rather than listing them." };
        top.Validators.Add(result =>
        {
            if (result.Tokens is [var token] && (!int.TryParse(token.Value, out int count) || count < 1))
                result.AddError($"--top takes a count of 1 or more, not '{token.Value}'.");
        });
        Option<bool> published = CommonOptions.Published(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("rank", "Ranks models as sources of weights for a target, the most similar first.")
        {
            target, candidates, index, top, prune, published, json, quiet,
        };
        command.Validators.Add(result =>
        {
            if (result.GetValue(index) is null && result.GetValue(candidates) is null or [])
                result.AddError("There is no CANDIDATE: name ONNX files or folders that hold some, or --index FILE for all models of an index.");
            if (result.GetValue(index) is null && result.GetValue(prune))
                result.AddError("--prune forgets models of an index; name it with --index FILE.");
        });
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            string? file = parsed.GetValue(index);
            var options = new RankOptions { Index = file, Rule = parsed.GetValue(published) ? RunRule.Any : RunRule.Blocks, Prune = parsed.GetValue(prune) };
            RankReport report;
            try
            {
                report = terminal.Progress(stage => ModelRanking.Rank(parsed.GetRequiredValue(target), parsed.GetValue(candidates) ?? [], options, stage, cancellation));
            }
            catch (OperationCanceledException e) when (file is not null)
            {
                throw new OnnxMorphException(ExitCode.Cancelled, $"Cancelled; '{file}' keeps what was read until then.", e);
            }

            return Task.FromResult((int)Print(terminal, report, parsed.GetValue(top)));
        });
        return command;
    }

    private static ExitCode Print(Terminal terminal, RankReport report, int? top)
    {
        if (terminal.Json)
        {
            var document = new RankJson(
                report.Target, report.Candidates.Count, [.. report.Candidates.Take(top ?? int.MaxValue)], report.Unreadable, report.Analysed, report.Warning);
            terminal.Document(JsonSerializer.Serialize(document, CliJson.Default.RankJson));
        }

        List<RankedModel> best = [.. report.Candidates.Take(top ?? Shown)];
        if (best.Count > 0)
            terminal.Table(["similarity", "fills of the target", "is filled by it", "candidate"], best.Select(Row), 0, 1, 2);
        if (report.Candidates.Count > best.Count)
            terminal.Line($"and {report.Candidates.Count - best.Count:N0} more; --top N shows as many as you like");
        foreach (UnreadModel model in report.Unreadable.Take(Shown))
            terminal.Line($"not ranked: {model.Reason}");
        if (report.Unreadable.Count > Shown)
            terminal.Line($"not ranked: {report.Unreadable.Count - Shown:N0} more; --json lists all");
        if (report.Warning is { } warning)
            terminal.Line($"warning: {warning}");
        else if (best.Count(c => c.Warning is not null) is > 0 and var doubtful)
            terminal.Line($"warning: {doubtful} of these {(doubtful == 1 ? "is" : "are")} below {NetworkSimilarity.Doubtful}, where transfer hurt more often than it helped.");
        if (report.Candidates.Count > 0)
            return ExitCode.Done;
        terminal.Failure("No candidate could be ranked; the reasons are listed.");
        return ExitCode.Unreadable;
    }

    private static string[] Row(RankedModel model) => [$"{model.Similarity:f3}", $"{model.Forward:f3}", $"{model.Backward:f3}", model.Path];
}
