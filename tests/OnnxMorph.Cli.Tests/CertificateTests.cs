using System.Text.Json;
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
            int[][] sources = [.. before.Shape.Select((size, axis) => axes.TryGetValue(axis, out JsonElement map) ? Sources(map, size) : [.. Enumerable.Range(0, size)])];
            Assert.Equal(sources.Select(s => s.Length), after.Shape);
            Compare(name, before, after, sources);
            compared++;
        }

        Assert.True(compared >= relations.Count && relations.Count > 20, $"{compared} values compared, {relations.Count} relations");
    }

    // Runs of [source, count], one source for each channel of the child.
    private static int[] Sources(JsonElement axis, int parentSize)
    {
        int[] sources = [.. axis.GetProperty("sources").EnumerateArray().SelectMany(run => Enumerable.Range(run[0].GetInt32(), run[1].GetInt32()))];
        Assert.Equal(parentSize, axis.GetProperty("parentSize").GetInt32());
        Assert.Equal(sources.Length, axis.GetProperty("childSize").GetInt32());
        // No channel of the parent is lost. The relation's name says whether the child only copies channels, only adds some of
        // its own, or has copies of either kind.
        Assert.Subset(sources.ToHashSet(), Enumerable.Range(0, parentSize).ToHashSet());
        string relation = sources.All(s => s < parentSize) ? "embed" : sources.Distinct().Count() == sources.Length ? "project" : "embed and project";
        Assert.Equal(relation, axis.GetProperty("relation").GetString());
        return sources;
    }

    // child[c₀, c₁, …] = parent[sources₀[c₀], sources₁[c₁], …] where all of them are the parent's; equal sources elsewhere are
    // equal channels of the child.
    private static void Compare(string name, Value parent, Value child, int[][] sources)
    {
        double scale = parent.Elements.Concat(child.Elements).Max(x => (double)MathF.Abs(x));
        var own = new Dictionary<string, float>();
        var index = new int[child.Shape.Length];
        for (int i = 0; i < child.Elements.Length; i++)
        {
            int[] source = [.. index.Select((c, axis) => sources[axis][c])];
            float expected;
            if (source.Select((s, axis) => s < parent.Shape[axis]).All(inside => inside))
            {
                int at = 0;
                for (int axis = 0; axis < source.Length; axis++)
                    at = at * parent.Shape[axis] + source[axis];
                expected = parent.Elements[at];
            }
            else if (!own.TryGetValue(string.Join(',', source), out expected))
            {
                own.Add(string.Join(',', source), expected = child.Elements[i]);
            }

            if (!(Math.Abs(child.Elements[i] - expected) <= Tolerance * scale))
                Assert.Fail($"'{name}' at {string.Join(',', index)} is {child.Elements[i]}, and its source {string.Join(',', source)} is {expected}");
            for (int axis = index.Length - 1; axis >= 0 && ++index[axis] == child.Shape[axis]; axis--)
                index[axis] = 0;
        }
    }
}
