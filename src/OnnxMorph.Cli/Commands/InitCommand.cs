using System.CommandLine;
using System.Globalization;
using System.Text.Json;
using System.Text.RegularExpressions;
using OnnxMorph.Cli.Reports;
using OnnxMorph.Initialization;
using OnnxMorph.Kernels;
using OnnxMorph.Morphs;
using OnnxMorph.Weights;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph init MODEL -o OUT</c>: the model with fresh parameters.</summary>
internal static partial class InitCommand
{
    public static Command Create()
    {
        var model = new Argument<string>("MODEL") { Description = "The ONNX file of the model to initialise; of its weights only the sizes count." };
        var output = new Option<string>("--output", "-o") { Description = "The file to write.", HelpName = "OUT", Required = true };
        var method = new Option<string>("--method")
        {
            Description = "How: normed (variances from fans as used, growth made consistent), he, xavier, lecun, orthogonal, dirac (identity kernels) or zero-residual.",
            HelpName = "METHOD",
            DefaultValueFactory = _ => "normed",
        };
        method.AcceptOnlyFromAmong([.. Enum.GetValues<InitMethod>().Select(Name)]);
        var growth = new Option<string>("--growth")
        {
            Description = "With normed, how shared parameters are kept from outgrowing others: share, variance, multipliers (of learning rates), reparametrised (in the graph) or none.",
            HelpName = "RULE",
            DefaultValueFactory = _ => "share",
        };
        growth.AcceptOnlyFromAmong([.. Enum.GetValues<GrowthRule>().Select(Name)]);
        var mode = new Option<string?>("--mode") { Description = "What the variance is inverse to: fan-in, fan-out, average or geometric; each method has its own.", HelpName = "MODE" };
        mode.AcceptOnlyFromAmong([.. Enum.GetValues<FanMode>().Select(Name)]);
        var distribution = new Option<string>("--distribution") { Description = "What weights are drawn from: normal or uniform.", HelpName = "KIND", DefaultValueFactory = _ => "normal" };
        distribution.AcceptOnlyFromAmong([.. Enum.GetValues<DrawDistribution>().Select(Name)]);
        var gain = new Option<string>("--gain")
        {
            Description = "Gain of the second moment for every layer, or auto: from the activation that follows for normed and orthogonal, 2 for he, 1 for xavier and lecun.",
            HelpName = "NUMBER",
            DefaultValueFactory = _ => "auto",
        };
        var layers = new Option<string>("--layers") { Description = "The layers to initialise: a glob over their names, or 'blocks:' and one over block paths.", HelpName = "SELECTOR", DefaultValueFactory = _ => "*" };
        var multipliers = new Option<string?>("--multipliers") { Description = "Write the learning-rate multiplier of each parameter, as JSON by name, to FILE.", HelpName = "FILE.json" };
        Option<ulong> seed = CommonOptions.Seed();
        Option<string> device = CommonOptions.Device();
        Option<string?> page = CommonOptions.Report();
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("init", "Initialises a model's parameters, whatever shares them.")
        {
            model, output, method, growth, mode, distribution, gain, layers, multipliers, seed, device, page, force, json, quiet,
        };
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            string from = parsed.GetRequiredValue(model), to = parsed.GetRequiredValue(output);
            InitMethod chosen = Parse<InitMethod>(parsed.GetRequiredValue(method));
            if (chosen != InitMethod.Normed && parsed.GetResult(growth) is { Implicit: false })
                throw new UsageException($"--growth belongs to --method normed; leave it away for {Name(chosen)}.");
            var options = new InitOptions
            {
                Method = chosen,
                Growth = Parse<GrowthRule>(parsed.GetRequiredValue(growth)),
                Mode = parsed.GetValue(mode) is { } named ? Parse<FanMode>(named) : null,
                Distribution = Parse<DrawDistribution>(parsed.GetRequiredValue(distribution)),
                Gain = Gain(parsed.GetRequiredValue(gain)),
                Layers = Selector.Parse(parsed.GetRequiredValue(layers)),
                Seed = parsed.GetValue(seed),
            };
            using OutputFile? file = ReportFile.Open(parsed.GetValue(page), parsed.GetValue(force), from, to, parsed.GetValue(multipliers));
            using KernelDevice kernels = CommonOptions.Open(parsed.GetRequiredValue(device));
            InitReport report = terminal.Progress(progress => new InitJob
            {
                Model = from,
                Output = to,
                Options = options,
                Multipliers = parsed.GetValue(multipliers),
                Force = parsed.GetValue(force),
                Evaluator = new WeightEvaluator(kernels),
                Progress = progress,
            }.Run(cancellation));
            file?.Write(InitPage.Of(Path.GetFileName(from), Path.GetFileName(to), report));
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(report, CliJson.Default.InitReport));
            Print(terminal, report, parsed.GetValue(multipliers));
            terminal.Warn(kernels);
            terminal.Wrote(file);
            return Task.FromResult((int)ExitCode.Done);
        });
        return command;
    }

    /// <summary>A choice as it is written: words in lower case with hyphens between.</summary>
    public static string Name<T>(T value)
        where T : struct, Enum =>
        string.Concat(value.ToString().Select((letter, i) => char.IsUpper(letter) ? (i > 0 ? "-" : "") + char.ToLowerInvariant(letter) : letter.ToString()));

    /// <summary>The choice that is written so.</summary>
    public static T Parse<T>(string name)
        where T : struct, Enum =>
        Enum.GetValues<T>().Single(value => Name(value) == name);

    private static double? Gain(string text) =>
        text == "auto" ? null
        : double.TryParse(text, NumberStyles.Float, CultureInfo.InvariantCulture, out double gain) && gain > 0 && double.IsFinite(gain) ? gain
        : throw new UsageException($"'{text}' is no gain: give a positive number, or auto.");

    [GeneratedRegex("'[^']*'")]
    private static partial Regex NodeName();

    private static void Print(Terminal terminal, InitReport report, string? multipliers)
    {
        terminal.Table(["tensor", "start", "free", "share", "fan in", "fan out", "κ", "gain", "variance", "rate"],
            report.Tensors.Where(t => t.Weight is not null).Select(t => (t, w: t.Weight!)).Select(x => (string[])
            [
                x.t.Name, Name(x.t.Start), Text.Full(x.w.FreeParameters), Text.Short(x.w.Share), Text.Short(x.w.FanIn), Text.Short(x.w.FanOut),
                Text.Short(x.w.Kappa), Text.Short(x.w.Gain), x.w.Variance is { } variance ? Text.Short(variance) : "", Text.Short(x.w.LearningRateMultiplier),
            ]), 2, 3, 4, 5, 6, 7, 8, 9);
        foreach (var same in report.Tensors.Where(t => t.Start == TensorStart.Number).GroupBy(t => t.Number))
            terminal.Line($"{Text.Some(same.Count(), "tensor")} of {Text.Short(same.Key!.Value)}");
        // One line for each reason, whichever node it names.
        foreach (var same in report.Tensors.Where(t => t.Note is not null).GroupBy(t => (t.Start == TensorStart.Kept, NodeName().Replace(t.Note!, ""))))
            terminal.Line($"  {(same.Key.Item1 ? "kept" : "note")}: {same.First().Name}{(same.Count() > 1 ? $" and {same.Count() - 1} more" : "")}: {same.First().Note}");
        foreach (string note in report.Notes)
            terminal.Line($"note: {note}");
        terminal.Line($"wrote {report.Output}");
        if (multipliers is not null)
            terminal.Line($"wrote {Path.GetFullPath(multipliers)}");
    }
}
