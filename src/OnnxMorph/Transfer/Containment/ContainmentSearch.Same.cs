using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Containment;

/// <summary>Nodes of the target that do what a node of the source does.</summary>
internal partial class ContainmentSearch
{
    // What a node makes of each channel by itself.
    private static readonly HashSet<string> s_channelwise =
    [
        "Abs", "AveragePool", "BatchNormalization", "Cast", "Celu", "Clip", "Dropout", "Elu", "Erf", "Exp", "Gelu", "GlobalAveragePool", "GlobalMaxPool",
        "HardSigmoid", "HardSwish", "Identity", "LeakyRelu", "MaxPool", "Mish", "Neg", "PRelu", "Relu", "Resize", "Selu", "Sigmoid", "Softplus", "Softsign",
        "Sqrt", "Swish", "Tanh", "ThresholdedRelu", "Upsample", "com.microsoft:Gelu", "com.microsoft:QuickGelu",
    ];

    // What a node makes of each number by itself.
    private static readonly HashSet<string> s_pointwise =
    [
        .. s_channelwise.Except(["AveragePool", "GlobalAveragePool", "GlobalMaxPool", "MaxPool", "Resize", "Upsample"]),
    ];

    // What moves elements, or takes sums and extremes along some axes: each index of the others by itself.
    private static readonly HashSet<string> s_moving =
        ["Expand", "Flatten", "Gather", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum", "Reshape", "Slice", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze"];

    // What they make of zero is zero.
    private static readonly HashSet<string> s_zeroKeeping =
    [
        "Abs", "Celu", "Dropout", "Elu", "Erf", "Gelu", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "PRelu", "Relu", "Selu", "Softsign", "Sqrt", "Swish", "Tanh",
        "com.microsoft:Gelu", "com.microsoft:QuickGelu",
    ];

    // Their lists of integers are sizes and places, which differ with the widths.
    private static readonly HashSet<string> s_sized = ["Expand", "Reshape", "Resize", "Slice", "Split", "Tile", "Upsample", "ConstantOfShape", "Pad"];

    private static readonly HashSet<string> s_commutative = ["Add", "Mul", "Sum", "Max", "Min", "Mean"];

    private IEnumerable<Derivation> Same(int n, string value, Carries role)
    {
        NodeProto node = _target.Graph.Nodes[n];
        if (LayerView.Of(_target, value) is { } layer && LayerView.Of(_source, role.Source) is { } own)
            foreach (Derivation way in SameLayers(layer, own, role, mirrored: false))
                yield return way;
        if (role.Bare || _source.Graph.Producer(role.Source) is not { } m || (role.Offset != default && !s_pointwise.Contains(Name(node))) || (role.Padded && !s_zeroKeeping.Contains(Name(node))))
            yield break;
        if (Name(node) is "Relu" or "LeakyRelu" && Name(_source.Graph.Nodes[m]) == "PRelu" && HasSlope(_source.Graph.Nodes[m], Name(node) == "Relu" ? 0 : Leak(node)))
            yield return new Derivation((node.Input[0], role with { Source = Canonical(_source.Graph.Nodes[m].Input[0]) })) { TakesOthers = true, Like = node.Input[0] };
        if (Slope(n, _source.Graph.Nodes[m]) is { } slope)
            yield return new Derivation((node.Input[0], role with { Source = Canonical(_source.Graph.Nodes[m].Input[0]) })) { Starts = slope, TakesOthers = true, Like = node.Input[0] };
        // What adds a bias to a layer may add something to the source's too that is not the layer's.
        if (Name(_source.Graph.Nodes[m]) != Name(node) || (LayerView.Of(_target, value) is { } made && (made.Node == n || LayerView.Of(_source, role.Source) is not null)))
            yield break;
        NodeProto from = _source.Graph.Nodes[m];
        int output = node.Output.IndexOf(value);
        if (output != from.Output.IndexOf(role.Source) || !SameAttributes(node, from, s_followed))
            yield break;
        if (Name(node) == "Concat")
        {
            if (role.IsWhole && role.Factor == 1)
                foreach (Derivation way in SameConcat(node, from))
                    yield return way;
            yield break;
        }

        if (!role.IsWhole && !s_channelwise.Contains(Name(node)))
            yield break;
        foreach (Derivation way in Operands(n, node, m, from, role, swapped: false))
            yield return way;
        if (s_commutative.Contains(Name(node)) && node.Input.Count == 2)
            foreach (Derivation way in Operands(n, node, m, from, role, swapped: true))
                yield return way;
    }

