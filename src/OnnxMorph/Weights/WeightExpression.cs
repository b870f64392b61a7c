using System.Collections.Immutable;
using OnnxMorph.Axes;

namespace OnnxMorph.Weights;

/// <summary>
/// A weight tensor as an expression over stored bytes. Passes build expressions; only the back end evaluates
/// them, window by window. Layout is row-major, little-endian, ONNX raw storage.
/// </summary>
public abstract class WeightExpression
{
    private protected WeightExpression(ElementType type, ImmutableArray<long> shape)
    {
        Type = type;
        Shape = shape;
    }

    /// <summary>Element type.</summary>
    public ElementType Type { get; }

    /// <summary>Sizes of the axes.</summary>
    public ImmutableArray<long> Shape { get; }

    /// <summary>Number of elements.</summary>
    public long Count => Shape.Aggregate(1L, (product, size) => checked(product * size));

    /// <summary>Bytes of the evaluated tensor.</summary>
    public long ByteLength => Type.RawSize(Count);

    /// <summary>
    /// This tensor with <paramref name="maps"/> applied, one for each axis (null leaves the axis alone), fresh indices
    /// drawn from <paramref name="fill"/>. Maps on maps become one map, so a chain of morphs reads its source once: where fresh
    /// values are random, drawn as if the maps had been one, with the standard deviation of their own map's fill along its axes; where
    /// they are constants, if that changes nothing.
    /// </summary>
    public WeightExpression Map(ImmutableArray<AxisMap?> maps, Fill fill)
    {
        if (maps.Length != Shape.Length)
            throw new ArgumentException($"{maps.Length} maps for a tensor of rank {Shape.Length}.", nameof(maps));
        if (maps.All(m => m is null || m.IsIdentity))
            return this;
        if (this is not MappedWeight first || Joined(first, maps, fill) is not { } second)
            return new MappedWeight(this, maps, fill);
        var fused = ImmutableArray.CreateBuilder<AxisMap?>(maps.Length);
        for (int axis = 0; axis < maps.Length; axis++)
            fused.Add(maps[axis] is not { } outer ? first.Maps[axis]
                : first.Maps[axis] is not { } inner ? outer.WithFreshScaled(second.Factor)
                : outer.WithFreshScaled(second.Factor).After(inner));
        return first.Source.Map(fused.ToImmutable(), second.Fill);
    }

    /// <summary>This tensor multiplied by a number.</summary>
    public WeightExpression Times(double factor)
    {
        if (factor == 1)
            return this;
        if (Shape.Length == 0)
            return new ReshapedWeight(new ReshapedWeight(this, [1]).Times(factor), []);
        var maps = new AxisMap?[Shape.Length];
        maps[^1] = AxisMap.Identity(checked((int)Shape[^1])).Times(factor);
        return Map([.. maps], Fill.Zero);
    }

    /// <summary>
    /// The one fill that stands for those of <paramref name="first"/> and of <paramref name="maps"/> after it, and the factor by
    /// which fresh values of the latter are its multiples; null where there is none.
    /// </summary>
    private static (Fill Fill, double Factor)? Joined(MappedWeight first, ImmutableArray<AxisMap?> maps, Fill fill)
    {
        for (int axis = 0; axis < maps.Length; axis++)
            if (maps[axis] is { } next && first.Maps[axis] is { } map && map.RepeatsSums(next))
                return null;
        bool drawn = first.Maps.Any(HasFresh);
        if (!maps.Any(HasFresh))
            return (first.Fill, 1);
        if (fill.Kind == FillKind.Constant)
            return (!drawn || first.Fill == fill) && AxisMap.CanCompose(first.Maps, maps) ? (fill, 1) : null;
        if (!drawn)
            return (fill, 1);
        return first.Fill.Kind == fill.Kind && first.Fill.Scale != 0 ? (first.Fill, fill.Scale / first.Fill.Scale) : null;
    }

    private static bool HasFresh(AxisMap? map) => map is { FreshSize: > 0 };
}

/// <summary>Bytes that exist: a slice of a file, or memory.</summary>
public sealed class StoredWeight : WeightExpression
{
    /// <summary>A slice of a file in raw layout.</summary>
    public StoredWeight(ElementType type, ImmutableArray<long> shape, string file, long offset)
        : base(type, shape)
    {
        File = file;
        Offset = offset;
    }

    /// <summary>Bytes in memory in raw layout.</summary>
    public StoredWeight(ElementType type, ImmutableArray<long> shape, ReadOnlyMemory<byte> bytes)
        : base(type, shape)
    {
        if (bytes.Length != ByteLength)
            throw new ArgumentException($"{bytes.Length} bytes for a tensor of {ByteLength}.", nameof(bytes));
        Bytes = bytes;
    }

    /// <summary>The file that holds the bytes, or null where they are in memory.</summary>
    public string? File { get; }

