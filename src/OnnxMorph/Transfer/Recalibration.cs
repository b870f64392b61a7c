using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Axes;
using OnnxMorph.Calibration;
using OnnxMorph.Certification;
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
/// Sets a network's statistics again after its function changed (METHODS.md §3.5). Results of batch norms get the means and deviations, channel by
/// channel, that they have in the source on the user's samples, through the norms' statistics: mean and variance of what they see, where the source's own
/// statistics are those of the samples. Those without a source get mean and variance of what they see. Layers into which an exporter has folded a norm are
/// scaled and shifted to the same end; and where a block stands for several of the source's, its branch is scaled so that their sum is what it was
/// behind the last of these. What is set first is what the next sees, in one pass over the network.
/// </summary>
internal sealed class Recalibration
{
    // A channel that hardly varies, in one of the two models, cannot be scaled to the other.
    private const double LeastDeviation = 1e-6;

    // A branch that adds next to nothing is not blown up to make a sum of it.
    private const double LargestFactor = 8;

    private readonly AnalysedModel _model;
    private readonly GraphEditor _editor;
    private readonly List<Dictionary<string, TensorData>> _live = [];
    private readonly HashSet<string> _cut;
    private readonly HashSet<int> _shortcuts;

    // What the results of nodes are to be multiplied with, and what is added then.
    private readonly Dictionary<int, (double[] Scale, double[] Shift)> _changes = [];

    private Recalibration(AnalysedModel model)
    {
        _model = model;
        _shortcuts = [.. model.Structure.Sections.SelectMany(s => s.Layers).Where(l => l.Role.Split('.').Contains("shortcut")).Select(l => l.Node)];
        _editor = new GraphEditor(model.Graph);
        _cut = [.. model.Graph.Inputs.Select(i => i.Name)];
    }

    /// <summary>A node whose result is set.</summary>
    /// <param name="Node">Its number.</param>
    /// <param name="Reads">The values that are measured: what a norm reads, what a layer makes, the two sides of a sum.</param>
    /// <param name="Targets">What the result is to be like; null for norms of which that is not known.</param>
    private sealed record Point(int Node, string[] Reads, ChannelTargets? Targets);

    /// <summary>Sets the statistics of a model, in place.</summary>
    /// <param name="model">The model, as it was read from a file.</param>
    /// <param name="results">For results of layers, and sums that end residual blocks, what they are to be like.</param>
    /// <param name="samples">The user's samples.</param>
    /// <param name="notes">Told what was left out of the samples.</param>
    /// <returns>How many norms, layers and sums were set.</returns>
    public static int Run(AnalysedModel model, IReadOnlyDictionary<string, ChannelTargets> results, string samples, List<string> notes) =>
        new Recalibration(model).Run(results, samples, notes);

    private int Run(IReadOnlyDictionary<string, ChannelTargets> results, string samples, List<string> notes)
    {
        List<Point> points = [.. Points(results)];
        if (points.Count == 0)
            return 0;
        using var folder = new TemporaryFolder();
        Read(samples, folder.Path, notes);
        // What each point is computed from is known beforehand, and so when a value is needed last.
        var segments = new List<Segment?[]>();
        foreach (Point point in points)
        {
            segments.Add([.. point.Reads.Select(read => _cut.Contains(read) ? null : new Segment(read, _model.Graph, _cut))]);
            _cut.Add(Result(point));
        }

        var last = new Dictionary<string, int>();
        for (int i = 0; i < points.Count; i++)
            foreach (string name in points[i].Reads.Zip(segments[i]).SelectMany(read => read.Second?.Inputs ?? [read.First]))
                last[name] = i;
        for (int i = 0; i < points.Count; i++)
        {
            TensorData[][] values = [.. points[i].Reads.Zip(segments[i]).Select(read => Values(read.First, read.Second, folder.Path))];
            TensorData[] made = Set(points[i], values);
            for (int draw = 0; draw < made.Length && last.ContainsKey(Result(points[i])); draw++)
                _live[draw][Result(points[i])] = made[draw];
            foreach (string name in last.Where(l => l.Value == i).Select(l => l.Key))
                foreach (Dictionary<string, TensorData> live in _live)
                    live.Remove(name);
        }

        foreach ((int node, (double[] scale, double[] shift)) in _changes)
            Write(node, scale, shift);
        _editor.Commit();
        return points.Count;
    }

    private string Result(Point point) => _model.Graph.Nodes[point.Node].Output[0];

