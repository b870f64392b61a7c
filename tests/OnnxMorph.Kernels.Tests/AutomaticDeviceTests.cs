using Xunit;

namespace OnnxMorph.Kernels.Tests;

public class AutomaticDeviceTests
{
    private readonly Clock _clock = new();
    private readonly Fake _processor, _accelerator;
    private int _opened;

    public AutomaticDeviceTests()
    {
        _processor = new Fake("processor", _clock) { Cost = 10 };
        _accelerator = new Fake("accelerator", _clock) { Cost = 1 };
    }

    private const int Rows = 64, Columns = 1024;

    [Fact]
    public async Task WhatIsMovedAndWhatIsSmallStaysOnTheProcessor()
    {
        using AutomaticDevice device = Device(patience: 0);
        MapWindow[] stay = [Window(Copied), Window(Halved), Window(Summed, rows: 8), Window(Copied, fill: Random), Window(Copied, format: ElementFormat.Float16)];
        foreach (MapWindow window in stay)
            for (int i = 0; i < 3; i++)
                await Map(device, window);
        Assert.Equal((0, 0, 15), (_opened, _accelerator.Windows, _processor.Windows));
    }

    [Fact]
    public async Task SumsDrawsAndHalfPrecisionGoToAFasterAccelerator()
    {
        using AutomaticDevice device = Device(patience: 0);
        MapWindow[] go = [Window(Summed), Window(Fresh, fill: Random), Window(Halved, format: ElementFormat.Float16), Window(Halved, format: ElementFormat.BFloat16)];
        foreach (MapWindow window in go)
        {
            await Map(device, window);
            int before = _accelerator.Windows;
            for (int i = 0; i < 20; i++)
                await Map(device, window);
            // The others went to the processor to see whether it is faster by now.
            Assert.Equal(20 - 5, _accelerator.Windows - before);
        }

        Assert.Equal(1, _opened);
        Assert.Null(device.Warning);
        Assert.Equal("processor and accelerator", device.Name);
    }

    [Fact]
    public async Task ASlowerAcceleratorIsTriedEverMoreRarely()
    {
        _accelerator.Cost = 11;
        using AutomaticDevice device = Device(patience: 0);
        for (int i = 0; i < 1 + 64; i++)
            await Map(device, Window(Summed));
        // Two windows to learn, then the 1st, 2nd, 4th, …, 64th.
        Assert.Equal(2 + 7, _accelerator.Windows);
    }

    [Fact]
    public async Task TheChoiceFollowsWhatIsMeasured()
    {
        using AutomaticDevice device = Device(patience: 0);
        for (int i = 0; i < 40; i++)
            await Map(device, Window(Summed));
        _accelerator.Cost = 1000;
        for (int i = 0; i < 20; i++)
            await Map(device, Window(Summed));
        int before = _accelerator.Windows;
        for (int i = 0; i < 60; i++)
            await Map(device, Window(Summed));
        Assert.InRange(_accelerator.Windows - before, 0, 2);
    }

    [Fact]
    public async Task NothingIsOpenedForASmallModel()
    {
        MapWindow window = Window(Summed);
        using AutomaticDevice device = Device(patience: 3 * (window.SourceBytes + window.OutputBytes));
        for (int i = 0; i < 3; i++)
            await Map(device, window);
        Assert.Equal(0, _opened);
        await Map(device, window);
        Assert.Equal(1, _opened);
    }

    [Fact]
    public void NobodyWaitsForTheAcceleratorToOpen()
    {
        using var opening = new ManualResetEventSlim();
        using var device = new AutomaticDevice(_processor, Open, 0, _clock);
        for (int i = 0; i < 10; i++)
            device.Map(Window(Summed), Source(Window(Summed)), new byte[Window(Summed).OutputBytes]);
        Assert.Equal(10, _processor.Windows);
        opening.Set();

        KernelDevice Open()
        {
            opening.Wait();
            return _accelerator;
        }
    }

    [Fact]
    public async Task WhereThereIsNoneTheProcessorDoesEverything()
    {
        using var device = new AutomaticDevice(_processor, () => null, 0, _clock);
        for (int i = 0; i < 5; i++)
            await Map(device, Window(Summed));
        Assert.Null(device.Warning);
        Assert.Equal("processor", device.Name);
    }

    [Fact]
    public async Task AnAcceleratorThatCannotBeOpenedIsNamed()
    {
        using var device = new AutomaticDevice(_processor, () => throw new DeviceException("no memory left.", new OutOfMemoryException()), 0, _clock);
        for (int i = 0; i < 5; i++)
            await Map(device, Window(Summed));
        Assert.StartsWith("no memory left.", device.Warning);
    }

    [Theory]
    [InlineData(0)]
    [InlineData(1)]
    [InlineData(7)]
    public async Task AnAcceleratorThatFailsIsNamedAndLeftAlone(int after)
    {
        _accelerator.FailsAfter = after;
        using AutomaticDevice device = Device(patience: 0);
        for (int i = 0; i < 20; i++)
            await Map(device, Window(Summed));
        Assert.Equal(after, _accelerator.Windows);
        Assert.StartsWith("accelerator is out of memory.", device.Warning);
    }

