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

    private static string? Common(IEnumerable<string> names, char separator)
    {
        string[]? common = null;
        foreach (string name in names)
        {
            string[] scopes = [.. name.Split(separator, StringSplitOptions.RemoveEmptyEntries).SkipLast(1)];
            common = common is null ? scopes : [.. common.Zip(scopes).TakeWhile(x => x.First == x.Second).Select(x => x.First)];
        }

        return common is { Length: > 0 } ? string.Join(separator, common) : null;
    }
}
