using System.Runtime.CompilerServices;
using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;

namespace OnnxMorph.Kernels;

/// <summary>Which device evaluates the kernels.</summary>
public enum DeviceChoice
{
    /// <summary>The processor's vector units, and the first accelerator for what it was measured to compute faster in the same run.</summary>
    Auto,

    /// <summary>The processor's vector units.</summary>
    Cpu,

    /// <summary>The first CUDA device.</summary>
    Cuda,

    /// <summary>The first OpenCL device with double precision.</summary>
    OpenCL,
}

/// <summary>A device that can be chosen.</summary>
/// <param name="Choice">The choice that opens it, where it is the first of its kind.</param>
/// <param name="Name">Name for people.</param>
/// <param name="MemoryBytes">Its memory; 0 for the processor.</param>
public sealed record DeviceDescription(DeviceChoice Choice, string Name, long MemoryBytes);

/// <summary>
/// Finds and opens devices. A program that is compiled natively has the processor alone: ILGPU makes kernels of methods at run time, which such a
/// program no longer has, so that everything of it stands behind <see cref="RuntimeFeature.IsDynamicCodeSupported"/> and is left out there.
/// </summary>
public static class KernelDevices
{
    /// <summary>Bytes of windows to compute after which the start of an accelerator can be made up for.</summary>
    private const long Patience = 1 << 28;

    /// <summary>Every device that can evaluate the kernels, the one that <see cref="DeviceChoice.Auto"/> tries first and the processor's vector units last.</summary>
    public static IReadOnlyList<DeviceDescription> List()
    {
        var processor = new DeviceDescription(DeviceChoice.Cpu, KernelDevice.Simd.Name, 0);
        if (!RuntimeFeature.IsDynamicCodeSupported)
            return [processor];
        using Context? context = TryCreateContext();
        return [.. Accelerators(context).Select(Describe), processor];
    }

    /// <summary>Every device of <see cref="List"/> with how fast it is; takes a second or two where there are accelerators.</summary>
    public static IReadOnlyList<DeviceMeasurement> Measure()
    {
        IReadOnlyList<DeviceDescription> devices = List();
        if (!RuntimeFeature.IsDynamicCodeSupported)
            return [DeviceMeasurement.Of(devices[^1], () => KernelDevice.Simd)];
        return
        [
            .. Enumerable.Range(0, devices.Count - 1).Select(i =>
            {
                Context context = TryCreateContext() ?? throw new InvalidOperationException("The drivers that were there are gone.");
                Device device = Accelerators(context)[i];
                return DeviceMeasurement.Of(Describe(device), () => new AcceleratorDevice(context, device));
            }),
            DeviceMeasurement.Of(devices[^1], () => KernelDevice.Simd),
        ];
    }

    /// <summary>Opens a device; the caller disposes it.</summary>
    /// <exception cref="NotSupportedException">There is no such device.</exception>
    /// <exception cref="DeviceException">There is one, but it cannot be opened.</exception>
    public static KernelDevice Open(DeviceChoice choice) => choice switch
    {
        DeviceChoice.Cpu => KernelDevice.Simd,
        // ILGPU is only loaded where a driver has something for it.
        DeviceChoice.Auto => new AutomaticDevice(
            KernelDevice.Simd, () => AcceleratorDrivers.Any() ? TryOpenAccelerator(choice) : null, Patience, TimeProvider.System),
        _ when !RuntimeFeature.IsDynamicCodeSupported => throw new NotSupportedException(
            $"This build is compiled natively and computes on the processor alone; for {choice} take one that is not, published without PublishAot."),
        _ => TryOpenAccelerator(choice) ?? throw new NotSupportedException($"There is no {choice} device; `auto` takes what there is."),
    };

    /// <summary>Opens the first accelerator that the choice allows; null where there is none.</summary>
    /// <exception cref="DeviceException">There is one, but it cannot be opened.</exception>
    internal static AcceleratorDevice? TryOpenAccelerator(DeviceChoice choice)
    {
        if (!RuntimeFeature.IsDynamicCodeSupported)
            return null;
        Context? context = TryCreateContext();
        Device? device = Accelerators(context).FirstOrDefault(d => choice switch
        {
            DeviceChoice.Cuda => d is CudaDevice,
            DeviceChoice.OpenCL => d is CLDevice,
            _ => true,
        });
        if (device is not null)
            return new AcceleratorDevice(context!, device);
        context?.Dispose();
        return null;
    }

    /// <summary>ILGPU's simulator of an accelerator on the processor: thousands of times slower than memory, for tests only.</summary>
    internal static AcceleratorDevice OpenSimulator()
    {
        Context context = Context.Create(builder => builder.CPU());
        return new AcceleratorDevice(context, context.GetCPUDevice(0));
    }

    private static DeviceDescription Describe(Device device) =>
        new(device is CudaDevice ? DeviceChoice.Cuda : DeviceChoice.OpenCL, device.Name, device.MemorySize);

    /// <summary>CUDA first, then the OpenCL devices that compute in double precision.</summary>
    private static List<Device> Accelerators(Context? context)
    {
        var result = new List<Device>();
        if (context is null)
            return result;
        foreach (CudaDevice device in context.GetCudaDevices())
            result.Add(device);
        foreach (CLDevice device in context.GetCLDevices())
            if (device.Capabilities.Float64)
                result.Add(device);
        return result;
    }

    /// <summary>
    /// Null where there is no accelerator: ILGPU looks for driver libraries, and a machine with a broken one must still have its processor.
    /// </summary>
    private static Context? TryCreateContext()
    {
        if (!AcceleratorDrivers.Any())
            return null;
        try
        {
            return Context.Create(builder => builder.Cuda().OpenCL());
        }
        catch (Exception error) when (error is DllNotFoundException or EntryPointNotFoundException or TypeInitializationException
            or AcceleratorException or NotSupportedException)
        {
            return null;
        }
    }
}
