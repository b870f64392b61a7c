using System.Runtime.InteropServices;

namespace OnnxMorph.Kernels;

/// <summary>
/// A fill as the kernels use it: the element at position p depends on p alone.
/// </summary>
/// <param name="Distribution">The distribution; formats that are only moved take constants only.</param>
/// <param name="Scale">Half-width or standard deviation of the random distributions.</param>
/// <param name="Seed">Key of the generator.</param>
/// <param name="ConstantBits">The element of a constant fill, in the low bits.</param>
public readonly record struct KernelFill(Distribution Distribution, double Scale, ulong Seed, UInt128 ConstantBits)
{
    /// <summary>A fill whose every element has these bits.</summary>
    public static KernelFill Constant(UInt128 bits) => new(Distribution.Constant, 0, 0, bits);

    /// <summary>Writes the elements at <paramref name="position"/> and after until <paramref name="destination"/> is full.</summary>
    public void Write(ElementFormat format, long position, Span<byte> destination)
    {
        if (Distribution == Distribution.Constant)
            WriteConstant(format.Size(), destination);
        else
            WriteRandom(format, position, destination);
    }

    private void WriteConstant(int elementSize, Span<byte> destination)
    {
        if (ConstantBits == 0)
        {
            destination.Clear();
            return;
        }

        switch (elementSize)
        {
            case 1: destination.Fill((byte)ConstantBits); break;
            case 2: MemoryMarshal.Cast<byte, ushort>(destination).Fill((ushort)ConstantBits); break;
            case 4: MemoryMarshal.Cast<byte, uint>(destination).Fill((uint)ConstantBits); break;
            case 8: MemoryMarshal.Cast<byte, ulong>(destination).Fill((ulong)ConstantBits); break;
            default: MemoryMarshal.Cast<byte, UInt128>(destination).Fill(ConstantBits); break;
        }
    }

    private void WriteRandom(ElementFormat format, long position, Span<byte> destination)
    {
        switch (format)
        {
            case ElementFormat.Float16:
                WriteRandom<ushort, Float16Format>(position, MemoryMarshal.Cast<byte, ushort>(destination));
                break;
            case ElementFormat.BFloat16:
                WriteRandom<ushort, BFloat16Format>(position, MemoryMarshal.Cast<byte, ushort>(destination));
                break;
            case ElementFormat.Float32:
                WriteRandom<float, Float32Format>(position, MemoryMarshal.Cast<byte, float>(destination));
                break;
            case ElementFormat.Float64:
                WriteRandom<double, Float64Format>(position, MemoryMarshal.Cast<byte, double>(destination));
                break;
            default:
                throw new ArgumentException($"Elements of format {format} are not drawn at random.", nameof(format));
        }
    }

    private void WriteRandom<T, TFormat>(long position, Span<T> destination)
        where T : unmanaged
        where TFormat : struct, IFloatFormat<T>
    {
        int index = 0;
        while (index < destination.Length)
        {
            // A block gives four words; the first and the last block of a window may be used in part.
            Philox.Block((ulong)position >> 2, 0, Seed, out ulong low, out ulong high);
            for (int word = (int)(position & 3); word < 4 && index < destination.Length; word++, index++, position++)
            {
                ulong pair = word < 2 ? low : high;
                uint bits = (uint)(pair >> (32 * (word & 1)));
                double value = RandomDraw.FromWord(default(ProcessorArithmetic), Distribution, bits);
                destination[index] = default(TFormat).FromDouble(Scale * value);
            }
        }
    }
}
