using System.Collections.Immutable;
using Google.Protobuf;
using OnnxMorph.Weights;

namespace OnnxMorph.Onnx;

/// <summary>
/// A model in memory without its large weights: those stay in their files until the writer copies or evaluates them.
/// The content of a tensor is asked for with <see cref="Data"/> and replaced with <see cref="SetData"/>, whichever way it
/// is stored; the data fields of <see cref="TensorProto"/> are empty where the content is elsewhere. Everything else of
/// <see cref="Proto"/> is free to edit.
/// </summary>
public sealed class OnnxModel
{
    /// <summary>Content of at least this many bytes is left in the file; smaller content stands in the message.</summary>
    public const int InlineBytes = 1024;

    private static long s_lastPayload;
    private readonly Dictionary<ulong, Payload> _payloads;
    private readonly Dictionary<string, FileStamp> _sources;

    /// <summary>A model made in memory, or one whose tensors still say where their external data is.</summary>
    /// <param name="proto">The model; <see cref="Validate"/> checks it.</param>
    /// <param name="path">The file that it came from: external data is found beside it.</param>
    /// <exception cref="UnreadableModelException">External data is missing, of the wrong length or outside the model's folder.</exception>
    public OnnxModel(ModelProto proto, string? path = null)
        : this(proto, path, [], [])
    {
        foreach (TensorPlace place in proto.Tensors())
        {
            if (place.Tensor.HasPayload)
                throw new ArgumentException($"{place} belongs to another model; copy it with SetData.", nameof(proto));
        }

        AttachExternalData();
    }

    private OnnxModel(ModelProto proto, string? path, Dictionary<ulong, Payload> payloads, Dictionary<string, FileStamp> sources)
    {
        Proto = proto;
        Path = path;
        _payloads = payloads;
        _sources = sources;
    }

    /// <summary>The model as ONNX has it, less the content that is elsewhere.</summary>
    public ModelProto Proto { get; }

    /// <summary>The file that the model was read from, or null.</summary>
    public string? Path { get; }

    /// <summary>What messages call the model.</summary>
    internal string Name => Path is null ? "the model" : $"'{Path}'";

    /// <summary>Full paths of the files that hold weights of the model, no links among them.</summary>
    internal IEnumerable<string> Sources => _sources.Keys;

    /// <summary>The content of <paramref name="tensor"/>, in raw layout; nothing is read before it is evaluated.</summary>
    /// <remarks>
    /// Numbers in a typed field other than float_data and double_data are not in raw layout and are decoded at once.
    /// The type and dimensions are the tensor's present ones, so dimensions may be edited as long as their product stays.
    /// </remarks>
    /// <exception cref="RefusedException">The tensor holds text.</exception>
    /// <exception cref="UnreadableModelException">Type, dimensions and content contradict each other.</exception>
    public WeightExpression Data(TensorProto tensor)
    {
        Func<string> name = () => $"{Name}: tensor '{tensor.Name}'";
        CheckTensor(tensor, name);
        ElementType type = TensorStorage.TypeOf(tensor, name);
        ImmutableArray<long> shape = TensorStorage.ShapeOf(tensor, name);
        if (type == ElementType.String)
            throw new RefusedException($"{name()} holds text, which cannot be changed as a weight; leave it out of the selection.");
        long byteLength = type.RawSize(shape.Aggregate(1L, (product, size) => product * size));
        switch (PayloadOf(tensor))
        {
            case null:
                return new StoredWeight(type, shape, TensorStorage.RawBytes(tensor, type, byteLength));
            case WeightPayload { Weight: var weight }:
                return weight.Shape.SequenceEqual(shape) && weight.Type == type ? weight
                    : throw new InvalidOperationException($"{name()} was given a weight of shape [{string.Join(", ", weight.Shape)}] and then other dimensions.");
            case FilePayload file when MessageKinds.IsVarintPayload(file.Field):
                return new StoredWeight(type, shape, Decode(file, type, byteLength));
            case FilePayload file:
                return new StoredWeight(type, shape, file.File, file.Offset);
            case var other:
                throw new InvalidOperationException($"No way to read a {other.GetType().Name}.");
        }
    }

    /// <summary>
    /// Replaces type, dimensions and content of <paramref name="tensor"/>; its name, documentation and metadata stay.
    /// </summary>
    public void SetData(TensorProto tensor, WeightExpression weight)
    {
        bool external = PayloadOf(tensor) is { External: true };
        TensorStorage.Clear(tensor);
        tensor.DataType = (int)weight.Type;
        tensor.Dims.Clear();
        tensor.Dims.AddRange(weight.Shape);
        if (weight is StoredWeight { File: null } stored && stored.ByteLength < InlineBytes)
            tensor.RawData = ByteString.CopyFrom(stored.Bytes.Span);
        else
            tensor.Payload = Add(new WeightPayload(weight, external));
    }

