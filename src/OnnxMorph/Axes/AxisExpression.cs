using System.Collections.Immutable;

namespace OnnxMorph.Axes;

/// <summary>Why an axis may not change: the node (or graph input, output …) that forbids it, and its reason.</summary>
public sealed record Pin(string Where, string Why)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Where}: {Why}";
}

/// <summary>What new channels hold that are not copies of old ones.</summary>
[Flags]
public enum NewChannels
{
    /// <summary>Nothing.</summary>
    None = 0,

    /// <summary>Zeros.</summary>
    Zero = 1,

    /// <summary>The mean of the parent's channels.</summary>
    Mean = 2,

    /// <summary>Values of the child's own.</summary>
    Own = 4,
}

/// <summary>
/// A named part of axes whose size can change as one: the channels that a layer produces, the heads of an attention,
/// the groups of a convolution. Every axis in the graph is an <see cref="AxisExpression"/> over spaces.
/// </summary>
public sealed class Space
{
    internal Space(int id, int size)
    {
        Id = id;
        Size = size;
    }

    /// <summary>Number in order of creation; stable for the same graph.</summary>
    public int Id { get; }

    /// <summary>Size in the parent.</summary>
    public int Size { get; }

    /// <summary>Why the space is fixed; empty where it may change.</summary>
    public IReadOnlyList<Pin> Pins => _pins;

    /// <summary>
    /// The smallest space of those that take copies only by the same whole number, every channel equally often (because a mean
    /// is taken over them); null where the space is free of such a tie.
    /// </summary>
    public Space? Uniform { get; internal set; }

    /// <summary>Why the space is <see cref="Uniform"/>; null where it is not.</summary>
    public Pin? UniformReason { get; internal set; }

    /// <summary>Why new channels must be copies of old ones (a maximum is taken over them); null where they need not.</summary>
    public Pin? CopiesOnly { get; internal set; }

    /// <summary>
    /// Whether a quantised weight makes or reads the space. Of the copies of a channel one alone is read then, by all weights: sums of
    /// shares are rounded otherwise than the whole, and the next quantisation would make a step of that.
    /// </summary>
    public bool IsPicked { get; internal set; }

    /// <summary>
    /// Why weights that read the space can give new channels nothing but zeros (they are integers), which channels that are zero
    /// themselves, or pairs that cancel, could never learn from; null where they can.
    /// </summary>
    public Pin? PicksOnly { get; internal set; }

    /// <summary>
    /// The first of those spaces that are summed over against each other (queries and keys), which grow together and never by
    /// copies, since copies on both sides would count twice; null where the space is in no such product.
    /// </summary>
    public Space? Paired { get; internal set; }

    /// <summary>
    /// What channels hold that are neither copies nor free to be anything, where the space is <see cref="Uniform"/> or
    /// <see cref="Paired"/> and has such a way to grow; null otherwise.
    /// </summary>
    public NewChannels? Filling { get; internal set; }

    /// <summary>Why new channels may not be zero all along; null where zeros stay zeros.</summary>
    public Pin? NoZeros { get; internal set; }

    /// <summary>Why new channels may not be the mean of the old ones; null where every node on the way is linear.</summary>
    public Pin? NoMeans { get; internal set; }

    /// <summary>What the demands for a uniform space leave open: <see cref="NewChannels.Zero"/>, <see cref="NewChannels.Mean"/>.</summary>
    internal NewChannels Alternatives { get; set; }

    /// <summary>What the space must be filled with as one side of a normalisation.</summary>
    internal NewChannels Role { get; set; }

    /// <summary>What the space was found to be made of; null while it stands for itself.</summary>
    internal AxisExpression? Binding { get; set; }

    private readonly List<Pin> _pins = [];

    // More reasons than a person reads would only cost memory in deep networks.
    private const int PinsKept = 8;

    internal bool AddPin(Pin pin)
    {
        bool first = _pins.Count == 0;
        if (_pins.Count < PinsKept && !_pins.Contains(pin))
            _pins.Add(pin);
        return first;
    }

    /// <inheritdoc/>
    public override string ToString() => $"s{Id}[{Size}]";
}

/// <summary>
/// What an axis is made of, outermost part first (row-major): a fixed size, a space, a product such as
/// heads × head size, or a concatenation.
/// </summary>
public abstract record AxisExpression(long Size);

/// <summary>An axis, or a part of one, that never changes; <paramref name="Pin"/> says why.</summary>
public sealed record FixedAxis(long Size, Pin Pin) : AxisExpression(Size)
{
    /// <inheritdoc/>
    public override string ToString() => $"{Size}";
}

/// <summary>
/// A space, or its <paramref name="Dual"/>: the side of a weight that is contracted against the space. Values carry a
/// space (a copied channel is copied); what is contracted against them carries the dual (its entries are split over copies).
/// </summary>
public sealed record SpaceAxis(Space Space, bool Dual) : AxisExpression(Space.Size)
{
    /// <inheritdoc/>
    public override string ToString() => Dual ? $"{Space}*" : $"{Space}";
}

/// <summary>Parts multiplied: index = ((i₀·n₁ + i₁)·n₂ + i₂)….</summary>
public sealed record ProductAxis(ImmutableArray<AxisExpression> Parts)
    : AxisExpression(Parts.Aggregate(1L, (size, part) => size * part.Size))
{
    /// <inheritdoc/>
    public bool Equals(ProductAxis? other) => other is not null && Parts.SequenceEqual(other.Parts);

    /// <inheritdoc/>
    public override int GetHashCode() => Parts.Aggregate(17, HashCode.Combine);

    /// <inheritdoc/>
    public override string ToString() => $"({string.Join("×", Parts)})";
}

/// <summary>Parts one behind the other.</summary>
public sealed record ConcatAxis(ImmutableArray<AxisExpression> Parts)
    : AxisExpression(Parts.Sum(part => part.Size))
{
    /// <inheritdoc/>
    public bool Equals(ConcatAxis? other) => other is not null && Parts.SequenceEqual(other.Parts);

    /// <inheritdoc/>
    public override int GetHashCode() => Parts.Aggregate(31, HashCode.Combine);

    /// <inheritdoc/>
    public override string ToString() => $"({string.Join("+", Parts)})";
}
