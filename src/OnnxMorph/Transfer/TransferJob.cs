using System.Text.Json.Serialization;
using OnnxMorph.Alignment;
using OnnxMorph.Axes;
using OnnxMorph.Calibration;
using OnnxMorph.Graph;
using OnnxMorph.Initialization;
using OnnxMorph.Morphs;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Transfer.Containment;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Verification;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>How weights are carried into another architecture.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<TransferMethod>))]
public enum TransferMethod
{
    /// <summary>Between networks of one family, stage by stage and role by role (IM Init; METHODS.md §3).</summary>
    [JsonStringEnumMemberName("isomorphic")]
    Isomorphic,

    /// <summary>Between any two networks, along the best alignment of their blocks and layers by shape (DPIAT; METHODS.md §4).</summary>
    [JsonStringEnumMemberName("dp")]
    Dp,

    /// <summary>
    /// The target computes what the source computes, wherever its architecture contains the source's: wider, deeper, with larger kernels, further
    /// branches, gates, norms or activations.
    /// </summary>
    [JsonStringEnumMemberName("preserve")]
    Preserve,
}

/// <summary>A part of a target and the part of the source that it was filled from.</summary>
/// <param name="Target">The target's path.</param>
/// <param name="Source">The source's; null where there is none.</param>
/// <param name="Copy">How many parts before it were filled from the same.</param>
public sealed record PartReport(string Target, string? Source, int Copy)
{
    /// <summary>What it computes of the source; null where nothing was promised (<see cref="TransferMethod.Preserve"/> alone does).</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public PartState? State { get; init; }

    /// <summary>Why it does not compute what the source computes; null where it does.</summary>
    [JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public string? Reason { get; init; }
}

/// <summary>What a part of a target computes of a source that was looked for in it.</summary>
[JsonConverter(typeof(JsonStringEnumConverter<PartState>))]
public enum PartState
{
    /// <summary>What the source computes.</summary>
    [JsonStringEnumMemberName("exact")]
    Exact,

    /// <summary>Nothing yet: it gives on what it reads, or what follows takes nothing from it.</summary>
    [JsonStringEnumMemberName("without-effect")]
    WithoutEffect,

    /// <summary>Something near to what the source computes: it has the source's weights, but not all that they need.</summary>
    [JsonStringEnumMemberName("approximate")]
    Approximate,

    /// <summary>What its own weights make it compute.</summary>
    [JsonStringEnumMemberName("fresh")]
    Fresh,
}

/// <summary>What the activations at the end of a stage are like on the calibration samples.</summary>
/// <param name="Path">The target's stage.</param>
/// <param name="SourceMean">Their mean in the source, behind the block that the stage's last block stands for.</param>
/// <param name="SourceDeviation">Their standard deviation there.</param>
/// <param name="TargetMean">Their mean in the result.</param>
/// <param name="TargetDeviation">Their standard deviation there.</param>
public sealed record StageStatistics(string Path, double SourceMean, double SourceDeviation, double TargetMean, double TargetDeviation);

/// <summary>What a transfer did: what <c>transfer --json</c> prints.</summary>
/// <param name="Output">The file that was written; null where the result is not what it should be, and nothing was (<see cref="TransferMethod.Preserve"/>).</param>
/// <param name="Method">The method.</param>
/// <param name="Parts">The target's parts and where they come from.</param>
/// <param name="ParametersBefore">Elements of the source's floating-point constants.</param>
/// <param name="ParametersAfter">Elements of the target's.</param>
/// <param name="Tensors">The target's floating-point constants.</param>
/// <param name="Stages">What activations are like where samples were given to calibrate with; empty elsewhere.</param>
/// <param name="Notes">What a user should know.</param>
/// <param name="Verification">How far the result computes what the source computes; null where that was not asked for, or the two take different inputs.</param>
public sealed record TransferReport(
    string? Output, TransferMethod Method, IReadOnlyList<PartReport> Parts, long ParametersBefore, long ParametersAfter,
    IReadOnlyList<TransferredTensor> Tensors, IReadOnlyList<StageStatistics> Stages, IReadOnlyList<string> Notes, VerificationReport? Verification)
{
    /// <summary>The file of the trained model.</summary>
    public required string Source { get; init; }

    /// <summary>How tensors were initialised that the source fills with nothing; null where they kept the target's own numbers.</summary>
    public InitMethod? Fresh { get; init; }

    /// <summary>The file of the model that was filled.</summary>
    public required string Target { get; init; }

    /// <summary>The rules; null where tensors were carried by their shapes alone.</summary>
    public required TransferRules? Rules { get; init; }

    /// <summary>
    /// The comparison of the last values that are the source's, where it could not be that of the outputs: other classes, or a target that contains a part of
    /// the source alone. Null elsewhere.
    /// </summary>
    [JsonPropertyOrder(1), JsonIgnore(Condition = JsonIgnoreCondition.WhenWritingNull)]
    public VerificationReport? Carried { get; init; }

    /// <summary>The two networks side by side, with a pair for each part that was filled.</summary>
    [JsonPropertyOrder(1)]
    public required AlignmentReport Alignment { get; init; }
}

/// <summary>A transfer from file to file: the target's architecture with weights from the source.</summary>
public sealed class TransferJob
{
    /// <summary>The file of the trained model.</summary>
    public required string Source { get; init; }