    // A parametric ReLU that is the source's ReLU.
    private List<(Use, WeightStart)>? Slope(int n, NodeProto from) => Name(_target.Graph.Nodes[n]) != "PRelu" ? null : Name(from) switch
    {
        "Relu" => Set(new Use(n, 1), 0),
        "LeakyRelu" => Set(new Use(n, 1), Leak(from)),
        _ => null,
    };

    private static float Leak(NodeProto node) => node.Attribute.FirstOrDefault(a => a.Name == "alpha")?.F ?? 0.01f;

    // Roles of the activations, and the constants with those of the source.
    private IEnumerable<Derivation> Operands(int n, NodeProto node, int m, NodeProto from, Carries role, bool swapped)
    {
        if (node.Input.Count != from.Input.Count)
            yield break;
        var needs = new List<(string, Carries)>();
        var filled = new List<Filled>();
        double factor = role.Factor;
        for (int i = 0; i < node.Input.Count; i++)
        {
            int j = swapped ? 1 - i : i;
            (string to, string own) = (node.Input[i], from.Input[j]);
            if (to.Length == 0 != (own.Length == 0))
                yield break;
            if (to.Length == 0)
                continue;
            bool sizes = OperatorRules.For(node) is { } rule && rule.ListsSizes(i);
            if (!sizes && IsActivation(to))
            {
                if (_own.Producer(own) is null)
                    yield break;
                needs.Add((to, role with { Source = Canonical(own) }));
            }
            else if (!sizes && _own.Producer(own) is not null)
                yield break;
            else if (!SameConstant(node, to, own))
                yield break;
            else if (SizeFactor(node, i, to, own) is { } by)
                factor *= by;
            else
                filled.Add(new Filled(new Use(n, i), new Use(m, j), null, null, null, ScalesWithResult(node, i) ? role.Factor : 1));
        }

        bool channelwise = s_channelwise.Contains(Name(node)) && needs.Count == 1, moves = s_moving.Contains(Name(node)) && needs.Count == 1;
        foreach (double[] factors in Factors(node, needs.Count, factor))
            yield return new Derivation([.. needs.Zip(factors, (need, share) => (need.Item1, (ValueRole)(need.Item2 with { Factor = share })))])
            {
                Filled = filled,
                TakesOthers = channelwise,
                Moves = moves,
                Like = channelwise || moves ? needs[0].Item1 : null,
            };
    }

    // A number that follows from sizes which differ (1/√d) makes another multiple; null where it is no such number.
    private double? SizeFactor(NodeProto node, int input, string to, string own)
    {
        if (Name(node) is not ("Mul" or "Div") || (Name(node) == "Div" && input == 0) || SizeNumbers.Value(_target, to) is not { } number || SizeNumbers.Value(_source, own) is not { } other
            || number == other || number <= 0 || other <= 0)
            return null;
        bool stays = _target.Graph.ConstantOf(to) is not { Node: null } || SizeNumbers.AreSizes((_target, _wholeTarget, number), (_source, _wholeSource, other));
        return !stays ? null : Name(node) == "Mul" ? other / number : number / other;
    }

    // Scale and shift of a norm, and what is added.
    private static bool ScalesWithResult(NodeProto node, int input) =>
        Name(node) is "Add" or "Sub" or "Sum" || (Name(node) is "BatchNormalization" or "InstanceNormalization" or "GroupNormalization" or "LayerNormalization" && input is 1 or 2);

    // What the activations must be multiples of where the result must be one.
    private static IEnumerable<double[]> Factors(NodeProto node, int count, double factor)
    {
        double[] ones = [.. Enumerable.Repeat(1.0, count)];
        if (factor == 1)
            return [ones];
        switch (Name(node))
        {
            case "Add" or "Sub" or "Sum" or "Mean" or "Max" or "Min" or "Identity" or "Dropout" or "Transpose" or "Reshape" or "Flatten" or "Squeeze" or "Unsqueeze" or "Slice" or "Split"
                or "Expand" or "Tile" or "Neg" or "ReduceMean" or "ReduceSum" or "ReduceMax" or "AveragePool" or "GlobalAveragePool" or "MaxPool" or "GlobalMaxPool" or "Relu" or "LeakyRelu" or "PRelu"
                or "Gather" or "DepthToSpace" or "SpaceToDepth":
                return [[.. ones.Select(_ => factor)]];
            case "Mul" or "MatMul" or "Einsum":
                return Enumerable.Range(0, count).Select(i => ones.Select((one, j) => j == i ? factor : one).ToArray());
            case "Div" when count > 0:
                return [[factor, .. ones.Skip(1)]];
            case "BatchNormalization" or "InstanceNormalization" or "GroupNormalization" or "LayerNormalization":
                return [ones];
            default:
                return [];
        }
    }

