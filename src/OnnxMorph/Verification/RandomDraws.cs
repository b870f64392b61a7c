using System.Globalization;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Runtime;
using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>
/// Seeded draws for a model without samples: several sizes where dimensions are symbolic, several ranges of values. The
/// parent decides what is acceptable: a size that it fails on is skipped and reported, an integer range is as wide as it
/// takes, a draw that it answers with NaN is replaced by another range.
/// </summary>
internal sealed class RandomDraws
{
    private enum Range
    {
        Normal,
        Smooth,
        Unit,
        Small,
    }

    private const int Ranges = 4;

    /// <summary>Batch and two other sizes; symbols that are no batch take the two in turn. Tiny ones show border bugs.</summary>
    private static readonly (int Batch, int First, int Second)[] s_sizes =
        [(1, 1, 1), (2, 3, 2), (1, 5, 7), (3, 8, 8), (1, 16, 17), (2, 32, 32), (1, 33, 40), (1, 64, 64)];

    /// <summary>Tried only while fewer than four of the sizes above run.</summary>
    private static readonly (int Batch, int First, int Second)[] s_largerSizes =
        [(1, 96, 128), (1, 224, 224), (2, 128, 128), (1, 256, 256), (1, 299, 299), (1, 320, 320), (1, 384, 384), (1, 512, 512), (1, 640, 640)];

    private const int EnoughSizes = 4;

    private readonly ModelRunner _parent;
    private readonly Effort _effort;
    private readonly ulong _seed;
    private readonly string[] _symbols;
    private readonly HashSet<string> _batchSymbols;
    private readonly DrawSet _draws = new();
    private Dictionary<string, long>? _integerLimits;

    private RandomDraws(ModelRunner parent, Effort effort, ulong seed)
    {
        (_parent, _effort, _seed) = (parent, effort, seed);
        var symbols = new List<string>();
        _batchSymbols = [];
        foreach (ValueInfo input in parent.Inputs)
        {
            for (int axis = 0; axis < input.Shape.Length; axis++)
            {
                if (input.Shape[axis].IsFixed)
                    continue;
                string key = Key(input, axis);
                if (!symbols.Contains(key))
                    symbols.Add(key);
                if (axis == 0)
                    _batchSymbols.Add(key);
            }
        }

        _symbols = [.. symbols];
    }

    /// <summary>Draws inputs that <paramref name="parent"/> accepts, with its outputs.</summary>
    /// <exception cref="OnnxMorphException">The parent runs on no draw, or gives only NaN.</exception>
    public static DrawSet Make(ModelRunner parent, Effort effort, ulong seed, CancellationToken cancellation)
    {
        foreach (ValueInfo input in parent.Inputs)
        {
            if (input.Type == ElementType.String || input.Type.BitWidth() < 8 || input.Type is ElementType.Complex64 or ElementType.Complex128)
                throw new UsageException($"Input '{input.Name}' takes {input.Type} values, which cannot be drawn; give samples with --inputs.");
        }

        return new RandomDraws(parent, effort, seed).Make(cancellation);
    }

    private DrawSet Make(CancellationToken cancellation)
    {
        bool onlyBatch = _symbols.All(_batchSymbols.Contains);
        if (onlyBatch)
        {
            // Nothing but the batch varies: the first sizes' batches, or as many draws of one size.
            for (int i = 0; i < _effort.Draws; i++)
                Try(s_sizes[i], i, cancellation);
        }
        else
        {
            // Spread over the list, so that few draws still see a tiny size and a larger one.
            int[] picked = [.. Enumerable.Range(0, _effort.Draws).Select(i => i * (s_sizes.Length - 1) / Math.Max(1, _effort.Draws - 1)).Distinct()];
            foreach (int i in picked)
                Try(s_sizes[i], i, cancellation);
            for (int i = 0; i < s_largerSizes.Length && _draws.Accepted.Count < Math.Min(EnoughSizes, _effort.Draws); i++)
                Try(s_largerSizes[i], s_sizes.Length + i, cancellation);
        }

        if (_draws.Accepted.Count == 0)
        {
            SkippedDraw last = _draws.Skipped[^1];
            throw new UsageException($"The parent runs on no inputs that were drawn for it (last: {last.Description}: {last.Reason}); give samples with --inputs.");
        }

        return _draws;
    }

