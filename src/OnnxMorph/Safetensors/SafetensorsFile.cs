using System.Buffers.Binary;
using System.Collections.Immutable;
using System.Text.Json;
using OnnxMorph.Weights;

namespace OnnxMorph.Safetensors;

/// <summary>
/// Files of named tensors as PyTorch and others exchange them (safetensors): eight bytes with the length of a JSON header, little-endian; the
/// header, which gives each tensor's type, shape and place; and the tensors' bytes, row-major and without gaps.
/// </summary>
public static class SafetensorsFile
{
    // The format's own limit.
    private const long LongestHeader = 100_000_000;

    private const string Metadata = "__metadata__";

    private static readonly Dictionary<ElementType, string> s_names = new()
    {
        [ElementType.Float64] = "F64",
        [ElementType.Float32] = "F32",
        [ElementType.Float16] = "F16",
        [ElementType.BFloat16] = "BF16",
        [ElementType.Int64] = "I64",
        [ElementType.Int32] = "I32",
        [ElementType.Int16] = "I16",
        [ElementType.Int8] = "I8",
        [ElementType.UInt64] = "U64",
        [ElementType.UInt32] = "U32",
        [ElementType.UInt16] = "U16",
        [ElementType.UInt8] = "U8",
        [ElementType.Bool] = "BOOL",
        [ElementType.Float8E4M3FN] = "F8_E4M3",
        [ElementType.Float8E5M2] = "F8_E5M2",
    };

    private static readonly Dictionary<string, ElementType> s_types = s_names.ToDictionary(n => n.Value, n => n.Key);

    /// <summary>Whether the format has an element type.</summary>
    public static bool Holds(ElementType type) => s_names.ContainsKey(type);

    /// <summary>Writes tensors under their names.</summary>
    /// <param name="stream">Where to.</param>
    /// <param name="tensors">The tensors, each of a type that the format has (<see cref="Holds"/>).</param>
    /// <param name="evaluator">Evaluates them.</param>
    /// <param name="cancellation">Asked while weights are evaluated.</param>
    public static void Write(Stream stream, IReadOnlyDictionary<string, WeightExpression> tensors, WeightEvaluator evaluator, CancellationToken cancellation = default)
    {
        // Wide elements first, so that every tensor begins at a multiple of its element's size.
        List<KeyValuePair<string, WeightExpression>> ordered = [.. tensors.OrderByDescending(t => t.Value.Type.BitWidth()).ThenBy(t => t.Key, StringComparer.Ordinal)];
        using var text = new MemoryStream();
        using (var json = new Utf8JsonWriter(text))
        {
            json.WriteStartObject();
            json.WriteStartObject(Metadata);
            json.WriteString("format", "pt");
            json.WriteEndObject();
            long offset = 0;
            foreach ((string name, WeightExpression weight) in ordered)
            {
                json.WriteStartObject(name);
                json.WriteString("dtype", s_names[weight.Type]);
                json.WriteStartArray("shape");
                foreach (long size in weight.Shape)
                    json.WriteNumberValue(size);
                json.WriteEndArray();
                json.WriteStartArray("data_offsets");
                json.WriteNumberValue(offset);
                json.WriteNumberValue(offset += weight.ByteLength);
                json.WriteEndArray();
                json.WriteEndObject();
            }

            json.WriteEndObject();
        }

        // Spaces behind the header bring the tensors to a multiple of 8.
        while (text.Length % 8 != 0)
            text.WriteByte((byte)' ');
        Span<byte> length = stackalloc byte[8];
        BinaryPrimitives.WriteInt64LittleEndian(length, text.Length);
        stream.Write(length);
        text.WriteTo(stream);
        foreach ((_, WeightExpression weight) in ordered)
            evaluator.Write(weight, stream, cancellation);
    }

    /// <summary>The tensors of a file, whose bytes stay there.</summary>
    /// <exception cref="UnreadableModelException">It is no such file, or its header and its length contradict each other.</exception>
    /// <exception cref="OnnxMorphException">There is no such file.</exception>
    public static IReadOnlyDictionary<string, StoredWeight> Read(string path)
    {
        if (!File.Exists(path))
            throw new OnnxMorphException(ExitCode.InputOutput, $"The weights '{path}' do not exist; check the path.");
        string name = Path.GetFileName(path);
        using FileStream file = File.OpenRead(path);
        var length = new byte[8];
        long header = file.ReadAtLeast(length, 8, throwOnEndOfStream: false) == 8 ? BinaryPrimitives.ReadInt64LittleEndian(length) : -1;
        if (header is < 2 or > LongestHeader || header > file.Length - 8)
            throw new UnreadableModelException($"'{name}' is no safetensors file: its first eight bytes do not give the length of a header.");
        var text = new byte[header];
        file.ReadExactly(text);
        var tensors = new Dictionary<string, StoredWeight>();
        try
        {
            using var document = JsonDocument.Parse(text);
            foreach (JsonProperty entry in document.RootElement.EnumerateObject().Where(e => e.Name != Metadata))
                if (!tensors.TryAdd(entry.Name, Tensor(name, entry, Path.GetFullPath(path), 8 + header, file.Length)))
                    throw new UnreadableModelException($"'{name}' lists the tensor '{entry.Name}' twice.");
        }
        catch (Exception e) when (e is JsonException or InvalidOperationException or KeyNotFoundException or FormatException or OverflowException)
        {
            throw new UnreadableModelException($"'{name}' has a header that is not that of a safetensors file: {e.Message}", e);
        }

        return tensors;
    }

    private static StoredWeight Tensor(string file, JsonProperty entry, string path, long start, long length)
    {
        string dtype = entry.Value.GetProperty("dtype").GetString() ?? "";
        if (!s_types.TryGetValue(dtype, out ElementType type))
            throw new UnreadableModelException($"'{file}' holds '{entry.Name}' as {dtype}, a type that is not known here.");
        ImmutableArray<long> shape = [.. entry.Value.GetProperty("shape").EnumerateArray().Select(size => size.GetInt64())];
        long[] offsets = [.. entry.Value.GetProperty("data_offsets").EnumerateArray().Select(offset => offset.GetInt64())];
        if (shape.Any(size => size < 0) || offsets is not [>= 0 and var from, var to]
            || to - from != type.RawSize(shape.Aggregate(1L, (product, size) => checked(product * size))) || to > length - start)
            throw new UnreadableModelException($"'{file}' is cut short, or gives '{entry.Name}' a place that does not fit its shape.");
        return new StoredWeight(type, shape, path, start + from);
    }
}
