using System.Numerics;
using System.Runtime.InteropServices;
using ILGPU.Runtime;
using ILGPU.Runtime.CPU;

namespace OnnxMorph.Kernels;

/// <summary>
/// Memory of the processor that an accelerator reads and writes by itself while threads do other things. It grows and is kept: locking pages takes longer
/// than a window does. Whole pages of its own rather than a pinned array, since CUDA refuses to lock a page twice, and arrays share theirs.
/// </summary>
internal sealed unsafe class PageLockedBuffer(Accelerator accelerator) : IDisposable
{
    private byte* _start;
    private long _capacity;
    private PageLockScope<byte>? _lock;

    /// <summary>Makes room; what was in the buffer is lost.</summary>
    public void Reserve(long bytes)
    {
        if (bytes <= _capacity)
            return;
        Dispose();
        long page = Environment.SystemPageSize, capacity = (long)BitOperations.RoundUpToPowerOf2((ulong)bytes);
        // Windows of half a gigabyte come one by one.
        if (capacity > 1 << 29)
            capacity = (bytes + page - 1) / page * page;
        capacity = Math.Max(page, capacity);
        _start = (byte*)NativeMemory.AlignedAlloc((nuint)capacity, (nuint)page);
        _lock = accelerator.CreatePageLockFromPinned<byte>((nint)_start, capacity);
        _capacity = capacity;
    }

    /// <summary>A part of the buffer.</summary>
    public Span<byte> Part(long offset, int bytes) => offset + bytes <= _capacity
        ? new(_start + offset, bytes) : throw new ArgumentOutOfRangeException(nameof(bytes));

    /// <summary>Has a part copied to the start of <paramref name="target"/>, after what the stream does already.</summary>
    public void CopyTo(MemoryBuffer target, AcceleratorStream stream, long offset, long bytes)
    {
        if (bytes == 0)
            return;
        using CPUMemoryBuffer part = Exactly(offset, bytes);
        target.CopyFrom(stream, part.AsRawArrayView(), 0);
    }

    /// <summary>Has the start of <paramref name="source"/> copied here, after what the stream does already.</summary>
    public void CopyFrom(MemoryBuffer source, AcceleratorStream stream, long bytes)
    {
        using CPUMemoryBuffer part = Exactly(0, bytes);
        source.CopyTo(stream, 0, part.AsRawArrayView());
    }

    public void Dispose()
    {
        _lock?.Dispose();
        _lock = null;
        NativeMemory.AlignedFree(_start);
        _start = null;
        _capacity = 0;
    }

    // A description of the memory, not memory: copies from and to OpenCL devices take the whole buffer behind a view, so that a view of a part would not do.
    private CPUMemoryBuffer Exactly(long offset, long bytes) => CPUMemoryBuffer.Create(accelerator, (nint)(_start + offset), bytes, sizeof(byte));
}
