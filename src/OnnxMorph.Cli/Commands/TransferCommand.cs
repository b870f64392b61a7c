using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using OnnxMorph.Alignment;
using OnnxMorph.Cli.Reports;
using OnnxMorph.Initialization;
using OnnxMorph.Kernels;
using OnnxMorph.Morphs;
using OnnxMorph.Transfer;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph transfer SOURCE TARGET -o OUT</c>: a model of the target's architecture with the source's weights.</summary>
internal static class TransferCommand
{
    private const string Keep = "keep";

    public static Command Create()
    {
        var source = new Argument<string>("SOURCE") { Description = "The trained model's ONNX file." };
        var target = new Argument<string>("TARGET") { Description = "The ONNX file of the model to fill." };
        var output = new Option<string>("--output", "-o") { Description = "The file to write: the target with weights from the source.", HelpName = "OUT", Required = true };
        var method = new Option<string>("--method")
        {
            Description = "How: isomorphic, for two models of one family; dp, along the best alignment of blocks and layers, for any two; preserve, for a target that can compute exactly what the source does, or as much of it as it can.",
            HelpName = "METHOD",
            DefaultValueFactory = _ => "isomorphic",
        };
        method.AcceptOnlyFromAmong([.. Enum.GetNames<TransferMethod>().Select(n => n.ToLowerInvariant())]);
        var operation = new Option<string>("--operator")
        {
            Description = "With dp, how a tensor becomes one of another shape: maps (channels chosen once for all tensors), or DPIAT's clip, magnitude or full.",
            HelpName = "OPERATOR",
            DefaultValueFactory = _ => "maps",
        };
        operation.AcceptOnlyFromAmong([.. Enum.GetNames<TransferOperator>().Select(n => n.ToLowerInvariant())]);
        Option<bool> published = CommonOptions.Published();
        var rules = new RuleOptions();
        var calibrate = new Option<string?>("--calibrate")
        {
            Description = "Samples of the inputs (.npz, .npy, .pb or a test_data_set folder): statistics of batch norms, or of layers that norms were folded into, are set on them.",
            HelpName = "FILE",
        };
        var fresh = new Option<string>("--fresh")
        {
            Description = "What tensors start with that the source has nothing for: keep (the target's own numbers), or a method of 'onnxmorph init', such as he or normed.",
            HelpName = "METHOD",
            DefaultValueFactory = _ => Keep,
        };
        fresh.AcceptOnlyFromAmong([Keep, .. Enum.GetValues<InitMethod>().Select(InitCommand.Name)]);
        var noVerify = new Option<bool>("--no-verify") { Description = "Do not compare the result with the source." };
        Option<string?> inputs = CommonOptions.Inputs();
        Option<ulong> seed = CommonOptions.Seed();
        Option<string> device = CommonOptions.Device();
        Option<string?> page = CommonOptions.Report();
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("transfer", "Fills a model's weights from a trained model of another width and depth.")
        {
            source, target, output, method,
        };
        foreach (Option option in (Option[])[.. rules.All, operation, published, fresh, calibrate, noVerify, inputs, seed, device, page, force, json, quiet])
            command.Options.Add(option);
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            ulong seedValue = parsed.GetValue(seed);
            TransferMethod kind = Enum.Parse<TransferMethod>(parsed.GetRequiredValue(method), ignoreCase: true);
            TransferRules carried = rules.Read(parsed, kind);
            string from = parsed.GetRequiredValue(source), to = parsed.GetRequiredValue(target);
            using OutputFile? file = ReportFile.Open(
                parsed.GetValue(page), parsed.GetValue(force), from, to, parsed.GetRequiredValue(output), parsed.GetValue(calibrate), parsed.GetValue(inputs));
            using KernelDevice kernels = CommonOptions.Open(parsed.GetRequiredValue(device));
            TransferReport report = terminal.Progress(progress => new TransferJob
            {
                Source = from,
                Target = to,
                Output = parsed.GetRequiredValue(output),
                Method = kind,
                Operator = Enum.Parse<TransferOperator>(parsed.GetRequiredValue(operation), ignoreCase: true),
                Runs = parsed.GetValue(published) ? RunRule.Any : RunRule.Blocks,
                Rules = carried,
                Fresh = parsed.GetRequiredValue(fresh) is var start && start != Keep ? InitCommand.Parse<InitMethod>(start) : null,
                Calibrate = parsed.GetValue(calibrate),
                Seed = seedValue,
                Verify = parsed.GetValue(noVerify) ? null : new VerifyOptions { InputsPath = parsed.GetValue(inputs), Seed = seedValue },
                Force = parsed.GetValue(force),
                Evaluator = new WeightEvaluator(kernels),
                Progress = progress,
            }.Run(cancellation));
            file?.Write(TransferPage.Of(report));
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(report, CliJson.Default.TransferReport));
            Print(terminal, report);
            terminal.Warn(kernels);
            terminal.Wrote(file);
            if (report.Output is null)
                terminal.Failure($"Verification failed and nothing was written: {(report.Carried ?? report.Verification!).Reason}");
            return Task.FromResult((int)(report.Output is null ? ExitCode.VerificationFailed : ExitCode.Done));
        });
        return command;
    }

    private static void Print(Terminal terminal, TransferReport report)
    {
        terminal.Table(["target", "source", ""], report.Parts.Select(p => (string[])[p.Target, p.Source ?? "", Text.Name(p.State) ?? (p.Copy > 0 ? "again" : "")]));
        foreach (var same in report.Parts.Where(p => p.Reason is not null).GroupBy(p => p.Reason))
            terminal.Line($"  {Text.Name(same.First().State)}: {same.First().Target}{(same.Count() > 1 ? $" and {same.Count() - 1} more" : "")}: {same.Key}");
        foreach (var kind in report.Tensors.GroupBy(t => t.Origin).OrderBy(g => g.Key))
            terminal.Line($"{kind.Count()} tensors {kind.Key.ToString().ToLowerInvariant()}");
        foreach (var same in report.Tensors.Where(t => t.Origin == TensorOrigin.Fresh).GroupBy(t => t.Note))
            terminal.Line($"  {(report.Fresh is null ? "kept their own numbers" : "fresh")}: {same.First().Name}{(same.Count() > 1 ? $" and {same.Count() - 1} more" : "")}: {same.Key}");
        if (report.Stages.Count > 0)
            terminal.Table(["end of", "source mean", "deviation", "result mean", "deviation"], report.Stages.Select(s => (string[])
                [s.Path, Short(s.SourceMean), Short(s.SourceDeviation), Short(s.TargetMean), Short(s.TargetDeviation)]), 1, 2, 3, 4);
        foreach (string note in report.Notes)
            terminal.Line($"note: {note}");
        terminal.Line($"parameters {report.ParametersBefore:N0} → {report.ParametersAfter:N0}");
        if (report.Verification is { } verification)
            VerifyCommand.Print(terminal, verification);
        if (report.Carried is { } carried)
        {
            terminal.Line("up to where the target is exact:");
            VerifyCommand.Print(terminal, carried);
        }

        if (report.Output is { } output)
            terminal.Line($"wrote {output}");
    }

    private static string Short(double value) => value.ToString("g3", CultureInfo.InvariantCulture);
}
