using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Operators;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer.Containment;

/// <summary>An ε of the target beside the source's.</summary>
/// <param name="Node">The target's node that has it.</param>
/// <param name="Input">Which of its inputs; −1 where it is an attribute.</param>
/// <param name="Target">The target's.</param>
/// <param name="Source">The source's.</param>
internal sealed record NormEpsilon(int Node, int Input, double Target, double Source)
{
    /// <summary>Whether it is no ε but what a mean over more channels is multiplied by, where nothing behind it takes that, beside the source's 1.</summary>
    public bool IsShare { get; init; }
}

/// <summary>
/// How the channels of a source lie among those of a target where they cannot simply be copied: those that norms take statistics over, and queries
/// and keys, which are multiplied with each other.
/// </summary>
/// <remarks>
/// Under a norm over n' channels lie r copies of the source's n and, for the rest, their mean (layer norm) or zeros (RMS norm). Its variance is
/// η²·s² times the source's, η² = rn/n', where the channels themselves are s times the source's; γ' = η·γ makes the result good, and
/// ε' = η²·s²·ε, which belongs to the target's architecture, decides r, or s where no r does: s² = ε'/(η²·ε) (METHODS.md §1, with ε' given instead
/// of chosen).
/// </remarks>
internal sealed class ContainedChannels
{
    private readonly AnalysedModel _target;
    private readonly Dictionary<Space, AxisMap> _maps = [];
    private readonly Dictionary<Use, double> _factors = [];
    private readonly Dictionary<Space, NewChannels> _fillings = [];

    /// <summary>Decides for all spaces.</summary>
    /// <param name="target">The target.</param>
    /// <param name="spaces">Which spaces stand for which.</param>
    /// <param name="effective">Nodes that change what goes through them.</param>
    /// <param name="epsilons">The ε of norms that stand for norms of the source.</param>
    /// <param name="notes">Told what stays approximate.</param>
    public ContainedChannels(AnalysedModel target, SpaceMatching spaces, IReadOnlySet<string> effective, IReadOnlyList<NormEpsilon> epsilons, ICollection<string> notes)
    {
        _target = target;
        var whole = spaces.Pairs.Where(p => !spaces.IsMirrored(p.Key) && spaces.Part(p.Key) == (0, p.Value.Size) && p.Key.Pins.Count == 0 && p.Key.Size >= p.Value.Size)
            .ToDictionary(p => p.Key, p => p.Value.Size);
        foreach ((Space space, int size) in whole)
            if (space.Paired is not null && space.Filling is { } filling && space.Size > size)
                _maps[space] = filling == NewChannels.Zero ? SpaceGrowth.Zeros(size, space.Size, 1) : SpaceGrowth.Own(size, space.Size);
        foreach (var family in whole.Keys.Where(s => s.Uniform is not null && s.Paired is null).GroupBy(AxisSolver.UniformRoot))
        {
            // Zeros and means go through nodes without effect whatever these are.
            foreach (Space space in family)
                if (AxisSolver.Filling(space, pin => effective.Contains(pin.Where)) is { } filling)
                    _fillings[space] = filling;
            if (family.All(_fillings.ContainsKey))
                Decide([.. family], whole, epsilons, notes);
            else if (family.FirstOrDefault(space => space.Size % whole[space] != 0) is { } uneven && epsilons.Any(epsilon => Reaches(epsilon.Node, [.. family])))
                throw new TransferRefusedException($"a norm over {uneven.Size} channels stands for one over {whole[uneven]}, and neither means nor zeros go through all nodes on the way");
        }

        var growing = _maps.Where(m => m.Value.Size != m.Value.SourceSize).ToDictionary();
        foreach ((Use use, double factor) in Factors(growing).Constants)
            _factors[use] = factor;
    }

    /// <summary>For each channel of a target's space the source's channels; null where any copies will do.</summary>
    public AxisMap? this[Space target] => _maps.GetValueOrDefault(target);

    /// <summary>What a constant of the target is multiplied by, beside what its axes say.</summary>
    public double Factor(Use use) => _factors.GetValueOrDefault(use, 1);

