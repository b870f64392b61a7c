using OnnxMorph.Axes;
using OnnxMorph.Graph;
using OnnxMorph.Onnx;
using OnnxMorph.Shapes;

namespace OnnxMorph.Structure;

/// <summary>A model with everything that is found out about it before weights are looked at.</summary>
/// <param name="Model">A copy of the model, its local functions inlined.</param>
/// <param name="Graph">Its main graph.</param>
/// <param name="Analysis">What its axes are made of.</param>
/// <param name="Structure">Its stem, stages, blocks and head.</param>
public sealed record AnalysedModel(OnnxModel Model, ModelGraph Graph, AxisAnalysis Analysis, ModelStructure Structure)
{
    /// <summary>Analyses a model, which stays as it is.</summary>
    /// <exception cref="UnreadableModelException">ONNX Runtime does not load it.</exception>
    public static AnalysedModel Of(OnnxModel model)
    {
        model = model.Clone();
        FunctionInliner.Inline(model);
        var graph = new ModelGraph(model);
        AxisAnalysis analysis = AxisAnalysis.Of(graph, ShapeEvaluator.Evaluate(model));
        return new AnalysedModel(model, graph, analysis, ModelStructure.Of(analysis));
    }
}
