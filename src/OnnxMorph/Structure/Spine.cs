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
        var spine = new LinkedList<Place>();
        var alike = new Dictionary<int, int>(); // regions that keep sizes, by signature
        // The largest first: what it holds may turn out to be blocks that repeat.
        var frames = new PriorityQueue<LinkedListNode<Place>, (int, int)>();
        foreach (Step step in tree.Root.Steps)
            Add(spine.AddLast(new Place(step, null)));
        while (frames.TryDequeue(out LinkedListNode<Place>? frame, out _))
        {
            Region region = frame.Value.Step!.Before!;
            // What repeats with its sizes unchanged is a block, whatever it holds.
            if (KeepsSizes(region, facts) && alike[facts.Signature(region)] > 1)
                continue;
            foreach (Place place in region.Branches.SelectMany(branch => Opened(branch, facts)))
                Add(spine.AddBefore(frame, place));
            frame.Value = frame.Value with { Step = frame.Value.Step with { Before = null } };
        }

        Place? before = null;
        return [.. spine.Select(place => (place with { Opens = before is not null && Opens(graph, place, before.Vertex) }, before = place).Item1)];

        void Add(LinkedListNode<Place> place)
        {
            if (place.Value.Step?.Before is not { } region)
                return;
            if (KeepsSizes(region, facts))
                alike[facts.Signature(region)] = alike.GetValueOrDefault(facts.Signature(region)) + 1;
            if (facts.IsFrame(region))
                frames.Enqueue(place, (-facts.Layers(region), region.Join));
        }
    }

    private static bool Opens(ActivationGraph graph, Place place, int before) =>
        place.Step is not { } step || (step.Before is { } region ? region.Entry != before : graph.Predecessors(step.Vertex) is not [int only] || only != before);

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
