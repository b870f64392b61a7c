using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

public sealed class WriterTests : IDisposable
{
    private static readonly WriteOptions s_force = new() { Force = true };
    private readonly TemporaryFolder _folder = new();

    public void Dispose() => _folder.Dispose();

    private static TensorProto Large(string name, int seed, int size = 4000) =>
        Models.Raw(name, ElementType.UInt8, [size], Models.Bytes(size, seed));

    /// <summary>Weights in every depth, so that lengths change at every level.</summary>
    private static ModelProto Nested()
    {
        GraphProto inner = Models.Graph([], ["i"], Models.Node("Identity", ["x"], ["i"]));
        inner.Initializer.Add(Large("inner", 2));
        GraphProto middle = Models.Graph([], ["m"],
            Models.Node("Custom", ["x"], ["m"], Models.Attribute("before", Large("attribute", 3)), Models.Attribute("body", inner)));
        middle.Initializer.Add(Large("middle", 4));
        ModelProto model = Models.With(Large("outer", 1), Models.Floats("small", 1, 2));
        model.Graph.Node.Add(Models.Node("Custom", ["x"], ["c"], Models.Attribute("body", middle)));
        return model;
    }

    private static TensorProto Find(ModelProto model, string name) => model.Tensors().Select(p => p.Tensor).Single(t => t.Name == name);

    [Fact]
    public void ReplacedWeightsAreWrittenAndTheRestIsKept()
    {
        ModelProto proto = Nested();
        string path = _folder.Write("in.onnx", proto);
        string[] names = ["outer", "inner", "attribute", "middle", "small"];
        foreach (string[] replaced in (string[][])[["inner"], ["attribute"], ["outer", "small"], names])
        {
            // Every length, so that heads grow, shrink and stay; 128 and 16384 are where a length takes one more byte.
            foreach (int size in (int[])[0, 1, 126, 127, 128, 129, 1023, 1024, 3999, 4000, 4001, 16383, 16384, 70000])
            {
                OnnxModel model = OnnxReader.Read(path);
                ModelProto expected = proto.Clone();
                foreach (string name in replaced)
                {
                    byte[] bytes = Models.Bytes(size, 77);
                    model.SetData(Find(model.Proto, name), Models.Weight(ElementType.Int8, [1, size], bytes));
                    TensorProto tensor = Find(expected, name);
                    tensor.MergeFrom(Models.Raw(name, ElementType.Int8, [], bytes));
                    tensor.Dims.Clear();
                    tensor.Dims.AddRange([1, size]);
                }

                model.Write(_folder["out.onnx"], s_force);
                Assert.Equal(expected, Models.Parse(_folder["out.onnx"]));
            }
        }
    }

    [Fact]
    public void ReplacedWeightsLeaveNothingStale()
    {
        var tensor = new TensorProto { Name = "w", DataType = (int)ElementType.Float32, Dims = { 2 }, FloatData = { 1, 2 }, DocString = "d", Segment = new() };
        string path = _folder.Write("in.onnx", Models.With(tensor));
        OnnxModel model = OnnxReader.Read(path);
        model.SetInt64Values(model.Proto.Graph.Initializer[0], [5, -6, 7], 3);
        Assert.Equal([5, -6, 7], model.Int64Values(model.Proto.Graph.Initializer[0]));
        model.Write(_folder["out.onnx"]);

        TensorProto expected = Models.Raw("w", ElementType.Int64, [3], [.. new long[] { 5, -6, 7 }.SelectMany(BitConverter.GetBytes)]);
        expected.DocString = "d";
        Assert.Equal(expected, Models.Parse(_folder["out.onnx"]).Graph.Initializer[0]);
    }

