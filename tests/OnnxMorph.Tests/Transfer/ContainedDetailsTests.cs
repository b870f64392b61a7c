using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Transfer;

/// <summary>Single things that stand between a source and a target which contains it, each in the smallest network that has it.</summary>
public class ContainedDetailsTests
{
    /// <summary>Builds both networks and holds the filled target to the source.</summary>
    private static void Holds(Func<Net, bool, string> network)
    {
        Net source = Built(1, target: false), target = Built(2, target: true);
        ModelProto? filled = Containing.Fill(source.Model, target.Model, out string why);
        Assert.True(filled is not null, why);
        TransferNets.SameFunction(source, filled);

        Net Built(int seed, bool target)
        {
            var net = new Net(seed: seed, opset: 17);
            net.Output(network(net, target));
            return net;
        }
    }

    /// <summary>Channels that are means of others are not read: what they are means of is.</summary>
    [Theory]
    [InlineData(5)]
    [InlineData(8)]
    public void MeansAreNotRead(int width) => Holds((net, target) =>
    {
        int n = target ? width : 2;
        string x = net.Op("MatMul", [net.Input("tokens", 2, 3, 6), net.Weight([6, n])]);
        string centred = net.Op("Sub", [x, net.Op("ReduceMean", [x], new { axes = new[] { -1 } })]);
        return net.Add(net.Linear(centred, n, 4), net.Linear(x, n, 4));
    });

    /// <summary>A layer made of three, concatenated with itself: parts of one kind are told apart by their places.</summary>
    [Fact]
    public void PartsOfOneKindStandInTheirPlaces() => Holds((net, target) =>
    {
        string x = net.Input("tokens", 2, 3, 4);
        string made = target ? net.Op("Concat", [.. Enumerable.Range(0, 3).Select(_ => net.Op("MatMul", [x, net.Weight([4, 2])]))], new { axis = -1 }) : net.Op("MatMul", [x, net.Weight([4, 6])]);
        return net.Linear(net.Op("Concat", [made, made], new { axis = -1 }), 12, 2);
    });

    /// <summary>Beside what callers give, whose parts are of no layer; one part is a single channel.</summary>
    [Theory]
    [InlineData(3, 5)]
    [InlineData(1, 3)]
    public void PartsStandBesideInputs(int first, int second) => Holds((net, target) =>
    {
        string x = net.Input("vector", 2, 6);
        string made = target ? net.Op("Concat", [net.Linear(x, 6, first), net.Linear(x, 6, second)], new { axis = -1 }) : net.Linear(x, 6, 4);
        return net.Linear(net.Op("Concat", [net.Op("Tanh", [made]), x, x], new { axis = -1 }), 12 + (target ? first + second : 4), 3);
    });

    /// <summary>Layers that each give on some of the channels read all of them.</summary>
    [Fact]
    public void BranchesReadAllChannels() => Holds((net, target) =>
    {
        string x = net.Relu(net.Input("vector", 2, 6));
        if (target)
            x = net.Op("Concat", [net.Op("MatMul", [x, net.Weight([6, 3])]), net.Op("MatMul", [x, net.Weight([6, 3])])], new { axis = 1 });
        return net.Linear(x, 6, 2);
    });

    /// <summary>Parametric ReLUs whose slopes are those of another activation, or of none.</summary>
    [Theory]
    [InlineData(-0.25, "LeakyRelu")]
    [InlineData(0.0, "Relu")]
    [InlineData(1.0, null)]
    public void SlopesAreActivations(double slope, string? activation) => Holds((net, target) =>
    {
        string x = net.Linear(net.Input("vector", 2, 6), 6, 4);
        x = !target ? net.Op("PRelu", [x, net.Filled(slope, 1)])
            : activation is null ? x : activation == "Relu" ? net.Relu(x) : net.Op("LeakyRelu", [x], new { alpha = slope });
        return net.Linear(x, 4, 2);
    });

    private static string WithoutScale(Net net, string x, double epsilon, double share = 1)
    {
        string mean = net.Op("ReduceMean", [net.Mul(x, x)], new { axes = new[] { -1 } });
        if (share != 1)
            mean = net.Mul(mean, net.Filled(share));
        return net.Op("Div", [x, net.Op("Sqrt", [net.Add(mean, net.Filled(epsilon))])]);
    }

    /// <summary>A norm without a scale takes copies alone, or what makes it good stands in the target: 8 channels hold the 2 of the source r times, 8/(2·r) = share.</summary>
    [Theory]
    [InlineData(4, 1)]
    [InlineData(8, 1)]
    [InlineData(8, 4)]
    [InlineData(8, 2)]
    [InlineData(7, 3.5)]
    public void NormsWithoutScale(int width, double share) => Holds((net, target) =>
    {
        int n = target ? width : 2;
        string x = net.Op("MatMul", [net.Input("tokens", 2, 3, 5), net.Weight([5, n])]);
        return net.Linear(WithoutScale(net, x, 0.1, target ? share : 1), n, 3);
    });

