namespace OnnxMorph.Axes;

/// <summary>
/// Compares what two analyses of one graph, at two choices of the callers' sizes, say about axes. Spaces correspond one to
/// one; fixed sizes may differ. Where the parts differ, what was found holds by chance and is pinned in the first.
/// </summary>
internal sealed class TwinComparison(AxisSolver first, AxisSolver second)
{
    private readonly Dictionary<Space, Space> _forward = [];
    private readonly Dictionary<Space, Space> _back = [];

    /// <summary>Pins in the first analysis what is pinned or otherwise in the second.</summary>
    public void Compare(AxisExpression[] axes, AxisExpression[] others, Pin reason)
    {
        for (int axis = 0; axis < axes.Length; axis++)
        {
            if (axis >= others.Length || !Same(first.Resolve(axes[axis]), second.Resolve(others[axis])))
                first.Pin(axes[axis], reason);
        }
    }

    private bool Same(AxisExpression a, AxisExpression b)
    {
        switch (a, b)
        {
            case (FixedAxis, FixedAxis):
                return true;
            case (SpaceAxis l, SpaceAxis r) when l.Dual == r.Dual && l.Size == r.Size:
                if (!_forward.TryAdd(l.Space, r.Space) | !_back.TryAdd(r.Space, l.Space) && (_forward[l.Space] != r.Space || _back[r.Space] != l.Space))
                    return false;
                foreach (Pin pin in r.Space.Pins)
                    l.Space.AddPin(pin);
                return true;
            case (ProductAxis l, ProductAxis r):
                return l.Parts.Length == r.Parts.Length && l.Parts.Zip(r.Parts).All(p => Same(p.First, p.Second));
            case (ConcatAxis l, ConcatAxis r):
                return l.Parts.Length == r.Parts.Length && l.Parts.Zip(r.Parts).All(p => Same(p.First, p.Second));
            default:
                return false;
        }
    }
}
