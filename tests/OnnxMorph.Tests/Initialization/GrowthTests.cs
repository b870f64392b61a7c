using OnnxMorph.Initialization;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Verification;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Initialization;

/// <summary>Growth changes how layers learn, not what an initialised network computes.</summary>
public sealed class GrowthTests
{
    private static Net Named(string kind)
    {
        var net = new Net();
        string x = net.Input("x", 2, 4, 8, 8);
        switch (kind)
        {
            case "a":
                return InitNets.A();
            case "b":
                return InitNets.B();
            case "c":
                return InitNets.C(block: 196);
            case "d":
                return InitNets.D(channels: 32);
            case "residual":
                x = net.Relu(net.Conv(x, 4, 8));
                for (int block = 0; block < 3; block++)
                    x = net.Relu(net.Add(net.Conv(net.Relu(net.Conv(x, 8, 8)), 8, 8, kernel: 1), x));
                string branch = net.Conv(net.Op("LeakyRelu", [net.Conv(x, 8, 16, attributes: new { strides = (int[])[2, 2], pads = (int[])[1, 1, 1, 1] })]), 16, 16);
                x = net.Add(branch, net.Conv(x, 8, 16, kernel: 1, attributes: new { strides = (int[])[2, 2] }));
                net.Output(net.Linear(net.Reshape(net.Op("GlobalAveragePool", [x]), 2, 16), 16, 5));
                return net;
            case "residual with norms":
                x = net.Relu(net.BatchNorm(net.Conv(x, 4, 8), 8));
                for (int block = 0; block < 2; block++)
                    x = net.Relu(net.Add(net.BatchNorm(net.Conv(net.Relu(net.Conv(x, 8, 8)), 8, 8), 8), x));
                net.Output(net.Linear(net.Relu(net.Linear(net.Reshape(x, 2, 512), 512, 7)), 7, 5));
                return net;
            case "dense":
                for (int layer = 0; layer < 3; layer++)
                    x = net.Op("Concat", [x, net.Relu(net.Conv(x, 4 * (layer + 1), 4))], new { axis = 1 });
                net.Output(net.Conv(net.Relu(net.Conv(x, 16, 3)), 3, 5));
                return net;
            case "gated":
                x = net.Relu(net.Conv(x, 4, 8));
                string gate = net.Op("Sigmoid", [net.Conv(net.Relu(net.Conv(net.Op("GlobalAveragePool", [x]), 8, 2, kernel: 1)), 2, 8, kernel: 1)]);
                net.Output(net.Conv(net.Mul(x, gate), 8, 3));
                return net;
            case "attention":
                x = net.Reshape(x, 2, 8, 32);
                string q = net.Linear(x, 32, 16), k = net.Linear(x, 32, 16), v = net.Linear(x, 32, 24);
                string scores = net.Op("Softmax", [net.Op("MatMul", [q, net.Transpose(k, 0, 2, 1)])], new { axis = 2 });
                x = net.Add(x, net.Linear(net.Op("MatMul", [scores, v]), 24, 32));
                x = net.Op("LayerNormalization", [x, net.Weight([32]), net.Weight([32])]);
                net.Output(net.Linear(net.Op("Gelu", [net.Linear(net.Relu(net.Linear(x, 32, 48)), 48, 32)]), 32, 4));
                net.Opset = 20;
                return net;
            default:
                throw new ArgumentException(kind);
        }
    }

    [Theory]
    [InlineData("a", true)]
    [InlineData("b", true)]
    [InlineData("c", true)]
    [InlineData("d", true)]
    [InlineData("residual", true)]
    [InlineData("residual with norms", true)]
    [InlineData("dense", true)]
    [InlineData("gated", true)]
    [InlineData("attention", true)]
    public void The_function_stays(string kind, bool scales)
    {
        Net net = Named(kind);
        (InitPlan none, OnnxModel parent) = InitNets.Plan(net, new InitOptions { Growth = GrowthRule.None });
        (InitPlan plan, OnnxModel child) = InitNets.Plan(net, new InitOptions { Growth = GrowthRule.Variance });
        DirectoryInfo folder = Directory.CreateTempSubdirectory("onnxmorph-test-");
        try
        {
            string from = Path.Combine(folder.FullName, "none.onnx"), to = Path.Combine(folder.FullName, "variance.onnx");
            OnnxWriter.Write(parent, from, new WeightEvaluator(), cancellation: TestContext.Current.CancellationToken);
            OnnxWriter.Write(child, to, new WeightEvaluator(), cancellation: TestContext.Current.CancellationToken);
            VerificationReport report = Verifier.Compare(from, to, new VerifyOptions(), TestContext.Current.CancellationToken);
            Assert.True(report.Passed, report.Reason);
        }
        finally
        {
            folder.Delete(recursive: true);
        }

        Assert.Equal(scales, plan.Tensors.Any(t => t.Weight is { } w && Math.Abs(w.Scale - 1) > 0.05));
        Assert.All(none.Tensors, t => Assert.Equal(1, t.Weight?.Scale ?? 1));
    }

