using OnnxMorph.Onnx;
using OnnxMorph.Shapes;

namespace OnnxMorph.Morphs;

/// <summary>
/// Lets the sizes that a file declares of intermediate values follow a step. ONNX Runtime believes declarations, where they
/// contradict what it infers too, and then plans memory that does not fit.
/// </summary>
internal static class Declarations
{
    /// <summary>Rewrites the declarations of values that have other sizes after a step; others stay as the file has them.</summary>
    /// <param name="model">The model after the step.</param>
    /// <param name="before">Sizes before.</param>
    /// <param name="after">Sizes after.</param>
    public static void Follow(OnnxModel model, ShapeTable before, ShapeTable after)
    {
        foreach (ValueInfoProto value in model.Proto.Graph.ValueInfo)
        {
            if (value.Type?.TensorType is not { Shape: { } shape } type || before.Dims(value.Name) is not { } old)
                continue;
            if (after.Dims(value.Name) is not { } sizes || sizes.Length != old.Length || shape.Dim.Count != old.Length)
            {
                type.Shape = null;
                continue;
            }

            for (int axis = 0; axis < sizes.Length; axis++)
            {
                if (sizes[axis] == old[axis] && Other(before, value.Name, axis) == Other(after, value.Name, axis))
                    continue;
                // A size that callers choose a part of is no number; it is left open.
                bool fixedSize = shape.Dim[axis].HasDimValue && !after.IsSymbolic(value.Name, axis);
                shape.Dim[axis] = fixedSize ? new TensorShapeProto.Types.Dimension { DimValue = sizes[axis] } : new();
            }
        }
    }

    private static long? Other(ShapeTable shapes, string value, int axis) => shapes.Other?.Dims(value) is { } sizes && axis < sizes.Length ? sizes[axis] : null;
}
