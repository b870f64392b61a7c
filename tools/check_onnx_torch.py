#!/usr/bin/python3
"""Compares every operator of onnx_torch.py with ONNX Runtime on models of one node, in old and new forms.

    tools/check_onnx_torch.py

prints one line for each case that differs, and those operators of the table that no case covers; both end with status 1.
"""

import pathlib
import sys
import tempfile

import numpy
import onnx
import torch
from onnx import TensorProto, helper

import onnx_torch
import train_child

TOLERANCE = 1e-5  # relative to the largest output
DRAWS = numpy.random.default_rng(0)


def normal(*shape):
    return DRAWS.standard_normal(shape).astype(numpy.float32)


def positive(*shape):
    return numpy.abs(normal(*shape)) + 0.1


def ints(*values):
    return numpy.array(values, numpy.int64)


IMAGE, WEIGHT, BIAS, ROWS = normal(2, 4, 7, 6), normal(6, 4, 3, 2), normal(6), normal(3, 5)
TRUTHS = numpy.array([True, False, True])

# operator, opset, inputs (arrays become graph inputs; int64 arrays, None and those in CONSTANT positions initializers), attributes.
CASES = [
    *((name, 18, [ROWS], {}) for name in (
        "Abs", "Erf", "Exp", "HardSwish", "Identity", "LeakyRelu", "Mish", "Neg", "Relu", "Sigmoid", "Softplus", "Softsign", "Tanh",
        "HardSigmoid", "Elu", "Celu", "Softmax", "LogSoftmax", "Flatten", "Transpose", "Shape", "ReduceMean", "Dropout")),
    *((name, 18, [positive(3, 5)], {}) for name in ("Log", "Reciprocal", "Sqrt")),
    *((name, 18, [ROWS, normal(1, 5)], {}) for name in ("Add", "Sub", "Mul", "Div", "Greater", "Less", "PRelu")),
    *((name, 18, [TRUTHS, ~TRUTHS], {}) for name in ("And", "Or")),
    ("Equal", 18, [ints(1, 2, 3), ints(1, 5, 3)], {}),
    ("Div", 18, [ints(7, -7, 5), ints(2, 2, -3)], {}),
    ("Not", 18, [TRUTHS], {}),
    ("Where", 18, [TRUTHS, normal(3), normal(1)], {}),
    ("Pow", 18, [positive(3, 5), normal(1)], {}),
    ("Pow", 18, [ROWS, ints(2)], {}),
    ("LeakyRelu", 18, [ROWS], {"alpha": 0.3}),
    ("HardSigmoid", 18, [ROWS], {"alpha": 0.3, "beta": 0.4}),
    ("Elu", 18, [ROWS], {"alpha": 0.7}),
    ("Celu", 18, [ROWS], {"alpha": 0.7}),
    ("Gelu", 20, [ROWS], {}),
    ("Gelu", 20, [ROWS], {"approximate": "tanh"}),
    ("com.microsoft:Gelu", 18, [ROWS], {}),
    ("com.microsoft:QuickGelu", 18, [ROWS], {"alpha": 1.5}),
    ("Clip", 6, [ROWS], {"min": -0.5, "max": 0.7}),
    ("Clip", 18, [ROWS, numpy.float32(-0.5), numpy.float32(0.7)], {}),
    ("Clip", 18, [ROWS, None, numpy.float32(0.7)], {}),
    ("Conv", 18, [IMAGE, WEIGHT, BIAS], {}),
    ("Conv", 18, [IMAGE, WEIGHT], {"pads": [1, 0, 2, 1], "strides": [2, 1], "dilations": [1, 2]}),
    ("Conv", 18, [IMAGE, normal(6, 2, 3, 2), BIAS], {"group": 2, "pads": [1, 1, 1, 1]}),
    ("Conv", 18, [IMAGE, WEIGHT, BIAS], {"auto_pad": "SAME_UPPER", "strides": [2, 1]}),
    ("Conv", 18, [IMAGE, WEIGHT, BIAS], {"auto_pad": "SAME_LOWER"}),
    ("Conv", 18, [IMAGE, WEIGHT, BIAS], {"auto_pad": "VALID"}),
    ("Conv", 18, [normal(2, 4, 9), normal(6, 4, 3), BIAS], {"pads": [1, 1]}),
    ("Conv", 18, [normal(2, 4, 5, 4, 3), normal(6, 4, 3, 2, 1), BIAS], {"pads": [1, 0, 0, 1, 1, 0]}),
    ("ConvTranspose", 18, [IMAGE, normal(4, 3, 3, 2), normal(3)], {"strides": [2, 2], "pads": [1, 0, 1, 0]}),
    ("ConvTranspose", 18, [IMAGE, normal(4, 3, 3, 3)], {"group": 2, "strides": [2, 2], "output_padding": [1, 1]}),
    ("Gemm", 18, [ROWS, normal(5, 4), normal(4)], {}),
    ("Gemm", 18, [ROWS, normal(4, 5)], {"transB": 1, "alpha": 0.5}),
    ("Gemm", 18, [normal(5, 3), normal(5, 4), normal(3, 1)], {"transA": 1, "alpha": 0.5, "beta": 2.0}),
    ("MatMul", 18, [normal(2, 3, 4, 5), normal(3, 5, 2)], {}),
    ("Einsum", 18, [normal(2, 3, 4), normal(2, 4, 5)], {"equation": "bij,bjk->bik"}),
    ("BatchNormalization", 18, [IMAGE, normal(4), normal(4), normal(4), positive(4)], {"epsilon": 1e-3}),
    ("LayerNormalization", 17, [normal(2, 3, 8), normal(8), normal(8)], {"epsilon": 1e-3}),
    ("LayerNormalization", 17, [normal(2, 3, 8), normal(3, 8)], {"axis": 1}),
    ("InstanceNormalization", 18, [IMAGE, normal(4), normal(4)], {"epsilon": 1e-3}),
    ("Softmax", 11, [normal(2, 3, 4)], {"axis": 1}),
    ("Softmax", 13, [normal(2, 3, 4)], {"axis": 1}),
    ("LogSoftmax", 11, [normal(2, 3, 4)], {}),
    ("MaxPool", 18, [IMAGE], {"kernel_shape": [3, 2], "strides": [2, 1], "pads": [1, 0, 1, 1]}),
    ("MaxPool", 18, [IMAGE - 9], {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "dilations": [2, 2]}),
    ("AveragePool", 18, [IMAGE], {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1]}),
    ("AveragePool", 18, [IMAGE], {"kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "count_include_pad": 1}),
    ("AveragePool", 18, [IMAGE], {"kernel_shape": [2, 2], "strides": [2, 2]}),
    ("GlobalAveragePool", 18, [IMAGE], {}),
    ("GlobalMaxPool", 18, [IMAGE], {}),
    ("ReduceMean", 13, [IMAGE], {"axes": [1, -1], "keepdims": 0}),
    ("ReduceMean", 18, [IMAGE, ints(2, 3)], {}),
    ("ReduceSum", 13, [IMAGE, ints(1)], {"keepdims": 0}),
    ("ReduceSum", 13, [IMAGE], {"noop_with_empty_axes": 1}),
    ("ReduceMax", 13, [IMAGE], {"axes": [1, 2]}),
    ("Shape", 18, [IMAGE], {"start": 1, "end": -1}),
    ("Reshape", 18, [IMAGE, ints(0, -1, 2)], {}),
    ("Flatten", 18, [IMAGE], {"axis": 2}),
    ("Flatten", 18, [IMAGE], {"axis": 0}),
    ("Transpose", 18, [IMAGE], {"perm": [0, 2, 3, 1]}),
    ("Concat", 18, [ROWS, normal(3, 2)], {"axis": -1}),
    ("Split", 11, [IMAGE], {"axis": 1, "split": [1, 3]}),
    ("Split", 13, [IMAGE, ints(1, 3)], {"axis": 1}),
    ("Split", 18, [IMAGE], {"axis": 2, "num_outputs": 2}),
    ("Slice", 9, [IMAGE], {"starts": [1, -3], "ends": [3, 1000], "axes": [1, 2]}),
    ("Slice", 18, [IMAGE, ints(1, 5), ints(3, 1), ints(1, -1), ints(1, -2)], {}),
    ("Slice", 18, [IMAGE, ints(-1), ints(-(2 ** 40)), ints(2), ints(-1)], {}),
    ("Gather", 18, [IMAGE, ints(2, 0, -1).reshape(3, 1)], {"axis": 1}),
    ("Gather", 18, [ROWS, numpy.int64(1)], {}),
    ("Expand", 18, [normal(3, 1), ints(2, 1, 4)], {}),
    ("Tile", 18, [ROWS, ints(2, 3)], {}),
    ("Squeeze", 11, [normal(1, 3, 1)], {"axes": [-1]}),
    ("Squeeze", 18, [normal(1, 3, 1)], {}),
    ("Squeeze", 18, [normal(1, 3, 1), ints(0)], {}),
    ("Unsqueeze", 11, [ROWS], {"axes": [0, 2]}),
    ("Unsqueeze", 18, [ROWS, ints(-1, 1)], {}),
    ("Pad", 10, [ROWS], {"pads": [1, 0, 0, 2], "value": 3.0}),
    ("Pad", 18, [ROWS, ints(1, 0, 0, 2), numpy.float32(3)], {}),
    ("Cast", 18, [ROWS], {"to": TensorProto.INT32}),
    ("Cast", 18, [ints(1, 2)], {"to": TensorProto.FLOAT}),
    ("Constant", 18, [], {"value": helper.make_tensor("", TensorProto.FLOAT, [2], [1.5, 2])}),
    ("Constant", 18, [], {"value_floats": [1.5, 2.0]}),
    ("Constant", 18, [], {"value_int": 3}),
    ("ConstantOfShape", 18, [ints(2, 3)], {"value": helper.make_tensor("", TensorProto.FLOAT, [1], [1.5])}),
    ("Range", 18, [numpy.int64(1), numpy.int64(8), numpy.int64(3)], {}),
]


def difference(case, folder):
    """The largest difference between both, relative to the largest output; infinite where shapes or types differ."""
    name, opset, inputs, attributes = case
    domain, _, operator = name.rpartition(":")
    values = {f"x{i}": value for i, value in enumerate(inputs) if value is not None}
    # Sizes and positions are initializers, and so is what Clip and Pad are given: no model computes them.
    fixed = {n for n, value in values.items() if numpy.asarray(value).dtype == numpy.int64 or numpy.asarray(value).ndim == 0}
    outputs = ["y0", "y1"] if name == "Split" else ["y0"]
    node = helper.make_node(operator, [f"x{i}" if value is not None else "" for i, value in enumerate(inputs)], outputs, name, domain=domain, **attributes)
    graph = helper.make_graph(
        [node], name,
        [helper.make_tensor_value_info(n, TensorProto.BOOL if v.dtype == bool else TensorProto.FLOAT, v.shape) for n, v in values.items() if n not in fixed],
        [onnx.ValueInfoProto(name=output) for output in outputs],
        [onnx.numpy_helper.from_array(numpy.asarray(values[n]), n) for n in sorted(fixed)])
    opsets = [helper.make_opsetid("", opset), *([helper.make_opsetid(domain, 1)] if domain else [])]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    path = folder / "model.onnx"
    path.write_bytes(model.SerializeToString())
    given = {n: v for n, v in values.items() if n not in fixed}
    numpy.savez(folder / "in.npz", **given)
    theirs = train_child.runtime_outputs(path, folder / "in.npz", folder)
    network = onnx_torch.load(path)
    with torch.no_grad():
        ours = network(*(torch.from_numpy(v) for v in given.values()))[0]
    if ours.shape != theirs.shape or ours.dtype != theirs.dtype:
        return float("inf")
    if not ours.is_floating_point():
        return 0.0 if torch.equal(ours, theirs) else float("inf")
    return float((ours - theirs).abs().max() / theirs.abs().max())


def main():
    bad = [name for name in onnx_torch.OPERATORS if name not in {case[0] for case in CASES}]
    for name in bad:
        print(f"{name}: no case")
    with tempfile.TemporaryDirectory() as folder:
        for case in CASES:
            try:
                error = difference(case, pathlib.Path(folder))
            except (train_child.Failure, onnx_torch.UnsupportedOperator) as e:
                error = f"fails: {e}"
            if isinstance(error, str) or not error <= TOLERANCE:
                bad.append(case[0])
                print(f"{case[0]} {case[3]} (opset {case[1]}): {error}")
    print(f"{len(CASES)} cases, {len(bad)} bad")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
