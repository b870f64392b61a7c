using OnnxMorph.Alignment;
using OnnxMorph.Graph;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer.Containment;

/// <summary>What each part of a target computes of a source, and where it does not compute the same, why.</summary>
/// <param name="source">The source.</param>
/// <param name="target">The target.</param>
/// <param name="search">The search, which knows what stands in the way.</param>
/// <param name="found">What it found.</param>
/// <param name="rest">What is filled beside that.</param>
internal sealed class PartStates(AnalysedModel source, AnalysedModel target, ContainmentSearch search, FoundRoles found, IReadOnlyList<UseMatch> rest)
{
    private readonly HashSet<int> _filled = [.. found.Matches.Concat(rest).Select(match => match.Nodes.Target)], _inexact = Inexact(target, found);
    private readonly ActivationGraph _activations = new(target.Analysis);

    /// <summary>The same parts with their states.</summary>
    public IReadOnlyList<PartReport> Of(IReadOnlyList<PartReport> parts)
    {
        Dictionary<string, int> layers = NetworkOutline.Names(target).ToDictionary(name => name.Value, name => name.Key);
        Dictionary<string, Section> sections = target.Structure.Sections.DistinctBy(section => section.Path).ToDictionary(section => section.Path);
        return [.. parts.Select(part =>
        {
            IReadOnlyList<int> nodes = sections.TryGetValue(part.Target, out Section? section) ? section.Nodes : [layers[part.Target]];
            List<int> inexact = [.. nodes.Where(_inexact.Contains)];
            if (inexact.Count == 0)
                return part with { State = part.Source is null ? PartState.WithoutEffect : PartState.Exact };
            string? reason = inexact.Select(Reason).FirstOrDefault(reason => reason is not null);
            return nodes.Any(_filled.Contains)
                ? part with { State = PartState.Approximate, Reason = reason ?? "it reads what is not exact" }
                : part with { State = PartState.Fresh, Reason = reason ?? "nothing in the source stands where it does" };
        })];
    }

    // What outputs are computed with that is no value of the source.
    private static HashSet<int> Inexact(AnalysedModel target, FoundRoles found)
    {
        var nodes = new HashSet<int>();
        var open = new Stack<string>(target.Graph.Proto.Output.Select(output => output.Name));
        while (open.TryPop(out string? value))
            if (found.Role(value) is null && target.Graph.Producer(value) is { } n && nodes.Add(n))
                foreach (string read in ModelGraph.Reads(target.Graph.Nodes[n]))
                    open.Push(read);
        return nodes;
    }

    // Why a node all of whose inputs are exact does not compute what the source computes of them; null for other nodes.
    private string? Reason(int n)
    {
        List<string> reads = [.. target.Graph.Nodes[n].Input.Where(value => value.Length > 0 && _activations.Producer(value) is not null)];
        if (reads.Count == 0 || reads.FirstOrDefault(value => target.Graph.Producer(value) is not null && found.Role(value) is null) is not null)
            return null;
        if (reads.Select(found.Role).OfType<Carries>().FirstOrDefault() is not { } carried)
            return null;
        var behind = source.Graph.Uses(carried.Source).Select(use => source.Graph.Nodes[use.Node]).ToList();
        return behind.Count == 0 ? $"nothing follows '{carried.Source}' in the source"
            : search.Explain(target.Graph.Nodes[n].Output[0], new Carries((behind.Find(node => node.OpType == target.Graph.Nodes[n].OpType) ?? behind[0]).Output[0]));
    }
}
