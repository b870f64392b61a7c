#!/usr/bin/python3
"""Trains children of the models in models/ beside their parents and checks that every morph leaves a net that learns.

For each model and each morph (the families of morph_families.py, and those of MORE that only matter in training) the command
line makes the child; then parent and child are trained as torch modules (onnx_torch.py) on the same batches: scikit-learn's digits, shifted as in train_digits.py and turned by up to 30
degrees, which the parents have not seen. Checked are:

- the child's outputs and those of ONNX Runtime agree, and its loss before training is the parent's;
- the loss does not jump at the first step: over fixed images it rises no further than the parent's does, plus the
  standard error of that loss. The step is taken from the start with several batches; the worst counts;
- after 50 steps no two channels are equal (channel_ties.py), unless both sleep as their source in the parent does, and no
  two matrices or kernels are;
- no row, column or tap of a parameter that the morph added or changed is dead: without gradient in 50 steps, and also in a few
  more in which the results of layers are multiplied by noise, which wakes units that merely sleep.

The report has a table for each optimiser and says which checks failed; then the exit status is 1.

Example: tools/train_child.py --rows /tmp/training.jsonl --report docs/training.md
"""

import argparse
import dataclasses
import fnmatch
import hashlib
import itertools
import json
import math
import pathlib
import shlex
import sys
import tempfile
import time

import numpy
import onnx
import torch
from torch.nn import functional

import channel_ties
import onnx_torch
import train_digits
from morph_families import FAMILIES, deepen, family
from programs import COMMAND, ROOT, RUN_MODEL, Failure, Refused, build, call, program, runtime_outputs

LIST_SPACES = ROOT / "tools/list_spaces"

# What trains otherwise than the columns of docs/coverage.md.
MORE = (
    family("widen zero consumer", "random channels that are read with zeros", "--widen", "{}=x1.5", "--widen-method", "zero", "--widen-side", "consumer"),
    deepen("idempotent", "an identity layer and the activation once more, behind the activation", "--deepen-method", "identity", "--deepen-activation", "idempotent"),
    deepen("with calibrated norm", "a batch norm between the halves with the mean and variance of samples",
           "--deepen-norm", "identity", "--deepen-calibrate", str(ROOT / "models/digits_samples.npz")),
    deepen("linear", "no activation between the halves", "--deepen-activation", "none"),
    deepen("3,3", "a closed form with taps on both sides", "--deepen-kernels", "3,3", needs=("Conv",)),
    family("kernel begin", "taps in front only", "--kernel", "{}=+1", "--kernel-place", "begin", needs=("Conv",)),
)
LEFT_OUT = {"activation plain"}  # it adds nothing to train

# Whose loss jumps at the first step by the method's design, and why.
JUMPS = {
    "deepen with norm": "a batch norm that starts with mean 0 and variance 1 is the identity with running statistics only, and training "
                        "normalises by the batch; with samples (deepen with calibrated norm), or with --frozen-statistics, nothing jumps",
}

# The control has to fail: copies whose readers weigh them equally never part. It is trained by SGD alone, since Adam makes
# full steps of the rounding in gradients that are zero, such as those of a key's bias.
CONTROL = family("control: equal shares", "copies that their readers weigh equally (HyperCloning)", "--widen", "{}=x1.5", "--widen-shares", "equal")
CONTROL_OPTIMISER = "sgd"

STEPS = 50  # what the checks of channels and gradients look at
FIRST_STEPS = 3  # batches that the first step is tried with
EXCITED_RATE = 0.01  # of steps with noise; each parameter with a gradient moves by about as much, however small its gradient
PROBE = 256  # training images that losses are measured on
DEGREES = 30  # digits are turned by up to this
SAME_LOSS = 1e-5  # relative: rounding in float32
SAME_OUTPUT = 1e-5  # relative to the largest output
EQUAL = 1e-7  # relative distance of channels that count as equal: rounding does not part tied ones, as the control shows
NOISE = 1e-7  # a gradient this small beside the run's largest is rounding: those of a key's bias cancel to some 1e-9
# By what they are called: how a network is trained that has `size` times as many parameters as the parent. Adam moves every
# parameter by about its rate, so that the same rate throws a larger network further: by Tensor Programs V (Yang et al. 2022)
# the rate of hidden weights goes as 1 / width, which is as 1 / √parameters.
OPTIMISERS = {
    "sgd": ("SGD, rate 0.001, momentum 0.9", lambda parameters, size: torch.optim.SGD(parameters, 0.001, momentum=0.9)),
    "adam": ("Adam, rate 0.0001 · √(parameters of the parent / parameters)", lambda parameters, size: torch.optim.Adam(parameters, 0.0001 / size ** 0.5)),
}


