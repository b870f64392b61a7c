using ILGPU;

namespace OnnxMorph.Kernels;

/// <summary>Multiplication whose result is rounded before anything is added to it.</summary>
internal interface IArithmetic
{
    double Product(double a, double b);
}

/// <summary>The processor: .NET never fuses a multiplication and an addition by itself.</summary>
internal readonly struct ProcessorArithmetic : IArithmetic
{
    public double Product(double a, double b) => a * b;
}

/// <summary>
/// Accelerators: the driver's compiler may fuse a·b + c and round once where the processor rounds twice. An exclusive or
/// with a zero that the compiler cannot know stands between the two and keeps them apart, in PTX and OpenCL alike.
/// </summary>
/// <param name="zero">0, passed as a kernel argument.</param>
internal readonly struct AcceleratorArithmetic(ulong zero) : IArithmetic
{
    private readonly ulong _zero = zero;

    public double Product(double a, double b) => Interop.IntAsFloat(Interop.FloatAsInt(a * b) ^ _zero);
}
