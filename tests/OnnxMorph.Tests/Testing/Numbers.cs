using System.Runtime.InteropServices;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Testing;

/// <summary>Floating-point elements to and from bytes, by what .NET itself has.</summary>
internal static class Numbers
{
    public static byte[] Encode(ElementType type, double[] values) => type switch
    {
        ElementType.Float32 => [.. MemoryMarshal.AsBytes<float>(values.Select(v => (float)v).ToArray())],
        ElementType.Float64 => [.. MemoryMarshal.AsBytes<double>(values)],
        ElementType.Float16 => [.. MemoryMarshal.AsBytes<Half>(values.Select(v => (Half)v).ToArray())],
        ElementType.BFloat16 => [.. MemoryMarshal.AsBytes<ushort>(values.Select(v => (ushort)(BitConverter.SingleToUInt32Bits((float)v) >> 16)).ToArray())],
        _ => throw new ArgumentException(type.ToString()),
    };

    public static double[] Decode(ElementType type, ReadOnlySpan<byte> bytes) => type switch
    {
        ElementType.Float32 => [.. MemoryMarshal.Cast<byte, float>(bytes).ToArray().Select(v => (double)v)],
        ElementType.Float64 => MemoryMarshal.Cast<byte, double>(bytes).ToArray(),
        ElementType.Float16 => [.. MemoryMarshal.Cast<byte, Half>(bytes).ToArray().Select(v => (double)v)],
        ElementType.BFloat16 => [.. MemoryMarshal.Cast<byte, ushort>(bytes).ToArray().Select(v => (double)BitConverter.UInt32BitsToSingle((uint)v << 16))],
        ElementType.Int64 => [.. MemoryMarshal.Cast<byte, long>(bytes).ToArray().Select(v => (double)v)],
        ElementType.Int32 => [.. MemoryMarshal.Cast<byte, int>(bytes).ToArray().Select(v => (double)v)],
        ElementType.Bool or ElementType.UInt8 => [.. bytes.ToArray().Select(v => (double)v)],
        ElementType.Int8 => [.. MemoryMarshal.Cast<byte, sbyte>(bytes).ToArray().Select(v => (double)v)],
        _ => throw new ArgumentException(type.ToString()),
    };
}
