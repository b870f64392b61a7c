using System.Collections.Concurrent;
using System.Diagnostics;
using System.Runtime.InteropServices;
using ILGPU;
using ILGPU.Backends;
using ILGPU.Runtime;

namespace OnnxMorph.Kernels;

/// <summary>The kernels on an accelerator through ILGPU: CUDA, OpenCL, or ILGPU's simulator on the processor for tests.</summary>
internal sealed class AcceleratorDevice : KernelDevice
{
    /// <summary>One window on its way there, one that is computed, one on its way back.</summary>
    private const int Lanes = 3;

    private readonly Context _context;
    private readonly Accelerator _accelerator;
    private readonly AcceleratorLane[] _lanes;

    // The lane that was given back last is taken first, so that few threads need the memory of few lanes.
    private readonly BlockingCollection<AcceleratorLane> _free = new(new ConcurrentStack<AcceleratorLane>());

    // ILGPU itself lets go of a kernel at the next garbage collection, and would compile it again.
    private readonly ConcurrentDictionary<Delegate, Delegate> _kernels = [];
    private readonly Lock _launching = new();

    /// <exception cref="DeviceException">The device cannot be opened; the context is disposed.</exception>
    public AcceleratorDevice(Context context, Device device)
    {
        _context = context;
        Accelerator? accelerator = null;
        try
        {
            _accelerator = accelerator = device.CreateAccelerator(context);
            _lanes = [.. Enumerable.Range(0, Lanes).Select(_ => new AcceleratorLane(accelerator))];
        }
        catch (Exception error) when (IsOfDevice(error))
        {
            accelerator?.Dispose();
            context.Dispose();
            throw new DeviceException($"The device '{device.Name}' cannot be opened: {error.Message}", error);
        }

        foreach (AcceleratorLane lane in _lanes)
            _free.Add(lane);
    }

    public override string Name => $"{_accelerator.AcceleratorType.ToString().ToLowerInvariant()} ({_accelerator.Name})";

    public override void Map(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output) => Map(window, source, output, 0);

    /// <summary>Evaluates a window as <see cref="Map(MapWindow, ReadOnlySpan{byte}, Span{byte})"/> does, and times the kernel alone: its tensors stay on the device while it runs <paramref name="times"/> times more.</summary>
    public TimeSpan Time(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output, int times) => Map(window, source, output, times);

    /// <summary>Times copies of so many bytes from one place on the device to another.</summary>
    public TimeSpan TimeCopy(long bytes, int times)
    {
        AcceleratorLane lane = _free.Take();
        try
        {
            _accelerator.Bind();
            return Repeat(lane, times, () => lane.CopyThere(bytes));
        }
        catch (Exception error) when (IsOfDevice(error))
        {
            lane.Abandon();
            throw new DeviceException($"{Name} cannot copy {bytes} bytes: {error.Message}", error);
        }
        finally
        {
            _free.Add(lane);
        }
    }

    protected override void Dispose(bool disposing)
    {
        // Memory is given back on the thread that disposes, which may not have used the accelerator yet.
        _accelerator.Bind();
        foreach (AcceleratorLane lane in _lanes)
            lane.Dispose();
        _free.Dispose();
        _accelerator.Dispose();
        _context.Dispose();
    }

    private TimeSpan Map(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output, int times)
    {
        window.Check(source.Length, output.Length);
        if (output.IsEmpty)
            return TimeSpan.Zero;
        AcceleratorLane lane = _free.Take();
        try
        {
            _accelerator.Bind();
            lane.Send(window, source);
            Launch(lane, window);
            TimeSpan took = times == 0 ? TimeSpan.Zero : Repeat(lane, times, () => Launch(lane, window));
            lane.Receive(output);
            return took;
        }
        catch (Exception error) when (IsOfDevice(error))
        {
            lane.Abandon();
            throw new DeviceException(
                $"{Name} failed at {window.SourceBytes} bytes that became {window.OutputBytes}: {error.Message} --device cpu computes the same.", error);
        }
        finally
        {
            _free.Add(lane);
        }
    }

    /// <summary>Whether an error is the device's: its memory, its driver, or a kernel that it cannot run.</summary>
    private static bool IsOfDevice(Exception error) => error is AcceleratorException or OutOfMemoryException or NotSupportedException
        or CapabilityNotSupportedException or NotSupportedIntrinsicException or InvalidCodeGenerationException or InternalCompilerException;

