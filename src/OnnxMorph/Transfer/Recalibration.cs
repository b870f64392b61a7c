using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Axes;
using OnnxMorph.Calibration;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>What the channels of a layer's result were like in the source.</summary>
/// <param name="Mean">Their means.</param>
/// <param name="Deviation">Their standard deviations; NaN where the channel stands for none of the source's.</param>
internal sealed record ChannelTargets(double[] Mean, double[] Deviation);

/// <summary>
/// Sets a network's statistics again after its function changed (METHODS.md §3.5): batch norms get mean and variance of what they see on the
/// user's samples; layers into which an exporter has folded a norm are scaled and shifted, channel by channel, until their results have the means and
/// deviations that they had in the source. What is set first is what the next sees, in one pass over the network.
/// </summary>
internal sealed class Recalibration
{
    // A channel that hardly varies, in one of the two models, cannot be scaled to the other.
    private const double LeastDeviation = 1e-6;

    private readonly AnalysedModel _model;
    private readonly GraphEditor _editor;
    private readonly List<Dictionary<string, TensorData>> _live = [];
    private readonly HashSet<string> _cut;

    private Recalibration(AnalysedModel model)
    {
        _model = model;
        _editor = new GraphEditor(model.Graph);
        _cut = [.. model.Graph.Inputs.Select(i => i.Name)];
    }

    /// <summary>A node whose result is set: a batch norm, or a layer with a bias.</summary>
    /// <param name="Node">Its number.</param>
    /// <param name="Read">The value that is measured: what a norm reads, what a layer makes.</param>
    /// <param name="Targets">What a layer's result is to be like; null for norms.</param>
    private sealed record Point(int Node, string Read, ChannelTargets? Targets);

    /// <summary>Sets the statistics of a model, in place.</summary>
    /// <param name="model">The model, as it was read from a file.</param>
    /// <param name="layers">For results of layers what they are to be like.</param>
    /// <param name="samples">The user's samples.</param>
    /// <param name="notes">Told what was left out of the samples.</param>
    /// <returns>How many norms and layers were set.</returns>
    public static int Run(AnalysedModel model, IReadOnlyDictionary<string, ChannelTargets> layers, string samples, List<string> notes) =>
        new Recalibration(model).Run(layers, samples, notes);

