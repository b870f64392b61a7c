using OnnxMorph.Axes;
using OnnxMorph.Kernels;

namespace OnnxMorph.Weights;

/// <summary>
/// Elements of a tensor under a map with long sums along one axis, such as the mean of all channels: the sums are kept, and what else the map
/// makes, which costs little, is made whenever it is read. Keeping all of it would take as much memory as the tensor.
/// </summary>
internal sealed class LongSumsReader : TensorReader
{
    private readonly TensorReader _others, _sums;
    private readonly int[] _indices;
    private readonly long _axisLength, _inner;

    private LongSumsReader(MappedWeight mapped, int axis, int[] indices, TensorReader others, TensorReader sums)
        : base(mapped)
    {
        (_others, _sums, _indices) = (others, sums, indices);
        _inner = mapped.Shape[(axis + 1)..].Aggregate(1L, (product, size) => product * size);
        _axisLength = mapped.Shape[axis] * _inner;
    }

    public override long Granularity => _others.Granularity;

    /// <summary>
    /// Opens a tensor; null where its maps have no long sums, or along several axes, or where the memory that is left does not take them. The source is
    /// read for the sums and again for the others, so it must cost no more than a file does.
    /// </summary>
    public static TensorReader? TryOpen(MappedWeight mapped, ReadContext context)
    {
        if (KeptReader.IsCostly(mapped.Source, files: false))
            return null;
        int[] axes = [.. Enumerable.Range(0, mapped.Maps.Length).Where(a => mapped.Maps[a] is { HasLongSums: true })];
        if (axes is not [int axis])
            return null;
        (AxisMap others, AxisMap sums, int[] indices) = mapped.Maps[axis]!.SplitLongSums();
        var kept = new MappedWeight(mapped.Source, mapped.Maps.SetItem(axis, sums), mapped.Fill);
        return KeptReader.BytesOf(kept) > context.Budget ? null
            : new LongSumsReader(
                mapped, axis, indices, Open(new MappedWeight(mapped.Source, mapped.Maps.SetItem(axis, others), mapped.Fill), context), KeptReader.Keep(kept, Open(kept, context), context));
    }

    public override void Read(long first, Span<byte> destination)
    {
        _others.Read(first, destination);
        int size = Format.Size();
        long end = first + destination.Length / size;
        for (long outer = first / _axisLength; outer * _axisLength < end; outer++)
        {
            for (int i = 0; i < _indices.Length; i++)
            {
                long start = outer * _axisLength + _indices[i] * _inner;
                long from = Math.Max(first, start), to = Math.Min(end, start + _inner);
                if (from < to)
                    _sums.Read((outer * _indices.Length + i) * _inner + from - start, destination[(int)((from - first) * size)..(int)((to - first) * size)]);
            }
        }
    }

    public override void Dispose()
    {
        _others.Dispose();
        _sums.Dispose();
    }
}