    [Fact]
    public void IntegersOfEveryTypeAreRead()
    {
        (ElementType Type, byte[] Bytes, long[] Values)[] cases =
        [
            (ElementType.Int8, [0xFF, 0x7F], [-1, 127]),
            (ElementType.UInt8, [0xFF, 0x7F], [255, 127]),
            (ElementType.Bool, [0, 1], [0, 1]),
            (ElementType.Int16, [0xFE, 0xFF], [-2]),
            (ElementType.UInt16, [0xFE, 0xFF], [65534]),
            (ElementType.Int32, [0, 0, 0, 0x80], [int.MinValue]),
            (ElementType.UInt32, [0, 0, 0, 0x80], [2147483648]),
            (ElementType.UInt64, [1, 0, 0, 0, 0, 0, 0, 0], [1]),
            (ElementType.Int4, [0xF7, 0x08], [7, -1, -8]),
            (ElementType.UInt4, [0xF7, 0x08], [7, 15, 8]),
            (ElementType.Int2, [0b_10_11_01_00, 0b_01], [0, 1, -1, -2, 1]),
            (ElementType.UInt2, [0b_10_11_01_00, 0b_01], [0, 1, 3, 2, 1]),
        ];
        foreach ((ElementType type, byte[] bytes, long[] values) in cases)
        {
            var model = new OnnxModel(Models.With(Models.Raw("w", type, [values.Length], bytes)));
            Assert.Equal(values, model.Int64Values(model.Proto.Graph.Initializer[0]));
        }

        var floats = new OnnxModel(Models.With(Models.Floats("w", 1)));
        Assert.Throws<ArgumentException>(() => floats.Int64Values(floats.Proto.Graph.Initializer[0]));
    }

    [Fact]
    public void ATensorOfAnotherModelIsFoundOut()
    {
        string path = _folder.Write("in.onnx", Nested());
        OnnxModel one = OnnxReader.Read(path), two = OnnxReader.Read(path);
        TensorProto foreign = Find(one.Proto, "outer");
        two.Proto.Graph.Initializer[0] = foreign;
        Assert.Throws<InvalidOperationException>(() => two.Data(foreign));
        Assert.Throws<InvalidOperationException>(() => two.Write(_folder["out.onnx"]));
        Assert.Throws<ArgumentException>(() => new OnnxModel(one.Proto));
        Assert.Equal(["in.onnx"], _folder.Names());

        TensorProto own = new() { Name = "outer" };
        two.SetData(own, one.Data(foreign));
        two.Proto.Graph.Initializer[0] = own;
        two.Write(_folder["out.onnx"]);
        Assert.Equal(File.ReadAllBytes(path), File.ReadAllBytes(_folder["out.onnx"]));
    }

    [Fact]
    public void TextIsNoWeight()
    {
        var tensor = new TensorProto { Name = "w", DataType = (int)ElementType.String, Dims = { 1 }, StringData = { Google.Protobuf.ByteString.CopyFrom(0xFF) } };
        string path = _folder.Write("in.onnx", Models.With(tensor));
        OnnxModel model = OnnxReader.Read(path);
        Assert.Throws<RefusedException>(() => model.Data(model.Proto.Graph.Initializer[0]));
        model.Write(_folder["out.onnx"]);
        Assert.Equal(File.ReadAllBytes(path), File.ReadAllBytes(_folder["out.onnx"]));
    }

    [Fact]
    public void AnInconsistentModelIsNotWritten()
    {
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", Nested()));
        Find(model.Proto, "middle").Dims[0]++;
        var e = Assert.Throws<OnnxMorphException>(() => model.Write(_folder["out.onnx"]));
        Assert.Equal(ExitCode.VerificationFailed, e.ExitCode);
        Assert.Equal(["in.onnx"], _folder.Names());
    }

    [Fact]
    public void ModelsAboveTheLimitPutTheirInitializersBesideThem()
    {
        ModelProto proto = Nested();
        var typed = new TensorProto { Name = "typed", DataType = (int)ElementType.Int64, Dims = { 900 } };
        typed.Int64Data.AddRange(Enumerable.Range(0, 900).Select(i => (long)i));
        proto.Graph.Initializer.Add(typed);
        Find(proto, "outer").DataLocation = TensorProto.Types.DataLocation.Default; // says what is so by default
        proto.Graph.Initializer.Add(Models.Raw("large", ElementType.UInt8, [1 << 20], Models.Bytes(1 << 20)));
        proto.Graph.Initializer.Add(Models.Raw("last", ElementType.UInt8, [2000], Models.Bytes(2000)));
        string path = _folder.Write("in.onnx", proto);

        WrittenModel written = OnnxReader.Read(path).Write(_folder["out.onnx"], new WriteOptions { InlineLimit = 100_000 });

        Assert.Equal(_folder["out.onnx.data"], written.DataPath);
        Assert.Equal(written.Bytes, new FileInfo(written.Path).Length + new FileInfo(written.DataPath!).Length);
        ModelProto output = Models.Parse(written.Path);
        foreach ((string name, bool external) in new[] { ("outer", true), ("inner", true), ("middle", true), ("typed", true), ("large", true), ("attribute", false), ("small", false) })
        {
            TensorProto tensor = Find(output, name);
            Assert.Equal(external, tensor.DataLocation == TensorProto.Types.DataLocation.External);
            TensorProto original = Find(proto, name);
            byte[] raw = name == "typed" ? [.. typed.Int64Data.SelectMany(BitConverter.GetBytes)] : original.RawData.ToByteArray();
            Assert.Equal(raw, Models.RawBytes(tensor, written.Path));
            if (external)
                Assert.Equal(0, long.Parse(tensor.ExternalData[1].Value) % (name == "large" ? 64 * 1024 : 64));
        }

        // What is in the model then is the same again, and goes back into it.
        OnnxModel again = OnnxReader.Read(written.Path);
        foreach (TensorPlace place in again.Proto.Tensors())
            Assert.Equal(place.Tensor.Name == "typed" ? [.. typed.Int64Data.SelectMany(BitConverter.GetBytes)] : Find(proto, place.Tensor.Name).RawData.ToByteArray(),
                StoredWeights.Bytes(again.Data(place.Tensor)));
    }