    /// <summary>The elements of an integer or Boolean tensor in row-major order.</summary>
    /// <exception cref="ArgumentException">The tensor holds no integers.</exception>
    /// <exception cref="InvalidOperationException">The tensor's content is still to be evaluated.</exception>
    public long[] Int64Values(TensorProto tensor)
    {
        WeightExpression data = Data(tensor);
        return TensorStorage.Integers(StoredBytes(data).Span, data.Type, data.Count);
    }

    /// <summary>Replaces the elements of an int64 tensor; dimensions as given.</summary>
    public void SetInt64Values(TensorProto tensor, ReadOnlySpan<long> values, params ReadOnlySpan<long> shape)
    {
        var bytes = new byte[8 * values.Length];
        for (int i = 0; i < values.Length; i++)
            System.Buffers.Binary.BinaryPrimitives.WriteInt64LittleEndian(bytes.AsSpan(8 * i), values[i]);
        SetData(tensor, new StoredWeight(ElementType.Int64, [.. shape], bytes));
    }

    /// <summary>
    /// <paramref name="tensor"/> with its content inside the message, for a model that is handed to another program in
    /// memory: the tensor itself where it is so already, else a copy.
    /// </summary>
    /// <exception cref="InvalidOperationException">The tensor's content is still to be evaluated.</exception>
    public TensorProto Embedded(TensorProto tensor)
    {
        if (!tensor.HasPayload)
            return tensor;
        ReadOnlyMemory<byte> bytes = StoredBytes(Data(tensor));
        TensorProto embedded = tensor.Clone();
        embedded.ClearPayload();
        embedded.RawData = UnsafeByteOperations.UnsafeWrap(bytes);
        return embedded;
    }

    /// <summary>Puts the content of all tensors of <paramref name="proto"/>, copies of this model's, into the message.</summary>
    public void Embed(ModelProto proto)
    {
        foreach (TensorProto tensor in proto.Tensors().Select(place => place.Tensor).Where(t => t.HasPayload))
        {
            tensor.RawData = Embedded(tensor).RawData;
            tensor.ClearPayload();
        }
    }

    /// <summary>A copy to change while this model stays: messages are copied, weights in files are shared.</summary>
    public OnnxModel Clone() => new(Proto.Clone(), Path, new(_payloads), new(_sources));

    /// <summary>Checks that the model is consistent: see <see cref="ModelCheck"/>.</summary>
    /// <exception cref="UnreadableModelException">It is not.</exception>
    public void Validate() => ModelCheck.Check(this);

    /// <summary>The model that a reader has parsed, whose tensors refer to <paramref name="payloads"/>.</summary>
    internal static OnnxModel FromReader(ModelProto proto, string? path, Dictionary<ulong, Payload> payloads, FileStamp? stamp)
    {
        var model = new OnnxModel(proto, path, payloads, []);
        if (path is not null && stamp is not null)
            model._sources[ExternalData.RealPath(System.IO.Path.GetFullPath(path))] = stamp;
        model.AttachExternalData();
        return model;
    }

    /// <summary>A number for a payload that no model of this process has used: a tensor in the wrong model is found out.</summary>
    internal static ulong NewPayloadNumber() => (ulong)Interlocked.Increment(ref s_lastPayload);

    /// <summary>Where the content of <paramref name="tensor"/> is, or null where it is in the message.</summary>
    internal Payload? PayloadOf(TensorProto tensor) =>
        !tensor.HasPayload ? null
        : _payloads.TryGetValue(tensor.Payload, out Payload? payload) ? payload
        : throw new InvalidOperationException($"Tensor '{tensor.Name}' belongs to another model; copy it with SetData(tensor, other.Data(tensor)).");

    /// <summary>Checks that type, dimensions and content of <paramref name="tensor"/> agree.</summary>
    /// <param name="tensor">A tensor of this model.</param>
    /// <param name="name">What messages call it.</param>
    internal void CheckTensor(TensorProto tensor, Func<string> name)
    {
        ElementType type = TensorStorage.TypeOf(tensor, name);
        long count = TensorStorage.ShapeOf(tensor, name).Aggregate(1L, (product, size) => product * size);
        List<(int Field, long Count)> contents = [.. TensorStorage.Contents(tensor)];
        switch (PayloadOf(tensor))
        {
            case WeightPayload { Weight: var weight }:
                contents.Add((TensorProto.RawDataFieldNumber, weight.ByteLength));
                break;
            case FilePayload file when MessageKinds.IsVarintPayload(file.Field):
                contents.Add((file.Field, file.Values));
                break;
            case FilePayload { Field: TensorProto.RawDataFieldNumber } file:
                contents.Add((file.Field, file.Length));
                break;
            case FilePayload file:
                int size = file.Field == TensorProto.DoubleDataFieldNumber ? 8 : 4;
                if (file.Length % size != 0)
                    throw new UnreadableModelException($"{name()} ends within a number; export the model again.");
                contents.Add((file.Field, file.Length / size));
                break;
        }

        if (contents.Count > 1)
        {
            throw new UnreadableModelException(
                $"{name()} holds its elements twice, in {FieldName(contents[0].Field)} and {FieldName(contents[1].Field)}; export the model again.");
        }

        (int field, long found) = contents.Count == 1 ? contents[0] : (TensorStorage.TypedField(type), 0);
        bool raw = field == TensorProto.RawDataFieldNumber;
        if (raw ? type == ElementType.String : field != TensorStorage.TypedField(type))
        {
            throw new UnreadableModelException(
                $"{name()} is of type {type} but holds its elements in {FieldName(field)}; export the model again.");
        }

        long expected = raw ? type.RawSize(count) : TensorStorage.TypedCount(type, count);
        if (found != expected)
        {
            throw new UnreadableModelException(
                $"{name()} has {found} {(raw ? "bytes" : "numbers")}, but {type} with dimensions {TensorStorage.Text(tensor)} needs {expected}; export the model again.");
        }
    }

