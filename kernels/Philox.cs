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
        for (; words.Length - index >= 4; index += 4, position += 4)
        {
            Block((ulong)position >> 2, 0, seed, out ulong low, out ulong high);
            words[index] = (uint)low;
            words[index + 1] = (uint)(low >> 32);
            words[index + 2] = (uint)high;
            words[index + 3] = (uint)(high >> 32);
        }

        for (; index < words.Length; index++, position++)
            words[index] = Word(seed, position);
    }
}
