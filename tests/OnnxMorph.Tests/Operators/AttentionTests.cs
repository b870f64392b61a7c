using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Operators;

/// <summary>Fused attention and its companions: every value of parent and child is held to its relation through ONNX Runtime.</summary>
public sealed class AttentionTests
{
    private const string Runtime = "com.microsoft";
    private const string Contracted = "contracted over the size of a head";

    private static Net Tokens(int opset = 17, int ir = 8) => new(opset: opset, ir: ir) { Runs = { new() { ["N"] = 2, ["T"] = 5 }, new() { ["N"] = 1, ["T"] = 1 } } };

    private static string Fused(Net net, string op, string[] inputs, object? attributes = null, string? name = null, string domain = Runtime)
    {
        string result = net.Op(op, inputs, attributes, name: name);
        net.Last.Domain = domain;
        return result;
    }

    private static string Normed(Net net, string x, string skip, int size) =>
        Fused(net, "SkipLayerNormalization", [x, skip, net.Positive(size), net.Weight([size]), net.Weight([size])], new { epsilon = 1e-5 });

    [Fact]
    public void PackedAttentionGrowsByHeads()
    {
        Net net = Tokens();
        string x = net.Linear(net.Input("x", "N", "T", 6), 6, 12, "in");
        string a = Fused(net, "Attention", [x, net.Weight([12, 36]), net.Weight([36])], new { num_heads = 3 }, "att");
        net.Output(net.Linear(a, 12, 4, "out"));
        Layer.Grow(net, inDouble: false, new Layer("in", 12), new Layer("att", 12, Unit: 4));
    }

    [Fact]
    public void PackedAttentionFollowsSizesOfItsOwn()
    {
        Net net = Tokens();
        string x = net.Linear(net.Input("x", "N", "T", 6), 6, 8, "in");
        string a = Fused(net, "Attention", [x, net.Weight([8, 8 + 8 + 12]), net.Weight([28])], new { num_heads = 2, qkv_hidden_sizes = new long[] { 8, 8, 12 } }, "att");
        net.Output(net.Linear(a, 12, 4, "out"));
        Layer.Grow(net, inDouble: false, new Layer("in", 8), new Layer("att", 12, Unit: 6));
    }

    [Fact]
    public void ProjectedAttentionGrowsByHeads()
    {
        Net net = Tokens();
        string x = net.Input("x", "N", "T", 6);
        string q = net.Linear(x, 6, 12, "q"), k = net.Linear(x, 6, 12, "k"), v = net.Linear(x, 6, 12, "v");
        string a = Fused(net, "MultiHeadAttention", [q, k, v, net.Weight([36])], new { num_heads = 3 });
        net.Output(net.Linear(a, 12, 4, "out"));
        Layer.Grow(net, inDouble: false, new Layer("q", 12, Unit: 4), new Layer("k", 12, Unit: 4), new Layer("v", 12, Unit: 4));
    }

    [Theory]
    [InlineData(4, 4)]
    [InlineData(4, 2)]
    [InlineData(6, 2)]
    public void StandardAttentionGrowsByHeadsAndGroupsOfThem(int queryHeads, int keyHeads)
    {
        Net net = Tokens(opset: 23, ir: 10);
        string x = net.Input("x", "N", "T", 6);
        string q = net.Linear(x, 6, 4 * queryHeads, "q"), k = net.Linear(x, 6, 4 * keyHeads, "k"), v = net.Linear(x, 6, 4 * keyHeads, "v");
        string a = net.Op("Attention", [q, k, v], new { q_num_heads = queryHeads, kv_num_heads = keyHeads, is_causal = 1 });
        net.Output(net.Linear(a, 4 * queryHeads, 4, "out"));
        Layer.Grow(net, inDouble: false,
            new Layer("q", 4 * queryHeads, Unit: 4 * queryHeads / keyHeads), new Layer("k", 4 * keyHeads, Unit: 4), new Layer("v", 4 * keyHeads, Unit: 4));
    }

    [Fact]
    public void RotaryPositionsKeepTheSizeOfAHead()
    {
        Net net = Tokens();
        string x = net.Linear(net.Input("x", "N", 5, 6), 6, 12, "in");
        string positions = net.IntsOf([1], [0], "positions");
        string r = Fused(net, "RotaryEmbedding", [x, positions, net.Weight([8, 2]), net.Weight([8, 2])], new { num_heads = 3 });
        net.Output(net.Linear(r, 12, 4, "out"));
        Layer.Grow(net, inDouble: false, new Layer("in", 12, Unit: 4));
    }

