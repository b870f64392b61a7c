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
            step => new DeepenPass(step.Selector, DeepenStep(step)).Apply)
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
        options.Validate();
        return options;
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
