// Runs a model under ONNX Runtime on arrays from an .npz archive and writes its outputs as another.
//
//   dotnet run -c Release --project tools/run_model -- MODEL IN.npz OUT.npz
//
// IN has one array for each input of the model, under the input's name; others are left out. OUT, which is replaced where it
// exists, has one array for each output. Graph optimisation is off: the nodes run as they are written.
using System.IO.Compression;
using System.Text;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

if (args.Length != 3)
{
    Console.Error.WriteLine("usage: run_model MODEL IN.npz OUT.npz");
    return (int)ExitCode.Usage;
}

try
{
    using var runner = new ModelRunner(args[0], GraphOptimizationLevel.ORT_DISABLE_ALL, threads: 1);
    Dictionary<string, TensorData> arrays = NpyReader.ReadArchive(args[1]).ToDictionary(a => a.Name, a => a.Data);
    if (runner.Inputs.FirstOrDefault(input => !arrays.ContainsKey(input.Name)) is { } missing)
        throw new UsageException($"'{args[1]}' has no array for the input '{missing.Name}'; name its arrays after the model's inputs.");
    IReadOnlyList<OutputTensor> outputs = runner.Run(runner.Inputs.ToDictionary(input => input.Name, input => arrays[input.Name]));
    using FileStream file = File.Create(args[2]);
    using var archive = new ZipArchive(file, ZipArchiveMode.Create);
    foreach (OutputTensor output in outputs)
    {
        using Stream entry = archive.CreateEntry(output.Name + ".npy", CompressionLevel.NoCompression).Open();
        WriteNpy(entry, output.Data);
    }

    return (int)ExitCode.Done;
}
catch (OnnxMorphException e)
{
    Console.Error.WriteLine(e.Message);
    return (int)e.ExitCode;
}
catch (OnnxRuntimeException e)
{
    Console.Error.WriteLine($"'{args[0]}' does not run on these inputs: {e.Message}");
    return (int)ExitCode.Usage;
}

// NumPy's format, version 1.0: magic, version, header length, a Python dict padded to 64 bytes, then the elements row-major.
static void WriteNpy(Stream stream, TensorData data)
{
    string type = data.Type switch
    {
        ElementType.Bool => "|b1",
        ElementType.Int8 => "|i1",
        ElementType.UInt8 => "|u1",
        ElementType.Int16 => "<i2",
        ElementType.UInt16 => "<u2",
        ElementType.Int32 => "<i4",
        ElementType.UInt32 => "<u4",
        ElementType.Int64 => "<i8",
        ElementType.UInt64 => "<u8",
        ElementType.Float16 => "<f2",
        ElementType.Float32 => "<f4",
        ElementType.Float64 => "<f8",
        _ => throw new RefusedException($"An output has elements of type {data.Type}, which NumPy has no type for."),
    };
    const int Preamble = 10, Alignment = 64;
    string header = $"{{'descr': '{type}', 'fortran_order': False, 'shape': ({string.Concat(data.Shape.Select(size => $"{size},"))}), }}";
    header = header.PadRight((Preamble + header.Length + Alignment) / Alignment * Alignment - Preamble - 1) + "\n";
    stream.Write([0x93, .. "NUMPY"u8, 1, 0, (byte)header.Length, (byte)(header.Length >> 8), .. Encoding.ASCII.GetBytes(header)]);
    stream.Write(data.Bytes);
}
