using OnnxMorph.Morphs;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Operators;

public class LayoutTests
{
    // x[N, 3] → linear layer with 12 channels → operators → linear layer.
    private static Net Dense(Func<Net, string, string> op, int after, int channels = 12, int opset = 17)
    {
        var net = new Net(ElementType.Float64, opset) { Runs = { new() { ["N"] = 2 }, new() { ["N"] = 5 } } };
        string x = net.Input("x", "N", 3);
        string y = op(net, net.Linear(x, 3, channels, "a"));
        net.Output(net.Op("MatMul", [y, net.Weight([after, 2])], name: "b"));
        return net;
    }

    // x[N, 3, H, W] → convolution with channels → operators → convolution.
    private static Net Image(Func<Net, string, string> op, int after, int channels = 8, int opset = 17, int smallest = 1)
    {
        var net = new Net(opset: opset) { Runs = { new() { ["N"] = 2, ["H"] = 6, ["W"] = 4 }, new() { ["N"] = 1, ["H"] = 2 * smallest, ["W"] = 4 * smallest } } };
        string x = net.Input("x", "N", 3, "H", "W");
        net.Output(net.Conv(op(net, net.Conv(x, 3, channels, name: "a")), after, 2, name: "b"));
        return net;
    }

    [Fact]
    public void ReshapeTakesChannelsApart()
    {
        // Heads × size and back; the outer part grows, in units of the inner.
        Layer.Grow(Dense((net, x) => net.Reshape(net.Op("Tanh", [net.Reshape(x, 0, 3, 4)]), 0, 12), 12), new Layer("a", 12, Unit: 4));
        Layer.Grow(Dense((net, x) => net.Reshape(net.Op("Tanh", [net.Reshape(x, -1, 3, 4)]), -1, 12), 12), new Layer("a", 12, Unit: 4));
        Layer.Grow(Dense((net, x) => net.Reshape(net.Op("Tanh", [net.Reshape(x, 0, 3, -1)]), 0, -1), 12), new Layer("a", 12, Unit: 4));
        Layer.Grow(Dense((net, x) => net.Reshape(net.Op("Tanh", [net.Reshape(x, 0, -1, 4)]), 0, -1), 12), new Layer("a", 12, Unit: 4));
        // Axes of size 1, merged batch, allowzero.
        Layer.Grow(Dense((net, x) => net.Reshape(net.Op("Tanh", [net.Reshape(x, 0, 1, 12, 1)]), -1, 12), 12), new Layer("a", 12));
        Layer.Grow(Dense((net, x) => net.Reshape(net.Op("Tanh", [net.Reshape(x, -1, 4)]), -1, 12), 12), new Layer("a", 12, Unit: 4));
        Layer.Grow(Dense((net, x) => net.Op("Reshape", [net.Reshape(x, -1, 3, 4), net.Ints(-1, 12)], new { allowzero = 1 }), 12), new Layer("a", 12, Unit: 4));
    }

