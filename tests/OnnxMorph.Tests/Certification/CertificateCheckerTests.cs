using OnnxMorph.Axes;
using OnnxMorph.Certification;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Certification;

/// <summary>Certificates of good children are proven, and whatever is wrong with a child or a certificate shows.</summary>
public sealed class CertificateCheckerTests
{
    private static readonly string s_file = Path.Combine(Path.GetTempPath(), $"onnxmorph-{Guid.NewGuid():N}.json");

    private static Certificate Given(MorphResult result) => new() { Relations = result.Relations, Unstated = result.Unstated.ToHashSet() };

    private static CertificateReport Run(Net net, ModelProto child, Certificate certificate) =>
        CertificateChecker.Check(net.Model, new OnnxModel(child), certificate, 1, null, TestContext.Current.CancellationToken);

    private static Net Tokens()
    {
        var net = new Net { Runs = { new() { ["N"] = 2, ["T"] = 3 } } };
        string words = net.Input("words", ElementType.Int64, "N", "T");
        net.Vocabulary["words"] = 300;
        string x = net.Op("Gather", [net.Weight([300, 8], name: "table"), words], name: "embed");
        string norm = net.Op("LayerNormalization", [x, net.Positive(8), net.Weight([8])], new { epsilon = 0.01 });
        string h = net.Op("Sigmoid", [net.Linear(norm, 8, 12, "up")]);
        net.Output(net.Linear(net.Add(x, net.Linear(h, 12, 8, "down")), 8, 5, "out"));
        return net;
    }

