using CsCheck;
using OnnxMorph.Structure;
using Xunit;

namespace OnnxMorph.Tests.Structure;

public sealed class DominatorTests
{
    /// <summary>v dominates w where w cannot be reached without v.</summary>
    [Fact]
    public void AgreesWithReachability() => Gen.Int[2, 14].SelectMany(n => Gen.Select(Gen.Const(n), Gen.Int[0, 1 << 20].Array[n])).Sample((n, bits) =>
    {
        // Every vertex has an edge from some vertex before it, so that the root reaches all.
        List<int>[] from = [.. Enumerable.Range(0, n).Select(v => v == 0 ? [] : Enumerable.Range(0, v).Where(p => (bits[v] >> p & 1) != 0).DefaultIfEmpty(v - 1).ToList())];
        var tree = new DominatorTree(n, Enumerable.Range(0, n), v => from[v]);
        for (int without = 0; without < n; without++)
        {
            var reached = new bool[n];
            for (int v = 0; v < n; v++)
                reached[v] = v != without && (v == 0 || from[v].Any(p => reached[p]));
            for (int v = 0; v < n; v++)
                if (tree.Dominates(without, v) == reached[v])
                    return false;
        }

        // The immediate dominator is the last of the strict ones.
        return Enumerable.Range(1, n - 1).All(v => tree[v] == Enumerable.Range(0, v).Last(d => tree.Dominates(d, v)));
    }, iter: 2000);
}
