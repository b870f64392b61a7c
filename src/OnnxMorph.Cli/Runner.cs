using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Parsing;

namespace OnnxMorph.Cli;

/// <summary>Runs the parsed command and turns every way it can end into an exit code and, at most, one sentence.</summary>
internal static class Runner
{
    public static async Task<int> InvokeAsync(RootCommand root, string[] args)
    {
        ParseResult parsed = root.Parse(args);
        if (parsed.Errors.Count > 0 && parsed.Action is not HelpAction)
        {
            foreach (ParseError error in parsed.Errors)
                Console.Error.WriteLine(error.Message);
            string command = parsed.CommandResult.Command is RootCommand ? "" : $" {parsed.CommandResult.Command.Name}";
            Console.Error.WriteLine($"'onnxmorph{command} --help' shows what it takes.");
            return (int)ExitCode.Usage;
        }

        try
        {
            return await parsed.InvokeAsync(new InvocationConfiguration { EnableDefaultExceptionHandler = false });
        }
        catch (OnnxMorphException e)
        {
            Console.Error.WriteLine(e.Message);
            return (int)e.ExitCode;
        }
        catch (OperationCanceledException)
        {
            Console.Error.WriteLine("Cancelled; nothing was written.");
            return (int)ExitCode.Cancelled;
        }
        catch (IOException e)
        {
            Console.Error.WriteLine(e.Message);
            return (int)ExitCode.InputOutput;
        }
    }
}