    // Integers decide what a node does, but for sizes; single numbers are the same, or sizes or roots of them in both.
    private bool SameConstant(NodeProto node, string to, string own)
    {
        if (_target.Graph.ConstantOf(to) is not { } constant || _source.Graph.ConstantOf(own) is not { } other || s_sized.Contains(Name(node)))
            return true;
        if (constant.Type.IsScalable() != other.Type.IsScalable())
            return false;
        if (constant.Type.IsScalable())
            return true;
        return ConstantValues.Integers(_target.Graph, constant) is { } a && ConstantValues.Integers(_source.Graph, other) is { } b ? a.SequenceEqual(b)
            : constant.Shape.SequenceEqual(other.Shape) && ConstantValues.Equal(_target.Graph, constant, _source.Graph, other);
    }

    // What operators do where an attribute is not written, which exporters do or do not.
    private static readonly Dictionary<(string Operator, string Attribute), double> s_defaults = new()
    {
        [("AveragePool", "ceil_mode")] = 0,
        [("AveragePool", "count_include_pad")] = 0,
        [("BatchNormalization", "epsilon")] = 1e-5f,
        [("BatchNormalization", "training_mode")] = 0,
        [("Elu", "alpha")] = 1,
        [("Flatten", "axis")] = 1,
        [("Gemm", "alpha")] = 1,
        [("Gemm", "beta")] = 1,
        [("Gemm", "transA")] = 0,
        [("HardSigmoid", "alpha")] = 0.2f,
        [("HardSigmoid", "beta")] = 0.5f,
        [("InstanceNormalization", "epsilon")] = 1e-5f,
        [("LayerNormalization", "axis")] = -1,
        [("LayerNormalization", "epsilon")] = 1e-5f,
        [("LayerNormalization", "stash_type")] = 1,
        [("LeakyRelu", "alpha")] = 0.01f,
        [("MaxPool", "ceil_mode")] = 0,
        [("MaxPool", "storage_order")] = 0,
        [("Reshape", "allowzero")] = 0,
    };

    // They follow the channels: numbers of heads and units, ε of norms over channels (<see cref="ContainedChannels"/>).
    private static readonly HashSet<string> s_followed = ["hidden_size", "kv_num_heads", "num_heads", "q_num_heads", "qkv_hidden_sizes"];

    // What only training reads.
    private static readonly HashSet<string> s_training = ["momentum"];

    private static bool SameAttributes(NodeProto node, NodeProto from, HashSet<string> except)
    {
        bool scales = OperatorRules.For(node) is LayerNormalizationRule or SkipNormalizationRule or EmbeddingNormalizationRule;
        return node.Attribute.Concat(from.Attribute).Select(a => a.Name).Distinct().Where(name => !except.Contains(name) && !s_training.Contains(name) && !(scales && name == "epsilon")).All(name =>
        {
            AttributeProto? a = node.Attribute.FirstOrDefault(x => x.Name == name), b = from.Attribute.FirstOrDefault(x => x.Name == name);
            return a is not null && b is not null ? a.Equals(b)
                : s_defaults.TryGetValue((node.OpType, name), out double usual) && (a ?? b)! is var written && (written.Type == AttributeProto.Types.AttributeType.Float ? written.F : written.I) == usual;
        });
    }

