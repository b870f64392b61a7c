using System.Text.RegularExpressions;
using OnnxMorph.Onnx;
using OnnxMorph.Recipes;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Testing;

/// <summary>
/// Makes a failing case small while it goes on failing in the same way: steps and options are left out, sizes that callers choose
/// are fixed, outputs and nodes are dropped, values become inputs.
/// </summary>
internal sealed partial class Shrinker
{
    private const int MostTrials = 400;

    private readonly string _failure;
    private RandomCase _case;
    private int _trials;

    private Shrinker(RandomCase failing, string failure) => (_case, _failure) = (failing, failure);

    /// <summary>How a case fails, without names and numbers; null where it holds, or where the parent itself does not run.</summary>
    public static string? Failure(RandomCase tried)
    {
        try
        {
            foreach (var sizes in tried.Net.Runs)
                Check.Run(tried.Net.Proto, Check.Feeds(tried.Net, sizes, seed: 1));
        }
        catch (Exception)
        {
            return null;
        }

        try
        {
            tried.Holds();
            return null;
        }
        catch (Exception e)
        {
            string message = Varying().Replace(e.Message.Split('\n')[0], "");
            return $"{e.GetType().Name} {message[..Math.Min(message.Length, 40)]}";
        }
    }

    /// <summary>The smallest case found, as the code of a test.</summary>
    public static string Shrink(RandomCase failing, string test)
    {
        if (Failure(failing) is not { } failure)
            return "It holds when it is tried again.";
        var shrinker = new Shrinker(failing, failure);
        while (shrinker.Pass())
            continue;
        NetSource source = NetSource.Of(shrinker._case, test);
        return Failure(source.Case) is null ? $"// These weights hold; the failing ones hold other numbers.\n{source.Code}" : source.Code;
    }

    [GeneratedRegex("'[^']*'|[0-9.+-]+|\\[[^]]*\\]|E?-?[0-9]+|[×,]")]
    private static partial Regex Varying();

    private bool Pass()
    {
        int before = _trials;
        bool any = Try(Steps()) | Try(Options()) | Try(FixedSizes()) | Try(Outputs()) | Try(Bypasses()) | Try(Cuts()) | Try(Undeclared());
        return any && _trials > before && _trials < MostTrials;
    }

    // Takes the first candidate that still fails, and begins again until none does.
    private bool Try(IEnumerable<RandomCase> candidates)
    {
        bool any = false;
        while (_trials < MostTrials)
        {
            RandomCase? smaller = candidates.Take(MostTrials - _trials).FirstOrDefault(c => ++_trials > 0 && Failure(c) == _failure);
            if (smaller is null)
                return any;
            (_case, any) = (smaller, true);
        }

        return any;
    }

    private IEnumerable<RandomCase> Steps()
    {
        RandomCase now = _case;
        for (int i = 0; i < now.Steps.Count && now.Steps.Count > 1; i++)
            yield return now with { Steps = [.. now.Steps.Where((_, at) => at != i)] };
    }

    private IEnumerable<RandomCase> Options()
    {
        RandomCase now = _case;
        for (int i = 0; i < now.Steps.Count; i++)
        {
            StepSpec spec = now.Steps[i].Spec;
            foreach (string option in spec.Options.Keys)
                yield return now with { Steps = [.. now.Steps.Select((s, at) => at != i ? s : s with { Spec = spec with { Options = spec.Options.Where(o => o.Key != option).ToDictionary() } })] };
        }
    }

    private IEnumerable<RandomCase> FixedSizes()
    {
        RandomCase now = _case;
        if (now.Net.Runs.Count <= 1)
            yield break;
        foreach (var run in now.Net.Runs)
        {
            ModelProto proto = now.Net.Proto.Clone();
            foreach (var dim in proto.Graph.Input.SelectMany(i => i.Type.TensorType.Shape.Dim).Where(d => d.HasDimParam))
                dim.DimValue = run[dim.DimParam];
            Net net = now.Net.With(proto);
            net.Runs.Clear();
            net.Runs.Add([]);
            yield return now with { Net = net };
        }
    }

    private IEnumerable<RandomCase> Outputs()
    {
        RandomCase now = _case;
        GraphProto graph = now.Net.Proto.Graph;
        for (int i = 0; i < graph.Output.Count && graph.Output.Count > 1; i++)
            yield return Edited(now, g => g.Output.RemoveAt(i));
        // An earlier value in the place of all outputs.
        foreach (string value in graph.Node.SelectMany(n => n.Output).Where(o => graph.Output.Count > 1 || o != graph.Output[0].Name))
            yield return Edited(now, g =>
            {
                g.Output.Clear();
                g.Output.Add(new ValueInfoProto { Name = value });
            });
    }

