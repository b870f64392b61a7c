using System.Buffers;
using System.Runtime.ExceptionServices;
using Microsoft.Win32.SafeHandles;

namespace OnnxMorph.Onnx;

/// <summary>
/// Writes the pieces of a file, each at its place. Threads take windows of pieces in file order, and each reads, evaluates and writes its window by
/// itself: while one waits for the disk another computes, memory is a window for each, and the bytes depend on none of it.
/// </summary>
internal sealed class PieceWriter : IDisposable
{
    /// <summary>Bytes of a stored tensor that one thread copies at a time.</summary>
    private const int CopyBytes = 1 << 20;

    private readonly SafeFileHandle _file;
    private readonly IWeightSource _weights;
    private readonly ByteCounter _counter;
    private readonly IEnumerator<Work> _work;
    private readonly Dictionary<string, SafeFileHandle> _sources = [];

    // Held while the next window is found, which may mean to wait until those that run are done.
    private readonly Lock _queue = new();
    private readonly object _gate = new();
    private int _running;
    private volatile Exception? _failure;

    private PieceWriter(SafeFileHandle file, IEnumerable<(long Offset, Piece Piece)> pieces, IWeightSource weights, ByteCounter counter)
    {
        _file = file;
        _weights = weights;
        _counter = counter;
        _work = Split(pieces).GetEnumerator();
    }

    /// <summary>Creates the file <paramref name="path"/> of <paramref name="length"/> bytes; those between pieces are zero.</summary>
    public static void Write(
        string path, long length, IEnumerable<(long Offset, Piece Piece)> pieces, IWeightSource weights, int threads, ByteCounter counter)
    {
        // A full disk shows before the work is done.
        using SafeFileHandle file = File.OpenHandle(path, FileMode.CreateNew, FileAccess.Write, FileShare.None, preallocationSize: length);
        RandomAccess.SetLength(file, length);
        using var writer = new PieceWriter(file, pieces, weights, counter);
        var helpers = new Task[Math.Max(0, threads - 1)];
        for (int i = 0; i < helpers.Length; i++)
            helpers[i] = Task.Run(writer.Run);
        writer.Run();
        Task.WaitAll(helpers);
        if (writer._failure is { } failure)
            ExceptionDispatchInfo.Throw(failure);
        if (RandomAccess.GetLength(file) != length)
            throw new InvalidOperationException($"'{path}' has {RandomAccess.GetLength(file)} bytes where {length} were computed.");
    }

    public void Dispose()
    {
        _work.Dispose();
        foreach (SafeFileHandle source in _sources.Values)
            source.Dispose();
    }

    /// <summary>Takes windows until none is left or one has failed.</summary>
    private void Run()
    {
        byte[] buffer = [];
        try
        {
            while (Next() is { } work)
            {
                try
                {
                    work.Write(this, ref buffer);
                    _counter.Add(work.Length);
                }
                finally
                {
                    work.Weight?.Leave();
                    lock (_gate)
                    {
                        _running--;
                        Monitor.PulseAll(_gate);
                    }
                }
            }
        }
        catch (Exception e)
        {
            _failure ??= e;
        }

        if (buffer.Length > 0)
            ArrayPool<byte>.Shared.Return(buffer);
    }

    private Work? Next()
    {
        lock (_queue)
        {
            if (_failure is not null || !_work.MoveNext())
                return null;
            lock (_gate)
                _running++;
            return _work.Current;
        }
    }

    /// <summary>Windows in file order. Weights are opened when the first of theirs is asked for.</summary>
    private IEnumerable<Work> Split(IEnumerable<(long Offset, Piece Piece)> pieces)
    {
        foreach ((long offset, Piece piece) in pieces)
        {
            if (piece.File is { } source)
            {
                if (!_sources.TryGetValue(source.File, out SafeFileHandle? handle))
                    _sources.Add(source.File, handle = File.OpenHandle(source.File, options: FileOptions.SequentialScan));
                for (long done = 0; done < piece.Length; done += CopyBytes)
                {
                    int length = (int)Math.Min(CopyBytes, piece.Length - done);
                    yield return new Work(offset + done, length) { File = source with { Offset = source.Offset + done, Length = length }, Handle = handle };
                }
            }
            else if (piece.Weight is { } weight)
            {
                if (piece.Length == 0)
                    continue;
                using var open = new OpenWeight(_weights.Open(weight()));
                if (open.Reader.IsLarge)
                    WaitForOthers();
                for (long done = 0; done < piece.Length; done += open.Reader.WindowBytes)
                {
                    open.Enter();
                    yield return new Work(offset + done, (int)Math.Min(open.Reader.WindowBytes, piece.Length - done)) { Weight = open, Start = done };
                }

                if (open.Reader.IsLarge)
                    WaitForOthers();
            }
            else if (piece.Length > 0)
            {
                yield return new Work(offset, (int)piece.Length) { Bytes = piece.Bytes };
            }
        }
    }

    private void WaitForOthers()
    {
        lock (_gate)
        {
            while (_running > 0)
                Monitor.Wait(_gate);
        }
    }

    /// <summary>A weight that windows read; it is closed when the last of them is done.</summary>
    private sealed class OpenWeight(IWeightReader reader) : IDisposable
    {
        private int _users = 1;

        public IWeightReader Reader => reader;

        public void Enter() => Interlocked.Increment(ref _users);

        public void Leave()
        {
            if (Interlocked.Decrement(ref _users) == 0)
                reader.Dispose();
        }

        public void Dispose() => Leave();
    }

    /// <summary>One window: bytes in memory, of a file, or of a weight.</summary>
    private sealed record Work(long Offset, int Length)
    {
        public ReadOnlyMemory<byte> Bytes { get; init; }

        public FilePayload? File { get; init; }

        public SafeFileHandle? Handle { get; init; }

        public OpenWeight? Weight { get; init; }

        /// <summary>Where in <see cref="Weight"/> the window starts.</summary>
        public long Start { get; init; }

        public void Write(PieceWriter writer, ref byte[] buffer)
        {
            if (File is { } source)
            {
                FileCopy.Copy(Handle!, source.Offset, writer._file, Offset, Length, source.File);
                return;
            }

            if (Weight is null)
            {
                RandomAccess.Write(writer._file, Bytes.Span, Offset);
                return;
            }

            if (buffer.Length < Length)
            {
                if (buffer.Length > 0)
                    ArrayPool<byte>.Shared.Return(buffer);
                buffer = ArrayPool<byte>.Shared.Rent(Length);
            }

            Weight.Reader.Read(Start, buffer.AsSpan(0, Length));
            RandomAccess.Write(writer._file, buffer.AsSpan(0, Length), Offset);
        }
    }
}

/// <summary>Bytes written to all files of an output; several threads count.</summary>
internal sealed class ByteCounter(IProgress<long>? progress, CancellationToken cancellation)
{
    private const int ReportBytes = 1 << 20;
    private readonly Lock _gate = new();
    private long _written;
    private long _reported;

    public void Add(int bytes)
    {
        cancellation.ThrowIfCancellationRequested();
        lock (_gate)
        {
            _written += bytes;
            if (_written - _reported >= ReportBytes)
                Report();
        }
    }

    public void Report()
    {
        lock (_gate)
        {
            _reported = _written;
            progress?.Report(_written);
        }
    }
}
