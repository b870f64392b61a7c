using System.Collections.Concurrent;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Runtime;
using OnnxMorph.Shapes;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Certification;

/// <summary>
/// Checks a certificate without knowing how the child was made. Floating-point values that the certificate relates cut both graphs
/// into segments; for each value, what makes it is run by itself in both models, on draws of the values that it is made
/// of: the parent's drawn freely, the child's in the stated relation to them, what is the child's own drawn freely too. The results must
/// be in the relation that is stated for them. If all segments do, the models agree on every input, by induction from the inputs to
/// the outputs, whatever values occur between.
/// <para>
/// A linear segment that holds on random draws holds on all values but with probability 0 (Freivalds, 1977). What is compared up
/// to is the rounding of either model: how far its results move when inputs or weights move by one unit.
/// </para>
/// </summary>
public sealed class CertificateChecker
{
    /// <summary>
    /// How many times what its inputs' and weights' last units make of a value a difference may be. By itself a sum of n terms rounds some
    /// √n times as much as that: a layer norm over a thousand channels some 10 times, the widest layers some 60 times. A weight
    /// that is wrong by a thousandth shows a hundred times larger.
    /// </summary>
    private const double Margin = 8 * VerifyOptions.DefaultMargin;

    private const int Draws = 3;
    private const int Attempts = 4;

    /// <summary>Integers up to here are tried as positions in a table; inputs that take larger ones are none.</summary>
    private const int LargestTable = 1 << 20;

    /// <summary>
    /// Elements of a value beyond which smaller sizes are looked for where callers choose them: every value is drawn several times in
    /// double, and the attention of each pixel to each has billions.
    /// </summary>
    private const long ManyElements = 1 << 18;

    private readonly Certificate _certificate;
    private readonly ModelGraph _parent;
    private readonly ModelGraph _child;
    private readonly ShapeTable _shapes;
    private readonly HashSet<string> _inputs;
    private readonly HashSet<string> _cut;
    private readonly ulong _seed;

    private CertificateChecker(OnnxModel parent, OnnxModel child, Certificate certificate, ulong seed)
    {
        _certificate = certificate;
        _seed = seed;
        _parent = new ModelGraph(parent);
        _shapes = ShapeEvaluator.Evaluate(parent, Suits);
        _child = new ModelGraph(child);
        _inputs = [.. _parent.Inputs.Select(i => i.Name)];
        _cut = [.. _inputs.Where(i => _child.Inputs.Any(other => other.Name == i))];
        // A weight that nodes bring into form belongs to the layer that reads it.
        var computed = new HashSet<string>(_inputs);
        foreach (NodeProto node in _parent.Nodes.Where(n => ModelGraph.Reads(n).Any(computed.Contains)))
            computed.UnionWith(node.Output);
        _cut.UnionWith(Made(_parent).Where(v => computed.Contains(v) && _child.Producer(v) is not null && _shapes.Dims(v) is not null
            && _shapes.Type(v).IsScalable() && !certificate.Unstated.Contains(v)));
    }

    /// <summary>Checks that two models are related as a certificate says.</summary>
    /// <param name="parent">The model that defines the function.</param>
    /// <param name="child">The model that should compute the same.</param>
    /// <param name="certificate">What is to be shown.</param>
    /// <param name="seed">Seed of the draws.</param>
    /// <param name="progress">Told how many of how many values are done.</param>
    /// <param name="cancellation">Asked between values.</param>
    /// <exception cref="UsageException">The certificate is about another parent.</exception>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load the parent.</exception>
    public static CertificateReport Check(
        OnnxModel parent, OnnxModel child, Certificate certificate, ulong seed, IProgress<(int Done, int All)>? progress = null, CancellationToken cancellation = default) =>
        new CertificateChecker(Inlined(parent), Inlined(child), certificate, seed).Run(progress, cancellation);

    // Relations are stated for the sizes of the parent's own evaluation; where an axis mixes channels with what callers choose, for no other.
    private bool Suits(ShapeTable shapes) =>
        Made(_parent).All(value => shapes.Dims(value) is not { } dims || (dims.Aggregate(1L, (a, b) => a * b) is > 0 and <= ManyElements))
        && _certificate.Relations.All(relation => Fits(relation.Value, shapes.Dims(relation.Key)));

