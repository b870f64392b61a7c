using System.Text;
using Microsoft.Data.Sqlite;
using OnnxMorph.Alignment;

namespace OnnxMorph.Ranking;

/// <summary>Writes models into an index, within a transaction. What is there already is found by its content, whoever has written it.</summary>
internal sealed class IndexWriter : IDisposable
{
    private readonly Dictionary<(AlignedKind, string), long> _layers = [];
    private readonly Dictionary<string, long> _parts = [];
    private readonly SqliteCommand _addLayer, _findLayer, _addPart, _findPart, _addPartLayer, _addOutline, _findOutline, _addOutlinePart, _addModel;

    /// <summary>Prepares the statements.</summary>
    public IndexWriter(SqliteTransaction transaction)
    {
        _addLayer = Prepare("INSERT INTO layers (kind, shape) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        _findLayer = Prepare("SELECT id FROM layers WHERE kind = $1 AND shape = $2");
        _addPart = Prepare("INSERT INTO parts (is_block, identity) VALUES ($1, $2) ON CONFLICT DO NOTHING");
        _findPart = Prepare("SELECT id FROM parts WHERE identity = $1");
        _addPartLayer = Prepare("INSERT INTO part_layers (part, position, layer) VALUES ($1, $2, $3)");
        _addOutline = Prepare("INSERT INTO outlines (identity) VALUES ($1) ON CONFLICT DO NOTHING");
        _findOutline = Prepare("SELECT id FROM outlines WHERE identity = $1");
        _addOutlinePart = Prepare("INSERT INTO outline_parts (outline, position, section, part) VALUES ($1, $2, $3, $4)");
        _addModel = Prepare("INSERT OR REPLACE INTO models (path, size, modified, graph, version, outline) VALUES ($1, $2, $3, $4, $5, $6)");

        SqliteCommand Prepare(string sql)
        {
            SqliteCommand command = transaction.Connection!.CreateCommand();
            command.Transaction = transaction;
            command.CommandText = sql;
            for (int i = 1; sql.Contains($"${i}"); i++)
                command.Parameters.Add(new SqliteParameter { ParameterName = $"${i}" });
            return command;
        }
    }

    /// <summary>Writes a model, in the place of what was known of its file.</summary>
    public void Add(ModelEntry model) =>
        Run(_addModel, model.Path, model.Size, model.Modified, model.Graph, model.Version, Outline(model.Outline));

    /// <inheritdoc/>
    public void Dispose()
    {
        foreach (SqliteCommand command in new[] { _addLayer, _findLayer, _addPart, _findPart, _addPartLayer, _addOutline, _findOutline, _addOutlinePart, _addModel })
            command.Dispose();
    }

    private long Outline(NetworkOutline outline)
    {
        string identity = Identity(string.Join('\n', outline.Items.Select(item => $"{item.Path}: {Text(item)}")));
        bool isNew = Run(_addOutline, identity) > 0;
        long id = Find(_findOutline, identity);
        for (int i = 0; isNew && i < outline.Items.Length; i++)
            Run(_addOutlinePart, id, i, outline.Items[i].Path, Part(outline.Items[i]));
        return id;
    }

    private long Part(NetworkItem item)
    {
        string identity = Identity(Text(item));
        if (_parts.TryGetValue(identity, out long id))
            return id;
        bool isNew = Run(_addPart, item.IsBlock ? 1 : 0, identity) > 0;
        id = Find(_findPart, identity);
        for (int i = 0; isNew && i < item.Layers.Length; i++)
            Run(_addPartLayer, id, i, Layer(item.Layers[i]));
        return _parts[identity] = id;
    }

    private long Layer(AlignedLayer layer)
    {
        (string kind, string shape) = (IndexSchema.Name(layer.Kind), Shape(layer));
        if (_layers.TryGetValue((layer.Kind, shape), out long id))
            return id;
        Run(_addLayer, kind, shape);
        return _layers[(layer.Kind, shape)] = Find(_findLayer, kind, shape);
    }

    private static string Shape(AlignedLayer layer) => $"[{string.Join(',', layer.Shape)}]";

    private static string Text(NetworkItem item) => $"{(item.IsBlock ? "block" : "layer")} {string.Join(' ', item.Layers.Select(layer => $"{layer.Kind}{Shape(layer)}"))}";

    private static string Identity(string text) => GraphIdentity.Hash(Encoding.UTF8.GetBytes(text));

    private static int Run(SqliteCommand command, params ReadOnlySpan<object> values)
    {
        Set(command, values);
        return command.ExecuteNonQuery();
    }

    private static long Find(SqliteCommand command, params ReadOnlySpan<object> values)
    {
        Set(command, values);
        return (long)command.ExecuteScalar()!;
    }

    private static void Set(SqliteCommand command, ReadOnlySpan<object> values)
    {
        for (int i = 0; i < values.Length; i++)
            command.Parameters[i].Value = values[i];
    }
}
