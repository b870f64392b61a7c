using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Safetensors;

/// <summary>A tensor that went from one file to the other.</summary>
public sealed record ExchangedTensor(string Name, string Type, IReadOnlyList<long> Shape);

/// <summary>What <c>export</c> and <c>import</c> did.</summary>
/// <param name="Output">The file that was written.</param>
/// <param name="Tensors">The tensors that went over.</param>
/// <param name="LeftOut">Names of those that did not: of types that safetensors does not have, or that the model has no parameter for.</param>
/// <param name="Kept">Names of the model's parameters that the weights do not hold (<c>import</c>).</param>
public sealed record ExchangeReport(string Output, IReadOnlyList<ExchangedTensor> Tensors, IReadOnlyList<string> LeftOut, IReadOnlyList<string> Kept);

/// <summary>Takes a model's weights out under their names, and puts weights back in: the way into a training framework and from it.</summary>
public static class WeightExchange
{
    /// <summary>Writes the initializers of a model to a safetensors file. Parameters that an exporter merged have one tensor each.</summary>
    /// <exception cref="OnnxMorphException">The model cannot be read, or the file cannot be written.</exception>
    public static ExchangeReport Export(string model, string output, bool force, WeightEvaluator evaluator, CancellationToken cancellation = default)
    {
        using var file = new OutputFile(output, force);
        OnnxModel read = OnnxReader.Read(model);
        OnnxWriter.CheckSpared(read, file.Path);
        SharedConstants.Part(read);
        List<TensorProto> held = [.. read.Proto.Graph.Initializer.Where(t => SafetensorsFile.Holds((ElementType)t.DataType))];
        var tensors = held.ToDictionary(t => t.Name, read.Data);
        file.Write(stream => SafetensorsFile.Write(stream, tensors, evaluator, cancellation), cancellation);
        return new ExchangeReport(file.Path, [.. held.Select(Describe)], [.. read.Proto.Graph.Initializer.Except(held).Select(t => t.Name)], []);
    }

    /// <summary>Writes a model with the weights of a safetensors file in the place of its own, by name.</summary>
    /// <exception cref="OnnxMorphException">A file cannot be read or written.</exception>
    /// <exception cref="RefusedException">A weight has another shape or type than the parameter of its name, or there is none of its names.</exception>
    public static ExchangeReport Import(string model, string weights, string output, bool force, WeightEvaluator evaluator, CancellationToken cancellation = default)
    {
        output = Path.GetFullPath(output);
        OnnxWriter.CheckFree(output, force);
        OnnxModel read = OnnxReader.Read(model);
        IReadOnlyDictionary<string, StoredWeight> given = SafetensorsFile.Read(weights);
        if (Path.GetFullPath(weights) == output)
            throw new UsageException($"'{output}' holds the weights to read; choose another name for the output.");
        SharedConstants.Part(read);
        List<TensorProto> parameters = [.. read.Proto.Graph.Initializer];
        List<TensorProto> found = [.. parameters.Where(t => given.ContainsKey(t.Name))];
        if (found.Count == 0)
            throw new RefusedException($"None of the {given.Count} names in '{Path.GetFileName(weights)}' is one of the model's parameters ('{parameters.FirstOrDefault()?.Name}' …); export the model without folding constants, so that its parameters keep their names.");
        foreach (TensorProto tensor in found)
        {
            StoredWeight weight = given[tensor.Name];
            if ((ElementType)tensor.DataType != weight.Type || !tensor.Dims.SequenceEqual(weight.Shape))
                throw new RefusedException($"'{tensor.Name}' is {weight.Type}[{string.Join(", ", weight.Shape)}] in '{Path.GetFileName(weights)}' and {(ElementType)tensor.DataType}[{string.Join(", ", tensor.Dims)}] in the model.");
            read.SetData(tensor, weight);
        }

        OnnxWriter.Write(read, output, evaluator, new WriteOptions { Force = force }, null, cancellation);
        return new ExchangeReport(
            output, [.. found.Select(Describe)], [.. given.Keys.Except(found.Select(t => t.Name)).Order(StringComparer.Ordinal)],
            [.. parameters.Except(found).Where(t => ((ElementType)t.DataType).IsScalable()).Select(t => t.Name)]);
    }

    private static ExchangedTensor Describe(TensorProto tensor) => new(tensor.Name, $"{(ElementType)tensor.DataType}", [.. tensor.Dims]);
}
