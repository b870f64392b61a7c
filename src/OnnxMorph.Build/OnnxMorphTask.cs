using Microsoft.Build.Framework;
using Microsoft.Build.Utilities;

namespace OnnxMorph.Build;

/// <summary>
/// Runs <c>onnxmorph morph</c> as a build step. The command is a process of its own, so that ONNX Runtime's native library
/// is neither loaded into MSBuild, whose nodes outlive the build and would keep the file locked, nor has to fit the
/// framework that this MSBuild runs on.
/// </summary>
public sealed class OnnxMorphTask : ToolTask
{
    private readonly List<string> _errors = [];

    /// <summary>The parent's file.</summary>
    [Required]
    public string Parent { get; set; } = "";

    /// <summary>The child's file; it is replaced where it exists.</summary>
    [Required]
    public string Child { get; set; } = "";

    /// <summary>The command's assembly, <c>OnnxMorph.Cli.dll</c>.</summary>
    [Required]
    public string CommandAssembly { get; set; } = "";

    /// <summary>Values of <c>--widen</c>; they run before <see cref="Deepen"/>.</summary>
    public string[] Widen { get; set; } = [];

    /// <summary>Values of <c>--deepen</c>; they run before <see cref="Kernel"/>.</summary>
    public string[] Deepen { get; set; } = [];

    /// <summary>Values of <c>--kernel</c>.</summary>
    public string[] Kernel { get; set; } = [];

    /// <summary>Samples to verify on; drawn inputs where it is empty.</summary>
    public string? Inputs { get; set; }

    /// <summary>Where to write the certificate; nowhere where it is empty.</summary>
    public string? Certificate { get; set; }

    /// <summary>Seed of everything random; 0 where it is empty.</summary>
    public string? Seed { get; set; }

    /// <summary>The .NET host that runs the command; the one on the path where it is empty.</summary>
    public string? DotNetHost { get; set; }

    /// <inheritdoc/>
    protected override string ToolName => Path.DirectorySeparatorChar == '\\' ? "dotnet.exe" : "dotnet";

    /// <inheritdoc/>
    protected override MessageImportance StandardErrorLoggingImportance => MessageImportance.High;

    /// <inheritdoc/>
    protected override MessageImportance StandardOutputLoggingImportance => MessageImportance.Low;

    /// <inheritdoc/>
    protected override string GenerateFullPathToTool() => string.IsNullOrEmpty(DotNetHost) ? ToolName : DotNetHost!;

    /// <inheritdoc/>
    protected override string GenerateCommandLineCommands()
    {
        var line = new CommandLineBuilder(quoteHyphensOnCommandLine: true);
        line.AppendFileNameIfNotNull(CommandAssembly);
        line.AppendTextUnquoted(" morph");
        line.AppendFileNameIfNotNull(Parent);
        line.AppendSwitchIfNotNull("--output ", Child);
        line.AppendTextUnquoted(" --force");
        foreach (string step in Widen)
            line.AppendSwitchIfNotNull("--widen ", step);
        foreach (string step in Deepen)
            line.AppendSwitchIfNotNull("--deepen ", step);
        foreach (string step in Kernel)
            line.AppendSwitchIfNotNull("--kernel ", step);
        AppendUnlessEmpty("--inputs ", Inputs);
        AppendUnlessEmpty("--certificate ", Certificate);
        AppendUnlessEmpty("--seed ", Seed);
        return line.ToString();

        void AppendUnlessEmpty(string option, string? value)
        {
            if (!string.IsNullOrEmpty(value))
                line.AppendSwitchIfNotNull(option, value);
        }
    }

    /// <inheritdoc/>
    protected override void LogEventsFromTextOutput(string singleLine, MessageImportance messageImportance)
    {
        // Standard error is the reason of a failure, which is logged as one error with its code.
        if (messageImportance == StandardErrorLoggingImportance)
            _errors.Add(singleLine);
        else
            Log.LogMessage(messageImportance, singleLine);
    }

    /// <inheritdoc/>
    protected override bool HandleTaskExecutionErrors()
    {
        Log.LogError(null, $"ONNXMORPH{ExitCode:000}", null, Parent, 0, 0, 0, 0, "{0}", string.Join(" ", _errors));
        return false;
    }
}
