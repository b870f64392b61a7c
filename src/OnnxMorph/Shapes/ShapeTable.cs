using OnnxMorph.Weights;

namespace OnnxMorph.Shapes;

/// <summary>
/// Sizes, types and known integer values of a graph's values, as ONNX Runtime computed them at one assignment of the
/// sizes that callers choose, with the sizes that a second assignment gave beside them.
/// </summary>
public sealed class ShapeTable
{
    private readonly Dictionary<string, (ElementType Type, long[]? Dims)> _values;
    private readonly Dictionary<string, (ElementType Type, long[]? Dims)> _others;
    private readonly Dictionary<string, long[]> _ints;

    internal ShapeTable(
        Dictionary<string, (ElementType Type, long[]? Dims)> values,
        Dictionary<string, (ElementType Type, long[]? Dims)> others,
        Dictionary<string, long[]> ints)
    {
        _values = values;
        _others = others;
        _ints = ints;
    }

    /// <summary>Sizes of a value; null where they depend on data, or the value is no tensor.</summary>
    public long[]? Dims(string value) => _values.TryGetValue(value, out var v) ? v.Dims : null;

    /// <summary>Element type of a value.</summary>
    public ElementType Type(string value) => _values.TryGetValue(value, out var v) ? v.Type : ElementType.Undefined;

    /// <summary>Elements of an integer value that does not depend on data; null otherwise.</summary>
    public long[]? Ints(string value) => _ints.GetValueOrDefault(value);

    /// <summary>Whether the size of an axis depends on the sizes that callers choose.</summary>
    public bool IsSymbolic(string value, int axis) =>
        Dims(value) is { } a && (!_others.TryGetValue(value, out var other) || other.Dims is not { } b || b.Length <= axis || a[axis] != b[axis]);

    /// <summary>All values with known sizes.</summary>
    public IEnumerable<string> Values => _values.Keys;

    /// <summary>Sizes at the second assignment.</summary>
    internal long[]? OtherDims(string value) => _others.TryGetValue(value, out var v) ? v.Dims : null;
}
