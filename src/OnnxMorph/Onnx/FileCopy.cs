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

    /// <summary>Copies <paramref name="length"/> bytes; <paramref name="name"/> is what messages call the source.</summary>
    public static void Copy(SafeFileHandle source, long from, SafeFileHandle target, long to, long length, string name)
    {
        while (length > 0)
        {
            long copied = s_inKernel ? CopyInKernel(source, from, target, to, length) : -1;
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
