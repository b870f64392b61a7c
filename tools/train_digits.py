#!/usr/bin/python3
"""Trains the small networks in models/ on scikit-learn's digits and exports them to ONNX.

The digits (1,797 grey images of 8x8 pixels, part of scikit-learn) are enlarged to 16x16 and scaled to [0, 1]. A fifth,
stratified by class, is held out: it is never trained on nor used to choose anything, and is written to
digits_samples.npz as "image" (float32, N x 1 x 16 x 16) and "labels" (int64, N). Each network takes "image" with a
dynamic batch and gives "logits" (N x 10). digits.json records each network's accuracy on the held-out images.

Same seed and library versions, same machine type: the same bytes in every file.

Example: tools/train_digits.py models
"""

import argparse
import pathlib
import time

import numpy
import sklearn.datasets
import sklearn.model_selection
import torch
from torch import nn
from torch.nn import functional

import modelkit

SIDE = 16
CLASSES = 10
BATCH = 64
LOWEST_ACCURACY = 0.95


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions with batch norm beside a shortcut, a 1x1 projection where the shape changes."""

    def __init__(self, inputs, outputs, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = None
        if stride != 1 or inputs != outputs:
            self.shortcut = nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        residual = self.norm2(self.conv2(functional.relu(self.norm1(self.conv1(x)))))
        return functional.relu(residual + (x if self.shortcut is None else self.shortcut(x)))


def residual_network(widths=(8, 16, 32), depths=(2, 2, 2)):
    """A ResNet with a stage of `depth` blocks for each width, all stages but the first halving the image."""
    layers = [nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.ReLU()]
    inputs = widths[0]
    for stage, (outputs, depth) in enumerate(zip(widths, depths)):
        for block in range(depth):
            layers.append(ResidualBlock(inputs, outputs, 2 if stage > 0 and block == 0 else 1))
            inputs = outputs
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(inputs, CLASSES))


class SqueezeExcite(nn.Module):
    """Scales every channel by a gate that a bottleneck computes from the channels' means."""

    def __init__(self, channels, hidden):
        super().__init__()
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x):
        means = functional.adaptive_avg_pool2d(x, 1)
        return x * functional.hardsigmoid(self.expand(functional.relu(self.reduce(means))))


