using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Morphs;
using OnnxMorph.Operators;
using OnnxMorph.Structure;
using OnnxMorph.Weights;

namespace OnnxMorph.Transfer;

/// <summary>A floating-point tensor of a target after a transfer.</summary>
/// <param name="Name">Its name.</param>
/// <param name="Shape">Its sizes.</param>
/// <param name="Origin">Whether its numbers are a tensor's of the source, computed from one, or the target's own.</param>
/// <param name="Source">The source's tensor; null where there is none.</param>
/// <param name="Note">What was done, or why nothing was.</param>
public sealed record TransferredTensor(string Name, IReadOnlyList<long> Shape, TensorOrigin Origin, string? Source, string? Note);

/// <summary>Fills the weights of a target: each constant through the mapping from the one of the source that it was matched with.</summary>
internal sealed class WeightTransfer
{
    private readonly AnalysedModel _source, _target;
    private readonly WeightMapping _mapping;
    private readonly Dictionary<Use, UseMatch> _matches = [];
    private readonly IReadOnlyDictionary<Use, WeightExpression> _starts;

    /// <summary>A transfer.</summary>
    /// <param name="source">Where weights come from.</param>
    /// <param name="target">Where they go.</param>
    /// <param name="matches">What goes where; of several matches of one constant's use the first counts.</param>
    /// <param name="mapping">How a constant becomes another.</param>
    /// <param name="starts">What starts without effect, whatever it is matched with.</param>
    public WeightTransfer(
        AnalysedModel source, AnalysedModel target, IEnumerable<UseMatch> matches, WeightMapping mapping, IReadOnlyDictionary<Use, WeightExpression> starts)
    {
        (_source, _target, _mapping, _starts) = (source, target, mapping, starts);
        foreach (UseMatch match in matches)
            _matches.TryAdd(match.Target, match);
    }

    /// <summary>
    /// For each layer and batch norm of the target whose bias comes from the source its result, and where in the source that result comes from. What
    /// starts as an identity is left out.
    /// </summary>
    public IEnumerable<(string Target, string Source, int SourceAxis, AxisMap Channels)> Results()
    {
        foreach (UseMatch match in _matches.Values)
        {
            if (Bias(_target, match.Target) is null || Bias(_source, match.Source) is not { } axis || _starts.Keys.Any(start => start.Node == match.Target.Node)
                || _mapping.Channels(match) is not { } channels)
                continue;
            yield return (_target.Graph.Nodes[match.Target.Node].Output[0], _source.Graph.Nodes[match.Source.Node].Output[0], axis, channels.Times(match.Factor));
        }

        // The axis of channels of the result that a use is the bias of; null where it is none.
        static int? Bias(AnalysedModel model, Use use) => model.Analysis.Node(use.Node)?.Layer is { } layer ? layer.BiasInput == use.Input ? layer.OutputAxis : null
            : OperatorRules.For(model.Graph.Nodes[use.Node]) is BatchNormalizationRule && use.Input == 2 ? 1 : null;
    }

    /// <summary>
    /// For each sum that ends a residual block of the target which stands for several of the source's, the sum behind the last of these.
    /// </summary>
    public IEnumerable<(string Target, string Source, int SourceAxis, AxisMap Channels)> Sums(IEnumerable<SectionPair> pairs)
    {
        foreach (SectionPair pair in pairs)
        {
            if (pair.StandsFor is not { } last)
                continue;
            List<string> own = [.. Sums(_source, last)], other = [.. Sums(_target, pair.Target)];
            if (own.Count != other.Count)
                continue;
            foreach ((string from, string to) in own.Zip(other))
                if (_source.Analysis.Axes(from) is { Length: > 2 } ownAxes && _target.Analysis.Axes(to) is { Length: > 2 } axes && _mapping.Channels(axes[1], ownAxes[1]) is { } channels)
                    yield return (to, from, 1, channels);
        }

        static IEnumerable<string> Sums(AnalysedModel model, Section section) =>
            from n in section.Nodes
            let node = model.Graph.Nodes[n]
            where node.OpType == "Add" && !node.Input.Any(model.Analysis.IsWeight)
            select node.Output[0];
    }

