using OnnxMorph.Graph;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Containment;

/// <summary>A source found inside a target: what is filled from where, and what starts without effect.</summary>
/// <param name="Matches">Constants of the target with those of the source that fill them.</param>
/// <param name="Heads">Outputs whose last layer has other classes than the source's, and stays as it is.</param>
/// <param name="Mapping">Which channels of the source lie where.</param>
/// <param name="Starts">What starts without effect.</param>
internal sealed record ContainmentPlan(
    IReadOnlyList<UseMatch> Matches, IReadOnlyList<string> Heads, ChannelMapping Mapping, IReadOnlyDictionary<Use, WeightExpression> Starts)
{
    // How often a role may turn out to be impossible when channels are known.
    private const int MostTrials = 32;

    /// <summary>Finds a source inside a target.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target.</param>
    /// <param name="width">Which channels copies are made of.</param>
    /// <param name="seed">Seed of shares and noise.</param>
    /// <param name="notes">Told what stays approximate.</param>
    /// <param name="why">Where it is not inside, what stands in the way.</param>
    public static ContainmentPlan? Find(AnalysedModel source, AnalysedModel target, WidthRule width, ulong seed, ICollection<string> notes, out string why)
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
        for (int trial = 0; demands.Count > 0; trial++)
        {
            if (search.Solve(demands) is not { } roles)
            {
                why = trial == 0 ? Describe(search, target) : why;
                return null;
            }

            var found = new FoundRoles(source, target, roles);
            var own = new List<string>();
            try
            {
                var channels = new ContainedChannels(target, found.Spaces, found.Effective(), found.Epsilons(), own);
                var mapping = new ChannelMapping(source, target, found.Spaces, width, seed, channels);
                var plan = new ContainmentPlan(found.Matches, heads, mapping, found.Starts(mapping));
                own.ForEach(notes.Add);
                return plan;
            }
            catch (RoleRefusedException refused) when (trial < MostTrials)
            {
                why = refused.Message;
                search.Forbid(refused.Value, refused.Role);
            }
            catch (TransferRefusedException refused)
            {
                why = refused.Message;
                return null;
            }
        }

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
}
