using System.Diagnostics;
using System.Text.Json;
using OnnxMorph.Cli.Commands;
using OnnxMorph.Cli.Tests.Testing;
using OnnxMorph.Kernels;

namespace OnnxMorph.Cli.Tests;

/// <summary>inspect, verify, devices, help and version.</summary>
public sealed class CommandTests : IDisposable
{
    private static readonly string s_resnet = Workspace.Model("digits_resnet.onnx");

    private readonly Workspace _files = new();

    public void Dispose() => _files.Dispose();

    [Fact]
    public async Task Inspect_lists_layers_spaces_and_reasons()
    {
        Command run = await Command.Succeed("inspect", s_resnet, "--json");
        JsonElement document = run.Document();
        Assert.Equal(44738, document.GetProperty("parameters").GetInt64());
        Assert.Equal(54, document.GetProperty("nodes").GetInt32());
        JsonElement stem = document.GetProperty("layers")[0];
        Assert.Equal("/0/Conv", stem.GetProperty("name").GetString());
        Assert.Equal(8, stem.GetProperty("channels").GetInt32());
        Assert.Equal([3, 3], stem.GetProperty("kernel").EnumerateArray().Select(k => k.GetInt32()));
        JsonElement classes = document.GetProperty("spaces").EnumerateArray().Single(s => !s.GetProperty("mayChange").GetBoolean());
        Assert.Equal(10, classes.GetProperty("size").GetInt32());
        Assert.Contains("logits", classes.GetProperty("reasons")[0].GetString());
        // The residual stream of the first stage is one space of three producers.
        JsonElement stream = document.GetProperty("spaces")[0];
        Assert.Equal(["/0/Conv", "/3/conv2/Conv", "/4/conv2/Conv"], stream.GetProperty("producers").EnumerateArray().Select(p => p.GetString()));

        JsonElement structure = document.GetProperty("structure");
        JsonElement block = structure.GetProperty("stages")[1].GetProperty("blocks")[1];
        Assert.Equal("stage2/block2", block.GetProperty("path").GetString());
        Assert.True(block.GetProperty("isResidual").GetBoolean());
        Assert.Equal(["a", "a.norm", "b", "b.norm"], block.GetProperty("layers").EnumerateArray().Select(l => l.GetProperty("role").GetString()));
        Assert.Equal(["stem", "stages", "head"], structure.EnumerateObject().Select(p => p.Name));

        Assert.Contains("44,738 parameters", run.Error);
        Command text = await Command.Succeed("inspect", s_resnet);
        Assert.Equal(run.Error, text.Output);
    }

    [Fact]
    public async Task Similarity_aligns_blocks_and_warns()
    {
        await Command.Succeed("morph", s_resnet, "-o", _files["deeper.onnx"], "--deepen", "blocks:stage2/block2=2", "--no-verify");
        Command run = await Command.Succeed("similarity", s_resnet, _files["deeper.onnx"], "--json");
        JsonElement document = run.Document();
        Assert.Equal(["similarity", "forward", "backward", "items", "warning", "alignment"], document.EnumerateObject().Select(p => p.Name));
        Assert.Equal(1, document.GetProperty("backward").GetDouble(), 1e-12);
        double forward = document.GetProperty("forward").GetDouble();
        Assert.InRange(forward, 0.8, 0.99);
        Assert.Equal(Math.Sqrt(forward), document.GetProperty("similarity").GetDouble(), 1e-12);
        Assert.Equal(JsonValueKind.Null, document.GetProperty("warning").ValueKind);
        // The copies get their weights from the block that they are copies of.
        string?[] sources = [.. document.GetProperty("items").EnumerateArray()
            .Where(item => item.GetProperty("target").GetString()!.StartsWith("stage2/", StringComparison.Ordinal)).Select(item => item.GetProperty("source").GetString())];
        Assert.Equal(["stage2/block1", "stage2/block2", "stage2/block2", "stage2/block2"], sources);

        Command other = await Command.Succeed("similarity", s_resnet, Workspace.Model("digits_transformer.onnx"));
        Assert.Contains("warning: Below 0.5 transfer hurt", other.Output);
        Command broken = await Command.Run("similarity", s_resnet, "none.onnx");
        Assert.Equal(5, broken.Code);
    }