    [Fact]
    public void WhatCannotGoBesideTheModelIsRefused()
    {
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", Nested()));
        var e = Assert.Throws<OnnxMorphException>(() => model.Write(_folder["out.onnx"], new WriteOptions { InlineLimit = 3000 }));
        Assert.Equal(ExitCode.InputOutput, e.ExitCode);
        Assert.Equal(["in.onnx"], _folder.Names());
    }

    /// <summary>Three tensors in two files; two of them are the same bytes, one has an entry that nobody knows.</summary>
    private string WriteExternal(string folder, string data)
    {
        _folder.Write($"{folder}/{data}", Models.Bytes(8000));
        _folder.Write($"{folder}/other.bin", Models.Bytes(4000, 5));
        TensorProto known = Models.External("a", [1000], data, 4000, 4000);
        known.ExternalData.Add(new StringStringEntryProto { Key = "custom", Value = "kept" });
        known.ExternalData.Add(new StringStringEntryProto { Key = "checksum", Value = "stale" });
        return _folder.Write($"{folder}/in.onnx", Models.With(
            known, Models.External("tied", [1000], data, 4000, 4000), Models.External("b", [1000], "other.bin"), Large("inline", 1)));
    }

    [Fact]
    public void ExternalDataIsCopiedToTheOutputsOwnFile()
    {
        string path = WriteExternal("in", "w.data");
        OnnxModel model = OnnxReader.Read(path);
        model.SetData(Find(model.Proto, "b"), Models.Weight(ElementType.UInt8, [5000], Models.Bytes(5000, 9)));
        Directory.CreateDirectory(_folder["out"]);
        model.Write(_folder["out/m.onnx"]);
        Directory.Delete(_folder["in"], recursive: true);

        Assert.Equal(["out", "out/m.onnx", "out/m.onnx.data"], _folder.Names());
        ModelProto output = Models.Parse(_folder["out/m.onnx"]);
        Assert.Equal(Models.Bytes(8000)[4000..], Models.RawBytes(Find(output, "a"), _folder["out/m.onnx"]));
        Assert.Equal(Models.Bytes(5000, 9), Models.RawBytes(Find(output, "b"), _folder["out/m.onnx"]));
        Assert.False(Find(output, "inline").HasDataLocation);
        Assert.Equal(["custom", "location", "offset", "length"], Find(output, "a").ExternalData.Select(e => e.Key));
        Assert.Equal(Find(output, "a").ExternalData[2], Find(output, "tied").ExternalData[1]);
        Assert.InRange(new FileInfo(_folder["out/m.onnx.data"]).Length, 9000, 9100);
    }

    [Theory]
    [InlineData("w.data")]
    [InlineData("in.onnx.data")]
    public void TheInputItselfCanBeReplaced(string data)
    {
        string path = WriteExternal("in", data);
        OnnxModel model = OnnxReader.Read(path);
        Assert.Throws<UsageException>(() => model.Write(path));
        string[] before = _folder.Names();
        model.Write(path, s_force);

        Assert.Equal(before.Union(["in/in.onnx.data"]).Order(StringComparer.Ordinal), _folder.Names());
        if (data == "w.data")
            Assert.Equal(Models.Bytes(8000), File.ReadAllBytes(_folder["in/w.data"]));
        OnnxModel again = OnnxReader.Read(path);
        Assert.Equal(Models.Bytes(8000)[4000..], StoredWeights.Bytes(again.Data(Find(again.Proto, "a"))));
        Assert.Equal(Models.Bytes(4000, 5), StoredWeights.Bytes(again.Data(Find(again.Proto, "b"))));
        Assert.Equal(Models.Bytes(4000, 1), StoredWeights.Bytes(again.Data(Find(again.Proto, "inline"))));

        // The old object refers to bytes that are no more.
        Assert.Equal(ExitCode.InputOutput, Assert.Throws<OnnxMorphException>(() => model.Write(_folder["late.onnx"])).ExitCode);
    }

