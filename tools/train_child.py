#!/usr/bin/python3
"""Trains children of the models in models/ beside their parents and checks that each morph leaves a net that learns.

For each model and each line of MORPHS the child is made by the command line, then parent and child are trained as
torch modules (tools/onnx_torch.py) on the same batches of scikit-learn's digits, shifted as in tools/train_digits.py.
Checked are:

- before training both have the same loss, and outputs that agree with ONNX Runtime's;
- the first step does not make the loss jump: from the same start, the child's loss over fixed training images rises at
  most as far as the parent's does, plus one standard deviation of the parent's loss between batches;
- after STEPS steps no two channels of any space are equal (tools/channel_ties.py);
- every element of every parameter that the morph added or changed had a gradient in one of the STEPS steps at least.

The result is a table in Markdown. The exit status is 1 where a check fails.

Example: tools/train_child.py --report docs/training.md
"""

import argparse
import dataclasses
import fnmatch
import json
import pathlib
import shlex
import subprocess
import sys
import tempfile

import numpy
import torch
from torch.nn import functional

import channel_ties
import onnx_torch
import train_digits

ROOT = pathlib.Path(__file__).resolve().parent.parent
COMMAND = ROOT / "src/OnnxMorph.Cli"
RUN_MODEL = ROOT / "tools/run_model"
LIST_SPACES = ROOT / "tools/list_spaces"

# One line a morph: its name in the table and the options of `onnxmorph morph`.
MORPHS = {
    "widen, replicate": "--widen '*=x1.5'",
    "widen, zero": "--widen '*=x1.5' --widen-method zero",
    "widen, opposed": "--widen '*=x1.5' --widen-method opposed",
    "deepen, closed form": "--deepen '*'",
    "deepen, identity": "--deepen '*' --deepen-method identity",
    "kernel": "--kernel '*=+2'",
    "activation": "--activation '*'",
    "all together": "--widen '*=x1.5' --deepen '*' --kernel '*=+2' --activation '*'",
}

STEPS = 50  # the checks of channels and gradients look at the first so many
FIRST_STEPS = 4  # the first step is taken from the start with so many different batches
PROBE = 512  # training images that losses are measured on
SAME_LOSS = 1e-5  # relative: rounding in float32
SAME_OUTPUT = 1e-5  # relative to the largest output
EQUAL = 1e-5  # channels this close, relatively, are equal: rounding parts tied ones by less (see the control)
OPTIMISERS = {
    "sgd": (lambda parameters, rate: torch.optim.SGD(parameters, rate, momentum=0.9), 0.01),
    "adam": (lambda parameters, rate: torch.optim.Adam(parameters, rate), 1e-3),
}


class Refused(Exception):
    """The command refused the morph, with its sentence."""


class Failure(Exception):
    """A command failed."""


@dataclasses.dataclass
class Data:
    images: torch.Tensor
    labels: torch.Tensor
    held_out: torch.Tensor
    held_out_labels: torch.Tensor
    batches: list  # of (images, labels), an epoch after another

    @staticmethod
    def of(seed, epochs):
        images, labels, held_out, held_out_labels = train_digits.load_digits(seed)
        torch.manual_seed(seed)
        batches = [(train_digits.shifted(images[chosen]), labels[chosen])
                   for _ in range(epochs)
                   for chosen in torch.randperm(len(images)).split(train_digits.BATCH)]
        return Data(images, labels, held_out, held_out_labels, batches)


@dataclasses.dataclass
class Run:
    """What training a network showed."""

    loss: float  # over PROBE training images, before training
    first: list  # the same after one step with each of FIRST_STEPS batches
    spread: float  # standard deviation of the loss between batches
    gradients: dict  # by tensor: the largest |gradient| of each element within STEPS steps
    after: dict  # by tensor: its value after STEPS steps
    correct: float  # share of the held-out images, after all batches
    final: float  # loss over PROBE training images, after all batches
    start_correct: float


def loss_of(network, images, labels):
    return functional.cross_entropy(network(images)[0], labels, label_smoothing=0.05)


def batch_losses(network, data):
    """The losses of batches of training images, with running statistics."""
    network.batch_statistics = False
    with torch.no_grad():
        return torch.stack([loss_of(network, images, labels) for images, labels in zip(
            data.images[:PROBE].split(train_digits.BATCH), data.labels[:PROBE].split(train_digits.BATCH))])


def correct_share(network, data):
    network.batch_statistics = False
    with torch.no_grad():
        return (network(data.held_out)[0].argmax(1) == data.held_out_labels).double().mean().item()


def snapshot(network):
    return {name: tensor.detach().clone() for name, tensor in network.tensors.items()}


def restore(network, tensors):
    with torch.no_grad():
        for name, tensor in network.tensors.items():
            tensor.copy_(tensors[name])


