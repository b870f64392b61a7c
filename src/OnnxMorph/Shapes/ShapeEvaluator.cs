using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Shapes;

/// <summary>
/// Evaluates shapes by letting ONNX Runtime load a <em>skeleton</em> of the model: large weights become inputs with fixed
/// sizes, every value becomes an output, and symbolic dimensions get sizes. Loading infers every shape and folds what does
/// not depend on data; nothing is run.
/// </summary>
public static class ShapeEvaluator
{
    // What callers may feed: tried in this order until the network takes one. Networks with strides and windows demand
    // multiples; tiny sizes come last, since they may shrink to nothing.
    private static readonly int[] s_spatialSizes = [64, 224, 32, 128, 256, 96, 16, 8, 48, 4, 1];
    private static readonly int[] s_otherSizes = [6, 8, 16, 4, 32, 64, 128, 2, 1];

    // Larger integer tensors are data (token tables, masks), not shapes; keeping them costs memory and tells nothing.
    private const long MostIntegers = 1 << 16;
    private const long MostFloats = 16;

    /// <summary>An input that nothing reads.</summary>
    internal const string FilledIn = "onnxmorph.filled_in";

    // A batch of 2 tells copies from sums; some networks take one sample at a time.
    private static readonly int[] s_batches = [2, 1];
    private static readonly int[] s_otherBatches = [3, 2, 1];

    /// <summary>
    /// Evaluates the shapes of every value of the main graph at two assignments of the sizes that callers choose.
    /// </summary>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load the model at any size that was tried.</exception>
    public static ShapeTable Evaluate(OnnxModel model) => Evaluate(model, _ => true);

    /// <summary>The same at the first sizes that suit, or at the first that the network takes where none do.</summary>
    /// <param name="model">The model.</param>
    /// <param name="suits">Whether sizes found at the first assignment suit.</param>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load the model at any size that was tried.</exception>
    public static ShapeTable Evaluate(OnnxModel model, Func<ShapeTable, bool> suits) => Evaluate(model, suits, SkeletonSegments.UsualNodes);

    /// <summary>The same with so many nodes loaded at a time.</summary>
    internal static ShapeTable Evaluate(OnnxModel model, Func<ShapeTable, bool> suits, int segmentNodes)
    {
        string folder = Directory.CreateTempSubdirectory("onnxmorph-").FullName;
        try
        {
            // Messages of ONNX Runtime name the file, so it bears the model's name.
            string skeleton = Path.Combine(folder, Path.GetFileName(model.Path) ?? "model");
            try
            {
                return Evaluate(model, skeleton, null, suits, segmentNodes);
            }
            catch (UnreadableModelException) when (StandInType.For(model) is { } standIn)
            {
                return Evaluate(model, skeleton, standIn, suits, segmentNodes);
            }
        }
        finally
        {
            Directory.Delete(folder, recursive: true);
        }
    }

    private static ShapeTable Evaluate(OnnxModel model, string skeleton, StandInType? standIn, Func<ShapeTable, bool> suits, int segmentNodes)
    {
        (ModelProto proto, List<Symbol> symbols) = Build(model, standIn);
        var segments = new SkeletonSegments(proto, skeleton, segmentNodes);
        if (symbols.Count == 0)
            return LoadFirst(model, segments, standIn, FirstAssignments(symbols), suits).Table;

        // Nearly always the first sizes that are tried are taken, so that the others are known beforehand: both are loaded side by side.
        Dictionary<string, long> guess = FirstAssignments(symbols).First();
        string folder = Directory.CreateDirectory(Path.Combine(Path.GetDirectoryName(skeleton)!, "other")).FullName;
        var other = new SkeletonSegments(proto.Clone(), Path.Combine(folder, Path.GetFileName(skeleton)), segmentNodes);
        Task<ShapeTable> guessed = Task.Run(() => Second(guess));
        try
        {
            var (first, sizes) = LoadFirst(model, segments, standIn, FirstAssignments(symbols), suits);
            if (sizes.All(size => guess[size.Key] == size.Value))
                return new ShapeTable(first, guessed.GetAwaiter().GetResult());
            Settle();
            return new ShapeTable(first, Second(sizes));
        }
        finally
        {
            Settle();
        }

        // Its files are deleted when this returns; what it throws counts only where its result does.
        void Settle() => guessed.ContinueWith(task => task.Exception, TaskScheduler.Default).Wait();

        ShapeTable Second(Dictionary<string, long> sizes) => LoadFirst(model, other, standIn, SecondAssignments(symbols, sizes), _ => true).Table;
    }

