"""Runs ONNX models as trainable torch modules: one torch function for each operator, found in one table.

`load(path)` gives a module whose parameters are the model's floating-point initializers, under their ONNX names in
`module.tensors`. What an exporter wrote as a `Constant` node and batch norms' running statistics are not trained.

    model = onnx_torch.load("models/digits_resnet.onnx")
    logits, = model(images)

Adding an operator is adding one function to the table; `check_onnx_torch.py` compares them with ONNX Runtime.
"""

import collections
import math

import numpy
import onnx
import onnx.numpy_helper
import torch
from torch.nn import functional

OPERATORS = {}

LAYERS = {"BatchNormalization", "Conv", "ConvTranspose", "Gemm", "MatMul"}


class UnsupportedOperator(Exception):
    """A model has a node that no function here computes."""


def operator(*names):
    """Enters a function into the table: it takes a `Call` and the node's inputs (None where left out)."""
    def enter(function):
        OPERATORS.update(dict.fromkeys(names, function))
        return function
    return enter


class Call:
    """What a function needs to know about its node beside the inputs: attributes and operator set."""

    def __init__(self, node, opset):
        self.node = node
        self.opset = opset
        self.batch_statistics = False
        self._attributes = {attribute.name: onnx.helper.get_attribute_value(attribute) for attribute in node.attribute}

    def get(self, name, default=None):
        value = self._attributes.get(name, default)
        return value.decode() if isinstance(value, bytes) else value

    def ints(self, name, given, default=None):
        """A list of integers that older operator sets have as an attribute and newer ones as an input."""
        return given.reshape(-1).tolist() if given is not None else self.get(name, default)

    def unsupported(self, what):
        return UnsupportedOperator(f"Node '{self.node.name}' ({self.node.op_type}): {what} is not supported; "
                                   "extend tools/onnx_torch.py.")


class OnnxModule(torch.nn.Module):
    """An ONNX graph as a torch module; `forward` takes the graph's inputs in order and gives a tuple of its outputs.

    `batch_statistics` makes batch norms normalise by the batch at hand and move their running statistics, as in
    training, whatever their nodes say. `excited` multiplies the results of layers with weights by normal noise: units
    that sleep (a ReLU below 0 for every image) wake, while what is 0 because of zero weights stays 0. A parameter without
    gradient even then is dead, by the network's structure or by weights of 0.
    """

    def __init__(self, model, dtype):
        super().__init__()
        if model.functions:
            raise UnsupportedOperator("The model has local functions; inline them first.")
        graph = model.graph
        self.dtype = dtype
        self.batch_statistics = False
        self.excited = False
        opsets = {entry.domain or "ai.onnx": entry.version for entry in model.opset_import}
        self._calls = [(self._function(node), Call(node, opsets.get(node.domain or "ai.onnx")))
                       for node in graph.node]
        statistics = {name for node in graph.node if node.op_type == "BatchNormalization" for name in node.input[3:5]}
        self.tensors = {}
        for i, initializer in enumerate(graph.initializer):
            tensor = self.to_tensor(initializer)
            if tensor.is_floating_point() and initializer.name not in statistics:
                tensor = torch.nn.Parameter(tensor)
                self.register_parameter(f"tensor{i}", tensor)
            else:
                self.register_buffer(f"tensor{i}", tensor)
            self.tensors[initializer.name] = tensor
        self.inputs = [value.name for value in graph.input if value.name not in self.tensors]
        self.outputs = [value.name for value in graph.output]
        # What a node reads for the last time is let go, so that memory holds what autograd needs and no more.
        self._last_use = collections.defaultdict(list)
        seen = set(self.outputs)
        for i, (_, call) in reversed(list(enumerate(self._calls))):
            for name in set(call.node.input) - seen:
                self._last_use[i].append(name)
                seen.add(name)

    @staticmethod
    def _function(node):
        name = f"{node.domain}:{node.op_type}" if node.domain not in ("", "ai.onnx") else node.op_type
        if name not in OPERATORS:
            raise UnsupportedOperator(f"Operator {name} (node '{node.name}') is not supported; add it to the table in tools/onnx_torch.py.")
        return OPERATORS[name]

    def to_tensor(self, proto):
        """A tensor of the model, floating-point ones in the module's own precision."""
        tensor = torch.from_numpy(numpy.array(onnx.numpy_helper.to_array(proto)))
        return tensor.to(self.dtype) if tensor.is_floating_point() else tensor

    def named_tensors(self):
        """The parameters with their ONNX names."""
        return [(name, tensor) for name, tensor in self.tensors.items() if isinstance(tensor, torch.nn.Parameter)]

    def forward(self, *inputs):
        values = dict(self.tensors)
        values.update(zip(self.inputs, inputs, strict=True))
        for i, (function, call) in enumerate(self._calls):
            call.batch_statistics = self.batch_statistics
            call.module = self
            arguments = [values[name] if name else None for name in call.node.input]
            results = function(call, *arguments)
            if not isinstance(results, (tuple, list)):
                results = (results,)
            if self.excited and call.node.op_type in LAYERS and any(isinstance(a, torch.nn.Parameter) for a in arguments):
                results = (results[0] * torch.randn_like(results[0]),)
            values.update((name, result) for name, result in zip(call.node.output, results) if name)
            for name in self._last_use[i]:
                values.pop(name, None)
        return tuple(values[name] for name in self.outputs)


