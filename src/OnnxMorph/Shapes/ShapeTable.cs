using OnnxMorph.Weights;

namespace OnnxMorph.Shapes;

/// <summary>
/// Sizes, types and known integer values of a graph's values, as ONNX Runtime computed them at one assignment of the
/// sizes that callers choose, with the sizes that a second assignment gave beside them.
/// </summary>
public sealed class ShapeTable
{
    private readonly Dictionary<string, (ElementType Type, long[]? Dims)> _values;
    private readonly Dictionary<string, long[]> _ints;

    /// <summary>Shapes at one assignment.</summary>
    internal ShapeTable(Dictionary<string, (ElementType Type, long[]? Dims)> values, Dictionary<string, long[]> ints)
    {
        _values = values;
        _ints = ints;
    }

    /// <summary>Shapes at two assignments; each is the other's other.</summary>
    internal ShapeTable(ShapeTable first, ShapeTable second)
        : this(first._values, first._ints) =>
        Other = new ShapeTable(second._values, second._ints) { Other = this };

    /// <summary>The same at the second assignment; null where callers choose no sizes.</summary>
    public ShapeTable? Other { get; private init; }

    /// <summary>Sizes of a value; null where they depend on data, or the value is no tensor.</summary>
    public long[]? Dims(string value) => _values.TryGetValue(value, out var v) ? v.Dims : null;

    /// <summary>Element type of a value.</summary>
    public ElementType Type(string value) => _values.TryGetValue(value, out var v) ? v.Type : ElementType.Undefined;

    /// <summary>Elements of an integer value that does not depend on data; null otherwise.</summary>
    public long[]? Ints(string value) => _ints.GetValueOrDefault(value);

    /// <summary>Whether the size of an axis depends on the sizes that callers choose.</summary>
    public bool IsSymbolic(string value, int axis) =>
        Other is not null && Dims(value) is { } a && (Other.Dims(value) is not { } b || b.Length <= axis || a[axis] != b[axis]);

    /// <summary>All values with known sizes.</summary>
    public IEnumerable<string> Values => _values.Keys;
}
