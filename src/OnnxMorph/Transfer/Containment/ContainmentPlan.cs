using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Containment;

/// <summary>A source found inside a target, or as much of it as there is: what is filled from where, and what starts without effect.</summary>
internal sealed class ContainmentPlan
{
    // How often a role may turn out to be impossible when channels are known.
    private const int MostTrials = 32;

    private readonly AnalysedModel _source, _target;
    private readonly ContainmentSearch _search;
    private readonly FoundRoles _found;
    private readonly WidthRule _width;
    private readonly ulong _seed;
    private readonly HashSet<Use> _filled;

    private ContainmentPlan(
        AnalysedModel source, AnalysedModel target, ContainmentSearch search, IReadOnlyList<(string Value, ValueRole Role)> demands, FoundRoles found, WidthRule width, ulong seed)
    {
        (_source, _target, _search, _found, _width, _seed) = (source, target, search, found, width, seed);
        Channels = new ContainedChannels(target, found.Spaces, found.Effective(), found.Epsilons(), Approximations);
        Mapping = new ChannelMapping(source, target, found.Spaces, width, seed, Channels);
        Starts = found.Starts(Mapping);
        foreach (UseMatch match in Matches)
            if (Refusal(match) is { } refusal)
                throw found.Owner(match) is var (value, role) ? new RoleRefusedException(value, role, refusal) : new TransferRefusedException(refusal);
        _filled = [.. Matches.Select(match => match.Target), .. Starts.Keys];
        Carried = [.. demands.Select(demand => (demand.Value, ((Carries)demand.Role).Source))];
    }

    /// <summary>Constants of the target with those of the source that fill them.</summary>
    public IReadOnlyList<UseMatch> Matches => _found.Matches;

    /// <summary>Which channels of the source lie where.</summary>
    public ChannelMapping Mapping { get; }

    /// <summary>What starts without effect.</summary>
    public IReadOnlyDictionary<Use, WeightExpression> Starts { get; }

    /// <summary>The last values of the target that carry values of the source, with these.</summary>
    public IReadOnlyList<(string Target, string Source)> Carried { get; }

    /// <summary>All that do.</summary>
    public IReadOnlyList<(string Target, string Source)> AllCarried => [.. _found.Carried];

    /// <summary>Outputs whose last layer has other classes than the source's, and stays as it is.</summary>
    public required IReadOnlyList<string> Heads { get; init; }

    /// <summary>Why the target does not contain all of the source, as sentences; null where it does, but for <see cref="Heads"/>.</summary>
    public required string? Obstacle { get; init; }

    /// <summary>Where the target can only come near to the source, as sentences.</summary>
    public List<string> Approximations { get; } = [];

    /// <summary>Whether the target contains all of the source.</summary>
    public bool IsWhole => Obstacle is null && Heads.Count == 0;

    /// <summary>The inputs of the target with the source's that they stand for.</summary>
    public IReadOnlyDictionary<string, string> Inputs => _search.Inputs;

    private ContainedChannels Channels { get; }

    // Why a constant cannot be filled, after all.
    private string? Refusal(UseMatch match)
    {
        if (_target.Graph.ConstantOf(_target.Graph.Nodes[match.Target.Node].Input[match.Target.Input]) is not { } to
            || _source.Graph.ConstantOf(_source.Graph.Nodes[match.Source.Node].Input[match.Source.Input]) is not { } from)
            return null;
        try
        {
            Mapping.Map(to, match, from);
            return null;
        }
        catch (TransferRefusedException refused)
        {
            return $"of '{to.Name}' {refused.Message}";
        }
    }

    /// <summary>Finds a source, or a part of it, inside a target.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target.</param>
    /// <param name="width">Which channels copies are made of.</param>
    /// <param name="seed">Seed of shares and noise.</param>
    /// <param name="why">Where not all of it is inside, what stands in the way.</param>
    /// <param name="refuted">Values of the target that are not the source's when it is run.</param>
    /// <returns>The plan; null where no value of the target can be one that the source computes.</returns>
    public static ContainmentPlan? Find(AnalysedModel source, AnalysedModel target, WidthRule width, ulong seed, out string why, IEnumerable<(string Target, string Source)>? refuted = null)
    {
        var search = new ContainmentSearch(source, target);
        foreach ((string to, string from) in refuted ?? [])
            search.Forbid(to, new Carries(from));
        var demands = new List<(string Value, ValueRole Role)>();
        var heads = new List<string>();
        foreach ((string to, string from) in search.Outputs)
        {
            (string value, string own, bool head) = Head(source, target, to, from);
            if (head)
                heads.Add(to);
            demands.Add((value, new Carries(search.Canonical(own))));
        }

        why = "";
        bool whole = demands.Count > 0;
        if (!whole)
            (why, demands) = ("the models have no outputs in common", [.. search.Reach()]);
        for (int trial = 0; demands.Count > 0 && trial < MostTrials; trial++)
        {
            string refusal;
            if (search.Solve(demands) is { } roles)
            {
                try
                {
                    return new ContainmentPlan(source, target, search, demands, new FoundRoles(source, target, roles), width, seed)
                    {
                        Heads = whole ? heads : [],
                        Obstacle = whole ? null : why,
                    };
                }
                catch (RoleRefusedException refused)
                {
                    refusal = refused.Message;
                    search.Forbid(refused.Value, refused.Role);
                    if (whole)
                    {
                        why = refusal;
                        continue;
                    }
                }
                catch (TransferRefusedException refused)
                {
                    refusal = refused.Message;
                    if (!whole)
                        search.Forbid(demands[0].Value, demands[0].Role);
                }
            }
            else
                refusal = Describe(search, target);

            if (whole && search.Extend())
                continue;
            // The first reason is that of the whole.
            why = whole && why.Length == 0 ? refusal : why;
            (whole, demands) = (false, [.. search.Reach()]);
        }

        return null;
    }

