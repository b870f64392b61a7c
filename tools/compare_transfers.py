#!/usr/bin/python3
"""Compares rules of `transfer` by how well what they fill learns, and writes docs/transfer-rules.md.

Two networks of one family in the manner of RegNetX (bottlenecks of width 1 with grouped convolutions; one is deeper, wider and has larger groups),
for each seed one of them is trained on scikit-learn's digits, shifted by up to two pixels, and the other filled from it by each rule, both ways. What was filled is
trained as a torch module (onnx_torch.py) on the same batches; its accuracy on the held-out images is told before training and after some steps. All arms of a seed
start from the same target, and an arm named "he" from that target's own weights.

Example: tools/compare_transfers.py --report docs/transfer-rules.md
"""

import argparse
import json
import pathlib
import shlex
import statistics
import subprocess
import sys
import tempfile
import time

import onnx
import torch
from torch import nn
from torch.nn import functional

import modelkit
import onnx_torch
import train_digits

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = ROOT / "src/OnnxMorph.Cli/bin/Release/net10.0/OnnxMorph.Cli.dll"
# Stem, widths, depths and size of groups.
SMALL, LARGE = (16, (16, 32, 56), (1, 1, 3), 8), (24, (36, 72, 120), (1, 2, 5), 12)
HE = None
SETTLING = 20  # batches; with a momentum of 0.9 an eighth of what was there is left

# By name: options, and where the experiment had the arm that the defaults come from (a like family on digits, 3 seeds), its accuracy after 100 steps / 3 epochs.
DOWN = {
    "im-init (importance by γ)": ("", "81.6 / 88.3"),
    "importance by L1": ("--importance l1", ""),
    "merge": ("--width merge", "78.0 / 87.5"),
    "uniform": ("--width uniform", "76.9 / 87.0"),
    "stride": ("--width stride", ""),
    "leading": ("--width leading", ""),
    "centre": ("--width centre", ""),
    "interpolate": ("--width interpolate", "72.5 / 85.3"),
    "im-init, scale root": ("--scale root", ""),
    "im-init, scale ratio": ("--scale ratio", ""),
    "im-init, first blocks": ("--depth first", ""),
    "weight-selection": ("--preset weight-selection", "71.5 / 85.8"),
    "fna": ("--preset fna", "68.1 / 85.0"),
    "hmt": ("--preset hmt", ""),
    "dp, clip": ("--method dp --operator clip", "64.2 / 84.4"),
    "he": (HE, "35.8 / 80.5"),
}
UP = {
    "im-init (identity blocks)": ("", "90.2 / 91.8"),
    "equal shares, no noise": ("--scale equal", ""),
    "scaled repeats": ("--inserted scaled", "90.1 / 92.1"),
    "repeats": ("--inserted repeat", "87.9 / 91.4"),
    "cyclic repeats": ("--depth cyclic --inserted repeat", ""),
    "added zeros": ("--added zeros", ""),
    "interpolate": ("--width interpolate", "81.7 / 89.8"),
    "im-init, scale none": ("--scale none", ""),
    "im-init, scale root": ("--scale root", ""),
    "im-init, scale ratio": ("--scale ratio", ""),
    "weight-selection": ("--preset weight-selection", "70.0 / 86.2"),
    "fna": ("--preset fna", "74.8 / 88.0"),
    "aki": ("--preset aki", ""),
    "hypercloning": ("--preset hypercloning", ""),
    "hmt": ("--preset hmt", ""),
    "dp, clip": ("--method dp --operator clip", "48.4 / 82.8"),
    "he": (HE, "16.0 / 29.3"),
}


class Block(nn.Module):
    """RegNet's X block (Radosavovic et al. 2020) without a bottleneck: 1x1, grouped 3x3, 1x1, beside a shortcut."""

    def __init__(self, inputs, outputs, stride, group):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, stride, 1, groups=outputs // group, bias=False), nn.BatchNorm2d(outputs), nn.ReLU(),
            nn.Conv2d(outputs, outputs, 1, bias=False), nn.BatchNorm2d(outputs))
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return functional.relu(self.layers(x) + (x if self.shortcut is None else self.shortcut(x)))


