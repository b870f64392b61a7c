using CsCheck;
using Google.Protobuf;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

/// <summary>Every element type in every storage form, in every place of a model that holds tensors.</summary>
public class StorageTests
{
    public enum Form
    {
        Raw,
        Typed,
        External,
    }

    public enum Place
    {
        Initializer,
        Attribute,
        AttributeList,
        Subgraph,
        SubgraphList,
        Function,
        FunctionDefault,
        Training,
        Sparse,
        SparseAttribute,
    }

    private sealed record Case(ElementType Type, Form Form, Place Place, long[] Shape, byte[] Raw, bool UnknownFields);

    private static readonly Gen<Case> s_cases =
        from type in Gen.Enum<ElementType>().Where(t => t.BitWidth() > 0)
        from form in Gen.Enum<Form>()
        from place in Gen.Enum<Place>()
        from shape in Gen.OneOf(Gen.Long[0, 40].Array[0, 2], Gen.Long[1, 16].Array[3])
        from unknown in Gen.Bool
        let size = (int)type.RawSize(shape.Aggregate(1L, (a, b) => a * b))
        from raw in Gen.Byte.Array[size]
        select new Case(type, form, place, shape, raw, unknown);

    [Fact]
    public void RoundTripKeepsEveryByte() => s_cases.Sample(c =>
    {
        using var folder = new TemporaryFolder();
        TensorProto tensor = Store(c, folder);
        ModelProto proto = Put(tensor, c.Place);
        if (c.UnknownFields)
            proto = WithUnknownFields(proto, tensor);
        string path = folder.Write("in.onnx", proto);

        OnnxModel model = OnnxReader.Read(path);
        TensorProto read = Find(model.Proto);
        WeightExpression data = model.Data(read);
        Assert.Equal(c.Type, data.Type);
        Assert.Equal(c.Shape, data.Shape);
        Assert.Equal(c.Raw, StoredWeights.Bytes(data));

        OnnxModel clone = model.Clone();
        Assert.Equal(c.Raw, StoredWeights.Bytes(clone.Data(Find(clone.Proto))));
        if (c.Form != Form.Typed)
            Assert.Equal(c.Raw, model.Embedded(read).RawData.ToByteArray());

        WrittenModel written = model.Write(folder["out.onnx"]);
        Assert.Equal(written.Bytes, OnnxWriter.OutputBytes(model, folder["out.onnx"]));
        if (c.Form != Form.External)
        {
            Assert.Equal(File.ReadAllBytes(path), File.ReadAllBytes(written.Path));
            return;
        }

        ModelProto output = Models.Parse(written.Path);
        TensorProto moved = Find(output);
        Assert.Equal(c.Raw, Models.RawBytes(moved, written.Path));
        Assert.Equal("out.onnx.data", moved.ExternalData.Single(e => e.Key == "location").Value);

        // Apart from the new place the models are the same.
        TensorProto original = Find(proto);
        moved.ExternalData.Clear();
        moved.ExternalData.AddRange(original.ExternalData);
        Assert.Equal(proto, output);
    }, iter: 1000, threads: 2);

    private static TensorProto Find(ModelProto model) => model.Tensors().Select(place => place.Tensor).Single(t => t.Name == "w");

    private static TensorProto Store(Case c, TemporaryFolder folder)
    {
        var tensor = new TensorProto { Name = "w", DataType = (int)c.Type, DocString = "after the data" };
        tensor.Dims.AddRange(c.Shape);
        switch (c.Form)
        {
            case Form.Raw:
                tensor.RawData = ByteString.CopyFrom(c.Raw);
                break;
            case Form.External:
                folder.Write("in.data", [.. new byte[7], .. c.Raw, .. new byte[5]]);
                tensor.ExternalData.AddRange(Models.External("w", c.Shape, "in.data", 7, c.Raw.Length).ExternalData);
                tensor.DataLocation = TensorProto.Types.DataLocation.External;
                break;
            default:
                StoreTyped(tensor, c.Type, c.Raw);
                break;
        }

        return tensor;
    }

