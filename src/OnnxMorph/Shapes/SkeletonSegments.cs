using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Runtime;

namespace OnnxMorph.Shapes;

/// <summary>
/// Loads a skeleton (<see cref="ShapeEvaluator"/>) in segments of its nodes. ONNX Runtime takes a time that grows with nodes × outputs, and every value is an
/// output: of a long network each segment is loaded by itself, with what earlier ones found as its inputs and constants.
/// </summary>
/// <param name="skeleton">The skeleton; every value that its nodes compute is one of its outputs.</param>
/// <param name="path">Where files to load are written; messages of ONNX Runtime name it.</param>
/// <param name="segmentNodes">Nodes of a segment; of a network that has no more there is one.</param>
internal sealed class SkeletonSegments(ModelProto skeleton, string path, int segmentNodes)
{
    /// <summary>With so many nodes in a segment ONNX Runtime needs about as much for each session as for what grows by the square.</summary>
    public const int UsualNodes = 2048;

    /// <summary>What each segment becomes when it is loaded with sizes in the place of symbols: shapes inferred, and constants folded.</summary>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load it.</exception>
    public IEnumerable<OnnxModel> Load(IReadOnlyDictionary<string, long> sizes)
    {
        GraphProto graph = skeleton.Graph;
        if (graph.Node.Count <= segmentNodes || !IsSorted())
            return [Fold(skeleton, sizes)];
        return InSegments(sizes);
    }

    private IEnumerable<OnnxModel> InSegments(IReadOnlyDictionary<string, long> sizes)
    {
        GraphProto graph = skeleton.Graph;
        Dictionary<string, ValueInfoProto> inputs = graph.Input.ToDictionary(i => i.Name), outputs = graph.Output.ToDictionary(o => o.Name);
        Dictionary<string, TensorProto> constants = graph.Initializer.ToDictionary(i => i.Name);
        HashSet<string> listed = [.. inputs.Keys];
        ModelProto header = Header();
        foreach (NodeProto[] nodes in graph.Node.Chunk(segmentNodes))
        {
            var segment = new GraphProto { Name = graph.Name, Node = { nodes } };
            HashSet<string> made = [.. nodes.SelectMany(n => n.Output)];
            foreach (string value in nodes.SelectMany(ModelGraph.Reads).Where(v => v.Length > 0 && !made.Contains(v)).Distinct())
            {
                if (constants.TryGetValue(value, out TensorProto? constant))
                    segment.Initializer.Add(constant);
                if (inputs.TryGetValue(value, out ValueInfoProto? input) && (constant is null || listed.Contains(value)))
                    segment.Input.Add(input);
            }

            // Of what type ONNX Runtime does not tell no input can be.
            if (segment.Input.Any(input => input.Type is null))
            {
                yield return Fold(skeleton, sizes);
                yield break;
            }

            segment.Input.Add(inputs[ShapeEvaluator.FilledIn]);
            segment.Output.AddRange(nodes.SelectMany(n => n.Output).Where(outputs.ContainsKey).Distinct().Select(v => outputs[v]));
            ModelProto part = header.Clone();
            part.Graph = segment;
            OnnxModel folded = Fold(part, sizes);
            foreach (ValueInfoProto value in folded.Proto.Graph.Output)
                inputs[value.Name] = value;
            foreach (TensorProto tensor in folded.Proto.Graph.Initializer.Where(t => made.Contains(t.Name)))
                constants[tensor.Name] = folded.Embedded(tensor);
            yield return folded;
        }
    }

    // Whether every value is made before it is read.
    private bool IsSorted()
    {
        HashSet<string> known = [.. skeleton.Graph.Input.Select(i => i.Name), .. skeleton.Graph.Initializer.Select(i => i.Name), ""];
        foreach (NodeProto node in skeleton.Graph.Node)
        {
            if (!node.Input.All(known.Contains))
                return false;
            known.UnionWith(node.Output);
        }

        return true;
    }

    private ModelProto Header()
    {
        GraphProto graph = skeleton.Graph;
        skeleton.Graph = null;
        ModelProto header = skeleton.Clone();
        skeleton.Graph = graph;
        return header;
    }

    private OnnxModel Fold(ModelProto model, IReadOnlyDictionary<string, long> sizes)
    {
        using (FileStream file = File.Create(path))
            model.WriteTo(file);
        string optimised = path + ".optimised";
        using (SessionOptions options = OrtRuntime.CreateOptions(GraphOptimizationLevel.ORT_ENABLE_BASIC, 1, sizes, optimised))
            OrtRuntime.Load(path, options).Dispose();
        return OnnxReader.Read(optimised);
    }
}
