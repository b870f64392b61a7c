using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Axes;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Runtime;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Testing;

/// <summary>A tensor that a run gave, in double.</summary>
internal sealed record Array(ElementType Type, long[] Shape, double[] Values);

/// <summary>
/// Morphs a model and holds the child to what a morph promises: it is a valid file that ONNX Runtime runs, and every value that
/// parent and child share relates as the recorded relation says, at every size that the net names and in double precision.
/// </summary>
internal static class Check
{
    private const double SingleTolerance = 2e-4;
    private const double DoubleTolerance = 1e-10;

    private static readonly WeightEvaluator s_evaluator = new();

    public static MorphStep Widen(string selector, string size, WidenMethod method = WidenMethod.Replicate, ulong seed = 1, ZeroSide side = ZeroSide.Smaller)
    {
        var pass = new WidenPass(Selector.Parse(selector), SizeRequest.Parse(size), method, seed, side);
        return new MorphStep($"--widen {selector}={size}", Selector.Parse(selector), pass.Apply);
    }

    public static MorphStep Deepen(string selector, int count = 1, DeepenMethod method = DeepenMethod.ClosedForm, ulong seed = 1)
    {
        return Deepen(selector, new DeepenOptions { Count = count, Method = method, Seed = seed });
    }

    public static MorphStep DeepenBlocks(string selector, int count = 1)
    {
        var pass = new DeepenBlocksPass(Selector.Parse(selector), count);
        return new MorphStep($"--deepen {selector}={count}", Selector.Parse(selector), pass.Apply);
    }

    public static MorphStep Deepen(string selector, DeepenOptions options)
    {
        options.Validate();
        return new MorphStep($"--deepen {selector}", Selector.Parse(selector), new DeepenPass(Selector.Parse(selector), options).Apply);
    }

    public static MorphStep Kernel(string selector, string size, TapPlace place = TapPlace.Both)
    {
        var pass = new KernelPass(Selector.Parse(selector), KernelSize.Parse(size), place);
        return new MorphStep($"--kernel {selector}={size}", Selector.Parse(selector), pass.Apply);
    }

    /// <summary>Morphs and checks everything.</summary>
    public static MorphResult Morph(Net net, params MorphStep[] steps) => Morph(net, inDouble: true, steps);

    /// <summary>Morphs and checks everything, in single precision alone where an operator has no double form.</summary>
    public static MorphResult Morph(Net net, bool inDouble, params MorphStep[] steps)
    {
        OnnxModel parent = net.Model;
        byte[] before = parent.Proto.ToByteArray();
        MorphResult result = Morpher.Morph(parent, steps, TestContext.Current.CancellationToken);
        Assert.Equal(before, parent.Proto.ToByteArray());
        ModelProto child = Written(result.Child);
        var runs = net.Runs.Count > 0 ? net.Runs : [[]];
        int seed = 0;
        foreach (Dictionary<string, long> sizes in runs)
        {
            var feeds = Feeds(net, sizes, ++seed);
            var expected = Run(net.Proto, feeds);
            var actual = Run(child, feeds);
            Declared(child, actual);
            Compare(net, result, expected, actual, net.Type == ElementType.Float64 ? DoubleTolerance : net.Type == ElementType.Float32 ? SingleTolerance : 0.05);
            if (net.Type == ElementType.Float32 && inDouble)
            {
                var doubles = feeds.ToDictionary(f => f.Key, f => f.Value.Type == ElementType.Float32 ? f.Value with { Type = ElementType.Float64 } : f.Value);
                Compare(net, result,
                    Run(DoubleModel.Of(net.Model, Shapes(net.Proto, expected, feeds)), doubles, [.. expected.Keys]),
                    Run(DoubleModel.Of(result.Child, Shapes(child, actual, feeds)), doubles, [.. actual.Keys]), DoubleTolerance);
            }
        }

        return result;
    }

    /// <summary>Size of the channels that a layer was given.</summary>
    public static long Grown(MorphResult result, string node, long size, int step = 0)
    {
        Change? change = result.Steps[step].Changes.SingleOrDefault(c => c.Where.EndsWith($"'{node}'", StringComparison.Ordinal));
        Assert.True(change is not null, $"Step {step} left '{node}' alone: {string.Join(" | ", result.Steps[step].Refused)}");
        Assert.Equal(size, change.After);
        return change.After;
    }

