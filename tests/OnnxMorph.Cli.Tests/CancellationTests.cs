using System.Diagnostics;
using OnnxMorph.Cli.Tests.Testing;
using OnnxMorph.Morphs;
using OnnxMorph.Recipes;

namespace OnnxMorph.Cli.Tests;

/// <summary>A cancelled run ends with 130 and leaves nothing, wherever it was.</summary>
public sealed class CancellationTests : IDisposable
{
    private static readonly string s_model = Workspace.Model("digits_mobilenet.onnx");

    private readonly Workspace _files = new();

    public void Dispose() => _files.Dispose();

    [Theory]
    [InlineData("reading")]
    [InlineData("morphing")]
    [InlineData("writing")]
    [InlineData("verifying")]
    public void Leaves_nothing_at_any_stage(string stage)
    {
        using var cancel = new CancellationTokenSource();
        var seen = new List<string>();
        var job = new MorphJob
        {
            Parent = s_model,
            Output = _files["child.onnx"],
            Certificate = _files["child.json"],
            Recipe = new Recipe([new StepSpec("widen", "*", new Dictionary<string, string> { ["size"] = "x1.5" })]),
            Progress = new Stages(s =>
            {
                seen.Add(s);
                if (s == stage)
                    cancel.Cancel();
            }),
        };
        Assert.ThrowsAny<OperationCanceledException>(() => job.Run(cancel.Token));
        Assert.Equal(stage, seen[^1]);
        Assert.Empty(_files.Snapshot());
    }

    [Fact]
    public async Task Ends_with_130()
    {
        using StringWriter output = new(), error = new();
        int code = await CommandLine.RunAsync(["morph", s_model, "-o", _files["child.onnx"], "--widen", "*=x2", "--json"], output, error, new CancellationToken(canceled: true));
        Assert.Equal(130, code);
        Assert.Contains("Cancelled", error.ToString());
        Assert.Equal(130, new Command(code, output.ToString(), error.ToString()).Document().GetProperty("exitCode").GetInt32());
        Assert.Empty(_files.Snapshot());
    }

    [Theory]
    [InlineData("INT")]
    [InlineData("TERM")]
    public async Task A_signal_ends_a_real_process_with_130(string signal)
    {
        Assert.SkipUnless(OperatingSystem.IsLinux(), "kill and /proc are Linux's");
        Assert.SkipWhen(signal == "INT" && InterruptsAreIgnored(), "the test runner was started with interrupts ignored, as background jobs are, and its children inherit that");
        CancellationToken cancellation = TestContext.Current.CancellationToken;
        using Process process = Command.Start("morph", s_model, "-o", _files["child.onnx"], "--certificate", _files["child.json"],
            "--widen", "*=x4", "--deepen", "*", "--inputs", Workspace.Samples);
        Task<string> error = process.StandardError.ReadToEndAsync(cancellation);
        // The folder beside the target is there while the child is written and verified.
        while (!_files.HasEntries && !process.HasExited)
            await Task.Delay(10, cancellation);
        Assert.False(process.HasExited, "the run ended before it could be interrupted");
        using (Process kill = Process.Start("kill", ["-" + signal, $"{process.Id}"]))
            await kill.WaitForExitAsync(cancellation);
        await process.WaitForExitAsync(cancellation);
        Assert.Equal(130, process.ExitCode);
        Assert.Equal("Cancelled; nothing was written.", (await error).Trim());
        Assert.Empty(_files.Snapshot());
    }

    // Bit n−1 of SigIgn stands for signal n, and SIGINT is 2.
    private static bool InterruptsAreIgnored() =>
        (Convert.ToUInt64(File.ReadLines("/proc/self/status").Single(l => l.StartsWith("SigIgn:")).Split('\t')[1], 16) & 2) != 0;
}