    [Fact]
    public async Task AnAcceleratorWithOtherBitsIsNeverUsed()
    {
        _accelerator.Wrong = true;
        using AutomaticDevice device = Device(patience: 0);
        for (int i = 0; i < 20; i++)
            await Map(device, Window(Summed));
        Assert.Contains("other bits", device.Warning);
        Assert.Equal(1, _accelerator.Windows);
    }

    [Fact]
    public async Task WhatWasOpenedIsDisposed()
    {
        using (AutomaticDevice device = Device(patience: 0))
            await Map(device, Window(Summed));
        Assert.True(_accelerator.Disposed);
        Assert.False(_processor.Disposed);
    }

    [Fact]
    public async Task DrawnWindowsAreThoseWithFreshRowsOrColumnsOfARandomFill()
    {
        // Half of the rows are fresh: of a map's windows only those that draw are worth the bus.
        const int Many = 512;
        var map = new TensorMap(ElementFormat.Float32, [Many, Columns], [Terms(Many, Enumerable.Range(0, 2 * Many).Select(i => (int[])[i])), null], Random);
        Assert.Equal(2 * Many, map.RowCount);
        using AutomaticDevice device = Device(patience: 0);
        MapWindow copied = new(map, 0, Many, 0, Columns), drawn = new(map, Many, Many, 0, Columns);
        await Map(device, copied);
        Assert.Equal(0, _opened);
        await Map(device, drawn);
        Assert.Equal(1, _opened);
    }

    private static KernelFill Random => new(Distribution.Normal, 1, 3, 0);

    private static AxisTerms Copied(int rows) => Terms(rows, Enumerable.Range(0, rows).Select(i => (int[])[rows - 1 - i]));

    private static AxisTerms Halved(int rows) => Terms(rows, Enumerable.Range(0, rows).Select(i => (int[])[rows - 1 - i]), 0.5);

    private static AxisTerms Summed(int rows) => Terms(rows, Enumerable.Range(0, rows).Select(i => (int[])[i, rows - 1 - i]), 0.5);

    private static AxisTerms Fresh(int rows) => Terms(rows, Enumerable.Range(0, rows).Select(i => (int[])[rows + i]));

    private static AxisTerms Terms(int size, IEnumerable<int[]> rows, double weight = 1)
    {
        int[][] all = [.. rows];
        int[] sources = [.. all.SelectMany(row => row)], starts = [0, .. all.Select((_, i) => all.Take(i + 1).Sum(row => row.Length))];
        return new AxisTerms(size, Math.Max(0, sources.Max() + 1 - size), starts, sources, [.. sources.Select(_ => weight)]);
    }

    private static MapWindow Window(Func<int, AxisTerms> map, int rows = Rows, KernelFill fill = default, ElementFormat format = ElementFormat.Float32)
    {
        // As many bytes in every format.
        long columns = Columns * sizeof(float) / format.Size();
        var whole = new TensorMap(format, [rows, columns], [map(rows), null], fill);
        return new MapWindow(whole, 0, (int)whole.RowCount, 0, whole.RowLength);
    }

    private static byte[] Source(MapWindow window) => [.. Enumerable.Range(0, (int)window.SourceBytes).Select(i => (byte)(i % 59))];

    /// <summary>Evaluates, checks the bits, and waits until the accelerator has been tried.</summary>
    private static async Task Map(AutomaticDevice device, MapWindow window)
    {
        byte[] source = Source(window), output = new byte[window.OutputBytes], expected = new byte[window.OutputBytes];
        KernelDevice.Simd.Map(window, source, expected);
        device.Map(window, source, output);
        Assert.True(output.AsSpan().SequenceEqual(expected));
        await device.Tried;
    }

    private AutomaticDevice Device(long patience) => new(
        _processor, () =>
        {
            _opened++;
            return _accelerator;
        }, patience, _clock);

    /// <summary>A clock for each thread, so that what one of them measures does not depend on the others.</summary>
    private sealed class Clock : TimeProvider
    {
        private readonly ThreadLocal<long> _ticks = new();

        public override long TimestampFrequency => TimeSpan.TicksPerSecond;

        public override long GetTimestamp() => _ticks.Value;

        public void Advance(long ticks) => _ticks.Value += ticks;
    }

    /// <summary>A device that takes a given time for each byte.</summary>
    private sealed class Fake(string name, Clock clock) : KernelDevice
    {
        private int _windows;

        public long Cost { get; set; }

        public int FailsAfter { get; set; } = int.MaxValue;

        public bool Wrong { get; set; }

        public bool Disposed { get; private set; }

        public int Windows => _windows;

        public override string Name => name;

        public override void Map(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output)
        {
            if (_windows == FailsAfter)
            {
                output.Fill(0xEE);
                throw new DeviceException($"{name} is out of memory.", new OutOfMemoryException());
            }

            Interlocked.Increment(ref _windows);
            Simd.Map(window, source, output);
            if (Wrong)
                output[^1] ^= 1;
            clock.Advance(Cost * (source.Length + output.Length));
        }

        protected override void Dispose(bool disposing) => Disposed = true;
    }
}