    /// <summary>The file of the model to fill; its own weights stay where nothing fits.</summary>
    public required string Target { get; init; }

    /// <summary>The file to write.</summary>
    public required string Output { get; init; }

    /// <summary>How.</summary>
    public TransferMethod Method { get; init; }

    /// <summary>Which channels and blocks go where, and how they are scaled. An alignment has its own blocks.</summary>
    public TransferRules Rules { get; init; } = new();

    /// <summary>How tensors start that the source fills with nothing; null leaves them the target's own numbers.</summary>
    public InitMethod? Fresh { get; init; }

    /// <summary>How an aligned layer's tensors become those of another shape (<see cref="TransferMethod.Dp"/>).</summary>
    public TransferOperator Operator { get; init; } = TransferOperator.Maps;

    /// <summary>Which runs of targets one source may feed (<see cref="TransferMethod.Dp"/>).</summary>
    public RunRule Runs { get; init; } = RunRule.Blocks;

    /// <summary>Samples to set statistics with: those of batch norms, or of layers that norms were folded into; null leaves them as they are carried.</summary>
    public string? Calibrate { get; init; }

    /// <summary>Seed of everything random.</summary>
    public ulong Seed { get; init; }

    /// <summary>How to compare with the source; null does not.</summary>
    public VerifyOptions? Verify { get; init; } = new();

    /// <summary>Whether files that exist may be replaced.</summary>
    public bool Force { get; init; }

    /// <summary>Evaluates the weights.</summary>
    public WeightEvaluator Evaluator { get; init; } = new();

    /// <summary>Told what the job is at.</summary>
    public IProgress<string>? Progress { get; init; }

    // How often values that turn out not to be the source's are left out.
    private const int MostRounds = 2;

