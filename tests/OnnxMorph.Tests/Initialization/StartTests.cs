using OnnxMorph.Initialization;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Initialization;

/// <summary>What tensors start with beside the draws of layers.</summary>
public sealed class StartTests
{
    private static Dictionary<string, double[]> Values(Net net, InitOptions options, out InitPlan plan)
    {
        (plan, OnnxModel model) = InitNets.Plan(net, options);
        return Check.Written(model).Graph.Initializer.Where(t => t.DataType == (int)ElementType.Float32).ToDictionary(t => t.Name, t => Numbers.Decode(ElementType.Float32, t.RawData.Span));
    }

    [Fact]
    public void Biases_norms_and_slopes_start_with_their_numbers()
    {
        var net = new Net();
        string x = net.Input("x", 2, 4, 6, 6);
        string bias = net.Weight([8, 1, 1], name: "bias"), slope = net.Weight([8, 1, 1], name: "slope"), scale = net.Weight([8], name: "scale"), shift = net.Weight([8], name: "shift");
        string y = net.Add(net.Conv(x, 4, 8, bias: false), bias);
        y = net.Op("BatchNormalization", [y, scale, shift, net.Weight([8], name: "mean"), net.Weight([8], name: "var")]);
        net.Output(net.Op("PRelu", [y, slope]));
        Dictionary<string, double[]> values = Values(net, new InitOptions(), out _);
        foreach ((string name, double number) in ((string, double)[])[("bias", 0), ("scale", 1), ("shift", 0), ("mean", 0), ("var", 1), ("slope", 0.25)])
            Assert.All(values[name], v => Assert.Equal(number, v));
    }

    [Fact]
    public void A_norm_in_several_nodes_starts_as_one()
    {
        var net = new Net();
        string x = net.Linear(net.Input("x", 2, 5, 8), 8, 8), gamma = net.Weight([8], name: "gamma"), beta = net.Weight([8], name: "beta");
        string centred = net.Op("Sub", [x, net.Reduce("ReduceMean", x, -1)]);
        string deviation = net.Op("Sqrt", [net.Add(net.Reduce("ReduceMean", net.Mul(centred, centred), -1), net.Filled(1e-5))]);
        net.Output(net.Add(net.Mul(net.Op("Div", [centred, deviation]), gamma), beta));
        Dictionary<string, double[]> values = Values(net, new InitOptions(), out _);
        Assert.All(values["gamma"], v => Assert.Equal(1, v));
        Assert.All(values["beta"], v => Assert.Equal(0, v));
    }

    [Fact]
    public void What_is_no_parameter_keeps_its_numbers_and_says_why()
    {
        var net = new Net();
        string x = net.Op("Div", [net.Op("Sub", [net.Input("x", 2, 3, 8, 8), net.Weight([3, 1, 1], name: "mean")]), net.Positive(3, 1, 1)]);
        string y = net.Conv(x, 3, 6, name: "conv");
        y = net.Op("Resize", [y, "", net.Floats(1, 1, 2, 2)]);
        y = net.Add(y, net.Weight([1, 6, 16, 16], name: "grid"));
        net.Output(y);
        Dictionary<string, double[]> before = net.Proto.Graph.Initializer.Where(t => t.DataType == 1).ToDictionary(t => t.Name, t => Numbers.Decode(ElementType.Float32, t.RawData.Span));
        Dictionary<string, double[]> values = Values(net, new InitOptions(), out InitPlan plan);
        foreach (InitialisedTensor kept in plan.Tensors.Where(t => t.Start == TensorStart.Kept))
        {
            Assert.Equal(before[kept.Name], values[kept.Name]);
            Assert.NotNull(kept.Note);
        }

        foreach (string name in (string[])["mean", "grid"])
            Assert.Equal(TensorStart.Kept, plan.Tensors.Single(t => t.Name == name).Start);
        Assert.Equal(2, plan.Tensors.Count(t => t.Start != TensorStart.Kept));
    }

    [Fact]
    public void A_weight_that_is_computed_is_left_alone()
    {
        var net = new Net();
        string x = net.Input("x", 2, 8), weight = net.Op("Exp", [net.Weight([8, 4], name: "w")]);
        net.Output(net.Linear(net.Relu(net.Op("MatMul", [x, weight])), 4, 3));
        InitialisedTensor kept = InitNets.Plan(net, new InitOptions()).Plan.Tensors.Single(t => t.Name == "w");
        Assert.Equal(TensorStart.Kept, kept.Start);
        Assert.Contains("compute", kept.Note);
    }

    [Fact]
    public void Gates_of_recurrent_layers_have_fans_of_their_own()
    {
        var net = new Net();
        string x = net.Input("x", 5, 2, 6);
        string y = net.Op("LSTM", [x, net.Weight([1, 32, 6], name: "w"), net.Weight([1, 32, 8], name: "r"), net.Weight([1, 64], name: "b")], new { hidden_size = 8 });
        net.Output(y);
        Dictionary<string, double[]> values = Values(net, new InitOptions { Method = InitMethod.Orthogonal }, out InitPlan plan);
        DrawnWeight w = plan.Tensors.Single(t => t.Name == "w").Weight!;
        Assert.Equal((6, 8), (w.FanIn, w.FanOut));
        Assert.All(values["b"], v => Assert.Equal(0, v));
        // Each gate's recurrent matrix is orthogonal.
        for (int gate = 0; gate < 4; gate++)
            Orthonormal(values["r"][(gate * 64)..(gate * 64 + 64)], 8, 8, 1);
    }

