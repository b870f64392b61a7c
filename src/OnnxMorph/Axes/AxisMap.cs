namespace OnnxMorph.Axes;

/// <summary>One term of an axis map: weight × the extended parent's index <paramref name="Source"/>.</summary>
/// <param name="Source">Below <see cref="AxisMap.SourceSize"/> an index of the parent axis; from there on a fresh index.</param>
/// <param name="Weight">The factor of the term.</param>
public readonly record struct Tap(int Source, double Weight);

/// <summary>
/// A sparse linear map along one axis, from a parent axis to a child axis: pad, slice, replicate, select and
/// interpolate are all of this form. The parent axis is <em>extended</em> by <see cref="FreshSize"/> indices whose
/// values come from a seeded fill, so that fresh channels, zero-sum noise and opposed pairs are taps like any other.
/// Child index c is Σ taps(c) weight·extended[source]; an index without taps is zero.
/// </summary>
public sealed class AxisMap : IEquatable<AxisMap>
{
    private readonly int[] _starts;
    private readonly Tap[] _taps;
    private Tuple<AxisMap?, AxisMap>? _staged;

    private AxisMap(int sourceSize, int freshSize, int[] starts, Tap[] taps)
    {
        SourceSize = sourceSize;
        FreshSize = freshSize;
        _starts = starts;
        _taps = taps;
        foreach (Tap tap in taps)
            ArgumentOutOfRangeException.ThrowIfGreaterThanOrEqual((uint)tap.Source, (uint)(sourceSize + freshSize), nameof(taps));
    }

    /// <summary>Size of the parent axis.</summary>
    public int SourceSize { get; }

    /// <summary>How many fresh indices follow the parent's own in the extended axis.</summary>
    public int FreshSize { get; }

    /// <summary>Size of the child axis.</summary>
    public int Size => _starts.Length - 1;

    /// <summary>The terms of child index <paramref name="index"/>.</summary>
    public ReadOnlySpan<Tap> this[int index] => _taps.AsSpan(_starts[index], _starts[index + 1] - _starts[index]);

    /// <summary>Starts of each child index in <see cref="AllTaps"/>, with the end appended: <see cref="Size"/> + 1 numbers.</summary>
    public ReadOnlySpan<int> Starts => _starts;

    /// <summary>All terms in child order.</summary>
    public ReadOnlySpan<Tap> AllTaps => _taps;

    /// <summary>Whether the child axis is the parent axis unchanged.</summary>
    public bool IsIdentity
    {
        get
        {
            if (Size != SourceSize || _taps.Length != Size)
                return false;
            for (int i = 0; i < _taps.Length; i++)
                if (_starts[i] != i || _taps[i] != new Tap(i, 1))
                    return false;
            return true;
        }
    }

    /// <summary>Whether every child index copies one parent or fresh index unscaled, or is zero: no arithmetic is needed.</summary>
    public bool IsPick
    {
        get
        {
            for (int i = 0; i < Size; i++)
            {
                ReadOnlySpan<Tap> taps = this[i];
                if (taps.Length > 1 || (taps.Length == 1 && taps[0].Weight != 1))
                    return false;
            }

            return true;
        }
    }

    /// <summary>Whether a parent's index stands in several child indices.</summary>
    public bool RepeatsSources
    {
        get
        {
            var used = new bool[SourceSize];
            foreach (Tap tap in _taps)
            {
                if (tap.Source >= SourceSize)
                    continue;
                if (used[tap.Source])
                    return true;
                used[tap.Source] = true;
            }

            return false;
        }
    }

    /// <summary>Whether every index of the parent's stands in some child index.</summary>
    public bool ReadsAll
    {
        get
        {
            var used = new bool[SourceSize];
            foreach (Tap tap in _taps)
                if (tap.Source < SourceSize)
                    used[tap.Source] = true;
            return Array.TrueForAll(used, read => read);
        }
    }

    /// <summary>The identity on an axis of <paramref name="size"/>.</summary>
    public static AxisMap Identity(int size)
    {
        var starts = new int[size + 1];
        var taps = new Tap[size];
        for (int i = 0; i < size; i++)
        {
            starts[i + 1] = i + 1;
            taps[i] = new Tap(i, 1);
        }

        return new AxisMap(size, 0, starts, taps);
    }

