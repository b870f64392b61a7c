using OnnxMorph.Onnx;

namespace OnnxMorph.Graph;

/// <summary>
/// Replaces calls of a model's local functions by the functions' nodes, so that passes see what the network does:
/// <c>y = f(x; a) → the nodes of f with x for its input, a for its attribute and names of their own for its inner values</c>.
/// Functions that something inside a subgraph still calls are kept.
/// </summary>
public static class FunctionInliner
{
    /// <summary>Inlines the calls in the main graph, nested ones too, in place.</summary>
    public static void Inline(OnnxModel model)
    {
        if (model.Proto.Functions.Count == 0)
            return;
        var functions = new Dictionary<(string Domain, string Name, string Overload), FunctionProto>();
        foreach (FunctionProto function in model.Proto.Functions)
            functions.TryAdd((function.Domain, function.Name, function.Overload), function);
        var graph = new ModelGraph(model);
        var nodes = new List<NodeProto>();
        // A function may call others; the reader has refused those that call themselves.
        foreach (NodeProto node in graph.Nodes)
            Expand(node);
        model.Proto.Graph.Node.Clear();
        model.Proto.Graph.Node.AddRange(nodes);
        foreach (FunctionProto function in model.Proto.Functions)
            foreach (OperatorSetIdProto opset in function.OpsetImport)
                if (model.Proto.OpsetImport.All(o => o.Domain != opset.Domain))
                    model.Proto.OpsetImport.Add(opset.Clone());

        var called = nodes.SelectMany(Inner).Select(n => (n.Domain, n.OpType, n.Overload)).ToHashSet();
        if (!functions.Keys.Any(called.Contains))
            model.Proto.Functions.Clear();

        void Expand(NodeProto node)
        {
            // A function may be written for other operator sets than the model's; its nodes would then mean something else here.
            if (!functions.TryGetValue((node.Domain, node.OpType, node.Overload), out FunctionProto? function) || !SameOpsets(model.Proto, function))
            {
                nodes.Add(node);
                return;
            }

            string caller = ModelGraph.NameOf(node);
            var names = new Dictionary<string, string> { [""] = "" };
            for (int i = 0; i < function.Input.Count; i++)
                names[function.Input[i]] = i < node.Input.Count ? node.Input[i] : "";
            // ONNX Runtime takes no function that hands an input through or gives a value twice.
            for (int i = 0; i < function.Output.Count; i++)
                if (i < node.Output.Count && node.Output[i].Length > 0)
                    names[function.Output[i]] = node.Output[i];
            var attributes = function.AttributeProto.Concat(node.Attribute).GroupBy(a => a.Name).ToDictionary(g => g.Key, g => g.Last());
            foreach (NodeProto inner in function.Node)
            {
                NodeProto copy = inner.Clone();
                copy.Name = graph.NewName($"{caller}/{ModelGraph.NameOf(inner)}");
                Rename(copy, names, caller);
                Bind(copy, attributes);
                Expand(copy);
            }
        }

        // Values of the function that no caller names get names of their own, in subgraphs too.
        void Rename(NodeProto node, Dictionary<string, string> names, string caller)
        {
            for (int i = 0; i < node.Output.Count; i++)
                node.Output[i] = NameFor(node.Output[i]);
            for (int i = 0; i < node.Input.Count; i++)
                node.Input[i] = NameFor(node.Input[i]);
            foreach (GraphProto subgraph in node.Subgraphs())
            {
                foreach (NodeProto inner in subgraph.Node)
                    Rename(inner, names, caller);
                foreach (ValueInfoProto value in subgraph.Input.Concat(subgraph.Output).Concat(subgraph.ValueInfo))
                    value.Name = NameFor(value.Name);
                foreach (TensorProto tensor in subgraph.Initializer)
                    tensor.Name = NameFor(tensor.Name);
            }

            string NameFor(string name)
            {
                if (!names.TryGetValue(name, out string? own))
                    names[name] = own = graph.NewName($"{caller}/{name}");
                return own;
            }
        }
    }

    private static bool SameOpsets(ModelProto model, FunctionProto function) =>
        function.OpsetImport.All(o => model.OpsetImport.FirstOrDefault(m => m.Domain == o.Domain) is not { } own || own.Version == o.Version);

    // Attributes that refer to the function's get the caller's value; where neither caller nor function has one, none.
    private static void Bind(NodeProto node, Dictionary<string, AttributeProto> attributes)
    {
        foreach (AttributeProto attribute in node.Attribute.ToList())
        {
            if (attribute.RefAttrName.Length == 0)
                continue;
            int at = node.Attribute.IndexOf(attribute);
            node.Attribute.RemoveAt(at);
            if (!attributes.TryGetValue(attribute.RefAttrName, out AttributeProto? value))
                continue;
            AttributeProto bound = value.Clone();
            bound.Name = attribute.Name;
            node.Attribute.Insert(at, bound);
        }

        foreach (NodeProto inner in node.Subgraphs().SelectMany(g => g.Node))
            Bind(inner, attributes);
    }

    private static IEnumerable<NodeProto> Inner(NodeProto node) =>
        node.Subgraphs().SelectMany(g => g.Node).SelectMany(Inner).Prepend(node);
}