    private IEnumerable<Point> Points(IReadOnlyDictionary<string, ChannelTargets> results)
    {
        for (int n = 0; n < _model.Graph.Nodes.Count; n++)
        {
            NodeProto node = _model.Graph.Nodes[n];
            if (node.Output.Count == 0 || _model.Analysis.Shapes.Dims(node.Output[0]) is null)
                continue;
            ChannelTargets? targets = results.GetValueOrDefault(node.Output[0]);
            if (IsNorm(n))
                yield return new Point(n, [node.Input[0]], targets);
            else if (targets is not null && (IsAdjustable(n) || Branch(node) is not null))
                yield return new Point(n, IsAdjustable(n) ? [node.Output[0]] : [.. node.Input], targets);
        }
    }

    private bool IsNorm(int n)
    {
        NodeProto node = _model.Graph.Nodes[n];
        return OperatorRules.For(node) is BatchNormalizationRule && Enumerable.Range(1, 4).All(i => _model.Graph.ConstantOf(node.Input[i]) is not null);
    }

    // Which side of a sum a norm or layer makes for it alone: the branch, whose last factor and number can be set.
    private int? Branch(NodeProto sum)
    {
        if (sum.OpType != "Add" || sum.Input[0] == sum.Input[1])
            return null;
        int[] sides = [.. Enumerable.Range(0, 2).Where(i => _model.Graph.Producer(sum.Input[i]) is { } n && (IsNorm(n) || IsAdjustable(n))
            && _model.Graph.Uses(sum.Input[i]).Count == 1 && !_model.Graph.IsReadElsewhere(sum.Input[i]))];
        return sides.Length == 0 ? null : sides.OrderBy(i => _shortcuts.Contains(Weighted(_model.Graph.Producer(sum.Input[i])!.Value))).First();
    }

    // A layer, or the one in front of a norm.
    private int Weighted(int n) => IsNorm(n) && _model.Graph.Producer(_model.Graph.Nodes[n].Input[0]) is { } layer ? layer : n;

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

    // Sets what makes a point's result, and gives the result.
    private TensorData[] Set(Point point, TensorData[][] values)
    {
        NodeProto node = _model.Graph.Nodes[point.Node];
        if (values.Length == 2)
            return Sum(node, values, point.Targets!);
        bool norm = IsNorm(point.Node);
        int axis = norm ? 1 : _model.Analysis.Node(point.Node)!.Layer!.OutputAxis;
        var channels = new List<ChannelMoments>();
        foreach (TensorData data in values[0])
            ChannelMoments.Add(channels, data, axis);
        (double[] scale, double[] shift) = norm ? Norm(point.Node, node, channels, point.Targets) : Layer(channels, point.Targets!);
        if (!norm)
            _changes[point.Node] = (scale, shift);
        return [.. values[0].Select(data => Affine(data, axis, scale, shift))];
    }

    private (double[] Scale, double[] Shift) Norm(int n, NodeProto node, List<ChannelMoments> channels, ChannelTargets? targets)
    {
        double epsilon = node.Attribute.FirstOrDefault(a => a.Name == "epsilon")?.F ?? 1e-5f;
        double[] gamma = Numbers(node.Input[1]), beta = Numbers(node.Input[2]), carried = Numbers(node.Input[4]), factor = [.. gamma.Select(_ => 1.0)];
        double[] mean = [.. channels.Select(c => c.Mean)], variance = [.. channels.Select(c => c.Variance)];
        for (int c = 0; c < channels.Count; c++)
        {
            if (targets is null || double.IsNaN(targets.Deviation[c]) || gamma[c] == 0)
                continue;
            double own = Math.Sqrt(variance[c]), wanted = targets.Deviation[c];
            // A channel that hardly varies stays what it is but for its mean; where ε alone divides by too much, γ makes up for it.
            bool varies = own > LeastDeviation && wanted > LeastDeviation;
            variance[c] = varies ? Math.Max(Math.Pow(gamma[c] * own / wanted, 2) - epsilon, 0) : carried[c];
            factor[c] = varies && variance[c] == 0 ? wanted * Math.Sqrt(epsilon) / Math.Abs(gamma[c] * own) : 1;
            mean[c] -= (targets.Mean[c] - beta[c]) * Math.Sqrt(variance[c] + epsilon) / (gamma[c] * factor[c]);
        }

        Replace(n, 3, mean);
        Replace(n, 4, variance);
        if (factor.Any(f => f != 1))
            _changes[n] = (factor, [.. beta.Select((b, c) => b * (1 - factor[c]))]);
        double[] scale = [.. gamma.Select((g, c) => factor[c] * g / Math.Sqrt(variance[c] + epsilon))];
        return (scale, [.. beta.Select((b, c) => b - mean[c] * scale[c])]);
    }

