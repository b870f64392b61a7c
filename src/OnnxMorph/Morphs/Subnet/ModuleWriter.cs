using OnnxMorph.Onnx;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>A bias that is added once to what a module computes.</summary>
/// <param name="Whole">The value that holds it.</param>
/// <param name="Slice">Gives the part for some of the channels, the first one and how many; null where it is computed by other nodes.</param>
/// <param name="Beta">The factor that a Gemm applies to it; null for none.</param>
internal sealed record ModuleBias(string Whole, Func<long, long, string>? Slice, AttributeProto? Beta)
{
    /// <summary>Why a layer is refused whose bias cannot be sliced.</summary>
    public const string Computed = "its bias is computed by other nodes, and slices of it would be needed";
}

/// <summary>Writes modules as nodes.</summary>
/// <param name="module">The module.</param>
/// <param name="layers">The weights of its layers, by the number of the value that each makes.</param>
/// <param name="channels">Channels of what it reads.</param>
internal sealed class ModuleWriter(Module module, IReadOnlyDictionary<int, WeightedLayer> layers, long channels)
{
    private readonly long[] _widths = Widths(module, layers, channels);
    private readonly Dictionary<int, (long First, long Count)> _biased = [];
    private readonly HashSet<int> _unfit = [];
    private ModuleBias? _bias;

    /// <summary>Which values are made by activations that start as the identity, by their numbers; null for all.</summary>
    public IReadOnlySet<int>? Parametric { get; init; }

    /// <summary>Has a bias added once to the result.</summary>
    /// <exception cref="SubnetRefusedException">No layer takes it.</exception>
    public void AddBias(ModuleBias bias)
    {
        if (!Place(module.Result, 0))
            throw new SubnetRefusedException("the module has no layer at its end that takes the bias");
        if (bias.Slice is null && _biased.Values.Any(slice => slice.Count != _widths[module.Result]))
            throw new SubnetRefusedException(ModuleBias.Computed);
        _bias = bias;
    }

    /// <summary>Adds the module's nodes and gives its result.</summary>
    /// <param name="builder">Takes the nodes.</param>
    /// <param name="input">The value that the module reads.</param>
    /// <param name="main">Makes a layer as the replaced one is: its role, what it reads, its weights and its bias.</param>
    public string Write(SubnetBuilder builder, string input, Func<string, string, LinearOperator, string?, NodeProto>? main = null)
    {
        var names = new string[module.Result + 1];
        names[0] = input;
        for (int value = 1; value <= module.Result; value++)
        {
            names[value] = module.Producer(value) switch
            {
                ModuleLayer layer => Layer(builder, value, names[layer.Input], main),
                ModuleActivation activation when Parametric?.Contains(value) is not false => builder.Parametric($"{value}", names[activation.Input], _widths[value], activation.Like),
                ModuleActivation activation => builder.Activation(names[activation.Input], activation.Like),
                ModuleSum sum => builder.Sum(sum.Parts.Select(part => names[part])),
                ModuleConcat concat => builder.Concat(concat.Parts.Select(part => names[part])),
                var other => throw new InvalidOperationException(other.GetType().Name),
            };
        }

        return names[module.Result];
    }

    private static long[] Widths(Module module, IReadOnlyDictionary<int, WeightedLayer> layers, long channels)
    {
        var widths = new long[module.Result + 1];
        widths[0] = channels;
        for (int value = 1; value <= module.Result; value++)
        {
            ModuleOperator producer = module.Producer(value);
            widths[value] = layers.TryGetValue(value, out WeightedLayer? weighted) ? weighted.Operator.Layout.Groups * weighted.Operator.Outputs
                : producer is ModuleConcat ? producer.Inputs.Sum(i => widths[i]) : widths[producer.Inputs[0]];
        }

        return widths;
    }

    // A sum takes the bias on one of its parts, a concatenation a slice on each; activations start as the identity.
    private bool Place(int value, long first)
    {
        bool placed = value > 0 && !_unfit.Contains(value) && module.Producer(value) switch
        {
            ModuleLayer => module.EndsIn(value) && _biased.TryAdd(value, (first, _widths[value])),
            ModuleConcat concat => concat.Parts.All(part => Place(part, (first += _widths[part]) - _widths[part])),
            var other => other.Inputs.Any(part => Place(part, first)),
        };
        if (!placed)
            _unfit.Add(value);
        return placed;
    }

    private string Layer(SubnetBuilder builder, int value, string reads, Func<string, string, LinearOperator, string?, NodeProto>? main)
    {
        WeightedLayer weighted = layers[value];
        string? bias = _bias is null || !_biased.TryGetValue(value, out var slice) ? null
            : slice.Count == _widths[module.Result] ? _bias.Whole : _bias.Slice!(slice.First, slice.Count);
        string role = $"{value} weight";
        NodeProto node = weighted.Main ? main!(role, reads, weighted.Operator, bias) : builder.Layer(role, reads, weighted.Operator, bias);
        // Gemm's beta scales the bias, which has moved.
        if (bias is not null && !weighted.Main && _bias!.Beta is { } beta)
            node.Attribute.Add(beta.Clone());
        return node.Output[0];
    }
}