def train(network, data, optimiser, rate, statistics):
    """Trains in place. Batch norms normalise by their batch and move their running statistics where `statistics`."""
    make, _ = OPTIMISERS[optimiser]

    def step(images, labels):
        network.batch_statistics = statistics
        updater.zero_grad(set_to_none=True)
        loss_of(network, images, labels).backward()
        updater.step()

    start = snapshot(network)
    losses = batch_losses(network, data)
    start_correct = correct_share(network, data)
    first = []
    for images, labels in data.batches[:FIRST_STEPS]:
        updater = make(network.parameters(), rate)
        step(images, labels)
        first.append(batch_losses(network, data).mean().item())
        restore(network, start)

    updater = make(network.parameters(), rate)
    gradients = {name: torch.zeros_like(tensor) for name, tensor in network.named_tensors()}
    for i, (images, labels) in enumerate(data.batches):
        step(images, labels)
        if i < STEPS:
            for name, tensor in network.named_tensors():
                if tensor.grad is not None:
                    gradients[name] = torch.maximum(gradients[name], tensor.grad.abs())
        if i == STEPS - 1:
            after = snapshot(network)
    return Run(losses.mean().item(), first, losses.std().item(), gradients, after, correct_share(network, data),
               batch_losses(network, data).mean().item(), start_correct)


def program(project):
    return project / "bin/Release/net10.0" / {COMMAND: "OnnxMorph.Cli"}.get(project, project.name)


def call(*command):
    """Runs a program and gives its standard output; raises `Failure` with its error."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode == 4:
        raise Refused(done.stderr.strip().splitlines()[-1])
    if done.returncode:
        raise Failure(f"{shlex.join(map(str, command))}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def runtime_outputs(model, samples, folder):
    """The model's first output under ONNX Runtime."""
    out = folder / "outputs.npz"
    call(program(RUN_MODEL), model, samples, out)
    with numpy.load(out) as arrays:
        return torch.from_numpy(arrays[arrays.files[0]])


def load_checked(path, folder):
    """Loads a model and checks its outputs on the held-out digits against ONNX Runtime's."""
    network = onnx_torch.load(path)
    samples = ROOT / "models/digits_samples.npz"
    with numpy.load(samples) as arrays, torch.no_grad():
        ours, = network(torch.from_numpy(arrays["image"]))
    theirs = runtime_outputs(path, samples, folder)
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if not error <= SAME_OUTPUT:
        raise Failure(f"{path.name}: torch and ONNX Runtime differ by {error:.1e} of the largest output")
    return network


@dataclasses.dataclass
class Dead:
    """Elements of a parameter that never had a gradient."""

    tensor: str
    origin: str
    elements: int
    total: int
    places: str
    parent: int  # elements of the parent's tensor of the same name without gradient; -1 where there is none


def dead_parameters(report, child, parent):
    """The added or changed parameters' elements that never had a gradient, tensor by tensor."""
    dead = []
    for tensor in report["tensors"]:
        name = tensor["name"]
        if tensor["origin"] == "exact" or name not in child.gradients:
            continue
        never = child.gradients[name] == 0
        if never.any():
            before = parent.gradients.get(name)
            dead.append(Dead(name, tensor["origin"], int(never.sum()), never.numel(), places(never),
                             -1 if before is None else int((before == 0).sum())))
    return dead


def places(never):
    """Where a mask is set, in words: whole slices along one axis where that says it all."""
    if never.all():
        return "all of it"
    for axis in range(never.dim()):
        whole = never.transpose(0, axis).flatten(1).all(1)
        if whole.any() and int(whole.sum()) * never.numel() // never.shape[axis] == int(never.sum()):
            return f"axis {axis}: {', '.join(map(str, whole.nonzero().flatten().tolist()))}"
    if never.dim() == 4:
        taps = never.flatten(0, 1).all(0)
        if int(taps.sum()) * never.shape[0] * never.shape[1] == int(never.sum()):
            return f"taps {', '.join(f'({y}, {x})' for y, x in taps.nonzero().tolist())} of every kernel"
    return "scattered"


def pairs(matrix, tolerance):
    return int((matrix <= tolerance).sum()) // 2


def closest(distances, part):
    return min((float(d[part].min()) for d in distances.values()), default=float("inf"))


