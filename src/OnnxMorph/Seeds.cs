using System.IO.Hashing;
using System.Text;

namespace OnnxMorph;

/// <summary>Seeds for everything random: each thing draws from a stream of its own, named after it.</summary>
internal static class Seeds
{
    /// <summary>The seed of the stream <paramref name="name"/> under the user's <paramref name="seed"/>.</summary>
    public static ulong For(ulong seed, string name) =>
        XxHash3.HashToUInt64(Encoding.UTF8.GetBytes(name), unchecked((long)seed));
}