@dataclasses.dataclass
class Data:
    """Digits; every image is turned."""

    probe: torch.Tensor  # training images that losses are measured on
    probe_labels: torch.Tensor
    held_out: torch.Tensor
    held_out_labels: torch.Tensor
    batches: list  # pairs of images and labels, one epoch after another

    @staticmethod
    def of(seed, epochs):
        images, labels, held_out, held_out_labels = train_digits.load_digits(seed)
        torch.manual_seed(seed)
        batches = [(turned(train_digits.shifted(images[chosen])), labels[chosen])
                   for _ in range(epochs)
                   for chosen in torch.randperm(len(images)).split(train_digits.BATCH)]
        return Data(turned(images[:PROBE]), labels[:PROBE], turned(held_out), held_out_labels, batches)


def turned(images):
    """Turns every image by a random angle about its centre, zeros coming in at the corners."""
    angles = (2 * torch.rand(len(images)) - 1) * math.radians(DEGREES)
    cos, sin, zero = angles.cos(), angles.sin(), torch.zeros(len(images))
    maps = torch.stack((torch.stack((cos, -sin, zero), 1), torch.stack((sin, cos, zero), 1)), 1)
    grid = functional.affine_grid(maps, images.shape, align_corners=False)
    return functional.grid_sample(images, grid, align_corners=False)


@dataclasses.dataclass
class Run:
    """What training a network showed."""

    loss: float  # on the probe, before training
    error: float  # its standard error, from the spread between batches
    first: float  # the worst loss on the probe after one step from the start
    idle: dict  # by tensor: which elements had no gradient within STEPS steps
    dead: dict  # by tensor: which of them have none under excitement either
    after: dict  # by tensor: its value after STEPS steps
    final: float  # loss on the probe after all batches
    correct: tuple  # share of held-out images that are right, before training and after all batches


def loss_of(network, images, labels):
    return functional.cross_entropy(network(images)[0], labels, label_smoothing=0.05)


@torch.no_grad()
def probe_losses(network, data):
    """The losses of the probe's batches, with running statistics."""
    network.batch_statistics = False
    return torch.stack([loss_of(network, images, labels) for images, labels in zip(
        data.probe.split(train_digits.BATCH), data.probe_labels.split(train_digits.BATCH))])


@torch.no_grad()
def correct_share(network, data):
    network.batch_statistics = False
    return (network(data.held_out)[0].argmax(1) == data.held_out_labels).double().mean().item()


def snapshot(network):
    return {name: tensor.detach().clone() for name, tensor in network.tensors.items()}


@torch.no_grad()
def restore(network, tensors):
    for name, tensor in network.tensors.items():
        tensor.copy_(tensors[name])


class Gradients:
    """The largest |gradient| that each element of each tensor had."""

    def __init__(self, network):
        self._largest = {name: torch.zeros_like(tensor) for name, tensor in network.named_tensors()}

    def see(self, network):
        for name, tensor in network.named_tensors():
            if tensor.grad is not None:
                torch.maximum(self._largest[name], tensor.grad.abs(), out=self._largest[name])

    def idle(self):
        """By tensor: which elements had none."""
        noise = NOISE * max(largest.max().item() for largest in self._largest.values())
        return {name: largest <= noise for name, largest in self._largest.items()}