@dataclasses.dataclass
class Result:
    """A line of the table."""

    model: str
    morph: str
    child: Run
    parent: Run
    equal: tuple  # pairs of channels that are made alike, at the start and after STEPS steps
    tied: tuple  # pairs that are read alike too
    inherited: int  # pairs of the parent's channels that are made alike after STEPS steps
    nearest: float  # smallest distance over everything, after STEPS steps
    closest_pair: str
    dead: list
    parameters: tuple

    @property
    def same(self):
        return abs(self.child.loss - self.parent.loss) <= SAME_LOSS * self.parent.loss

    @property
    def jumps(self):
        rise = max(self.child.first) - self.child.loss
        allowed = max(max(self.parent.first) - self.parent.loss, 0) + self.parent.spread
        return rise > allowed

    @property
    def failures(self):
        return [text for wrong, text in (
            (not self.same, "the loss differs before training"),
            (self.jumps, "the loss jumps at the first step"),
            (self.equal[1] > 0, "channels stay equal"),
            (bool(self.dead), "parameters without gradient")) if wrong]


class Bench:
    """Parents, trained once for all their children."""

    def __init__(self, arguments, folder):
        self.arguments, self.folder = arguments, folder
        self.data = Data.of(arguments.seed, arguments.epochs)
        self._parents = {}

    def train(self, network):
        a = self.arguments
        rate = a.rate or OPTIMISERS[a.optimiser][1]
        return train(network, self.data, a.optimiser, rate, not a.frozen_statistics)

    def parent(self, model):
        if model not in self._parents:
            network = load_checked(model, self.folder)
            spaces = self.spaces(model, network)
            run = self.train(network)
            after = spaces.distances(run.after)
            self._parents[model] = run, sum(pairs(d[0], EQUAL) for d in after.values())
        return self._parents[model]

    def spaces(self, model, network):
        names = {name for name, _ in network.named_tensors()}
        return channel_ties.ChannelSpaces(json.loads(call(program(LIST_SPACES), model)), names)

    def child(self, model, name, options, tied=False):
        """Makes and trains a child; `tied` gives copied channels equal shares of their readers first."""
        path = self.folder / f"{model.stem} {name}.onnx".replace(" ", "_").replace(",", "")
        report = json.loads(call(program(COMMAND), "morph", model, "-o", path, "--force", "--json",
                                 "--seed", self.arguments.seed, *shlex.split(options)))
        parent, inherited = self.parent(model)
        network = load_checked(path, self.folder)
        spaces = self.spaces(path, network)
        if tied:
            spaces.share_alike(network.tensors, spaces.copies(network.tensors, EQUAL))
        start = spaces.distances(network.tensors)
        run = self.train(network)
        end = spaces.distances(run.after)
        space = min(end, key=lambda s: float(end[s][2].min()))
        pair = divmod(int(end[space][2].argmin()), end[space][2].shape[0])
        return Result(
            model.stem, name, run, parent,
            tuple(sum(pairs(d[0], EQUAL) for d in ds.values()) for ds in (start, end)),
            tuple(sum(pairs(torch.maximum(d[0], d[1]), EQUAL) for d in ds.values()) for ds in (start, end)),
            inherited, float(end[space][2].min()), f"{space} {pair}",
            dead_parameters(report, run, parent), (report["parametersBefore"], report["parametersAfter"]))


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="*", metavar="GLOB", help="names of models in models/ (default: all)")
    parser.add_argument("--morphs", default="*", metavar="GLOB", help="names of morphs (default: all)")
    parser.add_argument("--optimiser", choices=OPTIMISERS, default="sgd", help="default: %(default)s")
    parser.add_argument("--rate", type=float, help="learning rate (default: 0.01 for sgd, 0.001 for adam)")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--frozen-statistics", action="store_true",
                        help="batch norms keep their running statistics instead of normalising by the batch")
    parser.add_argument("--seed", type=int, default=0, help="seed of morphs and batches (default: %(default)s)")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="write the table to FILE, not to standard output")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    for project in (COMMAND, RUN_MODEL, LIST_SPACES):
        call("dotnet", "build", "-c", "Release", "-v", "q", project)
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(arguments, pathlib.Path(folder))
        for model in sorted((ROOT / "models").glob("*.onnx")):
            if not fnmatch.fnmatch(model.stem, arguments.models):
                continue
            for name, options in MORPHS.items():
                if not fnmatch.fnmatch(name, arguments.morphs):
                    continue
                try:
                    r = bench.child(model, name, options)
                except Refused as e:
                    print(model.stem, name, "refused", e)
                    continue
                print(f"{r.model:24} {r.morph:20} loss {r.parent.loss:.5f} {r.child.loss:.5f} "
                      f"first {max(r.parent.first):.5f} {max(r.child.first):.5f} spread {r.parent.spread:.4f} "
                      f"final {r.parent.final:.4f} {r.child.final:.4f} "
                      f"equal {r.equal} tied {r.tied} inh {r.inherited} nearest {r.nearest:.4f} {r.closest_pair} "
                      f"acc {r.parent.start_correct:.4f} {r.parent.correct:.4f} {r.child.correct:.4f} {r.failures}", flush=True)
                for d in r.dead:
                    print("    ", d)


if __name__ == "__main__":
    main()