    private static bool Fits(AxisMap?[] maps, long[]? dims) =>
        dims is not null && maps.Index().All(map => map.Item is null || (map.Index < dims.Length && map.Item.SourceSize == dims[map.Index]));

    private static OnnxModel Inlined(OnnxModel model)
    {
        OnnxModel copy = model.Clone();
        FunctionInliner.Inline(copy);
        return copy;
    }

    private static IEnumerable<string> Made(ModelGraph graph) => graph.Nodes.SelectMany(n => n.Output).Where(o => o.Length > 0);

    private CertificateReport Run(IProgress<(int, int)>? progress, CancellationToken cancellation)
    {
        foreach ((string value, AxisMap?[] maps) in _certificate.Relations)
        {
            if (!Fits(maps, _shapes.Dims(value)))
                throw new UsageException($"The certificate is about another parent: it says something of a value '{value}' that this one does not have in that size.");
        }

        var failed = new ConcurrentDictionary<string, string>();
        var unproven = new ConcurrentDictionary<string, string>();
        foreach (string value in _parent.Inputs.Select(i => i.Name).Concat(_parent.Proto.Output.Select(o => o.Name)).Where(_certificate.Relations.ContainsKey))
            failed[value] = "it is changed, and callers give or read it";
        foreach (string output in _parent.Proto.Output.Select(o => o.Name).Where(o => _child.Proto.Output.All(other => other.Name != o)))
            failed[output] = "the child does not have this output";
        string[] targets = [.. Made(_parent).Where(v => (_cut.Contains(v) || (_parent.IsOutput(v) && _child.Producer(v) is not null)) && !failed.ContainsKey(v))];
        int done = 0;
        string folder = Directory.CreateTempSubdirectory("onnxmorph-").FullName;
        try
        {
            var options = new ParallelOptions { CancellationToken = cancellation, MaxDegreeOfParallelism = Environment.ProcessorCount };
            Parallel.For(0, targets.Length, options, i =>
            {
                string place = Path.Combine(folder, i.ToString(System.Globalization.CultureInfo.InvariantCulture));
                try
                {
                    if (Differs(targets[i], place, new Random(Verifier.HashSeed(_seed, i, 0))) is { } reason)
                        failed[targets[i]] = reason;
                }
                catch (Exception e) when (e is NotSupportedException or UnreadableModelException)
                {
                    unproven[targets[i]] = e.Message;
                }

                foreach (string file in Directory.EnumerateFiles(folder, Path.GetFileName(place) + ".*"))
                    File.Delete(file);
                progress?.Report((Interlocked.Increment(ref done), targets.Length));
            });
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }

        ValueFinding[] Findings(ConcurrentDictionary<string, string> found) =>
            [.. _inputs.Concat(targets).Concat(found.Keys).Distinct().Where(found.ContainsKey).Select(v => new ValueFinding(v, found[v]))];
        return new CertificateReport(failed.IsEmpty, targets.Length - targets.Count(t => failed.ContainsKey(t) || unproven.ContainsKey(t)), Findings(failed), Findings(unproven));
    }

    private AxisMap?[]? Maps(string value) => _certificate.Relations.GetValueOrDefault(value);

    private (ElementType, long[]) Declare(string value) => (_shapes.Type(value),
        _shapes.Dims(value) ?? throw new NotSupportedException($"the sizes of '{value}', which it is made of, are not known"));

    /// <summary>Why a value is not what the certificate says; null where it is.</summary>
    /// <exception cref="NotSupportedException">It cannot be told; the message says why.</exception>
    private string? Differs(string value, string place, Random random)
    {
        // A relation may rest on how the values that a node reads hang together: x − mean(x) is 0 where x' holds the mean. Then what some of
        // them are made of is drawn in their place.
        IReadOnlySet<string> cut = _cut;
        string? reason = null;
        for (int attempt = 0; attempt < Attempts; attempt++)
        {
            var own = new Segment(value, _parent, cut);
            var other = new Segment(value, _child, cut);
            if (Differs(own, other, place, random) is not { } found)
                return null;
            reason ??= found;
            HashSet<string> inputs = [.. own.Inputs.Union(other.Inputs)], made = [.. inputs.Except(_inputs)];
            HashSet<string> determined = [.. made.Where(v => new Segment(v, _parent, cut).Inputs.All(i => i != v && inputs.Contains(i)))];
            if (made.Count == 0)
                break;
            cut = cut.Except(determined.Count > 0 ? determined : made).ToHashSet();
        }

        return reason;
    }

