using CsCheck;
using Google.Protobuf;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

public class ReaderTests
{
    private static readonly byte[] s_kilobytes = Models.Bytes(3000);

    [Fact]
    public void LargeContentStaysInTheFileAndSmallContentInTheMessage()
    {
        using var folder = new TemporaryFolder();
        TensorProto large = Models.Raw("large", ElementType.UInt8, [OnnxModel.InlineBytes], Models.Bytes(OnnxModel.InlineBytes));
        TensorProto small = Models.Raw("small", ElementType.UInt8, [OnnxModel.InlineBytes - 1], Models.Bytes(OnnxModel.InlineBytes - 1));
        string path = folder.Write("m.onnx", Models.With(large, small));

        OnnxModel model = OnnxReader.Read(path);

        Assert.Equal([false, true], model.Proto.Graph.Initializer.Select(t => t.HasRawData));
        var stored = (StoredWeight)model.Data(model.Proto.Graph.Initializer[0]);
        Assert.Equal(path, stored.File);
        Assert.Equal(File.ReadAllBytes(path).AsSpan().IndexOf(large.RawData.Span), stored.Offset);
    }

    [Fact]
    public void PresentDefaultsStayPresentAndAbsentFieldsAbsent()
    {
        using var folder = new TemporaryFolder();
        ModelProto proto = Models.With();
        proto.Graph.Node[0].Attribute.AddRange([
            new AttributeProto { Name = "zero", I = 0, Type = AttributeProto.Types.AttributeType.Int },
            new AttributeProto { Name = "minus", F = -0f, Type = AttributeProto.Types.AttributeType.Float },
            new AttributeProto { Name = "none", Type = (AttributeProto.Types.AttributeType)99 },
            new AttributeProto { Name = "", DocString = "", RefAttrName = "r" }]);
        proto.Graph.Node[0].Domain = "";
        proto.Graph.Input[0].Type.TensorType.Shape.Dim[0].DimValue = 0;
        string path = folder.Write("m.onnx", proto);

        OnnxModel model = OnnxReader.Read(path);
        model.Write(folder["out.onnx"]);

        Assert.Equal(proto, model.Proto);
        Assert.True(model.Proto.Graph.Node[0].Attribute[0].HasI);
        Assert.False(model.Proto.Graph.Node[0].Attribute[2].HasI);
        Assert.Equal(File.ReadAllBytes(path), File.ReadAllBytes(folder["out.onnx"]));
    }

    /// <summary>Packed where ONNX does not pack, unpacked where it does, lengths in too many bytes: unusual, but the same model.</summary>
    [Fact]
    public void OtherEncodingsOfTheSameModelAreRead()
    {
        byte[] attribute = [0x0A, 1, (byte)'a', 0x42, 3, 1, 2, 3]; // name, ints packed
        byte[] node = [0x0A, 1, (byte)'x', 0x12, 1, (byte)'y', 0x22, 1, (byte)'R', 0x2A, 0x88, 0x80, 0, .. attribute]; // a length in three bytes
        byte[] tensor = [0x42, 1, (byte)'w', 0x10, 1, 0x0A, 1, 2, 0x25, 0, 0, 128, 63, 0x25, 0, 0, 0, 64]; // name first, dims packed, float_data not
        byte[] input = [0x0A, 1, (byte)'x'];
        byte[] output = [0x0A, 1, (byte)'y'];
        byte[] graph = [0x62, 3, .. output, 0x5A, 3, .. input, 0x2A, (byte)tensor.Length, .. tensor, 0x0A, (byte)node.Length, .. node];
        byte[] model = [0x42, 2, 0x10, 13, 0x3A, (byte)graph.Length, .. graph, 0x08, 8];

        OnnxModel read = OnnxReader.Read(new MemoryStream(model));

        Assert.Equal(ModelProto.Parser.ParseFrom(model), read.Proto);
        Assert.Equal([1, 2, 3], read.Proto.Graph.Node[0].Attribute[0].Ints);
        Assert.Equal(Models.Floats("w", 1, 2).RawData.ToByteArray(), StoredWeights.Bytes(read.Data(read.Proto.Graph.Initializer[0])));
    }

