namespace OnnxMorph;

/// <summary>The process exit codes of the command line, one for each way that a run can end.</summary>
public enum ExitCode
{
    /// <summary>The work was done.</summary>
    Done = 0,

    /// <summary>The child does not compute what the parent computes; no output was left.</summary>
    VerificationFailed = 1,

    /// <summary>The command, an option or a recipe is wrong.</summary>
    Usage = 2,

    /// <summary>The model cannot be read: not ONNX, cut short, inconsistent, or unsafe external data.</summary>
    Unreadable = 3,

    /// <summary>The change was refused because it cannot be made exactly.</summary>
    Refused = 4,

    /// <summary>Reading or writing a file failed, or a device that computes weights did.</summary>
    InputOutput = 5,

    /// <summary>The user cancelled the run.</summary>
    Cancelled = 130,
}

/// <summary>An error whose message is one sentence for the user: it names the thing and the remedy.</summary>
public class OnnxMorphException : Exception
{
    /// <summary>Creates the error that ends the process with <paramref name="exitCode"/>.</summary>
    public OnnxMorphException(ExitCode exitCode, string message, Exception? inner = null)
        : base(message, inner) => ExitCode = exitCode;

    /// <summary>The exit code that the command line ends with.</summary>
    public ExitCode ExitCode { get; }
}

/// <summary>The model file cannot be read as a consistent ONNX model (exit code 3).</summary>
public sealed class UnreadableModelException(string message, Exception? inner = null)
    : OnnxMorphException(ExitCode.Unreadable, message, inner);

/// <summary>The requested change cannot be made exactly (exit code 4).</summary>
public sealed class RefusedException(string message, Exception? inner = null)
    : OnnxMorphException(ExitCode.Refused, message, inner);

/// <summary>The request itself is wrong (exit code 2).</summary>
public sealed class UsageException(string message, Exception? inner = null)
    : OnnxMorphException(ExitCode.Usage, message, inner);
