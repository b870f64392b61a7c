using Google.Protobuf;
using OnnxMorph.Cli.Tests.Testing;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Recipes;
using OnnxMorph.Verification;

namespace OnnxMorph.Cli.Tests;

/// <summary>Every way to fail: its exit code, its sentence, and nothing left behind.</summary>
public sealed class FailureTests : IDisposable
{
    private const int Failed = 1, Usage = 2, Unreadable = 3, Refused = 4, InputOutput = 5;

    private static readonly string s_model = Workspace.Model("digits_resnet.onnx");

    private readonly Workspace _files = new();

    public void Dispose() => _files.Dispose();

    /// <summary>A command line that fails; names in braces stand for files of the workspace and the repository.</summary>
    /// <param name="Code">Its exit code.</param>
    /// <param name="Says">What the sentence must name.</param>
    /// <param name="Args">The command line.</param>
    private sealed record Case(int Code, string Says, params string[] Args);

    private static readonly Dictionary<string, Case> s_cases = new()
    {
        ["no command"] = new(Usage, "command"),
        ["unknown command"] = new(Usage, "grow", "grow", "{model}"),
        ["unknown option"] = new(Usage, "--wide", "morph", "{model}", "-o", "{out}", "--wide", "*=x2"),
        ["no output"] = new(Usage, "--output", "morph", "{model}"),
        ["no model"] = new(Usage, "MODEL", "inspect"),
        ["option without its value"] = new(Usage, "--widen", "morph", "{model}", "-o", "{out}", "--widen"),
        ["seed is no number"] = new(Usage, "seven", "morph", "{model}", "-o", "{out}", "--seed", "seven"),
        ["unknown method"] = new(Usage, "clone", "morph", "{model}", "-o", "{out}", "--widen", "*=x2", "--widen-method", "clone"),
        ["unknown device"] = new(Usage, "tpu", "morph", "{model}", "-o", "{out}", "--device", "tpu"),

        ["widen without a size"] = new(Usage, "SELECTOR=SIZE", "morph", "{model}", "-o", "{out}", "--widen", "*"),
        ["widen without a selector"] = new(Usage, "SELECTOR=SIZE", "morph", "{model}", "-o", "{out}", "--widen", "=x2"),
        ["size is no number"] = new(Usage, "'wide'", "morph", "{model}", "-o", "{out}", "--widen", "*=wide"),
        ["size is negative"] = new(Usage, "'-4'", "morph", "{model}", "-o", "{out}", "--widen", "*=-4"),
        ["size is zero"] = new(Usage, "'0'", "morph", "{model}", "-o", "{out}", "--kernel", "*=0"),
        ["factor below one"] = new(Usage, "x0.5", "morph", "{model}", "-o", "{out}", "--widen", "*=x0.5"),
        ["size beyond all bounds"] = new(Usage, "1,048,576", "morph", "{model}", "-o", "{out}", "--widen", "*=2147483647"),
        ["factor beyond all bounds"] = new(Usage, "1,048,576", "morph", "{model}", "-o", "{out}", "--widen", "*=x100000000"),
        ["kernel beyond all bounds"] = new(Usage, "1,048,576", "morph", "{model}", "-o", "{out}", "--kernel", "*=+100000000"),
        ["count of zero"] = new(Usage, "1 to 100", "morph", "{model}", "-o", "{out}", "--deepen", "*=0"),
        ["count too large"] = new(Usage, "1 to 100", "morph", "{model}", "-o", "{out}", "--deepen", "*=101"),
        ["count is no number"] = new(Usage, "not a count", "morph", "{model}", "-o", "{out}", "--deepen", "*=x2"),

        ["selector fits nothing"] = new(Refused, "stem", "morph", "{model}", "-o", "{out}", "--widen", "stem=x2"),
        ["only the second selector fits nothing"] = new(Refused, "stem", "morph", "{model}", "-o", "{out}", "--widen", "*=x2", "--deepen", "stem"),
        ["only the head is selected"] = new(Refused, "'/11/Gemm'", "morph", "{model}", "-o", "{out}", "--widen", "/11/Gemm=x2"),
        ["already that large"] = new(Refused, "already", "morph", "{model}", "-o", "{out}", "--widen", "/0/Conv=8"),
        ["matrices have no kernels"] = new(Refused, "/11/Gemm", "morph", "{model}", "-o", "{out}", "--kernel", "/11/Gemm=+2"),
        ["nothing to change in the whole model"] = new(Refused, "no layer", "morph", "{no layers}", "-o", "{out}", "--widen", "*=x2"),

        ["init by no method"] = new(Usage, "zeros", "init", "{model}", "-o", "{out}", "--method", "zeros"),
        ["init by no growth"] = new(Usage, "fast", "init", "{model}", "-o", "{out}", "--growth", "fast"),
        ["growth of another method"] = new(Usage, "--method normed", "init", "{model}", "-o", "{out}", "--method", "he", "--growth", "variance"),
        ["gain of nothing"] = new(Usage, "'0'", "init", "{model}", "-o", "{out}", "--gain", "0"),
        ["gain that is no number"] = new(Usage, "'much'", "init", "{model}", "-o", "{out}", "--gain", "much"),
        ["init selects nothing"] = new(Refused, "nowhere", "init", "{model}", "-o", "{out}", "--layers", "nowhere"),
        ["init of a model without parameters"] = new(Refused, "no parameters", "init", "{no layers}", "-o", "{out}"),
        ["init onto what exists"] = new(Usage, "--force", "init", "{model}", "-o", "{there}"),
        ["multipliers onto what exists"] = new(Usage, "--force", "init", "{model}", "-o", "{out}", "--multipliers", "{there}"),
        ["multipliers onto the output"] = new(Usage, "different names", "init", "{model}", "-o", "{out}", "--multipliers", "{out}"),
        ["multipliers into no folder"] = new(InputOutput, "nowhere", "init", "{model}", "-o", "{out}", "--multipliers", "{nowhere/rates.json}"),
        ["report of init onto its multipliers"] = new(Usage, "name of its own", "init", "{model}", "-o", "{out}", "--multipliers", "{rates.html}", "--report", "{rates.html}"),
        ["init of no model"] = new(Unreadable, "there", "init", "{there}", "-o", "{out}"),

        ["output exists"] = new(Usage, "--force", "morph", "{model}", "-o", "{there}", "--widen", "*=x2"),
        ["output exists, no steps"] = new(Usage, "--force", "morph", "{model}", "-o", "{there}"),
        ["output is a folder"] = new(Usage, "folder", "morph", "{model}", "-o", "{folder}", "--widen", "*=x2"),
        ["output's folder is missing"] = new(InputOutput, "create it first", "morph", "{model}", "-o", "{missing/child.onnx}", "--widen", "*=x2"),
        ["certificate exists"] = new(Usage, "--force", "morph", "{model}", "-o", "{out}", "--certificate", "{there}", "--widen", "*=x2"),
        ["certificate's folder is missing"] = new(InputOutput, "create it first", "morph", "{model}", "-o", "{out}", "--certificate", "{missing/c.json}", "--widen", "*=x2"),
        ["certificate is the output"] = new(Usage, "different names", "morph", "{model}", "-o", "{out}", "--certificate", "{out}", "--widen", "*=x2"),
        ["certificate would replace the parent"] = new(Usage, "weights of the input", "morph", "{copy}", "-o", "{out}", "--certificate", "{copy}", "--force"),

        ["samples are missing"] = new(InputOutput, "missing.npz", "morph", "{model}", "-o", "{out}", "--widen", "*=x2", "--inputs", "{missing.npz}"),
        ["samples are no samples"] = new(Usage, "there", "morph", "{model}", "-o", "{out}", "--widen", "*=x2", "--inputs", "{there}"),
        ["samples are cut short"] = new(Usage, "cut.npz", "verify", "{model}", "{model}", "--inputs", "{cut.npz}"),

        ["inspect: no such file"] = new(InputOutput, "missing.onnx", "inspect", "{missing.onnx}"),
        ["inspect: a folder"] = new(InputOutput, "folder", "inspect", "{folder}"),
        ["morph: no such file"] = new(InputOutput, "missing.onnx", "morph", "{missing.onnx}", "-o", "{out}", "--widen", "*=x2"),
        ["morph: a folder"] = new(InputOutput, "folder", "morph", "{folder}", "-o", "{out}", "--widen", "*=x2"),
        ["verify: no such child"] = new(InputOutput, "missing.onnx", "verify", "{model}", "{missing.onnx}"),
        ["verify: no such parent"] = new(InputOutput, "missing.onnx", "verify", "{missing.onnx}", "{model}"),
        ["verify: another function"] = new(Failed, "logits", "verify", "{model}", "{mobilenet}"),
        ["verify: another signature"] = new(Failed, "no output 'logits'", "verify", "{model}", "{renamed}"),
    };

