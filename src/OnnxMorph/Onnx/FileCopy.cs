using System.Buffers;
using System.Runtime.InteropServices;
using Microsoft.Win32.SafeHandles;

namespace OnnxMorph.Onnx;

/// <summary>Copies part of a file into another: within the operating system where it can, else through memory.</summary>
internal static partial class FileCopy
{
    private const int ChunkBytes = 1 << 20;

    // Error numbers of Linux: begun again, and what it says where the file systems, or the kernel, cannot do it.
    private const int Interrupted = 4;
    private const int NotImplemented = 38, AcrossDevices = 18, InvalidArgument = 22, NotSupported = 95;

    private static volatile bool s_inKernel = OperatingSystem.IsLinux();

    /// <summary>Copies part of a file to a place in another.</summary>
    /// <param name="source">Where from.</param>
    /// <param name="from">Its first byte.</param>
    /// <param name="target">Where to.</param>
    /// <param name="to">Its first byte.</param>
    /// <param name="length">How many bytes.</param>
    /// <param name="name">What messages call the source.</param>
    /// <param name="throughMemory">Whether to copy through memory even where the operating system could do it.</param>
    /// <exception cref="EndOfStreamException">The source ends before.</exception>
    public static void Copy(SafeFileHandle source, long from, SafeFileHandle target, long to, long length, string name, bool throughMemory = false)
    {
        while (length > 0)
        {
            long copied = s_inKernel && !throughMemory ? CopyInKernel(source, from, target, to, length) : -1;
            if (copied < 0)
                copied = CopyThroughMemory(source, from, target, to, length);
            if (copied == 0)
                throw new EndOfStreamException($"'{name}' has become shorter while it was read.");
            (from, to, length) = (from + copied, to + copied, length - copied);
        }
    }

    /// <summary>Bytes that were copied; −1 where the operating system cannot.</summary>
    private static long CopyInKernel(SafeFileHandle source, long from, SafeFileHandle target, long to, long length)
    {
        try
        {
            nint copied;
            int error;
            do
            {
                copied = CopyFileRange(source, ref from, target, ref to, (nuint)length, 0);
                error = Marshal.GetLastPInvokeError();
            }
            while (copied < 0 && error == Interrupted);
            if (copied >= 0)
                return copied;
            if (error is NotImplemented or AcrossDevices or InvalidArgument or NotSupported)
            {
                s_inKernel = false;
                return -1;
            }

            throw new IOException(Marshal.GetPInvokeErrorMessage(error));
        }
        catch (EntryPointNotFoundException)
        {
            s_inKernel = false;
            return -1;
        }
    }

    private static int CopyThroughMemory(SafeFileHandle source, long from, SafeFileHandle target, long to, long length)
    {
        byte[] chunk = ArrayPool<byte>.Shared.Rent(ChunkBytes);
        try
        {
            int read = RandomAccess.Read(source, chunk.AsSpan(0, (int)Math.Min(chunk.Length, length)), from);
            RandomAccess.Write(target, chunk.AsSpan(0, read), to);
            return read;
        }
        finally
        {
            ArrayPool<byte>.Shared.Return(chunk);
        }
    }

    [LibraryImport("libc", EntryPoint = "copy_file_range", SetLastError = true)]
    private static partial nint CopyFileRange(SafeFileHandle source, ref long from, SafeFileHandle target, ref long to, nuint length, uint flags);
}
