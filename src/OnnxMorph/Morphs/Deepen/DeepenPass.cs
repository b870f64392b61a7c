using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Operators;
using OnnxMorph.Verification;

namespace OnnxMorph.Morphs;

/// <summary>
/// Deepens layers: <c>G → F₁, φₐ, F₂</c> with F₂·F₁ = G, or <c>G → G, x + F(x)</c>. What stands between the halves starts as the identity and learns,
/// or undoes itself (METHODS.md §2, Depth).
/// </summary>
public sealed class DeepenPass(Selector selector, DeepenOptions options)
{
    private readonly LayerFactoring _factoring = new(options);

    /// <summary>Deepens the graph that <paramref name="analysis"/> describes, in place.</summary>
    /// <exception cref="UsageException">Samples for calibration do not fit the model.</exception>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var report = new StepReport($"deepen {selector}={options.Count} ({options})", IsBitExact ? Exactness.BitExact : Exactness.Rounding);
        var editor = new GraphEditor(analysis.Graph);
        var norms = new List<InsertedNorm>();
        var sites = new List<DeepenSite>();
        foreach ((NodeAxes axes, LinearLayer layer) in selector.Layers(analysis, report))
        {
            if (DeepenSite.Of(analysis, axes, layer, out string why) is { } site && Refusal(analysis.Graph, site, out why) is false)
                sites.Add(site);
            else
                report.Refused.Add(axes.Reason(why));
        }

        foreach (var shared in sites.GroupBy(s => (s.SharingKey, MirrorFactor(analysis.Graph, s))))
        {
            // New layers that several share have taps for all of them.
            TapReach reach = shared.Select(site => TapReach.Of(site.Axes, site.Layer)).Aggregate((one, other) => one.Or(other));
            var writer = new ChainWriter(analysis.Graph, editor, options, norms, reach);
            if (options.Method == DeepenMethod.ZeroResidual)
                AddResiduals(shared, reach, writer, report);
            else if (options.Activation == DeepenActivation.Idempotent)
                AddBehindActivations(analysis, shared, reach, writer, report);
            else
                Factor(analysis, editor, [.. shared], reach, writer, report);
        }

