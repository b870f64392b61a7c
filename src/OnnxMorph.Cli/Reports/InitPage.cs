using OnnxMorph.Cli.Commands;
using OnnxMorph.Initialization;

namespace OnnxMorph.Cli.Reports;

/// <summary>The report of <c>init</c>.</summary>
internal static class InitPage
{
    public static Html Of(string model, string output, InitReport report)
    {
        List<InitialisedTensor> drawn = [.. report.Tensors.Where(t => t.Weight is not null)], others = [.. report.Tensors.Where(t => t.Weight is null)];
        return Page.Of(
            "init", $"{model} → {output}", Page.FromTo(model, output),
            Page.Figures(
                ("method", InitCommand.Name(report.Method), report.Growth is { } growth ? $"growth: {InitCommand.Name(growth)}" : null),
                ("parameters", Text.Count(report.Parameters), Text.Full(report.Parameters)),
                ("weights drawn", Text.Full(drawn.Count), $"with seed {report.Seed}"),
                ("kept", Text.Full(others.Count(t => t.Start == TensorStart.Kept)), "with the reason below")),
            Page.Notes(report.Notes),
            Page.Section(
                "Weights",
                "Free parameters P; share, how often structured sharing uses each; fans of the layer as used, borders and sharing counted; κ = F_in / √P, which the relative growth of a layer is proportional to; α, by which growth multiplies the standard deviation; rate, the multiplier of the learning rate.",
                Page.Table(["tensor", "layers", "shape", "start", "free#", "share#", "fan in#", "fan out#", "κ#", "gain#", "variance#", "α#", "rate#", "note*"], drawn.Select(Weight), isLong: true)),
            Page.Section(
                "Other tensors", "Biases, norms and the like start with a number; what is no parameter keeps its own, for the reason given.",
                Page.Table(["tensor", "layers", "shape", "start", "note*"], others.Select(Other), isLong: true)));
    }

    private static Html Weight(InitialisedTensor tensor)
    {
        DrawnWeight w = tensor.Weight!;
        return Html.Markup($"""
            <tr><td class="name">{tensor.Name}</td><td>{Page.Names(tensor.Layers)}</td><td>{Text.Shape(tensor.Shape)}</td><td>{InitCommand.Name(tensor.Start)}</td><td class="number">{Text.Full(w.FreeParameters)}</td><td class="number">{Text.Short(w.Share)}</td><td class="number">{Text.Short(w.FanIn)}</td><td class="number">{Text.Short(w.FanOut)}</td><td class="number">{Text.Short(w.Kappa)}</td><td class="number">{Text.Short(w.Gain)}</td><td class="number">{(w.Variance is { } variance ? Text.Short(variance) : "")}</td><td class="number">{Text.Short(w.Scale)}</td><td class="number">{Text.Short(w.LearningRateMultiplier)}</td><td class="long muted">{tensor.Note}</td></tr>

            """);
    }

    private static Html Other(InitialisedTensor tensor) => Html.Markup($"""
        <tr><td class="name">{tensor.Name}</td><td>{Page.Names(tensor.Layers)}</td><td>{Text.Shape(tensor.Shape)}</td><td>{(tensor.Number is { } number ? Text.Short(number) : InitCommand.Name(tensor.Start))}</td><td class="long muted">{tensor.Note}</td></tr>

        """);
}
