using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text;
using CsCheck;
using OnnxMorph.Runtime;
using OnnxMorph.Verification;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Verification.VerifierTests;

namespace OnnxMorph.Tests.Verification;

public sealed class SampleTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory("samples-").FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    [Theory]
    [InlineData((byte)1)]
    [InlineData((byte)2)]
    [InlineData((byte)3)]
    public void EveryHeaderVersionIsRead(byte major)
    {
        TensorData data = Read(Npy("<i2", "(2, 2)", [1, 0, 2, 0, 255, 255, 0, 1], major: major));
        Assert.Equal(ElementType.Int16, data.Type);
        Assert.Equal([2, 2], data.Shape);
        Assert.Equal([1, 2, -1, 256], data.Values<short>().ToArray());
    }

    [Fact]
    public void ByteOrderAndTypesAreUnderstood()
    {
        Assert.Equal([1.5f], Read(Npy(">f4", "(1,)", [0x3F, 0xC0, 0, 0])).Values<float>().ToArray());
        Assert.Equal([-2.0], Read(Npy(">f8", "()", [0xC0, 0, 0, 0, 0, 0, 0, 0])).ToDoubles());
        Assert.Equal([1.0, -0.5], Read(Npy("<f2", "(2,)", [0, 0x3C, 0, 0xB8])).ToDoubles());
        TensorData flags = Read(Npy("|b1", "(3,)", [1, 0, 1]));
        Assert.Equal((ElementType.Bool, 3), (flags.Type, flags.Count));
        Assert.Equal(ElementType.UInt64, Read(Npy("<u8", "(0, 4)", [])).Type);
    }

    [Fact]
    public void FortranOrderIsTurnedIntoRowMajor() =>
        Gen.Int[1, 4].Array[1, 4].Sample(sizes =>
        {
            int count = sizes.Aggregate(1, (a, b) => a * b);
            // Element (i0, i1, …) stands at i0 + n0·(i1 + n1·(…)) and has its row-major position as value.
            var bytes = new byte[count];
            for (int position = 0; position < count; position++)
            {
                int rest = position;
                int at = 0;
                for (int axis = sizes.Length - 1; axis >= 0; axis--)
                {
                    at += rest % sizes[axis] * sizes[..axis].Aggregate(1, (a, b) => a * b);
                    rest /= sizes[axis];
                }

                bytes[at] = (byte)position;
            }

            TensorData data = Read(Npy("|u1", $"({string.Join(", ", sizes)},)", bytes, fortran: true));
            Assert.Equal(Enumerable.Range(0, count).Select(i => (byte)i), data.Bytes);
        }, iter: 100);

    [Theory]
    [InlineData("<f4", "(3,)", "ends before")]
    [InlineData("<c8", "(1,)", "'c8'")]
    [InlineData("|O", "(1,)", "'O'")]
    public void BadArraysAreRefusedInOneSentence(string descr, string shape, string expected)
    {
        OnnxMorphException error = Assert.ThrowsAny<OnnxMorphException>(() => Read(Npy(descr, shape, [0, 0, 0, 0, 0, 0, 0, 0])));
        Assert.Equal(ExitCode.Usage, error.ExitCode);
        Assert.Contains(expected, error.Message);
    }

    [Fact]
    public void StructuredArraysAndForeignFilesAreRefused()
    {
        string header = "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (1,), }\n";
        byte[] structured = [0x93, .. "NUMPY"u8, 1, 0, (byte)header.Length, 0, .. Encoding.ASCII.GetBytes(header), 0, 0, 0, 0];
        Assert.Contains("structured", Assert.Throws<UsageException>(() => Read(structured)).Message);
        Assert.Contains("no .npy array", Assert.Throws<UsageException>(() => Read([.. "PK345678901234567890"u8])).Message);
        string text = Path.Combine(_folder, "a.npz");
        File.WriteAllText(text, "not a zip archive");
        Assert.Contains("no .npz archive", Assert.ThrowsAny<OnnxMorphException>(() => Draws(text, Input("x", ElementType.Float32, 1))).Message);
        Assert.Equal(ExitCode.InputOutput, Assert.ThrowsAny<OnnxMorphException>(() => Draws(Path.Combine(_folder, "none.npz"), Input("x", ElementType.Float32, 1))).ExitCode);
    }

    [Fact]
    public void ArchivesBindByNameAndLeaveTheRestOut()
    {
        string path = Archive(("labels", Npy("<i8", "(2,)", new byte[16])), ("b", Npy("<f4", "(2, 1)", new byte[8])), ("a", Npy("<i4", "(2, 2)", new byte[16])));
        var notes = new List<string>();
        Draw draw = Assert.Single(SampleReader.Read(path, [Input("a", ElementType.Int64, "N", 2), Input("b", ElementType.Float32, "N", 1)], notes));
        Assert.Equal((ElementType.Int64, ElementType.Float32), (draw.Inputs["a"].Type, draw.Inputs["b"].Type));
        Assert.Contains("labels", Assert.Single(notes));
    }

    [Fact]
    public void ArraysWithoutMatchingNamesBindByOrderWhereTheCountsMatch()
    {
        string path = Archive(("arr_0", Npy("<f4", "(1,)", BitConverter.GetBytes(1f))), ("arr_1", Npy("<f4", "(1,)", BitConverter.GetBytes(2f))));
        Draw draw = Assert.Single(Draws(path, Input("p", ElementType.Float32, 1), Input("q", ElementType.Float32, 1)));
        Assert.Equal(2f, draw.Inputs["q"].Values<float>()[0]);
        UsageException error = Assert.Throws<UsageException>(() => Draws(path, Input("p", ElementType.Float32, 1)));
        Assert.Contains("no array for input 'p' (it has: arr_0, arr_1)", error.Message);
        // One name of two matches: binding the other by order would be a guess.
        Assert.Throws<UsageException>(() => Draws(path, Input("arr_0", ElementType.Float32, 1), Input("q", ElementType.Float32, 1)));
    }

    [Fact]
    public void ShapesSymbolsAndTypesThatDoNotFitAreRefused()
    {
        string path = Archive(("a", Npy("<f4", "(2, 3)", new byte[24])), ("b", Npy("<f4", "(4, 3)", new byte[48])), ("h", Npy("<f4", "(1,)", BitConverter.GetBytes(0.5f))));
        Assert.Contains("do not fit input 'a' Float32[N,5]", Refusal(path, Input("a", ElementType.Float32, "N", 5)));
        Assert.Contains("do not fit", Refusal(path, Input("a", ElementType.Float32, "N", 3, 1)));
        Assert.Contains("do not fit", Refusal(path, Input("a", ElementType.Float32, 4, 3)));
        Assert.Contains("dimension 'N' is 2 for input 'a' and 4 for 'b'", Refusal(path, Input("a", ElementType.Float32, "N", 3), Input("b", ElementType.Float32, "N", 3)));
        Assert.Contains("cannot become Int64 without changing values", Refusal(path, Input("h", ElementType.Int64, 1)));
        Assert.Single(Draws(path, Input("a", ElementType.Int8, "N", 3)));
    }

    [Fact]
    public void LongSamplesAreCutAlongTheBatch()
    {
        byte[] images = [.. Enumerable.Range(0, 6).SelectMany(i => BitConverter.GetBytes((float)i))];
        string path = Archive(("x", Npy("<f4", "(6, 1)", images)), ("k", Npy("<f4", "(1, 1)", BitConverter.GetBytes(9f))));
        Draw[] draws = Draws(path, Input("x", ElementType.Float32, 2, 1), Input("k", ElementType.Float32, 1, 1));
        Assert.Equal(["[0..2)", "[2..4)", "[4..6)"], draws.Select(d => d.Description[(d.Description.IndexOf("npz", StringComparison.Ordinal) + 3)..]));
        Assert.Equal([2f, 3f], draws[1].Inputs["x"].Values<float>().ToArray());
        Assert.All(draws, d => Assert.Equal(9f, d.Inputs["k"].Values<float>()[0]));

        string uneven = Archive(("x", Npy("<f4", "(6, 1)", images)), ("k", Npy("<f4", "(4, 1)", new byte[16])));
        Assert.Contains("give as many of each", Refusal(uneven, Input("x", ElementType.Float32, 2, 1), Input("k", ElementType.Float32, 1, 1)));
    }

    [Fact]
    public void TestDataSetsAreRead()
    {
        for (int set = 0; set < 2; set++)
        {
            string folder = Directory.CreateDirectory(Path.Combine(_folder, "data", $"test_data_set_{set}")).FullName;
            File.WriteAllBytes(Path.Combine(folder, "input_0.pb"), TestGraph.Tensor("", ElementType.Float32, [2], MemoryMarshal.AsBytes<float>(new float[] { set, 7 })));
            // Packed float_data, unpacked int32_data.
            var typed = new MemoryStream();
            TestGraph.Number(typed, 1, 2);
            TestGraph.Number(typed, 2, (int)ElementType.Int8);
            TestGraph.Number(typed, 5, 3);
            TestGraph.Number(typed, 5, -4);
            File.WriteAllBytes(Path.Combine(folder, "input_1.pb"), typed.ToArray());
            File.WriteAllBytes(Path.Combine(folder, "output_0.pb"), [0xFF]);
        }

        ValueInfo[] inputs = [Input("x", ElementType.Float32, 2), Input("k", ElementType.Int8, 2)];
        Draw[] draws = Draws(Path.Combine(_folder, "data"), inputs);
        Assert.Equal([0f, 1f], draws.Select(d => d.Inputs["x"].Values<float>()[0]));
        Assert.Equal([3, -4], draws[1].Inputs["k"].Values<sbyte>().ToArray());
        Assert.Single(Draws(Path.Combine(_folder, "data", "test_data_set_1"), inputs));
    }

    [Fact]
    public void TypedFieldsOfTensorsAreRead()
    {
        var packed = new MemoryStream();
        TestGraph.Bytes(packed, 1, [1, 2]);
        TestGraph.Number(packed, 2, (int)ElementType.Float32);
        TestGraph.Bytes(packed, 4, MemoryMarshal.AsBytes<float>(new[] { 1.5f, -2f }));
        Assert.Equal([1.5, -2], ReadProto(packed).ToDoubles());

        var unpacked = new MemoryStream();
        TestGraph.Number(unpacked, 1, 1);
        TestGraph.Number(unpacked, 2, (int)ElementType.Float32);
        TestGraph.Fixed32(unpacked, 4, 0.25f);
        Assert.Equal([0.25], ReadProto(unpacked).ToDoubles());

        var half = new MemoryStream();
        TestGraph.Number(half, 2, (int)ElementType.Float16);
        TestGraph.Number(half, 5, 0xBC00);
        TensorData scalar = ReadProto(half);
        Assert.Empty(scalar.Shape);
        Assert.Equal([-1], scalar.ToDoubles());

        var outside = new MemoryStream();
        TestGraph.Number(outside, 2, (int)ElementType.Float32);
        TestGraph.Number(outside, 14, 1);
        Assert.Contains("another file", Assert.Throws<UsageException>(() => ReadProto(outside)).Message);
        var shortOf = new MemoryStream(TestGraph.Tensor("t", ElementType.Float32, [3], new byte[8]));
        Assert.Contains("has 8 bytes, but Float32 with dimensions [3] needs 12", Assert.Throws<UsageException>(() => ReadProto(shortOf)).Message);
        Assert.Equal(ExitCode.Usage, Assert.ThrowsAny<OnnxMorphException>(() => ReadProto(new MemoryStream([0x0A, 0x7F]))).ExitCode);
    }

    [Fact]
    public void ConversionsKeepEveryValueOrAreRefused()
    {
        Assert.Equal([0.1f], Convert(ElementType.Float64, [0.1], ElementType.Float32)!.Values<float>().ToArray());
        Assert.Null(Convert(ElementType.Float32, [0.1f], ElementType.Float16));
        Assert.Equal([0.5], Convert(ElementType.Float32, [0.5f], ElementType.Float16)!.ToDoubles());
        Assert.Null(Convert(ElementType.Int32, [16777217], ElementType.Float32));
        Assert.Null(Convert(ElementType.Int64, [long.MaxValue], ElementType.Float64));
        Assert.Null(Convert(ElementType.Int64, [-1L], ElementType.UInt64));
        Assert.Null(Convert(ElementType.UInt64, [ulong.MaxValue], ElementType.Int64));
        Assert.Null(Convert(ElementType.Int32, [300], ElementType.UInt8));
        Assert.Null(Convert(ElementType.Float32, [float.NaN], ElementType.Int32));
        Assert.Equal([1f, 255f], Convert(ElementType.UInt8, new byte[] { 1, 255 }, ElementType.Float32)!.Values<float>().ToArray());
        Assert.Null(Convert(ElementType.Int32, [2], ElementType.Bool));
    }

    private static TensorData? Convert<T>(ElementType from, T[] values, ElementType to) where T : unmanaged =>
        TensorConversion.TryConvert(TensorData.From<T>(from, [values.Length], values), to);

    private static TensorData Read(byte[] npy) => NpyReader.Read(new MemoryStream(npy), "array");

    private TensorData ReadProto(MemoryStream stream)
    {
        string path = Path.Combine(_folder, "t.pb");
        File.WriteAllBytes(path, stream.ToArray());
        return TensorProtoReader.Read(path).Data;
    }

    private string Archive(params (string Name, byte[] Bytes)[] arrays)
    {
        string path = Path.Combine(_folder, "samples.npz");
        File.Delete(path);
        using ZipArchive archive = ZipFile.Open(path, ZipArchiveMode.Create);
        foreach ((string name, byte[] bytes) in arrays)
        {
            using Stream stream = archive.CreateEntry(name + ".npy").Open();
            stream.Write(bytes);
        }

        return path;
    }

    private static Draw[] Draws(string path, params ValueInfo[] inputs) => [.. SampleReader.Read(path, inputs, [])];

    private static string Refusal(string path, params ValueInfo[] inputs) =>
        Assert.Throws<UsageException>(() => Draws(path, inputs)).Message;

    private static ValueInfo Input(string name, ElementType type, params object[] shape) =>
        new(name, ValueKind.Tensor, type, [.. shape.Select(size => size is string symbol ? new Dimension(-1, symbol) : new Dimension((int)size, null))]);
}