    /// <summary>A size that callers choose: its name, and where it stands first.</summary>
    private readonly record struct Symbol(string Name, int Axis, int Rank)
    {
        public int[] Candidates => Rank >= 4 ? s_spatialSizes : s_otherSizes;
    }

    private static IEnumerable<Dictionary<string, long>> FirstAssignments(List<Symbol> symbols) =>
        from batch in s_batches
        from attempt in Enumerable.Range(0, s_spatialSizes.Length)
        select symbols.ToDictionary(s => s.Name, s => s.Axis == 0 ? batch : (long)s.Candidates[Math.Min(attempt, s.Candidates.Length - 1)]);

    // Sizes that all differ from the first, so that what depends on any of them shows, and from each other, so that it shows on which: all
    // larger, for products of some larger and some smaller sizes may be the same. Where only equal ones are taken, those; where only one
    // size is taken, another batch; at last the first assignment again.
    private static IEnumerable<Dictionary<string, long>> SecondAssignments(List<Symbol> symbols, Dictionary<string, long> first)
    {
        return Others(apart: 1, (size, before) => size > before).Take(2).Concat(Others(apart: 0, (size, before) => size != before))
            .Concat(
                from batch in s_otherBatches
                select symbols.ToDictionary(s => s.Name, s => s.Axis == 0 ? batch : first[s.Name]))
            .Append(first);

        IEnumerable<Dictionary<string, long>> Others(int apart, Func<int, long, bool> fits) =>
            from attempt in Enumerable.Range(0, s_spatialSizes.Length - 1)
            where symbols.All(s => s.Axis == 0 || s.Candidates.Any(size => fits(size, first[s.Name])))
            select symbols.Index().ToDictionary(s => s.Item.Name, s => s.Item.Axis == 0 ? 3 : Pick(s.Item, attempt + apart * s.Index, fits));

        long Pick(Symbol symbol, int index, Func<int, long, bool> fits)
        {
            int[] others = [.. symbol.Candidates.Where(size => fits(size, first[symbol.Name]))];
            return others[index % others.Length];
        }
    }

