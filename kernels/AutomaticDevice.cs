using System.Collections.Concurrent;
using System.Numerics;

namespace OnnxMorph.Kernels;

/// <summary>
/// The processor, and an accelerator for windows of the kinds at which it was measured to be faster in this very run. Every device gives the same bits, so that
/// each window may be evaluated on any. What is only moved stays on the processor: the bus to an accelerator would carry as many bytes as the move itself.
/// </summary>
internal sealed class AutomaticDevice : KernelDevice
{
    /// <summary>Windows of fewer bytes, source and output together, wait longer for the bus than they take.</summary>
    public const int SmallestBytes = 1 << 18;

    private readonly KernelDevice _processor;
    private readonly Lazy<KernelDevice?> _accelerator;
    private readonly long _patience;
    private readonly TimeProvider _clock;
    private readonly ConcurrentDictionary<Work, Paces> _paces = [];
    private readonly ConcurrentBag<Task> _trials = [];
    private long _seen;

    // Set, the accelerator is not used any more.
    private string? _warning;

    /// <param name="processor">Evaluates what the accelerator does not.</param>
    /// <param name="open">Opens the accelerator; null where there is none.</param>
    /// <param name="patience">
    /// Bytes of windows that an accelerator might take before one is looked for: drivers and compilers take longer to start than a small model.
    /// </param>
    /// <param name="clock">Measures windows.</param>
    public AutomaticDevice(KernelDevice processor, Func<KernelDevice?> open, long patience, TimeProvider clock)
    {
        (_processor, _patience, _clock) = (processor, patience, clock);
        _accelerator = new Lazy<KernelDevice?>(() =>
        {
            try
            {
                return open();
            }
            catch (DeviceException error)
            {
                GiveUp(error.Message);
                return null;
            }
        });
    }

    /// <summary>Windows whose bytes cost about the same.</summary>
    private readonly record struct Work(ElementFormat Format, bool Sums, bool Draws);

    public override string Name => _accelerator is { IsValueCreated: true, Value: { } accelerator } ? $"{_processor.Name} and {accelerator.Name}" : _processor.Name;

    public override string? Warning => _warning;

    /// <summary>Ends when the accelerator has been tried at everything that came so far.</summary>
    internal Task Tried => Task.WhenAll(_trials);

    public override void Map(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        long bytes = (long)source.Length + output.Length;
        if (bytes < SmallestBytes || WorkOf(window) is not { } work)
        {
            _processor.Map(window, source, output);
            return;
        }

        Paces paces = _paces.GetOrAdd(work, _ => new Paces());
        bool accelerated = paces.PrefersAccelerator();
        if (Interlocked.Add(ref _seen, bytes) > _patience && paces.IsFirst())
        {
            byte[] copy = source.ToArray();
            _trials.Add(Task.Run(() => Try(paces, window, copy)));
        }

        if (accelerated && OnAccelerator(paces, window, source, output))
            return;
        long start = _clock.GetTimestamp();
        _processor.Map(window, source, output);
        paces.Took(accelerated: false, _clock.GetElapsedTime(start), bytes);
    }

    protected override void Dispose(bool disposing)
    {
        // The process must not end under a driver that is still starting.
        Tried.Wait();
        if (_accelerator.IsValueCreated)
            _accelerator.Value?.Dispose();
    }

    /// <summary>What a window computes; null where it is only moved, be it with a factor.</summary>
    private static Work? WorkOf(MapWindow window)
    {
        TensorMap map = window.Map;
        bool halves = map.Format is ElementFormat.Float16 or ElementFormat.BFloat16;
        bool sums = !map.IsPick && (halves || window.Rows.Terms.Length > window.Rows.Count || map.Columns.Terms.Length > map.Columns.Count);
        bool draws = map.Fill.Distribution != Distribution.Constant
            && (map.Pieces.DrawnLength > 0 || (map.FreshPieces is not null && Array.Exists(window.Rows.Terms, term => term.Source < 0)));
        return sums || draws ? new Work(map.Format, sums, draws) : null;
    }

    /// <summary>Opens the accelerator and tries it on a copy of a window while the caller goes on, so that nobody waits for drivers and compilers.</summary>
    private void Try(Paces paces, MapWindow window, byte[] source)
    {
        if (_accelerator.Value is not { } accelerator)
            return;
        byte[] expected = new byte[window.OutputBytes], output = new byte[window.OutputBytes];
        _processor.Map(window, source, expected);
        // The first time, the kernel is compiled, which is not what later windows take.
        if (!OnAccelerator(null, window, source, output))
            return;
        if (output.AsSpan().SequenceEqual(expected))
            OnAccelerator(paces, window, source, output);
        else
            GiveUp($"{accelerator.Name} gives other bits than the processor.");
    }

    /// <summary>Evaluates a window on the accelerator; false where that fails or failed before.</summary>
    private bool OnAccelerator(Paces? paces, MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
    {
        if (_warning is not null)
            return false;
        long start = _clock.GetTimestamp();
        try
        {
            _accelerator.Value!.Map(window, source, output);
        }
        catch (DeviceException error)
        {
            GiveUp(error.Message);
            return false;
        }

        paces?.Took(accelerated: true, _clock.GetElapsedTime(start), (long)source.Length + output.Length);
        return true;
    }

    private void GiveUp(string why) =>
        Interlocked.CompareExchange(ref _warning, $"{why} The processor computed what was meant for it; the results are the same.", null);

    /// <summary>
    /// What windows of one kind took on either device. Waiting for windows of other threads is part of it, so that a device that is busy is chosen less.
    /// </summary>
    private sealed class Paces
    {
        /// <summary>Share of the last window in the running mean.</summary>
        private const double Newest = 1.0 / 8;

        private readonly Lock _gate = new();
        private double? _processor, _accelerator;
        private uint _choices;
        private bool _begun;

        /// <summary>True once.</summary>
        public bool IsFirst()
        {
            lock (_gate)
                return !_begun && (_begun = true);
        }

        /// <summary>Takes note of a window.</summary>
        public void Took(bool accelerated, TimeSpan time, long bytes)
        {
            double pace = time.Ticks / (double)bytes;
            lock (_gate)
            {
                ref double? mean = ref accelerated ? ref _accelerator : ref _processor;
                mean = mean is { } before ? before + Newest * (pace - before) : pace;
            }
        }

        /// <summary>
        /// Whether the next window goes to the accelerator: to the faster one, but ever more rarely to the other, which may be the faster by now.
        /// </summary>
        public bool PrefersAccelerator()
        {
            lock (_gate)
                return _accelerator is { } accelerator && (accelerator < (_processor ?? double.PositiveInfinity)) != BitOperations.IsPow2(++_choices);
        }
    }
}
