#!/usr/bin/python3
"""Compares `onnxmorph similarity` with the figures of DPIAT's authors, and prints the table of docs/similarity.md.

    tools/export_models.py zoo --groups classification,families --models 'resnet18*,resnet34*,...'
    dotnet build -c Release src/OnnxMorph.Cli
    tools/similarity_figures.py zoo/classification zoo/families

The authors group layers by PyTorch's module tree. Their rule is written here once more, on torchvision's modules (after the description in
their paper and their public code, github.com/KamilPiechowiak/iatransfer), with one switch: whether modules that have no weights count as
layers when the rule decides if a module is a block or is dissolved. So the table has four columns: the authors' figure, their rule as it
is, their rule without such modules, and what the command finds on the exports, unfolded and folded.

Needs torch and torchvision, and the .NET runtime.
"""

import argparse
import functools
import json
import math
import pathlib
import subprocess

import torch.nn
import torchvision.models

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = ROOT / "src/OnnxMorph.Cli/bin/Release/net10.0/OnnxMorph.Cli.dll"
FIGURES = {("resnet18", "resnet34"): 0.846, ("resnet50", "resnet101"): 0.818, ("efficientnet_b2", "efficientnet_b0"): 0.755,
           ("regnet_x_400mf", "regnet_y_400mf"): 0.526, ("densenet121", "resnet50"): 0.218, ("mobilenet_v2", "efficientnet_b0"): 0.102}
MATRICES = (torch.nn.Conv2d, torch.nn.Linear)
LAYERS = (*MATRICES, torch.nn.BatchNorm2d)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folders", nargs="+", type=pathlib.Path, help="folders with .onnx files")
    parser.add_argument("--command", help=f"the command to run (dotnet {COMMAND.name})")
    options = parser.parse_args()
    command = [options.command] if options.command else ["dotnet", str(COMMAND)]
    files = {path.name.removesuffix(".onnx"): path for folder in options.folders for path in sorted(folder.glob("*.onnx"))}
    print("| pair | authors | their rule | weightless modules left out | unfolded | folded |\n|---|---:|---:|---:|---:|---:|", flush=True)
    for pair, figure in FIGURES.items():
        cells = [f"{figure:.3f}"]
        for counted in (True, False):
            cells.append(f"{similarity(*(network(name, counted) for name in pair)):.3f}")
        for form in (".unfolded", ""):
            names = [name + form for name in pair]
            missing = [name for name in names if name not in files]
            cells.append(f"no {missing[0]}" if missing else f"{measured(command, *(files[name] for name in names)):.3f}")
        print(f"| {' / '.join(pair)} | {' | '.join(cells)} |", flush=True)


def measured(command, source, target):
    """What the command says."""
    ended = subprocess.run([*command, "similarity", str(source), str(target), "--json", "--quiet"], capture_output=True, text=True, check=True)
    return json.loads(ended.stdout)["similarity"]


def network(name, counted):
    """A torchvision model as nested tuples: a layer is a kind and a shape, a block a tuple of layers."""
    return freeze(grouped(getattr(torchvision.models, name)(), 0, counted)[2])


def grouped(module, level, counted):
    """The authors' grouping: how deeply the module is nested (0 a leaf, 1 a block, 2 several), its matrices, and its items."""
    if isinstance(module, LAYERS):
        return 0, int(isinstance(module, MATRICES)), module
    children = list(module.children())
    items, matrices = [], 0
    for child in children:
        depth, inside, found = grouped(child, level + (len(children) != 1), counted)
        matrices += inside
        if not (counted or isinstance(found, (list, LAYERS))):
            continue
        # A norm with its convolution is no block of its own.
        items += found if depth > 1 or isinstance(found, list) and inside < 2 else [found]
    blocks = sum(isinstance(item, list) for item in items)
    depth = 2
    if len(items) - blocks > blocks and level > 0:
        items, depth = [layer for item in items for layer in (item if isinstance(item, list) else [item])], 1
    if not items:
        return 0, matrices, module
    if len(items) == 1 and level > 0:
        return 1, matrices, items[0]
    return depth, matrices, items


def freeze(item):
    """What `grouped` found as values."""
    if isinstance(item, list):
        return tuple(freeze(inner) for inner in item)
    return (type(item).__name__, *(item.weight.shape if isinstance(item, LAYERS) else ()))


def is_layer(item):
    """Whether an item is a layer rather than a block."""
    return isinstance(item[0], str)


@functools.cache
def score(source, target):
    """How well two items fit."""
    if not is_layer(source) and not is_layer(target):
        return aligned(source, target)
    if is_layer(source) != is_layer(target) or source[0] != target[0] or len(source) == 1:
        return 0
    return math.prod(min(a / b, b / a) for a, b in zip(source[1:], target[1:]))


@functools.cache
def aligned(source, target):
    """The published recurrence."""
    best = [[0] * (len(source) + 1) for _ in range(len(target) + 1)]
    for i in range(1, len(target) + 1):
        for j in range(1, len(source) + 1):
            most, total = max(best[i - 1][j], best[i][j - 1]), 0
            for k in range(i, 0, -1):
                total += score(source[j - 1], target[k - 1])
                most = max(most, best[k - 1][j - 1] + total / math.sqrt(i - k + 1))
            best[i][j] = most
    return best[-1][-1]


def similarity(a, b):
    """The symmetric similarity."""
    return math.sqrt(aligned(a, b) * aligned(b, a) / (aligned(a, a) * aligned(b, b)))


if __name__ == "__main__":
    main()
