using System.Numerics;
using System.Runtime.InteropServices;

namespace OnnxMorph.Kernels;

/// <summary>
/// Orthogonal matrices, one a group, as products Q = H₀·H₁·… of Householder reflections H = I − 2vvᵀ/‖v‖² with seeded
/// normal vectors. Kept in the compact form Q = I − V·T·Vᵀ (Schreiber and Van Loan, 1989), so that a block of rows X is
/// rotated in two passes over it and never needs to be in memory as a whole: first P = Vᵀ·X, then X − V·(T·P).
/// Everything is float64 with a fixed order of operations, so neither threads nor vector width change a bit.
/// </summary>
public sealed class BlockRotation
{
    /// <summary>Columns whose sums are taken together, and elements rotated together; both stay in the first-level cache.</summary>
    private const int Tile = 128;
    private const int ApplyTile = 1024;

    private readonly int _groups;
    private readonly bool _transpose;

    /// <summary>The vectors, [groups × size × reflections].</summary>
    private readonly double[] _vectors;

    /// <summary>The same vectors, [groups × reflections × size], for tensors whose rows are single elements.</summary>
    private readonly double[] _reflections;
    private readonly double[] _factors;

    /// <summary>Draws the vectors of <paramref name="groups"/> rotations of <paramref name="size"/> rows.</summary>
    /// <param name="groups">How many rotations.</param>
    /// <param name="size">Rows that each rotates.</param>
    /// <param name="reflections">Reflections of each.</param>
    /// <param name="seed">Key of the draws: group g, reflection r, element i draw at (g·reflections + r)·size + i.</param>
    /// <param name="transpose">Whether Qᵀ is applied rather than Q.</param>
    public BlockRotation(int groups, int size, int reflections, ulong seed, bool transpose)
    {
        _groups = groups;
        _transpose = transpose;
        Size = size;
        Reflections = reflections;
        _vectors = new double[(long)groups * size * reflections];
        _reflections = new double[_vectors.Length];
        _factors = new double[(long)groups * reflections * reflections];
        Parallel.For(0, groups, group =>
        {
            long first = (long)group * reflections * size;
            var normal = new KernelFill(Distribution.Normal, 1, seed, 0);
            normal.Write(ElementFormat.Float64, first, MemoryMarshal.AsBytes(_reflections.AsSpan((int)first, reflections * size)));
            for (int r = 0; r < reflections; r++)
                for (int i = 0; i < size; i++)
                    _vectors[VectorAt(group, i) + r] = Reflection(group, r)[i];
            BuildFactor(group);
        });
    }

    /// <summary>Rows of a group.</summary>
    public int Size { get; }

    /// <summary>Reflections of a group.</summary>
    public int Reflections { get; }

    /// <summary>
    /// Adds Vᵀ·X of some rows to <paramref name="projections"/> ([reflections × columns]). Rows are to come in order.
    /// </summary>
    /// <param name="group">The group that the rows belong to.</param>
    /// <param name="firstRow">Index of the first row within the group.</param>
    /// <param name="rows">Whole rows in float64.</param>
    /// <param name="columns">Elements of a row.</param>
    /// <param name="projections">The sums.</param>
    public void Project(int group, int firstRow, ReadOnlyMemory<double> rows, int columns, Memory<double> projections)
    {
        CheckGroup(group);
        int count = rows.Length / columns;
        int tiles = (columns + Tile - 1) / Tile;
        if (tiles == 1)
            ProjectTile(0);
        else
            Parallel.For(0, tiles, ProjectTile);

        // Columns are independent, and each one's sum runs over the rows in order.
        void ProjectTile(int tile)
        {
            int start = tile * Tile;
            int length = Math.Min(Tile, columns - start);
            for (int row = 0; row < count; row++)
            {
                ReadOnlySpan<double> vector = _vectors.AsSpan(VectorAt(group, firstRow + row), Reflections);
                ReadOnlySpan<double> elements = rows.Span.Slice(row * columns + start, length);
                Span<double> sums = projections.Span[start..];
                if (length == 1 && columns == 1)
                    VectorSums.Add<double>(vector, elements[0], sums, assign: false);
                else
                    for (int r = 0; r < vector.Length; r++)
                        VectorSums.Add<double>(elements, vector[r], sums.Slice(r * columns, length), assign: false);
            }
        }
    }

