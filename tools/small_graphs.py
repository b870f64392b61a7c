"""Small models written node by node, for export_models.py: structure that torch does not export.

Each function of GRAPHS returns a `Written`: an ONNX model with random weights, and sample inputs.
"""

import numpy
import onnx
from onnx import TensorProto, helper

import modelkit
from graphkit import BATCH, FLOAT, Graph, batch_norm_vectors, conv_weight, matrix, normal, shape_of, vector


def keras_nhwc():
    """As converted from Keras: NHWC values, Transpose around convolutions, weights in Constant nodes, MatMul + Add."""
    graph = Graph()

    def convolution(x, inputs, outputs, **attributes):
        y = graph.node("Transpose", x, perm=[0, 3, 1, 2])
        y = graph.node("Conv", y, graph.constant(conv_weight(outputs, inputs, 3)), auto_pad="SAME_UPPER", **attributes)
        y = graph.node("Transpose", y, perm=[0, 2, 3, 1])
        return graph.node("Relu", graph.node("Add", y, graph.constant(vector(outputs))))

    def dense(x, inputs, outputs):
        y = graph.node("MatMul", x, graph.constant(matrix(inputs, outputs)))
        return graph.node("Add", y, graph.constant(vector(outputs)))

    x = convolution("image", 3, 12, strides=[1, 1])
    x = graph.node("Transpose", x, perm=[0, 3, 1, 2])
    x = graph.node("BatchNormalization", x, *batch_norm_vectors(graph, 12), epsilon=1e-3)
    x = graph.node("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = graph.node("Transpose", x, perm=[0, 2, 3, 1])
    x = convolution(x, 12, 20, strides=[2, 2])
    x = graph.node("Flatten", x, axis=1)
    x = graph.node("Relu", dense(x, 4 * 4 * 20, 24))
    probabilities = graph.node("Softmax", dense(x, 24, 10), axis=-1)
    return graph.finish([("image", FLOAT, ["batch", 16, 16, 3])], {"probabilities": (probabilities, FLOAT, ["batch", 10])},
                        {"image": normal(BATCH, 16, 16, 3)})


def keras_reshape():
    """Keras's Flatten as a Reshape to a constant shape, and a Reshape that names the channels alone."""
    graph = Graph()
    x = graph.node("Relu", graph.conv("image", 3, 8, pads=[1, 1, 1, 1], strides=[2, 2]))
    rows = graph.node("Reshape", x, graph.initializer(shape_of(0, 8, -1)))
    columns = graph.node("Softmax", graph.node("Transpose", rows, perm=[0, 2, 1]), axis=1)
    mixed = graph.node("MatMul", rows, columns)
    flat = graph.node("Reshape", mixed, graph.initializer(shape_of(-1, 8 * 8)))
    x = graph.node("Gemm", flat, graph.initializer(matrix(64, 16)), graph.initializer(vector(16)))
    x = graph.node("Gemm", graph.node("Relu", x), graph.initializer(matrix(16, 10)), graph.initializer(vector(10)))
    return graph.finish_image(x)


def identity_weights():
    """Weights behind one or two Identity nodes, and equal biases merged into one initializer behind Identity."""
    graph = Graph()
    bias = graph.initializer(vector(12))
    x = graph.node("Conv", "image", graph.node("Identity", graph.initializer(conv_weight(12, 3, 3))), bias,
                   pads=[1, 1, 1, 1])
    weight = graph.node("Identity", graph.node("Identity", graph.initializer(conv_weight(12, 12, 3))))
    x = graph.node("Conv", graph.node("Relu", x), weight, graph.node("Identity", bias), pads=[1, 1, 1, 1])
    x = graph.node("Conv", graph.node("Relu", x), graph.initializer(conv_weight(20, 12, 1)))
    return graph.finish_image(graph.head(graph.node("Relu", x), 20))


def shared_weights():
    """One initializer read by two convolutions in a row, and one matrix read by MatMul and, transposed, by another."""
    graph = Graph()
    weight = graph.initializer(conv_weight(12, 12, 3))
    x = graph.node("Relu", graph.conv("image", 3, 12, pads=[1, 1, 1, 1]))
    for _ in range(2):
        x = graph.node("Relu", graph.node("Conv", x, weight, pads=[1, 1, 1, 1]))
    x = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    tied = graph.initializer(matrix(12, 20))
    x = graph.node("Relu", graph.node("MatMul", x, tied))
    x = graph.node("MatMul", x, graph.node("Transpose", tied, perm=[1, 0]))
    return graph.finish_image(graph.node("Gemm", x, graph.initializer(matrix(12, 10)), graph.initializer(vector(10))))


def subgraphs():
    """Loop and If whose bodies capture outer values and outer initializers, and have initializers of their own."""
    graph = Graph()
    x = graph.node("Relu", graph.conv("image", 3, 16, pads=[1, 1, 1, 1]))
    features = graph.node("Flatten", graph.node("GlobalAveragePool", x))
    recurrent = graph.initializer(matrix(16, 16))

    body = Graph("loop_")
    h = body.node("MatMul", "loop_h", recurrent)
    h = body.node("Tanh", body.node("Add", body.node("Add", h, features), body.initializer(vector(16))))
    body.nodes.append(helper.make_node("Identity", ["loop_continue"], ["loop_go_on"], name="loop_go_on"))
    loop = helper.make_graph(
        body.nodes, "loop_body",
        [helper.make_tensor_value_info("loop_index", TensorProto.INT64, []),
         helper.make_tensor_value_info("loop_continue", TensorProto.BOOL, []),
         helper.make_tensor_value_info("loop_h", FLOAT, ["batch", 16])],
        [helper.make_tensor_value_info("loop_go_on", TensorProto.BOOL, []),
         helper.make_tensor_value_info(h, FLOAT, ["batch", 16])], body.initializers)
    h = graph.node("Loop", graph.initializer(numpy.array(3, dtype=numpy.int64)), "", features, body=loop)

    def branch(prefix, hidden):
        part = Graph(prefix)
        y = part.node("Gemm", h, part.initializer(matrix(16, hidden)), part.initializer(vector(hidden)))
        y = part.node("MatMul", part.node("Relu", y), part.initializer(matrix(hidden, 10)))
        return helper.make_graph(part.nodes, prefix + "branch", [],
                                 [helper.make_tensor_value_info(y, FLOAT, ["batch", 10])], part.initializers)

    brightness = graph.node("ReduceMean", "image", keepdims=0)  # noise takes either branch about equally often
    condition = graph.node("Greater", brightness, graph.initializer(numpy.float32(0).reshape(())))
    logits = graph.node("If", condition, then_branch=branch("then_", 12), else_branch=branch("else_", 20))
    return graph.finish_image(graph.node("Add", logits, graph.initializer(vector(10))))


def local_functions():
    """Model-local functions: one with an attribute of its own, called twice, and one that calls the other."""
    domain, opsets = "local", [helper.make_opsetid("", modelkit.DEFAULT_OPSET)]
    conv = helper.make_node("Conv", ["x", "w", "b"], ["y"], name="conv")
    pads = conv.attribute.add()
    pads.name, pads.ref_attr_name, pads.type = "pads", "pads", onnx.AttributeProto.INTS
    unit = helper.make_function(domain, "ConvRelu", ["x", "w", "b"], ["z"],
                                [conv, helper.make_node("Relu", ["y"], ["z"], name="relu")], opsets, ["pads"])
    residual = helper.make_function(
        domain, "Residual", ["x", "w", "b"], ["z"],
        [helper.make_node("ConvRelu", ["x", "w", "b"], ["y"], name="unit", domain=domain, pads=[1, 1, 1, 1]),
         helper.make_node("Add", ["x", "y"], ["z"], name="sum")], [*opsets, helper.make_opsetid(domain, 1)])

    graph = Graph()
    x = graph.node("ConvRelu", "image", graph.initializer(conv_weight(12, 3, 3)), graph.initializer(vector(12)),
                   domain=domain, pads=[1, 1, 1, 1])
    x = graph.node("ConvRelu", x, graph.initializer(conv_weight(16, 12, 1)), graph.initializer(vector(16)),
                   domain=domain, pads=[0, 0, 0, 0])
    for _ in range(2):
        x = graph.node("Residual", x, graph.initializer(conv_weight(16, 16, 3)), graph.initializer(vector(16)),
                       domain=domain)
    return graph.finish_image(graph.head(x, 16), functions=(unit, residual))


def auto_pad():
    """auto_pad SAME_UPPER, SAME_LOWER and VALID with strides, even kernels and odd sizes, pools included."""
    graph = Graph()
    x = graph.node("Relu", graph.conv("image", 3, 8, 3, auto_pad="SAME_UPPER", strides=[2, 2]))
    x = graph.node("Relu", graph.conv(x, 8, 12, 4, auto_pad="SAME_LOWER", strides=[2, 2]))
    x = graph.node("Relu", graph.conv(x, 12, 12, (5, 2), groups=12, auto_pad="SAME_UPPER"))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], auto_pad="SAME_UPPER")
    x = graph.node("Relu", graph.conv(x, 12, 16, 2, auto_pad="VALID"))
    x = graph.node("ConvTranspose", x, graph.initializer(conv_weight(16, 8, 3)), auto_pad="SAME_UPPER", strides=[2, 2])
    return graph.finish_image(graph.head(x, 8), size=27)


