using System.CommandLine;
using System.CommandLine.Parsing;
using System.Text.Json;
using OnnxMorph.Cli.Reports;
using OnnxMorph.Kernels;
using OnnxMorph.Morphs;
using OnnxMorph.Recipes;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph morph MODEL -o OUT</c>: a wider, deeper child with larger kernels that computes the same.</summary>
internal static class MorphCommand
{
    public static Command Create()
    {
        var model = new Argument<string>("MODEL") { Description = "The parent's ONNX file." };
        var output = new Option<string>("--output", "-o") { Description = "The child's file.", HelpName = "OUT", Required = true };
        List<(StepKind Kind, Option<string[]> Steps, List<(string Name, Option<string?> Option)> Options)> kinds = [.. StepKinds.All.Select(Options)];
        var recipe = new Option<string?>("--recipe") { Description = "Take the steps from a YAML file (docs/recipe.schema.json).", HelpName = "FILE" };
        var certificate = new Option<string?>("--certificate") { Description = "Write how each value of the child follows from the parent's, as JSON, to FILE.", HelpName = "FILE" };
        var noVerify = new Option<bool>("--no-verify") { Description = "Write the child without comparing it with the parent." };
        Option<string?> inputs = CommonOptions.Inputs();
        Option<ulong> seed = CommonOptions.Seed();
        Option<string> device = CommonOptions.Device();
        Option<string?> page = CommonOptions.Report();
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("morph", "Widens, deepens and grows the kernels of a trained model and keeps what it computes. Steps run in the order given.")
        {
            model, output,
        };
        foreach (var kind in kinds)
            foreach (Option option in kind.Options.Select(o => o.Option).Prepend<Option>(kind.Steps))
                command.Options.Add(option);
        foreach (Option option in new Option[] { recipe, certificate, noVerify, inputs, seed, device, page, force, json, quiet })
            command.Options.Add(option);
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            ulong seedValue = parsed.GetValue(seed);
            Recipe steps = Steps(parsed, kinds.ToDictionary(k => k.Steps.Name, k => (k.Kind, Given(parsed, k.Options))));
            if (parsed.GetValue(recipe) is { } recipeFile)
            {
                if (steps.Steps.Count > 0)
                    throw new UsageException("Steps come from --recipe or from the command line, not from both; write them all into the recipe.");
                steps = Recipe.Read(recipeFile);
                // What the command line says counts.
                if (parsed.GetResult(seed) is { Implicit: false })
                    steps = steps with { Seed = null };
            }

            string parent = parsed.GetRequiredValue(model), child = parsed.GetRequiredValue(output);
            using OutputFile? file = ReportFile.Open(
                parsed.GetValue(page), parsed.GetValue(force), parent, child, parsed.GetValue(certificate), parsed.GetValue(recipe), parsed.GetValue(inputs));
            using KernelDevice kernels = CommonOptions.Open(parsed.GetRequiredValue(device));
            MorphReport report = terminal.Progress(progress => new MorphJob
            {
                Parent = parent,
                Output = child,
                Recipe = steps,
                Seed = seedValue,
                Verify = parsed.GetValue(noVerify) ? null : new VerifyOptions { InputsPath = parsed.GetValue(inputs), Seed = seedValue },
                Certificate = parsed.GetValue(certificate),
                Force = parsed.GetValue(force),
                Evaluator = new WeightEvaluator(kernels),
                Progress = progress,
            }.Run(cancellation));
            file?.Write(MorphPage.Of(Path.GetFileName(parent), Path.GetFileName(child), report));
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(MorphJson.Of(report), CliJson.Default.MorphJson));
            Print(terminal, report);
            terminal.Warn(kernels);
            terminal.Wrote(file);
            if (report.Output is null)
                terminal.Failure($"Verification failed and nothing was written: {report.Verification!.Reason}");
            return Task.FromResult((int)(report.Output is null ? ExitCode.VerificationFailed : ExitCode.Done));
        });
        return command;
    }

    // --KIND for the steps, and --KIND-NAME for each option beside the one behind SELECTOR=, which then holds for all steps of the kind.
    private static (StepKind, Option<string[]>, List<(string, Option<string?>)>) Options(StepKind kind)
    {
        string form = kind.Main switch
        {
            null => "SELECTOR",
            { Required: true } main => $"SELECTOR={main.Name.ToUpperInvariant()}",
            { } main => $"SELECTOR[={main.Name.ToUpperInvariant()}]",
        };
        var steps = new Option<string[]>($"--{kind.Name}")
        {
            Description = $"{kind.Description.TrimEnd('.')}, such as {kind.Examples}. May be given several times.",
            HelpName = form,
            AllowMultipleArgumentsPerToken = false,
        };
        var options = new List<(string, Option<string?>)>();
        foreach (StepOption option in kind.Options.Where(o => o != kind.Main))
        {
            bool choice = option.Form == OptionForm.Choice;
            var added = new Option<string?>($"--{kind.Name}-{option.Name}")
            {
                Description = option.Description + (choice ? $" {char.ToUpperInvariant(option.Choices[0][0])}{option.Choices[0][1..]} by default." : ""),
                HelpName = option.Name.ToUpperInvariant(),
            };
            if (choice)
                added.AcceptOnlyFromAmong([.. option.Choices]);
            options.Add((option.Name, added));
        }

        return (kind, steps, options);
    }

    private static List<(string Name, string Value)> Given(ParseResult parsed, List<(string Name, Option<string?> Option)> options) =>
        [.. from option in options
            where parsed.GetValue(option.Option) is not null
            select (option.Name, parsed.GetValue(option.Option)!)];

    // Steps run in the order in which they were written, which only the tokens tell.
    private static Recipe Steps(ParseResult parsed, Dictionary<string, (StepKind Kind, List<(string Name, string Value)> Options)> kinds)
    {
        var steps = new List<StepSpec>();
        for (int i = 0; i + 1 < parsed.Tokens.Count; i++)
        {
            if (parsed.Tokens[i].Type != TokenType.Option || !kinds.TryGetValue(parsed.Tokens[i].Value, out var given))
                continue;
            (StepKind kind, var options) = given;
            string value = parsed.Tokens[i + 1].Value;
            int equals = kind.Main is null ? -1 : value.LastIndexOf('=');
            if (kind.Main is { Required: true } missing && equals <= 0)
                throw new UsageException($"--{kind.Name} '{value}' names no {missing.Name}: write SELECTOR={missing.Name.ToUpperInvariant()}, such as {kind.Examples}.");
            var named = options.ToDictionary(o => o.Name, o => o.Value);
            if (equals > 0)
                named[kind.Main!.Name] = value[(equals + 1)..];
            steps.Add(new StepSpec(kind.Name, equals > 0 ? value[..equals] : value, named));
        }

        return new Recipe(steps);
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