def train(network, data, make_optimiser, batch_statistics):
    """Trains in place with the optimiser that `make_optimiser` makes for parameters. Batch norms normalise by the batch and move their running statistics where `batch_statistics`."""
    def step(optimiser, images, labels):
        network.batch_statistics = batch_statistics
        optimiser.zero_grad(set_to_none=True)
        loss_of(network, images, labels).backward()
        optimiser.step()

    torch.manual_seed(0)  # of the noise that wakes units
    start, losses, correct = snapshot(network), probe_losses(network, data), correct_share(network, data)
    first = []
    for images, labels in data.batches[:FIRST_STEPS]:
        step(make_optimiser(network.parameters()), images, labels)
        first.append(probe_losses(network, data).mean().item())
        restore(network, start)

    optimiser = make_optimiser(network.parameters())
    gradients, excited = Gradients(network), Gradients(network)
    for i, (images, labels) in enumerate(data.batches):
        step(optimiser, images, labels)
        if i < STEPS:
            gradients.see(network)
        if i == STEPS - 1:
            after = snapshot(network)
            # In steps, since a unit that slept may be read with weights that are still 0. They have a length of their own: what
            # reads a small weight has a small gradient, and would pass for dead.
            network.excited = True
            exciting = torch.optim.Adam(network.parameters(), EXCITED_RATE, eps=1e-30)
            for batch in data.batches[:FIRST_STEPS]:
                step(exciting, *batch)
                excited.see(network)
            network.excited = False
            restore(network, after)
    idle = gradients.idle()
    dead = {name: mask & idle[name] for name, mask in excited.idle().items()}
    return Run(losses.mean().item(), losses.std().item() / len(losses) ** 0.5, max(first), idle, dead, after,
               probe_losses(network, data).mean().item(), (correct, correct_share(network, data)))


def load_checked(path, folder):
    """Loads a model and checks its outputs on the held-out digits against ONNX Runtime's."""
    network = onnx_torch.load(path)
    samples = ROOT / "models/digits_samples.npz"
    with numpy.load(samples) as arrays, torch.no_grad():
        ours, = network(torch.from_numpy(arrays["image"]))
    theirs = torch.from_numpy(runtime_outputs(path, samples, folder))
    error = ((ours - theirs).abs().max() / theirs.abs().max()).item()
    if not error <= SAME_OUTPUT:
        raise Failure(f"{path.name}: torch and ONNX Runtime differ by {error:.1e} of the largest output")
    return network


def changed_tensors(report, run):
    """The names of trained tensors that the morph added or changed."""
    return [t["name"] for t in report["tensors"] if t["origin"] != "exact" and t["name"] in run.idle]


def slices(mask):
    """Which whole slices of a mask are set, as pairs (kind, position). The axes of a kernel's taps go together.

    Single elements are not told: a connection may well be idle for 50 steps where both its ends are alive.
    """
    mask = mask.reshape(mask.shape[:2] + (-1,)) if mask.dim() > 2 else mask.reshape(mask.shape or (1,))
    found = []
    for axis, kind in zip(range(mask.dim()), ("row", "column", "tap")):
        whole = mask.transpose(0, axis).flatten(1).all(1) if mask.dim() > 1 else mask
        found += [(kind, position) for position in whole.nonzero().flatten().tolist()]
    return found


def dead_parameters(names, child, parent):
    """A sentence for each tensor with dead slices of a kind that the parent's tensor of that name has none of."""
    for name in names:
        known = {kind for kind, _ in slices(parent.dead[name])} if name in parent.dead else set()
        found = [f"{kind} {position}" for kind, position in slices(child.dead[name]) if kind not in known]
        if found:
            yield f"`{name}` {list(child.dead[name].shape)}, {'all of it' if child.dead[name].all() else ', '.join(found)}"


def twins(names, run):
    """
    Pairs of matrices and kernels that are equal after STEPS steps though they had gradients: branches that stay copies of each other.
    Vectors do not tell: biases on both sides of a sum move alike in any network, and slopes that sleep do not move at all.
    """
    awake = [name for name in names if sum(size > 1 for size in run.after[name].shape) > 1 and not run.idle[name].all()]
    for a, b in itertools.combinations(awake, 2):
        one, other = run.after[a], run.after[b]
        if one.shape == other.shape and (one - other).norm() <= EQUAL * one.norm():
            yield f"`{a}` and `{b}` {list(one.shape)}"


def equal_pairs(distances, *parts):
    """For each space which pairs of channels are equal in all of `parts` (indices into ChannelSpaces.distances)."""
    return {space: torch.stack([d[part] for part in parts]).amax(0) <= EQUAL for space, d in distances.items()}


