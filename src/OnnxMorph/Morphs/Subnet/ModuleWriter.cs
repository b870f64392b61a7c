using OnnxMorph.Onnx;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>A bias that is added once to what a module computes.</summary>
/// <param name="Whole">The value that holds it.</param>
/// <param name="Slice">Gives the part for some of the channels: the first one, and how many.</param>
/// <param name="Beta">The factor that a Gemm applies to it; null for none.</param>
internal sealed record ModuleBias(string Whole, Func<long, long, string> Slice, AttributeProto? Beta);

/// <summary>Writes modules as nodes.</summary>
/// <param name="builder">Takes the nodes.</param>
/// <param name="module">The module.</param>
/// <param name="layers">The weights of its layers, by the number of the value that each makes.</param>
internal sealed class ModuleWriter(SubnetBuilder builder, Module module, IReadOnlyDictionary<int, WeightedLayer> layers)
{
    /// <summary>Whether activations start as the identity; else they are what they are.</summary>
    public bool Parametric { get; init; } = true;

    /// <summary>Makes a layer as the replaced one is: its role, what it reads, its weights and its bias.</summary>
    public Func<string, string, LinearOperator, string?, NodeProto>? Main { get; init; }

    /// <summary>Added once to the result; null for none.</summary>
    public ModuleBias? Bias { get; init; }

    /// <summary>Adds the module's nodes and gives its result.</summary>
    /// <param name="input">The value that it reads.</param>
    /// <param name="channels">Channels of that value.</param>
    /// <exception cref="SubnetRefusedException">There is no layer that takes the bias; nothing was added.</exception>
    public string Write(string input, long channels)
    {
        var width = new long[module.Result + 1];
        width[0] = channels;
        for (int value = 1; value <= module.Result; value++)
        {
            ModuleOperator producer = module.Producer(value);
            width[value] = layers.TryGetValue(value, out WeightedLayer? weighted) ? weighted.Operator.Layout.Groups * weighted.Operator.Outputs
                : producer is ModuleConcat ? producer.Inputs.Sum(i => width[i]) : width[producer.Inputs[0]];
        }

        var biased = new Dictionary<int, (long First, long Count)>();
        if (Bias is not null && !Place(module.Result, 0))
            throw new SubnetRefusedException("the module has no layer at its end that takes the bias");

        var names = new string[module.Result + 1];
        names[0] = input;
        for (int value = 1; value <= module.Result; value++)
        {
            string role = $"{value}";
            names[value] = module.Producer(value) switch
            {
                ModuleLayer layer => Layer(value, names[layer.Input]),
                ModuleActivation activation when Parametric => builder.Parametric(role, names[activation.Input], width[value], activation.Like),
                ModuleActivation activation => builder.Activation(names[activation.Input], activation.Like),
                ModuleSum sum => builder.Sum(sum.Parts.Select(part => names[part])),
                ModuleConcat concat => builder.Concat(concat.Parts.Select(part => names[part])),
                var other => throw new InvalidOperationException(other.GetType().Name),
            };
        }

        return names[module.Result];

        // A sum takes the bias on one of its parts, a concatenation a slice on each; activations start as the identity.
        bool Place(int value, long first)
        {
            if (value == 0)
                return false;
            switch (module.Producer(value))
            {
                case ModuleLayer:
                    return biased.TryAdd(value, (first, width[value]));
                case ModuleConcat concat:
                    return concat.Parts.All(part =>
                    {
                        bool placed = Place(part, first);
                        first += width[part];
                        return placed;
                    });
                case var other:
                    return other.Inputs.Any(part => Place(part, first));
            }
        }

        string Layer(int value, string reads)
        {
            WeightedLayer weighted = layers[value];
            string? bias = !biased.TryGetValue(value, out var slice) ? null
                : slice.Count == width[module.Result] ? Bias!.Whole : Bias!.Slice(slice.First, slice.Count);
            string role = $"{value} weight";
            NodeProto node = weighted.Main ? Main!(role, reads, weighted.Operator, bias) : builder.Layer(role, reads, weighted.Operator, bias);
            // Gemm's beta scales the bias, which has moved.
            if (bias is not null && !weighted.Main && Bias!.Beta is { } beta)
                node.Attribute.Add(beta.Clone());
            return node.Output[0];
        }
    }
}
