using System.Text.Json;
using OnnxMorph.Cli.Tests.Testing;

namespace OnnxMorph.Cli.Tests;

/// <summary><c>onnxmorph morph</c> on the repository's trained networks.</summary>
public sealed class MorphTests : IDisposable
{
    private readonly Workspace _files = new();

    public void Dispose() => _files.Dispose();

    public static TheoryData<string, string[]> Morphs()
    {
        var morphs = new TheoryData<string, string[]>();
        foreach (string model in (string[])["digits_resnet", "digits_resnet_folded", "digits_mobilenet", "digits_transformer"])
        {
            morphs.Add(model, ["--widen", "*=x1.5"]);
            morphs.Add(model, ["--widen", "*=x2", "--deepen", "*", "--kernel", "*=+2"]);
            morphs.Add(model, ["--deepen", "blocks:*", "--widen", "blocks:stage1/*=x2"]);
        }

        morphs.Add("digits_resnet", ["--widen", "*=+3", "--widen-method", "opposed"]);
        morphs.Add("digits_resnet", ["--widen", "*=x2", "--widen-method", "zero", "--deepen", "*=2", "--deepen-method", "identity"]);
        return morphs;
    }

    [Theory]
    [MemberData(nameof(Morphs))]
    public async Task A_child_classifies_as_its_parent_does(string model, string[] steps)
    {
        string parent = Workspace.Model(model + ".onnx");
        await Command.Succeed(["morph", parent, "-o", _files["child.onnx"], .. steps, "--quiet"]);
        int[] expected = OnnxFile.Classify(parent, Digits.Images);
        // The networks are trained, so the comparison is one of 360 decisions and not of one constant answer.
        Assert.InRange(expected.Index().Count(x => x.Item == Digits.Labels[x.Index]), 350, 360);
        Assert.Equal(expected, OnnxFile.Classify(_files["child.onnx"], Digits.Images));
        Assert.Equal(["child.onnx"], _files.Snapshot().Keys);
    }

    [Fact]
    public async Task Deepening_a_block_adds_blocks_like_it()
    {
        string parent = Workspace.Model("digits_resnet.onnx"), child = _files["child.onnx"];
        Command run = await Command.Succeed("morph", parent, "-o", child, "--deepen", "blocks:stage2/*=2", "--json");
        Assert.Equal("bit-exact", run.Document().GetProperty("verification").GetProperty("exactness").GetString());
        JsonElement step = run.Document().GetProperty("steps")[0];
        Assert.Equal("block 'stage2/block2' (6)", Assert.Single(step.GetProperty("changes").EnumerateArray()).GetProperty("where").GetString());
        Assert.Contains("16×8×8", Assert.Single(step.GetProperty("refused").EnumerateArray()).GetProperty("reason").GetString());
        Command inspection = await Command.Succeed("inspect", child, "--json");
        Assert.Equal([2, 4, 2], inspection.Document().GetProperty("structure").GetProperty("stages").EnumerateArray().Select(s => s.GetProperty("blocks").GetArrayLength()));

        Command nothing = await Command.Run("morph", parent, "-o", _files["other.onnx"], "--deepen", "blocks:stage9/*");
        Assert.Equal(4, nothing.Code);
    }

    [Fact]
    public async Task Widening_makes_weights_wider()
    {
        string parent = Workspace.Model("digits_resnet.onnx"), child = _files["child.onnx"];
        await Command.Succeed("morph", parent, "-o", child, "--widen", "*=x1.5");
        Dictionary<string, long[]> before = OnnxFile.Weights(parent), after = OnnxFile.Weights(child);
        Assert.Equal(before.Keys.Order(), after.Keys.Order());
        foreach ((string name, long[] sizes) in before)
        {
            // The picture has one channel and there are ten classes; every other channel axis is half as long again.
            long[] expected = name switch
            {
                "11.weight" => [10, sizes[1] * 3 / 2],
                "11.bias" => [10],
                _ => [sizes[0] * 3 / 2, .. sizes.Skip(1).Select((s, axis) => axis == 0 && s > 1 ? s * 3 / 2 : s)],
            };
            Assert.True(expected.SequenceEqual(after[name]), $"{name}: {string.Join('×', sizes)} became {string.Join('×', after[name])}");
        }
    }

    [Fact]
    public async Task Widening_takes_only_what_is_selected()
    {
        string parent = Workspace.Model("digits_resnet.onnx"), child = _files["child.onnx"];
        await Command.Succeed("morph", parent, "-o", child, "--widen", "/3/conv1/*=11");
        Dictionary<string, long[]> before = OnnxFile.Weights(parent), after = OnnxFile.Weights(child);
        string[] changed = [.. before.Where(w => !w.Value.SequenceEqual(after[w.Key])).Select(w => w.Key).Order(StringComparer.Ordinal)];
        Assert.Equal(["3.conv1.weight", "3.conv2.weight", "3.norm1.bias", "3.norm1.running_mean", "3.norm1.running_var", "3.norm1.weight"], changed);
        Assert.Equal([11, 8, 3, 3], after["3.conv1.weight"]);
        Assert.Equal([8, 11, 3, 3], after["3.conv2.weight"]);
    }

