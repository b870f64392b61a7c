using System.Collections.Immutable;
using CsCheck;
using OnnxMorph.Axes;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Weights;

/// <summary>Random axis maps and weight expressions.</summary>
internal static class WeightGen
{
    private static readonly double[] s_weights = [1, 0.5, -1, 1.0 / 3, 0.7];

    // Means of so many are kept rather than computed again.
    private const int LongAxis = 8;

    public static readonly ElementType[] Scalable = [ElementType.Float32, ElementType.Float64, ElementType.Float16, ElementType.BFloat16];

    public static Gen<int> Seeds => Gen.Int;

    public static AxisMap Pick(Random random, int size, bool fresh)
    {
        int extra = fresh && random.Next(3) == 0 ? random.Next(1, 4) : 0;
        int offset = random.Next(-2, 3), kind = random.Next(3);
        var sources = new int[random.Next(1, 2 * size + 2)];
        for (int i = 0; i < sources.Length; i++)
            sources[i] = kind switch
            {
                0 => i + offset < size + extra ? i + offset : -1,
                1 => i % (size + extra),
                _ => random.Next(-1, size + extra),
            };
        return AxisMap.Pick(size, extra, sources);
    }

    public static AxisMap Scaled(Random random, int size, bool fresh)
    {
        int extra = fresh && random.Next(3) == 0 ? random.Next(1, 4) : 0;
        var rows = new Tap[random.Next(1, 2 * size + 2)][];
        for (int i = 0; i < rows.Length; i++)
            rows[i] = i > 0 && random.Next(4) == 0 ? rows[i - 1]
                : size >= LongAxis && random.Next(4) == 0 ? [.. Enumerable.Range(0, size).Select(source => new Tap(source, 1.0 / size))]
                : [.. Enumerable.Range(0, random.Next(0, 4)).Select(_ => new Tap(random.Next(size + extra), s_weights[random.Next(s_weights.Length)]))];
        return AxisMap.FromTaps(size, extra, rows);
    }

    public static ImmutableArray<AxisMap?> Maps(Random random, IEnumerable<long> shape, bool pick, bool fresh) =>
        [.. shape.Select(size => random.Next(3) == 0 ? null : pick ? Pick(random, (int)size, fresh) : Scaled(random, (int)size, fresh))];

    public static long[] Shape(Random random)
    {
        var shape = new long[random.Next(1, 5)];
        for (int axis = 0; axis < shape.Length; axis++)
            shape[axis] = random.Next(8) == 0 ? random.Next(LongAxis, LongAxis + 4) : random.Next(1, 6);
        return shape;
    }

    public static Fill Fill(Random random) =>
        new((FillKind)random.Next(3), 0.25 * random.Next(1, 4), (ulong)random.NextInt64());

    /// <summary>A floating-point expression of some nesting.</summary>
    public static WeightExpression Expression(Random random, ElementType type, int depth)
    {
        long[] shape = Shape(random);
        WeightExpression expression = random.Next(shape.Length > 1 ? 5 : 4) switch
        {
            4 => new DiracWeight(type, [.. shape]),
            3 => new ComputedWeight(type, [.. shape], Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(_ => random.NextDouble() - 0.5).ToArray()),
            2 => new FilledWeight(type, [.. shape], Fill(random)),
            _ => WeightReference.Stored(type, shape, _ => random.NextDouble() * 2 - 1),
        };
        for (; depth > 0; depth--)
        {
            int axis = random.Next(expression.Shape.Length);
            int size = (int)expression.Shape[axis];
            int[] divisors = [.. Enumerable.Range(1, size).Where(d => size % d == 0)];
            expression = random.Next(type.BitWidth() < 8 ? 4 : 6) switch
            {
                5 when expression.Shape.Length == 2 => new TransposedWeight(expression),
                4 or 5 => Placed(random, expression),
                0 => new RotatedWeight(expression, axis, divisors[random.Next(divisors.Length)], (ulong)random.NextInt64(), random.Next(2) == 0),
                1 => new SummedWeight([(s_weights[random.Next(s_weights.Length)], expression), (-1, new FilledWeight(type, expression.Shape, Fill(random)))]),
                _ => expression.Map(Maps(random, expression.Shape, random.Next(2) == 0, fresh: true), Fill(random)),
            };
        }

        return expression;
    }

    private static PlacedWeight Placed(Random random, WeightExpression inner)
    {
        long[] before = [.. inner.Shape.Select(_ => (long)random.Next(3))], behind = [.. inner.Shape.Select(_ => (long)random.Next(2))];
        WeightExpression outer = new FilledWeight(inner.Type, [.. inner.Shape.Select((size, axis) => before[axis] + size + behind[axis])], Fill(random));
        return new PlacedWeight(outer, inner, [.. before]);
    }

    /// <summary>Stored elements of any type, with random bits.</summary>
    public static StoredWeight Bits(Random random, ElementType type, long[] shape)
    {
        var bytes = new byte[type.RawSize(shape.Aggregate(1L, (a, b) => a * b))];
        random.NextBytes(bytes);
        return new StoredWeight(type, [.. shape], bytes);
    }
}