def count(pairs):
    return sum(int(matrix.sum()) // 2 for matrix in pairs.values())


@dataclasses.dataclass
class Result:
    """A line of a table."""

    model: str
    morph: str
    parameters: tuple  # the parent's and the child's
    parent: Run
    child: Run
    equal: tuple  # pairs of equal channels: at the start, after STEPS steps, and those of them that sleep
    tied: tuple  # pairs that are also read alike: at the start, after STEPS steps
    nearest: float  # the smallest distance between two channels after STEPS steps
    nearest_pair: str
    twins: list  # pairs of equal tensors
    dead: list  # sentences
    asleep: tuple  # slices without gradient that are not dead, in the parent and in the child
    may_jump: bool  # the loss, by the method's design

    @property
    def failures(self):
        child, parent = self.child, self.parent
        if self.morph == CONTROL.name:
            if self.tied[1] < self.tied[0]:
                yield f"{self.tied[0] - self.tied[1]} tied pairs came apart; the check of ties is too sharp"
            return
        if not abs(child.loss - parent.loss) <= SAME_LOSS * parent.loss:
            yield f"the loss before training is {child.loss:.6f}, the parent's {parent.loss:.6f}"
        if not (self.may_jump and math.isfinite(child.first)) and not child.first - child.loss <= max(parent.first - parent.loss, 0) + parent.error:
            yield f"the loss jumps at the first step, from {child.loss:.4f} to {child.first:.4f}"
        if self.equal[1] > self.equal[2]:
            yield f"{self.equal[1] - self.equal[2]} pairs of channels stay equal, such as {self.nearest_pair}"
        for pair in self.twins:
            yield f"two tensors stay equal: {pair}"
        for sentence in self.dead:
            yield f"dead: {sentence}"

    @property
    def verdict(self):
        return "failed" if any(self.failures) else "tied, as it must be" if self.morph == CONTROL.name else "jumps by design" if self.may_jump else "passed"

    def cells(self):
        child, parent = self.child, self.parent
        return (
            self.model, self.morph, f"{self.parameters[1]:,}", f"{child.loss:.4f}", f"{child.first:.4f} ({parent.first:.4f})",
            f"{self.equal[0]} → {self.equal[1]}" + (f" ({self.equal[2]} asleep)" if self.equal[2] else ""),
            f"{self.tied[0]} → {self.tied[1]}", str(len(self.twins)), f"{self.nearest:.1e}", str(len(self.dead)), f"{self.asleep[1]} ({self.asleep[0]})",
            f"{child.final:.3f} ({parent.final:.3f})", f"{child.correct[1]:.1%} ({parent.correct[1]:.1%})", self.verdict)


class Bench:
    """Makes children and trains them with each optimiser; each parent is trained once for all of its children."""

    def __init__(self, arguments, data, folder):
        self._arguments, self._data, self._folder = arguments, data, folder
        self._parents, self._layers = {}, {}

    def _train(self, network, optimiser, size):
        return train(network, self._data, lambda parameters: OPTIMISERS[optimiser][1](parameters, size), not self._arguments.frozen_statistics)

    def _parent(self, model, optimiser):
        if (model, optimiser) not in self._parents:
            self._parents[model, optimiser] = self._train(load_checked(model, self._folder), optimiser, size=1)
        return self._parents[model, optimiser]

    def _single_layers(self, model):
        """Operators of the parent's layers by name, for families that name single ones."""
        if model not in self._layers:
            layers = json.loads(call(self._arguments.command, "inspect", model, "--json"))["layers"]
            self._layers[model] = {layer["name"]: layer["operator"] for layer in layers}
        return self._layers[model]

    def children(self, model, morph, optimisers):
        """Makes the child of `model` and trains it from the start with each optimiser; gives the optimisers with results."""
        path = self._folder / "child.onnx"
        options = morph.write(self._folder / "recipe.yaml", ["*"], self._single_layers(model))
        # What verification would look at, outputs and loss, is compared here anyway.
        report = json.loads(call(self._arguments.command, "morph", model, "-o", path, "--force", "--json", "--no-verify",
                                 "--seed", self._arguments.seed, *options))
        network = load_checked(path, self._folder)
        spaces = channel_ties.ChannelSpaces(json.loads(call(program(LIST_SPACES), path)), {name for name, _ in network.named_tensors()})
        start = snapshot(network)
        for optimiser in optimisers:
            restore(network, start)
            yield optimiser, self._result(model, morph.name, report, network, spaces, optimiser)

    def _result(self, model, name, report, network, spaces, optimiser):
        parent = self._parent(model, optimiser)
        start = spaces.distances(network.tensors)
        run = self._train(network, optimiser, report["parametersAfter"] / report["parametersBefore"])
        end = spaces.distances(run.after)
        equal = equal_pairs(end, 0)
        awake = {space: ~spaces.asleep(space, run.idle) for space in equal}
        sleeping = {space: pairs & ~(awake[space][:, None] | awake[space]) for space, pairs in equal.items()}
        # The nearest of the channels that learn.
        apart = {space: torch.where(awake[space][:, None] & awake[space], d[2], float("inf")) for space, d in end.items()}
        space = min(apart, key=lambda s: float(apart[s].min()))
        pair = divmod(int(apart[space].argmin()), len(apart[space]))
        names = changed_tensors(report, run)
        if self._arguments.verbose:
            for tensor in names:
                if found := [f"{kind} {position}" for kind, position in slices(run.idle[tensor])]:
                    print(f"{name}: idle in {tensor} {list(run.idle[tensor].shape)}: {', '.join(found)}", file=sys.stderr)
        return Result(
            model.stem, name, (report["parametersBefore"], report["parametersAfter"]), parent, run,
            (count(equal_pairs(start, 0)), count(equal), count(sleeping)),
            (count(equal_pairs(start, 0, 1)), count(equal_pairs(end, 0, 1))),
            float(apart[space].min()), f"{pair} of {spaces.makers(space)}", list(twins(names, run)), list(dead_parameters(names, run, parent)),
            (asleep(parent, parent.idle), asleep(run, names)), name in JUMPS and not self._arguments.frozen_statistics)


def asleep(run, names):
    return sum(len(slices(run.idle[name])) - len(slices(run.dead[name])) for name in names)


def table(header, rows):
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


HEADER = ("model", "morph", "parameters", "loss before", "after 1 step", "equal pairs", "tied pairs", "twins", "nearest", "dead", "asleep",
          "loss after", "held out", "result")

INTRODUCTION = """# Training children

Written by `{command}`. Each child is trained beside its parent on the same batches: scikit-learn's digits, shifted by
up to two pixels and turned by up to {degrees} degrees, which the parents have not seen; {epochs} epochs of batches of {batch}.
Batch norms {statistics}. Numbers in parentheses are the parent's, trained likewise.

| column | what it is |
|---|---|
| loss before | cross entropy (label smoothing 0.05) on {probe} fixed training images before training; parent and child must agree to {same} relatively |
| after 1 step | the same after one step, the worst of {first} batches; it may rise as far as the parent's does, plus the standard error of the loss |
| equal pairs | pairs of channels whose parameters on the producing side (rows, biases, norm scales, slopes, depthwise kernels) are equal to {equal} relatively: at the start, and after {steps} steps; none may be left but those that sleep |
| tied pairs | those of them whose readers' weights are equal too: no optimiser that sees gradients alone parts them |
| twins | pairs of matrices or kernels that the morph added or changed which are equal after {steps} steps: branches that stay copies |
| nearest | the smallest distance between two channels of one space that do not sleep after {steps} steps: Euclidean, over everything that makes and reads a channel, relative to a channel's root mean square |
| dead | tensors that the morph added or changed with a row, column or tap that has no gradient whatever its activations do: none in {steps} steps, and none in a few more in which the results of layers are multiplied by noise, which wakes units that sleep, but not what is 0 or read with zeros; those that the parent's tensor has too (a key's bias shifts all scores alike) are left out |
| asleep | rows, columns and taps of these tensors that had no gradient in {steps} steps only because a unit is always off, or always on where a parameter acts on the other side; in parentheses the number in the whole parent. Copies of a unit that sleeps sleep as well |
| loss after, held out | the loss as above and the share of held-out images (turned) that are right after all epochs |

The line `{control}` is a control that has to fail: readers weigh copied channels equally, which ties them.

Of these morphs the loss may jump: {jumps}.

What the command refused for a model is listed with its reason. Morphs that need operators which a model has not are left out.
"""


def morphs(arguments):
    """The morphs to run: those given on the command line, or all and the control."""
    if arguments.morph:
        return [family(name, "", *shlex.split(options)) for name, options in (line.split(":", 1) for line in arguments.morph)]
    return [morph for morph in (*FAMILIES, *MORE, CONTROL)
            if morph.name not in LEFT_OUT and any(fnmatch.fnmatch(morph.name, glob) for glob in arguments.morphs.split(","))]


class Rows:
    """
    Finished lines in a file of JSON lines, so that a run may be stopped and continued. Those of other settings do not count, and of
    other builds only those that passed, where `reuse` says so.
    """

    def __init__(self, path, build, settings, reuse):
        self._path, self._build, self._settings, self._rows, self._older = path, build, settings, {}, set()
        for line in path.read_text(encoding="utf-8").splitlines() if path and path.exists() else ():
            (built, *key), *row = json.loads(line)
            key = tuple(key)
            if built == build:
                self._older.discard(key)
            elif not reuse or row[1] or (key in self._rows and key not in self._older):
                continue
            else:
                self._older.add(key)
            self._rows[key] = row

    def _key(self, model, morph, optimiser):
        return self._settings, model.stem, morph.name, optimiser

    def is_older(self, *key):
        """Whether a line is of another build."""
        return self._key(*key) in self._older

    def has(self, *key):
        return self._key(*key) in self._rows

    def get(self, *key):
        """The cells, and sentences on what failed; None where there is no such line."""
        return self._rows.get(self._key(*key))

    def add(self, model, morph, optimiser, cells, failures):
        key = self._key(model, morph, optimiser)
        self._rows[key] = [list(cells), failures]
        print(optimiser, *cells, *failures, sep=" | ", file=sys.stderr, flush=True)
        if self._path:
            with self._path.open("a", encoding="utf-8") as file:
                file.write(json.dumps([[self._build, *key], *self._rows[key]], ensure_ascii=False) + "\n")


class Report:
    """Runs models and morphs and writes the tables, one for each optimiser, with sentences on what failed."""

    def __init__(self, arguments):
        build = hashlib.sha256((arguments.command.parent / "OnnxMorph.dll").read_bytes()).hexdigest()
        self._arguments, self._morphs = arguments, morphs(arguments)
        self._optimisers = arguments.optimisers.split(",")
        self._models = [model for model in sorted((ROOT / "models").glob("*.onnx")) if fnmatch.fnmatch(model.stem, arguments.models)]
        settings = f"{arguments.epochs} epochs, seed {arguments.seed}{', frozen statistics' if arguments.frozen_statistics else ''}"
        self._rows = Rows(arguments.rows, build[:12], settings, arguments.reuse)
        self._end = time.monotonic() + arguments.hours * 3600

    def _lines(self, optimiser):
        lines = [self._rows.get(model, morph, optimiser) for model in self._models for morph in self._morphs]
        return [line for line in lines if line]

    @property
    def passed(self):
        return not any(failures for optimiser in self._optimisers for _, failures in self._lines(optimiser))

    def text(self):
        arguments = self._arguments
        parts = [INTRODUCTION.format(
            command=self._command(), degrees=DEGREES, epochs=arguments.epochs,
            batch=train_digits.BATCH, probe=PROBE, same=SAME_LOSS, first=FIRST_STEPS, equal=EQUAL, steps=STEPS, control=CONTROL.name,
            jumps="; ".join(f"`{name}`, since {why}" for name, why in JUMPS.items()),
            statistics="keep their running statistics" if arguments.frozen_statistics else "normalise by the batch, as in training")]
        for optimiser in self._optimisers:
            lines = self._lines(optimiser)
            parts += [f"## {OPTIMISERS[optimiser][0]}", table(HEADER, [cells for cells, _ in lines])]
            if failures := [f"- {cells[0]}, {cells[1]}: {sentence}" for cells, sentences in lines for sentence in sentences]:
                parts.append("Failed:\n\n" + "\n".join(failures))
            if older := sum(self._rows.is_older(model, morph, optimiser) for model in self._models for morph in self._morphs):
                parts.append(f"Lines of older builds: {older}.")
            if missing := [f"{model.stem} ({', '.join(morph.name for morph in morphs)})" for model in self._models
                           if (morphs := [m for m in self._wanted(model, optimiser) if not self._rows.has(model, m, optimiser)])]:
                parts.append(f"Not run yet: {'; '.join(missing)}.")
        parts += ["## Morphs", table(("morph", "options or recipe", "what it does"), [
            (morph.name, f"`{morph.text.replace(f'{ROOT}/', '')}`".replace("|", "\\|"), morph.about) for morph in self._morphs])]
        return "\n\n".join(part.strip() for part in parts) + "\n"

    def _command(self):
        """The command line less what changes nothing about a finished report."""
        arguments = self._arguments
        options = {"models": "*", "morphs": "*", "optimisers": ",".join(OPTIMISERS), "epochs": 3, "seed": 0, "report": None}
        return shlex.join(["tools/train_child.py",
                           *(part for name, default in options.items() if (value := getattr(arguments, name)) != default for part in (f"--{name}", str(value))),
                           *(part for line in arguments.morph or () for part in ("--morph", line)),
                           *(["--frozen-statistics"] if arguments.frozen_statistics else [])])

    def _wanted(self, model, optimiser):
        """The morphs for a model and an optimiser."""
        operators = {node.op_type for node in onnx.load(str(model)).graph.node}
        return [morph for morph in self._morphs if morph.applies(operators) and (morph.name != CONTROL.name or optimiser == CONTROL_OPTIMISER)]

    def run(self, folder):
        """Runs what the file of rows has not; the report is written after each morph, if to a file."""
        arguments = self._arguments
        bench = Bench(arguments, Data.of(arguments.seed, arguments.epochs), folder)
        for model in self._models:
            wanted = {optimiser: self._wanted(model, optimiser) for optimiser in self._optimisers}
            for morph in self._morphs:
                if time.monotonic() >= self._end:
                    break
                optimisers = [o for o in self._optimisers if morph in wanted[o] and not self._rows.has(model, morph, o)]
                try:
                    for optimiser, result in bench.children(model, morph, optimisers) if optimisers else ():
                        self._rows.add(model, morph, optimiser, result.cells(), list(result.failures))
                except Refused as refused:
                    for optimiser in optimisers:
                        self._rows.add(model, morph, optimiser, [model.stem, morph.name, f"refused: {refused}", *[""] * (len(HEADER) - 3)], [])
                self.write()
        self.write()

    def write(self):
        if self._arguments.report:
            self._arguments.report.write_text(self.text(), encoding="utf-8")


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="*", metavar="GLOB", help="names of models in models/ (default: all)")
    parser.add_argument("--morphs", default="*", metavar="GLOB,GLOB", help="names of morphs (default: all)")
    parser.add_argument("--morph", action="append", metavar="NAME:OPTIONS", help="a morph to run in place of all; may be given several times")
    parser.add_argument("--command", type=pathlib.Path, metavar="FILE", help="the onnxmorph to use (default: this repository's, built first)")
    parser.add_argument("--no-build", action="store_true", help="run what was built before")
    parser.add_argument("--optimisers", default="sgd,adam", metavar="LIST", help=f"of {', '.join(OPTIMISERS)} (default: %(default)s)")
    parser.add_argument("--epochs", type=int, default=3, help="default: %(default)s")
    parser.add_argument("--frozen-statistics", action="store_true",
                        help="batch norms keep their running statistics instead of normalising by the batch")
    parser.add_argument("--seed", type=int, default=0, help="seed of morphs and batches (default: %(default)s)")
    parser.add_argument("--verbose", action="store_true", help="list every row, column and tap without gradient on standard error")
    parser.add_argument("--rows", type=pathlib.Path, metavar="FILE", help="the file of finished lines, continued where it exists")
    parser.add_argument("--reuse", action="store_true", help="count lines of other builds that passed; the report says how many")
    parser.add_argument("--hours", type=float, default=math.inf, help="start no morph after this time; 0 only writes the report")
    parser.add_argument("--report", type=pathlib.Path, metavar="FILE", help="where to write the report, not to standard output")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    torch.set_num_threads(1)
    try:
        build(() if arguments.no_build else (RUN_MODEL, LIST_SPACES, *([] if arguments.command else [COMMAND])))
        arguments.command = arguments.command or program(COMMAND)
        with tempfile.TemporaryDirectory() as folder:
            report = Report(arguments)
            report.run(pathlib.Path(folder))
    except (Failure, onnx_torch.UnsupportedOperator) as e:
        sys.exit(str(e))
    if not arguments.report:
        print(report.text(), end="")
    sys.exit(0 if report.passed else 1)


if __name__ == "__main__":
    main()
