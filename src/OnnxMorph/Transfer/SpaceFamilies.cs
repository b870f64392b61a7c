using OnnxMorph.Axes;

namespace OnnxMorph.Transfer;

/// <summary>Spaces whose indices belong together, though they are no one space: those on both sides of norms, and those of operands that are multiplied.</summary>
internal sealed class SpaceFamilies
{
    private readonly Dictionary<Space, Space> _above = [];

    /// <summary>Finds the families among companions (<see cref="AxisSolver.Companions"/>).</summary>
    /// <param name="solver">Whose spaces.</param>
    /// <param name="joins">Which companions belong together.</param>
    public SpaceFamilies(AxisSolver solver, Func<Space, Space, bool> joins)
    {
        foreach ((AxisExpression left, AxisExpression right) in solver.Companions)
        {
            List<SpaceAxis> a = [.. solver.Leaves(left)], b = [.. solver.Leaves(right)];
            if (a.Count == b.Count)
                foreach ((SpaceAxis l, SpaceAxis r) in a.Zip(b))
                    if (joins(l.Space, r.Space) && this[l.Space] != this[r.Space])
                        _above[this[r.Space]] = this[l.Space];
        }
    }

    /// <summary>Companions of one size.</summary>
    public static SpaceFamilies OfEqualSizes(AxisSolver solver) => new(solver, (a, b) => a.Size == b.Size);

    /// <summary>One space for all of a family.</summary>
    public Space this[Space space]
    {
        get
        {
            while (_above.TryGetValue(space, out Space? above))
                space = above;
            return space;
        }
    }
}
