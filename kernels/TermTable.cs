namespace OnnxMorph.Kernels;

/// <summary>One term of an output index: weight × the element at <paramref name="Source"/>, or at a fresh position.</summary>
/// <param name="Source">Index in the source, or −1 where the term is fresh.</param>
/// <param name="Position">Index in the extended source, which is where a fill is evaluated.</param>
/// <param name="Weight">The factor.</param>
internal readonly record struct Term(long Source, long Position, double Weight);

/// <summary>One axis with its map; no terms is the identity.</summary>
internal readonly record struct MappedAxis(long SourceSize, AxisTerms? Terms)
{
    public long ExtendedSize => SourceSize + (Terms?.FreshSize ?? 0);

    public long Size => Terms?.Size ?? SourceSize;
}

/// <summary>
/// The maps of several adjacent axes multiplied out for a range of their flattened output: the terms of output i are
/// those between <see cref="Starts"/>[i] and <see cref="Starts"/>[i + 1], in lexicographic order of the axes' terms. A
/// term is fresh where any of its axes is, and its weight is the product of theirs from the first axis to the last.
/// </summary>
internal sealed class TermTable
{
    private TermTable(int[] starts, Term[] terms)
    {
        Starts = starts;
        Terms = terms;
    }

    public int[] Starts { get; }

    public Term[] Terms { get; }

    public int Count => Starts.Length - 1;

    /// <summary>Multiplies out outputs [<paramref name="first"/>, <paramref name="first"/> + <paramref name="count"/>).</summary>
    public static TermTable Expand(ReadOnlySpan<MappedAxis> axes, long first, int count)
    {
        if (axes is [{ Terms: { } only } single])
            return OfAxis(single, only, (int)first, count);
        var starts = new int[count + 1];
        var terms = new List<Term>(count);
        var coordinates = new long[axes.Length];
        for (int axis = axes.Length - 1; axis >= 0 && count > 0; axis--)
            (first, coordinates[axis]) = Math.DivRem(first, axes[axis].Size);

        var current = new List<Term>();
        var next = new List<Term>();
        for (int i = 0; i < count; i++)
        {
            current.Clear();
            current.Add(new Term(0, 0, 1));
            for (int axis = 0; axis < axes.Length; axis++)
            {
                next.Clear();
                foreach (Term term in current)
                    AddAxis(next, term, axes[axis], coordinates[axis]);
                (current, next) = (next, current);
            }

            terms.AddRange(current);
            starts[i + 1] = terms.Count;
            for (int axis = axes.Length - 1; axis >= 0 && ++coordinates[axis] == axes[axis].Size; axis--)
                coordinates[axis] = 0;
        }

        return new TermTable(starts, [.. terms]);
    }

    // One axis is its own map.
    private static TermTable OfAxis(MappedAxis axis, AxisTerms map, int first, int count)
    {
        int start = map.Starts[first];
        var starts = new int[count + 1];
        for (int i = 0; i <= count; i++)
            starts[i] = map.Starts[first + i] - start;
        var terms = new Term[starts[count]];
        for (int k = 0; k < terms.Length; k++)
        {
            int source = map.Sources[start + k];
            terms[k] = new Term(source < axis.SourceSize ? source : -1, source, map.Weights[start + k]);
        }

        return new TermTable(starts, terms);
    }

    /// <summary>This table with every source index replaced by its place in the sorted <paramref name="distinct"/> sources.</summary>
    public TermTable Gathered(out long[] distinct)
    {
        long[] sources = Distinct();
        distinct = sources;
        return new TermTable(Starts, Array.ConvertAll(Terms, t => t.Source < 0 ? t : t with { Source = Array.BinarySearch(sources, t.Source) }));
    }

    // The sources, each once and rising; most often they rise as they are.
    private long[] Distinct()
    {
        long[] sources = Array.ConvertAll(Terms, term => term.Source);
        for (int i = 0; i < sources.Length; i++)
            if (sources[i] < 0 || (i > 0 && sources[i] <= sources[i - 1]))
                return [.. sources.Where(source => source >= 0).Distinct().Order()];
        return sources;
    }

    private static void AddAxis(List<Term> result, Term term, MappedAxis axis, long coordinate)
    {
        if (axis.Terms is not { } map)
        {
            long source = term.Source < 0 ? -1 : term.Source * axis.SourceSize + coordinate;
            result.Add(new Term(source, term.Position * axis.SourceSize + coordinate, term.Weight));
            return;
        }

        for (int k = map.Starts[coordinate]; k < map.Starts[coordinate + 1]; k++)
        {
            int index = map.Sources[k];
            bool fresh = term.Source < 0 || index >= axis.SourceSize;
            result.Add(new Term(
                fresh ? -1 : term.Source * axis.SourceSize + index,
                term.Position * axis.ExtendedSize + index,
                term.Weight * map.Weights[k]));
        }
    }
}