    private static (ModelProto Skeleton, List<Symbol> Symbols) Build(OnnxModel model, StandInType? standIn)
    {
        ModelProto proto = model.Proto.Clone();
        GraphProto graph = proto.Graph;
        var listed = graph.Input.Select(i => i.Name).ToHashSet();
        var weights = new HashSet<string>();
        HashSet<string> folded = [.. graph.Node.Where(n => n.OpType is "Resize" or "Upsample").SelectMany(n => n.Input.Skip(1))];

        TensorProto[] initializers = [.. graph.Initializer];
        graph.Initializer.Clear();
        foreach (TensorProto tensor in initializers)
        {
            if (IsShapeLike(model, tensor, folded))
            {
                graph.Initializer.Add(tensor);
                continue;
            }

            weights.Add(tensor.Name);
            if (!listed.Contains(tensor.Name))
                graph.Input.Add(Declare(tensor.Name, tensor));
        }

        NodeProto[] nodes = [.. graph.Node];
        graph.Node.Clear();
        foreach (NodeProto node in nodes)
        {
            if (node.OpType == "Constant" && ModelGraph.IsStandard(node) && node.Attribute.FirstOrDefault(a => a.Name == "value")?.T is { } tensor
                && !IsShapeLike(model, tensor, folded) && node.Output.Count == 1)
                graph.Input.Add(Declare(node.Output[0], tensor));
            else
                graph.Node.Add(node);
        }

        var given = graph.Input.Select(i => i.Name).Concat(graph.Initializer.Select(i => i.Name)).ToHashSet();
        graph.Output.Clear();
        foreach (string value in graph.Node.SelectMany(n => n.Output).Where(v => v.Length > 0 && !given.Contains(v)).Distinct())
            graph.Output.Add(new ValueInfoProto { Name = value });
        graph.ValueInfo.Clear();
        graph.QuantizationAnnotation.Clear();
        if (graph.Output.Count == 0)
            throw new UnreadableModelException($"'{Path.GetFileName(model.Path)}' has no node that computes anything.");

        var constants = graph.Initializer.Select(i => i.Name).ToHashSet();
        var symbols = new Dictionary<string, Symbol>();
        foreach (ValueInfoProto input in graph.Input.Where(i => !constants.Contains(i.Name)))
        {
            if (input.Type?.TensorType?.Shape is not { } shape)
                continue;
            for (int axis = 0; axis < shape.Dim.Count; axis++)
            {
                TensorShapeProto.Types.Dimension dim = shape.Dim[axis];
                // A caller's size of 0 is how some exporters write "unknown"; a weight of size 0 is empty.
                if (dim.HasDimValue && (dim.DimValue > 0 || weights.Contains(input.Name)))
                    continue;
                if (!dim.HasDimParam || dim.DimParam.Length == 0)
                    dim.DimParam = $"onnxmorph.{input.Name}.{axis}";
                symbols.TryAdd(dim.DimParam, new Symbol(dim.DimParam, axis, shape.Dim.Count));
            }
        }

        // ONNX Runtime saves the inferred shapes only where it had something to change: a size to fill in.
        ValueInfoProto filled = Declare(FilledIn, new TensorProto { DataType = (int)ElementType.Bool });
        filled.Type.TensorType.Shape.Dim.Add(new TensorShapeProto.Types.Dimension { DimParam = FilledIn });
        graph.Input.Add(filled);

        standIn?.Replace(proto, model);
        model.Embed(proto);
        return (proto, [.. symbols.Values]);
    }

    private static bool IsShapeLike(OnnxModel model, TensorProto tensor, HashSet<string> folded)
    {
        long count = tensor.Dims.Aggregate(1L, (product, size) => product * size);
        // What is still to be evaluated has no value yet that could be folded; only weights are so.
        return model.PayloadOf(tensor) is not WeightPayload && (ElementType)tensor.DataType switch
        {
            ElementType.Int64 or ElementType.Int32 or ElementType.Bool or ElementType.String => count <= MostIntegers,
            _ => count <= MostFloats || folded.Contains(tensor.Name),
        };
    }

    private static ValueInfoProto Declare(string name, TensorProto tensor)
    {
        var shape = new TensorShapeProto();
        shape.Dim.AddRange(tensor.Dims.Select(size => new TensorShapeProto.Types.Dimension { DimValue = size }));
        return new ValueInfoProto
        {
            Name = name,
            Type = new TypeProto { TensorType = new TypeProto.Types.Tensor { ElemType = tensor.DataType, Shape = shape } },
        };
    }

