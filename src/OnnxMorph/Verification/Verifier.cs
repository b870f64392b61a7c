using System.Globalization;
using Microsoft.ML.OnnxRuntime;
using OnnxMorph.Runtime;
using OnnxMorph.Weights;

namespace OnnxMorph.Verification;

/// <summary>
/// Runs parent and child on the same inputs under ONNX Runtime, without graph optimisation and on one thread, and judges
/// every difference by the parent's own noise floor: how far equivalent evaluations of the parent lie apart. Those are
/// the parent at other optimisation levels and with several threads, and the parent on inputs and weights that differ by
/// one rounding unit, which makes every operation round afresh. So a child passes exactly when its outputs are such as the
/// parent itself could have given.
/// </summary>
public sealed class Verifier
{
    /// <summary>Threads of the evaluations that use several; fixed, so that the work is cut the same way on every machine.</summary>
    private const int SeveralThreads = 4;

    /// <summary>A draw on which the margin over the floor exceeds this part of the output's scale cannot show a defect.</summary>
    internal const double BlindFrom = 0.1;

    private readonly string _parentPath;
    private readonly VerifyOptions _options;
    private readonly Dictionary<Effort, Evidence> _evidence = [];

    /// <summary>Compares children with one parent, whose part of the work is done once: most of it.</summary>
    /// <param name="parentPath">The model that defines the function; it must not change meanwhile.</param>
    /// <param name="options">Samples, seed and strictness.</param>
    public Verifier(string parentPath, VerifyOptions options) => (_parentPath, _options) = (parentPath, options);

    /// <summary>Compares two model files.</summary>
    /// <param name="parentPath">The model that defines the function.</param>
    /// <param name="childPath">The model that should compute it too.</param>
    /// <param name="options">Samples, seed and strictness.</param>
    /// <param name="cancellation">Checked between runs.</param>
    /// <inheritdoc cref="Compare(string, CancellationToken)" path="/exception"/>
    public static VerificationReport Compare(string parentPath, string childPath, VerifyOptions options, CancellationToken cancellation = default) =>
        new Verifier(parentPath, options).Compare(childPath, cancellation);

    /// <summary>Compares a child with the parent.</summary>
    /// <param name="childPath">The model that should compute what the parent does.</param>
    /// <param name="cancellation">Checked between runs.</param>
    /// <exception cref="UnreadableModelException">A model does not load.</exception>
    /// <exception cref="UsageException">The samples do not fit, or nothing could be drawn that the parent runs on.</exception>
    /// <exception cref="RefusedException">An input or output is of a kind that cannot be compared by running.</exception>
    public VerificationReport Compare(string childPath, CancellationToken cancellation = default)
    {
        Effort effort = Effort.For(_parentPath, childPath);
        if (!_evidence.TryGetValue(effort, out Evidence? evidence))
            _evidence.Add(effort, evidence = Observe(_parentPath, effort, _options, cancellation));
        var verdicts = evidence.Outputs.ToDictionary(output => output.Name, output => new Verdict(output.Name, _options.Margin));
        string? reason;
        using (var child = new ModelRunner(childPath, GraphOptimizationLevel.ORT_DISABLE_ALL, 1))
        {
            reason = SignatureMismatch(evidence.Inputs, child.Inputs, "input") ?? SignatureMismatch(evidence.Outputs, child.Outputs, "output");
            for (int i = 0; reason is null && i < evidence.Draws.Accepted.Count; i++)
            {
                cancellation.ThrowIfCancellationRequested();
                reason = Judge(child, evidence.Draws.Accepted[i].Draw, evidence.Yardsticks[i], evidence.Pooled, verdicts);
            }
        }

        if (reason is null && evidence.LoadsOptimised)
            reason = OptimisationFailure(childPath);
        return Report(_parentPath, childPath, _options, evidence.Draws, verdicts, reason, cancellation);
    }

    // Callers load what ONNX Runtime has optimised, and some of its optimisations make an invalid graph of a valid one.
    private static string? OptimisationFailure(string childPath)
    {
        try
        {
            new ModelRunner(childPath, GraphOptimizationLevel.ORT_ENABLE_ALL, 1).Dispose();
            return null;
        }
        catch (UnreadableModelException e)
        {
            return $"ONNX Runtime loads the child only with its optimisation off: {e.Message}";
        }
    }

