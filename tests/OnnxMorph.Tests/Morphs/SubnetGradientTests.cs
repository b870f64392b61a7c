using Google.Protobuf;
using OnnxMorph.Morphs;
using OnnxMorph.Morphs.Subnet;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;
using static OnnxMorph.Tests.Morphs.SubnetNets;

namespace OnnxMorph.Tests.Morphs;

/// <summary>
/// What training will find: after a first small step in any direction every weight has a gradient, and no two of one form have the same.
/// Gradients are central differences in double.
/// </summary>
public class SubnetGradientTests
{
    private const double Step = 1e-5;

    // Of gradients, relatively; central differences of what has the same differ by some 1e-9.
    private const double Apart = 1e-5;

    public static TheoryData<SubnetKind, string> Kinds =>
    [
        .. from kind in Enum.GetValues<SubnetKind>().Except([SubnetKind.Module])
           from activation in new[] { "Tanh", "Relu" }
           select new TheoryDataRow<SubnetKind, string>(kind, activation),
    ];

    [Theory]
    [MemberData(nameof(Kinds))]
    public void EveryWeightLearnsOnItsOwn(SubnetKind kind, string activation)
    {
        foreach (int length in kind == SubnetKind.Stacked ? [1, 2] : new[] { 2 })
            Assert.True(Separation(new(kind) { Branches = 3, Length = length }, activation) > Apart);
    }

    /// <summary>What the activations are for: linear layers whose results are only added have one gradient.</summary>
    [Fact]
    public void SumsOfLinearLayersDoNot() => Assert.True(Separation(new(SubnetKind.Module) { Module = "layer | layer" }, "Tanh") < Apart / 100);

    // How far apart, relatively, the gradients of the two weights of one form are that are nearest to each other.
    private static double Separation(SubnetOptions options, string activation)
    {
        // The layer is followed by others and by an activation, as layers are. Behind a Relu what only acts below 0 learns nothing.
        Net net = Dense((net, x) =>
        {
            string y = net.Op(activation, [net.Linear(net.Reshape(x, 1, -1, 4), 4, 4, "a", bias: false)]);
            return net.Linear(y, 4, 1, bias: false);
        });
        // Enough rows for every unit to be on for some and off for others.
        net.Runs[0]["N"] = 30;
        net.Proto.Graph.Output[0].Name = net.Op("ReduceSum", [net.Mul(net.Proto.Graph.Output[0].Name, net.Weight([30, 1]))], new { keepdims = 0 });
        MorphResult result = Check.Morph(net, Subnet("a", options));
        ModelProto child = Check.Written(result.Child);
        var feeds = Check.Feeds(net, net.Runs[0], 3);
        // Sizes of one element are constants: the 1 of 1−a, the 2 of 2σ.
        List<TensorProto> weights = [.. child.Graph.Initializer.Where(t => t.DataType == (int)ElementType.Float64 && t.Dims is not [1] && !net.Proto.Graph.Initializer.Any(o => o.Name == t.Name && o.Dims.Count < 2))];
        var random = new Random(5);
        foreach (TensorProto weight in weights)
            Change(weight, _ => 0.05 * (2 * random.NextDouble() - 1));
        var gradients = weights.ToDictionary(w => w.Name, w => Gradient(child, w, feeds));
        foreach ((string name, double[] gradient) in gradients)
            Assert.True(gradient.Max(Math.Abs) > 1e-6, $"'{name}' has no gradient.");
        return (from alike in weights.GroupBy(w => string.Join(' ', w.Dims))
                from one in alike
                from other in alike.TakeWhile(t => t != one)
                select gradients[one.Name].Zip(gradients[other.Name], (a, b) => Math.Abs(a - b)).Max() / gradients[one.Name].Max(Math.Abs)).DefaultIfEmpty(1).Min();
    }

    private static double[] Gradient(ModelProto model, TensorProto weight, Dictionary<string, Testing.Array> feeds)
    {
        var gradient = new double[weight.Dims.Aggregate(1L, (a, b) => a * b)];
        for (int i = 0; i < gradient.Length; i++)
        {
            Change(weight, at => at == i ? Step : 0);
            double upper = Result(model, feeds);
            Change(weight, at => at == i ? -2 * Step : 0);
            gradient[i] = (upper - Result(model, feeds)) / (2 * Step);
            Change(weight, at => at == i ? Step : 0);
        }

        return gradient;
    }

    private static double Result(ModelProto model, Dictionary<string, Testing.Array> feeds) => Check.Run(model, feeds, []).Single().Value.Values.Single();

    private static void Change(TensorProto weight, Func<int, double> by)
    {
        double[] values = Numbers.Decode(ElementType.Float64, weight.RawData.Span);
        weight.RawData = ByteString.CopyFrom(Numbers.Encode(ElementType.Float64, [.. values.Select((v, i) => v + by(i))]));
    }
}