def asymmetric_pads():
    """Pads that differ at begin and end, Pad nodes before convolutions, ceil_mode and count_include_pad pools."""
    graph = Graph()
    x = graph.node("Relu", graph.conv("image", 3, 8, 3, pads=[0, 1, 2, 1], strides=[2, 2]))
    x = graph.node("Pad", x, graph.initializer(shape_of(0, 0, 1, 0, 0, 0, 0, 1)))
    x = graph.node("Relu", graph.conv(x, 8, 12, (3, 1), pads=[1, 0, 0, 2]))
    x = graph.node("MaxPool", x, kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)
    x = graph.node("Pad", x, graph.initializer(shape_of(0, 0, 1, 1, 0, 0, 1, 1)), mode="reflect")
    x = graph.node("Relu", graph.conv(x, 12, 16, 3, dilations=[2, 1], pads=[2, 0, 2, 1]))
    x = graph.node("AveragePool", x, kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 0], ceil_mode=1,
                   count_include_pad=1)
    return graph.finish_image(graph.head(x, 16), size=18)


def gemm_forms():
    """Gemm with transA, alpha, beta, without C, with a row, a column-less scalar C; the input is (features, batch)."""
    graph = Graph()
    x = graph.node("Gemm", "features", graph.initializer(matrix(12, 20)), graph.initializer(vector(20)),
                   transA=1, alpha=0.5, beta=2.0)
    x = graph.node("Gemm", graph.node("Relu", x), graph.initializer(matrix(16, 20, axis=1)), transB=1, alpha=1.5)
    x = graph.node("Gemm", graph.node("Relu", x), graph.initializer(matrix(16, 24)),
                   graph.initializer(normal(1, 24, scale=0.1)))
    x = graph.node("Gemm", graph.node("Relu", x), graph.initializer(matrix(24, 10)),
                   graph.initializer(numpy.float32(0.3).reshape(())), beta=0.5)
    return graph.finish([("features", FLOAT, [12, "batch"])], {"logits": (x, FLOAT, ["batch", 10])},
                        {"features": normal(12, BATCH)})


