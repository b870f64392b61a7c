using Google.Protobuf;
using OnnxMorph.Kernels;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Shapes;

/// <summary>
/// One floating-point type in place of another, in a skeleton that is loaded for its shapes alone: ONNX Runtime's CPU kernels take few
/// operators in bfloat16 and no convolution in float64, and a model with an operator that has no kernel does not load.
/// </summary>
/// <param name="From">The model's type.</param>
/// <param name="To">What stands in, which the model does not have itself, so that one can be told from the other.</param>
internal sealed record StandInType(ElementType From, ElementType To)
{
    private static readonly StandInType[] s_all = [new(ElementType.BFloat16, ElementType.Float16), new(ElementType.Float64, ElementType.Float32)];

    private static readonly WeightEvaluator s_evaluator = new();

    /// <summary>What can stand in for a type of the model; null where nothing can.</summary>
    public static StandInType? For(OnnxModel model) => s_all.FirstOrDefault(type => Uses(model.Proto, type.From) && !Uses(model.Proto, type.To));

    /// <summary>The model's type of a value that has a type in the skeleton.</summary>
    public ElementType Original(ElementType type) => type == To ? From : type;

    /// <summary>Replaces the type everywhere.</summary>
    /// <param name="proto">The skeleton.</param>
    /// <param name="model">The model whose tensors the skeleton's are copies of.</param>
    public void Replace(ModelProto proto, OnnxModel model)
    {
        foreach (TensorProto tensor in proto.Tensors().Select(place => place.Tensor).Where(t => t.DataType == (int)From))
        {
            var values = new double[tensor.Dims.Aggregate(1L, (product, size) => product * size)];
            FloatConversion.Widen(ElementEncoding.Format(From), s_evaluator.Evaluate(model.Data(tensor)), values);
            var rounded = new byte[To.RawSize(values.Length)];
            FloatConversion.Round(ElementEncoding.Format(To), values, rounded);
            TensorStorage.Clear(tensor);
            tensor.RawData = ByteString.CopyFrom(rounded);
            tensor.DataType = (int)To;
        }

        foreach (GraphProto graph in Graphs(proto.Graph))
        {
            foreach (TypeProto.Types.Tensor type in Types(graph).Where(t => t.ElemType == (int)From))
                type.ElemType = (int)To;
            foreach (AttributeProto attribute in TypeAttributes(graph).Where(a => a.I == (long)From))
                attribute.I = (long)To;
        }
    }

    private static bool Uses(ModelProto proto, ElementType type) =>
        proto.Tensors().Any(place => place.Tensor.DataType == (int)type)
        || Graphs(proto.Graph).Any(graph => Types(graph).Any(t => t.ElemType == (int)type) || TypeAttributes(graph).Any(a => a.I == (long)type));

    private static IEnumerable<GraphProto> Graphs(GraphProto graph) =>
        graph.Node.SelectMany(n => n.Attribute).SelectMany(a => a.G is null ? a.Graphs : a.Graphs.Prepend(a.G)).SelectMany(Graphs).Prepend(graph);

    private static IEnumerable<TypeProto.Types.Tensor> Types(GraphProto graph) =>
        graph.Input.Concat(graph.Output).Concat(graph.ValueInfo).Select(v => v.Type?.TensorType).OfType<TypeProto.Types.Tensor>();

    // Cast, and nodes that make values of a type, name it by number.
    private static IEnumerable<AttributeProto> TypeAttributes(GraphProto graph) =>
        graph.Node.SelectMany(n => n.Attribute).Where(a => a.Name is "to" or "dtype" or "stash_type" && a.Type == AttributeProto.Types.AttributeType.Int);
}
