using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Runtime;
using OnnxMorph.Weights;

namespace OnnxMorph.Shapes;

/// <summary>
/// Evaluates shapes by letting ONNX Runtime load a <em>skeleton</em> of the model: large weights become inputs with fixed
/// sizes, every value becomes an output, and symbolic dimensions get sizes. Loading infers every shape and folds what does
/// not depend on data; nothing is run.
/// </summary>
public static class ShapeEvaluator
{
    // What callers may feed: tried in this order until the network takes one. Networks with strides and windows demand
    // multiples; tiny sizes come last, since they may shrink to nothing.
    private static readonly int[] s_spatialSizes = [64, 224, 32, 128, 256, 96, 16, 8, 48, 4, 1];
    private static readonly int[] s_otherSizes = [6, 8, 16, 4, 32, 64, 128, 2, 1];

    // Larger integer tensors are data (token tables, masks), not shapes; keeping them costs memory and tells nothing.
    private const long MostIntegers = 1 << 16;
    private const long MostFloats = 16;

    /// <summary>
    /// Evaluates the shapes of every value of the main graph at two assignments of the sizes that callers choose.
    /// </summary>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load the model at any size that was tried.</exception>
    public static ShapeTable Evaluate(OnnxModel model)
    {
        string folder = Directory.CreateTempSubdirectory("onnxmorph-").FullName;
        try
        {
            string skeleton = Path.Combine(folder, "skeleton.onnx");
            List<(string Name, int Axis, int Rank)> symbols = Build(model, skeleton);
            string name = Path.GetFileName(model.Path) ?? "model";
            var (values, assignment) = LoadFirst(skeleton, name, symbols, null);
            var others = symbols.Count == 0 ? values : LoadFirst(skeleton, name, symbols, assignment).Values;
            return new ShapeTable(values, others, Integers(model, Optimised(skeleton)));
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static string Optimised(string skeleton) => skeleton + ".optimised";

    private static List<(string Name, int Axis, int Rank)> Build(OnnxModel model, string path)
    {
        ModelProto proto = model.Proto.Clone();
        GraphProto graph = proto.Graph;
        var listed = graph.Input.Select(i => i.Name).ToHashSet();
        var weights = new HashSet<string>();
        HashSet<string> folded = [.. graph.Node.Where(n => n.OpType is "Resize" or "Upsample").SelectMany(n => n.Input.Skip(1))];

        foreach (TensorProto tensor in graph.Initializer.ToList())
        {
            if (IsShapeLike(model, tensor, folded))
                continue;
            graph.Initializer.Remove(tensor);
            weights.Add(tensor.Name);
            if (!listed.Contains(tensor.Name))
                graph.Input.Add(Declare(tensor.Name, tensor));
        }

        foreach (NodeProto node in graph.Node.ToList())
        {
            if (node.OpType == "Constant" && ModelGraph.IsStandard(node) && node.Attribute.FirstOrDefault(a => a.Name == "value")?.T is { } tensor
                && !IsShapeLike(model, tensor, folded) && node.Output.Count == 1)
            {
                graph.Node.Remove(node);
                graph.Input.Add(Declare(node.Output[0], tensor));
            }
        }

        var given = graph.Input.Select(i => i.Name).Concat(graph.Initializer.Select(i => i.Name)).ToHashSet();
        graph.Output.Clear();
        foreach (string value in graph.Node.SelectMany(n => n.Output).Where(v => v.Length > 0 && !given.Contains(v)).Distinct())
            graph.Output.Add(new ValueInfoProto { Name = value });
        graph.ValueInfo.Clear();
        graph.QuantizationAnnotation.Clear();
        if (graph.Output.Count == 0)
            throw new UnreadableModelException($"'{Path.GetFileName(model.Path)}' has no node that computes anything.");

        var constants = graph.Initializer.Select(i => i.Name).ToHashSet();
        var symbols = new List<(string, int, int)>();
        foreach (ValueInfoProto input in graph.Input.Where(i => !constants.Contains(i.Name)))
        {
            if (input.Type?.TensorType?.Shape is not { } shape)
                continue;
            for (int axis = 0; axis < shape.Dim.Count; axis++)
            {
                TensorShapeProto.Types.Dimension dim = shape.Dim[axis];
                // A caller's size of 0 is how some exporters write "unknown"; a weight of size 0 is empty.
                if (dim.HasDimValue && (dim.DimValue > 0 || weights.Contains(input.Name)))
                    continue;
                if (!dim.HasDimParam || dim.DimParam.Length == 0)
                    dim.DimParam = $"onnxmorph.{input.Name}.{axis}";
                symbols.Add((dim.DimParam, axis, shape.Dim.Count));
            }
        }

        foreach (TensorProto tensor in proto.Tensors().Select(place => place.Tensor).Where(t => t.HasPayload))
        {
            tensor.RawData = model.Embedded(tensor).RawData;
            tensor.ClearPayload();
        }

        using FileStream file = File.Create(path);
        proto.WriteTo(file);
        return symbols;
    }

    private static bool IsShapeLike(OnnxModel model, TensorProto tensor, HashSet<string> folded)
    {
        long count = tensor.Dims.Aggregate(1L, (product, size) => product * size);
        // What is still to be evaluated has no value yet that could be folded; only weights are so.
        return model.PayloadOf(tensor) is not WeightPayload && (ElementType)tensor.DataType switch
        {
            ElementType.Int64 or ElementType.Int32 or ElementType.Bool or ElementType.String => count <= MostIntegers,
            _ => count <= MostFloats || folded.Contains(tensor.Name),
        };
    }

    private static ValueInfoProto Declare(string name, TensorProto tensor)
    {
        var shape = new TensorShapeProto();
        shape.Dim.AddRange(tensor.Dims.Select(size => new TensorShapeProto.Types.Dimension { DimValue = size }));
        return new ValueInfoProto
        {
            Name = name,
            Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = tensor.DataType, Shape = shape } },
        };
    }

