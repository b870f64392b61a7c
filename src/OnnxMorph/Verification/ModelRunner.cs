using System.Runtime.InteropServices;
using Microsoft.ML.OnnxRuntime;
using Microsoft.ML.OnnxRuntime.Tensors;
using OnnxMorph.Runtime;

namespace OnnxMorph.Verification;

/// <summary>A tensor that a run returned. Sequences and maps are taken apart into their tensors.</summary>
/// <param name="Output">The model output it belongs to.</param>
/// <param name="Path">Where in the output it is, such as <c>[2].keys</c>; empty for a tensor output.</param>
/// <param name="Data">The values.</param>
internal sealed record OutputTensor(string Output, string Path, TensorData Data)
{
    public string Name => Output + Path;
}

/// <summary>A loaded model.</summary>
internal sealed class ModelRunner : IDisposable
{
    private readonly SessionOptions _options;
    private readonly RunOptions _runOptions = OrtRuntime.CreateRunOptions();
    private readonly InferenceSession _session;
    private readonly List<(OrtValue Value, byte[] Pinned)> _initializers = [];

    /// <summary>Loads the model with the given initializers in place of its own.</summary>
    public ModelRunner(string path, GraphOptimizationLevel optimization, int threads, IEnumerable<(string Name, TensorData Data)>? initializers = null)
    {
        _options = OrtRuntime.CreateOptions(optimization, threads);
        try
        {
            foreach ((string name, TensorData data) in initializers ?? [])
            {
                // ONNX Runtime takes initializers from memory that its caller owns, which must stay where it is.
                byte[] pinned = GC.AllocateUninitializedArray<byte>(data.Bytes.Length, pinned: true);
                data.Bytes.CopyTo(pinned, 0);
                OrtValue value = OrtValue.CreateTensorValueWithData(OrtMemoryInfo.DefaultInstance, (TensorElementType)(int)data.Type,
                    data.Shape, Marshal.UnsafeAddrOfPinnedArrayElement(pinned, 0), pinned.Length);
                _initializers.Add((value, pinned));
                _options.AddInitializer(name, value);
            }

            _session = OrtRuntime.Load(path, _options);
        }
        catch
        {
            DisposeParts();
            throw;
        }

        Inputs = OrtRuntime.Inputs(_session);
        Outputs = OrtRuntime.Outputs(_session);
    }

    public IReadOnlyList<ValueInfo> Inputs { get; }

    public IReadOnlyList<ValueInfo> Outputs { get; }

    /// <summary>Runs the model.</summary>
    /// <param name="inputs">Values by input name.</param>
    /// <param name="outputs">The outputs to fetch; null fetches all.</param>
    /// <exception cref="OnnxRuntimeException">An operator failed on these inputs.</exception>
    public IReadOnlyList<OutputTensor> Run(IReadOnlyDictionary<string, TensorData> inputs, IReadOnlyList<string>? outputs = null)
    {
        var values = new Dictionary<string, OrtValue>();
        var tensors = new List<OutputTensor>();
        try
        {
            foreach ((string name, TensorData data) in inputs)
                values.Add(name, data.ToOrtValue());
            IReadOnlyList<string> names = outputs ?? _session.OutputNames;
            using IDisposableReadOnlyCollection<OrtValue> results = _session.Run(_runOptions, values, [.. names]);
            for (int i = 0; i < names.Count; i++)
                Collect(results[i], names[i], "", tensors);
        }
        finally
        {
            foreach (OrtValue value in values.Values)
                value.Dispose();
        }

        return tensors;
    }

    private static void Collect(OrtValue value, string output, string path, List<OutputTensor> tensors)
    {
        switch (value.OnnxType)
        {
            case OnnxValueType.ONNX_TYPE_TENSOR:
                tensors.Add(new OutputTensor(output, path, TensorData.FromOrtValue(value)));
                break;
            case OnnxValueType.ONNX_TYPE_SEQUENCE:
                for (int i = 0; i < value.GetValueCount(); i++)
                {
                    using OrtValue element = value.GetValue(i, OrtAllocator.DefaultInstance);
                    Collect(element, output, $"{path}[{i}]", tensors);
                }

                break;
            case OnnxValueType.ONNX_TYPE_MAP:
                using (OrtValue keys = value.GetValue(0, OrtAllocator.DefaultInstance))
                    Collect(keys, output, path + ".keys", tensors);
                using (OrtValue mapped = value.GetValue(1, OrtAllocator.DefaultInstance))
                    Collect(mapped, output, path + ".values", tensors);
                break;
            default:
                throw new RefusedException($"Output '{output}' is a sparse tensor, an optional or an opaque value; verification by running compares tensors, sequences and maps.");
        }
    }

    public void Dispose()
    {
        _session.Dispose();
        DisposeParts();
    }

    private void DisposeParts()
    {
        _options.Dispose();
        _runOptions.Dispose();
        foreach ((OrtValue value, _) in _initializers)
            value.Dispose();
    }
}
