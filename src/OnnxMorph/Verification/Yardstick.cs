using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>
/// What the parent computes for one tensor on one draw, and how far equivalent evaluations of it lie apart. A child is
/// measured against that, with no tolerance of anyone's choosing.
/// <para>
/// Floating-point tensors are judged in slices: the whole tensor, and every index of every axis whose slices have at
/// least <see cref="MinSlice"/> elements. So a small-valued class score is held to the noise of class scores and not to
/// that of the box coordinates beside it, and a faint sample to its own and not to its neighbour's. In a slice the
/// largest difference counts; nothing is summed. Smaller slices are not judged alone, because the largest of so few
/// differences says too little about the noise.
/// </para>
/// <para>
/// The floor of a slice is the largest difference between the baseline and any equivalent evaluation, at least one unit
/// in the last place at the slice's own scale (its largest absolute value): the parent's result is not known better.
/// </para>
/// <para>
/// Other tensors (integers, bool, strings) must be equal, except that elements the parent itself decides differently in
/// equivalent evaluations (an argmax on a tie) say nothing.
/// </para>
/// </summary>
internal sealed class Yardstick
{
    public const int MinSlice = 16;

    private const int Chunk = 8192;

    private readonly TensorData _baseline;
    private readonly int[] _axes;
    private readonly double[][] _noise;
    private readonly double[][] _scale;
    private readonly bool[] _unstable;

    public Yardstick(TensorData baseline)
    {
        _baseline = baseline;
        _unstable = baseline.IsFloat ? [] : new bool[baseline.Count];
        var axes = new List<int> { -1 };
        for (int axis = 0; baseline.IsFloat && axis < baseline.Shape.Length; axis++)
        {
            if (baseline.Shape[axis] > 1 && baseline.Count / baseline.Shape[axis] >= MinSlice)
                axes.Add(axis);
        }

        _axes = [.. axes];
        _noise = NewSlices();
        _scale = NewSlices();
        if (baseline.IsFloat)
            MaxPerSlice(baseline, null, _scale);
    }

    /// <summary>Whether equivalent evaluations of the parent return different shapes, so that nothing can be compared.</summary>
    public bool ShapeVaries { get; private set; }

    /// <summary>Largest finite absolute value of the baseline.</summary>
    public double Scale => _scale[0][0];

    /// <summary>The measured noise of the whole tensor over its scale; 0 where the scale is 0.</summary>
    public double RelativeNoise => Scale > 0 ? _noise[0][0] / Scale : 0;

    /// <summary>Whether the baseline has an element that means something: neither empty nor all NaN.</summary>
    public bool HasEvidence => _baseline.Count > 0 && !IsNaN;

    /// <summary>Whether every element is NaN.</summary>
    public bool IsNaN => _baseline.Count > 0 && _baseline.IsFloat && Array.TrueForAll(_baseline.ToDoubles(), double.IsNaN);

    /// <summary>How many elements the parent itself decides differently.</summary>
    public int UnstableCount => _unstable.Count(unstable => unstable);

    /// <summary>Whether <paramref name="child"/> has the baseline's type and shape.</summary>
    public bool SameShape(TensorData child) => _baseline.SameShape(child);

    /// <summary>Type and shape for messages.</summary>
    public string Signature => _baseline.Signature;

    /// <summary>Takes in an equivalent evaluation of the parent.</summary>
    public void Observe(TensorData evaluation)
    {
        if (!_baseline.SameShape(evaluation))
        {
            ShapeVaries = true;
        }
        else if (_baseline.IsFloat)
        {
            MaxPerSlice(_baseline, evaluation, _noise);
        }
        else if (!_baseline.SameBits(evaluation))
        {
            for (int i = 0; i < _unstable.Length; i++)
                _unstable[i] |= !SameElement(_baseline, evaluation, i);
        }
    }

    /// <summary>Measures a child's tensor.</summary>
    /// <param name="child">The child's values; type and shape must be the baseline's.</param>
    /// <param name="pooledNoise">Noise of the whole tensor relative to its scale that other draws show; lifts the floor of tensors too small to measure it well.</param>
    public Measurement Measure(TensorData child, double pooledNoise)
    {
        if (_baseline.SameBits(child))
            return new Measurement { Identical = true, Floor = RelativeFloor(0, 0, pooledNoise) };
        return _baseline.IsFloat ? MeasureFloats(child, pooledNoise) : MeasureExact(child);
    }

    /// <summary>The floor of the whole tensor over its scale: 0 for tensors that must be equal, infinite where the scale is 0.</summary>
    public double WholeFloor(double pooledNoise) => RelativeFloor(0, 0, pooledNoise);

