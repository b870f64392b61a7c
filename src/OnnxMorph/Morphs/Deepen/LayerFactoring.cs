using System.Collections.Immutable;
using System.Numerics.Tensors;
using OnnxMorph.Axes;
using OnnxMorph.Kernels;
using OnnxMorph.Numerics;
using OnnxMorph.Weights;

namespace OnnxMorph.Morphs;

/// <summary>
/// Makes a layer's weights into the weights of several layers (METHODS.md §2, Depth). The closed form and the identity are expressions over
/// the layer's weights. Least squares has to look at the weights, since the residual decides whether the layer is deepened at all:
/// both halves are computed when the step is planned, and kept in float64 until they are written.
/// </summary>
internal sealed class LayerFactoring(DeepenOptions options)
{
    /// <summary>Size of the kernel of a new depthwise layer: as small as sees its neighbours.</summary>
    private const int DepthwiseKernel = 3;

    /// <summary>The chain that layers with one weight become; null with the reason where there is none.</summary>
    /// <param name="site">One of them.</param>
    /// <param name="reach">How many taps of new layers see something for one of them at least.</param>
    /// <param name="inPlace">Whether their weight may change: all who read it are deepened alike.</param>
    /// <param name="why">The reason.</param>
    public DeepenChain? Factor(DeepenSite site, TapReach reach, bool inPlace, out string why)
    {
        (ImmutableArray<int> First, ImmutableArray<int> Second)? kernels = options.Kernels?.For(site.Layer.SpatialAxes);
        int channels = Channels(options, site);
        bool rotates = inPlace && channels > 1;
        return options.Method switch
        {
            DeepenMethod.General or DeepenMethod.Practical => LeastSquares(site, kernels ?? (site.Kernel, site.Kernel), channels, inPlace, out why),
            DeepenMethod.ClosedForm when rotates || options.Order != DeepenOrder.Automatic || channels != site.Outputs =>
                ClosedForm(site, kernels, reach, channels, inPlace, out why),
            _ => Identity(site, kernels, reach, inPlace, out why),
        };
    }

    /// <summary>Channels of a group between the halves: as asked for, rounded up to whole groups.</summary>
    public static int Channels(DeepenOptions options, DeepenSite site) =>
        options.Channels is { } request ? checked((int)((request.Apply((long)site.Outputs * site.Groups) + site.Groups - 1) / site.Groups)) : site.Outputs;

    /// <summary>Taps of a new layer that is the identity, of which so many see something.</summary>
    public static ImmutableArray<int> IdentityKernel(DeepenSite site, TapReach reach) =>
        [.. reach.Behind.Select(taps => site.Outputs == 1 ? (int)Math.Min(DepthwiseKernel, taps) : 1)];

    // The layer, its kernel perhaps with zeros around it, and Dirac layers behind it.
    private DeepenChain? Identity(
        DeepenSite site, (ImmutableArray<int> First, ImmutableArray<int> Second)? kernels, TapReach reach, bool inPlace, out string why)
    {
        ImmutableArray<int> first = kernels?.First ?? site.Kernel, second = kernels?.Second ?? IdentityKernel(site, reach);
        bool grows = !first.SequenceEqual(site.Kernel);
        if (!HasRoom(first, site, "first", out why) || (grows && !IsFree(site, inPlace, out why)) || !Sees(site, first, second, reach.Behind, out why))
            return null;
        LayerWeight? own = grows ? site.Weight!.PadKernel(first) : null;
        return new DeepenChain(
            "identity", [own, .. Enumerable.Repeat(site.Dirac(site.Outputs, second), options.Count)], 0, s => SameWindows(s, grows ? first : null, second, 0))
        {
            MovesBias = false,
        };
    }

