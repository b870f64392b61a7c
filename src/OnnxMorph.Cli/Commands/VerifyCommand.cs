using System.CommandLine;
using System.Globalization;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph verify PARENT CHILD</c>: does the child compute what the parent computes?</summary>
internal static class VerifyCommand
{
    public static Command Create()
    {
        var parent = new Argument<string>("PARENT") { Description = "The model that defines the function." };
        var child = new Argument<string>("CHILD") { Description = "The model that should compute the same." };
        Option<string?> inputs = CommonOptions.Inputs();
        Option<ulong> seed = CommonOptions.Seed();
        Option<bool> json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("verify", "Runs two models under ONNX Runtime and compares their outputs with the parent's own noise floor.")
        {
            parent, child, inputs, seed, json, quiet,
        };
        command.SetAction((parsed, cancellation) =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            var options = new VerifyOptions
            {
                InputsPath = parsed.GetValue(inputs),
                Seed = parsed.GetValue(seed),
                Probe = new ModelProbe(new WeightEvaluator()),
            };
            VerificationReport report = terminal.Progress(progress =>
            {
                progress.Report("verifying");
                return Verifier.Compare(parsed.GetRequiredValue(parent), parsed.GetRequiredValue(child), options, cancellation);
            });
            if (terminal.Json)
                terminal.Document(report.ToJson());
            Print(terminal, report);
            if (!report.Passed)
                terminal.Failure($"Verification failed: {report.Reason}");
            return Task.FromResult((int)(report.Passed ? ExitCode.Done : ExitCode.VerificationFailed));
        });
        return command;
    }

    /// <summary>The comparison, output by output.</summary>
    public static void Print(Terminal terminal, VerificationReport report)
    {
        terminal.Table(["output", "result", "max abs", "max rel", "max ulp", "noise floor", "times floor"],
            report.Outputs.Select(o => (string[])
            [
                o.Name, Name(o.Exactness), Short(o.MaxAbs), Short(o.MaxRel), o.MaxUlp.ToString(CultureInfo.InvariantCulture),
                Short(o.NoiseFloor), Short(o.NoiseRatio),
            ]), 2, 3, 4, 5, 6);
        terminal.Line($"{(report.Passed ? "verified" : "not verified")}: {Name(report.Exactness)}, on {report.Inputs.Count} sets of inputs; up to {report.Margin:g2} times the parent's own noise floor counts as rounding");
        foreach (SkippedDraw skipped in report.Skipped)
            terminal.Line($"skipped {skipped.Description}: {skipped.Reason}");
        foreach (string note in report.Notes)
            terminal.Line($"note: {note}");
    }

    private static string Short(double value) => value.ToString("g2", CultureInfo.InvariantCulture);

    private static string Name(Exactness exactness) => exactness switch
    {
        Exactness.BitExact => "bit-exact",
        Exactness.Rounding => "rounding",
        Exactness.Approximate => "approximate",
        _ => "different",
    };
}