    /// <summary>Where in <see cref="File"/> the tensor starts, in bytes.</summary>
    public long Offset { get; }

    /// <summary>The bytes, where they are in memory.</summary>
    public ReadOnlyMemory<byte> Bytes { get; }
}

/// <summary>The elements of a tensor, in the same order, under other axes.</summary>
public sealed class ReshapedWeight : WeightExpression
{
    /// <summary>The elements of <paramref name="source"/> under axes of sizes <paramref name="shape"/>.</summary>
    public ReshapedWeight(WeightExpression source, ImmutableArray<long> shape)
        : base(source.Type, shape)
    {
        if (Count != source.Count)
            throw new ArgumentException($"{source.Count} elements cannot stand as {string.Join('×', shape)}.", nameof(shape));
        Source = source;
    }

    /// <summary>The tensor that is read.</summary>
    public WeightExpression Source { get; }
}

/// <summary>A tensor that a fill makes: constants and seeded random values.</summary>
public sealed class FilledWeight(ElementType type, ImmutableArray<long> shape, Fill fill) : WeightExpression(type, shape)
{
    /// <summary>The fill; its position is the row-major index of the tensor.</summary>
    public Fill Fill { get; } = fill;
}

/// <summary>
/// Axis maps applied to a tensor: element (c₀,c₁,…) = Σ over the taps of every axis of Π weights × X[s₀,s₁,…], where X is
/// the source inside its own bounds and the fill where any index is fresh. The fill's position is the row-major index in
/// the extended shape (source size + fresh size on every axis).
/// </summary>
public sealed class MappedWeight : WeightExpression
{
    internal MappedWeight(WeightExpression source, ImmutableArray<AxisMap?> maps, Fill fill)
        : base(source.Type, [.. source.Shape.Select((size, axis) => maps[axis]?.Size ?? size)])
    {
        for (int axis = 0; axis < maps.Length; axis++)
            if (maps[axis] is { } map && map.SourceSize != source.Shape[axis])
                throw new ArgumentException($"Axis {axis} has size {source.Shape[axis]}, its map expects {map.SourceSize}.", nameof(maps));
        Source = source;
        Maps = maps;
        Fill = fill;
    }

    /// <summary>The tensor that the maps read.</summary>
    public WeightExpression Source { get; }

    /// <summary>One map for each axis; null is the identity.</summary>
    public ImmutableArray<AxisMap?> Maps { get; }

    /// <summary>Values of the fresh indices.</summary>
    public Fill Fill { get; }
}

/// <summary>
/// One axis of a tensor multiplied by an orthogonal matrix: with the axis as [groups × n], each group g gets
/// out[g,a,…] = Σ_b Q_g[b,a]·source[g,b,…] (<paramref name="transpose"/> true, QᵀG of METHODS.md §2's closed form) or
/// Σ_b Q_g[a,b]·source[g,b,…] (false). Q_g is the product of <see cref="Reflections"/> Householder reflections
/// (I − 2vvᵀ/‖v‖²) whose vectors are seeded normal draws, computed in float64.
/// </summary>
public sealed class RotatedWeight(WeightExpression source, int axis, int groups, ulong seed, bool transpose)
    : WeightExpression(source.Type, source.Shape)
{
    /// <summary>The most reflections for each group: enough for a dense matrix, few enough for wide layers to take milliseconds.</summary>
    public const int MostReflections = 16;

    /// <summary>
    /// Reflections for each group. As many as it has rows give every orthogonal matrix; vectors beyond would depend on each other,
    /// and their product in the compact form would lose digits.
    /// </summary>
    public int Reflections => (int)Math.Min(MostReflections, Shape[Axis] / Groups);

    /// <summary>The tensor that is rotated.</summary>
    public WeightExpression Source { get; } = source;

    /// <summary>The rotated axis.</summary>
    public int Axis { get; } = axis;

    /// <summary>Blocks of the axis that are rotated on their own.</summary>
    public int Groups { get; } = groups;

    /// <summary>Key of the vectors' generator: group g, reflection r, element i draw at position (g·Reflections + r)·n + i.</summary>
    public ulong Seed { get; } = seed;

    /// <summary>Whether Qᵀ is applied rather than Q.</summary>
    public bool Transpose { get; } = transpose;
}

/// <summary>
/// Dirac kernels: weight[o, i, k…] = 1 where i = o mod (channels / groups) and k is the centre, else 0. A convolution with
/// it and "same" padding is the identity.
/// </summary>
public sealed class DiracWeight(ElementType type, ImmutableArray<long> shape) : WeightExpression(type, shape);