class InvertedResidual(nn.Module):
    """MobileNetV3's block: 1x1 expansion, depthwise 3x3, squeeze-excite, 1x1; residual where shapes agree."""

    def __init__(self, inputs, outputs, expansion, stride, activation, squeeze=True):
        super().__init__()
        hidden = inputs * expansion
        self.residual = stride == 1 and inputs == outputs
        self.layers = nn.Sequential(
            nn.Conv2d(inputs, hidden, 1, bias=False), nn.BatchNorm2d(hidden), activation(),
            nn.Conv2d(hidden, hidden, 3, stride, padding=1, groups=hidden, bias=False), nn.BatchNorm2d(hidden),
            activation(), *([SqueezeExcite(hidden, max(4, hidden // 4))] if squeeze else []),
            nn.Conv2d(hidden, outputs, 1, bias=False), nn.BatchNorm2d(outputs))

    def forward(self, x):
        return x + self.layers(x) if self.residual else self.layers(x)


def mobile_network(widths=(8, 16, 24), depths=(1, 2, 2), last=64, squeeze=True):
    """Depthwise separable blocks, with squeeze-excite unless told otherwise, SiLU in the first stage and HardSwish after it."""
    layers = [nn.Conv2d(1, widths[0], 3, padding=1, bias=False), nn.BatchNorm2d(widths[0]), nn.Hardswish()]
    inputs = widths[0]
    for stage, (outputs, depth) in enumerate(zip(widths, depths)):
        for block in range(depth):
            layers.append(InvertedResidual(
                inputs, outputs, 3 if stage > 0 else 2, 2 if stage > 0 and block == 0 else 1, nn.Hardswish if stage > 0 else nn.SiLU, squeeze))
            inputs = outputs
    return nn.Sequential(
        *layers, nn.Conv2d(inputs, last, 1, bias=False), nn.BatchNorm2d(last), nn.Hardswish(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, CLASSES))


class Attention(nn.Module):
    """Multi-head self-attention with fused query, key and value, spelled out to export operator by operator."""

    def __init__(self, width, heads):
        super().__init__()
        self.heads = heads
        self.head_size = width // heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x):
        batch, tokens, width = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.heads, self.head_size).permute(2, 0, 3, 1, 4)
        weights = torch.softmax(q @ k.transpose(-2, -1) * self.head_size ** -0.5, -1)
        return self.out((weights @ v).transpose(1, 2).reshape(batch, tokens, width))


class EncoderBlock(nn.Module):
    """A pre-norm transformer block: attention, then a GELU MLP, both residual."""

    def __init__(self, width, heads, hidden):
        super().__init__()
        self.norm1 = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm2 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class VisionTransformer(nn.Module):
    """A vision transformer: 4x4 patches, class token, learned positions, two blocks of width 32 with four heads."""

    def __init__(self, patch=4, width=32, heads=4, hidden=64, depth=2):
        super().__init__()
        self.embed = nn.Conv2d(1, width, patch, patch)
        self.token = nn.Parameter(torch.randn(1, 1, width) * 0.02)
        self.positions = nn.Parameter(torch.randn(1, (SIDE // patch) ** 2 + 1, width) * 0.02)
        self.blocks = nn.Sequential(*[EncoderBlock(width, heads, hidden) for _ in range(depth)])
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, CLASSES)

    def forward(self, image):
        patches = self.embed(image).flatten(2).transpose(1, 2)
        tokens = torch.cat((self.token.expand(image.shape[0], -1, -1), patches), 1) + self.positions
        return self.head(self.norm(self.blocks(tokens))[:, 0])


# network: builder, epochs, and the files it becomes with whether each keeps batch norms.
NETWORKS = {
    "resnet": (residual_network, 25, {"digits_resnet.onnx": True, "digits_resnet_folded.onnx": False}),
    "mobilenet": (mobile_network, 30, {"digits_mobilenet.onnx": True}),
    "transformer": (VisionTransformer, 60, {"digits_transformer.onnx": False}),
}


def load_digits(seed):
    """Returns training images, training labels, held-out images and held-out labels as tensors."""
    digits = sklearn.datasets.load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    images = functional.interpolate(images, size=SIDE, mode="bilinear", align_corners=False)
    labels = torch.from_numpy(digits.target.astype(numpy.int64))
    training, held_out = sklearn.model_selection.train_test_split(
        numpy.arange(len(labels)), test_size=0.2, stratify=digits.target, random_state=seed)
    return images[training], labels[training], images[held_out], labels[held_out]


def shifted(images):
    """Moves every image by up to two pixels on each axis, zeros coming in at the border."""
    padded = functional.pad(images, (2, 2, 2, 2))
    offsets = torch.randint(0, 5, (len(images), 2)).tolist()
    return torch.stack([image[:, y:y + SIDE, x:x + SIDE] for image, (y, x) in zip(padded, offsets)])


def train(network, images, labels, epochs):
    """Trains in place with AdamW, a one-cycle learning rate, small shifts and label smoothing; leaves eval mode on."""
    steps = -(-len(images) // BATCH)
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, epochs=epochs, steps_per_epoch=steps)
    network.train()
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(BATCH):
            loss = functional.cross_entropy(network(shifted(images[chosen])), labels[chosen], label_smoothing=0.05)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            schedule.step()
    network.eval()


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=pathlib.Path, metavar="OUT_DIR", help="folder to write to; made where missing")
    parser.add_argument("--seed", type=int, default=0, help="random seed (default: %(default)s)")
    return parser.parse_args()


def main():
    arguments = parse_arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    images, labels, held_out, held_out_labels = load_digits(arguments.seed)
    modelkit.save_arrays(arguments.out / "digits_samples.npz",
                         {"image": held_out.numpy(), "labels": held_out_labels.numpy()})

    entries = []
    for name, (build, epochs, files) in NETWORKS.items():
        modelkit.make_deterministic(arguments.seed)
        network = build()
        start = time.perf_counter()
        train(network, images, labels, epochs)
        with torch.no_grad():
            correct = int((network(held_out).argmax(1) == held_out_labels).sum())
        accuracy = correct / len(held_out)
        print(f"{name}: {correct} of {len(held_out)} held-out images right ({accuracy:.2%}) "
              f"after {epochs} epochs, {time.perf_counter() - start:.0f} s", flush=True)
        if accuracy < LOWEST_ACCURACY:
            raise SystemExit(f"{name} stayed below {LOWEST_ACCURACY:.0%}: nothing was exported for it.")
        for file, keep in files.items():
            path = arguments.out / file
            modelkit.export(modelkit.Traced(network, {"image": held_out[:2]}, keep_batch_norms=keep), path)
            entry = modelkit.describe(path)
            entries.append({**entry, "correct": correct, "samples": len(held_out), "accuracy": round(accuracy, 4)})
            print(f"  {file}: {sum(entry['operators'].values())} nodes, {entry['parameters']} parameters, {entry['bytes']} bytes")
    modelkit.write_json(arguments.out / "digits.json",
                        {"seed": arguments.seed, "torch": torch.__version__, "models": entries})


if __name__ == "__main__":
    main()
