using System.CommandLine;
using System.Text.Json;
using OnnxMorph.Safetensors;
using OnnxMorph.Weights;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph export MODEL -o WEIGHTS</c> and <c>onnxmorph import MODEL WEIGHTS -o OUT</c>: weights by name, to a framework and back.</summary>
internal static class ExchangeCommands
{
    public static Command Export()
    {
        var model = new Argument<string>("MODEL") { Description = "The ONNX file." };
        Option<string> output = Output("The safetensors file to write.");
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("export", "Writes a model's weights under their names as safetensors, which PyTorch loads.") { model, output, force, json, quiet };
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            return Done(terminal, WeightExchange.Export(
                parsed.GetRequiredValue(model), parsed.GetRequiredValue(output), parsed.GetValue(force), new WeightEvaluator(), cancellation));
        });
        return command;
    }

    public static Command Import()
    {
        var model = new Argument<string>("MODEL") { Description = "The ONNX file." };
        var weights = new Argument<string>("WEIGHTS") { Description = "The safetensors file, whose names are those of the model's parameters." };
        Option<string> output = Output("The ONNX file to write.");
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("import", "Puts the weights of a safetensors file into a model, by name.") { model, weights, output, force, json, quiet };
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            return Done(terminal, WeightExchange.Import(
                parsed.GetRequiredValue(model), parsed.GetRequiredValue(weights), parsed.GetRequiredValue(output), parsed.GetValue(force), new WeightEvaluator(), cancellation));
        });
        return command;
    }

    private static Option<string> Output(string description) => new("--output", "-o") { Description = description, HelpName = "OUT", Required = true };

    private static Task<int> Done(Terminal terminal, ExchangeReport report)
    {
        if (terminal.Json)
            terminal.Document(JsonSerializer.Serialize(report, CliJson.Default.ExchangeReport));
        terminal.Line($"{report.Tensors.Count} tensors");
        if (report.LeftOut.Count > 0)
            terminal.Line($"left out: {string.Join(", ", report.LeftOut.Take(5))}{(report.LeftOut.Count > 5 ? $" and {report.LeftOut.Count - 5} more" : "")}");
        if (report.Kept.Count > 0)
            terminal.Line($"not among the weights, and kept: {string.Join(", ", report.Kept.Take(5))}{(report.Kept.Count > 5 ? $" and {report.Kept.Count - 5} more" : "")}");
        terminal.Line($"wrote {report.Output}");
        return Task.FromResult((int)ExitCode.Done);
    }
}