    [Fact]
    public async Task Widening_a_transformer_adds_heads_and_hidden_units()
    {
        string parent = Workspace.Model("digits_transformer.onnx"), child = _files["child.onnx"];
        Command run = await Command.Succeed("morph", parent, "-o", child, "--widen", "*qkv*=x1.5", "--widen", "*mlp.0*=100", "--json");
        var changes = run.Document().GetProperty("steps").EnumerateArray()
            .Select(step => step.GetProperty("changes").EnumerateArray().Select(c => (c.GetProperty("before").GetInt64(), c.GetProperty("after").GetInt64())).ToArray()).ToArray();
        Assert.Equal([[(96, 144), (96, 144)], [(64, 100), (64, 100)]], changes);
        // 32×96 becomes 32×144: six heads of eight for query, key and value; 48×32 takes their results back.
        Assert.Equal(2, OnnxFile.Weights(child).Values.Count(s => s is [32, 144]));
        Assert.Equal(2, OnnxFile.Weights(child).Values.Count(s => s is [48, 32]));
        Assert.Equal(2, OnnxFile.Weights(child).Values.Count(s => s is [100, 32]));
    }

    [Fact]
    public async Task Deepening_adds_layers()
    {
        string parent = Workspace.Model("digits_resnet.onnx"), child = _files["child.onnx"];
        await Command.Succeed("morph", parent, "-o", child, "--deepen", "/3/*=2");
        Assert.Equal(OnnxFile.Count(parent, "Conv") + 4, OnnxFile.Count(child, "Conv"));
    }

    [Fact]
    public async Task Growing_kernels_makes_them_larger()
    {
        string parent = Workspace.Model("digits_resnet.onnx"), child = _files["child.onnx"];
        await Command.Succeed("morph", parent, "-o", child, "--kernel", "*=+2");
        Dictionary<string, long[]> before = OnnxFile.Weights(parent), after = OnnxFile.Weights(child);
        Assert.All(before.Where(w => w.Value.Length == 4), w =>
            Assert.Equal([w.Value[0], w.Value[1], w.Value[2] + 2, w.Value[3] + 2], after[w.Key]));
    }

    [Fact]
    public async Task Steps_run_in_the_order_given()
    {
        string parent = Workspace.Model("digits_resnet.onnx");
        Command first = await Command.Succeed("morph", parent, "-o", _files["a.onnx"], "--deepen", "/0/Conv", "--widen", "/0/Conv=12", "--json");
        Command second = await Command.Succeed("morph", parent, "-o", _files["b.onnx"], "--widen", "/0/Conv=12", "--deepen", "/0/Conv", "--json");
        Assert.Equal([12, 1, 3, 3], OnnxFile.Weights(_files["b.onnx"])["0.weight"]);
        Assert.StartsWith("deepen", first.Document().GetProperty("steps")[0].GetProperty("step").GetString());
        Assert.StartsWith("widen", second.Document().GetProperty("steps")[0].GetProperty("step").GetString());
        // The new layer takes the stem's output to itself before widening, and to twelve channels after.
        Assert.NotEqual(Sizes("a.onnx"), Sizes("b.onnx"));

        string[] Sizes(string file) => [.. OnnxFile.Weights(_files[file]).Select(w => $"{w.Key} {string.Join('×', w.Value)}")];
    }

    [Fact]
    public async Task Options_are_read_with_an_equals_sign_too()
    {
        await Command.Succeed("morph", Workspace.Model("digits_resnet.onnx"), "--output=" + _files["child.onnx"], "--widen=*=x1.5", "--seed=3");
        Assert.Equal([12, 1, 3, 3], OnnxFile.Weights(_files["child.onnx"])["0.weight"]);
    }

    [Fact]
    public async Task The_same_seed_gives_the_same_bytes_and_another_gives_others()
    {
        string parent = Workspace.Model("digits_mobilenet.onnx");
        string[] steps = ["--widen", "*=x1.5", "--deepen", "*", "--no-verify"];
        await Command.Succeed(["morph", parent, "-o", _files["a.onnx"], "--certificate", _files["a.json"], .. steps]);
        await Command.Succeed(["morph", parent, "-o", _files["b.onnx"], "--certificate", _files["b.json"], .. steps, "--seed", "0"]);
        await Command.Succeed(["morph", parent, "-o", _files["c.onnx"], "--certificate", _files["c.json"], .. steps, "--seed", "1"]);
        SortedDictionary<string, string> files = _files.Snapshot();
        Assert.Equal(files["a.onnx"], files["b.onnx"]);
        Assert.Equal(files["a.json"], files["b.json"]);
        Assert.NotEqual(files["a.onnx"], files["c.onnx"]);
    }