    // Tries sizes until the network loads, and what it finds suits.
    private static (ShapeTable Table, Dictionary<string, long> Sizes) LoadFirst(
        OnnxModel model, SkeletonSegments skeleton, StandInType? standIn, IEnumerable<Dictionary<string, long>> assignments, Func<ShapeTable, bool> suits)
    {
        UnreadableModelException? first = null;
        (ShapeTable, Dictionary<string, long>)? unsuited = null;
        var tried = new HashSet<string>();
        foreach (Dictionary<string, long> sizes in assignments)
        {
            if (!tried.Add(string.Join(' ', sizes.Values)))
                continue;
            try
            {
                ShapeTable found = Load(model, skeleton, standIn, sizes);
                if (suits(found))
                    return (found, sizes);
                unsuited ??= (found, sizes);
            }
            catch (UnreadableModelException e)
            {
                first ??= e;
            }
        }

        return unsuited ?? throw first!;
    }

    private static ShapeTable Load(OnnxModel model, SkeletonSegments skeleton, StandInType? standIn, Dictionary<string, long> sizes)
    {
        var dimensions = new Dictionary<string, long>(sizes) { [FilledIn] = 1 };
        var values = new Dictionary<string, (ElementType, long[]?)>();
        var ints = new Dictionary<string, long[]>();
        foreach (OnnxModel folded in skeleton.Load(dimensions))
        {
            foreach (ValueInfoProto value in folded.Proto.Graph.Output.Concat(folded.Proto.Graph.Input))
            {
                ElementType type = value.Type?.TensorType is { } tensor ? (ElementType)tensor.ElemType : ElementType.Undefined;
                Add(value.Name, standIn?.Original(type) ?? type, value.Type?.TensorType?.Shape is { } shape ? Dims(shape, sizes) : null);
            }

            // Of a segment that becomes nothing but constants ONNX Runtime tells no sizes.
            foreach ((_, TensorProto tensor, string name) in Tensors(folded))
                Add(name, standIn?.Original((ElementType)tensor.DataType) ?? (ElementType)tensor.DataType, [.. tensor.Dims]);
            AddIntegers(ints, folded);
        }

        AddIntegers(ints, model);
        // Small constants were left in the graph as they are.
        foreach ((_, TensorProto tensor, string name) in Tensors(model))
            Add(name, (ElementType)tensor.DataType, [.. tensor.Dims]);
        return new ShapeTable(values, ints);

        void Add(string name, ElementType type, long[]? dims)
        {
            if (!values.TryGetValue(name, out var known) || known.Item2 is null)
                values[name] = (type, dims);
        }
    }

    private static long[]? Dims(TensorShapeProto shape, Dictionary<string, long> sizes)
    {
        long[] dims = [.. shape.Dim.Select(dim => dim.HasDimValue ? dim.DimValue : sizes.GetValueOrDefault(dim.DimParam, -1))];
        return dims.Contains(-1) ? null : dims;
    }

    /// <summary>Whether shapes may depend on the content of a tensor that is not in the message: floats that they may depend on are.</summary>
    internal static bool MayBeSizes(TensorProto tensor) =>
        !((ElementType)tensor.DataType).IsScalable() && Count(tensor) <= MostIntegers;

    private static long Count(TensorProto tensor) => tensor.Dims.Aggregate(1L, (product, size) => product * size);

    private static void AddIntegers(Dictionary<string, long[]> ints, OnnxModel model)
    {
        // Integers that a morph has changed are biases and tables, no sizes.
        foreach ((_, TensorProto tensor, string name) in Tensors(model))
            if ((ElementType)tensor.DataType is ElementType.Int64 or ElementType.Int32 && MayBeSizes(tensor) && model.PayloadOf(tensor) is not WeightPayload)
                ints[name] = model.Int64Values(tensor);
    }

    private static IEnumerable<(OnnxModel, TensorProto, string)> Tensors(OnnxModel model)
    {
        foreach (TensorProto tensor in model.Proto.Graph.Initializer)
            yield return (model, tensor, tensor.Name);
        foreach (NodeProto node in model.Proto.Graph.Node)
            if (node.OpType == "Constant" && node.Attribute.FirstOrDefault(a => a.Name == "value")?.T is { } tensor)
                yield return (model, tensor, node.Output[0]);
    }
}