    /// <summary>Runs the job.</summary>
    /// <exception cref="OnnxMorphException">A model cannot be read, or the output cannot be written.</exception>
    /// <exception cref="RefusedException">The models are not isomorphic; the message names the first difference.</exception>
    /// <exception cref="UsageException">Statistics are to be set that <see cref="TransferMethod.Preserve"/> keeps.</exception>
    public TransferReport Run(CancellationToken cancellation = default)
    {
        Rules.Check(Method);
        string output = Path.GetFullPath(Output);
        if (Method == TransferMethod.Preserve && Calibrate is not null)
            throw new UsageException("--method preserve keeps what the source computes, and --calibrate changes it; leave out one of them.");
        OnnxWriter.CheckFree(output, Force);
        Begin("reading");
        OnnxModel source = OnnxReader.Read(Source), target = OnnxReader.Read(Target);
        OnnxWriter.CheckSpared(source, output);
        Begin("matching");
        SharedConstants.Part(target);
        using TemporaryFolder folder = new();
        AnalysedModel from = AnalysedModel.Of(source), to;
        VerifyOptions? compare = Verify is null ? null : Verify with { Probe = Verify.Probe ?? new ModelProbe(Evaluator) };
        VerificationReport? verification = null, carried;
        HashSet<(string, string)>? refuted = [];
        int rounds = 0;
        List<string> notes;
        TransferPlan plan;
        WeightTransfer transfer;
        ContainmentPlan? contained;
        AlignmentReport alignment;
        IReadOnlyList<TransferredTensor> tensors;
        do
        {
            (notes, to) = ([], AnalysedModel.Of(target));
            (plan, transfer, contained) = Plan(from, to, refuted, notes);
            // The graph is as it was read: filling it may give uses of a constant forms of their own.
            alignment = AlignmentReport.Of(from, to, [.. plan.Parts.Select(p => (p.Target, p.Source))], Runs);
            tensors = transfer.Apply();
            carried = contained is { IsWhole: false } ? Carried(contained, contained.Carried) : null;
        }
        while (carried is { Outputs.Count: > 0, Passed: false } && contained!.Approximations.Count == 0 && Refutes(contained));

        if (contained is not null && compare is null)
            notes.Add("Nothing was compared, so that what is called exact rests on the search alone; without --no-verify it is run.");
        IReadOnlyList<StageStatistics> stages = [];
        if (Fresh is { } method)
            (to, tensors) = Filled(to.Model, tensors, method, Path.Combine(folder.Path, "filled.onnx"));
        OnnxModel result = to.Model;
        if (Calibrate is { } samples)
            (result, stages) = Calibrated(from, to, transfer, plan, samples, folder.Path, notes);
        Begin("writing");
        WrittenModel written = OnnxWriter.Write(result, output, Evaluator, new WriteOptions { Force = Force, Accept = Accept }, null, cancellation);
        return new TransferReport(
            written.Accepted ? output : null, Method, plan.Parts,
            ModelInspection.CountParameters(source), ModelInspection.CountParameters(to.Model), tensors, stages, notes, verification)
        {
            Source = Path.GetFullPath(Source),
            Target = Path.GetFullPath(Target),
            Rules = ByShape ? null : Rules,
            Carried = carried,
            Fresh = Fresh,
            Alignment = alignment,
        };

        bool Accept(string written)
        {
            if (compare is null)
                return true;
            Begin("verifying");
            verification = Verifier.Compare(Source, written, compare, cancellation);
            if (contained is null || verification.Passed)
                return true;
            // The same under other names.
            if (contained.IsWhole && verification.Outputs.Count == 0 && Carried(contained, contained.Carried) is { Outputs.Count: > 0 } other)
                verification = other;
            VerificationReport? promised = contained.IsWhole ? verification : carried;
            if (promised is not { Outputs.Count: > 0 })
                notes.Add($"What is exact was not compared: {promised?.Reason ?? "its channels lie in the target in another way than in the source."}");
            // What was promised has to hold.
            return promised is not { Outputs.Count: > 0, Passed: false } || contained.Approximations.Count > 0;
        }

        VerificationReport? Carried(ContainmentPlan contained, IEnumerable<(string, string)> values)
        {
            if (compare is null || CarriedModels.Of(from, to, contained, values) is not var (own, other))
                return null;
            Begin("verifying what is exact");
            return Verifier.Compare(Stored(own, "source"), Stored(other, "target"), compare with { Probe = null }, cancellation);
        }

        // Which values are not what they were taken for; after some rounds nothing is taken for anything.
        bool Refutes(ContainmentPlan contained)
        {
            int before = refuted!.Count;
            if (rounds++ < MostRounds && Carried(contained, contained.AllCarried) is { } report)
                refuted.UnionWith(contained.AllCarried.Where(value => report.Outputs.Any(output => !output.Passed && output.Name == CarriedModels.Name(value))));
            if (refuted.Count == before)
                refuted = null;
            return true;
        }

        string Stored(OnnxModel model, string name)
        {
            string path = Path.Combine(folder.Path, $"{name}.onnx");
            OnnxWriter.Write(model, path, Evaluator, new WriteOptions { Force = true }, null, cancellation);
            return path;
        }

        // What was carried may be forms of constants of their own by now, so the graph is looked at again.
        (AnalysedModel, IReadOnlyList<TransferredTensor>) Filled(OnnxModel carried, IReadOnlyList<TransferredTensor> tensors, InitMethod method, string file)
        {
            Begin("initialising");
            OnnxWriter.Write(carried, file, Evaluator, null, null, cancellation);
            AnalysedModel model = AnalysedModel.Of(OnnxReader.Read(file));
            HashSet<string> names = [.. tensors.Where(t => t.Origin == TensorOrigin.Fresh).Select(t => t.Name)];
            names.ExceptWith(tensors.Where(t => t.Origin != TensorOrigin.Fresh).Select(t => t.Name));
            var plan = InitPlan.Of(model, new InitOptions { Method = method, Seed = Seed }, names);
            plan.Apply();
            notes.AddRange(plan.Notes);
            var starts = plan.Tensors.ToDictionary(t => t.Name);
            return (new AnalysedModel(model.Model, new ModelGraph(model.Model), model.Analysis, model.Structure), [.. tensors.Select(t =>
                t.Origin != TensorOrigin.Fresh || starts.GetValueOrDefault(t.Name) is not { } start || !names.Contains(t.Name) ? t
                    : t with { Note = start.Start == TensorStart.Kept ? $"{t.Note}, and it keeps its own numbers: {start.Note}" : $"{t.Note}, so it is initialised" })]);
        }

        (OnnxModel, IReadOnlyList<StageStatistics>) Calibrated(
            AnalysedModel from, AnalysedModel to, WeightTransfer transfer, TransferPlan plan, string samples, string folder, List<string> notes)
        {
            Begin("measuring the source");
            var results = transfer.Results().Concat(transfer.Sums(plan.Pairs)).ToList();
            List<(string Path, string Source, string Target)> ends = [.. Ends(from, to, plan)];
            var values = results.Select(r => (r.Source, r.SourceAxis)).Distinct().ToDictionary(v => v.Source, v => v.SourceAxis);
            foreach ((_, string value, _) in ends)
                values.TryAdd(value, ChannelAxis(from, value));
            var measured = ActivationStatistics.Measure(from.Model, values, samples, notes);
            Begin("calibrating");
            string carried = Path.Combine(folder, "carried.onnx"), calibrated = Path.Combine(folder, "calibrated.onnx");
            OnnxWriter.Write(to.Model, carried, Evaluator, null, null, cancellation);
            AnalysedModel model = AnalysedModel.Of(OnnxReader.Read(carried));
            int set = Recalibration.Run(model, results.ToDictionary(r => r.Target, r => Targets(r.Channels, measured[r.Source])), samples, notes);
            notes.Add($"Statistics of {set} norms, layers and sums were set on the samples.");
            OnnxWriter.Write(model.Model, calibrated, Evaluator, null, null, cancellation);
            OnnxModel result = OnnxReader.Read(calibrated);
            var after = ActivationStatistics.Measure(result, ends.ToDictionary(end => end.Target, end => ChannelAxis(to, end.Target)), samples, notes);
            return (result, [.. ends.Select(end => Statistics(end.Path, measured[end.Source], after[end.Target]))]);
        }

        void Begin(string stage)
        {
            Progress?.Report(stage);
            cancellation.ThrowIfCancellationRequested();
        }
    }