    private DeepenChain? ClosedForm(
        DeepenSite site, (ImmutableArray<int> First, ImmutableArray<int> Second)? kernels, TapReach reach, int channels, bool inPlace, out string why)
    {
        if (!IsFree(site, inPlace, out why))
            return null;
        LayerWeight weight = site.Weight!;
        bool fitsLast = channels >= weight.Outputs && (kernels is null || HasRoom(kernels.Value.First, site, "first", out why));
        bool last = options.Order switch { DeepenOrder.Last => true, DeepenOrder.First => false, _ => fitsLast };
        ImmutableArray<int> one = [.. site.Kernel.Select(_ => 1)];
        ImmutableArray<int> own = (last ? kernels?.First : kernels?.Second) ?? site.Kernel, other = (last ? kernels?.Second : kernels?.First) ?? one;
        int needed = last ? weight.Outputs : weight.Inputs;
        if (channels < needed)
        {
            why = $"the closed form with the rotation {(last ? "last" : "first")} needs {needed * site.Groups} channels between the halves, and it has {channels * site.Groups}";
            return null;
        }

        if (!HasRoom(own, site, last ? "first" : "second", out why) || !Sees(site, own, other, last ? reach.Behind : reach.InFront, out why))
            return null;
        // The layer's channels first, and random ones that the rotation mixes in and takes out again: R·Rᵀ·[G; Z] has G in its first rows.
        AxisMap extend = AxisMap.Pick(needed, channels - needed, [.. Enumerable.Range(0, channels)]);
        AxisMap cut = AxisMap.Pick(channels, 0, [.. Enumerable.Range(0, needed)]);
        var fill = new Fill(FillKind.Normal, LayerWeight.HeScale(last ? weight.Inputs : channels, own), Seed(site, "free"));
        weight = weight.PadKernel(own);
        weight = last ? weight.MapOutputs(extend, fill) : weight.MapInputs(extend, fill);
        var inserted = new List<LayerWeight?>();
        for (int k = 0; k < options.Count; k++)
        {
            ulong seed = Seed(site, $"rotation {k}");
            weight = last ? weight.RotateOutputs(seed, transpose: true) : weight.RotateInputs(seed, transpose: false);
            LayerWeight dirac = site.Dirac(channels, other);
            // Rotations along the axis that groups share are the groups' own; along the other all groups have one.
            bool alike = site.Groups > 1 && (last ? weight.OutputAxis : weight.InputAxis) != weight.GroupedAxis;
            LayerWeight rotation = !alike ? dirac.RotateOutputs(seed, transpose: false) : dirac.RotateInputs(seed, transpose: true);
            inserted.Add(k > 0 ? rotation : last ? rotation.MapOutputs(cut) : rotation.MapInputs(cut));
        }

        bool grows = !own.SequenceEqual(site.Kernel);
        if (last)
            inserted.Reverse();
        int original = last ? 0 : options.Count;
        inserted.Insert(original, weight);
        return new DeepenChain("rotation", inserted, original, s => SameWindows(s, grows ? own : null, other, original));
    }

    private DeepenChain? LeastSquares(DeepenSite site, (ImmutableArray<int> First, ImmutableArray<int> Second) kernels, int channels, bool inPlace, out string why)
    {
        if (!IsFree(site, inPlace, out why))
            return null;
        (ImmutableArray<int> first, ImmutableArray<int> second) = kernels;
        if (first.Zip(second, (a, b) => a + b - 1).Zip(site.Kernel, (all, own) => all < own).Any(x => x))
        {
            why = $"kernels of {string.Join('×', first)} and {string.Join('×', second)} together reach less far than its own of {string.Join('×', site.Kernel)}";
            return null;
        }

        if (site.Weight!.Data.Count > MatrixPolynomial.MostElements)
        {
            why = TooLarge;
            return null;
        }

        double residual = 0;
        MatrixPolynomial[] layers = GroupPolynomials.Read(site.Weight);
        var inserted = new List<LayerWeight?>();
        int steps = 0, dense = 0;
        for (int k = 0; k < options.Count; k++)
        {
            var seconds = new MatrixPolynomial[layers.Length];
            for (int group = 0; group < layers.Length; group++)
            {
                var factoring = new KernelFactoring(layers[group], channels, first, second, site.Weight!.Data.Type, Seed(site, $"factors {k} {group}"));
                if (factoring.IsTooLarge)
                {
                    why = TooLarge;
                    return null;
                }

                if ((options.Method == DeepenMethod.General ? factoring.Alternate() : factoring.Shrink()) is not { } factors)
                {
                    why = $"least squares would take more than {PolynomialDivision.MostEquations:N0} equations at once; use the closed form";
                    return null;
                }

                if (!factoring.IsExact(factors))
                {
                    why = FormattableString.Invariant($"least squares leaves a residual of {factors.Residual:0.0e0}{(factors.Residual <= factoring.Tolerance ? $" and halves that amplify rounding {factors.Amplification:0}-fold" : "")} with {channels * site.Groups} channels between the halves; give more channels or larger kernels");
                    return null;
                }

                (layers[group], seconds[group]) = (factors.First, factors.Second);
                residual = Math.Max(residual, factors.Residual);
                steps += factors.Solutions;
                dense = Math.Max(dense, factoring.DenseChannels);
            }

            Balance(layers, seconds);
            // A transposed convolution multiplies with its kernel where a convolution correlates.
            inserted.Insert(0, GroupPolynomials.Write(seconds, site.Dirac(1, second), reverse: site.Layer.Transposed));
        }

        inserted.Insert(0, GroupPolynomials.Write(layers, site.Weight!));
        return new DeepenChain("least squares", inserted, 0, s => SplitWindows(s, first, second))
        {
            Residual = residual,
            Note = FormattableString.Invariant($"{site.Name}: residual {residual:0.0e0} after {steps} least-squares solutions, {channels * site.Groups} channels between the halves{(steps == 0 && channels < dense ? $", which are a rotation; from {dense * site.Groups} on both are dense" : "")}"),
        };
    }

