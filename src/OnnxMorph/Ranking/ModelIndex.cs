using System.Reflection;
using Microsoft.Data.Sqlite;
using OnnxMorph.Alignment;
using OnnxMorph.Onnx;

namespace OnnxMorph.Ranking;

/// <summary>A model of an index.</summary>
/// <param name="Path">Full path of its file.</param>
/// <param name="Size">Size of the file in bytes when it was read.</param>
/// <param name="Modified">When the file had last changed, in nanoseconds since 1970 (UTC).</param>
/// <param name="Graph">Identity of its graph: equal for files that differ in large weights only.</param>
/// <param name="Version">The version of OnnxMorph that read it.</param>
/// <param name="Outline">Number of its outline among the index's.</param>
public sealed record IndexedModel(string Path, long Size, long Modified, string Graph, string Version, int Outline);

/// <summary>A model as it goes into an index.</summary>
internal sealed record ModelEntry(string Path, long Size, long Modified, string Graph, string Version, NetworkOutline Outline);

/// <summary>
/// What is known of many models without reading them again: their outlines, in a SQLite file that other programs read too
/// (docs/index-format.md). Weights are not in it. Several processes may use a file at once, and a write that is interrupted leaves what was
/// there before.
/// </summary>
public sealed class ModelIndex : IDisposable
{
    private const int Corrupt = 11, NotADatabase = 26, Error = 1, Busy = 5, Locked = 6;

    /// <summary>Another version may find another structure in the same graph.</summary>
    internal static string ReaderVersion { get; } =
        typeof(ModelIndex).Assembly.GetCustomAttribute<AssemblyInformationalVersionAttribute>()!.InformationalVersion;

    private readonly Dictionary<string, IndexedModel> _models = [];
    private SqliteConnection? _connection;

    /// <summary>Opens an index and loads it. A file that does not exist is made when the first model is added.</summary>
    /// <param name="path">The file.</param>
    /// <exception cref="UsageException">The file is a database of something else.</exception>
    /// <exception cref="OnnxMorphException">It is damaged, of a newer version, in use, or cannot be read; or its folder does not exist.</exception>
    public ModelIndex(string path)
    {
        Path = System.IO.Path.GetFullPath(path);
        if (Directory.Exists(Path))
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{path}' is a folder; name the index's file.");
        if (!Directory.Exists(System.IO.Path.GetDirectoryName(Path)))
            throw new OnnxMorphException(ExitCode.InputOutput, $"The folder of '{path}' does not exist; create it first.");
        if (!File.Exists(Path))
            return;
        try
        {
            Guard(() =>
            {
                Connect();
                using SqliteTransaction transaction = _connection!.BeginTransaction(deferred: true);
                if (CheckFormat())
                    foreach (IndexedModel model in new IndexReader(_connection, Outlines).Read())
                        _models[model.Path] = model;
            });
        }
        catch
        {
            Dispose();
            throw;
        }
    }

    /// <summary>Full path of the file.</summary>
    public string Path { get; }

    /// <summary>The models that are known.</summary>
    public IReadOnlyCollection<IndexedModel> Models => _models.Values;

    /// <summary>The outlines of the models.</summary>
    internal OutlineTable Outlines { get; } = new();

    /// <summary>What is known of a file; null where it was never read, has changed since, or was read by another version.</summary>
    /// <param name="path">The file, which must exist.</param>
    public IndexedModel? Find(string path)
    {
        string full = System.IO.Path.GetFullPath(path);
        return _models.TryGetValue(full, out IndexedModel? model) && model.Version == ReaderVersion
            && FileStamp.Of(full) is var stamp && stamp.Length == model.Size && Nanoseconds(stamp.LastWrite) == model.Modified ? model : null;
    }

