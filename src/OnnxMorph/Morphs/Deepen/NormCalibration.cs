using OnnxMorph.Calibration;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>A batch norm that a step inserted as the identity.</summary>
/// <param name="Node">Its node.</param>
/// <param name="Type">Element type of its values.</param>
/// <param name="Epsilon">Its ε.</param>
internal sealed record InsertedNorm(NodeProto Node, ElementType Type, float Epsilon);

/// <summary>
/// Gives batch norms the statistics of what they see: mean μ and variance v of every channel over the user's samples, measured by ONNX Runtime, with
/// scale √(v + ε) and bias μ, so that (x − μ)/√(v + ε)·√(v + ε) + μ stays x up to rounding.
/// </summary>
internal static class NormCalibration
{
    /// <summary>Measures and writes the vectors of all norms of a graph.</summary>
    /// <param name="model">The model that the norms stand in.</param>
    /// <param name="norms">The norms, still identities.</param>
    /// <param name="samples">Samples of the model's inputs, as <c>verify --inputs</c> takes them.</param>
    /// <param name="notes">Told what was left out of the samples.</param>
    /// <exception cref="UsageException">The samples do not fit the model.</exception>
    public static void Calibrate(OnnxModel model, IReadOnlyList<InsertedNorm> norms, string samples, List<string> notes)
    {
        var measured = ActivationStatistics.Measure(model, norms.ToDictionary(n => n.Node.Input[0], _ => 1), samples, notes);
        var tensors = model.Proto.Graph.Initializer.ToDictionary(t => t.Name);
        foreach (InsertedNorm norm in norms)
        {
            List<ChannelMoments> channels = measured[norm.Node.Input[0]];
            double[] mean = [.. channels.Select(c => c.Mean)], variance = [.. channels.Select(c => (double)(float)c.Variance)];
            Set(1, [.. variance.Select(v => Math.Sqrt(v + norm.Epsilon))]);
            Set(2, mean);
            Set(3, mean);
            Set(4, variance);

            void Set(int input, double[] values) =>
                model.SetData(tensors[norm.Node.Input[input]], new ComputedWeight(norm.Type, [values.Length], values));
        }
    }
}
