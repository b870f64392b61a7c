using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer.Containment;

/// <summary>Nodes of the target that the source does not have, with weights that take their effect away.</summary>
internal partial class ContainmentSearch
{
    private IEnumerable<Derivation> WithoutEffect(int n, string value, Carries role)
    {
        NodeProto node = _target.Graph.Nodes[n];
        NodeAxes? axes = _target.Analysis.Node(n);
        if (LayerView.Of(_target, value) is { } layer)
        {
            foreach (Derivation way in Unit(layer, role))
                yield return way;
            if (layer.Node == n)
                yield break;
        }

        switch (Name(node))
        {
            case "Identity" or "Dropout" when value == node.Output[0]:
                yield return Passing(node.Input[0], role);
                break;
            case "BatchNormalization" when BatchNorm(n) is { } starts:
                yield return Passing(node.Input[0], role) with { Starts = starts };
                // The norm's bias is the layer's.
                if (!role.Padded && OwnBias(role.Source, role.Bare) is { } own && IsVector(node.Input[2]) && LayerView.Of(_source, role.Source) is { } from)
                    yield return Passing(node.Input[0], role with { Bare = true }) with { Starts = [.. starts.Where(s => s.Item1.Input != 2)], Filled = [Plain(new Use(n, 2), own, role.Factor * from.BiasFactor)] };
                break;
            case "PRelu" when Set(new Use(n, 1), 1) is { } slope:
                yield return Passing(node.Input[0], role) with { Starts = slope };
                break;
            case "Relu" or "Clip" when axes is not null && !role.Bare && role.Factor == 1 && IsFixed(axes, role.Source):
                yield return Passing(node.Input[0], role);
                break;
            case "Add" or "Sum" or "Mul" or "Sub" or "Div":
                double neutral = Name(node) is "Mul" or "Div" ? 1 : 0;
                for (int i = 0; i < node.Input.Count; i++)
                {
                    if (!IsActivation(node.Input[i]) || (i > 0 && Name(node) is "Sub" or "Div") || !SameSizes(node.Input[i], value))
                        continue;
                    if (Name(node) == "Mul" && _target.Graph.Producer(node.Input[i]) is { } mean && Name(_target.Graph.Nodes[mean]) == "ReduceMean" && Number(node.Input[1 - i]) is > 1)
                        yield return Passing(node.Input[i], role) with { Share = new Use(n, 1 - i) };
                    var needs = new List<(string, ValueRole)> { (node.Input[i], role) };
                    var starts = new List<(Use, WeightStart)>();
                    bool possible = true;
                    for (int j = 0; j < node.Input.Count && possible; j++)
                    {
                        if (j == i)
                            continue;
                        if (IsActivation(node.Input[j]))
                            needs.Add((node.Input[j], new Holds(neutral)));
                        else if (Set(new Use(n, j), neutral) is { } set)
                            starts.AddRange(set);
                        else
                            possible = false;
                    }

                    if (possible)
                        yield return new Derivation([.. needs]) { Starts = starts, TakesOthers = true, Like = node.Input[i] };
                    // A gate that never quite opens (a sigmoid) stands halfway, before twice the value.
                    if (_extended && Name(node) == "Mul" && node.Input.Count == 2 && IsActivation(node.Input[1 - i]))
                        yield return new Derivation((node.Input[i], role with { Factor = 2 * role.Factor }), (node.Input[1 - i], new Holds(0.5))) { TakesOthers = true, Like = node.Input[i] };
                }

                break;
            case "Concat":
                foreach (Derivation way in Concatenated(node, value, role))
                    yield return way;
                break;
            case "Split":
                if (Cut(node, value, role) is { } cut)
                    yield return cut;
                break;
        }
    }

    private static Derivation Passing(string value, ValueRole role) => new((value, role)) { TakesOthers = true, Like = value };

    private bool SameSizes(string a, string b) =>
        _target.Analysis.Shapes.Dims(a) is { } left && _target.Analysis.Shapes.Dims(b) is { } right && left.SequenceEqual(right);

    // With variance 1 − ε a norm divides by exactly 1.
    private List<(Use, WeightStart)>? BatchNorm(int n)
    {
        double epsilon = _target.Analysis.Node(n)?.Attribute("epsilon")?.F ?? 1e-5f;
        var starts = new List<(Use, WeightStart)>();
        foreach ((int input, double number) in new[] { (1, 1.0), (2, 0), (3, 0), (4, 1 - epsilon) })
        {
            if (Set(new Use(n, input), number) is not { } set)
                return null;
            starts.AddRange(set);
        }

        return starts;
    }