    /// <summary>
    /// For each axis of a target's value where the source's indices lie in it, and what multiples of the source's the target's numbers are there; null for an axis
    /// that is the source's.
    /// </summary>
    /// <param name="target">A value of the target.</param>
    /// <param name="source">The value of the source that it carries.</param>
    /// <returns>Null where some of them are not simply there.</returns>
    public IReadOnlyList<(int[] Indices, double[] Factors)?>? Positions(string target, string source)
    {
        if (_target.Analysis.Axes(target) is not { } axes || _source.Analysis.Axes(source) is not { } own || axes.Length != own.Length)
            return null;
        var positions = new List<(int[], double[])?>();
        IReadOnlyList<AxisPiece>? pieces = _found.Pieces(target);
        foreach ((AxisExpression axis, AxisExpression from) in axes.Zip(own))
        {
            bool pieced = pieces is not null && pieces.Sum(piece => piece.Size) == axis.Size && pieces.Sum(piece => piece.Count) == from.Size;
            if ((pieced ? Mapping.Channels(axis, from, pieces!) : Mapping.Channels(axis, from)) is not { } map)
                return null;
            int[] at = [.. Enumerable.Repeat(-1, map.SourceSize)];
            for (int i = map.Size - 1; i >= 0; i--)
                if (map[i] is [{ Weight: not 0 } tap] && tap.Source < at.Length)
                    at[tap.Source] = i;
            if (at.Contains(-1))
                return null;
            positions.Add(map.IsIdentity ? null : (at, [.. at.Select(i => map[i][0].Weight)]));
        }

        return positions;
    }

    /// <summary>Whether it decides what a constant is filled with.</summary>
    public bool Fills(Use use) => _filled.Contains(use);

    /// <summary>Fills what the source's function does not go through as well as another plan does.</summary>
    /// <param name="rest">What goes where by that plan.</param>
    public WeightTransfer With(TransferPlan rest)
    {
        HashSet<int> nodes = [.. _filled.Select(use => use.Node)];
        var mapping = new PartMapping(_source, _filled, Mapping, new ChannelMapping(_source, _target, _found.Spaces.With(rest.Matches), _width, _seed, Channels));
        // Blocks that are exact in part are as they are.
        TransferPlan others = rest with { Pairs = [.. rest.Pairs.Where(pair => !pair.Target.Nodes.Any(nodes.Contains))] };
        var starts = new Dictionary<Use, WeightExpression>(BlockStarts.Of(_target, others, InsertedBlocks.Identity).Starts);
        foreach ((Use use, WeightExpression start) in Starts)
            starts[use] = start;
        return new WeightTransfer(_source, _target, [.. Matches, .. rest.Matches], mapping, starts);
    }

    /// <summary>What the result computes of the source, part by part.</summary>
    /// <param name="parts">The target's parts.</param>
    /// <param name="rest">What goes where beyond this plan.</param>
    public IReadOnlyList<PartReport> States(IReadOnlyList<PartReport> parts, IReadOnlyList<UseMatch> rest) =>
        new PartStates(_source, _target, _search, _found, rest).Of(parts);

    private static string Describe(ContainmentSearch search, AnalysedModel target)
    {
        if (search.OtherInput() is { } other)
            return other;
        if (search.Obstacle is not [.., (string value, ValueRole role)])
            return "two of its values would each have to be two of the source's";
        // The last steps, from what was asked for down to what cannot be had.
        string[] chain = [.. search.Obstacle.TakeLast(MostSteps).Select(step => $"'{step.Value}' as {ContainmentSearch.What(step.Role)}")];
        string where = target.Graph.Producer(value) is { } n ? $"{ModelGraph.Describe(target.Graph.Nodes[n])} cannot be made to give {ContainmentSearch.What(role)}"
            : $"the input '{value}' is not {ContainmentSearch.What(role)}";
        return $"{where}: {search.Explain(value, role)}"
            + (chain.Length > 1 ? $" (backwards from the outputs{(search.Obstacle.Count > MostSteps ? ", in the end" : "")}: {string.Join(" needs ", chain)})" : "");
    }

    private const int MostSteps = 5;

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

    /// <summary>One mapping for what is exact, another for the rest.</summary>
    private sealed class PartMapping(AnalysedModel source, HashSet<Use> exact, ChannelMapping contained, ChannelMapping rest) : WeightMapping(source)
    {
        /// <inheritdoc/>
        public override WeightExpression Map(Constant to, UseMatch match, Constant from) => (exact.Contains(match.Target) ? contained : rest).Map(to, match, from);

        /// <inheritdoc/>
        public override AxisMap? Channels(UseMatch match) => (exact.Contains(match.Target) ? contained : rest).Channels(match);

        /// <inheritdoc/>
        public override AxisMap? Channels(AxisExpression to, AxisExpression from) => rest.Channels(to, from);
    }
}
