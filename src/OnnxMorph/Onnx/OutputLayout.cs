using Google.Protobuf;
using OnnxMorph.Weights;

namespace OnnxMorph.Onnx;

/// <summary>
/// Where every byte of an output stands, computed before the first is written: the messages are serialised without the
/// content that is elsewhere, and this content is spliced in, which changes the lengths of the messages around it.
/// </summary>
internal sealed class OutputLayout
{
    /// <summary>Content from this size on starts at a multiple of <see cref="LargeAlignment"/> in external data.</summary>
    private const long LargeContent = 1 << 20;

    /// <summary>The granularity of memory mapping on every system, so that ONNX Runtime can map large tensors.</summary>
    private const long LargeAlignment = 64 * 1024;

    /// <summary>The width of the widest vector registers and of a cache line.</summary>
    private const long SmallAlignment = 64;

    private readonly OnnxModel _model;
    private readonly string _dataFile;
    private readonly bool _spill;
    private readonly byte[] _skeleton;
    private readonly Dictionary<Payload, long> _external = [];
    private int _copied;

    private OutputLayout(OnnxModel model, string dataFile, bool spill)
    {
        _model = model;
        _dataFile = dataFile;
        _spill = spill;
        _skeleton = model.Proto.ToByteArray();
        var root = new Message(null, 0, 0, 0, _skeleton.Length) { Head = 0 };
        Splice(new WireReader(new MemoryStream(_skeleton), model.Name), root, MessageKind.Model);
        CopyUpTo(_skeleton.Length);
        ModelBytes = _skeleton.Length + root.Growth;
    }

    /// <summary>The model file, piece by piece.</summary>
    public List<Piece> Model { get; } = [];

    /// <summary>Size of the model file.</summary>
    public long ModelBytes { get; }

    /// <summary>The external data file, piece by piece, each at its offset and with zeros between them.</summary>
    public List<(long Offset, Piece Piece)> Data { get; } = [];

    /// <summary>Size of the external data file; 0 where there is none.</summary>
    public long DataBytes { get; private set; }

    /// <summary>
    /// Lays out <paramref name="model"/>. What was external stays external; all initializers go there where the model file
    /// would pass <paramref name="inlineLimit"/> bytes.
    /// </summary>
    public static OutputLayout Of(OnnxModel model, string dataFile, long inlineLimit)
    {
        var layout = new OutputLayout(model, dataFile, spill: false);
        if (layout.ModelBytes <= inlineLimit)
            return layout;
        layout = new OutputLayout(model, dataFile, spill: true);
        return layout.ModelBytes <= inlineLimit ? layout
            : throw new OnnxMorphException(ExitCode.InputOutput,
                $"The model would have {layout.ModelBytes} bytes beside its initializers, more than the {inlineLimit} that a model file may have.");
    }

    /// <summary>Collects the pieces of <paramref name="message"/>, whose content the reader stands at.</summary>
    private void Splice(WireReader reader, Message message, MessageKind kind)
    {
        int groups = 0;
        while (reader.Position < message.End)
        {
            int start = (int)reader.Position;
            WireField field = reader.Next(message.End);
            groups += field.GroupStep;
            MessageKind childKind = groups == 0 && field.Type == WireFormat.WireType.LengthDelimited ? kind.Child(field.Number) : MessageKind.Other;
            if (childKind == MessageKind.Other)
            {
                reader.SkipTo(field.End);
                continue;
            }

            var child = new Message(message, field.Number, start, (int)field.Content, (int)field.End);
            if (childKind == MessageKind.Tensor)
                SpliceTensor(reader, child, isInitializer: kind == MessageKind.Graph);
            else
                Splice(reader, child, childKind);
            if (child.Head is not { } head)
                continue;
            byte[] bytes = Wire.Head(child.Number, child.End - child.Content + child.Growth);
            Model[head] = new(bytes);
            message.Growth += child.Growth + bytes.Length - (child.Content - child.Start);
        }
    }