    private void Try((int Batch, int First, int Second) size, int index, CancellationToken cancellation)
    {
        cancellation.ThrowIfCancellationRequested();
        string failure = "";
        _integerLimits ??= ProbeIntegers(size);
        for (int attempt = 0; attempt < Ranges; attempt++)
        {
            var range = (Range)((index + attempt) % Ranges);
            // Masks want 0 and 1, token ids the whole vocabulary: every other draw takes the wide ranges.
            bool wide = index % 2 == 1 && _integerLimits is not null && attempt == 0;
            Draw draw = Create(size, range, wide ? _integerLimits! : [], Verifier.HashSeed(_seed, index, 512 + attempt));
            IReadOnlyList<OutputTensor> outputs;
            try
            {
                outputs = _parent.Run(draw.Inputs);
            }
            catch (OnnxRuntimeException e)
            {
                failure = OrtRuntime.Reason(e);
                if (wide)
                    continue;
                break;
            }

            if (outputs.FirstOrDefault(HasNaN) is { } nan)
            {
                failure = $"the parent's own output '{nan.Name}' has NaN";
                continue;
            }

            _draws.Accepted.Add((draw, outputs));
            return;
        }

        _draws.Skipped.Add(new SkippedDraw(SizeText(size), failure));
    }

    /// <summary>
    /// The exclusive upper bound of the values each integer input takes, the others being 0, found by doubling and
    /// bisection; null where the parent does not run at this size at all.
    /// </summary>
    private Dictionary<string, long>? ProbeIntegers((int, int, int) size)
    {
        Draw zero = Create(size, Range.Normal, [], 0, zeroIntegers: true);
        var limits = new Dictionary<string, long>();
        ValueInfo[] integers = [.. _parent.Inputs.Where(input => input.Type is not ElementType.Bool && !input.Type.IsScalable())];
        if (integers.Length == 0)
            return limits;
        if (!Runs(zero.Inputs))
            return null;
        foreach (ValueInfo input in integers)
        {
            long largest = Math.Min(LargestInteger(input.Type), 65535);
            bool Accepts(long value)
            {
                var inputs = new Dictionary<string, TensorData>(zero.Inputs);
                inputs[input.Name] = Integers(input.Type, inputs[input.Name].Shape, () => value);
                return Runs(inputs);
            }

            long accepted = 0;
            long refused = largest + 1;
            for (long value = 1; refused > largest && accepted < largest; value = Math.Min(2 * value + 1, largest))
            {
                if (Accepts(value))
                    accepted = value;
                else
                    refused = value;
            }

            while (refused - accepted > 1)
            {
                long middle = (accepted + refused) / 2;
                if (Accepts(middle))
                    accepted = middle;
                else
                    refused = middle;
            }

            limits.Add(input.Name, accepted + 1);
        }

        return limits;
    }

    private bool Runs(IReadOnlyDictionary<string, TensorData> inputs)
    {
        try
        {
            _parent.Run(inputs);
            return true;
        }
        catch (OnnxRuntimeException)
        {
            return false;
        }
    }

    private Draw Create((int Batch, int First, int Second) size, Range range, Dictionary<string, long> limits, int seed, bool zeroIntegers = false)
    {
        var random = new Random(seed);
        Dictionary<string, long> sizes = Sizes(size);
        var inputs = new Dictionary<string, TensorData>();
        foreach (ValueInfo input in _parent.Inputs)
        {
            long[] shape = [.. input.Shape.Select((dimension, axis) => dimension.IsFixed ? dimension.Size : sizes[Key(input, axis)])];
            inputs.Add(input.Name, input.Type switch
            {
                ElementType.Bool => Integers(input.Type, shape, () => random.Next(2)),
                _ when input.Type.IsScalable() => Floats(input.Type, shape, range, random),
                _ when zeroIntegers => Integers(input.Type, shape, () => 0),
                _ => Integers(input.Type, shape, () => random.NextInt64(limits.GetValueOrDefault(input.Name, 2))),
            });
        }

        string ranges = range switch { Range.Normal => "normal(0, 1)", Range.Smooth => "smooth waves", Range.Unit => "uniform [0, 1)", _ => "normal(0, 0.01)" };
        if (_parent.Inputs.All(input => !input.Type.IsScalable()))
            ranges = "";
        if (_parent.Inputs.Any(input => !input.Type.IsScalable() && input.Type != ElementType.Bool))
            ranges += (ranges.Length > 0 ? ", " : "") + (limits.Count == 0 ? "integers below 2" : "integers below " + string.Join("/", limits.Values));
        return new Draw(string.Create(CultureInfo.InvariantCulture, $"random {ranges}{(sizes.Count > 0 ? ", " : "")}{SizeText(size)}, seed {seed}"), inputs);
    }