    [Fact]
    public void SkipNormsTakeMeansOrWholeFactors()
    {
        Net net = Tokens();
        string x = net.Linear(net.Input("x", "N", "T", 6), 6, 8, "a");
        string y = Normed(net, net.Linear(x, 8, 8, "b"), x, 8);
        string h = Fused(net, "BiasGelu", [net.Op("MatMul", [y, net.Weight([8, 10])], name: "up"), net.Weight([10])]);
        net.Output(net.Linear(h, 10, 4, "out"));
        Layer.Grow(net, inDouble: false,
            new Layer("a", 8), new Layer("b", 8), new Layer("up", 10));
        // Added to again, what was normalised cannot be zero and a mean at once.
        net = Tokens();
        x = net.Linear(net.Input("x", "N", "T", 6), 6, 8, "a");
        y = Normed(net, net.Linear(x, 8, 8, "b"), x, 8);
        net.Output(net.Linear(Normed(net, net.Linear(y, 8, 8, "c"), y, 8), 8, 4, "out"));
        Layer.Grow(net, inDouble: false,
            new Layer("a", 8, How.Uniformly, Because: "normalises"), new Layer("b", 8, How.Uniformly, Because: "normalises"), new Layer("c", 8, How.Uniformly, Because: "normalises"));
        // Without a mean zeros do.
        net = Tokens();
        x = net.Linear(net.Input("x", "N", "T", 6), 6, 8, "a");
        string Simplified(string value, string skip) => Fused(net, "SkipSimplifiedLayerNormalization", [value, skip, net.Positive(8)], new { epsilon = 1e-5 });
        y = Simplified(net.Linear(x, 8, 8, "b"), x);
        net.Output(net.Linear(Simplified(net.Linear(y, 8, 8, "c"), y), 8, 4, "out"));
        Layer.Grow(net, inDouble: false, new Layer("a", 8), new Layer("b", 8), new Layer("c", 8));
    }

    [Fact]
    public void EmbeddingsSummedAndNormalised()
    {
        Net net = Tokens();
        string words = net.Input("words", ElementType.Int32, "N", "T"), kinds = net.Input("kinds", ElementType.Int32, "N", "T");
        net.Vocabulary["words"] = 7;
        string y = Fused(net, "EmbedLayerNormalization",
            [words, kinds, net.Weight([7, 8]), net.Weight([6, 8]), net.Weight([2, 8]), net.Positive(8), net.Weight([8])], new { epsilon = 1e-5 }, "embed");
        net.Last.Output.Add("mask");
        net.Output(net.Linear(y, 8, 4, "out"));
        Layer.Grow(net, inDouble: false, new Layer("embed", 8));
    }

    [Fact]
    public void FusedProductsWithTransposedWeightsFollow()
    {
        Net net = Tokens();
        string x = net.Linear(net.Input("x", "N", "T", 6), 6, 8, "in");
        string y = Fused(net, "FusedMatMul", [x, net.Weight([5, 8])], new { transB = 1, alpha = 0.5 }, "fused");
        net.Output(net.Linear(y, 5, 4, "out"));
        Layer.Grow(net, inDouble: false, new Layer("in", 8), new Layer("fused", 5));
    }

    [Theory]
    [InlineData("com.microsoft:MultiHeadAttention", true)]
    [InlineData("com.microsoft:MultiHeadAttention", false)]
    [InlineData("Attention", true)]
    [InlineData("Attention", false)]
    public void WhatCallersKeepBetweenCallsKeepsItsSizes(string op, bool past)
    {
        var net = new Net(opset: 23, ir: 10) { Runs = { new() { ["N"] = 2, ["T"] = 5, ["P"] = 3 }, new() { ["N"] = 1, ["T"] = 1, ["P"] = 1 } } };
        string x = net.Input("x", "N", "T", 6);
        string q = net.Linear(x, 6, 12, "q"), k = net.Linear(x, 6, 12, "k"), v = net.Linear(x, 6, 12, "v");
        string[] caches = past ? [net.Input("past_key", "N", 3, "P", 4), net.Input("past_value", "N", 3, "P", 4)] : [];
        bool standard = op == "Attention";
        object heads = standard ? new { q_num_heads = 3, kv_num_heads = 3 } : new { num_heads = 3 };
        string[] results = net.Ops(op, 3, past ? [q, k, v, .. standard ? new[] { "" } : ["", "", ""], .. caches] : [q, k, v], heads, "att");
        net.Output(net.Linear(results[0], 12, 4, "out"));
        net.Output(results[1]);
        net.Output(results[2]);
        Layer.Grow(net, inDouble: false, new Layer("q", 12, How.Never), new Layer("k", 12, How.Never), new Layer("v", 12, How.Never));
    }

    [Fact]
    public void AHeadSizeAloneIsRefused()
    {
        Net net = Tokens();
        string x = net.Input("x", "N", "T", 6);
        string q = net.Linear(x, 6, 4, "q"), k = net.Linear(x, 6, 4, "k"), v = net.Linear(x, 6, 4, "v");
        net.Output(Fused(net, "MultiHeadAttention", [q, k, v], new { num_heads = 1 }));
        Layer.Grow(net, inDouble: false, new Layer("q", 4, How.Never, Because: Contracted), new Layer("k", 4, How.Never, Because: Contracted), new Layer("v", 4, How.Never, Because: "callers"));
    }
}