    [Fact]
    public void ComputedTargetsFollow()
    {
        // The batch from Shape, the rest constant.
        Layer.Grow(Dense((net, x) => net.Op("Reshape", [net.Op("Reshape", [x, net.Shape(net.Size(x, 0), 3, 4)]), net.Shape(net.Size(x, 0), -1)]), 12), new Layer("a", 12, Unit: 4));
        Layer.Grow(Dense((net, x) => net.Op("Reshape", [net.Op("Reshape", [x, net.Shape(net.Size(x, 0), 3, 4)]), net.Shape(net.Size(x, 0), 12)]), 12), new Layer("a", 12, Unit: 4));
        // Head size computed from the channels: they are split evenly, so whatever is computed must be overridden.
        Layer.Grow(Dense((net, x) =>
        {
            string size = net.Op("Div", [net.Size(x, 1), net.Int(3)]);
            string heads = net.Op("Reshape", [x, net.Shape(net.Size(x, 0), 3, size)]);
            return net.Op("Reshape", [net.Op("Tanh", [heads]), net.Shape(net.Size(x, 0), net.Op("Mul", [net.Int(3), size]))]);
        }, 12), new Layer("a", 12, Unit: 4));
        // All of another value's shape.
        Layer.Grow(Dense((net, x) => net.Op("Reshape", [net.Reshape(x, 0, 3, 4), net.Op("Shape", [x])]), 12), new Layer("a", 12, Unit: 4));
        // A slice of a shape.
        Layer.Grow(Dense((net, x) => net.Op("Reshape", [x, net.Op("Concat", [net.Op("Slice", [net.Op("Shape", [x]), net.Ints(0), net.Ints(1)]), net.Ints(12)], new { axis = 0 })]), 12), new Layer("a", 12));
        Layer.Grow(Dense((net, x) => net.Op("Reshape", [x, net.Op("Concat", [net.Op("Shape", [x], new { start = 0, end = 1 }), net.Op("Shape", [x], new { start = -1 })], new { axis = 0 })]), 12, opset: 15), new Layer("a", 12));
        // The product of batch and heads, which no constant can replace.
        Layer.Grow(Dense((net, x) =>
        {
            string rows = net.Op("Mul", [net.Size(x, 0), net.Int(3)]);
            return net.Op("Reshape", [net.Op("Reshape", [x, net.Shape(rows, 4)]), net.Shape(net.Size(x, 0), 12)]);
        }, 12), new Layer("a", 12, Unit: 4));
    }

    [Fact]
    public void AReshapeAcrossPartsRefuses() =>
        Layer.Grow(Dense((net, x) => net.Reshape(net.Reshape(net.Op("Add", [net.Reshape(x, 0, 3, 4), net.Weight([3, 4])]), 0, 2, 6), 0, 12), 12, 12),
            // 3×4 and 2×6 have no common outer part.
            new Layer("a", 12, How.Never, Because: "it cuts axes where their parts do not end"));

