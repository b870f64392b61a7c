using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.Json;
using OnnxMorph.Kernels;
using OnnxMorph.Morphs;
using OnnxMorph.Recipes;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph morph MODEL -o OUT</c>: a wider, deeper child with larger kernels that computes the same.</summary>
internal static class MorphCommand
{
    private const string WidenOption = "--widen", DeepenOption = "--deepen", KernelOption = "--kernel", ActivationOption = "--activation";

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
        Option<string[]> activation = Step(ActivationOption, "SELECTOR",
            "Give activations a trainable share of the identity that starts at none, such as '*' or 'relu1'. May be given several times.");
        Option<string> widenMethod = Method("--widen-method", "What new channels are: copies that share their readers' weights (replicate), random ones that are read with zeros (zero), or random pairs that cancel (opposed).", StepSpec.WidenMethods);
        Option<string> deepenMethod = Method("--deepen-method", "How a layer becomes two: by factoring its weights (closed-form), or by an identity behind it (identity).", StepSpec.DeepenMethods);
        var recipe = new Option<string?>("--recipe") { Description = "Take the steps from a YAML file (docs/recipe.schema.json).", HelpName = "FILE" };
        var certificate = new Option<string?>("--certificate") { Description = "Write how each value of the child follows from the parent's, as JSON, to FILE.", HelpName = "FILE" };
        var noVerify = new Option<bool>("--no-verify") { Description = "Write the child without comparing it with the parent." };
        Option<string?> inputs = CommonOptions.Inputs();
        Option<ulong> seed = CommonOptions.Seed();
        Option<string> device = CommonOptions.Device();
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("morph", "Widens, deepens and grows the kernels of a trained model and keeps what it computes. Steps run in the order given.")
        {
            model, output, widen, deepen, kernel, activation, recipe, widenMethod, deepenMethod, certificate, noVerify, inputs, seed, device, force, json, quiet,
        };
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            ulong seedValue = parsed.GetValue(seed);
            Recipe steps = Steps(parsed, parsed.GetRequiredValue(widenMethod), parsed.GetRequiredValue(deepenMethod));
            if (parsed.GetValue(recipe) is { } file)
            {
                if (steps.Steps.Count > 0)
                    throw new UsageException("Steps come from --recipe or from the command line, not from both; write them all into the recipe.");
                steps = Recipe.Read(file);
                // What the command line says counts.
                if (parsed.GetResult(seed) is { Implicit: false })
                    steps = steps with { Seed = null };
            }

            using KernelDevice kernels = CommonOptions.Open(parsed.GetRequiredValue(device));
            MorphReport report = terminal.Progress(progress => new MorphJob
            {
                Parent = parsed.GetRequiredValue(model),
                Output = parsed.GetRequiredValue(output),
                Recipe = steps,
                Seed = seedValue,
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

    private static Option<string> Method(string name, string description, IReadOnlyList<string> choices)
    {
        var option = new Option<string>(name) { Description = description, HelpName = "METHOD", DefaultValueFactory = _ => choices[0] };
        return option.AcceptOnlyFromAmong([.. choices]);
    }

    // Steps run in the order in which they were written, which only the tokens tell.
    private static Recipe Steps(ParseResult parsed, string widenMethod, string deepenMethod)
    {
        var steps = new List<StepSpec>();
        for (int i = 0; i + 1 < parsed.Tokens.Count; i++)
        {
            if (parsed.Tokens[i].Type != TokenType.Option)
                continue;
            string option = parsed.Tokens[i].Value, value = parsed.Tokens[i + 1].Value;
            int equals = value.LastIndexOf('=');
            (string selector, string? size) = equals > 0 ? (value[..equals], value[(equals + 1)..]) : (value, null);
            switch (option)
            {
                case WidenOption or KernelOption when size is null:
                    throw new UsageException($"{option} '{value}' names no size: write SELECTOR=SIZE, such as '*=x1.5'.");
                case WidenOption:
                    Add("widen", selector, ("size", size), ("method", widenMethod));
                    break;
                case KernelOption:
                    Add("kernel", selector, ("size", size));
                    break;
                case ActivationOption:
                    Add("activation", value);
                    break;
                case DeepenOption:
                    Add("deepen", selector, ("count", size ?? "1"), ("method", deepenMethod));
                    break;
            }
        }

        return new Recipe(steps);

        void Add(string kind, string selector, params IEnumerable<(string Name, string? Value)> options) =>
            steps.Add(new StepSpec(kind, selector, options.ToDictionary(o => o.Name, o => o.Value!)));
    }

    private static void Print(Terminal terminal, MorphReport report)
    {
        foreach (StepReport step in report.Steps)
        {
            terminal.Heading(step.Step);
            terminal.Line($"{step.Changes.Count} changed, {step.Refused.Count} left alone");
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
