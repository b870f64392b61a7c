using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>An activation φ of a network, to be used again elsewhere.</summary>
/// <param name="Node">Its node.</param>
/// <param name="Gates">Whether the node is the h in x·h(x), as exporters write SiLU and HardSwish; φ is the product then.</param>
internal sealed record NetworkActivation(NodeProto Node, bool Gates = false)
{
    // Norms, sums and the like stand between a layer and its activation.
    private static readonly HashSet<string> s_passedOver = ["BatchNormalization", "Add", "Identity", "Dropout", "InstanceNormalization", "LayerNormalization"];

    private const int FarthestReader = 8;

    /// <summary>The ReLU, which serves where the network shows no activation of its own.</summary>
    public static NetworkActivation Relu { get; } = new(new NodeProto { OpType = "Relu" });

    /// <summary>
    /// κ with φ(x) − φ(−x) = κ·x, where φ has one: 1 for x·h(x) with h(x) + h(−x) = 1 and for the softplus, 1 + α for the leaky ReLU.
    /// </summary>
    public double? MirrorFactor => Operator switch
    {
        "Relu" or "Gelu" or "HardSwish" or "Softplus" or "Swish" or "com.microsoft:Gelu" or "com.microsoft:QuickGelu" => 1,
        "LeakyRelu" => 1.0 + (Node.Attribute.FirstOrDefault(a => a.Name == "alpha")?.F ?? 0.01f),
        "Sigmoid" when Gates => 1,
        "HardSigmoid" when Gates && (Node.Attribute.FirstOrDefault(a => a.Name == "beta")?.F ?? 0.5f) == 0.5f => 1,
        _ => null,
    };

    /// <summary>Whether φ(φ(x)) = φ(x) for all x.</summary>
    public bool IsIdempotent => Operator is "Relu" or "Clip";

    private string Operator => OperatorOf(Node);

    /// <summary>The first activation that a layer's result runs into, through norms and sums; null where there is none.</summary>
    public static NetworkActivation? Behind(ModelGraph graph, string value)
    {
        for (int steps = 0; steps < FarthestReader; steps++)
        {
            List<NodeProto> readers = [.. graph.Uses(value).Select(u => graph.Nodes[u.Node])];
            if (readers.FirstOrDefault(IsActivation) is { } found)
                return new NetworkActivation(found, IsGate(found, readers));
            if (readers.FirstOrDefault(r => s_passedOver.Contains(r.OpType)) is not { } next)
                return null;
            value = next.Output[0];
        }

        return null;
    }

    /// <summary>
    /// What a parametric activation mixes with the identity where <paramref name="activation"/> is the network's; null for the ReLU family, which
    /// has a form of its own: PRelu, which ONNX Runtime lacks in double precision.
    /// </summary>
    public static NetworkActivation? ToMix(NetworkActivation? activation, ElementType type) =>
        activation is not null && ParametricActivation.IsMixed(activation.Node) ? activation
            : type == ElementType.Float64 ? Relu : null;

    /// <summary>Adds the nodes of φ to <paramref name="chain"/> and gives the value that they make.</summary>
    /// <param name="chain">The nodes so far, in execution order.</param>
    /// <param name="graph">Gives names.</param>
    /// <param name="name">What names are derived from.</param>
    /// <param name="input">The value that φ is applied to.</param>
    public string Emit(List<NodeProto> chain, ModelGraph graph, string name, string input)
    {
        // Bounds and the like are read from where the network's own activation reads them.
        NodeProto node = Node.Clone();
        string hint = $"{name}_{node.OpType.ToLowerInvariant()}";
        node.Name = graph.NewName(hint);
        if (node.Input.Count == 0)
            node.Input.Add(input);
        node.Input[0] = input;
        node.Output.Clear();
        node.Output.Add(graph.NewName($"{hint}_output"));
        chain.Add(node);
        if (!Gates)
            return node.Output[0];
        var product = new NodeProto { OpType = "Mul", Name = graph.NewName($"{name}_mul") };
        product.Input.AddRange([input, node.Output[0]]);
        product.Output.Add(graph.NewName($"{name}_mul_output"));
        chain.Add(product);
        return product.Output[0];
    }

    private static bool IsActivation(NodeProto node) =>
        ParametricActivation.IsMixed(node) || (ModelGraph.IsStandard(node) && node.OpType is ("Relu" or "LeakyRelu" or "Clip" or "ThresholdedRelu"));

    // h(x) and Mul(x, h(x)) both read x.
    private static bool IsGate(NodeProto node, List<NodeProto> readers) =>
        OperatorOf(node) is "Sigmoid" or "HardSigmoid" && readers.Any(r => r.OpType == "Mul" && r.Input.Contains(node.Output[0]));

    private static string OperatorOf(NodeProto node) => ModelGraph.IsStandard(node) ? node.OpType : $"{node.Domain}:{node.OpType}";
}
