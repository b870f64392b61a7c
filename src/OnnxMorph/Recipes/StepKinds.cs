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
            step => new DeepenPass(step.Selector, step.Number("count", 1), (DeepenMethod)step.Choice("method"), step.Seed).Apply)
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