    /// <summary>The refusal of a layer, whose reason must have <paramref name="because"/> in it.</summary>
    public static void Refused(MorphResult result, string node, string because, int step = 0)
    {
        Pin pin = Assert.Single(result.Steps[step].Refused, p => p.Where.EndsWith($"'{node}'", StringComparison.Ordinal));
        Assert.Contains(because, pin.Why, StringComparison.Ordinal);
        Assert.DoesNotContain(result.Steps[step].Changes, c => c.Where.EndsWith($"'{node}'", StringComparison.Ordinal));
    }

    /// <summary>The child as the writer writes and the reader reads it.</summary>
    public static ModelProto Written(OnnxModel child)
    {
        string file = Path.GetTempFileName();
        try
        {
            OnnxWriter.Write(child, file, s_evaluator, new WriteOptions { Force = true });
            return ModelProto.Parser.ParseFrom(File.ReadAllBytes(file));
        }
        finally
        {
            File.Delete(file);
        }
    }

    public static Dictionary<string, Array> Feeds(Net net, Dictionary<string, long> sizes, int seed)
    {
        var random = new Random(seed);
        var constants = net.Proto.Graph.Initializer.Select(i => i.Name).ToHashSet();
        var feeds = new Dictionary<string, Array>();
        foreach (ValueInfoProto input in net.Proto.Graph.Input.Where(i => !constants.Contains(i.Name)))
        {
            long[] shape = [.. input.Type.TensorType.Shape.Dim.Select(d => d.HasDimValue ? d.DimValue : sizes[d.DimParam])];
            int count = (int)shape.Aggregate(1L, (a, b) => a * b);
            var type = (ElementType)input.Type.TensorType.ElemType;
            double Next() => type.IsScalable() ? (float)(2 * random.NextDouble() - 1) : random.Next(net.Vocabulary.GetValueOrDefault(input.Name, 2));
            feeds[input.Name] = new Array(type, shape, [.. Enumerable.Range(0, count).Select(_ => Next())]);
        }

        return feeds;
    }

    /// <summary>Runs a model, without optimisation unless a level is given; all values of the main graph unless some are named.</summary>
    public static Dictionary<string, Array> Run(
        ModelProto model, Dictionary<string, Array> feeds, string[]? values = null, GraphOptimizationLevel level = GraphOptimizationLevel.ORT_DISABLE_ALL)
    {
        ModelProto exposed = model.Clone();
        GraphProto graph = exposed.Graph;
        var outputs = graph.Output.Select(o => o.Name).ToHashSet();
        foreach (string value in values ?? graph.Node.SelectMany(n => n.Output).Where(o => o.Length > 0))
            if (outputs.Add(value))
                graph.Output.Add(new ValueInfoProto { Name = value });
        using SessionOptions options = OrtRuntime.CreateOptions(level);
        using var session = new InferenceSession(exposed.ToByteArray(), options);
        using RunOptions run = OrtRuntime.CreateRunOptions();
        var inputs = feeds.ToDictionary(f => f.Key, f => ToOrt(f.Value));
        try
        {
            using var results = session.Run(run, inputs, session.OutputNames);
            return session.OutputNames.Zip(results).Where(r => r.Second.OnnxType == OnnxValueType.ONNX_TYPE_TENSOR).ToDictionary(r => r.First, r => FromOrt(r.Second));
        }
        finally
        {
            foreach (OrtValue value in inputs.Values)
                value.Dispose();
        }
    }

    // The sizes that a file declares are those of a run.
    private static void Declared(ModelProto model, Dictionary<string, Array> values)
    {
        foreach (ValueInfoProto declared in model.Graph.ValueInfo)
            if (values.TryGetValue(declared.Name, out Array? value) && declared.Type?.TensorType?.Shape is { } shape)
                Assert.True(shape.Dim.Count == value.Shape.Length && shape.Dim.Zip(value.Shape, (dim, size) => !dim.HasDimValue || dim.DimValue == size).All(fits => fits),
                    $"'{declared.Name}' has sizes {string.Join('×', value.Shape)}, declared as {shape}.");
    }