/// <summary>
/// Random semi-orthogonal matrices, one behind the other, times a number: of each the rows are orthogonal and of unit length where there are not more of
/// them than columns, else the columns. Uniformly distributed (Haar).
/// </summary>
public sealed class OrthogonalWeight : WeightExpression
{
    /// <summary>Matrices of <paramref name="rows"/> rows that fill a tensor.</summary>
    /// <exception cref="ArgumentException">They do not.</exception>
    public OrthogonalWeight(ElementType type, ImmutableArray<long> shape, int rows, int columns, double scale, ulong seed)
        : base(type, shape)
    {
        if (rows < 1 || columns < 1 || Count % ((long)rows * columns) != 0)
            throw new ArgumentException($"Matrices of {rows}×{columns} in [{string.Join(", ", shape)}].", nameof(rows));
        (Rows, Columns, Scale, Seed) = (rows, columns, scale, seed);
    }

    /// <summary>Rows of a matrix.</summary>
    public int Rows { get; }

    /// <summary>Columns of a matrix.</summary>
    public int Columns { get; }

    /// <summary>What orthogonal matrices are multiplied by.</summary>
    public double Scale { get; }

    /// <summary>Key of the generator; matrix i draws from position i·rows·columns on.</summary>
    public ulong Seed { get; }
}

/// <summary>
/// Numbers that a pass computed in float64, rounded to the element type when they are written. For what cannot be said as an expression over the
/// parent's weights: the pass computed them because it had to know them.
/// </summary>
public sealed class ComputedWeight : WeightExpression
{
    /// <summary>Row-major values, kept as they are.</summary>
    public ComputedWeight(ElementType type, ImmutableArray<long> shape, ReadOnlyMemory<double> values)
        : base(type, shape)
    {
        if (values.Length != Count)
            throw new ArgumentException($"{values.Length} numbers for a tensor of {Count}.", nameof(values));
        Values = values;
    }

    /// <summary>The values in row-major order.</summary>
    public ReadOnlyMemory<double> Values { get; }
}

/// <summary>Σ factor × tensor over tensors of one type and shape, summed in float64 in their order and rounded once.</summary>
public sealed class SummedWeight : WeightExpression
{
    /// <summary>The sum of <paramref name="terms"/>, at least one.</summary>
    /// <exception cref="ArgumentException">The terms differ in type or shape.</exception>
    public SummedWeight(ImmutableArray<(double Factor, WeightExpression Weight)> terms)
        : base(terms[0].Weight.Type, terms[0].Weight.Shape)
    {
        foreach ((_, WeightExpression weight) in terms)
            if (weight.Type != Type || !weight.Shape.SequenceEqual(Shape))
                throw new ArgumentException($"A sum of [{string.Join(", ", Shape)}] {Type} and [{string.Join(", ", weight.Shape)}] {weight.Type}.", nameof(terms));
        Terms = terms;
    }

    /// <summary>What is summed.</summary>
    public ImmutableArray<(double Factor, WeightExpression Weight)> Terms { get; }
}

/// <summary>A matrix with its two axes exchanged.</summary>
public sealed class TransposedWeight : WeightExpression
{
    /// <summary>The transpose of <paramref name="source"/>.</summary>
    /// <exception cref="ArgumentException">It is no matrix, or its elements share bytes.</exception>
    public TransposedWeight(WeightExpression source)
        : base(source.Type, [.. source.Shape.Reverse()])
    {
        if (source.Shape.Length != 2 || source.Type.BitWidth() < 8)
            throw new ArgumentException($"The transpose of [{string.Join(", ", source.Shape)}] {source.Type}.", nameof(source));
        Source = source;
    }

    /// <summary>The matrix that is read.</summary>
    public WeightExpression Source { get; }
}

/// <summary>A tensor of which a box is another tensor.</summary>
public sealed class PlacedWeight : WeightExpression
{
    /// <summary><paramref name="inner"/> from index <paramref name="start"/> on along each axis, <paramref name="outer"/> elsewhere.</summary>
    /// <exception cref="ArgumentException">The box does not lie inside, or the types differ.</exception>
    public PlacedWeight(WeightExpression outer, WeightExpression inner, ImmutableArray<long> start)
        : base(outer.Type, outer.Shape)
    {
        if (inner.Type != outer.Type || outer.Type.BitWidth() < 8 || start.Length != Shape.Length || inner.Shape.Length != Shape.Length
            || Enumerable.Range(0, Shape.Length).Any(axis => start[axis] < 0 || start[axis] + inner.Shape[axis] > Shape[axis]))
            throw new ArgumentException($"[{string.Join(", ", inner.Shape)}] {inner.Type} at [{string.Join(", ", start)}] of [{string.Join(", ", Shape)}] {Type}.", nameof(inner));
        (Outer, Inner, Start) = (outer, inner, start);
    }

    /// <summary>What surrounds the box.</summary>
    public WeightExpression Outer { get; }

    /// <summary>What stands in the box.</summary>
    public WeightExpression Inner { get; }

    /// <summary>The box's first index along each axis.</summary>
    public ImmutableArray<long> Start { get; }
}
