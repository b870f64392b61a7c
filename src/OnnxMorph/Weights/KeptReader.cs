using System.Runtime.ExceptionServices;
using System.Runtime.InteropServices;
using OnnxMorph.Kernels;

namespace OnnxMorph.Weights;

/// <summary>
/// Elements that are computed once, as a whole, when the first of them is asked for. Maps read rows as often as they copy them, and a
/// rotation reads its source twice; what lies below them would be computed as often, several times over where such expressions stand
/// on each other.
/// </summary>
internal sealed class KeptReader : TensorReader
{
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
        TensorReader reader = Open(expression, context);
        if (!IsCostly(expression, files) || BytesOf(expression) > context.Budget)
            return reader;
        context.Budget -= BytesOf(expression);
        return new KeptReader(expression, reader);
    }

    private static bool IsCostly(WeightExpression expression, bool files) => expression switch
    {
        ReshapedWeight reshaped => IsCostly(reshaped.Source, files),
        StoredWeight stored => files && stored.File is not null,
        _ => expression is MappedWeight or RotatedWeight or SummedWeight or TransposedWeight or PlacedWeight,
    };

    public override void Read(long first, Span<byte> destination) =>
        _elements.Value.ReadSpan((ulong)(first * Format.Size()), destination);

    public override void Dispose()
    {
        if (_elements.IsValueCreated)
            _elements.Value.Dispose();
        _reader.Dispose();
    }

    private static long BytesOf(WeightExpression expression) => expression.Count * ElementEncoding.Format(expression.Type).Size();

    private NativeBuffer Evaluate()
    {
        var elements = new NativeBuffer(_bytes);
        int size = Format.Size();
        long window = _reader.WindowLength(SourceBudget) * size;
        try
        {
            Parallel.For(0, (_bytes + window - 1) / window, i =>
            {
                long start = i * window;
                var part = new byte[Math.Min(window, _bytes - start)];
                _reader.Read(start / size, part);
                elements.WriteSpan<byte>((ulong)start, part);
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
    private sealed class NativeBuffer : SafeBuffer
    {
        public NativeBuffer(long bytes)
            : base(ownsHandle: true)
        {
            Initialize((ulong)bytes);
            SetHandle(Marshal.AllocHGlobal((nint)bytes));
        }

        protected override bool ReleaseHandle()
        {
            Marshal.FreeHGlobal(handle);
            return true;
        }
    }
}
