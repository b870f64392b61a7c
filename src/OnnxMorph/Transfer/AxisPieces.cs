using OnnxMorph.Axes;

namespace OnnxMorph.Transfer;

/// <summary>Pieces of axes.</summary>
internal static class AxisPieces
{
    /// <summary>The expression of some indices of an axis; null where they are no whole parts of it.</summary>
    public static AxisExpression? Slice(AxisExpression axis, int start, int size)
    {
        if (start == 0 && size == axis.Size)
            return axis;
        // One group of several.
        if (axis is ProductAxis { Parts: [_, AxisExpression inner] } && size == inner.Size && start % size == 0)
            return inner;
        if (axis is not ConcatAxis concat)
            return null;
        var parts = new List<AxisExpression>();
        long at = 0;
        foreach (AxisExpression part in concat.Parts)
        {
            if (at >= start && at + part.Size <= start + size)
                parts.Add(part);
            else if (at < start + size && at + part.Size > start)
                return null;
            at += part.Size;
        }

        return parts.Sum(part => part.Size) == size && parts.Count > 0 ? AxisSolver.Concat(parts) : null;
    }
}