    [Fact]
    public void Orthogonal_weights_have_orthogonal_rows_or_columns()
    {
        var net = new Net();
        string x = net.Input("x", 2, 4, 9, 9);
        string y = net.Relu(net.Op("Conv", [x, net.Weight([12, 4, 3, 3], name: "wide")]));
        y = net.Relu(net.Op("Conv", [y, net.Weight([24, 3, 1, 1], name: "grouped")], new { group = 4 }));
        net.Output(net.Linear(net.Reshape(y, 2, 24 * 49), 24 * 49, 7));
        Dictionary<string, double[]> values = Values(net, new InitOptions { Method = InitMethod.Orthogonal }, out _);
        Orthonormal(values["wide"], 12, 36, 2);
        for (int group = 0; group < 4; group++)
            Orthonormal(values["grouped"][(group * 18)..(group * 18 + 18)], 6, 3, 2);
    }

    private static void Orthonormal(double[] matrix, int rows, int columns, double square)
    {
        bool byRows = rows <= columns;
        int few = Math.Min(rows, columns), many = Math.Max(rows, columns);
        for (int a = 0; a < few; a++)
            for (int b = 0; b < few; b++)
                Assert.Equal(a == b ? square : 0, Enumerable.Range(0, many).Sum(i => byRows ? matrix[a * columns + i] * matrix[b * columns + i] : matrix[i * columns + a] * matrix[i * columns + b]), 1e-5);
    }

    [Fact]
    public void Dirac_kernels_give_on_what_they_read()
    {
        var net = new Net();
        string x = net.Input("x", 2, 4, 6, 6);
        string y = net.Conv(x, 4, 4);
        net.Output(y);
        (InitPlan _, OnnxModel model) = InitNets.Plan(net, new InitOptions { Method = InitMethod.Dirac });
        var feeds = InitNets.Normal(net, 2);
        Assert.Equal(feeds["x"].Values, Check.Run(Check.Written(model), feeds, [y])[y].Values);
    }

    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void Zero_residual_branches_add_nothing(bool transposed)
    {
        var net = new Net();
        string x = net.Relu(net.Conv(net.Input("x", 2, 4, 8, 8), 4, 8)), stem = x;
        for (int block = 0; block < 3; block++)
            x = net.Relu(net.Add(transposed ? Transposed(net.Relu(net.Conv(x, 8, 8))) : net.Conv(net.Relu(net.Conv(x, 8, 8)), 8, 8), x));
        string end = x;
        net.Output(net.Linear(net.Reshape(x, 2, 512), 512, 3));
        (InitPlan _, OnnxModel model) = InitNets.Plan(net, new InitOptions { Method = InitMethod.ZeroResidual });
        var values = Check.Run(Check.Written(model), InitNets.Normal(net, 2), [stem, end]);
        Assert.Equal(values[stem].Values, values[end].Values);
        Assert.Contains(values[stem].Values, v => v > 0);

        string Transposed(string y) =>
            net.Op("Conv", [y, net.Op("Transpose", [net.Weight([8, 8, 3, 3])], new { perm = new[] { 1, 0, 2, 3 } }), net.Weight([8])], new { pads = new[] { 1, 1, 1, 1 } });
    }

    [Fact]
    public void Only_selected_layers_change()
    {
        Net net = InitNets.A();
        InitPlan plan = InitNets.Plan(net, new InitOptions { Layers = Selector.Parse("fc*") }).Plan;
        Assert.Equal(["fc1.bias", "fc1.weight", "fc2.bias", "fc2.weight"], plan.Tensors.Where(t => t.Start != TensorStart.Kept).Select(t => t.Name).Order());
        // What stays has the scale that it has: there is a chain of two.
        double[] logs = [.. plan.Tensors.Where(t => t.Weight is not null).Select(t => Math.Log(t.Weight!.Scale))];
        Assert.Equal(0, logs.Sum(), 1e-9);
    }

    [Fact]
    public void A_table_that_is_the_output_layer_too_has_the_fan_of_that()
    {
        var net = new Net();
        string table = net.Weight([50, 16], name: "table");
        net.Vocabulary["ids"] = 50;
        string x = net.Op("Gather", [table, net.Input("ids", ElementType.Int64, 2, 5)]);
        net.Output(net.Op("MatMul", [net.Relu(net.Linear(x, 16, 16)), net.Transpose(table, 1, 0)]));
        InitialisedTensor tied = InitNets.Plan(net, new InitOptions { Growth = GrowthRule.None }).Plan.Tensors.Single(t => t.Name == "table");
        Assert.Equal(16, tied.Weight!.FanIn);
        Assert.Contains("2 layers", tied.Note);
    }
}