    private static Dictionary<string, long[]> Shapes(ModelProto model, Dictionary<string, Array> values, Dictionary<string, Array> feeds)
    {
        var shapes = values.Concat(feeds).ToDictionary(v => v.Key, v => v.Value.Shape);
        foreach (TensorProto tensor in model.Graph.Initializer)
            shapes[tensor.Name] = [.. tensor.Dims];
        return shapes;
    }

    private static OrtValue ToOrt(Array array)
    {
        byte[] bytes = array.Type switch
        {
            ElementType.Int64 => [.. array.Values.SelectMany(v => BitConverter.GetBytes((long)v))],
            ElementType.Int32 => [.. array.Values.SelectMany(v => BitConverter.GetBytes((int)v))],
            ElementType.Bool => [.. array.Values.Select(v => (byte)v)],
            _ => Numbers.Encode(array.Type, array.Values),
        };
        OrtValue value = OrtValue.CreateAllocatedTensorValue(OrtAllocator.DefaultInstance, (Microsoft.ML.OnnxRuntime.Tensors.TensorElementType)(int)array.Type, array.Shape);
        if (bytes.Length > 0)
            bytes.CopyTo(value.GetTensorMutableRawData());
        return value;
    }

    private static Array FromOrt(OrtValue value)
    {
        OrtTensorTypeAndShapeInfo info = value.GetTensorTypeAndShape();
        var type = (ElementType)(int)info.ElementDataType;
        return new Array(type, info.Shape, info.ElementCount == 0 ? [] : Numbers.Decode(type, value.GetTensorMutableRawData()));
    }

    // Every value of the parent that the child has, held to its relation. Values made of weights alone have none, and integers
    // without one are sizes, which are the child's own.
    private static void Compare(Net net, MorphResult result, Dictionary<string, Array> parent, Dictionary<string, Array> child, double tolerance)
    {
        HashSet<string> weights = Weights(net.Proto.Graph);
        foreach (string output in net.Proto.Graph.Output.Select(o => o.Name))
            Assert.Contains(output, child.Keys);
        int compared = 0;
        foreach ((string name, Array before) in parent)
        {
            if (!child.TryGetValue(name, out Array? after))
                continue;
            if (result.Unstated.Contains(name))
                continue;
            bool output = net.Proto.Graph.Output.Any(o => o.Name == name);
            if (result.Relations.TryGetValue(name, out AxisMap?[]? maps))
            {
                // Axes that mix channels with a size of the caller's are stated at the sizes that shapes were evaluated with.
                if (net.Runs.Count > 0 && !output && maps.Where((map, axis) => map is not null && map.SourceSize != before.Shape[axis]).Any())
                    continue;
                Related(name, before, after, maps, tolerance);
            }
            else if (output || (before.Type.IsScalable() && !weights.Contains(name)))
                Related(name, before, after, new AxisMap?[before.Shape.Length], tolerance);
            else
                continue;
            compared++;
        }

        Assert.True(compared > 0);
    }

    private static HashSet<string> Weights(GraphProto graph)
    {
        var weights = graph.Initializer.Select(i => i.Name).ToHashSet();
        foreach (NodeProto node in graph.Node)
            if (node.OpType == "Constant" || (node.Input.Count > 0 && node.Input.All(i => i.Length == 0 || weights.Contains(i))))
                weights.UnionWith(node.Output);
        return weights;
    }

