using System.Reflection;
using System.Text.Json.Serialization;
using OnnxMorph.Alignment;

namespace OnnxMorph.Ranking;

/// <summary>The tables of an index; docs/index-format.md describes them to who reads them with another engine.</summary>
internal static class IndexSchema
{
    /// <summary>SQLite's application_id of an index: "OMIX".</summary>
    public const long ApplicationId = 0x4F4D4958;

    /// <summary>SQLite's user_version of an index; raised where older programs would misread it.</summary>
    public const long Version = 1;

    /// <summary>Makes the tables in an empty database.</summary>
    public const string Create = """
        CREATE TABLE layers (
            id INTEGER PRIMARY KEY,
            kind TEXT NOT NULL,
            shape TEXT NOT NULL,
            UNIQUE (kind, shape)
        );
        CREATE TABLE parts (
            id INTEGER PRIMARY KEY,
            is_block INTEGER NOT NULL CHECK (is_block IN (0, 1)),
            identity TEXT NOT NULL UNIQUE
        );
        CREATE TABLE part_layers (
            part INTEGER NOT NULL REFERENCES parts (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            layer INTEGER NOT NULL REFERENCES layers (id),
            PRIMARY KEY (part, position)
        ) WITHOUT ROWID;
        CREATE TABLE outlines (
            id INTEGER PRIMARY KEY,
            identity TEXT NOT NULL UNIQUE
        );
        CREATE TABLE outline_parts (
            outline INTEGER NOT NULL REFERENCES outlines (id) ON DELETE CASCADE,
            position INTEGER NOT NULL,
            section TEXT NOT NULL,
            part INTEGER NOT NULL REFERENCES parts (id),
            PRIMARY KEY (outline, position)
        ) WITHOUT ROWID;
        CREATE TABLE models (
            path TEXT PRIMARY KEY,
            size INTEGER NOT NULL,
            modified INTEGER NOT NULL,
            graph TEXT NOT NULL,
            version TEXT NOT NULL,
            outline INTEGER NOT NULL REFERENCES outlines (id)
        ) WITHOUT ROWID;
        CREATE VIEW model_layers AS
            SELECT models.path, outline_parts.position AS part, outline_parts.section, parts.is_block,
                   part_layers.position, layers.kind, layers.shape
            FROM models
            JOIN outline_parts ON outline_parts.outline = models.outline
            JOIN parts ON parts.id = outline_parts.part
            JOIN part_layers ON part_layers.part = parts.id
            JOIN layers ON layers.id = part_layers.layer;
        """;

    /// <summary>What a kind of layer is called in the tables: as in JSON.</summary>
    public static string Name(AlignedKind kind) =>
        typeof(AlignedKind).GetField(kind.ToString())!.GetCustomAttribute<JsonStringEnumMemberNameAttribute>()!.Name;
}