def load(path, dtype=torch.float32):
    """Reads an ONNX file as a module that computes in `dtype` wherever the file says float32."""
    return OnnxModule(onnx.load(str(path)), dtype)


# Pointwise.

for _name, _function in {
    "Abs": torch.abs, "Add": torch.add, "And": torch.logical_and, "Equal": torch.eq, "Erf": torch.erf,
    "Exp": torch.exp, "Greater": torch.gt, "Less": torch.lt, "Log": torch.log, "Mish": functional.mish,
    "Mul": torch.mul, "Neg": torch.neg, "Not": torch.logical_not, "Or": torch.logical_or,
    "Reciprocal": torch.reciprocal, "Relu": torch.relu, "Sigmoid": torch.sigmoid, "Softplus": functional.softplus,
    "Softsign": functional.softsign, "Sqrt": torch.sqrt, "Sub": torch.sub, "Tanh": torch.tanh,
    "HardSwish": functional.hardswish, "Identity": lambda x: x, "Where": torch.where,
}.items():
    OPERATORS[_name] = lambda call, *inputs, _function=_function: _function(*inputs)


@operator("Div")
def divide(call, a, b):
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


@operator("Pow")
def power(call, base, exponent):
    return torch.pow(base, exponent).to(base.dtype)


@operator("LeakyRelu")
def leaky_relu(call, x):
    return functional.leaky_relu(x, call.get("alpha", 0.01))


@operator("PRelu")
def parametric_relu(call, x, slope):
    return torch.where(x > 0, x, slope * x)


@operator("Elu")
def elu(call, x):
    return functional.elu(x, call.get("alpha", 1.0))


@operator("Celu")
def celu(call, x):
    return functional.celu(x, call.get("alpha", 1.0))


@operator("HardSigmoid")
def hard_sigmoid(call, x):
    return (call.get("alpha", 0.2) * x + call.get("beta", 0.5)).clamp(0, 1)


@operator("Gelu")
def gelu(call, x):
    return functional.gelu(x, approximate=call.get("approximate", "none"))


@operator("com.microsoft:Gelu")
def contrib_gelu(call, x):
    return functional.gelu(x)


@operator("com.microsoft:QuickGelu")
def quick_gelu(call, x):
    return x * torch.sigmoid(call.get("alpha", 1.702) * x)


@operator("Clip")
def clip(call, x, low=None, high=None):
    low = call.get("min") if low is None else low
    high = call.get("max") if high is None else high
    return x if low is None and high is None else torch.clamp(x, low, high)


@operator("Dropout")
def dropout(call, x, *_):
    return x  # Left out, as in evaluation: parent and child would draw different units.


# Layers with weights.

def _spatial(call, x, kernel):
    """Strides, dilations and pads (begins, then ends) of a convolution or pool."""
    rank = x.dim() - 2
    strides, dilations = call.get("strides", [1] * rank), call.get("dilations", [1] * rank)
    mode = call.get("auto_pad", "NOTSET")
    if mode in ("SAME_UPPER", "SAME_LOWER"):
        pads = [0] * (2 * rank)
        for axis in range(rank):
            size = x.shape[axis + 2]
            reach = (kernel[axis] - 1) * dilations[axis] + 1
            total = max((math.ceil(size / strides[axis]) - 1) * strides[axis] + reach - size, 0)
            pads[axis] = total // 2 if mode == "SAME_UPPER" else total - total // 2
            pads[axis + rank] = total - pads[axis]
    else:
        pads = call.get("pads", [0] * (2 * rank)) if mode == "NOTSET" else [0] * (2 * rank)
    return strides, dilations, pads


def _padded(x, pads, value=0.0):
    """Pads the spatial axes; ONNX lists begins then ends, torch pairs from the last axis on."""
    rank = len(pads) // 2
    order = [pads[axis + side * rank] for axis in reversed(range(rank)) for side in (0, 1)]
    return functional.pad(x, order, value=value) if any(order) else x


