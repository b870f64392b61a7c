using System.Runtime.InteropServices;
using OnnxMorph.Kernels;

namespace OnnxMorph.Weights;

/// <summary>How element types look to the kernels. Types below one byte are evaluated with one byte an element.</summary>
internal static class ElementEncoding
{
    /// <summary>The kernels' format of a type.</summary>
    /// <exception cref="RefusedException">The type has no fixed size.</exception>
    public static ElementFormat Format(ElementType type) => type switch
    {
        ElementType.Float16 => ElementFormat.Float16,
        ElementType.BFloat16 => ElementFormat.BFloat16,
        ElementType.Float32 => ElementFormat.Float32,
        ElementType.Float64 => ElementFormat.Float64,
        _ => type.BitWidth() switch
        {
            2 or 4 or 8 => ElementFormat.Opaque8,
            16 => ElementFormat.Opaque16,
            32 => ElementFormat.Opaque32,
            64 => ElementFormat.Opaque64,
            128 => ElementFormat.Opaque128,
            _ => throw new RefusedException($"A tensor of type {type} has no elements of fixed size and cannot be rewritten; leave it as it is."),
        },
    };

    /// <summary>The fill as the kernels take it.</summary>
    /// <exception cref="RefusedException">The type cannot hold the constant or cannot be drawn at random.</exception>
    public static KernelFill Fill(ElementType type, Fill fill)
    {
        if (fill.Kind == FillKind.Constant)
            return KernelFill.Constant(Constant(type, fill.Scale));
        if (!type.IsScalable())
            throw new RefusedException($"Elements of type {type} cannot be drawn at random; only floating-point weights can, so convert the model to float first.");
        Distribution distribution = fill.Kind == FillKind.Uniform ? Distribution.Uniform : Distribution.Normal;
        return new KernelFill(distribution, fill.Scale, fill.Seed, 0);
    }

    /// <summary>The bits of one element that holds <paramref name="value"/>: floats rounded, integers exact.</summary>
    /// <exception cref="RefusedException">The type cannot hold the value.</exception>
    public static UInt128 Constant(ElementType type, double value)
    {
        switch (type)
        {
            case ElementType.Float16 or ElementType.BFloat16 or ElementType.Float32 or ElementType.Float64:
                Span<byte> bytes = stackalloc byte[16];
                bytes.Clear();
                FloatConversion.Round(Format(type), [value], bytes[..Format(type).Size()]);
                return MemoryMarshal.Read<UInt128>(bytes);
            case ElementType.Complex64:
                return (UInt128)BitConverter.SingleToUInt32Bits((float)value);
            case ElementType.Complex128:
                return (UInt128)BitConverter.DoubleToUInt64Bits(value);
        }

        (double low, double high) = type switch
        {
            ElementType.Bool => (0, 1),
            ElementType.UInt2 or ElementType.UInt4 or ElementType.UInt8 or ElementType.UInt16 or ElementType.UInt32 or ElementType.UInt64 =>
                (0, Math.ScaleB(1, type.BitWidth())),
            ElementType.Int2 or ElementType.Int4 or ElementType.Int8 or ElementType.Int16 or ElementType.Int32 or ElementType.Int64 =>
                (-Math.ScaleB(1, type.BitWidth() - 1), Math.ScaleB(1, type.BitWidth() - 1)),

            // The short float formats have a zero of all zero bits, except the exponent-only one, which has none.
            ElementType.Float8E4M3FN or ElementType.Float8E4M3FNUZ or ElementType.Float8E5M2 or ElementType.Float8E5M2FNUZ
                or ElementType.Float4E2M1 => (0, 0),
            _ => (1, 0),
        };
        bool inclusive = type == ElementType.Bool || low == high;
        if (value != Math.Truncate(value) || value < low || (inclusive ? value > high : value >= high))
            throw new RefusedException($"Elements of type {type} cannot hold the constant {value}; convert the model to float first.");
        UInt128 mask = (UInt128.One << type.BitWidth()) - 1;
        return (UInt128)(Int128)value & mask;
    }

    /// <summary>Spreads packed elements, the first in the lowest bits, to one byte each, starting at element <paramref name="skip"/>.</summary>
    public static void Unpack(int bitWidth, ReadOnlySpan<byte> packed, int skip, Span<byte> elements)
    {
        int perByte = 8 / bitWidth;
        int mask = (1 << bitWidth) - 1;
        for (int i = 0; i < elements.Length; i++)
        {
            (int at, int within) = Math.DivRem(i + skip, perByte);
            elements[i] = (byte)((packed[at] >> (within * bitWidth)) & mask);
        }
    }

    /// <summary>Packs elements of one byte each, the first in the lowest bits.</summary>
    public static void Pack(int bitWidth, ReadOnlySpan<byte> elements, Span<byte> packed)
    {
        int perByte = 8 / bitWidth;
        packed.Clear();
        for (int i = 0; i < elements.Length; i++)
        {
            (int at, int within) = Math.DivRem(i, perByte);
            packed[at] |= (byte)(elements[i] << (within * bitWidth));
        }
    }
}