    [Fact]
    public void AStreamNeedsNoFileAndNoSeeking()
    {
        byte[] bytes = Models.With(Models.Raw("w", ElementType.UInt8, [3000], s_kilobytes)).ToByteArray();
        OnnxModel model = OnnxReader.Read(new Forward(bytes));
        Assert.Null(model.Path);
        Assert.Equal(s_kilobytes, StoredWeights.Bytes(model.Data(model.Proto.Graph.Initializer[0])));
    }

    [Fact]
    public void EveryPrefixOfAModelIsUnreadable()
    {
        using var folder = new TemporaryFolder();
        TensorProto typed = new() { Name = "i", DataType = (int)ElementType.Int64 };
        typed.Dims.Add(600);
        typed.Int64Data.AddRange(Enumerable.Range(0, 600).Select(i => (long)i << i % 30));
        byte[] whole = Models.With(Models.Raw("w", ElementType.UInt8, [1500], Models.Bytes(1500)), typed).ToByteArray();
        for (int length = 0; length < whole.Length; length++)
        {
            Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(folder.Write("m.onnx", whole[..length])));
            Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(new MemoryStream(whole, 0, length)));
        }

        OnnxReader.Read(folder.Write("m.onnx", whole));
    }

    /// <summary>Whatever is in the file: the model is read, or refused with an error for the user.</summary>
    [Fact]
    public void DamageNeverCrashes()
    {
        using var folder = new TemporaryFolder();
        TensorProto typed = new() { Name = "i", DataType = (int)ElementType.Int32 };
        typed.Dims.Add(600);
        typed.Int32Data.AddRange(Enumerable.Range(0, 600).Select(i => i << i % 20));
        byte[] whole = Models.With(Models.Raw("w", ElementType.UInt8, [1100], Models.Bytes(1100)), typed, Models.External("e", [1], "data", 0, 4)).ToByteArray();
        folder.Write("data", new byte[4]);
        int number = 0;
        int accepted = 0;
        Gen.Select(Gen.Int[0, whole.Length - 1], Gen.Byte).Array[1, 4].Sample(changes =>
        {
            byte[] bytes = [.. whole];
            foreach ((int at, byte value) in changes)
                bytes[at] = value;
            string name = $"{Interlocked.Increment(ref number)}.onnx";
            string path = folder.Write(name, bytes);
            try
            {
                OnnxModel model = OnnxReader.Read(path);
                foreach (TensorPlace place in model.Proto.Tensors())
                    if (place.Tensor.DataType != (int)ElementType.String)
                        Assert.Equal(model.Data(place.Tensor).ByteLength, StoredWeights.Bytes(model.Data(place.Tensor)).Length);
                model.Write(path + ".out");
                Interlocked.Increment(ref accepted);
            }
            catch (OnnxMorphException e)
            {
                Assert.EndsWith(".", e.Message, StringComparison.Ordinal);
            }
        }, iter: 3000, threads: 2);
        Assert.InRange(accepted, 1, 2999);
    }

    [Theory]
    [InlineData("", "is empty")]
    [InlineData("504B030414000000", "torch.onnx.export")]
    [InlineData("894844460D0A1A0A", "HDF5")]
    [InlineData("1F8B08000000", "gzip")]
    [InlineData("1C00000054464C33", "TensorFlow Lite")]
    [InlineData("080000004F52544D", "ONNX Runtime's own format")]
    [InlineData("10000000000000007B22", "safetensors")]
    [InlineData("47475546030000", "GGUF")]
    [InlineData("76657273696F6E2068747470733A2F2F6769742D6C66732E", "git lfs pull")]
    [InlineData("89504E470D0A1A0A", "is not an ONNX model")]
    [InlineData("68656C6C6F20776F726C64", "is not an ONNX model")]
    [InlineData("080210014A0400000000", "is not an ONNX model")] // a TensorProto
    [InlineData("0808", "has no graph")]
    [InlineData("08083A00", "operator set")]
    [InlineData("3A00", "ir_version")]
    [InlineData("0808FFFFFFFFFFFFFFFFFFFF01", "more than ten bytes")]
    [InlineData("08083A02120541414141414141", "reaches past the end")]
    [InlineData("08083A70", "cut short")]
    public void WhatIsNoModelIsNamed(string hex, string words)
    {
        var e = Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(new MemoryStream(Convert.FromHexString(hex))));
        Assert.Contains(words, e.Message, StringComparison.Ordinal);
        Assert.Equal(ExitCode.Unreadable, e.ExitCode);
    }

    [Fact]
    public void NestingHasALimit()
    {
        GraphProto graph = Models.Graph(["x"], ["y"], Models.Node("Relu", ["x"], ["y"]));
        for (int i = 0; i < 500; i++)
            graph = Models.Graph([], [], Models.Node("Custom", [], [], Models.Attribute("body", graph)));
        var e = Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(new MemoryStream(Models.Model(graph).ToByteArray())));
        Assert.Contains("within each other", e.Message, StringComparison.Ordinal);
    }

    [Fact]
    public void TheFieldThatLinksPayloadsIsRefusedInFiles()
    {
        TensorProto tensor = Models.Floats("w", 1);
        tensor.Payload = 1;
        Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(new MemoryStream(Models.With(tensor).ToByteArray())));
    }

    [Fact]
    public void TextMustBeUtf8()
    {
        ModelProto proto = Models.With();
        proto.ProducerName = "abcd";
        byte[] bytes = proto.ToByteArray();
        bytes[bytes.AsSpan().IndexOf("abcd"u8)] = 0xFF;
        Assert.Throws<UnreadableModelException>(() => OnnxReader.Read(new MemoryStream(bytes)));
    }

    [Fact]
    public void FilesThatCannotBeOpenedAreInputErrors()
    {
        using var folder = new TemporaryFolder();
        foreach (string path in new[] { folder["missing.onnx"], folder["no/such/folder.onnx"], folder.Root })
        {
            var e = Assert.Throws<OnnxMorphException>(() => OnnxReader.Read(path));
            Assert.Equal(ExitCode.InputOutput, e.ExitCode);
            Assert.Contains(path, e.Message, StringComparison.Ordinal);
        }
    }

    /// <summary>A file of 288 MiB, nearly all of it a hole, is read without its weights.</summary>
    [Fact]
    public void MemoryDoesNotDependOnTheSizeOfTheFile()
    {
        using var folder = new TemporaryFolder();
        const int Tensors = 12;
        const int Size = 24 << 20;
        string path = folder["m.onnx"];
        using (FileStream file = File.Create(path))
        {
            byte[] head = Models.Raw("w00", ElementType.UInt8, [Size], []).ToByteArray();
            Assert.Equal([0x4A, 0], head[^2..]); // raw_data, empty
            byte[] tensorHead = [.. head[..^1], .. Varint(Size)];
            byte[] graph = Models.Graph(["x"], ["y"], Models.Node("Relu", ["x"], ["y"])).ToByteArray();
            byte[] initializer = [0x2A, .. Varint(tensorHead.Length + Size)];
            long graphSize = graph.Length + Tensors * ((long)initializer.Length + tensorHead.Length + Size);
            file.Write([0x08, 8, 0x3A, .. Varint(graphSize), .. graph]);
            for (int i = 0; i < Tensors; i++)
            {
                tensorHead.AsSpan()[tensorHead.AsSpan().IndexOf("w0"u8)..][2] = (byte)('a' + i);
                file.Write([.. initializer, .. tensorHead]);
                file.Position += Size;
            }

            file.Write([0x42, 2, 0x10, 13]);
        }

        long before = GC.GetTotalAllocatedBytes(precise: true);
        OnnxModel model = OnnxReader.Read(path);
        long allocated = GC.GetTotalAllocatedBytes(precise: true) - before;

        Assert.Equal(Tensors, model.Proto.Graph.Initializer.Count);
        Assert.True(new FileInfo(path).Length > Tensors * (long)Size);
        Assert.InRange(allocated, 0, 16 << 20); // other tests run beside this one
    }

    private static byte[] Varint(long value)
    {
        var stream = new MemoryStream();
        stream.WriteVarint((ulong)value);
        return stream.ToArray();
    }

    /// <summary>A stream such as a pipe.</summary>
    private sealed class Forward(byte[] bytes) : MemoryStream(bytes)
    {
        public override bool CanSeek => false;
    }
}
