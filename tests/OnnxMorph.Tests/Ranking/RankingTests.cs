using Google.Protobuf;
using OnnxMorph.Alignment;
using OnnxMorph.Onnx;
using OnnxMorph.Ranking;
using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Ranking;

/// <summary>Many candidates at once give what one gives alone.</summary>
public class RankingTests
{
    [Theory]
    [InlineData(RunRule.Blocks)]
    [InlineData(RunRule.Any)]
    public void RankingEqualsSimilarityToTheLastBit(RunRule rule)
    {
        var random = new Random(2);
        NetworkOutline target = RandomOutline.Of(random);
        NetworkOutline[] candidates = [.. Enumerable.Range(0, 200).Select(_ => RandomOutline.Of(random))];
        candidates = [.. candidates, target, candidates[0], new NetworkOutline([])];
        IReadOnlyList<NetworkSimilarity> found = ModelRanking.Of(target, candidates, rule, TestContext.Current.CancellationToken);
        Assert.Equal(candidates.Select(candidate => NetworkSimilarity.Of(candidate, target, rule)), found);
        Assert.Equal(new NetworkSimilarity(1, 1, 1), found[^3]);
        Assert.Equal(new NetworkSimilarity(0, 0, 0), found[^1]);
        Assert.True(found.Select(f => f.Symmetric).Distinct().Count() > 150);
    }

    /// <summary>The identity of a graph: weights do not count, sizes do, however large the tensor is that they stand in.</summary>
    [Fact]
    public void AGraphIsKnownWhateverItsWeights()
    {
        using var files = new TemporaryModels();
        string Identity(int seed, long[] shape, long last)
        {
            var net = new Net { Runs = { new() } };
            string x = net.Op("MatMul", [net.Input("x", 1, 32), net.Weight([32, 64])], name: "linear");
            x = net.Op("Reshape", [x, net.Ints(shape)], name: "reshape");
            // A long list of numbers that are left in the file.
            net.Output(net.Op("Gather", [x, net.Ints([.. Enumerable.Repeat(0L, 300), last])], new { axis = 0 }, "gather"));
            TensorProto weight = net.Proto.Graph.Initializer.Single(t => t.Dims.SequenceEqual([32, 64]));
            var bytes = new byte[32 * 64 * 4];
            new Random(seed).NextBytes(bytes);
            weight.FloatData.Clear();
            weight.RawData = ByteString.CopyFrom(bytes);
            return GraphIdentity.Of(OnnxReader.Read(files.Write(net)));
        }

        string identity = Identity(1, [8, 8], 0);
        Assert.Equal(identity, Identity(2, [8, 8], 0));
        Assert.NotEqual(identity, Identity(1, [4, 16], 0));
        Assert.NotEqual(identity, Identity(1, [8, 8], 1));
    }
}
