using System.CommandLine;
using OnnxMorph.Kernels;

namespace OnnxMorph.Cli;

/// <summary>Options that mean the same in every command.</summary>
internal static class CommonOptions
{
    /// <summary>The option that asks for a JSON document.</summary>
    public const string JsonName = "--json";

    public static Option<bool> Json() => new(JsonName) { Description = "Print one JSON document on standard output; text for people goes to standard error." };

    public static Option<bool> Quiet() => new("--quiet") { Description = "Print errors only." };

    public static Option<bool> Published() => new("--published")
    {
        Description = "Align with the recurrence as published, in which layers are repeated too, not only blocks.",
    };

    public static Option<bool> Force() => new("--force") { Description = "Replace files that exist." };

    public static Option<string?> Report() => new("--report")
    {
        Description = "Also write what is printed, with drawings, as one HTML page that needs no network.",
        HelpName = "FILE.html",
    };

    public static Option<ulong> Seed() => new("--seed")
    {
        Description = "Seed of everything random (0 by default); the same input, options and seed give the same bytes.",
        HelpName = "N",
    };

    public static Option<string> Device()
    {
        var option = new Option<string>("--device")
        {
            Description = "What computes the weights: auto, cpu, cuda or opencl; 'onnxmorph devices' lists what is there and what auto does with it.",
            HelpName = "DEVICE",
            DefaultValueFactory = _ => "auto",
        };
        return option.AcceptOnlyFromAmong("auto", "cpu", "cuda", "opencl");
    }

    public static Option<string?> Inputs() => new("--inputs")
    {
        Description = "Your samples to compare on (.npz, .npy, .pb or a test_data_set folder) instead of drawn ones.",
        HelpName = "FILE",
    };

    /// <summary>Opens the device that the user chose.</summary>
    /// <exception cref="UsageException">There is no such device.</exception>
    /// <exception cref="DeviceException">There is one, but it cannot be opened.</exception>
    public static KernelDevice Open(string device)
    {
        DeviceChoice choice = Enum.Parse<DeviceChoice>(device, ignoreCase: true);
        try
        {
            return KernelDevices.Open(choice);
        }
        catch (NotSupportedException)
        {
            throw new UsageException($"There is no {device} device here; 'onnxmorph devices' lists what there is, and --device auto takes what is faster.");
        }
    }
}
