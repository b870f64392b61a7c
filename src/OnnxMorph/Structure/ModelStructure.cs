using System.Text.Json.Serialization;
using OnnxMorph.Axes;

namespace OnnxMorph.Structure;

/// <summary>A layer of a section: a node with weights.</summary>
/// <param name="Node">Its number in the graph.</param>
/// <param name="Name">Its name, as selectors match it.</param>
/// <param name="Role">
/// What it does in its block. Layers one behind the other are <c>a</c>, <c>b</c>, <c>c</c>; norms are <c>norm</c>, or <c>a.norm</c> behind
/// layer a; in front stand <c>shortcut.</c> for the branch beside the main one, <c>branch1.</c> … for parallel branches and
/// <c>gate.</c> for what is multiplied onto it. Attention has <c>query</c>, <c>key</c>, <c>value</c>, what they are made of together
/// (<c>query+key+value</c>), and <c>out</c>. A trained scale is <c>scale</c>, a table
/// <c>embedding</c>, and layers in front of what is read beside the block's own value are <c>beside.a</c>, <c>beside.b</c> ….
/// </param>
public sealed record LayerPlace([property: JsonIgnore] int Node, string Name, string Role);

/// <summary>A part of a network.</summary>
/// <param name="Path">Its place in the structure, such as <c>stem</c> or <c>stage2/block1</c>.</param>
/// <param name="Scope">The scope that its layers' names share where the exporter left one, such as <c>layer2/layer2.0</c>; null elsewhere.</param>
/// <param name="Nodes">Numbers of its nodes in execution order; nodes that compute weights or sizes are in no part.</param>
/// <param name="Layers">Its layers in execution order.</param>
public record Section(string Path, string? Scope, [property: JsonIgnore] IReadOnlyList<int> Nodes, IReadOnlyList<LayerPlace> Layers);

/// <summary>A block: the unit in which a network is made deeper.</summary>
/// <param name="Path">Its place in the structure.</param>
/// <param name="Scope">The scope that its layers' names share.</param>
/// <param name="Nodes">Numbers of its nodes.</param>
/// <param name="Layers">Its layers.</param>
/// <param name="Entry">The value that it works on.</param>
/// <param name="Beside">Activations that it reads beside it: long skips, masks, what conditions it.</param>
/// <param name="Exit">The value that it gives on.</param>
/// <param name="IsResidual">Whether it adds what its layers make to the value it works on.</param>
/// <param name="Signature">
/// Its operators in execution order with kernels, strides and groups, equal for blocks that are the same up to channel counts.
/// </param>
/// <param name="Parts">The residual units it is made of where they are several, such as <c>attention</c> and <c>mlp</c>.</param>
public sealed record Block(
    string Path, string? Scope, IReadOnlyList<int> Nodes, IReadOnlyList<LayerPlace> Layers,
    string Entry, IReadOnlyList<string> Beside, string Exit, bool IsResidual, string Signature, IReadOnlyList<Block> Parts)
    : Section(Path, Scope, Nodes, Layers);

/// <summary>Blocks at one resolution and width.</summary>
/// <param name="Path">Its place in the structure, such as <c>stage2</c>.</param>
/// <param name="Transition">What leads into it from the stage before; null where its first block does.</param>
/// <param name="Blocks">Its blocks in execution order.</param>
/// <param name="Positions">How many positions its last block makes, of all samples; −1 where that is not known.</param>
public sealed record Stage(string Path, Section? Transition, IReadOnlyList<Block> Blocks, [property: JsonIgnore] long Positions);

/// <summary>
/// What a network is made of, found on the graph itself: names of nodes only label what was found.
/// </summary>
/// <param name="Stem">What lies in front of the first block.</param>
/// <param name="Stages">Blocks by resolution and width.</param>
/// <param name="Head">What lies behind the last block.</param>
public sealed record ModelStructure(Section Stem, IReadOnlyList<Stage> Stages, Section Head)
{
    /// <summary>Finds the structure of an analysed graph, in time near linear in its nodes.</summary>
    public static ModelStructure Of(AxisAnalysis analysis) => new StructureFinder(analysis).Find();

    /// <summary>All blocks in execution order.</summary>
    [JsonIgnore]
    public IEnumerable<Block> Blocks => Stages.SelectMany(stage => stage.Blocks);

    /// <summary>Everything that has a path: stem, transitions, blocks with their parts behind them, head.</summary>
    [JsonIgnore]
    public IEnumerable<Section> Sections =>
        [Stem, .. Stages.SelectMany(s => (IEnumerable<Section>)[.. s.Transition is { } t ? [t] : (Section[])[], .. s.Blocks.SelectMany(b => b.Parts.Prepend(b))]), Head];
}
