using OnnxMorph.Kernels;
using OnnxMorph.Onnx;
using OnnxMorph.Weights;

namespace OnnxMorph.Graph;

/// <summary>The numbers in constants that passes decide by: factors, slopes, exponents.</summary>
internal static class ConstantValues
{
    private static readonly WeightEvaluator s_evaluator = new();

    /// <summary>The elements of a floating-point constant, row-major.</summary>
    public static double[] Of(ModelGraph graph, Constant constant)
    {
        var values = new double[constant.Count];
        FloatConversion.Widen(ElementEncoding.Format(constant.Type), s_evaluator.Evaluate(graph.Model.Data(constant.Tensor)), values);
        return values;
    }

    /// <summary>Whether two constants of any type hold the same bytes.</summary>
    public static bool Equal(ModelGraph graph, Constant constant, ModelGraph otherGraph, Constant other) =>
        constant.Type == other.Type && s_evaluator.Evaluate(graph.Model.Data(constant.Tensor)).AsSpan().SequenceEqual(s_evaluator.Evaluate(otherGraph.Model.Data(other.Tensor)));

    /// <summary>
    /// The elements of an integer constant, row-major; null where they are none. Short floats count, for as long as they are 0.
    /// </summary>
    public static long[]? Integers(ModelGraph graph, Constant constant)
    {
        if (constant.Type.IsScalable() || constant.Type.BitWidth() is 0 or > 64)
            return null;
        byte[] bytes = s_evaluator.Evaluate(graph.Model.Data(constant.Tensor));
        return constant.Type.IsInteger() ? TensorStorage.Integers(bytes, constant.Type, constant.Count)
            : bytes.All(b => b == 0) ? new long[constant.Count] : null;
    }
}
