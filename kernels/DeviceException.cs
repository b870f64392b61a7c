namespace OnnxMorph.Kernels;

/// <summary>A device could not be opened or could not compute: its memory is full, its driver failed, it cannot run a kernel.</summary>
public sealed class DeviceException(string message, Exception inner) : Exception(message, inner);
