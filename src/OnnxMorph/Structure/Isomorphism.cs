namespace OnnxMorph.Structure;

/// <summary>A part of a target and the part of a source that it has its weights from.</summary>
/// <param name="Target">The target's part.</param>
/// <param name="Source">The source's part.</param>
/// <param name="Copy">How many parts of the target before it have the same source.</param>
/// <param name="StandsFor">
/// The last part of the source that the target's part stands for, where a stage has fewer blocks than the source's; null elsewhere.
/// </param>
public sealed record SectionPair(Section Target, Section Source, int Copy, Section? StandsFor = null);

/// <summary>
/// Whether two networks are of one family: their stages and the roles of layers inside blocks match, up to how often blocks are repeated
/// (IM Init; METHODS.md §3.1). Channel counts, kernel sizes, projections on skips and batch norms, which exporters fold, make no difference.
/// </summary>
/// <param name="Pairs">For each part of the target its source; empty where the networks are not isomorphic.</param>
/// <param name="Difference">The first difference, as a sentence; null where there is none.</param>
public sealed record Isomorphism(IReadOnlyList<SectionPair> Pairs, string? Difference)
{
    /// <summary>Compares two networks.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target.</param>
    /// <param name="depth">Which of a stage's blocks goes to which.</param>
    public static Isomorphism Of(AnalysedModel source, AnalysedModel target, DepthRule depth = DepthRule.Even) => new Comparison(source, target, depth).Run();

    private sealed class Comparison(AnalysedModel source, AnalysedModel target, DepthRule depth)
    {
        private readonly List<SectionPair> _pairs = [];
        private string? _difference;

        public Isomorphism Run()
        {
            (ModelStructure from, ModelStructure to) = (source.Structure, target.Structure);
            (IReadOnlyList<Stage> sources, IReadOnlyList<Stage> targets) = Comparable(from.Stages, to.Stages);
            if (Same(from.Stem, to.Stem) && SameCount(sources.Count, targets.Count))
                foreach ((Stage own, Stage other) in sources.Zip(targets))
                    if (!SameStage(own, other))
                        break;
            if (_difference is null)
                Same(from.Head, to.Head);
            return new Isomorphism(_difference is null ? _pairs : [], _difference);
        }

        // Stages that width alone parts are one where the other network, as narrower ones may, has no border there.
        private static (IReadOnlyList<Stage>, IReadOnlyList<Stage>) Comparable(IReadOnlyList<Stage> from, IReadOnlyList<Stage> to)
        {
            List<List<Stage>> own = Resolutions(from), other = Resolutions(to);
            if (own.Count != other.Count)
                return (from, to);
            (var sources, var targets) = (new List<Stage>(), new List<Stage>());
            foreach ((List<Stage> source, List<Stage> target) in own.Zip(other))
            {
                bool same = source.Count == target.Count;
                sources.AddRange(same ? source : [Joined(source)]);
                targets.AddRange(same ? target : [Joined(target)]);
            }

            return (sources, targets);
        }

        private static Stage Joined(List<Stage> stages) => stages[0] with { Blocks = [.. stages.SelectMany(s => s.Blocks)], Positions = stages[^1].Positions };

        private static List<List<Stage>> Resolutions(IReadOnlyList<Stage> stages) =>
            StructureFinder.Runs(stages, (a, b) => a.Positions == b.Positions && a.Positions > 0 && b.Transition is null);

        private bool SameCount(int from, int to)
        {
            if (from != to)
                _difference ??= $"the source has {from} stages and the target {to}.";
            return from == to;
        }

        private bool SameStage(Stage from, Stage to)
        {
            if (from.Transition is null != to.Transition is null)
            {
                _difference ??= $"the {(from.Transition is null ? "target" : "source")} has layers between the stages in front of {to.Path}, the other none.";
                return false;
            }

            if (from.Transition is { } own && to.Transition is { } other && !Same(own, other))
                return false;
            List<List<Block>> sources = Runs(source, from.Blocks), targets = Runs(target, to.Blocks);
            for (int run = 0; run < Math.Max(sources.Count, targets.Count); run++)
            {
                if (run < sources.Count && run < targets.Count && Roles(source, sources[run][0]) == Roles(target, targets[run][0]))
                {
                    Pair(sources[run], targets[run], isFirst: run == 0);
                    continue;
                }

                _difference ??= $"{Describe("source", source, sources, run, from)} where {Describe("target", target, targets, run, to)}.";
                return false;
            }

            return true;
        }

