using System.Buffers.Binary;
using System.Globalization;
using System.IO.Compression;
using System.Text;
using System.Text.RegularExpressions;
using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>
/// Reads NumPy's .npy format (versions 1, 2 and 3; either byte order; C and Fortran order; bool, integers, float16 to
/// float64) and .npz archives of it. Source: NumPy Enhancement Proposal 1 and numpy.lib.format.
/// </summary>
internal static partial class NpyReader
{
    private static readonly byte[] s_magic = [0x93, (byte)'N', (byte)'U', (byte)'M', (byte)'P', (byte)'Y'];

    /// <summary>The arrays of an .npz archive in the archive's order, with their names.</summary>
    public static IReadOnlyList<(string Name, TensorData Data)> ReadArchive(string path)
    {
        try
        {
            using ZipArchive archive = ZipFile.OpenRead(path);
            var arrays = new List<(string, TensorData)>();
            foreach (ZipArchiveEntry entry in archive.Entries)
            {
                if (!entry.FullName.EndsWith(".npy", StringComparison.Ordinal))
                    throw new UsageException($"'{Path.GetFileName(path)}' holds '{entry.FullName}', which is no array; an .npz archive holds .npy entries only.");
                using Stream stream = entry.Open();
                arrays.Add((entry.FullName[..^4], Read(stream, $"{Path.GetFileName(path)}:{entry.FullName}")));
            }

            return arrays;
        }
        catch (InvalidDataException e)
        {
            throw new OnnxMorphException(ExitCode.Usage, $"'{Path.GetFileName(path)}' is no .npz archive ({e.Message}); write it with numpy.savez.", e);
        }
    }

    /// <summary>One array; <paramref name="name"/> stands in the messages.</summary>
    public static TensorData Read(Stream stream, string name)
    {
        try
        {
            return Parse(stream, name);
        }
        catch (EndOfStreamException e)
        {
            throw new OnnxMorphException(ExitCode.Usage, $"'{name}' ends before its data does; write the array again.", e);
        }
    }

    private static TensorData Parse(Stream stream, string name)
    {
        Span<byte> start = stackalloc byte[8];
        stream.ReadExactly(start);
        if (!start[..6].SequenceEqual(s_magic))
            throw new UsageException($"'{name}' is no .npy array: its first bytes are wrong; write it with numpy.save.");
        int major = start[6];
        if (major is < 1 or > 3)
            throw new UsageException($"'{name}' has .npy version {major}, and versions 1 to 3 are known; write it with numpy.save.");
        Span<byte> length = stackalloc byte[4];
        length.Clear();
        stream.ReadExactly(major == 1 ? length[..2] : length);
        uint headerLength = BinaryPrimitives.ReadUInt32LittleEndian(length);
        if (headerLength > 1 << 20)
            throw new UsageException($"'{name}' has an .npy header of {headerLength} bytes; write it with numpy.save.");
        var headerBytes = new byte[headerLength];
        stream.ReadExactly(headerBytes);
        string header = (major == 3 ? Encoding.UTF8 : Encoding.Latin1).GetString(headerBytes);

        Match descr = Descr().Match(header);
        Match order = FortranOrder().Match(header);
        Match dims = ShapeTuple().Match(header);
        if (!descr.Success || !order.Success || !dims.Success)
            throw new UsageException($"'{name}' has an .npy header that names no plain type, order and shape; structured arrays cannot be model inputs.");
        long[] shape = [.. dims.Groups[1].Value.Split(',', StringSplitOptions.RemoveEmptyEntries | StringSplitOptions.TrimEntries)
            .Select(size => long.Parse(size, CultureInfo.InvariantCulture))];
        string typeCode = descr.Groups["type"].Value;
        ElementType type = typeCode switch
        {
            "b1" => ElementType.Bool,
            "i1" => ElementType.Int8,
            "i2" => ElementType.Int16,
            "i4" => ElementType.Int32,
            "i8" => ElementType.Int64,
            "u1" => ElementType.UInt8,
            "u2" => ElementType.UInt16,
            "u4" => ElementType.UInt32,
            "u8" => ElementType.UInt64,
            "f2" => ElementType.Float16,
            "f4" => ElementType.Float32,
            "f8" => ElementType.Float64,
            _ => throw new UsageException($"'{name}' has elements of NumPy type '{typeCode}', which no model input takes; convert the array to a number type."),
        };
        long count = 1;
        foreach (long size in shape)
            count = checked(count * size);
        if (type.RawSize(count) > Array.MaxLength)
            throw new UsageException($"'{name}' has {count} elements, too many for one array here; split the samples into several files.");
        var bytes = new byte[type.RawSize(count)];
        stream.ReadExactly(bytes);
        int width = type.BitWidth() / 8;
        if (descr.Groups["order"].Value == ">" && width > 1)
        {
            for (int i = 0; i < bytes.Length; i += width)
                bytes.AsSpan(i, width).Reverse();
        }

        if (order.Groups[1].Value == "True" && shape.Length > 1)
            bytes = ToRowMajor(bytes, shape, width);
        return new TensorData(type, shape, bytes);
    }

    private static byte[] ToRowMajor(byte[] source, long[] shape, int width)
    {
        var target = new byte[source.Length];
        var index = new long[shape.Length];
        var strides = new long[shape.Length];
        long stride = width;
        for (int axis = 0; axis < shape.Length; axis++)
        {
            strides[axis] = stride;
            stride *= shape[axis];
        }

        long from = 0;
        for (int to = 0; to < target.Length; to += width)
        {
            source.AsSpan((int)from, width).CopyTo(target.AsSpan(to));
            for (int axis = shape.Length - 1; axis >= 0; axis--)
            {
                from += strides[axis];
                if (++index[axis] < shape[axis])
                    break;
                from -= index[axis] * strides[axis];
                index[axis] = 0;
            }
        }

        return target;
    }

    [GeneratedRegex(@"['""]descr['""]\s*:\s*['""](?<order>[<>|=]?)(?<type>[^'""]+)['""]")]
    private static partial Regex Descr();

    [GeneratedRegex(@"['""]fortran_order['""]\s*:\s*(True|False)")]
    private static partial Regex FortranOrder();

    [GeneratedRegex(@"['""]shape['""]\s*:\s*\(([\d\s,]*)\)")]
    private static partial Regex ShapeTuple();
}
