using System.CommandLine;
using System.CommandLine.Parsing;
using System.Globalization;
using System.Text.Json;
using OnnxMorph.Axes;
using OnnxMorph.Kernels;
using OnnxMorph.Morphs;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph morph MODEL -o OUT</c>: a wider, deeper child with larger kernels that computes the same.</summary>
internal static class MorphCommand
{
    private const string WidenOption = "--widen", DeepenOption = "--deepen", KernelOption = "--kernel";

    public static Command Create()
    {
        var model = new Argument<string>("MODEL") { Description = "The parent's ONNX file." };
        var output = new Option<string>("--output", "-o") { Description = "The child's file.", HelpName = "OUT", Required = true };
        Option<string[]> widen = Step(WidenOption, "SELECTOR=SIZE",
            "Widen the output channels of layers, such as '*=x1.5', 'conv*=96' or '/stem/*=+8'. May be given several times.");
        Option<string[]> deepen = Step(DeepenOption, "SELECTOR[=COUNT]",
            "Put COUNT new layers (1 by default) behind each layer, such as '*' or '/layer3/*=2'. May be given several times.");
        Option<string[]> kernel = Step(KernelOption, "SELECTOR=SIZE",
            "Grow convolution kernels, such as '*=+2' or 'conv1=9'. May be given several times.");
        Option<string> widenMethod = Method("--widen-method", "What new channels are: copies that share their readers' weights (replicate), random ones that are read with zeros (zero), or random pairs that cancel (opposed).", "replicate", "zero", "opposed");
        Option<string> deepenMethod = Method("--deepen-method", "How a layer becomes two: by factoring its weights (closed-form), or by an identity behind it (identity).", "closed-form", "identity");
        var certificate = new Option<string?>("--certificate") { Description = "Write how each value of the child follows from the parent's, as JSON, to FILE.", HelpName = "FILE" };
        var noVerify = new Option<bool>("--no-verify") { Description = "Write the child without comparing it with the parent." };
        Option<string?> inputs = CommonOptions.Inputs();
        Option<ulong> seed = CommonOptions.Seed();
        Option<string> device = CommonOptions.Device();
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("morph", "Widens, deepens and grows the kernels of a trained model and keeps what it computes. Steps run in the order given.")
        {
            model, output, widen, deepen, kernel, widenMethod, deepenMethod, certificate, noVerify, inputs, seed, device, force, json, quiet,
        };
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            ulong seedValue = parsed.GetValue(seed);
            List<MorphStep> steps = Steps(parsed, parsed.GetRequiredValue(widenMethod), parsed.GetRequiredValue(deepenMethod), seedValue);
            using KernelDevice kernels = CommonOptions.Open(parsed.GetRequiredValue(device));
            MorphReport report = terminal.Progress(progress => new MorphJob
            {
                Parent = parsed.GetRequiredValue(model),
                Output = parsed.GetRequiredValue(output),
                Steps = steps,
                Verify = parsed.GetValue(noVerify) ? null : new VerifyOptions { InputsPath = parsed.GetValue(inputs), Seed = seedValue },
                Certificate = parsed.GetValue(certificate),
                Force = parsed.GetValue(force),
                Evaluator = new WeightEvaluator(kernels),
                Progress = progress,
            }.Run(cancellation));
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(MorphJson.Of(report), CliJson.Default.MorphJson));
            Print(terminal, report);
            if (report.Output is null)
                terminal.Failure($"Verification failed and nothing was written: {report.Verification!.Reason}");
            return Task.FromResult((int)(report.Output is null ? ExitCode.VerificationFailed : ExitCode.Done));
        });
        return command;
    }

    private static Option<string[]> Step(string name, string form, string description) =>
        new(name) { Description = description, HelpName = form, AllowMultipleArgumentsPerToken = false };

    private static Option<string> Method(string name, string description, params string[] choices)
    {
        var option = new Option<string>(name) { Description = description, HelpName = "METHOD", DefaultValueFactory = _ => choices[0] };
        return option.AcceptOnlyFromAmong(choices);
    }

    // Steps run in the order in which they were written, which only the tokens tell.
    private static List<MorphStep> Steps(ParseResult parsed, string widenMethod, string deepenMethod, ulong seed)
    {
        var method = Enum.Parse<WidenMethod>(widenMethod, ignoreCase: true);
        DeepenMethod form = deepenMethod == "identity" ? DeepenMethod.Identity : DeepenMethod.ClosedForm;
        var steps = new List<MorphStep>();
        for (int i = 0; i + 1 < parsed.Tokens.Count; i++)
        {
            if (parsed.Tokens[i].Type != TokenType.Option)
                continue;
            string option = parsed.Tokens[i].Value, value = parsed.Tokens[i + 1].Value;
            // Steps draw from streams of their own, so that two of a kind do not make the same channels.
            ulong stepSeed = seed + (ulong)steps.Count;
            switch (option)
            {
                case WidenOption:
                    (string selector, string size) = Split(option, value);
                    steps.Add(Step(selector, s => new WidenPass(s, SizeRequest.Parse(size), method, stepSeed).Apply));
                    break;
                case KernelOption:
                    (selector, size) = Split(option, value);
                    steps.Add(Step(selector, s => new KernelPass(s, SizeRequest.Parse(size)).Apply));
                    break;
                case DeepenOption:
                    (string layers, int count) = SplitCount(value);
                    steps.Add(Step(layers, s => new DeepenPass(s, count, form, stepSeed).Apply));
                    break;
            }

            MorphStep Step(string selector, Func<Selector, Func<AxisAnalysis, StepReport>> pass)
            {
                var parsedSelector = Selector.Parse(selector);
                return new MorphStep($"{option} {value}", parsedSelector, pass(parsedSelector));
            }
        }

        return steps;
    }

    private static (string Selector, string Size) Split(string option, string value)
    {
        int equals = value.LastIndexOf('=');
        return equals > 0
            ? (value[..equals], value[(equals + 1)..])
            : throw new UsageException($"{option} '{value}' is not a selector with a size: write SELECTOR=SIZE, such as '*=x1.5'.");
    }

    private static (string Selector, int Count) SplitCount(string value)
    {
        int equals = value.LastIndexOf('=');
        if (equals < 0)
            return (value, 1);
        const int Most = 100;
        return equals > 0 && int.TryParse(value[(equals + 1)..], NumberStyles.None, CultureInfo.InvariantCulture, out int count) && count is >= 1 and <= Most
            ? (value[..equals], count)
            : throw new UsageException($"{DeepenOption} '{value}' is not a selector with a count: write SELECTOR or SELECTOR=COUNT, the count from 1 to {Most}.");
    }

    private static void Print(Terminal terminal, MorphReport report)
    {
        foreach (StepReport step in report.Steps)
        {
            terminal.Heading(step.Step);
            terminal.Line($"{step.Changes.Count} layers changed, {step.Refused.Count} left alone");
            // Layers of a kind have the same change and the same reason; one line says it for all.
            foreach (var same in step.Changes.GroupBy(c => (c.What, c.Before, c.After)))
                terminal.Line($"  {same.Key.What} {same.Key.Before} → {same.Key.After}: {Names(same.Select(c => c.Where))}");
            foreach (var same in step.Refused.GroupBy(r => r.Why))
                terminal.Line($"  left alone: {Names(same.Select(r => r.Where))}: {same.Key}");
            foreach (string note in step.Notes.Take(MostNotes))
                terminal.Line($"  note: {note}");
            if (step.Notes.Count > MostNotes)
                terminal.Line($"  and {step.Notes.Count - MostNotes} more notes; --json has all");
        }

        terminal.Line($"parameters {report.ParametersBefore:N0} → {report.ParametersAfter:N0}");
        if (report.Verification is { } verification)
            VerifyCommand.Print(terminal, verification);
        if (report.Output is { } output)
            terminal.Line($"wrote {output}{(report.Verification is null ? ", not verified" : "")}");
    }

    private const int MostNotes = 5;

    private static string Names(IEnumerable<string> names)
    {
        List<string> all = [.. names];
        return all.Count <= 2 ? string.Join(", ", all) : $"{all[0]} and {all.Count - 1} more";
    }
}
