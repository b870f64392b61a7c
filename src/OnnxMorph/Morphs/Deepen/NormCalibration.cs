using OnnxMorph.Onnx;
using OnnxMorph.Verification;
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
    // Values that are fetched in one run; each may be as large as the network's largest.
    private const int ValuesPerRun = 4;

    /// <summary>Measures and writes the vectors of all norms of a graph.</summary>
    /// <param name="model">The model that the norms stand in.</param>
    /// <param name="norms">The norms, still identities.</param>
    /// <param name="samples">Samples of the model's inputs, as <c>verify --inputs</c> takes them.</param>
    /// <param name="notes">Told what was left out of the samples.</param>
    /// <exception cref="UsageException">The samples do not fit the model.</exception>
    public static void Calibrate(OnnxModel model, IReadOnlyList<InsertedNorm> norms, string samples, List<string> notes)
    {
        var measured = norms.ToDictionary(n => n.Node.Input[0], _ => new List<ChannelMoments>());
        DirectoryInfo folder = Directory.CreateTempSubdirectory("onnxmorph-");
        try
        {
            string path = Path.Combine(folder.FullName, "model.onnx");
            OnnxModel exposed = model.Clone();
            // Declarations follow when the step is done.
            exposed.Proto.Graph.ValueInfo.Clear();
            exposed.Proto.Graph.Output.Clear();
            exposed.Proto.Graph.Output.AddRange(measured.Keys.Select(value => new ValueInfoProto { Name = value }));
            OnnxWriter.Write(exposed, path, new EvaluatedWeights(new WeightEvaluator()));
            using var runner = new ModelRunner(path, Microsoft.ML.OnnxRuntime.GraphOptimizationLevel.ORT_DISABLE_ALL, Environment.ProcessorCount);
            foreach (Draw draw in SampleReader.Read(samples, runner.Inputs, notes))
                foreach (string[] values in measured.Keys.Chunk(ValuesPerRun))
                    foreach (OutputTensor output in runner.Run(draw.Inputs, values))
                        Add(measured[output.Output], output.Data);
        }
        finally
        {
            folder.Delete(recursive: true);
        }

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

    private static void Add(List<ChannelMoments> channels, TensorData data)
    {
        int count = (int)data.Shape[1], positions = data.Count / Math.Max(1, (int)data.Shape[0] * count);
        while (channels.Count < count)
            channels.Add(new ChannelMoments());
        double[] values = data.ToDoubles();
        for (int row = 0; row * positions < values.Length; row++)
            channels[row % count].Add(values.AsSpan(row * positions, positions));
    }

    /// <summary>Mean and variance of a channel, joined piece by piece (Chan, Golub, LeVeque 1979), so that large means lose nothing.</summary>
    private sealed class ChannelMoments
    {
        private double _count;
        private double _squares;

        public double Mean { get; private set; }

        public double Variance => _count == 0 ? 0 : _squares / _count;

        public void Add(ReadOnlySpan<double> values)
        {
            if (values.IsEmpty)
                return;
            double sum = 0, squares = 0;
            foreach (double value in values)
                sum += value;
            double mean = sum / values.Length, count = _count + values.Length, shift = mean - Mean;
            foreach (double value in values)
                squares += (value - mean) * (value - mean);
            Mean += shift * values.Length / count;
            _squares += squares + shift * shift * _count * values.Length / count;
            _count = count;
        }
    }
}
