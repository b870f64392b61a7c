using System.Runtime.InteropServices;
using System.Text;
using Microsoft.Data.Sqlite;
using OnnxMorph.Alignment;
using SQLitePCL;

namespace OnnxMorph.Ranking;

/// <summary>
/// Reads a whole index. A million rows pass here in a fraction of a second, so rows are stepped through SQLite's own interface rather than
/// through ADO.NET's.
/// </summary>
internal sealed class IndexReader(SqliteConnection connection, OutlineTable table)
{
    private static readonly byte[][] s_kinds = [.. Enum.GetValues<AlignedKind>().Select(kind => Encoding.UTF8.GetBytes(IndexSchema.Name(kind)))];

    private readonly Dictionary<long, int> _layers = [], _parts = [], _outlines = [];

    /// <summary>Puts all outlines into the table and gives the models.</summary>
    /// <exception cref="InvalidDataException">The tables contradict each other.</exception>
    public List<IndexedModel> Read()
    {
        ReadLayers();
        HashSet<long> blocks = [];
        foreach (sqlite3_stmt row in Rows("SELECT id FROM parts WHERE is_block = 1"))
            blocks.Add(raw.sqlite3_column_int64(row, 0));
        ReadSequences("SELECT part, layer FROM part_layers ORDER BY part, position", _layers, (part, layers) => _parts[part] = table.AddPart(blocks.Contains(part), layers));
        ReadSequences("SELECT outline, part FROM outline_parts ORDER BY outline, position", _parts, (outline, parts) => _outlines[outline] = table.Outlines.Add(parts));
        // A network without layers has an outline without parts.
        foreach (sqlite3_stmt row in Rows("SELECT id FROM outlines WHERE NOT EXISTS (SELECT 1 FROM outline_parts WHERE outline = id)"))
            _outlines[raw.sqlite3_column_int64(row, 0)] = table.Outlines.Add([]);
        var models = new List<IndexedModel>();
        foreach (sqlite3_stmt row in Rows("SELECT path, size, modified, graph, version, outline FROM models"))
        {
            models.Add(new IndexedModel(
                Text(row, 0), raw.sqlite3_column_int64(row, 1), raw.sqlite3_column_int64(row, 2), Text(row, 3), Text(row, 4), Number(_outlines, raw.sqlite3_column_int64(row, 5))));
        }

        return models;
    }

    private void ReadLayers()
    {
        Span<long> sizes = stackalloc long[16];
        foreach (sqlite3_stmt row in Rows("SELECT id, kind, shape FROM layers"))
        {
            int axes = Shape(raw.sqlite3_column_blob(row, 2), sizes);
            _layers[raw.sqlite3_column_int64(row, 0)] = table.AddLayer(Kind(raw.sqlite3_column_blob(row, 1)), sizes[..axes]);
        }
    }

    private void ReadSequences(string query, Dictionary<long, int> numbers, SequenceHandler add)
    {
        var sequence = new List<int>();
        long of = 0;
        foreach (sqlite3_stmt row in Rows(query))
        {
            long next = raw.sqlite3_column_int64(row, 0);
            if (next != of && sequence.Count > 0)
            {
                add(of, CollectionsMarshal.AsSpan(sequence));
                sequence.Clear();
            }

            of = next;
            sequence.Add(Number(numbers, raw.sqlite3_column_int64(row, 1)));
        }

        if (sequence.Count > 0)
            add(of, CollectionsMarshal.AsSpan(sequence));
    }

    private delegate void SequenceHandler(long id, ReadOnlySpan<int> sequence);

    private static int Number(Dictionary<long, int> numbers, long id) =>
        numbers.TryGetValue(id, out int number) ? number : throw new InvalidDataException($"row {id} is missing");

    private static string Text(sqlite3_stmt row, int column) => raw.sqlite3_column_text(row, column).utf8_to_string();

    private static AlignedKind Kind(ReadOnlySpan<byte> text)
    {
        for (int kind = 0; kind < s_kinds.Length; kind++)
            if (text.SequenceEqual(s_kinds[kind]))
                return (AlignedKind)kind;
        throw new InvalidDataException($"there is no layer of kind '{Encoding.UTF8.GetString(text)}'");
    }

    // A JSON array of sizes, such as [64,3,7,7].
    private static int Shape(ReadOnlySpan<byte> text, Span<long> sizes)
    {
        int axes = 0;
        bool digits = false;
        foreach (byte c in text)
        {
            if (c is >= (byte)'0' and <= (byte)'9')
            {
                if (!digits)
                {
                    if (axes == sizes.Length)
                        throw new InvalidDataException($"a shape has more than {sizes.Length} axes");
                    sizes[axes++] = 0;
                }

                digits = true;
                sizes[axes - 1] = sizes[axes - 1] * 10 + (c - '0');
            }
            else if (c is (byte)'[' or (byte)']' or (byte)',' or (byte)' ')
                digits = false;
            else
                throw new InvalidDataException($"'{Encoding.UTF8.GetString(text)}' is no shape");
        }

        return axes;
    }

    private IEnumerable<sqlite3_stmt> Rows(string query)
    {
        sqlite3 handle = connection.Handle!;
        SqliteException.ThrowExceptionForRC(raw.sqlite3_prepare_v2(handle, query, out sqlite3_stmt statement), handle);
        using (statement)
        {
            int code;
            while ((code = raw.sqlite3_step(statement)) == raw.SQLITE_ROW)
                yield return statement;
            if (code != raw.SQLITE_DONE)
                SqliteException.ThrowExceptionForRC(code, handle);
        }
    }
}
