using System.Text.Json;
using OnnxMorph.Cli.Tests.Testing;

namespace OnnxMorph.Cli.Tests;

/// <summary>rank: the order, the index, and every way to fail.</summary>
public sealed class RankTests : IDisposable
{
    private const int Usage = 2, Unreadable = 3, InputOutput = 5;

    private static readonly string s_resnet = Workspace.Model("digits_resnet.onnx");

    private readonly Workspace _files = new();

    public void Dispose() => _files.Dispose();

    [Fact]
    public async Task Ranking_a_folder_gives_what_similarity_gives()
    {
        string folder = Path.GetDirectoryName(s_resnet)!;
        string[] models = Directory.GetFiles(folder, "*.onnx");
        var expected = new Dictionary<string, double[]>();
        foreach (string model in models)
        {
            JsonElement one = (await Command.Succeed("similarity", model, s_resnet, "--json")).Document();
            expected[model] = [one.GetProperty("similarity").GetDouble(), one.GetProperty("forward").GetDouble(), one.GetProperty("backward").GetDouble()];
        }

        foreach (string[] more in (string[][])[[], ["--index", _files["i.db"]], ["--index", _files["i.db"]]])
        {
            Command run = await Command.Succeed(["rank", s_resnet, folder, s_resnet, "--json", .. more]);
            JsonElement document = run.Document();
            Assert.Equal(["target", "ranked", "candidates", "unreadable", "analysed", "warning"], document.EnumerateObject().Select(p => p.Name));
            JsonElement[] candidates = [.. document.GetProperty("candidates").EnumerateArray()];
            Assert.Equal(models.Order(StringComparer.Ordinal), candidates.Select(c => c.GetProperty("path").GetString()).Order(StringComparer.Ordinal));
            foreach (JsonElement candidate in candidates)
            {
                Assert.Equal(["path", "similarity", "forward", "backward", "warning"], candidate.EnumerateObject().Select(p => p.Name));
                double[] found = [candidate.GetProperty("similarity").GetDouble(), candidate.GetProperty("forward").GetDouble(), candidate.GetProperty("backward").GetDouble()];
                Assert.Equal(expected[candidate.GetProperty("path").GetString()!], found);
                Assert.Equal(found[0] < 0.5, candidate.GetProperty("warning").ValueKind == JsonValueKind.String);
            }

            double[] similarities = [.. candidates.Select(c => c.GetProperty("similarity").GetDouble())];
            Assert.Equal(similarities.OrderDescending(), similarities);
            Assert.Equal((s_resnet, 1.0), (candidates[0].GetProperty("path").GetString(), similarities[0]));
            Assert.Contains("below 0.5", run.Error);
        }

        Command top = await Command.Succeed("rank", s_resnet, "--index", _files["i.db"], "--top", "1");
        Assert.Contains("digits_resnet_folded.onnx", top.Output);
        Assert.Contains($"and {models.Length - 2} more", top.Output);
        Assert.Equal(1, (await Command.Succeed("rank", s_resnet, folder, "--top", "1", "--json")).Document().GetProperty("candidates").GetArrayLength());
    }

    [Fact]
    public async Task Candidates_that_cannot_be_read_do_not_stop_the_others()
    {
        string text = _files["text.onnx"], cut = _files["cut.onnx"];
        await File.WriteAllTextAsync(text, "no model", TestContext.Current.CancellationToken);
        await File.WriteAllBytesAsync(cut, (await File.ReadAllBytesAsync(s_resnet, TestContext.Current.CancellationToken))[..5000], TestContext.Current.CancellationToken);
        foreach (string[] more in (string[][])[[], ["--index", _files["i.db"]]])
        {
            Command run = await Command.Succeed(["rank", s_resnet, text, s_resnet, cut, "--json", .. more]);
            Assert.Equal([s_resnet], run.Document().GetProperty("candidates").EnumerateArray().Select(c => c.GetProperty("path").GetString()));
            Assert.Equal([text, cut], run.Document().GetProperty("unreadable").EnumerateArray().Select(c => c.GetProperty("path").GetString()).OrderDescending());
            Command none = await Command.Run(["rank", s_resnet, text, cut, "--json", .. more]);
            Assert.Equal(Unreadable, none.Code);
            Assert.Contains("No candidate", none.Error);
            Assert.Equal(2, none.Document().GetProperty("unreadable").GetArrayLength());
        }
    }

    [Fact]
    public async Task Every_failure_has_a_code_and_a_sentence()
    {
        string empty = _files["empty"], index = _files["i.db"], other = _files["other.db"];
        Directory.CreateDirectory(empty);
        await File.WriteAllTextAsync(other, new string('x', 2000), TestContext.Current.CancellationToken);
        SortedDictionary<string, string> before = _files.Snapshot();
        foreach ((int code, string says, string[] args) in ((int, string, string[])[])[
            (Usage, "CANDIDATE", [s_resnet]),
            (Usage, "--index", [s_resnet, s_resnet, "--prune"]),
            (Usage, "'0'", [s_resnet, s_resnet, "--top", "0"]),
            (Usage, "'many'", [s_resnet, s_resnet, "--top", "many"]),
            (Usage, empty, [s_resnet, empty]),
            (Usage, "holds no candidates", [s_resnet, "--index", index]),
            (InputOutput, "missing.onnx", [s_resnet, s_resnet, _files["missing.onnx"]]),
            (InputOutput, "missing.onnx", [_files["missing.onnx"], s_resnet, "--index", index]),
            (Unreadable, "other.db", [other, s_resnet, "--index", index]),
            (InputOutput, "delete it", [s_resnet, s_resnet, "--index", other]),
            (InputOutput, "is a folder", [s_resnet, s_resnet, "--index", empty]),
            (InputOutput, "create it first", [s_resnet, s_resnet, "--index", _files["none/i.db"]]),
        ])
        {
            Command run = await Command.Run(["rank", .. args, "--json"]);
            Assert.True(code == run.Code && run.Error.Contains(says, StringComparison.Ordinal), $"{string.Join(' ', args)}: {run.Code}, {run.Error}");
            Assert.Equal(code, run.Document().GetProperty("exitCode").GetInt32());
        }

        Assert.Equal(before, _files.Snapshot());
    }
}
