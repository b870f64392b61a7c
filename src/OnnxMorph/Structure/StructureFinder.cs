using OnnxMorph.Axes;
using OnnxMorph.Graph;

namespace OnnxMorph.Structure;

/// <summary>Makes stem, stages, blocks and head of the units on the spine.</summary>
internal sealed class StructureFinder
{
    // Units of one block at most.
    private const int MostUnits = 8;

    private readonly AxisAnalysis _analysis;
    private readonly ActivationGraph _graph;
    private readonly RegionFacts _facts;
    private readonly List<Place> _spine;
    private readonly UnitFinder _finder;
    private readonly List<Unit> _units;

    // The vertices of every place, those between it and the place in front of it included.
    private readonly List<int>[] _vertices;

    public StructureFinder(AxisAnalysis analysis)
    {
        _analysis = analysis;
        _graph = new ActivationGraph(analysis);
        var tree = new RegionTree(_graph);
        _facts = new RegionFacts(analysis, _graph, tree);
        _spine = Spine.Of(_graph, tree, _facts);
        _finder = new UnitFinder(analysis, _graph, _facts, _spine);
        _units = Body(_finder.Find());
        _vertices = [.. _spine.Select(place => Vertices(place.Steps))];
        PlaceSatellites();
    }

    /// <summary>Finds the structure.</summary>
    public ModelStructure Find()
    {
        var stages = new List<Stage>();
        int end = _units.Count > 0 ? _units[0].First : _spine.Count;
        Section stem = Section("stem", 0, end);
        foreach (List<Unit> units in Stages())
        {
            string path = $"stage{stages.Count + 1}";
            Section transition = Section($"{path}/transition", end, units[0].First);
            var blocks = new List<Block>();
            foreach (List<Unit> block in Blocks(units))
                blocks.Add(Block($"{path}/block{blocks.Count + 1}", block));
            stages.Add(new Stage(path, transition.Nodes.Count > 0 ? transition : null, blocks, Exit(units[^1]).Positions));
            end = units[^1].Last + 1;
        }

        return new ModelStructure(stem, stages, Section("head", end, _spine.Count));
    }

    // Networks without residual or parallel blocks have a head too: what comes behind the positions, or else the last layer. Tables
    // at the beginning are stem.
    private List<Unit> Body(List<Unit> units)
    {
        if (units.Any(u => u.Core >= 0))
            return units;
        List<Unit> body = [.. units.SkipWhile(u => Enumerable.Range(u.First, u.Last - u.First + 1).All(i => _facts.Layers(_spine[i].Step!) == 0))];
        List<long> positions = [.. _spine.Select(p => _facts.Extent(p.Vertex).Positions)];
        long least = positions.Where(p => p > 0).DefaultIfEmpty(0).Min();
        int collapse = positions.FindLastIndex(p => p > least) + 1;
        List<Unit> trunk = [.. body.TakeWhile(u => u.First < collapse)];
        return trunk.Count > 0 && trunk.Count < body.Count ? trunk : [.. body.SkipLast(body.Count > 1 ? 1 : 0)];
    }

    // A stage has one number of positions; where the network has residual blocks, also one width.
    private List<List<Unit>> Stages()
    {
        var stages = new List<List<Unit>>();
        foreach (List<Unit> resolution in Runs(_units, (a, b) => Exit(a).Positions == Exit(b).Positions))
        {
            bool residual = resolution.Any(u => _finder.Region(u) is { Direct: true } region && _facts.Kind(region) == RegionKind.Residual);
            stages.AddRange(residual ? Runs(resolution, (a, b) => Exit(a).Channels == Exit(b).Channels) : [resolution]);
        }

        return stages;
    }

    private (long Positions, long Channels) Exit(Unit unit) => _facts.Extent(_spine[unit.Last].Vertex);

    /// <summary>Neighbours that are the same, together.</summary>
    internal static List<List<T>> Runs<T>(IEnumerable<T> items, Func<T, T, bool> same)
    {
        var runs = new List<List<T>>();
        foreach (T item in items)
            if (runs.Count > 0 && same(runs[^1][^1], item))
                runs[^1].Add(item);
            else
                runs.Add([item]);
        return runs;
    }