    /// <summary>Positions are picked, summed over and moved past channels that nothing is asked of.</summary>
    [Theory]
    [InlineData("Gather")]
    [InlineData("Slice")]
    [InlineData("ReduceMean")]
    [InlineData("Transpose")]
    public void OtherChannelsGoThroughWhatMoves(string moves) => Holds((net, target) =>
    {
        string x = net.Input("tokens", 2, 5, 4);
        string made = net.Op("MatMul", [x, net.Weight([4, 3])]);
        if (target)
            made = net.Op("Concat", [net.Op("MatMul", [x, net.Weight([4, 2])]), made], new { axis = -1 });
        string y = moves switch
        {
            "Gather" => net.Op("Gather", [made, net.Int(2)], new { axis = 1 }),
            "Slice" => net.Op("Slice", [made, net.Ints(1), net.Ints(3), net.Ints(1)]),
            "ReduceMean" => net.Op("ReduceMean", [made], new { axes = new[] { 1 }, keepdims = 0 }),
            _ => net.Op("Transpose", [made], new { perm = new[] { 1, 0, 2 } }),
        };
        return net.Linear(y, target ? 5 : 3, 2);
    });

    /// <summary>What is added behind a layer with a bias is no bias of a layer without effect behind that.</summary>
    [Fact]
    public void WhatIsAddedBehindABias() => Holds((net, target) =>
    {
        string x = net.Conv(net.Input("image", 2, 3, 5, 5), 3, 4);
        if (target)
            x = net.Conv(x, 4, 4, 1, bias: false);
        return net.Conv(net.Relu(net.Add(x, net.Weight([4, 1, 1]))), 4, 2, 1);
    });

    /// <summary>Negatives of what callers give beside it, in front of an activation.</summary>
    [Fact]
    public void InputsAreMirrored() => Holds((net, target) =>
    {
        string x = net.Input("image", 2, 2, 5, 5);
        if (target)
            x = net.Relu(net.Conv(x, 2, 8, 1, bias: false));
        return net.Conv(x, target ? 8 : 2, 3);
    });

    /// <summary>Several of each channel in each group, of channels that callers give.</summary>
    [Fact]
    public void GroupsHoldSeveralOfAnInput() => Holds((net, target) =>
    {
        string x = net.Input("image", 2, 2, 5, 5);
        if (target)
            x = net.Op("PRelu", [net.Op("Conv", [x, net.Weight([16, 1, 1, 1])], new { group = 2 }), net.Weight([16, 1, 1])]);
        return net.Op("ConvTranspose", [x, net.Weight([target ? 16 : 2, 2, 3, 3]), net.Weight([4])], new { group = 2, strides = new[] { 2, 2 } });
    });

    /// <summary>A larger kernel sees what was padded at the output.</summary>
    [Fact]
    public void TransposedKernelsTakeOutputPadding() => Holds((net, target) =>
    {
        string x = net.Input("image", 2, 3, 5, 5);
        int[] pads = [1, 1, 1, 1], strides = [2, 2];
        return target ? net.Op("ConvTranspose", [x, net.Weight([3, 4, 4, 4]), net.Weight([4])], new { strides, pads })
            : net.Op("ConvTranspose", [x, net.Weight([3, 4, 3, 3]), net.Weight([4])], new { strides, pads, output_padding = new[] { 1, 1 } });
    });

    /// <summary>Layers that share out what one makes.</summary>
    [Theory]
    [InlineData("Conv")]
    [InlineData("ConvTranspose")]
    public void LayersShareOutWhatOneMakes(string op) => Holds((net, target) =>
    {
        string x = net.Relu(net.Input("image", 2, 4, 5, 5));
        string Made(int channels) => net.Op(op, [x, net.Weight(op == "Conv" ? [channels, 4, 3, 3] : [4, channels, 3, 3]), net.Weight([channels])], new { strides = new[] { 2, 2 } });
        return net.Relu(target ? net.Op("Concat", [Made(4), Made(4)], new { axis = 1 }) : Made(8));
    });

    /// <summary>Groups that read fewer channels than the source's cannot hold what these make.</summary>
    [Fact]
    public void NarrowerGroupsAreNotTheSources()
    {
        Net source = Grouped(2, 1), target = Grouped(4, 2);
        Assert.Null(Containing.Fill(source.Model, target.Model, out _));

        static Net Grouped(int groups, int seed)
        {
            var net = new Net(seed: seed);
            string x = net.Relu(net.Conv(net.Input("image", 2, 3, 5, 5), 3, 8));
            net.Output(net.Conv(net.Op("Conv", [x, net.Weight([8, 8 / groups, 3, 3])], new { group = groups }), 8, 2, 1));
            return net;
        }
    }
}