        private static string Describe(string which, AnalysedModel model, List<List<Block>> runs, int run, Stage stage) => run < runs.Count
            ? $"{runs[run][0].Path} of the {which} has layers {Roles(model, runs[run][0])}"
            : $"{stage.Path} of the {which} has no further kind of block";

        private bool Same(Section from, Section to)
        {
            (string own, string other) = (Roles(source, from), Roles(target, to));
            if (own == other)
                _pairs.Add(new SectionPair(to, from, 0));
            else
                _difference ??= $"{from.Path} of the source has {Layers(own)} where that of the target has {Layers(other)}.";
            return own == other;
        }

        private static string Layers(string roles) => roles.Length == 0 ? "no layers" : $"layers {roles}";

        private static List<List<Block>> Runs(AnalysedModel model, IReadOnlyList<Block> blocks) =>
            StructureFinder.Runs(blocks, (a, b) => Roles(model, a) == Roles(model, b));

        // Roles with the kind of layer, in an order that does not depend on when branches are executed.
        private static string Roles(AnalysedModel model, Section section) => string.Join(", ",
            from place in section.Layers
            let role = place.Role
            where !role.Split('.').Contains("shortcut") && model.Graph.Nodes[place.Node].OpType != "BatchNormalization"
            let name = role + (IsDepthwise(model, place) ? " (depthwise)" : "")
            orderby name.Contains("branch", StringComparison.Ordinal) ? name : "", place.Node
            select name);

        private static bool IsDepthwise(AnalysedModel model, LayerPlace place) =>
            model.Analysis.Node(place.Node) is { Layer: { Groups: > 1 } layer } axes && axes.In(layer.WeightInput)[1].Size == 1;

        /// <summary>
        /// The first block of a stage goes to the first; the others as the rule says, those that differ in more than channels (a window's
        /// shift) among their like. A cycle begins at the first where that is like the others. As many blocks as the source has go one to one.
        /// </summary>
        private void Pair(List<Block> sources, List<Block> targets, bool isFirst)
        {
            var donors = new Dictionary<Block, Block>();
            if (sources.Count == targets.Count)
                donors = targets.Zip(sources).ToDictionary();
            else if (isFirst)
                donors[targets[0]] = sources[0];
            List<Block> rest = [.. sources.Skip(isFirst && sources.Count > 1 ? 1 : 0)];
            foreach (var alike in targets.Where(t => !donors.ContainsKey(t)).GroupBy(t => t.Signature).ToList())
            {
                List<Block> same = [.. rest.Where(s => s.Signature == alike.Key)];
                if (same.Count == 0)
                    same = rest;
                int turn = depth == DepthRule.Cyclic && isFirst && sources.Count > 1 && sources[0].Signature == alike.Key && targets[0].Signature == alike.Key ? 1 : 0;
                List<Block> cycle = turn > 0 ? [sources[0], .. same] : same;
                int count = alike.Count();
                foreach ((int j, Block to) in alike.Index())
                    donors[to] = cycle[depth.Donor(j + turn, count, cycle.Count)];
            }

            var copies = new Dictionary<Block, int>();
            foreach ((int j, Block to) in targets.Index())
            {
                Block from = donors[to];
                Block? last = targets.Count >= sources.Count ? null
                    : sources[targets.Count == 1 ? ^1 : (int)Math.Floor((double)j * (sources.Count - 1) / (targets.Count - 1) + 0.5)];
                _pairs.Add(new SectionPair(to, from, copies.GetValueOrDefault(from), last));
                copies[from] = copies.GetValueOrDefault(from) + 1;
            }
        }
    }
}