    [Fact]
    public async Task Transfer_fills_a_larger_target_and_a_smaller_one()
    {
        await Command.Succeed("morph", s_resnet, "-o", _files["larger.onnx"], "--widen", "*=+5", "--deepen", "blocks:stage2/block2=2", "--no-verify", "--seed", "7");
        Command run = await Command.Succeed("transfer", s_resnet, _files["larger.onnx"], "-o", _files["filled.onnx"], "--json");
        JsonElement document = run.Document();
        Assert.Equal(
            ["output", "method", "parts", "parametersBefore", "parametersAfter", "tensors", "stages", "notes", "verification", "source", "fresh", "target", "rules", "alignment"],
            document.EnumerateObject().Select(p => p.Name));
        Assert.Equal("isomorphic", document.GetProperty("method").GetString());
        Assert.True(document.GetProperty("verification").GetProperty("passed").GetBoolean());
        Assert.DoesNotContain(document.GetProperty("tensors").EnumerateArray(), t => t.GetProperty("origin").GetString() == "fresh");
        Assert.Equal(["stage2/block2", "stage2/block2", "stage2/block2"], document.GetProperty("parts").EnumerateArray()
            .Where(p => p.GetProperty("source").GetString() == "stage2/block2").Select(p => p.GetProperty("source").GetString()));

        // Back, with statistics set on the samples: the smaller network holds what the larger has copies of.
        Command back = await Command.Succeed("transfer", _files["filled.onnx"], s_resnet, "-o", _files["back.onnx"], "--calibrate", Workspace.Samples);
        Assert.Contains("end of", back.Output);
        Command refused = await Command.Run("transfer", s_resnet, Workspace.Model("digits_transformer.onnx"), "-o", _files["none.onnx"]);
        Assert.Equal(4, refused.Code);
        Assert.StartsWith("The models are not isomorphic: ", refused.Error);
        Assert.False(File.Exists(_files["none.onnx"]));
        Assert.Equal(2, (await Command.Run("transfer", s_resnet, _files["larger.onnx"], "-o", _files["filled.onnx"])).Code);
        Assert.Equal(5, (await Command.Run("transfer", s_resnet, "none.onnx", "-o", _files["none.onnx"])).Code);
        Assert.Equal(2, (await Command.Run("transfer", s_resnet, _files["larger.onnx"], "-o", _files["none.onnx"], "--width", "random")).Code);
        Command both = await Command.Run("transfer", s_resnet, _files["larger.onnx"], "-o", _files["none.onnx"], "--method", "preserve", "--calibrate", Workspace.Samples);
        Assert.Equal(2, both.Code);
        Assert.Contains("leave out one of them", both.Error);
        Command kept = await Command.Succeed("transfer", s_resnet, _files["larger.onnx"], "-o", _files["kept.onnx"], "--method", "preserve", "--no-verify");
        Assert.Contains("note: Nothing was compared", kept.Output);
    }

    /// <summary>A preset is the rules that it names; one that is given beside it counts. What does not go together is wrong usage.</summary>
    [Fact]
    public async Task Transfer_takes_presets_and_single_rules()
    {
        Command run = await Command.Succeed("transfer", s_resnet, s_resnet, "-o", _files["filled.onnx"], "--preset", "fna", "--scale", "root", "--no-verify", "--json");
        Assert.Equal(
            "width leading, importance gamma, added zeros, maps tensor, scale root, depth first, inserted repeat",
            string.Join(", ", run.Document().GetProperty("rules").EnumerateObject().Select(rule => $"{rule.Name} {rule.Value.GetString()}")));
        await Refused("--maps tensor", "take --width uniform");
        await Refused("--method dp --preset fna", "--preset goes with --method isomorphic");
        await Refused("--method preserve --width interpolate", "with --method preserve take another --width");

        async Task Refused(string options, string because)
        {
            Command refused = await Command.Run(["transfer", s_resnet, s_resnet, "-o", _files["none.onnx"], .. options.Split(' ')]);
            Assert.Equal(2, refused.Code);
            Assert.Contains(because, refused.Error);
            Assert.False(File.Exists(_files["none.onnx"]));
        }
    }

