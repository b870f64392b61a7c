#!/usr/bin/env python3
"""The experiment on initialisation with shared parameters (docs/init.md): networks (a) to (d), every arm, the learning rate swept.

    python3 tools/experiments/normed_init.py --output /tmp/normed --seeds 5 --minutes 90

Networks are exported to ONNX with their sharing in the graph, initialised by `onnxmorph init`, and the weights read back by parameter
name. Needs torch, onnx, tqdm, matplotlib and npm; the command is `onnxmorph`, or what the environment variable ONNXMORPH says
(such as "dotnet src/OnnxMorph.Cli/bin/Release/net10.0/OnnxMorph.Cli.dll").
"""

import argparse
import functools
import json
import statistics
from pathlib import Path

import numpy as np
import onnx
import onnx.numpy_helper
import torch
import torch.nn.functional as F
from torch import nn

import frame

# (a) to (d) of Yang, Ding, Chan, Hu, Peng and Zeng 2021: final smoothed loss, theirs against Xavier or He.
PUBLISHED = {"a": (0.070, 0.069), "b": (0.111, 0.206), "c": (0.088, 0.221), "d": (0.083, 0.164)}
ARMS = ["he", "xavier", "none", "variance", "share", "multipliers", "reparametrised"]
COLLAPSED = 2.0  # a network that says nothing has a loss of ln 10 = 2.3


class Circulant(nn.Module):
    """A matrix of circulant blocks, or a convolution that is circulant over its channels: one parameter for each difference of indices."""

    def __init__(self, size, inputs, kernel=()):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, *kernel))
        self.bias = nn.Parameter(torch.zeros(size))
        self.kernel = kernel
        row, column = torch.arange(size)[:, None], torch.arange(inputs)[None]
        self.register_buffer("index", column // size * size + (column - row) % size, persistent=False)

    def forward(self, x):
        weight = self.weight[self.index]
        return F.conv2d(x, weight, self.bias, padding=1) if self.kernel else F.linear(x, weight, self.bias)


class Periodic(nn.Conv2d):
    """A convolution on data that goes on periodically, padded by slices: PyTorch 1.13 exports padding_mode="circular" one position off."""

    def forward(self, x):
        reach = self.kernel_size[0] // 2
        for axis in (2, 3):
            size = x.shape[axis]
            x = torch.cat([x.narrow(axis, size - reach, reach), x, x.narrow(axis, 0, reach)], axis)
        return super().forward(x)


class Network(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.kind = kind
        self.conv1, self.conv2 = nn.Conv2d(1, 32, 3, padding=1), nn.Conv2d(32, 64, 3, padding=1)
        if kind == "a":
            self.fc1, self.fc2 = nn.Linear(3136, 64), nn.Linear(64, 10)
        elif kind == "b":
            self.periodic, self.fc = Periodic(1, 1, 55), nn.Linear(3136, 10)
        elif kind == "c":
            self.circulant, self.fc = Circulant(1568, 3136), nn.Linear(1568, 10)
        else:
            self.conv3 = nn.Conv2d(64, 256, 3, padding=1)
            self.circulant1, self.circulant2 = Circulant(256, 256, (3, 3)), Circulant(256, 256, (3, 3))
            self.fc1, self.fc2 = nn.Linear(12544, 64), nn.Linear(64, 10)

    def forward(self, x):
        x = F.max_pool2d(F.relu(self.conv1(x)), 2)
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        if self.kind == "a":
            return self.fc2(F.relu(self.fc1(x.flatten(1))))
        if self.kind == "b":
            return self.fc(F.relu(self.periodic(x.reshape(-1, 1, 56, 56))).flatten(1))
        if self.kind == "c":
            return self.fc(F.relu(self.circulant(x.flatten(1))))
        for layer in (self.conv3, self.circulant1, self.circulant2):
            x = F.relu(layer(x))
        return self.fc2(F.relu(self.fc1(x.flatten(1))))


def export(kind, folder):
    """The untrained network as ONNX, parameters under their names in PyTorch; made once."""
    file = folder / f"{kind}.onnx"
    if not file.exists():
        model = Network(kind)
        # Equal parameters would be merged, as biases of zeros are.
        for parameter in model.parameters():
            nn.init.normal_(parameter)
        torch.onnx.export(
            model, torch.zeros(2, 1, 28, 28), file, opset_version=13, do_constant_folding=False, training=torch.onnx.TrainingMode.PRESERVE,
            input_names=["image"], output_names=["logits"], dynamic_axes={"image": {0: "n"}, "logits": {0: "n"}})
    return file


@functools.lru_cache(maxsize=1)
def fresh(kind, arm, seed, folder):
    """Weights by name, learning-rate multipliers and shares by name, as the command gives them."""
    parent, child, rates = export(kind, folder), folder / "fresh.onnx", folder / "rates.json"
    method = ["--method", arm] if arm in ("he", "xavier") else ["--method", "normed", "--growth", arm]
    report = frame.onnxmorph("init", parent, "-o", child, *method, "--seed", seed, "--multipliers", rates, "--force")
    weights = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in onnx.load(child).graph.initializer}
    return weights, json.loads(rates.read_text()), {t["name"]: t["weight"]["share"] for t in report["tensors"] if t["weight"]}


def initialised(kind, arm, seed, folder):
    """The network with the command's weights, and the learning-rate multipliers of its parameters."""
    weights, rates, shares = fresh(kind, arm, seed, folder)
    model = Network(kind)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[name])
        # v stands in the file, v / √share in the graph.
        for name, module in model.named_modules():
            if arm == "reparametrised" and shares.get(f"{name}.weight", 1) != 1:
                torch.nn.utils.parametrize.register_parametrization(module, "weight", Divided(shares[f"{name}.weight"] ** 0.5), unsafe=True)
                module.parametrizations.weight.original.copy_(weights[f"{name}.weight"])
    return model, rates