    private (TransferPlan, WeightTransfer, ContainmentPlan?) Plan(AnalysedModel from, AnalysedModel to, HashSet<(string, string)>? refuted, List<string> notes)
    {
        if (Method == TransferMethod.Preserve)
        {
            string why = "what it seemed to hold of it computes something else when it is run";
            if (refuted is not null && ContainmentPlan.Find(from, to, Rules.Width, Seed, out why, refuted) is { } contained)
                return Preserved(from, to, contained, notes);
            notes.Add($"The target contains nothing of the source: {why}.");
        }

        TransferPlan plan = Method switch
        {
            TransferMethod.Dp => TransferPlan.Aligned(from, to, Runs, notes),
            TransferMethod.Isomorphic => TransferPlan.Isomorphic(from, to, Rules.Depth),
            _ => TransferPlan.Best(from, to, Runs, notes),
        };
        if (ByShape)
            return (plan, new WeightTransfer(from, to, plan.Matches, new ShapeMapping(from, to, plan.Matches, Operator, Evaluator, Seed), new Dictionary<Use, WeightExpression>()), null);
        var blocks = BlockStarts.Of(to, plan, Rules.Inserted);
        var mapping = new ChannelMapping(
            from, to, blocks.Matches, Rules, Seed, Rules.Added == AddedChannels.Next ? TransferPlan.Next(from, to, plan.Pairs) : null, Evaluator);
        return (plan, new WeightTransfer(from, to, blocks.Matches, mapping, blocks.Starts), null);
    }

