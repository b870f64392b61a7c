using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Onnx;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Calibration;

/// <summary>What values of a network are like on the user's samples, channel by channel, measured by ONNX Runtime.</summary>
internal static class ActivationStatistics
{
    // Values that are fetched in one run; each may be as large as the network's largest.
    private const int ValuesPerRun = 4;

    /// <summary>Measures values.</summary>
    /// <param name="model">The model.</param>
    /// <param name="values">The values, each with its axis of channels.</param>
    /// <param name="samples">Samples of the model's inputs, as <c>verify --inputs</c> takes them.</param>
    /// <param name="notes">Told what was left out of the samples.</param>
    /// <exception cref="UsageException">The samples do not fit the model.</exception>
    public static Dictionary<string, List<ChannelMoments>> Measure(
        OnnxModel model, IReadOnlyDictionary<string, int> values, string samples, List<string> notes)
    {
        var measured = values.ToDictionary(v => v.Key, _ => new List<ChannelMoments>());
        if (values.Count == 0)
            return measured;
        DirectoryInfo folder = Directory.CreateTempSubdirectory("onnxmorph-");
        try
        {
            string path = Path.Combine(folder.FullName, "model.onnx");
            OnnxModel exposed = model.Clone();
            // Declarations may name the sizes of another batch.
            exposed.Proto.Graph.ValueInfo.Clear();
            exposed.Proto.Graph.Output.Clear();
            exposed.Proto.Graph.Output.AddRange(measured.Keys.Select(value => new ValueInfoProto { Name = value }));
            OnnxWriter.Write(exposed, path, new WeightEvaluator());
            using var runner = new ModelRunner(path, GraphOptimizationLevel.ORT_DISABLE_ALL, Environment.ProcessorCount);
            foreach (Draw draw in SampleReader.Read(samples, runner.Inputs, notes))
                foreach (string[] fetched in measured.Keys.Chunk(ValuesPerRun))
                    foreach (OutputTensor output in runner.Run(draw.Inputs, fetched))
                        ChannelMoments.Add(measured[output.Output], output.Data, values[output.Output]);
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        return measured;
    }
}
