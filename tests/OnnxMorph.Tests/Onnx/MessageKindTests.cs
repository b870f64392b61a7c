using Google.Protobuf.Reflection;
using OnnxMorph.Onnx;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

public class MessageKindTests
{
    private static readonly Dictionary<MessageKind, MessageDescriptor> s_descriptors = new()
    {
        [MessageKind.Model] = ModelProto.Descriptor,
        [MessageKind.TrainingInfo] = TrainingInfoProto.Descriptor,
        [MessageKind.Graph] = GraphProto.Descriptor,
        [MessageKind.Function] = FunctionProto.Descriptor,
        [MessageKind.Node] = NodeProto.Descriptor,
        [MessageKind.Attribute] = AttributeProto.Descriptor,
        [MessageKind.SparseTensor] = SparseTensorProto.Descriptor,
        [MessageKind.Tensor] = TensorProto.Descriptor,
    };

    /// <summary>The schema itself says which messages reach a tensor; the table must say the same of every field.</summary>
    [Fact]
    public void TheTableLeadsToEveryTensorOfTheSchema()
    {
        var reaching = new HashSet<string> { TensorProto.Descriptor.FullName };
        IList<MessageDescriptor> all = OnnxReflection.Descriptor.MessageTypes;
        while (all.Where(m => m.Fields.InDeclarationOrder().Any(f => f.FieldType == FieldType.Message && reaching.Contains(f.MessageType.FullName)))
            .Any(m => reaching.Add(m.FullName)))
        {
        }

        foreach ((MessageKind kind, MessageDescriptor descriptor) in s_descriptors)
        {
            foreach (FieldDescriptor field in descriptor.Fields.InDeclarationOrder())
            {
                MessageKind expected = field.FieldType == FieldType.Message && reaching.Contains(field.MessageType.FullName)
                    ? s_descriptors.Single(pair => pair.Value == field.MessageType).Key
                    : MessageKind.Other;
                Assert.True(expected == kind.Child(field.FieldNumber), $"{descriptor.Name}.{field.Name}");
            }
        }
    }

    [Fact]
    public void PayloadFieldsAreThePackedNumbersAndRawData()
    {
        FieldDescriptor[] packed = [.. TensorProto.Descriptor.Fields.InFieldNumberOrder().Where(f => f.IsRepeated && f.IsPacked && f.FieldType is not (FieldType.Bytes or FieldType.Message))];
        int[] payloads = [.. Enumerable.Range(1, 100).Where(MessageKinds.IsPayload)];
        Assert.Equal(packed.Select(f => f.FieldNumber).Append(TensorProto.RawDataFieldNumber).Order(), payloads);
        Assert.Equal(
            packed.Where(f => f.FieldType is not (FieldType.Float or FieldType.Double)).Select(f => f.FieldNumber),
            payloads.Where(MessageKinds.IsVarintPayload));
    }
}
