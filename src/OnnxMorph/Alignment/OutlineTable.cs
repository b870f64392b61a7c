using System.Runtime.InteropServices;

namespace OnnxMorph.Alignment;

/// <summary>Sequences of numbers one behind the other.</summary>
internal sealed class Sequences<T>
{
    private readonly List<T> _values = [];
    private readonly List<int> _ends = [];

    /// <summary>Number of sequences.</summary>
    public int Count => _ends.Count;

    /// <summary>One sequence; valid until the next is added.</summary>
    public ReadOnlySpan<T> this[int sequence]
    {
        get
        {
            int start = sequence == 0 ? 0 : _ends[sequence - 1];
            return CollectionsMarshal.AsSpan(_values)[start.._ends[sequence]];
        }
    }

    /// <summary>Adds a sequence and gives its number.</summary>
    public int Add(ReadOnlySpan<T> sequence)
    {
        _values.AddRange(sequence);
        _ends.Add(_values.Count);
        return _ends.Count - 1;
    }
}

/// <summary>
/// The outlines of many networks as numbers: a layer is a kind and a shape, a part (<see cref="NetworkItem"/>) a sequence of layers, an outline a
/// sequence of parts. Networks repeat their blocks and collections their networks, so each of them is there once.
/// </summary>
internal sealed class OutlineTable
{
    private readonly List<AlignedKind> _kinds = [];
    private readonly List<(bool IsBlock, int OwnScore)> _kindsOfParts = [];
    private readonly Sequences<long> _shapes = new();
    private readonly Sequences<int> _parts = new();
    private readonly Dictionary<string, int> _knownLayers = [], _knownParts = [], _knownOutlines = [];

    /// <summary>Number of layers.</summary>
    public int LayerCount => _kinds.Count;

    /// <summary>Number of parts.</summary>
    public int PartCount => _kindsOfParts.Count;

    /// <summary>The outlines, each the parts of a network in execution order.</summary>
    public Sequences<int> Outlines { get; } = new();

    /// <summary>The kind of a layer.</summary>
    public AlignedKind Kind(int layer) => _kinds[layer];

    /// <summary>The shape of a layer's weight.</summary>
    public ReadOnlySpan<long> Shape(int layer) => _shapes[layer];

    /// <summary>Whether a part is a block.</summary>
    public bool IsBlock(int part) => _kindsOfParts[part].IsBlock;

    /// <summary>What a part scores with itself: the number of its layers that have elements.</summary>
    public int OwnScore(int part) => _kindsOfParts[part].OwnScore;

    /// <summary>The layers of a part.</summary>
    public ReadOnlySpan<int> Layers(int part) => _parts[part];

    /// <summary>Adds a layer that is known not to be there.</summary>
    public int AddLayer(AlignedKind kind, ReadOnlySpan<long> shape)
    {
        _kinds.Add(kind);
        return _shapes.Add(shape);
    }

    /// <summary>Adds a part that is known not to be there.</summary>
    public int AddPart(bool isBlock, ReadOnlySpan<int> layers)
    {
        int own = 0;
        foreach (int layer in layers)
            own += Shape(layer).Contains(0) ? 0 : 1;
        _kindsOfParts.Add((isBlock, own));
        return _parts.Add(layers);
    }

    /// <summary>Adds the outline of a network where none that came in by this way is equal, and gives its number among <see cref="Outlines"/>.</summary>
    public int Add(NetworkOutline outline)
    {
        int[] parts = Parts(outline.Items);
        string key = string.Join(' ', parts);
        if (!_knownOutlines.TryGetValue(key, out int number))
            _knownOutlines[key] = number = Outlines.Add(parts);
        return number;
    }

    /// <summary>Numbers of parts, each of which is added where no part is equal to it that came in by this way.</summary>
    public int[] Parts(IReadOnlyList<NetworkItem> items)
    {
        var parts = new int[items.Count];
        for (int i = 0; i < parts.Length; i++)
        {
            int[] layers = [.. items[i].Layers.Select(Layer)];
            string key = $"{items[i].IsBlock} {string.Join(' ', layers)}";
            if (!_knownParts.TryGetValue(key, out parts[i]))
                _knownParts[key] = parts[i] = AddPart(items[i].IsBlock, layers);
        }

        return parts;
    }

    private int Layer(AlignedLayer layer)
    {
        string key = $"{(int)layer.Kind} {string.Join(' ', layer.Shape)}";
        if (!_knownLayers.TryGetValue(key, out int number))
            _knownLayers[key] = number = AddLayer(layer.Kind, layer.Shape.AsSpan());
        return number;
    }
}