    [Fact]
    public async Task Weights_go_out_and_back_by_name()
    {
        Command exported = await Command.Succeed("export", s_resnet, "-o", _files["w.safetensors"], "--json");
        Assert.Equal(["output", "tensors", "leftOut", "kept"], exported.Document().EnumerateObject().Select(p => p.Name));
        await Command.Succeed("import", s_resnet, _files["w.safetensors"], "-o", _files["same.onnx"]);
        Command verified = await Command.Succeed("verify", s_resnet, _files["same.onnx"], "--json");
        Assert.Equal("bit-exact", verified.Document().GetProperty("exactness").GetString());
        Assert.Equal(2, (await Command.Run("export", s_resnet, "-o", _files["w.safetensors"])).Code);
        Assert.Equal(4, (await Command.Run("import", Workspace.Model("digits_transformer.onnx"), _files["w.safetensors"], "-o", _files["none.onnx"])).Code);
        Assert.Equal(3, (await Command.Run("import", s_resnet, s_resnet, "-o", _files["none.onnx"])).Code);
        Assert.Equal(5, (await Command.Run("import", s_resnet, "none.safetensors", "-o", _files["none.onnx"])).Code);
        Assert.False(File.Exists(_files["none.onnx"]));
    }

    [Fact]
    public async Task Verify_reports_every_output()
    {
        await Command.Succeed("morph", s_resnet, "-o", _files["child.onnx"], "--widen", "*=x1.5");
        Command run = await Command.Succeed("verify", s_resnet, _files["child.onnx"], "--inputs", Workspace.Samples, "--json");
        JsonElement document = run.Document();
        Assert.True(document.GetProperty("passed").GetBoolean());
        Assert.Equal("rounding", document.GetProperty("exactness").GetString());
        JsonElement output = Assert.Single(document.GetProperty("outputs").EnumerateArray());
        Assert.Equal("logits", output.GetProperty("name").GetString());
        Assert.InRange(output.GetProperty("maxAbs").GetDouble(), double.Epsilon, 1e-4);
        Assert.InRange(output.GetProperty("maxRel").GetDouble(), double.Epsilon, 1e-5);
        Assert.InRange(output.GetProperty("noiseFloor").GetDouble(), double.Epsilon, 1e-5);
        Assert.True(output.GetProperty("maxUlp").GetInt64() > 0);
        Assert.Equal(JsonValueKind.Null, output.GetProperty("firstDivergence").ValueKind);
        Assert.Contains("verified: rounding", run.Error);
    }

    [Fact]
    public async Task Verify_finds_one_wrong_weight_and_the_value_where_it_shows_first()
    {
        byte[] bytes = File.ReadAllBytes(s_resnet);
        Onnx.ModelProto model = Onnx.ModelProto.Parser.ParseFrom(bytes);
        Onnx.TensorProto weight = model.Graph.Initializer.Single(t => t.Name == "6.conv2.weight");
        byte[] raw = weight.RawData.ToByteArray();
        BitConverter.TryWriteBytes(raw.AsSpan(400), BitConverter.ToSingle(raw, 400) + 0.01f);
        weight.RawData = Google.Protobuf.ByteString.CopyFrom(raw);
        using (FileStream file = File.Create(_files["wrong.onnx"]))
            Google.Protobuf.MessageExtensions.WriteTo(model, file);
        Command run = await Command.Run("verify", s_resnet, _files["wrong.onnx"], "--json");
        Assert.Equal(1, run.Code);
        Assert.Equal("/6/conv2/Conv_output_0", run.Document().GetProperty("outputs")[0].GetProperty("firstDivergence").GetString());
        Assert.False(run.Document().GetProperty("passed").GetBoolean());
    }

