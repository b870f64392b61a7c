using System.Text.Json;
using OnnxMorph.Axes;
using OnnxMorph.Morphs;

namespace OnnxMorph.Certification;

/// <summary>
/// The relations that a morph established (docs/certificate.md): for every value of the parent that the child has under the
/// same name, what each changed axis holds. As a file also every rewrite that leaves values as they are, for people.
/// </summary>
public sealed class Certificate
{
    /// <summary>Version of the format; it grows when a reader of an older one could misunderstand.</summary>
    public const int Version = 2;

    private const string Format = "onnxmorph-certificate";

    /// <summary>A map for each axis of each value that changed, null for axes that did not; values that did not change are not listed.</summary>
    public required IReadOnlyDictionary<string, AxisMap?[]> Relations { get; init; }

    /// <summary>Values of which nothing is stated.</summary>
    public required IReadOnlySet<string> Unstated { get; init; }

    /// <summary>Reads a certificate.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="UsageException">The file holds no certificate of a version that is known.</exception>
    /// <exception cref="OnnxMorphException">The file cannot be read (<see cref="ExitCode.InputOutput"/>).</exception>
    public static Certificate Read(string path)
    {
        try
        {
            using FileStream file = File.OpenRead(path);
            using var document = JsonDocument.Parse(file);
            JsonElement root = document.RootElement;
            if (root.GetProperty("format").GetString() != Format || root.GetProperty("version").GetInt32() is var version && version != Version)
                throw new UsageException($"'{path}' is no certificate of version {Version}; write it again with 'onnxmorph morph --certificate'.");
            return new Certificate
            {
                Relations = root.GetProperty("values").EnumerateArray().ToDictionary(v => v.GetProperty("name").GetString()!, v => ReadAxes(v.GetProperty("axes"))),
                Unstated = root.GetProperty("unstated").EnumerateArray().Select(v => v.GetString()!).ToHashSet(),
            };
        }
        catch (Exception e) when (e is JsonException or KeyNotFoundException or InvalidOperationException or FormatException or ArgumentException)
        {
            throw new UsageException($"'{path}' is no certificate ({e.Message}); write it again with 'onnxmorph morph --certificate'.", e);
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"The certificate '{path}' cannot be read: {e.Message}", e);
        }
    }

    private static AxisMap?[] ReadAxes(JsonElement axes)
    {
        var maps = new AxisMap?[axes.EnumerateArray().Max(a => a.GetProperty("axis").GetInt32()) + 1];
        foreach (JsonElement axis in axes.EnumerateArray())
        {
            int parentSize = axis.GetProperty("parentSize").GetInt32();
            var rows = new List<Tap[]>();
            foreach (JsonElement run in axis.GetProperty("sources").EnumerateArray())
            {
                if (run.ValueKind == JsonValueKind.Object)
                {
                    Tap[] terms = [.. run.GetProperty("terms").EnumerateArray().Select(t => new Tap(t[0].GetInt32(), t[1].GetDouble()))];
                    rows.AddRange(Enumerable.Repeat(terms, run.GetProperty("count").GetInt32()));
                    continue;
                }

                int first = run[0].GetInt32(), count = run[1].GetInt32();
                double weight = run.GetArrayLength() > 2 ? run[2].GetDouble() : 1;
                for (int i = 0; i < count; i++)
                    rows.Add(first < 0 ? [] : [new Tap(first + i, weight)]);
            }

            int last = rows.SelectMany(r => r).Select(t => t.Source).DefaultIfEmpty(0).Max();
            var map = AxisMap.FromTaps(parentSize, Math.Max(0, last + 1 - parentSize), [.. rows]);
            if (map.Size != axis.GetProperty("childSize").GetInt32())
                throw new FormatException($"its sources make {map.Size} channels of {axis.GetProperty("childSize").GetInt32()}");
            maps[axis.GetProperty("axis").GetInt32()] = map;
        }

        return maps;
    }

    /// <summary>Writes the certificate of a morph to <paramref name="destination"/>.</summary>
    public static void Write(MorphResult result, Stream destination)
    {
        using var json = new Utf8JsonWriter(destination, new JsonWriterOptions { Indented = true });
        json.WriteStartObject();
        json.WriteString("format", Format);
        json.WriteNumber("version", Version);
        json.WriteStartArray("values");
        foreach ((string value, AxisMap?[] maps) in result.Relations.OrderBy(r => r.Key, StringComparer.Ordinal))
        {
            json.WriteStartObject();
            json.WriteString("name", value);
            json.WriteStartArray("axes");
            for (int axis = 0; axis < maps.Length; axis++)
                if (maps[axis] is { } map)
                    WriteAxis(json, axis, map);
            json.WriteEndArray();
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("unstated");
        foreach (string value in result.Unstated.Order(StringComparer.Ordinal))
            json.WriteStringValue(value);
        json.WriteEndArray();
        json.WriteStartArray("steps");
        foreach (StepReport step in result.Steps)
            WriteStep(json, step);
        json.WriteEndArray();
        json.WriteEndObject();
    }

    // Runs [source, count] or [source, count, weight]: child channels that follow each other and so do their sources. A source below
    // parentSize is that channel of the parent; one from there on is a channel of the child's own, equal numbers being equal
    // channels; −1 is zero. A sum of several is an object.
    private static void WriteAxis(Utf8JsonWriter json, int axis, AxisMap map)
    {
        json.WriteStartObject();
        json.WriteNumber("axis", axis);
        json.WriteNumber("parentSize", map.SourceSize);
        json.WriteNumber("childSize", map.Size);
        json.WriteString("relation", map.FreshSize == 0 ? "embed"
            : map.Size - map.SourceSize == map.FreshSize ? "project" : "embed and project");
        json.WriteStartArray("sources");
        for (int child = 0; child < map.Size;)
        {
            int count = 1;
            while (child + count < map.Size && Continues(map, child, count))
                count++;
            WriteRun(json, map[child], count);
            child += count;
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    // Whether a channel goes on with the run that begins at first: the next source, or the same zeros or sum.
    private static bool Continues(AxisMap map, int first, int count)
    {
        ReadOnlySpan<Tap> begin = map[first], next = map[first + count];
        return begin.Length == 1 && next.Length == 1
            ? next[0] == begin[0] with { Source = begin[0].Source + count }
            : begin.SequenceEqual(next);
    }

    private static void WriteRun(Utf8JsonWriter json, ReadOnlySpan<Tap> channel, int count)
    {
        if (channel.Length > 1)
        {
            json.WriteStartObject();
            json.WriteNumber("count", count);
            json.WriteStartArray("terms");
            foreach (Tap tap in channel)
            {
                json.WriteStartArray();
                json.WriteNumberValue(tap.Source);
                json.WriteNumberValue(tap.Weight);
                json.WriteEndArray();
            }

            json.WriteEndArray();
            json.WriteEndObject();
            return;
        }

        json.WriteStartArray();
        json.WriteNumberValue(channel.Length == 0 ? -1 : channel[0].Source);
        json.WriteNumberValue(count);
        if (channel.Length == 1 && channel[0].Weight != 1)
            json.WriteNumberValue(channel[0].Weight);
        json.WriteEndArray();
    }

    private static void WriteStep(Utf8JsonWriter json, StepReport step)
    {
        json.WriteStartObject();
        json.WriteString("step", step.Step);
        json.WriteString("exactness", step.Exactness == Verification.Exactness.BitExact ? "bit-exact" : "rounding");
        json.WriteStartArray("factorisations");
        foreach (Factorisation factorisation in step.Factorisations)
            WriteRewrite(json, factorisation.Node, factorisation.Form, factorisation.Child, factorisation.Residual);
        json.WriteEndArray();
        json.WriteStartArray("activations");
        foreach (ActivationRewrite activation in step.Activations)
            WriteRewrite(json, activation.Node, activation.Form, activation.Child);
        json.WriteEndArray();
        json.WriteStartArray("copies");
        foreach (BlockCopy copy in step.Copies)
        {
            json.WriteStartObject();
            json.WriteString("block", copy.Block);
            json.WriteString("entry", copy.Entry);
            json.WriteString("exit", copy.Exit);
            WriteNames(json, copy.Child);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteStartArray("kernels");
        foreach (KernelPadding kernel in step.Kernels)
        {
            json.WriteStartObject();
            json.WriteString("node", kernel.Node);
            WriteInts(json, "before", kernel.Before);
            WriteInts(json, "after", kernel.After);
            json.WriteEndObject();
        }

        json.WriteEndArray();
        json.WriteEndObject();
    }

    private static void WriteRewrite(Utf8JsonWriter json, string parent, string form, IReadOnlyList<string> child, double? residual = null)
    {
        json.WriteStartObject();
        json.WriteString("node", parent);
        json.WriteString("form", form);
        if (residual is { } left)
            json.WriteNumber("residual", left);
        WriteNames(json, child);
        json.WriteEndObject();
    }

    private static void WriteNames(Utf8JsonWriter json, IReadOnlyList<string> child)
    {
        json.WriteStartArray("child");
        foreach (string node in child)
            json.WriteStringValue(node);
        json.WriteEndArray();
    }

    private static void WriteInts(Utf8JsonWriter json, string name, IReadOnlyList<int> values)
    {
        json.WriteStartArray(name);
        foreach (int value in values)
            json.WriteNumberValue(value);
        json.WriteEndArray();
    }
}
