using OnnxMorph.Graph;

namespace OnnxMorph.Structure;

/// <summary>Scopes that exporters leave in names: <c>/layer1/layer1.0/conv1/Conv</c>, <c>layer1.0.conv1.weight</c>. Only labels.</summary>
internal static class Scopes
{
    /// <summary>The scope that layers share: of their nodes' names, else of their weights'. Null where they share none.</summary>
    public static string? Common(ModelGraph graph, IReadOnlyList<LayerPlace> layers)
    {
        if (layers.Count == 0)
            return null;
        return Common(layers.Select(l => l.Name), '/') ?? Common(layers.Select(l => graph.Nodes[l.Node].Input.FirstOrDefault(i => graph.ConstantOf(i) is not null) ?? ""), '.');
    }

    // Names without any scope tell nothing, unless they are most.
    private static string? Common(IEnumerable<string> names, char separator)
    {
        List<string[]> scopes = [.. names.Select(name => name.Split(separator, StringSplitOptions.RemoveEmptyEntries).SkipLast(1).ToArray())];
        List<string[]> given = [.. scopes.Where(s => s.Length > 0)];
        if (2 * given.Count < scopes.Count || given.Count == 0)
            return null;
        string[] common = given.Aggregate((a, b) => [.. a.Zip(b).TakeWhile(x => x.First == x.Second).Select(x => x.First)]);
        return common.Length > 0 ? string.Join(separator, common) : null;
    }
}
