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
import tempfile
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
    """A matrix of circulant blocks, or a convolution that is circulant over its channels: one parameter for each difference of indices.

    Exported as the matrix gathered from its parameters; trained by the same product in the Fourier domain, a hundred times cheaper.
    """

    def __init__(self, size, inputs, kernel=()):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(inputs, *kernel))
        self.bias = nn.Parameter(torch.zeros(size))
        self.size, self.kernel = size, kernel
        row, column = torch.arange(size)[:, None], torch.arange(inputs)[None]
        self.register_buffer("index", column // size * size + (column - row) % size, persistent=False)

    def dense(self, x):
        weight = self.weight[self.index]
        return F.conv2d(x, weight, self.bias, padding=1) if self.kernel else F.linear(x, weight, self.bias)

    def forward(self, x):
        if torch.onnx.is_in_onnx_export():
            return self.dense(x)
        if not self.kernel:
            blocks = torch.fft.rfft(x.unflatten(1, (-1, self.size)))
            weight = torch.fft.rfft(self.weight.unflatten(0, (-1, self.size)))
            return torch.fft.irfft((blocks * weight.conj()).sum(1), self.size) + self.bias
        # A frequency of the channels is convolved with one of the weights: complex numbers as pairs of channels, [[r, i], [-i, r]].
        image, weight = torch.fft.rfft(x, dim=1), torch.fft.rfft(self.weight, dim=0)
        count = image.shape[1]
        pairs = torch.stack([torch.stack([weight.real, weight.imag], 1), torch.stack([-weight.imag, weight.real], 1)], 1).flatten(0, 1)
        out = F.conv2d(torch.view_as_real(image).movedim(-1, 2).flatten(1, 2), pairs, padding=1, groups=count).unflatten(1, (count, 2))
        return torch.fft.irfft(torch.complex(out[:, :, 0], out[:, :, 1]), self.size, dim=1) + self.bias[:, None, None]


class Periodic(nn.Conv2d):
    """A convolution on data that goes on periodically.

    Exported padded by slices, as PyTorch 1.13 exports padding_mode="circular" one position off; trained in the Fourier domain.
    """

    def dense(self, x):
        reach = self.kernel_size[0] // 2
        for axis in (2, 3):
            size = x.shape[axis]
            x = torch.cat([x.narrow(axis, size - reach, reach), x, x.narrow(axis, 0, reach)], axis)
        return super().forward(x)

    def forward(self, x):
        if torch.onnx.is_in_onnx_export():
            return self.dense(x)
        size, reach = x.shape[-2:], self.kernel_size[0] // 2
        kernel = F.pad(self.weight, (0, size[1] - self.kernel_size[1], 0, size[0] - self.kernel_size[0])).roll((-reach, -reach), (2, 3))
        product = torch.einsum("bihw,oihw->bohw", torch.fft.rfft2(x), torch.fft.rfft2(kernel).conj())
        return torch.fft.irfft2(product, size) + self.bias[:, None, None]


def check_fourier():
    """The product in the Fourier domain, and its gradients, against the dense ones: raises where they differ."""
    torch.manual_seed(0)
    for layer, shape in [(Circulant(12, 24), (3, 24)), (Circulant(8, 8, (3, 3)), (2, 8, 5, 5)), (Circulant(7, 7, (3, 3)), (2, 7, 4, 6)), (Periodic(1, 1, 7), (2, 1, 8, 8))]:
        layer = layer.double()
        x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
        for parameter in layer.parameters():
            nn.init.normal_(parameter)
        wanted, got = layer.dense(x), layer(x)
        towards = torch.randn_like(wanted)
        inputs = [x, *layer.parameters()]
        gradients = [torch.autograd.grad((y * towards).sum(), inputs) for y in (wanted, got)]
        for a, b in [(wanted, got), *zip(*gradients)]:
            torch.testing.assert_close(b, a, rtol=1e-10, atol=1e-10)


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


def fresh(kind, arm, seed, folder):
    """Weights by name, learning-rate multipliers and shares by name, as the command gives them; made once and kept in the folder."""
    kept = folder / f"{kind}-{arm}-{seed}.pt"
    if not kept.exists():
        with tempfile.TemporaryDirectory(dir=folder) as work:
            child, rates = Path(work) / "fresh.onnx", Path(work) / "rates.json"
            method = ["--method", arm] if arm in ("he", "xavier") else ["--method", "normed", "--growth", arm]
            report = frame.onnxmorph("init", export(kind, folder), "-o", child, *method, "--seed", seed, "--multipliers", rates)
            weights = {t.name: torch.from_numpy(onnx.numpy_helper.to_array(t).copy()) for t in onnx.load(child).graph.initializer}
            partial = Path(work) / "kept.pt"
            torch.save((weights, json.loads(rates.read_text()), {t["name"]: t["weight"]["share"] for t in report["tensors"] if t["weight"]}), partial)
            partial.rename(kept)
    return torch.load(kept)


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


def train(folder, run, batch=64):
    torch.set_num_threads(1)
    images, labels = frame.digits()
    held_out = 1500
    x, y = torch.from_numpy(images[:-held_out]), torch.from_numpy(labels[:-held_out]).long()
    model, rates = initialised(run["network"], run["arm"], run["seed"], folder)
    optimiser = torch.optim.SGD([{"params": [p], "lr": run["rate"] * rates.get(name, 1.0)} for name, p in model.named_parameters()], lr=run["rate"])
    generator = torch.Generator().manual_seed(run["seed"])
    smoothed, curve = None, []
    for _ in range(run["epochs"]):
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


def mean_losses(results, network, arm, seeds=None):
    """Losses by rate, a run that diverged or fell silent counting as ln 10."""
    by_rate = {}
    for r in results:
        if (r["run"]["network"], r["run"]["arm"]) == (network, arm) and (seeds is None or r["run"]["seed"] in seeds):
            loss = r["result"]["loss"]
            by_rate.setdefault(r["run"]["rate"], []).append(np.log(10) if loss is None else min(loss, np.log(10)))
    return by_rate


def plan(results, networks, arms, rates, seeds, sweep_seeds, epochs, beyond=3):
    """First every rate with the sweep's seeds; then further rates, half a decade each, while the best one is the last on its side; then the
    other seeds at the best rate and the one below it, and further down for as long as a seed collapses. The best rate has the lowest mean loss over the
    sweep's seeds."""
    runs = []
    for network in networks:
        for arm in arms:
            def run(rate, seed):
                return {"network": network, "arm": arm, "rate": rate, "seed": seed, "epochs": epochs}
            tried = list(rates)
            while True:
                swept = [run(rate, seed) for rate in tried for seed in range(sweep_seeds)]
                runs += [r for r in swept if r not in runs]
                if frame.missing(swept, results):
                    break
                losses = {rate: statistics.mean(values) for rate, values in mean_losses(results, network, arm, range(sweep_seeds)).items() if rate in tried}
                best = min(losses, key=losses.get)
                if len(tried) < len(rates) + beyond and best in (min(tried), max(tried)):
                    tried.append(float(f"{best / 10 ** 0.5 if best == min(tried) else best * 10 ** 0.5:.1g}"))
                    continue
                for place, rate in enumerate(sorted((r for r in tried if r <= best), reverse=True)):
                    runs += [run(rate, seed) for seed in range(sweep_seeds, seeds)]
                    values = mean_losses(results, network, arm)[rate]
                    if place > 0 and (len(values) < seeds or max(values) <= COLLAPSED):
                        break
                break
    return runs


def summarise(results):
    """For each network and arm, of the rates that were run with most seeds the one with the lowest mean: mean, spread and collapses over them."""
    table = {}
    for network in sorted({r["run"]["network"] for r in results}):
        for arm in ARMS:
            losses = mean_losses(results, network, arm)
            if not losses:
                continue
            most = max(map(len, losses.values()))
            rate = min((k for k in losses if len(losses[k]) == most), key=lambda k: statistics.mean(losses[k]))
            best = losses[rate]
            table[f"{network}/{arm}"] = {
                "rate": rate, "rates": sorted(losses), "loss": float(statistics.mean(best)), "spread": float(statistics.stdev(best)) if len(best) > 1 else 0.0, "seeds": len(best),
                "collapsed": int(sum(v > COLLAPSED for v in best)), "collapsed_anywhere": int(sum(v > COLLAPSED for values in losses.values() for v in values)),
                "runs": sum(map(len, losses.values())),
                "accuracy": statistics.mean(r["result"]["accuracy"] for r in results if (r["run"]["network"], r["run"]["arm"], r["run"]["rate"]) == (network, arm, rate))}
    return table


def markdown(table):
    lines = ["| network | arm | rate | loss | ± | accuracy % | collapsed | collapsed at any rate | loss / He | published / He |", "|" + "---|" * 10]
    for name, row in table.items():
        network, arm = name.split("/")
        he = table.get(f"{network}/he")
        ours, theirs = PUBLISHED[network]
        lines.append(f"| {network} | {arm} | {row['rate']:g} | {row['loss']:.3f} | {row['spread']:.3f} | {row['accuracy']:.2f} | {row['collapsed']} of {row['seeds']} | {row['collapsed_anywhere']} of {row['runs']} | "
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
    parser.add_argument("--rates", nargs="+", type=float, default=[0.003, 0.01, 0.03, 0.1, 0.3], help="learning rates to begin with")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--sweep-seeds", type=int, default=2, help="how many of the seeds choose the rate")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--minutes", type=float, help="stop after so many minutes; the same command goes on later")
    parser.add_argument("--workers", type=int, default=2, help="runs at a time, one thread each")
    args = parser.parse_args()
    args.output.mkdir(parents=True, exist_ok=True)
    check_fourier()
    frame.digits()
    for kind in args.networks:
        export(kind, args.output)
    wanted = functools.partial(plan, networks=args.networks, arms=args.arms, rates=args.rates, seeds=args.seeds, sweep_seeds=args.sweep_seeds, epochs=args.epochs)
    results = frame.carry_out(wanted, functools.partial(train, args.output), args.output / "results.json", args.minutes, args.workers)
    table = summarise(results)
    (args.output / "summary.json").write_text(json.dumps(table, indent=1))
    (args.output / "results.md").write_text(markdown(table))
    plot(results, table, args.output / "curves.png")
    print(markdown(table))


if __name__ == "__main__":
    main()