class Divided(nn.Module):
    def __init__(self, by):
        super().__init__()
        self.by = by

    def forward(self, weight):
        return weight / self.by


def train(run, folder, epochs, batch=64):
    images, labels = frame.digits()
    held_out = 1500
    x, y = torch.from_numpy(images[:-held_out]), torch.from_numpy(labels[:-held_out]).long()
    model, rates = initialised(run["network"], run["arm"], run["seed"], folder)
    optimiser = torch.optim.SGD([{"params": [p], "lr": run["rate"] * rates.get(name, 1.0)} for name, p in model.named_parameters()], lr=run["rate"])
    generator = torch.Generator().manual_seed(run["seed"])
    smoothed, curve = None, []
    for _ in range(epochs):
        for picked in torch.randperm(len(x), generator=generator).split(batch):
            loss = F.cross_entropy(model(x[picked]), y[picked])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            smoothed = loss.item() if smoothed is None else 0.98 * smoothed + 0.02 * loss.item()
            curve.append(smoothed)
        if not np.isfinite(smoothed):
            break
    test, classes = torch.from_numpy(images[-held_out:]), torch.from_numpy(labels[-held_out:])
    with torch.no_grad():
        correct = sum((model(part).argmax(1) == known).sum().item() for part, known in zip(test.split(500), classes.split(500)))
    finite = bool(np.isfinite(smoothed))
    return {"loss": smoothed if finite else None, "accuracy": 100 * correct / held_out, "curve": [round(v, 4) for v in curve[::20]] if finite else []}


def summarise(results):
    """For each network and arm the rate with the best mean loss, a collapsed run counting as ln 10; then mean, spread and collapses at it."""
    table = {}
    for network in sorted({r["run"]["network"] for r in results}):
        for arm in ARMS:
            by_rate = {}
            for r in results:
                if (r["run"]["network"], r["run"]["arm"]) == (network, arm):
                    by_rate.setdefault(r["run"]["rate"], []).append(r["result"])
            if not by_rate:
                continue
            losses = {rate: [r["loss"] if r["loss"] is not None else np.log(10) for r in runs] for rate, runs in by_rate.items()}
            rate = min(losses, key=lambda k: statistics.mean(losses[k]))
            best = losses[rate]
            table[f"{network}/{arm}"] = {
                "rate": rate, "loss": statistics.mean(best), "spread": statistics.stdev(best) if len(best) > 1 else 0, "seeds": len(best),
                "collapsed": sum(v > COLLAPSED for v in best), "accuracy": statistics.mean(r["accuracy"] for r in by_rate[rate])}
    return table


def markdown(table):
    lines = ["| network | arm | rate | loss | ± | accuracy % | collapsed | loss / He | published / He |", "|---|---|---|---|---|---|---|---|---|"]
    for name, row in table.items():
        network, arm = name.split("/")
        he = table.get(f"{network}/he")
        ours, theirs = PUBLISHED[network]
        lines.append(f"| {network} | {arm} | {row['rate']:g} | {row['loss']:.3f} | {row['spread']:.3f} | {row['accuracy']:.2f} | {row['collapsed']} of {row['seeds']} | "
                     f"{row['loss'] / he['loss'] if he else float('nan'):.2f} | {ours / theirs:.2f} |")
    return "\n".join(lines) + "\n"


def plot(results, table, file):
    import matplotlib
    matplotlib.use("Agg")
    from matplotlib import pyplot
    networks = sorted({r["run"]["network"] for r in results})
    figure, axes = pyplot.subplots(1, len(networks), figsize=(4 * len(networks), 3.2), squeeze=False)
    for axis, network in zip(axes[0], networks):
        for arm in ARMS:
            if (best := table.get(f"{network}/{arm}")) is None:
                continue
            curves = [r["result"]["curve"] for r in results if r["run"] == {**r["run"], "network": network, "arm": arm, "rate": best["rate"]} and r["result"]["curve"]]
            if curves:
                shortest = min(map(len, curves))
                axis.plot(20 * np.arange(shortest), np.mean([c[:shortest] for c in curves], 0), label=f"{arm}, {best['rate']:g}")
        axis.set(title=f"({network})", xlabel="step", yscale="log")
        axis.legend(fontsize=6)
    axes[0][0].set_ylabel("smoothed loss")
    figure.tight_layout()
    figure.savefig(file, dpi=150)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--output", type=Path, required=True, help="folder for results.json, results.md and curves.png")
    parser.add_argument("--networks", nargs="+", default=list("abcd"), choices=list("abcd"))
    parser.add_argument("--arms", nargs="+", default=ARMS, choices=ARMS)
    parser.add_argument("--rates", nargs="+", type=float, default=[0.01, 0.03, 0.1, 0.3])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; the same command goes on later")
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    args.output.mkdir(parents=True, exist_ok=True)
    # Seed by seed, so that a budget that ends early leaves all arms compared on the same seeds.
    runs = [{"network": n, "arm": a, "rate": r, "seed": s, "epochs": args.epochs}
            for s in range(args.seeds) for n in args.networks for a in args.arms for r in args.rates]
    results = frame.carry_out(runs, lambda run: train(run, args.output, args.epochs), args.output / "results.json", args.minutes)
    table = summarise(results)
    (args.output / "summary.json").write_text(json.dumps(table, indent=1))
    (args.output / "results.md").write_text(markdown(table))
    plot(results, table, args.output / "curves.png")
    print(markdown(table))


if __name__ == "__main__":
    main()