    /// <summary>Reads files and keeps what is found; a file whose graph is known already is not analysed again.</summary>
    /// <param name="paths">The files.</param>
    /// <param name="cancellation">Stops between files; what was read until then stays.</param>
    /// <returns>Those that could not be read, with the reason.</returns>
    /// <exception cref="OnnxMorphException">The index cannot be written.</exception>
    public IReadOnlyList<UnreadModel> Read(IReadOnlyList<string> paths, CancellationToken cancellation = default)
    {
        var unread = new List<UnreadModel>();
        // What a long run has read is kept though it may be interrupted.
        foreach (string[] batch in paths.Chunk(64))
        {
            Dictionary<string, IndexedModel> graphs = [];
            foreach (IndexedModel model in _models.Values.Where(m => m.Version == ReaderVersion))
                graphs.TryAdd(model.Graph, model);
            var entries = new (ModelEntry? Entry, IndexedModel? Known, UnreadModel? Unread)[batch.Length];
            Parallel.For(0, batch.Length, new ParallelOptions { CancellationToken = cancellation, MaxDegreeOfParallelism = Environment.ProcessorCount }, i =>
            {
                entries[i].Unread = ModelReading.Try(batch[i], () =>
                {
                    string full = System.IO.Path.GetFullPath(batch[i]);
                    FileStamp stamp = FileStamp.Of(full);
                    OnnxModel model = OnnxReader.Read(batch[i]);
                    string graph = GraphIdentity.Of(model);
                    if (graphs.TryGetValue(graph, out IndexedModel? same))
                        entries[i].Known = same with { Path = full, Size = stamp.Length, Modified = Nanoseconds(stamp.LastWrite) };
                    else
                        entries[i].Entry = new ModelEntry(full, stamp.Length, Nanoseconds(stamp.LastWrite), graph, ReaderVersion, NetworkOutline.Of(model));
                });
            });
            unread.AddRange(entries.Select(e => e.Unread).OfType<UnreadModel>());
            Add([.. entries.Select(e => e.Entry).OfType<ModelEntry>()], [.. entries.Select(e => e.Known).OfType<IndexedModel>()]);
        }

        return unread;
    }

    /// <summary>Forgets models.</summary>
    /// <param name="paths">Their full paths.</param>
    /// <exception cref="OnnxMorphException">The index cannot be written.</exception>
    public void Remove(IReadOnlyCollection<string> paths)
    {
        string[] known = [.. paths.Where(_models.ContainsKey)];
        if (known.Length == 0)
            return;
        Write(transaction =>
        {
            using SqliteCommand command = _connection!.CreateCommand();
            command.Transaction = transaction;
            command.CommandText = "DELETE FROM models WHERE path = $path";
            SqliteParameter parameter = command.Parameters.Add("$path", SqliteType.Text);
            foreach (string path in known)
            {
                parameter.Value = path;
                command.ExecuteNonQuery();
            }

            command.Parameters.Clear();
            command.CommandText = """
                DELETE FROM outlines WHERE id NOT IN (SELECT outline FROM models);
                DELETE FROM parts WHERE id NOT IN (SELECT part FROM outline_parts);
                DELETE FROM layers WHERE id NOT IN (SELECT layer FROM part_layers);
                """;
            command.ExecuteNonQuery();
        });
        foreach (string path in known)
            _models.Remove(path);
    }

    /// <inheritdoc/>
    public void Dispose() => _connection?.Dispose();