    [Fact]
    public void On_a_residual_stream_branches_are_chains_of_their_own()
    {
        Net net = Named("residual");
        List<InitialisedTensor> layers = [.. InitNets.Plan(net, new InitOptions { Growth = GrowthRule.Variance }).Plan.Tensors.Where(t => t.Weight is not null)];
        // Stem, three blocks of two, two and one into the wider stream, head.
        double[] logs = [.. layers.Select(l => Math.Log(l.Weight!.Scale))];
        for (int block = 1; block < 7; block += 2)
        {
            Assert.Equal(0, logs[block] + logs[block + 1], 1e-9);
            // α² = κ / √(κ₁κ₂).
            Assert.Equal(0.5 * Math.Log(layers[block].Weight!.Kappa / layers[block + 1].Weight!.Kappa), 2 * logs[block], 1e-9);
        }

        Assert.Equal(logs[7] + logs[8], logs[9], 1e-9);
        Assert.Equal(0, logs[0] + logs[9] + logs[10], 1e-9);
    }

    [Fact]
    public void What_nothing_can_make_good_is_left_alone_with_the_reason()
    {
        InitialisedTensor first = InitNets.Plan(Named("residual with norms"), new InitOptions { Growth = GrowthRule.Variance }).Plan.Tensors.First(t => t.Weight is not null);
        Assert.Equal(1, first.Weight!.Scale);
        Assert.Contains("BatchNormalization", first.Note);
    }

    [Fact]
    public void One_seed_gives_one_set_of_draws_that_growth_only_scales()
    {
        Net net = InitNets.D(channels: 16);
        (InitPlan _, OnnxModel none) = InitNets.Plan(net, new InitOptions { Growth = GrowthRule.None, Seed = 7 });
        (InitPlan plan, OnnxModel variance) = InitNets.Plan(net, new InitOptions { Seed = 7 });
        var plain = Check.Written(none).Graph.Initializer.ToDictionary(t => t.Name);
        var scaled = Check.Written(variance).Graph.Initializer.ToDictionary(t => t.Name);
        foreach (InitialisedTensor tensor in plan.Tensors.Where(t => t.Weight is not null))
        {
            double[] a = Numbers.Decode(ElementType.Float32, plain[tensor.Name].RawData.Span), b = Numbers.Decode(ElementType.Float32, scaled[tensor.Name].RawData.Span);
            Assert.All(a.Zip(b), pair => Assert.Equal(pair.First * tensor.Weight!.Scale, pair.Second, Math.Abs(pair.Second) * 3e-7));
        }
    }

    [Fact]
    public void Reparametrised_weights_are_patterns_of_unit_norm()
    {
        Net net = InitNets.D(channels: 16);
        (double[] none, double[] grown, InitPlan plan) = InitNets.Outputs(net, GrowthRule.Reparametrised);
        double size = none.Max(Math.Abs);
        Assert.All(none.Zip(grown), pair => Assert.Equal(pair.First, pair.Second, size * 1e-5));
        DrawnWeight circulant = plan.Tensors.Single(t => t.Name == "circulant1.weight").Weight!;
        Assert.Equal(16 * 2 / circulant.FanIn, circulant.Variance!.Value, 1e-9);
        (InitPlan _, OnnxModel model) = InitNets.Plan(net, new InitOptions { Growth = GrowthRule.Reparametrised });
        Assert.Equal(2, model.Proto.Graph.Node.Count(n => n.OpType == "Mul"));
    }
}