    /// <summary>
    /// A map given by the terms of each child index. Terms are kept in source order, terms of one source are added up,
    /// and those that cancel are dropped, so that equal maps compare equal.
    /// </summary>
    public static AxisMap FromTaps(int sourceSize, int freshSize, IReadOnlyList<IReadOnlyList<Tap>> rows)
    {
        var starts = new int[rows.Count + 1];
        var taps = new List<Tap>(rows.Count);
        var row = new List<Tap>();
        for (int i = 0; i < rows.Count; i++)
        {
            row.Clear();
            row.AddRange(rows[i]);
            AddMerged(taps, row);
            starts[i + 1] = taps.Count;
        }

        return new AxisMap(sourceSize, freshSize, starts, [.. taps]);
    }

    /// <summary>A map that copies index <c>sources[c]</c> of the extended parent; a negative source is a zero.</summary>
    public static AxisMap Pick(int sourceSize, int freshSize, ReadOnlySpan<int> sources)
    {
        var starts = new int[sources.Length + 1];
        var taps = new List<Tap>(sources.Length);
        for (int i = 0; i < sources.Length; i++)
        {
            if (sources[i] >= 0)
                taps.Add(new Tap(sources[i], 1));
            starts[i + 1] = taps.Count;
        }

        return new AxisMap(sourceSize, freshSize, starts, [.. taps]);
    }

    /// <summary>The parent axis with <paramref name="before"/> zeros in front and <paramref name="after"/> behind.</summary>
    public static AxisMap ZeroPad(int size, int before, int after)
    {
        var sources = new int[size + before + after];
        for (int i = 0; i < sources.Length; i++)
            sources[i] = i >= before && i < before + size ? i - before : -1;
        return Pick(size, 0, sources);
    }

    /// <summary>The middle of a longer axis, or a shorter one in the middle of zeros: what is odd is left out or added behind.</summary>
    public static AxisMap Centre(int size, int newSize)
    {
        int offset = Math.Abs(size - newSize) / 2;
        return Pick(size, 0, [.. Enumerable.Range(0, newSize).Select(i => size > newSize ? i + offset : i >= offset && i < offset + size ? i - offset : -1)]);
    }

    /// <summary>
    /// Linear interpolation between indices, which stand for the middles of equal parts of one length: index i of n' lies at (i+½)·n/n' − ½; beyond the
    /// first and last index their values go on.
    /// </summary>
    public static AxisMap Interpolate(int size, int newSize)
    {
        var rows = new Tap[newSize][];
        for (int i = 0; i < newSize; i++)
        {
            double at = Math.Clamp((i + 0.5) * size / newSize - 0.5, 0, size - 1);
            int below = (int)Math.Floor(at);
            double share = at - below;
            rows[i] = share == 0 ? [new Tap(below, 1)] : [new Tap(below, 1 - share), new Tap(below + 1, share)];
        }

        return FromTaps(size, 0, rows);
    }

    /// <summary>This map with every child index multiplied by <paramref name="factor"/>.</summary>
    public AxisMap Times(double factor) =>
        factor == 1 ? this : new AxisMap(SourceSize, FreshSize, _starts, [.. _taps.Select(tap => tap with { Weight = tap.Weight * factor })]);

    /// <summary>
    /// This map after <paramref name="first"/>: child = this·first. The fresh indices of both stand side by side, those
    /// of <paramref name="first"/> first.
    /// </summary>
    public AxisMap After(AxisMap first)
    {
        if (first.Size != SourceSize)
            throw new ArgumentException($"A map from {SourceSize} cannot follow a map to {first.Size}.", nameof(first));
        var starts = new int[Size + 1];
        var taps = new List<Tap>(_taps.Length);
        var row = new List<Tap>();
        int freshStart = first.SourceSize + first.FreshSize;
        for (int i = 0; i < Size; i++)
        {
            // A sum that many channels hold is composed once.
            if (i > 0 && this[i].Length > 1 && this[i].SequenceEqual(this[i - 1]))
            {
                taps.AddRange(taps[starts[i - 1]..starts[i]]);
                starts[i + 1] = taps.Count;
                continue;
            }

            row.Clear();
            foreach (Tap outer in this[i])
            {
                if (outer.Source >= SourceSize)
                {
                    row.Add(outer with { Source = outer.Source - SourceSize + freshStart });
                    continue;
                }

                foreach (Tap inner in first[outer.Source])
                    row.Add(new Tap(inner.Source, outer.Weight * inner.Weight));
            }

            AddMerged(taps, row);
            starts[i + 1] = taps.Count;
        }

        return new AxisMap(first.SourceSize, first.FreshSize + FreshSize, starts, [.. taps]);
    }

