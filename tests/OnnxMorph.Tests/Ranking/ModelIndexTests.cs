using Microsoft.Data.Sqlite;
using OnnxMorph.Alignment;
using OnnxMorph.Onnx;
using OnnxMorph.Ranking;
using OnnxMorph.Tests.Testing;
using Xunit;

namespace OnnxMorph.Tests.Ranking;

/// <summary>The index: what is kept, when a model is read again, and what a bad file or a bad end does.</summary>
public sealed class ModelIndexTests : IDisposable
{
    private readonly TemporaryModels _files = new();

    private string Index => _files["index.db"];

    public void Dispose() => _files.Dispose();

    /// <summary>Outlines come back as they went in: ranked from the file, from memory, and without an index they score the same.</summary>
    [Fact]
    public void OutlinesComeBack()
    {
        var random = new Random(4);
        NetworkOutline[] outlines = [.. Enumerable.Range(0, 150).Select(_ => RandomOutline.Of(random)), new([])];
        NetworkOutline target = RandomOutline.Of(random);
        IReadOnlyList<NetworkSimilarity> expected = ModelRanking.Of(target, outlines, cancellation: TestContext.Current.CancellationToken);
        using (var index = new ModelIndex(Index))
        {
            Assert.False(File.Exists(Index));
            index.Add([.. outlines[..100].Select(Entry)]);
            index.Add([.. outlines[100..].Select((o, i) => Entry(o, 100 + i))]);
            Assert.Equal(expected, Similarities(index));
        }

        using var again = new ModelIndex(Index);
        Assert.Equal(expected, Similarities(again));

        IEnumerable<NetworkSimilarity> Similarities(ModelIndex index)
        {
            int[] numbers = [.. outlines.Select((_, i) => index.Models.Single(m => m.Path == Name(i)).Outline)];
            Dictionary<int, NetworkSimilarity> found = ModelRanking.Score(target, index.Outlines, numbers, RunRule.Blocks, default);
            return numbers.Select(number => found[number]);
        }
    }

    /// <summary>The tables say what a model is made of, to anyone who reads them.</summary>
    [Fact]
    public void TablesArePlain()
    {
        string path = Model(2, 6);
        using (var index = new ModelIndex(Index))
            Assert.Empty(index.Read([path], TestContext.Current.CancellationToken));
        NetworkOutline outline = NetworkOutline.Of(OnnxReader.Read(path));
        Assert.Equal(
            outline.Items.SelectMany((item, i) => item.Layers.Select((layer, k) =>
                $"{i} {item.Path} {(item.IsBlock ? 1 : 0)} {k} {layer.Kind.ToString().ToLowerInvariant()} [{string.Join(',', layer.Shape)}]")),
            Query("SELECT part, section, is_block, position, kind, shape FROM model_layers ORDER BY part, position"));
        var file = new FileInfo(path);
        Assert.Equal([$"{path} {file.Length} {(file.LastWriteTimeUtc - DateTime.UnixEpoch).Ticks * 100}"], Query("SELECT path, size, modified FROM models"));
        // The two blocks are one part of the tables.
        Assert.Equal(["2"], Query("SELECT count(*) FROM outline_parts JOIN parts ON parts.id = part WHERE is_block = 1"));
        Assert.Equal(["1"], Query("SELECT count(*) FROM parts WHERE is_block = 1"));
        Assert.Equal(["ok"], Query("PRAGMA integrity_check"));
        Assert.Empty(Query("PRAGMA foreign_key_check"));
    }

    [Fact]
    public void AModelIsReadOnceUntilItChanges()
    {
        string target = Model(1, 4), first = Model(2, 6, "a/first.onnx"), second = Model(3, 5, "a/b/second.onnx");
        RankReport Rank(params string[] candidates) =>
            ModelRanking.Rank(target, candidates, new RankOptions { Index = Index }, cancellation: TestContext.Current.CancellationToken);
        RankReport report = Rank(_files["a"]);
        Assert.Equal(2, report.Analysed);
        Assert.Equal(2, report.Candidates.Count);
        RankReport again = Rank(_files["a"]);
        Assert.Equal(0, again.Analysed);
        Assert.Equal(report.Candidates, again.Candidates);
        Assert.Equal(report.Candidates, Rank().Candidates);

        // Another time of change is enough to look at a file, another content changes its place.
        File.SetLastWriteTimeUtc(first, DateTime.UtcNow.AddMinutes(1));
        Assert.Equal((1, report.Candidates.Count), (Rank(first, second).Analysed, Rank(first, second).Candidates.Count));
        Assert.Equal(report.Candidates, Rank().Candidates);
        Model(1, 4, "a/first.onnx");
        report = Rank();
        Assert.Equal(1, report.Analysed);
        Assert.Equal((first, 1.0), (report.Candidates[0].Path, report.Candidates[0].Similarity));

        // A version that may find another structure reads again.
        Execute("UPDATE models SET version = 'another'");
        Assert.Equal(2, Rank().Analysed);
        Assert.Equal(0, Rank().Analysed);
    }

