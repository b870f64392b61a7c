using System.Collections.Immutable;
using System.Runtime.InteropServices;
using System.Text.RegularExpressions;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Weights;

namespace OnnxMorph.Runtime;

/// <summary>
/// The one place that opens ONNX Runtime sessions: quiet (its log never reaches the console), with bounded memory, and
/// with native errors turned into <see cref="OnnxMorphException"/>.
/// </summary>
public static partial class OrtRuntime
{
    private static readonly Lock s_environmentLock = new();

    /// <summary>Loads ONNX Runtime's library beside what the caller does until it opens a session: it takes as long as reading a small model.</summary>
    public static void Prepare() => ThreadPool.QueueUserWorkItem(_ =>
    {
        try
        {
            Silence();
        }
        catch (Exception error) when (error is TypeInitializationException or DllNotFoundException or EntryPointNotFoundException or OnnxRuntimeException)
        {
            // Opening a session will fail as well, and tells why.
        }
    });

    /// <summary>
    /// Session options: sequential execution on the CPU, nothing logged, no memory arena and no memory pattern, so that
    /// what a run allocates is given back when it ends.
    /// </summary>
    /// <param name="optimization">Graph optimisation level; off by default, so that the nodes run as they are written.</param>
    /// <param name="threads">Threads inside an operator.</param>
    /// <param name="dimensions">Sizes for symbolic dimensions, by name (<c>AddFreeDimensionOverrideByName</c>).</param>
    /// <param name="optimizedModelPath">Where to save the optimised model (<c>OptimizedModelFilePath</c>); null does not.</param>
    public static SessionOptions CreateOptions(
        GraphOptimizationLevel optimization = GraphOptimizationLevel.ORT_DISABLE_ALL,
        int threads = 1,
        IReadOnlyDictionary<string, long>? dimensions = null,
        string? optimizedModelPath = null)
    {
        Silence();
        var options = new SessionOptions
        {
            GraphOptimizationLevel = optimization,
            ExecutionMode = ExecutionMode.ORT_SEQUENTIAL,
            IntraOpNumThreads = threads,
            InterOpNumThreads = 1,
            EnableCpuMemArena = false,
            EnableMemoryPattern = false,
            LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
        };
        // A pool that spins between operators takes whole cores from everything else on the machine.
        options.AddSessionConfigEntry("session.intra_op.allow_spinning", "0");
        foreach ((string name, long size) in dimensions ?? ImmutableDictionary<string, long>.Empty)
            options.AddFreeDimensionOverrideByName(name, size);
        if (optimizedModelPath is not null)
            options.OptimizedModelFilePath = optimizedModelPath;
        return options;
    }

    /// <summary>Options for one run: nothing logged.</summary>
    public static RunOptions CreateRunOptions() => new() { LogSeverityLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL };

    /// <summary>Loads a model. The caller keeps the options alive while it loads and disposes both.</summary>
    /// <exception cref="UnreadableModelException">The model does not load; the message names the file and the reason.</exception>
    /// <exception cref="OnnxMorphException">The file does not exist (<see cref="ExitCode.InputOutput"/>).</exception>
    public static InferenceSession Load(string path, SessionOptions options)
    {
        if (!File.Exists(path))
            throw new OnnxMorphException(ExitCode.InputOutput, $"The model file '{path}' does not exist or is no file; check the path.");
        try
        {
            return new InferenceSession(path, options);
        }
        catch (OnnxRuntimeException e)
        {
            throw new UnreadableModelException(LoadMessage(path, e.Message), e);
        }
    }

    /// <summary>The model's inputs in order, without initializers that may be overridden.</summary>
    public static ImmutableArray<ValueInfo> Inputs(InferenceSession session) =>
        [.. session.InputNames.Select(name => Describe(name, session.InputMetadata[name]))];

    /// <summary>The model's outputs in order.</summary>
    public static ImmutableArray<ValueInfo> Outputs(InferenceSession session) =>
        [.. session.OutputNames.Select(name => Describe(name, session.OutputMetadata[name]))];

    /// <summary>ONNX Runtime's reason on one line: without its error-code prefix, source locations and stack.</summary>
    public static string Reason(OnnxRuntimeException exception) => Shorten(exception.Message);

    /// <summary>Sets the process-wide log level, which also governs messages that belong to no session.</summary>
    private static void Silence()
    {
        lock (s_environmentLock)
        {
            if (!OrtEnv.IsCreated)
            {
                DisableTelemetry();
                var creation = new EnvironmentCreationOptions
                {
                    logId = "OnnxMorph",
                    logLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL,
                };
                OrtEnv.CreateInstanceWithOptions(ref creation);
            }
            else if (OrtEnv.Instance().EnvLogLevel != OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL)
            {
                OrtEnv.Instance().EnvLogLevel = OrtLoggingLevel.ORT_LOGGING_LEVEL_FATAL;
            }
        }
    }

