// Measures the map kernels on an accelerator and compares what they compute with the processor, bit by bit.
//
//   dotnet publish tools/benchmark_device -c Release -r linux-x64 --self-contained -o FOLDER
//   FOLDER/benchmark_device [--device cuda] [--size 64]
//
// The first line makes a program that needs neither SDK nor network where it runs. For each kernel it prints the bytes that are read and written; how fast
// the kernel alone is, its tensors on the device; which share that is of a copy of as many bytes from one place on the device to another; how fast a window is with its
// way over the bus there and back; how fast one core of the processor is; and whether the bits agree. Ends with 1 where any differ, with 2 where there is
// no such device or the command is wrong. --device simulator is ILGPU's simulator on the processor, to try the program itself with a small --size; its speed means nothing.
using System.CommandLine;
using OnnxMorph.BenchmarkDevice;
using OnnxMorph.Kernels;

var deviceOption = new Option<string>("--device") { Description = "cuda, opencl or simulator.", DefaultValueFactory = _ => "cuda" };
deviceOption.AcceptOnlyFromAmong("cuda", "opencl", "simulator");
var sizeOption = new Option<double>("--size") { Description = "Megabytes of a kernel's source, or of its output where nothing is read.", DefaultValueFactory = _ => 64 };
sizeOption.Validators.Add(result =>
{
    if (result.GetValueOrDefault<double>() is not (> 0 and <= 512))
        result.AddError("--size is above 0 and at most 512.");
});
var root = new RootCommand("Measures the map kernels on an accelerator and compares what they compute with the processor, bit by bit.") { deviceOption, sizeOption };
root.SetAction(parsed =>
{
    try
    {
        return Run(parsed.GetRequiredValue(deviceOption), (long)(parsed.GetValue(sizeOption) * 1_000_000));
    }
    catch (DeviceException e)
    {
        Console.Error.WriteLine(e.Message);
        return 2;
    }
});
ParseResult request = root.Parse(args);
int code = request.Invoke();
return request.Errors.Count == 0 ? code : 2;

static int Run(string name, long size)
{
    bool simulated = name == "simulator";
    using AcceleratorDevice? device = simulated
        ? KernelDevices.OpenSimulator() : KernelDevices.TryOpenAccelerator(Enum.Parse<DeviceChoice>(name, ignoreCase: true));
    if (device is null)
    {
        Console.Error.WriteLine($"There is no {name} device here.");
        return 2;
    }

    int times = simulated ? 1 : 20;
    Console.WriteLine($"{device.Name} beside {KernelDevice.Simd.Name}");
    Console.WriteLine($"a copy of {size / 1e6:0.###} MB on the device: {Rate(2 * size, device.TimeCopy(size, times) / times),0:0.0} GB/s read and written");
    Console.WriteLine();
    Console.WriteLine($"{"kernel",-32} {"MB moved",9} {"kernel GB/s",12} {"of copy",8} {"with bus",9} {"processor",10}  bits");
    int different = 0;
    foreach (KernelCase c in KernelCase.All(size))
    {
        MapWindow window = c.Window;
        byte[] source = c.Source(), output = new byte[window.OutputBytes], expected = new byte[window.OutputBytes];
        long moved = window.SourceBytes + window.OutputBytes;
        TimeSpan alone = device.Time(window, source, output, times) / times, copy = device.TimeCopy(moved / 2, times) / times;
        TimeSpan processor = DeviceMeasurement.Best(KernelDevice.Simd, window, source, expected), bus = DeviceMeasurement.Best(device, window, source, output);
        int at = output.AsSpan().CommonPrefixLength(expected) / window.Map.Format.Size();
        bool same = output.AsSpan().SequenceEqual(expected);
        different += same ? 0 : 1;
        Console.WriteLine(
            $"{c.Name,-32} {moved / 1e6,9:0.###} {Rate(moved, alone),12:0.0} {copy / alone,8:0%} {Rate(moved, bus),9:0.00} {Rate(moved, processor),10:0.00}  "
            + (same ? "same" : $"differ at element {at} of {output.Length / window.Map.Format.Size()}"));
    }

    Console.WriteLine();
    Console.WriteLine(different == 0 ? "All bits are those of the processor." : $"{different} kernels give other bits than the processor.");
    return different == 0 ? 0 : 1;
}

static double Rate(long bytes, TimeSpan time) => bytes / time.TotalSeconds / 1e9;
