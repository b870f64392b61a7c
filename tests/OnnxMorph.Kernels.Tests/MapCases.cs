using CsCheck;

namespace OnnxMorph.Kernels.Tests;

/// <summary>A random tensor with random maps, and its evaluation element by element straight from the definition.</summary>
public sealed record MapCase(ElementFormat Format, long[] Shape, AxisTerms?[] Maps, KernelFill Fill, byte[] Source)
{
    private static readonly double[] s_weights = [1, 1, 0.5, -1, 1.0 / 3, 0.7, 2];

    internal TensorMap Plan => new(Format, Shape, Maps, Fill);

    internal long[] OutputShape => [.. Shape.Select((size, axis) => Maps[axis]?.Size ?? size)];

    public static Gen<MapCase> Any(ElementFormat[] formats, bool pick) => Gen.UInt.Select(seed => Create(new Random((int)seed), formats, pick));

    /// <summary>The output as float64 sums in the reference's own order, before rounding.</summary>
    public double[] Expected()
    {
        long count = OutputShape.Aggregate(1L, (a, b) => a * b);
        var result = new double[count];
        var values = new double[Source.Length / Format.Size()];
        FloatConversion.Widen(Format, Source, values);
        for (long i = 0; i < count; i++)
            result[i] = Sum(Coordinates(i), 0, 0, 0, false, 1, (source, position, fresh) => fresh ? FreshValue(position) : values[source]);
        return result;
    }

    /// <summary>The output's bytes, for picks.</summary>
    public byte[] ExpectedBytes()
    {
        int size = Format.Size();
        long count = OutputShape.Aggregate(1L, (a, b) => a * b);
        var result = new byte[count * size];
        for (long i = 0; i < count; i++)
        {
            long from = -1, at = -1;
            Sum(Coordinates(i), 0, 0, 0, false, 1, (source, position, fresh) =>
            {
                (from, at) = fresh ? (-1L, position) : (source, -1L);
                return 0;
            });
            Span<byte> element = result.AsSpan((int)i * size, size);
            if (from >= 0)
                Source.AsSpan((int)from * size, size).CopyTo(element);
            else if (at >= 0)
                Fill.Write(Format, at, element);
        }

        return result;
    }

    /// <summary>Evaluates through a device in windows of <paramref name="rows"/> rows and <paramref name="columns"/> columns.</summary>
    internal byte[] Evaluate(KernelDevice device, int rows, int columns)
    {
        TensorMap plan = Plan;
        int size = Format.Size();
        var result = new byte[plan.RowCount * plan.RowLength * size];
        for (long row = 0; row < plan.RowCount; row += rows)
            for (int column = 0; column < plan.RowLength; column += columns)
            {
                int height = (int)Math.Min(rows, plan.RowCount - row), width = Math.Min(columns, plan.RowLength - column);
                var window = new MapWindow(plan, row, height, column, column + width);
                int sourceWidth = (window.SourceColumnEnd - window.SourceColumnStart) * size;
                var source = new byte[window.SourceBytes];
                for (int i = 0; i < window.SourceRows.Count; i++)
                    Source.AsSpan((int)(window.SourceRows[i] * plan.SourceRowLength + window.SourceColumnStart) * size, sourceWidth)
                        .CopyTo(source.AsSpan(i * sourceWidth));
                var output = new byte[window.OutputBytes];
                Random.Shared.NextBytes(output);
                device.Map(window, source, output);
                for (int i = 0; i < height; i++)
                    output.AsSpan(i * width * size, width * size)
                        .CopyTo(result.AsSpan((int)((row + i) * plan.RowLength + column) * size));
            }

        return result;
    }

