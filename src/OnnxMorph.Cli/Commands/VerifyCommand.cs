using System.CommandLine;
using System.Globalization;
using OnnxMorph.Certification;
using OnnxMorph.Cli.Reports;
using OnnxMorph.Onnx;
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
        var certificate = new Option<string?>("--certificate") { Description = "What 'morph --certificate' wrote: have it checked too, layer by layer, for all inputs.", HelpName = "FILE" };
        Option<ulong> seed = CommonOptions.Seed();
        Option<string?> page = CommonOptions.Report();
        Option<bool> force = CommonOptions.Force(), json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("verify", "Runs two models under ONNX Runtime and compares their outputs with the parent's own noise floor.")
        {
            parent, child, inputs, certificate, seed, page, force, json, quiet,
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
            string first = parsed.GetRequiredValue(parent), second = parsed.GetRequiredValue(child);
            using OutputFile? file = ReportFile.Open(parsed.GetValue(page), parsed.GetValue(force), first, second, options.InputsPath, parsed.GetValue(certificate));
            VerificationReport report = terminal.Progress(progress =>
            {
                // A certificate that cannot be read shows before the models are run.
                Certificate? given = parsed.GetValue(certificate) is { } path ? Certificate.Read(path) : null;
                progress.Report("verifying");
                VerificationReport found = Verifier.Compare(first, second, options, cancellation);
                if (given is null)
                    return found;
                var counter = new Counter(progress);
                return found.With(CertificateChecker.Check(OnnxReader.Read(first), OnnxReader.Read(second), given, options.Seed, counter, cancellation));
            });
            file?.Write(VerifyPage.Of(Path.GetFileName(first), Path.GetFileName(second), report));
            if (terminal.Json)
                terminal.Document(report.ToJson());
            Print(terminal, report);
            terminal.Wrote(file);
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
                o.Name, Text.Name(o.Exactness), Short(o.MaxAbs), Short(o.MaxRel), o.MaxUlp.ToString(CultureInfo.InvariantCulture),
                Short(o.NoiseFloor), Short(o.NoiseRatio),
            ]), 2, 3, 4, 5, 6);
        terminal.Line($"{(report.Passed ? "verified" : "not verified")}: {Text.Name(report.Exactness)}, on {report.Inputs.Count} sets of inputs; up to {report.Margin:g2} times the parent's own noise floor counts as rounding");
        if (report.Certificate is { } certificate)
        {
            terminal.Line($"certificate: {(certificate.Passed && certificate.Unproven.Count == 0 ? "proven" : certificate.Passed ? "not proven in full" : "wrong")}; {certificate.Checked} values are what it says, for all inputs");
            foreach (ValueFinding failed in certificate.Failed)
                terminal.Line($"wrong: '{failed.Value}': {failed.Reason}");
            foreach (ValueFinding unproven in certificate.Unproven)
                terminal.Line($"unproven: '{unproven.Value}': {unproven.Reason}");
        }

        foreach (SkippedDraw skipped in report.Skipped)
            terminal.Line($"skipped {skipped.Description}: {skipped.Reason}");
        foreach (string note in report.Notes)
            terminal.Line($"note: {note}");
    }

    private sealed class Counter(IProgress<string> progress) : IProgress<(int Done, int All)>
    {
        public void Report((int Done, int All) value)
        {
            if (value.Done % 16 == 0)
                progress.Report($"checking value {value.Done} of {value.All}");
        }
    }

    private static string Short(double value) => value.ToString("g2", CultureInfo.InvariantCulture);
}
