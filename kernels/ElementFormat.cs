namespace OnnxMorph.Kernels;

/// <summary>
/// How the kernels see one element: as bits that are only moved, or as a floating-point number that can be scaled.
/// </summary>
public enum ElementFormat
{
    /// <summary>1 byte, moved.</summary>
    Opaque8,

    /// <summary>2 bytes, moved.</summary>
    Opaque16,

    /// <summary>4 bytes, moved.</summary>
    Opaque32,

    /// <summary>8 bytes, moved.</summary>
    Opaque64,

    /// <summary>16 bytes, moved.</summary>
    Opaque128,

    /// <summary>IEEE 754 binary16.</summary>
    Float16,

    /// <summary>The upper half of a binary32.</summary>
    BFloat16,

    /// <summary>IEEE 754 binary32.</summary>
    Float32,

    /// <summary>IEEE 754 binary64.</summary>
    Float64,
}

/// <summary>Facts about element formats.</summary>
public static class ElementFormats
{
    /// <summary>Bytes of one element.</summary>
    public static int Size(this ElementFormat format) => format switch
    {
        ElementFormat.Opaque8 => 1,
        ElementFormat.Opaque16 or ElementFormat.Float16 or ElementFormat.BFloat16 => 2,
        ElementFormat.Opaque32 or ElementFormat.Float32 => 4,
        ElementFormat.Opaque64 or ElementFormat.Float64 => 8,
        ElementFormat.Opaque128 => 16,
        _ => throw new ArgumentOutOfRangeException(nameof(format), format, "Not an element format."),
    };

    /// <summary>Whether elements are numbers that can be scaled and drawn at random.</summary>
    public static bool IsFloat(this ElementFormat format) => format >= ElementFormat.Float16;
}
