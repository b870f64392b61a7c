using System.Text.Json;
using System.Text.Json.Nodes;

namespace OnnxMorph.Recipes;

/// <summary>The JSON schema of recipes (docs/recipe.schema.json), made from <see cref="StepKinds.All"/>.</summary>
public static class RecipeSchema
{
    private static readonly JsonSerializerOptions s_indented = new() { WriteIndented = true, NewLine = "\n", Encoder = System.Text.Encodings.Web.JavaScriptEncoder.UnsafeRelaxedJsonEscaping };

    /// <summary>The schema as text, with a line break at the end.</summary>
    public static string Text()
    {
        var schema = new JsonObject
        {
            ["$schema"] = "https://json-schema.org/draft/2020-12/schema",
            ["title"] = "OnnxMorph recipe",
            ["description"] = "Steps that `onnxmorph morph --recipe` carries out in order.",
            ["type"] = "object",
            ["additionalProperties"] = false,
            ["required"] = new JsonArray("steps"),
            ["properties"] = new JsonObject
            {
                ["seed"] = new JsonObject { ["description"] = "Seed of everything random; --seed overrides it.", ["type"] = "integer", ["minimum"] = 0 },
                ["steps"] = new JsonObject
                {
                    ["type"] = "array",
                    ["items"] = new JsonObject { ["oneOf"] = new JsonArray([.. StepKinds.All.Select(kind => Reference(kind.Name))]) },
                },
            },
            ["$defs"] = Definitions(),
        };
        return schema.ToJsonString(s_indented) + "\n";
    }

    private static JsonObject Definitions()
    {
        var definitions = new JsonObject
        {
            ["selector"] = new JsonObject
            {
                ["description"] = "A glob over the layer names that `onnxmorph inspect` prints, or 'blocks:' and a glob over the paths or scopes of its structure; '*' is everything that takes the step.",
                ["type"] = "string",
                ["minLength"] = 1,
            },
        };
        foreach (StepKind kind in StepKinds.All)
        {
            var properties = new JsonObject { [kind.Name] = Reference("selector") };
            foreach (StepOption option in kind.Options)
                properties[option.Name] = Option(option);
            definitions[kind.Name] = new JsonObject
            {
                ["description"] = kind.Description,
                ["type"] = "object",
                ["additionalProperties"] = false,
                ["required"] = new JsonArray([kind.Name, .. kind.Options.Where(o => o.Required).Select(o => (JsonNode)o.Name)]),
                ["properties"] = properties,
            };
        }

        return definitions;
    }

    private static JsonObject Option(StepOption option)
    {
        var result = new JsonObject { ["description"] = option.Description };
        switch (option.Form)
        {
            case OptionForm.Choice:
                result["enum"] = new JsonArray([.. option.Choices.Select(c => (JsonNode)c)]);
                if (!option.Required)
                    result["default"] = option.Choices[0];
                break;
            case OptionForm.Size:
                result["description"] += " A number such as 96, a factor such as x1.5, or an increase such as +2.";
                result["anyOf"] = new JsonArray(
                    new JsonObject { ["type"] = "integer", ["minimum"] = 1 },
                    new JsonObject { ["type"] = "string", ["pattern"] = "^(x[0-9]+(\\.[0-9]+)?|\\+?[0-9]+)$" });
                break;
            case OptionForm.KernelSize:
                result["description"] += " One size for all axes, a number such as 5, a factor such as x2 or an increase such as +2; or one for each axis with an x between them, such as 3x7 or +2x+0.";
                result["anyOf"] = new JsonArray(
                    new JsonObject { ["type"] = "integer", ["minimum"] = 1 },
                    new JsonObject { ["type"] = "string", ["pattern"] = Morphs.KernelSize.Pattern });
                break;
            case OptionForm.Number:
                result["type"] = "integer";
                result["minimum"] = 1;
                if (option.Most < int.MaxValue)
                    result["maximum"] = option.Most;
                break;
            default:
                result["type"] = new JsonArray("string", "number");
                break;
        }

        return result;
    }

    private static JsonObject Reference(string definition) => new() { ["$ref"] = $"#/$defs/{definition}" };
}