    [Fact]
    public async Task Devices_always_has_the_cpu_and_marks_one()
    {
        Command run = await Command.Succeed("devices", "--json");
        JsonElement[] devices = [.. run.Document().EnumerateArray()];
        Assert.Contains(devices, d => d.GetProperty("device").GetString() == "cpu");
        Assert.Single(devices, d => d.GetProperty("chosen").GetBoolean());
        Assert.Single(devices, d => d.GetProperty("computes").GetBoolean());
        JsonElement processor = devices[^1];
        Assert.InRange(processor.GetProperty("movedBytesPerSecond").GetDouble(), 1e7, 1e12);
        Assert.InRange(processor.GetProperty("drawnBytesPerSecond").GetDouble(), 1e6, 1e12);
        string text = (await Command.Succeed("devices")).Output;
        Assert.Contains(processor.GetProperty("reason").GetString()!, text);
        Assert.Contains("GB/s", text);
    }

    // Whether each device is chosen and computes, by what was measured of the accelerators and, last, the processor.
    [Theory]
    [InlineData("C:5", "chosen computes")]
    [InlineData("A:9 C:5", "computes|chosen")]
    [InlineData("A:4 C:5", "|chosen computes")]
    [InlineData("A:0 C:5", "|chosen computes")]
    [InlineData("A:9 B:99 C:5", "computes||chosen")]
    [InlineData("A:4 B:99 C:5", "||chosen computes")]
    public void What_auto_takes_follows_what_was_measured(string measured, string expected)
    {
        DeviceJson[] devices = DevicesCommand.Judge([.. measured.Split(' ').Select(d => d.Split(':')).Select(d => new DeviceMeasurement(
            new DeviceDescription(d[0] == "C" ? DeviceChoice.Cpu : DeviceChoice.Cuda, d[0], 0), 1, double.Parse(d[1]), d[1] == "0" ? "its memory is full." : null))]);
        Assert.Equal(expected, string.Join("|", devices.Select(d => $"{(d.Chosen ? "chosen" : "")} {(d.Computes ? "computes" : "")}".Trim())));
        Assert.Equal(measured.Contains(":0"), devices[0].Reason == "cannot be used: its memory is full.");
        Assert.All(devices, d => Assert.Equal(d.Chosen || d.Computes, d.Reason.StartsWith("taken by --device auto")));
    }

    [Theory]
    [InlineData("inspect")]
    [InlineData("morph")]
    [InlineData("verify")]
    [InlineData("devices")]
    public async Task Help_describes_every_option_and_ends_with_examples(string command)
    {
        Command run = await Command.Succeed(command, "--help");
        Assert.Contains("Examples:", run.Output);
        Assert.Contains($"onnxmorph {command}", run.Output);
        // A line that begins with an option has its description behind it.
        string[] options = [.. run.Output.Split('\n').SkipWhile(l => !l.StartsWith("Options:")).Skip(1).TakeWhile(l => l.Trim().Length > 0)];
        Assert.NotEmpty(options);
        Assert.All(options, line => Assert.Matches(@"^  -.*\S  +\w", line));
    }

    [Fact]
    public async Task Root_help_lists_commands_and_exit_codes()
    {
        string help = (await Command.Succeed("--help")).Output;
        Assert.All((string[])["inspect", "morph", "verify", "devices", "130"], word => Assert.Contains(word, help));
    }

    [Fact]
    public async Task Version_is_a_number()
    {
        // The version is that of the process, which is the test runner's in process.
        using Process process = Command.Start("--version");
        Assert.Matches(@"^\d+\.\d+\.\d+\s*$", await process.StandardOutput.ReadToEndAsync(TestContext.Current.CancellationToken));
    }
}
