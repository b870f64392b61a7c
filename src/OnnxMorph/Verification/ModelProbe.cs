using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>Opens models for verification with the project's own reader and writer.</summary>
public sealed class ModelProbe(WeightEvaluator evaluator) : IModelProbe
{
    /// <inheritdoc/>
    public IReadOnlyList<string> Values(string modelPath) =>
        [.. OnnxReader.Read(modelPath).Proto.Graph.Node.SelectMany(n => n.Output).Where(v => v.Length > 0)];

    /// <inheritdoc/>
    public void Expose(string modelPath, IReadOnlyList<string> values, string exposedPath)
    {
        OnnxModel model = OnnxReader.Read(modelPath);
        model.Proto.Graph.Output.Clear();
        model.Proto.Graph.Output.AddRange(values.Select(value => new ValueInfoProto { Name = value }));
        OnnxWriter.Write(model, exposedPath, evaluator);
    }

    /// <inheritdoc/>
    public IReadOnlyList<ProbedInitializer> FloatInitializers(string modelPath, long maxBytes)
    {
        var found = new List<ProbedInitializer>();
        OnnxModel model = OnnxReader.Read(modelPath);
        // Shorter ones are sizes, scales and exponents, whose rounding is not the network's.
        const int FewestWeights = 5;
        foreach (Constant constant in new ModelGraph(model).Constants.Where(c => c.Type.IsScalable() && c.Count >= FewestWeights))
        {
            WeightExpression data = model.Data(constant.Tensor);
            if ((maxBytes -= data.ByteLength) < 0)
                break;
            found.Add(new ProbedInitializer(constant.Name, data.Type, data.Shape, evaluator.Evaluate(data)));
        }

        return found;
    }
}
