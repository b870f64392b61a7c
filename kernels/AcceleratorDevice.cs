using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Runtime;

namespace OnnxMorph.Kernels;

/// <summary>The kernels on an accelerator through ILGPU: CUDA, OpenCL, or ILGPU's simulator on the processor for tests.</summary>
internal sealed class AcceleratorDevice : KernelDevice
{
    private readonly Context _context;
    private readonly Accelerator _accelerator;
    private readonly Lock _gate = new();

    public AcceleratorDevice(Context context, Device device)
    {
        _context = context;
        _accelerator = device.CreateAccelerator(context);
    }

    public override string Name => $"{_accelerator.AcceleratorType.ToString().ToLowerInvariant()} ({_accelerator.Name})";

    public override void Map(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        window.Check(source.Length, output.Length);
        if (output.IsEmpty)
            return;

        // One stream: an accelerator has one bus, and windows of several threads would only take turns on it.
        lock (_gate)
        {
            switch (window.Map.Format)
            {
                case ElementFormat.Opaque8: Move<byte>(window, source, output); break;
                case ElementFormat.Opaque16: Move<ushort>(window, source, output); break;
                case ElementFormat.Opaque32: Move<uint>(window, source, output); break;
                case ElementFormat.Opaque64: Move<ulong>(window, source, output); break;
                case ElementFormat.Opaque128: Move<Bits128>(window, source, output); break;
                case ElementFormat.Float16: Compute<ushort, Float16Format>(window, source, output); break;
                case ElementFormat.BFloat16: Compute<ushort, BFloat16Format>(window, source, output); break;
                case ElementFormat.Float32: Compute<float, Float32Format>(window, source, output); break;
                default: Compute<double, Float64Format>(window, source, output); break;
            }
        }
    }

    protected override void Dispose(bool disposing)
    {
        _accelerator.Dispose();
        _context.Dispose();
    }

    private void Compute<T, TFormat>(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
        where T : unmanaged
        where TFormat : unmanaged, IFloatFormat<T>
    {
        KernelFill fill = window.Map.Fill;
        if (fill.Distribution == Distribution.Constant)
        {
            if (window.Map.IsPick)
                Move<T>(window, source, output);
            else
                Scale<T, TFormat, ConstantFresh<T>>(window, source, output, ConstantOf<T>(fill));
            return;
        }

        var fresh = new RandomFresh<T, TFormat>(
            fill.Distribution, fill.Scale, fill.Seed, new AcceleratorReals(0));
        if (window.Map.IsPick)
            Pick<T, RandomFresh<T, TFormat>>(window, source, output, fresh);
        else
            Scale<T, TFormat, RandomFresh<T, TFormat>>(window, source, output, fresh);
    }

    private void Move<T>(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
        where T : unmanaged =>
        Pick<T, ConstantFresh<T>>(window, source, output, ConstantOf<T>(window.Map.Fill));

    private void Pick<T, TFresh>(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output, TFresh fresh)
        where T : unmanaged
        where TFresh : unmanaged, IFresh<T>
    {
        using var buffers = new Buffers<T>(_accelerator, window, source);
        var kernel = _accelerator.LoadAutoGroupedStreamKernel<Index1D, MapArguments<T>, TFresh>(MapKernels.Pick<T, TFresh>);
        kernel(buffers.Output.IntExtent, buffers.Arguments(window), fresh);
        buffers.Output.View.BaseView.CopyToCPU(MemoryMarshal.Cast<byte, T>(output));
    }

    private void Scale<T, TFormat, TFresh>(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output, TFresh fresh)
        where T : unmanaged
        where TFormat : unmanaged, IFloatFormat<T>
        where TFresh : unmanaged, IFresh<T>
    {
        using var buffers = new Buffers<T>(_accelerator, window, source);
        var kernel = _accelerator.LoadAutoGroupedStreamKernel<Index1D, MapArguments<T>, TFresh, AcceleratorReals>(
            MapKernels.Scale<T, TFormat, TFresh>);
        kernel(buffers.Output.IntExtent, buffers.Arguments(window), fresh, new AcceleratorReals(0));
        buffers.Output.View.BaseView.CopyToCPU(MemoryMarshal.Cast<byte, T>(output));
    }

    private static ConstantFresh<T> ConstantOf<T>(KernelFill fill)
        where T : unmanaged
    {
        UInt128 bits = fill.ConstantBits;
        return new ConstantFresh<T>(MemoryMarshal.Read<T>(MemoryMarshal.AsBytes(new ReadOnlySpan<UInt128>(in bits))));
    }

    /// <summary>16 bytes that are only moved.</summary>
    internal readonly record struct Bits128(ulong Low, ulong High);

    /// <summary>A window's memory on the accelerator.</summary>
    private sealed class Buffers<T> : IDisposable
        where T : unmanaged
    {
        private readonly MemoryBuffer1D<T, Stride1D.Dense> _source;
        private readonly MemoryBuffer1D<int, Stride1D.Dense> _rowStarts;
        private readonly MemoryBuffer1D<Term, Stride1D.Dense> _rowTerms;
        private readonly MemoryBuffer1D<int, Stride1D.Dense> _columnStarts;
        private readonly MemoryBuffer1D<Term, Stride1D.Dense> _columnTerms;

        public Buffers(Accelerator accelerator, MapWindow window, ReadOnlySpan<byte> source)
        {
            _source = Upload(accelerator, MemoryMarshal.Cast<byte, T>(source));
            _rowStarts = Upload<int>(accelerator, window.Rows.Starts);
            _rowTerms = Upload<Term>(accelerator, window.Rows.Terms);
            _columnStarts = Upload<int>(accelerator, window.Map.Columns.Starts);
            _columnTerms = Upload<Term>(accelerator, window.Map.Columns.Terms);
            Output = accelerator.Allocate1D<T>(window.OutputBytes / window.Map.Format.Size());
        }

        public MemoryBuffer1D<T, Stride1D.Dense> Output { get; }

        public MapArguments<T> Arguments(MapWindow window) => new()
        {
            Source = _source.View.BaseView,
            Output = Output.View.BaseView,
            RowStarts = _rowStarts.View.BaseView,
            RowTerms = _rowTerms.View.BaseView,
            ColumnStarts = _columnStarts.View.BaseView,
            ColumnTerms = _columnTerms.View.BaseView,
            SourceWidth = window.SourceColumnEnd - window.SourceColumnStart,
            SourceColumnStart = window.SourceColumnStart,
            Width = window.ColumnEnd - window.ColumnStart,
            ColumnStart = window.ColumnStart,
            Run = window.Map.Run,
            ExtendedRowLength = window.Map.ExtendedRowLength,
        };

        public void Dispose()
        {
            _source.Dispose();
            _rowStarts.Dispose();
            _rowTerms.Dispose();
            _columnStarts.Dispose();
            _columnTerms.Dispose();
            Output.Dispose();
        }

        private static MemoryBuffer1D<TItem, Stride1D.Dense> Upload<TItem>(Accelerator accelerator, ReadOnlySpan<TItem> items)
            where TItem : unmanaged
        {
            // A buffer of no elements has no address; one unread element stands in.
            var buffer = accelerator.Allocate1D<TItem>(Math.Max(1, items.Length));
            if (!items.IsEmpty)
                buffer.View.BaseView.SubView(0, items.Length).CopyFromCPU(items);
            return buffer;
        }
    }
}
