namespace OnnxMorph.Onnx;

/// <summary>The messages on the way from a model to its tensors; <see cref="Other"/> is any that holds no tensor.</summary>
internal enum MessageKind : byte
{
    Other,
    Model,
    TrainingInfo,
    Graph,
    Function,
    Node,
    Attribute,
    SparseTensor,
    Tensor,
}

/// <summary>Which fields lead to a tensor: all that reader and writer need to know of the schema.</summary>
internal static class MessageKinds
{
    /// <summary>The kind of message that <paramref name="field"/> of a message of <paramref name="kind"/> holds.</summary>
    public static MessageKind Child(this MessageKind kind, int field) => (kind, field) switch
    {
        (MessageKind.Model, ModelProto.GraphFieldNumber) => MessageKind.Graph,
        (MessageKind.Model, ModelProto.TrainingInfoFieldNumber) => MessageKind.TrainingInfo,
        (MessageKind.Model, ModelProto.FunctionsFieldNumber) => MessageKind.Function,
        (MessageKind.TrainingInfo, TrainingInfoProto.InitializationFieldNumber) => MessageKind.Graph,
        (MessageKind.TrainingInfo, TrainingInfoProto.AlgorithmFieldNumber) => MessageKind.Graph,
        (MessageKind.Graph, GraphProto.NodeFieldNumber) => MessageKind.Node,
        (MessageKind.Graph, GraphProto.InitializerFieldNumber) => MessageKind.Tensor,
        (MessageKind.Graph, GraphProto.SparseInitializerFieldNumber) => MessageKind.SparseTensor,
        (MessageKind.Function, FunctionProto.NodeFieldNumber) => MessageKind.Node,
        (MessageKind.Function, FunctionProto.AttributeProtoFieldNumber) => MessageKind.Attribute,
        (MessageKind.Node, NodeProto.AttributeFieldNumber) => MessageKind.Attribute,
        (MessageKind.Attribute, AttributeProto.TFieldNumber) => MessageKind.Tensor,
        (MessageKind.Attribute, AttributeProto.TensorsFieldNumber) => MessageKind.Tensor,
        (MessageKind.Attribute, AttributeProto.GFieldNumber) => MessageKind.Graph,
        (MessageKind.Attribute, AttributeProto.GraphsFieldNumber) => MessageKind.Graph,
        (MessageKind.Attribute, AttributeProto.SparseTensorFieldNumber) => MessageKind.SparseTensor,
        (MessageKind.Attribute, AttributeProto.SparseTensorsFieldNumber) => MessageKind.SparseTensor,
        (MessageKind.SparseTensor, SparseTensorProto.ValuesFieldNumber) => MessageKind.Tensor,
        (MessageKind.SparseTensor, SparseTensorProto.IndicesFieldNumber) => MessageKind.Tensor,
        _ => MessageKind.Other,
    };

    /// <summary>Whether <paramref name="field"/> of a tensor holds numbers in one length-delimited run.</summary>
    public static bool IsPayload(int field) => field is TensorProto.RawDataFieldNumber
        or TensorProto.FloatDataFieldNumber or TensorProto.DoubleDataFieldNumber
        || IsVarintPayload(field);

    /// <summary>Whether <paramref name="field"/> of a tensor holds numbers of varying length, which are not raw layout.</summary>
    public static bool IsVarintPayload(int field) => field is TensorProto.Int32DataFieldNumber
        or TensorProto.Int64DataFieldNumber or TensorProto.Uint64DataFieldNumber;
}
