using OnnxMorph.Initialization;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using Array = OnnxMorph.Tests.Testing.Array;

namespace OnnxMorph.Tests.Initialization;

/// <summary>The four networks of Yang et al. 2021 with their sharing in the graph, and what tests of initialisation do with a network.</summary>
internal static class InitNets
{
    /// <summary>Convolutions and max pools on 28×28, up to 64×7×7.</summary>
    private static (Net Net, string Value) Trunk(int opset = 19)
    {
        var net = new Net(opset: opset);
        string x = net.Input("x", 2, 1, 28, 28);
        foreach ((int inputs, int outputs, string name) in ((int, int, string)[])[(1, 32, "conv1"), (32, 64, "conv2")])
        {
            string y = net.Op("Conv", [x, net.Weight([outputs, inputs, 3, 3], name: $"{name}.weight"), net.Weight([outputs], name: $"{name}.bias")], new { pads = (int[])[1, 1, 1, 1] }, name);
            x = net.Op("MaxPool", [net.Relu(y)], new { kernel_shape = (int[])[2, 2], strides = (int[])[2, 2] });
        }

        return (net, x);
    }

    private static string Linear(Net net, string x, int inputs, int outputs, string name) =>
        net.Op("Gemm", [x, net.Weight([outputs, inputs], name: $"{name}.weight"), net.Weight([outputs], name: $"{name}.bias")], new { transB = 1 }, name);

    public static Net A()
    {
        (Net net, string x) = Trunk();
        x = net.Relu(Linear(net, net.Reshape(x, 2, 3136), 3136, 64, "fc1"));
        net.Output(Linear(net, x, 64, 10, "fc2"));
        return net;
    }

    /// <summary>A periodic kernel of 55×55 on 56×56.</summary>
    public static Net B()
    {
        (Net net, string x) = Trunk();
        x = net.Op("Pad", [net.Reshape(x, 2, 1, 56, 56), net.Ints(0, 0, 27, 27, 0, 0, 27, 27)], new { mode = "wrap" });
        x = net.Relu(net.Op("Conv", [x, net.Weight([1, 1, 55, 55], name: "periodic.weight"), net.Weight([1], name: "periodic.bias")], name: "periodic"));
        net.Output(Linear(net, net.Reshape(x, 2, 3136), 3136, 10, "fc"));
        return net;
    }

    /// <summary>A layer of circulant blocks of 1568, one for each 1568 inputs.</summary>
    public static Net C(int block = 1568)
    {
        (Net net, string x) = Trunk();
        var indices = new long[2L * block * block];
        for (int i = 0; i < indices.Length; i++)
            indices[i] = i / (2 * block) is var row && i % (2 * block) is var column ? column / block * block + (column + block - row) % block : 0;
        string weight = net.Op("Gather", [net.Weight([2L * block], name: "circulant.weight"), net.IntsOf([block, 2 * block], indices)], new { axis = 0 });
        x = net.Reshape(x, 2, 3136);
        if (2 * block != 3136)
            x = net.Op("Slice", [x, net.Ints(0), net.Ints(2 * block), net.Ints(1)]);
        x = net.Relu(net.Add(net.Op("MatMul", [x, net.Transpose(weight, 1, 0)], name: "circulant"), net.Weight([block], name: "circulant.bias")));
        net.Output(Linear(net, x, block, 10, "fc"));
        return net;
    }

    /// <summary>Two convolutions that are circulant over their 256 channels.</summary>
    public static Net D(int channels = 256)
    {
        (Net net, string x) = Trunk();
        x = net.Relu(net.Op("Conv", [x, net.Weight([channels, 64, 3, 3], name: "conv3.weight")], new { pads = (int[])[1, 1, 1, 1] }, "conv3"));
        foreach (string name in (string[])["circulant1", "circulant2"])
        {
            string weight = net.Op("Gather", [net.Weight([channels, 3, 3], name: $"{name}.weight"), Circulant(net, channels)], new { axis = 0 });
            x = net.Relu(net.Op("Conv", [x, weight], new { pads = (int[])[1, 1, 1, 1] }, name));
        }

        x = net.Relu(Linear(net, net.Reshape(x, 2, channels * 49), channels * 49, 64, "fc1"));
        net.Output(Linear(net, x, 64, 10, "fc2"));
        return net;
    }

    public static string Circulant(Net net, int size) =>
        net.IntsOf([size, size], [.. Enumerable.Range(0, size * size).Select(i => (long)((i % size - i / size + size) % size))]);

    public static (InitPlan Plan, OnnxModel Model) Plan(Net net, InitOptions options)
    {
        AnalysedModel model = AnalysedModel.Of(net.Model);
        var plan = InitPlan.Of(model, options);
        plan.Apply();
        return (plan, model.Model);
    }

    public static Dictionary<string, DrawnWeight> Weights(Net net, InitOptions options) =>
        Plan(net, options).Plan.Tensors.Where(t => t.Weight is not null).ToDictionary(t => t.Name, t => t.Weight!);

    /// <summary>Normal draws for the only input.</summary>
    public static Dictionary<string, Array> Normal(Net net, int seed)
    {
        Array drawn = Check.Feeds(net, [], 1).Single().Value;
        var random = new Random(seed);
        double Next() => Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());
        return new() { [net.Proto.Graph.Input[0].Name] = drawn with { Values = [.. drawn.Values.Select(_ => (double)(float)Next())] } };
    }

    /// <summary>The model's values on drawn inputs, once with the growth rule and once without.</summary>
    public static (double[] None, double[] Grown, InitPlan Plan) Outputs(Net net, GrowthRule growth)
    {
        (InitPlan _, OnnxModel none) = Plan(net, new InitOptions { Growth = GrowthRule.None, Seed = 3 });
        (InitPlan plan, OnnxModel grown) = Plan(net, new InitOptions { Growth = growth, Seed = 3 });
        var feeds = Normal(net, 5);
        string output = net.Proto.Graph.Output[0].Name;
        return (Check.Run(Check.Written(none), feeds, [output])[output].Values, Check.Run(Check.Written(grown), feeds, [output])[output].Values, plan);
    }
}