    /// <summary>This map with the weights of fresh indices multiplied by <paramref name="factor"/>.</summary>
    public AxisMap WithFreshScaled(double factor) =>
        FreshSize == 0 || factor == 1 ? this
            : new AxisMap(SourceSize, FreshSize, _starts, Array.ConvertAll(_taps, tap => tap.Source < SourceSize ? tap : tap with { Weight = factor * tap.Weight }));

    /// <summary>
    /// This map as two, one behind the other: first the parent's indices and each long sum of them once, then copies. A sum that
    /// many indices hold thus costs as much as one. The first is null where there is no such sum.
    /// </summary>
    public (AxisMap? Sums, AxisMap Copies) Staged() => (_staged ??= Stage().ToTuple()).ToValueTuple();

    private (AxisMap? Sums, AxisMap Copies) Stage()
    {
        var sums = new List<int>();
        var numbers = new int[Size];
        for (int i = 0; i < Size; i++)
        {
            ReadOnlySpan<Tap> row = this[i];
            numbers[i] = -1;
            if (row.Length < LongSum || row[^1].Source >= SourceSize)
                continue;
            // Most often the same sum as the index before.
            int known = sums.Count - 1;
            while (known >= 0 && !row.SequenceEqual(this[sums[known]]))
                known--;
            if (known < 0)
            {
                known = sums.Count;
                sums.Add(i);
            }

            numbers[i] = known;
        }

        if (sums.Count == 0)
            return (null, this);
        var first = FromTaps(SourceSize, 0, [.. Enumerable.Range(0, SourceSize).Select(c => (Tap[])[new Tap(c, 1)]), .. sums.Select(i => this[i].ToArray())]);
        return (first, FromTaps(first.Size, FreshSize, [.. Enumerable.Range(0, Size).Select(Copied)]));

        Tap[] Copied(int i) => numbers[i] >= 0 ? [new Tap(SourceSize + numbers[i], 1)]
            : Array.ConvertAll(this[i].ToArray(), tap => tap.Source < SourceSize ? tap : tap with { Source = tap.Source + sums.Count });
    }

    /// <summary>Whether a child index is a long sum.</summary>
    public bool HasLongSums => Enumerable.Range(0, Size).Any(i => this[i].Length >= LongSum);

    /// <summary>This map with its long sums left zero, the long sums by themselves, and which child indices those are.</summary>
    public (AxisMap Others, AxisMap Sums, int[] Indices) SplitLongSums()
    {
        int[] indices = [.. Enumerable.Range(0, Size).Where(i => this[i].Length >= LongSum)];
        return (FromTaps(SourceSize, FreshSize, [.. Enumerable.Range(0, Size).Select(i => this[i] is { Length: < LongSum } row ? row.ToArray() : [])]),
            FromTaps(SourceSize, FreshSize, [.. indices.Select(i => this[i].ToArray())]), indices);
    }

    /// <summary>Whether <paramref name="next"/>, made one with this map, would compute a long sum of this map more than once.</summary>
    public bool RepeatsSums(AxisMap next)
    {
        var used = new HashSet<int>();
        foreach (Tap tap in next.AllTaps)
            if (tap.Source < Size && this[tap.Source].Length >= LongSum && !used.Add(tap.Source))
                return true;
        return false;
    }

    // Sums of fewer terms cost less to compute again than to keep.
    private const int LongSum = 8;

    /// <summary>This map with one fresh index for all that have no terms: where zero is another number than 0, it is drawn.</summary>
    public AxisMap WithZerosFresh()
    {
        if (Enumerable.Range(0, Size).All(c => this[c].Length > 0))
            return this;
        var zero = new Tap(SourceSize + FreshSize, 1);
        return FromTaps(SourceSize, FreshSize + 1, [.. Enumerable.Range(0, Size).Select(c => this[c] is { Length: > 0 } row ? row.ToArray() : [zero])]);
    }

