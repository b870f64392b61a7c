using OnnxMorph.Axes;

namespace OnnxMorph.Operators;

/// <summary>What a weight starts with on channels that the parent does not have.</summary>
/// <param name="Constant">The number that every element gets; null where elements are drawn.</param>
public readonly record struct FreshValue(double? Constant)
{
    /// <summary>0: biases, means.</summary>
    public static FreshValue Zero { get; } = new(0);

    /// <summary>1: scales, variances.</summary>
    public static FreshValue One { get; } = new(1);

    /// <summary>0.25: PRelu slopes, the field's usual start.</summary>
    public static FreshValue Quarter { get; } = new(0.25);

    /// <summary>Normal with variance 2 / fan-in (He): weights of linear layers.</summary>
    public static FreshValue HeNormal { get; } = new(null);
}

/// <summary>
/// A linear layer as passes see it: which input holds the weights, and which axes its result has.
/// </summary>
/// <param name="WeightInput">Number of the input that holds the weights.</param>
/// <param name="BiasInput">Number of the input that holds the bias; −1 where the operator has none.</param>
/// <param name="OutputAxis">Which axis of output 0 holds the channels, counted from the front.</param>
/// <param name="WeightOutputAxis">Which axis of the weight input holds the output channels (of one group, for transposed convolutions).</param>
/// <param name="SpatialAxes">How many spatial axes follow the two channel axes of the weight; 0 for matrix products.</param>
/// <param name="Groups">Groups of a convolution; 1 otherwise.</param>
/// <param name="Transposed">Whether it is a transposed convolution.</param>
public sealed record LinearLayer(
    int WeightInput, int BiasInput, int OutputAxis, int WeightOutputAxis, int SpatialAxes, long Groups, bool Transposed);

/// <summary>
/// What a family of operators does to axes: the one place that knows it. Widening, transfer and certificates are written
/// over these answers and never name an operator.
/// </summary>
public abstract class OperatorRule
{
    /// <summary>The operators that the rule speaks for, with their domain in front where it is not ONNX's: "com.microsoft:Gelu".</summary>
    public abstract IEnumerable<string> Operators { get; }

    /// <summary>Why no node of these operators can be followed; null where they can.</summary>
    public virtual string? Unsupported => null;

    /// <summary>
    /// Whether a constant at this input is quantised as it stands: <see cref="Tie"/> says itself what can be made of it, and what stands
    /// for 0 is <see cref="QuantizeRule.ZeroPoint"/>.
    /// </summary>
    public virtual bool IsQuantised(int input) => false;

    /// <summary>ε of a layer or RMS norm over the channels of each position, which scales with their variance; null for other operators.</summary>
    public virtual double? ChannelNormEpsilon(NodeAxes node) => null;

    /// <summary>Says how the axes of inputs and outputs are tied. What it says nothing about is fixed.</summary>
    public abstract void Tie(NodeAxes node);

    /// <summary>Brings attributes and shape inputs of the child's node in line with the child's sizes.</summary>
    public virtual void Patch(NodePatch patch)
    {
    }

    /// <summary>Whether the operators are layers with weights, in most of their uses.</summary>
    public virtual bool HasWeights => false;

    /// <summary>The node as a linear layer, or null where it is none.</summary>
    public virtual LinearLayer? AsLinear(NodeAxes node) => null;

    /// <summary>
    /// The axis that the node makes out of its weights and that widening it widens: output channels, hidden units, embedding
    /// sizes. Null where it has none.
    /// </summary>
    public virtual AxisExpression? Produces(NodeAxes node) =>
        AsLinear(node) is { } layer && node.HasOutput(0) ? node.Out(0)[layer.OutputAxis] : null;

    /// <summary>What input <paramref name="input"/> starts with on channels that the parent does not have.</summary>
    public virtual FreshValue Fresh(NodeAxes node, int input) => FreshValue.Zero;

    /// <summary>The same where the channels that the weight meets are zero, which lets it start with anything.</summary>
    public virtual FreshValue FreshOnZeros(NodeAxes node, int input) => Fresh(node, input);

    /// <summary>
    /// Whether a constant at this input is a trained parameter, which starts with <see cref="Fresh"/>, rather than a size, a limit or a table
    /// that the network was built with.
    /// </summary>
    public virtual bool IsParameter(NodeAxes node, int input) => Form(node, input) is not null;

    /// <summary>The linear map that the node makes of the weight at this input; null where it makes none.</summary>
    public virtual WeightForm? Form(NodeAxes node, int input) => null;

    /// <summary>How the node answers to positive factors on its inputs; null where they must all be 1.</summary>
    public virtual Homogeneity? Scaling(NodeAxes node) => null;

    /// <summary>
    /// Whether each element of the result is an element of an input or zero, so that positions of values can be followed through the node by
    /// evaluating it on their numbers.
    /// </summary>
    public virtual bool Rearranges => MovesElements;

    /// <summary>
    /// Whether the node only moves the elements of its first input, so that what is asked of a weight behind it is decided by
    /// the node that reads its result.
    /// </summary>
    public virtual bool MovesElements => false;

    /// <summary>
    /// Whether an input lists sizes, positions or axes, which <see cref="Patch"/> brings in line and which say nothing about
    /// the numbers in the result. A size that reaches any other input is computed with.
    /// </summary>
    public virtual bool ListsSizes(int input) => false;
}
