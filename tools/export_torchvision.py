#!/usr/bin/python3
"""Exports torchvision's classification networks to ONNX with seeded random weights.

Every network is written twice, from the same parameters:

  NAME.onnx      the default export: batch norms folded into convolutions, constants folded
  NAME.bn.onnx   batch norms kept, constants not folded

beside NAME.samples.npz, which holds a random batch under the input's name ("image") and torch's own answer to it
("logits"), so that another runtime can be held against torch. zoo.json lists what was written and what failed.

No pretrained weights are used: norm statistics, scales and biases get non-trivial values instead (see modelkit.py).
The batch axis is dynamic in every model of the default list. The same seed and library versions give the same files.

Example: tools/export_torchvision.py /tmp/zoo --models resnet18,mobilenet_v2 --size 64
"""

import argparse
import inspect
import pathlib
import sys

import torch
import torchvision

import modelkit

DEFAULT_MODELS = (
    "resnet18", "mobilenet_v2", "resnet50", "mobilenet_v3_small", "regnet_x_400mf", "regnet_y_400mf", "densenet121",
    "squeezenet1_1", "shufflenet_v2_x1_0", "efficientnet_b0", "googlenet", "convnext_tiny", "vgg11", "vit_b_16",
    "swin_t")

# A small image makes verification quick. These demand more: their pooled or windowed size is fixed by the
# architecture, or (AlexNet, VGG) ONNX has no adaptive pooling that is not an even division.
SMALL_SIZE = 64
NEEDED_SIZES = {"alexnet": 224, "vgg": 224, "vit_": 224, "swin": 224, "maxvit": 224, "inception_v3": 96}

# The batch is traced with one size and the samples have another, so that a baked-in batch shows.
TRACED_BATCH = 2
SAMPLE_BATCH = 3

# A network that moves its output by more than this (relative) for such a change of its input would hide a wrong weight
# behind rounding errors, and is refused.
NUDGE = 1e-6
MOST_MOVED = 1e-3


def image_size(name, wanted):
    """Returns the side in pixels of the square image that `name` is exported for."""
    if wanted:
        return wanted
    return next((size for prefix, size in NEEDED_SIZES.items() if name.startswith(prefix)), SMALL_SIZE)


def random_images(count, size):
    """Returns `count` noise images, each channel with an offset of its own: pooling averages plain noise away."""
    return torch.randn(count, 3, 1, 1) + 0.7 * torch.randn(count, 3, size, size)


def build(name, size):
    """Builds the classifier `name` with its parameters randomised and its batch norms calibrated."""
    builder = getattr(torchvision.models, name)
    keywords = {}
    if name.startswith("vit_"):
        keywords["image_size"] = size
    if name in ("googlenet", "inception_v3"):
        # The auxiliary heads have no part in inference; the builder's own truncated normals take minutes.
        keywords.update(aux_logits=False, init_weights=False)
    network = builder(weights=None, **keywords).eval()
    modelkit.randomise(network)
    # Deep networks need this many: from 16 images efficientnet_v2_s gets variances so small that it amplifies
    # rounding errors to a third of its output.
    modelkit.calibrate(network, [(random_images(16, size),) for _ in range(4)])
    return network


def export_pair(name, size, opset, seed, folder):
    """Exports both variants of `name` and its samples; yields one description a file."""
    modelkit.make_deterministic(seed)
    network = build(name, size)
    samples = random_images(SAMPLE_BATCH, size)
    with torch.no_grad():
        logits = network(samples)
        moved = (network(samples * (1 + NUDGE)) - logits).abs().max() / logits.abs().max()
    if not moved <= MOST_MOVED:
        raise ValueError("the random network is ill-conditioned: "
                         f"inputs changed by {NUDGE:g} move its logits by {moved:.2g}")
    modelkit.save_arrays(folder / f"{name}.samples.npz", {"image": samples.numpy(), "logits": logits.numpy()})
    for suffix, keep in ((".onnx", False), (".bn.onnx", True)):
        with modelkit.Timer() as timer:
            entry = modelkit.export(network, (samples[:TRACED_BATCH],), folder / (name + suffix),
                                    keep_batch_norms=keep, opset=opset)
        yield {"model": name, **entry, "samples": f"{name}.samples.npz", "seconds": round(timer.seconds, 2)}


def parameter_count(name):
    """Returns the parameter count of the classifier `name` without allocating it, from torchvision's metadata."""
    weights = inspect.signature(getattr(torchvision.models, name)).parameters["weights"].annotation
    return weights.__args__[0].DEFAULT.value.meta["num_params"]


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_DIR", help="folder to write to; made where missing")
    chosen = parser.add_mutually_exclusive_group()
    chosen.add_argument("--models", metavar="A,B,C", help=f"builders to export (default: {','.join(DEFAULT_MODELS)})")
    chosen.add_argument("--all", action="store_true", help="every classification builder of torchvision")
    parser.add_argument("--size", type=int, metavar="N",
                        help=f"image side in pixels (default: {SMALL_SIZE}, or what the architecture demands)")
    parser.add_argument("--opset", type=int, default=modelkit.DEFAULT_OPSET,
                        help="ONNX opset, at most 17, which keeps LayerNormalization whole (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    parser.add_argument("--max-parameters", type=float, default=200e6, metavar="COUNT",
                        help="leave larger networks out and say so (default: %(default)g)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    builders = torchvision.models.list_models(module=torchvision.models)
    if arguments.all:
        names = builders
    else:
        names = arguments.models.split(",") if arguments.models else DEFAULT_MODELS
    unknown = [name for name in names if name not in builders]
    if unknown:
        sys.exit(f"torchvision {torchvision.__version__} has no classifier called {', '.join(unknown)}.")
    arguments.out.mkdir(parents=True, exist_ok=True)

    written, failed = [], []
    print(f"{'file':34}{'nodes':>7}{'parameters':>13}{'seconds':>9}")
    for name in names:
        try:
            if parameter_count(name) > arguments.max_parameters:
                raise ValueError(f"{parameter_count(name)} parameters are more than --max-parameters allows")
            size = image_size(name, arguments.size)
            for entry in export_pair(name, size, arguments.opset, arguments.seed, arguments.out):
                written.append(entry)
                print(f"{entry['file']:34}{entry['nodes']:7}{entry['parameters']:13}{entry['seconds']:9.1f}",
                      flush=True)
        except Exception as error:  # one network's failure must not stop the others
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            failed.append({"model": name, "reason": reason})
            print(f"{name:34} failed: {reason}", flush=True)
        modelkit.write_json(arguments.out / "zoo.json", {
            "torch": torch.__version__, "torchvision": torchvision.__version__, "seed": arguments.seed,
            "models": written, "failed": failed})
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