    // A layer that gives on what it reads, by itself or together with an activation that a mirrored layer in front of it feeds.
    private IEnumerable<Derivation> Unit(LayerView layer, Carries role)
    {
        Use? own = !role.Padded && layer.Bias is { } bias && OwnBias(role.Source, role.Bare) is { } other && (IsVector(_target.Graph.Nodes[bias.Node].Input[bias.Input]) || IsSameNumber(bias, other, BiasFactor())) ? other : null;
        List<(Use, WeightStart)>? zero = ZeroBias(layer);
        foreach ((Offsets offset, (Use Use, UnitStart Start) weight) in UnitWeights(layer, role, 0, 1))
        {
            Carries read = role with { Offset = offset, Padded = role.Padded && IsLarger(layer.Input, role.Source) };
            // A part of the channels is made of all of them, or of what has no others.
            if (!role.IsWhole && layer.Layer.Groups == 1)
                foreach (Derivation way in Reading(read with { Axis = -1, Start = 0, Size = 0 }, (weight.Use, weight.Start with { ReadsAll = true })))
                    yield return way;
            foreach (Derivation way in Reading(read, weight))
                yield return way;
        }

        IEnumerable<Derivation> Reading(Carries read, (Use, WeightStart) weight)
        {
            var way = new Derivation { Starts = [weight], TakesOthers = layer.Layer.Groups == 1 };
            if (zero is not null)
                yield return way with { Needs = [(layer.Input, read)], Starts = [weight, .. zero] };
            if (own is { } given)
                yield return way with { Needs = [(layer.Input, read with { Bare = true })], Filled = [Plain(layer.Bias!.Value, given, BiasFactor())] };
        }

        if (!role.IsWhole || role.Factor != 1 || MirroredActivation(layer.Input) is not { } mirror)
            yield break;
        foreach ((Offsets offset, (Use, UnitStart) weight) in UnitWeights(layer, role, -1, mirror.Factor))
        {
            var both = new Mirrors(role.Source, role.Bare, offset, role.Padded && IsLarger(mirror.Input, role.Source));
            if (zero is not null)
                yield return new Derivation((mirror.Input, both)) { Starts = [weight, .. zero] };
            if (own is { } given)
                yield return new Derivation((mirror.Input, both with { Bare = true })) { Starts = [weight], Filled = [Plain(layer.Bias!.Value, given, BiasFactor())] };
        }

        double BiasFactor() => role.Factor * LayerView.Of(_source, role.Source)!.BiasFactor / layer.BiasFactor;
    }

    // What takes a layer's bias away; null where nothing does.
    private List<(Use, WeightStart)>? ZeroBias(LayerView layer) => layer.Bias is { } bias ? Set(bias, 0) : [];

    // Single numbers stay as they are.
    private bool IsSameNumber(Use use, Use own, double factor) => Number(_target.Graph.Nodes[use.Node].Input[use.Input]) is { } number
        && _source.Graph.ConstantOf(_source.Graph.Nodes[own.Node].Input[own.Input]) is { Count: 1 } constant && ConstantValues.Of(_source.Graph, constant)[0] * factor == number;

    private static Filled Plain(Use to, Use from, double factor) => new(to, from, null, null, null, factor);

    // The bias of the layer that makes a value of the source.
    private Use? OwnBias(string source, bool bare) => !bare && LayerView.Of(_source, source) is { IsActivated: false } layer ? layer.Bias : null;

    private bool IsVector(string value) => _target.Graph.ConstantOf(value) is { Count: > 1 };

    // The kernels that give on what is read, and where on the spatial axes the value then begins in it: first where it begins in the result, then
    // from the middle on.
    private IEnumerable<(Offsets Offset, (Use Use, UnitStart Start) Weight)> UnitWeights(LayerView layer, Carries role, int mirror, double factor)
    {
        NodeProto node = layer.Axes.Node;
        int channels = layer.Layer.OutputAxis;
        if (layer.Layer.Transposed || layer.TransposesInput || layer.IsActivated || layer.ProductFactor == 0 || _target.Graph.ConstantOf(node.Input[layer.Layer.WeightInput]) is null
            || _source.Analysis.Shapes.Dims(role.Source) is not { } dims || (!role.IsWhole && role.Axis != channels))
            yield break;
        (int first, int count) = role.IsWhole ? (0, (int)dims[channels]) : (role.Start, role.Size);
        foreach ((int[] taps, Offsets before) in UnitTaps(layer, role.Offset))
            yield return (before, (new Use(layer.Node, layer.Layer.WeightInput), new UnitStart(role.Source, channels, first, count, layer.Input, layer.Node, taps, mirror, factor, 1 / layer.ProductFactor)));
    }

