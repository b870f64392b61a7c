using OnnxMorph.Alignment;
using OnnxMorph.Graph;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer;

/// <summary>What goes where, before it is known how.</summary>
/// <param name="Matches">Uses of constants of the target, each with the one of the source that fills it.</param>
/// <param name="Pairs">Parts of the target with the parts of the source that fill them.</param>
/// <param name="Parts">The same for the user, with the parts that get nothing.</param>
internal sealed record TransferPlan(IReadOnlyList<UseMatch> Matches, IReadOnlyList<SectionPair> Pairs, IReadOnlyList<PartReport> Parts)
{
    /// <summary>For uses of constants in the target's blocks the uses in the blocks of the source behind those that fill them, in the same stage.</summary>
    public static IReadOnlyDictionary<Use, UseMatch> Next(AnalysedModel source, AnalysedModel target, IEnumerable<SectionPair> pairs)
    {
        Dictionary<Section, Section> behind = source.Structure.Stages.SelectMany(stage => stage.Blocks.Zip(stage.Blocks.Skip(1))).ToDictionary(b => (Section)b.First, b => (Section)b.Second);
        return UseMatching.ByRole(source, target, pairs.Where(pair => behind.ContainsKey(pair.Source)).Select(pair => pair with { Source = behind[pair.Source] }))
            .DistinctBy(match => match.Target).ToDictionary(match => match.Target);
    }

    /// <summary>Stage by stage and role by role (METHODS.md §3).</summary>
    /// <exception cref="RefusedException">The networks are not of one family.</exception>
    public static TransferPlan Isomorphic(AnalysedModel source, AnalysedModel target, DepthRule depth = DepthRule.Even)
    {
        var isomorphism = Isomorphism.Of(source, target, depth);
        if (isomorphism.Difference is { } difference)
            throw new RefusedException($"The models are not isomorphic: {difference} Take --method dp for networks of different families.");
        return new TransferPlan(
            UseMatching.ByRole(source, target, isomorphism.Pairs), isomorphism.Pairs,
            [.. isomorphism.Pairs.Select(p => new PartReport(p.Target.Path, p.Source.Path, p.Copy))]);
    }

    /// <summary>By stage and role where the networks are of one family, else along the best alignment.</summary>
    public static TransferPlan Best(AnalysedModel source, AnalysedModel target, RunRule rule, ICollection<string> notes) =>
        Isomorphism.Of(source, target).Difference is null ? Isomorphic(source, target) : Aligned(source, target, rule, notes);

    /// <summary>Along the best alignment of blocks and layers by shape (METHODS.md §4).</summary>
    /// <param name="source">Where weights come from.</param>
    /// <param name="target">Where they go.</param>
    /// <param name="rule">Which runs of targets one source may feed.</param>
    /// <param name="notes">Told what the user should know.</param>
    /// <exception cref="RefusedException">No layer of the source fits one of the target.</exception>
    public static TransferPlan Aligned(AnalysedModel source, AnalysedModel target, RunRule rule, ICollection<string> notes)
    {
        NetworkOutline from = NetworkOutline.Of(source), to = NetworkOutline.Of(target);
        var alignment = NetworkAlignment.Of(from, to, rule);
        if (alignment.Sources.Count == 0)
            throw new RefusedException("No layer of the source is of the kind of one of the target's; nothing can be carried over.");
        var similarity = NetworkSimilarity.Of(from, to, rule);
        notes.Add(FormattableString.Invariant($"The models' similarity is {similarity.Symmetric:f3}; the source fills {similarity.Forward:f3} of the target."));
        if (similarity.Warning is { } warning)
            notes.Add(warning);
        Dictionary<string, int> own = Nodes(source), other = Nodes(target);
        Dictionary<string, Section> ownSections = Sections(source), otherSections = Sections(target);
        ILookup<string, NetworkItem> sources = from.Items.ToLookup(item => item.Name);
        var copies = new Dictionary<string, int>();
        var parts = new List<PartReport>();
        var pairs = new List<SectionPair>();
        var layers = new List<(int, int, SectionPair)>();
        foreach ((AlignedItem aligned, NetworkItem item) in alignment.Items.Zip(to.Items))
        {
            if (aligned.Source is not { } name)
            {
                parts.Add(new PartReport(aligned.Target, null, 0));
                continue;
            }

            int copy = copies.GetValueOrDefault(name);
            copies[name] = copy + 1;
            parts.Add(new PartReport(aligned.Target, name, copy));
            var pair = new SectionPair(otherSections[item.Path], ownSections[sources[name].First().Path], copy);
            if (item.IsBlock)
                pairs.Add(pair);
            foreach (AlignedLayer layer in item.Layers)
                if (alignment.Sources.TryGetValue(layer.Name, out AlignedLayer? donor))
                    layers.Add((other[layer.Name], own[donor.Name], pair));
        }

        return new TransferPlan(UseMatching.ByLayer(source, target, layers), pairs, parts);
    }

    /// <summary>What fills what of a target that contains a source: sections, or layers where sections do not correspond one to one.</summary>
    public static IReadOnlyList<PartReport> Contained(AnalysedModel source, AnalysedModel target, IReadOnlyList<UseMatch> matches)
    {
        NetworkOutline outline = NetworkOutline.Of(target);
        ILookup<string, string> sections = Sources(Paths(source), Paths(target)), layers = Sources(NetworkOutline.Names(source), NetworkOutline.Names(target));
        return sections.All(from => from.Count() == 1) && sections.DistinctBy(from => from.First()).Count() == sections.Count
            ? Parts(outline.Items.Select(item => item.Path).Distinct(), sections)
            : Parts(outline.Items.SelectMany(item => item.Layers).Select(layer => layer.Name), layers);

        ILookup<string, string> Sources(IReadOnlyDictionary<int, string> from, IReadOnlyDictionary<int, string> to) => matches
            .Where(match => to.ContainsKey(match.Nodes.Target) && from.ContainsKey(match.Nodes.Source))
            .Select(match => (Target: to[match.Nodes.Target], Source: from[match.Nodes.Source])).Distinct().ToLookup(m => m.Target, m => m.Source);

        static IReadOnlyList<PartReport> Parts(IEnumerable<string> targets, ILookup<string, string> sources)
        {
            var parts = new List<PartReport>();
            foreach (string name in targets)
            {
                string? from = sources[name].FirstOrDefault();
                parts.Add(new PartReport(name, from, from is null ? 0 : parts.Count(p => p.Source == from)));
            }

            return parts;
        }
    }

    // For each node the path of its section: of a block, not of its parts.
    private static Dictionary<int, string> Paths(AnalysedModel model)
    {
        var paths = new Dictionary<int, string>();
        foreach (Section section in model.Structure.Sections)
            foreach (int node in section.Nodes)
                paths.TryAdd(node, section.Path);
        return paths;
    }

    private static Dictionary<string, int> Nodes(AnalysedModel model) => NetworkOutline.Names(model).ToDictionary(name => name.Value, name => name.Key);

    private static Dictionary<string, Section> Sections(AnalysedModel model) => model.Structure.Sections.DistinctBy(s => s.Path).ToDictionary(s => s.Path);
}
