"""Small models in other precisions, for export_models.py: 16- and 64-bit floating point, and the forms of quantisation.

Each function of GRAPHS returns a `Written`: an ONNX model with random weights, and sample inputs.
"""

import numpy
from onnx import TensorProto, helper

from graphkit import BATCH, FLOAT, Graph, conv_weight, matrix, normal, vector


def float16_conv():
    """Float16 weights and activations between Casts."""
    graph = Graph()
    return graph.finish_image(half_convolutions(graph, TensorProto.FLOAT16))


def bfloat16_conv():
    """Bfloat16 weights that are cast to float32 where they are read: ONNX Runtime's CPU kernels have no bfloat16."""
    graph = Graph()
    return graph.finish_image(half_convolutions(graph, TensorProto.BFLOAT16))


def half_convolutions(graph, element):
    """Three convolutions with a skip; float16 computes in float16, bfloat16 is storage only."""
    def weight(array):
        if element == TensorProto.FLOAT16:
            return graph.initializer(array.astype(numpy.float16))
        return graph.node("Cast", bfloat16(graph, array), to=FLOAT)

    def convolution(x, inputs, outputs):
        return graph.node("Conv", x, weight(conv_weight(outputs, inputs, 3)), weight(vector(outputs)), pads=[1, 1, 1, 1])

    x = graph.node("Cast", "image", to=element) if element == TensorProto.FLOAT16 else "image"
    x = graph.node("Relu", convolution(x, 3, 8))
    x = graph.node("Relu", graph.node("Add", x, convolution(graph.node("Relu", convolution(x, 8, 12)), 12, 8)))
    x = graph.node("Cast", x, to=FLOAT) if element == TensorProto.FLOAT16 else x
    return graph.head(x, 8)


def bfloat16(graph, array):
    """A bfloat16 initializer: the upper halves of float32, rounded to the nearest."""
    bits = numpy.ascontiguousarray(array, dtype=numpy.float32).view(numpy.uint32)
    halves = ((bits + 0x7FFF + (bits >> 16 & 1)) >> 16).astype(numpy.uint16)
    name = f"{graph.prefix}weight_{len(graph.initializers)}"
    graph.initializers.append(helper.make_tensor(name, TensorProto.BFLOAT16, array.shape, halves.tobytes(), raw=True))
    return name


def perceptron(element, array_type):
    """Layer norm and a residual pair of matrix products in one type, input and output included."""
    graph = Graph()
    def constant(array):
        return graph.initializer(array.astype(array_type))
    x = graph.node("Add", graph.node("MatMul", "features", constant(matrix(12, 24))), constant(vector(24)))
    y = graph.node("LayerNormalization", x, constant(1 + vector(24)), constant(vector(24)))
    y = graph.node("Relu", graph.node("MatMul", y, constant(matrix(24, 40))))
    x = graph.node("Add", x, graph.node("MatMul", y, constant(matrix(40, 24))))
    x = graph.node("MatMul", x, constant(matrix(24, 5)))
    return graph.finish([("features", element, ["batch", 12])], {"logits": (x, element, ["batch", 5])},
                        {"features": normal(BATCH, 12).astype(array_type)}, opset=17)


def float16_mlp():
    """A normed residual perceptron in float16 throughout."""
    return perceptron(TensorProto.FLOAT16, numpy.float16)


def float64_mlp():
    """The same in float64, for which ONNX Runtime's CPU kernels have no convolution."""
    return perceptron(TensorProto.DOUBLE, numpy.float64)


class Quantised(Graph):
    """A graph with quantised weights and activations."""

    def weight(self, shape, per_channel=True, element=numpy.int8):
        """Names of a random integer weight, its scale and its zero point; output channels are the first axis."""
        limits = numpy.iinfo(element)
        values = numpy.random.randint(limits.min + (element == numpy.int8), limits.max + 1, shape).astype(element)
        scale = (2 / numpy.prod(shape[1:])) ** 0.5 / 73
        if not per_channel:
            zero = numpy.array(0 if element == numpy.int8 else 128, dtype=element)
            return self.initializer(values), self.scalar(scale), self.initializer(zero)
        scales = (scale * numpy.random.uniform(0.5, 1.5, shape[0])).astype(numpy.float32)
        return self.initializer(values), self.initializer(scales), self.initializer(numpy.zeros(shape[0], dtype=element))

    def scalar(self, value):
        """A float32 scalar."""
        return self.initializer(numpy.float32(value).reshape(()))

    def dequantised(self, *shape, per_channel=True):
        """An int8 weight behind DequantizeLinear."""
        parts = self.weight(shape, per_channel)
        return self.node("DequantizeLinear", *parts, axis=0) if per_channel else self.node("DequantizeLinear", *parts)

    def rounded(self, x, scale, zero=0):
        """An activation through QuantizeLinear and DequantizeLinear, uint8."""
        parts = self.scalar(scale), self.initializer(numpy.array(zero, dtype=numpy.uint8))
        return self.node("DequantizeLinear", self.node("QuantizeLinear", x, *parts), *parts)


