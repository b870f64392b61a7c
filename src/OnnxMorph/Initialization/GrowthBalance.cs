using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;
using OnnxMorph.Weights;

namespace OnnxMorph.Initialization;

/// <summary>
/// Factors α of weights under which a network computes what it did. Every value carries a factor, a linear form in log α: layers multiply,
/// sums and concatenations want one factor of all they join, and it is 1 at the network's inputs and outputs and on both sides of whatever is not
/// positively homogeneous; norms are among these, so that it holds with the statistics of a batch and with running ones, whatever ε. Of the
/// factors that meet these conditions those nearest to the ones wanted are chosen, Σ (log α − log α*)² least: along a chain of layers between two
/// such ends that is α² = κ / (Πκ)^(1/L) where α*² = κ.
/// </summary>
internal sealed class GrowthBalance
{
    private readonly AxisAnalysis _analysis;
    private readonly IReadOnlyDictionary<Constant, int> _layers;
    private readonly Func<Use, bool> _isZero;

    // No entry is the factor 1; null is a value of zeros, which has any.
    private readonly Dictionary<string, Dictionary<int, double>?> _factors = [];
    private readonly Dictionary<string, (Dictionary<int, double> Form, string Where)> _conditions = [];
    private readonly Dictionary<Constant, bool> _zeros = [];

    private GrowthBalance(AxisAnalysis analysis, IReadOnlyDictionary<Constant, int> layers, Func<Use, bool> isZero) =>
        (_analysis, _layers, _isZero) = (analysis, layers, isZero);

    /// <summary>log α of each layer, and where α can only be 1 although another is wanted, what holds it.</summary>
    /// <param name="analysis">The graph.</param>
    /// <param name="layers">Numbers of the constants that may be scaled.</param>
    /// <param name="isZero">Whether a constant that is read somewhere is initialised to zeros.</param>
    /// <param name="wanted">log α* of each.</param>
    public static (double[] Logs, string?[] Held) Solve(AxisAnalysis analysis, IReadOnlyDictionary<Constant, int> layers, Func<Use, bool> isZero, double[] wanted)
    {
        var balance = new GrowthBalance(analysis, layers, isZero);
        balance.Follow();
        return balance.Nearest(wanted);
    }

    private void Follow()
    {
        ModelGraph graph = _analysis.Graph;
        for (int n = 0; n < graph.Nodes.Count; n++)
        {
            NodeProto node = graph.Nodes[n];
            Dictionary<int, double>?[] inputs = [.. node.Input.Select((value, i) => value.Length == 0 || !IsFloat(value) ? [] : Factor(value, new Use(n, i)))];
            NodeAxes? axes = _analysis.Node(n);
            Homogeneity? scaling = axes is { Unknown: null } ? OperatorRules.For(node)?.Scaling(axes) : null;
            Dictionary<int, double>? result = scaling is null ? [] : Result(scaling, inputs);
            string where = ModelGraph.Describe(node);
            for (int i = 0; i < inputs.Length; i++)
            {
                if (scaling is not null && scaling.Factors.Any(f => f.Input == i))
                    continue;
                if (scaling is not null && scaling.Added.Contains(i))
                    Demand(inputs[i], result, where);
                else
                    Demand(inputs[i], [], where);
            }

            foreach (string output in node.Output.Where(o => o.Length > 0))
            {
                if (result is null || result.Count > 0)
                    _factors[output] = result;
                if (graph.IsOutput(output))
                    Demand(result, [], $"output '{output}'");
                if (graph.CapturedBy(output) is { } reader)
                    Demand(result, [], ModelGraph.Describe(graph.Nodes[reader]));
            }
        }

        foreach (Constant constant in _layers.Keys.Where(c => graph.IsReadElsewhere(c.Name)))
            Demand(new() { [_layers[constant]] = 1 }, [], graph.IsOutput(constant.Name) ? $"output '{constant.Name}'" : "a subgraph");
    }

    // Shape arithmetic has no factors.
    private bool IsFloat(string value) => _analysis.Graph.ConstantOf(value)?.Type.IsScalable() ?? _analysis.Shapes.Type(value) is var type && (type == ElementType.Undefined || type.IsScalable());

