using System.CommandLine;
using System.Text.Json;
using OnnxMorph.Kernels;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph devices</c>: what can compute weights here, and what <c>--device auto</c> takes.</summary>
internal static class DevicesCommand
{
    public static Command Create()
    {
        Option<bool> json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("devices", "Lists the devices that can compute weights and marks the one that --device auto takes.") { json, quiet };
        command.SetAction(parsed =>
        {
            IReadOnlyList<DeviceDescription> devices = KernelDevices.List();
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(
                    [.. devices.Select((d, i) => new DeviceJson(Name(d), d.Name, d.MemoryBytes, i == 0))], CliJson.Default.DeviceJsonArray));
            terminal.Table(["device", "name", "memory", ""],
                devices.Select((d, i) => (string[])
                    [Name(d), d.Name, d.MemoryBytes == 0 ? "" : $"{d.MemoryBytes / (1 << 20)} MB", i == 0 ? "taken by --device auto" : ""]), 2);
            return (int)ExitCode.Done;
        });
        return command;
    }

    private static string Name(DeviceDescription device) => device.Choice.ToString().ToLowerInvariant();
}
