using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Containment;

/// <summary>The roles that a search found, and what follows from them.</summary>
internal sealed class FoundRoles
{
    private readonly AnalysedModel _source, _target;
    private readonly Dictionary<string, (ValueRole Role, Derivation How)> _roles;

    /// <summary>Of every value of the target that something is asked of, what it is and how.</summary>
    /// <exception cref="RoleRefusedException">It is not known how a constant is filled.</exception>
    public FoundRoles(AnalysedModel source, AnalysedModel target, Dictionary<string, (ValueRole Role, Derivation How)> roles)
    {
        (_source, _target, _roles) = (source, target, roles);
        Matches = FindMatches();
        Spaces = new SpaceMatching(source, target, Votes());
    }

    /// <summary>Constants of the target with those of the source that fill them.</summary>
    public IReadOnlyList<UseMatch> Matches { get; }

    /// <summary>Which spaces stand for which.</summary>
    public SpaceMatching Spaces { get; }

    /// <summary>The role of a value of the target; null where nothing is asked of it.</summary>
    public ValueRole? Role(string value) => _roles.TryGetValue(value, out var known) ? known.Role : null;

    /// <summary>Every value of the target that carries all of a value of the source, with that.</summary>
    public IEnumerable<(string Target, string Source)> Carried =>
        _roles.Where(r => r.Value.Role is Carries carries && carries == new Carries(carries.Source)).Select(r => (r.Key, ((Carries)r.Value.Role).Source));

    /// <summary>The value that a constant is filled for, with its role; null where it is for none.</summary>
    public (string Value, ValueRole Role)? Owner(UseMatch match) => _roles.Where(r => r.Value.How.Filled.Any(filled => filled.Target.Node == match.Nodes.Target))
        .Select(r => ((string, ValueRole)?)(r.Key, r.Value.Role)).FirstOrDefault();

    private IReadOnlyList<UseMatch> FindMatches()
    {
        var whole = new SectionPair(ContainmentSearch.Whole(_target), ContainmentSearch.Whole(_source), 0);
        var matching = new UseMatching(_source, _target);
        foreach ((string value, (ValueRole role, Derivation how)) in _roles)
        {
            foreach (Filled filled in how.Filled)
            {
                matching.Add(filled, whole, filled.Taps is null && filled.Made is null ? null : new WeightFit(filled.Taps ?? [], filled.Input is { } input ? Pieces(input) : null, filled.Made, filled.Mirror));
                if (filled.Layers is not null && !matching.Knows(filled.Target))
                    throw new RoleRefusedException(value, role, $"'{_target.Graph.Nodes[filled.Target.Node].Input[filled.Target.Input]}' is made in another way than in the source");
            }
        }

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
            if (how.Share is { } share && Number(_target, share) is { } by)
                epsilons.Add(new NormEpsilon(share.Node, share.Input, by, 1) { IsShare = true });
            foreach (Filled filled in how.Filled)
                if (norm.Node.OpType == "Add" && Number(_target, filled.Target) is { } to && Number(_source, filled.Source) is { } from)
                    epsilons.Add(new NormEpsilon(filled.Target.Node, filled.Target.Input, to, from));
        }

        return epsilons;
    }

    /// <summary>Nodes that make one value of the source of others.</summary>
    public HashSet<string> Effective() =>
    [
        .. _roles.Where(r => Source(r.Value.Role) is { } made && r.Value.How.Needs.All(need => Source(need.Role) != made))
            .Select(r => _target.Graph.Producer(r.Key)).OfType<int>().Select(n => ModelGraph.Describe(_target.Graph.Nodes[n])),
    ];

    private static string? Source(ValueRole role) => role switch
    {
        Carries carries => carries.Source,
        Mirrors mirrors => mirrors.Source,
        _ => null,
    };

    private static double? Number(AnalysedModel model, Use use) =>
        model.Graph.ConstantOf(model.Graph.Nodes[use.Node].Input[use.Input]) is { Count: 1 } constant && constant.Type.IsScalable() ? ConstantValues.Of(model.Graph, constant)[0] : null;

    // Every axis of every value with the axis that it carries, or a part of it.
    private IEnumerable<SpaceVote> Votes()
    {
        foreach ((string value, (ValueRole role, Derivation how)) in _roles)
        {
            if (Source(role) is not { } from || _target.Analysis.Axes(value) is not { } axes || _source.Analysis.Axes(from) is not { } own || axes.Length != own.Length)
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
    /// <exception cref="RoleRefusedException">A layer cannot give on what it reads with the channels that were chosen.</exception>
    public Dictionary<Use, WeightExpression> Starts(ChannelMapping mapping)
    {
        var starts = new Dictionary<Use, WeightExpression>();
        foreach ((string value, (ValueRole role, Derivation how)) in _roles)
            foreach ((Use use, WeightStart start) in how.Starts)
            {
                Constant constant = _target.Graph.ConstantOf(_target.Graph.Nodes[use.Node].Input[use.Input])!;
                try
                {
                    starts[use] = start is NumberStart number ? new FilledWeight(constant.Type, [.. constant.Shape], Fill.Constant(number.Number))
                        : mapping.Unit(constant, use, (UnitStart)start, Pieces(((UnitStart)start).Input));
                }
                catch (TransferRefusedException refused)
                {
                    throw new RoleRefusedException(value, role, refused.Message);
                }
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

/// <summary>A role cannot be had with the channels that were chosen.</summary>
internal sealed class RoleRefusedException(string value, ValueRole role, string message) : Exception(message)
{
    /// <summary>The value of the target.</summary>
    public string Value => value;

    /// <summary>Its role.</summary>
    public ValueRole Role => role;
}
