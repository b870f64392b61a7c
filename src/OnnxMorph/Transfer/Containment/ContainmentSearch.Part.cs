using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer.Containment;

/// <summary>How much of a source is inside a target that does not contain all of it, and what stands in the way of the rest.</summary>
internal partial class ContainmentSearch
{
    // How many values of the source are tried with all that were found before them.
    private const int MostReached = 64;

    /// <summary>
    /// Demands that can be met together, on values of the target that carry as much of the source as the search finds: the source's last value
    /// that any can carry, then the last that those before it do not hold, and so on.
    /// </summary>
    public IReadOnlyList<(string Value, ValueRole Role)> Reach() => Deeply(() =>
    {
        IReadOnlyList<(string, ValueRole)> obstacle = Obstacle;
        ILookup<string, string> values = Activations(_target, _other).ToLookup(value => Kind(_target, value));
        var reached = new List<(string, ValueRole)>();
        HashSet<string> carried = [.. _source.Graph.Inputs.Select(input => input.Name)];
        int trials = 0, spare = Math.Max(0, Layers(_target, [.. _target.Graph.Proto.Output.Select(output => output.Name)]) - Layers(_source, [.. _source.Graph.Proto.Output.Select(output => output.Name)]));
        _known.Clear();
        foreach (string own in Activations(_source, _own).Reverse())
        {
            var role = new Carries(own);
            if (carried.Contains(own) || own != Canonical(own))
                continue;
            foreach (string value in values[Kind(_source, own)])
            {
                if (trials == MostReached)
                    break;
                if (!Fits(value, role) || Derive(value, role) is null)
                    continue;
                // Layers that give on what they read are spent only as long as there is one for each of the source's that is left.
                if (Layers(_target, value) - Layers(_source, own) > spare)
                    continue;
                (trials, _conflicts) = (trials + 1, 0);
                if (SolveHere([.. reached, (value, role)]) is not { } solution)
                {
                    _known.Clear();
                    continue;
                }

                reached.Add((value, role));
                carried.UnionWith(solution.Values.Select(found => found.Item1).OfType<Carries>().Where(found => found.IsWhole && !found.Bare).Select(found => found.Source));
                break;
            }
        }

        Obstacle = obstacle;
        return reached;
    });

    private static IEnumerable<string> Activations(AnalysedModel model, ActivationGraph activations) =>
        model.Graph.Nodes.SelectMany(node => node.Output).Where(value => value.Length > 0 && activations.Producer(value) is not null);

    // How many layers values are computed with.
    private static int Layers(AnalysedModel model, params IEnumerable<string> values)
    {
        var seen = new HashSet<string>();
        var open = new Stack<string>(values);
        int count = 0;
        while (open.TryPop(out string? made))
        {
            if (!seen.Add(made) || model.Graph.Producer(made) is not { } n)
                continue;
            count += LayerView.Of(model, made) is { } layer && layer.Node == n ? 1 : 0;
            foreach (string read in ModelGraph.Reads(model.Graph.Nodes[n]))
                open.Push(read);
        }

        return count;
    }

    // Values of one kind may carry each other; what nodes without effect give on is carried before them already.
    private static string Kind(AnalysedModel model, string value) => LayerView.Of(model, value) is not null ? "layer"
        : Name(model.Graph.Nodes[model.Graph.Producer(value)!.Value]) is var name && name is "PRelu" or "LeakyRelu" ? "Relu" : name;

    /// <summary>Why a value of the target cannot be one of the source, as the rest of a sentence.</summary>
    public string Explain(string value, ValueRole role) => Deeply(() => ExplainHere(value, role));

    /// <summary>Which input callers give in other sizes or as another type than the source's, as a sentence; null where all are the same.</summary>
    public string? OtherInput() => _inputs.Where(input => !Fits(input.Key, new Carries(input.Value)))
        .Select(input => $"the input '{input.Key}' is not '{input.Value}' of the source: {ExplainHere(input.Key, new Carries(input.Value))}").FirstOrDefault();