    public static IEnumerable<TheoryDataRow<string>> Cases => s_cases.Keys.Select(name => new TheoryDataRow<string>(name));

    [Theory]
    [MemberData(nameof(Cases))]
    public Task Ends_with_its_code_and_leaves_nothing(string name) => Check(s_cases[name]);

    /// <summary>Files that are no models, and what the sentence must say.</summary>
    public static TheoryData<string, string> Unreadables => new()
    {
        { "empty", "empty" },
        { "text", "not an ONNX model" },
        { "picture", "not an ONNX model" },
        { "cut short", "cut short" },
        { "cyclic", "'/0/Conv'" },
        { "dangling", "'nowhere'" },
        { "twice the same value", "'/0/Conv_output_0'" },
        { "weights outside the folder", "../" },
    };

    [Theory]
    [MemberData(nameof(Unreadables))]
    public async Task Refuses_what_is_no_model(string kind, string says)
    {
        File.WriteAllBytes(_files["bad.onnx"], Damaged(kind));
        await Check(new(Unreadable, says, "inspect", "{bad.onnx}"));
        await Check(new(Unreadable, says, "morph", "{bad.onnx}", "-o", "{out}", "--widen", "*=x2"));
        await Check(new(Unreadable, says, "morph", "{bad.onnx}", "-o", "{out}"));
    }

