using System.Globalization;
using System.Text;
using System.Text.Json;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Initialization;

/// <summary>An initialisation from file to file: the model with fresh parameters.</summary>
public sealed class InitJob
{
    /// <summary>Key of the model's metadata entry that holds the learning-rate multipliers as JSON.</summary>
    public const string MetadataKey = "onnxmorph.learning_rate_multipliers";

    /// <summary>The model's file.</summary>
    public required string Model { get; init; }

    /// <summary>The file to write.</summary>
    public required string Output { get; init; }

    /// <summary>What to initialise and how.</summary>
    public InitOptions Options { get; init; } = new();

    /// <summary>Where to write the learning-rate multipliers, a JSON object by the tensors' names; null does not.</summary>
    public string? Multipliers { get; init; }

    /// <summary>Whether files that exist may be replaced.</summary>
    public bool Force { get; init; }

    /// <summary>Evaluates the weights.</summary>
    public WeightEvaluator Evaluator { get; init; } = new();

    /// <summary>Told what the job is at.</summary>
    public IProgress<string>? Progress { get; init; }

    /// <summary>Runs the job.</summary>
    /// <exception cref="OnnxMorphException">The model cannot be read, or a file cannot be written.</exception>
    /// <exception cref="RefusedException">Nothing could be initialised.</exception>
    public InitReport Run(CancellationToken cancellation = default)
    {
        string target = Path.GetFullPath(Output);
        foreach (string file in new[] { target, Multipliers }.OfType<string>())
            OnnxWriter.CheckFree(Path.GetFullPath(file), Force);
        if (Multipliers is not null && Path.GetFullPath(Multipliers) == target)
            throw new UsageException($"'{target}' is named for both the model and its multipliers; give them different names.");
        if (Options.Gain is { } gain && !(gain > 0 && double.IsFinite(gain)))
            throw new UsageException($"A gain of {gain.ToString(CultureInfo.InvariantCulture)} makes no weights; give a positive number.");
        Begin("reading");
        OnnxModel read = OnnxReader.Read(Model);
        OnnxWriter.CheckSpared(read, target);
        Begin("analysing");
        AnalysedModel model = AnalysedModel.Of(read);
        Begin("planning");
        InitPlan plan = InitPlan.Of(model, Options);
        if (plan.Tensors.All(t => t.Start == TensorStart.Kept))
            throw new RefusedException(Nothing(plan.Tensors));
        plan.Apply();
        SortedDictionary<string, double> multipliers = InitReport.MultipliersOf(plan.Tensors);
        if (Options is { Method: InitMethod.Normed, Growth: GrowthRule.Multipliers })
            Note(model.Model, Json(multipliers));
        Begin("writing");
        OnnxWriter.Write(model.Model, target, Evaluator, new WriteOptions
        {
            Force = Force,
            Companion = Multipliers is null ? null : new Companion(Multipliers, stream => stream.Write(Encoding.UTF8.GetBytes(Json(multipliers) + "\n"))),
        }, null, cancellation);
        return new InitReport(
            target, Options.Method, Options.Method == InitMethod.Normed ? Options.Growth : null, Options.Seed, ModelInspection.CountParameters(model.Model), plan.Tensors, plan.Notes);

        void Begin(string stage)
        {
            Progress?.Report(stage);
            cancellation.ThrowIfCancellationRequested();
        }
    }

    private string Nothing(IReadOnlyList<InitialisedTensor> tensors) =>
        tensors.Count == 0 ? "The model has no parameters; 'onnxmorph inspect' lists its layers."
        : tensors.All(t => t.Note == InitPlan.NotSelected) ? $"No layer with parameters is named '{Options.Layers}'; 'onnxmorph inspect' lists the layers."
        : tensors.Where(t => t.Note != InitPlan.NotSelected).Select(t => $"Nothing could be initialised: '{t.Name}' stays, since {t.Note}{(tensors.Count > 1 ? $", and {tensors.Count - 1} more" : "")}.").First();

    private static void Note(OnnxModel model, string json)
    {
        StringStringEntryProto? entry = model.Proto.MetadataProps.FirstOrDefault(p => p.Key == MetadataKey);
        if (entry is null)
            model.Proto.MetadataProps.Add(entry = new StringStringEntryProto { Key = MetadataKey });
        entry.Value = json;
    }

    private static string Json(SortedDictionary<string, double> multipliers)
    {
        using var stream = new MemoryStream();
        using (var writer = new Utf8JsonWriter(stream, new JsonWriterOptions { Indented = true }))
        {
            writer.WriteStartObject();
            foreach ((string name, double multiplier) in multipliers)
                writer.WriteNumber(name, multiplier);
            writer.WriteEndObject();
        }

        return Encoding.UTF8.GetString(stream.ToArray());
    }
}
