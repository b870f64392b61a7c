namespace OnnxMorph.Kernels;

/// <summary>What evaluates the kernels. Every device gives the same bits.</summary>
public abstract class KernelDevice : IDisposable
{
    /// <summary>The processor's vector units; always there.</summary>
    public static KernelDevice Simd { get; } = new SimdDevice();

    /// <summary>
    /// Has the loops compiled that weights of type float32 mostly run through, on another thread while the caller reads a model. They are compiled for
    /// the processor's own vectors, which cannot be done when the program is published.
    /// </summary>
    public static void Prepare() => ThreadPool.QueueUserWorkItem(_ => SimdDevice.RunOnce());

    /// <summary>Name for people.</summary>
    public abstract string Name { get; }

    /// <summary>What the user should know of the device by now: that an accelerator that was to be used was not, and why. Null where there is nothing.</summary>
    public virtual string? Warning => null;

    /// <summary>Evaluates <paramref name="window"/>. Safe to call from several threads.</summary>
    /// <param name="window">What to evaluate.</param>
    /// <param name="source">The window's source rows, cut to its source columns, one after another.</param>
    /// <param name="output">Receives the window's rows, cut to its columns, one after another.</param>
    /// <exception cref="DeviceException">The device failed; the output holds nothing of use.</exception>
    public abstract void Map(MapWindow window, ReadOnlySpan<byte> source, Span<byte> output);

    /// <inheritdoc/>
    public void Dispose()
    {
        Dispose(true);
        GC.SuppressFinalize(this);
    }

    /// <summary>Releases what the device holds.</summary>
    protected virtual void Dispose(bool disposing)
    {
    }
}
