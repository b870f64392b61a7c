using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>What takes a layer's place or is put behind it.</summary>
public enum SubnetKind
{
    /// <summary>A chain of layers with activations between.</summary>
    Sequential,

    /// <summary>Chains side by side, added.</summary>
    Stacked,

    /// <summary>Any module of layers.</summary>
    Module,

    /// <summary>A residual block behind a layer, or a skip split into a scaled one and one with layers.</summary>
    Residual,

    /// <summary>The layer's result mixed with an earlier value, λ·f + (1−λ)·h, starting at λ = 1.</summary>
    SkipAdd,

    /// <summary>The layer's result concatenated with an earlier value, and a layer that starts with reading the result alone.</summary>
    SkipConcat,

    /// <summary>Copies of the layer side by side, each with a part of its weights, added.</summary>
    ReplicateAdd,

    /// <summary>Copies of the layer side by side, each making some of its channels.</summary>
    ReplicateConcat,

    /// <summary>Layers side by side behind the layer that add up to the identity.</summary>
    SplitAdd,

    /// <summary>Layers side by side behind the layer, each the identity on some of its channels.</summary>
    SplitConcat,

    /// <summary>Factors for the channels from their means over all positions, starting at 1.</summary>
    SqueezeExcite,
}

/// <summary>A kind of subnet with its options.</summary>
/// <param name="Kind">The kind.</param>
public sealed record SubnetOptions(SubnetKind Kind)
{
    /// <summary>Parts side by side: stacked, replicate-add, replicate-concat, split-add, split-concat.</summary>
    public int Branches { get; init; } = 2;

    /// <summary>Layers of a chain: sequential, stacked.</summary>
    public int Length { get; init; } = 2;

    /// <summary>An expression, or the path of an ONNX file: module, and residual in place of its own.</summary>
    public string? Module { get; init; }

    /// <summary>Name of the node whose result is the skip: skip-add, skip-concat; null takes the nearest that fits.</summary>
    public string? From { get; init; }

    /// <summary>How many channels share one of the hidden units: squeeze-excite.</summary>
    public int Reduction { get; init; } = 4;
}

/// <summary>
/// Puts subnets in the place of layers or behind them, without changing what the network computes (METHODS.md §2, Subnet and Path
/// level).
/// </summary>
public sealed class SubnetPass
{
    private readonly Selector _selector;
    private readonly SubnetOptions _options;
    private readonly Module? _module;
    private readonly ulong _seed;
    private readonly string _kind;

    /// <summary>The pass for the layers that <paramref name="selector"/> names.</summary>
    /// <exception cref="UsageException">The module is not understood.</exception>
    public SubnetPass(Selector selector, SubnetOptions options, ulong seed)
    {
        _selector = selector;
        _options = options;
        _module = options.Module is not { } module ? null
            : module.EndsWith(".onnx", StringComparison.OrdinalIgnoreCase) ? ModuleFile.Read(module) : ModuleText.Parse(module);
        _seed = seed;
        // As users write it: skip-add for SkipAdd.
        _kind = string.Concat($"{options.Kind}".Select((c, i) => char.IsUpper(c) && i > 0 ? $"-{char.ToLowerInvariant(c)}" : $"{char.ToLowerInvariant(c)}"));
        if (_module is null && options.Kind == SubnetKind.Module)
            throw new UsageException("A subnet of kind module needs a module, such as '(3x3, 3x3) | 1x1' or the path of an ONNX file.");
    }

    /// <summary>Rewrites the graph that <paramref name="analysis"/> describes, in place.</summary>
    public StepReport Apply(AxisAnalysis analysis)
    {
        var editor = new GraphEditor(analysis.Graph);
        SubnetRewriter rewriter = Rewriter(analysis, editor);
        var report = new StepReport($"subnet {_selector}={_kind}", rewriter.Exactness);
        // All layers are looked at before any is changed.
        var ready = new List<(NodeAxes Axes, LayerSite? Site, Rewrite Rewrite)>();
        foreach (NodeAxes axes in _selector.Nodes(analysis, report))
        {
            try
            {
                LayerSite? site = axes.Layer is { } layer ? LayerSite.Of(analysis, axes, layer) : null;
                if ((site is null ? rewriter.PrepareOther(axes) : rewriter.Prepare(site)) is { } rewrite)
                    ready.Add((axes, site, rewrite));
            }
            catch (SubnetRefusedException refused)
            {
                report.Refused.Add(axes.Reason(refused.Message));
            }
        }

        var written = new List<(NodeProto Node, long Parameters, IReadOnlyList<NodeProto> Nodes)>();
        foreach (var alike in ready.GroupBy(r => r.Site is null ? r.Axes : SharingKey(r.Site)))
        {
            var sharing = new SharingLayers([.. alike.Select(r => r.Site).OfType<LayerSite>()]);
            foreach ((NodeAxes axes, LayerSite? site, Rewrite rewrite) in alike)
                written.Add((axes.Node, site?.Parameters ?? 0, rewrite(sharing)));
            if (sharing.IsReplaced && analysis.ConstantUses.Count(u => u.Constant == sharing.Sites[0].Weight) > sharing.Sites.Count)
                report.Notes.Add($"Weight '{sharing.Sites[0].Weight!.Name}' is no longer shared: not all that read it were changed in the same way.");
        }

        editor.Commit();
        Report(analysis, written, report);
        return report;
    }

