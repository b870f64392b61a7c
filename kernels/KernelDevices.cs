using ILGPU;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;
using ILGPU.Runtime.Cuda;
using ILGPU.Runtime.OpenCL;

namespace OnnxMorph.Kernels;

/// <summary>Which device evaluates the kernels.</summary>
public enum DeviceChoice
{
    /// <summary>CUDA where there is one, else OpenCL, else the processor's vector units.</summary>
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

/// <summary>Finds and opens devices.</summary>
public static class KernelDevices
{
    /// <summary>Every device that can evaluate the kernels, the processor's vector units last.</summary>
    public static IReadOnlyList<DeviceDescription> List()
    {
        using Context? context = TryCreateContext();
        return
        [
            .. Accelerators(context).Select(d => new DeviceDescription(
                d is CudaDevice ? DeviceChoice.Cuda : DeviceChoice.OpenCL, d.Name, d.MemorySize)),
            new DeviceDescription(DeviceChoice.Cpu, KernelDevice.Simd.Name, 0),
        ];
    }

    /// <summary>Opens a device; the caller disposes it.</summary>
    /// <exception cref="NotSupportedException">There is no such device.</exception>
    public static KernelDevice Open(DeviceChoice choice)
    {
        // A method of its own, so that ILGPU is only loaded for a machine that has something for it.
        return choice == DeviceChoice.Cpu || (choice == DeviceChoice.Auto && !AcceleratorDrivers.Any()) ? KernelDevice.Simd : OpenAccelerator(choice);
    }

    private static KernelDevice OpenAccelerator(DeviceChoice choice)
    {
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
        return choice == DeviceChoice.Auto
            ? KernelDevice.Simd
            : throw new NotSupportedException($"There is no {choice} device; `auto` takes what there is.");
    }

    /// <summary>ILGPU's simulator of an accelerator on the processor: thousands of times slower than memory, for tests only.</summary>
    internal static KernelDevice OpenSimulator()
    {
        Context context = Context.Create(builder => builder.CPU());
        return new AcceleratorDevice(context, context.GetCPUDevice(0));
    }

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
