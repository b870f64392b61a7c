"""Writes ONNX graphs node by node with onnx.helper, with random weights of a sane scale."""

import numpy
from onnx import TensorProto, helper, numpy_helper

import modelkit
from modelkit import SAMPLE_BATCH as BATCH, Written

FLOAT = TensorProto.FLOAT

# Of opsets that are newer than this package; 8 is right for the others here.
IR_VERSIONS = {21: 10, 22: 10, 23: 11, 24: 12}


class Graph:
    """Collects nodes and initializers; every method returns the name of the value that it made."""

    def __init__(self, prefix=""):
        self.prefix = prefix
        self.nodes, self.initializers = [], []

    def node(self, operator, *inputs, outputs=1, domain="", **attributes):
        """Appends a node; the name (or list of names, where outputs > 1) of what it gives."""
        name = f"{self.prefix}{operator}_{len(self.nodes)}"
        names = [name + "_out"] if outputs == 1 else [f"{name}_out{index}" for index in range(outputs)]
        self.nodes.append(helper.make_node(operator, list(inputs), names, name=name, domain=domain, **attributes))
        return names[0] if outputs == 1 else names

    def constant(self, array):
        """Puts an array into a Constant node."""
        return self.node("Constant", value=numpy_helper.from_array(array))

    def initializer(self, array):
        """Puts an array among the initializers."""
        name = f"{self.prefix}weight_{len(self.initializers)}"
        self.initializers.append(numpy_helper.from_array(array, name))
        return name

    def conv(self, x, inputs, outputs, kernel=3, groups=1, **attributes):
        """Appends a convolution with bias."""
        weight = self.initializer(conv_weight(outputs, inputs // groups, kernel))
        return self.node("Conv", x, weight, self.initializer(vector(outputs)), group=groups, **attributes)

    def head(self, x, channels, classes=10):
        """Appends global average pooling, Flatten and Gemm."""
        pooled = self.node("Flatten", self.node("GlobalAveragePool", x))
        return self.node("Gemm", pooled, self.initializer(matrix(classes, channels, axis=1)),
                         self.initializer(vector(classes)), transB=1)

    def finish(self, inputs, outputs, samples, functions=(), opset=modelkit.DEFAULT_OPSET, domains=()):
        """Makes the model: `inputs` are (name, type, shape), `outputs` name: (value, type, shape)."""
        nodes = self.nodes + [helper.make_node("Identity", [value], [name], name=f"{self.prefix}{name}")
                              for name, (value, _, _) in outputs.items()]
        graph = helper.make_graph(
            nodes, "main", [helper.make_tensor_value_info(*value) for value in inputs],
            [helper.make_tensor_value_info(name, type_, shape) for name, (_, type_, shape) in outputs.items()],
            self.initializers)
        others = sorted({function.domain for function in functions} | set(domains))
        opsets = [helper.make_opsetid("", opset)] + [helper.make_opsetid(domain, 1) for domain in others]
        model = helper.make_model(graph, opset_imports=opsets, functions=list(functions), producer_name="export_models")
        model.ir_version = IR_VERSIONS.get(opset, 8)
        return Written(model, samples)

    def finish_image(self, output, classes=10, channels=3, size=16, **keywords):
        """`finish` for one image input and a row of logits an image."""
        return self.finish([("image", FLOAT, ["batch", channels, size, size])],
                           {"logits": (output, FLOAT, ["batch", classes])},
                           {"image": normal(BATCH, channels, size, size)}, **keywords)


def normal(*shape, scale=1.0):
    """Normal random float32 values."""
    return (numpy.random.standard_normal(shape) * scale).astype(numpy.float32)


def vector(size):
    """A bias."""
    return normal(size, scale=0.1)


def matrix(rows, columns, axis=0):
    """A matrix whose `axis` is contracted, scaled to keep the signal's variance."""
    return normal(rows, columns, scale=(rows, columns)[axis] ** -0.5)


def conv_weight(outputs, inputs, kernel):
    """A convolution's weight, He scale; `kernel` is a side or a pair."""
    sides = (kernel, kernel) if isinstance(kernel, int) else kernel
    return normal(outputs, inputs, *sides, scale=(2 / (inputs * sides[0] * sides[1])) ** 0.5)


def shape_of(*values):
    """Int64 values, for shapes and axes."""
    return numpy.array(values, dtype=numpy.int64)


def batch_norm_vectors(graph, channels):
    """Scale, bias, mean and variance as initializers."""
    return [graph.initializer(array.astype(numpy.float32)) for array in (
        numpy.random.uniform(0.5, 1.5, channels), numpy.random.normal(0, 0.1, channels),
        numpy.random.normal(0, 0.3, channels), numpy.random.uniform(0.5, 1.5, channels))]