def qdq_weights():
    """Int8 weights behind DequantizeLinear, one scale a channel and one scale a tensor, float activations."""
    graph = Quantised()
    x = graph.node("Conv", "image", graph.dequantised(12, 3, 3, 3), graph.initializer(vector(12)), pads=[1, 1, 1, 1])
    x = graph.node("Conv", graph.node("Relu", x), graph.dequantised(16, 12, 3, 3, per_channel=False),
                   graph.initializer(vector(16)), pads=[1, 1, 1, 1])
    return graph.finish_image(graph.head(graph.node("Relu", x), 16))


def qdq_static():
    """Weights and activations quantised, biases int32 with the product of both scales: what a static quantiser writes."""
    graph = Quantised()

    def convolution(x, inputs, outputs, scale, groups=1):
        values, scales, zeros = graph.weight((outputs, inputs // groups, 3, 3))
        weight = graph.node("DequantizeLinear", values, scales, zeros, axis=0)
        product = next(numpy.frombuffer(t.raw_data, numpy.float32) for t in graph.initializers if t.name == scales) * scale
        bias = graph.initializer(numpy.round(vector(outputs) / product).astype(numpy.int32))
        bias = graph.node("DequantizeLinear", bias, graph.initializer(product.astype(numpy.float32)), axis=0)
        return graph.node("Conv", x, weight, bias, pads=[1, 1, 1, 1], group=groups)

    x = graph.rounded("image", 0.03, 128)
    x = graph.rounded(graph.node("Relu", convolution(x, 3, 12, 0.03)), 0.02)
    y = graph.rounded(graph.node("Relu", convolution(x, 12, 12, 0.02, groups=12)), 0.02)
    y = graph.rounded(convolution(y, 12, 12, 0.02), 0.03, 128)
    x = graph.rounded(graph.node("Relu", graph.node("Add", x, y)), 0.03)
    x = graph.rounded(graph.node("Flatten", graph.node("GlobalAveragePool", x)), 0.02)
    x = graph.node("Gemm", x, graph.dequantised(10, 12), graph.initializer(vector(10)), transB=1)
    return graph.finish_image(x)


def qdq_transformer():
    """A perceptron block with int8 weights behind DequantizeLinear and MatMul, as large language models are stored."""
    graph = Quantised()
    def weight(rows, columns):
        return graph.node("Transpose", graph.dequantised(columns, rows), perm=[1, 0])
    x = graph.node("MatMul", "features", weight(12, 24))
    y = graph.node("LayerNormalization", x, graph.initializer(1 + vector(24)), graph.initializer(vector(24)))
    y = graph.node("Relu", graph.node("MatMul", y, weight(24, 40)))
    x = graph.node("Add", x, graph.node("MatMul", y, weight(40, 24)))
    x = graph.node("MatMul", x, weight(24, 5))
    return graph.finish([("features", FLOAT, ["batch", 12])], {"logits": (x, FLOAT, ["batch", 5])},
                        {"features": normal(BATCH, 12)}, opset=17)


def qlinear():
    """QLinearConv and QLinearMatMul: computed in integers."""
    graph = Quantised()
    def parts(scale, zero):
        return graph.scalar(scale), graph.initializer(numpy.array(zero, dtype=numpy.uint8))
    quantised = parts(0.03, 128)
    x = graph.node("QuantizeLinear", "image", *quantised)
    hidden = parts(0.02, 0)
    x = graph.node("QLinearConv", x, *quantised, *graph.weight((12, 3, 3, 3)), *hidden, pads=[1, 1, 1, 1])
    x = graph.node("QLinearConv", x, *hidden, *graph.weight((16, 12, 3, 3), per_channel=False), *hidden, pads=[1, 1, 1, 1],
                   strides=[2, 2])
    x = graph.node("Flatten", graph.node("GlobalAveragePool", graph.node("DequantizeLinear", x, *hidden)))
    x = graph.node("QuantizeLinear", x, *hidden)
    values, scale, zero = graph.weight((16, 10), per_channel=False)
    x = graph.node("QLinearMatMul", x, *hidden, values, scale, zero, *quantised)
    return graph.finish_image(graph.node("DequantizeLinear", x, *quantised))


def dynamic_quantised():
    """DynamicQuantizeLinear and MatMulInteger: weights int8, activations quantised by their own range."""
    graph = Quantised()
    def product(x, inputs, outputs):
        levels, scale, zero = graph.node("DynamicQuantizeLinear", x, outputs=3)
        values, weight_scale, weight_zero = graph.weight((inputs, outputs), per_channel=False)
        whole = graph.node("MatMulInteger", levels, values, zero, weight_zero)
        return graph.node("Mul", graph.node("Cast", whole, to=FLOAT), graph.node("Mul", scale, weight_scale))
    x = graph.node("Relu", graph.node("Add", product("features", 12, 24), graph.initializer(vector(24))))
    x = graph.node("Add", product(x, 24, 5), graph.initializer(vector(5)))
    return graph.finish([("features", FLOAT, ["batch", 12])], {"logits": (x, FLOAT, ["batch", 5])},
                        {"features": normal(BATCH, 12)})


GRAPHS = (float16_conv, float16_mlp, bfloat16_conv, float64_mlp, qdq_weights, qdq_static, qdq_transformer,
          qlinear, dynamic_quantised)
