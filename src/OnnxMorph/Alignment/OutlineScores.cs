using System.Runtime.CompilerServices;

namespace OnnxMorph.Alignment;

/// <summary>
/// How well the layers and parts of two networks fit, and what aligning them scores. Layers and parts that a network repeats are scored once.
/// Reused from pair to pair, without allocation once its tables are large enough; not for several threads at once.
/// </summary>
internal sealed class OutlineScores(RunRule rule)
{
    private OutlineView _first = new(), _second = new();
    private double[] _layers = [], _fits = [], _back = [], _scores = [], _runs = [];

    /// <summary>Two networks and their scores.</summary>
    public static (OutlineView Source, OutlineView Target, OutlineScores Scores) Of(NetworkOutline source, NetworkOutline target, RunRule rule)
    {
        var table = new OutlineTable();
        int[] from = table.Parts(source.Items), to = table.Parts(target.Items);
        OutlineView sourceView = new OutlineView().Load(table, from), targetView = new OutlineView().Load(table, to);
        var scores = new OutlineScores(rule);
        scores.Load(sourceView, targetView);
        return (sourceView, targetView, scores);
    }

    /// <summary>Takes two networks and scores all their layers and parts against each other.</summary>
    /// <param name="source">Where weights come from.</param>
    /// <param name="target">Where they go.</param>
    public void Load(OutlineView source, OutlineView target)
    {
        (_first, _second) = (source, target);
        Grow(ref _layers, target.LayerCount * source.LayerCount);
        for (int t = 0; t < target.LayerCount; t++)
        {
            ReadOnlySpan<long> shape = target.Shape(t);
            for (int s = 0; s < source.LayerCount; s++)
                _layers[t * source.LayerCount + s] = AlignedLayer.Score(target.Kind(t), shape, source.Kind(s), source.Shape(s));
        }

        Fit(source, target, forward: true, ref _fits);
        // Without runs of layers, source and target have the same part in the inner recurrence.
        if (rule == RunRule.Any)
            Fit(source, target, forward: false, ref _back);
    }

    /// <summary>What aligning a target's part alone with a source's part alone scores.</summary>
    /// <param name="target">A part of the target.</param>
    /// <param name="source">A part of the source.</param>
    public double Fit(int target, int source) => _fits[target * _first.PartCount + source];

    /// <summary>S(source→target).</summary>
    public double Forward()
    {
        Tabulate(forward: true);
        return SequenceAlignment.BestScore(_second.Items.Count, _first.Items.Count, Scores, Runs);
    }

    /// <summary>S(target→source).</summary>
    public double Backward()
    {
        Tabulate(forward: false);
        return SequenceAlignment.BestScore(_first.Items.Count, _second.Items.Count, Scores, Runs);
    }

    /// <summary>The alignment of the source's parts with the target's.</summary>
    public SequenceAlignment Align()
    {
        Tabulate(forward: true);
        return SequenceAlignment.Best(_second.Items.Count, _first.Items.Count, Scores, Runs);
    }

    /// <summary>The alignment of the layers of a target's part with those of a source's, both blocks or neither.</summary>
    public SequenceAlignment AlignLayers(int target, int source)
    {
        ReadOnlySpan<int> to = _second.Layers(target), from = _first.Layers(source);
        var scores = new double[to.Length * from.Length];
        Gather(to, from, forward: true, scores);
        return SequenceAlignment.Best(to.Length, from.Length, scores, rule == RunRule.Any ? scores : default);
    }

    private ReadOnlySpan<double> Scores => _scores.AsSpan(0, _first.Items.Count * _second.Items.Count);

    private ReadOnlySpan<double> Runs => rule == RunRule.Any ? Scores : _runs.AsSpan(0, _first.Items.Count * _second.Items.Count);

    // The scores of all parts: for each of the target's those of the source's.
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Fit(OutlineView source, OutlineView target, bool forward, ref double[] fits)
    {
        const int MostOnStack = 1024;
        Span<double> memory = stackalloc double[MostOnStack];
        Grow(ref fits, target.PartCount * source.PartCount);
        for (int t = 0; t < target.PartCount; t++)
        {
            ReadOnlySpan<int> to = target.Layers(t);
            bool isBlock = target.IsBlock(t);
            for (int s = 0; s < source.PartCount; s++)
            {
                ReadOnlySpan<int> from = source.Layers(s);
                double fit = 0;
                if (isBlock == source.IsBlock(s))
                {
                    int count = to.Length * from.Length;
                    Span<double> scores = count <= MostOnStack ? memory[..count] : new double[count];
                    Gather(to, from, forward, scores);
                    ReadOnlySpan<double> runs = rule == RunRule.Any ? scores : default;
                    fit = forward ? SequenceAlignment.BestScore(to.Length, from.Length, scores, runs) : SequenceAlignment.BestScore(from.Length, to.Length, scores, runs);
                }

                fits[t * source.PartCount + s] = fit;
            }
        }
    }

    // The table of the inner recurrence: for each layer that is a source there, all that are targets.
    private void Gather(ReadOnlySpan<int> to, ReadOnlySpan<int> from, bool forward, Span<double> scores)
    {
        int width = _first.LayerCount, next = 0;
        if (forward)
        {
            foreach (int s in from)
                foreach (int t in to)
                    scores[next++] = _layers[t * width + s];
        }
        else
        {
            foreach (int t in to)
                foreach (int s in from)
                    scores[next++] = _layers[t * width + s];
        }
    }

    // The tables of the outer recurrence.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private void Tabulate(bool forward)
    {
        (OutlineView from, OutlineView to) = forward ? (_first, _second) : (_second, _first);
        double[] fits = !forward && rule == RunRule.Any ? _back : _fits;
        (int fromStep, int toStep) = forward ? (1, _first.PartCount) : (_first.PartCount, 1);
        Grow(ref _scores, from.Items.Count * to.Items.Count);
        Grow(ref _runs, from.Items.Count * to.Items.Count);
        int next = 0;
        foreach (int s in from.Items)
        {
            foreach (int t in to.Items)
            {
                double fit = fits[s * fromStep + t * toStep];
                _runs[next] = fit > 0 && to.IsBlock(t) ? fit : double.NegativeInfinity;
                _scores[next++] = fit;
            }
        }
    }

    private static void Grow(ref double[] table, int count)
    {
        if (table.Length < count)
            table = new double[Math.Max(count, 2 * table.Length)];
    }
}
