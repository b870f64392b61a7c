"""Small graphs of the form that PyTorch's newer exporter (torch.onnx.export with dynamo=True) writes, for export_models.py.

That exporter translates ATen operators one by one: the weights of linear layers are transposed by nodes, the swapped axes of
keys go through a reshape to three axes, queries and keys are each scaled by the root of the scale, grouped keys are expanded,
masked rows of a softmax are guarded by IsNaN. Here are graphs with sizes that it has
folded (vit), and with those that it computes (decoder).

Each function of GRAPHS returns a `Written`: an ONNX model with random weights, and sample inputs.
"""

import numpy
from onnx import TensorProto

from graphkit import BATCH, FLOAT, Graph, batch_norm_vectors, conv_weight, matrix, normal, shape_of, vector

WIDTH, HEADS, SIZE, HIDDEN, GROUPS = 48, 4, 12, 64, 2
OPSET = 18
ROOT = numpy.float32(SIZE ** -0.25)  # of the scale


class Translated(Graph):
    """A graph with the translations of some ATen operators."""

    def ints(self, *values):
        """Int64 values as a Constant node."""
        return self.constant(shape_of(*values))

    def number(self, value):
        """A float32 scalar as a Constant node."""
        return self.constant(numpy.float32(value).reshape(()))

    def linear(self, x, inputs, outputs, bias=True):
        """aten.linear of more than two axes."""
        weight = self.node("Transpose", self.initializer(matrix(outputs, inputs, axis=1)), perm=[1, 0])
        y = self.node("MatMul", x, weight)
        return self.node("Add", y, self.initializer(vector(outputs))) if bias else y

    def layer_norm(self, x):
        """aten.layer_norm."""
        return self.node("LayerNormalization", x, self.initializer(1 + vector(WIDTH)), self.initializer(vector(WIDTH)), axis=-1, epsilon=1e-6)

    def rms_norm(self, x):
        """What models write with pow, mean and rsqrt."""
        mean = self.node("ReduceMean", self.node("Pow", x, self.number(2)), self.ints(-1), keepdims=1)
        root = self.node("Reciprocal", self.node("Sqrt", self.node("Add", mean, self.number(1e-6))))
        return self.node("Mul", self.initializer(1 + vector(WIDTH)), self.node("Mul", x, root))

    def gelu(self, x):
        """aten.gelu."""
        inner = self.node("Add", self.node("Erf", self.node("Div", x, self.number(2 ** 0.5))), self.number(1))
        return self.node("Mul", x, self.node("Mul", self.number(0.5), inner))

    def length(self, x, axis):
        """A size as one int64."""
        return self.node("Shape", x, start=axis, end=axis + 1)

    def swapped(self, key, sizes=None):
        """Key with its last two axes swapped by a transpose of three; with sizes that it computes where none are given."""
        if sizes:
            flat, swapped = self.ints(-1, sizes[2], sizes[3]), self.ints(sizes[0], sizes[1], sizes[3], sizes[2])
        else:
            shape = self.node("Shape", key)
            last = self.node("Slice", shape, self.ints(-1), self.ints(2 ** 63 - 1))
            other = self.node("Slice", shape, self.ints(-2), self.ints(-1))
            first = self.node("Slice", shape, self.ints(-2 ** 63), self.ints(-2))
            flat, swapped = self.node("Concat", self.ints(-1), other, last, axis=0), self.node("Concat", first, last, other, axis=0)
        y = self.node("Transpose", self.node("Reshape", key, flat, allowzero=0), perm=[0, 2, 1])
        return self.node("Reshape", y, swapped, allowzero=0)


