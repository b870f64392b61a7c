using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Structure;

namespace OnnxMorph.Transfer;

/// <summary>
/// Which space of a source each space of a target stands for: the one that most of the weights which make it were made along, or, where no
/// matched weight makes it, were read along.
/// </summary>
internal sealed class SpaceMatching
{
    private readonly Dictionary<Space, Space> _spaces = [];

    /// <summary>Decides from matched uses of constants.</summary>
    public SpaceMatching(AnalysedModel source, AnalysedModel target, IEnumerable<UseMatch> matches)
    {
        var votes = new Dictionary<Space, Dictionary<Space, (int Made, int Read)>>();
        Dictionary<Use, AxisExpression[]> own = Axes(source), other = Axes(target);
        foreach (UseMatch match in matches)
            if (own.TryGetValue(match.Source, out AxisExpression[]? from) && other.TryGetValue(match.Target, out AxisExpression[]? to) && from.Length == to.Length)
                for (int axis = 0; axis < to.Length; axis++)
                    Vote(target.Analysis.Solver.Resolve(to[axis]), source.Analysis.Solver.Resolve(from[match.Transposed ? ^(axis + 1) : axis]));
        foreach ((Space space, var candidates) in votes)
            _spaces[space] = candidates.OrderByDescending(c => c.Value.Made).ThenByDescending(c => c.Value.Read).ThenBy(c => c.Key.Id).First().Key;

        void Vote(AxisExpression to, AxisExpression from)
        {
            switch (to, from)
            {
                case (SpaceAxis t, SpaceAxis s) when t.Dual == s.Dual:
                    if (!votes.TryGetValue(t.Space, out var candidates))
                        votes[t.Space] = candidates = [];
                    (int made, int read) = candidates.GetValueOrDefault(s.Space);
                    candidates[s.Space] = t.Dual ? (made, read + 1) : (made + 1, read);
                    break;
                case (ProductAxis t, ProductAxis s) when t.Parts.Length == s.Parts.Length:
                    foreach ((AxisExpression part, AxisExpression ownPart) in t.Parts.Zip(s.Parts))
                        Vote(part, ownPart);
                    break;
                // Parts of concatenations that repeat differently are known from what makes them.
                case (ConcatAxis t, ConcatAxis s) when t.Parts.Length == s.Parts.Length:
                    foreach ((AxisExpression part, AxisExpression ownPart) in t.Parts.Zip(s.Parts))
                        Vote(part, ownPart);
                    break;
            }
        }
    }

    /// <summary>The source's space for one of the target; null where there is none.</summary>
    public Space? this[Space target] => _spaces.GetValueOrDefault(target);

    /// <summary>All target spaces that have one.</summary>
    public IEnumerable<KeyValuePair<Space, Space>> Pairs => _spaces;

    /// <summary>Axes of every use of a constant.</summary>
    internal static Dictionary<Use, AxisExpression[]> Axes(AnalysedModel model) => model.Analysis.ConstantUses.ToDictionary(u => u.Use, u => u.Axes);
}