    // Residual units that come again and again in the same order form one block: an attention and an MLP. Where they come once
    // only, an attention and what follows it without convolutions or another attention.
    private List<List<Unit>> Blocks(List<Unit> units)
    {
        var blocks = new List<List<Unit>>();
        // Projections on the skip of a stage's first block make no difference.
        int[] signatures = [.. units.Select(u => _finder.Region(u) is { } region && _facts.Kind(region) == RegionKind.Residual ? _facts.MainSignature(region) : 0)];
        for (int i = 0; i < units.Count;)
        {
            (int period, int repeats) = (1, 1);
            for (int p = 1; p <= MostUnits && signatures[i] != 0; p++)
            {
                int same = i;
                while (same + p < units.Count && signatures[same] != 0 && signatures[same] == signatures[same + p])
                    same++;
                int count = (same - i) / p + 1;
                if (count > 1 && count * p > repeats * period)
                    (period, repeats) = (p, count);
            }

            if (repeats == 1)
                for (period = 1; signatures[i] != 0 && Attends(units[i]) && i + period < units.Count && signatures[i + period] != 0 && IsMlp(units[i + period]); period++)
                {
                }

            List<List<Unit>> alike = [.. Enumerable.Range(0, repeats).Select(r => units.GetRange(i + (r * period), period))];
            _finder.AddMoves(alike);
            blocks.AddRange(alike);
            i += repeats * period;
        }

        return blocks;
    }

    private IEnumerable<int> Vertices(Unit unit) => Vertices(unit.First, unit.Last);

    private IEnumerable<int> Vertices(int first, int last) => Enumerable.Range(first, last - first + 1).SelectMany(i => _vertices[i]);

    private bool Attends(Unit unit) => Vertices(unit).Any(_facts.IsProduct);

    private bool IsMlp(Unit unit) => !Attends(unit) && Vertices(unit).Where(_graph.IsLayer).All(v => _analysis.Node(_graph.Node(v))!.Layer is { SpatialAxes: 0 });

    private Block Block(string path, List<Unit> units)
    {
        List<Place> places = _spine.GetRange(units[0].First, units[^1].Last - units[0].First + 1);
        // What moves elements from one unit to the next is the block's as well.
        List<int> vertices = [.. Vertices(units[0].First, units[^1].Last)];
        var parts = new List<Block>();
        if (units.Count > 1)
            parts.AddRange(units.Select((unit, i) => Block($"{path}/{PartName(units, i)}", [unit])));
        else if (_finder.Region(units[0]) is { } region && _facts.Kind(region) == RegionKind.Residual)
            parts.AddRange(Nested(path, region));
        bool residual = units.All(u => _finder.Region(u) is { Direct: true } r && _facts.Kind(r) == RegionKind.Residual);
        var roles = parts.Count > 0 && units.Count > 1
            ? parts.SelectMany(p => p.Layers.Select(l => l with { Role = $"{p.Path[(path.Length + 1)..]}.{l.Role}" })).ToList()
            : new LayerRoles(_analysis, _graph, _facts).Of(places.SelectMany(p => p.Steps), vertices);
        return Describe(path, vertices, _graph.Dominators[places[0].Steps[0].Vertex], places[^1].Vertex, residual, roles, parts);
    }

    // Residual units inside the branch of a residual unit.
    private IEnumerable<Block> Nested(string path, Region region)
    {
        int number = 0;
        foreach (Step step in _facts.Main(region).Parts.SelectMany(p => p.Steps))
            if (step.Before is { Direct: true } inner && _facts.Kind(inner) == RegionKind.Residual)
            {
                List<int> vertices = Vertices([step]);
                yield return Describe(
                    $"{path}/part{++number}", vertices, inner.Entry, inner.Join, true, new LayerRoles(_analysis, _graph, _facts).Of([step], vertices), []);
            }
    }

    private string PartName(List<Unit> units, int i)
    {
        string Kind(Unit unit) => Attends(unit) ? "attention" : IsMlp(unit) ? "mlp" : "part";
        string kind = Kind(units[i]);
        int before = units.Take(i).Count(u => Kind(u) == kind);
        return before == 0 ? kind : $"{kind}{before + 1}";
    }