def torchlib_vit():
    """A vision transformer of one image at a time: packed projections that are unflattened, folded sizes, a class token."""
    graph = Translated()
    tokens = 17
    x = graph.node("Conv", "image", graph.initializer(conv_weight(WIDTH, 3, 4)), graph.initializer(vector(WIDTH)), strides=[4, 4],
                   pads=[0, 0, 0, 0], dilations=[1, 1], group=1, auto_pad="NOTSET")
    x = graph.node("Transpose", graph.node("Reshape", x, graph.ints(1, WIDTH, 16), allowzero=1), perm=[0, 2, 1])
    token = graph.node("Expand", graph.initializer(normal(1, 1, WIDTH)), graph.ints(1, 1, WIDTH))
    x = graph.node("Add", graph.node("Concat", token, x, axis=1), graph.initializer(normal(1, tokens, WIDTH, scale=0.3)))
    for _ in range(2):
        y = graph.layer_norm(x)
        # in_proj of nn.MultiheadAttention: linear, unflatten, unsqueeze, transpose, squeeze, three selections.
        y = graph.node("Transpose", y, perm=[1, 0, 2])
        y = graph.node("Reshape", graph.linear(y, WIDTH, 3 * WIDTH), graph.ints(tokens, 1, 3, WIDTH), allowzero=1)
        y = graph.node("Squeeze", graph.node("Transpose", graph.node("Unsqueeze", y, graph.ints(0)), perm=[3, 1, 2, 0, 4]), graph.ints(3))
        query, key, value = (
            graph.node("Reshape", graph.node("Transpose", graph.node("Reshape", graph.node(
                "Gather", y, graph.constant(numpy.array(index, dtype=numpy.int64)), axis=0),
                graph.ints(tokens, HEADS, SIZE), allowzero=1), perm=[1, 0, 2]), graph.ints(1, HEADS, tokens, SIZE), allowzero=1)
            for index in range(3))
        scores = graph.node("MatMul", graph.node("Mul", query, graph.number(ROOT)),
                            graph.node("Mul", graph.swapped(key, (1, HEADS, tokens, SIZE)), graph.number(ROOT)))
        y = graph.node("MatMul", graph.node("Softmax", scores, axis=-1), value)
        y = graph.node("Reshape", graph.node("Transpose", y, perm=[2, 0, 1, 3]), graph.ints(tokens, WIDTH), allowzero=1)
        y = graph.node("Gemm", y, graph.initializer(matrix(WIDTH, WIDTH, axis=1)), graph.initializer(vector(WIDTH)), transB=1, alpha=1.0, beta=1.0)
        y = graph.node("Transpose", graph.node("Reshape", y, graph.ints(tokens, 1, WIDTH), allowzero=1), perm=[1, 0, 2])
        x = graph.node("Add", x, y)
        y = graph.gelu(graph.linear(graph.layer_norm(x), WIDTH, HIDDEN))
        x = graph.node("Add", x, graph.linear(y, HIDDEN, WIDTH))
    x = graph.node("Gather", graph.layer_norm(x), graph.constant(numpy.array(0, dtype=numpy.int64)), axis=1)
    x = graph.node("Gemm", x, graph.initializer(matrix(10, WIDTH, axis=1)), graph.initializer(vector(10)), transB=1)
    return graph.finish([("image", FLOAT, [1, 3, 16, 16])], {"logits": (x, FLOAT, [1, 10])}, {"image": normal(1, 3, 16, 16)}, opset=OPSET)


