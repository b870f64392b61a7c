using Google.Protobuf;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Morphs;

public sealed class ActivationTests
{
    private static MorphStep Activation(string selector, ActivationForm to = ActivationForm.Parametric)
    {
        var parsed = Selector.Parse(selector);
        return new MorphStep($"--activation {selector}", parsed, new ActivationPass(parsed, to).Apply);
    }

    // Activations as one node and as exporters write them.
    private static readonly Dictionary<string, Func<Net, string, string>> s_forms = new()
    {
        ["relu"] = (net, x) => net.Relu(x),
        ["leaky"] = (net, x) => net.Op("LeakyRelu", [x], new { alpha = 0.2 }),
        ["elu"] = (net, x) => net.Op("Elu", [x], new { alpha = 0.7 }),
        ["sigmoid"] = (net, x) => net.Op("Sigmoid", [x]),
        ["tanh"] = (net, x) => net.Op("Tanh", [x]),
        ["hard swish"] = (net, x) => net.Op("HardSwish", [x]),
        ["hard sigmoid"] = (net, x) => net.Op("HardSigmoid", [x], new { alpha = 0.3, beta = 0.4 }),
        ["softplus"] = (net, x) => net.Op("Softplus", [x]),
        ["softsign"] = (net, x) => net.Op("Softsign", [x]),
        ["selu"] = (net, x) => net.Op("Selu", [x]),
        ["relu6"] = (net, x) => net.Op("Clip", [x, net.Filled(0), net.Filled(6)]),
        ["bias gelu"] = (net, x) => net.Op("com.microsoft:BiasGelu", [x, net.Weight([6])]),
        ["maximum"] = (net, x) => net.Op("Max", [net.Filled(-0.1), x]),
        ["gelu"] = (net, x) => Half(net, net.Mul(x, net.Add(net.Op("Erf", [net.Op("Div", [x, net.Filled(Math.Sqrt(2))])]), net.Filled(1)))),
        ["gelu with the half in front"] = (net, x) =>
            net.Mul(net.Mul(net.Filled(0.5), x), net.Add(net.Filled(1), net.Op("Erf", [net.Mul(x, net.Filled(Math.Sqrt(0.5)))]))),
        ["tanh gelu"] = (net, x) =>
        {
            string cubed = net.Op("Pow", [x, net.Filled(3)]);
            string inner = net.Mul(net.Add(x, net.Mul(cubed, net.Filled(0.044715))), net.Filled(Math.Sqrt(2 / Math.PI)));
            return net.Mul(Half(net, x), net.Add(net.Op("Tanh", [inner]), net.Filled(1)));
        },
        ["silu"] = (net, x) => net.Mul(x, net.Op("Sigmoid", [x])),
        ["swish with a factor a channel"] = (net, x) => net.Mul(net.Op("Sigmoid", [net.Mul(x, net.Weight([6]))]), x),
        ["hard swish in parts"] = (net, x) => net.Op("Div", [net.Mul(x, net.Op("Clip", [net.Add(x, net.Filled(3)), net.Filled(0), net.Filled(6)])), net.Filled(6)]),
        ["hard sigmoid in parts"] = (net, x) => net.Op("Div", [net.Op("Clip", [net.Add(x, net.Filled(3)), net.Filled(0), net.Filled(6)]), net.Filled(6)]),
        ["mish"] = (net, x) => net.Mul(x, net.Op("Tanh", [net.Op("Softplus", [x])])),
        ["mish in parts"] = (net, x) => net.Mul(x, net.Op("Tanh", [net.Op("Log", [net.Add(net.Filled(1), net.Op("Exp", [x]))])])),
        ["softplus in parts"] = (net, x) => net.Op("Log", [net.Add(net.Op("Exp", [x]), net.Filled(1))]),
        ["sigmoid in parts"] = (net, x) => net.Op("Div", [net.Filled(1), net.Add(net.Op("Exp", [net.Op("Neg", [x])]), net.Filled(1))]),
        ["softsign in parts"] = (net, x) => net.Op("Div", [x, net.Add(net.Op("Abs", [x]), net.Filled(1))]),
        ["leaky by choice"] = (net, x) => net.Op("Where", [net.Op("Greater", [x, net.Filled(0)]), x, net.Mul(x, net.Filled(0.1))]),
        ["parametric by parts"] = (net, x) => net.Add(net.Relu(x), net.Mul(net.Weight([6]), net.Op("Min", [x, net.Filled(0)]))),
    };

    public static TheoryData<string> Forms => [.. s_forms.Keys];

    private static string Half(Net net, string x) => net.Mul(x, net.Filled(0.5));

    // input → layer → activation → layer → output; the first layer makes "in", the activation "y".
    private static Net Around(Func<Net, string, string> activation, ElementType type = ElementType.Float32)
    {
        var net = new Net(type) { Runs = { new() { ["N"] = 3 } } };
        net.Op("MatMul", [net.Input("x", "N", 4), net.Weight([4, 6], 2)], name: "in");
        activation(net, "in_out");
        net.Last.Name = "y";
        net.Last.Output[0] = "y";
        net.Output(net.Linear("y", 6, 2, "out"));
        return net;
    }

