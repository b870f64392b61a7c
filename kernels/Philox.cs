using System.Numerics;
using System.Runtime.InteropServices;

namespace OnnxMorph.Kernels;

/// <summary>
/// Philox4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3" (SC 2011): ten rounds of multiplication and exclusive or turn a counter and a key into four words.
/// </summary>
internal static class Philox
{
    /// <summary>Four random words, first word in the lowest bits of <paramref name="low"/>.</summary>
    public static void Block(ulong counterLow, ulong counterHigh, ulong key, out ulong low, out ulong high)
    {
        uint c0 = (uint)counterLow, c1 = (uint)(counterLow >> 32), c2 = (uint)counterHigh, c3 = (uint)(counterHigh >> 32);
        uint k0 = (uint)key, k1 = (uint)(key >> 32);
        for (int round = 0; round < 10; round++)
        {
            ulong p0 = (ulong)c0 * 0xD2511F53U;
            ulong p1 = (ulong)c2 * 0xCD9E8D57U;
            c0 = (uint)(p1 >> 32) ^ c1 ^ k0;
            c1 = (uint)p1;
            c2 = (uint)(p0 >> 32) ^ c3 ^ k1;
            c3 = (uint)p0;
            k0 += 0x9E3779B9U;
            k1 += 0xBB67AE85U;
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
    public static void Fill(ulong seed, long position, Span<uint> words)
    {
        int index = 0;
        for (; index < words.Length && (position & 3) != 0; index++, position++)
            words[index] = Word(seed, position);
        int step = 4 * Vector<ulong>.Count;
        for (; words.Length - index >= step; index += step, position += step)
            Blocks((ulong)position >> 2, seed, MemoryMarshal.Cast<uint, ulong>(words.Slice(index, step)));
        for (; index < words.Length; index++, position++)
            words[index] = Word(seed, position);
    }

    /// <summary>Consecutive blocks side by side, one a lane; the same as <see cref="Block"/>.</summary>
    private static void Blocks(ulong counter, ulong key, Span<ulong> pairs)
    {
        var mask = new Vector<ulong>(uint.MaxValue);
        Vector<ulong> counters = new Vector<ulong>(counter) + Vector<ulong>.Indices;
        Vector<ulong> c0 = counters & mask, c1 = Vector.ShiftRightLogical(counters, 32);
        Vector<ulong> c2 = Vector<ulong>.Zero, c3 = Vector<ulong>.Zero;
        uint k0 = (uint)key, k1 = (uint)(key >> 32);
        for (int round = 0; round < 10; round++)
        {
            Vector<ulong> p0 = c0 * new Vector<ulong>(0xD2511F53U);
            Vector<ulong> p1 = c2 * new Vector<ulong>(0xCD9E8D57U);
            c0 = Vector.ShiftRightLogical(p1, 32) ^ c1 ^ new Vector<ulong>(k0);
            c1 = p1 & mask;
            c2 = Vector.ShiftRightLogical(p0, 32) ^ c3 ^ new Vector<ulong>(k1);
            c3 = p0 & mask;
            k0 += 0x9E3779B9U;
            k1 += 0xBB67AE85U;
        }

        Vector<ulong> low = c0 | Vector.ShiftLeft(c1, 32), high = c2 | Vector.ShiftLeft(c3, 32);
        for (int lane = 0; lane < Vector<ulong>.Count; lane++)
            (pairs[2 * lane], pairs[2 * lane + 1]) = (low[lane], high[lane]);
    }
}