def torchlib_decoder():
    """A Llama-like decoder: RMS norms of parts, rotary positions, grouped keys that are expanded, a boolean mask, computed sizes."""
    graph = Translated()
    x = graph.node("Gather", graph.initializer(normal(40, WIDTH)), "ids", axis=0)
    batch, length = graph.length("ids", 0), graph.length("ids", 1)
    scalar = graph.node("Squeeze", length)
    positions = graph.node("Cast", graph.node("Range", graph.constant(numpy.array(0, dtype=numpy.int64)), scalar, graph.constant(
        numpy.array(1, dtype=numpy.int64))), to=FLOAT)
    frequencies = graph.initializer((100.0 ** (-numpy.arange(SIZE // 2) / (SIZE // 2))).astype(numpy.float32))
    angles = graph.node("Mul", graph.node("Unsqueeze", positions, graph.ints(1)), frequencies)
    angles = graph.node("Concat", angles, angles, axis=-1)
    cosine, sine = graph.node("Cos", angles), graph.node("Sin", angles)
    row = graph.node("Unsqueeze", positions, graph.ints(0))
    mask = graph.node("LessOrEqual", row, graph.node("Unsqueeze", positions, graph.ints(1)))

    def heads(y, count):
        shape = graph.node("Concat", batch, length, graph.ints(count), graph.ints(SIZE), axis=0)
        return graph.node("Transpose", graph.node("Reshape", y, shape, allowzero=1), perm=[0, 2, 1, 3])

    def rotated(y):
        first = graph.node("Slice", y, graph.ints(0), graph.ints(SIZE // 2), graph.ints(3), graph.ints(1))
        second = graph.node("Slice", y, graph.ints(SIZE // 2), graph.ints(2 ** 63 - 1), graph.ints(3), graph.ints(1))
        turned = graph.node("Concat", graph.node("Neg", second), first, axis=-1)
        return graph.node("Add", graph.node("Mul", y, cosine), graph.node("Mul", turned, sine))

    def expanded(y):
        sizes = [graph.length(y, axis) for axis in range(4)]
        ratio = graph.ints(HEADS // GROUPS)
        y = graph.node("Expand", graph.node("Unsqueeze", y, graph.ints(2)), graph.node("Concat", *sizes[:2], ratio, *sizes[2:], axis=0))
        return graph.node("Reshape", y, graph.node("Concat", sizes[0], graph.ints(HEADS), *sizes[2:], axis=0))

    for _ in range(2):
        y = graph.rms_norm(x)
        query, key, value = (heads(graph.linear(y, WIDTH, count * SIZE, bias=False), count) for count in (HEADS, GROUPS, GROUPS))
        query, key, value = rotated(query), expanded(rotated(key)), expanded(value)
        # The scale is computed from the size of a head.
        size = graph.node("Cast", graph.node("Gather", graph.node("Shape", query), graph.ints(-1)), to=FLOAT)
        root = graph.node("Sqrt", graph.node("Div", graph.number(1), graph.node("Sqrt", size)))
        scores = graph.node("MatMul", graph.node("Mul", query, root), graph.node("Mul", graph.swapped(key), root))
        scores = graph.node("Add", scores, graph.node("Where", mask, graph.number(0), graph.number(-numpy.inf)))
        weights = graph.node("Softmax", scores, axis=-1)
        weights = graph.node("Where", graph.node("IsNaN", weights), graph.number(0), weights)
        y = graph.node("Transpose", graph.node("MatMul", weights, value), perm=[0, 2, 1, 3])
        y = graph.node("Reshape", y, graph.node("Concat", batch, length, graph.ints(-1), axis=0), allowzero=1)
        x = graph.node("Add", x, graph.linear(y, WIDTH, WIDTH, bias=False))
        y = graph.rms_norm(x)
        gate = graph.linear(y, WIDTH, HIDDEN, bias=False)
        gate = graph.node("Mul", gate, graph.node("Sigmoid", gate))
        x = graph.node("Add", x, graph.linear(graph.node("Mul", gate, graph.linear(y, WIDTH, HIDDEN, bias=False)), HIDDEN, WIDTH, bias=False))
    logits = graph.linear(graph.rms_norm(x), WIDTH, 40, bias=False)
    return graph.finish([("ids", TensorProto.INT64, ["batch", "sequence"])], {"logits": (logits, FLOAT, ["batch", "sequence", 40])},
                        {"ids": numpy.random.randint(0, 40, (BATCH, 6))}, opset=OPSET)


def torchlib_convolutions():
    """Group norms as instance norms, squeeze-excite on a mean, GLU by Split, a mean for pooling, a computed flat shape."""
    graph = Translated()

    def batch_norm(x, channels):
        scale, shift, mean, variance = batch_norm_vectors(graph, channels)
        return graph.node("BatchNormalization", x, scale, shift, mean, variance, epsilon=1e-5, momentum=0.9, training_mode=0)

    def group_norm(x, channels, groups):
        flat = graph.node("Reshape", x, graph.ints(0, groups, -1))
        ones, zeros = (graph.node("Expand", graph.number(value), graph.ints(groups)) for value in (1, 0))
        y = graph.node("Reshape", graph.node("InstanceNormalization", flat, ones, zeros, epsilon=1e-5), graph.node("Shape", x), allowzero=1)
        y = graph.node("Mul", y, graph.node("Unsqueeze", graph.initializer(1 + vector(channels)), graph.ints(1, 2)))
        return graph.node("Add", y, graph.node("Unsqueeze", graph.initializer(vector(channels)), graph.ints(1, 2)))

    x = graph.node("HardSwish", batch_norm(graph.conv("image", 3, 16, 3, pads=[1, 1, 1, 1]), 16))
    gates = graph.node("ReduceMean", x, graph.ints(-1, -2), keepdims=1)
    gates = graph.node("Relu", graph.conv(gates, 16, 8, 1))
    x = graph.node("Mul", graph.node("HardSigmoid", graph.conv(gates, 8, 16, 1), alpha=1 / 6, beta=0.5), x)
    y = graph.node("Clip", group_norm(graph.conv(x, 16, 16, 3, groups=16, pads=[1, 1, 1, 1]), 16, 4), graph.number(0), graph.number(6))
    x = graph.node("Add", x, graph.conv(y, 16, 16, 1))
    first, second = graph.node("Split", graph.conv(x, 16, 40, 1), outputs=2, axis=1, num_outputs=2)
    x = graph.node("Mul", first, graph.node("Sigmoid", second))
    x = graph.node("Reshape", graph.node("ReduceMean", x, graph.ints(-1, -2), keepdims=1), graph.node(
        "Concat", graph.length("image", 0), graph.ints(20), axis=0), allowzero=1)
    x = graph.node("Gemm", x, graph.initializer(matrix(10, 20, axis=1)), graph.initializer(vector(10)), transB=1)
    return graph.finish_image(x, opset=OPSET)


GRAPHS = (torchlib_vit, torchlib_decoder, torchlib_convolutions)
