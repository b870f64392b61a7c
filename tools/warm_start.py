#!/usr/bin/python3
"""Compares networks that start with carried weights with the same networks from He initialisation, on digits.

For each seed the sources are trained on scikit-learn's digits (another split, other batches, other weights a seed). Each pair's target is
drawn by He et al. 2015 and trained for three epochs twice, on the same batches: as it was drawn, and filled from the source by
`onnxmorph transfer` (by way of ONNX and safetensors, as round_trip_pytorch.py does). Warm starts are to be better on the held-out images
in every seed; the exit status is 1 where one is not.

Needs torch, onnx and scikit-learn; takes about ten minutes on one core.

Example: tools/warm_start.py --output docs/warm_start.md
"""

import argparse
import copy
import functools
import pathlib
import statistics
import sys
import tempfile

import torch
from torch import nn

import modelkit
import round_trip_pytorch
import train_digits
from programs import COMMAND, Failure, Refused, build

SOURCE_EPOCHS, EPOCHS = 6, 3

NETWORKS = {
    "small resnet": round_trip_pytorch.FAMILIES["resnet"][0],
    "large resnet": round_trip_pytorch.FAMILIES["resnet"][1],
    "resnet of 4 stages": functools.partial(train_digits.residual_network, (8, 16, 24, 40), (1, 2, 2, 1)),
    "small mobilenet": round_trip_pytorch.FAMILIES["mobilenet"][0],
    "large mobilenet": round_trip_pytorch.FAMILIES["mobilenet"][1],
    "mobilenet without gates": functools.partial(train_digits.mobile_network, (10, 20, 28), (1, 3, 2), 80, squeeze=False),
}

# What is shown, the method, source and target. The targets of dp pairs are not isomorphic to their sources.
PAIRS = [
    ("isomorphic up", "isomorphic", "small resnet", "large resnet"),
    ("isomorphic up", "isomorphic", "small mobilenet", "large mobilenet"),
    ("isomorphic down", "isomorphic", "large resnet", "small resnet"),
    ("isomorphic down", "isomorphic", "large mobilenet", "small mobilenet"),
    ("dp", "dp", "large resnet", "resnet of 4 stages"),
    ("dp", "dp", "large mobilenet", "mobilenet without gates"),
]


@torch.no_grad()
def he(network):
    """Draws weights by He et al. 2015 (normal, fan in), with biases of 0 and norms that scale by 1."""
    for module in network.modules():
        if isinstance(module, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                module.bias.zero_()
    return network


def trained(network, data, seed, epochs):
    """Trains a copy on batches that depend on the seed alone; gives it with loss and accuracy on the held-out images."""
    network = copy.deepcopy(network)
    torch.manual_seed(seed)
    train_digits.train(network, *data[:2], epochs)
    return network, judged(network, data)


def judged(network, data):
    """Loss and accuracy on the held-out images."""
    return round_trip_pytorch.loss(network, *data[2:]), round_trip_pytorch.accuracy(network, *data[2:])


def run(seed, folder):
    """One seed: for each pair the measures of the source, of the target as filled, and of the target trained cold and warm."""
    data = train_digits.load_digits(seed)
    image = data[0][:2]
    modelkit.make_deterministic(seed)
    networks = {name: he(make()) for name, make in NETWORKS.items()}
    sources = {name: trained(networks[name], data, seed, SOURCE_EPOCHS) for name in {source for _, _, source, _ in PAIRS}}
    modelkit.make_deterministic(1000 + seed)
    fresh = {name: he(make()) for name, make in NETWORKS.items()}
    cold = {name: trained(fresh[name], data, seed, EPOCHS)[1] for name in {target for _, _, _, target in PAIRS}}
    for what, method, source, target in PAIRS:
        network = copy.deepcopy(fresh[target])
        file = round_trip_pytorch.write(sources[source][0], image, folder / "source.onnx")
        round_trip_pytorch.carry(file, network, image, folder, "--method", method, "--seed", str(seed), "--no-verify")
        filled = judged(network, data)
        yield (what, source, target), (sources[source][1], filled, cold[target], trained(network, data, seed, EPOCHS)[1])


def report(results, seeds):
    """The document, and how many warm starts lost."""
    lost = 0
    lines = ["# Warm starts on digits", "",
             f"Written by `tools/warm_start.py`. For each of {seeds} seeds the source is trained for {SOURCE_EPOCHS} epochs on scikit-learn's digits (1,437 "
             f"images; 360 are held out, other ones in every seed). The target is drawn by He et al. 2015 and trained for {EPOCHS} epochs twice, on the "
             "same batches with the same schedule (AdamW, one cycle): as it was drawn, and filled by `onnxmorph transfer` first. Networks are those of "
             "`tools/round_trip_pytorch.py` and `tools/warm_start.py`; the targets of dp pairs are not isomorphic to their sources. Sources have seen the "
             "same images: this shows what a start is worth within one task, not across tasks.", "",
             "Accuracy is the share of held-out images that are right, as the mean over seeds with the lowest and highest; "
             "a warm start wins where its accuracy after training is higher.", "",
             "| pair | source | target | source's | as filled | He, trained | warm, trained | warm wins | smallest lead | loss, He | loss, warm |",
             "|---|---|---|---:|---:|---:|---:|---:|---:|---:|---:|"]
    for (what, source, target), rows in results.items():
        leads = [warm[1] - cold[1] for _, _, cold, warm in rows]
        lost += sum(lead <= 0 for lead in leads)
        lines.append(" | ".join([
            f"| {what}", source, target, *(spread([row[i][1] for row in rows]) for i in range(4)), f"{sum(lead > 0 for lead in leads)} of {len(leads)}",
            f"{100 * min(leads):+.1f} points", *(f"{statistics.mean(row[i][0] for row in rows):.3f}" for i in (2, 3))]) + " |")
    return "\n".join(lines) + "\n", lost


def spread(shares):
    """Mean, lowest and highest, in per cent."""
    return f"{100 * statistics.mean(shares):.1f} ({100 * min(shares):.1f}–{100 * max(shares):.1f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6, help="how many (%(default)s)")
    parser.add_argument("--output", type=pathlib.Path, metavar="FILE", help="where to write the table, not to standard output")
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    arguments = parser.parse_args()
    results = {}
    try:
        build(() if arguments.no_build else (COMMAND,))
        with tempfile.TemporaryDirectory() as folder:
            for seed in range(arguments.seeds):
                for pair, row in run(seed, pathlib.Path(folder)):
                    results.setdefault(pair, []).append(row)
                    print(f"seed {seed}, {pair[0]}, {pair[1]} -> {pair[2]}: source {row[0][1]:.1%}, filled {row[1][1]:.1%}, He {row[2][1]:.1%}, "
                          f"warm {row[3][1]:.1%}", file=sys.stderr, flush=True)
    except (Failure, Refused) as e:
        sys.exit(str(e))
    text, lost = report(results, arguments.seeds)
    if arguments.output:
        arguments.output.write_text(text, encoding="utf-8")
    else:
        print(text, end="")
    sys.exit(1 if lost else 0)


if __name__ == "__main__":
    main()
