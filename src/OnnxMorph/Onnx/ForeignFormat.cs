using Google.Protobuf;

namespace OnnxMorph.Onnx;

/// <summary>Recognises files that are not ONNX, to say what they are and what to do.</summary>
internal static class ForeignFormat
{
    private static readonly (int Offset, byte[] Magic, string What)[] s_formats =
    [
        (0, [.. "PK\x03\x04"u8], "a zip archive, as PyTorch and Keras write; export the model with torch.onnx.export or tf2onnx"),
        (0, [0x89, .. "HDF"u8], "an HDF5 file, as Keras writes; export the model with tf2onnx"),
        (0, [0x1F, 0x8B], "compressed with gzip; unpack it first"),
        (0, [.. "version https://git-lfs"u8], "a pointer of Git LFS and not the model itself; fetch it with 'git lfs pull'"),
        (0, [.. "GGUF"u8], "a GGUF file; export the model to ONNX"),
        (4, [.. "TFL3"u8], "a TensorFlow Lite model; convert it with tf2onnx"),
        (4, [.. "ORTM"u8], "a model in ONNX Runtime's own format; take the .onnx file that it was made from"),
        (8, [.. "{\""u8], "a safetensors file; it holds weights and no graph, export the model to ONNX"),
    ];

    /// <summary>Fails where <paramref name="stream"/>, which stays where it is, starts as another format does.</summary>
    public static void Check(Stream stream, string name)
    {
        long start = stream.Position;
        Span<byte> head = stackalloc byte[32];
        head = head[..stream.ReadAtLeast(head, head.Length, throwOnEndOfStream: false)];
        stream.Position = start;
        if (head.IsEmpty)
            throw new UnreadableModelException($"{name} is empty; copy or export the model again.");
        foreach ((int offset, byte[] magic, string what) in s_formats)
        {
            if (head.Length >= offset + magic.Length && head[offset..].StartsWith(magic))
                throw new UnreadableModelException($"{name} is {what}.");
        }

        // The first tag, in one byte or in two.
        int tag = head[0] < 0x80 || head.Length < 2 ? head[0] : head[0] & 0x7F | head[1] << 7;
        if (Expected(tag >> 3) != (WireFormat.WireType)(tag & 7))
            throw new UnreadableModelException($"{name} is not an ONNX model; export the model to ONNX.");
    }

    /// <summary>Whether a top-level field has the wire type that a model gives it; other messages and formats do not.</summary>
    public static bool Fits(WireField field) => Expected(field.Number) is not { } type || type == field.Type;

    private static WireFormat.WireType? Expected(int field) => field switch
    {
        ModelProto.IrVersionFieldNumber or ModelProto.ModelVersionFieldNumber => WireFormat.WireType.Varint,
        (>= ModelProto.ProducerNameFieldNumber and <= ModelProto.OpsetImportFieldNumber)
            or ModelProto.MetadataPropsFieldNumber or ModelProto.TrainingInfoFieldNumber
            or ModelProto.FunctionsFieldNumber or ModelProto.ConfigurationFieldNumber => WireFormat.WireType.LengthDelimited,
        _ => null,
    };
}