    private string ExplainHere(string value, ValueRole role)
    {
        if (role is not Carries carries)
            return "nothing that it is trained on makes it so";
        string own = carries.Source;
        if (_target.Graph.Producer(value) is not { } n)
            return _inputs.GetValueOrDefault(value) == own && !Fits(value, new Carries(own)) && _target.Analysis.Shapes.Dims(value) is { } given && _source.Analysis.Shapes.Dims(own) is { } ownGiven
                ? $"callers give it as {Sizes(given)}, and the source's as {Sizes(ownGiven)}" : $"it is the input '{value}', which callers give";
        NodeProto node = _target.Graph.Nodes[n];
        string to = ModelGraph.Describe(node);
        if (_source.Graph.Producer(own) is not { } m)
            return $"{to} does something to what it reads, and '{own}' is an input of the source";
        NodeProto from = _source.Graph.Nodes[m];
        (string there, string here) = ($"the source's {ModelGraph.Describe(from)}", to);
        if (_target.Analysis.Shapes.Type(value) != _source.Analysis.Shapes.Type(own))
            return $"{here} makes {_target.Analysis.Shapes.Type(value)} and {there} {_source.Analysis.Shapes.Type(own)}";
        if (_target.Analysis.Shapes.Dims(value) is { } dims && _source.Analysis.Shapes.Dims(own) is { } ownDims && !Fits(value, carries))
            return $"{here} makes {Sizes(dims)} and {there} {Sizes(ownDims)}";
        (LayerView? layer, LayerView? ownLayer) = (LayerView.Of(_target, value), LayerView.Of(_source, own));
        if (layer is not null && ownLayer is not null)
            return SameLayer(layer, ownLayer, carries, mirrored: false) is { } same ? Unmet(same) ?? Refused(value, role, here) : $"{here} {Difference(layer, ownLayer, there)}";
        if (Name(node) != Name(from))
            return $"{here} does something else than {there}";
        foreach (string name in node.Attribute.Concat(from.Attribute).Select(a => a.Name).Distinct())
            if (!SameAttributes(node, from, [.. s_followed, .. node.Attribute.Concat(from.Attribute).Select(a => a.Name).Where(other => other != name)]))
                return $"{here} has another '{name}' than {there}";
        return Ways(value, role).Select(Unmet).FirstOrDefault(unmet => unmet is not null) ?? Refused(value, role, here);
    }

    private string? Unmet(Derivation way)
    {
        foreach ((string value, ValueRole role) in way.Needs)
            if (Derive(value, role) is null)
                return $"it reads '{value}', which cannot be {What(role)}";
        return null;
    }

    private string Refused(string value, ValueRole role, string here) => _forbidden.Contains((value, role))
        ? $"{here} would have to carry channels in another order than the nodes beside it" : $"{here} reads more channels than it may";

    /// <summary>What a role is, in words.</summary>
    public static string What(ValueRole role) => role switch
    {
        Carries carries => (carries.Factor == 1 ? "" : FormattableString.Invariant($"{carries.Factor} times ")) + (carries.IsWhole ? "" : $"channels {carries.Start} to {carries.Start + carries.Size - 1} of ")
            + $"'{carries.Source}' of the source" + (carries.Bare ? " without its bias" : ""),
        Mirrors mirrors => $"'{mirrors.Source}' of the source and its negative",
        Holds holds => FormattableString.Invariant($"{holds.Number} everywhere"),
        _ => "",
    };

    private static string Difference(LayerView layer, LayerView own, string there)
    {
        string[] shapes = [.. new[] { layer, own }.Select(l => Sizes(l.Kernel))];
        if (layer.Layer.SpatialAxes != own.Layer.SpatialAxes || layer.Layer.Transposed != own.Layer.Transposed)
            return $"is another kind of layer than {there}";
        if (own.Bias is not null && layer.Bias is null)
            return $"has no bias, and {there} has one";
        if (layer.Layer.Groups != own.Layer.Groups && !(layer.IsDepthwise && own.IsDepthwise))
            return $"has {layer.Layer.Groups} groups and {there} {own.Layer.Groups}";
        foreach (string list in (string[])["strides", "dilations"])
            if (!(layer.Axes.IntList(list) ?? []).SequenceEqual(own.Axes.IntList(list) ?? []))
                return $"has {list} {Sizes(layer.Axes.IntList(list) ?? [])} and {there} {Sizes(own.Axes.IntList(list) ?? [])}";
        if (layer.IsActivated != own.IsActivated)
            return $"has an activation of its own where {there} has none, or the other way round";
        return $"has a kernel of {shapes[0]} whose taps do not see all that those of {there}, {shapes[1]}, see";
    }

    private static string Sizes(IEnumerable<long> sizes) => string.Join('×', sizes.Select(size => size < 0 ? "?" : $"{size}"));
}
