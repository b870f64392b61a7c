using System.Collections.Immutable;

namespace OnnxMorph.Morphs.Subnet;

/// <summary>The weights of a module's layer.</summary>
/// <param name="Operator">What it computes.</param>
/// <param name="Main">Whether it is a layer as the replaced one is, with its stride and its kind; else a new one of the place's form.</param>
internal sealed record WeightedLayer(LinearOperator Operator, bool Main);

/// <summary>
/// Weights with which a module of series and parallel parts computes a layer G, by contraction (Wei, Wang, Chen 2017; the series' closed form
/// and the random split are METHODS.md §2's):
/// <list type="bullet">
/// <item>in series one part, the first that holds G's kernel, gets Qᵀ·G·Pᵀ, what follows it Q and what precedes it P, with orthonormal
/// rows and columns;</item>
/// <item>in parallel every part gets a random share of G, and parts whose kernels are smaller a share of the taps that they hold;</item>
/// <item>concatenated parts get G's rows.</item>
/// </list>
/// </summary>
internal sealed class ModuleWeights
{
    private const string NoWeights = "a part of the module has no weights where they are needed";

    private readonly Module _module;
    private readonly LayerForm _form;
    private readonly ulong _seed;
    private readonly bool _evenShares;
    private readonly Dictionary<int, WeightedLayer> _layers = [];

    private ModuleWeights(Module module, LayerForm form, bool evenShares, ulong seed)
    {
        _module = module;
        _form = form;
        _evenShares = evenShares;
        _seed = seed;
    }

    /// <summary>The weights of each layer, by the number of the value that it makes.</summary>
    /// <param name="module">The module, as it is <see cref="Module.At"/> this place.</param>
    /// <param name="target">G.</param>
    /// <param name="main">Whether G stands for the layer itself, with its stride, rather than for a layer of the place's form.</param>
    /// <param name="form">The form of new layers.</param>
    /// <param name="evenShares">Whether the parts of sums get equal shares, up to the noise.</param>
    /// <param name="seed">Seed of everything random.</param>
    /// <exception cref="SubnetRefusedException">No weights of these forms compute G.</exception>
    public static IReadOnlyDictionary<int, WeightedLayer> Of(
        Module module, LinearOperator target, bool main, LayerForm form, bool evenShares, ulong seed)
    {
        string? why = null;
        if (ModuleTree.Of(module) is { } tree)
        {
            try
            {
                var weights = new ModuleWeights(module, form, evenShares, seed);
                weights.Compute(tree, target, main);
                return weights._layers;
            }
            catch (SubnetRefusedException closed)
            {
                why = closed.Message;
            }
        }

        try
        {
            return ModuleSolver.Of(module, target, main, form, seed) ?? throw new SubnetRefusedException(
                "the module is not made of series and parallel parts, and no layers in it can make up for random weights of the others");
        }
        catch (SubnetRefusedException) when (why is not null)
        {
            throw new SubnetRefusedException(why);
        }
    }

    private ModuleLayer Layer(LayerTree tree) => (ModuleLayer)_module.Producer(tree.Value);

    private void Compute(ModuleTree tree, LinearOperator target, bool main)
    {
        switch (tree)
        {
            case LayerTree layer:
                ComputeLayer(layer, target, main);
                break;
            case SeriesTree series:
                ComputeSeries(series, target, main);
                break;
            case SumTree sum:
                ComputeSum(sum, target, main);
                break;
            case ConcatTree concat:
                ComputeConcat(concat, target, main);
                break;
            default:
                throw new SubnetRefusedException(NoWeights);
        }
    }

    private void ComputeLayer(LayerTree tree, LinearOperator target, bool main)
    {
        ModuleLayer layer = Layer(tree);
        if (Width(tree) is { } width && width != target.Outputs)
            throw new SubnetRefusedException($"a layer of the module has {_form.Groups * width} channels where {_form.Groups * target.Outputs} are needed");
        if (!Holds(layer.Kernel!.Value, target.Kernel))
            throw new SubnetRefusedException($"no layer of the module holds its kernel of {string.Join('×', target.Kernel)}");
        _layers[tree.Value] = new WeightedLayer(target.Window(target.Place(layer.Kernel.Value), layer.Kernel.Value), main);
    }

