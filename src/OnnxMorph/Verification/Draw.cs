using OnnxMorph.Runtime;

namespace OnnxMorph.Verification;

/// <summary>Values for every input of a model, for one run.</summary>
internal sealed record Draw(string Description, IReadOnlyDictionary<string, TensorData> Inputs)
{
    public long Elements => Inputs.Values.Sum(data => (long)data.Count);

    public DrawReport ToReport() => new(Description, Inputs.ToDictionary(
        input => input.Key, input => (IReadOnlyList<long>)input.Value.Shape));
}

/// <summary>The draws of a verification, what was left out, and what the user should know about them.</summary>
internal sealed class DrawSet
{
    public List<(Draw Draw, IReadOnlyList<OutputTensor> Outputs)> Accepted { get; } = [];

    public List<SkippedDraw> Skipped { get; } = [];

    public List<string> Notes { get; } = [];

    /// <summary>Refuses inputs that no draw or sample file can fill.</summary>
    public static void RequireTensors(IEnumerable<ValueInfo> inputs)
    {
        foreach (ValueInfo input in inputs)
        {
            if (input.Kind != ValueKind.Tensor)
                throw new RefusedException($"Input '{input.Name}' is a {input.Kind.ToString().ToLowerInvariant()}; verification by running feeds tensors only.");
        }
    }
}
