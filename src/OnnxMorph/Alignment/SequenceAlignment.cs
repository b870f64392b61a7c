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
    /// <summary>
    /// The best alignment that keeps order, where one source may feed a run of targets whose scores are divided by the root of the run's
    /// length (DPIAT; METHODS.md §4):
    /// D[i,j] = max(D[i−1,j], D[i,j−1], max over k ≤ i of D[k−1,j−1] + Σ s[k..i, j] / √(i−k+1)). Among equal scores targets and sources are
    /// left out rather than aligned.
    /// </summary>
    /// <param name="targets">How many targets.</param>
    /// <param name="sources">How many sources.</param>
    /// <param name="score">How well a source fits a target; not negative.</param>
    /// <param name="repeats">Whether a target may be part of a run of several.</param>
    /// <remarks>Time O(targets · sources · longest run), memory O(targets · sources).</remarks>
    public static SequenceAlignment Best(int targets, int sources, Func<int, int, double> score, Func<int, int, bool> repeats)
    {
        var best = new double[targets + 1, sources + 1];
        var run = new int[targets + 1, sources + 1]; // length of the run that ends here; −1: target left out, −2: source left out
        for (int j = 1; j <= sources; j++)
        {
            for (int i = 1; i <= targets; i++)
            {
                double most = best[i - 1, j];
                int choice = -1;
                if (best[i, j - 1] > most)
                    (most, choice) = (best[i, j - 1], -2);
                double sum = 0;
                for (int length = 1; length <= i; length++)
                {
                    int target = i - length;
                    if (length > 1 && !(repeats(target, j - 1) && repeats(i - 1, j - 1)))
                        break;
                    sum += score(target, j - 1);
                    double aligned = best[target, j - 1] + sum / Math.Sqrt(length);
                    if (aligned > most)
                        (most, choice) = (aligned, length);
                }

                (best[i, j], run[i, j]) = (most, choice);
            }
        }

        var chosen = new int[targets];
        Array.Fill(chosen, -1);
        for (int i = targets, j = sources; i > 0 && j > 0;)
        {
            int choice = run[i, j];
            if (choice == -1)
                i--;
            else if (choice == -2)
                j--;
            else
            {
                for (int k = 0; k < choice; k++)
                    chosen[--i] = j - 1;
                j--;
            }
        }

        return new SequenceAlignment(best[targets, sources], chosen);
    }
}
