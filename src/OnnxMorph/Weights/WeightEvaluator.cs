using System.Buffers;
using OnnxMorph.Kernels;
using OnnxMorph.Onnx;

namespace OnnxMorph.Weights;

/// <summary>
/// Evaluates weight expressions by windows: several windows at a time on the machine's cores, in bounded memory,
/// the same bytes for any window, device or number of threads.
/// </summary>
/// <param name="device">What evaluates the maps; the processor's vector units by default.</param>
public sealed class WeightEvaluator(KernelDevice? device = null) : IWeightSource
{
    /// <summary>Small enough to stay in the second-level cache from where it is computed to where it is written.</summary>
    private const int DefaultWindow = 1 << 20;

    /// <summary>Memory that a tensor may hold without being read alone.</summary>
    private const long SmallBytes = 8 << 20;

    private long _storedBytesRead;

    private readonly KernelDevice _device = device ?? KernelDevice.Simd;

    /// <summary>Bytes of one window; tests make it small.</summary>
    internal int WindowBytes { get; init; } = DefaultWindow;

    /// <summary>Bytes that may be held while a tensor is evaluated for what would otherwise be computed more than once.</summary>
    internal long KeptBytes { get; init; } = 128 << 20;

    /// <summary>Bytes of stored elements that readers, closed by now, have read.</summary>
    internal long StoredBytesRead => Interlocked.Read(ref _storedBytesRead);

    /// <inheritdoc/>
    /// <exception cref="RefusedException">The element type does not allow what the expression asks.</exception>
    public IWeightReader Open(WeightExpression weight) => new Reader(this, weight);

    /// <summary>Writes the tensor in ONNX raw layout.</summary>
    /// <exception cref="RefusedException">The element type does not allow what the expression asks.</exception>
    /// <exception cref="UnreadableModelException">A file ends inside a weight.</exception>
    public void Write(WeightExpression expression, Stream destination, CancellationToken cancellation = default)
    {
        using IWeightReader reader = Open(expression);
        Write(reader, expression.ByteLength, destination, cancellation);
    }

    private static void Write(IWeightReader reader, long bytes, Stream destination, CancellationToken cancellation = default)
    {
        long next = 0;
        var pending = new Queue<Task<ArraySegment<byte>>>();
        try
        {
            while (next < bytes || pending.Count > 0)
            {
                for (; next < bytes && pending.Count <= Environment.ProcessorCount; next += reader.WindowBytes)
                {
                    cancellation.ThrowIfCancellationRequested();
                    long start = next;
                    pending.Enqueue(Task.Run(() => Window(start), cancellation));
                }

                ArraySegment<byte> window = pending.Peek().GetAwaiter().GetResult();
                pending.Dequeue();
                destination.Write(window);
                ArrayPool<byte>.Shared.Return(window.Array!);
            }
        }
        finally
        {
            // The reader must outlive the windows that still read.
            Task.WhenAll(pending).ContinueWith(_ => { }, TaskScheduler.Default).Wait(CancellationToken.None);
        }

        ArraySegment<byte> Window(long start)
        {
            int length = (int)Math.Min(reader.WindowBytes, bytes - start);
            byte[] buffer = ArrayPool<byte>.Shared.Rent(length);
            reader.Read(start, buffer.AsSpan(0, length));
            return new ArraySegment<byte>(buffer, 0, length);
        }
    }

    /// <summary>The tensor's bytes in ONNX raw layout, for tensors that fit an array.</summary>
    /// <exception cref="RefusedException">The element type does not allow what the expression asks.</exception>
    /// <exception cref="UnreadableModelException">A file ends inside a weight.</exception>
    public byte[] Evaluate(WeightExpression expression)
    {
        var result = new byte[expression.ByteLength];
        using IWeightReader reader = Open(expression);
        if (result.Length <= reader.WindowBytes)
        {
            // Passes ask for many single numbers.
            if (result.Length > 0)
                reader.Read(0, result);
            return result;
        }

        using var stream = new MemoryStream(result);
        Write(reader, expression.ByteLength, stream);
        return result;
    }

    /// <summary>
    /// The elements of a floating-point tensor in float64, nothing rounded to the element type on the way: for a pass that computes with
    /// weights which steps before it have changed.
    /// </summary>
    /// <exception cref="UnreadableModelException">A file ends inside a weight.</exception>
    public double[] EvaluateUnrounded(WeightExpression expression)
    {
        if (expression is StoredWeight stored)
            return Widened(stored);
        var values = new double[expression.Count];
        WeightExpression unrounded = Unrounded(expression);
        if (unrounded is ComputedWeight computed)
            computed.Values.CopyTo(values);
        else
            FloatConversion.Widen(ElementFormat.Float64, Evaluate(unrounded), values);
        return values;
    }

    private double[] Widened(StoredWeight stored)
    {
        var values = new double[stored.Count];
        FloatConversion.Widen(ElementEncoding.Format(stored.Type), Evaluate(stored), values);
        return values;
    }

