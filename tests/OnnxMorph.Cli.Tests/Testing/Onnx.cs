using System.IO.Compression;
using System.Runtime.InteropServices;
using System.Text;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Onnx;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Cli.Tests.Testing;

/// <summary>A floating-point value of a run.</summary>
internal sealed record Value(int[] Shape, float[] Elements);

/// <summary>Models run and read by other means than the product's verifier.</summary>
internal static class OnnxFile
{
    /// <summary>Sizes of the model's initializers by name.</summary>
    public static Dictionary<string, long[]> Weights(string path) =>
        OnnxReader.Read(path).Proto.Graph.Initializer.ToDictionary(t => t.Name, t => t.Dims.ToArray());

    /// <summary>The values that depend on the model's inputs.</summary>
    public static HashSet<string> Activations(string path)
    {
        GraphProto graph = OnnxReader.Read(path).Proto.Graph;
        var found = graph.Input.Select(i => i.Name).ToHashSet();
        foreach (NodeProto node in graph.Node)
            if (node.Input.Any(found.Contains))
                found.UnionWith(node.Output);
        return found;
    }

    /// <summary>How many nodes of an operator the model has.</summary>
    public static int Count(string path, string op) => OnnxReader.Read(path).Proto.Graph.Node.Count(n => n.OpType == op);

    /// <summary>The class that the model gives to each image.</summary>
    public static int[] Classify(string path, Value images)
    {
        Value logits = Run(path, images)["logits"];
        int classes = logits.Shape[1];
        return [.. Enumerable.Range(0, logits.Shape[0]).Select(i => Array.IndexOf(logits.Elements, logits.Elements[(i * classes)..((i + 1) * classes)].Max(), i * classes) - i * classes)];
    }

    /// <summary>Every floating-point value that the model's nodes compute, without graph optimisation.</summary>
    public static Dictionary<string, Value> RunExposed(string path, Value images)
    {
        DirectoryInfo folder = Directory.CreateTempSubdirectory("onnxmorph-test-");
        try
        {
            var probe = new ModelProbe(new WeightEvaluator());
            string exposed = Path.Combine(folder.FullName, "exposed.onnx");
            probe.Expose(path, probe.Values(path), exposed);
            return Run(exposed, images);
        }
        finally
        {
            folder.Delete(recursive: true);
        }
    }

    private static Dictionary<string, Value> Run(string path, Value images)
    {
        using var options = new SessionOptions { GraphOptimizationLevel = GraphOptimizationLevel.ORT_DISABLE_ALL };
        using var session = new InferenceSession(path, options);
        using OrtValue input = OrtValue.CreateTensorValueFromMemory(images.Elements, [.. images.Shape.Select(s => (long)s)]);
        using var run = new RunOptions();
        var values = new Dictionary<string, Value>();
        using IDisposableReadOnlyCollection<OrtValue> outputs = session.Run(run, ["image"], [input], session.OutputNames);
        for (int i = 0; i < outputs.Count; i++)
        {
            OrtTensorTypeAndShapeInfo info = outputs[i].GetTensorTypeAndShape();
            if (info.ElementDataType == Microsoft.ML.OnnxRuntime.Tensors.TensorElementType.Float)
                values.Add(session.OutputNames[i], new Value([.. info.Shape.Select(s => (int)s)], outputs[i].GetTensorDataAsSpan<float>().ToArray()));
        }

        return values;
    }
}

/// <summary>The images that the digits networks never saw.</summary>
internal static class Digits
{
    /// <summary>All 360 of them, 1 x 16 x 16 each.</summary>
    public static Value Images { get; } = new([360, 1, 16, 16], Read<float>("image.npy"));

    /// <summary>Their classes.</summary>
    public static long[] Labels { get; } = Read<long>("labels.npy");

    /// <summary>The first images.</summary>
    public static Value First(int count) => new([count, 1, 16, 16], Images.Elements[..(count * 256)]);

    // A .npy file is ten bytes, a header whose length the last two of them give, and the elements.
    private static T[] Read<T>(string entry) where T : unmanaged
    {
        using ZipArchive archive = ZipFile.OpenRead(Workspace.Samples);
        using var bytes = new MemoryStream();
        using (Stream stream = archive.GetEntry(entry)!.Open())
            stream.CopyTo(bytes);
        byte[] all = bytes.ToArray();
        int header = all[8] + 256 * all[9];
        Assert.Contains("'fortran_order': False", Encoding.ASCII.GetString(all, 10, header));
        return MemoryMarshal.Cast<byte, T>(all.AsSpan(10 + header)).ToArray();
    }
}