    private static MapCase Create(Random random, ElementFormat[] formats, bool pick)
    {
        ElementFormat format = formats[random.Next(formats.Length)];
        int rank = random.Next(0, 5);
        var shape = new long[rank];
        var maps = new AxisTerms?[rank];
        for (int axis = 0; axis < rank; axis++)
        {
            shape[axis] = rank < 3 && random.Next(10) == 0 ? random.Next(30, 90) : random.Next(1, rank > 2 ? 4 : 7);
            maps[axis] = random.Next(3) == 0 ? null : Axis(random, (int)shape[axis], pick);
        }

        var source = new byte[shape.Aggregate(1L, (a, b) => a * b) * format.Size()];
        if (format.IsFloat() && !pick)
        {
            double[] values = new double[source.Length / format.Size()];
            for (int i = 0; i < values.Length; i++)
                values[i] = random.NextDouble() * 4 - 2;
            FloatConversion.Round(format, values, source);
        }
        else
        {
            random.NextBytes(source);
        }

        KernelFill fill = format.IsFloat() && random.Next(2) == 0
            ? new KernelFill(random.Next(2) == 0 ? Distribution.Normal : Distribution.Uniform, 0.5, (ulong)random.NextInt64(), 0)
            : KernelFill.Constant((UInt128)(format.IsFloat() ? 0x3C00 : random.Next()));
        return new MapCase(format, shape, maps, fill, source);
    }

    private static AxisTerms Axis(Random random, int size, bool pick)
    {
        int fresh = random.Next(3) == 0 ? random.Next(1, 4) : 0;
        int kind = random.Next(5);
        int outputs = random.Next(1, 2 * size + 3);
        var starts = new List<int> { 0 };
        var sources = new List<int>();
        var weights = new List<double>();
        int offset = random.Next(-2, 3);
        bool repeats = random.Next(3) == 0;
        for (int i = 0; i < outputs; i++)
        {
            if (repeats && i > 0 && random.Next(4) > 0)
            {
                // The terms of the index before.
                for (int k = starts[i - 1], end = starts[i]; k < end; k++)
                    Add(sources[k], weights[k]);
            }
            else if (kind == 0 && !pick)
            {
                for (int source = random.Next(3); source < size + fresh; source += 1 + random.Next(3))
                    Add(source, s_weights[random.Next(s_weights.Length)]);
            }
            else
            {
                int source = kind switch { 1 => i + offset, 2 => i % size, 3 => random.Next(-1, size + fresh), _ => i * (size + fresh) / outputs };
                if (source >= 0 && source < size + fresh)
                    Add(source, pick ? 1 : s_weights[random.Next(s_weights.Length)]);
            }

            starts.Add(sources.Count);
        }

        return new AxisTerms(size, fresh, [.. starts], [.. sources], [.. weights]);

        void Add(int source, double weight)
        {
            sources.Add(source);
            weights.Add(weight);
        }
    }

    private long[] Coordinates(long index)
    {
        long[] shape = OutputShape;
        var result = new long[shape.Length];
        for (int axis = shape.Length - 1; axis >= 0; axis--)
            (index, result[axis]) = Math.DivRem(index, shape[axis]);
        return result;
    }

    private double Sum(long[] at, int axis, long source, long position, bool fresh, double weight, Func<long, long, bool, double> element)
    {
        if (axis == at.Length)
            return weight * element(source, position, fresh);
        if (Maps[axis] is not { } map)
            return Sum(at, axis + 1, source * Shape[axis] + at[axis], position * Shape[axis] + at[axis], fresh, weight, element);
        double sum = 0;
        for (int k = map.Starts[at[axis]]; k < map.Starts[at[axis] + 1]; k++)
            sum += Sum(
                at, axis + 1, source * Shape[axis] + map.Sources[k], position * (Shape[axis] + map.FreshSize) + map.Sources[k],
                fresh || map.Sources[k] >= Shape[axis], weight * map.Weights[k], element);
        return sum;
    }

    private double FreshValue(long position)
    {
        var element = new byte[Format.Size()];
        Fill.Write(Format, position, element);
        Span<double> value = [0];
        FloatConversion.Widen(Format, element, value);
        return value[0];
    }
}