    private WeightExpression Unrounded(WeightExpression expression)
    {
        switch (expression)
        {
            case StoredWeight stored:
                return new ComputedWeight(ElementType.Float64, stored.Shape, Widened(stored));
            case ComputedWeight computed:
                return new ComputedWeight(ElementType.Float64, computed.Shape, computed.Values);
            case FilledWeight filled:
                return new FilledWeight(ElementType.Float64, filled.Shape, filled.Fill);
            case OrthogonalWeight orthogonal:
                return new OrthogonalWeight(ElementType.Float64, orthogonal.Shape, orthogonal.Rows, orthogonal.Columns, orthogonal.Scale, orthogonal.Seed);
            case DiracWeight dirac:
                return new DiracWeight(ElementType.Float64, dirac.Shape);
            case MappedWeight mapped:
                return Unrounded(mapped.Source).Map(mapped.Maps, mapped.Fill);
            case ReshapedWeight reshaped:
                return new ReshapedWeight(Unrounded(reshaped.Source), reshaped.Shape);
            case SummedWeight summed:
                return new SummedWeight([.. summed.Terms.Select(term => (term.Factor, Unrounded(term.Weight)))]);
            case RotatedWeight rotated:
                return new RotatedWeight(Unrounded(rotated.Source), rotated.Axis, rotated.Groups, rotated.Seed, rotated.Transpose);
            case TransposedWeight transposed:
                return new TransposedWeight(Unrounded(transposed.Source));
            case PlacedWeight placed:
                return new PlacedWeight(Unrounded(placed.Outer), Unrounded(placed.Inner), placed.Start);
            default:
                throw new NotSupportedException($"No way to evaluate {expression.GetType().Name} unrounded.");
        }
    }

    /// <summary>
    /// Sums over the elements of a floating-point tensor for each index along <paramref name="axis"/>: norms of channels,
    /// standard deviations.
    /// </summary>
    /// <exception cref="RefusedException">The tensor is not of a floating-point type.</exception>
    public Moments[] Measure(WeightExpression expression, int axis)
    {
        if (!expression.Type.IsScalable())
            throw new RefusedException($"Weights of type {expression.Type} have no norm; convert the model to float first.");
        using TensorReader reader = TensorReader.Open(expression, new ReadContext(_device, KeptBytes, WindowBytes));
        var result = new Moments[expression.Shape[axis]];
        long inner = 1;
        foreach (long size in expression.Shape[(axis + 1)..])
            inner *= size;
        long step = WindowLength(reader, expression.Type.BitWidth());
        var bytes = new byte[step * reader.Format.Size()];
        var values = new double[step];
        for (long first = 0; first < reader.Count; first += step)
        {
            int count = (int)Math.Min(step, reader.Count - first);
            Span<byte> window = bytes.AsSpan(0, count * reader.Format.Size());
            reader.Read(first, window);
            FloatConversion.Widen(reader.Format, window, values);
            for (int done = 0; done < count;)
            {
                (long line, long within) = Math.DivRem(first + done, inner);
                int length = (int)Math.Min(inner - within, count - done);
                result[line % result.Length].Add(values.AsSpan(done, length));
                done += length;
            }
        }

        return result;
    }

    /// <summary>Elements of a window: whole rows where rows are short, and whole bytes of packed elements.</summary>
    private long WindowLength(TensorReader reader, int bits) =>
        bits < 8 ? Math.Max(8, WindowBytes / reader.Format.Size()) / 8 * 8 : reader.WindowLength(WindowBytes);

    private sealed class Reader : IWeightReader
    {
        private readonly WeightEvaluator _evaluator;
        private readonly ReadContext _context;
        private readonly TensorReader _reader;
        private readonly int _bits;

        public Reader(WeightEvaluator evaluator, WeightExpression weight)
        {
            (_evaluator, _bits) = (evaluator, weight.Type.BitWidth());
            _context = new ReadContext(evaluator._device, evaluator.KeptBytes, evaluator.WindowBytes);
            _reader = TensorReader.Open(weight, _context);
            WindowBytes = (int)weight.Type.RawSize(evaluator.WindowLength(_reader, _bits));
        }

        public int WindowBytes { get; }

        public bool IsLarge => _evaluator.KeptBytes - _context.Budget > SmallBytes;

        public void Read(long start, Span<byte> destination)
        {
            if (_bits >= 8)
            {
                _reader.Read(start / _reader.Format.Size(), destination);
                return;
            }

            long first = start * 8 / _bits;
            int count = (int)Math.Min(destination.Length * 8 / _bits, _reader.Count - first);
            byte[] elements = ArrayPool<byte>.Shared.Rent(count);
            _reader.Read(first, elements.AsSpan(0, count));
            ElementEncoding.Pack(_bits, elements.AsSpan(0, count), destination);
            ArrayPool<byte>.Shared.Return(elements);
        }

        public void Dispose()
        {
            _reader.Dispose();
            Interlocked.Add(ref _evaluator._storedBytesRead, _context.StoredBytes);
        }
    }
}
