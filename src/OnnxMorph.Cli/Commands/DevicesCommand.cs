using System.CommandLine;
using System.Text.Json;
using OnnxMorph.Kernels;

namespace OnnxMorph.Cli.Commands;

/// <summary><c>onnxmorph devices</c>: what can compute weights here, how fast, and what <c>--device auto</c> makes of it.</summary>
internal static class DevicesCommand
{
    public static Command Create()
    {
        Option<bool> json = CommonOptions.Json(), quiet = CommonOptions.Quiet();
        var command = new Command("devices", "Lists the devices that can compute weights, measures them and says what --device auto does with each.") { json, quiet };
        command.SetAction(parsed =>
        {
            var terminal = new Terminal(parsed.InvocationConfiguration, parsed.GetValue(json), parsed.GetValue(quiet));
            DeviceJson[] devices = Judge(KernelDevices.Measure());
            if (terminal.Json)
                terminal.Document(JsonSerializer.Serialize(devices, CliJson.Default.DeviceJsonArray));
            terminal.Table(["device", "name", "memory", "moves", "draws", ""],
                devices.Select(d => (string[])
                    [d.Device, d.Name, d.MemoryBytes == 0 ? "" : $"{d.MemoryBytes / (1 << 20)} MB", Rate(d.MovedBytesPerSecond), Rate(d.DrawnBytesPerSecond), d.Reason]), 2, 3, 4);
            terminal.Line("One window of 16 MB at a time, with its way over the bus, the processor on one core. --device auto measures again as it works.");
            return (int)ExitCode.Done;
        });
        return command;
    }

    /// <summary>What --device auto does with each device; the first accelerator is the one that it tries, the processor comes last.</summary>
    internal static DeviceJson[] Judge(IReadOnlyList<DeviceMeasurement> devices)
    {
        DeviceMeasurement processor = devices[^1], first = devices[0];
        bool faster = first.DrawnBytesPerSecond > processor.DrawnBytesPerSecond;
        return [.. devices.Select((d, i) =>
        {
            bool last = i == devices.Count - 1;
            string reason = d switch
            {
                { Failure: { } failure } => $"cannot be used: {failure}",
                _ when last => devices.Count == 1 ? "taken by --device auto: there is no accelerator"
                    : faster ? "taken by --device auto for what is only moved, which a bus would carry as slowly" : "taken by --device auto: faster than the way over the bus",
                _ when i > 0 => "not tried by --device auto, which takes the first accelerator",
                _ when faster => "taken by --device auto for large sums and random values while it is the faster",
                _ => "left alone by --device auto: no faster than the processor even at random values",
            };
            return new DeviceJson(
                d.Device.Choice.ToString().ToLowerInvariant(), d.Device.Name, d.Device.MemoryBytes, last, last ? !faster : i == 0 && faster,
                d.MovedBytesPerSecond, d.DrawnBytesPerSecond, reason);
        })];
    }

    private static string Rate(double bytesPerSecond) => bytesPerSecond == 0 ? "" : $"{bytesPerSecond / 1e9:0.0} GB/s";
}