    private void ComputeSeries(SeriesTree series, LinearOperator target, bool main)
    {
        ImmutableArray<ModuleTree> parts = series.Parts;
        int pivot = -1;
        long before = 0, behind = 0;
        for (int i = 0; i < parts.Length && pivot < 0; i++)
        {
            before = i == 0 ? target.Inputs : Width(parts[i - 1]) ?? target.Inputs;
            behind = i == parts.Length - 1 ? target.Outputs : Width(parts[i]) ?? target.Outputs;
            if (Holds(Capacity(parts[i]), target.Kernel) && before >= target.Inputs && behind >= target.Outputs)
                pivot = i;
        }

        if (pivot < 0)
            throw new SubnetRefusedException(
                $"no layer of the module's series holds its kernel of {string.Join('×', target.Kernel)} between at least {_form.Groups * target.Inputs} and {_form.Groups * target.Outputs} channels");
        bool outDistinct = target.Layout.GroupsOnOut, inDistinct = !outDistinct;
        string place = string.Join(' ', parts[pivot].Layers);
        LinearOperator turned = target;
        if (pivot < parts.Length - 1)
        {
            ulong seed = Seeds.For(_seed, $"behind {place}");
            turned = turned.TurnOut(behind, seed);
            Compute(Series(parts[(pivot + 1)..]), _form.Rotation(behind, target.Outputs, behind, outDistinct, seed), main: false);
        }

        if (pivot > 0)
        {
            ulong seed = Seeds.For(_seed, $"before {place}");
            turned = turned.TurnIn(before, seed);
            Compute(Series(parts[..pivot]), _form.Rotation(before, before, target.Inputs, inDistinct, seed), main: false);
        }

        Compute(parts[pivot], turned, main);

        static ModuleTree Series(ImmutableArray<ModuleTree> some) => some.Length == 1 ? some[0] : new SeriesTree(some);
    }

    private void ComputeSum(SumTree sum, LinearOperator target, bool main)
    {
        int passes = sum.Parts.Count(part => part is PassTree);
        LinearOperator rest = target;
        if (passes > 0)
        {
            if (target.Inputs != target.Outputs)
                throw new SubnetRefusedException($"a path without layers cannot make {target.Outputs} channels of {target.Inputs}");
            if (!_form.Writes(target.Layout))
                throw new SubnetRefusedException("its weight passes through a Transpose, and a path without layers needs it as it is read");
            if (!target.Pads.HasOwnPosition(target.Kernel, out ImmutableArray<long> own, out string? why))
                throw new SubnetRefusedException(why!);
            LinearOperator identity = _form.Identity(target.Outputs).Window([.. own.Select(o => -o)], target.Kernel);
            rest = rest.Plus(-passes, identity);
        }

        var parts = sum.Parts.Where(part => part is not PassTree).ToList();
        if (parts.Any(part => !part.Layers.Any()))
            throw new SubnetRefusedException(NoWeights);
        var whole = parts.Where(part => Holds(Capacity(part), target.Kernel)).ToList();
        if (whole.Count == 0)
            throw new SubnetRefusedException($"no path of the module holds its kernel of {string.Join('×', target.Kernel)}");
        IReadOnlyList<double> shares = Shares(parts.Count, Seeds.For(_seed, $"shares {string.Join(' ', sum.Layers)}"));
        ulong noise = Seeds.For(_seed, $"split {string.Join(' ', sum.Layers)}");
        // A smaller kernel takes its share of the taps that it holds, and the whole ones make up for it.
        LinearOperator source = rest;
        double left = 1;
        for (int i = 0; i < parts.Count; i++)
        {
            if (whole.Contains(parts[i]))
                continue;
            ImmutableArray<long> kernel = [.. Capacity(parts[i]).Zip(target.Kernel, Math.Min)];
            ImmutableArray<long> place = source.Place(kernel);
            LinearOperator seen = source.Window(place, kernel);
            LinearOperator part = seen.Times(shares[i]);
            part = part.Plus(1, part with { Weight = seen.Noise(1, Seeds.For(noise, $"part {i}"))[0] });
            rest = rest.Plus(-1, part.Window([.. place.Select(p => -p)], target.Kernel));
            left -= shares[i];
            Compute(parts[i], part, main);
        }

        LinearOperator[] split = rest.Split([.. whole.Select(part => whole.Count == 1 ? 1 : shares[parts.IndexOf(part)] / left)], noise);
        for (int i = 0; i < split.Length; i++)
            Compute(whole[i], split[i], main);
    }

