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
public sealed record PartReport(string Target, string? Source, int Copy);

/// <summary>What the activations at the end of a stage are like on the calibration samples.</summary>
/// <param name="Path">The target's stage.</param>
/// <param name="SourceMean">Their mean in the source, behind the block that the stage's last block stands for.</param>
/// <param name="SourceDeviation">Their standard deviation there.</param>
/// <param name="TargetMean">Their mean in the result.</param>
/// <param name="TargetDeviation">Their standard deviation there.</param>
public sealed record StageStatistics(string Path, double SourceMean, double SourceDeviation, double TargetMean, double TargetDeviation);

/// <summary>What a transfer did: what <c>transfer --json</c> prints.</summary>
/// <param name="Output">The file that was written.</param>
/// <param name="Method">The method.</param>
/// <param name="Parts">The target's parts and where they come from.</param>
/// <param name="ParametersBefore">Elements of the source's floating-point constants.</param>
/// <param name="ParametersAfter">Elements of the target's.</param>
/// <param name="Tensors">The target's floating-point constants.</param>
/// <param name="Stages">What activations are like where samples were given to calibrate with; empty elsewhere.</param>
/// <param name="Notes">What a user should know.</param>
/// <param name="Verification">How far the result computes what the source computes; null where that was not asked for, or the two take different inputs.</param>
public sealed record TransferReport(
    string Output, TransferMethod Method, IReadOnlyList<PartReport> Parts, long ParametersBefore, long ParametersAfter,
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

    /// <summary>Runs the job.</summary>
    /// <exception cref="OnnxMorphException">A model cannot be read, or the output cannot be written.</exception>
    /// <exception cref="RefusedException">The models are not isomorphic; the message names the first difference.</exception>
    public TransferReport Run(CancellationToken cancellation = default)
    {
        Rules.Check(Method);
        string output = Path.GetFullPath(Output);
        OnnxWriter.CheckFree(output, Force);
        Begin("reading");
        OnnxModel source = OnnxReader.Read(Source), target = OnnxReader.Read(Target);
        OnnxWriter.CheckSpared(source, output);
        Begin("matching");
        SharedConstants.Part(target);
        AnalysedModel from = AnalysedModel.Of(source), to = AnalysedModel.Of(target);
        var notes = new List<string>();
        (TransferPlan plan, WeightTransfer transfer) = Plan(from, to, notes);
        // The graph is as it was read: filling it may give uses of a constant forms of their own.
        var alignment = AlignmentReport.Of(from, to, [.. plan.Parts.Select(p => (p.Target, p.Source))], Runs);
        IReadOnlyList<TransferredTensor> tensors = transfer.Apply();
        VerificationReport? verification = null;
        IReadOnlyList<StageStatistics> stages = [];
        using TemporaryFolder folder = new();
        if (Fresh is { } method)
            (to, tensors) = Filled(to.Model, tensors, method, Path.Combine(folder.Path, "filled.onnx"));
        OnnxModel result = to.Model;
        if (Calibrate is { } samples)
            (result, stages) = Calibrated(from, to, transfer, plan, samples, folder.Path, notes);
        Begin("writing");
        OnnxWriter.Write(result, output, new EvaluatedWeights(Evaluator), new WriteOptions { Force = Force, Accept = Accept }, null, cancellation);
        return new TransferReport(
            output, Method, plan.Parts,
            ModelInspection.CountParameters(source), ModelInspection.CountParameters(to.Model), tensors, stages, notes, verification)
        {
            Source = Path.GetFullPath(Source),
            Target = Path.GetFullPath(Target),
            Rules = ByShape ? null : Rules,
            Fresh = Fresh,
            Alignment = alignment,
        };

        bool Accept(string written)
        {
            if (Verify is { } options)
            {
                Begin("verifying");
                verification = Verifier.Compare(Source, written, options with { Probe = options.Probe ?? new ModelProbe(Evaluator) }, cancellation);
            }

            return true;
        }

        // What was carried may be forms of constants of their own by now, so the graph is looked at again.
        (AnalysedModel, IReadOnlyList<TransferredTensor>) Filled(OnnxModel carried, IReadOnlyList<TransferredTensor> tensors, InitMethod method, string file)
        {
            Begin("initialising");
            OnnxWriter.Write(carried, file, new EvaluatedWeights(Evaluator), null, null, cancellation);
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
            OnnxWriter.Write(to.Model, carried, new EvaluatedWeights(Evaluator), null, null, cancellation);
            AnalysedModel model = AnalysedModel.Of(OnnxReader.Read(carried));
            int set = Recalibration.Run(model, results.ToDictionary(r => r.Target, r => Targets(r.Channels, measured[r.Source])), samples, notes);
            notes.Add($"Statistics of {set} norms, layers and sums were set on the samples.");
            OnnxWriter.Write(model.Model, calibrated, new EvaluatedWeights(Evaluator), null, null, cancellation);
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

    private (TransferPlan, WeightTransfer) Plan(AnalysedModel from, AnalysedModel to, List<string> notes)
    {
        if (Method == TransferMethod.Preserve && Contained(from, to, notes) is { } contained)
            return contained;
        TransferPlan plan = Method switch
        {
            TransferMethod.Dp => TransferPlan.Aligned(from, to, Runs, notes),
            TransferMethod.Isomorphic => TransferPlan.Isomorphic(from, to, Rules.Depth),
            _ => TransferPlan.Best(from, to, Runs, notes),
        };
        if (ByShape)
            return (plan, new WeightTransfer(from, to, plan.Matches, new ShapeMapping(from, to, plan.Matches, Operator, Evaluator, Seed), new Dictionary<Use, WeightExpression>()));
        var blocks = BlockStarts.Of(to, plan, Rules.Inserted);
        var mapping = new ChannelMapping(
            from, to, blocks.Matches, Rules, Seed, Rules.Added == AddedChannels.Next ? TransferPlan.Next(from, to, plan.Pairs) : null, Evaluator);
        return (plan, new WeightTransfer(from, to, blocks.Matches, mapping, blocks.Starts));
    }

    private bool ByShape => Method == TransferMethod.Dp && Operator != TransferOperator.Maps;

    private (TransferPlan, WeightTransfer)? Contained(AnalysedModel from, AnalysedModel to, List<string> notes)
    {
        if (ContainmentPlan.Find(from, to, Rules.Width, Seed, notes, out string why) is not { } plan)
        {
            notes.Add($"The target does not contain the source: {why}.");
            return null;
        }

        foreach (string head in plan.Heads)
            notes.Add($"The last layer in front of '{head}' has another size than the source's and keeps its own numbers.");
        return (new TransferPlan(plan.Matches, [], TransferPlan.Contained(from, to, plan.Matches)), new WeightTransfer(from, to, plan.Matches, plan.Mapping, plan.Starts));
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
