namespace OnnxMorph.Structure;

/// <summary>
/// A place on the spine: a step, or a whole dense layer. <paramref name="Opens"/> says that it does not read what stands in front of
/// it, but what the frame that it lies in reads.
/// </summary>
internal sealed record Place(Step? Step, Sequence? Dense, bool Opens)
{
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
    public static List<Place> Of(RegionTree tree, RegionFacts facts)
    {
        List<Place> spine = [.. tree.Root.Steps.Select(step => new Place(step, null, false))];
        // The largest first: what it holds may turn out to be blocks that repeat.
        while (Largest(spine, facts) is { } frame)
        {
            int at = spine.IndexOf(frame);
            spine[at] = new Place(frame.Step! with { Before = null }, null, true);
            spine.InsertRange(at, frame.Step.Before!.Branches.SelectMany(branch => Opened(branch, facts)));
        }

        return spine;
    }

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
                yield return new Place(null, part, true);
            else
                for (int i = 0; i < part.Steps.Count; i++)
                    yield return new Place(part.Steps[i], null, i == 0);
        }
    }
}
