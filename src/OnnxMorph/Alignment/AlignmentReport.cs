using System.Globalization;
using System.Text.Json;
using System.Text.Json.Serialization;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Alignment;

/// <summary>A part of a network as an alignment shows it.</summary>
/// <param name="Name">What users know it by: the path of a section, or the name of a layer.</param>
/// <param name="Section">The path of the section that it is or lies in.</param>
/// <param name="Layers">Its layers in execution order.</param>
/// <param name="Tensors">Names of the floating-point constants that its nodes read.</param>
public sealed record ItemReport(string Name, string Section, IReadOnlyList<AlignedLayer> Layers, IReadOnlyList<string> Tensors)
{
    /// <summary>Elements of its layers' weights.</summary>
    public long Parameters => Layers.Sum(layer => layer.Shape.Aggregate(1L, (product, size) => product * size));
}

/// <summary>An item of a target and the item of the source that it gets its weights from.</summary>
/// <param name="TargetIndex">The target's position among the target's items.</param>
/// <param name="SourceIndex">The source's position among the source's.</param>
/// <param name="Target">The target's name.</param>
/// <param name="Source">The source's name.</param>
/// <param name="Score">How well they fit, of at most the target's number of layers.</param>
/// <param name="Copy">How many pairs before it have the same source.</param>
public sealed record ItemPair(int TargetIndex, int SourceIndex, string Target, string Source, double Score, int Copy);