@operator("Conv")
def convolution(call, x, weight, bias=None):
    strides, dilations, pads = _spatial(call, x, weight.shape[2:])
    rank = x.dim() - 2
    convolve = (functional.conv1d, functional.conv2d, functional.conv3d)[rank - 1]
    if pads[:rank] == pads[rank:]:
        return convolve(x, weight, bias, strides, pads[:rank], dilations, call.get("group", 1))
    return convolve(_padded(x, pads), weight, bias, strides, 0, dilations, call.get("group", 1))


@operator("ConvTranspose")
def transposed_convolution(call, x, weight, bias=None):
    if call.get("auto_pad", "NOTSET") != "NOTSET" or call.get("output_shape"):
        raise call.unsupported("auto_pad or output_shape")
    strides, dilations, pads = _spatial(call, x, weight.shape[2:])
    rank = x.dim() - 2
    if pads[:rank] != pads[rank:]:
        raise call.unsupported("an asymmetric pad")
    convolve = (functional.conv_transpose1d, functional.conv_transpose2d, functional.conv_transpose3d)[rank - 1]
    return convolve(x, weight, bias, strides, pads[:rank], call.get("output_padding", [0] * rank), call.get("group", 1), dilations)


@operator("Gemm")
def matrix_product_sum(call, a, b, c=None):
    a = a.T if call.get("transA", 0) else a
    b = b.T if call.get("transB", 0) else b
    product = call.get("alpha", 1.0) * (a @ b)
    return product if c is None else product + call.get("beta", 1.0) * c


@operator("MatMul")
def matrix_product(call, a, b):
    return a @ b


@operator("Einsum")
def einsum(call, *inputs):
    return torch.einsum(call.get("equation"), *inputs)


# Normalisation and softmax.

@operator("BatchNormalization")
def batch_normalization(call, x, scale, bias, mean, variance):
    training = call.batch_statistics or bool(call.get("training_mode", 0))
    if not training:
        # functional.batch_norm would do, were mean and variance never computed by nodes.
        shape = (1, -1) + (1,) * (x.dim() - 2)
        factor = scale / torch.sqrt(variance + call.get("epsilon", 1e-5))
        return x * factor.reshape(shape) + (bias - mean * factor).reshape(shape)
    return functional.batch_norm(
        x, mean, variance, scale, bias, True, 1 - call.get("momentum", 0.9), call.get("epsilon", 1e-5))


@operator("LayerNormalization")
def layer_normalization(call, x, scale, bias=None):
    axes = tuple(range(call.get("axis", -1) % x.dim(), x.dim()))
    centred = x - x.mean(axes, keepdim=True)
    normed = centred / torch.sqrt((centred * centred).mean(axes, keepdim=True) + call.get("epsilon", 1e-5)) * scale
    return normed if bias is None else normed + bias


@operator("InstanceNormalization")
def instance_normalization(call, x, scale, bias):
    return functional.instance_norm(x, weight=scale, bias=bias, eps=call.get("epsilon", 1e-5))


@operator("Softmax")
def softmax(call, x):
    return _soft(call, x, functional.softmax)


@operator("LogSoftmax")
def log_softmax(call, x):
    return _soft(call, x, functional.log_softmax)


def _soft(call, x, function):
    if call.opset >= 13:
        return function(x, call.get("axis", -1))
    axis = call.get("axis", 1) % x.dim()  # Before opset 13 all axes from there on were one.
    return function(x.flatten(axis), axis).reshape(x.shape)


# Pools and reductions.

def _pool(call, x, pool, fill, **options):
    kernel = call.get("kernel_shape")
    strides, dilations, pads = _spatial(call, x, kernel)
    if call.get("ceil_mode", 0):
        raise call.unsupported("ceil_mode")
    rank = x.dim() - 2
    if any(dilation != 1 for dilation in dilations):
        options["dilation"] = dilations
    return getattr(functional, f"{pool}_pool{rank}d")(_padded(x, pads, fill), kernel, strides, **options), pads


@operator("MaxPool")
def max_pool(call, x):
    if len(call.node.output) > 1 and call.node.output[1]:
        raise call.unsupported("the output of indices")
    return _pool(call, x, "max", -math.inf)[0]


@operator("AveragePool")
def average_pool(call, x):
    if any(dilation != 1 for dilation in call.get("dilations", [])):
        raise call.unsupported("a dilation")
    mean, pads = _pool(call, x, "avg", 0.0)
    if call.get("count_include_pad", 0) or not any(pads):
        return mean
    share, _ = _pool(call, torch.ones_like(x), "avg", 0.0)
    return mean / share


@operator("GlobalAveragePool")
def global_average_pool(call, x):
    return x.mean(tuple(range(2, x.dim())), keepdim=True)


@operator("GlobalMaxPool")
def global_max_pool(call, x):
    return x.amax(tuple(range(2, x.dim())), keepdim=True)


