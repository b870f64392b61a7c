using Google.Protobuf;

namespace OnnxMorph.Onnx;

/// <summary>
/// Reads ONNX files. A scanner walks the file through a small window, drops the content of large tensors and notes where it
/// is; only what is left is parsed, so that memory depends on the size of the graph and not on that of its weights.
/// </summary>
public static class OnnxReader
{
    /// <summary>Messages within messages, as protobuf's own parser limits them.</summary>
    private const int MaximalDepth = 100;

    /// <summary>Reads and checks the model in the file <paramref name="path"/>.</summary>
    /// <exception cref="UnreadableModelException">It is no consistent ONNX model.</exception>
    /// <exception cref="OnnxMorphException">The file cannot be opened or read.</exception>
    public static OnnxModel Read(string path)
    {
        using FileStream stream = Open(path);
        try
        {
            return Read(stream, path);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{path}' cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Reads and checks the model in <paramref name="stream"/>, all of it into memory.</summary>
    /// <exception cref="UnreadableModelException">It is no consistent ONNX model, or has external data.</exception>
    public static OnnxModel Read(Stream stream)
    {
        if (stream.CanSeek)
            return Read(stream, path: null);
        using var copy = new MemoryStream();
        stream.CopyTo(copy);
        copy.Position = 0;
        return Read(copy, path: null);
    }

    private static FileStream Open(string path)
    {
        if (Directory.Exists(path))
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{path}' is a folder; name the model's file.");
        try
        {
            var stream = new FileStream(path, FileMode.Open, FileAccess.Read, FileShare.Read, bufferSize: 0);
            if (stream.CanSeek)
                return stream;
            stream.Dispose();
        }
        catch (Exception e) when (e is FileNotFoundException or DirectoryNotFoundException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{path}' does not exist; check the path.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException or ArgumentException or NotSupportedException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{path}' cannot be opened: {e.Message}", e);
        }

        throw new OnnxMorphException(ExitCode.InputOutput, $"'{path}' is a pipe; save the model as a file first.");
    }

    private static OnnxModel Read(Stream stream, string? path)
    {
        FileStamp? stamp = path is null ? null : FileStamp.Of(ExternalData.RealPath(Path.GetFullPath(path)));
        string name = path is null ? "the model" : $"'{path}'";
        ForeignFormat.Check(stream, name);
        var reader = new WireReader(stream, name);
        var scan = new Scan(reader, path);
        ModelProto proto;
        try
        {
            scan.Copy(reader.Length, MessageKind.Model, depth: 0);
            proto = ModelProto.Parser.ParseFrom(scan.Skeleton.GetBuffer(), 0, (int)scan.Skeleton.Length);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new UnreadableModelException($"{name} is damaged ({e.Message.TrimEnd('.')}); copy or export the model again.", e);
        }

        var model = OnnxModel.FromReader(proto, path, scan.Payloads, stamp);
        model.Validate();
        return model;
    }

    /// <summary>Copies a model message by message, without the content of large tensors.</summary>
    private sealed class Scan(WireReader reader, string? path)
    {
        private readonly string? _file = path is null ? null : Path.GetFullPath(path);

        public MemoryStream Skeleton { get; } = new();

        public Dictionary<ulong, Payload> Payloads { get; } = [];

        public void Copy(long end, MessageKind kind, int depth)
        {
            if (depth > MaximalDepth)
                throw reader.Damaged(reader.Position, $"more than {MaximalDepth} messages stand within each other");
            bool cut = false;
            int groups = 0; // Groups are obsolete and unknown to ONNX; what is in them is copied as it is.
            while (reader.Position < end)
            {
                WireField field = reader.Next(end);
                bool known = groups == 0;
                groups += field.GroupStep;
                if (groups < 0)
                    throw reader.Damaged(field.End, "a group ends that did not start");
                if (known && kind == MessageKind.Model && !ForeignFormat.Fits(field))
                    throw new UnreadableModelException($"{reader.Name} is not an ONNX model; export the model to ONNX.");
                if (known && kind == MessageKind.Tensor && field.Number == TensorProto.PayloadFieldNumber)
                    throw reader.Damaged(field.Content, $"a tensor uses field {field.Number}, which this program keeps for itself");
                if (known && field.Type == WireFormat.WireType.LengthDelimited)
                {
                    if (kind == MessageKind.Tensor && IsLargeContent(field))
                    {
                        if (cut)
                            throw reader.Damaged(field.Content, "a tensor stores its elements in several pieces");
                        cut = true;
                        CutOut(field);
                        continue;
                    }

                    if (kind.Child(field.Number) is not MessageKind.Other and var child)
                    {
                        Skeleton.WriteVarint(field.Tag);
                        int length = (int)Skeleton.Position;
                        Skeleton.Write([0, 0, 0, 0, 0]);
                        Copy(field.End, child, depth + 1);
                        Wire.PatchVarint(Skeleton.GetBuffer().AsSpan(length, 5), (uint)(Skeleton.Position - length - 5));
                        continue;
                    }
                }

                Skeleton.WriteVarint(field.Tag);
                if (field.Type == WireFormat.WireType.Varint)
                    Skeleton.WriteVarint(field.Value);
                else if (field.Type == WireFormat.WireType.LengthDelimited)
                    Skeleton.WriteVarint((ulong)field.Length);
                Room(field.Length);
                reader.CopyTo(Skeleton, field.End);
            }
        }

        private bool IsLargeContent(WireField field) =>
            _file is not null && field.Length >= OnnxModel.InlineBytes && MessageKinds.IsPayload(field.Number);

        /// <summary>Leaves the content of a tensor in the file and its payload number in the message.</summary>
        private void CutOut(WireField field)
        {
            long values = 0;
            if (MessageKinds.IsVarintPayload(field.Number))
                values = reader.CountVarints(field.End);
            else
                reader.SkipTo(field.End);
            ulong number = OnnxModel.NewPayloadNumber();
            Payloads.Add(number, new FilePayload(_file!, field.Content, field.Length, field.Number, values, External: false));
            Skeleton.WriteVarint(WireFormat.MakeTag(TensorProto.PayloadFieldNumber, WireFormat.WireType.Varint));
            Skeleton.WriteVarint(number);
        }

        private void Room(long length)
        {
            if (Skeleton.Length + length > Array.MaxLength)
                throw new UnreadableModelException($"{reader.Name} has more than 2 GB that are not weights; such a model cannot be loaded.");
        }
    }
}
