using System.Collections.Immutable;
using CsCheck;
using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Kernels;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Weights;
using Xunit;
using Check = OnnxMorph.Tests.Testing.Check;

namespace OnnxMorph.Tests.Weights;

/// <summary>Many morphs in a row: one pass over the stored weights, the same function, the same bytes however they are computed.</summary>
public sealed class CompositionTests : IDisposable
{
    private readonly string _folder = Directory.CreateTempSubdirectory().FullName;

    public void Dispose() => Directory.Delete(_folder, recursive: true);

    private StoredWeight InFile(ElementType type, long[] shape, Func<int, double> value)
    {
        string file = Path.Combine(_folder, Path.GetRandomFileName());
        File.WriteAllBytes(file, [.. WeightReference.Stored(type, shape, value).Bytes.Span]);
        return new StoredWeight(type, [.. shape], file, 0);
    }

    /// <summary>Parts of rows that follow each other in a file are read together, a window of whole rows at a time.</summary>
    [Fact]
    public void PartsOfRowsAreReadFromAFile() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                int rows = random.Next(1, 40), columns = random.Next(1, 12), column = random.Next(columns), width = random.Next(1, columns - column + 1);
                int row = random.Next(rows), pieces = random.Next(1, rows - row + 1);
                using TensorReader reader = TensorReader.Open(InFile(ElementType.Float64, [rows, columns], i => i), new ReadContext(KernelDevice.Simd, 0, random.Next(1, 1_000)));
                var bytes = new byte[pieces * width * sizeof(double)];
                reader.ReadPieces(row * columns + column, columns, pieces, bytes);
                double[] expected = [.. Enumerable.Range(row, pieces).SelectMany(r => Enumerable.Range(r * columns + column, width).Select(i => (double)i))];
                Assert.Equal(expected, WeightReference.Decode(ElementType.Float64, bytes));
            }, iter: 300);

    [Fact]
    public void TenMapsThatDrawBecomeOne() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                StoredWeight stored = WeightReference.Stored(ElementType.Float32, [4, 3, 2], _ => random.NextDouble() - 0.5);
                WeightExpression mapped = stored;
                for (int step = 0; step < 10; step++)
                {
                    // One axis grows by a copy that shares with its source and differs from it by draws.
                    int axis = random.Next(3), size = (int)mapped.Shape[axis], copied = random.Next(size);
                    var rows = Enumerable.Range(0, size).Select(c => (Tap[])[new Tap(c, 1)]).ToList();
                    rows[copied] = [new Tap(copied, 0.4), new Tap(size, 1)];
                    rows.Add([new Tap(copied, 0.6), new Tap(size, -1)]);
                    var maps = new AxisMap?[3];
                    maps[axis] = AxisMap.FromTaps(size, 1, rows);
                    mapped = mapped.Map([.. maps], new Fill(FillKind.Normal, 0.1 * (1 + step), (ulong)random.NextInt64()));
                }

                Assert.Same(stored, Assert.IsType<MappedWeight>(mapped).Source);
                var evaluator = new WeightEvaluator();
                double[] actual = WeightReference.Decode(mapped.Type, evaluator.Evaluate(mapped));
                Assert.Equal(stored.ByteLength, evaluator.StoredBytesRead);
                double[] expected = WeightReference.Evaluate(mapped);
                double scale = expected.Max(Math.Abs);
                Assert.All(expected.Zip(actual), pair => Assert.Equal(pair.First, pair.Second, 1e-6 * scale));
            }, iter: 200);

    [Fact]
    public void DrawsKeepTheScaleOfTheirOwnMap()
    {
        StoredWeight stored = WeightReference.Stored(ElementType.Float64, [60, 60], _ => 0);
        AxisMap grown = AxisMap.Pick(60, 60, [.. Enumerable.Range(0, 120)]);
        WeightExpression mapped = stored
            .Map([grown, null], new Fill(FillKind.Normal, 0.5, 1))
            .Map([null, grown], new Fill(FillKind.Normal, 0.02, 2));
        Assert.Same(stored, Assert.IsType<MappedWeight>(mapped).Source);
        double[] values = WeightReference.Decode(mapped.Type, new WeightEvaluator().Evaluate(mapped));
        double Deviation(bool row, bool column) =>
            Math.Sqrt(Enumerable.Range(0, values.Length).Where(i => i / 120 >= 60 == row && i % 120 >= 60 == column).Average(i => values[i] * values[i]));
        Assert.Equal(0, Deviation(false, false));
        Assert.Equal(0.5, Deviation(true, false), 0.02);
        Assert.Equal(0.02, Deviation(false, true), 0.001);
    }

    [Fact]
    public void WhatStandsUnderMapsAndRotationsIsComputedOnce() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                StoredWeight stored = InFile(ElementType.Float32, [6, 8], _ => random.NextDouble() - 0.5);
                WeightExpression expression = stored;
                for (int step = 0; step < 10; step++)
                {
                    long rows = expression.Shape[0], columns = expression.Shape[1];
                    expression = random.Next(4) switch
                    {
                        0 => new RotatedWeight(expression, random.Next(2), 1, (ulong)random.NextInt64(), random.Next(2) == 0),
                        1 => new SummedWeight([(0.5, expression), (1, new FilledWeight(expression.Type, expression.Shape, new Fill(FillKind.Normal, 0.1, (ulong)step)))]),
                        2 => new ReshapedWeight(new ReshapedWeight(expression, [rows * columns]), [columns, rows]),
                        _ => expression.Map([WeightGen.Scaled(random, (int)rows, fresh: false), AxisMap.Identity((int)columns).Times(0.7)], Fill.Zero),
                    };
                    if (expression.Count > 2_000)
                        break;
                }

                // Small windows: each of them would read the source anew.
                var once = new WeightEvaluator { WindowBytes = 64 };
                byte[] bytes = once.Evaluate(expression);
                // The file is read a second time where long sums of it are kept alone.
                if (expression is RotatedWeight)
                    Assert.True(once.StoredBytesRead <= 2 * stored.ByteLength, $"{once.StoredBytesRead} bytes of {stored.ByteLength} were read.");
                Assert.Equal(bytes, new WeightEvaluator { KeptBytes = 0 }.Evaluate(expression));
                Assert.Equal(bytes, new WeightEvaluator { KeptBytes = random.Next(2_000), WindowBytes = random.Next(1, 200) }.Evaluate(expression));
            }, iter: 300);

    [Fact]
    public void AMeanThatManyChannelsHoldIsComputedOnceAndKeptAlone() =>
        WeightGen.Seeds.Sample(
            seed =>
            {
                var random = new Random(seed);
                // Rows long enough that they are not multiplied out with the axis in front of them.
                long[] shape = [random.Next(10, 13), random.Next(10, 13), 2_000];
                int axis = random.Next(2), size = (int)shape[axis], copies = random.Next(2, 10);
                StoredWeight stored = InFile(ElementType.Float64, shape, _ => random.NextDouble() - 0.5);
                Tap[] mean = [.. Enumerable.Range(0, size).Select(source => new Tap(source, 1.0 / size))];
                var wider = AxisMap.FromTaps(size, 0, [.. Enumerable.Range(0, size).Select(source => (Tap[])[new Tap(source, 1)]), .. Enumerable.Repeat(mean, copies)]);
                (AxisMap? sums, AxisMap copied) = wider.Staged();
                Assert.NotNull(sums);
                WeightExpression staged = stored.Map(On(sums), Fill.Zero).Map(On(copied), Fill.Zero);
                double[] values = WeightReference.Decode(ElementType.Float64, new WeightEvaluator().Evaluate(stored));
                long meanBytes = stored.ByteLength / size;
                // Room for the means, not for the tensor.
                var evaluator = new WeightEvaluator { KeptBytes = meanBytes };
                byte[] bytes = evaluator.Evaluate(staged);
                double[] actual = WeightReference.Decode(ElementType.Float64, bytes);
                int inner = (int)(axis == 0 ? shape[1] * shape[2] : shape[2]), wide = size + copies;
                Assert.Equal(values.Length / size * wide, actual.Length);
                for (int i = 0; i < actual.Length; i++)
                {
                    int outer = i / (wide * inner) * size * inner, channel = i / inner % wide, at = i % inner;
                    double expected = channel < size ? values[outer + channel * inner + at] : Enumerable.Range(0, size).Sum(c => values[outer + c * inner + at]) / size;
                    if (Math.Abs(expected - actual[i]) > 1e-14)
                        Assert.Fail($"{actual[i]} at {i}, {expected} expected.");
                }

                Assert.Equal(bytes, new WeightEvaluator { KeptBytes = 0 }.Evaluate(staged));
                Assert.True(evaluator.StoredBytesRead <= 2 * stored.ByteLength, $"{evaluator.StoredBytesRead} bytes of {stored.ByteLength} were read.");

                ImmutableArray<AxisMap?> On(AxisMap map) => [.. Enumerable.Range(0, 3).Select(a => a == axis ? map : null)];
            }, iter: 4);

    [Fact]
    public void WhatIsKeptFitsTheMemoryThatIsLeftByWhatLiesDeeper()
    {
        WeightExpression expression = InFile(ElementType.Float32, [6, 8], _ => 0.5);
        for (int step = 0; step < 4; step++)
            expression = new RotatedWeight(expression, step % 2, 1, (ulong)step, false);
        foreach (int tensors in Enumerable.Range(0, 6))
        {
            // Of four rotations each keeps what it reads.
            var context = new ReadContext(KernelDevice.Simd, tensors * expression.ByteLength, windowBytes: 64);
            using TensorReader reader = TensorReader.Open(expression, context);
            Assert.Equal(Math.Max(0, tensors - 4) * expression.ByteLength, context.Budget);
        }
    }

    [Fact]
    public void AFileThatIsCutShortIsNamed()
    {
        StoredWeight stored = InFile(ElementType.Float32, [8, 8], i => i);
        File.WriteAllBytes(stored.File!, new byte[200]);
        var rotated = new RotatedWeight(stored, 0, 1, 1, transpose: false);
        string message = Assert.Throws<UnreadableModelException>(() => new WeightEvaluator().Evaluate(rotated)).Message;
        Assert.Contains(stored.File!, message);
    }

    [Fact]
    public void TenMorphsReadTheModelOnceAndKeepItsFunction()
    {
        var net = new Net { Runs = { new() { ["N"] = 2 } } };
        string x = net.Relu(net.Conv(net.Input("x", "N", 3, 6, 6), 3, 8, name: "a"));
        string skip = x;
        x = net.Relu(net.BatchNorm(net.Conv(x, 8, 8, name: "b"), 8));
        x = net.Relu(net.Add(skip, net.Conv(x, 8, 8, name: "c")));
        net.Output(net.Linear(net.Op("Flatten", [net.Op("GlobalAveragePool", [x])]), 8, 4, name: "head"));
        MorphStep[] steps =
        [
            Check.Widen("*", "x1.5"), Check.Kernel("b", "+2"), Check.Widen("b", "+3", WidenMethod.Zero), Check.Widen("a", "+2", WidenMethod.Opposed),
            Check.Deepen("c", method: DeepenMethod.Identity), Check.Widen("*", "x1.25"), Check.Widen("b", "+1", seed: 5), Check.Kernel("a", "5"),
            Check.Widen("*", "+1", seed: 6), Check.Widen("*", "+2", WidenMethod.Opposed),
        ];
        OnnxModel parent = Saved(net.Model);
        MorphResult result = Check.Morph(net, steps);
        Assert.All(result.Steps, step => Assert.NotEmpty(step.Changes));

        MorphResult fused = Morpher.Morph(parent, steps, TestContext.Current.CancellationToken);
        var evaluator = new WeightEvaluator();
        long stored = 0;
        foreach (Constant constant in new ModelGraph(parent).Constants.Where(c => c.Type.IsScalable()))
        {
            stored += parent.Data(constant.Tensor).ByteLength;
            WeightExpression child = fused.Child.Data(new ModelGraph(fused.Child).ConstantOf(constant.Name)!.Tensor);
            evaluator.Evaluate(child);
            // Vectors that are only copied are read as often as they are written.
            Assert.True(child is StoredWeight || Assert.IsType<MappedWeight>(child).Source is StoredWeight, constant.Name);
        }

        Assert.InRange(evaluator.StoredBytesRead, stored * 9 / 10, stored * 11 / 10);

        // The same steps one file after the other.
        OnnxModel last = parent;
        foreach (MorphStep step in steps)
            last = Saved(Morpher.Morph(last, [step], TestContext.Current.CancellationToken).Child);
        ModelProto whole = Check.Written(fused.Child), stepwise = Check.Written(last);
        Assert.Equal(stepwise.Graph.Initializer.Select(i => (i.Name, string.Join('×', i.Dims))), whole.Graph.Initializer.Select(i => (i.Name, string.Join('×', i.Dims))));
        var feeds = Check.Feeds(net, net.Runs[0], 3);
        string output = net.Proto.Graph.Output[0].Name;
        double[] expected = Check.Run(net.Proto, feeds)[output].Values;
        foreach (ModelProto child in new[] { whole, stepwise })
            Assert.All(expected.Zip(Check.Run(child, feeds)[output].Values), pair => Assert.Equal(pair.First, pair.Second, 1e-5));
    }

    private OnnxModel Saved(OnnxModel model)
    {
        string file = Path.Combine(_folder, Path.GetRandomFileName());
        OnnxWriter.Write(model, file, new WeightEvaluator());
        return OnnxReader.Read(file);
    }
}