    /// <summary>Turns the sums of all rows of a group, P = Vᵀ·X, into T·P (or Tᵀ·P), which <see cref="Apply"/> takes.</summary>
    public void Finish(int group, int columns, Span<double> projections)
    {
        CheckGroup(group);
        ReadOnlySpan<double> factor = _factors.AsSpan(group * Reflections * Reflections, Reflections * Reflections);
        double[] result = new double[projections.Length];
        for (int r = 0; r < Reflections; r++)
            for (int k = 0; k < Reflections; k++)
            {
                double weight = _transpose ? factor[k * Reflections + r] : factor[r * Reflections + k];
                if (weight != 0)
                    VectorSums.Add<double>(projections.Slice(k * columns, columns), weight, result.AsSpan(r * columns, columns), assign: false);
            }

        result.CopyTo(projections);
    }

    /// <summary>
    /// Rotates elements of a group in place: X − V·<paramref name="finished"/>. The elements are any range of the group's
    /// row-major elements, the first at <paramref name="firstElement"/>.
    /// </summary>
    public void Apply(int group, long firstElement, Span<double> elements, int columns, ReadOnlySpan<double> finished)
    {
        CheckGroup(group);
        if (columns == 1)
        {
            for (int start = 0; start < elements.Length; start += ApplyTile)
            {
                Span<double> tile = elements.Slice(start, Math.Min(ApplyTile, elements.Length - start));
                for (int r = 0; r < Reflections; r++)
                    VectorSums.Add<double>(Reflection(group, r).Slice((int)firstElement + start, tile.Length), -finished[r], tile, assign: false);
            }

            return;
        }

        while (!elements.IsEmpty)
        {
            (long row, long column) = Math.DivRem(firstElement, columns);
            int length = (int)Math.Min(Math.Min(columns - column, elements.Length), ApplyTile);
            ReadOnlySpan<double> vector = _vectors.AsSpan(VectorAt(group, (int)row), Reflections);
            if (length < Vector<double>.Count)
                SubtractScalars(elements[..length], vector, finished[(int)column..], columns);
            else
                for (int r = 0; r < vector.Length; r++)
                    VectorSums.Add<double>(finished.Slice(r * columns + (int)column, length), -vector[r], elements[..length], assign: false);
            elements = elements[length..];
            firstElement += length;
        }
    }

    private static void SubtractScalars(Span<double> elements, ReadOnlySpan<double> vector, ReadOnlySpan<double> finished, int columns)
    {
        for (int i = 0; i < elements.Length; i++)
        {
            double sum = elements[i];
            for (int r = 0; r < vector.Length; r++)
                sum += -vector[r] * finished[r * columns + i];
            elements[i] = sum;
        }
    }

    private void CheckGroup(int group) => ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)group, (uint)_groups, nameof(group));

    private ReadOnlySpan<double> Reflection(int group, int index) =>
        _reflections.AsSpan(checked((group * Reflections + index) * Size), Size);

    private int VectorAt(int group, int row) => checked((group * Size + row) * Reflections);

    /// <summary>
    /// T of the compact form, upper triangular: T[i,i] = 2/‖vᵢ‖², T[..i, i] = −T[i,i]·T[..i, ..i]·(V[:, ..i]ᵀ·vᵢ).
    /// </summary>
    private void BuildFactor(int group)
    {
        Span<double> factor = _factors.AsSpan(group * Reflections * Reflections, Reflections * Reflections);
        var dots = new double[Reflections];
        for (int i = 0; i < Reflections; i++)
        {
            Array.Clear(dots);
            for (int row = 0; row < Size; row++)
            {
                ReadOnlySpan<double> vector = _vectors.AsSpan(VectorAt(group, row), Reflections);
                for (int j = 0; j <= i; j++)
                    dots[j] += vector[j] * vector[i];
            }

            double tau = 2 / dots[i];
            factor[i * Reflections + i] = tau;
            for (int j = 0; j < i; j++)
            {
                double sum = 0;
                for (int k = j; k < i; k++)
                    sum += factor[j * Reflections + k] * dots[k];
                factor[j * Reflections + i] = -tau * sum;
            }
        }
    }
}
