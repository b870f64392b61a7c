using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;
using OnnxMorph.Kernels;

namespace OnnxMorph.Weights;

/// <summary>
/// Elements that are computed once, as a whole, when the first of them is asked for. Maps read rows as often as they copy them, and a
/// rotation reads its source twice; what lies below them would be computed as often, several times over where such expressions stand
/// on each other.
/// </summary>
internal sealed class KeptReader : TensorReader
{
    private const int MinimalPart = 1 << 10;

    private readonly TensorReader _reader;
    private readonly long _bytes;
    private readonly Lazy<NativeBuffer> _elements;

    private KeptReader(WeightExpression expression, TensorReader reader)
        : base(expression)
    {
        _bytes = BytesOf(expression);
        _reader = reader;
        _elements = new Lazy<NativeBuffer>(Evaluate);
    }

    /// <summary>
    /// Opens what another reader reads more than once: kept where the memory that is left takes it, and it is computed from other
    /// elements or, with <paramref name="files"/>, stands in a file. What lies deeper comes first.
    /// </summary>
    public static TensorReader Open(WeightExpression expression, ReadContext context, bool files)
    {
        // What fits a few windows is better kept whole: its source is then read once.
        bool small = BytesOf(expression) <= Math.Min(4L * context.WindowBytes, context.Budget);
        if (!small && expression is MappedWeight mapped && LongSumsReader.TryOpen(mapped, context) is { } sums)
            return sums;
        TensorReader reader = Open(expression, context);
        return IsCostly(expression, files) && BytesOf(expression) <= context.Budget ? Keep(expression, reader, context) : reader;
    }

    /// <summary>Keeps what a reader gives, and takes its bytes from the memory that is left.</summary>
    public static KeptReader Keep(WeightExpression expression, TensorReader reader, ReadContext context)
    {
        context.Budget -= BytesOf(expression);
        return new KeptReader(expression, reader);
    }

    /// <summary>Bytes that the elements of an expression take.</summary>
    public static long BytesOf(WeightExpression expression) => expression.Count * ElementEncoding.Format(expression.Type).Size();

    /// <summary>Whether elements are computed from others, or with <paramref name="files"/> stand in a file.</summary>
    public static bool IsCostly(WeightExpression expression, bool files) => expression switch
    {
        ReshapedWeight reshaped => IsCostly(reshaped.Source, files),
        StoredWeight stored => files && stored.File is not null,
        _ => expression is MappedWeight or RotatedWeight or SummedWeight or TransposedWeight or PlacedWeight,
    };

    public override void Read(long first, Span<byte> destination) =>
        _elements.Value.Part(first * Format.Size(), destination.Length).CopyTo(destination);

    public override void Dispose()
    {
        if (_elements.IsValueCreated)
            _elements.Value.Dispose();
        _reader.Dispose();
    }

    private NativeBuffer Evaluate()
    {
        var elements = new NativeBuffer(_bytes);
        int size = Format.Size();
        // A part for each processor at least: what is kept may be small and yet read much. Rows are cut where they are fewer.
        int parts = Environment.ProcessorCount;
        long row = Math.Max(1, _reader.Granularity) * size, share = Math.Max(MinimalPart, (_bytes + parts - 1) / parts);
        share = _bytes >= parts * row ? Math.Max(1, share / row) * row : (share + size - 1) / size * size;
        long window = Math.Min(_reader.WindowLength(SourceBudget) * size, share);
        try
        {
            Parallel.For(0, (_bytes + window - 1) / window, i =>
            {
                long start = i * window;
                _reader.Read(start / size, elements.Part(start, (int)Math.Min(window, _bytes - start)));
            });
        }
        catch (AggregateException e)
        {
            elements.Dispose();
            ExceptionDispatchInfo.Throw(e.InnerExceptions[0]);
        }

        return elements;
    }

    /// <summary>Memory that is given back at once when its tensor is done, which the garbage collector's would not be.</summary>
    private sealed unsafe class NativeBuffer : SafeHandleZeroOrMinusOneIsInvalid
    {
        private readonly long _bytes;

        public NativeBuffer(long bytes)
            : base(ownsHandle: true)
        {
            _bytes = bytes;
            SetHandle((nint)NativeMemory.Alloc((nuint)bytes));
        }

        /// <summary>The bytes from <paramref name="start"/> on; they must not be used after the buffer is disposed.</summary>
        public Span<byte> Part(long start, int length)
        {
            ArgumentOutOfRangeException.ThrowIfGreaterThan((ulong)start + (ulong)length, (ulong)_bytes, nameof(length));
            ObjectDisposedException.ThrowIf(IsClosed, this);
            return new Span<byte>((byte*)handle + start, length);
        }

        protected override bool ReleaseHandle()
        {
            NativeMemory.Free((void*)handle);
            return true;
        }
    }
}