    private Block Describe(string path, List<int> vertices, int entry, int exit, bool residual, IReadOnlyList<LayerPlace> layers, IReadOnlyList<Block> parts)
    {
        var inside = vertices.ToHashSet();
        List<string> read = [.. vertices.SelectMany(v => _graph.Reads(_graph.Proto(v)!)).Distinct().Where(value => !inside.Contains(_graph.Producer(value)!.Value))];
        string from = read.FirstOrDefault(value => _graph.Producer(value) == entry) ?? read.FirstOrDefault() ?? "";
        ModelGraph graph = _analysis.Graph;
        IEnumerable<string> results = _graph.Proto(exit)!.Output.Where(o => o.Length > 0);
        string to = results.FirstOrDefault(o => graph.IsOutput(o) || graph.Uses(o).Any(use => _graph.VertexOf(use.Node) is { } reader && !inside.Contains(reader))) ?? results.First();
        int[] nodes = [.. vertices.Select(_graph.Node).Order()];
        return new Block(path, Scopes.Common(graph, layers), nodes, layers, from, [.. read.Where(r => r != from)], to, residual, Signature(nodes), parts);
    }

    private string Signature(int[] nodes) => string.Join(' ', nodes.Select(n => _analysis.Graph.Nodes[n]).Where(n => n.OpType is not ("Identity" or "Dropout")).Select(n =>
    {
        string Attribute(string name, string sign) => n.Attribute.FirstOrDefault(a => a.Name == name) is { } a && (a.Ints.Any(i => i != 1) || a.I > 1)
            ? sign + (name == "group" ? "" : string.Join('×', a.Ints)) : "";
        return n.OpType + (n.OpType is "Conv" or "ConvTranspose" or "MaxPool" or "AveragePool" ? Attribute("kernel_shape", "") + Attribute("strides", "/") + Attribute("group", "g") : "");
    }));

    // The nodes of the places from one on to before another, with roles as if they were one unit.
    private Section Section(string path, int from, int to)
    {
        List<Place> places = _spine.GetRange(from, Math.Max(to - from, 0));
        List<int> vertices = [.. Enumerable.Range(from, places.Count).SelectMany(i => _vertices[i])];
        IReadOnlyList<LayerPlace> layers = new LayerRoles(_analysis, _graph, _facts).Of(places.SelectMany(p => p.Steps), vertices);
        return new Section(path, Scopes.Common(_analysis.Graph, layers), [.. vertices.Select(_graph.Node).Order()], layers);
    }

    // Nodes off the trunk belong where they are read, or, where that is in several places, to the stem; those that nobody on the
    // trunk reads, where what they read is made, or to the head where that is the result of a block.
    private void PlaceSatellites()
    {
        var places = new int[_graph.Count];
        Array.Fill(places, -1);
        for (int i = 0; i < _vertices.Length; i++)
            foreach (int v in _vertices[i])
                places[v] = i;
        var sections = new int[_spine.Count];
        for (int i = 0, unit = 0; i < sections.Length; i++)
        {
            while (unit < _units.Count && _units[unit].Last < i)
                unit++;
            sections[i] = unit;
        }

        List<int> satellites = [.. Enumerable.Range(0, _graph.Count).Where(v => places[v] < 0 && _graph.Node(v) >= 0)];
        foreach (int v in Enumerable.Reverse(satellites))
        {
            var readers = _graph.Readers(v).Select(r => places[r]).Where(p => p >= 0).ToList();
            if (readers.Count > 0)
                places[v] = readers.Select(r => sections[r]).Distinct().Count() == 1 ? readers.Min() : 0;
        }

        HashSet<int> exits = [.. _units.Select(u => _spine[u.Last].Vertex)];
        foreach (int v in satellites)
        {
            if (places[v] < 0)
                places[v] = _graph.Reads(_graph.Proto(v)!).Select(value => _graph.Producer(value)!.Value).Select(p => exits.Contains(p) ? _spine.Count - 1 : places[p]).Append(0).Max();
            _vertices[places[v]].Add(v);
        }
    }

    private List<int> Vertices(IEnumerable<Step> steps)
    {
        var vertices = new List<int>();
        var open = new Stack<Step>(steps);
        while (open.TryPop(out Step? step))
        {
            if (_graph.Node(step.Vertex) >= 0)
                vertices.Add(step.Vertex);
            foreach (Step inner in step.Before?.Branches.SelectMany(b => b.Parts).SelectMany(p => p.Steps) ?? [])
                open.Push(inner);
        }

        return vertices;
    }
}
