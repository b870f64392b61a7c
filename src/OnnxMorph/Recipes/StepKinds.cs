using OnnxMorph.Morphs;

namespace OnnxMorph.Recipes;

/// <summary>The one table of the kinds of step; recipes, their schema and the command line are made from it.</summary>
public static class StepKinds
{
    // Counts beyond this are slips of the pen: a hundred layers behind each.
    private const int MostLayers = 100;

    /// <summary>All kinds.</summary>
    public static IReadOnlyList<StepKind> All { get; } = [Widen(), Deepen(), Kernel(), Activation()];

    private static StepKind Widen()
    {
        var size = new StepOption("size", OptionForm.Size, "Output channels of each layer.") { Required = true };
        return new StepKind(
            "widen", "Widen the output channels of layers.",
            [
                size,
                StepOption.Choice("method", "What new channels are: copies that share their readers' weights (replicate), random ones that are read with zeros (zero), or random pairs that cancel (opposed).",
                    "replicate", "zero", "opposed"),
            ],
            step => new WidenPass(step.Selector, step.Size("size"), (WidenMethod)step.Choice("method"), step.Seed).Apply)
        {
            Main = size,
            Examples = "'*=x1.5', 'conv*=96' or '/stem/*=+8'",
        };
    }

    private static StepKind Deepen()
    {
        var count = new StepOption("count", OptionForm.Number, "Layers put behind each.") { Most = MostLayers };
        return new StepKind(
            "deepen", "Put COUNT new layers (1 by default) behind each layer.",
            [
                count,
                StepOption.Choice("method", "How a layer becomes two: by factoring its weights (closed-form), or by an identity behind it (identity).",
                    "closed-form", "identity"),
            ],
            step => step.Selector.SelectsBlocks ? new DeepenBlocksPass(step.Selector, step.Number("count", 1)).Apply : new DeepenPass(step.Selector, step.Number("count", 1), (DeepenMethod)step.Choice("method"), step.Seed).Apply)
        {
            Main = count,
            Examples = "'*' or '/layer3/*=2'",
        };
    }

    private static StepKind Kernel()
    {
        var size = new StepOption("size", OptionForm.Size, "Taps along every axis of each kernel.") { Required = true };
        return new StepKind("kernel", "Grow convolution kernels.", [size], step => new KernelPass(step.Selector, step.Size("size")).Apply)
        {
            Main = size,
            Examples = "'*=+2' or 'conv1=9'",
        };
    }

    private static StepKind Activation() =>
        new("activation", "Give activations a trainable share of the identity that starts at none.", [],
            step => new ActivationPass(step.Selector).Apply)
        {
            Examples = "'*' or 'relu1'",
        };
}
