using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Initialization;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// The weight of a linear layer, however its operator lays it out: which axes hold the output channels, the input channels and the kernel. Groups
/// divide one of the two channel axes; the other counts the channels of one group.
/// </summary>
/// <param name="Data">The weight.</param>
/// <param name="OutputAxis">Axis of the output channels.</param>
/// <param name="InputAxis">Axis of the input channels.</param>
/// <param name="KernelAxes">Axes of the kernel, in the order of the layer's spatial axes.</param>
/// <param name="Groups">Groups of channels that do not mix.</param>
/// <param name="GroupedAxis">The axis that all groups share, one behind the other.</param>
internal sealed record LayerWeight(WeightExpression Data, int OutputAxis, int InputAxis, ImmutableArray<int> KernelAxes, int Groups, int GroupedAxis)
{
    /// <summary>Output channels of a group.</summary>
    public int Outputs => PerGroup(OutputAxis);

    /// <summary>Input channels of a group.</summary>
    public int Inputs => PerGroup(InputAxis);

    /// <summary>Taps along each spatial axis.</summary>
    public ImmutableArray<int> Kernel => [.. KernelAxes.Select(axis => checked((int)Data.Shape[axis]))];

    /// <summary>Standard deviation that keeps the size of signals behind a ReLU: √(2 / inputs) (He 2015), inputs being summed-over weights.</summary>
    public static double HeScale(int inputs, ImmutableArray<int> kernel) =>
        Draws.HeDeviation(kernel.Aggregate((long)inputs, (product, taps) => product * taps));

    /// <summary>The weight with a map on the output channels of each group.</summary>
    public LayerWeight MapOutputs(AxisMap map, Fill fill = default) => Map(OutputAxis, map, fill);

    /// <summary>The weight with a map on the input channels of each group.</summary>
    public LayerWeight MapInputs(AxisMap map, Fill fill = default) => Map(InputAxis, map, fill);

    /// <summary>R·W, or Rᵀ·W: the output channels of each group rotated. Groups have rotations of their own where they share the axis.</summary>
    public LayerWeight RotateOutputs(ulong seed, bool transpose) => Rotate(OutputAxis, seed, transpose);

    /// <summary>W·Rᵀ, or W·R where <paramref name="transpose"/>: the input channels of each group rotated.</summary>
    public LayerWeight RotateInputs(ulong seed, bool transpose) => Rotate(InputAxis, seed, transpose);

    /// <summary>The kernel with zeros around it: (K' − K)/2 of them, rounded down, in front.</summary>
    public LayerWeight PadKernel(ImmutableArray<int> kernel)
    {
        var maps = new AxisMap?[Data.Shape.Length];
        for (int axis = 0; axis < kernel.Length; axis++)
        {
            int own = Kernel[axis], extra = kernel[axis] - own;
            maps[KernelAxes[axis]] = AxisMap.ZeroPad(own, extra / 2, extra - extra / 2);
        }

        return this with { Data = Data.Map([.. maps], Fill.Zero) };
    }

    private int PerGroup(int axis) => checked((int)(Data.Shape[axis] / (axis == GroupedAxis ? Groups : 1)));

    private LayerWeight Map(int axis, AxisMap map, Fill fill)
    {
        var maps = new AxisMap?[Data.Shape.Length];
        maps[axis] = axis == GroupedAxis ? AxisMap.Kronecker(AxisMap.Identity(Groups), map) : map;
        return this with { Data = Data.Map([.. maps], fill) };
    }

    private LayerWeight Rotate(int axis, ulong seed, bool transpose) =>
        this with { Data = new RotatedWeight(Data, axis, axis == GroupedAxis ? Groups : 1, seed, transpose) };
}
