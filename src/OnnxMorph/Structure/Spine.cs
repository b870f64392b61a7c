namespace OnnxMorph.Structure;

/// <summary>
/// A place on the spine: a step, or a whole dense layer. <paramref name="Opens"/> says that it does not read just what stands in front
/// of it: it begins or joins the branches of a frame.
/// </summary>
internal sealed record Place(Step? Step, Sequence? Dense, bool Opens = false)
{
    /// <summary>The steps that the place is made of.</summary>
    public IReadOnlyList<Step> Steps => Step is { } step ? [step] : Dense!.Steps;

    /// <summary>The vertex at which the place ends.</summary>
    public int Vertex => Step?.Vertex ?? Dense!.Steps[^1].Vertex;
}

/// <summary>
/// The network as one sequence. Frames are opened: of a U-Net's levels, a long skip over residual blocks, or the dense layers
/// between two transitions, what lies inside takes their place.
/// </summary>
internal static class Spine
{
    /// <summary>Lays a network out.</summary>
    public static List<Place> Of(ActivationGraph graph, RegionTree tree, RegionFacts facts)
    {
        List<Place> spine = [.. tree.Root.Steps.Select(step => new Place(step, null))];
        // The largest first: what it holds may turn out to be blocks that repeat.
        while (Largest(spine, facts) is { } frame)
        {
            int at = spine.IndexOf(frame);
            spine[at] = new Place(frame.Step! with { Before = null }, null);
            spine.InsertRange(at, frame.Step.Before!.Branches.SelectMany(branch => Opened(branch, facts)));
        }

        return [.. spine.Select((place, i) => place with { Opens = i > 0 && Opens(graph, place, spine[i - 1].Vertex) })];
    }

    private static bool Opens(ActivationGraph graph, Place place, int before) =>
        place.Step is not { } step || (step.Before is { } region ? region.Entry != before : graph.Predecessors(step.Vertex) is not [int only] || only != before);

    private static Place? Largest(List<Place> spine, RegionFacts facts)
    {
        var repeated = spine.Where(p => p.Step?.Before is { } region && KeepsSizes(region, facts))
            .GroupBy(p => facts.Signature(p.Step!.Before!)).Where(g => g.Count() > 1).Select(g => g.Key).ToHashSet();
        return spine.Where(p => p.Step?.Before is { } region && facts.IsFrame(region) && !(KeepsSizes(region, facts) && repeated.Contains(facts.Signature(region))))
            .MaxBy(p => facts.Layers(p.Step!.Before!));
    }

    // What repeats with its sizes unchanged is a block, whatever it holds.
    private static bool KeepsSizes(Region region, RegionFacts facts) =>
        facts.Dims(region.Entry) is { } before && facts.Dims(region.Join) is { } after && before.AsSpan().SequenceEqual(after);

    private static IEnumerable<Place> Opened(Branch branch, RegionFacts facts)
    {
        bool dense = facts.IsDenseStage(branch);
        foreach (Sequence part in branch.Parts)
        {
            if (dense && facts.Layers(part) > 0 && !facts.HasSkip(part))
                yield return new Place(null, part);
            else
                foreach (Step step in part.Steps)
                    yield return new Place(step, null);
        }
    }
}
