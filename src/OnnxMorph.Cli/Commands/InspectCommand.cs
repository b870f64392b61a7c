using System.CommandLine;
using System.Text.Json;
using OnnxMorph.Cli.Reports;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph inspect MODEL</c>: layers, channel spaces, and where they may change.</summary>
internal static class InspectCommand
{
    public static Command Create()
    {
        var model = new Argument<string>("MODEL") { Description = "The ONNX file." };
        Option<string?> page = CommonOptions.Report();
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("inspect", "Shows what a model is made of: its layers, its channel spaces, and where each may be changed.")
        {
            model, page, force, json, quiet,
        };
        command.SetAction(parsed =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            string path = parsed.GetRequiredValue(model);
            using OutputFile? file = ReportFile.Open(parsed.GetValue(page), parsed.GetValue(force), path);
            ModelInspection inspection = terminal.Progress(_ => ModelInspection.Of(OnnxReader.Read(path)));
            file?.Write(InspectPage.Of(Path.GetFileName(path), inspection));
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(inspection, CliJson.Default.ModelInspection));
            Print(terminal, path, inspection);
            terminal.Wrote(file);
            return (int)ExitCode.Done;
        });
        return command;
    }

    private static void Print(Terminal terminal, string path, ModelInspection model)
    {
        terminal.Heading(Path.GetFileName(path));
        terminal.Line($"{model.Parameters:N0} parameters, {model.Nodes:N0} nodes, opset {model.Opset}{(model.Producer is { } p ? $", made by {p}" : "")}");
        foreach (ValueReport value in model.Inputs)
            terminal.Line($"input  {value.Name}: {value.Type} [{string.Join(", ", value.Shape)}]");
        foreach (ValueReport value in model.Outputs)
            terminal.Line($"output {value.Name}: {value.Type} [{string.Join(", ", value.Shape)}]");
        terminal.Line();

        terminal.Heading("Structure");
        terminal.Table(["block", "kind", "layers", "scope"], model.Structure.Sections.Select(Row));
        terminal.Line();

        terminal.Heading("Layers");
        terminal.Table(["layer", "operator", "channels", "kernel", "groups", "space"],
            model.Layers.Select(l => (string[])[l.Name, l.Operator, $"{l.Channels}", string.Join('×', l.Kernel), l.Groups == 1 ? "" : $"{l.Groups}", l.Space]), 2, 4);
        terminal.Line();

        terminal.Heading("Channel spaces");
        terminal.Table(["space", "size", "may change", "made by", "why"],
            model.Spaces.Select(s => (string[])
            [
                s.Name, $"{s.Size}", !s.MayChange ? "no" : s.Uniform ? "by whole factors" : "yes",
                s.Producers.Count switch { 0 => "", 1 => s.Producers[0], _ => $"{s.Producers[0]} and {s.Producers.Count - 1} more" },
                s.Reasons.FirstOrDefault() ?? "",
            ]), 1);
    }

    // Parts of a block stand below it, indented, and show the layers in its place.
    private static string[] Row(Section section)
    {
        var block = section as Block;
        string indent = new(' ', 2 * section.Path.Count(c => c == '/'));
        string layers = block is { Parts.Count: > 0 } ? "" : string.Join(' ', section.Layers.Select(l => l.Role));
        return [indent + section.Path, block is { IsResidual: true } ? "residual" : "", layers, section.Scope ?? ""];
    }
}
