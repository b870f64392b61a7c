using OnnxMorph.Alignment;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Structure;
using OnnxMorph.Tests.Testing;
using OnnxMorph.Transfer;
using OnnxMorph.Transfer.Containment;
using OnnxMorph.Transfer.Rules;
using OnnxMorph.Weights;

namespace OnnxMorph.Tests.Transfer;

/// <summary>Sources looked for inside targets.</summary>
internal static class Containing
{
    /// <summary>The target with weights that make it compute what the source does; null where it does not contain it.</summary>
    public static ModelProto? Fill(OnnxModel source, OnnxModel target, out string why) =>
        Find(source, target, out why) is { Obstacle: null } found ? found.Filled : null;

    /// <summary>As much of the source as is in the target: the plan, and the target with that in it; null where nothing is.</summary>
    public static Found? Find(OnnxModel source, OnnxModel target, out string why)
    {
        SharedConstants.Part(target);
        AnalysedModel from = AnalysedModel.Of(source), to = AnalysedModel.Of(target);
        if (ContainmentPlan.Find(from, to, WidthRule.Importance, 1, out why) is not { } plan)
            return null;
        TransferPlan rest = plan.Obstacle is null ? new([], [], []) : TransferPlan.Best(from, to, RunRule.Blocks, []);
        IReadOnlyList<PartReport> parts = plan.States(TransferPlan.Contained(from, to, [.. plan.Matches, .. rest.Matches]), rest.Matches);
        plan.With(rest).Apply();
        return new Found(from, to, plan, plan.Obstacle, parts, Check.Written(to.Model));
    }

    /// <summary>What was found of a source.</summary>
    internal sealed record Found(AnalysedModel Source, AnalysedModel Target, ContainmentPlan Plan, string? Obstacle, IReadOnlyList<PartReport> Parts, ModelProto Filled);

    /// <summary>The first value of the target, in the order of its nodes, that does not hold what it is said to carry of the source; null where all do.</summary>
    public static string? FirstWrong(Found found, Net net)
    {
        var feeds = Check.Feeds(net, net.Runs.FirstOrDefault() ?? [], seed: 1);
        foreach ((string Target, string Source) pair in found.Plan.AllCarried.OrderBy(pair => found.Target.Graph.Producer(pair.Target) ?? -1))
        {
            if (CarriedModels.Of(found.Source, found.Target, found.Plan, [pair]) is not var (own, other))
                continue;
            double[] before = Check.Run(own.Proto, feeds, []).Values.Single().Values, after = Check.Run(Check.Written(other), feeds, []).Values.Single().Values;
            double error = before.Zip(after, (x, y) => Math.Abs(x - y)).DefaultIfEmpty(0).Max(), scale = before.Select(Math.Abs).DefaultIfEmpty(0).Max();
            if (!(error <= 1e-3 * Math.Max(scale, 1e-3)))
                return $"'{pair.Target}' as '{pair.Source}': {error:g3} of {scale:g3}";
        }

        return null;
    }

    /// <summary>The same architecture with other numbers in the place of everything that is trained.</summary>
    public static OnnxModel Redrawn(ModelProto model, int seed)
    {
        ModelProto drawn = model.Clone();
        drawn.MetadataProps.Clear();
        var random = new Random(seed);
        HashSet<string> slopes = [.. drawn.Graph.Node.Where(n => n.OpType == "PRelu").Select(n => n.Input[1])];
        // Numbers that are sizes.
        HashSet<string> sizes = [.. drawn.Graph.Node.Where(n => n.OpType is "Resize" or "Upsample").SelectMany(n => n.Input)];
        HashSet<string> variances = [.. drawn.Graph.Node.Where(n => n.OpType == "BatchNormalization").Select(n => n.Input[4])];
        foreach (TensorProto tensor in drawn.Graph.Initializer)
        {
            var type = (ElementType)tensor.DataType;
            long count = tensor.Dims.Aggregate(1L, (product, size) => product * size);
            if (type is not (ElementType.Float32 or ElementType.Float64) || (count == 1 && !slopes.Contains(tensor.Name)) || sizes.Contains(tensor.Name))
                continue;
            tensor.RawData = Net.Tensor(tensor.Name, type, [.. tensor.Dims], () => variances.Contains(tensor.Name) ? 0.5 + random.NextDouble() : random.NextDouble() - 0.5).RawData;
            tensor.FloatData.Clear();
            tensor.DoubleData.Clear();
        }

        return new OnnxModel(drawn);
    }
}
