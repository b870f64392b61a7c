using OnnxMorph.Graph;
using OnnxMorph.Onnx;

namespace OnnxMorph.Operators;

/// <summary>The one table of operator rules. An operator that is not in it is left alone, with everything it touches.</summary>
public static class OperatorRules
{
    private static readonly OperatorRule[] s_all =
    [
        new PointwiseRule(), new PassThroughRule(), new QuantizeRule(), new IntegerLayerRule(), new SizeRule(), new ConstantOfShapeRule(),
        new ConvolutionRule(), new TransposedConvolutionRule(), new MatMulRule(), new GemmRule(), new EinsumRule(), new RecurrentRule(),
        new BatchNormalizationRule(), new InstanceNormalizationRule(), new LayerNormalizationRule(), new GroupNormalizationRule(),
        new AlongAxisRule(), new ReductionRule(), new SpatialRule(),
        new StandardAttentionRule(), new PackedAttentionRule(), new ProjectedAttentionRule(), new RotaryEmbeddingRule(), new SkipNormalizationRule(), new EmbeddingNormalizationRule(),
        new FusedMatMulRule(),
        new ReshapeRule(), new TransposeRule(), new SqueezeRule(), new ExpandRule(), new TileRule(), new PixelShuffleRule(),
        new ConcatRule(), new SplitRule(), new SliceRule(), new GatherRule(), new PadRule(),
    ];

    private static readonly Dictionary<string, OperatorRule> s_byOperator =
        s_all.SelectMany(rule => rule.Operators.Select(name => (name, rule))).ToDictionary(x => x.name, x => x.rule);

    /// <summary>The rule for a node's operator, or null where there is none.</summary>
    public static OperatorRule? For(NodeProto node) =>
        s_byOperator.GetValueOrDefault(ModelGraph.IsStandard(node) ? node.OpType : $"{node.Domain}:{node.OpType}");
}