    private string? Differs(Segment own, Segment other, string place, Random random)
    {
        string value = own.Value;
        ModelProto parent = own.ToModel(Declare);
        ModelProto child = other.ToModel(name => Declare(name) is var (type, dims) ? (type, RelatedTensors.Dims(dims, Maps(name))) : default);
        string[] inputs = [.. own.Inputs.Union(other.Inputs)];
        if (parent.Graph.Equals(child.Graph) && inputs.Append(value).All(v => Maps(v) is null))
            return null;
        using ModelRunner before = Load(parent, place + ".parent"), after = Load(child, place + ".child"), moved = Load(Moved(child, random), place + ".moved");
        var integers = new Dictionary<string, (int Values, bool IsTable)>();
        foreach (string name in own.Inputs.Where(name => _shapes.Type(name) is ElementType.Int32 or ElementType.Int64))
            integers[name] = Limit(name, own.Inputs, integers, before);
        // Every row of a table is looked up once.
        int rounds = integers.Where(i => i.Value.IsTable).Select(i => (int)(i.Value.Values / Math.Max(1, Declare(i.Key).Item2.Aggregate(1L, (a, b) => a * b))) + 1).DefaultIfEmpty(1).Max();
        bool evident = false;
        string? failure = null;
        for (int draw = 0; draw < Math.Max(Draws, rounds); draw++)
        {
            var drawn = inputs.ToDictionary(name => name, name => Draw(name, draw, integers, random));
            var given = other.Inputs.ToDictionary(name => name, name => RelatedTensors.Draw(drawn[name], Maps(name), random));
            if (Only(before, own.Inputs, drawn, ref failure) is not { } y)
                continue;
            if (Only(after, other.Inputs, given, ref failure) is not { } made)
                return $"the nodes that make it in the child fail on values that the parent's take: {failure}";
            TensorData expected = RelatedTensors.Expect(y, Maps(value), made);
            var yardstick = new Yardstick(expected);
            if (!yardstick.SameShape(made))
                return $"it is {made.Signature} in the child where {yardstick.Signature} is stated";
            if (Only(before, own.Inputs, Perturbed(drawn, random), ref failure) is { } first)
                yardstick.Observe(RelatedTensors.Expect(first, Maps(value), made));
            // Beside the parent's own noise that of the child's weights and inputs, as far as it moves the child's result.
            foreach (TensorData? second in new[] { Only(after, other.Inputs, Perturbed(given, random), ref failure), Only(moved, other.Inputs, given, ref failure) })
                if (second is not null && second.IsFloat && second.SameShape(expected))
                    yardstick.Observe(RelatedTensors.Moved(expected, made, second));
            Measurement measured = yardstick.Measure(made, 0);
            if (!measured.Identical && (measured.Ratio > Margin || measured.UnexcusedCount > yardstick.UnstableCount))
                return FormattableString.Invariant($"it differs by up to {measured.MaxRel:g2} of its scale, {measured.Ratio:g3} times rounding");
            evident |= yardstick.HasEvidence && (measured.Identical || Margin * yardstick.WholeFloor(0) < Verifier.BlindFrom);
        }

        return evident ? null : throw new NotSupportedException(failure is null ? "on no draw do the parent's nodes give numbers that could be compared" : $"the parent's nodes fail on values by themselves: {failure}");
    }

    private static ModelRunner Load(ModelProto model, string path)
    {
        using (FileStream file = File.Create(path))
            model.WriteTo(file);
        return new ModelRunner(path, GraphOptimizationLevel.ORT_DISABLE_ALL, 1);
    }