    /// <summary>What running the parent shows.</summary>
    /// <param name="Inputs">Its inputs.</param>
    /// <param name="Outputs">Its outputs.</param>
    /// <param name="Draws">What it ran on.</param>
    /// <param name="Yardsticks">For each of them the outputs, by name, and how far equivalent evaluations lie apart.</param>
    /// <param name="Pooled">Each output's relative noise over all of them.</param>
    /// <param name="LoadsOptimised">Whether it loads with full optimisation.</param>
    private sealed record Evidence(
        IReadOnlyList<ValueInfo> Inputs, IReadOnlyList<ValueInfo> Outputs, DrawSet Draws,
        List<Dictionary<string, Yardstick>> Yardsticks, Dictionary<string, double> Pooled, bool LoadsOptimised);

    private static Evidence Observe(string parentPath, Effort effort, VerifyOptions options, CancellationToken cancellation)
    {
        DrawSet draws;
        IReadOnlyList<ValueInfo> inputs, outputs;
        List<Dictionary<string, Yardstick>> yardsticks;
        using (var parent = new ModelRunner(parentPath, GraphOptimizationLevel.ORT_DISABLE_ALL, 1))
        {
            (inputs, outputs) = (parent.Inputs, parent.Outputs);
            DrawSet.RequireTensors(inputs);
            draws = options.InputsPath is null
                ? RandomDraws.Make(parent, effort, options.Seed, cancellation)
                : Samples(parent, options.InputsPath, cancellation);
            yardsticks = [.. draws.Accepted.Select(draw => draw.Outputs.ToDictionary(o => o.Name, o => new Yardstick(o.Data)))];
            if (HasFloatInput(inputs))
                ObservePerturbedInputs(parent, draws, yardsticks, effort, options.Seed, cancellation);
        }

        ObservePerturbedWeights(parentPath, draws, yardsticks, effort, HasFloatInput(inputs), options, cancellation);
        bool loads = ObserveOptimized(parentPath, draws, yardsticks, effort, cancellation);
        return new Evidence(inputs, outputs, draws, yardsticks, Pool(yardsticks), loads);
    }

    private static bool HasFloatInput(IEnumerable<ValueInfo> inputs) => inputs.Any(input => input.Type.IsScalable());

    private static DrawSet Samples(ModelRunner parent, string path, CancellationToken cancellation)
    {
        var draws = new DrawSet();
        foreach (Draw draw in SampleReader.Read(path, parent.Inputs, draws.Notes))
        {
            cancellation.ThrowIfCancellationRequested();
            try
            {
                draws.Accepted.Add((draw, parent.Run(draw.Inputs)));
            }
            catch (OnnxRuntimeException e)
            {
                throw new UsageException($"The parent fails on {draw.Description}: {OrtRuntime.Reason(e)}");
            }
        }

        if (draws.Accepted.Count == 0)
            throw new UsageException($"'{Path.GetFileName(path)}' holds no sample; give at least one.");
        return draws;
    }

    private static void ObservePerturbedInputs(ModelRunner parent, DrawSet draws, List<Dictionary<string, Yardstick>> yardsticks,
        Effort effort, ulong seed, CancellationToken cancellation)
    {
        for (int i = 0; i < yardsticks.Count; i++)
        {
            for (int p = 0; p < effort.Perturbations; p++)
            {
                cancellation.ThrowIfCancellationRequested();
                var random = new Random(HashSeed(seed, i, p));
                Observe(parent, Perturbation.ByOneUnit(draws.Accepted[i].Draw.Inputs, random), yardsticks[i], "perturbed inputs", draws.Notes);
            }
        }
    }