    // The source's inputs in their order, with others between them.
    private IEnumerable<Derivation> SameConcat(NodeProto node, NodeProto from)
    {
        if (_target.Analysis.Shapes.Dims(node.Output[0]) is not { } dims)
            yield break;
        int axis = Axis(node, dims.Length);
        var needs = new List<(string, ValueRole)>();
        var filled = new List<Filled>();
        var pieces = new List<AxisPiece>();
        int next = 0, start = 0;
        for (int i = 0; i < node.Input.Count; i++)
        {
            string to = node.Input[i];
            int left = node.Input.Count - i - 1;
            int size = (int)(_target.Analysis.Shapes.Dims(to)?[axis] ?? 0);
            if (next < from.Input.Count)
            {
                string own = from.Input[next];
                int count = (int)(_source.Analysis.Shapes.Dims(own)?[axis] ?? 0);
                bool both = IsActivation(to) && _own.Producer(own) is not null, neither = !IsActivation(to) && _own.Producer(own) is null;
                // Constants are taken as they come; activations where they fit, or where no others are left.
                if (neither || (both && Derive(to, new Carries(Canonical(own))) is not null))
                {
                    if (both)
                        needs.Add((to, new Carries(Canonical(own))));
                    else
                        filled.Add(new Filled(new Use(_target.Graph.Producer(node.Output[0])!.Value, i), new Use(_source.Graph.Producer(from.Output[0])!.Value, next), null, null, null));
                    pieces.Add(new AxisPiece(size, start, count));
                    (next, start) = (next + 1, start + count);
                    continue;
                }
            }

            if (left < from.Input.Count - next)
                yield break;
            pieces.Add(new AxisPiece(size, 0, 0));
        }

        if (next == from.Input.Count)
            yield return new Derivation([.. needs]) { Filled = filled, Axis = axis, Pieces = pieces };
    }

    private static int Axis(NodeProto node, int rank)
    {
        long axis = node.Attribute.FirstOrDefault(a => a.Name == "axis")?.I ?? 0;
        return (int)(axis < 0 ? axis + rank : axis);
    }

    private static readonly HashSet<string> s_shaping = ["alpha", "auto_pad", "beta", "dilations", "group", "kernel_shape", "output_padding", "pads", "strides", "transA", "transB"];

    // What it reads may have gone through an activation, with its negative, that the layer undoes.
    private IEnumerable<Derivation> SameLayers(LayerView layer, LayerView own, Carries role, bool mirrored)
    {
        if (SameLayer(layer, own, role, mirrored) is not { } same)
            yield break;
        yield return same;
        if (!_extended)
            yield break;
        if (same.Needs[0].Role is Carries { IsWhole: true } read && MirroredActivation(layer.Input) is { } mirror
            && (layer.Layer.Groups == 1 || (own.IsDepthwise && layer.Axes.In(layer.Layer.WeightInput)[1].Size % 2 == 0)))
            yield return same with
            {
                Needs = [(mirror.Input, new Mirrors(read.Source, Offset: read.Offset, Padded: read.Padded))],
                Filled = [same.Filled[0] with { Mirror = mirror.Factor }, .. same.Filled.Skip(1)],
                TakesOthers = false,
            };
        // Behind a gate that stands halfway.
        if (same.Needs[0].Role is Carries { Factor: 1 } whole && !mirrored)
            yield return same with
            {
                Needs = [(layer.Input, whole with { Factor = 0.5 })],
                Filled = [same.Filled[0] with { Factor = 2 * same.Filled[0].Factor }, .. same.Filled.Skip(1)],
            };
    }

