using System.Numerics;
using System.Runtime.CompilerServices;

namespace OnnxMorph.Alignment;

/// <summary>Which runs of targets one source may feed.</summary>
public enum RunRule
{
    /// <summary>Any, also over targets that it does not fit: the recurrence as published.</summary>
    Any,

    /// <summary>
    /// Of blocks alone, each of which it fits: a deeper target repeats blocks, not layers. In the published form a run is discounted by its
    /// length though some of it fits nothing, and can still beat the clean alignment.
    /// </summary>
    Blocks,
}

/// <summary>An alignment of two sequences.</summary>
/// <param name="Score">Its score.</param>
/// <param name="Sources">For each target the position of its source; −1 where it has none.</param>
public sealed record SequenceAlignment(double Score, IReadOnlyList<int> Sources)
{
    // Choices of the recurrence; a positive one is the length of the run that ends here.
    private const int TargetLeftOut = -1, SourceLeftOut = -2;

    /// <summary>
    /// The best alignment that keeps order, where one source may feed a run of targets whose scores are divided by the root of the run's
    /// length (DPIAT; METHODS.md §4):
    /// D[i,j] = max(D[i−1,j], D[i,j−1], max over k ≤ i of D[k−1,j−1] + Σ s[k..i, j] / √(i−k+1)). Among equal scores targets and sources are
    /// left out rather than aligned.
    /// </summary>
    /// <param name="targets">Number of targets.</param>
    /// <param name="sources">Number of sources.</param>
    /// <param name="score">How well a target (first) and a source fit; at least 0.</param>
    /// <param name="repeats">Whether a target (first) may share a source with its neighbours: all of a run of several.</param>
    /// <remarks>Time O(targets · sources · longest run), memory O(targets · sources).</remarks>
    public static SequenceAlignment Best(int targets, int sources, Func<int, int, double> score, Func<int, int, bool> repeats)
    {
        double[] scores = new double[targets * sources], runs = new double[targets * sources];
        for (int j = 0; j < sources; j++)
        {
            for (int i = 0; i < targets; i++)
            {
                scores[j * targets + i] = score(i, j);
                runs[j * targets + i] = repeats(i, j) ? scores[j * targets + i] : double.NegativeInfinity;
            }
        }

        return Best(targets, sources, scores, runs);
    }

    /// <summary>The same from tables.</summary>
    /// <param name="targets">Number of targets.</param>
    /// <param name="sources">Number of sources.</param>
    /// <param name="scores">Scores, for each source those of all targets.</param>
    /// <param name="runs">The same where a target may be part of a run of several, −∞ elsewhere; empty where there are no runs.</param>
    internal static SequenceAlignment Best(int targets, int sources, ReadOnlySpan<double> scores, ReadOnlySpan<double> runs)
    {
        var choices = new int[targets * sources];
        double best = BestScore(targets, sources, scores, runs, choices);
        var chosen = new int[targets];
        Array.Fill(chosen, -1);
        for (int i = targets, j = sources; i > 0 && j > 0;)
        {
            int choice = choices[(j - 1) * targets + i - 1];
            if (choice == TargetLeftOut)
                i--;
            else if (choice == SourceLeftOut)
                j--;
            else
            {
                for (int k = 0; k < choice; k++)
                    chosen[--i] = j - 1;
                j--;
            }
        }

        return new SequenceAlignment(best, chosen);
    }

    /// <summary>
    /// The score of the best alignment: the recurrence, source by source, each of which needs only what the one before left. The choices that
    /// led to it are kept where <paramref name="choices"/> is not empty.
    /// </summary>
    [SkipLocalsInit]
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    internal static double BestScore(int targets, int sources, ReadOnlySpan<double> scores, ReadOnlySpan<double> runs, Span<int> choices = default)
    {
        const int MostOnStack = 1024;
        int width = targets + 1;
        Span<double> memory = 5 * width <= MostOnStack ? stackalloc double[MostOnStack] : new double[5 * width];
        Span<double> previous = memory[..width], current = memory.Slice(width, width), aligned = memory.Slice(2 * width, targets);
        Span<double> sums = memory.Slice(3 * width, targets), lengths = memory.Slice(4 * width, targets);
        previous.Clear();
        for (int j = 0; j < sources; j++)
        {
            ReadOnlySpan<double> column = scores.Slice(j * targets, targets);
            for (int i = 0; i < targets; i++)
                aligned[i] = previous[i] + column[i];
            lengths.Fill(1);
            if (!runs.IsEmpty)
                AlignRuns(runs.Slice(j * targets, targets), previous, aligned, sums, lengths);
            current[0] = 0;
            for (int i = 0; i < targets; i++)
            {
                double most = current[i];
                int choice = TargetLeftOut;
                if (previous[i + 1] > most)
                    (most, choice) = (previous[i + 1], SourceLeftOut);
                if (aligned[i] > most)
                    (most, choice) = (aligned[i], (int)lengths[i]);
                current[i + 1] = most;
                if (!choices.IsEmpty)
                    choices[j * targets + i] = choice;
            }

            Span<double> next = previous;
            previous = current;
            current = next;
        }

        return previous[targets];
    }

    // Runs of two and more that end at each target, where they are better than what is there. Runs of one length are looked at together,
    // several targets an instruction.
    [MethodImpl(MethodImplOptions.AggressiveOptimization)]
    private static void AlignRuns(ReadOnlySpan<double> run, ReadOnlySpan<double> before, Span<double> aligned, Span<double> sums, Span<double> lengths)
    {
        int longest = 0, streak = 0;
        foreach (double score in run)
        {
            streak = score >= 0 ? streak + 1 : 0;
            longest = Math.Max(longest, streak);
        }

        run.CopyTo(sums);
        for (int length = 2; length <= longest; length++)
        {
            double root = Math.Sqrt(length);
            int start = length - 1, i = start;
            for (; i <= run.Length - Vector<double>.Count; i += Vector<double>.Count)
            {
                Vector<double> sum = new Vector<double>(sums[i..]) + new Vector<double>(run[(i - start)..]), old = new(aligned[i..]);
                Vector<double> value = new Vector<double>(before[(i - start)..]) + sum / new Vector<double>(root);
                Vector<long> better = Vector.GreaterThan(value, old);
                sum.CopyTo(sums[i..]);
                Vector.ConditionalSelect(better, value, old).CopyTo(aligned[i..]);
                Vector.ConditionalSelect(better, new Vector<double>(length), new Vector<double>(lengths[i..])).CopyTo(lengths[i..]);
            }

            for (; i < run.Length; i++)
            {
                sums[i] += run[i - start];
                double value = before[i - start] + sums[i] / root;
                if (value > aligned[i])
                    (aligned[i], lengths[i]) = (value, length);
            }
        }
    }
}
