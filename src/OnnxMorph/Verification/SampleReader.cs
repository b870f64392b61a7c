using OnnxMorph.Runtime;

namespace OnnxMorph.Verification;

/// <summary>Reads the user's samples and binds them to a model's inputs.</summary>
internal static class SampleReader
{
    /// <summary>Samples along a run-time batch axis that go through the models in one run, which bounds their memory.</summary>
    private const int MaxBatch = 16;

    /// <summary>
    /// The samples in <paramref name="path"/>: an .npz or .npy file, a .pb tensor, a test_data_set folder or a folder of
    /// such folders.
    /// </summary>
    public static IEnumerable<Draw> Read(string path, IReadOnlyList<ValueInfo> inputs, List<string> notes)
    {
        string name = Path.GetFileName(Path.TrimEndingDirectorySeparator(path));
        if (Directory.Exists(path))
        {
            string[] sets = Directory.GetDirectories(path, "test_data_set_*");
            Array.Sort(sets, StringComparer.Ordinal);
            foreach (string set in sets.Length > 0 ? sets : [path])
            {
                string[] files = Directory.GetFiles(set, "input_*.pb");
                if (files.Length == 0)
                    throw new UsageException($"The folder '{Path.GetFileName(set)}' has no input_*.pb; give a test_data_set folder, an .npz or an .npy file.");
                IEnumerable<string> ordered = files.OrderBy(f => f.Length).ThenBy(f => f, StringComparer.Ordinal);
                foreach (Draw draw in Bind(Path.GetFileName(set), [.. ordered.Select(TensorProtoReader.Read)], inputs, notes))
                    yield return draw;
            }

            yield break;
        }

        if (!File.Exists(path))
            throw new OnnxMorphException(ExitCode.InputOutput, $"The samples '{path}' do not exist; check the path.");
        IReadOnlyList<(string Name, TensorData Data)> arrays;
        switch (Path.GetExtension(path).ToLowerInvariant())
        {
            case ".npz":
                arrays = NpyReader.ReadArchive(path);
                break;
            case ".npy":
                using (FileStream file = File.OpenRead(path))
                    arrays = [("", NpyReader.Read(file, name))];
                break;
            case ".pb":
                arrays = [TensorProtoReader.Read(path)];
                break;
            default:
                throw new UsageException($"'{name}' is no kind of sample file known here; give .npz, .npy, .pb or a test_data_set folder.");
        }

        foreach (Draw draw in Bind(name, arrays, inputs, notes))
            yield return draw;
    }

    /// <summary>
    /// Binds arrays to inputs by name, or by order where no name matches and the counts do, converts their types, and
    /// cuts them into slices along axis 0 where the model's batch is smaller than the sample's.
    /// </summary>
    internal static IEnumerable<Draw> Bind(string source, IReadOnlyList<(string Name, TensorData Data)> arrays,
        IReadOnlyList<ValueInfo> inputs, List<string> notes)
    {
        TensorData[] bound = Match(source, arrays, inputs, notes);
        var symbols = new Dictionary<string, (long Size, string Input)>();
        for (int i = 0; i < inputs.Count; i++)
            bound[i] = Fit(source, bound[i], inputs[i], symbols);

        // Inputs whose axis 0 is longer than one run takes are sliced together; the others go into every run whole.
        var sliced = new List<int>();
        long slices = 1;
        for (int i = 0; i < inputs.Count; i++)
        {
            if (inputs[i].Shape.IsEmpty)
                continue;
            long step = Step(inputs[i].Shape[0], bound[i].Shape[0]);
            if (step == bound[i].Shape[0])
                continue;
            long count = inputs[i].Shape[0].IsFixed ? bound[i].Shape[0] / step : (bound[i].Shape[0] + step - 1) / step;
            if (sliced.Count > 0 && count != slices)
                throw new UsageException($"The samples in '{source}' hold {slices} runs for input '{inputs[sliced[0]].Name}' and {count} for '{inputs[i].Name}'; give as many of each.");
            slices = count;
            sliced.Add(i);
            long rest = bound[i].Shape[0] - count * step;
            if (rest > 0)
                notes.Add($"The last {rest} of {bound[i].Shape[0]} samples for '{inputs[i].Name}' do not fill the model's batch of {step} and were left out.");
        }

        for (long s = 0; s < slices; s++)
        {
            var values = new Dictionary<string, TensorData>();
            string range = "";
            for (int i = 0; i < inputs.Count; i++)
            {
                TensorData data = bound[i];
                if (sliced.Contains(i))
                {
                    long step = Step(inputs[i].Shape[0], data.Shape[0]);
                    long count = Math.Min(step, data.Shape[0] - s * step);
                    range = $"[{s * step}..{s * step + count})";
                    data = data.Slice(s * step, count);
                }

                values.Add(inputs[i].Name, data);
            }

            yield return new Draw($"samples {source}{range}", values);
        }
    }

    private static long Step(Dimension batch, long samples) => batch.IsFixed ? batch.Size : Math.Min(samples, MaxBatch);

    private static TensorData[] Match(string source, IReadOnlyList<(string Name, TensorData Data)> arrays,
        IReadOnlyList<ValueInfo> inputs, List<string> notes)
    {
        var byName = new Dictionary<string, TensorData>();
        foreach ((string name, TensorData data) in arrays)
            byName.TryAdd(name, data);
        string[] missing = [.. inputs.Where(input => !byName.ContainsKey(input.Name)).Select(input => input.Name)];
        if (missing.Length == 0)
        {
            string[] extra = [.. arrays.Select(a => a.Name).Where(name => inputs.All(input => input.Name != name))];
            if (extra.Length > 0)
                notes.Add($"Arrays in '{source}' that are no input of the model were left out: {string.Join(", ", extra)}.");
            return [.. inputs.Select(input => byName[input.Name])];
        }

        if (missing.Length == inputs.Count && arrays.Count == inputs.Count)
            return [.. arrays.Select(a => a.Data)];
        throw new UsageException($"'{source}' has no array for input '{missing[0]}' (it has: {string.Join(", ", arrays.Select(a => a.Name))}); name the arrays after the model's inputs: {string.Join(", ", inputs.Select(i => i.Name))}.");
    }

    private static TensorData Fit(string source, TensorData data, ValueInfo input, Dictionary<string, (long Size, string Input)> symbols)
    {
        bool scalarOrUnknown = input.Shape.IsEmpty;
        bool fits = scalarOrUnknown || data.Shape.Length == input.Shape.Length;
        for (int axis = 0; fits && axis < input.Shape.Length; axis++)
        {
            Dimension dimension = input.Shape[axis];
            fits = !dimension.IsFixed || data.Shape[axis] == dimension.Size || (axis == 0 && data.Shape[0] > dimension.Size && dimension.Size > 0);
            if (!fits || dimension.Symbol is not { } symbol)
                continue;
            if (symbols.TryGetValue(symbol, out (long Size, string Input) other) && other.Size != data.Shape[axis])
                throw new UsageException($"In '{source}' dimension '{symbol}' is {other.Size} for input '{other.Input}' and {data.Shape[axis]} for '{input.Name}'; it must be the same.");
            symbols[symbol] = (data.Shape[axis], input.Name);
        }

        if (!fits)
            throw new UsageException($"The samples {data.Signature} in '{source}' do not fit input '{input.Name}' {input.Signature}; reshape them.");
        return TensorConversion.TryConvert(data, input.Type)
            ?? throw new UsageException($"The samples for input '{input.Name}' in '{source}' are {data.Type} and cannot become {input.Type} without changing values; convert them first.");
    }
}