    private static TimeSpan Repeat(AcceleratorLane lane, int times, Action work)
    {
        work();
        lane.Stream.Synchronize();
        long start = Stopwatch.GetTimestamp();
        for (int i = 0; i < times; i++)
            work();
        lane.Stream.Synchronize();
        return Stopwatch.GetElapsedTime(start);
    }

    private void Launch(AcceleratorLane lane, MapWindow window)
    {
        switch (window.Map.Format)
        {
            case ElementFormat.Opaque8: Move<byte>(lane, window); break;
            case ElementFormat.Opaque16: Move<ushort>(lane, window); break;
            case ElementFormat.Opaque32: Move<uint>(lane, window); break;
            case ElementFormat.Opaque64: Move<ulong>(lane, window); break;
            case ElementFormat.Opaque128: Move<Bits128>(lane, window); break;
            case ElementFormat.Float16: Compute<ushort, Float16Format>(lane, window); break;
            case ElementFormat.BFloat16: Compute<ushort, BFloat16Format>(lane, window); break;
            case ElementFormat.Float32: Compute<float, Float32Format>(lane, window); break;
            default: Compute<double, Float64Format>(lane, window); break;
        }
    }

    private void Compute<T, TFormat>(AcceleratorLane lane, MapWindow window)
        where T : unmanaged
        where TFormat : unmanaged, IFloatFormat<T>
    {
        KernelFill fill = window.Map.Fill;
        if (fill.Distribution == Distribution.Constant)
        {
            if (window.Map.IsPick)
                Move<T>(lane, window);
            else
                Scale<T, TFormat, ConstantFresh<T>>(lane, window, ConstantOf<T>(fill));
            return;
        }

        var fresh = new RandomFresh<T, TFormat>(
            fill.Distribution, fill.Scale, fill.Seed, new AcceleratorReals(0));
        if (window.Map.IsPick)
            Pick<T, RandomFresh<T, TFormat>>(lane, window, fresh);
        else
            Scale<T, TFormat, RandomFresh<T, TFormat>>(lane, window, fresh);
    }

    private void Move<T>(AcceleratorLane lane, MapWindow window)
        where T : unmanaged =>
        Pick<T, ConstantFresh<T>>(lane, window, ConstantOf<T>(window.Map.Fill));

    private void Pick<T, TFresh>(AcceleratorLane lane, MapWindow window, TFresh fresh)
        where T : unmanaged
        where TFresh : unmanaged, IFresh<T>
    {
        var kernel = Kernel((Action<Index1D, MapArguments<T>, TFresh>)MapKernels.Pick, _accelerator.LoadAutoGroupedKernel);
        MapArguments<T> arguments = lane.Arguments<T>(window);
        lock (_launching)
            kernel(lane.Stream, arguments.Output.IntLength, arguments, fresh);
    }

    private void Scale<T, TFormat, TFresh>(AcceleratorLane lane, MapWindow window, TFresh fresh)
        where T : unmanaged
        where TFormat : unmanaged, IFloatFormat<T>
        where TFresh : unmanaged, IFresh<T>
    {
        var kernel = Kernel(
            (Action<Index1D, MapArguments<T>, TFresh, AcceleratorReals>)MapKernels.Scale<T, TFormat, TFresh>, _accelerator.LoadAutoGroupedKernel);
        MapArguments<T> arguments = lane.Arguments<T>(window);
        lock (_launching)
            kernel(lane.Stream, arguments.Output.IntLength, arguments, fresh, new AcceleratorReals(0));
    }

    // The launch is locked, which only takes as long as handing it to the driver: an OpenCL kernel keeps its arguments between the calls that set them and the one
    // that starts it.
    private TLaunch Kernel<TKernel, TLaunch>(TKernel kernel, Func<TKernel, TLaunch> load)
        where TKernel : Delegate
        where TLaunch : Delegate =>
        (TLaunch)_kernels.GetOrAdd(kernel, _ => load(kernel));

    private static ConstantFresh<T> ConstantOf<T>(KernelFill fill)
        where T : unmanaged
    {
        UInt128 bits = fill.ConstantBits;
        return new ConstantFresh<T>(MemoryMarshal.Read<T>(MemoryMarshal.AsBytes(new ReadOnlySpan<UInt128>(in bits))));
    }

    /// <summary>16 bytes that are only moved.</summary>
    internal readonly record struct Bits128(ulong Low, ulong High);
}
