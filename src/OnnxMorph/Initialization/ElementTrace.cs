using System.Runtime.InteropServices;
using Google.Protobuf;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Initialization;

/// <summary>
/// Which element of which tensor each element of a value is, through whatever nodes lie between. ONNX Runtime evaluates the nodes on the numbers
/// of the elements. Nodes select if they commute with every change of the numbers, f(g(x)) = g(f(x)), so the same evaluation on scrambled numbers
/// tells whether they do, and no operator has to be known.
/// </summary>
internal static class ElementTrace
{
    private static readonly WeightEvaluator s_evaluator = new();

    /// <summary>
    /// For each element of <paramref name="value"/>, row-major, the number of the element that it is: elements of the sources are counted from 1
    /// through all of them in order, and 0 is a zero of the graph's own. Null where it is computed otherwise.
    /// </summary>
    /// <param name="graph">The graph.</param>
    /// <param name="value">A value that a node makes.</param>
    /// <param name="sources">Where it comes from, with sizes.</param>
    public static long[]? Of(ModelGraph graph, string value, IReadOnlyList<(string Name, long[] Dims)> sources)
    {
        ModelProto model = new Segment(value, graph, sources.Select(s => s.Name).ToHashSet())
            .ToModel(name => (ElementType.Float64, sources.Single(s => s.Name == name).Dims));
        Widen(model);
        foreach (AttributeProto to in model.Graph.Node.Where(n => n.OpType == "Cast").SelectMany(n => n.Attribute).Where(a => a.Name == "to" && ((ElementType)a.I).IsScalable()))
            to.I = (long)ElementType.Float64;
        using TemporaryFolder folder = new();
        string file = Path.Combine(folder.Path, "trace.onnx");
        File.WriteAllBytes(file, model.ToByteArray());
        try
        {
            using var runner = new ModelRunner(file, GraphOptimizationLevel.ORT_DISABLE_ALL, 1);
            double[] plain = Run(number => number), scrambled = Run(Scramble);
            var numbers = new long[plain.Length];
            long last = sources.Sum(s => s.Dims.Aggregate(1L, (a, b) => a * b));
            for (int i = 0; i < numbers.Length; i++)
            {
                numbers[i] = plain[i] >= 0 && plain[i] <= last ? (long)plain[i] : -1;
                if (numbers[i] != plain[i] || scrambled[i] != (numbers[i] == 0 ? 0 : Scramble(numbers[i])))
                    return null;
            }

            return numbers;

            double[] Run(Func<long, double> number)
            {
                var feeds = new Dictionary<string, TensorData>();
                long next = 1;
                foreach ((string name, long[] dims) in sources)
                {
                    var values = new double[dims.Aggregate(1L, (a, b) => a * b)];
                    for (int i = 0; i < values.Length; i++)
                        values[i] = number(next++);
                    if (runner.Inputs.Any(input => input.Name == name))
                        feeds[name] = TensorData.From<double>(ElementType.Float64, dims, values);
                }

                return runner.Run(feeds).Single().Data is { Type: ElementType.Float64 } result ? result.ToDoubles() : [double.NaN];
            }
        }
        catch (Exception e) when (e is OnnxRuntimeException or UnreadableModelException)
        {
            return null;
        }
    }

    // Another number for each: 52 bits, which float64 holds exactly.
    private static double Scramble(long number) => (double)((unchecked((ulong)number * 0x9E3779B97F4A7C15) >> 12) + 1);

    // Numbers beside the sources are compared and joined with them, which takes one type.
    private static void Widen(ModelProto model)
    {
        var owner = new OnnxModel(model);
        foreach (TensorProto tensor in model.Tensors().Select(place => place.Tensor).Where(t => ((ElementType)t.DataType).IsScalable()))
        {
            double[] values = s_evaluator.EvaluateUnrounded(owner.Data(tensor));
            TensorStorage.Clear(tensor);
            tensor.DataType = (int)ElementType.Float64;
            tensor.RawData = ByteString.CopyFrom(MemoryMarshal.AsBytes<double>(values));
        }
    }
}