    private void SpliceTensor(WireReader reader, Message message, bool isInitializer)
    {
        var fields = new List<(int Start, WireField Field)>();
        int groups = 0;
        while (reader.Position < message.End)
        {
            int start = (int)reader.Position;
            WireField field = reader.Next(message.End);
            reader.SkipTo(field.End);
            groups += field.GroupStep;
            if (groups == 0)
                fields.Add((start, field));
        }

        if (!fields.Exists(f => f.Field.Number == TensorProto.PayloadFieldNumber))
            return;
        TensorProto tensor = TensorProto.Parser.ParseFrom(_skeleton, message.Content, message.End - message.Content);
        if (_model.PayloadOf(tensor) is not { } payload)
            return;
        Piece content = payload switch
        {
            WeightPayload => Piece.Of(_model.Data(tensor)),
            FilePayload stored => Piece.Of(stored),
            _ => throw new InvalidOperationException($"No way to write a {payload.GetType().Name}."),
        };

        byte[] inserted;
        int before;
        long rawBytes = ((ElementType)tensor.DataType).RawSize(tensor.Dims.Aggregate(1L, (product, size) => product * size));
        bool external = payload.External || (_spill && isInitializer && rawBytes >= OnnxModel.InlineBytes);
        if (external)
        {
            if (payload is FilePayload file && MessageKinds.IsVarintPayload(file.Field))
                content = Piece.Of(() => _model.Data(tensor), rawBytes);
            var place = new TensorProto();
            ExternalData.Set(place, _dataFile, Place(payload, content), content.Length);
            inserted = place.ToByteArray();
            before = TensorProto.DataLocationFieldNumber;
        }
        else
        {
            int field = payload is FilePayload inline ? inline.Field : TensorProto.RawDataFieldNumber;
            inserted = Wire.Head(field, content.Length);
            before = field + 1;
        }

        // Fields stand in the order of their numbers and the payload's is the last, so that there is a place before it.
        Touch(message);
        bool done = false;
        foreach ((int start, WireField field) in fields)
        {
            bool isPayload = field.Number == TensorProto.PayloadFieldNumber;
            if (!done && (isPayload || field.Number >= before))
            {
                CopyUpTo(start);
                Model.Add(new(inserted));
                message.Growth += inserted.Length;
                if (!external)
                {
                    Model.Add(content);
                    message.Growth += content.Length;
                }

                done = true;
            }

            if (isPayload || (external && field.Number == TensorProto.DataLocationFieldNumber))
            {
                CopyUpTo(start);
                _copied = (int)field.End;
                message.Growth -= field.End - start;
            }
        }
    }

    /// <summary>Gives content a place in the external data, the same place to the same content.</summary>
    private long Place(Payload payload, Piece content)
    {
        if (_external.TryGetValue(payload, out long offset))
            return offset;
        long alignment = content.Length >= LargeContent ? LargeAlignment : SmallAlignment;
        offset = (DataBytes + alignment - 1) / alignment * alignment;
        Data.Add((offset, content));
        DataBytes = offset + content.Length;
        _external.Add(payload, offset);
        return offset;
    }

    /// <summary>Leaves room for the head of <paramref name="message"/> and of those around it, whose lengths will change.</summary>
    private void Touch(Message message)
    {
        if (message.Head is not null)
            return;
        Touch(message.Parent!);
        CopyUpTo(message.Start);
        message.Head = Model.Count;
        Model.Add(default);
        _copied = message.Content;
    }

    private void CopyUpTo(int position)
    {
        if (position > _copied)
            Model.Add(new(_skeleton.AsMemory(_copied, position - _copied)));
        _copied = position;
    }

    /// <summary>A message of the skeleton while its content is walked.</summary>
    private sealed class Message(Message? parent, int number, int start, int content, int end)
    {
        public Message? Parent => parent;

        public int Number => number;

        /// <summary>Where its head starts, in bytes of the skeleton.</summary>
        public int Start => start;

        /// <summary>Where its content starts.</summary>
        public int Content => content;

        /// <summary>Where its content ends.</summary>
        public int End => end;

        /// <summary>The piece that will be its head, or null while nothing in it has changed.</summary>
        public int? Head { get; set; }

        /// <summary>Bytes by which its content becomes longer.</summary>
        public long Growth { get; set; }
    }
}

/// <summary>A run of bytes of an output: bytes in memory, bytes of a file, or a weight to evaluate.</summary>
internal readonly record struct Piece
{
    /// <summary>Bytes in memory.</summary>
    public Piece(ReadOnlyMemory<byte> bytes)
    {
        Bytes = bytes;
        Length = bytes.Length;
    }

    public ReadOnlyMemory<byte> Bytes { get; }

    /// <summary>The part of a file whose bytes they are, or null.</summary>
    public FilePayload? File { get; private init; }

    /// <summary>Makes the weight whose bytes they are when their turn comes, or null.</summary>
    public Func<WeightExpression>? Weight { get; private init; }

    /// <summary>How many bytes they are.</summary>
    public long Length { get; private init; }

    public static Piece Of(FilePayload file) => new() { File = file, Length = file.Length };

    public static Piece Of(WeightExpression weight) => Of(() => weight, weight.ByteLength);

    public static Piece Of(Func<WeightExpression> weight, long length) => new() { Weight = weight, Length = length };
}