    private Derivation? SameLayer(LayerView layer, LayerView own, Carries role, bool mirrored)
    {
        (NodeProto node, NodeProto from) = (layer.Axes.Node, own.Axes.Node);
        bool matrices = layer.Layer.SpatialAxes == 0 && own.Layer.SpatialAxes == 0;
        if ((!matrices && node.OpType != from.OpType) || layer.Layer.SpatialAxes != own.Layer.SpatialAxes || layer.Layer.Transposed != own.Layer.Transposed
            || (!role.Bare && own.Bias is not null && layer.Bias is null) || (layer.IsActivated && (mirrored || role.Bare || role.Factor != 1 || role.Offset != default))
            || !(layer.Layer.Groups == own.Layer.Groups || (layer.IsDepthwise && own.IsDepthwise) || (own.Layer.Groups > 1 && layer.Layer.Groups > own.Layer.Groups)))
            return null;
        if (own.Layer.Groups > 1 && layer.GroupInputs < own.GroupInputs)
            return null;
        if (layer.TransposesInput != own.TransposesInput || layer.ProductFactor == 0 || layer.BiasFactor == 0 || role.Padded || (node.OpType == from.OpType && !SameAttributes(node, from, s_shaping)))
            return null;
        if ((matrices ? ([], default) : Taps(layer, own, role.Offset)) is not ({ } taps, var offset))
            return null;
        AxisPiece? made = role.IsWhole || role.Axis != layer.Layer.OutputAxis || _target.Analysis.Shapes.Dims(node.Output[0]) is not { } dims ? null : new AxisPiece((int)dims[role.Axis], role.Start, role.Size);
        var filled = new List<Filled>
        {
            new(new Use(layer.Node, layer.Layer.WeightInput), new Use(own.Node, own.Layer.WeightInput), (layer.Node, own.Node), taps, layer.Input, role.Factor * own.ProductFactor / layer.ProductFactor, made),
        };
        var starts = new List<(Use, WeightStart)>();
        if (layer.Bias is { } bias)
        {
            if (!role.Bare && own.Bias is { } ownBias)
                filled.Add(new Filled(bias, ownBias, null, null, null, role.Factor * own.BiasFactor / layer.BiasFactor, made));
            else if (Set(bias, 0) is { } zero)
                starts.AddRange(zero);
            else
                return null;
        }

        // A group reads its own channels alone: some of the results are made of some of what is read.
        var read = new Carries(Canonical(own.Input), Offset: offset, Padded: !matrices && IsLarger(layer.Input, own.Input));
        if (!role.IsWhole && own.Layer.Groups > 1)
        {
            if (!own.IsDepthwise || role.Axis != own.Layer.OutputAxis || _source.Analysis.Shapes.Dims(own.Input)?[role.Axis] != _source.Analysis.Shapes.Dims(role.Source)![role.Axis])
                return null;
            read = role with { Source = read.Source, Bare = false, Factor = 1, Offset = read.Offset, Padded = read.Padded };
        }

        return new Derivation((layer.Input, read)) { Filled = filled, Starts = starts, TakesOthers = layer.Layer.Groups == 1 };
    }

    // Whether a value of the target is larger along a spatial axis.
    private bool IsLarger(string value, string own) => _target.Analysis.Shapes.Dims(value) is { } dims && _source.Analysis.Shapes.Dims(own) is { } ownDims
        && dims.Skip(2).Zip(ownDims.Skip(2)).Any(size => size.First > size.Second);

    // For each tap of the target, the tap of the source that sees the same position, and where what is read begins in a larger value; null where
    // some of the source's taps have none.
    private (int[][] Taps, Offsets Read)? Taps(LayerView layer, LayerView own, Offsets offset)
    {
        long[] kernel = layer.Kernel, ownKernel = own.Kernel;
        int spatial = kernel.Length;
        long[] ones = [.. kernel.Select(_ => 1L)], zeros = [.. kernel.Select(_ => 0L)];
        long[] dilations = layer.Axes.IntList("dilations") ?? ones, ownDilations = own.Axes.IntList("dilations") ?? ones;
        long[] strides = layer.Axes.IntList("strides") ?? ones;
        if (!strides.SequenceEqual(own.Axes.IntList("strides") ?? ones)
            || ConvolutionPads.Of(layer.Axes, layer.Layer, kernel, out _) is not { } pads || ConvolutionPads.Of(own.Axes, own.Layer, ownKernel, out _) is not { } ownPads)
            return null;
        bool larger = IsLarger(layer.Input, own.Input);
        if (pads.Automatic is not null || ownPads.Automatic is not null)
            return offset == default && !larger && kernel.SequenceEqual(ownKernel) && dilations.SequenceEqual(ownDilations) && pads.Automatic == ownPads.Automatic
                && (layer.Axes.IntList("output_padding") ?? zeros).SequenceEqual(own.Axes.IntList("output_padding") ?? zeros)
                ? ([.. kernel.Select(size => Enumerable.Range(0, (int)size).ToArray())], default) : null;
        if (larger && layer.Layer.Transposed)
            return null;
        var taps = new int[spatial][];
        var begins = new long[spatial];
        for (int axis = 0; axis < spatial; axis++)
        {
            // What is padded already is padded no more.
            long shift = pads.Begin[axis] - ownPads.Begin[axis] - offset[axis] * strides[axis];
            begins[axis] = larger ? Math.Max(0, -shift) : 0;
            taps[axis] = [.. Enumerable.Repeat(-1, (int)kernel[axis])];
            for (int tap = 0; tap < ownKernel[axis]; tap++)
            {
                (long place, long rest) = Math.DivRem(tap * ownDilations[axis] + shift + begins[axis], dilations[axis]);
                if (rest != 0 || place < 0 || place >= kernel[axis])
                    return null;
                taps[axis][place] = tap;
            }
        }

        return Offsets.Of(begins) is { } read ? (taps, read) : null;
    }
}
