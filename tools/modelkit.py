"""What the model-making scripts share: non-trivial random parameters, ONNX export, and a description of the result.

Parameters that a fresh network leaves at 0 or 1 (norm scales, biases, class tokens) would hide a wrong map: a scale
of 1 is the same under every permutation. `randomise` replaces them, so that every value of a model matters.
"""

import io
import json
import pathlib
import time
import warnings
import zipfile

import numpy
import onnx
import torch
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)

DEFAULT_OPSET = 16  # torch 1.13 writes up to 17, which keeps LayerNormalization whole; 16 decomposes it


def make_deterministic(seed):
    """Fixes the random generators and demands deterministic algorithms of torch, on one thread.

    One thread, because the order of a parallel sum depends on the number of threads.
    """
    numpy.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(1)


@torch.no_grad()
def randomise(network):
    """Gives every norm scale, bias and constant parameter of `network` a random value of a harmless size.

    Norm scales are uniform in [0.5, 1.5] and norm biases normal with standard deviation 0.1. Any other parameter whose
    elements are all equal becomes: uniform in [0.5, 1.5] times the constant where that is at least 0.1 in size; uniform
    in [0.2, 1] where it is a layer scale; a scaled normal matrix where it is a zeroed weight; else normal (0.1).
    Convolution and linear weights that the builder drew so small that the signal would drown in the biases are enlarged
    to a standard deviation of 1/sqrt(fan in); other random weights stay.
    """
    done = set()
    for module in network.modules():
        if isinstance(module, NORMS):
            if module.weight is not None:
                module.weight.uniform_(0.5, 1.5)
                done.add(id(module.weight))
            if module.bias is not None:
                module.bias.normal_(0, 0.1)
                done.add(id(module.bias))
        elif isinstance(module, (nn.modules.conv._ConvNd, nn.Linear)):
            wanted = module.weight[0].numel() ** -0.5
            if 0 < module.weight.std() < wanted / 2:
                module.weight.mul_(wanted / module.weight.std())
    for name, parameter in network.named_parameters():
        if id(parameter) in done or parameter.min() != parameter.max():
            continue
        constant = parameter.flatten()[0].item()
        if abs(constant) >= 0.1:
            parameter.copy_(constant * torch.empty_like(parameter).uniform_(0.5, 1.5))
        elif "scale" in name:
            parameter.uniform_(0.2, 1)
        elif name.endswith("weight") and parameter.dim() > 1:
            parameter.normal_(0, parameter[0].numel() ** -0.5)
        else:
            parameter.normal_(0, 0.1)


@torch.no_grad()
def calibrate(network, batches):
    """Sets batch norms' running statistics to those of `batches` (tuples of inputs): activations keep a sane scale.

    Only the batch norms see training mode: dropout and stochastic depth stay off. Variances are held above a hundredth
    of their layer's mean, since a channel that is dead on these inputs would be blown up on others.
    """
    network.eval()
    norms = [module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None  # the plain average over the batches
        norm.train()
    for batch in batches:
        network(*batch)
    for norm, momentum in zip(norms, momenta):
        norm.momentum = momentum
        norm.running_var.clamp_(min=0.01 * norm.running_var.mean())
    network.eval()


def export(network, inputs, path, *, keep_batch_norms=False, opset=DEFAULT_OPSET,
           input_names=("image",), output_names=("logits",), dynamic_axes=None):
    """Writes `network` in eval mode to the ONNX file `path`, checks the file and returns `describe(path)`.

    `inputs` is a tuple of example tensors. Batch norms after convolutions are folded into them unless
    `keep_batch_norms`, which also turns the exporter's constant folding off. By default axis 0 of every input and
    output is dynamic and called "batch"; pass {} for a model that bakes its batch in.
    """
    network.eval()
    if dynamic_axes is None:
        dynamic_axes = {name: {0: "batch"} for name in (*input_names, *output_names)}
    mode = torch.onnx.TrainingMode.PRESERVE if keep_batch_norms else torch.onnx.TrainingMode.EVAL
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on Python values; the result is checked below
        torch.onnx.export(
            network, tuple(inputs), str(path), opset_version=opset, training=mode,
            do_constant_folding=not keep_batch_norms, input_names=list(input_names),
            output_names=list(output_names), dynamic_axes=dynamic_axes)
    onnx.checker.check_model(str(path), full_check=True)
    return describe(path)


def describe(path):
    """Returns file name, opset, graph inputs, node count and bytes of an ONNX file, as a dict.

    "parameters" counts the elements of initializers; "operators" the kinds of operator.
    """
    model = onnx.load(str(path))
    return {
        "file": path.name,
        "opset": max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        "inputs": {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                   for value in model.graph.input},
        "nodes": len(model.graph.node),
        "operators": len({node.op_type for node in model.graph.node}),
        "parameters": sum(int(numpy.prod(tensor.dims)) for tensor in model.graph.initializer),
        "bytes": path.stat().st_size,
    }


def save_arrays(path, arrays):
    """Writes named arrays as an .npz whose bytes depend on the arrays alone: `numpy.savez` stamps the time of day."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, array in arrays.items():
            buffer = io.BytesIO()
            numpy.lib.format.write_array(buffer, numpy.ascontiguousarray(array), allow_pickle=False)
            entry = zipfile.ZipInfo(f"{name}.npy", date_time=(1980, 1, 1, 0, 0, 0))
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, buffer.getvalue())


def write_json(path, value):
    """Writes `value` as indented JSON with a final line break."""
    pathlib.Path(path).write_text(json.dumps(value, indent=2) + "\n")


class Timer:
    """Seconds since it was made, as a context manager: `with Timer() as timer: ...; timer.seconds`."""

    def __enter__(self):
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_):
        self.seconds = time.perf_counter() - self._start