    /// <summary>
    /// Small inputs vanish beside a layer's bias, and with them their perturbation; token ids have none at all. Perturbed
    /// weights reach every layer that they are in.
    /// </summary>
    private static void ObservePerturbedWeights(string path, DrawSet draws, List<Dictionary<string, Yardstick>> yardsticks,
        Effort effort, bool hasFloatInput, VerifyOptions options, CancellationToken cancellation)
    {
        if (options.Probe is null)
        {
            if (!hasFloatInput)
                draws.Notes.Add("No input is floating-point, so the noise floor rests on optimisation levels and threads alone.");
            return;
        }

        for (int p = 0; p < (hasFloatInput ? effort.Perturbations / 2 : effort.Perturbations); p++)
        {
            var random = new Random(HashSeed(options.Seed, -1, p));
            using var parent = new ModelRunner(path, GraphOptimizationLevel.ORT_DISABLE_ALL, 1, Perturbation.OfWeights(options.Probe, path, random));
            ObserveAll(parent, draws, yardsticks, "perturbed weights", cancellation);
        }
    }

    // Whether the parent loads with full optimisation.
    private static bool ObserveOptimized(string path, DrawSet draws, List<Dictionary<string, Yardstick>> yardsticks,
        Effort effort, CancellationToken cancellation)
    {
        (GraphOptimizationLevel Level, int Threads, string Name)[] evaluations = effort.EveryLevel
            ? [(GraphOptimizationLevel.ORT_ENABLE_BASIC, 1, "basic optimisation"),
                (GraphOptimizationLevel.ORT_ENABLE_ALL, 1, "full optimisation"),
                (GraphOptimizationLevel.ORT_DISABLE_ALL, SeveralThreads, "several threads")]
            : [(GraphOptimizationLevel.ORT_ENABLE_ALL, SeveralThreads, "full optimisation and several threads")];
        bool loads = true;
        foreach ((GraphOptimizationLevel level, int threads, string name) in evaluations)
        {
            ModelRunner parent;
            try
            {
                parent = new ModelRunner(path, level, threads);
            }
            catch (UnreadableModelException e)
            {
                // It loads unoptimised, so the optimiser fails on it: one evaluation fewer.
                draws.Notes.Add($"The parent does not load with {name}: {e.Message}");
                loads &= level != GraphOptimizationLevel.ORT_ENABLE_ALL;
                continue;
            }

            using (parent)
                ObserveAll(parent, draws, yardsticks, name, cancellation);
        }

        return loads;
    }

    private static void ObserveAll(ModelRunner parent, DrawSet draws, List<Dictionary<string, Yardstick>> yardsticks,
        string evaluation, CancellationToken cancellation)
    {
        for (int i = 0; i < yardsticks.Count; i++)
        {
            cancellation.ThrowIfCancellationRequested();
            Observe(parent, draws.Accepted[i].Draw.Inputs, yardsticks[i], evaluation, draws.Notes);
        }
    }

    private static void Observe(ModelRunner parent, IReadOnlyDictionary<string, TensorData> inputs, Dictionary<string, Yardstick> yardsticks,
        string evaluation, List<string> notes)
    {
        try
        {
            foreach (OutputTensor output in parent.Run(inputs))
            {
                if (yardsticks.TryGetValue(output.Name, out Yardstick? yardstick))
                    yardstick.Observe(output.Data);
            }
        }
        catch (OnnxRuntimeException e)
        {
            string note = $"The parent fails with {evaluation}, which gives one measurement of its noise fewer: {OrtRuntime.Reason(e)}";
            if (!notes.Contains(note))
                notes.Add(note);
        }
    }

    /// <summary>
    /// The median over the draws of each output's relative noise: an output of a few numbers shows too little of its
    /// noise on any one draw, and ill-conditioned draws must not set the floor of all.
    /// </summary>
    private static Dictionary<string, double> Pool(List<Dictionary<string, Yardstick>> yardsticks)
    {
        var noises = new Dictionary<string, List<double>>();
        foreach ((string name, Yardstick yardstick) in yardsticks.SelectMany(y => y))
        {
            if (!noises.TryGetValue(name, out List<double>? list))
                noises.Add(name, list = []);
            if (yardstick.Scale > 0 && double.IsFinite(yardstick.RelativeNoise))
                list.Add(yardstick.RelativeNoise);
        }

        return noises.ToDictionary(n => n.Key, n => n.Value.Count == 0 ? 0 : n.Value.Order().ElementAt((n.Value.Count - 1) / 2));
    }

