using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Containment;

/// <summary>A source found inside a target: what is filled from where, and what starts without effect.</summary>
internal sealed class ContainmentPlan
{
    private readonly AnalysedModel _source, _target;
    private readonly Dictionary<string, (ValueRole Role, Derivation How)> _roles;

    private ContainmentPlan(AnalysedModel source, AnalysedModel target, Dictionary<string, (ValueRole Role, Derivation How)> roles, IReadOnlyList<string> heads)
    {
        (_source, _target, _roles, Heads) = (source, target, roles, heads);
        Matches = FindMatches();
        Spaces = new SpaceMatching(source, target, Votes());
    }

    /// <summary>Constants of the target with those of the source that fill them.</summary>
    public IReadOnlyList<UseMatch> Matches { get; }

    /// <summary>Which spaces stand for which.</summary>
    public SpaceMatching Spaces { get; }

    /// <summary>Outputs whose last layer has other classes than the source's, and stays as it is.</summary>
    public IReadOnlyList<string> Heads { get; }

    /// <summary>Finds a source inside a target.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target.</param>
    /// <param name="why">Where it is not inside, what stands in the way.</param>
    public static ContainmentPlan? Find(AnalysedModel source, AnalysedModel target, out string why)
    {
        var search = new ContainmentSearch(source, target);
        var demands = new List<(string, ValueRole)>();
        var heads = new List<string>();
        why = "";
        foreach ((string to, string from) in search.Outputs)
        {
            (string value, string own, bool head) = Head(source, target, to, from);
            if (head)
                heads.Add(to);
            demands.Add((value, new Carries(search.Canonical(own))));
        }

        if (demands.Count == 0)
            why = "the models have no outputs in common";
        else if (search.Solve(demands) is { } roles)
            return new ContainmentPlan(source, target, roles, heads);
        else
            why = Describe(search, target);
        return null;
    }

    private static string Describe(ContainmentSearch search, AnalysedModel target)
    {
        if (search.Obstacle is not { } obstacle)
            return "two of its values would each have to be two of the source's";
        string what = obstacle.Role switch
        {
            Carries carries => $"carry '{carries.Source}' of the source",
            Mirrors mirrors => $"carry '{mirrors.Source}' of the source and its negative",
            Holds holds => FormattableString.Invariant($"be {holds.Number} everywhere"),
            _ => "",
        };
        string where = target.Graph.Producer(obstacle.Value) is { } n ? $"{ModelGraph.Describe(target.Graph.Nodes[n])} cannot be made to" : $"the input '{obstacle.Value}' does not";
        return $"{where} {what}";
    }

    // Behind a last layer of another size what is in front of it is compared.
    private static (string Target, string Source, bool Head) Head(AnalysedModel source, AnalysedModel target, string to, string from)
    {
        if (target.Analysis.Shapes.Dims(to) is not { } dims || source.Analysis.Shapes.Dims(from) is not { } own || dims.SequenceEqual(own))
            return (to, from, false);
        string other = to, mine = from;
        for (int steps = 0; steps < 8; steps++)
        {
            if (LayerView.Of(target, other) is { } layer && LayerView.Of(source, mine) is { } ownLayer)
                return (layer.Input, ownLayer.Input, true);
            if (target.Graph.Producer(other) is not { } n || source.Graph.Producer(mine) is not { } m || target.Graph.Nodes[n].OpType != source.Graph.Nodes[m].OpType)
                break;
            (other, mine) = (target.Graph.Nodes[n].Input[0], source.Graph.Nodes[m].Input[0]);
        }

        return (to, from, false);
    }

    private IReadOnlyList<UseMatch> FindMatches()
    {
        var whole = new SectionPair(ContainmentSearch.Whole(_target), ContainmentSearch.Whole(_source), 0);
        var matching = new UseMatching(_source, _target);
        foreach ((_, (_, Derivation how)) in _roles)
            foreach (Filled filled in how.Filled)
                matching.Add(filled, whole, filled.Taps is null && filled.Made is null ? null : new WeightFit(filled.Taps ?? [], filled.Input is { } input ? Pieces(input) : null, filled.Made));
        return matching.Matches;
    }

    /// <summary>The pieces of a value's axis where it holds other channels too; null elsewhere.</summary>
    public IReadOnlyList<AxisPiece>? Pieces(string value)
    {
        while (_roles.TryGetValue(value, out var known))
        {
            if (known.How.Pieces is { } pieces)
                return pieces.Any(piece => piece.Count == 0) ? pieces : null;
            if (known.How.Like is not { } like)
                return null;
            value = like;
        }

        return null;
    }