    [Fact]
    public void WeightsOfTheInputAreNotOverwritten()
    {
        string path = WriteExternal("in", "out.onnx.data");
        OnnxModel model = OnnxReader.Read(path);
        Assert.Throws<UsageException>(() => model.Write(_folder["in/out.onnx"], s_force));
        Assert.Throws<UsageException>(() => model.Write(_folder["in/other.bin"], s_force));
        Directory.CreateSymbolicLink(_folder["alias"], "in");
        Assert.Throws<UsageException>(() => model.Write(_folder["alias/other.bin"], s_force));
        Assert.Equal(Models.Bytes(8000), File.ReadAllBytes(_folder["in/out.onnx.data"]));
    }

    [Fact]
    public void ALinkIsReplacedAndItsTargetIsLeftAlone()
    {
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", Nested()));
        _folder.Write("precious", [1, 2, 3]);
        File.CreateSymbolicLink(_folder["out.onnx"], "precious");
        model.Write(_folder["out.onnx"], s_force);
        Assert.Equal([1, 2, 3], File.ReadAllBytes(_folder["precious"]));
        Assert.Null(new FileInfo(_folder["out.onnx"]).LinkTarget);
    }

    [Fact]
    public void FilesThatExistAreKeptUnlessForced()
    {
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", Nested()));
        _folder.Write("out.onnx", [1]);
        _folder.Write("new.onnx.data", [2]);
        Assert.Equal(ExitCode.Usage, Assert.Throws<UsageException>(() => model.Write(_folder["out.onnx"])).ExitCode);
        Assert.Throws<UsageException>(() => model.Write(_folder["new.onnx"], new() { InlineLimit = 5000 }));
        Assert.Throws<UsageException>(() => model.Write(_folder.Root, s_force));
        Assert.Equal(ExitCode.InputOutput, Assert.Throws<OnnxMorphException>(() => model.Write(_folder["no/out.onnx"])).ExitCode);
        Assert.Equal(["in.onnx", "new.onnx.data", "out.onnx"], _folder.Names());

        model.Write(_folder["new.onnx"], new() { InlineLimit = 5000, Force = true });
        model.Write(_folder["out.onnx"], s_force);
        Assert.Equal(["in.onnx", "new.onnx", "new.onnx.data", "out.onnx"], _folder.Names());
        OnnxReader.Read(_folder["new.onnx"]);
    }

    [Fact]
    public void FailureAndCancellationLeaveNothingAndKeepWhatWasThere()
    {
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", Nested()));
        _folder.Write("out.onnx", [1]);
        _folder.Write("out.onnx.data", [2]);
        string[] before = _folder.Names();
        var options = new WriteOptions { Force = true, InlineLimit = 5000 };
        foreach (string victim in new[] { "outer", "middle", "attribute" })
        {
            OnnxModel broken = model.Clone();
            broken.SetData(Find(broken.Proto, victim), new FilledWeight(ElementType.Float32, [1000], Fill.Zero));
            Assert.Throws<IOException>(() => Throw(() => OnnxWriter.Write(broken, _folder["out.onnx"], new Failing(() => throw new IOException("broken")), options, cancellation: TestContext.Current.CancellationToken)));
            using var source = new CancellationTokenSource();
            Assert.Throws<OperationCanceledException>(() => OnnxWriter.Write(broken, _folder["out.onnx"], new Failing(source.Cancel), options, cancellation: source.Token));
            Assert.Equal(before, _folder.Names());
        }

        Assert.Equal([1], File.ReadAllBytes(_folder["out.onnx"]));
        Assert.Equal([2], File.ReadAllBytes(_folder["out.onnx.data"]));
    }

