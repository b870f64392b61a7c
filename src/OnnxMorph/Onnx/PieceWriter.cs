using System.Buffers;
using System.Collections.Concurrent;
using System.Runtime.ExceptionServices;
using Microsoft.Win32.SafeHandles;

namespace OnnxMorph.Onnx;

/// <summary>
/// Writes the pieces of a file, each at its place. Threads take windows of pieces in file order, and each reads and evaluates its window by itself.
/// Operating systems let one thread at a time write to a file, so that what is evaluated while another one writes is left to that one: nobody waits
/// for the disk before there are some windows more than threads. The bytes depend on none of it.
/// </summary>
internal sealed class PieceWriter : IDisposable
{
    /// <summary>Bytes of a stored tensor that one thread copies at a time.</summary>
    private const int CopyBytes = 1 << 20;

    /// <summary>Windows that may wait to be written.</summary>
    private const int MostReady = 4;

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

    // Evaluated and not yet written. Whoever adds one sees to it that somebody writes it.
    private readonly ConcurrentQueue<Work> _ready = new();
    private readonly Lock _writing = new();

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
        try
        {
            while (Next() is { } work)
            {
                work.Evaluate();
                _ready.Enqueue(work);
                WriteReady();
            }
        }
        catch (Exception e)
        {
            lock (_gate)
            {
                _failure ??= e;
                Monitor.PulseAll(_gate);
            }
        }
    }

    // Leaves it to the thread that writes now, if there is one and not too much waits for it: before it ends it looks again.
    private void WriteReady()
    {
        while (!_ready.IsEmpty)
        {
            if (_ready.Count > MostReady)
                _writing.Enter();
            else if (!_writing.TryEnter())
                return;
            try
            {
                while (_failure is null && _ready.TryDequeue(out Work? work))
                {
                    work.Write(_file);
                    _counter.Add(work.Length);
                    lock (_gate)
                    {
                        _running--;
                        Monitor.PulseAll(_gate);
                    }
                }
            }
            finally
            {
                _writing.Exit();
            }

            if (_failure is not null)
                return;
        }
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
            while (_running > 0 && _failure is null)
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
    private sealed class Work(long offset, int length)
    {
        private byte[]? _rented;

        public int Length => length;

        public ReadOnlyMemory<byte> Bytes { get; set; }

        public FilePayload? File { get; init; }

        public SafeFileHandle? Handle { get; init; }

        public OpenWeight? Weight { get; init; }

        /// <summary>Where in <see cref="Weight"/> the window starts.</summary>
        public long Start { get; init; }

        /// <summary>Gets what is to be written, unless the operating system copies it.</summary>
        public void Evaluate()
        {
            if (Weight is null)
                return;
            _rented = ArrayPool<byte>.Shared.Rent(length);
            Bytes = _rented.AsMemory(0, length);
            try
            {
                Weight.Reader.Read(Start, _rented.AsSpan(0, length));
            }
            finally
            {
                Weight.Leave();
            }
        }

        /// <summary>Puts it into its place.</summary>
        public void Write(SafeFileHandle file)
        {
            if (File is { } source)
            {
                FileCopy.Copy(Handle!, source.Offset, file, offset, length, source.File);
                return;
            }

            RandomAccess.Write(file, Bytes.Span, offset);
            if (_rented is not null)
                ArrayPool<byte>.Shared.Return(_rented);
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
