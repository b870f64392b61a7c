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
                StepOption.Choice("method", "What new channels are: copies that share their readers' weights (replicate), channels of which one side is zero (zero), or random pairs that cancel (opposed).",
                    "replicate", "zero", "opposed"),
                StepOption.Choice("side", "Which side is zero under method zero: the one with fewer weights (smaller), the weights that read new channels (consumer), or those that make them (producer).",
                    "smaller", "consumer", "producer"),
                StepOption.Choice("shares", "How readers weigh copies: unequally and with noise that cancels, so that training tells them apart (random), or all alike (equal), as HyperCloning does.",
                    "random", "equal"),
            ],
            step => new WidenPass(
                step.Selector, step.Size("size"), (WidenMethod)step.Choice("method"), step.Seed, (ZeroSide)step.Choice("side"), equalShares: step.Choice("shares") == 1).Apply)
        {
            Main = size,
            Examples = "'*=x1.5', 'conv*=96' or '/stem/*=+8'",
        };
    }

    private static StepKind Deepen()
    {
        var count = new StepOption("count", OptionForm.Number, "Layers put behind each, or blocks of two for zero-residual.") { Most = MostLayers };
        return new StepKind(
            "deepen", "Put COUNT new layers (1 by default) behind each layer.",
            [
                count,
                StepOption.Choice("method", "How a layer becomes two: by rotating its weights (closed-form), by least squares (general; practical, which takes taps away from the second half until it fits), by an identity behind it (identity), or by adding two layers that make zero (zero-residual).",
                    "closed-form", "general", "practical", "identity", "zero-residual"),
                StepOption.Choice("order", "Which half of closed-form is the rotation.", "automatic", "last", "first"),
                new StepOption("channels", OptionForm.Size, "Channels between the halves; the layer's own number by default."),
                new StepOption("kernels", OptionForm.Text, "Taps of both halves of a convolution, such as 3,3 or 1x3,3x1."),
                StepOption.Choice("activation", "What stands between the halves: an activation with a trainable share of the identity (parametric), an activation of x and of -x that together undo it (mirror), or nothing (none); or new layers go behind the activation that follows, and it comes once more behind them (idempotent).",
                    "parametric", "mirror", "idempotent", "none"),
                StepOption.Choice("norm", "A batch norm in front of the activation that starts as the identity.", "none", "identity"),
                new StepOption("calibrate", OptionForm.Text, "Samples of the inputs (.npz, .npy, .pb, a test_data_set folder) whose mean and variance the norm starts with."),
            ],
            step => step.Selector.SelectsBlocks
                ? new DeepenBlocksPass(step.Selector, step.Number("count", 1)).Apply
                : new DeepenPass(step.Selector, DeepenStep(step)).Apply)
        {
            Main = count,
            Examples = "'*' or '/layer3/*=2'",
        };
    }

    private static DeepenOptions DeepenStep(StepArguments step)
    {
        var options = new DeepenOptions
        {
            Count = step.Number("count", 1),
            Method = (DeepenMethod)step.Choice("method"),
            Order = (DeepenOrder)step.Choice("order"),
            Channels = step.Text("channels") is null ? null : step.Size("channels"),
            Kernels = step.Text("kernels") is { } kernels ? KernelPair.Parse(kernels) : null,
            Activation = (DeepenActivation)step.Choice("activation"),
            Norm = (DeepenNorm)step.Choice("norm"),
            Calibrate = step.Text("calibrate"),
            Seed = step.Seed,
        };
        options.Check();
        return options;
    }

    private static StepKind Kernel()
    {
        var size = new StepOption("size", OptionForm.KernelSize, "Taps of each kernel.") { Required = true };
        return new StepKind(
            "kernel", "Grow convolution kernels.",
            [
                size,
                StepOption.Choice("place", "Where new taps go along each axis: on both sides (both), in front (begin) or behind (end).", "both", "begin", "end"),
            ],
            step => new KernelPass(step.Selector, step.KernelSize("size"), (TapPlace)step.Choice("place")).Apply)
        {
            Main = size,
            Examples = "'*=+2', 'conv1=9' or '/stem/*=3x7'",
        };
    }

    private static StepKind Activation() =>
        new("activation", "Give activations a trainable share of the identity that starts at none.",
            [
                StepOption.Choice("to", "The form that they get: with a share that can be trained (parametric), or without it where it is 0 or 1 everywhere (plain).",
                    "parametric", "plain"),
            ],
            step => new ActivationPass(step.Selector, (ActivationForm)step.Choice("to")).Apply)
        {
            Examples = "'*' or 'relu1'",
        };
}