    private IEnumerable<(int[] Taps, Offsets Before)> UnitTaps(LayerView layer, Offsets offset)
    {
        long[] kernel = layer.Kernel, ones = [.. kernel.Select(_ => 1L)];
        if (kernel.Length == 0)
            return [([], offset)];
        if (!(layer.Axes.IntList("strides") ?? ones).All(s => s == 1) || ConvolutionPads.Of(layer.Axes, layer.Layer, kernel, out _) is not { Automatic: null } pads
            || _target.Analysis.Shapes.Dims(layer.Input) is not { } read || _target.Analysis.Shapes.Dims(layer.Axes.Node.Output[0]) is not { } made)
            return [];
        long[] dilations = layer.Axes.IntList("dilations") ?? ones;
        // Only what reads more than it makes can begin elsewhere, or what makes more than it reads.
        var all = Enumerable.Range(0, kernel.Length).Select(axis => Enumerable.Range(0, (int)kernel[axis])
            .Select(tap => (Tap: tap, Shift: tap * dilations[axis] - pads.Begin[axis])).Where(t => t.Shift == 0 || (t.Shift > 0 && t.Shift <= read[axis + 2] - made[axis + 2])
                || (t.Shift < 0 && t.Shift >= read[axis + 2] - made[axis + 2] && t.Shift + offset[axis] >= 0))
            .OrderBy(t => t.Shift != 0).ThenBy(t => Math.Abs(2 * t.Shift - (read[axis + 2] - made[axis + 2]))).ToList());
        IEnumerable<(int Tap, long Shift)[]> together = [[]];
        foreach (var axis in all)
            together = together.SelectMany(before => axis, (before, tap) => ((int, long)[])[.. before, tap]);
        return together.Select(t => (t.Select(x => x.Tap).ToArray(), Offsets.Of([.. t.Select((x, axis) => x.Shift + offset[axis])]))).Where(t => t.Item2 is not null)
            .Select(t => (t.Item1, t.Item2!.Value));
    }

    // φ(x) in front of a layer, or x·h(x).
    private (string Input, double Factor)? MirroredActivation(string value)
    {
        if (_target.Graph.Producer(value) is not { } n)
            return null;
        NodeProto node = _target.Graph.Nodes[n];
        if (node.OpType == "Mul" && ModelGraph.IsStandard(node) && node.Input.Count == 2)
        {
            foreach ((string x, string gate) in new[] { (node.Input[0], node.Input[1]), (node.Input[1], node.Input[0]) })
                if (_target.Graph.Producer(gate) is { } g && _target.Graph.Nodes[g].Input.FirstOrDefault() == x && new NetworkActivation(_target.Graph.Nodes[g], Gates: true).MirrorFactor is { } both)
                    return (x, both);
            return null;
        }

        return node.Input.Count > 0 && new NetworkActivation(node).MirrorFactor is { } factor ? (node.Input[0], factor) : null;
    }

    private IEnumerable<Derivation> Mirrored(int n, string value, Mirrors role)
    {
        NodeProto node = _target.Graph.Nodes[n];
        var plain = new Carries(role.Source, Bare: role.Bare, Offset: role.Offset, Padded: role.Padded);
        if (LayerView.Of(_target, value) is { } layer)
        {
            if (LayerView.Of(_source, role.Source) is { } own)
                foreach (Derivation way in SameLayers(layer, own, plain, mirrored: true))
                    yield return way;
            if (ZeroBias(layer) is { } zero)
            {
                foreach ((Offsets offset, (Use, UnitStart) weight) in UnitWeights(layer, plain, 1, 1))
                    yield return new Derivation((layer.Input, plain with { Offset = offset, Padded = role.Padded && IsLarger(layer.Input, role.Source) })) { Starts = [weight, .. zero], TakesOthers = layer.Layer.Groups == 1 };
                if (MirroredActivation(layer.Input) is { } mirror)
                    foreach ((Offsets offset, (Use, UnitStart) weight) in UnitWeights(layer, plain, -1, mirror.Factor))
                        yield return new Derivation((mirror.Input, role with { Offset = offset, Padded = role.Padded && IsLarger(mirror.Input, role.Source) })) { Starts = [weight, .. zero] };
            }
        }

        if (Name(node) == "BatchNormalization" && BatchNorm(n) is { } norm)
            yield return Passing(node.Input[0], role) with { Starts = norm };
        if (Name(node) is "Identity" or "Dropout")
            yield return Passing(node.Input[0], role);
    }

