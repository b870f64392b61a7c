using System.CommandLine;
using System.Text.Json;
using OnnxMorph.Cli.Commands;
using OnnxMorph.Kernels;

namespace OnnxMorph.Cli;

/// <summary>The command <c>onnxmorph</c>: every way that a run can end is an exit code and, at most, one sentence.</summary>
internal static class CommandLine
{
    private static readonly (string Name, Func<Command> Create)[] s_commands =
    [
        ("inspect", InspectCommand.Create),
        ("similarity", SimilarityCommand.Create),
        ("rank", RankCommand.Create),
        ("morph", MorphCommand.Create),
        ("transfer", TransferCommand.Create),
        ("init", InitCommand.Create),
        ("verify", VerifyCommand.Create),
        ("export", ExchangeCommands.Export),
        ("import", ExchangeCommands.Import),
        ("devices", DevicesCommand.Create),
    ];

    /// <summary>Runs one command line.</summary>
    /// <param name="args">The arguments after the command's name.</param>
    /// <param name="output">Standard output: results.</param>
    /// <param name="error">Standard error: errors, progress, and text for people where a JSON document takes the output.</param>
    /// <param name="cancellation">Ends the run with <see cref="ExitCode.Cancelled"/>; nothing is left behind.</param>
    /// <returns>The exit code.</returns>
    public static async Task<int> RunAsync(IReadOnlyList<string> args, TextWriter output, TextWriter error, CancellationToken cancellation = default)
    {
        // Names of nodes and files may begin with '@', so there are no response files.
        ParseResult parsed = Root(args).Parse(args, new ParserConfiguration { ResponseFileTokenReplacer = null });
        if (parsed.Errors.Count > 0 && parsed.Action is not HelpWithExamples)
        {
            string command = parsed.CommandResult.Command is RootCommand ? "" : $" {parsed.CommandResult.Command.Name}";
            string message = $"{string.Join(Environment.NewLine, parsed.Errors.Select(e => e.Message))}{Environment.NewLine}'onnxmorph{command} --help' shows what it takes.";
            return End(ExitCode.Usage, message);
        }

        try
        {
            // Signals cancel the token from Program; the library's own handling would leave the run before it has cleaned up.
            var configuration = new InvocationConfiguration
            {
                Output = output,
                Error = error,
                EnableDefaultExceptionHandler = false,
                ProcessTerminationTimeout = null,
            };
            return await parsed.InvokeAsync(configuration, cancellation);
        }
        catch (OnnxMorphException e)
        {
            return End(e.ExitCode, e.Message);
        }
        catch (OperationCanceledException)
        {
            return End(ExitCode.Cancelled, "Cancelled; nothing was written.");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or DeviceException)
        {
            return End(ExitCode.InputOutput, e.Message);
        }
        catch (Exception e)
        {
            // A check of the program's own has failed: like a child that fails verification, the result cannot be trusted.
            return End(ExitCode.VerificationFailed, $"This is a defect of onnxmorph, and nothing was written; please report it with the model and this text: {e}");
        }

        int End(ExitCode code, string message)
        {
            error.WriteLine(message);
            if (args.Contains(CommonOptions.JsonName))
                output.WriteLine(JsonSerializer.Serialize(new ErrorJson(message, (int)code), CliJson.Default.ErrorJson));
            return (int)code;
        }
    }

    // A run needs the options of its own command; making those of all takes longer than some commands do.
    private static RootCommand Root(IReadOnlyList<string> args)
    {
        var root = new RootCommand("Changes the architecture of a trained ONNX model while keeping its function, and proves it.");
        bool isNamed = args.Count > 0 && Array.Exists(s_commands, c => c.Name == args[0]);
        foreach ((string name, Func<Command> create) in s_commands)
            if (!isNamed || name == args[0])
                root.Add(create());
        HelpWithExamples.Extend(root);
        return root;
    }
}
