using OnnxMorph.Graph;

namespace OnnxMorph.Transfer.Containment;

/// <summary>What a value of a target has to be, so that the target computes what the source computes. A value that nothing is asked of is free.</summary>
internal abstract record ValueRole;

/// <summary>A value of the source: each channel one of its, all of them at least once; between them, where values are concatenated, any others.</summary>
/// <param name="Source">The value of the source.</param>
/// <param name="Axis">Along which axis only some of its indices are asked for; −1 where all are.</param>
/// <param name="Start">The first of them.</param>
/// <param name="Size">How many.</param>
/// <param name="Bare">Whether it is what the layer that makes it makes without its bias.</param>
/// <param name="Factor">What multiple of it; positive.</param>
/// <param name="Offset">At which position of each spatial axis it begins.</param>
/// <param name="Padded">Whether zeros lie around it; otherwise anything may.</param>
internal sealed record Carries(
    string Source, int Axis = -1, int Start = 0, int Size = 0, bool Bare = false, double Factor = 1, Offsets Offset = default, bool Padded = false) : ValueRole
{
    /// <summary>Whether the whole value is asked for.</summary>
    public bool IsWhole => Axis < 0;
}

/// <summary>One number everywhere.</summary>
/// <param name="Number">The number.</param>
internal sealed record Holds(double Number) : ValueRole;

/// <summary>A value of the source and behind it its negative, which an activation with φ(x) − φ(−x) = κ·x gives back.</summary>
/// <param name="Source">The value of the source.</param>
/// <param name="Bare">Whether it is what the layer that makes it makes without its bias.</param>
/// <param name="Offset">At which position of each spatial axis it begins.</param>
/// <param name="Padded">Whether zeros lie around it; otherwise anything may.</param>
internal sealed record Mirrors(string Source, bool Bare = false, Offsets Offset = default, bool Padded = false) : ValueRole;

/// <summary>A position on each of at most three spatial axes.</summary>
internal readonly record struct Offsets(long First, long Second, long Third)
{
    /// <summary>Those of the axes in their order; null where there are more than three and not all are 0.</summary>
    public static Offsets? Of(IReadOnlyList<long> positions) =>
        positions.Skip(3).Any(p => p != 0) ? null : new Offsets(positions.ElementAtOrDefault(0), positions.ElementAtOrDefault(1), positions.ElementAtOrDefault(2));

    /// <summary>The position on an axis.</summary>
    public long this[int axis] => axis switch { 0 => First, 1 => Second, 2 => Third, _ => 0 };
}

/// <summary>What a weight starts with that comes from no weight of the source.</summary>
internal abstract record WeightStart;

/// <summary>A number everywhere.</summary>
internal sealed record NumberStart(double Number) : WeightStart;

/// <summary>
/// The kernel of a layer that gives on what it reads: 1 from every channel to itself at one tap.
/// </summary>
/// <param name="Source">The value of the source that goes through.</param>
/// <param name="Axis">Its axis of channels.</param>
/// <param name="Start">The first of the channels that go through.</param>
/// <param name="Count">How many.</param>
/// <param name="Input">The value of the target that the layer reads.</param>
/// <param name="Layer">The layer's node.</param>
/// <param name="Taps">The tap along each spatial axis.</param>
/// <param name="Mirror">
/// Which side is mirrored: 0 none, 1 the outputs, as x and −x, −1 the inputs, which are taken together.
/// </param>
/// <param name="Factor">κ, where the inputs are.</param>
/// <param name="Scale">What all of it is multiplied by.</param>
internal sealed record UnitStart(string Source, int Axis, int Start, int Count, string Input, int Layer, IReadOnlyList<int> Taps, int Mirror, double Factor, double Scale) : WeightStart
{
    /// <summary>Whether it reads all channels of the source's value, also where it gives on some of them alone.</summary>
    public bool ReadsAll { get; init; }
}

/// <summary>A constant of the target that is filled from one of the source.</summary>
/// <param name="Target">The target's use.</param>
/// <param name="Source">The source's.</param>
/// <param name="Layers">The layers that they belong to; null where they are no layer's weights or bias.</param>
/// <param name="Taps">For each spatial axis, which tap of the source each tap of the target is; −1 for none.</param>
/// <param name="Input">The value of the target that a layer with this weight reads; null for other constants.</param>
/// <param name="Factor">What it is multiplied by.</param>
/// <param name="Made">Which of the source's channels it makes, where not all; null elsewhere.</param>
/// <param name="Mirror">κ where a layer reads φ(x) and φ(−x), which it takes together as x; null where it reads x.</param>
internal sealed record Filled(
    Use Target, Use Source, (int Target, int Source)? Layers, IReadOnlyList<int[]>? Taps, string? Input, double Factor = 1, AxisPiece? Made = null, double? Mirror = null);

/// <summary>A piece of an axis of a target's value.</summary>
/// <param name="Size">Its size.</param>
/// <param name="Start">The first index of the source's axis that it carries.</param>
/// <param name="Count">How many; 0 where it carries none.</param>
internal sealed record AxisPiece(int Size, int Start, int Count);

/// <summary>One way in which a value gets its role.</summary>
/// <param name="Needs">What its node's inputs have to be.</param>
internal sealed record Derivation(params (string Value, ValueRole Role)[] Needs)
{
    /// <summary>Constants from the source.</summary>
    public IReadOnlyList<Filled> Filled { get; init; } = [];

    /// <summary>Constants that start anew.</summary>
    public IReadOnlyList<(Use Use, WeightStart Start)> Starts { get; init; } = [];

    /// <summary>The axis along which the value is put together, where it is.</summary>
    public int Axis { get; init; } = -1;

    /// <summary>What it is put together from along this axis.</summary>
    public IReadOnlyList<AxisPiece>? Pieces { get; init; }

    /// <summary>The input whose channels lie where the value's lie; null where they need not.</summary>
    public string? Like { get; init; }

    /// <summary>Whether inputs may hold channels between those that are asked for.</summary>
    public bool TakesOthers { get; init; }

    /// <summary>Whether they may where the axis of these channels is one of the value's too, because the node only moves elements.</summary>
    public bool Moves { get; init; }

    /// <summary>The single number that makes a mean over more channels good, as a morph puts it where nothing behind takes it; null elsewhere.</summary>
    public Use? Share { get; init; }
}
