using OnnxMorph.Onnx;

namespace OnnxMorph.Graph;

/// <summary>
/// Gives back their own tensors to parameters that an exporter merged because they happened to be equal before training, as it does with the
/// biases and norms of an untrained network: <c>b = Identity(a) → b</c>, under its own name.
/// </summary>
internal static class SharedConstants
{
    /// <summary>Parts them in place.</summary>
    public static void Part(OnnxModel model)
    {
        GraphProto graph = model.Proto.Graph;
        var constants = graph.Initializer.ToDictionary(t => t.Name);
        var outputs = graph.Output.Select(o => o.Name).ToHashSet();
        foreach (NodeProto node in new ModelGraph(model).Nodes)
        {
            if (node.OpType != "Identity" || !ModelGraph.IsStandard(node) || outputs.Contains(node.Output[0]) || !constants.TryGetValue(node.Input[0], out TensorProto? shared))
                continue;
            var own = new TensorProto { Name = node.Output[0] };
            model.SetData(own, model.Data(shared));
            graph.Initializer.Add(own);
            constants[own.Name] = own;
            graph.Node.Remove(node);
            if (model.Proto.IrVersion < 4)
                graph.Input.Add(GraphEditor.ValueInfo(own.Name, model.Data(own).Type, model.Data(own).Shape));
        }
    }
}