    private void ComputeConcat(ConcatTree concat, LinearOperator target, bool main)
    {
        if (_form.Groups > 1)
            throw new SubnetRefusedException("its groups of channels cannot be concatenated in order");
        long[] widths = Widths(concat, target.Outputs);
        long sum = widths.Sum();
        if (sum != target.Outputs)
            throw new SubnetRefusedException($"concatenated layers of the module have {sum} channels together where {target.Outputs} are needed");
        long first = 0;
        for (int i = 0; i < widths.Length; first += widths[i++])
            Compute(concat.Parts[i], target.Rows(first, widths[i]), main);
    }

    // Random shares as widening has them: drawn in [0.25, 0.75], then brought to the sum 1.
    private double[] Shares(int count, ulong seed)
    {
        if (_evenShares)
            return [.. Enumerable.Repeat(1.0 / count, count)];
        var random = new Random(unchecked((int)seed));
        double[] shares = [.. Enumerable.Range(0, count).Select(_ => 0.25 + 0.5 * random.NextDouble())];
        double sum = shares.Sum();
        return [.. shares.Select(s => s / sum)];
    }

    private static bool Holds(ImmutableArray<long> kernel, ImmutableArray<long> needed) => kernel.Zip(needed, (k, n) => k >= n).All(x => x);

    /// <summary>The largest kernel that a part can have as a whole: its largest layer's.</summary>
    private ImmutableArray<long> Capacity(ModuleTree tree) => tree switch
    {
        LayerTree layer => Layer(layer).Kernel!.Value,
        SeriesTree series => Largest(series.Parts),
        SumTree sum => Largest(sum.Parts),
        ConcatTree concat => concat.Parts.Select(Capacity).Aggregate((a, b) => [.. a.Zip(b, Math.Min)]),
        _ => [.. Enumerable.Repeat(0L, _form.SpatialAxes)],
    };

    private ImmutableArray<long> Largest(IEnumerable<ModuleTree> parts) =>
        parts.Select(Capacity).MaxBy(kernel => kernel.Aggregate(1L, (a, b) => a * b));

    /// <summary>Channels a group that a part makes where its layers say so; null where it makes as many as are needed.</summary>
    private long? Width(ModuleTree tree) => tree switch
    {
        LayerTree layer => (Layer(layer).Channels + _form.Groups - 1) / _form.Groups,
        SeriesTree series => Width(series.Parts[^1]),
        SumTree sum => sum.Parts.Select(Width).FirstOrDefault(width => width is not null),
        ConcatTree concat => concat.Parts.Select(Width).Aggregate((long?)0, (sum, width) => sum + width),
        _ => null,
    };

    // Parts without a width of their own share what the others leave.
    private long[] Widths(ConcatTree concat, long needed)
    {
        long?[] own = [.. concat.Parts.Select(Width)];
        long open = own.Count(w => w is null), left = Math.Max(needed - own.Sum(w => w ?? 0), open);
        return [.. own.Select(w =>
        {
            if (w is { } width)
                return width;
            long share = left / open--;
            left -= share;
            return share;
        })];
    }
}
