using System.Collections.Concurrent;
using OnnxMorph.Alignment;
using OnnxMorph.Onnx;

namespace OnnxMorph.Ranking;

/// <summary>A candidate and how alike it is to the target.</summary>
/// <param name="Path">Its file.</param>
/// <param name="Similarity">The symmetric similarity, from 0 to 1 (<see cref="NetworkSimilarity.Symmetric"/>).</param>
/// <param name="Forward">How much of the target it fills.</param>
/// <param name="Backward">How much of it the target fills.</param>
/// <param name="Warning">What speaks against a transfer; null where nothing does.</param>
public sealed record RankedModel(string Path, double Similarity, double Forward, double Backward, string? Warning);

/// <summary>Candidates as sources for a target.</summary>
/// <param name="Target">The target's file.</param>
/// <param name="Candidates">The candidates, best first; of equal ones the one that fills more of the target, then by path.</param>
/// <param name="Unreadable">Those that could not be read, with the reason.</param>
/// <param name="Analysed">How many files of candidates were read; what an index knew of the others was enough.</param>
public sealed record RankReport(string Target, IReadOnlyList<RankedModel> Candidates, IReadOnlyList<UnreadModel> Unreadable, int Analysed)
{
    /// <summary>What speaks against a transfer from any of them; null where nothing does.</summary>
    public string? Warning => Candidates.Count > 0 ? Candidates[0].Warning : null;
}

/// <summary>How models are ranked.</summary>
public sealed record RankOptions
{
    /// <summary>The file of an index that keeps what is read of candidates; null for none.</summary>
    public string? Index { get; init; }

    /// <summary>Which runs of targets one source may feed.</summary>
    public RunRule Rule { get; init; } = RunRule.Blocks;

    /// <summary>Whether models of the index whose files are gone are forgotten rather than listed.</summary>
    public bool Prune { get; init; }
}

/// <summary>Which of many trained models is the best source for a target, without training: the most similar one (DPIAT; METHODS.md §4).</summary>
public static class ModelRanking
{
    /// <summary>The similarity of each candidate as a source, by <see cref="NetworkSimilarity.Of(NetworkOutline, NetworkOutline, RunRule)"/> to the last bit, in parallel.</summary>
    /// <param name="target">The target.</param>
    /// <param name="candidates">The candidates.</param>
    /// <param name="rule">Which runs of targets one source may feed.</param>
    /// <param name="cancellation">Ends the work.</param>
    public static IReadOnlyList<NetworkSimilarity> Of(
        NetworkOutline target, IReadOnlyList<NetworkOutline> candidates, RunRule rule = RunRule.Blocks, CancellationToken cancellation = default)
    {
        var table = new OutlineTable();
        int[] outlines = [.. candidates.Select(table.Add)];
        Dictionary<int, NetworkSimilarity> found = Score(target, table, outlines, rule, cancellation);
        return [.. outlines.Select(outline => found[outline])];
    }

    /// <summary>Reads a target and candidates and ranks these.</summary>
    /// <param name="target">The target's file.</param>
    /// <param name="candidates">Files, and folders in which and below which everything that ends in .onnx is one; all models of the index where empty.</param>
    /// <param name="options">How.</param>
    /// <param name="progress">Told what the work is at.</param>
    /// <param name="cancellation">Ends the work; an index keeps what was read until then.</param>
    /// <exception cref="UsageException">There is no candidate.</exception>
    /// <exception cref="OnnxMorphException">The target, the index, or a file or folder that was named cannot be read.</exception>
    public static RankReport Rank(
        string target, IReadOnlyList<string> candidates, RankOptions options, IProgress<string>? progress = null, CancellationToken cancellation = default)
    {
        RunRule rule = options.Rule;
        var unreadable = new List<UnreadModel>();
        List<string> files = ModelFiles.Of(candidates, unreadable);
        if (candidates.Count > 0 && files.Count == 0)
            throw new UsageException($"There is no .onnx file in {string.Join(", ", candidates.Select(c => $"'{c}'"))}; name files, or a folder that holds some.");
        // The target is read while the index is loaded.
        Task<NetworkOutline> reading = Task.Run(() => NetworkOutline.Of(OnnxReader.Read(target)), cancellation);
        using ModelIndex? known = options.Index is null ? null : Open(options.Index, reading);
        NetworkOutline outline = reading.GetAwaiter().GetResult();
        if (known is null)
        {
            progress?.Report($"reading {files.Count} models");
            return Rank(target, outline, files, unreadable, rule, cancellation);
        }

        if (candidates.Count == 0)
        {
            string own = Path.GetFullPath(target);
            files = [.. known.Models.Select(m => m.Path).Where(path => path != own)];
            if (files.Count == 0)
                throw new UsageException($"The index '{options.Index}' holds no candidates; name models or folders to put into it.");
        }

        var models = new IndexedModel?[files.Count];
        Parallel.For(0, files.Count, i => models[i] = known.Find(files[i]));
        if (candidates.Count == 0)
        {
            HashSet<string> gone = [.. files.Where((path, i) => models[i] is null && !File.Exists(path))];
            models = [.. models.Where((_, i) => !gone.Contains(files[i]))];
            files.RemoveAll(gone.Contains);
            if (options.Prune)
                known.Remove(gone);
            else
                unreadable.AddRange(gone.Select(path => new UnreadModel(path, $"'{path}' is no longer there; --prune forgets it.")));
        }

        string[] fresh = [.. files.Where((_, i) => models[i] is null)];
        if (fresh.Length > 0)
        {
            progress?.Report($"reading {fresh.Length} models");
            unreadable.AddRange(known.Read(fresh, cancellation));
            for (int i = 0; i < models.Length; i++)
                models[i] ??= known.Find(files[i]);
        }

        int[] outlines = [.. models.Select(m => m?.Outline ?? -1)];
        return Report(target, files, outlines, Score(outline, known.Outlines, outlines, rule, cancellation), unreadable, fresh.Length);
    }

