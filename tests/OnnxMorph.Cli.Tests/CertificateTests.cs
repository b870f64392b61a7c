using System.Text.Json;
using System.Text.Json.Nodes;
using OnnxMorph.Cli.Tests.Testing;

namespace OnnxMorph.Cli.Tests;

/// <summary>The relations of a certificate hold between the values that parent and child compute under ONNX Runtime.</summary>
public sealed class CertificateTests : IDisposable
{
    // Relative to the value's largest element: a hundred times what single precision rounds in such small networks.
    private const double Tolerance = 1e-4;

    private readonly Workspace _files = new();

    public void Dispose() => _files.Dispose();

    public static TheoryData<string, string[]> Morphs()
    {
        var morphs = new TheoryData<string, string[]>();
        foreach (string model in (string[])["digits_resnet", "digits_resnet_folded", "digits_mobilenet", "digits_transformer"])
        {
            morphs.Add(model, ["--widen", "*=x1.5"]);
            morphs.Add(model, ["--widen", "*=x2", "--deepen", "*", "--kernel", "*=+2"]);
            morphs.Add(model, ["--widen", "*=x1.5", "--widen", "*=x1.5"]);
        }

        morphs.Add("digits_resnet", ["--widen", "*=x1.5", "--widen-method", "zero"]);
        morphs.Add("digits_mobilenet", ["--widen", "*=+5", "--widen-method", "opposed", "--deepen", "*"]);
        return morphs;
    }

    [Theory]
    [MemberData(nameof(Morphs))]
    public async Task Relations_hold_numerically(string model, string[] steps)
    {
        string parentFile = Workspace.Model(model + ".onnx"), childFile = _files["child.onnx"], certificateFile = _files["child.json"];
        await Command.Succeed(["morph", parentFile, "-o", childFile, "--certificate", certificateFile, .. steps]);
        JsonElement certificate = JsonDocument.Parse(File.ReadAllText(certificateFile)).RootElement;
        Assert.Equal("onnxmorph-certificate", certificate.GetProperty("format").GetString());
        Assert.Equal(2, certificate.GetProperty("version").GetInt32());
        Assert.Equal(steps.Count(s => s is "--widen" or "--deepen" or "--kernel"), certificate.GetProperty("steps").GetArrayLength());

        Dictionary<string, Value> parent = OnnxFile.RunExposed(parentFile, Digits.First(3)), child = OnnxFile.RunExposed(childFile, Digits.First(3));
        var relations = certificate.GetProperty("values").EnumerateArray().ToDictionary(
            v => v.GetProperty("name").GetString()!, v => v.GetProperty("axes").EnumerateArray().ToDictionary(a => a.GetProperty("axis").GetInt32(), a => a));
        int compared = 0;
        HashSet<string> activations = OnnxFile.Activations(parentFile);
        foreach ((string name, Value before) in parent)
        {
            // Weights that nodes compute from constants are no values of the network.
            if (!activations.Contains(name) || !child.TryGetValue(name, out Value? after))
                continue;
            // A value that the certificate does not list is what it was.
            Dictionary<int, JsonElement> axes = relations.GetValueOrDefault(name) ?? [];
            (int Source, double Weight)[][][] sources = [.. before.Shape.Select((size, axis) => axes.TryGetValue(axis, out JsonElement map)
                ? Sources(map, size) : [.. Enumerable.Range(0, size).Select(c => ((int, double)[])[(c, 1)])])];
            Assert.Equal(sources.Select(s => s.Length), after.Shape);
            Compare(name, before, after, sources);
            compared++;
        }

        Assert.True(compared >= relations.Count && relations.Count > 20, $"{compared} values compared, {relations.Count} relations");
    }

