using Microsoft.Data.Sqlite;
using OnnxMorph.Alignment;

namespace OnnxMorph.Ranking;

/// <summary>
/// Reads a whole index. SQLite puts the sequences together, since its rows are cheaper than those that pass through ADO.NET: a row here is a part or
/// an outline, not a layer of it. They are put together in the order of the tables' keys, since an order inside the aggregate would sort once more.
/// </summary>
internal sealed class IndexReader(SqliteConnection connection, OutlineTable table)
{
    private static readonly Dictionary<string, AlignedKind> s_kinds = Enum.GetValues<AlignedKind>().ToDictionary(IndexSchema.Name);

    private readonly Dictionary<long, int> _layers = [], _parts = [], _outlines = [];
    private readonly List<long> _numbers = [];

    /// <summary>Puts all outlines into the table and gives the models.</summary>
    /// <exception cref="InvalidDataException">The tables contradict each other.</exception>
    public List<IndexedModel> Read()
    {
        foreach (SqliteDataReader row in Rows("SELECT id, kind, shape FROM layers"))
        {
            if (!s_kinds.TryGetValue(row.GetString(1), out AlignedKind kind))
                throw new InvalidDataException($"there is no layer of kind '{row.GetString(1)}'");
            _layers[row.GetInt64(0)] = table.AddLayer(kind, [.. Numbers(row.GetString(2))]);
        }

        foreach (SqliteDataReader row in Rows("""
            SELECT id, is_block, coalesce(layers, '') FROM parts
            LEFT JOIN (SELECT part, group_concat(layer, ',') AS layers FROM (SELECT part, layer FROM part_layers ORDER BY part, position) GROUP BY part) ON part = id
            """))
            _parts[row.GetInt64(0)] = table.AddPart(row.GetInt64(1) != 0, Places(_layers, row.GetString(2)));
        foreach (SqliteDataReader row in Rows("""
            SELECT id, coalesce(parts, '') FROM outlines
            LEFT JOIN (SELECT outline, group_concat(part, ',') AS parts FROM (SELECT outline, part FROM outline_parts ORDER BY outline, position) GROUP BY outline) ON outline = id
            """))
            _outlines[row.GetInt64(0)] = table.Outlines.Add(Places(_parts, row.GetString(1)));
        var models = new List<IndexedModel>();
        foreach (SqliteDataReader row in Rows("SELECT path, size, modified, graph, version, outline FROM models"))
        {
            models.Add(new IndexedModel(
                row.GetString(0), row.GetInt64(1), row.GetInt64(2), row.GetString(3), row.GetString(4), Place(_outlines, row.GetInt64(5))));
        }

        return models;
    }

    private int[] Places(Dictionary<long, int> places, string list)
    {
        List<long> numbers = Numbers(list);
        var found = new int[numbers.Count];
        for (int i = 0; i < found.Length; i++)
            found[i] = Place(places, numbers[i]);
        return found;
    }

    private static int Place(Dictionary<long, int> places, long id) =>
        places.TryGetValue(id, out int place) ? place : throw new InvalidDataException($"row {id} is missing");

    // The numbers of a list such as 1,2,3 or [64,3,7,7].
    private List<long> Numbers(string list)
    {
        _numbers.Clear();
        ReadOnlySpan<char> text = list.AsSpan().Trim("[]");
        foreach (Range range in text.Split(','))
        {
            if (text.Length > 0)
                _numbers.Add(long.TryParse(text[range], out long number) && number >= 0 ? number : throw new InvalidDataException($"'{list}' is no list of numbers"));
        }

        return _numbers;
    }

    private IEnumerable<SqliteDataReader> Rows(string query)
    {
        using SqliteCommand command = connection.CreateCommand();
        command.CommandText = query;
        using SqliteDataReader reader = command.ExecuteReader();
        while (reader.Read())
            yield return reader;
    }
}
