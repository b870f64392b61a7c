using System.Diagnostics;
using System.Text.Json;

namespace OnnxMorph.Cli.Tests.Testing;

/// <summary>One run of the command, in process.</summary>
internal sealed record Command(int Code, string Output, string Error)
{
    /// <summary>Runs <c>onnxmorph</c> with the given arguments.</summary>
    public static async Task<Command> Run(params string[] args)
    {
        using StringWriter output = new(), error = new();
        int code = await CommandLine.RunAsync(args, output, error, TestContext.Current.CancellationToken);
        return new(code, output.ToString(), error.ToString());
    }

    /// <summary>Runs <c>onnxmorph</c>, which must end well.</summary>
    public static async Task<Command> Succeed(params string[] args)
    {
        Command run = await Run(args);
        Assert.True(run.Code == 0, $"exit code {run.Code}: {run.Error}");
        return run;
    }

    /// <summary>Starts <c>onnxmorph</c> as a process of its own.</summary>
    public static Process Start(params string[] args) => Process.Start(
        new ProcessStartInfo("dotnet", [Path.Combine(AppContext.BaseDirectory, "OnnxMorph.Cli.dll"), .. args])
        {
            RedirectStandardError = true,
            RedirectStandardOutput = true,
        })!;

    /// <summary>Standard output as the one JSON document that it must be: anything behind it fails.</summary>
    public JsonElement Document() => JsonDocument.Parse(Output).RootElement;
}
