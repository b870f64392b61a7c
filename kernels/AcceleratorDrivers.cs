using System.Runtime.InteropServices;

namespace OnnxMorph.Kernels;

/// <summary>
/// Whether there is anything for ILGPU to find, told by the drivers themselves: starting ILGPU takes longer than morphing a small model.
/// </summary>
internal static unsafe class AcceleratorDrivers
{
    /// <summary>Names of the libraries on Windows, Linux and macOS.</summary>
    private static readonly string[] s_cuda = ["nvcuda", "libcuda.so.1", "cuda"],
        s_openCL = ["OpenCL", "libOpenCL.so.1", "/System/Library/Frameworks/OpenCL.framework/OpenCL"];

    /// <summary>Whether a CUDA driver starts, or OpenCL knows a platform.</summary>
    public static bool Any() => Ask(s_cuda, "cuInit", &StartsCuda) || Ask(s_openCL, "clGetPlatformIDs", &HasPlatform);

    private static bool StartsCuda(nint initialise) => ((delegate* unmanaged<uint, int>)initialise)(0) == 0;

    private static bool HasPlatform(nint platforms)
    {
        uint count = 0;
        return ((delegate* unmanaged<uint, nint*, uint*, int>)platforms)(0, null, &count) == 0 && count > 0;
    }

    // The library stays loaded: drivers do not take well to being started and unloaded, and ILGPU needs it again.
    private static bool Ask(string[] libraries, string function, delegate*<nint, bool> answer)
    {
        foreach (string library in libraries)
            if (NativeLibrary.TryLoad(library, typeof(AcceleratorDrivers).Assembly, null, out nint handle))
                return NativeLibrary.TryGetExport(handle, function, out nint address) && answer(address);
        return false;
    }
}
