using System.Text.Json;
using CsCheck;
using OnnxMorph.Onnx;
using OnnxMorph.Recipes;
using Xunit;

namespace OnnxMorph.Tests.Recipes;

public sealed class RecipeTests
{
    private static Recipe Parse(string text) => Recipe.Parse(text, "recipe.yaml");

    [Fact]
    public void StepsAndOptionsAreReadInOrder()
    {
        Recipe recipe = Parse("""
            # a comment
            seed: 42
            steps:
              - widen: '*'
                size: x1.5
                method: opposed
              - deepen: "/layer3/*"
                count: 2
              - kernel: conv1
                size: +2
              - activation: relu?
            """);
        Assert.Equal(42ul, recipe.Seed);
        Assert.Equal(["widen", "deepen", "kernel", "activation"], recipe.Steps.Select(s => s.Kind));
        Assert.Equal(["*", "/layer3/*", "conv1", "relu?"], recipe.Steps.Select(s => s.Selector));
        Assert.Equal("opposed", recipe.Steps[0].Options["method"]);
        Assert.Equal("2", recipe.Steps[1].Options["count"]);
        Assert.Equal("+2", recipe.Steps[2].Options["size"]);
        Assert.Equal(4, recipe.ToSteps(0).Count);
    }

    [Theory]
    [InlineData("steps:\n  - widen: '*'\n    size: x0.5", 2, "not a size")]
    [InlineData("steps:\n  - widen: '*'", 2, "needs a size")]
    [InlineData("steps:\n  - widen: '*'\n    size: 4\n    methd: zero", 2, "takes no 'methd'")]
    [InlineData("steps:\n  - widen: '*'\n    size: 4\n  - deepen: '*'\n    method: newton", 4, "no method of deepen")]
    [InlineData("steps:\n  - deepen: '*'\n    count: 0", 2, "count")]
    [InlineData("steps:\n  - shrink: '*'", 2, "no kind of step")]
    [InlineData("steps:\n  - kernel: ''\n    size: 3", 2, "selector is empty")]
    [InlineData("steps: 3", 1, "list")]
    [InlineData("seed: -1\nsteps: []", 1, "seed")]
    [InlineData("steps: []\nother: 1", 2, "has no 'other'")]
    [InlineData("seed: 1", 1, "no 'steps'")]
    [InlineData("- widen: '*'", 1, "mapping")]
    [InlineData("steps:\n  - widen: [a, b]\n    size: 4", 2, "one word or number")]
    [InlineData("steps:\n  - widen: '*'\n   size: 4", 2, "not YAML")]
    [InlineData("steps:\n  - activation: '*'\n    size: 4", 2, "takes no 'size'")]
    public void WhatIsWrongIsToldWithItsLine(string text, int line, string reason)
    {
        var error = Assert.Throws<UsageException>(() => Parse(text));
        // A parser that fails inside a step may name the line where it noticed.
        Assert.Matches($"^recipe.yaml, line ({line}|{line + 1}): ", error.Message);
        Assert.Contains(reason, error.Message);
    }

    [Fact]
    public void EveryRecipeSurvivesWritingAndReading()
    {
        Gen<StepSpec> step = Gen.Select(Gen.Int[0, 3].Select(i => new[] { "widen", "kernel", "deepen", "activation" }[i]), Gen.String[Gen.Char[' ', '~'], 1, 12], Gen.Int[1, 99],
            (kind, selector, number) => new StepSpec(kind, selector.Replace(':', '-'), kind switch
            {
                "activation" => new Dictionary<string, string>(),
                "deepen" => new Dictionary<string, string> { ["count"] = $"{number}" },
                _ => new Dictionary<string, string> { ["size"] = $"+{number}" },
            }));
        Gen.Select(step.List[0, 5], Gen.ULong).Sample((steps, seed) =>
        {
            var recipe = new Recipe(steps, seed);
            Recipe again = Parse(recipe.ToYaml());
            Assert.Equal(recipe.ToYaml(), again.ToYaml());
            Assert.Equal(seed, again.Seed);
            Assert.Equal(steps.Select(s => s.Selector), again.Steps.Select(s => s.Selector));
        }, iter: 200);
    }

    [Fact]
    public void MetadataKeepsTheRecipesOfAllGenerations()
    {
        var model = new OnnxModel(new ModelProto { Graph = new GraphProto() });
        Parse("steps:\n  - kernel: a\n    size: 5").WriteTo(model);
        Parse("seed: 3\nsteps:\n  - activation: b").WriteTo(model);
        StringStringEntryProto entry = Assert.Single(model.Proto.MetadataProps);
        Assert.Equal("onnxmorph.recipe", entry.Key);
        string[] documents = entry.Value.Split("---\n");
        Assert.Equal(2, documents.Length);
        Assert.Equal("a", Parse(documents[0]).Steps.Single().Selector);
        Assert.Equal(3ul, Parse(documents[1]).Seed);
    }

    [Fact]
    public void TheSchemaBesideTheDocumentationIsMadeFromTheTable()
    {
        string? folder = AppContext.BaseDirectory;
        while (folder is not null && !File.Exists(Path.Combine(folder, "OnnxMorph.sln")))
            folder = Path.GetDirectoryName(folder);
        Assert.SkipWhen(folder is null, "The repository is not above the tests, so its schema cannot be read.");
        string file = Path.Combine(folder, "docs", "recipe.schema.json");
        if (Environment.GetEnvironmentVariable("ONNXMORPH_WRITE_SCHEMA") is not null)
            File.WriteAllText(file, RecipeSchema.Text());
        Assert.Equal(File.ReadAllText(file), RecipeSchema.Text());
    }

    [Fact]
    public void TheSchemaNamesEveryKindWithItsOptions()
    {
        using JsonDocument schema = JsonDocument.Parse(RecipeSchema.Text());
        JsonElement widen = schema.RootElement.GetProperty("$defs").GetProperty("widen");
        Assert.Equal(["widen", "size"], widen.GetProperty("required").EnumerateArray().Select(e => e.GetString()));
        Assert.Equal("replicate", widen.GetProperty("properties").GetProperty("method").GetProperty("default").GetString());
        Assert.Equal(StepKinds.All.Count, schema.RootElement.GetProperty("properties").GetProperty("steps").GetProperty("items").GetProperty("oneOf").GetArrayLength());
    }
}
