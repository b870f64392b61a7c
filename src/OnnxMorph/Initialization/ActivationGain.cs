using System.Globalization;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Initialization;

/// <summary>
/// The gain that makes good what the activation behind a layer takes of the second moment: c = 1 / E[f(z)²], z ~ N(0, 1); 2 for ReLU,
/// 1 where no activation follows. f is evaluated by ONNX Runtime as it stands in the graph, in one node or several.
/// </summary>
internal sealed class ActivationGain
{
    // The trapezoidal rule converges as fast as anything on a density that vanishes at both ends; ±8 holds all but 1e-15 of it.
    private const double End = 8;
    private const int Points = 16001;

    private readonly AxisAnalysis _analysis;
    private readonly Dictionary<string, ActivationRegion> _regions = [];
    private readonly Dictionary<string, double> _gains = [];
    private readonly ICollection<string> _notes;

    /// <summary>Finds the activations of a graph.</summary>
    /// <param name="analysis">The graph.</param>
    /// <param name="notes">Told of activations that cannot be evaluated.</param>
    public ActivationGain(AxisAnalysis analysis, ICollection<string> notes)
    {
        (_analysis, _notes) = (analysis, notes);
        foreach (ActivationRegion region in ActivationRegion.Find(analysis))
            _regions.TryAdd(region.Input, region);
    }

    /// <summary>The gain for a layer that makes <paramref name="value"/>: of what follows directly, or behind a bias, moves of elements, a max pool or a batch norm, which starts as the identity.</summary>
    public double Behind(string value)
    {
        ModelGraph graph = _analysis.Graph;
        while (!graph.IsReadElsewhere(value))
        {
            List<NodeAxes> readers = [.. graph.Uses(value).Select(use => _analysis.Node(use.Node)).OfType<NodeAxes>()
                .Where(reader => _analysis.Shapes.Type(reader.Node.Output[0]).IsScalable()).DistinctBy(reader => reader.Index)];
            if (_regions.TryGetValue(value, out ActivationRegion? region) && readers.All(r => region.Nodes.Contains(r.Index)))
                return Of(region);
            if (readers is not [{ Unknown: null } next] || OperatorRules.For(next.Node) is not { } rule)
                return 1;
            bool bias = next.Node.OpType == "Add" && Enumerable.Range(0, 2).Any(i => next.IsWeight(i) && rule.IsParameter(next, i));
            if (!bias && !rule.MovesElements && rule is not BatchNormalizationRule && next.Node.OpType is not ("Dropout" or "MaxPool"))
                return 1;
            value = next.Node.Output[0];
        }

        return 1;
    }

    private double Of(ActivationRegion region)
    {
        ModelProto model = new Segment(_analysis.Graph.Nodes[region.Last].Output[0], _analysis.Graph, new HashSet<string> { region.Input })
            .ToModel(_ => (_analysis.Shapes.Type(region.Input), [Points]));
        foreach (TensorProto tensor in model.Graph.Initializer)
            Single(model, tensor, tensor.Name);
        foreach (NodeProto constant in model.Graph.Node.Where(n => n.OpType == "Constant"))
            if (constant.Attribute.FirstOrDefault(a => a.Name == "value")?.T is { } tensor)
                Single(model, tensor, constant.Output[0]);
        string key = Key(model.Clone());
        if (!_gains.TryGetValue(key, out double gain))
            _gains[key] = gain = Evaluate(model, region);
        return gain;
    }

    // Slopes and the like of each channel: one number for all, the one that they start with where they are parameters, else their mean.
    private void Single(ModelProto model, TensorProto tensor, string name)
    {
        if (!((ElementType)tensor.DataType).IsScalable())
            return;
        double[] values = new WeightEvaluator().EvaluateUnrounded(new OnnxModel(new ModelProto()).Data(tensor));
        double? start = (from use in _analysis.Graph.Uses(name)
                         let node = _analysis.Node(use.Node)
                         where node is { Unknown: null } && OperatorRules.For(node.Node) is { } rule && rule.IsParameter(node, use.Input)
                         select OperatorRules.For(node.Node)!.Fresh(node, use.Input).Constant).FirstOrDefault();
        if (values.Length == 0 || (values.Length == 1 && start is null))
            return;
        var type = (ElementType)tensor.DataType;
        TensorStorage.Clear(tensor);
        tensor.Dims.Clear();
        tensor.RawData = ByteString.CopyFrom(new WeightEvaluator().Evaluate(new FilledWeight(type, [], Fill.Constant(start ?? values.Average()))));
    }

    // The same activation elsewhere has other names.
    private static string Key(ModelProto model)
    {
        var names = new Dictionary<string, string>();
        foreach (NodeProto node in model.Graph.Node)
        {
            node.Name = "";
            for (int i = 0; i < node.Input.Count; i++)
                node.Input[i] = Name(node.Input[i]);
            for (int i = 0; i < node.Output.Count; i++)
                node.Output[i] = Name(node.Output[i]);
        }

        foreach (TensorProto tensor in model.Graph.Initializer)
            tensor.Name = Name(tensor.Name);
        return string.Join('\n', model.Graph.Node.Select(n => n.ToString()).Concat(model.Graph.Initializer.Where(t => t.Name.Length > 0).OrderBy(t => t.Name, StringComparer.Ordinal).Select(t => t.ToString())));

        string Name(string name)
        {
            if (name.Length > 0 && !names.ContainsKey(name))
                names[name] = names.Count.ToString(CultureInfo.InvariantCulture);
            return name.Length == 0 ? "" : names[name];
        }
    }

    private double Evaluate(ModelProto model, ActivationRegion region)
    {
        using TemporaryFolder folder = new();
        string file = Path.Combine(folder.Path, "activation.onnx");
        File.WriteAllBytes(file, model.ToByteArray());
        try
        {
            double[] z = [.. Enumerable.Range(0, Points).Select(i => End * (2.0 * i / (Points - 1) - 1))];
            ElementType type = _analysis.Shapes.Type(region.Input);
            byte[] bytes = new WeightEvaluator().Evaluate(new ComputedWeight(type, [Points], z));
            using var runner = new ModelRunner(file, GraphOptimizationLevel.ORT_DISABLE_ALL, 1);
            double[] f = runner.Run(new Dictionary<string, TensorData> { [region.Input] = new(type, [Points], bytes) }).Single().Data.ToDoubles();
            double moment = 0, whole = 0;
            for (int i = 0; i < Points; i++)
            {
                double density = Math.Exp(-z[i] * z[i] / 2);
                whole += density;
                moment += density * f[i] * f[i];
            }

            if (f.Length == Points && double.IsFinite(moment) && moment > 0)
                return whole / moment;
        }
        catch (Exception e) when (e is OnnxRuntimeException or UnreadableModelException)
        {
        }

        _notes.Add($"ONNX Runtime cannot evaluate the activation that ends at {ModelGraph.Describe(_analysis.Graph.Nodes[region.Last])} by itself; the layer in front of it has the gain 1, and --gain gives another.");
        return 1;
    }
}
