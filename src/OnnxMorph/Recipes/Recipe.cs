using System.Globalization;
using System.Text;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using YamlDotNet.Core;
using YamlDotNet.RepresentationModel;

namespace OnnxMorph.Recipes;

/// <summary>
/// Steps in order with all their options, as a YAML file (docs/recipe.schema.json). The recipe that made a model is kept in its
/// metadata, after those that made its parent.
/// </summary>
/// <param name="Steps">The steps.</param>
/// <param name="Seed">Seed of everything random; null leaves it to the caller.</param>
public sealed record Recipe(IReadOnlyList<StepSpec> Steps, ulong? Seed = null)
{
    /// <summary>The metadata entry that holds the recipes which made a model, one YAML document each.</summary>
    public const string MetadataKey = "onnxmorph.recipe";

    /// <summary>Reads a recipe from a file.</summary>
    /// <exception cref="UsageException">The recipe is wrong; the message names file and line.</exception>
    /// <exception cref="OnnxMorphException">The file cannot be read (<see cref="ExitCode.InputOutput"/>).</exception>
    public static Recipe Read(string path)
    {
        try
        {
            return Parse(File.ReadAllText(path), $"'{path}'");
        }
        catch (Exception e) when (e is IOException or UnauthorizedAccessException)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"The recipe '{path}' cannot be read: {e.Message}", e);
        }
    }

    /// <summary>Reads a recipe from text; <paramref name="name"/> is what messages call it.</summary>
    /// <exception cref="UsageException">The recipe is wrong; the message names the line.</exception>
    public static Recipe Parse(string text, string name)
    {
        var stream = new YamlStream();
        try
        {
            stream.Load(new StringReader(text));
        }
        catch (YamlException e)
        {
            throw new UsageException($"{name}, line {e.Start.Line}: this is not YAML: {e.Message}");
        }

        if (stream.Documents.Count != 1)
            throw new UsageException($"{name} holds {stream.Documents.Count} YAML documents, and a recipe is one.");
        YamlMappingNode root = Mapping(stream.Documents[0].RootNode, name, "a recipe is a mapping with 'steps'");
        ulong? seed = null;
        List<StepSpec>? steps = null;
        foreach ((YamlNode key, YamlNode value) in root.Children)
        {
            switch (Scalar(key, name))
            {
                case "seed":
                    seed = ulong.TryParse(Scalar(value, name), NumberStyles.None, CultureInfo.InvariantCulture, out ulong number)
                        ? number : throw Wrong(value, name, $"'{value}' is not a seed: write a whole number");
                    break;
                case "steps" when value is YamlSequenceNode list:
                    steps = [.. list.Children.Select(step => Step(step, name))];
                    break;
                case "steps":
                    throw Wrong(value, name, "'steps' is a list; begin each step with '- '");
                default:
                    throw Wrong(key, name, $"a recipe has no '{key}': it has 'steps' and 'seed'");
            }
        }

        return new Recipe(steps ?? throw Wrong(root, name, "the recipe has no 'steps'"), seed);
    }

    /// <summary>The steps to carry out; each draws from a stream of its own.</summary>
    public IReadOnlyList<MorphStep> ToSteps(ulong seed) => [.. Steps.Select((step, i) => step.ToStep(seed + (ulong)i))];

    /// <summary>The recipe as YAML, as <see cref="Parse"/> reads it.</summary>
    public string ToYaml()
    {
        var yaml = new StringBuilder();
        if (Seed is { } seed)
            yaml.Append(CultureInfo.InvariantCulture, $"seed: {seed}\n");
        yaml.Append(Steps.Count == 0 ? "steps: []\n" : "steps:\n");
        foreach (StepSpec step in Steps)
        {
            yaml.Append($"  - {step.Kind}: {Quote(step.Selector)}\n");
            foreach ((string option, string value) in step.Options)
                yaml.Append($"    {option}: {Quote(value)}\n");
        }

        return yaml.ToString();
    }

    /// <summary>Adds the recipe to the metadata of the model that it made.</summary>
    public void WriteTo(OnnxModel model)
    {
        StringStringEntryProto? entry = model.Proto.MetadataProps.FirstOrDefault(p => p.Key == MetadataKey);
        if (entry is null)
            model.Proto.MetadataProps.Add(entry = new StringStringEntryProto { Key = MetadataKey, Value = "" });
        entry.Value += (entry.Value.Length > 0 ? "---\n" : "") + ToYaml();
    }

    // Single quotes keep every character of a selector; a quote inside is doubled.
    private static string Quote(string text) => $"'{text.Replace("'", "''")}'";

    private static StepSpec Step(YamlNode node, string name)
    {
        YamlMappingNode mapping = Mapping(node, name, $"a step is a mapping that begins with {string.Join(", ", StepKinds.All.Select(k => k.Name))}");
        var entries = mapping.Children.Select(entry => (Key: Scalar(entry.Key, name), entry.Value)).ToList();
        (string kind, YamlNode selector) = entries.FirstOrDefault(e => StepKinds.All.Any(k => k.Name == e.Key));
        if (kind is null)
            throw Wrong(node, name, $"'{entries.FirstOrDefault().Key}' is no kind of step: write {string.Join(", ", StepKinds.All.Select(k => k.Name))}");
        var options = entries.Where(e => e.Key != kind).ToDictionary(e => e.Key, e => Scalar(e.Value, name));
        var step = new StepSpec(kind, Scalar(selector, name), options);
        try
        {
            _ = step.ToStep(0);
        }
        catch (UsageException e)
        {
            throw Wrong(node, name, e.Message.TrimEnd('.'));
        }

        return step;
    }

    private static YamlMappingNode Mapping(YamlNode node, string name, string what) =>
        node as YamlMappingNode ?? throw Wrong(node, name, what);

    private static string Scalar(YamlNode node, string name) =>
        (node as YamlScalarNode)?.Value ?? throw Wrong(node, name, "one word or number is expected here");

    private static UsageException Wrong(YamlNode node, string name, string what) => new($"{name}, line {node.Start.Line}: {what}.");
}
