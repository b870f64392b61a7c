using OnnxMorph.Morphs;
using OnnxMorph.Morphs.Subnet;

namespace OnnxMorph.Recipes;

/// <summary>The one table of the kinds of step; recipes, their schema and the command line are made from it.</summary>
public static class StepKinds
{
    // Counts beyond this are slips of the pen: a hundred layers behind each.
    private const int MostLayers = 100;
    private const int MostBranches = 100;

    /// <summary>All kinds.</summary>
    public static IReadOnlyList<StepKind> All { get; } = [Widen(), Deepen(), Kernel(), Activation(), Subnet()];

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
        options.Validate();
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

    private static StepKind Subnet()
    {
        var kind = StepOption.Choice("kind",
            "A chain (sequential), chains side by side (stacked), any module of layers (module), a residual block or a split skip (residual), "
            + "a mixture (skip-add) or concatenation (skip-concat) with an earlier value, copies of the layer (replicate-add, replicate-concat), "
            + "identities behind it (split-add, split-concat), or factors for its channels (squeeze-excite).",
            "sequential", "stacked", "module", "residual", "skip-add", "skip-concat", "replicate-add", "replicate-concat", "split-add", "split-concat", "squeeze-excite")
            with
        { Required = true };
        StepOption branches = new("branches", OptionForm.Number, "Parts side by side, 2 by default, of stacked, replicate-* and split-*.") { Most = MostBranches };
        StepOption length = new("length", OptionForm.Number, "Layers of each chain, 2 by default, of sequential and stacked.") { Most = MostLayers };
        StepOption module = new("module", OptionForm.Text,
            "For module, and for residual in place of its own: an ONNX file (*.onnx), or an expression such as '(3x3, 3x3) | 1x1', where ',' puts layers one "
            + "after the other, '|' adds and '&' concatenates them, 'id' is a path without layers, 'layer' a kernel as large as the layer's, and ':64' or ':x2' sets channels.");
        StepOption from = new("from", OptionForm.Text, "For skip-add and skip-concat: the node whose result is the earlier value; the nearest that fits by default.");
        StepOption reduction = new("reduction", OptionForm.Number, "For squeeze-excite: how many channels share a hidden unit, 4 by default.");
        return new StepKind("subnet", "Put a small network in the place of each layer or behind it.", [kind, branches, length, module, from, reduction], Pass)
        {
            Main = kind,
            Examples = "'*=stacked' or '/layer3/*=squeeze-excite'",
        };

        // An option that the kind does not read is a mistake.
        void CheckOption(StepArguments step, SubnetKind chosen, StepOption option, params ReadOnlySpan<SubnetKind> takers)
        {
            if (step.Text(option.Name) is not null && !takers.Contains(chosen))
                throw new UsageException($"A subnet of kind {kind.Choices[(int)chosen]} takes no '{option.Name}': it is for {string.Join(", ", takers.ToArray().Select(t => kind.Choices[(int)t]))}.");
        }

        Func<Axes.AxisAnalysis, StepReport> Pass(StepArguments step)
        {
            var chosen = (SubnetKind)step.Choice("kind");
            CheckOption(step, chosen, branches, SubnetKind.Stacked, SubnetKind.ReplicateAdd, SubnetKind.ReplicateConcat, SubnetKind.SplitAdd, SubnetKind.SplitConcat);
            CheckOption(step, chosen, length, SubnetKind.Sequential, SubnetKind.Stacked);
            CheckOption(step, chosen, module, SubnetKind.Module, SubnetKind.Residual);
            CheckOption(step, chosen, from, SubnetKind.SkipAdd, SubnetKind.SkipConcat);
            CheckOption(step, chosen, reduction, SubnetKind.SqueezeExcite);
            var options = new SubnetOptions(chosen) { Module = step.Text("module"), From = step.Text("from") };
            options = options with
            {
                Branches = step.Number("branches", options.Branches),
                Length = step.Number("length", options.Length),
                Reduction = step.Number("reduction", options.Reduction),
            };
            return new SubnetPass(step.Selector, options, step.Seed).Apply;
        }
    }
}