    [Theory]
    [InlineData("text")]
    [InlineData("cut short")]
    [InlineData("dangling")]
    public async Task Verify_refuses_what_is_no_model(string kind)
    {
        File.WriteAllBytes(_files["bad.onnx"], Damaged(kind));
        await Check(new(Unreadable, "bad.onnx", "verify", "{bad.onnx}", "{model}"));
        await Check(new(Unreadable, "bad.onnx", "verify", "{model}", "{bad.onnx}"));
    }

    [Fact]
    public void A_child_that_fails_verification_is_not_left()
    {
        // Copies are summed in another order than the parent sums, so the child cannot have the parent's bits.
        SortedDictionary<string, string> before = _files.Snapshot();
        MorphReport report = new MorphJob
        {
            Parent = s_model,
            Output = _files["child.onnx"],
            Certificate = _files["child.json"],
            Recipe = new Recipe([new StepSpec("widen", "*", new Dictionary<string, string> { ["size"] = "x1.5" })]),
            Verify = new VerifyOptions { Accept = Exactness.BitExact },
        }.Run(TestContext.Current.CancellationToken);
        Assert.Null(report.Output);
        Assert.False(report.Verification!.Passed);
        Assert.Equal(before, _files.Snapshot());
    }

    [Fact]
    public void Without_its_certificate_a_child_is_not_left()
    {
        // Something takes the certificate's name while the child is verified.
        var job = new MorphJob
        {
            Parent = s_model,
            Output = _files["child.onnx"],
            Certificate = _files["child.json"],
            Recipe = new Recipe([new StepSpec("widen", "*", new Dictionary<string, string> { ["size"] = "x1.5" })]),
            Progress = new Stages(stage =>
            {
                if (stage == "verifying")
                    Directory.CreateDirectory(_files["child.json"]);
            }),
        };
        var error = Assert.Throws<OnnxMorphException>(() => job.Run(TestContext.Current.CancellationToken));
        Assert.Equal(ExitCode.InputOutput, error.ExitCode);
        Assert.Equal(["child.json"], _files.Snapshot().Keys);
    }

