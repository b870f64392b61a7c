using OnnxMorph.Graph;
using OnnxMorph.Structure;

namespace OnnxMorph.Cli.Reports;

/// <summary>The report of <c>inspect</c>.</summary>
internal static class InspectPage
{
    public static Html Of(string name, ModelInspection model) => Page.Of(
        "inspect", name, name,
        Page.Figures(
            ("parameters", Text.Count(model.Parameters), Text.Full(model.Parameters)),
            ("nodes", Text.Full(model.Nodes), $"opset {model.Opset}{(model.Producer is { } producer ? $", made by {producer}" : "")}"),
            ("structure", Text.Some(model.Structure.Stages.Count, "stage"), Text.Some(model.Structure.Blocks.Count(), "block")),
            ("channel spaces", Text.Full(model.Spaces.Count), $"{model.Spaces.Count(s => s.MayChange)} may change")),
        Page.Section("Inputs and outputs", "Sizes that callers choose have their name, or a question mark.", Page.Table(["", "name", "type", "shape*"],
            [.. model.Inputs.Select(v => Value("input", v)), .. model.Outputs.Select(v => Value("output", v))])),
        Page.Section("Structure", "Found on the graph itself. Layers of a block have roles: a, b, c one behind the other, shortcut for the branch beside them, gate for what is multiplied onto them.",
            Page.Table(["layer", "role", "operator", "channels#", "kernel", "groups#", "space*"], Tree(model), isLong: true)),
        Page.Section("Channel spaces", "What changes together when it changes, and what stands in its way.",
            Page.Table(["space", "size#", "may change", "made by", "why*"], model.Spaces.Select(Space))));

    private static Html Value(string kind, ValueReport value) => Html.Markup($"""
        <tr><td class="muted">{kind}</td><td class="name">{value.Name}</td><td>{value.Type}</td><td>{string.Join(" × ", value.Shape)}</td></tr>

        """);

    private static IEnumerable<Html> Tree(ModelInspection model)
    {
        ILookup<string, LayerReport> layers = model.Layers.ToLookup(l => l.Name);
        return
        [
            .. Part(model.Structure.Stem, 1),
            .. model.Structure.Stages.SelectMany(stage => (IEnumerable<Html>)
            [
                Group(stage.Path, Text.Some(stage.Blocks.Count, "block"), 1),
                .. stage.Transition is { } transition ? Part(transition, 2) : [],
                .. stage.Blocks.SelectMany(block => Part(block, 2)),
            ]),
            .. Part(model.Structure.Head, 1),
        ];

        IEnumerable<Html> Part(Section section, int level)
        {
            string kind = section is Block { IsResidual: true } ? "residual, " : "";
            yield return Group(section.Path, $"{kind}{Text.Some(section.Layers.Count, "layer")}{(section.Scope is { } scope ? $" · {scope}" : "")}", level);
            foreach (LayerPlace place in section.Layers)
            {
                LayerReport? layer = layers[place.Name].FirstOrDefault();
                yield return Html.Markup($"""
                    <tr><td class="name in">{place.Name}</td><td class="name">{place.Role}</td><td>{layer?.Operator}</td><td class="number">{(layer is null ? "" : Text.Full(layer.Channels))}</td><td>{(layer is null ? "" : string.Join('×', layer.Kernel))}</td><td class="number">{(layer is { Groups: > 1 } ? Text.Full(layer.Groups) : "")}</td><td class="name">{layer?.Space}</td></tr>

                    """);
            }
        }
    }

    private static Html Group(string path, string about, int level) => Html.Markup($"""
        <tr class="{(level == 1 ? "group" : "block")}" data-level="{level}"><th scope="rowgroup" colspan="7">{path}<span>{about}</span></th></tr>

        """);

    private static Html Space(SpaceReport space) => Html.Markup($"""
        <tr><td class="name">{space.Name}</td><td class="number">{Text.Full(space.Size)}</td><td>{(!space.MayChange ? "no" : space.Uniform ? "by whole factors" : "yes")}</td><td>{Producers(space.Producers)}</td><td class="long muted">{string.Join("; ", space.Reasons)}</td></tr>

        """);

    private static Html Producers(IReadOnlyList<string> producers) => producers.Count == 0 ? "" : producers.Count == 1 ? Html.Markup($"<code>{producers[0]}</code>")
        : Html.Markup($"<details><summary><code>{producers[0]}</code> and {producers.Count - 1} more</summary><p>{Page.Names(producers.Skip(1))}</p></details>");
}