    private Dictionary<string, long> Sizes((int Batch, int First, int Second) size)
    {
        var sizes = new Dictionary<string, long>();
        int others = 0;
        foreach (string symbol in _symbols)
            sizes.Add(symbol, _batchSymbols.Contains(symbol) ? size.Batch : others++ % 2 == 0 ? size.First : size.Second);
        return sizes;
    }

    private string SizeText((int, int, int) size) => string.Join(", ", Sizes(size).Select(s => $"{s.Key} = {s.Value}"));

    /// <summary>A symbol's name, or input and axis where a dimension has none and so varies on its own.</summary>
    private static string Key(ValueInfo input, int axis) => input.Shape[axis].Symbol ?? $"{input.Name}[{axis}]";

    private static bool HasNaN(OutputTensor tensor) => tensor.Data.IsFloat && Array.Exists(tensor.Data.ToDoubles(), double.IsNaN);

    private static TensorData Floats(ElementType type, long[] shape, Range range, Random random)
    {
        var values = new float[shape.Aggregate(1L, (product, size) => checked(product * size))];
        if (range == Range.Smooth)
            Waves(values, shape, random);
        else
        {
            foreach (ref float value in values.AsSpan())
                value = range == Range.Unit ? random.NextSingle() : (range == Range.Normal ? 1 : 0.01f) * Normal(random);
        }

        if (type is ElementType.Float16)
            return TensorData.From<Half>(type, shape, [.. values.Select(v => (Half)v)]);
        if (type is ElementType.BFloat16)
            return TensorData.From<ushort>(type, shape, [.. values.Select(v => (ushort)(BitConverter.SingleToInt32Bits(v) >>> 16))]);
        return TensorConversion.TryConvert(TensorData.From<float>(ElementType.Float32, shape, values), type)!;
    }

    /// <summary>
    /// Plane waves over the last two axes, of its own offset and strength for every index of the others: neighbours
    /// agree as in images and signals, which wakes units that white noise averages out.
    /// </summary>
    private static void Waves(Span<float> values, long[] shape, Random random)
    {
        long columns = shape.Length > 0 ? shape[^1] : 1;
        long rows = shape.Length > 1 ? shape[^2] : 1;
        for (int at = 0; at < values.Length; at += (int)(rows * columns))
        {
            float offset = Normal(random);
            float strength = 2 * Normal(random);
            double down = 3 * random.NextDouble() * 2 * Math.PI / rows;
            double across = 3 * random.NextDouble() * 2 * Math.PI / columns;
            double phase = random.NextDouble() * 2 * Math.PI;
            for (int i = 0; i < rows * columns; i++)
                values[at + i] = offset + strength * (float)Math.Cos(phase + down * (i / columns) + across * (i % columns));
        }
    }

    /// <summary>A standard normal number (Box and Muller).</summary>
    private static float Normal(Random random) =>
        (float)(Math.Sqrt(-2 * Math.Log(1 - random.NextDouble())) * Math.Cos(2 * Math.PI * random.NextDouble()));

    private static TensorData Integers(ElementType type, long[] shape, Func<long> next)
    {
        var values = new long[shape.Aggregate(1L, (product, size) => checked(product * size))];
        foreach (ref long value in values.AsSpan())
            value = next();
        if (type == ElementType.Bool)
            return TensorData.From<byte>(type, shape, [.. values.Select(v => (byte)v)]);
        return TensorConversion.TryConvert(TensorData.From<long>(ElementType.Int64, shape, values), type)!;
    }

    private static long LargestInteger(ElementType type) => type switch
    {
        ElementType.UInt8 => byte.MaxValue,
        ElementType.Int8 => sbyte.MaxValue,
        ElementType.Int16 => short.MaxValue,
        ElementType.UInt16 => ushort.MaxValue,
        _ => int.MaxValue,
    };
}
