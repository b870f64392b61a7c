using System.Collections.Immutable;
using OnnxMorph.Axes;
using OnnxMorph.Kernels;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Weights;

/// <summary>Weight expressions evaluated whole, element by element, from their definitions alone.</summary>
internal static class WeightReference
{
    /// <summary>Values in float64, every node's result rounded to its type.</summary>
    public static double[] Evaluate(WeightExpression expression)
    {
        double[] values = expression switch
        {
            StoredWeight stored => Decode(stored.Type, stored.Bytes.Span),
            FilledWeight filled => [.. Enumerable.Range(0, (int)filled.Count).Select(p => Draw(filled.Fill, p))],
            ComputedWeight computed => computed.Values.ToArray(),
            DiracWeight dirac => Dirac([.. dirac.Shape]),
            MappedWeight mapped => Mapped(mapped, Evaluate(mapped.Source)),
            RotatedWeight rotated => Rotated(rotated, Evaluate(rotated.Source)),
            SummedWeight summed => Summed([.. summed.Terms.Select(term => (term.Factor, Evaluate(term.Weight)))]),
            TransposedWeight transposed => Transposed(Evaluate(transposed.Source), (int)transposed.Shape[0], (int)transposed.Shape[1]),
            PlacedWeight placed => Placed(placed, Evaluate(placed.Outer), Evaluate(placed.Inner)),
            _ => throw new InvalidOperationException(),
        };
        return Decode(expression.Type, Encode(expression.Type, values));
    }

    private static double[] Transposed(double[] source, int rows, int columns) =>
        [.. Enumerable.Range(0, rows * columns).Select(i => source[i % columns * rows + i / columns])];

    private static double[] Placed(PlacedWeight placed, double[] outer, double[] inner)
    {
        for (int i = 0; i < inner.Length; i++)
        {
            long rest = i, at = 0, scale = 1;
            for (int axis = placed.Shape.Length - 1; axis >= 0; axis--)
            {
                at += (rest % placed.Inner.Shape[axis] + placed.Start[axis]) * scale;
                rest /= placed.Inner.Shape[axis];
                scale *= placed.Shape[axis];
            }

            outer[at] = inner[i];
        }

        return outer;
    }

    public static double[] Decode(ElementType type, ReadOnlySpan<byte> bytes)
    {
        var values = new double[bytes.Length * 8 / type.BitWidth()];
        FloatConversion.Widen(ElementEncoding.Format(type), bytes, values);
        return values;
    }

    public static byte[] Encode(ElementType type, double[] values)
    {
        var bytes = new byte[type.RawSize(values.Length)];
        FloatConversion.Round(ElementEncoding.Format(type), values, bytes);
        return bytes;
    }

    public static StoredWeight Stored(ElementType type, long[] shape, Func<int, double> value) =>
        new(type, [.. shape], Encode(type, [.. Enumerable.Range(0, (int)shape.Aggregate(1L, (a, b) => a * b)).Select(value)]));

    /// <summary>Q of a group, multiplied out reflection by reflection.</summary>
    public static double[,] Rotation(int group, int size, ulong seed)
    {
        var q = new double[size, size];
        for (int i = 0; i < size; i++)
            q[i, i] = 1;
        int reflections = Math.Min(16, size);
        for (int r = 0; r < reflections; r++)
        {
            var v = new double[size];
            for (int i = 0; i < size; i++)
                v[i] = RandomDraw.Value(Distribution.Normal, seed, ((long)group * reflections + r) * size + i);
            double norm = v.Sum(x => x * x);
            for (int row = 0; row < size; row++)
            {
                double dot = 0;
                for (int k = 0; k < size; k++)
                    dot += q[row, k] * v[k];
                for (int k = 0; k < size; k++)
                    q[row, k] -= 2 * dot / norm * v[k];
            }
        }

        return q;
    }

    private static double Draw(Fill fill, long position) => fill.Kind switch
    {
        FillKind.Constant => fill.Scale,
        FillKind.Uniform => fill.Scale * RandomDraw.Value(Distribution.Uniform, fill.Seed, position),
        _ => fill.Scale * RandomDraw.Value(Distribution.Normal, fill.Seed, position),
    };

    private static double[] Summed((double Factor, double[] Values)[] terms) =>
        [.. Enumerable.Range(0, terms[0].Values.Length).Select(i => terms.Sum(term => term.Factor * term.Values[i]))];

    private static double[] Dirac(long[] shape)
    {
        double[] result = new double[shape.Aggregate(1L, (a, b) => a * b)];
        for (int index = 0; index < result.Length; index++)
        {
            long[] at = Coordinates(index, shape);
            bool centre = at.Zip(shape).Skip(2).All(pair => pair.First == pair.Second / 2);
            result[index] = centre && at[1] == at[0] % shape[1] ? 1 : 0;
        }

        return result;
    }

    private static double[] Mapped(MappedWeight mapped, double[] source)
    {
        long[] shape = [.. mapped.Source.Shape];
        long[] extended = [.. shape.Select((size, axis) => size + (mapped.Maps[axis]?.FreshSize ?? 0))];
        long[] output = [.. mapped.Shape];
        var result = new double[mapped.Count];
        for (int index = 0; index < result.Length; index++)
            result[index] = Sum(Coordinates(index, output), 0, []);
        return result;

        double Sum(long[] at, int axis, ImmutableArray<int> from)
        {
            if (axis < shape.Length)
            {
                AxisMap map = mapped.Maps[axis] ?? AxisMap.Identity((int)shape[axis]);
                double sum = 0;
                foreach (Tap tap in map[(int)at[axis]])
                    sum += tap.Weight * Sum(at, axis + 1, from.Add(tap.Source));
                return sum;
            }

            long inSource = 0, inExtended = 0;
            bool fresh = false;
            for (int i = 0; i < shape.Length; i++)
            {
                inSource = inSource * shape[i] + from[i];
                inExtended = inExtended * extended[i] + from[i];
                fresh |= from[i] >= shape[i];
            }

            return fresh ? Decode(mapped.Type, Encode(mapped.Type, [Draw(mapped.Fill, inExtended)]))[0] : source[inSource];
        }
    }

    private static double[] Rotated(RotatedWeight rotated, double[] source)
    {
        long[] shape = [.. rotated.Shape];
        int size = (int)shape[rotated.Axis] / rotated.Groups;
        double[][,] q = [.. Enumerable.Range(0, rotated.Groups).Select(g => Rotation(g, size, rotated.Seed))];
        long inner = shape.Skip(rotated.Axis + 1).Aggregate(1L, (a, b) => a * b);
        var result = new double[source.Length];
        for (int index = 0; index < result.Length; index++)
        {
            int along = (int)Coordinates(index, shape)[rotated.Axis];
            (int group, int a) = Math.DivRem(along, size);
            for (int b = 0; b < size; b++)
                result[index] += (rotated.Transpose ? q[group][b, a] : q[group][a, b]) * source[index + (b - a) * inner];
        }

        return result;
    }

    private static long[] Coordinates(long index, long[] shape)
    {
        var result = new long[shape.Length];
        for (int axis = shape.Length - 1; axis >= 0; axis--)
            (index, result[axis]) = Math.DivRem(index, shape[axis]);
        return result;
    }
}