    // Tries sizes until the network loads, skipping those of `other`.
    private static (Dictionary<string, (ElementType Type, long[]? Dims)> Values, Dictionary<string, long> Assignment) LoadFirst(
        string skeleton, string name, List<(string Name, int Axis, int Rank)> symbols, Dictionary<string, long>? other)
    {
        UnreadableModelException? first = null;
        int tries = symbols.Count == 0 ? 1 : s_spatialSizes.Length;
        for (int attempt = 0; attempt < tries; attempt++)
        {
            var sizes = new Dictionary<string, long>();
            foreach ((string symbol, int axis, int rank) in symbols)
            {
                int[] candidates = axis == 0 ? [] : rank >= 4 ? s_spatialSizes : s_otherSizes;
                long size = axis == 0 ? 2 : candidates[Math.Min(attempt, candidates.Length - 1)];
                // The second assignment differs in every size, so that what depends on any of them shows.
                if (other is not null)
                    size = axis == 0 ? 3 : candidates[(Array.IndexOf(candidates, (int)other[symbol]) + 1 + attempt) % candidates.Length];
                sizes.TryAdd(symbol, size);
            }

            try
            {
                return (Load(skeleton, name, sizes, save: other is null), sizes);
            }
            catch (UnreadableModelException e)
            {
                first ??= e;
            }
        }

        // One size is all that the network takes; only the batch can vary then, or nothing.
        if (other is not null)
        {
            foreach (int batch in (int[])[3, 2])
            {
                var sizes = other.ToDictionary(x => x.Key, x => symbols.First(s => s.Name == x.Key).Axis == 0 ? batch : x.Value);
                try
                {
                    return (Load(skeleton, name, sizes, save: false), sizes);
                }
                catch (UnreadableModelException)
                {
                    // The next candidate is the assignment that has loaded before.
                }
            }
        }

        throw first!;
    }

    private static Dictionary<string, (ElementType Type, long[]? Dims)> Load(
        string skeleton, string name, Dictionary<string, long> sizes, bool save)
    {
        using SessionOptions options = OrtRuntime.CreateOptions(
            GraphOptimizationLevel.ORT_ENABLE_BASIC, 1, sizes, save ? Optimised(skeleton) : null);
        using InferenceSession session = OrtRuntime.Load(skeleton, options);
        var values = new Dictionary<string, (ElementType, long[]?)>();
        foreach ((string value, NodeMetadata metadata) in session.OutputMetadata.Concat(session.InputMetadata))
        {
            if (metadata.OnnxValueType != OnnxValueType.ONNX_TYPE_TENSOR)
                values[value] = (ElementType.Undefined, null);
            else
            {
                long[] dims = [.. metadata.Dimensions.Select((size, axis) =>
                    size >= 0 ? size : sizes.GetValueOrDefault(metadata.SymbolicDimensions[axis], -1))];
                values[value] = ((ElementType)(int)metadata.ElementDataType, dims.Contains(-1) ? null : dims);
            }
        }

        return values;
    }

    private static Dictionary<string, long[]> Integers(OnnxModel model, string optimised)
    {
        var ints = new Dictionary<string, long[]>();
        foreach ((OnnxModel from, TensorProto tensor, string name) in Tensors(OnnxReader.Read(optimised)).Concat(Tensors(model)))
        {
            long count = tensor.Dims.Aggregate(1L, (product, size) => product * size);
            if ((ElementType)tensor.DataType is ElementType.Int64 or ElementType.Int32 && count <= MostIntegers)
                ints[name] = from.Int64Values(tensor);
        }

        return ints;
    }

    private static IEnumerable<(OnnxModel, TensorProto, string)> Tensors(OnnxModel model)
    {
        foreach (TensorProto tensor in model.Proto.Graph.Initializer)
            yield return (model, tensor, tensor.Name);
        foreach (NodeProto node in model.Proto.Graph.Node)
            if (node.OpType == "Constant" && node.Attribute.FirstOrDefault(a => a.Name == "value")?.T is { } tensor)
                yield return (model, tensor, node.Output[0]);
    }
}
