using OnnxMorph.Axes;
using OnnxMorph.Kernels;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Certification;

/// <summary>
/// Tensors of a child that stand in a stated relation to tensors of its parent: x' = E·[x; u] along every axis, u being what
/// the parent knows nothing of.
/// </summary>
internal static class RelatedTensors
{
    /// <summary>Sizes of the child's tensor.</summary>
    public static long[] Dims(long[] parent, AxisMap?[]? maps) =>
        maps is null ? parent : [.. parent.Select((size, axis) => MapOf(maps, axis) is { } map ? map.Size : size)];

    /// <summary>A tensor of the child for one of the parent, with normal draws of the same size for what is its own.</summary>
    public static TensorData Draw(TensorData parent, AxisMap?[]? maps, Random random)
    {
        if (maps is null)
            return parent;
        double[] values = parent.ToDoubles();
        double scale = Math.Sqrt(values.Average(v => v * v));
        return Apply(Extend(parent, maps, _ => scale * Normal(random)), parent, maps);
    }

    /// <summary>
    /// The tensor of the child that the relation demands beside the parent's, where <paramref name="child"/> says what the child's own
    /// part is: what its first channel that holds nothing else has.
    /// </summary>
    public static TensorData Expect(TensorData parent, AxisMap?[]? maps, TensorData child)
    {
        if (maps is null || !child.Shape.AsSpan().SequenceEqual(Dims(parent.Shape, maps)))
            return parent;
        bool mixed = maps.Any(m => m is { FreshSize: > 0 });
        (int Index, double Weight)[]?[] representatives = [.. parent.Shape.Select((_, axis) => mixed && MapOf(maps, axis) is { } map ? Representatives(map) : null)];
        double[] own = child.ToDoubles();
        return Apply(Extend(parent, maps, at =>
        {
            long place = 0;
            double weight = 1;
            for (int axis = 0; axis < at.Length; axis++)
            {
                (int index, double factor) = representatives[axis]?[at[axis]] ?? (at[axis], 1);
                if (factor == 0)
                    throw new NotSupportedException("a channel stands nowhere by itself");
                place = place * child.Shape[axis] + index;
                weight *= factor;
            }

            return own[place] / weight;
        }), parent, maps);
    }

    /// <summary>A tensor moved by the difference of two others.</summary>
    public static TensorData Moved(TensorData tensor, TensorData from, TensorData to)
    {
        double[] values = tensor.ToDoubles(), before = from.ToDoubles(), after = to.ToDoubles();
        for (int i = 0; i < values.Length; i++)
            values[i] += after[i] - before[i];
        return Rounded(tensor.Type, tensor.Shape, values);
    }

    /// <summary>A tensor of the given numbers.</summary>
    public static TensorData Rounded(ElementType type, long[] shape, double[] values)
    {
        ElementFormat format = ElementEncoding.Format(type);
        var bytes = new byte[values.Length * format.Size()];
        FloatConversion.Round(format, values, bytes);
        return new TensorData(type, shape, bytes);
    }

    /// <summary>A standard normal draw (Box and Muller, 1958).</summary>
    public static double Normal(Random random) =>
        Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble());

    private static AxisMap? MapOf(AxisMap?[] maps, int axis) => axis < maps.Length ? maps[axis] : null;

    // For each index of the extended axis a channel of the child that holds a multiple of it and nothing else; weight 0 where there is none.
    private static (int Index, double Weight)[] Representatives(AxisMap map)
    {
        var found = new (int Index, double Weight)[map.SourceSize + map.FreshSize];
        for (int c = map.Size - 1; c >= 0; c--)
            if (map[c].Length == 1)
                found[map[c][0].Source] = (c, map[c][0].Weight);
        return found;
    }

    // The parent's values with room for fresh indices along every axis, filled by place.
    private static double[] Extend(TensorData parent, AxisMap?[] maps, Func<int[], double> fresh)
    {
        double[] values = parent.ToDoubles();
        int rank = parent.Shape.Length;
        int[] sizes = [.. parent.Shape.Select((size, axis) => (int)size + (MapOf(maps, axis)?.FreshSize ?? 0))];
        if (sizes.Zip(parent.Shape).All(pair => pair.First == pair.Second))
            return values;
        var extended = new double[sizes.Aggregate(1, (product, size) => product * size)];
        var at = new int[rank];
        for (int i = 0; i < extended.Length; i++)
        {
            int place = 0;
            bool own = false;
            for (int axis = 0; axis < rank; axis++)
            {
                own |= at[axis] >= parent.Shape[axis];
                place = place * (int)parent.Shape[axis] + at[axis];
            }

            extended[i] = own ? fresh(at) : values[place];
            for (int axis = rank - 1; axis >= 0 && ++at[axis] == sizes[axis]; axis--)
                at[axis] = 0;
        }

        return extended;
    }

    private static TensorData Apply(double[] extended, TensorData parent, AxisMap?[] maps)
    {
        long[] shape = [.. parent.Shape.Select((size, axis) => size + (MapOf(maps, axis)?.FreshSize ?? 0))];
        for (int axis = 0; axis < shape.Length; axis++)
        {
            if (MapOf(maps, axis) is not { } map)
                continue;
            int outer = (int)shape[..axis].Aggregate(1L, (product, size) => product * size);
            int inner = (int)shape[(axis + 1)..].Aggregate(1L, (product, size) => product * size);
            var result = new double[outer * map.Size * inner];
            for (int o = 0; o < outer; o++)
                for (int c = 0; c < map.Size; c++)
                    foreach (Tap tap in map[c])
                        for (int i = 0; i < inner; i++)
                            result[(o * map.Size + c) * inner + i] += tap.Weight * extended[(o * (int)shape[axis] + tap.Source) * inner + i];
            extended = result;
            shape[axis] = map.Size;
        }

        return Rounded(parent.Type, shape, extended);
    }
}