    [Fact]
    public void ModelsThatAreGoneAreListedAndPruned()
    {
        string target = Model(1, 4), kept = Model(2, 6, "a/kept.onnx"), gone = Model(3, 5, "a/gone.onnx");
        RankReport Rank(bool prune, params string[] candidates) =>
            ModelRanking.Rank(target, candidates, new RankOptions { Index = Index, Prune = prune }, cancellation: TestContext.Current.CancellationToken);
        Rank(false, _files["a"]);
        File.Delete(gone);
        RankReport report = Rank(false);
        Assert.Equal([kept], report.Candidates.Select(c => c.Path));
        Assert.Equal(gone, Assert.Single(report.Unreadable).Path);
        Assert.Equal(["2"], Query("SELECT count(*) FROM models"));
        Assert.Empty(Rank(true).Unreadable);
        Assert.Equal(["1"], Query("SELECT count(*) FROM models"));
        // What only the other model had is gone too.
        Assert.Equal([.. NetworkOutline.Of(OnnxReader.Read(kept)).Items.SelectMany(i => i.Layers).Select(l => $"[{string.Join(',', l.Shape)}]").Distinct().Order(StringComparer.Ordinal)],
            Query("SELECT shape FROM layers ORDER BY shape"));
        Assert.Empty(Query("PRAGMA foreign_key_check"));
    }

    /// <summary>Many writers at once, each with a connection of its own, on a file that none of them has made yet.</summary>
    [Fact]
    public void WritersWaitForEachOther()
    {
        var random = new Random(6);
        NetworkOutline[] outlines = [.. Enumerable.Range(0, 24).Select(_ => RandomOutline.Of(random))];
        Parallel.For(0, 8, worker =>
        {
            using var index = new ModelIndex(Index);
            for (int i = 0; i < 6; i++)
                index.Add([Entry(outlines[worker * 3 + i / 2], worker * 6 + i)]);
        });
        using var all = new ModelIndex(Index);
        Assert.Equal(48, all.Models.Count);
        Assert.Equal([$"{outlines.Length}"], Query("SELECT count(*) FROM outlines"));
        Assert.Empty(Query("PRAGMA foreign_key_check"));
    }

    [Fact]
    public void AWriteThatFailsLeavesWhatWasThere()
    {
        NetworkOutline outline = RandomOutline.Of(new Random(8));
        using var index = new ModelIndex(Index);
        index.Add([Entry(outline, 0)]);
        byte[] before = File.ReadAllBytes(Index);
        Assert.ThrowsAny<Exception>(() => index.Add([Entry(RandomOutline.Of(new Random(9)), 1), Entry(outline, 2) with { Graph = null! }]));
        Assert.Single(index.Models);
        Assert.Equal(before, File.ReadAllBytes(Index));
        index.Add([Entry(outline, 3)]);
        Assert.Equal(["2"], Query("SELECT count(*) FROM models"));
    }

    [Fact]
    public void BadFilesAreNamed()
    {
        void Refused(ExitCode code, string says)
        {
            OnnxMorphException e = Assert.ThrowsAny<OnnxMorphException>(() => new ModelIndex(Index));
            Assert.Equal(code, e.ExitCode);
            Assert.Contains(says, e.Message);
            Assert.Contains(Index, e.Message);
        }

        File.WriteAllText(Index, string.Concat(Enumerable.Repeat("No database at all. ", 100)));
        Refused(ExitCode.InputOutput, "delete it");
        File.Delete(Index);
        Execute("CREATE TABLE songs (title TEXT)");
        Refused(ExitCode.Usage, "name another file");
        File.Delete(Index);
        using (var index = new ModelIndex(Index))
            index.Add([Entry(RandomOutline.Of(new Random(1)), 0)]);
        Execute("DELETE FROM layers WHERE id = 1", foreignKeys: false);
        Refused(ExitCode.InputOutput, "damaged");
        Execute("DROP TABLE outline_parts");
        Refused(ExitCode.InputOutput, "damaged");
        Execute("PRAGMA user_version = 2");
        Refused(ExitCode.InputOutput, "update onnxmorph");
        // A file that was cut short.
        File.Delete(Index);
        using (var index = new ModelIndex(Index))
            index.Add([.. Enumerable.Range(0, 50).Select(i => Entry(RandomOutline.Of(new Random(i)), i))]);
        using (FileStream stream = File.OpenWrite(Index))
            stream.SetLength(stream.Length / 2);
        Refused(ExitCode.InputOutput, "delete it");
        File.Delete(Index);
        Directory.CreateDirectory(Index);
        Refused(ExitCode.InputOutput, "folder");
    }

    private static string Name(int number) => Path.GetFullPath($"{number}.onnx");

    private static ModelEntry Entry(NetworkOutline outline, int number) => new(Name(number), 1, 2, $"{number:x32}", ModelIndex.ReaderVersion, outline);

    // A residual network with equal blocks.
    private string Model(int blocks, int channels, string? name = null)
    {
        var net = new Net { Runs = { new() } };
        string x = net.Relu(net.Conv(net.Input("x", 1, 3, 8, 8), 3, channels));
        for (int i = 0; i < blocks; i++)
            x = net.Relu(net.Add(x, net.Conv(net.Relu(net.Conv(x, channels, channels)), channels, channels)));
        net.Output(net.Op("Gemm", [net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), net.Weight([channels, 5]), net.Weight([5])]));
        if (name is not null)
            Directory.CreateDirectory(Path.GetDirectoryName(_files[name])!);
        return _files.Write(net, name);
    }

    private void Execute(string sql, bool foreignKeys = true) => Open(sql, foreignKeys, command => command.ExecuteNonQuery());

    private List<string> Query(string sql) => Open(sql, true, command =>
    {
        var rows = new List<string>();
        using SqliteDataReader reader = command.ExecuteReader();
        while (reader.Read())
            rows.Add(string.Join(' ', Enumerable.Range(0, reader.FieldCount).Select(reader.GetValue)));
        return rows;
    });

    private T Open<T>(string sql, bool foreignKeys, Func<SqliteCommand, T> run)
    {
        using var connection = new SqliteConnection($"Data Source={Index};Pooling=False;Foreign Keys={foreignKeys}");
        connection.Open();
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = sql;
        return run(command);
    }
}