    [Fact]
    public void ModelAndDataArePublishedTogetherOrNotAtAll()
    {
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", Nested()));
        model.SetData(Find(model.Proto, "outer"), new FilledWeight(ElementType.Float32, [50], Fill.Zero));
        _folder.Write("out.onnx.data", [2]);
        var options = new WriteOptions { Force = true, InlineLimit = 5000 };

        // A folder takes the model's name while the weights are evaluated.
        var blocker = new Failing(() => Directory.CreateDirectory(_folder["out.onnx"]));
        var e = Assert.Throws<OnnxMorphException>(() => OnnxWriter.Write(model, _folder["out.onnx"], blocker, options, cancellation: TestContext.Current.CancellationToken));

        Assert.Equal(ExitCode.InputOutput, e.ExitCode);
        Assert.Equal(["in.onnx", "out.onnx", "out.onnx.data"], _folder.Names());
        Assert.Equal([2], File.ReadAllBytes(_folder["out.onnx.data"]));
    }

    /// <summary>Changes of a file are seen through a link to it.</summary>
    [Fact]
    public void AModelBehindALinkThatChangesIsFoundOut()
    {
        string path = _folder.Write("in.onnx", Nested());
        File.CreateSymbolicLink(_folder["link.onnx"], "in.onnx");
        OnnxModel model = OnnxReader.Read(_folder["link.onnx"]);
        model.Write(_folder["link.onnx"], s_force);
        File.AppendAllText(path, "x");
        Assert.Throws<OnnxMorphException>(() => model.Write(_folder["out.onnx"]));
        Assert.Null(new FileInfo(_folder["link.onnx"]).LinkTarget);
    }

    /// <summary>Input and output errors come as such, with the cause inside.</summary>
    private static void Throw(Action action)
    {
        var e = Assert.Throws<OnnxMorphException>(action);
        Assert.Equal(ExitCode.InputOutput, e.ExitCode);
        throw e.InnerException!;
    }

    [Fact]
    public void AModelThatChangesAfterItWasReadIsFoundOut()
    {
        string path = _folder.Write("in.onnx", Nested());
        OnnxModel model = OnnxReader.Read(path);
        File.AppendAllText(path, "x");
        var e = Assert.Throws<OnnxMorphException>(() => model.Write(_folder["out.onnx"]));
        Assert.Contains("has changed", e.Message, StringComparison.Ordinal);
        Assert.Equal(["in.onnx"], _folder.Names());
    }

    [Fact]
    public void ProgressEndsAtTheSizeOfTheOutput()
    {
        ModelProto proto = Models.With(Large("w", 1, 5_000_000));
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", proto));
        var reports = new Reports();
        var options = new WriteOptions { InlineLimit = 100_000 };
        WrittenModel written = OnnxWriter.Write(model, _folder["out.onnx"], new StoredWeights(), options, reports, TestContext.Current.CancellationToken);
        Assert.True(reports.Count > 3);
        Assert.Equal(reports.Order(), reports);
        Assert.Equal(written.Bytes, reports[^1]);
        Assert.Equal(written.Bytes, OnnxWriter.OutputBytes(model, _folder["out.onnx"], options));
    }

    /// <summary>ONNX Runtime finds the weights where the writer says that they are.</summary>
    [Theory]
    [InlineData(int.MaxValue)]
    [InlineData(2_000)]
    public void OnnxRuntimeRunsTheOutput(long limit)
    {
        float[] weights = [.. Enumerable.Range(0, 600_000).Select(i => i / 7f)];
        GraphProto graph = Models.Graph(["x"], ["z"],
            Models.Node("Mul", ["x", "large"], ["y"]), Models.Node("Add", ["y", "medium"], ["z"]));
        foreach (ValueInfoProto value in graph.Input.Concat(graph.Output))
            value.Type = Models.Value("", 600_000).Type;
        ModelProto proto = Models.Model(graph);
        graph.Initializer.Add(Models.Floats("large", weights));
        graph.Initializer.Add(Models.Floats("medium", 5));
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", proto));
        model.SetData(model.Proto.Graph.Initializer[0], model.Data(model.Proto.Graph.Initializer[0]));
        WrittenModel written = model.Write(_folder["out.onnx"], new WriteOptions { InlineLimit = limit });
        Assert.Equal(limit < 5000, written.DataPath is not null);

        using var session = new InferenceSession(written.Path);
        float[] x = [.. weights.Select(w => w % 3)];
        using var results = session.Run([NamedOnnxValue.CreateFromTensor("x", new DenseTensor<float>(x, [600_000]))]);
        Assert.Equal(weights.Select((w, i) => w * x[i] + 5), results[0].AsEnumerable<float>());
    }

    private sealed class Failing(Action action) : IWeightSource
    {
        public IWeightReader Open(WeightExpression weight) => new BytesReader(new byte[weight.ByteLength], action);
    }

    private sealed class Reports : List<long>, IProgress<long>
    {
        public void Report(long value) => Add(value);
    }
}