    /// <summary>Why the child cannot stand in for the parent, or null. Sizes that either model leaves open are compatible in an output.</summary>
    private static string? SignatureMismatch(IReadOnlyList<ValueInfo> parent, IReadOnlyList<ValueInfo> child, string what)
    {
        foreach (ValueInfo expected in parent)
        {
            if (child.FirstOrDefault(value => value.Name == expected.Name) is not { } actual)
                return $"The child has no {what} '{expected.Name}'.";
            bool same = actual.Kind == expected.Kind && actual.Type == expected.Type
                && (actual.Shape.Length == expected.Shape.Length || actual.Shape.IsEmpty || expected.Shape.IsEmpty);
            for (int axis = 0; same && axis < Math.Min(actual.Shape.Length, expected.Shape.Length); axis++)
            {
                (Dimension mine, Dimension theirs) = (expected.Shape[axis], actual.Shape[axis]);
                same = mine.IsFixed && theirs.IsFixed ? mine.Size == theirs.Size : what == "output" || !theirs.IsFixed;
            }

            if (!same)
                return $"The {what} '{expected.Name}' is {actual.Signature} in the child and {expected.Signature} in the parent.";
        }

        ValueInfo? extra = child.FirstOrDefault(value => parent.All(p => p.Name != value.Name));
        return extra is null ? null : $"The child has the {what} '{extra.Name}', which the parent has not.";
    }

    private static string? Judge(ModelRunner child, Draw draw, Dictionary<string, Yardstick> yardsticks,
        Dictionary<string, double> pooled, Dictionary<string, Verdict> verdicts)
    {
        Dictionary<string, OutputTensor> results;
        try
        {
            results = child.Run(draw.Inputs).ToDictionary(o => o.Name);
        }
        catch (OnnxRuntimeException e)
        {
            return $"The child fails on {draw.Description}, which the parent runs: {OrtRuntime.Reason(e)}";
        }

        foreach ((string name, Yardstick yardstick) in yardsticks)
        {
            if (yardstick.ShapeVaries)
                continue;
            if (!results.Remove(name, out OutputTensor? result))
                return $"The child's output has no '{name}' on {draw.Description}.";
            if (!yardstick.SameShape(result.Data))
                return $"The output '{name}' is {result.Data.Signature} in the child and {yardstick.Signature} in the parent on {draw.Description}.";
            verdicts[result.Output].Add(draw, yardstick, yardstick.Measure(result.Data, pooled[name]), pooled[name]);
        }

        OutputTensor? extra = results.Values.FirstOrDefault(result => !yardsticks.ContainsKey(result.Name));
        return extra is null ? null : $"The child's output '{extra.Name}' on {draw.Description} is not in the parent's.";
    }

    private static VerificationReport Report(string parentPath, string childPath, VerifyOptions options, DrawSet draws,
        Dictionary<string, Verdict> verdicts, string? reason, CancellationToken cancellation)
    {
        if (reason is null && verdicts.Values.All(v => !v.HasEvidence))
            reason = "The parent's outputs are empty or NaN on every draw, so nothing was compared; give samples with --inputs.";
        Exactness exactness = reason is null ? verdicts.Values.Max(v => v.Exactness) : Exactness.Different;
        bool passed = exactness <= options.Accept;
        bool comparable = reason is null;
        Verdict? failed = verdicts.Values.FirstOrDefault(v => v.Exactness > options.Accept);
        string? divergence = null;
        if (reason is null && failed is not null)
        {
            divergence = failed.WorstDraw is { } draw && options.Probe is { } probe
                ? FirstDivergence.Find(parentPath, childPath, probe, draw, options, cancellation)
                : null;
            reason = failed.Reason + (divergence is null ? "" : $" The first value that differs is '{divergence}'.");
        }

        return new VerificationReport(
            passed, exactness, passed ? null : reason, options.Margin,
            // Where the comparison itself broke off, numbers of the draws before would read like a verdict.
            comparable ? [.. verdicts.Values.Select(v => v.ToReport(options.Accept, v.Exactness > options.Accept ? divergence : null))] : [],
            [.. draws.Accepted.Select(d => d.Draw.ToReport())], draws.Skipped, [.. draws.Notes, .. verdicts.Values.SelectMany(v => v.Notes)]);
    }