    // One input carries the value and the others anything, or each carries its share.
    private IEnumerable<Derivation> Concatenated(NodeProto node, string value, Carries role)
    {
        if (_target.Analysis.Shapes.Dims(value) is not { } dims || _source.Analysis.Shapes.Dims(role.Source) is not { } own || own.Length != dims.Length)
            yield break;
        int axis = Axis(node, dims.Length);
        if (!role.IsWhole && role.Axis != axis)
            yield break;
        int[] sizes = [.. node.Input.Select(input => (int)(_target.Analysis.Shapes.Dims(input)?[axis] ?? 0))];
        int first = role.IsWhole ? 0 : role.Start, count = role.IsWhole ? (int)own[axis] : role.Size;
        for (int i = 0; i < sizes.Length; i++)
            if (sizes[i] >= count && IsActivation(node.Input[i]) && sizes[i] < dims[axis])
                yield return new Derivation((node.Input[i], role)) { Axis = axis, Pieces = [.. sizes.Select((size, j) => j == i ? new AxisPiece(size, first, count) : new AxisPiece(size, 0, 0))] };
        if (!node.Input.All(IsActivation))
            yield break;
        int[] cuts = Cuts(sizes, count);
        if (Enumerable.Range(0, sizes.Length).All(i => cuts[i + 1] > cuts[i] && cuts[i + 1] - cuts[i] <= sizes[i]))
            yield return new Derivation([.. node.Input.Select((input, i) => (input, (ValueRole)(role with { Axis = axis, Start = first + cuts[i], Size = cuts[i + 1] - cuts[i] })))])
            {
                Axis = axis,
                Pieces = [.. sizes.Select((size, i) => new AxisPiece(size, first + cuts[i], cuts[i + 1] - cuts[i]))],
            };
    }

    // A part of what is cut has its share of the channels.
    private Derivation? Cut(NodeProto node, string value, Carries role)
    {
        if (role.IsWhole || _target.Analysis.Shapes.Dims(node.Input[0]) is not { } dims || _source.Analysis.Shapes.Dims(role.Source) is not { } own)
            return null;
        int axis = Axis(node, dims.Length);
        int[] cuts = Cuts([.. node.Output.Select(part => (int)(_target.Analysis.Shapes.Dims(part)?[axis] ?? 0))], (int)own[axis]);
        int index = node.Output.IndexOf(value);
        return role.Axis == axis && role.Start == cuts[index] && role.Start + role.Size == cuts[index + 1]
            ? new Derivation((node.Input[0], new Carries(role.Source, Factor: role.Factor, Offset: role.Offset, Padded: role.Padded))) : null;
    }

    /// <summary>Where an axis of <paramref name="count"/> channels is cut like one that has parts of <paramref name="sizes"/>.</summary>
    internal static int[] Cuts(IReadOnlyList<int> sizes, int count)
    {
        var cuts = new int[sizes.Count + 1];
        long total = sizes.Sum(size => (long)size), before = 0;
        for (int i = 0; i < sizes.Count; i++)
        {
            before += sizes[i];
            cuts[i + 1] = total == 0 ? 0 : (int)((before * count + total / 2) / total);
        }

        return cuts;
    }

    // Whether a value of the source passes an activation unchanged.
    private bool IsFixed(NodeAxes activation, string source)
    {
        (double low, double high) = ValueRange.Of(activation);
        (double least, double most) = ValueRange.Of(_source.Analysis, source);
        return least >= low && most <= high;
    }

    /// <summary>What makes a weight one number everywhere; null where nothing does. Single numbers belong to the architecture and stay.</summary>
    private List<(Use, WeightStart)>? Set(Use use, double number)
    {
        NodeProto reader = _target.Graph.Nodes[use.Node];
        string value = reader.Input[use.Input];
        if (_target.Graph.ConstantOf(value) is { } constant)
        {
            if (!constant.Type.IsScalable())
                return null;
            if (constant.Count == 1 && reader.OpType != "PRelu")
                return ConstantValues.Of(_target.Graph, constant).All(v => v == number) ? [] : null;
            return [(use, new NumberStart(number))];
        }

        if (!_target.Analysis.IsWeight(value) || _target.Graph.Producer(value) is not { } n)
            return null;
        NodeProto node = _target.Graph.Nodes[n];
        switch (Name(node))
        {
            case "Identity" or "Reshape" or "Transpose" or "Unsqueeze" or "Squeeze" or "Expand" or "Flatten":
                return Set(new Use(n, 0), number);
            case "Sub" when Number(node.Input[0]) is { } from:
                return Set(new Use(n, 1), from - number);
            case "Sub" when Number(node.Input[1]) is { } less:
                return Set(new Use(n, 0), number + less);
            default:
                return null;
        }
    }

    private double? Number(string value) =>
        _target.Graph.ConstantOf(value) is { Count: 1 } constant && constant.Type.IsScalable() ? ConstantValues.Of(_target.Graph, constant)[0] : null;
}