    // Nodes whose result is as large as something that they read.
    private IEnumerable<RandomCase> Bypasses()
    {
        RandomCase now = _case;
        Dictionary<string, Array> values = Run(now, 0);
        foreach (NodeProto node in now.Net.Proto.Graph.Node.Where(n => n.Output.Count == 1 && n.OpType != "Constant"))
            foreach (string input in node.Input.Where(i => values.TryGetValue(i, out Array? from) && values.TryGetValue(node.Output[0], out Array? to)
                && from.Type == to.Type && from.Shape.SequenceEqual(to.Shape)))
                yield return Edited(now, g =>
                {
                    g.Node.Remove(g.Node.Single(n => n.Output[0] == node.Output[0]));
                    Rename(g, node.Output[0], input);
                });
    }

    // Values that become inputs, the last ones first.
    private IEnumerable<RandomCase> Cuts()
    {
        RandomCase now = _case;
        Dictionary<string, Array>[] runs = [.. Enumerable.Range(0, now.Net.Runs.Count).Select(r => Run(now, r))];
        foreach (NodeProto node in now.Net.Proto.Graph.Node.Where(n => n.OpType != "Constant").Reverse())
        {
            foreach (string value in node.Output)
            {
                if (!runs[0].TryGetValue(value, out Array? first) || first.Type is not (ElementType.Float32 or ElementType.Float64))
                    continue;
                object[] shape = [.. first.Shape.Select((size, axis) => runs.All(r => r[value].Shape[axis] == size) ? size
                    : (object)(now.Net.Runs[0].Keys.FirstOrDefault(s => runs.Zip(now.Net.Runs).All(r => r.First[value].Shape[axis] == r.Second[s])) ?? ""))];
                if (shape.Contains("") || now.Net.Proto.Graph.Output.Any(o => o.Name == value) && now.Net.Proto.Graph.Output.Count == 1)
                    continue;
                yield return Edited(now, g =>
                {
                    NodeProto maker = g.Node.Single(n => n.Output.Contains(value));
                    maker.Output[maker.Output.IndexOf(value)] = $"{value}_cut";
                    g.Input.Add(Net.Value(value, first.Type, shape));
                });
            }
        }
    }

    private IEnumerable<RandomCase> Undeclared()
    {
        RandomCase now = _case;
        if (now.Net.Proto.Graph.ValueInfo.Count > 0)
            yield return Edited(now, g => g.ValueInfo.Clear());
    }

    private static Dictionary<string, Array> Run(RandomCase now, int run)
    {
        var feeds = Check.Feeds(now.Net, now.Net.Runs[run], seed: 1);
        return Check.Run(now.Net.Proto, feeds).Concat(feeds).ToDictionary();
    }

    private static void Rename(GraphProto graph, string from, string to)
    {
        foreach (NodeProto node in graph.Node)
            for (int i = 0; i < node.Input.Count; i++)
                if (node.Input[i] == from)
                    node.Input[i] = to;
        foreach (ValueInfoProto output in graph.Output)
            if (output.Name == from)
                output.Name = to;
    }

    // An edit, and with it everything that nothing reads any more.
    private static RandomCase Edited(RandomCase now, Action<GraphProto> edit)
    {
        ModelProto proto = now.Net.Proto.Clone();
        GraphProto graph = proto.Graph;
        edit(graph);
        var read = graph.Output.Select(o => o.Name).ToHashSet();
        for (int n = graph.Node.Count - 1; n >= 0; n--)
        {
            if (graph.Node[n].Output.Any(read.Contains))
                read.UnionWith(graph.Node[n].Input);
            else
                graph.Node.RemoveAt(n);
        }

        HashSet<string> made = [.. graph.Node.SelectMany(n => n.Output)];
        Keep(graph.Initializer, t => read.Contains(t.Name));
        Keep(graph.Input, i => read.Contains(i.Name));
        Keep(graph.ValueInfo, v => made.Contains(v.Name));
        return now with { Net = now.Net.With(proto) };

        static void Keep<T>(IList<T> list, Func<T, bool> keeps)
        {
            for (int i = list.Count - 1; i >= 0; i--)
                if (!keeps(list[i]))
                    list.RemoveAt(i);
        }
    }
}