    private bool ByShape => Method == TransferMethod.Dp && Operator != TransferOperator.Maps;

    // What is not exact is filled as the other methods would.
    private (TransferPlan, WeightTransfer, ContainmentPlan?) Preserved(AnalysedModel from, AnalysedModel to, ContainmentPlan contained, List<string> notes)
    {
        if (contained.Obstacle is { } obstacle)
        {
            notes.Add($"The target does not contain all of the source: {obstacle}.");
            foreach ((string target, string source) in contained.Carried)
                notes.Add($"Exact up to '{target}', which is '{source}' of the source.");
        }

        foreach (string head in contained.Heads)
            notes.Add($"The last layer in front of '{head}' has another size than the source's and keeps its own numbers.");
        notes.AddRange(contained.Approximations);
        TransferPlan rest = contained.Obstacle is null ? new([], [], []) : TransferPlan.Best(from, to, Runs, notes);
        IReadOnlyList<UseMatch> matches = [.. contained.Matches, .. rest.Matches.Where(match => !contained.Fills(match.Target))];
        return (new TransferPlan(matches, [], contained.States(TransferPlan.Contained(from, to, matches), rest.Matches)), contained.With(rest), contained);
    }

    // The results of the target's stages, and the results in the source that they stand for.
    private static IEnumerable<(string Path, string Source, string Target)> Ends(AnalysedModel source, AnalysedModel target, TransferPlan plan)
    {
        foreach (Stage stage in target.Structure.Stages)
        {
            Block last = stage.Blocks[^1];
            string? path = plan.Pairs.FirstOrDefault(pair => pair.Target == last)?.StandsFor?.Path ?? plan.Parts.FirstOrDefault(part => part.Target == last.Path)?.Source;
            if (source.Structure.Blocks.FirstOrDefault(block => block.Path == path) is { } from)
                yield return (stage.Path, from.Exit, last.Exit);
        }
    }

    private static int ChannelAxis(AnalysedModel model, string value) => Math.Min(1, model.Analysis.Shapes.Dims(value)!.Length - 1);

    internal static ChannelTargets Targets(AxisMap channels, List<ChannelMoments> source)
    {
        double[] Of(Func<ChannelMoments, double, double> what) => [.. Enumerable.Range(0, channels.Size).Select(c =>
            channels[c].Length > 0 && channels[c].ToArray().All(tap => tap.Source < source.Count) ? channels[c].ToArray().Sum(tap => what(source[tap.Source], tap.Weight)) : double.NaN)];
        return new ChannelTargets(Of((m, weight) => weight * m.Mean), Of((m, weight) => Math.Abs(weight) * Math.Sqrt(m.Variance)));
    }

    private static StageStatistics Statistics(string path, List<ChannelMoments> source, List<ChannelMoments> target)
    {
        (ChannelMoments own, ChannelMoments other) = (new(), new());
        source.ForEach(own.Add);
        target.ForEach(other.Add);
        return new StageStatistics(path, own.Mean, Math.Sqrt(own.Variance), other.Mean, Math.Sqrt(other.Variance));
    }
}
