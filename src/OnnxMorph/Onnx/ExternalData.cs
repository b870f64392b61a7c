using System.Globalization;

namespace OnnxMorph.Onnx;

/// <summary>
/// Tensors whose bytes stand in a file beside the model. A model is untrusted input: the file must lie in the model's
/// folder, whatever the location says and whatever links say (CVE-2022-25882, CVE-2024-27318, CVE-2024-5187).
/// </summary>
internal static class ExternalData
{
    private const string Location = "location", Offset = "offset", Length = "length", Checksum = "checksum";

    /// <summary>Whether <paramref name="tensor"/> says that its bytes are elsewhere.</summary>
    public static bool IsExternal(TensorProto tensor) => tensor.DataLocation == TensorProto.Types.DataLocation.External;

    /// <summary>Forgets where the bytes of <paramref name="tensor"/> were; entries with other keys stay.</summary>
    public static void Clear(TensorProto tensor)
    {
        foreach (StringStringEntryProto entry in tensor.ExternalData.ToArray())
            if (entry.Key is Location or Offset or Length or Checksum)
                tensor.ExternalData.Remove(entry);
        tensor.ClearDataLocation();
    }

    /// <summary>Says where the bytes of <paramref name="tensor"/> are.</summary>
    /// <param name="tensor">The tensor.</param>
    /// <param name="file">Name of a file in the model's folder.</param>
    /// <param name="offset">Where the bytes start in it.</param>
    /// <param name="length">How many they are.</param>
    public static void Set(TensorProto tensor, string file, long offset, long length)
    {
        tensor.ExternalData.Add(new StringStringEntryProto { Key = Location, Value = file });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = Offset, Value = offset.ToString(CultureInfo.InvariantCulture) });
        tensor.ExternalData.Add(new StringStringEntryProto { Key = Length, Value = length.ToString(CultureInfo.InvariantCulture) });
        tensor.DataLocation = TensorProto.Types.DataLocation.External;
    }

    /// <summary>Finds the bytes of <paramref name="tensor"/> and checks that they are there and are what it needs.</summary>
    /// <param name="tensor">A tensor that <see cref="IsExternal"/>.</param>
    /// <param name="modelPath">The model's file.</param>
    /// <param name="byteLength">Bytes that the tensor's type and dimensions need.</param>
    /// <param name="name">What messages call the tensor.</param>
    public static FilePayload Resolve(TensorProto tensor, string modelPath, long byteLength, Func<string> name)
    {
        string location = Entry(tensor, Location)
            ?? throw new UnreadableModelException($"{name()} is stored outside the model but does not say where; export the model again.");
        long offset = Number(tensor, Offset, name) ?? 0;
        string file = Locate(location, modelPath, name);
        var info = new FileInfo(file);
        if (!info.Exists)
            throw new UnreadableModelException($"{name()} is stored in '{location}', which is not in the model's folder; put that file there.");
        long length = Number(tensor, Length, name) ?? byteLength;
        if (length != byteLength)
        {
            throw new UnreadableModelException(
                $"{name()} has {length} bytes in '{location}', but its type and dimensions {TensorStorage.Text(tensor)} need {byteLength}; export the model again.");
        }

        return length <= info.Length - offset ? new FilePayload(file, offset, length, TensorProto.RawDataFieldNumber, 0, External: true)
            : throw new UnreadableModelException(
                $"{name()} takes bytes {offset} to {offset + (decimal)length} of '{location}', which has only {info.Length}; copy or download that file again.");
    }

    private static string? Entry(TensorProto tensor, string key) => tensor.ExternalData.LastOrDefault(entry => entry.Key == key)?.Value;

    private static long? Number(TensorProto tensor, string key, Func<string> name)
    {
        if (Entry(tensor, key) is not { } text)
            return null;
        return long.TryParse(text, NumberStyles.None, CultureInfo.InvariantCulture, out long number) ? number
            : throw new UnreadableModelException($"{name()} is stored outside the model at the {key} '{text}', which is not a number; export the model again.");
    }

    private static string Locate(string location, string modelPath, Func<string> name)
    {
        // Both separators and drive letters count on every system: a model must not be safe on one and not on another.
        string[] parts = location.Split('/', '\\');
        bool rooted = location is "" || parts[0] is "" || parts[0].Contains(':');
        if (rooted || parts.Contains("..") || location.Contains('\0'))
            throw Unsafe($"is stored in '{location}', which is not a path inside the model's folder");
        string fullPath = Path.GetFullPath(modelPath);
        string file = RealPath(Path.Combine(Path.GetDirectoryName(fullPath)!, Path.Combine(parts)));

        // A model that is itself a link, as in a download cache, may have its data where its own file really is.
        string[] folders = [RealPath(Path.GetDirectoryName(fullPath)!), Path.GetDirectoryName(RealPath(fullPath))!];
        return folders.Any(folder => file.StartsWith(Path.TrimEndingDirectorySeparator(folder) + Path.DirectorySeparatorChar, PathComparison))
            ? file
            : throw Unsafe($"is stored in '{location}', a link that leaves the model's folder");

        UnreadableModelException Unsafe(string what) =>
            new($"{name()} {what}; put the file beside the model and store its plain name.");
    }

    /// <summary>How paths compare on this system.</summary>
    public static StringComparison PathComparison { get; } =
        OperatingSystem.IsLinux() ? StringComparison.Ordinal : StringComparison.OrdinalIgnoreCase;

    /// <summary><paramref name="path"/> with every link on the way followed; what does not exist stands for itself.</summary>
    public static string RealPath(string path)
    {
        string root = Path.GetPathRoot(path)!;
        string real = root;
        var parts = new Stack<string>(path[root.Length..].Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries).Reverse());
        for (int links = 0; parts.TryPop(out string? part);)
        {
            string next = Path.GetFullPath(Path.Combine(real, part));
            if (new FileInfo(next).LinkTarget is not { } target)
            {
                real = next;
                continue;
            }

            if (++links > 40)
                throw new UnreadableModelException($"'{path}' is a chain of links without an end; put the file itself there.");
            string full = Path.GetFullPath(Path.Combine(real, target));
            real = Path.GetPathRoot(full)!;
            foreach (string name in full[real.Length..].Split(Path.DirectorySeparatorChar, StringSplitOptions.RemoveEmptyEntries).Reverse())
                parts.Push(name);
        }

        return real;
    }
}