    private Measurement MeasureFloats(TensorData child, double pooledNoise)
    {
        double[][] differences = NewSlices();
        MaxPerSlice(_baseline, child, differences);
        var result = new Measurement
        {
            MaxAbs = differences[0][0],
            MaxRel = Relative(differences[0][0], Scale),
            MaxUlp = MaxUlp(child),
            Floor = RelativeFloor(0, 0, pooledNoise),
        };
        for (int a = 0; a < _axes.Length; a++)
        {
            for (int index = 0; index < differences[a].Length; index++)
            {
                double difference = differences[a][index];
                double ratio = difference == 0 ? 0 : difference / Floor(a, index, pooledNoise);
                // A difference of infinity over an infinite floor: NaN or infinity where the parent itself wavers.
                if (double.IsNaN(ratio))
                    ratio = double.PositiveInfinity;
                if (ratio <= result.Ratio)
                    continue;
                result.Ratio = ratio;
                result.Floor = RelativeFloor(a, index, pooledNoise);
                result.Slice = _axes[a] < 0 ? "" : $"axis {_axes[a]} index {index}";
            }
        }

        return result;
    }

    private Measurement MeasureExact(TensorData child)
    {
        var result = new Measurement();
        for (int i = 0; i < _baseline.Count; i++)
        {
            if (SameElement(_baseline, child, i))
                continue;
            result.MaxAbs = Math.Max(result.MaxAbs, Math.Abs(Number(_baseline, i) - Number(child, i)));
            if (!_unstable[i])
                result.UnexcusedCount++;
        }

        double scale = 0;
        for (int i = 0; i < _baseline.Count; i++)
            scale = Math.Max(scale, Math.Abs(Number(_baseline, i)));
        result.MaxRel = Relative(result.MaxAbs, scale);
        result.MaxUlp = (long)Math.Min(result.MaxAbs, long.MaxValue);
        return result;
    }

    private double Floor(int slot, int index, double pooledNoise)
    {
        double floor = Math.Max(_noise[slot][index], Math.Max(Unit * _scale[slot][index], SmallestNormal));
        return slot == 0 ? Math.Max(floor, pooledNoise * Scale) : floor;
    }

    private double RelativeFloor(int slot, int index, double pooledNoise) => _baseline.IsFloat ? Relative(Floor(slot, index, pooledNoise), Scale) : 0;

    private static double Relative(double value, double scale) => value == 0 ? 0 : scale > 0 ? value / scale : double.PositiveInfinity;

    /// <summary>One unit in the last place of 1.</summary>
    private double Unit => _baseline.Type switch
    {
        ElementType.Float64 => Math.ScaleB(1, -52),
        ElementType.Float32 => Math.ScaleB(1, -23),
        ElementType.Float16 => Math.ScaleB(1, -10),
        _ => Math.ScaleB(1, -7),
    };

    /// <summary>Below it numbers lose precision and may be flushed to zero.</summary>
    private double SmallestNormal => _baseline.Type switch
    {
        ElementType.Float64 => Math.ScaleB(1, -1022),
        ElementType.Float16 => Math.ScaleB(1, -14),
        _ => Math.ScaleB(1, -126),
    };

    private double[][] NewSlices() => [.. _axes.Select(axis => new double[axis < 0 ? 1 : _baseline.Shape[axis]])];

    /// <summary>
    /// Raises each slice of <paramref name="maxima"/> to the largest difference of its elements, or to the largest
    /// absolute value where there is no second tensor.
    /// </summary>
    private void MaxPerSlice(TensorData first, TensorData? second, double[][] maxima)
    {
        var left = new double[Math.Min(Chunk, first.Count)];
        var right = new double[left.Length];
        for (int start = 0; start < first.Count; start += Chunk)
        {
            int length = Math.Min(Chunk, first.Count - start);
            Span<double> values = left.AsSpan(0, length);
            first.ReadDoubles(start, values);
            if (second is null)
            {
                foreach (ref double value in values)
                    value = double.IsFinite(value) ? Math.Abs(value) : 0;
            }
            else
            {
                second.ReadDoubles(start, right.AsSpan(0, length));
                for (int i = 0; i < length; i++)
                    values[i] = Difference(values[i], right[i]);
            }

            for (int a = 0; a < _axes.Length; a++)
                MaxAlong(values, start, _axes[a], maxima[a]);
        }
    }

