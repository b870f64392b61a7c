"""Small transformers of fused operators, for export_models.py: those of ONNX's newest opsets and of ONNX Runtime.

Each function of GRAPHS returns a `Written`: an ONNX model with random weights, and sample inputs. Batch, sequence and
cache are dynamic.
"""

import numpy
from onnx import TensorProto

from graphkit import BATCH, FLOAT, Graph, conv_weight, matrix, normal, shape_of, vector

MICROSOFT = "com.microsoft"
WIDTH, HEADS, SIZE, HIDDEN, VOCABULARY, CONTEXT = 48, 3, 16, 64, 50, 96
FEATURES = 10
SEQUENCE = ["batch", "sequence"]


class Transformer(Graph):
    """A graph with the parts that the models here share."""

    def matrix(self, rows, columns):
        """An initializer that maps rows to columns."""
        return self.initializer(matrix(rows, columns))

    def scale(self, width=WIDTH):
        """A norm's scale."""
        return self.initializer(1 + vector(width))

    def vector(self, width=WIDTH):
        """A bias."""
        return self.initializer(vector(width))

    def fused(self, operator, *inputs, **attributes):
        """A node of ONNX Runtime's domain."""
        return self.node(operator, *inputs, domain=MICROSOFT, **attributes)

    def linear(self, x, inputs, outputs, bias=False):
        """MatMul, and Add where there is a bias."""
        y = self.node("MatMul", x, self.matrix(inputs, outputs))
        return self.node("Add", y, self.vector(outputs)) if bias else y

    def gated(self, x):
        """SwiGLU."""
        gate = self.linear(x, WIDTH, HIDDEN)
        gate = self.node("Mul", gate, self.node("Sigmoid", gate))
        return self.linear(self.node("Mul", gate, self.linear(x, WIDTH, HIDDEN)), HIDDEN, WIDTH)

    def rotations(self):
        """Cosine and sine of every position and half of a head, as initializers."""
        angles = numpy.arange(CONTEXT)[:, None] * 100.0 ** (-numpy.arange(SIZE // 2) / (SIZE // 2))
        return [self.initializer(function(angles).astype(numpy.float32)) for function in (numpy.cos, numpy.sin)]

    def length(self, value, axis):
        """The size of an axis, as int64 of one element."""
        return self.node("Gather", self.node("Shape", value), self.initializer(shape_of(axis)))

    def positions(self, value, past=None):
        """Position numbers of every token of a (batch, sequence, ...) value, the cached ones counted."""
        one, scalar = self.initializer(numpy.array(1, dtype=numpy.int64)), self.initializer(shape_of(0))
        start = self.node("Squeeze", self.length(past, 2), scalar) if past else self.initializer(numpy.array(0, dtype=numpy.int64))
        end = self.node("Add", start, self.node("Squeeze", self.length(value, 1), scalar))
        row = self.node("Unsqueeze", self.node("Range", start, end, one), self.initializer(shape_of(0)))
        return self.node("Expand", row, self.node("Concat", self.length(value, 0), self.length(value, 1), axis=0))

    def finish_features(self, output, opset=17, caches=(), presents=(), heads=HEADS):
        """`finish` for a model on float features, with keys and values in and out where it has a cache."""
        cache_shape, present_shape = ["batch", heads, "past", SIZE], ["batch", heads, "total", SIZE]
        samples = {"features": normal(BATCH, 6, FEATURES), **{name: normal(BATCH, heads, 5, SIZE) for name in caches}}
        return self.finish(
            [("features", FLOAT, [*SEQUENCE, FEATURES])] + [(name, FLOAT, cache_shape) for name in caches],
            {"logits": (self.linear(output, WIDTH, 5), FLOAT, [*SEQUENCE, 5]),
             **{name.replace("past", "present"): (value, FLOAT, present_shape) for name, value in zip(caches, presents)}},
            samples, opset=opset, domains=(MICROSOFT,))


def ms_bert():
    """A BERT as ONNX Runtime's optimiser leaves it: EmbedLayerNormalization, Attention, SkipLayerNormalization, BiasGelu."""
    graph = Transformer()
    x, _ = graph.node("EmbedLayerNormalization", "input_ids", "segment_ids", graph.initializer(normal(VOCABULARY, WIDTH)),
                      graph.initializer(normal(CONTEXT, WIDTH)), graph.initializer(normal(2, WIDTH)), graph.scale(),
                      graph.vector(), domain=MICROSOFT, outputs=2, epsilon=1e-12)
    for _ in range(2):
        y = graph.fused("Attention", x, graph.matrix(WIDTH, 3 * WIDTH), graph.vector(3 * WIDTH), num_heads=HEADS)
        x = graph.fused("SkipLayerNormalization", graph.linear(y, WIDTH, WIDTH), x, graph.scale(), graph.vector(), graph.vector())
        y = graph.fused("BiasGelu", graph.linear(x, WIDTH, HIDDEN), graph.vector(HIDDEN))
        x = graph.fused("SkipLayerNormalization", graph.linear(y, HIDDEN, WIDTH), x, graph.scale(), graph.vector(), graph.vector())
    first = graph.node("Gather", x, graph.initializer(numpy.array(0, dtype=numpy.int64)), axis=1)
    pooled = graph.node("Tanh", graph.linear(first, WIDTH, WIDTH, bias=True))
    return graph.finish(
        [("input_ids", TensorProto.INT32, SEQUENCE), ("segment_ids", TensorProto.INT32, SEQUENCE)],
        {"logits": (graph.linear(pooled, WIDTH, 3, bias=True), FLOAT, ["batch", 3])},
        {"input_ids": numpy.random.randint(0, VOCABULARY, (BATCH, 6)).astype(numpy.int32),
         "segment_ids": numpy.random.randint(0, 2, (BATCH, 6)).astype(numpy.int32)}, opset=17, domains=(MICROSOFT,))


def ms_attention():
    """Attention that looks back only, with a packed cache of keys and values; FastGelu with a bias."""
    graph = Transformer()
    x = graph.linear("features", FEATURES, WIDTH)
    y = graph.node("LayerNormalization", x, graph.scale(), graph.vector())
    y, present = graph.node("Attention", y, graph.matrix(WIDTH, 3 * WIDTH), graph.vector(3 * WIDTH), "", "past",
                            domain=MICROSOFT, outputs=2, num_heads=HEADS, unidirectional=1)
    x = graph.node("Add", x, graph.linear(y, WIDTH, WIDTH, bias=True))
    y = graph.node("LayerNormalization", x, graph.scale(), graph.vector())
    y = graph.fused("FastGelu", graph.linear(y, WIDTH, HIDDEN), graph.vector(HIDDEN))
    x = graph.node("Add", x, graph.linear(y, HIDDEN, WIDTH, bias=True))
    return graph.finish(
        [("features", FLOAT, [*SEQUENCE, FEATURES]), ("past", FLOAT, [2, "batch", HEADS, "past_sequence", SIZE])],
        {"logits": (graph.linear(x, WIDTH, 5), FLOAT, [*SEQUENCE, 5]),
         "present": (present, FLOAT, [2, "batch", HEADS, "total", SIZE])},
        {"features": normal(BATCH, 6, FEATURES), "past": normal(2, BATCH, HEADS, 5, SIZE)}, opset=17, domains=(MICROSOFT,))


def ms_multi_head_attention():
    """MultiHeadAttention with a bias, FusedMatMul, Gelu, SkipLayerNormalization without a bias."""
    graph = Transformer()
    x = graph.linear("features", FEATURES, WIDTH)
    query, key, value = (graph.linear(x, WIDTH, WIDTH) for _ in range(3))
    y = graph.fused("MultiHeadAttention", query, key, value, graph.vector(3 * WIDTH), num_heads=HEADS)
    y = graph.fused("FusedMatMul", y, graph.matrix(WIDTH, WIDTH), transB=1, alpha=0.5)
    x = graph.fused("SkipLayerNormalization", y, x, graph.scale(), graph.vector())
    y = graph.fused("Gelu", graph.linear(x, WIDTH, HIDDEN, bias=True))
    return graph.finish_features(graph.fused("SkipLayerNormalization", graph.linear(y, HIDDEN, WIDTH), x, graph.scale(), graph.vector()))


def ms_multi_head_attention_cached():
    """MultiHeadAttention with keys and values of earlier tokens, and ONNX Runtime's RotaryEmbedding."""
    graph = Transformer()
    x = graph.linear("features", FEATURES, WIDTH)
    positions, rotations = graph.positions("features", "past_key"), graph.rotations()
    query, key, value = (graph.linear(x, WIDTH, WIDTH) for _ in range(3))
    query, key = (graph.fused("RotaryEmbedding", part, positions, *rotations, num_heads=HEADS) for part in (query, key))
    y, *present = graph.node("MultiHeadAttention", query, key, value, "", "", "", "past_key", "past_value",
                             domain=MICROSOFT, outputs=3, num_heads=HEADS)
    x = graph.node("Add", x, graph.linear(y, WIDTH, WIDTH))
    x = graph.node("Add", x, graph.fused("QuickGelu", graph.linear(x, WIDTH, WIDTH), alpha=1.702))
    return graph.finish_features(x, caches=("past_key", "past_value"), presents=present)


def ms_grouped(query_heads, groups, packed):
    """A Llama block of GroupQueryAttention with rotation and cache, and (Skip)SimplifiedLayerNormalization."""
    graph = Transformer()
    # The last position rather than a sum of sizes: ONNX Runtime's inference follows sizes as int64 and wants int32.
    last = graph.node("ReduceMax", graph.node("Cast", graph.positions("features", "past_key"), to=TensorProto.INT32), keepdims=0)
    lengths = graph.node("Expand", last, graph.length("features", 0))
    total = graph.node("Add", last, graph.initializer(numpy.array(1, dtype=numpy.int32)))
    x = graph.linear("features", FEATURES, WIDTH)
    y = graph.node("SimplifiedLayerNormalization", x, graph.scale(), axis=-1, epsilon=1e-5)
    if packed:
        parts = [graph.linear(y, WIDTH, (query_heads + 2 * groups) * SIZE), "", ""]
    else:
        parts = [graph.linear(y, WIDTH, heads * SIZE) for heads in (query_heads, groups, groups)]
    y, *present = graph.node("GroupQueryAttention", *parts, "past_key", "past_value", lengths, total, *graph.rotations(),
                             domain=MICROSOFT, outputs=3, num_heads=query_heads, kv_num_heads=groups, do_rotary=1)
    y = graph.linear(y, query_heads * SIZE, WIDTH)
    y, _, _, x = graph.node("SkipSimplifiedLayerNormalization", y, x, graph.scale(), domain=MICROSOFT, outputs=4, epsilon=1e-5)
    y, _, _, _ = graph.node("SkipSimplifiedLayerNormalization", graph.gated(y), x, graph.scale(), domain=MICROSOFT, outputs=4,
                            epsilon=1e-5)
    return graph.finish_features(y, caches=("past_key", "past_value"), presents=present, heads=groups)


def ms_group_query_attention():
    """A Llama block as model builders for ONNX Runtime write it: 4 query heads on 2."""
    return ms_grouped(4, 2, packed=False)


def ms_group_query_attention_packed():
    """The same with query, key and value from one matrix."""
    return ms_grouped(4, 2, packed=True)


def ms_fused_conv():
    """FusedConv with an activation and with a summand."""
    graph = Transformer()
    def convolution(x, inputs, outputs, *summand, activation="Relu"):
        return graph.fused("FusedConv", x, graph.initializer(conv_weight(outputs, inputs, 3)), graph.vector(outputs), *summand,
                           activation=activation, pads=[1, 1, 1, 1])
    x = convolution("image", 3, 8)
    x = convolution(convolution(x, 8, 12, activation="Sigmoid"), 12, 8, x)
    return graph.finish_image(graph.head(x, 8), domains=(MICROSOFT,))


def standard(query_heads, groups, opset):
    """A Llama block of ONNX's own operators, with a cache."""
    graph = Transformer()
    x = graph.linear("features", FEATURES, WIDTH)
    positions, rotations = graph.positions("features", "past_key"), graph.rotations()
    y = graph.node("RMSNormalization", x, graph.scale(), axis=-1)
    query, key, value = (graph.linear(y, WIDTH, heads * SIZE) for heads in (query_heads, groups, groups))
    query = graph.node("RotaryEmbedding", query, *rotations, positions, num_heads=query_heads)
    key = graph.node("RotaryEmbedding", key, *rotations, positions, num_heads=groups)
    y, *present = graph.node("Attention", query, key, value, "", "past_key", "past_value", outputs=3,
                             q_num_heads=query_heads, kv_num_heads=groups, is_causal=1)
    x = graph.node("Add", x, graph.linear(y, query_heads * SIZE, WIDTH))
    x = graph.node("Add", x, graph.gated(graph.node("RMSNormalization", x, graph.scale(), axis=-1)))
    return graph.finish_features(x, opset, ("past_key", "past_value"), present, groups)


def onnx_attention_23():
    """Opset 23's Attention, RMSNormalization and RotaryEmbedding."""
    return standard(HEADS, HEADS, 23)


def onnx_attention_grouped_23():
    """The same with 4 query heads on 2."""
    return standard(4, 2, 23)


def onnx_attention_24():
    """The same in opset 24."""
    return standard(4, 2, 24)


def onnx_attention_4d():
    """Opset 23's Attention on values with a heads axis of their own, an additive mask and a scale; Gelu of opset 20."""
    graph = Transformer()
    x = graph.linear("features", FEATURES, WIDTH)
    y = graph.node("LayerNormalization", x, graph.scale(), graph.vector())
    split = graph.initializer(shape_of(0, 0, HEADS, SIZE))
    query, key, value = (graph.node("Transpose", graph.node("Reshape", graph.linear(y, WIDTH, WIDTH, bias=True), split), perm=[0, 2, 1, 3])
                         for _ in range(3))
    length = graph.length("features", 1)
    mask = graph.node("ConstantOfShape", graph.node("Concat", length, length, axis=0))
    mask = graph.node("Trilu", graph.node("Add", mask, graph.initializer(numpy.float32(-1e4).reshape(()))),
                      graph.initializer(numpy.array(1, dtype=numpy.int64)), upper=1)
    y = graph.node("Transpose", graph.node("Attention", query, key, value, mask, scale=0.4), perm=[0, 2, 1, 3])
    y = graph.node("Reshape", y, graph.initializer(shape_of(0, 0, WIDTH)))
    x = graph.node("Add", x, graph.linear(y, WIDTH, WIDTH, bias=True))
    y = graph.node("Gelu", graph.linear(x, WIDTH, HIDDEN, bias=True), approximate="tanh")
    return graph.finish_features(graph.node("Add", x, graph.linear(y, HIDDEN, WIDTH, bias=True)), 23)


GRAPHS = (ms_bert, ms_attention, ms_multi_head_attention, ms_multi_head_attention_cached, ms_group_query_attention,
          ms_group_query_attention_packed, ms_fused_conv, onnx_attention_23, onnx_attention_grouped_23, onnx_attention_24,
          onnx_attention_4d)
