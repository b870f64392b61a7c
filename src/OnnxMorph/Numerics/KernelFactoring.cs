using System.Collections.Immutable;
using System.Runtime.InteropServices;
using OnnxMorph.Kernels;
using OnnxMorph.Weights;

namespace OnnxMorph.Numerics;

/// <summary>Two kernels whose product is near a third one.</summary>
/// <param name="First">F₁, channels × inputs.</param>
/// <param name="Second">F₂, outputs × channels.</param>
/// <param name="Residual">‖G̃ − F₂⊛F₁‖² / ‖G̃‖².</param>
/// <param name="Amplification">By how many units of rounding the product misses G̃ once both halves are rounded to the layer's type.</param>
/// <param name="Solutions">How often a half was solved for given the other.</param>
internal sealed record KernelFactors(MatrixPolynomial First, MatrixPolynomial Second, double Residual, double Amplification, int Solutions);

/// <summary>
/// Factors the kernel of a layer, G̃ = F₂⊛F₁, where G̃ is G with zeros around it: the algorithms 1 and 2 of Wei, Wang, Rui and Chen (2016).
/// Which half starts at random, when to stop, and the start at a rotation are this project's.
/// </summary>
/// <param name="layer">G.</param>
/// <param name="channels">Channels between the halves.</param>
/// <param name="first">Taps of F₁ along each axis.</param>
/// <param name="second">Taps of F₂ along each axis.</param>
/// <param name="type">Element type of the layer's weights: says what rounding is.</param>
/// <param name="seed">Seed of the random starts.</param>
internal sealed class KernelFactoring(
    MatrixPolynomial layer, int channels, ImmutableArray<int> first, ImmutableArray<int> second, ElementType type, ulong seed)
{
    /// <summary>The largest <see cref="KernelFactors.Amplification"/> of halves that are taken for the layer.</summary>
    public const double MostAmplification = 32;

    // Residuals below are the rounding of float64 itself, and cannot be made smaller.
    private const double Floor = 1e-26;

    /// <summary>The most times that both halves are solved for.</summary>
    private const int MostRounds = 60;

    // After so many rounds the speed of convergence is trusted.
    private const int FirstRounds = 8;

    /// <summary>The residual that is 0 but for rounding: an eighth of a unit of the layer's type.</summary>
    public double Tolerance => Math.Max(UnitRoundoff * UnitRoundoff / 64, 1e-24);

    private double UnitRoundoff => type switch
    {
        ElementType.BFloat16 => 1.0 / (1 << 8),
        ElementType.Float16 => 1.0 / (1 << 11),
        ElementType.Float32 => 1.0 / (1 << 24),
        _ => 1.0 / (1L << 53),
    };

    /// <summary>From so many channels on a half has as many weights as equations, and both halves can be dense.</summary>
    public int DenseChannels => (int)Math.Ceiling(1 / Math.Max(Freedom(first, layer.Rows, second), Freedom(second, layer.Columns, second)) * channels);

    /// <summary>Whether a half, or what they are to give, has more elements than can be computed with.</summary>
    public bool IsTooLarge
    {
        get
        {
            long taps = MatrixPolynomial.Count(MatrixPolynomial.Sum(first, second));
            return Math.Max(
                layer.Rows * taps * layer.Columns,
                channels * Math.Max((long)layer.Columns * MatrixPolynomial.Count(first), (long)layer.Rows * MatrixPolynomial.Count(second))) > MatrixPolynomial.MostElements;
        }
    }

    /// <summary>Whether the layer fits into one of the halves, so that the other can be a rotation.</summary>
    private bool HasRotation => FirstHasRoom || (channels >= layer.Columns && HasRoom(second));

    private bool FirstHasRoom => channels >= layer.Rows && HasRoom(first);

    private bool HasRoom(ImmutableArray<int> half) => half.Zip(layer.Taps, (own, all) => own >= all).All(x => x);

    /// <summary>Whether two halves compute what the layer does, up to rounding.</summary>
    public bool IsExact(KernelFactors factors) => factors.Residual <= Tolerance && factors.Amplification <= MostAmplification;

    /// <summary>
    /// Algorithm 1: least squares for one half given the other, in turns, until the residual is 0 or does not get there. It starts at a random
    /// half where the other then has as many weights as equations, so that both halves come out dense; else at a rotation
    /// followed by its inverse where that has room, and at a random half elsewhere.
    /// </summary>
    /// <returns>Null where that takes more than <see cref="PolynomialDivision.MostEquations"/>.</returns>
    public KernelFactors? Alternate()
    {
        if (!HasRotation)
            return Alternate(second, MostRounds);
        // As many weights as equations are no guarantee, since the equations may depend on each other, or nearly so.
        return channels >= DenseChannels && Alternate(second, FirstRounds) is { } dense && IsExact(dense) ? dense : Rotation();
    }

    /// <summary>
    /// Algorithm 2: one round with all taps of F₂, then with one less along each axis, until the residual is 0; zeros take the place of the taps
    /// that were left out. Rounds that cannot end exactly, by their numbers of weights and equations, are not run.
    /// </summary>
    /// <returns>Null where that takes more than <see cref="PolynomialDivision.MostEquations"/> even at last.</returns>
    public KernelFactors? Shrink()
    {
        int steps = 0;
        for (ImmutableArray<int> taps = second; ;)
        {
            ImmutableArray<int> fewer = [.. taps.Select(t => Math.Max(t - 1, 1))];
            bool last = fewer.SequenceEqual(taps) || Margin(fewer).Any(m => m < 0);
            // One solution against random weights leaves nothing only where it has as many weights as equations.
            bool hopeless = !last && Math.Max(Freedom(first, layer.Rows, taps), Freedom(taps, layer.Columns, taps)) < 1;
            KernelFactors? factors = hopeless ? null : Alternate(taps, 1);
            steps += factors?.Solutions ?? 0;
            if (last || (factors is not null && IsExact(factors)))
            {
                // Of the zeros in front of G, those that the fewer taps leave to F₂.
                ImmutableArray<int> shift = [.. Margin(second).Zip(Margin(taps), (all, own) => all / 2 - own / 2)];
                return factors is null ? null : factors with { Second = factors.Second.Shifted(shift, second), Solutions = steps };
            }

            taps = fewer;
        }
    }

    /// <summary>Zeros around the kernel of the layer, along each axis: half of them, rounded down, in front.</summary>
    private ImmutableArray<int> Margin(ImmutableArray<int> secondTaps) =>
        [.. MatrixPolynomial.Sum(first, secondTaps).Zip(layer.Taps, (all, own) => all - own)];

    // Weights of a half for each equation that it has to fulfil.
    private double Freedom(ImmutableArray<int> half, int sides, ImmutableArray<int> secondTaps) =>
        (double)channels * MatrixPolynomial.Count(half) / ((double)sides * MatrixPolynomial.Count(MatrixPolynomial.Sum(first, secondTaps)));

    private MatrixPolynomial Target(ImmutableArray<int> secondTaps) =>
        layer.Shifted([.. Margin(secondTaps).Select(m => m / 2)], MatrixPolynomial.Sum(first, secondTaps));

    private KernelFactors? Alternate(ImmutableArray<int> secondTaps, int mostRounds)
    {
        ImmutableArray<int> all = MatrixPolynomial.Sum(first, secondTaps);
        if (Math.Max(PolynomialDivision.Equations(channels, layer.Rows, first, all), PolynomialDivision.Equations(channels, layer.Columns, secondTaps, all))
            > PolynomialDivision.MostEquations)
            return null;
        MatrixPolynomial target = Target(secondTaps);
        MatrixPolynomial? adjoint = null;
        double norm = target.SquaredNorm;
        bool solvesFirst = Freedom(first, layer.Rows, secondTaps) >= Freedom(secondTaps, layer.Columns, secondTaps);
        MatrixPolynomial f1 = solvesFirst ? new(channels, layer.Columns, first) : Random(channels, layer.Columns, first);
        MatrixPolynomial f2 = solvesFirst ? Random(layer.Rows, channels, secondTaps) : new(layer.Rows, channels, secondTaps);
        double residual = norm == 0 ? 0 : 1;
        int steps = 0;
        for (int round = 1; round <= mostRounds && residual > Floor; round++)
        {
            double before = residual;
            for (int half = 0; half < 2 && residual > Floor; half++)
            {
                double remainder;
                // F₂·F₁ = G̃ is F₁ᵀ·F₂ᵀ = G̃ᵀ.
                if (solvesFirst == (half == 0))
                    f1 = PolynomialDivision.Divide(adjoint ??= target.Transposed(), f2.Transposed(), first, out remainder).Transposed();
                else
                    f2 = PolynomialDivision.Divide(target, f1, secondTaps, out remainder);
                residual = remainder / norm;
                steps++;
            }

            // Residuals shrink by a nearly constant factor; one that will not bring them down in the rounds left is given up.
            if (round >= FirstRounds && residual * Math.Pow(residual / before, mostRounds - round) > Tolerance)
                break;
        }

        return Measured(target, norm, f1, f2, residual, steps);
    }

    private KernelFactors Measured(MatrixPolynomial target, double norm, MatrixPolynomial f1, MatrixPolynomial f2, double residual, int steps)
    {
        double rounding = norm == 0 || type == ElementType.Float64 ? 0 : Math.Sqrt(target.SquaredDistance(Rounded(f2), Rounded(f1)) / norm);
        return new KernelFactors(f1, f2, residual, rounding / UnitRoundoff, steps);
    }

    private MatrixPolynomial Rounded(MatrixPolynomial exact)
    {
        var rounded = new MatrixPolynomial(exact.Rows, exact.Columns, exact.Taps);
        ElementFormat format = ElementEncoding.Format(type);
        var bytes = new byte[exact.TapCount * exact.Columns * format.Size()];
        for (int row = 0; row < exact.Rows; row++)
        {
            FloatConversion.Round(format, exact.Unfolded.Row(row), bytes);
            FloatConversion.Widen(format, bytes, rounded.Unfolded.Row(row));
        }

        return rounded;
    }

    /// <summary>
    /// The closed form with dense weights in the channels that are left over: F₁ = Rᵀ·[G; Z] and one tap of F₂ the first rows of the rotation R, or
    /// F₂ = [G Z]·Rᵀ and one tap of F₁ the first columns.
    /// </summary>
    private KernelFactors Rotation()
    {
        MatrixPolynomial f1, f2;
        if (FirstHasRoom)
        {
            MatrixPolynomial extended = Random(channels, layer.Columns, first);
            Put(layer.Shifted(Before(second), first), extended);
            f1 = Rotated(extended, seed, rows: true, transpose: true);
            f2 = Orthogonal(layer.Rows, channels, seed).Shifted(Centre(second), second);
        }
        else
        {
            MatrixPolynomial extended = Random(layer.Rows, channels, second);
            Put(layer.Shifted(Before(first), second), extended);
            f1 = Orthogonal(channels, layer.Columns, seed).Shifted(Centre(first), first);
            f2 = Rotated(extended, seed, rows: false, transpose: false);
        }

        MatrixPolynomial target = Target(second);
        double norm = target.SquaredNorm;
        return Measured(target, norm, f1, f2, norm == 0 ? 0 : target.SquaredDistance(f2, f1) / norm, 0);

        static ImmutableArray<int> Centre(ImmutableArray<int> half) => [.. half.Select(taps => (taps - 1) / 2)];

        // Zeros in front of G in the one half, so that with the other's tap in its centre as many are in front of the product.
        ImmutableArray<int> Before(ImmutableArray<int> other) => [.. Margin(second).Zip(Centre(other), (margin, centre) => margin / 2 - centre)];
    }

    // One tap takes an orthogonal matrix, which amplifies nothing; several are independent draws at He's scale.
    private MatrixPolynomial Random(int rows, int columns, ImmutableArray<int> taps)
    {
        if (MatrixPolynomial.Count(taps) == 1)
            return Orthogonal(rows, columns, seed + 1);
        var result = new MatrixPolynomial(rows, columns, taps);
        var normal = new KernelFill(Distribution.Normal, Math.Sqrt(2.0 / (columns * result.TapCount)), seed, 0);
        normal.Write(ElementFormat.Float64, 0, MemoryMarshal.AsBytes(result.Values));
        return result;
    }

    /// <summary>The first rows of a rotation R, or its first columns.</summary>
    private MatrixPolynomial Orthogonal(int rows, int columns, ulong key)
    {
        var identity = new MatrixPolynomial(rows, columns, [.. first.Select(_ => 1)]);
        for (int i = 0; i < Math.Min(rows, columns); i++)
            identity[0].Row(i)[i] = 1;
        return Rotated(identity, key, rows: rows >= columns, transpose: rows < columns);
    }

    /// <summary>R·P where <paramref name="rows"/> are rotated, P·Rᵀ where columns are; with the other one of R and Rᵀ where <paramref name="transpose"/>.</summary>
    private static MatrixPolynomial Rotated(MatrixPolynomial polynomial, ulong key, bool rows, bool transpose)
    {
        ImmutableArray<long> shape = rows ? [polynomial.Rows, polynomial.TapCount * polynomial.Columns] : [polynomial.Rows * polynomial.TapCount, polynomial.Columns];
        var rotated = new RotatedWeight(new ComputedWeight(ElementType.Float64, shape, polynomial.Values.ToArray()), rows ? 0 : 1, 1, key, transpose);
        return new MatrixPolynomial(new WeightEvaluator().EvaluateUnrounded(rotated), polynomial.Rows, polynomial.Columns, polynomial.Taps);
    }

    // Copies the first rows and columns, as many as both have.
    private static MatrixPolynomial Put(MatrixPolynomial from, MatrixPolynomial to)
    {
        for (int tap = 0; tap < to.TapCount; tap++)
            for (int row = 0; row < Math.Min(from.Rows, to.Rows); row++)
                from[tap].Row(row)[..Math.Min(from.Columns, to.Columns)].CopyTo(to[tap].Row(row));
        return to;
    }
}