    private static Net Image()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Relu(net.Conv(net.Input("x", "N", 2, 8, 8), 2, 6, name: "a"));
        string y = net.Relu(net.Conv(x, 6, 6, group: 6, name: "b"));
        net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [net.Conv(net.Op("Concat", [x, y], new { axis = 1 }), 12, 4, name: "c")])]), 4, 3, "out"));
        return net;
    }

    public static TheoryData<bool, string> Children() => new()
    {
        { true, "replicate" }, { true, "zero" }, { true, "opposed" }, { true, "deepen" }, { true, "all" },
        { false, "replicate" }, { false, "zero" }, { false, "opposed" }, { false, "deepen" }, { false, "all" },
    };

    private static MorphStep[] Steps(string kind) => kind switch
    {
        "replicate" => [Check.Widen("*", "x1.5")],
        "zero" => [Check.Widen("*", "+2", WidenMethod.Zero)],
        "opposed" => [Check.Widen("*", "x2", WidenMethod.Opposed)],
        "deepen" => [Check.Deepen("*"), Check.Kernel("*", "+2")],
        _ => [Check.Widen("*", "x1.5"), Check.Deepen("*"), Check.Widen("*", "+3", WidenMethod.Zero), Check.Kernel("*", "+2")],
    };

    [Theory]
    [MemberData(nameof(Children))]
    public void GoodChildrenAreProven(bool tokens, string kind)
    {
        Net net = tokens ? Tokens() : Image();
        MorphResult result = Check.Morph(net, inDouble: false, Steps(kind));
        CertificateReport report = Run(net, Check.Written(result.Child), Given(result));
        Assert.Empty(report.Failed);
        Assert.Empty(report.Unproven);
        Assert.True(report.Passed);
        Assert.Equal(net.Proto.Graph.Node.Sum(n => n.Output.Count(o => !result.Unstated.Contains(o))), report.Checked);
    }

    /// <summary>The first element of every weight, which the parent's first channels hang on, by a hundredth of its size.</summary>
    [Theory]
    [MemberData(nameof(Children))]
    public void OneWrongWeightShows(bool tokens, string kind)
    {
        Net net = tokens ? Tokens() : Image();
        MorphResult result = Check.Morph(net, inDouble: false, Steps(kind));
        ModelProto written = Check.Written(result.Child);
        int spoilt = 0;
        for (int i = 0; i < written.Graph.Initializer.Count; i++)
        {
            ModelProto child = written.Clone();
            TensorProto tensor = child.Graph.Initializer[i];
            // A slope for negative numbers is free where none come: behind a Relu or a Sigmoid.
            if ((ElementType)tensor.DataType != ElementType.Float32 || tensor.Dims.Count == 0 || tensor.Name.Contains("_slope", StringComparison.Ordinal))
                continue;
            byte[] bytes = tensor.RawData.ToByteArray();
            // A zero stands where something is left out on purpose; the first number that is none is part of the function.
            int at = Enumerable.Range(0, bytes.Length / 4).First(e => BitConverter.ToSingle(bytes, 4 * e) != 0);
            BitConverter.TryWriteBytes(bytes.AsSpan(4 * at), BitConverter.ToSingle(bytes, 4 * at) * 1.01f);
            tensor.RawData = Google.Protobuf.ByteString.CopyFrom(bytes);
            CertificateReport report = Run(net, child, Given(result));
            Assert.False(report.Passed, $"{tensor.Name} [{string.Join(", ", tensor.Dims)}] element {at} may be wrong.");
            Assert.NotEmpty(report.Failed);
            spoilt++;
        }

        Assert.True(spoilt >= 6);
    }

    /// <summary>One row of three hundred, which six drawn words hardly ever touch.</summary>
    [Fact]
    public void EveryRowOfATableIsLookedUp()
    {
        Net net = Tokens();
        MorphResult result = Check.Morph(net, inDouble: false, Check.Widen("*", "x1.5"));
        ModelProto child = Check.Written(result.Child);
        TensorProto table = child.Graph.Initializer.Single(t => t.Name.StartsWith("table", StringComparison.Ordinal));
        byte[] bytes = table.RawData.ToByteArray();
        bytes[^(4 * 12 + 2)] ^= 0x40;
        table.RawData = Google.Protobuf.ByteString.CopyFrom(bytes);
        CertificateReport report = Run(net, child, Given(result));
        Assert.Equal("embed_out", Assert.Single(report.Failed).Value);
    }

    [Fact]
    public void OneWrongRelationShows()
    {
        Net net = Image();
        MorphResult result = Check.Morph(net, inDouble: false, Check.Widen("*", "x1.5"));
        ModelProto child = Check.Written(result.Child);
        foreach (string value in result.Relations.Keys)
        {
            Dictionary<string, AxisMap?[]> relations = result.Relations.ToDictionary(r => r.Key, r => r.Value.ToArray());
            int axis = System.Array.FindIndex(relations[value], m => m is not null);
            AxisMap map = relations[value][axis]!;
            int[] sources = [.. Enumerable.Range(0, map.Size).Select(c => map[c][0].Source)];
            (sources[0], sources[1]) = (sources[1], sources[0]);
            relations[value][axis] = AxisMap.Pick(map.SourceSize, map.FreshSize, sources);
            Assert.False(Run(net, child, new Certificate { Relations = relations, Unstated = new HashSet<string>() }).Passed, value);
        }
    }

    [Fact]
    public void WhatCallersReadMustStay()
    {
        Net net = Image();
        string output = net.Proto.Graph.Output[0].Name;
        var certificate = new Certificate { Relations = new Dictionary<string, AxisMap?[]> { [output] = [null, AxisMap.Pick(3, 0, [0, 1, 2])] }, Unstated = new HashSet<string>() };
        Assert.Contains(Run(net, net.Proto, certificate).Failed, f => f.Value == output && f.Reason.Contains("callers", StringComparison.Ordinal));
    }

    [Fact]
    public void ACertificateOfAnotherParentIsRefused()
    {
        Net net = Image();
        MorphResult result = Check.Morph(Tokens(), inDouble: false, Check.Widen("*", "x1.5"));
        Assert.Contains("another parent", Assert.Throws<UsageException>(() => Run(net, net.Proto, Given(result))).Message);
    }

    [Theory]
    [MemberData(nameof(Children))]
    public void FilesHoldTheRelations(bool tokens, string kind)
    {
        MorphResult result = Check.Morph(tokens ? Tokens() : Image(), inDouble: false, Steps(kind));
        try
        {
            using (FileStream stream = File.Create(s_file))
                Certificate.Write(result, stream);
            Certificate read = Certificate.Read(s_file);
            Assert.Equal(result.Unstated.Order(), read.Unstated.Order());
            Assert.Equal(result.Relations.Keys.Order(), read.Relations.Keys.Order());
            foreach ((string value, AxisMap?[] maps) in result.Relations)
                for (int axis = 0; axis < maps.Length; axis++)
                    Assert.Equal(maps[axis] is { IsIdentity: false } ? maps[axis] : null, axis < read.Relations[value].Length && read.Relations[value][axis] is { IsIdentity: false } map ? map : null);
        }
        finally
        {
            File.Delete(s_file);
        }
    }

    [Theory]
    [InlineData("")]
    [InlineData("{}")]
    [InlineData("[1]")]
    [InlineData("""{"format": "onnxmorph-certificate", "version": 1, "values": [], "unstated": []}""")]
    [InlineData("""{"format": "onnxmorph-certificate", "version": 2, "values": [{"name": "x", "axes": []}], "unstated": []}""")]
    [InlineData("""{"format": "onnxmorph-certificate", "version": 2, "values": [{"name": "x", "axes": [{"axis": 0, "parentSize": 2, "childSize": 4, "sources": [[0, 3]]}]}], "unstated": []}""")]
    public void OtherFilesAreRefused(string text)
    {
        string path = Path.GetTempFileName();
        try
        {
            File.WriteAllText(path, text);
            Assert.Contains("is no certificate", Assert.Throws<UsageException>(() => Certificate.Read(path)).Message);
        }
        finally
        {
            File.Delete(path);
        }

        Assert.Equal(ExitCode.InputOutput, Assert.Throws<OnnxMorphException>(() => Certificate.Read(path)).ExitCode);
    }
}
