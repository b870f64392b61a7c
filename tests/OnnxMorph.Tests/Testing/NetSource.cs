using System.Globalization;
using System.Runtime.InteropServices;
using System.Text;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Testing;

/// <summary>A case written as the C# of a test, and the case that this test checks: weights are drawn anew as <see cref="Net"/> draws them.</summary>
internal sealed class NetSource
{
    private readonly StringBuilder _code = new();
    private readonly Dictionary<string, (string Code, string Name)> _values = [];
    private readonly Dictionary<string, string> _names = [];
    private readonly GraphProto _graph;
    private readonly Net _net;
    private int _variables;

    private NetSource(RandomCase drawn, string test)
    {
        ModelProto proto = drawn.Net.Proto;
        _graph = proto.Graph;
        int opset = (int)proto.OpsetImport[0].Version, ir = (int)proto.IrVersion;
        _net = new Net(drawn.Net.Type, opset, ir: ir);
        _net.Runs.AddRange(drawn.Net.Runs);
        string[] symbols = [.. _graph.Input.SelectMany(i => i.Type.TensorType.Shape.Dim).Select(d => d.DimParam).Where(d => d.Length > 0).Distinct()];
        string runs = symbols.Length == 0 ? "" : $" {{ Runs = {{ {string.Join(", ", _net.Runs.Select(run => $"new() {{ {string.Join(", ", symbols.Select(s => $"[\"{s}\"] = {run[s]}"))} }}"))} }} }}";
        Line($"[Fact]\n    public void {test}()\n    {{");
        Line($"    var net = new Net(ElementType.{drawn.Net.Type}, {opset}, ir: {ir}){runs};");
        var initializers = _graph.Initializer.ToDictionary(t => t.Name);
        foreach (ValueInfoProto input in _graph.Input.Where(i => !initializers.ContainsKey(i.Name)))
        {
            object[] shape = [.. input.Type.TensorType.Shape.Dim.Select(d => d.HasDimValue ? (object)d.DimValue : d.DimParam)];
            var type = (ElementType)input.Type.TensorType.ElemType;
            Make(input.Name, $"net.Input(\"{input.Name}\", ElementType.{type}, {string.Join(", ", shape.Select(s => s is string ? $"\"{s}\"" : s))})", _net.Input(input.Name, type, shape));
            if (drawn.Net.Vocabulary.TryGetValue(input.Name, out int words))
            {
                _net.Vocabulary[input.Name] = words;
                Line($"    net.Vocabulary[\"{input.Name}\"] = {words};");
            }
        }

        HashSet<string> referred = [.. drawn.Steps.SelectMany(s => s.Spec.Options.Values.Append(s.Spec.Selector))];
        foreach (NodeProto node in _graph.Node)
            Add(node, initializers, referred);
        foreach (ValueInfoProto output in _graph.Output)
        {
            _net.Output(_values[output.Name].Name);
            Line($"    net.Output({_values[output.Name].Code});");
        }

        if (_graph.ValueInfo.Count > 0)
        {
            _net.DeclareSizes();
            Line("    net.DeclareSizes();");
        }

        SeededStep[] steps = [.. drawn.Steps.Select(s => s with
        {
            Spec = s.Spec with { Selector = Renamed(s.Spec.Selector), Options = s.Spec.Options.ToDictionary(o => o.Key, o => Renamed(o.Value)) },
        })];
        Line($"    RandomCase.Hold(net{(drawn.InDouble ? "" : ", inDouble: false")}, {string.Join(", ", steps.Select(s => $"(\"{s.Spec}\", {s.Seed})"))});\n    }}");
        Case = drawn with { Net = _net, Steps = steps };
    }

    /// <summary>The case that the code checks.</summary>
    public RandomCase Case { get; }

    /// <summary>The code of a test.</summary>
    public string Code => _code.ToString();

    public static NetSource Of(RandomCase drawn, string test) => new(drawn, test);

    private string Renamed(string name) => _names.GetValueOrDefault(name, name);

    private void Line(string line) => _code.Append("    ").Append(line).Append('\n');

    private void Make(string value, string code, string name)
    {
        string variable = $"v{++_variables}";
        Line($"    string {variable} = {code};");
        _values[value] = (variable, name);
    }

    private void Add(NodeProto node, Dictionary<string, TensorProto> initializers, HashSet<string> referred)
    {
        if (node.OpType == "Constant")
        {
            TensorProto tensor = node.Attribute[0].T;
            (string constant, string made) = Initializer(tensor, isScales: false);
            Make(node.Output[0], $"net.AsConstantNode({constant})", _net.AsConstantNode(made));
            return;
        }

        // Weights that more than one node reads get a variable, others stand where they are read.
        foreach (string input in node.Input.Distinct().Where(i => initializers.ContainsKey(i) && !_values.ContainsKey(i)))
        {
            if (_graph.Node.Sum(n => n.Input.Count(i => i == input)) == 1)
                continue;
            (string code, string name) = Initializer(initializers[input], isScales: false);
            Make(input, code, name);
        }

        (string Code, string Name)[] inputs = [.. node.Input.Select((input, i) => input.Length == 0 ? ("\"\"", "")
            : _values.TryGetValue(input, out var value) ? value : Initializer(initializers[input], node.OpType == "Resize"))];
        string? rename = null;
        string own = ModelGraph.NameOf(node);
        if (referred.Contains(own) && node.Name.Length > 0)
            _names[own] = rename = $"{node.OpType.ToLowerInvariant()}_{(char)('a' + _names.Count)}";
        string op = node.Domain.Length > 0 ? $"{node.Domain}:{node.OpType}" : node.OpType;
        string attributes = node.Attribute.Count == 0 ? "" : $", new {{ {string.Join(", ", node.Attribute.Select(Attribute))} }}";
        string arguments = $"[{string.Join(", ", inputs.Select(i => i.Code))}]{attributes}{(rename is null ? "" : $", name: \"{rename}\"")}";
        string[] outputs = _net.Ops(op, node.Output.Count, [.. inputs.Select(i => i.Name)], null, rename);
        _net.Last.Attribute.AddRange(node.Attribute.Select(a => a.Clone()));
        if (outputs.Length == 1)
        {
            Make(node.Output[0], $"net.Op(\"{op}\", {arguments})", outputs[0]);
            return;
        }

        string several = $"v{++_variables}";
        Line($"    string[] {several} = net.Ops(\"{op}\", {outputs.Length}, {arguments});");
        for (int i = 0; i < outputs.Length; i++)
            _values[node.Output[i]] = ($"{several}[{i}]", outputs[i]);
    }

    private (string Code, string Name) Initializer(TensorProto tensor, bool isScales)
    {
        var type = (ElementType)tensor.DataType;
        long[] shape = [.. tensor.Dims];
        string sizes = string.Join(", ", shape);
        if (type == ElementType.Int64)
        {
            long[] ints = [.. MemoryMarshal.Cast<byte, long>(tensor.RawData.Span)];
            string list = string.Join(", ", ints);
            return shape.Length == 0 ? ($"net.Int({list})", _net.Int(ints[0]))
                : shape.Length == 1 ? ($"net.Ints({list})", _net.Ints(ints)) : ($"net.IntsOf([{sizes}], [{list}])", _net.IntsOf(shape, ints));
        }

        double[] values = Numbers.Decode(type, tensor.RawData.Span);
        if (isScales)
            return ($"net.Floats({string.Join(", ", values.Select(Number))})", _net.Floats(values));
        if (values.Distinct().Count() == 1)
            return ($"net.Filled({Number(values[0])}{(shape.Length > 0 ? $", {sizes}" : "")})", _net.Filled(values[0], shape));
        if (values.All(v => v is >= 0.5 and < 1.5))
            return ($"net.Positive({sizes})", _net.Positive(shape));
        return ($"net.Weight([{sizes}])", _net.Weight(shape));
    }

    private static string Attribute(AttributeProto attribute) => $"{attribute.Name} = " + attribute.Type switch
    {
        AttributeProto.Types.AttributeType.Int => $"{attribute.I}",
        AttributeProto.Types.AttributeType.Float => $"{Number(attribute.F)}{(attribute.F == Math.Floor(attribute.F) ? ".0" : "")}",
        AttributeProto.Types.AttributeType.String => $"\"{attribute.S.ToStringUtf8()}\"",
        AttributeProto.Types.AttributeType.Ints => $"new[] {{ {string.Join(", ", attribute.Ints)} }}",
        _ => throw new ArgumentException($"{attribute}"),
    };

    private static string Number(double value) => value.ToString("r", CultureInfo.InvariantCulture);

    private static string Number(float value) => value.ToString("r", CultureInfo.InvariantCulture);
}
