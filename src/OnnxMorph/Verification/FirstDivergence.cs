using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Runtime;

namespace OnnxMorph.Verification;

/// <summary>
/// Finds where two models part: the first value, in the parent's topological order, that both have under one name and
/// shape and whose difference exceeds the parent's own noise in that value.
/// </summary>
internal static class FirstDivergence
{
    /// <summary>Values looked at together, which bounds memory and the number of model files written.</summary>
    private const int Batch = 128;

    private const int Perturbations = 4;

    /// <summary>The value's name, or null where every shared value agrees.</summary>
    public static string? Find(string parentPath, string childPath, IModelProbe probe, Draw draw, VerifyOptions options, CancellationToken cancellation)
    {
        var inChild = new HashSet<string>(probe.Values(childPath));
        foreach (string[] values in probe.Values(parentPath).Where(inChild.Contains).Chunk(Batch))
        {
            string folder = Directory.CreateTempSubdirectory("onnxmorph-").FullName;
            try
            {
                if (FindAmong(values, parentPath, childPath, probe, draw, options, folder, cancellation) is { } found)
                    return found;
            }
            catch (OnnxRuntimeException e)
            {
                throw new OnnxMorphException(ExitCode.VerificationFailed, $"The models differ, and the search for the first value that does failed: {OrtRuntime.Reason(e)}", e);
            }
            finally
            {
                Directory.Delete(folder, recursive: true);
            }
        }

        return null;
    }

    private static string? FindAmong(string[] values, string parentPath, string childPath, IModelProbe probe, Draw draw, VerifyOptions options,
        string folder, CancellationToken cancellation)
    {
        Dictionary<string, Yardstick> yardsticks = Measure(Expose(parentPath, values, probe, folder, "parent"), probe, draw, options, cancellation);
        using var child = new ModelRunner(Expose(childPath, values, probe, folder, "child"), GraphOptimizationLevel.ORT_DISABLE_ALL, 1);
        Dictionary<string, TensorData> results = Tensors(child, draw.Inputs);
        foreach (string value in values)
        {
            if (!yardsticks.TryGetValue(value, out Yardstick? yardstick) || !results.TryGetValue(value, out TensorData? result)
                || yardstick.ShapeVaries || !yardstick.SameShape(result))
            {
                continue;
            }

            Measurement measured = yardstick.Measure(result, pooledNoise: 0);
            if (measured.Ratio > options.Margin || measured.UnexcusedCount > yardstick.UnstableCount)
                return value;
        }

        return null;
    }

    private static Dictionary<string, Yardstick> Measure(string exposedPath, IModelProbe probe, Draw draw, VerifyOptions options, CancellationToken cancellation)
    {
        using var parent = new ModelRunner(exposedPath, GraphOptimizationLevel.ORT_DISABLE_ALL, 1);
        Dictionary<string, Yardstick> yardsticks = Tensors(parent, draw.Inputs).ToDictionary(t => t.Key, t => new Yardstick(t.Value));
        for (int p = 0; p < Perturbations; p++)
        {
            cancellation.ThrowIfCancellationRequested();
            var random = new Random(Verifier.HashSeed(options.Seed, -2, p));
            if (draw.Inputs.Values.Any(input => input.IsFloat))
            {
                Observe(parent, Perturbation.ByOneUnit(draw.Inputs, random));
                continue;
            }

            using var perturbed = new ModelRunner(exposedPath, GraphOptimizationLevel.ORT_DISABLE_ALL, 1, Perturbation.OfWeights(probe, exposedPath, random));
            Observe(perturbed, draw.Inputs);
        }

        return yardsticks;

        void Observe(ModelRunner runner, IReadOnlyDictionary<string, TensorData> inputs)
        {
            foreach ((string name, TensorData data) in Tensors(runner, inputs))
                yardsticks[name].Observe(data);
        }
    }

    private static Dictionary<string, TensorData> Tensors(ModelRunner runner, IReadOnlyDictionary<string, TensorData> inputs) =>
        runner.Run(inputs).Where(result => result.Path.Length == 0).ToDictionary(result => result.Output, result => result.Data);

    private static string Expose(string path, string[] values, IModelProbe probe, string folder, string role)
    {
        string exposed = Path.Combine(Directory.CreateDirectory(Path.Combine(folder, role)).FullName, "model.onnx");
        probe.Expose(path, values, exposed);
        return exposed;
    }
}