    private Dictionary<int, double>? Factor(string value, Use use)
    {
        if (_analysis.Graph.ConstantOf(value) is not { } constant)
            return _factors.TryGetValue(value, out var factor) ? factor : [];
        if (_layers.TryGetValue(constant, out int layer))
            return new() { [layer] = 1 };
        return _isZero(use) || HoldsZeros(constant) ? null : [];
    }

    // A maximum with 0, a sum with a bias of zeros: they are what they are at any factor.
    private bool HoldsZeros(Constant constant)
    {
        const int Most = 1 << 16;
        if (!_zeros.TryGetValue(constant, out bool zeros))
            _zeros[constant] = zeros = constant.Count <= Most && ConstantValues.Of(_analysis.Graph, constant).All(v => v == 0);
        return zeros;
    }

    private static Dictionary<int, double>? Result(Homogeneity scaling, Dictionary<int, double>?[] inputs)
    {
        if (scaling.Factors.Count == 0)
            return scaling.Added.Where(i => i < inputs.Length).Select(i => inputs[i]).FirstOrDefault(f => f is not null);
        var result = new Dictionary<int, double>();
        foreach ((int input, double degree) in scaling.Factors.Where(f => f.Degree != 0 && f.Input < inputs.Length))
        {
            if (inputs[input] is not { } factor)
                return null;
            foreach ((int layer, double power) in factor)
                result[layer] = result.GetValueOrDefault(layer) + degree * power;
        }

        foreach (int layer in result.Where(r => r.Value == 0).Select(r => r.Key).ToList())
            result.Remove(layer);
        return result;
    }

    private void Demand(Dictionary<int, double>? left, Dictionary<int, double>? right, string where)
    {
        if (left is null || right is null || ReferenceEquals(left, right))
            return;
        var form = new Dictionary<int, double>(left);
        foreach ((int layer, double power) in right)
            form[layer] = form.GetValueOrDefault(layer) - power;
        foreach (int layer in form.Where(f => f.Value == 0).Select(f => f.Key).ToList())
            form.Remove(layer);
        if (form.Count > 0)
            _conditions.TryAdd(string.Join(' ', form.OrderBy(f => f.Key)), (form, where));
    }

    // The projection onto the forms' common kernel: an orthonormal basis of what they span is taken away, twice for each (Gram and Schmidt).
    private (double[], string?[]) Nearest(double[] wanted)
    {
        const double Dependent = 1e-9;
        int count = wanted.Length;
        double mean = count == 0 ? 0 : wanted.Average();
        double[] logs = [.. wanted.Select(w => w - mean)];
        var basis = new List<double[]>();
        foreach ((Dictionary<int, double> form, _) in _conditions.Values.OrderBy(c => c.Form.Count))
        {
            var row = new double[count];
            foreach ((int layer, double power) in form)
                row[layer] = power;
            double size = Math.Sqrt(Dot(row, row));
            for (int pass = 0; pass < 2; pass++)
                foreach (double[] other in basis)
                    Subtract(row, other, Dot(row, other));
            double left = Math.Sqrt(Dot(row, row));
            if (left < Dependent * size)
                continue;
            for (int i = 0; i < count; i++)
                row[i] /= left;
            basis.Add(row);
        }

        foreach (double[] row in basis)
            Subtract(logs, row, Dot(logs, row));
        var held = new string?[count];
        for (int layer = 0; layer < count; layer++)
        {
            // Its own axis lies in what the conditions span: no other layer could make it good.
            if (1 - basis.Sum(row => row[layer] * row[layer]) > Dependent)
                continue;
            logs[layer] = 0;
            if (Math.Abs(wanted[layer] - mean) > Dependent)
                held[layer] = _conditions.Values.Where(c => c.Form.ContainsKey(layer)).OrderBy(c => c.Form.Count).Select(c => c.Where).FirstOrDefault();
        }

        return (logs, held);
    }

    private static double Dot(double[] left, double[] right)
    {
        double sum = 0;
        for (int i = 0; i < left.Length; i++)
            sum += left[i] * right[i];
        return sum;
    }

    private static void Subtract(double[] from, double[] row, double factor)
    {
        for (int i = 0; i < from.Length; i++)
            from[i] -= factor * row[i];
    }
}