    /// <summary>Fails where a file that holds weights is no longer what it was when the model was read.</summary>
    internal void CheckSourcesUnchanged()
    {
        foreach ((string file, FileStamp stamp) in _sources)
        {
            if (FileStamp.Of(file) != stamp)
                throw new OnnxMorphException(ExitCode.InputOutput, $"'{file}' has changed since it was read; run the command again.");
        }
    }

    /// <summary>The bytes of <paramref name="data"/>, which must exist already.</summary>
    private ReadOnlyMemory<byte> StoredBytes(WeightExpression data)
    {
        if (data is not StoredWeight stored)
            throw new InvalidOperationException($"A {data.GetType().Name} has no bytes before it is evaluated.");
        return stored.File is null ? stored.Bytes : ReadFile(stored.File, stored.Offset, checked((int)stored.ByteLength));
    }

    private byte[] Decode(FilePayload payload, ElementType type, long byteLength)
    {
        var bytes = new byte[byteLength];
        var input = new CodedInputStream(ReadFile(payload.File, payload.Offset, checked((int)payload.Length)));
        try
        {
            TensorStorage.Pack(Numbers(), type, bytes);
        }
        catch (InvalidProtocolBufferException e)
        {
            throw new UnreadableModelException($"{Name} is damaged near byte {payload.Offset}: {e.Message}", e);
        }

        return bytes;

        IEnumerable<ulong> Numbers()
        {
            while (!input.IsAtEnd)
                yield return input.ReadUInt64();
        }
    }

    private static byte[] ReadFile(string file, long offset, int length)
    {
        var bytes = new byte[length];
        try
        {
            using FileStream stream = File.OpenRead(file);
            stream.Position = offset;
            stream.ReadExactly(bytes);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{file}' cannot be read: {e.Message}", e);
        }

        return bytes;
    }

    private void AttachExternalData()
    {
        foreach (TensorPlace place in Proto.Tensors())
        {
            TensorProto tensor = place.Tensor;
            if (!ExternalData.IsExternal(tensor))
                continue;
            Func<string> name = () => $"{Name}: {place}";
            ElementType type = TensorStorage.TypeOf(tensor, name);
            long count = TensorStorage.ShapeOf(tensor, name).Aggregate(1L, (product, size) => product * size);
            if (type == ElementType.String)
                throw new UnreadableModelException($"{name()} holds text outside the model, where ONNX allows only numbers; export the model again.");
            if (tensor.HasPayload)
                throw new UnreadableModelException($"{name()} holds its elements twice, inside and outside the model; export the model again.");
            if (Path is null)
                throw new UnreadableModelException($"{name()} is stored outside the model, which did not come from a file; read the model from its folder.");
            FilePayload payload = ExternalData.Resolve(tensor, Path, type.RawSize(count), name);
            _sources.TryAdd(payload.File, FileStamp.Of(payload.File));
            ExternalData.Clear(tensor);
            tensor.Payload = Add(payload);
        }
    }

    private ulong Add(Payload payload)
    {
        ulong number = NewPayloadNumber();
        _payloads.Add(number, payload);
        return number;
    }

    private static string FieldName(int field) => field switch
    {
        TensorProto.RawDataFieldNumber => "raw_data",
        TensorProto.FloatDataFieldNumber => "float_data",
        TensorProto.DoubleDataFieldNumber => "double_data",
        TensorProto.Int32DataFieldNumber => "int32_data",
        TensorProto.Int64DataFieldNumber => "int64_data",
        TensorProto.Uint64DataFieldNumber => "uint64_data",
        _ => "string_data",
    };
}

/// <summary>What tells whether a file is still the one that was read: size in bytes and time of the last change.</summary>
internal sealed record FileStamp(long Length, DateTime LastWrite)
{
    public static FileStamp Of(string file)
    {
        var info = new FileInfo(file);
        return new(info.Exists ? info.Length : -1, info.LastWriteTimeUtc);
    }
}