    /// <summary>Writes models that have been read, and models whose outline is that of a model that is known.</summary>
    internal void Add(IReadOnlyList<ModelEntry> entries, IReadOnlyList<IndexedModel>? known = null)
    {
        if (entries.Count == 0 && known is null or { Count: 0 })
            return;
        Write(transaction =>
        {
            using (var writer = new IndexWriter(transaction))
                foreach (ModelEntry entry in entries)
                    writer.Add(entry);
            using SqliteCommand command = _connection!.CreateCommand();
            command.Transaction = transaction;
            command.CommandText = """
                INSERT OR REPLACE INTO models (path, size, modified, graph, version, outline)
                SELECT $path, $size, $modified, graph, version, outline FROM models WHERE graph = $graph AND version = $version LIMIT 1
                """;
            foreach (IndexedModel model in known ?? [])
            {
                command.Parameters.Clear();
                command.Parameters.AddWithValue("$path", model.Path);
                command.Parameters.AddWithValue("$size", model.Size);
                command.Parameters.AddWithValue("$modified", model.Modified);
                command.Parameters.AddWithValue("$graph", model.Graph);
                command.Parameters.AddWithValue("$version", model.Version);
                command.ExecuteNonQuery();
            }
        });
        foreach (ModelEntry e in entries)
            _models[e.Path] = new IndexedModel(e.Path, e.Size, e.Modified, e.Graph, e.Version, Outlines.Add(e.Outline));
        foreach (IndexedModel model in known ?? [])
            _models[model.Path] = model;
    }

    /// <summary>Nanoseconds since 1970.</summary>
    internal static long Nanoseconds(DateTime time) => (time - DateTime.UnixEpoch).Ticks * 100;

    private void Write(Action<SqliteTransaction> write) => Guard(() =>
    {
        Connect();
        // Begun as a writer: another process may have made the tables in the meantime.
        using SqliteTransaction transaction = _connection!.BeginTransaction(deferred: false);
        if (!CheckFormat())
        {
            Execute(IndexSchema.Create);
            Execute($"PRAGMA application_id = {IndexSchema.ApplicationId}; PRAGMA user_version = {IndexSchema.Version}");
        }

        write(transaction);
        transaction.Commit();
    });

    private void Connect()
    {
        if (_connection is not null)
            return;
        _connection = new SqliteConnection(new SqliteConnectionStringBuilder
        {
            DataSource = Path,
            Mode = SqliteOpenMode.ReadWriteCreate,
            Pooling = false,
            ForeignKeys = true,
            DefaultTimeout = 30,
        }.ToString());
        _connection.Open();
        Execute("PRAGMA busy_timeout = 30000");
    }

    /// <summary>Whether the file has an index's tables; it has none at all where it is new.</summary>
    private bool CheckFormat()
    {
        long application = Number("PRAGMA application_id"), version = Number("PRAGMA user_version");
        if (application == 0 && version == 0 && Number("SELECT count(*) FROM sqlite_master") == 0)
            return false;
        if (application != IndexSchema.ApplicationId)
            throw new UsageException($"'{Path}' is a database of something else; name another file for the index.");
        if (version > IndexSchema.Version)
        {
            throw new OnnxMorphException(ExitCode.InputOutput,
                $"'{Path}' was made by a newer onnxmorph (format {version}; this one reads {IndexSchema.Version}); update onnxmorph, or name another file for the index.");
        }

        return true;
    }

    private long Number(string sql)
    {
        using SqliteCommand command = _connection!.CreateCommand();
        command.CommandText = sql;
        return (long)command.ExecuteScalar()!;
    }

    private void Execute(string sql)
    {
        using SqliteCommand command = _connection!.CreateCommand();
        command.CommandText = sql;
        command.ExecuteNonQuery();
    }

    private void Guard(Action action)
    {
        try
        {
            action();
        }
        catch (InvalidDataException e)
        {
            throw Damaged(e);
        }
        catch (SqliteException e) when (e.SqliteErrorCode is Corrupt or NotADatabase or Error)
        {
            throw Damaged(e);
        }
        catch (SqliteException e) when (e.SqliteErrorCode is Busy or Locked)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{Path}' is in use by another program; try again when that has ended.", e);
        }
        catch (SqliteException e)
        {
            throw new OnnxMorphException(ExitCode.InputOutput, $"'{Path}' cannot be read or written: {e.Message.TrimEnd('.')}.", e);
        }
    }

    private OnnxMorphException Damaged(Exception e) => new(ExitCode.InputOutput,
        $"'{Path}' is no index of onnxmorph, or is damaged ({e.Message.TrimEnd('.')}); delete it and run the command again to make it anew, or name another file.", e);
}
