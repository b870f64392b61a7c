using OnnxMorph.Kernels;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Recipes;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;

namespace OnnxMorph.Tests.Onnx;

/// <summary>The bytes of an output depend on the input, the steps and the seed, and on nothing else.</summary>
public sealed class SameBytesTests : IDisposable
{
    private readonly TemporaryFolder _folder = new();

    [Theory]
    [InlineData("digits_resnet.onnx")]
    [InlineData("digits_transformer.onnx")]
    public void RunsThreadsAndWindowsGiveTheSameBytes(string name)
    {
        OnnxModel parent = OnnxReader.Read(Path.Combine(AppContext.BaseDirectory, "models", name));
        byte[] expected = Morphed(parent, new WeightEvaluator(), threads: 1);
        Assert.Equal(expected, Morphed(parent, new WeightEvaluator(), threads: 1));
        Assert.Equal(expected, Morphed(parent, new WeightEvaluator(), threads: 2));
        Assert.Equal(expected, Morphed(parent, new WeightEvaluator { WindowBytes = 700 }, threads: 7));
        Assert.Equal(expected, Morphed(parent, new WeightEvaluator { WindowBytes = 5000, KeptBytes = 0 }, threads: 3));
    }

    /// <summary>A small network, since the simulator of an accelerator takes thousands of times as long.</summary>
    [Fact]
    public void DevicesGiveTheSameBytes()
    {
        var net = new Net();
        string first = net.Op("Relu", [net.Op("Conv", [net.Input("x", 1, 2, 4, 4), net.Weight([4, 2, 3, 3])], name: "a")]);
        net.Output(net.Op("Conv", [first, net.Weight([3, 4, 1, 1])], name: "b"));
        using KernelDevice simulator = KernelDevices.OpenSimulator();
        Assert.Equal(Morphed(net.Model, new WeightEvaluator(), threads: 2), Morphed(net.Model, new WeightEvaluator(simulator), threads: 2));
    }

    /// <summary>What is copied within the operating system, and what takes the way through memory.</summary>
    [Theory]
    [InlineData(false)]
    [InlineData(true)]
    public void PartsOfFilesAreCopiedToTheirPlaces(bool throughMemory)
    {
        byte[] content = new byte[3_000_000];
        new Random(1).NextBytes(content);
        using var source = File.OpenHandle(_folder.Write("source", content));
        using (var target = File.OpenHandle(_folder["target"], FileMode.CreateNew, FileAccess.Write))
        {
            FileCopy.Copy(source, 1234, target, 77, 2_500_001, "source", throughMemory);
            Assert.Throws<EndOfStreamException>(() => FileCopy.Copy(source, content.Length - 10, target, 0, 11, "source", throughMemory));
        }

        byte[] copied = File.ReadAllBytes(_folder["target"]);
        Assert.Equal(77 + 2_500_001, copied.Length);
        Assert.Equal(content.AsSpan(content.Length - 10), copied.AsSpan(0, 10));
        Assert.Equal(new byte[67], copied.AsSpan(10, 67));
        Assert.Equal(content.AsSpan(1234, 2_500_001), copied.AsSpan(77));
    }

    /// <summary>What a weight keeps in memory while it is read is kept for one weight at a time.</summary>
    [Fact]
    public void LargeWeightsAreReadAlone()
    {
        OnnxModel model = OnnxReader.Read(_folder.Write("in.onnx", Models.With([.. Enumerable.Range(0, 6).Select(i => Models.Floats($"w{i}", new float[30_000]))])));
        foreach (TensorPlace place in model.Proto.Tensors())
            model.SetData(place.Tensor, new FilledWeight(ElementType.Float32, [30_000], Fill.Constant(1)));
        var source = new Watched();
        OnnxWriter.Write(model, _folder["out.onnx"], source, new WriteOptions { Threads = 4 }, cancellation: TestContext.Current.CancellationToken);
        Assert.Equal(6, source.Opened);
        Assert.Equal(6, source.Closed);
    }

    public void Dispose() => _folder.Dispose();

    private byte[] Morphed(OnnxModel parent, WeightEvaluator evaluator, int threads)
    {
        var recipe = Recipe.Parse("""
            steps:
              - widen: '*'
                size: x1.25
              - deepen: '*'
            """, "steps");
        MorphResult result = Morpher.Morph(parent, recipe.ToSteps(5), TestContext.Current.CancellationToken);
        OnnxWriter.Write(result.Child, _folder["out.onnx"], evaluator, new WriteOptions { Force = true, Threads = threads }, cancellation: TestContext.Current.CancellationToken);
        return File.ReadAllBytes(_folder["out.onnx"]);
    }

    /// <summary>Zeros that count who reads them.</summary>
    private sealed class Watched : IWeightSource
    {
        private IWeightReader? _only;

        public int Opened { get; private set; }

        public int Closed { get; private set; }

        public IWeightReader Open(WeightExpression weight)
        {
            Opened++;
            return new Reader(this);
        }

        private sealed class Reader(Watched owner) : IWeightReader
        {
            public int WindowBytes => 1000;

            public bool IsLarge => true;

            public void Read(long start, Span<byte> destination)
            {
                IWeightReader before = Interlocked.CompareExchange(ref owner._only, this, null) ?? this;
                Assert.Same(this, before);
                Thread.Yield();
                destination.Clear();
            }

            public void Dispose()
            {
                owner._only = null;
                owner.Closed++;
            }
        }
    }
}