    /// <summary>As the comments of onnx.proto describe it: one number an element, two a complex one, one a byte of sub-byte ones.</summary>
    private static void StoreTyped(TensorProto tensor, ElementType type, byte[] raw)
    {
        IEnumerable<byte[]> Elements(int size) => raw.Chunk(size);
        switch (type)
        {
            case ElementType.Float32 or ElementType.Complex64:
                tensor.FloatData.AddRange(Elements(4).Select(e => BitConverter.ToSingle(e)));
                break;
            case ElementType.Float64 or ElementType.Complex128:
                tensor.DoubleData.AddRange(Elements(8).Select(e => BitConverter.ToDouble(e)));
                break;
            case ElementType.Int64:
                tensor.Int64Data.AddRange(Elements(8).Select(e => BitConverter.ToInt64(e)));
                break;
            case ElementType.UInt64:
                tensor.Uint64Data.AddRange(Elements(8).Select(e => BitConverter.ToUInt64(e)));
                break;
            case ElementType.UInt32:
                tensor.Uint64Data.AddRange(Elements(4).Select(e => (ulong)BitConverter.ToUInt32(e)));
                break;
            case ElementType.Int32:
                tensor.Int32Data.AddRange(Elements(4).Select(e => BitConverter.ToInt32(e)));
                break;
            case ElementType.Int16:
                tensor.Int32Data.AddRange(Elements(2).Select(e => (int)BitConverter.ToInt16(e)));
                break;
            case ElementType.UInt16 or ElementType.Float16 or ElementType.BFloat16:
                tensor.Int32Data.AddRange(Elements(2).Select(e => (int)BitConverter.ToUInt16(e)));
                break;
            case ElementType.Int8:
                tensor.Int32Data.AddRange(raw.Select(b => (int)(sbyte)b));
                break;
            default:
                tensor.Int32Data.AddRange(raw.Select(b => (int)b));
                break;
        }
    }

    private static ModelProto Put(TensorProto tensor, Place place)
    {
        ModelProto model = Models.With();
        var sparse = new SparseTensorProto { Values = tensor, Indices = Models.Raw("", ElementType.Int64, [0], []) };
        GraphProto inner = Models.Graph([], ["i"], Models.Node("Identity", ["x"], ["i"]));
        switch (place)
        {
            case Place.Initializer:
                model.Graph.Initializer.Add(tensor);
                break;
            case Place.Attribute:
                model.Graph.Node.Add(Models.Node("Constant", [], ["c"], Models.Attribute("value", tensor)));
                break;
            case Place.AttributeList:
                var list = new AttributeProto { Name = "values", Type = AttributeProto.Types.AttributeType.Tensors };
                list.Tensors.AddRange([Models.Floats("other", 1, 2), tensor, Models.Floats("more", new float[400])]);
                model.Graph.Node.Add(Models.Node("Custom", [], ["c"], list));
                break;
            case Place.Subgraph:
                inner.Initializer.Add(tensor);
                inner.Initializer.Insert(0, Models.Floats("first", new float[300]));
                model.Graph.Node.Add(Models.Node("Custom", [], ["c"], Models.Attribute("body", inner)));
                break;
            case Place.SubgraphList:
                inner.Initializer.Add(tensor);
                var graphs = new AttributeProto { Name = "bodies", Type = AttributeProto.Types.AttributeType.Graphs };
                graphs.Graphs.Add(inner);
                model.Graph.Node.Add(Models.Node("Custom", [], ["c"], graphs));
                break;
            case Place.Function or Place.FunctionDefault:
                var function = new FunctionProto { Name = "f", Domain = "d" };
                function.Output.Add("c");
                function.Node.Add(Models.Node("Constant", [], ["c"], place == Place.Function ? [Models.Attribute("value", tensor)] : []));
                if (place == Place.FunctionDefault)
                    function.AttributeProto.Add(Models.Attribute("default", tensor));
                model.Functions.Add(function);
                break;
            case Place.Training:
                inner.Initializer.Add(tensor);
                model.TrainingInfo.Add(new TrainingInfoProto { Initialization = new(), Algorithm = inner });
                break;
            case Place.Sparse:
                model.Graph.SparseInitializer.Add(sparse);
                break;
            case Place.SparseAttribute:
                model.Graph.Node.Add(Models.Node("Constant", [], ["c"],
                    new AttributeProto { Name = "sparse_value", SparseTensor = sparse, Type = AttributeProto.Types.AttributeType.SparseTensor }));
                break;
        }

        return model;
    }

    /// <summary>
    /// Fields that a later ONNX may add: 1007 as a number, as text and as a group, in which fields 9 and 14 look like raw_data
    /// and data_location and fields 1, 5 and 7 like damaged nodes, attributes and graphs.
    /// </summary>
    private static ModelProto WithUnknownFields(ModelProto model, TensorProto tensor)
    {
        byte[] number = [0xF8, 0x3E, 0x2A]; // 1007: 42
        byte[] text = [0xFA, 0x3E, 3, (byte)'a', (byte)'b', (byte)'c']; // 1007: "abc"
        byte[] group = [0xFB, 0x3E, 0x4A, 1, 9, 0x70, 1, 0x2A, 1, 0xFF, 0x0A, 1, 0xFF, 0x3A, 1, 0xFF, 0xFC, 0x3E];
        byte[] unknown = [.. number, .. text, .. group];
        tensor.MergeFrom(unknown);
        model.Graph.MergeFrom(unknown);
        foreach (NodeProto node in model.Graph.Node)
            node.MergeFrom(unknown);
        return ModelProto.Parser.ParseFrom([.. model.ToByteArray(), .. unknown]);
    }
}
