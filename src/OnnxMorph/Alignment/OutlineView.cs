namespace OnnxMorph.Alignment;

/// <summary>One network of an <see cref="OutlineTable"/>, with numbers of its own for the parts and layers that it has. Reused from network to network.</summary>
internal sealed class OutlineView
{
    private readonly List<int> _items = [], _parts = [], _layers = [];
    private readonly Sequences<int> _partLayers = new();
    private readonly Dictionary<int, int> _partNumbers = [], _layerNumbers = [];
    private OutlineTable _table = new();

    /// <summary>The parts in execution order, as numbers below <see cref="PartCount"/>.</summary>
    public IReadOnlyList<int> Items => _items;

    /// <summary>Number of parts that differ.</summary>
    public int PartCount => _parts.Count;

    /// <summary>Number of layers that differ.</summary>
    public int LayerCount => _layers.Count;

    /// <summary>
    /// S(A→A): the number of layers, since each fits itself best, at 1, and runs are discounted. Layers without elements fit nothing.
    /// </summary>
    public int OwnScore { get; private set; }

    /// <summary>Takes the network whose parts are given.</summary>
    public OutlineView Load(OutlineTable table, ReadOnlySpan<int> parts)
    {
        _table = table;
        _items.Clear();
        _parts.Clear();
        _layers.Clear();
        _partNumbers.Clear();
        _layerNumbers.Clear();
        _partLayers.Clear();
        OwnScore = 0;
        Span<int> own = stackalloc int[64];
        foreach (int part in parts)
        {
            if (!_partNumbers.TryGetValue(part, out int number))
            {
                _partNumbers[part] = number = _parts.Count;
                _parts.Add(part);
                ReadOnlySpan<int> layers = table.Layers(part);
                if (own.Length < layers.Length)
                    own = new int[layers.Length];
                for (int i = 0; i < layers.Length; i++)
                {
                    if (!_layerNumbers.TryGetValue(layers[i], out own[i]))
                    {
                        _layerNumbers[layers[i]] = own[i] = _layers.Count;
                        _layers.Add(layers[i]);
                    }
                }

                _partLayers.Add(own[..layers.Length]);
            }

            _items.Add(number);
            foreach (int layer in table.Layers(part))
                OwnScore += table.Shape(layer).Contains(0) ? 0 : 1;
        }

        return this;
    }

    /// <summary>Whether a part is a block.</summary>
    public bool IsBlock(int part) => _table.IsBlock(_parts[part]);

    /// <summary>The layers of a part, as numbers below <see cref="LayerCount"/>.</summary>
    public ReadOnlySpan<int> Layers(int part) => _partLayers[part];

    /// <summary>The kind of a layer.</summary>
    public AlignedKind Kind(int layer) => _table.Kind(_layers[layer]);

    /// <summary>The shape of a layer's weight.</summary>
    public ReadOnlySpan<long> Shape(int layer) => _table.Shape(_layers[layer]);
}