        editor.Commit();
        if (options.Calibrate is { } samples && norms.Count > 0)
            NormCalibration.Calibrate(analysis.Graph.Model, norms, samples, report.Notes);
        else if (norms.Count > 0)
            report.Notes.Add("The new batch norms start as the identity with their running statistics only; training that normalises by the batch "
                + "makes the loss jump unless samples calibrate them (--deepen-calibrate) or the statistics are kept at first.");
        return report;
    }

    // Sums of one value and zeros change no bit. A kernel with zeros around it does: ONNX Runtime adds its products up in another order.
    private bool IsBitExact => options is
    { Method: DeepenMethod.ZeroResidual }
        or { Method: DeepenMethod.Identity, Calibrate: null, Activation: DeepenActivation.Idempotent }
        or { Method: DeepenMethod.Identity, Calibrate: null, Activation: not DeepenActivation.Mirror, Kernels: null };

    // Whether a layer cannot be deepened as the options ask, whatever its weights.
    private bool Refusal(ModelGraph graph, DeepenSite site, out string why)
    {
        bool factors = options.Method is DeepenMethod.General or DeepenMethod.Practical;
        why = "";
        if (options.Norm != DeepenNorm.None && site.Layer.OutputAxis != 1)
            why = $"a batch norm takes channels on axis 1, and its lie on axis {site.Layer.OutputAxis}; a layer norm cannot start as the identity";
        else if (options.Kernels is { } pair && site.IsConvolution && pair.For(site.Layer.SpatialAxes) is null)
            why = $"its kernel has {site.Layer.SpatialAxes} {(site.Layer.SpatialAxes == 1 ? "axis" : "axes")}, and '{pair}' gives another number of sizes";
        else if ((factors || options.Kernels is not null) && site.WindowUnknown is { } unknown)
            why = unknown;
        else if (options.Activation == DeepenActivation.Mirror && NetworkActivation.Behind(graph, site.Axes.Node.Output[0]) is { MirrorFactor: null } other)
            why = $"its activation {ModelGraph.Describe(other.Node)} is none with φ(x) − φ(−x) = κ·x, which a mirror pair needs";
        return why.Length > 0;
    }

    private double? MirrorFactor(ModelGraph graph, DeepenSite site) => options.Activation == DeepenActivation.Mirror
        ? (NetworkActivation.Behind(graph, site.Axes.Node.Output[0]) ?? NetworkActivation.Relu).MirrorFactor : null;

    private void Factor(AxisAnalysis analysis, GraphEditor editor, List<DeepenSite> shared, TapReach reach, ChainWriter writer, StepReport report)
    {
        DeepenSite first = shared[0];
        // A weight can change when all who read it are deepened in the same way; the new layers are then shared as well.
        bool inPlace = first.Constant is { } constant && !analysis.Graph.IsReadElsewhere(constant.Name)
            && analysis.ConstantUses.Count(u => u.Constant == constant) == shared.Count;
        double? factor = MirrorFactor(analysis.Graph, first);
        string why = LayerFactoring.NotFree(first);
        DeepenChain? chain = factor is null || inPlace ? _factoring.Factor(first, reach, inPlace, out why) : null;
        if (chain is null)
        {
            foreach (DeepenSite site in shared)
                report.Refused.Add(site.Axes.Reason(why));
            return;
        }

        if (factor is not null)
            chain = chain.Mirrored(first.Weight!, factor.Value);
        if (chain.Layers[chain.Original] is { } own)
        {
            editor.Replace(first.Constant!, own.Data);
            foreach (DeepenSite site in shared)
                site.ReportSizes(own.Data.Shape, report.Sizes);
        }

        if (chain.Note is { } note)
            report.Notes.Add(note);
        foreach (DeepenSite site in shared)
        {
            Changed(report, site, 1);
            report.Factorisations.Add(new Factorisation(site.Name, chain.Form, writer.Write(site, chain)) { Residual = chain.Residual });
        }
    }

    private void AddResiduals(IEnumerable<DeepenSite> shared, TapReach reach, ChainWriter writer, StepReport report)
    {
        foreach (DeepenSite site in shared)
        {
            if (options.Kernels?.For(site.Layer.SpatialAxes) is { } kernels && (Refusal(kernels.First, reach) ?? Refusal(kernels.Second, reach)) is { } why)
            {
                report.Refused.Add(site.Axes.Reason(why));
                continue;
            }

            Changed(report, site, 2);
            report.Factorisations.Add(new Factorisation(site.Name, "zero residual", writer.WriteResidual(site, LayerFactoring.Channels(options, site))));
        }
    }

    private void AddBehindActivations(AxisAnalysis analysis, IEnumerable<DeepenSite> shared, TapReach reach, ChainWriter writer, StepReport report)
    {
        foreach (DeepenSite site in shared)
        {
            NetworkActivation? activation = NetworkActivation.Behind(analysis.Graph, site.Axes.Node.Output[0]);
            string? why = activation is null ? "no activation that is known to be idempotent follows it"
                : !activation.IsIdempotent ? $"its activation {ModelGraph.Describe(activation.Node)} is not idempotent"
                : report.Factorisations.Any(f => f.Node == ModelGraph.NameOf(activation.Node)) ? $"{ModelGraph.Describe(activation.Node)} has been given a layer already"
                : analysis.Shapes.Dims(activation.Node.Output[0]) is not { } dims || !dims.SequenceEqual(site.Axes.OutputDims(0)!)
                    ? $"the result of {ModelGraph.Describe(activation.Node)} has other sizes than its own"
                : options.Kernels?.For(site.Layer.SpatialAxes) is { } kernels ? Refusal(kernels.Second, reach)
                : null;
            if (why is not null)
            {
                report.Refused.Add(site.Axes.Reason(why));
                continue;
            }

            Changed(report, site, 1);
            report.Factorisations.Add(new Factorisation(ModelGraph.NameOf(activation!.Node), "idempotent", writer.WriteIdempotent(site, activation)));
        }
    }

    private static string? Refusal(ImmutableArray<int> kernel, TapReach reach) => TapReach.Refusal(kernel.Select(taps => (long)taps), reach.Behind);

    private void Changed(StepReport report, DeepenSite site, int layers)
    {
        report.Changes.Add(new Change(ModelGraph.Describe(site.Axes.Node), "layers", 1, 1 + layers * options.Count));
        long channels = (long)LayerFactoring.Channels(options, site) * site.Groups;
        if (options.Channels is { } request && request.Apply((long)site.Outputs * site.Groups) != channels)
            report.Notes.Add($"{site.Name}: {channels} channels between the halves, in whole groups of {site.Groups}");
    }
}
