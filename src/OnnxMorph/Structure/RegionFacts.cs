using OnnxMorph.Axes;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;

namespace OnnxMorph.Structure;

/// <summary>What a region is, by the way its branches meet again.</summary>
internal enum RegionKind
{
    /// <summary>Part of something larger: a gate, an attention's products, a norm written out, or no layers at all.</summary>
    Part,

    /// <summary>Branches are added: x + F(x), or a projection of x + F(x).</summary>
    Residual,

    /// <summary>Branches are put side by side: inception modules, dense layers.</summary>
    Concatenation,
}

/// <summary>
/// What regions and sequences hold, found once from the inside out. Signatures are equal where layers, products of activations
/// and the way they are wired are equal, up to channel counts; they tell nothing of norms, activations and reshapes, in which
/// exports of one network differ.
/// </summary>
internal sealed class RegionFacts
{
    private readonly AxisAnalysis _analysis;
    private readonly ActivationGraph _graph;
    private readonly Dictionary<string, int> _signatures = [];
    private readonly Dictionary<object, Facts> _facts = new(ReferenceEqualityComparer.Instance);

    /// <summary>Facts of a sequence or region.</summary>
    /// <param name="Layers">Layers in it, lookups in tables left out.</param>
    /// <param name="Signature">Signatures one after the other; one for a region, none where nothing in it counts.</param>
    /// <param name="HasSkip">Whether a skip x + F(x) over layers lies in it.</param>
    /// <param name="HasDense">Whether dense layers lie in it: concatenations of a value with what layers make of it.</param>
    /// <param name="Upsamples">Whether something in it makes positions more.</param>
    private sealed record Facts(int Layers, int[] Signature, bool HasSkip, bool HasDense, bool Upsamples);

    /// <summary>Finds the facts of all sequences of a tree.</summary>
    public RegionFacts(AxisAnalysis analysis, ActivationGraph graph, RegionTree tree)
    {
        _analysis = analysis;
        _graph = graph;
        foreach (Sequence sequence in tree.Sequences)
        {
            foreach (Step step in sequence.Steps)
                if (step.Before is { } region)
                    _facts[region] = Of(region);
            _facts[sequence] = Sum(sequence.Steps.SelectMany(Of));
        }
    }

    /// <summary>Layers in a region.</summary>
    public int Layers(Region region) => _facts[region].Layers;

    /// <summary>Layers in a sequence.</summary>
    public int Layers(Sequence sequence) => _facts[sequence].Layers;

    /// <summary>Layers at and before a step.</summary>
    public int Layers(Step step) => Of(step).Sum(f => f.Layers);

    /// <summary>Signature of a sequence.</summary>
    public int[] Signature(Sequence sequence) => _facts[sequence].Signature;

    /// <summary>Signature of a step and what lies before it.</summary>
    public int[] Signature(Step step) => [.. Of(step).SelectMany(f => f.Signature)];

    /// <summary>Signature of a region; 0 where nothing in it counts.</summary>
    public int Signature(Region region) => _facts[region].Signature is [int signature] ? signature : 0;

    /// <summary>Signature of a region's main branch.</summary>
    public int MainSignature(Region region) => Intern(string.Join('&', Main(region).Parts.Select(p => string.Join(' ', _facts[p].Signature))));

    /// <summary>Whether a skip over layers lies in a sequence.</summary>
    public bool HasSkip(Sequence sequence) => _facts[sequence].HasSkip;

    /// <summary>The branch with most layers.</summary>
    public Branch Main(Region region) => region.Branches.MaxBy(b => b.Parts.Sum(Layers))!;

    /// <summary>What a region is.</summary>
    public RegionKind Kind(Region region) => Kind(region, _facts[region].Layers);

    /// <summary>
    /// Whether a region is only a frame around blocks: it holds blocks of its own (a long skip, a dense stage, towers), or goes down
    /// to fewer positions and up again (a U-Net's levels).
    /// </summary>
    public bool IsFrame(Region region)
    {
        Facts facts = _facts[region];
        bool residual = Kind(region) == RegionKind.Residual;
        bool nested = region.Branches.SelectMany(b => b.Parts).Any(part => _facts[part].HasSkip || (!residual && _facts[part].HasDense));
        return nested || (!residual && region.Branches.Any(IsDenseStage))
            || (region.Branches.Any(b => b.Parts.Any(p => _facts[p].Upsamples && 2 * _facts[p].Layers > facts.Layers))
                && Extent(region.Entry).Positions == Extent(region.Join).Positions);
    }

    /// <summary>Whether a branch is a stage of dense layers: equal sequences each of which reads the results of those before.</summary>
    public bool IsDenseStage(Branch branch)
    {
        if (branch.Parts.Count < 2)
            return false;
        var last = branch.Parts.ToDictionary(p => p.Steps[^1].Vertex, p => p);
        return branch.Parts.Any(part => _facts[part].Layers > 0 && _graph.Predecessors(part.Steps[0].Vertex)
            .Any(v => last.TryGetValue(v, out Sequence? before) && _facts[before].Signature.SequenceEqual(_facts[part].Signature)));
    }

