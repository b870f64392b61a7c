using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Operators;

namespace OnnxMorph.Transfer.Containment;

/// <summary>Values of the target that are made one number everywhere: 0 for what is added, 1 for what is multiplied.</summary>
internal partial class ContainmentSearch
{
    // f(0) = 0, or elements are only moved or averaged.
    private static readonly HashSet<string> s_passesNumbers =
    [
        "AveragePool", "Cast", "DepthToSpace", "Dropout", "Expand", "Flatten", "GlobalAveragePool", "GlobalMaxPool", "Identity", "MaxPool", "ReduceMean", "ReduceMax",
        "Reshape", "Resize", "Slice", "SpaceToDepth", "Split", "Squeeze", "Tile", "Transpose", "Unsqueeze", "Upsample",
    ];

    private IEnumerable<Derivation> Constant(int n, string value, double number)
    {
        NodeProto node = _target.Graph.Nodes[n];
        if (LayerView.Of(_target, value) is { } layer)
        {
            if (Set(new Use(layer.Node, layer.Layer.WeightInput), 0) is { } zero && (layer.Bias is not null || number == 0)
                && (layer.Bias is { } bias ? Set(bias, number) : []) is { } offset)
                yield return new Derivation() { Starts = [.. zero, .. offset] };
            yield break;
        }

        bool norm = OperatorRules.For(node) is BatchNormalizationRule or LayerNormalizationRule or GroupNormalizationRule or InstanceNormalizationRule;
        if (norm)
        {
            bool biased = node.Input.Count > 2 && node.Input[2].Length > 0;
            if (!IsActivation(node.Input[1]) && Set(new Use(n, 1), 0) is { } scale && (biased || number == 0) && (biased ? Set(new Use(n, 2), number) : []) is { } offset)
                yield return new Derivation() { Starts = [.. scale, .. offset] };
            yield break;
        }

        string x = node.Input.FirstOrDefault(i => i.Length > 0 && IsActivation(i)) ?? "";
        switch (Name(node))
        {
            case "Add" or "Sum":
                foreach (Derivation way in Sum(n, node, number))
                    yield return way;
                break;
            case "Mul" or "MatMul" or "Einsum":
                foreach (Derivation way in Product(n, node, number))
                    yield return way;
                break;
            case "Div" when node.Input[0] == x && Number(node.Input[1]) is { } by:
                yield return Of(x, number * by);
                break;
            case "Div" when node.Input[0] == x && number == 0:
                yield return Of(x, 0);
                break;
            case "Sigmoid" when number is > 0 and < 1:
                yield return Of(x, Math.Log(number / (1 - number)));
                break;
            case "HardSigmoid" when number is > 0 and < 1:
                NodeAxes? axes = _target.Analysis.Node(n);
                yield return Of(x, (number - (axes?.Attribute("beta")?.F ?? 0.5f)) / (axes?.Attribute("alpha")?.F ?? 0.2f));
                break;
            case "Tanh" when Math.Abs(number) < 1:
                yield return Of(x, Math.Atanh(number));
                break;
            case "Relu" or "PRelu" or "LeakyRelu" or "Abs" when number >= 0:
                yield return Of(x, number);
                break;
            case "Elu" or "Celu" or "Selu" or "Gelu" or "Erf" or "HardSwish" or "Mish" or "Swish" or "Softsign" or "Neg" or "Sin" or "com.microsoft:Gelu" or "com.microsoft:QuickGelu" when number == 0:
                yield return Of(x, 0);
                break;
            case "Concat" when node.Input.All(IsActivation):
                yield return new Derivation([.. node.Input.Select(input => (input, (ValueRole)new Holds(number)))]);
                break;
            case var name when s_passesNumbers.Contains(name) && node.Input[0] == x && (number == 0 || name is not "AveragePool"):
                yield return Of(x, number);
                break;
        }
    }

    private static Derivation Of(string value, double number) => new((value, new Holds(number)));

    private IEnumerable<Derivation> Sum(int n, NodeProto node, double number)
    {
        // The number stands in what can hold it, and the rest is zero.
        for (int i = 0; i < node.Input.Count; i++)
        {
            var needs = new List<(string, ValueRole)>();
            var starts = new List<(Use, WeightStart)>();
            bool possible = true;
            for (int j = 0; j < node.Input.Count && possible; j++)
            {
                double part = j == i ? number : 0;
                if (IsActivation(node.Input[j]))
                    needs.Add((node.Input[j], new Holds(part)));
                else if (Set(new Use(n, j), part) is { } set)
                    starts.AddRange(set);
                else
                    possible = false;
            }

            if (possible)
                yield return new Derivation([.. needs]) { Starts = starts };
            if (number == 0)
                yield break;
        }
    }

    private IEnumerable<Derivation> Product(int n, NodeProto node, double number)
    {
        for (int i = node.Input.Count - 1; i >= 0; i--)
        {
            string factor = node.Input[i];
            if (number == 0)
            {
                // One factor is enough.
                if (IsActivation(factor))
                    yield return Of(factor, 0);
                else if (Set(new Use(n, i), 0) is { } zero)
                    yield return new Derivation() { Starts = zero };
            }
            else if (Name(node) == "Mul" && node.Input.Count == 2 && IsActivation(factor))
            {
                string other = node.Input[1 - i];
                if (IsActivation(other))
                    yield return new Derivation((factor, new Holds(number)), (other, new Holds(1)));
                else if (Number(other) is { } by && by != 0)
                    yield return Of(factor, number / by);
                else if (Set(new Use(n, 1 - i), 1) is { } one)
                    yield return new Derivation((factor, new Holds(number))) { Starts = one };
            }
        }
    }
}
