using System.CommandLine;
using System.CommandLine.Help;
using System.CommandLine.Invocation;

namespace OnnxMorph.Cli;

/// <summary>Help that ends with examples, which teach more than the list of options.</summary>
internal sealed class HelpWithExamples(HelpAction list) : SynchronousCommandLineAction
{
    private static readonly Dictionary<string, string> s_examples = new()
    {
        [""] = """
            Examples:
              onnxmorph inspect model.onnx
                  What may change, and why the rest may not.
              onnxmorph morph model.onnx -o child.onnx --widen '*=x1.5'
                  Half as many channels again in every layer that takes it; verified before it is written.
              onnxmorph verify model.onnx child.onnx --inputs samples.npz
                  Compare the two on your own samples.

            Exit codes:
              0    done
              1    the child does not compute what the parent computes; nothing was written
              2    wrong usage
              3    the model cannot be read
              4    refused: the change cannot be made exactly
              5    reading or writing a file failed, or a device did
              130  cancelled
            """,
        ["inspect"] = """
            Examples:
              onnxmorph inspect model.onnx
              onnxmorph inspect model.onnx --json | jq -r '.layers[].name'
                  The names that selectors match.
              onnxmorph inspect model.onnx --report model.html
                  The same as a page to read in a browser; it needs no network.
            """,
        ["morph"] = """
            A SELECTOR is a glob over the layer names that 'onnxmorph inspect' prints, or 'blocks:' and a glob over its
            blocks; '*' is every layer that takes the change. A SIZE is a number (96), a factor (x1.5) or an increase (+2). Steps run in the order given. What cannot
            be changed exactly is left alone, and the reason is printed. Without steps the model is written back unchanged.

            Examples:
              onnxmorph morph model.onnx -o child.onnx --widen '*=x1.5'
                  Half as many channels again, everywhere.
              onnxmorph morph model.onnx -o child.onnx --widen '/layer1/*=96' --kernel '*=+2' --deepen '/layer3/*=2'
                  96 channels in one stage, kernels two taps larger, then two new layers behind each of another stage.
              onnxmorph morph model.onnx -o child.onnx --deepen '*' --inputs samples.npz --certificate child.json
                  A new layer behind every layer; verified on your samples; the relations between the two models kept.
              onnxmorph morph model.onnx -o child.onnx --widen '*=x2' --report child.html
                  A page with what changed, what was left alone and why, each tensor's origin, and how close the outputs are.
            """,
        ["transfer"] = """
            Two models are of one family where stages and the roles of layers match, up to how often blocks are repeated; widths, kernel sizes and
            whether norms are folded may differ. What the source has no counterpart for (a head of other classes) keeps the target's own numbers.

            Examples:
              onnxmorph transfer resnet18.onnx resnet34.onnx -o filled.onnx
                  A larger target computes what the source computes, as the comparison at the end shows.
              onnxmorph transfer large.onnx small.onnx -o filled.onnx --calibrate samples.npz
                  A smaller one keeps the most important channels; norms get the statistics of your samples.
              onnxmorph transfer source.onnx target.onnx -o filled.onnx --preset fna --scale shares
                  By the rules of another method, one of them replaced, to compare with.
              onnxmorph transfer mobilenet.onnx efficientnet.onnx -o filled.onnx --method dp
                  Between families: layers get the weights of those that fit them best by shape, in order.
              onnxmorph transfer source.onnx target.onnx -o filled.onnx --json | jq -r '.tensors[] | [.name, .origin, .source] | @tsv'
                  Where each tensor comes from: exact, mapped, or fresh.
              onnxmorph transfer source.onnx target.onnx -o filled.onnx --report filled.html
                  The same drawn: both networks' blocks with ribbons between them, the score matrix, and every tensor in the colour of its origin.
            """,
        ["init"] = """
            Examples:
              onnxmorph init model.onnx -o fresh.onnx
                  Every weight drawn at the variance that keeps signals, with growth made consistent where parameters are shared.
              onnxmorph init model.onnx -o fresh.onnx --growth multipliers --multipliers rates.json
                  Learning-rate multipliers by parameter name, for the parameter groups of an optimiser.
              onnxmorph init model.onnx -o fresh.onnx --method he --layers 'blocks:head' --seed 7
                  A new head on a trained model.
              onnxmorph init model.onnx -o fresh.onnx --report fresh.html
                  Each layer's free parameters, fans, κ, variance and multiplier, and what was kept and why.
            """,
        ["export"] = """
            Names are those of the model's initializers, which PyTorch keeps where it exports with training=TrainingMode.PRESERVE and
            do_constant_folding=False.

            Examples:
              onnxmorph export filled.onnx -o filled.safetensors
                  model.load_state_dict(safetensors.torch.load_file("filled.safetensors"), strict=False) takes it.
            """,
        ["import"] = """
            Examples:
              onnxmorph import model.onnx trained.safetensors -o trained.onnx
                  What safetensors.torch.save_file(model.state_dict(), "trained.safetensors") wrote, in the place of the model's own weights.
            """,
        ["similarity"] = """
            Examples:
              onnxmorph similarity source.onnx target.onnx
                  Which block of the target would get its weights from which of the source, and how alike the two are.
              onnxmorph similarity source.onnx target.onnx --json | jq .similarity
              onnxmorph similarity source.onnx target.onnx --report alignment.html
                  The alignment as two columns of blocks with ribbons, and the score of every pair as a picture.
            """,
        ["rank"] = """
            A folder stands for all files below it that end in .onnx. Candidates that cannot be read are listed with the reason. The index is a
            SQLite file that other programs read too; a model is read again only when its file has changed.

            Examples:
              onnxmorph rank new.onnx trained/
                  Which of the trained models would fill the new one best.
              onnxmorph rank new.onnx trained/ --index models.db
                  The same; what is read is kept, and the next run ranks thousands of models without reading them.
              onnxmorph rank new.onnx --index models.db --top 3
                  The three best of all that the index holds.
              onnxmorph rank new.onnx trained/ --json | jq -r '.candidates[0].path'
            """,
        ["verify"] = """
            Examples:
              onnxmorph verify parent.onnx child.onnx
                  On drawn inputs, the smallest sizes that the model takes among them.
              onnxmorph verify parent.onnx child.onnx --inputs samples.npz --json
                  On your own samples: an .npz whose arrays are named after the model's inputs.
              onnxmorph verify parent.onnx child.onnx --certificate child.json
                  Also value by value, for all inputs: what 'morph --certificate' stated is proven from the two files alone.
              onnxmorph verify parent.onnx child.onnx --report verified.html
                  A page to keep with the child.
            """,
        ["devices"] = """
            Examples:
              onnxmorph devices
              onnxmorph morph model.onnx -o child.onnx --widen '*=x2' --device cuda
            """,
    };

    /// <summary>Puts the examples behind the help of a command and of those below it.</summary>
    public static void Extend(RootCommand root)
    {
        var help = root.Options.OfType<HelpOption>().Single();
        help.Action = new HelpWithExamples((HelpAction)help.Action!);
    }

    /// <inheritdoc/>
    public override int Invoke(ParseResult parsed)
    {
        int result = list.Invoke(parsed);
        Command command = parsed.CommandResult.Command;
        parsed.InvocationConfiguration.Output.WriteLine(s_examples[command is RootCommand ? "" : command.Name]);
        return result;
    }
}
