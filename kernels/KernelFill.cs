using System.Runtime.CompilerServices;
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

    [SkipLocalsInit]
    private void WriteRandom(ElementFormat format, long position, Span<byte> destination)
    {
        if (!format.IsFloat())
            throw new ArgumentException($"Elements of format {format} are not drawn at random.", nameof(format));
        Span<uint> words = stackalloc uint[256];
        Span<double> values = stackalloc double[256];
        int size = format.Size();
        while (!destination.IsEmpty)
        {
            int count = Math.Min(words.Length, destination.Length / size);
            Philox.Fill(Seed, position, words[..count]);
            RandomDraw.FromWords(Distribution, words[..count], Scale, values);
            FloatConversion.Round(format, values[..count], destination[..(count * size)]);
            destination = destination[(count * size)..];
            position += count;
        }
    }
}
