"""What the model-making scripts share: non-trivial random parameters, ONNX export, and a description of the result.

Parameters that a fresh network leaves at 0 or 1 (norm scales, biases, class tokens) would hide a wrong map: a scale
of 1 is the same under every permutation. `randomise` replaces them, so that every value of a model matters.
"""

import collections
import dataclasses
import hashlib
import io
import json
import pathlib
import tempfile
import warnings
import zipfile
from collections.abc import Callable

import numpy
import onnx
import torch
from torch import nn

NORMS = (nn.modules.batchnorm._BatchNorm, nn.LayerNorm, nn.GroupNorm, nn.modules.instancenorm._InstanceNorm)

DEFAULT_OPSET = 16  # torch 1.13 writes up to 17, which keeps LayerNormalization whole; 16 decomposes it

# A message of the wire format ends at 2 GiB; weights beyond this go into a file of their own.
LARGEST_FILE = 1.9e9

# Batches are traced with one size and samples have another, so that a baked-in batch shows.
TRACED_BATCH = 2
SAMPLE_BATCH = 3

# A network that moves its output by more than MOST_MOVED (relative) where its input changes by NUDGE would hide a wrong
# weight behind rounding errors; one whose output moves by less than LEAST_MOVED between samples would hide it anyway.
NUDGE = 1e-6
MOST_MOVED = 1e-3
LEAST_MOVED = 1e-2


@dataclasses.dataclass
class Traced:
    """A network to export by tracing.

    `inputs` are samples by name, the batch first. `axes` names the dynamic axes of the inputs, `output_axes` those of
    the outputs (the same by default): {axis: symbol} for all of them, or {name: {axis: symbol}}.
    """
    network: nn.Module
    inputs: dict
    outputs: tuple = ("logits",)
    axes: dict = dataclasses.field(default_factory=lambda: {0: "batch"})
    output_axes: dict = None
    keep_batch_norms: bool = True
    calibration: list = None  # tuples of inputs for the batch norms' statistics; the samples by default
    opset: int = DEFAULT_OPSET
    adjust: Callable = None  # called with the network once its parameters are drawn

    def dynamic_axes(self):
        """Every input's and output's dynamic axes, as the exporter wants them."""
        def named(axes, names):
            return {name: axes for name in names} if all(isinstance(key, int) for key in axes) else axes
        outputs = self.axes if self.output_axes is None else self.output_axes
        return {**named(self.axes, self.inputs), **named(outputs, self.outputs)}


@dataclasses.dataclass
class Written:
    """A finished ONNX model and sample inputs for it."""
    model: onnx.ModelProto
    inputs: dict


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


@torch.no_grad()
def answer(network, inputs):
    """The network's outputs as a tuple."""
    outputs = network(*inputs)
    return outputs if isinstance(outputs, tuple) else (outputs,)


def moved(before, after):
    """How far each output moved between two answers, relative to its largest element; infinite where its shape changed."""
    for one, other in zip(before, after):
        if one.shape != other.shape:
            yield float("inf")
        elif one.is_floating_point() and one.numel():
            yield ((one - other).abs().max() / one.abs().max()).item()


def check_meaningful(network, inputs):
    """Returns the answer to the samples, or raises ValueError where it would prove little about the weights."""
    outputs = answer(network, inputs)
    if not all(torch.isfinite(output).all() for output in outputs):
        raise ValueError("the random network's outputs are not finite")
    nudged = [value * (1 + NUDGE) if value.is_floating_point() else value for value in inputs]
    most = max(moved(outputs, answer(network, nudged)), default=0)
    if not most <= MOST_MOVED:
        raise ValueError(f"the random network is ill-conditioned: inputs changed by {NUDGE:g} move an output by {most:.2g}")
    least = min(moved(outputs, answer(network, [value.roll(1, 0) for value in inputs])), default=1)
    if not least >= LEAST_MOVED:
        raise ValueError(f"the random network is almost constant: other samples move an output by {least:.2g}")
    return outputs


def write_traced(traced, path):
    """Randomises, calibrates and exports a torch network to the ONNX file `path`, with samples beside it."""
    inputs = tuple(traced.inputs.values())
    randomise(traced.network)
    if traced.adjust:
        traced.adjust(traced.network)
    calibrate(traced.network, traced.calibration or [inputs])
    outputs = check_meaningful(traced.network, inputs)
    arrays = {**traced.inputs, **dict(zip(traced.outputs, outputs))}
    save_arrays(path.with_suffix(".samples.npz"), {name: value.numpy() for name, value in arrays.items()})
    export(traced, path)


def export(traced, path):
    """Exports a torch network with the weights that it has to the ONNX file `path`; parameters keep their names where norms are kept."""
    axes = traced.dynamic_axes()
    examples = tuple(value[:TRACED_BATCH] if 0 in axes.get(name, {}) else value for name, value in traced.inputs.items())
    mode = torch.onnx.TrainingMode.PRESERVE if traced.keep_batch_norms else torch.onnx.TrainingMode.EVAL
    with tempfile.TemporaryDirectory(prefix=path.stem, dir=path.parent) as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the tracer's remarks on Python values; the result is checked below
        draft = pathlib.Path(folder) / path.name
        torch.onnx.export(
            traced.network, examples, str(draft), opset_version=traced.opset, training=mode,
            do_constant_folding=not traced.keep_batch_norms, input_names=list(traced.inputs),
            output_names=list(traced.outputs), dynamic_axes=axes)
        model = onnx.load(str(draft))
    save(model, path)
    onnx.checker.check_model(str(path), full_check=model.ByteSize() < LARGEST_FILE)


def write_graph(written, path):
    """Saves a model built with onnx.helper as `path`, with samples beside it."""
    save(written.model, path)
    # This package's checker knows the standard operators of its own time only.
    opsets = {entry.domain: entry.version for entry in written.model.opset_import}
    if "com.microsoft" not in opsets and opsets[""] <= onnx.defs.onnx_opset_version():
        onnx.checker.check_model(str(path), full_check=True)
    save_arrays(path.with_suffix(".samples.npz"), written.inputs)


def save(model, path):
    """Writes a model, with weights in `path`.data where one file cannot hold them."""
    if model.ByteSize() < LARGEST_FILE:
        onnx.save(model, str(path))
        return
    path.with_name(path.name + ".data").unlink(missing_ok=True)  # the package appends
    onnx.save(model, str(path), save_as_external_data=True, location=path.name + ".data", size_threshold=1024)


def describe(path):
    """Returns file name, opset, graph inputs, operators and size of an ONNX file, as a dict.

    "parameters" counts the elements of initializers; "operators" the nodes of each kind, subgraphs left out.
    """
    model = onnx.load(str(path), load_external_data=False)
    files = sorted(path.parent.glob(path.name + "*"))
    return {
        "file": path.name,
        "opset": max(entry.version for entry in model.opset_import if entry.domain in ("", "ai.onnx")),
        "inputs": {value.name: [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
                   for value in model.graph.input},
        "operators": dict(sorted(collections.Counter(node.op_type for node in model.graph.node).items())),
        "parameters": sum(int(numpy.prod(tensor.dims)) for tensor in model.graph.initializer),
        "bytes": sum(file.stat().st_size for file in files),
        "sha256": hash_files(files),
    }


def hash_files(files):
    """Hex SHA-256 of the files' contents, one behind the other."""
    digest = hashlib.sha256()
    for path in files:
        with open(path, "rb") as file:
            while block := file.read(1 << 22):
                digest.update(block)
    return digest.hexdigest()


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