    // All floating-point weights moved by one unit.
    private static ModelProto Moved(ModelProto model, Random random)
    {
        var copy = new OnnxModel(model.Clone());
        foreach (TensorProto tensor in copy.Proto.Graph.Initializer.Where(t => ((ElementType)t.DataType).IsScalable()))
        {
            var stored = (StoredWeight)copy.Data(tensor);
            TensorData moved = Perturbation.ByOneUnit(new TensorData(stored.Type, [.. stored.Shape], stored.Bytes.ToArray()), random);
            copy.SetData(tensor, new StoredWeight(stored.Type, stored.Shape, moved.Bytes));
        }

        copy.Embed(copy.Proto);
        return copy.Proto;
    }

    // The one result of a segment; null where it fails, and why.
    private static TensorData? Only(ModelRunner runner, IEnumerable<string> names, IReadOnlyDictionary<string, TensorData> values, ref string? failure)
    {
        try
        {
            IReadOnlyList<OutputTensor> outputs = runner.Run(names.ToDictionary(name => name, name => values[name]));
            return outputs is [{ Path: "" } only] ? only.Data : throw new NotSupportedException("it is no tensor");
        }
        catch (OnnxRuntimeException e)
        {
            failure = OrtRuntime.Reason(e);
            return null;
        }
    }

    private static Dictionary<string, TensorData> Perturbed(IReadOnlyDictionary<string, TensorData> values, Random random) =>
        values.ToDictionary(v => v.Key, v => Perturbation.ByOneUnit(v.Value, random));

    // Draws of different ranges: negative numbers, positive ones for roots and logarithms, and such as an epsilon is large beside.
    private TensorData Draw(string name, int draw, Dictionary<string, (int Values, bool IsTable)> integers, Random random)
    {
        (ElementType type, long[] dims) = Declare(name);
        int count = checked((int)dims.Aggregate(1L, (product, size) => product * size));
        if (type.IsScalable())
        {
            return RelatedTensors.Rounded(type, dims, [.. Enumerable.Range(0, count).Select(_ => (draw % Draws) switch
            {
                0 => RelatedTensors.Normal(random),
                1 => 0.1 + 0.8 * random.NextDouble(),
                _ => 0.01 * RelatedTensors.Normal(random),
            })]);
        }

        int values = integers.TryGetValue(name, out var limit) ? limit.Values : 2;
        int At(int i) => limit.IsTable ? (int)(((long)draw * count + i) % values) : random.Next(values);
        return type switch
        {
            ElementType.Bool => new TensorData(type, dims, [.. Enumerable.Range(0, count).Select(_ => (byte)random.Next(2))]),
            ElementType.Int32 => TensorData.From<int>(type, dims, [.. Enumerable.Range(0, count).Select(At)]),
            ElementType.Int64 => TensorData.From<long>(type, dims, [.. Enumerable.Range(0, count).Select(i => (long)At(i))]),
            _ => throw new NotSupportedException($"it is made of '{name}', which is {type}"),
        };
    }

    // How many integers from 0 on the parent's nodes take: rows of a table, or any.
    private (int Values, bool IsTable) Limit(string name, IReadOnlyCollection<string> all, Dictionary<string, (int Values, bool IsTable)> known, ModelRunner runner)
    {
        bool Takes(int largest)
        {
            Dictionary<string, TensorData> drawn = all.ToDictionary(other => other, other => Draw(other, 0, known, new Random(0)));
            (ElementType type, long[] dims) = Declare(name);
            int count = (int)dims.Aggregate(1L, (product, size) => product * size);
            drawn[name] = type == ElementType.Int32
                ? TensorData.From<int>(type, dims, [.. Enumerable.Repeat(largest, count)])
                : TensorData.From<long>(type, dims, [.. Enumerable.Repeat((long)largest, count)]);
            string? failure = null;
            return Only(runner, all, drawn, ref failure) is not null;
        }

        if (Takes(LargestTable))
            return (2, false);
        (int takes, int fails) = (0, LargestTable);
        while (fails - takes > 1)
        {
            int middle = takes + (fails - takes) / 2;
            if (Takes(middle))
                takes = middle;
            else
                fails = middle;
        }

        return (takes + 1, true);
    }
}
