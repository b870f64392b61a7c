using System.Collections.Immutable;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// Activations with a trainable share a of the identity, φₐ(x) = (1−a)·φ(x) + a·x (Wei, Wang, Chen 2017): φ itself at a = 0, the
/// identity at a = 1. For the ReLU family that is PRelu, whose slope is a mixture of φ's own slope and 1.
/// </summary>
internal static class ParametricActivation
{
    private static readonly HashSet<string> s_mixed =
    [
        "Celu", "Elu", "Gelu", "HardSigmoid", "HardSwish", "Mish", "Selu", "Sigmoid", "Softplus", "Softsign", "Swish", "Tanh",
        "com.microsoft:Gelu", "com.microsoft:QuickGelu",
    ];

    /// <summary>Whether a node is an activation that is written as a mixture with the identity.</summary>
    public static bool IsMixed(NodeProto node) =>
        s_mixed.Contains(ModelGraph.IsStandard(node) ? node.OpType : $"{node.Domain}:{node.OpType}");

    /// <summary>
    /// Adds the nodes of φₐ to <paramref name="chain"/> and gives the value that they make.
    /// </summary>
    /// <param name="chain">The nodes so far, in execution order.</param>
    /// <param name="graph">Gives names.</param>
    /// <param name="name">What names are derived from.</param>
    /// <param name="input">The value that φₐ is applied to.</param>
    /// <param name="activation">The φ, whose node <see cref="IsMixed"/>; null for the ReLU family.</param>
    /// <param name="shape">Shape of a, which broadcasts against the input.</param>
    /// <param name="type">Element type of the input.</param>
    /// <param name="linearShare">Where a starts; for the ReLU family the slope itself.</param>
    /// <param name="weight">Gives the initializer for a role, made where it does not exist yet.</param>
    public static string Emit(
        List<NodeProto> chain, ModelGraph graph, string name, string input, NetworkActivation? activation,
        ImmutableArray<long> shape, ElementType type, double linearShare, Func<string, Func<WeightExpression>, string> weight)
    {
        if (activation is not null)
            return Mix(chain, graph, name, input, activation.Emit(chain, graph, name, input), shape, type, linearShare, weight);
        string slope = weight("slope", () => new FilledWeight(type, shape, Fill.Constant(linearShare)));
        return Add(chain, graph, name, "PRelu", [input, slope]);
    }

    /// <summary>
    /// Adds the nodes of (1−a)·<paramref name="activated"/> + a·<paramref name="input"/> to <paramref name="chain"/> and gives the
    /// value that they make; the parameters are those of <see cref="Emit"/>.
    /// </summary>
    public static string Mix(
        List<NodeProto> chain, ModelGraph graph, string name, string input, string activated,
        ImmutableArray<long> shape, ElementType type, double linearShare, Func<string, Func<WeightExpression>, string> weight)
    {
        string share = weight("linear_share", () => new FilledWeight(type, shape, Fill.Constant(linearShare)));
        string one = weight("one", () => new FilledWeight(type, [1], Fill.Constant(1)));
        string rest = Add(chain, graph, name, "Sub", [one, share]);
        return Add(chain, graph, name, "Add",
            [Add(chain, graph, name, "Mul", [rest, activated]), Add(chain, graph, name, "Mul", [share, input])]);
    }

    private static string Add(List<NodeProto> chain, ModelGraph graph, string name, string op, string[] inputs)
    {
        string hint = $"{name}_{op.ToLowerInvariant()}";
        var node = new NodeProto { OpType = op, Name = graph.NewName(hint) };
        node.Input.AddRange(inputs);
        node.Output.Add(graph.NewName($"{hint}_output"));
        chain.Add(node);
        return node.Output[0];
    }
}