    /// <summary>
    /// Sizes of what a vertex makes: positions are axes that no layer makes, channels those that layers make. Both −1 where unknown.
    /// </summary>
    public (long Positions, long Channels) Extent(int vertex)
    {
        if (_graph.Value(vertex) is not { } value || _analysis.Shapes.Dims(value) is not { } dims)
            return (-1, -1);
        AxisExpression[]? axes = _analysis.Axes(value);
        long positions = 1, channels = 1;
        for (int axis = 0; axis < dims.Length; axis++)
            if (axes is not null && _analysis.Solver.Leaves(axes[axis]).Any())
                channels *= dims[axis];
            else
                positions *= dims[axis];
        return (positions, channels);
    }

    /// <summary>Sizes of what a vertex makes; null where unknown.</summary>
    public long[]? Dims(int vertex) => _graph.Value(vertex) is { } value ? _analysis.Shapes.Dims(value) : null;

    /// <summary>Whether a node multiplies activations with each other, as attention does.</summary>
    public bool IsProduct(int vertex) => _graph.Proto(vertex) is { OpType: "MatMul" or "Einsum" or "Gemm" or "FusedMatMul" or "Attention" or "MultiHeadAttention" or "GroupQueryAttention" } node
        && node.Input.Select(_graph.Producer).OfType<int>().Distinct().Count() > 1;

    /// <summary>Whether a vertex reads a table by index.</summary>
    public bool IsLookup(int vertex) => _graph.IsLayer(vertex) && _graph.Proto(vertex)!.OpType == "Gather";

    /// <summary>Whether a convolution keeps every channel to itself.</summary>
    public bool IsDepthwise(int vertex) => _graph.IsLayer(vertex) && LayerKind(vertex) == "depthwise";

    private RegionKind Kind(Region region, int layers) =>
        layers == 0 || region.Entry == ActivationGraph.Source || !(region.Direct || region.Branches.Count > 1) ? RegionKind.Part
        : _graph.Proto(region.Join)?.OpType switch
        {
            "Add" or "Sum" or "SkipLayerNormalization" or "SkipSimplifiedLayerNormalization" => RegionKind.Residual,
            "Concat" => RegionKind.Concatenation,
            _ => RegionKind.Part,
        };

    private Facts Of(Region region)
    {
        Facts inside = Sum(region.Branches.SelectMany(b => b.Parts).Select(p => _facts[p]));
        RegionKind kind = Kind(region, inside.Layers);
        string wiring = string.Join('|', region.Branches.Select(b => string.Join('&', b.Parts.Select(p => string.Join(' ', _facts[p].Signature)))).Order(StringComparer.Ordinal));
        bool dense = region.Branches.Any(IsDenseStage) || (kind == RegionKind.Concatenation && region.Direct);
        return inside with
        {
            Signature = inside.Signature.Length == 0 ? [] : [Intern($"{kind} {region.Direct} {wiring}")],
            HasSkip = inside.HasSkip || (kind == RegionKind.Residual && region.Direct),
            HasDense = inside.HasDense || dense,
        };
    }

    private IEnumerable<Facts> Of(Step step)
    {
        if (step.Before is { } region)
            yield return _facts[region];
        yield return Of(step.Vertex);
    }

    private Facts Of(int vertex)
    {
        NodeProto? node = _graph.Proto(vertex);
        bool layer = _graph.IsLayer(vertex);
        string? sign = layer ? LayerKind(vertex) : IsProduct(vertex) ? "product" : node?.OpType == "Transpose" ? "transpose" : null;
        bool upsamples = node?.OpType is "Resize" or "Upsample" or "ConvTranspose" or "DepthToSpace"
            && _graph.Predecessors(vertex) is [int from, ..] && Extent(from).Positions < Extent(vertex).Positions;
        return new Facts(layer && node!.OpType != "Gather" ? 1 : 0, sign is null ? [] : [Intern(sign)], false, false, upsamples);
    }

    // Convolutions are told apart by their part in a block; matrix products are one, however they are written.
    private string LayerKind(int vertex)
    {
        NodeAxes axes = _analysis.Node(_graph.Node(vertex))!;
        if (axes.Layer is not { SpatialAxes: > 0 } layer)
            return axes.Node.OpType is "MatMul" or "Gemm" or "FusedMatMul" or "Einsum" ? "linear" : axes.Node.OpType;
        AxisExpression[] weight = axes.In(layer.WeightInput);
        string kind = layer.Groups > 1 && weight[1].Size == 1 ? "depthwise" : layer.Groups > 1 ? "grouped"
            : weight.TakeLast(layer.SpatialAxes).All(a => a.Size == 1) ? "pointwise" : "spatial";
        return layer.Transposed ? $"transposed {kind}" : kind;
    }

    private static Facts Sum(IEnumerable<Facts> parts)
    {
        List<Facts> all = [.. parts];
        return new Facts(all.Sum(f => f.Layers), [.. all.SelectMany(f => f.Signature)], all.Any(f => f.HasSkip), all.Any(f => f.HasDense), all.Any(f => f.Upsamples));
    }

    private int Intern(string sign) => _signatures.TryGetValue(sign, out int id) ? id : _signatures[sign] = _signatures.Count + 1;
}