    /// <summary>ε of norms over channels, as attributes and as numbers that are added.</summary>
    public IReadOnlyList<NormEpsilon> Epsilons()
    {
        var epsilons = new List<NormEpsilon>();
        foreach ((string value, (ValueRole role, Derivation how)) in _roles)
        {
            if (_target.Graph.Producer(value) is not { } n || _target.Analysis.Node(n) is not { } norm)
                continue;
            if (role is Carries carries && _source.Graph.Producer(carries.Source) is { } m && _source.Analysis.Node(m) is { } own
                && OperatorRules.For(norm.Node)?.ChannelNormEpsilon(norm) is { } epsilon && OperatorRules.For(own.Node)?.ChannelNormEpsilon(own) is { } ownEpsilon)
                epsilons.Add(new NormEpsilon(n, -1, epsilon, ownEpsilon));
            foreach (Filled filled in how.Filled)
                if (norm.Node.OpType == "Add" && Number(_target, filled.Target) is { } to && Number(_source, filled.Source) is { } from)
                    epsilons.Add(new NormEpsilon(filled.Target.Node, filled.Target.Input, to, from));
        }

        return epsilons;
    }

    private static double? Number(AnalysedModel model, Use use) =>
        model.Graph.ConstantOf(model.Graph.Nodes[use.Node].Input[use.Input]) is { Count: 1 } constant && constant.Type.IsScalable() ? ConstantValues.Of(model.Graph, constant)[0] : null;

    // Every axis of every value with the axis that it carries, or a part of it.
    private IEnumerable<SpaceVote> Votes()
    {
        foreach ((string value, (ValueRole role, Derivation how)) in _roles)
        {
            string? from = role switch { Carries c => c.Source, Mirrors m => m.Source, _ => null };
            if (from is null || _target.Analysis.Axes(value) is not { } axes || _source.Analysis.Axes(from) is not { } own || axes.Length != own.Length)
                continue;
            IReadOnlyList<AxisPiece>? pieces = how.Pieces ?? Pieces(value);
            for (int axis = 0; axis < axes.Length; axis++)
            {
                bool mirrored = role is Mirrors && axes[axis].Size >= 2 * own[axis].Size && _target.Analysis.Solver.Leaves(axes[axis]).Any();
                if (pieces is not null && pieces.Sum(p => p.Size) == axes[axis].Size && (how.Axis < 0 || how.Axis == axis))
                {
                    int offset = 0;
                    foreach (AxisPiece piece in pieces)
                    {
                        if (piece.Count > 0)
                            yield return new SpaceVote(axes[axis], own[axis], offset, piece.Size, piece.Start, piece.Count, false);
                        offset += piece.Size;
                    }
                }
                else if (role is Carries { IsWhole: false } part && part.Axis == axis)
                    yield return new SpaceVote(axes[axis], own[axis], 0, (int)axes[axis].Size, part.Start, part.Size, false);
                else
                    yield return new SpaceVote(axes[axis], own[axis], 0, (int)axes[axis].Size, 0, (int)own[axis].Size, mirrored);
            }
        }
    }

    /// <summary>What starts without effect.</summary>
    /// <exception cref="TransferRefusedException">A layer cannot give on what it reads with the channels that were chosen.</exception>
    public Dictionary<Use, WeightExpression> Starts(ChannelMapping mapping)
    {
        var starts = new Dictionary<Use, WeightExpression>();
        foreach ((_, (_, Derivation how)) in _roles)
            foreach ((Use use, WeightStart start) in how.Starts)
            {
                Constant constant = _target.Graph.ConstantOf(_target.Graph.Nodes[use.Node].Input[use.Input])!;
                WeightExpression weight = start is NumberStart number ? new FilledWeight(constant.Type, [.. constant.Shape], Fill.Constant(number.Number))
                    : mapping.Unit(constant, use, (UnitStart)start, Pieces(((UnitStart)start).Input));
                starts[use] = weight;
            }

        return starts;
    }
}

/// <summary>Two axes of which one stands for the other, or pieces of them.</summary>
/// <param name="Target">The target's axis.</param>
/// <param name="Source">The source's.</param>
/// <param name="Offset">First index of the target's.</param>
/// <param name="Size">How many.</param>
/// <param name="Start">First index of the source's.</param>
/// <param name="Count">How many.</param>
/// <param name="Mirrored">Whether the target's holds the source's and its negative.</param>
internal sealed record SpaceVote(AxisExpression Target, AxisExpression Source, int Offset, int Size, int Start, int Count, bool Mirrored);