def network(stem, widths, depths, group):
    """A network of the family with weights as He et al. 2015 draw them."""
    layers, channels = [nn.Conv2d(1, stem, 3, padding=1, bias=False), nn.BatchNorm2d(stem), nn.ReLU()], stem
    for width, depth in zip(widths, depths):
        for block in range(depth):
            layers.append(Block(channels, width, 2 if block == 0 else 1, group))
            channels = width
    made = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, train_digits.CLASSES))
    for module in made.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    return made.eval()


def part(path):
    """Gives every parameter numbers of its own: the exporter merges equal ones, which new norms are."""
    model = onnx.load(str(path))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    merged = [node for node in model.graph.node if node.op_type == "Identity" and node.input[0] in tensors]
    for node in merged:
        copy = model.graph.initializer.add()
        copy.CopyFrom(tensors[node.input[0]])
        copy.name = node.output[0]
        model.graph.node.remove(node)
    onnx.save(model, str(path))


class Arms:
    """The arms of one direction and one seed."""

    def __init__(self, options, seed, folder):
        self._options, self._folder = options, folder
        self.images, self.labels, self.held_out, self.held_out_labels = train_digits.load_digits(seed)
        torch.manual_seed(1000 + seed)
        order = [chosen for _ in range(1 + options.steps[-1] * options.batch // len(self.images))
                 for chosen in torch.randperm(len(self.images)).split(options.batch) if len(chosen) == options.batch]
        self.batches = [(train_digits.shifted(self.images[chosen]), self.labels[chosen]) for chosen in order[:options.steps[-1]]]

    def export(self, made, name):
        path = self._folder / f"{name}.onnx"
        modelkit.export(modelkit.Traced(made.eval(), {"image": self.held_out[:2]}, keep_batch_norms=True), path)
        part(path)
        return path

    def source(self, geometry, name):
        """A trained network's file and accuracy."""
        made = network(*geometry)
        train_digits.train(made, self.images, self.labels, self._options.epochs)
        with torch.no_grad():
            correct = (made(self.held_out).argmax(1) == self.held_out_labels).double().mean().item()
        return self.export(made, name), correct

    def accuracies(self, path):
        """Of a model, on the held-out images, before training and after each number of steps."""
        module = onnx_torch.load(path)
        optimiser = torch.optim.SGD(module.parameters(), self._options.rate, momentum=0.9)
        found = [self.accuracy(module)]
        for step, (images, labels) in enumerate(self.batches, 1):
            module.batch_statistics = True
            optimiser.zero_grad(set_to_none=True)
            functional.cross_entropy(module(images)[0], labels).backward()
            optimiser.step()
            if step in self._options.steps:
                self.settle(module)
                found.append(self.accuracy(module))
        return found

    @torch.no_grad()
    def settle(self, module):
        """Lets the norms' running statistics, which lag behind the weights, catch up; training does not read them."""
        module.batch_statistics = True
        for images, _ in self.batches[:SETTLING]:
            module(images)

    @torch.no_grad()
    def accuracy(self, module):
        module.batch_statistics = False
        return (module(self.held_out)[0].argmax(1) == self.held_out_labels).double().mean().item()


def fill(command, source, target, arm, out, seed):
    """Fills the target by an arm's options; gives the file."""
    if arm is HE:
        return target
    done = subprocess.run([*command, "transfer", str(source), str(target), "-o", str(out), "--force", "--no-verify", "--seed", str(seed), *shlex.split(arm)],
                          capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"transfer {arm}: {done.stderr.strip() or done.stdout.strip()}")
    return out


class Rows(list):
    """Rows of (direction, arm, seed, accuracies), those of the sources among them; kept in a file of JSON lines, if any, which is continued."""

    def __init__(self, path):
        super().__init__(json.loads(line) for line in (path.read_text(encoding="utf-8").splitlines() if path and path.exists() else ()))
        self._path = path

    def has(self, *key):
        return any(tuple(row[:3]) == key for row in self)

    def add(self, *row):
        self.append(row)
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def run(options, rows, folder):
    """Adds the rows that are missing."""
    command = [options.command] if options.command else ["dotnet", str(COMMAND)]
    for seed in range(options.seeds):
        for direction, own, other, table in (("down", LARGE, SMALL, DOWN), ("up", SMALL, LARGE, UP)):
            missing = [(name, arm) for name, (arm, _) in table.items() if not rows.has(direction, name, seed)]
            if not missing:
                continue
            arms = Arms(options, seed, folder)
            torch.manual_seed(seed)
            source, correct = arms.source(own, "source")
            if not rows.has(direction, "source", seed):
                rows.add(direction, "source", seed, [correct])
            target = arms.export(network(*other), "target")
            for name, arm in missing:
                start = time.monotonic()
                found = arms.accuracies(fill(command, source, target, arm, folder / "filled.onnx", seed))
                rows.add(direction, name, seed, found)
                print(direction, seed, name, *(f"{a:.3f}" for a in found), f"{time.monotonic() - start:.1f} s", file=sys.stderr, flush=True)


def text(rows, options):
    """The document's tables."""
    parts = [INTRODUCTION.format(
        command=" ".join(["tools/compare_transfers.py", *(f"--{name} {value}" for name, value in options.given.items())]), seeds=options.seeds, epochs=options.epochs,
        batch=options.batch, rate=options.rate, settling=SETTLING, steps=" and ".join(map(str, options.steps)), small=describe(SMALL), large=describe(LARGE))]
    for direction, table, title in (("down", DOWN, "From larger to smaller"), ("up", UP, "From smaller to larger")):
        of = {name: [row[3] for row in rows if (row[0], row[1]) == (direction, name)] for name in ("source", *table)}
        head = ["rule", "options", "before training", *(f"after {step} steps" for step in options.steps), "earlier"]
        lines = [[name, {HE: "", "": "(defaults)"}.get(arm, f"`{arm}`"), *(cell([found[i] for found in of[name]]) for i in range(1 + len(options.steps))), earlier]
                 for name, (arm, earlier) in table.items()]
        lines.sort(key=lambda line: statistics.mean(found[1] for found in of[line[0]]), reverse=True)
        parts.append(f"## {title}\n\nThe sources reach {cell([found[0] for found in of['source']])} %.\n\n"
                     + "\n".join(f"| {' | '.join(line)} |" for line in (head, ["---"] * 2 + ["---:"] * (2 + len(options.steps)), *lines)))
    return "\n\n".join(parts) + "\n"


def cell(values):
    spread = statistics.stdev(values) if len(values) > 1 else 0
    return f"{100 * statistics.mean(values):.1f} ± {100 * spread:.1f}"


def describe(geometry):
    stem, widths, depths, group = geometry
    return f"stem {stem}, widths {', '.join(map(str, widths))}, depths {', '.join(map(str, depths))}, groups of {group}"


INTRODUCTION = """# Rules of transfer compared

Written by `{command}`. Two networks like RegNetX (smaller: {small}; larger: {large}) on scikit-learn's digits at 16×16 pixels. For each of {seeds} seeds the source
is trained for {epochs} epochs, and each rule fills the same target from it, which is then trained by SGD with rate {rate}, momentum 0.9 and batches of {batch}, shifted by up to two
pixels. Before each look at the accuracy the norms' statistics are settled on {settling} training batches. Numbers are the percentage of held-out images that are right: mean ± standard deviation over the seeds. `he` is the target's own start. The last
column has the accuracies after 100 steps / 3 epochs of an earlier experiment with another family of this kind, from which the defaults were taken."""


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--epochs", type=int, default=8, help="of training the sources (default: %(default)s)")
    parser.add_argument("--steps", type=lambda value: [int(step) for step in value.split(",")], default=[30, 120], metavar="N,N", help="when to look (default: 30,120)")
    parser.add_argument("--batch", type=int, default=32, help="default: %(default)s")
    parser.add_argument("--rate", type=float, default=0.02, help="default: %(default)s")
    parser.add_argument("--rows", type=pathlib.Path, metavar="FILE", help="the file of finished rows, continued where it exists")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="where to write the tables, not to standard output")
    parser.add_argument("--command", help=f"the command to run (dotnet {COMMAND.name})")
    options = parser.parse_args()
    options.given = {name: ",".join(map(str, value)) if isinstance(value, list) else value for name in ("seeds", "epochs", "steps", "batch", "rate")
                     if (value := getattr(options, name)) != parser.get_default(name)}
    return options


def main():
    options = parse_arguments()
    torch.set_num_threads(1)
    rows = Rows(options.rows)
    with tempfile.TemporaryDirectory(prefix="onnxmorph-compare-") as folder:
        run(options, rows, pathlib.Path(folder))
    made = text(rows, options)
    if options.report:
        options.report.write_text(made, encoding="utf-8")
    else:
        print(made, end="")


if __name__ == "__main__":
    main()
