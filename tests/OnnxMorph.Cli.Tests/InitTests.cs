using System.Text.Json;
using Google.Protobuf;
using OnnxMorph.Cli.Tests.Testing;
using OnnxMorph.Onnx;

namespace OnnxMorph.Cli.Tests;

/// <summary>The command <c>init</c> from file to file.</summary>
public sealed class InitTests : IDisposable
{
    private static readonly string s_model = Workspace.Model("digits_resnet_folded.onnx");

    private readonly Workspace _files = new();

    public void Dispose() => _files.Dispose();

    [Fact]
    public async Task The_report_the_document_and_the_multipliers_say_what_was_written()
    {
        Command run = await Command.Succeed("init", s_model, "-o", _files["fresh.onnx"], "--growth", "multipliers", "--multipliers", _files["rates.json"], "--report", _files["fresh.html"], "--json");
        JsonElement document = run.Document();
        Assert.Equal("normed", document.GetProperty("method").GetString());
        Assert.Equal("multipliers", document.GetProperty("growth").GetString());
        Dictionary<string, long[]> weights = OnnxFile.Weights(_files["fresh.onnx"]);
        List<JsonElement> drawn = [.. document.GetProperty("tensors").EnumerateArray().Where(t => t.GetProperty("weight").ValueKind == JsonValueKind.Object)];
        Assert.NotEmpty(drawn);
        string page = File.ReadAllText(_files["fresh.html"]);
        JsonElement rates = JsonDocument.Parse(File.ReadAllText(_files["rates.json"])).RootElement;
        foreach (JsonElement tensor in drawn)
        {
            string name = tensor.GetProperty("name").GetString()!;
            Assert.Equal(weights[name].Aggregate(1L, (a, b) => a * b), tensor.GetProperty("weight").GetProperty("freeParameters").GetInt64());
            Assert.Contains(name, page);
            Assert.Equal(1, rates.GetProperty(name).GetDouble());
        }

        Assert.Contains(OnnxReader.Read(_files["fresh.onnx"]).Proto.MetadataProps, p => p.Key == "onnxmorph.learning_rate_multipliers");
        Assert.Contains("κ", run.Error);
    }

    [Fact]
    public async Task The_same_seed_gives_the_same_bytes_and_another_gives_others()
    {
        foreach ((string file, string seed) in ((string, string)[])[("a.onnx", "1"), ("b.onnx", "1"), ("c.onnx", "2")])
            await Command.Succeed("init", s_model, "-o", _files[file], "--seed", seed, "--device", "cpu", "--quiet");
        Assert.Equal(File.ReadAllBytes(_files["a.onnx"]), File.ReadAllBytes(_files["b.onnx"]));
        Assert.NotEqual(File.ReadAllBytes(_files["a.onnx"]), File.ReadAllBytes(_files["c.onnx"]));
    }

    [Theory]
    [InlineData("normed")]
    [InlineData("he")]
    [InlineData("xavier")]
    [InlineData("lecun")]
    [InlineData("orthogonal")]
    [InlineData("dirac")]
    [InlineData("zero-residual")]
    public async Task Every_method_writes_a_model_that_runs(string method)
    {
        await Command.Succeed("init", Workspace.Model("digits_resnet.onnx"), "-o", _files["fresh.onnx"], "--method", method);
        Assert.All(OnnxFile.RunExposed(_files["fresh.onnx"], Digits.First(4)).Values, value => Assert.All(value.Elements, v => Assert.True(float.IsFinite(v))));
    }

    [Fact]
    public async Task A_transfer_initialises_what_the_source_has_nothing_for()
    {
        // A head of other classes.
        ModelProto target = ModelProto.Parser.ParseFrom(File.ReadAllBytes(s_model));
        foreach ((string name, int inputs) in ((string, int)[])[("11.weight", 32), ("11.bias", 1)])
        {
            TensorProto tensor = target.Graph.Initializer.Single(t => t.Name == name);
            tensor.Dims[0] = 700;
            tensor.FloatData.Clear();
            tensor.RawData = ByteString.CopyFrom(new byte[4 * 700 * inputs]);
        }

        target.Graph.Output[0].Type.TensorType.Shape.Dim[1].DimValue = 700;
        File.WriteAllBytes(_files["target.onnx"], target.ToByteArray());
        foreach (string fresh in (string[])["keep", "he", "normed"])
        {
            Command run = await Command.Succeed("transfer", s_model, _files["target.onnx"], "-o", _files[$"{fresh}.onnx"], "--fresh", fresh, "--no-verify", "--json");
            float[] weight = System.Runtime.InteropServices.MemoryMarshal.Cast<byte, float>(
                ModelProto.Parser.ParseFrom(File.ReadAllBytes(_files[$"{fresh}.onnx"])).Graph.Initializer.Single(t => t.Name == "11.weight").RawData.Span).ToArray();
            double variance = weight.Average(w => (double)w * w);
            // 22,400 draws: a standard error of 1 %. The head reads 32 channels and nothing follows it.
            Assert.Equal(fresh switch { "keep" => 0, "he" => 2 / 32.0, _ => 1 / 32.0 }, variance, 0.04 * variance);
            Assert.Equal(fresh != "keep", run.Document().GetProperty("tensors").EnumerateArray().Single(t => t.GetProperty("name").GetString() == "11.weight").GetProperty("note").GetString()!.Contains("initialised"));
        }
    }

    [Fact]
    public async Task Growth_by_variance_computes_what_no_growth_computes()
    {
        foreach (string model in (string[])["digits_resnet.onnx", "digits_resnet_folded.onnx", "digits_mobilenet.onnx", "digits_transformer.onnx"])
        {
            await Command.Succeed("init", Workspace.Model(model), "-o", _files["none.onnx"], "--growth", "none", "--force");
            await Command.Succeed("init", Workspace.Model(model), "-o", _files["variance.onnx"], "--growth", "variance", "--force");
            await Command.Succeed("verify", _files["none.onnx"], _files["variance.onnx"], "--inputs", Workspace.Samples);
        }
    }
}
