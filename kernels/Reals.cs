using System.Numerics;
using System.Runtime.Intrinsics;
using ILGPU;

namespace OnnxMorph.Kernels;

/// <summary>
/// Float64 arithmetic in which every operation is rounded by itself, over one number or several side by side: what is
/// written once over it gives the same bits everywhere.
/// </summary>
/// <typeparam name="T">One number, or a vector of them.</typeparam>
internal interface IReals<T>
    where T : struct
{
    T Of(double value);

    T Add(T a, T b);

    T Subtract(T a, T b);

    T Multiply(T a, T b);

    T Divide(T a, T b);

    T SquareRoot(T value);

    T Absolute(T value);

    /// <summary><paramref name="then"/> where a ≤ b, else <paramref name="otherwise"/>.</summary>
    T IfAtMost(T a, T b, T then, T otherwise);

    /// <summary>Splits positive normal numbers into a significand in [1, 2) and the exponent of two.</summary>
    T Split(T value, out T exponent);
}

/// <summary>Several numbers in the processor's vectors; .NET never fuses a multiplication and an addition by itself.</summary>
internal readonly struct ProcessorReals : IReals<Vector<double>>
{
    public Vector<double> Of(double value) => new(value);

    public Vector<double> Add(Vector<double> a, Vector<double> b) => a + b;

    public Vector<double> Subtract(Vector<double> a, Vector<double> b) => a - b;

    public Vector<double> Multiply(Vector<double> a, Vector<double> b) => a * b;

    public Vector<double> Divide(Vector<double> a, Vector<double> b) => a / b;

    public Vector<double> SquareRoot(Vector<double> value) => Vector.SquareRoot(value);

    public Vector<double> Absolute(Vector<double> value) => Vector.Abs(value);

    public Vector<double> IfAtMost(Vector<double> a, Vector<double> b, Vector<double> then, Vector<double> otherwise) =>
        Vector.ConditionalSelect(Vector.LessThanOrEqual(a, b), then, otherwise);

    public Vector<double> Split(Vector<double> value, out Vector<double> exponent)
    {
        Vector<ulong> bits = value.As<double, ulong>();
        exponent = FromIntegers(Vector.ShiftRightLogical(bits, 52)) - new Vector<double>(1023);
        Vector<ulong> fraction = Vector.BitwiseAnd(bits, new Vector<ulong>(0xF_FFFF_FFFF_FFFFUL));
        return Vector.BitwiseOr(fraction, new Vector<ulong>(0x3FF0_0000_0000_0000UL)).As<ulong, double>();
    }

    /// <summary>Integers below 2⁵² as numbers: exact, by way of the fraction of 2⁵².</summary>
    public static Vector<double> FromIntegers(Vector<ulong> integers)
    {
        const double Two52 = 1L << 52;
        Vector<ulong> biased = Vector.BitwiseOr(integers, new Vector<ulong>(0x4330_0000_0000_0000UL));
        return biased.As<ulong, double>() - new Vector<double>(Two52);
    }
}

/// <summary>Eight numbers side by side, where the processor has such vectors; <see cref="Vector{T}"/> is never that wide by itself.</summary>
internal readonly struct WideReals : IReals<Vector512<double>>
{
    public Vector512<double> Of(double value) => Vector512.Create(value);

    public Vector512<double> Add(Vector512<double> a, Vector512<double> b) => a + b;

    public Vector512<double> Subtract(Vector512<double> a, Vector512<double> b) => a - b;

    public Vector512<double> Multiply(Vector512<double> a, Vector512<double> b) => a * b;

    public Vector512<double> Divide(Vector512<double> a, Vector512<double> b) => a / b;

    public Vector512<double> SquareRoot(Vector512<double> value) => Vector512.Sqrt(value);

    public Vector512<double> Absolute(Vector512<double> value) => Vector512.Abs(value);

    public Vector512<double> IfAtMost(Vector512<double> a, Vector512<double> b, Vector512<double> then, Vector512<double> otherwise) =>
        Vector512.ConditionalSelect(Vector512.LessThanOrEqual(a, b), then, otherwise);

    public Vector512<double> Split(Vector512<double> value, out Vector512<double> exponent)
    {
        Vector512<ulong> bits = value.AsUInt64();
        exponent = FromIntegers(bits >>> 52) - Vector512.Create(1023.0);
        return ((bits & Vector512.Create(0xF_FFFF_FFFF_FFFFUL)) | Vector512.Create(0x3FF0_0000_0000_0000UL)).AsDouble();
    }

    /// <inheritdoc cref="ProcessorReals.FromIntegers"/>
    public static Vector512<double> FromIntegers(Vector512<ulong> integers) =>
        (integers | Vector512.Create(0x4330_0000_0000_0000UL)).AsDouble() - Vector512.Create((double)(1L << 52));
}

/// <summary>
/// One number on an accelerator. The driver's compiler may fuse a·b + c and round once where the processor rounds twice;
/// an exclusive or with a zero that the compiler cannot know stands between the two and keeps them apart, in PTX and
/// OpenCL alike.
/// </summary>
/// <param name="zero">0, passed as a kernel argument.</param>
internal readonly struct AcceleratorReals(ulong zero) : IReals<double>
{
    private readonly ulong _zero = zero;

    public double Of(double value) => value;

    public double Add(double a, double b) => a + b;

    public double Subtract(double a, double b) => a - b;

    public double Multiply(double a, double b) => Interop.IntAsFloat(Interop.FloatAsInt(a * b) ^ _zero);

    public double Divide(double a, double b) => a / b;

    public double SquareRoot(double value) => Math.Sqrt(value);

    public double Absolute(double value) => value < 0 ? -value : value;

    public double IfAtMost(double a, double b, double then, double otherwise) => a <= b ? then : otherwise;

    public double Split(double value, out double exponent)
    {
        ulong bits = Interop.FloatAsInt(value);
        exponent = (int)(bits >> 52) - 1023;
        return Interop.IntAsFloat((bits & 0xF_FFFF_FFFF_FFFFUL) | 0x3FF0_0000_0000_0000UL);
    }
}
