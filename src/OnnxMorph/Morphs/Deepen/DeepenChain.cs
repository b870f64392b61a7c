using OnnxMorph.Axes;

namespace OnnxMorph.Morphs;

/// <summary>The layers that one layer becomes, in order, linear all: their product is the layer.</summary>
/// <param name="Form">What the certificate calls it.</param>
/// <param name="Layers">The weights; null for the layer's own where nothing changes it.</param>
/// <param name="Original">Which of them the layer's own node computes.</param>
/// <param name="Windows">The windows of the layers, for a site of the weights; null for the layer's own where it stays, and for matrix products.</param>
internal sealed record DeepenChain(
    string Form, IReadOnlyList<LayerWeight?> Layers, int Original, Func<DeepenSite, IReadOnlyList<ConvolutionWindow?>> Windows)
{
    /// <summary>Whether the last layer adds the bias, since the first no longer makes what it is added to.</summary>
    public bool MovesBias { get; init; } = true;

    /// <summary>‖G̃ − F₂⊛F₁‖² / ‖G̃‖² of halves that were found by least squares.</summary>
    public double? Residual { get; init; }

    /// <summary>What a user should know of it.</summary>
    public string? Note { get; init; }

    /// <summary>
    /// The chain with every value between two layers beside its negative: [F₁; −F₁] and [F₂, −F₂]/κ, so that φ between them may be any with φ(x) − φ(−x) = κ·x.
    /// </summary>
    /// <param name="own">The layer's own weights, for where the chain leaves them as they are.</param>
    /// <param name="factor">κ.</param>
    public DeepenChain Mirrored(LayerWeight own, double factor) => this with
    {
        Form = $"{Form}, mirrored",
        MovesBias = true,
        Layers = [.. Layers.Select((layer, i) =>
        {
            LayerWeight weight = layer ?? own;
            if (i > 0)
                weight = weight.MapInputs(Pairs(weight.Inputs, 1 / factor));
            return i < Layers.Count - 1 ? weight.MapOutputs(Pairs(weight.Outputs, 1)) : weight;
        })],
    };

    private static AxisMap Pairs(int channels, double scale) => AxisMap.FromTaps(
        channels, 0, [.. Enumerable.Range(0, 2 * channels).Select(i => new[] { new Tap(i % channels, i < channels ? scale : -scale) })]);
}
