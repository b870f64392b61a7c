namespace OnnxMorph.Onnx;

/// <summary>
/// What every model must satisfy before a pass may look at it. Where the ONNX specification and ONNX Runtime differ, what
/// ONNX Runtime runs is accepted: the nodes of the main graph may stand in any order without cycles (those of subgraphs and
/// functions may not), and a subgraph may read values that the main graph defines later.
/// </summary>
internal static class ModelCheck
{
    /// <summary>Fails at the first inconsistency of <paramref name="model"/>.</summary>
    public static void Check(OnnxModel model)
    {
        ModelProto proto = model.Proto;
        if (proto.Graph is null)
            throw Bad("has no graph");
        if (!proto.HasIrVersion)
            throw Bad("does not say which version of ONNX it is of (ir_version)");
        if (proto.OpsetImport.Count == 0)
            throw Bad("does not say which operator set it uses (opset_import)");
        foreach (TensorPlace place in proto.Tensors())
            model.CheckTensor(place.Tensor, () => $"{model.Name}: {place}");

        var main = new Scope(null, proto.Graph.Node.SelectMany(node => node.Output));
        Require(Graph(proto.Graph, main, anyOrder: true));
        foreach (FunctionProto function in proto.Functions)
        {
            var scope = new Scope(null, function.Node.SelectMany(node => node.Output));
            foreach (string input in function.Input)
                Define(scope, input, $"an input of function '{function.Name}'");
            List<Use> free = Nodes(function.Node, scope, anyOrder: false);
            free.AddRange(function.Output.Where(output => !scope.Defined.Contains(output)).Select(output => new Use(output, () => $"function '{function.Name}' returns")));
            Require(free);
        }

        void Require(List<Use> free)
        {
            if (free.Count > 0)
                throw Bad($"is inconsistent: {free[0].Reader()} the value '{free[0].Name}', which nothing defines");
        }

        List<Use> Graph(GraphProto graph, Scope scope, bool anyOrder)
        {
            // An initializer may give an input its default value; every other name is defined once.
            foreach (ValueInfoProto input in graph.Input)
                Define(scope, input.Name, "a graph input");
            var initializers = new HashSet<string>();
            foreach (string name in graph.Initializer.Select(tensor => tensor.Name).Concat(graph.SparseInitializer.Select(sparse => sparse.Values?.Name ?? "")))
            {
                if (!initializers.Add(name))
                    throw Bad($"is inconsistent: two initializers are called '{name}'");
                scope.Defined.Add(name);
            }

            List<Use> free = Nodes(graph.Node, scope, anyOrder);
            free.AddRange(graph.Output.Where(output => !scope.Defined.Contains(output.Name)).Select(output => new Use(output.Name, () => $"graph '{graph.Name}' returns")));
            return free;
        }

        // Returns what the nodes read and the scope does not define. Afterwards the scope has all that they define.
        List<Use> Nodes(IReadOnlyList<NodeProto> nodes, Scope scope, bool anyOrder)
        {
            var free = new List<Use>();
            var early = new List<(int Node, string Name)>();
            for (int i = 0; i < nodes.Count; i++)
            {
                NodeProto node = nodes[i];
                foreach (Use use in Uses(node, scope))
                {
                    if (scope.Defined.Contains(use.Name))
                        continue;
                    if (!scope.Later.Contains(use.Name))
                        free.Add(use);
                    else if (anyOrder)
                        early.Add((i, use.Name));
                    else
                        throw Bad($"is not in topological order: {use.Reader()} the value '{use.Name}' before it is made");
                }

                foreach (string output in node.Output.Where(output => output != ""))
                {
                    if (scope.Outer is { } outer && outer.Sees(output))
                        throw Bad($"is inconsistent: {node.Describe()} defines '{output}' again, which the graph around it defines");
                    Define(scope, output, $"an output of {node.Describe()}");
                }
            }

            if (early.Count > 0)
                RequireAcyclic(nodes, scope);
            return free;
        }

        IEnumerable<Use> Uses(NodeProto node, Scope scope)
        {
            foreach (string input in node.Input.Where(input => input != ""))
                yield return new(input, () => $"{node.Describe()} reads");
            foreach (GraphProto graph in node.Subgraphs())
                foreach (Use use in Graph(graph, new Scope(scope, graph.Node.SelectMany(inner => inner.Output)), anyOrder: false))
                    yield return use;
        }

        // Kahn's algorithm: nodes whose inputs are all made, until none is left or none can go.
        void RequireAcyclic(IReadOnlyList<NodeProto> nodes, Scope scope)
        {
            Dictionary<string, int> makers = [];
            for (int i = 0; i < nodes.Count; i++)
                foreach (string output in nodes[i].Output.Where(output => output != ""))
                    makers[output] = i;
            var missing = new int[nodes.Count];
            List<int>[] readers = [.. nodes.Select(_ => new List<int>())];
            List<int>[] feeders = [.. nodes.Select(_ => new List<int>())];
            for (int i = 0; i < nodes.Count; i++)
            {
                foreach (string name in Uses(nodes[i], new Scope(null, [])).Select(use => use.Name).Distinct())
                {
                    if (!makers.TryGetValue(name, out int maker))
                        continue;
                    readers[maker].Add(i);
                    feeders[i].Add(maker);
                    missing[i]++;
                }
            }

            var ready = new Queue<int>(Enumerable.Range(0, nodes.Count).Where(i => missing[i] == 0));
            int done = 0;
            for (; ready.TryDequeue(out int node); done++)
                foreach (int reader in readers[node])
                    if (--missing[reader] == 0)
                        ready.Enqueue(reader);
            if (done == nodes.Count)
                return;
            int stuck = Array.FindIndex(missing, count => count > 0);
            for (int step = 0; step < nodes.Count; step++) // Upstream of a stuck node there is a cycle.
                stuck = feeders[stuck].Find(feeder => missing[feeder] > 0);
            throw Bad($"is inconsistent: {nodes[stuck].Describe()} depends on its own output");
        }

        void Define(Scope scope, string name, string what)
        {
            if (!scope.Defined.Add(name))
                throw Bad($"is inconsistent: '{name}', {what}, is defined twice");
        }

        UnreadableModelException Bad(string what) => new($"{model.Name} {what}; export the model again.");
    }

    /// <summary>A value that is read, and who reads it: "node 'n' (Add) reads".</summary>
    private readonly record struct Use(string Name, Func<string> Reader);

    /// <summary>The values of one graph while its nodes are walked.</summary>
    private sealed class Scope(Scope? outer, IEnumerable<string> later)
    {
        public Scope? Outer => outer;

        /// <summary>What is defined so far.</summary>
        public HashSet<string> Defined { get; } = [];

        /// <summary>What the nodes define, sooner or later.</summary>
        public HashSet<string> Later { get; } = [.. later];

        /// <summary>Whether <paramref name="name"/> is defined here or around.</summary>
        public bool Sees(string name) => Defined.Contains(name) || (outer?.Sees(name) ?? false);
    }
}
