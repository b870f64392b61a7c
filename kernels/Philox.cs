using System.Numerics;
using System.Runtime.CompilerServices;
using System.Runtime.InteropServices;
using System.Runtime.Intrinsics;
using System.Runtime.Intrinsics.X86;

namespace OnnxMorph.Kernels;

/// <summary>
/// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3" (SC 2011): ten rounds of multiplication and exclusive or turn a counter and a key into four words.
/// </summary>
internal static class Philox
{
    private const int Rounds = 10;

    // The paper's multipliers, and the steps of the key from round to round.
    private const uint Multiplier0 = 0xD2511F53, Multiplier1 = 0xCD9E8D57, Weyl0 = 0x9E3779B9, Weyl1 = 0xBB67AE85;

    /// <summary>Four random words, first word in the lowest bits of <paramref name="low"/>.</summary>
    public static void Block(ulong counterLow, ulong counterHigh, ulong key, out ulong low, out ulong high)
    {
        uint c0 = (uint)counterLow, c1 = (uint)(counterLow >> 32), c2 = (uint)counterHigh, c3 = (uint)(counterHigh >> 32);
        uint k0 = (uint)key, k1 = (uint)(key >> 32);
        for (int round = 0; round < Rounds; round++)
        {
            ulong p0 = (ulong)c0 * Multiplier0;
            ulong p1 = (ulong)c2 * Multiplier1;
            c0 = (uint)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint)p1;
            c2 = (uint)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint)p0;
            k0 += Weyl0;
            k1 += Weyl1;
        }

        low = c0 | ((ulong)c1 << 32);
        high = c2 | ((ulong)c3 << 32);
    }

    /// <summary>The random word at <paramref name="position"/> of the stream named by <paramref name="seed"/>.</summary>
    public static uint Word(ulong seed, long position)
    {
        Block((ulong)position >> 2, 0, seed, out ulong low, out ulong high);
        ulong pair = (position & 2) == 0 ? low : high;
        return (uint)((position & 1) == 0 ? pair : pair >> 32);
    }

    /// <summary>The random words at <paramref name="position"/> and after.</summary>
    [SkipLocalsInit]
    public static void Fill(ulong seed, long position, Span<uint> words)
    {
        int step = 4 * Vector<ulong>.Count;
        Span<uint> part = stackalloc uint[step];
        while (!words.IsEmpty)
        {
            if (Avx512F.IsSupported && words.Length >= WideWords && (position & 3) == 0)
            {
                WideBlocks((ulong)position >> 2, seed, MemoryMarshal.Cast<uint, ulong>(words[..WideWords]));
                words = words[WideWords..];
                position += WideWords;
                continue;
            }

            // Positions that start within a block, and fewer words than a step has: whole blocks all the same, of which a part is taken.
            int skip = (int)(position & 3), count = Math.Min(words.Length, step - skip);
            Span<uint> blocks = count == step ? words : part;
            Blocks((ulong)position >> 2, seed, MemoryMarshal.Cast<uint, ulong>(blocks[..step]));
            if (count < step)
                part.Slice(skip, count).CopyTo(words);
            words = words[count..];
            position += count;
        }
    }

    /// <summary>Words of eight blocks.</summary>
    private const int WideWords = 32;

    /// <summary>Eight consecutive blocks, where the processor has vectors of eight.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void WideBlocks(ulong counter, ulong key, Span<ulong> pairs)
    {
        // As in Blocks, upper halves do not count.
        Vector512<ulong> c0 = Vector512.Create(counter) + Vector512<ulong>.Indices, c1 = c0 >>> 32, c2 = Vector512<ulong>.Zero, c3 = Vector512<ulong>.Zero;
        uint k0 = (uint)key, k1 = (uint)(key >> 32);
        for (int round = 0; round < Rounds; round++)
        {
            Vector512<ulong> p0 = Avx512F.Multiply(c0.AsUInt32(), Vector512.Create((ulong)Multiplier0).AsUInt32());
            Vector512<ulong> p1 = Avx512F.Multiply(c2.AsUInt32(), Vector512.Create((ulong)Multiplier1).AsUInt32());
            c0 = (p1 >>> 32) ^ c1 ^ Vector512.Create((ulong)k0);
            c1 = p1;
            c2 = (p0 >>> 32) ^ c3 ^ Vector512.Create((ulong)k1);
            c3 = p0;
            k0 += Weyl0;
            k1 += Weyl1;
        }

        Vector512<ulong> mask = Vector512.Create((ulong)uint.MaxValue), low = (c0 & mask) | (c1 << 32), high = (c2 & mask) | (c3 << 32);
        Avx512F.PermuteVar8x64x2(low, Vector512.Create(0UL, 8, 1, 9, 2, 10, 3, 11), high).CopyTo(pairs);
        Avx512F.PermuteVar8x64x2(low, Vector512.Create(4UL, 12, 5, 13, 6, 14, 7, 15), high).CopyTo(pairs[Vector512<ulong>.Count..]);
    }

    /// <summary>Consecutive blocks side by side, one a lane; the same as <see cref="Block"/>.</summary>
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void Blocks(ulong counter, ulong key, Span<ulong> pairs)
    {
        // The words stand in the lower halves of the lanes; what is in the upper halves does not count.
        Vector<ulong> c0 = new Vector<ulong>(counter) + Vector<ulong>.Indices, c1 = Vector.ShiftRightLogical(c0, 32);
        Vector<ulong> c2 = Vector<ulong>.Zero, c3 = Vector<ulong>.Zero;
        uint k0 = (uint)key, k1 = (uint)(key >> 32);
        for (int round = 0; round < Rounds; round++)
        {
            Vector<ulong> p0 = MultiplyLower(c0, Multiplier0);
            Vector<ulong> p1 = MultiplyLower(c2, Multiplier1);
            c0 = Vector.ShiftRightLogical(p1, 32) ^ c1 ^ new Vector<ulong>(k0);
            c1 = p1;
            c2 = Vector.ShiftRightLogical(p0, 32) ^ c3 ^ new Vector<ulong>(k1);
            c3 = p0;
            k0 += Weyl0;
            k1 += Weyl1;
        }

        var mask = new Vector<ulong>(uint.MaxValue);
        Vector<ulong> low = (c0 & mask) | Vector.ShiftLeft(c1, 32), high = (c2 & mask) | Vector.ShiftLeft(c3, 32);
        if (Avx2.IsSupported && Vector<ulong>.Count == Vector256<ulong>.Count)
        {
            // Unpacking works within halves of a vector: lanes 0 and 2, 1 and 3.
            Vector256<ulong> even = Avx2.UnpackLow(low.AsVector256(), high.AsVector256()), odd = Avx2.UnpackHigh(low.AsVector256(), high.AsVector256());
            Avx2.Permute2x128(even, odd, 0x20).CopyTo(pairs);
            Avx2.Permute2x128(even, odd, 0x31).CopyTo(pairs[4..]);
            return;
        }

        for (int lane = 0; lane < Vector<ulong>.Count; lane++)
            (pairs[2 * lane], pairs[2 * lane + 1]) = (low[lane], high[lane]);
    }

    /// <summary>The 64-bit products of the lanes' lower halves and a word: one instruction where there is one.</summary>
    [MethodImpl(MethodImplOptions.AggressiveInlining)]
    private static Vector<ulong> MultiplyLower(Vector<ulong> lanes, uint factor) =>
        Avx2.IsSupported && Vector<ulong>.Count == Vector256<ulong>.Count
            ? Avx2.Multiply(lanes.AsVector256().AsUInt32(), Vector256.Create((ulong)factor).AsUInt32()).AsVector()
            : (lanes & new Vector<ulong>(uint.MaxValue)) * new Vector<ulong>(factor);
}