    private static ModelIndex Open(string index, Task<NetworkOutline> reading)
    {
        try
        {
            return new ModelIndex(index);
        }
        catch
        {
            // What ONNX Runtime is loading cannot be stopped and has files of its own to take away.
            reading.ContinueWith(_ => { }, TaskScheduler.Default).Wait();
            throw;
        }
    }

    private static RankReport Rank(string target, NetworkOutline outline, List<string> files, List<UnreadModel> unreadable, RunRule rule, CancellationToken cancellation)
    {
        var outlines = new NetworkOutline?[files.Count];
        var unread = new UnreadModel?[files.Count];
        Parallel.For(0, files.Count, new ParallelOptions { CancellationToken = cancellation, MaxDegreeOfParallelism = Environment.ProcessorCount },
            i => unread[i] = ModelReading.Try(files[i], () => outlines[i] = NetworkOutline.Of(OnnxReader.Read(files[i]))));
        unreadable.AddRange(unread.OfType<UnreadModel>());
        var table = new OutlineTable();
        int[] numbers = [.. outlines.Select(o => o is null ? -1 : table.Add(o))];
        return Report(target, files, numbers, Score(outline, table, numbers, rule, cancellation), unreadable, files.Count);
    }

    private static RankReport Report(
        string target, List<string> files, int[] outlines, Dictionary<int, NetworkSimilarity> found, List<UnreadModel> unreadable, int analysed)
    {
        var ranked = new List<RankedModel>();
        foreach ((int i, int outline) in outlines.Index())
            if (found.TryGetValue(outline, out NetworkSimilarity? similarity))
                ranked.Add(new RankedModel(files[i], similarity.Symmetric, similarity.Forward, similarity.Backward, similarity.Warning));
        ranked.Sort((a, b) => (b.Similarity, b.Forward).CompareTo((a.Similarity, a.Forward)) is not 0 and var order ? order : string.CompareOrdinal(a.Path, b.Path));
        return new RankReport(target, ranked, unreadable, analysed);
    }

    // Equal outlines are scored once.
    internal static Dictionary<int, NetworkSimilarity> Score(NetworkOutline target, OutlineTable table, int[] outlines, RunRule rule, CancellationToken cancellation)
    {
        int[] distinct = [.. outlines.Where(outline => outline >= 0).Distinct()];
        var found = new NetworkSimilarity[distinct.Length];
        var parallel = new ParallelOptions { CancellationToken = cancellation };
        var own = new OutlineTable();
        var scores = new OutlineScores(own, own.Parts(target.Items), table, rule);
        var used = new bool[table.PartCount];
        foreach (int outline in distinct)
            foreach (int part in table.Outlines[outline])
                used[part] = true;
        Each(used.Length, part =>
        {
            if (used[part])
                scores.Fit(part);
        });
        Each(distinct.Length, i => found[i] = scores.Similarity(table.Outlines[distinct[i]]));
        return distinct.Zip(found).ToDictionary();

        void Each(int count, Action<int> work)
        {
            if (count == 0)
                return;
            Parallel.ForEach(Partitioner.Create(0, count, Math.Clamp(count / 64, 1, 256)), parallel, range =>
            {
                for (int i = range.Item1; i < range.Item2; i++)
                    work(i);
            });
        }
    }
}
