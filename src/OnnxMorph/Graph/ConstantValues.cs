using OnnxMorph.Kernels;
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
}
