#!/usr/bin/python3
"""Takes weights from one PyTorch network into another of the same family and trains on.

PyTorch -> ONNX -> `onnxmorph transfer` -> `onnxmorph export` -> PyTorch's `load_state_dict`, with digits networks of train_digits.py in
two sizes, up and down: the source is trained, the target is new. Checked are, for each pair:

- no tensor of the target keeps the numbers that it was made with;
- the weights' names are those of the target's `state_dict`, all of them but the batch norms' counters of batches, which ONNX has not;
- torch computes what ONNX Runtime makes of the transferred file;
- training on lowers the loss.

The exit status is 1 where one of them fails. Needs torch, onnx and scikit-learn.

Example: tools/round_trip_pytorch.py
"""

import argparse
import copy
import functools
import json
import pathlib
import sys
import tempfile

import numpy
import torch
from torch.nn import functional

import modelkit
import train_digits
from programs import COMMAND, ROOT, RUN_MODEL, Failure, Refused, build, call, program, runtime_outputs

SAMPLES = ROOT / "models/digits_samples.npz"
SAME_OUTPUT = 1e-5  # relative to the largest output: rounding in float32
SOURCE_EPOCHS, EPOCHS = 4, 2

# A small and a large network of each family.
FAMILIES = {
    "resnet": (train_digits.residual_network, functools.partial(train_digits.residual_network, (12, 24, 48), (3, 2, 3))),
    "mobilenet": (train_digits.mobile_network, functools.partial(train_digits.mobile_network, (12, 24, 32), (1, 3, 3), 96)),
    "transformer": (train_digits.VisionTransformer, functools.partial(train_digits.VisionTransformer, width=48, heads=6, hidden=96, depth=3)),
}


def read_safetensors(path):
    """The tensors of a safetensors file by name: eight bytes with the header's length, the header as JSON, the data."""
    types = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "u1"}
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    header = json.loads(content[8:start])
    header.pop("__metadata__", None)
    return {name: torch.from_numpy(numpy.frombuffer(content[start + entry["data_offsets"][0]:start + entry["data_offsets"][1]],
                                                    types[entry["dtype"]]).reshape(entry["shape"]).copy())
            for name, entry in header.items()}


def write(network, image, path):
    """Writes a network as ONNX under the names that its parameters have in PyTorch."""
    modelkit.export(modelkit.Traced(network.eval(), {"image": image}, keep_batch_norms=True), path)
    return path


def carry(source, network, image, folder, *options):
    """Fills a network from an ONNX file, by way of ONNX; gives the transferred file and what the command reports.

    `image` is a batch to trace the network with, `options` are more of the command's.
    """
    target, result, weights = write(network, image, folder / "target.onnx"), folder / "result.onnx", folder / "weights.safetensors"
    report = json.loads(call(program(COMMAND), "transfer", source, target, "-o", result, "--json", "--force", *options))
    call(program(COMMAND), "export", result, "-o", weights, "--force")
    missing, unexpected = network.load_state_dict(read_safetensors(weights), strict=False)
    if missing := [name for name in missing if not name.endswith(".num_batches_tracked")]:
        raise Failure(f"no weights for {', '.join(missing)}")
    if unexpected:
        raise Failure(f"weights that the network has not: {', '.join(unexpected)}")
    return result, report


@torch.no_grad()
def loss(network, images, labels):
    """The mean cross entropy."""
    return functional.cross_entropy(network.eval()(images), labels).item()


@torch.no_grad()
def accuracy(network, images, labels):
    """The share of images that are right."""
    return (network.eval()(images).argmax(1) == labels).float().mean().item()


def round_trip(source, network, data, folder):
    """One pair: prints a line and says what does not hold."""
    images, labels, held_out, held_out_labels = data
    file, report = carry(write(source, images[:2], folder / "source.onnx"), network, images[:2], folder)
    failures = [f"{tensor['name']} keeps its own numbers: {tensor['note']}" for tensor in report["tensors"] if tensor["origin"] == "fresh"]
    with torch.no_grad():
        ours, theirs = network.eval()(held_out), torch.from_numpy(runtime_outputs(file, SAMPLES, folder))
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if not error <= SAME_OUTPUT:
        failures.append(f"torch and ONNX Runtime differ by {error:.1e} of the largest output")
    before, right = loss(network, images, labels), accuracy(network, held_out, held_out_labels)
    train_digits.train(network, images, labels, EPOCHS)
    after = loss(network, images, labels)
    if not after < before:
        failures.append(f"the loss went from {before:.3f} to {after:.3f}")
    print(f"  {report['parametersBefore']:,} -> {report['parametersAfter']:,} parameters: held out {accuracy(source, held_out, held_out_labels):.1%} -> "
          f"{right:.1%}, torch and ONNX Runtime within {error:.0e}; {EPOCHS} epochs later loss {before:.3f} -> {after:.3f}, "
          f"held out {accuracy(network, held_out, held_out_labels):.1%}", flush=True)
    return failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--families", default=",".join(FAMILIES), metavar="A,B", help="default: %(default)s")
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    parser.add_argument("--seed", type=int, default=0, help="default: %(default)s")
    arguments = parser.parse_args()
    failures = []
    try:
        build(() if arguments.no_build else (COMMAND, RUN_MODEL))
        data = train_digits.load_digits(0)  # what models/digits_samples.npz was held out of
        for name in arguments.families.split(","):
            modelkit.make_deterministic(arguments.seed)
            trained, new = [make() for make in FAMILIES[name]], [make() for make in FAMILIES[name]]
            for network in trained:
                train_digits.train(network, *data[:2], SOURCE_EPOCHS)
            print(name)
            for source, target in ((0, 1), (1, 0)):
                with tempfile.TemporaryDirectory() as folder:
                    failures += [f"{name}: {failure}" for failure in round_trip(copy.deepcopy(trained[source]), new[target], data, pathlib.Path(folder))]
    except (Failure, Refused) as e:
        sys.exit(str(e))
    sys.exit("\n".join(failures) if failures else 0)


if __name__ == "__main__":
    main()