    private async Task Check(Case expected)
    {
        Prepare();
        string[] args = [.. expected.Args.Select(Resolve)];
        SortedDictionary<string, string> before = _files.Snapshot();

        Command text = await Command.Run(args);
        Assert.Equal(expected.Code, text.Code);
        Assert.Contains(expected.Says, text.Error);
        Assert.DoesNotContain("   at ", text.Error);
        if (expected.Code != Failed)
            Assert.Empty(text.Output);
        Assert.Equal(before, _files.Snapshot());

        Command json = await Command.Run([.. args, "--json"]);
        Assert.Equal(expected.Code, json.Code);
        Assert.Contains(expected.Says, json.Error);
        if (expected.Code != Failed)
        {
            Assert.Equal(expected.Code, json.Document().GetProperty("exitCode").GetInt32());
            Assert.Contains(expected.Says, json.Document().GetProperty("error").GetString());
        }
        else
        {
            Assert.False(json.Document().GetProperty("passed").GetBoolean());
            Assert.Contains(expected.Says, json.Document().GetProperty("reason").GetString());
        }

        Assert.Equal(before, _files.Snapshot());
    }

    private void Prepare()
    {
        Directory.CreateDirectory(_files["folder"]);
        File.WriteAllText(_files["there"], "kept");
        File.Copy(s_model, _files["copy"], overwrite: true);
        File.WriteAllBytes(_files["cut.npz"], File.ReadAllBytes(Workspace.Samples)[..1000]);
        ModelProto renamed = Parse();
        renamed.Graph.Output[0].Name = "scores";
        renamed.Graph.Node[^1].Output[0] = "scores";
        File.WriteAllBytes(_files["renamed"], renamed.ToByteArray());
        ModelProto plain = Parse();
        plain.Graph.Initializer.Clear();
        plain.Graph.Node.Clear();
        plain.Graph.Node.Add(new NodeProto { OpType = "Flatten", Name = "flatten", Input = { "image" }, Output = { "logits" } });
        plain.Graph.Output[0].Type.TensorType.Shape.Dim[1].DimValue = 256;
        File.WriteAllBytes(_files["no layers"], plain.ToByteArray());
    }

    private string Resolve(string argument) => argument switch
    {
        "{model}" => s_model,
        "{mobilenet}" => Workspace.Model("digits_mobilenet.onnx"),
        ['{', .. var file, '}'] => _files[file],
        _ => argument,
    };

    private static ModelProto Parse() => ModelProto.Parser.ParseFrom(File.ReadAllBytes(s_model));

    private static byte[] Damaged(string kind)
    {
        byte[] whole = File.ReadAllBytes(s_model);
        ModelProto model = Parse();
        NodeProto conv = model.Graph.Node.First(n => n.OpType == "Conv");
        switch (kind)
        {
            case "empty":
                return [];
            case "text":
                return "pip install onnx\n"u8.ToArray();
            case "picture":
                return [0x89, .. "PNG\r\n\u001a\n"u8, 0, 0, 0, 13, .. "IHDR"u8, .. new byte[64]];
            case "cut short":
                return whole[..(whole.Length / 2)];
            case "cyclic":
                conv.Input[0] = model.Graph.Node.First(n => n.OpType == "Relu").Output[0];
                break;
            case "dangling":
                conv.Input[0] = "nowhere";
                break;
            case "twice the same value":
                model.Graph.Node[1].Output[0] = conv.Output[0];
                break;
            case "weights outside the folder":
                TensorProto weight = model.Graph.Initializer[0];
                weight.ClearRawData();
                weight.DataLocation = TensorProto.Types.DataLocation.External;
                weight.ExternalData.Add(new StringStringEntryProto { Key = "location", Value = "../weights.bin" });
                break;
        }

        return model.ToByteArray();
    }
}
