using OnnxMorph.Axes;
using OnnxMorph.Verification;

namespace OnnxMorph.Morphs;

/// <summary>One change that a step made: the layer or space, and its size before and after.</summary>
public sealed record Change(string Where, string What, long Before, long After);

/// <summary>What one step did, what it refused and why, and the relations that it established.</summary>
public sealed class StepReport(string step, Exactness exactness)
{
    /// <summary>The step as the user wrote it.</summary>
    public string Step { get; } = step;

    /// <summary>The class of exactness that the step keeps.</summary>
    public Exactness Exactness { get; } = exactness;

    /// <summary>What was changed.</summary>
    public List<Change> Changes { get; } = [];

    /// <summary>What was selected and not changed: the layer and the reason.</summary>
    public List<Pin> Refused { get; } = [];

    /// <summary>What a user should know: sizes that were rounded, weights that are no longer shared.</summary>
    public List<string> Notes { get; } = [];

    /// <summary>For each value with a changed axis its relation child = E·parent + F·free, axis by axis.</summary>
    public Dictionary<string, AxisMap?[]> Relations { get; } = [];

    /// <summary>For each value that is a multiple of the parent's, the factor: inside norms whose scale makes it good.</summary>
    public Dictionary<string, double> Factors { get; } = [];

    /// <summary>Sizes that the step promises for values whose sizes it changes.</summary>
    public Dictionary<string, long[]> Sizes { get; } = [];

    /// <summary>Layers that were replaced by a chain which computes the same.</summary>
    public List<Factorisation> Factorisations { get; } = [];

    /// <summary>Activations that became a mixture with the identity, or plain again.</summary>
    public List<ActivationRewrite> Activations { get; } = [];

    /// <summary>Blocks behind which copies were put that give on what they read.</summary>
    public List<BlockCopy> Copies { get; } = [];

    /// <summary>Kernels that were padded with zeros.</summary>
    public List<KernelPadding> Kernels { get; } = [];
}

/// <summary>A layer that became several: the parent's node, and the child's nodes in order.</summary>
public sealed record Factorisation(string Node, string Form, IReadOnlyList<string> Child)
{
    /// <summary>‖G̃ − F₂⊛F₁‖² / ‖G̃‖² of halves that were found by least squares; null for those that are exact by construction.</summary>
    public double? Residual { get; init; }
}

/// <summary>
/// An activation in another form: <c>parametric</c>, with a share of the identity that starts at none; <c>plain</c>, without; or
/// <c>identity</c>, where nothing is left of it.
/// </summary>
/// <param name="Node">The parent's node that makes the result.</param>
/// <param name="Form">The form.</param>
/// <param name="Child">The child's nodes in order.</param>
public sealed record ActivationRewrite(string Node, string Form, IReadOnlyList<string> Child);

/// <summary>A kernel grown with zeros: taps before and after, one for each spatial axis.</summary>
public sealed record KernelPadding(string Node, IReadOnlyList<int> Before, IReadOnlyList<int> After);

/// <summary>A copy of a block behind it: the value that the block made, the one that the copy makes of it, and the copy's nodes.</summary>
public sealed record BlockCopy(string Block, string Entry, string Exit, IReadOnlyList<string> Child);