    private void MaxAlong(ReadOnlySpan<double> values, int start, int axis, double[] maxima)
    {
        // Elements between two steps of the index along the axis.
        long inner = 1;
        for (int i = axis + 1; i < _baseline.Shape.Length; i++)
            inner *= _baseline.Shape[i];
        int index = (int)(start / inner % maxima.Length);
        int run = (int)Math.Min(inner - start % inner, values.Length);
        for (int at = 0; at < values.Length;)
        {
            double maximum = maxima[index];
            foreach (double value in values.Slice(at, run))
            {
                if (value > maximum)
                    maximum = value;
            }

            maxima[index] = maximum;
            at += run;
            run = (int)Math.Min(inner, values.Length - at);
            if (++index == maxima.Length)
                index = 0;
        }
    }

    /// <summary>|a − b|; equal infinities and a NaN on both sides are no difference, a NaN or infinity on one is infinite.</summary>
    private static double Difference(double a, double b)
    {
        if (a == b || (double.IsNaN(a) && double.IsNaN(b)))
            return 0;
        double difference = Math.Abs(a - b);
        return double.IsNaN(difference) ? double.PositiveInfinity : difference;
    }

    private long MaxUlp(TensorData child)
    {
        double[] left = new double[Math.Min(Chunk, child.Count)];
        double[] right = new double[left.Length];
        long maximum = 0;
        for (int start = 0; start < child.Count; start += Chunk)
        {
            int length = Math.Min(Chunk, child.Count - start);
            _baseline.ReadDoubles(start, left.AsSpan(0, length));
            child.ReadDoubles(start, right.AsSpan(0, length));
            for (int i = 0; i < length; i++)
            {
                double difference = Difference(left[i], right[i]);
                if (difference == 0)
                    continue;
                if (double.IsPositiveInfinity(difference))
                    return long.MaxValue;
                Int128 ulps = Int128.Abs((Int128)Rank(left[i]) - Rank(right[i]));
                maximum = ulps > long.MaxValue ? long.MaxValue : Math.Max(maximum, (long)ulps);
            }
        }

        return maximum;
    }

    /// <summary>The position of a number among the representable ones of the type, 0 at zero.</summary>
    private long Rank(double value)
    {
        long magnitude = _baseline.Type switch
        {
            ElementType.Float64 => BitConverter.DoubleToInt64Bits(Math.Abs(value)),
            ElementType.Float32 => BitConverter.SingleToInt32Bits((float)Math.Abs(value)),
            ElementType.Float16 => BitConverter.HalfToInt16Bits((Half)Math.Abs(value)),
            _ => BitConverter.SingleToInt32Bits((float)Math.Abs(value)) >> 16,
        };
        return value < 0 ? -magnitude : magnitude;
    }

    private static bool SameElement(TensorData a, TensorData b, int index)
    {
        if (a.Strings is not null)
            return a.Strings[index] == b.Strings![index];
        int width = a.Type.BitWidth();
        // Sub-byte elements are compared by the byte that they share.
        int bytes = Math.Max(1, width / 8);
        int at = (int)((long)index * width / 8);
        return a.Bytes.AsSpan(at, bytes).SequenceEqual(b.Bytes.AsSpan(at, bytes));
    }

    /// <summary>An element as a number, for reports; strings and exotic types count 0, so that only their inequality shows.</summary>
    private static double Number(TensorData data, int index) => data.Type switch
    {
        ElementType.Bool or ElementType.UInt8 => data.Bytes[index],
        ElementType.Int8 => (sbyte)data.Bytes[index],
        ElementType.Int16 => data.Values<short>()[index],
        ElementType.UInt16 => data.Values<ushort>()[index],
        ElementType.Int32 => data.Values<int>()[index],
        ElementType.UInt32 => data.Values<uint>()[index],
        ElementType.Int64 => data.Values<long>()[index],
        ElementType.UInt64 => data.Values<ulong>()[index],
        _ => 0,
    };
}

/// <summary>How far a child's tensor is from its parent's on one draw.</summary>
internal sealed class Measurement
{
    /// <summary>Every bit is the same.</summary>
    public bool Identical { get; init; }

    public double MaxAbs { get; set; }

    public double MaxRel { get; set; }

    public long MaxUlp { get; set; }

    /// <summary>Largest difference over floor of any slice.</summary>
    public double Ratio { get; set; }

    /// <summary>The floor of that slice, relative to the whole tensor's scale.</summary>
    public double Floor { get; set; }

    /// <summary>That slice; empty for the whole tensor.</summary>
    public string Slice { get; set; } = "";

    /// <summary>Elements of an integer, bool or string tensor that differ though the parent's own evaluations agree on them.</summary>
    public int UnexcusedCount { get; set; }
}