    // The child with other numbers in its activation's parameter.
    private static ModelProto With(ModelProto child, double[] parameters)
    {
        ModelProto changed = child.Clone();
        TensorProto parameter = changed.Graph.Initializer.Single(t => t.Name is "y_slope" or "y_linear_share");
        Assert.Equal([6L], parameter.Dims);
        parameter.RawData = ByteString.CopyFrom(Numbers.Encode((ElementType)parameter.DataType, parameters));
        return changed;
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void ThereAndBack(string form)
    {
        Net net = Around(s_forms[form]);
        MorphResult result = Check.Morph(net, inDouble: false, Activation("y"));
        Assert.True(result.Steps[0].Changes.Count == 1, string.Join(" | ", result.Steps[0].Refused));
        Assert.Equal(6, result.Steps[0].Changes[0].After);
        ActivationRewrite rewrite = Assert.Single(result.Steps[0].Activations);
        Assert.Equal(("y", "parametric"), (rewrite.Node, rewrite.Form));

        // With other parameters it is the mixture that it is said to be.
        ModelProto child = Check.Written(result.Child);
        double[] shares = [0, 1, 0.3, -0.5, 2, 0.25];
        var feeds = Check.Feeds(net, net.Runs[0], 5);
        var parent = Check.Run(net.Proto, feeds);
        double[] mixed = Check.Run(With(child, shares), feeds)["y"].Values;
        bool slopes = form is "relu" or "leaky";
        for (int i = 0; i < mixed.Length; i++)
        {
            double a = shares[i % 6], x = parent["in_out"].Values[i], y = parent["y"].Values[i];
            Assert.Equal(slopes ? (x < 0 ? a * x : x) : (1 - a) * y + a * x, mixed[i], 1e-5);
        }

        // As it was: the parent again.
        MorphResult plain = Morpher.Morph(new OnnxModel(child), [Activation("*", ActivationForm.Plain)], TestContext.Current.CancellationToken);
        Assert.Equal((6L, 0L), (plain.Steps[0].Changes[0].Before, Assert.Single(plain.Steps[0].Changes).After));
        Assert.Equal("plain", plain.Steps[0].Activations[0].Form);
        Assert.Equal(net.Proto.Graph.Node.Select(n => n.OpType), plain.Child.Proto.Graph.Node.Select(n => n.OpType));
        Assert.Equal(net.Proto.Graph.Initializer.Select(t => t.Name), plain.Child.Proto.Graph.Initializer.Select(t => t.Name));
        Assert.Equal(parent[net.Proto.Graph.Output[0].Name].Values, Check.Run(Check.Written(plain.Child), feeds)[net.Proto.Graph.Output[0].Name].Values);

        // All linear: the activation is gone.
        ModelProto linear = With(child, [1, 1, 1, 1, 1, 1]);
        MorphResult gone = Morpher.Morph(new OnnxModel(linear), [Activation("*", ActivationForm.Plain)], TestContext.Current.CancellationToken);
        Assert.Equal("identity", gone.Steps[0].Activations[0].Form);
        Assert.Equal(["MatMul", "MatMul", "Add"], gone.Child.Proto.Graph.Node.Select(n => n.OpType));
        Assert.Equal(4, gone.Child.Proto.Graph.Initializer.Count + 1);
        Assert.Equal(Check.Run(linear, feeds)[net.Proto.Graph.Output[0].Name].Values, Check.Run(Check.Written(gone.Child), feeds)[net.Proto.Graph.Output[0].Name].Values);

        // In between: neither.
        MorphResult refused = Morpher.Morph(new OnnxModel(With(child, [0, 0, 1, 0, 0.25, -0.5])), [Activation("*", ActivationForm.Plain)], TestContext.Current.CancellationToken);
        Check.Refused(refused, slopes ? "y_prelu" : "y_add", "between -0.5 and 1");
    }

    [Theory]
    [MemberData(nameof(Forms))]
    public void OtherStepsGoOnWithIt(string form) =>
        Check.Morph(Around(s_forms[form]), inDouble: false, Activation("*"), Check.Widen("*", "x1.5"), Check.Deepen("*"), Activation("*"), Check.Widen("*", "+2", WidenMethod.Zero));

    [Fact]
    public void EqualSlopesAreALeakyRelu()
    {
        Net net = Around((net, x) => net.Op("PRelu", [x, net.Filled(0.125, 6)]));
        MorphResult result = Check.Morph(net, inDouble: false, Activation("y", ActivationForm.Plain));
        NodeProto node = result.Child.Proto.Graph.Node.Single(n => n.Name == "y");
        Assert.Equal(("LeakyRelu", 0.125f), (node.OpType, node.Attribute.Single().F));
        Check.Refused(Check.Morph(Around((net, x) => net.Op("PRelu", [x, net.Positive(6)])), inDouble: false, Activation("*", ActivationForm.Plain)), "y", "its slopes lie between 0.6");
    }

    // Two that go in a row, the second of them an output.
    [Fact]
    public void ActivationsThatAreGoneLeaveTheirReadersWithWhatTheyRead()
    {
        var net = new Net();
        string x = net.Op("MatMul", [net.Input("x", 2, 4), net.Weight([4, 6])], name: "in");
        string first = net.Op("PRelu", [x, net.Filled(1, 6)], name: "first"), second = net.Op("PRelu", [first, net.Filled(1, 1)], name: "second");
        net.Output(second);
        net.Output(net.Op("PRelu", [second, net.Filled(0, 6)], name: "third"));
        MorphResult result = Check.Morph(net, inDouble: false, Activation("*", ActivationForm.Plain));
        Assert.Equal(["MatMul", "Identity", "Relu"], result.Child.Proto.Graph.Node.Select(n => n.OpType));
        Assert.Equal("in_out", result.Child.Proto.Graph.Node[1].Input[0]);
        Assert.Equal(["identity", "identity", "plain"], result.Steps[0].Activations.Select(a => a.Form));
    }

    // What exporters fold of (1−a)·φ + a·x.
    [Theory]
    [InlineData(0, "Tanh")]
    [InlineData(1, "")]
    [InlineData(0.5, null)]
    public void FoldedMixturesAreFoundToo(double share, string? left)
    {
        Net net = Around((net, x) => net.Add(net.Mul(x, net.Filled(share, 6)), net.Mul(net.Op("Tanh", [x]), net.Filled(1 - share, 6))));
        MorphResult result = Check.Morph(net, inDouble: false, Activation("*", ActivationForm.Plain));
        if (left is null)
            Check.Refused(result, "y", "are 0.5");
        else
            Assert.Equal(["MatMul", .. left.Length > 0 ? [left] : System.Array.Empty<string>(), "MatMul", "Add"], result.Child.Proto.Graph.Node.Select(n => n.OpType));
    }

    [Fact]
    public void WhatIsNoActivationStays()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Linear(net.Input("x", "N", 4), 4, 6);
        // A norm in parts, a gate that another value opens, a softmax in parts, an activation that is read in the middle.
        string centred = net.Op("Sub", [x, net.Op("ReduceMean", [x], new { axes = new[] { 1 } })]);
        string variance = net.Op("ReduceMean", [net.Op("Pow", [centred, net.Filled(2)])], new { axes = new[] { 1 } });
        string normed = net.Op("Div", [centred, net.Op("Sqrt", [net.Add(variance, net.Filled(0.1))])]);
        string e = net.Op("Exp", [normed]);
        string soft = net.Op("Div", [e, net.Op("ReduceSum", [e, net.Ints(1)])]);
        string gate = net.Op("Sigmoid", [net.Linear(soft, 6, 6)], name: "gate");
        string inner = net.Op("Sigmoid", [x], name: "inner");
        string silu = net.Mul(x, inner);
        net.Output(net.Add(net.Add(net.Mul(gate, x), silu), inner));
        MorphResult result = Check.Morph(net, inDouble: false, Activation("*"));
        Assert.Equal(["inner", "gate"], result.Steps[0].Activations.Select(a => a.Node).Order().Reverse());

        // Asked for by name, it is told.
        Check.Refused(Check.Morph(Around((net, x) => net.Op("PRelu", [x, net.Positive(6)])), inDouble: false, Activation("y")), "y", "parametric already");
        Check.Refused(Check.Morph(Around((net, x) => net.Relu(x)), inDouble: false, Activation("*"), Activation("y_*")), "y_prelu", "parametric already", step: 1);
        Assert.Throws<RefusedException>(() => Check.Morph(Around((net, x) => net.Op("Sqrt", [net.Op("Abs", [x])])), Activation("y")));
    }

    [Fact]
    public void DoublesAreMixed()
    {
        MorphResult result = Check.Morph(Around((net, x) => net.Relu(x), ElementType.Float64), Activation("*"), Check.Widen("*", "x2"));
        Assert.Equal(["MatMul", "Relu", "Sub", "Mul", "Mul", "Add", "MatMul", "Add"], result.Child.Proto.Graph.Node.Select(n => n.OpType));
    }

    [Fact]
    public void SlopesLieAlongTheChannelsOfImages()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Op("Conv", [net.Input("x", "N", 3, 5, 5), net.Weight([4, 3, 3, 3])], name: "conv");
        net.Output(net.Op("GlobalAveragePool", [net.Op("Relu", [x], name: "act")]));
        MorphResult result = Check.Morph(net, inDouble: false, Activation("*"));
        TensorProto slope = result.Child.Proto.Graph.Initializer.Single(t => t.Name == "act_slope");
        Assert.Equal([4L, 1, 1], slope.Dims);
        Assert.DoesNotContain(result.Child.Proto.Graph.Node, n => n.OpType == "Relu");
    }
}