    /// <summary>
    /// Whether maps of a tensor's axes (null is the identity) after <paramref name="first"/> are their compositions axis by axis.
    /// Fresh indices that the second adds along an axis stand for values over the whole cross-section of the first's result; composed,
    /// the first's maps of the other axes would act on them.
    /// </summary>
    public static bool CanCompose(IReadOnlyList<AxisMap?> first, IReadOnlyList<AxisMap?> second)
    {
        for (int fresh = 0; fresh < second.Count; fresh++)
            for (int other = 0; other < second.Count; other++)
                if (second[fresh] is { FreshSize: > 0 } && other != fresh && first[other] is { IsIdentity: false })
                    return false;
        return true;
    }

    /// <summary>
    /// The parts' maps one behind the other: a map of a concatenated axis. The fresh indices of the parts follow each other.
    /// </summary>
    public static AxisMap DirectSum(IReadOnlyList<AxisMap> parts)
    {
        int sources = parts.Sum(p => p.SourceSize);
        var starts = new int[parts.Sum(p => p.Size) + 1];
        var taps = new List<Tap>();
        int row = 0, sourceOffset = 0, freshOffset = sources;
        foreach (AxisMap part in parts)
        {
            for (int i = 0; i < part.Size; i++)
            {
                foreach (Tap tap in part[i])
                    taps.Add(tap with
                    {
                        Source = tap.Source < part.SourceSize ? tap.Source + sourceOffset : tap.Source - part.SourceSize + freshOffset,
                    });
                starts[++row] = taps.Count;
            }

            sourceOffset += part.SourceSize;
            freshOffset += part.FreshSize;
        }

        return new AxisMap(sources, parts.Sum(p => p.FreshSize), starts, [.. taps]);
    }

    /// <summary>
    /// The map of a product axis: outer index × inner index, row-major. A pair is fresh where either index is; pairs with a
    /// fresh inner index come first, then those with a fresh outer one.
    /// </summary>
    public static AxisMap Kronecker(AxisMap outer, AxisMap inner)
    {
        int sources = checked(outer.SourceSize * inner.SourceSize);
        int extendedInner = inner.SourceSize + inner.FreshSize;
        int freshInner = outer.SourceSize * inner.FreshSize;
        int fresh = checked(freshInner + outer.FreshSize * extendedInner);
        var starts = new int[checked(outer.Size * inner.Size) + 1];
        var taps = new List<Tap>(starts.Length);
        int row = 0;
        for (int o = 0; o < outer.Size; o++)
        {
            for (int i = 0; i < inner.Size; i++)
            {
                foreach (Tap a in outer[o])
                {
                    foreach (Tap b in inner[i])
                    {
                        int source = a.Source >= outer.SourceSize ? sources + freshInner + (a.Source - outer.SourceSize) * extendedInner + b.Source
                            : b.Source >= inner.SourceSize ? sources + a.Source * inner.FreshSize + (b.Source - inner.SourceSize)
                            : a.Source * inner.SourceSize + b.Source;
                        taps.Add(new Tap(source, a.Weight * b.Weight));
                    }
                }

                starts[++row] = taps.Count;
            }
        }

        return new AxisMap(sources, fresh, starts, [.. taps]);
    }

    /// <summary>Adds a row to <paramref name="taps"/> in source order, each source once.</summary>
    private static void AddMerged(List<Tap> taps, List<Tap> row)
    {
        for (int i = 1; i < row.Count; i++)
            if (row[i].Source < row[i - 1].Source)
            {
                row = [.. row.OrderBy(t => t.Source)];
                break;
            }

        for (int i = 0; i < row.Count;)
        {
            Tap tap = row[i++];
            for (; i < row.Count && row[i].Source == tap.Source; i++)
                tap = tap with { Weight = tap.Weight + row[i].Weight };
            if (tap.Weight != 0)
                taps.Add(tap);
        }
    }

    /// <inheritdoc/>
    public bool Equals(AxisMap? other) =>
        other is not null && SourceSize == other.SourceSize && FreshSize == other.FreshSize
        && _starts.AsSpan().SequenceEqual(other._starts) && _taps.AsSpan().SequenceEqual(other._taps);

    /// <inheritdoc/>
    public override bool Equals(object? obj) => Equals(obj as AxisMap);

    /// <inheritdoc/>
    public override int GetHashCode() => HashCode.Combine(SourceSize, FreshSize, Size, _taps.Length);
}