    [Theory]
    [InlineData("digits_resnet.onnx")]
    [InlineData("digits_resnet_folded.onnx")]
    [InlineData("digits_mobilenet.onnx")]
    [InlineData("digits_transformer.onnx")]
    public async Task Without_steps_the_model_comes_back_unchanged(string model)
    {
        Command run = await Command.Succeed("morph", Workspace.Model(model), "-o", _files["same.onnx"], "--json");
        Assert.Equal(File.ReadAllBytes(Workspace.Model(model)), File.ReadAllBytes(_files["same.onnx"]));
        Assert.Equal("bit-exact", run.Document().GetProperty("verification").GetProperty("exactness").GetString());
        Assert.All(run.Document().GetProperty("tensors").EnumerateArray(), t => Assert.Equal("exact", t.GetProperty("origin").GetString()));
    }

    [Fact]
    public async Task The_document_says_what_was_done()
    {
        string parent = Workspace.Model("digits_resnet.onnx"), child = _files["child.onnx"];
        Command run = await Command.Succeed("morph", parent, "-o", child, "--widen", "*=x1.5", "--deepen", "/8/conv1/Conv", "--inputs", Workspace.Samples, "--json");
        JsonElement document = run.Document();
        Assert.Equal(child, document.GetProperty("output").GetString());
        Assert.Equal(Parameters(parent), document.GetProperty("parametersBefore").GetInt64());
        Assert.Equal(Parameters(child), document.GetProperty("parametersAfter").GetInt64());

        JsonElement widen = document.GetProperty("steps")[0];
        Assert.Equal("rounding", widen.GetProperty("exactness").GetString());
        Assert.Equal(15, widen.GetProperty("changes").GetArrayLength());
        JsonElement refused = Assert.Single(widen.GetProperty("refused").EnumerateArray());
        Assert.Contains("/11/Gemm", refused.GetProperty("node").GetString());
        Assert.Contains("logits", refused.GetProperty("reason").GetString());

        var origins = document.GetProperty("tensors").EnumerateArray().ToDictionary(t => t.GetProperty("name").GetString()!, t => t.GetProperty("origin").GetString());
        Assert.Equal("mapped", origins["0.weight"]);
        Assert.Equal("exact", origins["11.bias"]);
        Assert.Equal(OnnxFile.Weights(child).Keys.Order(), origins.Keys.Order());
        Assert.Contains("fresh", origins.Values);

        JsonElement verification = document.GetProperty("verification");
        Assert.True(verification.GetProperty("passed").GetBoolean());
        Assert.Equal(360 / 16 + 1, verification.GetProperty("inputs").GetArrayLength());

        Assert.Contains("verified: rounding", run.Error);
        Assert.Contains(child, run.Error);

        static long Parameters(string model) => OnnxFile.Weights(model).Values.Sum(sizes => sizes.Aggregate(1L, (p, s) => p * s));
    }

    [Fact]
    public async Task Text_goes_to_standard_output_unless_a_document_does_or_quiet_is_asked_for()
    {
        string[] morph = ["morph", Workspace.Model("digits_resnet.onnx"), "-o", _files["child.onnx"], "--widen", "*=x1.5", "--force", "--no-verify"];
        Command text = await Command.Succeed(morph);
        Assert.Contains("Gemm '/11/Gemm'", text.Output);
        Assert.Contains("not verified", text.Output);
        Assert.Empty(text.Error);
        Command quiet = await Command.Succeed([.. morph, "--quiet"]);
        Assert.Empty(quiet.Output + quiet.Error);
        Command both = await Command.Succeed([.. morph, "--quiet", "--json"]);
        Assert.Empty(both.Error);
        Assert.Equal(JsonValueKind.Null, both.Document().GetProperty("verification").ValueKind);
        // A pipe or a file gets no colours and no cursor movements.
        Assert.DoesNotContain('\e', text.Output);
    }

    [Fact]
    public async Task Force_replaces_the_parent_itself()
    {
        File.Copy(Workspace.Model("digits_resnet.onnx"), _files["model.onnx"]);
        File.WriteAllText(_files["model.json"], "old");
        await Command.Succeed("morph", _files["model.onnx"], "-o", _files["model.onnx"], "--certificate", _files["model.json"], "--widen", "*=x1.5", "--force");
        Assert.Equal([12, 1, 3, 3], OnnxFile.Weights(_files["model.onnx"])["0.weight"]);
        Assert.Equal(["model.json", "model.onnx"], _files.Snapshot().Keys);
        Assert.Equal(OnnxFile.Classify(Workspace.Model("digits_resnet.onnx"), Digits.Images), OnnxFile.Classify(_files["model.onnx"], Digits.Images));
    }

    [Fact]
    public async Task A_child_can_be_morphed_again()
    {
        string parent = Workspace.Model("digits_resnet.onnx");
        await Command.Succeed("morph", parent, "-o", _files["child.onnx"], "--widen", "*=x1.5", "--deepen", "*");
        await Command.Succeed("morph", _files["child.onnx"], "-o", _files["grandchild.onnx"], "--kernel", "*=+2", "--widen", "*=x1.5", "--seed", "5");
        await Command.Succeed("verify", parent, _files["grandchild.onnx"], "--inputs", Workspace.Samples);
    }
}