    private SubnetRewriter Rewriter(AxisAnalysis analysis, GraphEditor editor)
    {
        return _options.Kind switch
        {
            SubnetKind.Module => InPlace(_ => _module!),
            SubnetKind.Sequential => InPlace(site => CommonModules.Sequential(site, _options.Length)),
            SubnetKind.Stacked => InPlace(site => CommonModules.Stacked(site, _options.Branches, _options.Length)),
            SubnetKind.ReplicateAdd => InPlace(site => CommonModules.ReplicateAdd(site, _options.Branches), evenShares: true),
            SubnetKind.ReplicateConcat => new GroupedCopiesRewriter
            {
                Analysis = analysis,
                Editor = editor,
                Seed = _seed,
                Branches = _options.Branches,
                Module = _ => CommonModules.ReplicateConcat(_options.Branches),
            },
            SubnetKind.Residual => new ResidualRewriter { Analysis = analysis, Editor = editor, Seed = _seed, Module = _module },
            SubnetKind.SkipAdd or SubnetKind.SkipConcat => new SkipRewriter
            {
                Analysis = analysis,
                Editor = editor,
                Seed = _seed,
                Concatenates = _options.Kind == SubnetKind.SkipConcat,
                From = _options.From,
            },
            SubnetKind.SplitAdd or SubnetKind.SplitConcat => new SplitRewriter
            {
                Analysis = analysis,
                Editor = editor,
                Seed = _seed,
                Concatenates = _options.Kind == SubnetKind.SplitConcat,
                Branches = _options.Branches,
            },
            SubnetKind.SqueezeExcite => new SqueezeExciteRewriter { Analysis = analysis, Editor = editor, Seed = _seed, Reduction = _options.Reduction },
            _ => throw new InvalidOperationException(_options.Kind.ToString()),
        };

        ModuleRewriter InPlace(Func<LayerSite, Module> module, bool evenShares = false) =>
            new() { Analysis = analysis, Editor = editor, Seed = _seed, Module = module, EvenShares = evenShares };
    }

    // Layers share new weights where they share their own and are alike in all that new weights depend on.
    private static object SharingKey(LayerSite site) => site.Weight is null ? site : string.Join('|',
        [
            site.Weight.Name, site.Node.Domain, site.Node.OpType, .. site.Transposes.Select(t => $"{t.Attribute}"), $"{site.Form.Type} {site.Layer}",
            .. site.Node.Attribute.OrderBy(a => a.Name, StringComparer.Ordinal).Select(a => $"{a}"),
            .. site.Pads.Begin.Concat(site.Pads.End).Concat(site.Neighbourhood(CommonModules.DepthwiseKernel)).Select(p => $"{p}"),
        ]);

    private void Report(AxisAnalysis analysis, List<(NodeProto Node, long Parameters, IReadOnlyList<NodeProto> Nodes)> written, StepReport report)
    {
        var after = new ModelGraph(analysis.Graph.Model);
        foreach ((NodeProto node, long before, IReadOnlyList<NodeProto> nodes) in written)
        {
            long parameters = nodes.SelectMany(n => n.Input).Select(after.ConstantOf).OfType<Constant>().Distinct().Where(c => c.Type.IsScalable()).Sum(c => c.Count);
            report.Changes.Add(new Change(ModelGraph.Describe(node), "parameters", before, parameters));
            report.Factorisations.Add(new Factorisation(ModelGraph.NameOf(node), _kind, [.. nodes.Select(n => n.Name)]));
        }
    }
}