def left_constant():
    """MatMul with the constant on the left (mixing tokens), and Gemm whose first operand is the weight."""
    graph = Graph()
    x = graph.node("MatMul", "tokens", graph.initializer(matrix(8, 16)))
    x = graph.node("Relu", graph.node("Add", x, graph.initializer(vector(16))))
    mixed = graph.node("MatMul", graph.initializer(matrix(20, 12, axis=1)), x)
    mixed = graph.node("Relu", graph.node("Add", mixed, graph.initializer(normal(20, 1, scale=0.1))))
    mixed = graph.node("MatMul", graph.initializer(matrix(12, 20, axis=1)), mixed)
    x = graph.node("ReduceMean", graph.node("Add", x, mixed), axes=[1], keepdims=0)
    x = graph.node("Gemm", graph.initializer(matrix(10, 16, axis=1)), x, graph.initializer(normal(10, 1, scale=0.1)),
                   transB=1)
    logits = graph.node("Transpose", x, perm=[1, 0])
    return graph.finish([("tokens", FLOAT, ["batch", 12, 8])], {"logits": (logits, FLOAT, ["batch", 10])},
                        {"tokens": normal(BATCH, 12, 8)})


def borrowed_shape():
    """A Reshape whose target is taken from another value's shape, as exporters write y.view(x.shape): Softmax fixes y."""
    graph = Graph()
    x, y = (graph.node("MatMul", "features", graph.initializer(matrix(6, 12))) for _ in range(2))
    y = graph.node("Softmax", y, axis=-1)
    width = graph.node("Gather", graph.node("Shape", x), graph.initializer(shape_of(2)))
    y = graph.node("Reshape", y, graph.node("Concat", graph.initializer(shape_of(0, 4)), width, axis=0))
    x = graph.node("Add", x, graph.node("MatMul", y, graph.initializer(matrix(12, 12))))
    x = graph.node("MatMul", x, graph.initializer(matrix(12, 5)))
    return graph.finish([("features", FLOAT, ["batch", 4, 6])], {"logits": (x, FLOAT, ["batch", 4, 5])},
                        {"features": normal(BATCH, 4, 6)})


def small_sums():
    """Sum, Max, Min and Mean of several operands, Where with a channel mask, Clip without one of its bounds."""
    graph = Graph()
    x = graph.conv("image", 3, 12, pads=[1, 1, 1, 1])
    branches = [graph.conv(graph.node("Relu", x), 12, 12, kernel, pads=[kernel // 2] * 4) for kernel in (1, 3, 5)]
    total = graph.node("Sum", x, *branches, graph.initializer(normal(12, 1, 1, scale=0.1)))
    x = graph.node("Mean", graph.node("Max", *branches), graph.node("Min", *branches), total)
    mask = graph.initializer((numpy.arange(12) % 3 > 0).reshape(1, 12, 1, 1))
    x = graph.node("Where", mask, x, graph.node("Clip", x, "", graph.initializer(numpy.float32(0.5).reshape(()))))
    x = graph.node("PRelu", x, graph.initializer(numpy.abs(normal(12, 1, 1, scale=0.3))))
    return graph.finish_image(graph.head(x, 12))


GRAPHS = (keras_nhwc, keras_reshape, identity_weights, shared_weights, subgraphs, local_functions, auto_pad,
          asymmetric_pads, gemm_forms, left_constant, borrowed_shape, small_sums)