    /// <summary>Writes the weights into the target and says where each tensor comes from.</summary>
    public IReadOnlyList<TransferredTensor> Apply()
    {
        var editor = new GraphEditor(_target.Graph);
        var report = new List<TransferredTensor>();
        foreach (var uses in _target.Analysis.ConstantUses.Where(u => u.Constant.Type.IsScalable() && !IsArchitecture(u.Constant, u.Use)).GroupBy(u => u.Constant))
        {
            Constant constant = uses.Key;
            var forms = new List<(TransferredTensor Report, WeightExpression? Data, List<Use> Uses)>();
            foreach (Use use in uses.Select(u => u.Use))
            {
                (TransferredTensor tensor, WeightExpression? data) = Fill(constant, use);
                var same = forms.FirstOrDefault(f => f.Report == tensor && Equal(f.Data, data));
                if (same.Uses is null)
                    forms.Add(same = (tensor, data, []));
                same.Uses.Add(use);
            }

            foreach ((TransferredTensor tensor, WeightExpression? data, List<Use> same) in forms)
            {
                if (data is not null)
                    editor.Replace(constant, data, same, uses.Count());
                report.Add(tensor);
            }
        }

        editor.Commit();
        return report;
    }

    // A number that stands in a node (an exponent, an ε), or that is a size or a root of one in both models (1/√d), is no parameter.
    private bool IsArchitecture(Constant constant, Use use)
    {
        if (constant.Count != 1 || constant.Node is not null)
            return constant.Count == 1;
        if (!_matches.TryGetValue(use, out UseMatch? match) || Source(match) is not { Count: 1 } from || !from.Type.IsScalable())
            return false;
        double other = ConstantValues.Of(_target.Graph, constant)[0], own = ConstantValues.Of(_source.Graph, from)[0];
        return SizeNumbers.AreSizes((_target, match.Pair.Target, other), (_source, match.Pair.Source, own));
    }

    private Constant? Source(UseMatch match) => _source.Graph.ConstantOf(_source.Graph.Nodes[match.Source.Node].Input[match.Source.Input]);

    private static bool Equal(WeightExpression? a, WeightExpression? b) => ReferenceEquals(a, b) || (a, b) switch
    {
        (SummedWeight x, SummedWeight y) => x.Terms.Zip(y.Terms).All(term => term.First.Factor == term.Second.Factor && Equal(term.First.Weight, term.Second.Weight)),
        (MappedWeight x, MappedWeight y) => Equal(x.Source, y.Source) && x.Maps.SequenceEqual(y.Maps) && x.Fill == y.Fill,
        (FilledWeight x, FilledWeight y) => x.Fill == y.Fill && x.Shape.SequenceEqual(y.Shape),
        (TransposedWeight x, TransposedWeight y) => Equal(x.Source, y.Source),
        (PlacedWeight x, PlacedWeight y) => Equal(x.Outer, y.Outer) && Equal(x.Inner, y.Inner) && x.Start.SequenceEqual(y.Start),
        (ReshapedWeight x, ReshapedWeight y) => x.Shape.SequenceEqual(y.Shape) && Equal(x.Source, y.Source),
        (StoredWeight x, StoredWeight y) => x.File == y.File && x.Offset == y.Offset && x.Bytes.Equals(y.Bytes) && x.Shape.SequenceEqual(y.Shape),
        _ => false,
    };

    private (TransferredTensor Report, WeightExpression? Data) Fill(Constant constant, Use use)
    {
        TransferredTensor Report(TensorOrigin origin, string? from, string? note) => new(constant.Name, constant.Shape, origin, from, note);
        UseMatch? match = _matches.GetValueOrDefault(use);
        if (_starts.TryGetValue(use, out WeightExpression? start))
            return (Report(TensorOrigin.Mapped, match is null ? null : Source(match)!.Name, "it starts without effect"), start);
        if (match is null)
            return (Report(TensorOrigin.Fresh, null, "nothing in the source stands where it does"), null);
        Constant from = Source(match)!;
        try
        {
            if (from.Type != constant.Type)
                throw new TransferRefusedException($"it is {constant.Type}, and {from.Type} in the source");
            WeightExpression data = _mapping.Map(constant, match, from);
            return (Report(data is StoredWeight or TransposedWeight { Source: StoredWeight } ? TensorOrigin.Exact : TensorOrigin.Mapped, from.Name, null), data);
        }
        catch (TransferRefusedException refused)
        {
            return (Report(TensorOrigin.Fresh, from.Name, refused.Message), null);
        }
    }
}
