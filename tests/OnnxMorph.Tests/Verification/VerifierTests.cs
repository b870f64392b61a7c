using System.Collections.Immutable;
using System.Text.Json;
using OnnxMorph.Verification;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Verification.TestGraph;

namespace OnnxMorph.Tests.Verification;

public sealed class VerifierTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("verifier-").FullName;
    private readonly Dictionary<string, TestGraph> _graphs = [];

    private static CancellationToken Stop => TestContext.Current.CancellationToken;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Fact]
    public void AModelIsBitExactToItself()
    {
        VerificationReport report = Compare(Cnn(), Cnn());
        Assert.True(report.Passed);
        Assert.Equal(Exactness.BitExact, report.Exactness);
        Assert.Equal(8, report.Inputs.Count);
        OutputReport output = Assert.Single(report.Outputs);
        Assert.Equal((0, 0, 0L), (output.MaxAbs, output.MaxRel, output.MaxUlp));
        // Some hundred float32 roundings: a few parts in 10⁷, and nowhere near 10⁻⁵.
        Assert.InRange(output.NoiseFloor, 5e-8, 1e-5);
    }

    [Fact]
    public void AFactoredConvolutionIsRounding()
    {
        for (ulong seed = 0; seed < 6; seed++)
        {
            VerificationReport report = Compare(Cnn(), Factored(Cnn(), (int)seed), new VerifyOptions { Seed = seed });
            Assert.True(report.Passed, report.Reason);
            Assert.Equal(Exactness.Rounding, report.Exactness);
            Assert.True(report.Outputs[0].NoiseRatio > 0);
        }
    }

    [Theory]
    [InlineData("w1")]
    [InlineData("w2")]
    [InlineData("fc")]
    public void OneWeightOffByAThousandthFails(string weight)
    {
        TestGraph cnn = Cnn();
        float[] values = cnn.Weights[weight].Values;
        float median = values.Select(Math.Abs).Order().ElementAt(values.Length / 2);
        int index = Array.FindIndex(values, v => Math.Abs(v) == median);
        VerificationReport report = Compare(cnn, cnn.WithNumber(weight, index, v => v * 1.001f));
        Assert.False(report.Passed);
        Assert.Equal(Exactness.Approximate, report.Exactness);
        Assert.Contains("times the parent's own noise", report.Reason);
    }

    [Fact]
    public void SwappedChannelsFail()
    {
        TestGraph cnn = Cnn();
        float[] values = [.. cnn.Weights["w2"].Values];
        // Output channels 0 and 1, 72 numbers each, without their consumer's columns.
        for (int i = 0; i < 72; i++)
            (values[i], values[72 + i]) = (values[72 + i], values[i]);
        VerificationReport report = Compare(cnn, cnn.WithWeight("w2", values));
        Assert.Equal(Exactness.Different, report.Exactness);
    }

    [Fact]
    public void PaddingOnTheWrongConvolutionFails()
    {
        // A 3×3 in two steps: a biased 1×1, then the 3×3 with the padding on it. Inside the image it is the same.
        TestGraph parent = new()
        {
            Inputs = [new("x", ElementType.Float32, 1, 2, 24, 24)],
            Outputs = [new("y", ElementType.Float32, 1, 2, 24, 24)],
            Weights = Weights(("w", [2, 2, 3, 3], Random(1, 36)), ("id", [2, 2, 1, 1], [1, 0, 0, 1]), ("b", [2], [0.5f, -0.25f])),
            Nodes =
            [
                new("Conv", ["x", "id", "b"], ["h"], ("pads", new[] { 1, 1, 1, 1 })),
                new("Conv", ["h", "w"], ["y"]),
            ],
        };
        TestGraph child = parent with
        {
            Nodes = [new("Conv", ["x", "id", "b"], ["h"]), new("Conv", ["h", "w"], ["y"], ("pads", new[] { 1, 1, 1, 1 }))],
        };
        VerificationReport report = Compare(parent, child);
        Assert.Equal(Exactness.Different, report.Exactness);
    }

    [Fact]
    public void AFaultInASmallScoreBesideLargeCoordinatesFails()
    {
        // Column 0 is of the order 10³, column 1 of 10⁻³; a fault of 1 % in it is 10⁻⁸ of the tensor's scale.
        TestGraph parent = new()
        {
            Inputs = [new("x", ElementType.Float32, 64, 4)],
            Outputs = [new("y", ElementType.Float32, 64, 2)],
            Weights = Weights(("w", [4, 2], [900, 1e-3f, -500, 2e-3f, 700, -1e-3f, 300, 3e-3f])),
            Nodes = [new("MatMul", ["x", "w"], ["y"])],
        };
        VerificationReport report = Compare(parent, parent.WithNumber("w", 3, v => v * 1.01f));
        Assert.False(report.Passed);
        Assert.Contains("axis 1 index 1", report.Outputs[0].Worst);
        Assert.True(report.Outputs[0].MaxRel < 1e-6);
    }

    [Fact]
    public void NaNOrInfinityInOneModelOnlyNeverPasses()
    {
        TestGraph parent = Unary("Identity");
        foreach (VerifyOptions options in new VerifyOptions[] { new(), new() { Accept = Exactness.Approximate } })
        {
            VerificationReport report = Compare(parent, Unary("Sqrt"), options);
            Assert.False(report.Passed);
            Assert.Contains("NaN", report.Reason);
        }

        // The reverse: the samples make the parent NaN and not the child.
        string samples = Path.Combine(_folder, "negative.npy");
        File.WriteAllBytes(samples, Npy("<f4", "(2, 3)", [.. new float[] { -1, 2, 3, -4, 5, 6 }.SelectMany(BitConverter.GetBytes)]));
        VerificationReport reverse = Compare(Unary("Sqrt"), Unary("Abs"), new VerifyOptions { InputsPath = samples });
        Assert.False(reverse.Passed);
        // The same NaN in both is the same function.
        Assert.True(Compare(Unary("Sqrt"), Unary("Sqrt"), new VerifyOptions { InputsPath = samples }).Passed);
    }

    [Fact]
    public void DrawsAvoidTheParentsNaN()
    {
        // sqrt of standard normal numbers is NaN, of uniform [0, 1) it is not.
        VerificationReport report = Compare(Unary("Sqrt"), Unary("Sqrt"));
        Assert.True(report.Passed);
        Assert.All(report.Inputs, input => Assert.Contains("uniform", input.Description));

        TestGraph always = new()
        {
            Inputs = [new("x", ElementType.Float32, 2, 3)],
            Outputs = [new("y", ElementType.Float32, 2, 3)],
            Weights = Weights(("minus", [], [-1])),
            Nodes = [new("Sqrt", ["minus"], ["n"]), new("Mul", ["x", "n"], ["y"])],
        };
        UsageException error = Assert.Throws<UsageException>(() => Compare(always, always));
        Assert.Contains("has NaN", error.Message);
    }

    [Fact]
    public void MatchingInfinitiesAreNoDifference()
    {
        TestGraph log = new()
        {
            Inputs = [new("x", ElementType.Float32, 4, 8)],
            Outputs = [new("y", ElementType.Float32, 4, 8)],
            Nodes = [new("Relu", ["x"], ["r"]), new("Log", ["r"], ["y"])],
        };
        Assert.True(Compare(log, log).Passed);
    }

    [Fact]
    public void SizesThatTheParentRefusesAreSkippedAndTold()
    {
        // 6×6 valid convolution: nothing below 6 runs, and the child agrees on the rest.
        TestGraph big = new()
        {
            Inputs = [new("x", ElementType.Float32, "N", 1, "H", "W")],
            Outputs = [new("y", ElementType.Float32, "N", 1, "h", "w")],
            Weights = Weights(("w", [1, 1, 6, 6], Random(3, 36))),
            Nodes = [new("Conv", ["x", "w"], ["y"])],
        };
        VerificationReport report = Compare(big, big);
        Assert.True(report.Passed);
        Assert.Equal(3, report.Skipped.Count);
        Assert.Contains("H = 1", report.Skipped[0].Description);
        Assert.Equal(5, report.Inputs.Count);
    }

    [Fact]
    public void AChildThatOnlyFailsOnATinySizeFails()
    {
        TestGraph parent = new()
        {
            Inputs = [new("x", ElementType.Float32, "N", 1, "H", "W")],
            Outputs = [new("y", ElementType.Float32, "N", 1, "H", "W")],
            Weights = Weights(("w", [1, 1, 3, 3], [0, 0, 0, 0, 2, 0, 0, 0, 0]), ("centre", [1, 1, 1, 1], [2]), ("one", [1, 1, 3, 3], [0, 0, 0, 0, 1, 0, 0, 0, 0])),
            Nodes = [new("Conv", ["x", "centre"], ["y"])],
        };
        TestGraph child = parent with
        {
            Nodes = [new("Conv", ["x", "w"], ["i"]), new("ConvTranspose", ["i", "one"], ["y"])],
        };
        VerificationReport report = Compare(parent, child);
        Assert.False(report.Passed);
        Assert.Empty(report.Outputs);
    }

    [Fact]
    public void OneWrongRowOfAnEmbeddingIsFound()
    {
        // Vocabulary 50: the draws must find its bound and reach its last rows.
        TestGraph parent = Embedding();
        VerificationReport good = Compare(parent, parent);
        Assert.True(good.Passed, good.Reason);
        Assert.Contains(good.Inputs, input => input.Description.Contains("below 50", StringComparison.Ordinal));
        VerificationReport report = Compare(parent, parent.WithNumber("table", 49 * 4 + 1, v => v + 0.01f));
        Assert.False(report.Passed);
    }

    [Fact]
    public void WithoutFloatInputsTheWeightsArePerturbed()
    {
        TestGraph parent = Embedding();
        string path = Write(parent);
        VerificationReport without = Verifier.Compare(path, path, new VerifyOptions(), Stop);
        Assert.Contains(without.Notes, note => note.Contains("rests on optimisation levels", StringComparison.Ordinal));
        VerificationReport with = Verifier.Compare(path, path, new VerifyOptions { Probe = new TestProbe(_graphs) }, Stop);
        Assert.Empty(with.Notes);
        Assert.True(with.Outputs[0].NoiseFloor > without.Outputs[0].NoiseFloor);

        // A factored projection has other roundings: more than one unit in the last place of the scale, and still passes.
        VerificationReport report = Compare(parent, FactoredEmbedding(parent), new VerifyOptions());
        Assert.True(report.Passed, report.Reason);
        Assert.Equal(Exactness.Rounding, report.Exactness);
    }

    [Fact]
    public void ChildrenThatShareAParentGetTheReportsOfTheirOwn()
    {
        TestGraph parent = Embedding();
        string path = Write(parent);
        // The failure in between leaves nothing behind.
        string[] children = [Write(FactoredEmbedding(parent)), Write(parent.WithNumber("table", 49 * 4 + 1, v => v + 0.01f)), path];
        var options = new VerifyOptions { Probe = new TestProbe(_graphs) };
        var verifier = new Verifier(path, options);
        Assert.Equal([true, false, true], children.Select(child => verifier.Compare(child, Stop).Passed));
        Assert.All(children, child => Assert.Equal(Verifier.Compare(path, child, options, Stop).ToJson(), verifier.Compare(child, Stop).ToJson()));
    }

    [Fact]
    public void IntegerOutputsMustBeEqualButForTheParentsOwnTies()
    {
        TestGraph parent = ArgMax(Random(4, 40));
        Assert.Equal(Exactness.BitExact, Compare(parent, parent).Exactness);
        VerificationReport report = Compare(parent, parent.WithWeight("w", [.. parent.Weights["w"].Values.Reverse()]));
        Assert.Equal(Exactness.Different, report.Exactness);
        Assert.Contains("decides the same way every time", report.Reason);
    }

    [Fact]
    public void SequencesOfMapsAreTakenApart()
    {
        TestGraph parent = ZipMap([1, 2, 3]);
        VerificationReport same = Compare(parent, parent);
        Assert.True(same.Passed, same.Reason);
        Assert.Equal(["y"], same.Outputs.Select(o => o.Name));
        Assert.False(Compare(parent, ZipMap([1, 2, 4])).Passed);
        Assert.False(Compare(parent, ZipMap([1, 2, 3], scale: 1.001f)).Passed);
    }

    [Fact]
    public void TheFirstDivergenceIsNamed()
    {
        TestGraph cnn = Cnn();
        VerificationReport report = Compare(cnn, cnn.WithNumber("w2", 5, v => v + 0.01f));
        Assert.Equal("c2", report.Outputs[0].FirstDivergence);
        Assert.Contains("'c2'", report.Reason);
        // What comes before in another order of rounding is no divergence.
        VerificationReport behind = Compare(cnn, Factored(cnn, 1).WithNumber("fc", 0, v => v + 0.01f));
        Assert.Equal("logits", behind.Outputs[0].FirstDivergence);
    }

    [Theory]
    [InlineData("input", "x")]
    [InlineData("output", "logits")]
    public void SignaturesMustMatch(string what, string name)
    {
        TestGraph cnn = Cnn();
        TestGraph renamed = what == "input"
            ? cnn with { Inputs = [new("z", ElementType.Float32, "N", 3, "H", "W")], Nodes = cnn.Nodes.SetItem(0, new("Conv", ["z", "w1", "b1"], ["c1"], ("pads", new[] { 1, 1, 1, 1 }))) }
            : cnn with { Outputs = [new("p", ElementType.Float32, "N", 8, 1, 1)] };
        VerificationReport report = Compare(cnn, renamed);
        Assert.False(report.Passed);
        Assert.Equal(Exactness.Different, report.Exactness);
        Assert.Equal($"The child has no {what} '{name}'.", report.Reason);
    }

    [Fact]
    public void AChildThatFixesWhatTheParentLeavesOpenIsRefused()
    {
        TestGraph child = Cnn() with { Inputs = [new("x", ElementType.Float32, 1, 3, "H", "W")] };
        VerificationReport report = Compare(Cnn(), child);
        Assert.Equal("The input 'x' is Float32[1,3,H,W] in the child and Float32[N,3,H,W] in the parent.", report.Reason);
        Assert.True(Compare(child, Cnn()).Passed);
    }

    [Fact]
    public void ApproximatePassesOnlyWhereItIsAccepted()
    {
        TestGraph cnn = Cnn();
        TestGraph near = cnn.WithNumber("w2", 5, v => v * 1.001f);
        Assert.False(Compare(cnn, near).Passed);
        Assert.True(Compare(cnn, near, new VerifyOptions { Accept = Exactness.Approximate }).Passed);
        Assert.False(Compare(cnn, Factored(cnn, 0), new VerifyOptions { Accept = Exactness.BitExact }).Passed);
    }

    [Fact]
    public void ANoisyParentProvesNothing()
    {
        TestGraph random = new()
        {
            Inputs = [new("x", ElementType.Float32, 4, 8)],
            Outputs = [new("y", ElementType.Float32, 4, 8)],
            Weights = Weights(("s", [], [1])),
            Nodes = [new("RandomNormalLike", ["x"], ["r"]), new("Mul", ["x", "s"], ["m"]), new("Add", ["m", "r"], ["y"])],
        };
        VerificationReport report = Compare(random, random.WithWeight("s", [1.5f]));
        Assert.False(report.Passed);
        Assert.Contains("deterministic", report.Reason);
    }

    [Fact]
    public void FilesThatDoNotLoadAreNamedInOneSentence()
    {
        string good = Write(Cnn());
        string bad = Path.Combine(_folder, "bad.onnx");
        File.WriteAllBytes(bad, [1, 2, 3]);
        UnreadableModelException broken = Assert.Throws<UnreadableModelException>(() => Verifier.Compare(good, bad, new VerifyOptions(), Stop));
        Assert.Contains("'bad.onnx'", broken.Message);
        Assert.DoesNotContain('\n', broken.Message);

        string custom = Write(Unary("Frobnicate", domain: "com.example"));
        UnreadableModelException unknown = Assert.Throws<UnreadableModelException>(() => Verifier.Compare(custom, good, new VerifyOptions(), Stop));
        Assert.Contains("has no operator 'com.example:Frobnicate", unknown.Message);

        string future = Write(Unary("Identity") with { Opset = 99 });
        UnreadableModelException opset = Assert.Throws<UnreadableModelException>(() => Verifier.Compare(future, good, new VerifyOptions(), Stop));
        Assert.Contains("opset 99", opset.Message);

        string ir = Write(Unary("Identity") with { IrVersion = 99 });
        UnreadableModelException version = Assert.Throws<UnreadableModelException>(() => Verifier.Compare(ir, good, new VerifyOptions(), Stop));
        Assert.Contains("IR version 99", version.Message);

        OnnxMorphException missing = Assert.Throws<OnnxMorphException>(() => Verifier.Compare(good, Path.Combine(_folder, "none.onnx"), new VerifyOptions(), Stop));
        Assert.Equal(ExitCode.InputOutput, missing.ExitCode);
    }

    [Fact]
    public void TheReportIsTheDocumentedJson()
    {
        TestGraph cnn = Cnn();
        var options = new VerifyOptions { Seed = 7 };
        string json = Compare(cnn, cnn.WithNumber("w2", 5, v => v + 0.01f), options).ToJson();
        using JsonDocument document = JsonDocument.Parse(json);
        JsonElement root = document.RootElement;
        Assert.False(root.GetProperty("passed").GetBoolean());
        Assert.Equal("different", root.GetProperty("exactness").GetString());
        JsonElement output = root.GetProperty("outputs")[0];
        Assert.Equal("logits", output.GetProperty("name").GetString());
        Assert.True(output.GetProperty("maxAbs").GetDouble() > 0);
        Assert.True(output.GetProperty("maxRel").GetDouble() > output.GetProperty("noiseFloor").GetDouble());
        Assert.True(output.GetProperty("maxUlp").GetInt64() > 0);
        Assert.Equal("c2", output.GetProperty("firstDivergence").GetString());
        Assert.Equal(json, Compare(cnn, cnn.WithNumber("w2", 5, v => v + 0.01f), options).ToJson());
    }

    [Fact]
    public void SamplesAreCutToAFixedBatch()
    {
        TestGraph fixedBatch = Unary("Relu");
        string samples = Path.Combine(_folder, "five.npy");
        File.WriteAllBytes(samples, Npy("<f8", "(5, 3)", [.. Enumerable.Range(0, 15).SelectMany(i => BitConverter.GetBytes(i - 7.0))]));
        VerificationReport report = Compare(fixedBatch, fixedBatch, new VerifyOptions { InputsPath = samples });
        Assert.True(report.Passed);
        Assert.Equal(["samples five.npy[0..2)", "samples five.npy[2..4)"], report.Inputs.Select(i => i.Description));
        Assert.Contains(report.Notes, note => note.Contains("last 1 of 5", StringComparison.Ordinal));
    }

    internal static byte[] Npy(string descr, string shape, byte[] data, bool fortran = false, byte major = 1)
    {
        string header = $"{{'descr': '{descr}', 'fortran_order': {(fortran ? "True" : "False")}, 'shape': {shape}, }}";
        int prefix = major == 1 ? 10 : 12;
        header = header.PadRight((prefix + header.Length + 1 + 63) / 64 * 64 - prefix - 1) + "\n";
        byte[] length = major == 1 ? BitConverter.GetBytes((ushort)header.Length) : BitConverter.GetBytes(header.Length);
        return [0x93, .. "NUMPY"u8, major, 0, .. length, .. System.Text.Encoding.UTF8.GetBytes(header), .. data];
    }

    private VerificationReport Compare(TestGraph parent, TestGraph child, VerifyOptions? options = null)
    {
        (string parentPath, string childPath) = (Write(parent), Write(child));
        return Verifier.Compare(parentPath, childPath, (options ?? new VerifyOptions()) with { Probe = new TestProbe(_graphs) }, Stop);
    }

    private string Write(TestGraph graph)
    {
        string path = graph.Save(Path.Combine(_folder, $"{_graphs.Count}.onnx"));
        _graphs[path] = graph;
        return path;
    }

    private static ImmutableSortedDictionary<string, (long[] Shape, float[] Values)> Weights(
        params (string Name, long[] Shape, float[] Values)[] weights) =>
        ImmutableSortedDictionary.CreateRange(weights.Select(w => KeyValuePair.Create(w.Name, (w.Shape, w.Values))));

    /// <summary>Two 3×3 convolutions of 8 channels, pooling, a classifier of 4.</summary>
    private static TestGraph Cnn() => new()
    {
        Inputs = [new("x", ElementType.Float32, "N", 3, "H", "W")],
        Outputs = [new("logits", ElementType.Float32, "N", 4)],
        Weights = Weights(("w1", [8, 3, 3, 3], Random(1, 216, 0.4)), ("b1", [8], Random(2, 8, 0.1)),
            ("w2", [8, 8, 3, 3], Random(3, 576, 0.25)), ("fc", [8, 4], Random(4, 32))),
        Nodes =
        [
            new("Conv", ["x", "w1", "b1"], ["c1"], ("pads", new[] { 1, 1, 1, 1 })),
            new("Relu", ["c1"], ["r1"]),
            new("Conv", ["r1", "w2"], ["c2"], ("pads", new[] { 1, 1, 1, 1 })),
            new("Relu", ["c2"], ["r2"]),
            new("GlobalAveragePool", ["r2"], ["p"]),
            new("Flatten", ["p"], ["f"]),
            new("MatMul", ["f", "fc"], ["logits"]),
        ],
    };

    /// <summary>c2 = w2 * r1 as a 3×3 convolution Qᵀ·w2 and a 1×1 convolution Q, Q a product of plane rotations.</summary>
    private static TestGraph Factored(TestGraph cnn, int seed)
    {
        const int n = 8;
        double[,] q = Rotation(n, seed);
        float[] w = cnn.Weights["w2"].Values;
        var first = new float[w.Length];
        var second = new float[n * n];
        int inner = w.Length / n;
        for (int l = 0; l < n; l++)
        {
            for (int i = 0; i < inner; i++)
            {
                double sum = 0;
                for (int j = 0; j < n; j++)
                    sum += q[j, l] * w[j * inner + i];
                first[l * inner + i] = (float)sum;
            }

            for (int j = 0; j < n; j++)
                second[j * n + l] = (float)q[j, l];
        }

        return cnn with
        {
            Weights = cnn.Weights.SetItem("w2", (cnn.Weights["w2"].Shape, first)).Add("w3", ([n, n, 1, 1], second)),
            Nodes =
            [
                .. cnn.Nodes[..2],
                new("Conv", ["r1", "w2"], ["m"], ("pads", new[] { 1, 1, 1, 1 })),
                new("Conv", ["m", "w3"], ["c2"]),
                .. cnn.Nodes[3..],
            ],
        };
    }

    private static double[,] Rotation(int n, int seed)
    {
        var random = new Random(seed);
        var q = new double[n, n];
        for (int i = 0; i < n; i++)
            q[i, i] = 1;
        for (int a = 0; a < n; a++)
        {
            for (int b = a + 1; b < n; b++)
            {
                (double s, double c) = Math.SinCos(random.NextDouble() * 2 * Math.PI);
                for (int i = 0; i < n; i++)
                    (q[i, a], q[i, b]) = (c * q[i, a] - s * q[i, b], s * q[i, a] + c * q[i, b]);
            }
        }

        return q;
    }

    private static TestGraph Unary(string op, string domain = "") => new()
    {
        Inputs = [new("x", ElementType.Float32, 2, 3)],
        Outputs = [new("y", ElementType.Float32, 2, 3)],
        Nodes = [new(op, ["x"], ["y"]) { Domain = domain }],
    };

    private static TestGraph Embedding() => new()
    {
        Inputs = [new("ids", ElementType.Int64, "N", "T")],
        Outputs = [new("y", ElementType.Float32, "N", "T", 8)],
        Weights = Weights(("table", [50, 4], Random(5, 200)), ("p", [4, 8], Random(6, 32))),
        Nodes = [new("Gather", ["table", "ids"], ["e"]), new("MatMul", ["e", "p"], ["y"])],
    };

    private static TestGraph FactoredEmbedding(TestGraph parent)
    {
        double[,] q = Rotation(4, 3);
        float[] p = parent.Weights["p"].Values;
        var first = new float[16];
        var second = new float[32];
        for (int i = 0; i < 4; i++)
        {
            for (int j = 0; j < 4; j++)
                first[i * 4 + j] = (float)q[i, j];
            for (int j = 0; j < 8; j++)
                second[i * 8 + j] = (float)Enumerable.Range(0, 4).Sum(k => q[k, i] * p[k * 8 + j]);
        }

        return parent with
        {
            Weights = parent.Weights.SetItem("p", ([4, 8], second)).Add("q", ([4, 4], first)),
            Nodes = [parent.Nodes[0], new("MatMul", ["e", "q"], ["m"]), new("MatMul", ["m", "p"], ["y"])],
        };
    }

    private static TestGraph ArgMax(float[] weights) => new()
    {
        Inputs = [new("x", ElementType.Float32, 3, 4)],
        Outputs = [new("y", ElementType.Int64, 3)],
        Weights = Weights(("w", [4, 10], weights)),
        Nodes = [new("MatMul", ["x", "w"], ["s"]), new("ArgMax", ["s"], ["y"], ("axis", 1), ("keepdims", 0))],
    };

    private static TestGraph ZipMap(int[] labels, float scale = 1)
    {
        // TypeProto: sequence_type (4) { elem_type (1) { map_type (5) { key_type (1) = int64; value_type (2) { tensor_type (1) { elem_type (1) = float } } } } }
        byte[] tensor = [8, 1];
        byte[] value = [10, (byte)tensor.Length, .. tensor];
        byte[] map = [8, 7, 18, (byte)value.Length, .. value];
        byte[] element = [42, (byte)map.Length, .. map];
        byte[] sequence = [10, (byte)element.Length, .. element];
        return new TestGraph
        {
            Inputs = [new("x", ElementType.Float32, 2, 3)],
            Outputs = [new("y", ElementType.Undefined) { TypeProto = [34, (byte)sequence.Length, .. sequence] }],
            Weights = Weights(("s", [], [scale])),
            Nodes =
            [
                new("Mul", ["x", "s"], ["m"]),
                new("ZipMap", ["m"], ["y"], ("classlabels_int64s", labels)) { Domain = "ai.onnx.ml" },
            ],
        };
    }
}