    internal static int HashSeed(ulong seed, int draw, int evaluation)
    {
        // SplitMix64's finaliser: neighbouring seeds must not give neighbouring streams.
        ulong z = seed + 0x9E3779B97F4A7C15 * (ulong)((draw + 2L) * 1024 + evaluation + 1);
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EB;
        return (int)((z ^ (z >> 31)) & 0x7FFFFFFF);
    }

    /// <summary>What the draws said about one output.</summary>
    private sealed class Verdict(string name, double margin)
    {
        private readonly HashSet<string> _notes = [];
        private bool _identical = true;
        private bool _everyDrawBlind = true;
        private bool _sawNaNOnly;
        private int _unstable, _unexcused;
        private double _maxAbs, _maxRel, _maxRatio, _floor;
        private long _maxUlp;
        private string? _worst;

        public bool HasEvidence { get; private set; }

        public Draw? WorstDraw { get; private set; }

        public IEnumerable<string> Notes => _notes;

        public void Add(Draw draw, Yardstick yardstick, Measurement measured, double pooledNoise)
        {
            HasEvidence |= yardstick.HasEvidence;
            _sawNaNOnly |= yardstick.IsNaN;
            _identical &= measured.Identical;
            _maxAbs = Math.Max(_maxAbs, measured.MaxAbs);
            _maxRel = Math.Max(_maxRel, measured.MaxRel);
            _maxUlp = Math.Max(_maxUlp, measured.MaxUlp);
            _unstable += yardstick.UnstableCount;
            _unexcused += measured.UnexcusedCount;
            bool blind = !measured.Identical && yardstick.Scale > 0 && margin * yardstick.WholeFloor(pooledNoise) > BlindFrom;
            _everyDrawBlind &= blind;
            if (blind)
                _notes.Add(string.Create(CultureInfo.InvariantCulture, $"On {draw.Description} the parent's own noise in '{name}' is {yardstick.WholeFloor(pooledNoise):g2} of its scale: the draw proves little."));
            if (WorstDraw is null || measured.Ratio > _maxRatio || (measured.UnexcusedCount > 0 && _maxRatio == 0))
            {
                WorstDraw = draw;
                _floor = measured.Floor;
                if (!measured.Identical)
                    _worst = draw.Description + (measured.Slice.Length > 0 ? ", " + measured.Slice : "");
            }

            _maxRatio = Math.Max(_maxRatio, measured.Ratio);
        }

        public Exactness Exactness
        {
            get
            {
                if (!HasEvidence && _sawNaNOnly)
                    return Exactness.Different;
                if (_identical)
                    return Exactness.BitExact;
                if (_everyDrawBlind)
                    return Exactness.Different;
                // The child may decide as many ties its own way as the parent does.
                bool ties = _unexcused <= _unstable;
                if (_maxRatio <= margin && ties)
                    return Exactness.Rounding;
                return _maxRel <= VerifyOptions.ApproximateLimit && ties ? Exactness.Approximate : Exactness.Different;
            }
        }

        public string Reason
        {
            get
            {
                if (!HasEvidence && _sawNaNOnly)
                    return $"The parent's output '{name}' is NaN on every draw, so nothing was compared; give samples with --inputs.";
                if (_identical)
                    return $"The output '{name}' was not compared.";
                if (_everyDrawBlind)
                    return $"The parent's own noise in '{name}' hides any difference on every draw; give samples with --inputs, and check that the model is deterministic.";
                if (_unexcused > _unstable)
                    return $"The output '{name}' differs in {_unexcused} elements that the parent decides the same way every time ({_worst}).";
                if (double.IsPositiveInfinity(_maxAbs))
                    return $"The output '{name}' is NaN or infinite in one model and not in the other ({_worst}).";
                return string.Create(CultureInfo.InvariantCulture,
                    $"The output '{name}' differs by up to {_maxRel:g2} of its scale, {_maxRatio:g3} times the parent's own noise where {margin:g3} times is allowed ({_worst}).");
            }
        }

        public OutputReport ToReport(Exactness accept, string? divergence) => new(
            name, Exactness <= accept, Exactness, _maxAbs, _maxRel, _maxUlp, _floor, _maxRatio, _worst, divergence);
    }
}
