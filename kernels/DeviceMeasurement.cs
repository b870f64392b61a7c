using System.Diagnostics;

namespace OnnxMorph.Kernels;

/// <summary>How fast a device is where one window is evaluated at a time, the way through the bus included.</summary>
/// <param name="Device">The device.</param>
/// <param name="MovedBytesPerSecond">Bytes read and written in a second where elements are only moved; 0 where the device failed.</param>
/// <param name="DrawnBytesPerSecond">Bytes of normal float32 values drawn in a second; 0 where the device failed.</param>
/// <param name="Failure">Why there are no figures; null where there are.</param>
public sealed record DeviceMeasurement(DeviceDescription Device, double MovedBytesPerSecond, double DrawnBytesPerSecond, string? Failure)
{
    /// <summary>Rows and columns of what is measured: 16 MB.</summary>
    private const int Rows = 4096, Columns = 1024;

    /// <summary>The best of so many runs counts; the first compiles.</summary>
    private const int Runs = 4;

    /// <summary>Opens a device and measures it.</summary>
    internal static DeviceMeasurement Of(DeviceDescription description, Func<KernelDevice> open)
    {
        try
        {
            using KernelDevice device = open();
            return new DeviceMeasurement(description, Rate(device, Rows, i => Rows - 1 - i), Rate(device, 1, i => i + 1), null);
        }
        catch (DeviceException error)
        {
            return new DeviceMeasurement(description, 0, 0, error.Message);
        }
    }

    /// <summary>Bytes in a second of a map whose rows are those that <paramref name="source"/> names; rows behind the source's are drawn.</summary>
    private static double Rate(KernelDevice device, int sourceRows, Func<int, int> source)
    {
        int[] sources = [.. Enumerable.Range(0, Rows).Select(source)];
        var rows = new AxisTerms(sourceRows, sources.Max() + 1 - sourceRows, [.. Enumerable.Range(0, Rows + 1)], sources, [.. sources.Select(_ => 1.0)]);
        var map = new TensorMap(ElementFormat.Float32, [sourceRows, Columns], [rows, null], new KernelFill(Distribution.Normal, 1, 0, 0));
        var window = new MapWindow(map, 0, Rows, 0, map.RowLength);
        byte[] read = new byte[window.SourceBytes], written = new byte[window.OutputBytes];
        return (read.Length + written.Length) / Best(device, window, read, written).TotalSeconds;
    }

    /// <summary>The shortest time in which a device evaluates a window.</summary>
    internal static TimeSpan Best(KernelDevice device, MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        TimeSpan best = TimeSpan.MaxValue;
        for (int i = 0; i < Runs; i++)
        {
            long start = Stopwatch.GetTimestamp();
            device.Map(window, source, output);
            TimeSpan took = Stopwatch.GetElapsedTime(start);
            best = took < best ? took : best;
        }

        return best;
    }
}
