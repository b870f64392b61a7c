using System.Runtime.CompilerServices;

namespace OnnxMorph.Alignment;

/// <summary>
/// How well the parts of a target fit those of sources, and what aligning it with them scores. Parts are scored once, however many networks
/// have them (<see cref="Fit(int)"/>); after that several threads may use it at once.
/// </summary>
internal sealed class OutlineScores
{
    private const int MostOnStack = 1024;

    private readonly OutlineTable _targets, _sources;
    private readonly RunRule _rule;
    // The target's parts that differ, for each of its parts in execution order its place among them, and the layers in them that differ.
    private readonly int[] _parts, _items, _layers;
    private readonly int[][] _partLayers;
    // For each of the sources' parts, what each of the target's scores with it, as targets and as sources.
    private readonly double[] _fits, _back;

    /// <summary>A target and where its sources are.</summary>
    /// <param name="targets">The table that the target is in.</param>
    /// <param name="target">The target's parts.</param>
    /// <param name="sources">The table that the sources are in.</param>
    /// <param name="rule">Which runs of targets one source may feed.</param>
    public OutlineScores(OutlineTable targets, ReadOnlySpan<int> target, OutlineTable sources, RunRule rule)
    {
        (_targets, _sources, _rule) = (targets, sources, rule);
        int[] parts = target.ToArray();
        _parts = [.. parts.Distinct()];
        _items = [.. parts.Select(part => Array.IndexOf(_parts, part))];
        _layers = [.. _parts.SelectMany(part => targets.Layers(part).ToArray()).Distinct()];
        _partLayers = [.. _parts.Select(part => targets.Layers(part).ToArray().Select(layer => Array.IndexOf(_layers, layer)).ToArray())];
        _fits = new double[sources.PartCount * _parts.Length];
        // Without runs of layers, source and target have the same part in the inner recurrence.
        _back = rule == RunRule.Any ? new double[_fits.Length] : _fits;
    }

    /// <summary>A source and a target by themselves: their scores and the source's parts.</summary>
    public static (OutlineScores Scores, int[] Source) Of(NetworkOutline source, NetworkOutline target, RunRule rule)
    {
        OutlineTable sources = new(), targets = new();
        int[] parts = sources.Parts(source.Items);
        var scores = new OutlineScores(targets, targets.Parts(target.Items), sources, rule);
        for (int part = 0; part < sources.PartCount; part++)
            scores.Fit(part);
        return (scores, parts);
    }

    /// <summary>Scores a part of the sources against all of the target's.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public void Fit(int part)
    {
        ReadOnlySpan<int> from = _sources.Layers(part);
        Span<double> memory = stackalloc double[2 * MostOnStack];
        int count = from.Length * _layers.Length;
        Span<double> fits = count <= MostOnStack ? memory[..count] : new double[count];
        for (int s = 0; s < from.Length; s++)
        {
            AlignedKind kind = _sources.Kind(from[s]);
            ReadOnlySpan<long> shape = _sources.Shape(from[s]);
            for (int t = 0; t < _layers.Length; t++)
                fits[s * _layers.Length + t] = AlignedLayer.Score(_targets.Kind(_layers[t]), _targets.Shape(_layers[t]), kind, shape);
        }

        for (int t = 0; t < _parts.Length; t++)
        {
            int[] to = _partLayers[t];
            int at = part * _parts.Length + t;
            if (_targets.IsBlock(_parts[t]) != _sources.IsBlock(part))
                continue;
            count = to.Length * from.Length;
            Span<double> scores = count <= MostOnStack ? memory.Slice(MostOnStack, count) : new double[count];
            for (int s = 0, next = 0; s < from.Length; s++)
                foreach (int layer in to)
                    scores[next++] = fits[s * _layers.Length + layer];
            _fits[at] = SequenceAlignment.BestScore(to.Length, from.Length, scores, _rule == RunRule.Any ? scores : default);
            if (_rule != RunRule.Any)
                continue;
            for (int k = 0, next = 0; k < to.Length; k++)
                for (int s = 0; s < from.Length; s++)
                    scores[next++] = fits[s * _layers.Length + to[k]];
            _back[at] = SequenceAlignment.BestScore(from.Length, to.Length, scores, scores);
        }
    }