    private int Run(IReadOnlyDictionary<string, ChannelTargets> layers, string samples, List<string> notes)
    {
        List<Point> points = [.. Points(layers)];
        if (points.Count == 0)
            return 0;
        string folder = Directory.CreateTempSubdirectory("onnxmorph-").FullName;
        try
        {
            Read(samples, folder, notes);
            // What each point is computed from is known beforehand, and so when a value is needed last.
            var segments = new List<Segment?>();
            foreach (Point point in points)
            {
                segments.Add(_cut.Contains(point.Read) ? null : new Segment(point.Read, _model.Graph, _cut));
                _cut.Add(Result(point));
            }

            var last = new Dictionary<string, int>();
            for (int i = 0; i < points.Count; i++)
                foreach (string name in segments[i]?.Inputs ?? [points[i].Read])
                    last[name] = i;
            for (int i = 0; i < points.Count; i++)
            {
                Set(points[i], Values(points[i].Read, segments[i], folder), last.ContainsKey(Result(points[i])));
                foreach (string name in last.Where(l => l.Value == i).Select(l => l.Key))
                    foreach (Dictionary<string, TensorData> live in _live)
                        live.Remove(name);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        _editor.Commit();
        return points.Count;
    }

    private string Result(Point point) => _model.Graph.Nodes[point.Node].Output[0];

    private IEnumerable<Point> Points(IReadOnlyDictionary<string, ChannelTargets> layers)
    {
        for (int n = 0; n < _model.Graph.Nodes.Count; n++)
        {
            NodeProto node = _model.Graph.Nodes[n];
            if (node.Output.Count == 0 || _model.Analysis.Shapes.Dims(node.Output[0]) is null)
                continue;
            if (OperatorRules.For(node) is BatchNormalizationRule && Enumerable.Range(1, 4).All(i => _model.Graph.ConstantOf(node.Input[i]) is not null))
                yield return new Point(n, node.Input[0], null);
            else if (layers.TryGetValue(node.Output[0], out ChannelTargets? targets) && IsAdjustable(n))
                yield return new Point(n, node.Output[0], targets);
        }
    }

    // Weight and bias stand in the file and serve nobody else; a norm behind the layer would undo what is done.
    private bool IsAdjustable(int n)
    {
        NodeProto node = _model.Graph.Nodes[n];
        return _model.Analysis.Node(n)?.Layer is { Transposed: false, BiasInput: var bias, WeightInput: var weight } && bias >= 0 && bias < node.Input.Count
            && node.Attribute.All(a => a.Name is not ("activation" or "alpha" or "beta"))
            && new[] { bias, weight }.All(i => _model.Graph.ConstantOf(node.Input[i]) is { } constant && _model.Graph.Uses(constant.Name).Count == 1)
            && !_model.Graph.Uses(node.Output[0]).Any(use => OperatorRules.For(_model.Graph.Nodes[use.Node]) is BatchNormalizationRule);
    }

    private void Read(string samples, string folder, List<string> notes)
    {
        // Any model with the same inputs binds the samples.
        string path = Path.Combine(folder, "inputs.onnx");
        var proto = new ModelProto { IrVersion = _model.Model.Proto.IrVersion, Graph = new GraphProto { Name = "inputs" } };
        proto.OpsetImport.AddRange(_model.Model.Proto.OpsetImport);
        proto.Graph.Input.AddRange(_model.Graph.Inputs);
        foreach (ValueInfoProto input in _model.Graph.Inputs)
        {
            var node = new NodeProto { OpType = "Identity" };
            node.Input.Add(input.Name);
            node.Output.Add(input.Name + ".read");
            proto.Graph.Node.Add(node);
            proto.Graph.Output.Add(new ValueInfoProto { Name = node.Output[0] });
        }

        using ModelRunner runner = Load(proto, path);
        foreach (Draw draw in SampleReader.Read(samples, runner.Inputs, notes))
            _live.Add(new Dictionary<string, TensorData>(draw.Inputs));
    }

    private static ModelRunner Load(ModelProto model, string path)
    {
        using (FileStream file = File.Create(path))
            Google.Protobuf.MessageExtensions.WriteTo(model, file);
        return new ModelRunner(path, GraphOptimizationLevel.ORT_ENABLE_BASIC, Environment.ProcessorCount);
    }

    private TensorData[] Values(string value, Segment? segment, string folder)
    {
        if (segment is null)
            return [.. _live.Select(live => live[value])];
        ModelProto model = segment.ToModel(name => (_model.Analysis.Shapes.Type(name), [.. (_model.Analysis.Shapes.Dims(name) ?? []).Select(_ => -1L)]));
        using ModelRunner runner = Load(model, Path.Combine(folder, "segment.onnx"));
        return [.. _live.Select(live => runner.Run(segment.Inputs.ToDictionary(name => name, name => live[name]))[0].Data)];
    }

    private void Set(Point point, TensorData[] values, bool isNeeded)
    {
        NodeProto node = _model.Graph.Nodes[point.Node];
        int axis = point.Targets is null ? 1 : _model.Analysis.Node(point.Node)!.Layer!.OutputAxis;
        var channels = new List<ChannelMoments>();
        foreach (TensorData data in values)
            ChannelMoments.Add(channels, data, axis);
        double[] scale = new double[channels.Count], shift = new double[channels.Count];
        if (point.Targets is { } targets)
            Layer(point.Node, node, channels, targets, scale, shift);
        else
            Norm(point.Node, node, channels, scale, shift);
        if (isNeeded)
            for (int i = 0; i < values.Length; i++)
                _live[i][node.Output[0]] = Affine(values[i], axis, scale, shift);
    }

    private void Norm(int n, NodeProto node, List<ChannelMoments> channels, double[] scale, double[] shift)
    {
        double epsilon = node.Attribute.FirstOrDefault(a => a.Name == "epsilon")?.F ?? 1e-5f;
        double[] gamma = Numbers(node.Input[1]), beta = Numbers(node.Input[2]);
        Replace(n, 3, [.. channels.Select(c => c.Mean)]);
        Replace(n, 4, [.. channels.Select(c => c.Variance)]);
        for (int c = 0; c < channels.Count; c++)
        {
            scale[c] = gamma[c] / Math.Sqrt(channels[c].Variance + epsilon);
            shift[c] = beta[c] - channels[c].Mean * scale[c];
        }
    }

    private void Layer(int n, NodeProto node, List<ChannelMoments> channels, ChannelTargets targets, double[] scale, double[] shift)
    {
        for (int c = 0; c < channels.Count; c++)
        {
            double own = Math.Sqrt(channels[c].Variance), wanted = targets.Deviation[c];
            bool known = !double.IsNaN(wanted);
            scale[c] = known && own > LeastDeviation && wanted > LeastDeviation ? wanted / own : 1;
            shift[c] = known ? targets.Mean[c] - channels[c].Mean * scale[c] : 0;
        }

        LinearLayer layer = _model.Analysis.Node(n)!.Layer!;
        Constant weight = _model.Graph.ConstantOf(node.Input[layer.WeightInput])!;
        var maps = new AxisMap?[weight.Shape.Count];
        maps[layer.WeightOutputAxis] = AxisMap.FromTaps(scale.Length, 0, [.. scale.Select((s, c) => (Tap[])[new Tap(c, s)])]);
        _editor.Replace(weight, _model.Model.Data(weight.Tensor).Map([.. maps], Fill.Zero));
        double[] bias = Numbers(node.Input[layer.BiasInput]);
        Replace(n, layer.BiasInput, [.. bias.Select((b, c) => b * scale[c] + shift[c])]);
    }

    private double[] Numbers(string name) => ConstantValues.Of(_model.Graph, _model.Graph.ConstantOf(name)!);

    private void Replace(int node, int input, double[] values)
    {
        Constant constant = _model.Graph.ConstantOf(_model.Graph.Nodes[node].Input[input])!;
        _editor.Replace(constant, new ComputedWeight(constant.Type, [.. constant.Shape], values), [new Use(node, input)], _model.Graph.Uses(constant.Name).Count);
    }

    private static TensorData Affine(TensorData data, int axis, double[] scale, double[] shift)
    {
        double[] values = data.ToDoubles();
        int positions = (int)data.Shape[(axis + 1)..].Aggregate(1L, (a, b) => a * b);
        for (int i = 0; i < values.Length; i++)
        {
            int c = i / positions % scale.Length;
            values[i] = values[i] * scale[c] + shift[c];
        }

        return Certification.RelatedTensors.Rounded(data.Type, data.Shape, values);
    }
}