/// <summary>Two networks side by side: their parts, how well each fits each, and which get their weights from which.</summary>
/// <param name="SourceItems">The source's parts in execution order.</param>
/// <param name="TargetItems">The target's.</param>
/// <param name="Scores">For each of the target's parts, for each of the source's, what aligning these two alone scores.</param>
/// <param name="Pairs">The pairs, in the order of the target's parts.</param>
public sealed record AlignmentReport(
    IReadOnlyList<ItemReport> SourceItems, IReadOnlyList<ItemReport> TargetItems,
    [property: JsonConverter(typeof(MatrixConverter))] IReadOnlyList<IReadOnlyList<double>> Scores, IReadOnlyList<ItemPair> Pairs)
{
    /// <summary>An alignment, whose parts are blocks and the layers between them.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target.</param>
    /// <param name="alignment">How the two were aligned.</param>
    /// <param name="rule">By which rule.</param>
    public static AlignmentReport Of(AnalysedModel source, AnalysedModel target, NetworkAlignment alignment, RunRule rule = RunRule.Blocks) =>
        Of(source, target, Names(NetworkOutline.Of(source)), Names(NetworkOutline.Of(target)),
            alignment.Items.Where(item => item.Source is not null).Select(item => (item.Target, item.Source!)), rule);

    /// <summary>Parts of a target that were filled from parts of a source: sections, blocks and the layers between them, or single layers.</summary>
    /// <param name="source">The source.</param>
    /// <param name="target">The target.</param>
    /// <param name="parts">The target's parts, by path or name, each with the source's; null where it was not filled.</param>
    /// <param name="rule">By which rule layers of two parts are aligned.</param>
    public static AlignmentReport Of(AnalysedModel source, AnalysedModel target, IReadOnlyList<(string Target, string? Source)> parts, RunRule rule = RunRule.Blocks)
    {
        var filled = parts.Where(p => p.Source is not null).Select(p => (p.Target, p.Source!)).ToList();
        HashSet<string> paths = [.. target.Structure.Sections.Select(s => s.Path)], outline = Names(NetworkOutline.Of(target));
        return parts.All(p => paths.Contains(p.Target)) || !parts.All(p => outline.Contains(p.Target))
            ? Of(source, target, [.. filled.Select(p => p.Item2)], [.. parts.Select(p => p.Target)], filled, rule)
            : Of(source, target, Names(NetworkOutline.Of(source)), outline, filled, rule);
    }

    private static HashSet<string> Names(NetworkOutline outline) => [.. outline.Items.Select(item => item.Name)];

    private static AlignmentReport Of(
        AnalysedModel source, AnalysedModel target, HashSet<string> sources, HashSet<string> targets, IEnumerable<(string Target, string Source)> parts, RunRule rule)
    {
        List<(NetworkItem Item, ItemReport Report)> from = [.. Items(source, sources)], to = [.. Items(target, targets)];
        double[][] scores = Score([.. to.Select(t => t.Item)], [.. from.Select(f => f.Item)], rule);
        Dictionary<string, int> fromIndex = Indices(from), toIndex = Indices(to);
        var pairs = new List<ItemPair>();
        foreach ((string name, string origin) in parts)
            if (toIndex.TryGetValue(name, out int i) && fromIndex.TryGetValue(origin, out int j))
                pairs.Add(new ItemPair(i, j, name, origin, scores[i][j], pairs.Count(p => p.SourceIndex == j)));
        return new AlignmentReport([.. from.Select(f => f.Report)], [.. to.Select(t => t.Report)], scores, [.. pairs.OrderBy(p => p.TargetIndex)]);

        static Dictionary<string, int> Indices(List<(NetworkItem Item, ItemReport Report)> items)
        {
            var indices = new Dictionary<string, int>();
            foreach ((int i, var item) in items.Index())
                indices.TryAdd(item.Report.Name, i);
            return indices;
        }
    }

    /// <summary>What aligning each target alone with each source alone scores: the matrix that the outer alignment chooses from.</summary>
    internal static double[][] Score(IReadOnlyList<NetworkItem> targets, IReadOnlyList<NetworkItem> sources, RunRule rule)
    {
        (OutlineScores scores, int[] parts) = OutlineScores.Of(new NetworkOutline([.. sources]), new NetworkOutline([.. targets]), rule);
        return [.. targets.Select((_, row) => (double[])[.. parts.Select(part => scores.Fit(row, part))])];
    }

    // Sections without layers are left out unless they are named.
    private static IEnumerable<(NetworkItem, ItemReport)> Items(AnalysedModel model, HashSet<string> named)
    {
        ILookup<string, AlignedLayer> layers = NetworkOutline.Of(model).Items.SelectMany(item => item.Layers.Select(layer => (item.Path, layer))).ToLookup(l => l.Path, l => l.layer);
        var tensors = new SectionTensors(model);
        foreach (Section section in (IEnumerable<Section>)[model.Structure.Stem, .. model.Structure.Stages.SelectMany(s => (IEnumerable<Section?>)[s.Transition, .. s.Blocks]).OfType<Section>(), model.Structure.Head])
        {
            List<AlignedLayer> own = [.. layers[section.Path]];
            if (!named.Contains(section.Path) && own.Any(layer => named.Contains(layer.Name)))
            {
                List<string>[] read = tensors.Of(section, own);
                foreach ((int i, AlignedLayer layer) in own.Index())
                    yield return (new NetworkItem(section.Path, false, [layer]), new ItemReport(layer.Name, section.Path, [layer], read[i]));
            }
            else if (own.Count > 0 || named.Contains(section.Path))
            {
                yield return (new NetworkItem(section.Path, true, [.. own]), new ItemReport(section.Path, section.Path, own, [.. tensors.Of(section, own).SelectMany(read => read)]));
            }
        }
    }

    /// <summary>Which constants the nodes of a section read, through nodes that only compute weights.</summary>
    private sealed class SectionTensors(AnalysedModel model)
    {
        private readonly IReadOnlyDictionary<int, string> _names = NetworkOutline.Names(model);
        private readonly HashSet<int> _sections = [.. model.Structure.Sections.SelectMany(s => s.Nodes)];

        /// <summary>For each layer of a section what is read from it up to the next one, and before it where it is the first.</summary>
        public List<string>[] Of(Section section, List<AlignedLayer> layers)
        {
            var positions = new Dictionary<string, int>();
            foreach ((int i, AlignedLayer layer) in layers.Index())
                positions.Add(layer.Name, i);
            List<string>[] found = [.. Enumerable.Range(0, Math.Max(1, layers.Count)).Select(_ => new List<string>())];
            var seen = new HashSet<string>();
            int at = 0;
            foreach (int node in section.Nodes)
            {
                at = _names.TryGetValue(node, out string? name) ? positions.GetValueOrDefault(name, at) : at;
                Read(node, found[at]);
            }

            return found;

            void Read(int node, List<string> into)
            {
                var open = new Stack<int>([node]);
                while (open.TryPop(out int n))
                {
                    foreach (string value in model.Graph.Nodes[n].Input)
                    {
                        if (model.Graph.ConstantOf(value) is { } constant)
                        {
                            if (constant.Type.IsScalable() && seen.Add(constant.Name))
                                into.Add(constant.Name);
                        }
                        else if (model.Graph.Producer(value) is { } producer && !_sections.Contains(producer) && seen.Add(value))
                            open.Push(producer);
                    }
                }
            }
        }
    }
}

/// <summary>A matrix as JSON, with each row on a line of its own.</summary>
public sealed class MatrixConverter : JsonConverter<IReadOnlyList<IReadOnlyList<double>>>
{
    /// <inheritdoc/>
    public override IReadOnlyList<IReadOnlyList<double>> Read(ref Utf8JsonReader reader, Type type, JsonSerializerOptions options) =>
        throw new NotSupportedException("Reports are only written.");

    /// <inheritdoc/>
    public override void Write(Utf8JsonWriter writer, IReadOnlyList<IReadOnlyList<double>> matrix, JsonSerializerOptions options)
    {
        writer.WriteStartArray();
        foreach (IReadOnlyList<double> row in matrix)
            writer.WriteRawValue($"[{string.Join(", ", row.Select(v => v.ToString("R", CultureInfo.InvariantCulture)))}]");
        writer.WriteEndArray();
    }
}