    /// <summary>
    /// Keeps ONNX Runtime from writing telemetry to a database in the user's folder and sending it: models are the user's business. It reads the process's own
    /// environment, of which .NET only has a copy outside Windows.
    /// </summary>
    private static void DisableTelemetry()
    {
        const string Name = "ORT_DISABLE_TELEMETRY";
        Environment.SetEnvironmentVariable(Name, "1");
        if (!OperatingSystem.IsWindows())
            _ = SetNativeVariable(Name, "1", 1);
    }

    [LibraryImport("libc", EntryPoint = "setenv", StringMarshalling = StringMarshalling.Utf8)]
    private static partial int SetNativeVariable(string name, string value, int overwrite);

    private static ValueInfo Describe(string name, NodeMetadata metadata)
    {
        ValueKind kind = metadata.OnnxValueType switch
        {
            OnnxValueType.ONNX_TYPE_TENSOR => ValueKind.Tensor,
            OnnxValueType.ONNX_TYPE_SEQUENCE => ValueKind.Sequence,
            OnnxValueType.ONNX_TYPE_MAP => ValueKind.Map,
            _ => ValueKind.Other,
        };
        if (kind != ValueKind.Tensor)
            return new ValueInfo(name, kind, ElementType.Undefined, []);
        var shape = metadata.Dimensions.Select((size, axis) =>
        {
            string symbol = axis < metadata.SymbolicDimensions.Length ? metadata.SymbolicDimensions[axis] : "";
            return size >= 0 ? new Dimension(size, null) : new Dimension(-1, symbol.Length > 0 ? symbol : null);
        });
        // ONNX Runtime's element types carry the numbers of TensorProto.DataType, as ElementType does.
        return new ValueInfo(name, kind, (ElementType)(int)metadata.ElementDataType, [.. shape]);
    }

    private static string LoadMessage(string path, string message)
    {
        string name = Path.GetFileName(path);
        Match unregistered = UnregisteredOperator().Match(message);
        if (unregistered.Success)
        {
            string op = unregistered.Groups["op"].Value;
            return $"ONNX Runtime {OrtVersion} has no operator '{op}', which '{name}' uses; "
                + "models with custom operators or a newer opset cannot be run here.";
        }

        Match opset = UnsupportedOpset().Match(message);
        if (opset.Success)
        {
            return $"'{name}' uses opset {opset.Groups["version"].Value} of domain '{opset.Groups["domain"].Value}', newer than "
                + $"ONNX Runtime {OrtVersion} supports; convert the model to an older opset.";
        }

        Match ir = UnsupportedIr().Match(message);
        if (ir.Success)
        {
            return $"'{name}' has IR version {ir.Groups["version"].Value}, newer than ONNX Runtime {OrtVersion} supports; "
                + "save it with an older IR version.";
        }

        Match kernel = MissingKernel().Match(message);
        if (kernel.Success)
        {
            string type = kernel.Groups["type"] is { Success: true, Value: var found } ? $"in {found}" : "in the types that it is given";
            return $"ONNX Runtime {OrtVersion} cannot run the operator '{kernel.Groups["op"].Value}' {type} on the processor, so what '{name}' computes "
                + "cannot be checked here; 'morph --no-verify' writes a child without running it.";
        }

        return $"ONNX Runtime cannot load '{name}': {Shorten(message)}";
    }

    private static string OrtVersion => OrtEnv.Instance().GetVersionString();

    private static string Shorten(string message)
    {
        string text = ErrorCode().Replace(message, "");
        text = SourceLocation().Replace(text, "");
        text = Whitespace().Replace(text, " ").Trim();
        return text.Length <= 300 ? text : text[..299] + "…";
    }

    [GeneratedRegex(@"^\s*\[ErrorCode:\w+\]\s*(?:Load model from .*? failed:\s*)?", RegexOptions.Singleline)]
    private static partial Regex ErrorCode();

    [GeneratedRegex(@"(?:[A-Za-z]:)?[\w./\\-]*[/\\][\w.-]+\.(?:cc|h|cpp)(?::\d+|\(\d+\))?\s*(?:[\w:<>&*, ]+\([^)]*\)\s*(?:\[with[^\]]*\]\s*)?)?|Stacktrace:.*", RegexOptions.Singleline)]
    private static partial Regex SourceLocation();

    [GeneratedRegex(@"\s+")]
    private static partial Regex Whitespace();

    [GeneratedRegex(@"(?:Fatal error: |Op with name \()?(?<op>[\w.]+:\w+)(?:\(-?\d+\))? is not a registered function/op|No Op registered for (?<op>\S+)")]
    private static partial Regex UnregisteredOperator();

    [GeneratedRegex(@"Opset (?<version>\d+) is under development.*?for domain (?<domain>\S+?) is till|for domain (?<domain>\S+).*?opset (?<version>\d+)", RegexOptions.Singleline)]
    private static partial Regex UnsupportedOpset();

    [GeneratedRegex(@"Could not find an implementation for (?<op>\w+)\(|Type 'tensor\((?<type>bfloat16|float16)\)' of input parameter .*? of operator \((?<op>\w+)\)", RegexOptions.Singleline)]
    private static partial Regex MissingKernel();

    [GeneratedRegex(@"Unsupported model IR version: (?<version>\d+)")]
    private static partial Regex UnsupportedIr();
}