    /// <summary>What aligning the target's part at a place with a part of a source alone scores.</summary>
    public double Fit(int item, int part) => _fits[part * _parts.Length + _items[item]];

    /// <summary>The similarity of a source, all of whose parts have been scored.</summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    public NetworkSimilarity Similarity(ReadOnlySpan<int> source)
    {
        double own = OwnScore(_sources, source), other = 0;
        foreach (int item in _items)
            other += OwnScore(_targets, new ReadOnlySpan<int>(in _parts[item]));
        if (own == 0 || other == 0)
            return new NetworkSimilarity(0, 0, 0);
        int count = source.Length * _items.Length;
        Span<double> memory = count <= MostOnStack ? stackalloc double[2 * MostOnStack] : new double[2 * count];
        Span<double> scores = memory[..count], runs = _rule == RunRule.Any ? scores : memory.Slice(count, count);
        Tabulate(source, scores, runs);
        double forward = SequenceAlignment.BestScore(_items.Length, source.Length, scores, runs);
        int next = 0;
        foreach (int item in _items)
        {
            foreach (int part in source)
            {
                double fit = _back[part * _parts.Length + item];
                if (_rule != RunRule.Any)
                    runs[next] = fit > 0 && _sources.IsBlock(part) ? fit : double.NegativeInfinity;
                scores[next++] = fit;
            }
        }

        double backward = SequenceAlignment.BestScore(source.Length, _items.Length, scores, runs);
        return new NetworkSimilarity(Math.Sqrt(forward * backward / (own * other)), forward / other, backward / own);
    }

    /// <summary>The alignment of the target's parts with a source's, all of which have been scored.</summary>
    public SequenceAlignment Align(ReadOnlySpan<int> source)
    {
        double[] scores = new double[source.Length * _items.Length], runs = _rule == RunRule.Any ? scores : new double[scores.Length];
        Tabulate(source, scores, runs);
        return SequenceAlignment.Best(_items.Length, source.Length, scores, runs);
    }

    /// <summary>The alignment of the layers of the target's part at a place with those of a source's, both blocks or neither.</summary>
    public SequenceAlignment AlignLayers(int item, int part)
    {
        ReadOnlySpan<int> to = _targets.Layers(_parts[_items[item]]), from = _sources.Layers(part);
        var scores = new double[to.Length * from.Length];
        int next = 0;
        foreach (int s in from)
            foreach (int t in to)
                scores[next++] = AlignedLayer.Score(_targets.Kind(t), _targets.Shape(t), _sources.Kind(s), _sources.Shape(s));
        return SequenceAlignment.Best(to.Length, from.Length, scores, _rule == RunRule.Any ? scores : default);
    }

    // S(A→A): the number of layers, since each fits itself best, at 1, and runs are discounted. Layers without elements fit nothing.
    private static double OwnScore(OutlineTable table, ReadOnlySpan<int> parts)
    {
        int layers = 0;
        foreach (int part in parts)
            layers += table.OwnScore(part);
        return layers;
    }

    // The tables of the outer recurrence: for each of the source's parts all of the target's.
    private void Tabulate(ReadOnlySpan<int> source, Span<double> scores, Span<double> runs)
    {
        int next = 0;
        foreach (int part in source)
        {
            ReadOnlySpan<double> fits = _fits.AsSpan(part * _parts.Length, _parts.Length);
            foreach (int item in _items)
            {
                double fit = fits[item];
                if (_rule != RunRule.Any)
                    runs[next] = fit > 0 && _targets.IsBlock(_parts[item]) ? fit : double.NegativeInfinity;
                scores[next++] = fit;
            }
        }
    }
}