    /// <summary>A batch of 2 must not be taken for the 2 in a target: at other batches the rows are others.</summary>
    [Fact]
    public void TheBatchIsNoNumber()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2 }, new() { ["N"] = 4 } } };
        string x = net.Input("x", "N", 3);
        string y = net.Reshape(net.Linear(x, 3, 6, "a"), 2, -1);
        net.Output(net.Reshape(net.Op("ReduceMax", [y], new { axes = new[] { 1 } }), -1));
        Layer.Grow(net, new Layer("a", 6, How.Never));
    }

    [Theory]
    [InlineData(11)]
    [InlineData(13)]
    public void SqueezeAndUnsqueeze(int opset)
    {
        string With(Net net, string op, string x, params int[] axes) => opset < 13 ? net.Op(op, [x], new { axes })
            : net.Op(op, [x, net.Ints([.. axes.Select(a => (long)a)])]);
        Layer.Grow(Dense((net, x) => With(net, "Squeeze", With(net, "Unsqueeze", x, 1, -1), 1, 3), 12, opset: opset), new Layer("a", 12));
        Layer.Grow(Dense((net, x) => With(net, "Squeeze", With(net, "Unsqueeze", With(net, "Unsqueeze", x, 0), -2), 0, -2), 12, opset: opset), new Layer("a", 12));
        Layer.Grow(Dense((net, x) => net.Op("Squeeze", [With(net, "Unsqueeze", x, 1)]), 12, opset: opset), new Layer("a", 12));
    }

    [Fact]
    public void Flatten()
    {
        // Channels × positions into a matrix product.
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Input("x", "N", 3, 4, 5);
        string y = net.Op("Flatten", [net.Conv(x, 3, 4, name: "a")], new { axis = 1 });
        net.Output(net.Op("Gemm", [y, net.Weight([6, 80]), net.Weight([6])], new { transB = 1 }, "b"));
        Layer.Grow(net, new Layer("a", 4), new Layer("b", 6, How.Never, Because: "output"));

        net = new Net { Runs = { new() { ["N"] = 2 } } };
        x = net.Input("x", "N", 3, 4, 5);
        y = net.Op("Flatten", [net.Transpose(net.Conv(x, 3, 4, name: "a"), 0, 2, 3, 1)], new { axis = -1 });
        net.Output(net.Op("Gemm", [y, net.Weight([4, 6])], name: "b"));
        Layer.Grow(net, new Layer("a", 4));
    }

    [Fact]
    public void Transpose()
    {
        Layer.Grow(Image((net, x) => net.Transpose(net.Relu(net.Transpose(x, 0, 2, 3, 1)), 0, 3, 1, 2), 8), new Layer("a", 8));
        Layer.Grow(Dense((net, x) => net.Op("Transpose", [net.Op("Transpose", [net.Reshape(x, 0, 3, 4)])]) is { } y ? net.Reshape(y, 0, 12) : "", 12), new Layer("a", 12, Unit: 4));
    }

    /// <summary>Between 2 groups: g×i becomes i×g, so groups and channels of a group stay what they are and one of them grows.</summary>
    [Fact]
    public void ChannelShuffle()
    {
        string Shuffle(Net net, string x, bool computed)
        {
            string apart = computed
                ? net.Op("Reshape", [x, net.Shape(net.Size(x, 0), 2, net.Op("Div", [net.Size(x, 1), net.Int(2)]), net.Size(x, 2), net.Size(x, 3))])
                : net.Op("Reshape", [x, net.Shape(net.Size(x, 0), 2, 4, net.Size(x, 2), net.Size(x, 3))]);
            string mixed = net.Transpose(apart, 0, 2, 1, 3, 4);
            return net.Op("Reshape", [mixed, net.Shape(net.Size(x, 0), -1, net.Size(x, 2), net.Size(x, 3))]);
        }

        Layer.Grow(Image((net, x) => Shuffle(net, x, false), 8), new Layer("a", 8, Unit: 4));
        Layer.Grow(Image((net, x) => Shuffle(net, x, true), 8), new Layer("a", 8, Unit: 4));
        // Both factors grow: one for the first layer, the other as the groups of the second.
        MorphResult result = Layer.Grow(Image((net, x) => net.Conv(Shuffle(net, net.Relu(x), false), 8, 8, group: 4, name: "g"), 8), new Layer("g", 8, Unit: 2));
        Check.Grown(result, "a", 3 * 6);
    }

    [Fact]
    public void Expand()
    {
        // A class token in front of the patches, at any batch.
        Layer.Grow(Dense((net, x) =>
        {
            string token = net.Op("Expand", [net.Weight([1, 1, 12]), net.Shape(net.Size(x, 0), 1, 12)]);
            string all = net.Op("Concat", [token, net.Op("Unsqueeze", [x, net.Ints(1)])], new { axis = 1 });
            return net.Op("ReduceMean", [all], new { axes = new[] { 1 }, keepdims = 0 });
        }, 12), new Layer("a", 12));
        // One number for all channels.
        Layer.Grow(Dense((net, x) => net.Add(x, net.Op("Expand", [net.Weight([1]), net.Ints(12)])), 12), new Layer("a", 12));
        Layer.Grow(Dense((net, x) => net.Add(x, net.Op("Expand", [net.Weight([1]), net.Op("Shape", [x])])), 12), new Layer("a", 12));
        Layer.Grow(Dense((net, x) => net.Op("Expand", [x, net.Ints(1, 1)]), 12), new Layer("a", 12));
    }

    /// <summary>PyTorch's expand: −1 entries of a target are found with Equal and Where.</summary>
    [Fact]
    public void ExpandAsPyTorchExportsIt() =>
        Layer.Grow(Dense((net, x) =>
        {
            string wanted = net.Shape(net.Size(x, 0), -1, 12);
            string ones = net.Op("ConstantOfShape", [net.Ints(3)], new { value = Net.IntTensor("", [1], [1]) });
            string target = net.Op("Where", [net.Op("Equal", [wanted, net.Op("Mul", [ones, net.Int(-1)])]), ones, wanted]);
            return net.Op("Squeeze", [net.Op("Mul", [net.Op("Unsqueeze", [x, net.Ints(1)]), net.Op("Expand", [net.Weight([1, 1, 12]), target])]), net.Ints(1)]);
        }, 12), new Layer("a", 12));

    [Fact]
    public void ConstantOfShape() =>
        Layer.Grow(Dense((net, x) => net.Add(x, net.Op("ConstantOfShape", [net.Op("Concat", [net.Ints(1), net.Op("Shape", [x], new { start = 1 })], new { axis = 0 })],
            new { value = Net.Tensor("", ElementType.Float64, [1], () => 0.25) })), 12), new Layer("a", 12));

    [Fact]
    public void Tile()
    {
        Layer.Grow(Dense((net, x) => net.Op("Tile", [x, net.Ints(1, 3)]), 36), new Layer("a", 12));
        Layer.Grow(Dense((net, x) => net.Op("Squeeze", [net.Op("ReduceMax", [net.Op("Tile", [net.Op("Unsqueeze", [x, net.Ints(1)]), net.Ints(1, 4, 1)])], new { axes = new[] { 1 } }), net.Ints(1)]), 12), new Layer("a", 12));
    }

    [Theory]
    [InlineData("DCR")]
    [InlineData("CRD")]
    public void DepthToSpace(string mode) =>
        Layer.Grow(Image((net, x) => net.Op("DepthToSpace", [x], new { blocksize = 2, mode }), 2), new Layer("a", 8, Unit: 4));

    [Fact]
    public void SpaceToDepth() =>
        Layer.Grow(Image((net, x) => net.Op("SpaceToDepth", [x], new { blocksize = 2 }), 32), inDouble: false, new Layer("a", 8));

    [Fact]
    public void ConcatOfTwoLayersAndAWeight()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Input("x", "N", 3);
        string y = net.Op("Concat", [net.Linear(x, 3, 4, "a"), x, net.Linear(x, 3, 2, "b"), net.Op("Expand", [net.Weight([1, 2]), net.Shape(net.Size(x, 0), 2)])], new { axis = -1 });
        net.Output(net.Linear(y, 11, 2, "c"));
        Layer.Grow(net, new Layer("a", 4), new Layer("b", 2));
    }

    [Fact]
    public void ConcatTiesItsOtherAxes()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Input("x", "N", 3, 4, 4);
        string y = net.Op("Concat", [net.Conv(x, 3, 4, name: "a"), net.Conv(x, 3, 4, name: "b")], new { axis = 2 });
        net.Output(net.Conv(y, 4, 2, name: "c"));
        MorphResult result = Check.Morph(net, Check.Widen("a", "6"));
        Check.Grown(result, "a", 6);
        Assert.Equal(6, result.Relations["b_out"][1]!.Size);
    }

    [Theory]
    [InlineData(11)]
    [InlineData(13)]
    [InlineData(18)]
    public void Split(int opset)
    {
        string[] Parts(Net net, string x, int[]? sizes, int count)
        {
            if (sizes is null)
                return opset >= 18 ? net.Ops("Split", count, [x], new { axis = -1, num_outputs = count }) : net.Ops("Split", count, [x], new { axis = -1 });
            return opset < 13 ? net.Ops("Split", count, [x], new { axis = -1, split = sizes })
                : net.Ops("Split", count, [x, net.Ints([.. sizes.Select(s => (long)s)])], new { axis = -1 });
        }

        // A gate: both halves are one space.
        Layer.Grow(Dense((net, x) => Parts(net, x, [6, 6], 2) is [var a, var b] ? net.Mul(a, net.Op("Sigmoid", [b])) : "", 6, opset: opset), new Layer("a", 12, Unit: 2));
        Layer.Grow(Dense((net, x) => Parts(net, x, null, 2) is [var a, var b] ? net.Mul(a, net.Op("Sigmoid", [b])) : "", 6, opset: opset), new Layer("a", 12, Unit: 2));
        // Parts of different sizes, swapped; each grows in proportion.
        MorphResult result = Check.Morph(Dense((net, x) => Parts(net, x, [3, 9], 2) is [var a, var b] ? net.Op("Concat", [net.Op("Tanh", [b]), a], new { axis = 1 }) : "", 12, opset: opset), Check.Widen("a", "x1.5"));
        Check.Grown(result, "a", 5 + 14);
        // One part goes to an output, the other grows.
        var net = new Net(ElementType.Float64, opset);
        string[] parts = Parts(net, net.Linear(net.Input("x", 2, 3), 3, 12, "a"), [8, 4], 2);
        net.Output(parts[1]);
        net.Output(net.Linear(parts[0], 8, 2, "b"));
        Check.Grown(Check.Morph(net, Check.Widen("a", "x1.5")), "a", 12 + 4);
        // Even parts that would have to differ stay.
        net = new Net(ElementType.Float64, opset);
        parts = Parts(net, net.Linear(net.Input("x", 2, 3), 3, 12, "a"), null, 2);
        net.Output(parts[1]);
        net.Output(net.Linear(parts[0], 6, 2, "b"));
        Check.Refused(Check.Morph(net, Check.Widen("a", "x1.5")), "a", "splits evenly");
    }

    /// <summary>Sizes of a split that are computed from the shape: halves that stay even, and one half that must not follow.</summary>
    [Fact]
    public void SplitBySizesOfTheShape()
    {
        string[] Halves(Net net, string x)
        {
            string half = net.Op("Div", [net.Size(x, 1), net.Int(2)]);
            return net.Ops("Split", 2, [x, net.Shape(half, net.Op("Sub", [net.Size(x, 1), half]))], new { axis = 1 });
        }

        Layer.Grow(Dense((net, x) => Halves(net, x) is [var a, var b] ? net.Mul(a, b) : "", 6), new Layer("a", 12, Unit: 2));
        var net = new Net(ElementType.Float64);
        string[] parts = Halves(net, net.Linear(net.Input("x", 2, 3), 3, 12, "a"));
        net.Output(parts[1]);
        net.Output(net.Linear(parts[0], 6, 2, "b"));
        Check.Grown(Check.Morph(net, Check.Widen("a", "x1.5")), "a", 9 + 6);
    }

    [Theory]
    [InlineData(9)]
    [InlineData(10)]
    [InlineData(13)]
    public void Slice(int opset)
    {
        string Cut(Net net, string x, long start, long end, long axis = 1) => opset < 10
            ? net.Op("Slice", [x], new { starts = new[] { start }, ends = new[] { end }, axes = new[] { axis } })
            : net.Op("Slice", [x, net.Ints(start), net.Ints(end), net.Ints(axis)]);
        foreach (long end in new[] { 12, 100, int.MaxValue, long.MaxValue })
        {
            // Halves by position from the front, the back, to the end.
            Layer.Grow(Dense((net, x) => net.Mul(Cut(net, x, 0, 6), Cut(net, x, 6, end)), 6, opset: opset), new Layer("a", 12, Unit: 2));
            Layer.Grow(Dense((net, x) => net.Mul(Cut(net, x, 0, -6), Cut(net, x, -6, end, opset < 10 ? 1 : -1)), 6, opset: opset), new Layer("a", 12, Unit: 2));
            // All of it.
            Layer.Grow(Dense((net, x) => Cut(net, x, 0, end), 12, opset: opset), new Layer("a", 12));
            Layer.Grow(Dense((net, x) => Cut(net, x, -12, end), 12, opset: opset), new Layer("a", 12));
            if (opset >= 10)
                Layer.Grow(Dense((net, x) => Cut(net, x, -100, end), 12, opset: opset), new Layer("a", 12));
        }

        // The middle.
        Check.Grown(Check.Morph(Dense((net, x) => Cut(net, x, 4, -4), 4, opset: opset), Check.Widen("a", "x1.5")), "a", 18);
        // A slice of the rows does not touch the channels.
        Layer.Grow(Dense((net, x) => Cut(net, x, 1, long.MaxValue, 0), 12, opset: opset), new Layer("a", 12));
    }

    [Fact]
    public void SliceWithStepsOrByData()
    {
        Layer.Grow(Dense((net, x) => net.Op("Slice", [x, net.Ints(0), net.Ints(12), net.Ints(1), net.Ints(2)]), 6), new Layer("a", 12, How.Never, Because: "every so many"));
        Layer.Grow(Dense((net, x) => net.Op("Slice", [x, net.Ints(-1), net.Ints(long.MinValue), net.Ints(1), net.Ints(-1)]), 12), new Layer("a", 12, How.Never, Because: "every so many"));
        // Several axes at once, the batch among them.
        Layer.Grow(Dense((net, x) => net.Mul(net.Op("Slice", [x, net.Ints(0, 0), net.Ints(long.MaxValue, 6)]), net.Op("Slice", [x, net.Ints(6, 0), net.Ints(12, 9), net.Ints(1, 0)])), 6), new Layer("a", 12, Unit: 2));
        // Where the range comes from data nothing is known.
        var net = new Net(ElementType.Float64);
        string y = net.Linear(net.Input("x", 2, 3), 3, 12, "a");
        string from = net.Op("Cast", [net.Op("ArgMax", [net.Reshape(y, -1)], new { axis = 0 })], new { to = (int)ElementType.Int64 });
        string cut = net.Op("Slice", [y, net.Op("Min", [from, net.Ints(5)]), net.Ints(12), net.Ints(1)]);
        net.Output(net.Op("ReduceMax", [cut]));
        Layer.Grow(net, new Layer("a", 12, How.Never));
    }

    /// <summary>
    /// Positions computed from the shape: the second part of a[8]+b[8] from half of the channels on. When the parts grow by
    /// different amounts, half is no longer where the second part begins.
    /// </summary>
    [Fact]
    public void SliceAtPositionsOfTheShape()
    {
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 3 } } };
        string x = net.Input("x", "N", 3);
        string joined = net.Op("Concat", [net.Linear(x, 3, 8, "a"), net.Linear(x, 3, 8, "b")], new { axis = 1 });
        string half = net.Op("Unsqueeze", [net.Op("Div", [net.Size(joined, 1), net.Int(2)]), net.Ints(0)]);
        string end = net.Op("Add", [half, net.Ints(8)]);
        string second = net.Op("Slice", [joined, half, end, net.Ints(1)]);
        net.Output(net.Linear(second, 8, 2, "c"));
        net.Output(net.Linear(joined, 16, 2, "d"));
        MorphResult result = Check.Morph(net, Check.Widen("a", "12"));
        Check.Grown(result, "a", 12);
        Check.Grown(Check.Morph(net, Check.Widen("b", "12")), "b", 12);
    }

    /// <summary>Heads of one value by positions that callers choose a part of.</summary>
    [Fact]
    public void SliceOfRowsTimesChannelsRefuses()
    {
        foreach ((long start, long end) in new[] { (0L, 100L), (-12L, long.MaxValue), (12L, long.MaxValue), (0L, -12L) })
        {
            var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 4 }, new() { ["N"] = 30 } } };
            string x = net.Input("x", "N", 3);
            string rows = net.Op("Slice", [net.Reshape(net.Linear(x, 3, 12, "a"), -1), net.Ints(start), net.Ints(end)]);
            net.Output(net.Linear(net.Reshape(net.Op("Slice", [rows, net.Ints(0), net.Ints(36)]), -1, 12), 12, 2, "b"));
            Layer.Grow(net, new Layer("a", 12, How.Never));
        }
    }

    [Fact]
    public void Gather()
    {
        // Another axis than the channels; one index of an axis; the channels themselves.
        Layer.Grow(Dense((net, x) => net.Op("Gather", [net.Op("Unsqueeze", [x, net.Ints(1)]), net.Int(0)], new { axis = 1 }), 12), new Layer("a", 12));
        Layer.Grow(Dense((net, x) => net.Reshape(net.Op("Gather", [net.Reshape(x, 0, 3, 4), net.Ints(2, 0, 1)], new { axis = -2 }), 0, 12), 12), new Layer("a", 12, Unit: 3));
        Layer.Grow(Dense((net, x) => net.Op("Gather", [x, net.Ints(3, 1, 4)], new { axis = 1 }), 3), new Layer("a", 12, How.Never, Because: "picks indices"));
        // An embedding table, contracted later.
        var net = new Net(ElementType.Float64) { Runs = { new() { ["N"] = 2 } }, Vocabulary = { ["ids"] = 7 } };
        string tokens = net.Op("Gather", [net.Weight([7, 4]), net.Input("ids", ElementType.Int64, "N", 3)]);
        string y = net.Add(tokens, net.Linear(net.Relu(tokens), 4, 4, "a"));
        net.Output(net.Linear(y, 4, 2, "b"));
        Layer.Grow(net, new Layer("a", 4));
    }

    [Theory]
    [InlineData(10)]
    [InlineData(13)]
    [InlineData(18)]
    public void Pad(int opset)
    {
        string Padded(Net net, string x, params int[] pads) => opset < 11 ? net.Op("Pad", [x], new { pads, value = 0.5 })
            : net.Op("Pad", [x, net.Ints([.. pads.Select(p => (long)p)]), net.Filled(0.5)]);
        // ResNet's shortcut without weights: zeros (here 0.5) around the channels.
        Layer.Grow(Image((net, x) => Padded(net, x, 0, 2, 0, 1, 0, 3, 1, 0), 13, opset: opset), inDouble: opset > 10, new Layer("a", 8));
        Layer.Grow(Image((net, x) => Padded(net, x, 0, 0, 1, 2, 0, 0, 0, 1), 8, opset: opset), inDouble: opset > 10, new Layer("a", 8));
        Layer.Grow(Image((net, x) => Padded(net, x, 0, -2, 0, 0, 0, 0, 0, 0), 6, opset: opset), inDouble: opset > 10, new Layer("a", 8, How.Never, Because: "it pads this axis"));
        if (opset < 18)
            return;
        // Pads for the axes that are listed, in their order.
        Layer.Grow(Image((net, x) => net.Op("Pad", [x, net.Ints(1, 2, 0, 1), net.Filled(0.5), net.Ints(-1, 1)]), 11, opset: opset), new Layer("a", 8));
        Layer.Grow(Image((net, x) => net.Op("Pad", [x, net.Ints(0, 1, 2, 0, 0, 0, 0, 3), net.Filled(0.5), net.Ints(1, 0, 3, 2)]), 8, opset: opset), new Layer("a", 8));
    }

    [Theory]
    [InlineData("reflect")]
    [InlineData("edge")]
    public void PadByMirrors(string mode)
    {
        Layer.Grow(Image((net, x) => net.Op("Pad", [x, net.Ints(0, 0, 1, 1, 0, 0, 0, 1)], new { mode }), 8, smallest: 2), new Layer("a", 8));
        Layer.Grow(Image((net, x) => net.Op("Pad", [x, net.Ints(0, 1, 0, 0, 0, 0, 0, 0)], new { mode }), 9), new Layer("a", 8, How.Never, Because: "it pads this axis"));
    }
}