@operator("ReduceMean", "ReduceSum", "ReduceMax")
def reduce(call, x, axes=None):
    axes = call.ints("axes", axes)
    if not axes:
        if call.get("noop_with_empty_axes", 0):
            return x
        axes = range(x.dim())
    function = {"ReduceMean": torch.mean, "ReduceSum": torch.sum, "ReduceMax": torch.amax}[call.node.op_type]
    return function(x, tuple(axes), keepdim=bool(call.get("keepdims", 1)))


# Shapes and layout.

@operator("Shape")
def shape(call, x):
    return torch.tensor(x.shape)[call.get("start", 0):call.get("end")]


@operator("Reshape")
def reshape(call, x, target):
    sizes = target.tolist()
    if not call.get("allowzero", 0):
        sizes = [x.shape[i] if size == 0 else size for i, size in enumerate(sizes)]
    return x.reshape(sizes)


@operator("Flatten")
def flatten(call, x):
    axis = call.get("axis", 1)
    return x.reshape(math.prod(x.shape[:axis]), -1)


@operator("Transpose")
def transpose(call, x):
    return x.permute(call.get("perm", list(reversed(range(x.dim())))))


@operator("Concat")
def concat(call, *inputs):
    return torch.cat(inputs, call.get("axis"))


@operator("Split")
def split(call, x, sizes=None):
    axis, count = call.get("axis", 0), len(call.node.output)
    sizes = call.ints("split", sizes) or -(-x.shape[axis] // count)
    return torch.split(x, sizes, axis)


@operator("Slice")
def slice_(call, x, starts=None, ends=None, axes=None, steps=None):
    starts, ends = call.ints("starts", starts), call.ints("ends", ends)
    axes = call.ints("axes", axes, list(range(len(starts))))
    steps = steps.tolist() if steps is not None else [1] * len(starts)
    for start, end, axis, step in zip(starts, ends, axes, steps):
        chosen = range(x.shape[axis])[slice(start, end if step > 0 or end >= -x.shape[axis] else None, step)]
        x = x.index_select(axis, torch.tensor(chosen, dtype=torch.int64))
    return x


@operator("Gather")
def gather(call, x, indices):
    axis = call.get("axis", 0) % x.dim()
    chosen = torch.where(indices < 0, indices + x.shape[axis], indices)
    result = x.index_select(axis, chosen.reshape(-1))
    return result.reshape(x.shape[:axis] + indices.shape + x.shape[axis + 1:])


@operator("Expand")
def expand(call, x, target):
    return x.expand(torch.broadcast_shapes(x.shape, tuple(target.tolist())))


@operator("Tile")
def tile(call, x, repeats):
    return x.repeat(repeats.tolist())


@operator("Squeeze")
def squeeze(call, x, axes=None):
    axes = call.ints("axes", axes, [axis for axis in range(x.dim()) if x.shape[axis] == 1])
    axes = {axis % x.dim() for axis in axes}
    return x.reshape([size for axis, size in enumerate(x.shape) if axis not in axes])


@operator("Unsqueeze")
def unsqueeze(call, x, axes=None):
    axes = call.ints("axes", axes)
    rank = x.dim() + len(axes)
    for axis in sorted(axis % rank for axis in axes):
        x = x.unsqueeze(axis)
    return x


@operator("Pad")
def pad(call, x, pads=None, value=None, axes=None):
    pads = call.ints("pads", pads)
    if call.get("mode", "constant") != "constant" or axes is not None:
        raise call.unsupported("a mode other than constant, or axes")
    value = call.get("value", 0.0) if value is None else value.item()
    return _padded(x, pads, value)


@operator("Cast")
def cast(call, x):
    numpy_type = onnx.mapping.TENSOR_TYPE_TO_NP_TYPE[call.get("to")]
    dtype = torch.from_numpy(numpy.zeros(0, numpy_type)).dtype
    return x.to(call.module.dtype if dtype.is_floating_point else dtype)


@operator("Constant")
def constant(call):
    for name in ("value", "value_float", "value_floats", "value_int", "value_ints"):
        value = call.get(name)
        if value is not None:
            break
    else:
        raise call.unsupported("its attribute")
    if name == "value":
        return call.module.to_tensor(value)
    return torch.tensor(value, dtype=call.module.dtype if "float" in name else torch.int64)


@operator("ConstantOfShape")
def constant_of_shape(call, sizes):
    value = call.get("value")
    filler = torch.zeros((), dtype=call.module.dtype) if value is None else call.module.to_tensor(value).reshape(())
    return filler.expand(sizes.tolist())


@operator("Range")
def range_(call, start, limit, step):
    return torch.arange(start.item(), limit.item(), step.item(), dtype=start.dtype)