    [Fact]
    public async Task Verify_proves_a_certificate_and_finds_what_is_wrong()
    {
        string parent = Workspace.Model("digits_transformer.onnx"), child = _files["child.onnx"], certificate = _files["child.json"];
        await Command.Succeed("morph", parent, "-o", child, "--certificate", certificate, "--widen", "*=x1.5");
        Command good = await Command.Succeed("verify", parent, child, "--certificate", certificate, "--json");
        JsonElement found = good.Document().GetProperty("certificate");
        Assert.True(found.GetProperty("passed").GetBoolean());
        Assert.Equal(113, found.GetProperty("checked").GetInt32());
        Assert.Equal(0, found.GetProperty("unproven").GetArrayLength());
        Assert.Contains("certificate: proven; 113 values", good.Error);

        // The right child beside a certificate that says something else of one value.
        JsonNode text = JsonNode.Parse(File.ReadAllText(certificate))!;
        text["values"]![0]!["axes"]![0]!["sources"]![0]![0] = 1;
        string wrong = _files["wrong.json"];
        File.WriteAllText(wrong, text.ToJsonString());
        Command bad = await Command.Run("verify", parent, child, "--certificate", wrong, "--json");
        Assert.Equal(1, bad.Code);
        Assert.True(bad.Document().GetProperty("certificate").GetProperty("failed").GetArrayLength() > 0);
        Assert.Contains("The certificate is wrong about", bad.Error);

        Assert.Equal(5, (await Command.Run("verify", parent, child, "--certificate", _files["none.json"])).Code);
        Assert.Equal(2, (await Command.Run("verify", parent, child, "--certificate", parent)).Code);
        Assert.Equal(2, (await Command.Run("verify", Workspace.Model("digits_resnet.onnx"), Workspace.Model("digits_resnet.onnx"), "--certificate", certificate)).Code);
    }

    // The terms of each channel of the child, from runs of [source, count], [source, count, weight] and {count, terms}.
    private static (int Source, double Weight)[][] Sources(JsonElement axis, int parentSize)
    {
        (int Source, double Weight)[][] sources = [.. axis.GetProperty("sources").EnumerateArray().SelectMany(Run)];
        Assert.Equal(parentSize, axis.GetProperty("parentSize").GetInt32());
        Assert.Equal(sources.Length, axis.GetProperty("childSize").GetInt32());
        // No channel of the parent is lost. The relation's name says whether the child has channels of its own, each once, or
        // both copies and such channels.
        int[] picks = [.. sources.Where(s => s.Length == 1).Select(s => s[0].Source)];
        Assert.Subset(picks.ToHashSet(), Enumerable.Range(0, parentSize).ToHashSet());
        string relation = picks.All(s => s < parentSize) ? "embed" : picks.Distinct().Count() == sources.Length ? "project" : "embed and project";
        Assert.Equal(relation, axis.GetProperty("relation").GetString());
        return sources;
    }

    private static IEnumerable<(int, double)[]> Run(JsonElement run)
    {
        if (run.ValueKind == JsonValueKind.Object)
            return Enumerable.Repeat<(int, double)[]>([.. run.GetProperty("terms").EnumerateArray().Select(t => (t[0].GetInt32(), t[1].GetDouble()))], run.GetProperty("count").GetInt32());
        int first = run[0].GetInt32();
        double weight = run.GetArrayLength() > 2 ? run[2].GetDouble() : 1;
        return Enumerable.Range(0, run[1].GetInt32()).Select(i => first < 0 ? ((int, double)[])[] : [(first + i, weight)]);
    }

    // child[c₀, c₁, …] = Σ weights × parent[s₀, s₁, …] over the terms of every axis where all of them are the parent's; equal sources
    // elsewhere are equal channels of the child.
    private static void Compare(string name, Value parent, Value child, (int Source, double Weight)[][][] sources)
    {
        double scale = parent.Elements.Concat(child.Elements).Max(x => (double)MathF.Abs(x));
        var own = new Dictionary<string, double>();
        var index = new int[child.Shape.Length];
        for (int i = 0; i < child.Elements.Length; i++)
        {
            var terms = new List<(int At, double Weight, bool Own, string Source)> { (0, 1, false, "") };
            for (int axis = 0; axis < index.Length; axis++)
                terms = [.. from term in terms
                    from next in sources[axis][index[axis]]
                    select (term.At * parent.Shape[axis] + next.Source, term.Weight * next.Weight, term.Own || next.Source >= parent.Shape[axis], $"{term.Source},{next.Source}")];
            double expected;
            if (!terms.Any(t => t.Own))
                expected = terms.Sum(t => t.Weight * parent.Elements[t.At]);
            else if (!own.TryGetValue(Assert.Single(terms).Source, out expected))
                own.Add(terms[0].Source, expected = child.Elements[i]);

            if (!(Math.Abs(child.Elements[i] - expected) <= Tolerance * scale))
                Assert.Fail($"'{name}' at {string.Join(',', index)} is {child.Elements[i]}, expected {expected}");
            for (int axis = index.Length - 1; axis >= 0 && ++index[axis] == child.Shape[axis]; axis--)
                index[axis] = 0;
        }
    }
}
