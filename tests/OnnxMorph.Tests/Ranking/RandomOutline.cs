using Google.Protobuf;
using OnnxMorph.Alignment;
using OnnxMorph.Tests.Testing;

namespace OnnxMorph.Tests.Ranking;

/// <summary>Outlines whose blocks come in stages, as those of networks do.</summary>
internal static class RandomOutline
{
    public static NetworkOutline Of(Random random)
    {
        var items = new List<NetworkItem>();
        int layers = 0;
        items.Add(new NetworkItem("stem", false, [Layer(3, 8)]));
        for (int stage = 1; stage <= random.Next(1, 5); stage++)
        {
            int width = 4 * random.Next(1, 30), depth = random.Next(1, 5);
            for (int block = 1; block <= random.Next(1, 8); block++)
                items.Add(new NetworkItem($"stage{stage}/block{block}", true, [.. Enumerable.Range(0, depth).SelectMany(i => (AlignedLayer[])[
                    Layer(width, width * (1 + i)), new AlignedLayer($"{layers++}", AlignedKind.Norm, [width * (1 + i)])])]));
        }

        items.Add(new NetworkItem("head", false, [new AlignedLayer($"{layers++}", AlignedKind.Linear, [10, 64])]));
        return new NetworkOutline([.. items]);

        AlignedLayer Layer(long inputs, long outputs)
        {
            long kernel = 1 + 2 * random.Next(3);
            return new AlignedLayer($"{layers++}", AlignedKind.Convolution, [outputs, inputs, kernel, kernel]);
        }
    }
}

/// <summary>Models as files in a folder that is taken away.</summary>
internal sealed class TemporaryModels : IDisposable
{
    private int _count;

    public string Folder { get; } = Directory.CreateTempSubdirectory("onnxmorph-test-").FullName;

    public string this[string name] => Path.Combine(Folder, name);

    public string Write(Net net, string? name = null)
    {
        string path = this[name ?? $"{_count++}.onnx"];
        File.WriteAllBytes(path, net.Proto.ToByteArray());
        return path;
    }

    public void Dispose() => Directory.Delete(Folder, recursive: true);
}