    private static (double[] Scale, double[] Shift) Layer(List<ChannelMoments> channels, ChannelTargets targets)
    {
        (double[] scale, double[] shift) = (new double[channels.Count], new double[channels.Count]);
        for (int c = 0; c < channels.Count; c++)
        {
            double own = Math.Sqrt(channels[c].Variance), wanted = targets.Deviation[c];
            bool known = !double.IsNaN(wanted);
            scale[c] = known && own > LeastDeviation && wanted > LeastDeviation ? wanted / own : 1;
            shift[c] = known ? targets.Mean[c] - channels[c].Mean * scale[c] : 0;
        }

        return (scale, shift);
    }

    // skip + a·branch + b with the mean and deviation that the source's sum has behind the last of the blocks that this one stands for.
    private TensorData[] Sum(NodeProto node, TensorData[][] values, ChannelTargets targets)
    {
        int side = Branch(node)!.Value, channels = targets.Mean.Length;
        TensorData[] branch = values[side], skip = values[1 - side];
        int positions = (int)branch[0].Shape[2..].Aggregate(1L, (a, b) => a * b);
        var moments = new (double Count, double B, double S, double BB, double SS, double BS)[channels];
        foreach ((TensorData b, TensorData s) in branch.Zip(skip))
        {
            (double[] made, double[] kept) = (b.ToDoubles(), s.ToDoubles());
            for (int i = 0; i < made.Length; i++)
            {
                ref var m = ref moments[i / positions % channels];
                m = (m.Count + 1, m.B + made[i], m.S + kept[i], m.BB + made[i] * made[i], m.SS + kept[i] * kept[i], m.BS + made[i] * kept[i]);
            }
        }

        (double[] scale, double[] shift) = (new double[channels], new double[channels]);
        for (int c = 0; c < channels; c++)
        {
            var m = moments[c];
            (double b, double s) = (m.B / m.Count, m.S / m.Count);
            (double varianceB, double varianceS, double covariance) = (m.BB / m.Count - b * b, m.SS / m.Count - s * s, m.BS / m.Count - b * s);
            double wanted = targets.Deviation[c] * targets.Deviation[c], root = covariance * covariance - varianceB * (varianceS - wanted);
            scale[c] = varianceB > LeastDeviation * LeastDeviation && root >= 0 ? Math.Clamp((Math.Sqrt(root) - covariance) / varianceB, 1 / LargestFactor, LargestFactor) : 1;
            // Where the deviation cannot be had the mean keeps its proportion to it, or an activation behind the sum would pass all or nothing.
            double reached = Math.Sqrt(Math.Max(varianceS + 2 * scale[c] * covariance + scale[c] * scale[c] * varianceB, 0));
            double share = wanted > LeastDeviation * LeastDeviation ? reached / targets.Deviation[c] : 1;
            shift[c] = double.IsNaN(wanted) ? 0 : targets.Mean[c] * share - s - scale[c] * b;
        }

        int end = _model.Graph.Producer(node.Input[side])!.Value;
        if (_changes.TryGetValue(end, out var before))
            _changes[end] = ([.. before.Scale.Zip(scale, (x, a) => x * a)], [.. before.Shift.Select((x, c) => x * scale[c] + shift[c])]);
        else
            _changes[end] = (scale, shift);
        return [.. branch.Zip(skip, (b, s) => RelatedTensors.Rounded(
            b.Type, b.Shape, [.. Affine(b, 1, scale, shift).ToDoubles().Zip(s.ToDoubles(), (x, y) => x + y)]))];
    }

    private void Write(int n, double[] scale, double[] shift)
    {
        NodeProto node = _model.Graph.Nodes[n];
        if (IsNorm(n))
        {
            Replace(n, 1, [.. Numbers(node.Input[1]).Zip(scale, (x, a) => x * a)]);
            Replace(n, 2, [.. Numbers(node.Input[2]).Select((x, c) => x * scale[c] + shift[c])]);
            return;
        }

        LinearLayer layer = _model.Analysis.Node(n)!.Layer!;
        Constant weight = _model.Graph.ConstantOf(node.Input[layer.WeightInput])!;
        var maps = new AxisMap?[weight.Shape.Count];
        maps[layer.WeightOutputAxis] = AxisMap.FromTaps(scale.Length, 0, [.. scale.Select((s, c) => (Tap[])[new Tap(c, s)])]);
        _editor.Replace(weight, _model.Model.Data(weight.Tensor).Map([.. maps], Fill.Zero));
        Replace(n, layer.BiasInput, [.. Numbers(node.Input[layer.BiasInput]).Select((x, c) => x * scale[c] + shift[c])]);
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

        return RelatedTensors.Rounded(data.Type, data.Shape, values);
    }
}