    /// <summary>child = E·parent + F·free, by index arithmetic: copies equal their source, means the mean, equal fresh indices equal each other.</summary>
    private static void Related(string name, Array parent, Array child, AxisMap?[] maps, double tolerance)
    {
        long[] sizes = [.. parent.Shape.Select((size, axis) => maps[axis]?.Size ?? size)];
        Assert.True(sizes.SequenceEqual(child.Shape), $"'{name}' has sizes {string.Join('×', child.Shape)}, its relation says {string.Join('×', sizes)}.");
        for (int axis = 0; axis < sizes.Length; axis++)
            Assert.True(maps[axis] is not { } map || map.SourceSize == parent.Shape[axis], $"'{name}': axis {axis} of the relation starts from another size.");
        double scale = Math.Max(parent.Values.Where(double.IsFinite).Select(Math.Abs).DefaultIfEmpty(0).Max(), 1e-3);
        var fresh = new Dictionary<string, double>();
        var at = new long[sizes.Length];
        for (int index = 0; index < child.Values.Length; index++)
        {
            for (int axis = sizes.Length - 1, rest = index; axis >= 0; axis--)
                (rest, at[axis]) = ((int)(rest / sizes[axis]), rest % sizes[axis]);
            // The terms of every axis multiplied out: one for copies, none for zeros, many for means.
            var terms = new List<(int Source, double Weight, bool Fresh, string From)> { (0, 1, false, "") };
            for (int axis = 0; axis < sizes.Length; axis++)
            {
                Tap[] taps = maps[axis] is { } map ? map[(int)at[axis]].ToArray() : [new Tap((int)at[axis], 1)];
                terms = [.. from term in terms
                    from tap in taps
                    select (term.Source * (int)parent.Shape[axis] + tap.Source, term.Weight * tap.Weight, term.Fresh || tap.Source >= parent.Shape[axis], $"{term.From},{tap.Source}")];
            }

            double value = child.Values[index];
            double expected;
            bool isFresh = terms.Any(t => t.Fresh);
            if (!isFresh)
                expected = terms is [(var source, 1, _, _)] ? parent.Values[source] : terms.Sum(t => t.Weight * parent.Values[t.Source]);
            else if (!fresh.TryGetValue(Assert.Single(terms).From, out expected))
                fresh[terms[0].From] = expected = value;
            bool same = isFresh ? double.IsFinite(value) && Math.Abs(value - expected) <= tolerance * Math.Max(scale, Math.Abs(value))
                : expected == value || Math.Abs(value - expected) <= tolerance * scale || (double.IsNaN(value) && double.IsNaN(expected));
            Assert.True(same, $"'{name}'[{string.Join(',', at)}] is {value:r}, expected {expected:r} ({(isFresh ? "fresh" : "copied")}, scale {scale:g3}).");
        }
    }
}

/// <summary>How the channels of a layer may grow.</summary>
internal enum How
{
    /// <summary>By copies and by channels of the child's own.</summary>
    Freely,

    /// <summary>By copies.</summary>
    ByCopies,

    /// <summary>By copies of every channel alike.</summary>
    Uniformly,

    /// <summary>Not at all.</summary>
    Never,
}

/// <summary>What is expected of a layer: its channels, how they grow, in units of how many, and why they do not.</summary>
internal sealed record Layer(string Name, int Channels, How How = How.Freely, int Unit = 1, string Because = "")
{
    /// <summary>Widens everything by half, then by one fresh channel, then doubles it with opposed pairs; all values must keep their relations.</summary>
    public static MorphResult Grow(Net net, params Layer[] layers) => Grow(net, inDouble: true, layers);

    public static MorphResult Grow(Net net, bool inDouble, params Layer[] layers)
    {
        MorphResult result = Check.Morph(net, inDouble,
            Check.Widen("*", "x1.5"), Check.Widen("*", "+1", WidenMethod.Zero), Check.Widen("*", "x2", WidenMethod.Opposed));
        foreach (Layer layer in layers)
        {
            if (layer.How == How.Never)
            {
                for (int step = 0; step < 3; step++)
                    Check.Refused(result, layer.Name, layer.Because, step);
                continue;
            }

            long copied = layer.How == How.Uniformly ? 2 * layer.Channels : layer.Round((3 * layer.Channels + 1) / 2);
            Check.Grown(result, layer.Name, copied, 0);
            if (layer.How != How.Freely)
            {
                Check.Refused(result, layer.Name, layer.Because, 1);
                Check.Refused(result, layer.Name, layer.Because, 2);
                continue;
            }

            long fresh = layer.Round(copied + 1);
            Check.Grown(result, layer.Name, fresh, 1);
            Check.Grown(result, layer.Name, layer.Round(2 * fresh), 2);
        }

        return result;
    }

    private long Round(long size) => (size + Unit - 1) / Unit * Unit;
}