    private static string TooLarge => $"least squares would take matrices of more than {MatrixPolynomial.MostElements:N0} numbers; use the closed form";

    // Only the product is given; the same standard deviation on both sides lets them learn alike.
    private static void Balance(MatrixPolynomial[] first, MatrixPolynomial[] second)
    {
        double scale = Math.Sqrt(Deviation(second) / Deviation(first));
        if (!double.IsFinite(scale) || scale == 0)
            return;
        foreach (MatrixPolynomial half in first)
            TensorPrimitives.Multiply(half.Values, scale, half.Values);
        foreach (MatrixPolynomial half in second)
            TensorPrimitives.Divide(half.Values, scale, half.Values);

        static double Deviation(MatrixPolynomial[] groups) =>
            groups.Aggregate(new Moments(), (sum, group) => sum + Moments.Of(group.Values)).StandardDeviation;
    }

    private static bool IsFree(DeepenSite site, bool inPlace, out string why)
    {
        why = inPlace ? "" : NotFree(site);
        return inPlace;
    }

    /// <summary>Why a layer's weight cannot change.</summary>
    public static string NotFree(DeepenSite site) => site.Constant is { } constant
        ? $"its weight '{constant.Name}' is read by others too, which are not deepened in the same way"
        : "its weight is computed by other nodes";

    private static bool HasRoom(ImmutableArray<int> kernel, DeepenSite site, string half, out string why)
    {
        why = kernel.Zip(site.Kernel, (own, layer) => own < layer).Any(x => x)
            ? $"its kernel of {string.Join('×', site.Kernel)} does not fit the {half} half's of {string.Join('×', kernel)}; general factors it"
            : "";
        return why.Length == 0;
    }

    // Whether all taps see something: those that the layer's own kernel gets, and those of a new layer behind it or in front.
    private static bool Sees(DeepenSite site, ImmutableArray<int> own, ImmutableArray<int> inserted, ImmutableArray<long> reach, out string why)
    {
        why = TapReach.Refusal(inserted.Select(taps => (long)taps), reach) ?? (site.IsConvolution ? site.GrowthRefusal(own) : null) ?? "";
        return why.Length == 0;
    }

    private ulong Seed(DeepenSite site, string what) => Seeds.For(options.Seed, $"{what} {site.Constant!.Name}");

    // New layers' windows are as large as what they see, since all taps beside the centre are zero at first or see zeros beyond the border.
    private ConvolutionWindow?[] SameWindows(DeepenSite site, ImmutableArray<int>? own, ImmutableArray<int> inserted, int original)
    {
        var windows = new ConvolutionWindow?[options.Count + 1];
        if (!site.IsConvolution)
            return windows;
        Array.Fill(windows, ConvolutionWindow.Same(inserted, ConvolutionWindow.DilationsOf(site.Axes, site.Layer)));
        windows[original] = own is { } kernel ? site.Window!.Padded(kernel) : null;
        return windows;
    }

    private List<ConvolutionWindow?> SplitWindows(DeepenSite site, ImmutableArray<int> first, ImmutableArray<int> second)
    {
        var windows = new List<ConvolutionWindow?>();
        ConvolutionWindow? rest = site.Window;
        for (int k = 0; k < options.Count; k++)
        {
            (rest, ConvolutionWindow? half) = rest is null ? (null, null) : rest.Split(first, second);
            windows.Insert(0, half);
        }

        windows.Insert(0, rest);
        return windows;
    }
}
