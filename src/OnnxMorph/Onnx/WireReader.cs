using Google.Protobuf;

namespace OnnxMorph.Onnx;

/// <summary>One field on the wire.</summary>
/// <param name="Tag">Field number and wire type.</param>
/// <param name="Value">The number of a varint; 0 for other wire types.</param>
/// <param name="Content">Where the content of a length-delimited or fixed-size field starts, in bytes.</param>
/// <param name="End">Where the field ends, in bytes.</param>
internal readonly record struct WireField(uint Tag, ulong Value, long Content, long End)
{
    public int Number => WireFormat.GetTagFieldNumber(Tag);

    public WireFormat.WireType Type => WireFormat.GetTagWireType(Tag);

    public long Length => End - Content;

    /// <summary>By how much the field changes the depth of groups.</summary>
    public int GroupStep => Type switch
    {
        WireFormat.WireType.StartGroup => 1,
        WireFormat.WireType.EndGroup => -1,
        _ => 0,
    };
}

/// <summary>
/// Walks protobuf fields through a window of 64 KiB, whatever the size of the file. It checks what the wire format itself
/// promises; what the fields mean is for others.
/// </summary>
/// <param name="stream">A seekable stream.</param>
/// <param name="name">What messages call the stream.</param>
internal sealed class WireReader(Stream stream, string name)
{
    private readonly byte[] _window = new byte[64 * 1024];
    private long _windowStart = stream.Position;
    private int _filled;
    private int _next;

    /// <summary>What messages call the stream.</summary>
    public string Name => name;

    /// <summary>Size of the stream in bytes.</summary>
    public long Length { get; } = stream.Length;

    /// <summary>Bytes read or skipped so far.</summary>
    public long Position => _windowStart + _next;

    /// <summary>
    /// Reads the head of the next field of a message that ends at <paramref name="end"/>. The reader stands behind a varint
    /// or a group's tag and at the content of any other field.
    /// </summary>
    public WireField Next(long end)
    {
        long start = Position;
        ulong tag = ReadVarint(end);
        if (tag > uint.MaxValue || WireFormat.GetTagFieldNumber((uint)tag) == 0)
            throw Damaged(start, "no field can start here");
        switch (WireFormat.GetTagWireType((uint)tag))
        {
            case WireFormat.WireType.Varint:
                ulong value = ReadVarint(end);
                return new((uint)tag, value, Position, Position);
            case WireFormat.WireType.Fixed64:
                return Delimited((uint)tag, 8, end);
            case WireFormat.WireType.Fixed32:
                return Delimited((uint)tag, 4, end);
            case WireFormat.WireType.LengthDelimited:
                return Delimited((uint)tag, ReadVarint(end), end);
            case WireFormat.WireType.StartGroup or WireFormat.WireType.EndGroup:
                return new((uint)tag, 0, Position, Position);
            default:
                throw Damaged(start, "no field has this wire type");
        }
    }

    /// <summary>Moves on to <paramref name="position"/>, at or behind the current one.</summary>
    public void SkipTo(long position)
    {
        if (position <= _windowStart + _filled)
        {
            _next = (int)(position - _windowStart);
            return;
        }

        stream.Position = _windowStart = position;
        _filled = _next = 0;
    }

    /// <summary>Copies everything up to <paramref name="end"/> to <paramref name="destination"/>.</summary>
    public void CopyTo(Stream destination, long end)
    {
        while (Position < end)
        {
            ReadOnlySpan<byte> part = Available(end);
            destination.Write(part);
            _next += part.Length;
        }
    }

    /// <summary>Numbers in a run of varints that ends at <paramref name="end"/>: each has one byte without the top bit.</summary>
    public long CountVarints(long end)
    {
        long count = 0;
        byte last = 0;
        while (Position < end)
        {
            ReadOnlySpan<byte> part = Available(end);
            foreach (byte b in part)
                count += (b >> 7) ^ 1;
            last = part[^1];
            _next += part.Length;
        }

        return last < 0x80 ? count : throw Damaged(end, "a number ends in the middle");
    }

    /// <summary>The error for a file that contradicts the wire format at <paramref name="position"/>.</summary>
    public UnreadableModelException Damaged(long position, string reason) =>
        new($"{name} is damaged at byte {position}: {reason}; copy or export the model again.");

    private WireField Delimited(uint tag, ulong length, long end)
    {
        if (length > (ulong)(end - Position))
            throw PastEnd(end);
        return new(tag, 0, Position, Position + (long)length);
    }

    private ulong ReadVarint(long end)
    {
        ulong value = 0;
        for (int shift = 0; shift < 70; shift += 7)
        {
            if (Position >= end)
                throw PastEnd(end);
            if (_next == _filled)
                Refill();
            byte b = _window[_next++];
            value |= (ulong)(b & 0x7F) << shift;
            if (b < 0x80)
                return value;
        }

        throw Damaged(Position, "a number has more than ten bytes");
    }

    private ReadOnlySpan<byte> Available(long end)
    {
        if (_next == _filled)
            Refill();
        return _window.AsSpan(_next, (int)Math.Min(_filled - _next, end - Position));
    }

    private void Refill()
    {
        _windowStart += _filled;
        _next = 0;
        _filled = stream.Read(_window);
        if (_filled == 0)
            throw PastEnd(Length);
    }

    private UnreadableModelException PastEnd(long end) => end == Length
        ? new($"{name} is cut short: it ends at byte {Length}, inside a field; copy or download the model again.")
        : Damaged(Position, "a field reaches past the end of the message that holds it");
}

/// <summary>Writing the pieces of the wire format.</summary>
internal static class Wire
{
    /// <summary>Writes <paramref name="value"/> in as few bytes as it takes.</summary>
    public static void WriteVarint(this Stream stream, ulong value)
    {
        for (; value >= 0x80; value >>= 7)
            stream.WriteByte((byte)(value | 0x80));
        stream.WriteByte((byte)value);
    }

    /// <summary>The head of a length-delimited field: tag and length.</summary>
    public static byte[] Head(int field, long length)
    {
        var head = new MemoryStream();
        head.WriteVarint(WireFormat.MakeTag(field, WireFormat.WireType.LengthDelimited));
        head.WriteVarint((ulong)length);
        return head.ToArray();
    }

    /// <summary>Writes <paramref name="value"/> over five bytes, padded: room for a length that was not known before.</summary>
    public static void PatchVarint(Span<byte> five, uint value)
    {
        for (int i = 0; i < 4; i++, value >>= 7)
            five[i] = (byte)(value | 0x80);
        five[4] = (byte)value;
    }
}