    private void Decide(List<Space> family, Dictionary<Space, int> sizes, IReadOnlyList<NormEpsilon> epsilons, ICollection<string> notes)
    {
        // Spaces of one norm are as large as each other in both models.
        int from = sizes[family[0]], to = family[0].Size;
        if (family.Any(space => sizes[space] != from || space.Size != to))
            return;
        bool means = family.Any(space => _fillings[space] == NewChannels.Mean);
        List<double> wanted = Wanted(family, from, to, epsilons);
        double product = wanted.Count == 0 ? to / from : wanted.Average();
        int copies = (int)Math.Round(product), most = to / from;
        double scale = 1;
        if (copies < 1 || copies > most || Math.Abs(product - copies) > Tolerance * product)
        {
            copies = most;
            scale = Math.Sqrt(product / copies);
            if (!means)
            {
                notes.Add(FormattableString.Invariant(
                    $"{family[0].Size} channels under an RMS norm stand for {from} of the source's, which with its epsilon is exact only for {product:g4} copies of them; the function is kept up to epsilon."));
                scale = 1;
            }
        }

        if (wanted.Any(value => Math.Abs(value - product) > Tolerance * product))
            notes.Add($"Norms over the same {to} channels differ in what their epsilons are to the source's; the function is kept up to epsilon.");
        if (to == from && scale == 1)
            return;
        foreach (Space space in family)
            _maps[space] = _fillings[space] == NewChannels.Mean && copies * from < to ? SpaceGrowth.Means(from, to, copies).Times(scale)
                : SpaceGrowth.Zeros(from, to, copies).Times(_fillings[space] == NewChannels.Mean ? scale : 1);
    }

    // What an ε that was rounded to float32 once or twice may be off by.
    private const double Tolerance = 1e-6;

    // r·s² for each ε of a family.
    private List<double> Wanted(List<Space> family, int from, int to, IReadOnlyList<NormEpsilon> epsilons)
    {
        List<NormEpsilon> given = [.. epsilons.Where(e => e.Source > 0)];
        if (to == from && given.Any(e => e.IsShare && Reaches(e.Node, family)))
            throw new TransferRefusedException($"what stands behind a mean over {to} channels is for more of them than the source has");
        // No channels are added, and ε is what it is for all that reads them.
        if (to == from)
            return Ratios(1);
        try
        {
            var (constants, attributes) = Factors(family.ToDictionary(space => space, space => _fillings[space] == NewChannels.Mean ? SpaceGrowth.Means(from, to, 1) : SpaceGrowth.Zeros(from, to, 1)));
            return [.. given.Select(e => (Epsilon: e, Factor: e.Input < 0 ? attributes.GetValueOrDefault(e.Node) : constants.GetValueOrDefault(new Use(e.Node, e.Input))))
                .Where(e => e.Factor > 0).Select(e => e.Epsilon.IsShare ? e.Factor / e.Epsilon.Target : e.Epsilon.Target / e.Epsilon.Source / e.Factor)];
        }
        catch (TransferRefusedException) when (to % from == 0)
        {
            // Nothing makes η good behind a norm without a scale: there are copies alone, with which it is 1.
            return Ratios(to / from);
        }

        List<double> Ratios(int copies) => [.. given.Where(e => Reaches(e.Node, family)).Select(e => e.Target / e.Source * copies)];
    }

    // Whether a norm, or what is left of one behind its mean, is over spaces of a family.
    private bool Reaches(int node, List<Space> family)
    {
        for (int steps = 0; steps < 4; steps++)
        {
            if (_target.Analysis.Node(node) is not { } axes)
                return false;
            if (axes.Inputs.Any(all => all is not null && all.Any(axis => _target.Analysis.Solver.Leaves(axis).Any(leaf => family.Contains(leaf.Space)))))
                return true;
            if (axes.Node.Input.Select(_target.Graph.Producer).FirstOrDefault(n => n is not null) is not { } before)
                return false;
            node = before;
        }

        return false;
    }

    // What norms ask of their constants, and of ε where it is an attribute, when channels lie as the maps say.
    private (IReadOnlyDictionary<Use, double> Constants, Dictionary<int, double> Attributes) Factors(IReadOnlyDictionary<Space, AxisMap> maps)
    {
        AxisAnalysis analysis = _target.Analysis;
        var shares = new SpaceMaps(analysis.Solver, maps);
        var factors = new ValueFactors(analysis, null);
        var attributes = new Dictionary<int, double>();
        for (int n = 0; n < analysis.Graph.Nodes.Count; n++)
        {
            if (analysis.Node(n) is not { } axes || OperatorRules.For(axes.Node) is not { } rule || !axes.Inputs.Any(all => all is not null && all.Any(shares.Changes)))
                continue;
            // Sizes are the target's as they are.
            var patch = new NodePatch(axes, axis => axis.Size, shares.Share);
            try
            {
                rule.Patch(patch);
            }
            catch (PatchRefusedException refused)
            {
                throw new TransferRefusedException($"{refused.Pin}");
            }

            factors.Add(patch);
            // γ takes η where ε takes η².
            if (rule.ChannelNormEpsilon(axes) is not null && patch.InputFactors.Values.ToArray() is [var scale])
                attributes[n] = scale * scale;
        }

        if (factors.Unfollowed is { } norm)
            throw new TransferRefusedException($"what {ModelGraph.Describe(norm.Node)} makes of more channels cannot be made good behind it");
        return (factors.Constants, attributes);
    }
}
