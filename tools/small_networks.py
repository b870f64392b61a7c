"""Small torch networks of unusual structure, for export_models.py.

Each function of NETWORKS returns a `Traced`: a network with random weights and sample inputs.
"""

import torch
from torch import nn
from torch.nn import functional

from modelkit import SAMPLE_BATCH as BATCH, Traced


def images(channels=3, size=16):
    """A random batch of square images."""
    return {"image": torch.randn(BATCH, channels, size, size)}


def conv_norm(inputs, outputs, kernel=3, stride=1, groups=1, activation=nn.ReLU):
    """Convolution with "same" padding, batch norm and activation, as a list of layers."""
    layers = [nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
              nn.BatchNorm2d(outputs)]
    return layers + [activation()] if activation else layers


def head(channels, classes=10):
    """Global average pooling and a linear classifier, as a list of layers."""
    return [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, classes)]


class Sum(nn.Module):
    """shortcut(x) + body(x); the shortcut is the identity by default."""

    def __init__(self, body, shortcut=None):
        super().__init__()
        self.body = body
        self.shortcut = shortcut or nn.Identity()

    def forward(self, x):
        return self.shortcut(x) + self.body(x)


def residual(body, shortcut=None):
    """A residual sum and ReLU."""
    return nn.Sequential(Sum(body, shortcut), nn.ReLU())


def conv1d():
    """1-D convolutions with PRelu per channel, PRelu with one slope, group norm and instance norm."""
    network = nn.Sequential(
        nn.Conv1d(4, 16, 7, padding=3), nn.GroupNorm(4, 16), nn.ReLU(),
        nn.Conv1d(16, 24, 5, stride=2, padding=2), nn.PReLU(24),
        nn.Conv1d(24, 24, 3, padding=2, dilation=2), nn.InstanceNorm1d(24, affine=True), nn.PReLU(),
        nn.Conv1d(24, 32, 3), nn.BatchNorm1d(32), nn.ReLU(), nn.MaxPool1d(2),
        nn.AdaptiveAvgPool1d(1), nn.Flatten(), nn.Linear(32, 6))
    return Traced(network, {"signal": torch.randn(BATCH, 4, 64)})


def conv3d():
    """3-D convolutions, one of them split into (1,3,3) and (3,1,1), one depthwise."""
    network = nn.Sequential(
        nn.Conv3d(2, 8, 3, padding=1), nn.BatchNorm3d(8), nn.ReLU(), nn.MaxPool3d((1, 2, 2)),
        nn.Conv3d(8, 12, (1, 3, 3), padding=(0, 1, 1)), nn.ReLU(), nn.Conv3d(12, 16, (3, 1, 1), padding=(1, 0, 0)),
        nn.BatchNorm3d(16), nn.ReLU(), nn.Conv3d(16, 16, 3, stride=2, padding=1, groups=16), nn.ReLU(),
        nn.AdaptiveAvgPool3d(1), nn.Flatten(), nn.Linear(16, 5))
    return Traced(network, {"volume": torch.randn(BATCH, 2, 8, 16, 16)})


def autoencoder():
    """Strided encoder and a decoder of transposed convolutions: even kernel, output padding, groups."""
    network = nn.Sequential(
        nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU(),
        nn.ConvTranspose2d(32, 16, 4, 2, 1), nn.BatchNorm2d(16), nn.ReLU(),
        nn.ConvTranspose2d(16, 16, 3, 2, 1, output_padding=1, groups=4), nn.ReLU(),
        nn.ConvTranspose2d(16, 3, 1), nn.Sigmoid())
    return Traced(network, images(), ("reconstruction",))


def resnext():
    """ResNeXt bottlenecks: grouped 3x3 convolutions of 8 groups, 4 and 8 channels each."""
    def block(inputs, width, outputs, stride):
        body = nn.Sequential(*conv_norm(inputs, width, 1), *conv_norm(width, width, 3, stride, groups=8),
                             *conv_norm(width, outputs, 1, activation=None))
        if stride == 1 and inputs == outputs:
            return residual(body)
        return residual(body, nn.Sequential(*conv_norm(inputs, outputs, 1, stride, activation=None)))

    return Traced(nn.Sequential(*conv_norm(3, 16), block(16, 32, 48, 1), block(48, 32, 48, 1), block(48, 64, 96, 2),
                                block(96, 64, 96, 1), *head(96)), images())


def activations():
    """Residual sums of two convolutions, each with another activation between them."""
    kinds = (nn.LeakyReLU(0.1), nn.Tanh(), nn.Sigmoid(), nn.ReLU6(), nn.Hardswish(), nn.ELU(), nn.SELU(), nn.Softplus(),
             nn.Mish(), nn.SiLU(), nn.GELU(), nn.Hardtanh(-0.5, 0.8), nn.Hardsigmoid(), nn.CELU(0.7), nn.Softsign())
    blocks = [Sum(nn.Sequential(nn.Conv2d(12, 8, 3, padding=1), kind, nn.Conv2d(8, 12, 1))) for kind in kinds]
    return Traced(nn.Sequential(nn.Conv2d(3, 12, 3, padding=1), *blocks, *head(12)), images())


def superresolution():
    """ESPCN: pixel shuffle by 2 at the end, and a pixel unshuffle at the start."""
    network = nn.Sequential(
        nn.PixelUnshuffle(2), nn.Conv2d(12, 24, 5, padding=2), nn.Tanh(), nn.Conv2d(24, 16, 3, padding=1), nn.Tanh(),
        nn.Conv2d(16, 24, 3, padding=1), nn.PixelShuffle(2), nn.Conv2d(6, 12, 3, padding=1), nn.PixelShuffle(2))
    return Traced(network, images(), ("upscaled",), {0: "batch", 2: "height", 3: "width"},
                  {0: "batch", 2: "upscaled_height", 3: "upscaled_width"})


class UNet(nn.Module):
    """Two levels down and up, concatenated skips, one nearest and one bilinear Resize."""

    def __init__(self):
        super().__init__()
        def double(inputs, outputs):
            return nn.Sequential(*conv_norm(inputs, outputs), *conv_norm(outputs, outputs))
        self.down1, self.down2, self.bottom = double(3, 8), double(8, 16), double(16, 32)
        self.up2, self.up1 = double(32 + 16, 16), double(16 + 8, 8)
        self.mask = nn.Conv2d(8, 2, 1)

    def forward(self, image):
        fine = self.down1(image)
        coarse = self.down2(functional.max_pool2d(fine, 2))
        bottom = self.bottom(functional.max_pool2d(coarse, 2))
        x = self.up2(torch.cat((functional.interpolate(bottom, scale_factor=2, mode="nearest"), coarse), 1))
        x = functional.interpolate(x, scale_factor=2, mode="bilinear", align_corners=False)
        return self.mask(self.up1(torch.cat((fine, x), 1)))


def unet():
    """A UNet with concatenated skips and Resize."""
    return Traced(UNet(), images(), ("mask",))


class SharedHead(nn.Module):
    """RetinaNet-like: one head (convolutions with group norm) on two pyramid levels, two outputs a level joined."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Sequential(*conv_norm(3, 16, stride=2))
        self.deeper = nn.Sequential(*conv_norm(16, 32, stride=2))
        self.lateral1, self.lateral2 = nn.Conv2d(16, 24, 1), nn.Conv2d(32, 24, 1)
        self.tower = nn.Sequential(nn.Conv2d(24, 24, 3, padding=1), nn.GroupNorm(4, 24), nn.ReLU())
        self.classes, self.boxes = nn.Conv2d(24, 2 * 5, 3, padding=1), nn.Conv2d(24, 2 * 4, 3, padding=1)

    def forward(self, image):
        level1 = self.stem(image)
        level2 = self.deeper(level1)
        top = self.lateral2(level2)
        levels = (self.lateral1(level1) + functional.interpolate(top, scale_factor=2.0, mode="nearest"), top)
        towers = [self.tower(level) for level in levels]
        def joined(convolution, size):
            maps = [convolution(tower).permute(0, 2, 3, 1).reshape(image.shape[0], -1, size) for tower in towers]
            return torch.cat(maps, 1)
        return joined(self.classes, 5), joined(self.boxes, 4)


def shared_head():
    """A feature pyramid whose two levels share one detection head."""
    return Traced(SharedHead(), images(), ("classes", "boxes"))


class Siamese(nn.Module):
    """One trunk on two images; the embeddings' difference and product are classified."""

    def __init__(self):
        super().__init__()
        self.trunk = nn.Sequential(*conv_norm(3, 12), nn.MaxPool2d(2), *conv_norm(12, 20), *head(20, 16))
        self.judge = nn.Sequential(nn.Linear(32, 12), nn.ReLU(), nn.Linear(12, 2))

    def forward(self, left, right):
        a, b = self.trunk(left), self.trunk(right)
        return self.judge(torch.cat(((a - b).abs(), a * b), 1))


def siamese():
    """Weights shared by two branches with different inputs."""
    return Traced(Siamese(), {"left": torch.randn(BATCH, 3, 16, 16), "right": torch.randn(BATCH, 3, 16, 16)})


def shuffle_channels(x, groups):
    """ShuffleNet's channel shuffle: reshape, transpose, reshape."""
    n, c, h, w = x.shape
    return x.view(n, groups, c // groups, h, w).transpose(1, 2).reshape(n, c, h, w)


def shufflenet_v1():
    """ShuffleNet v1 units: grouped 1x1, channel shuffle, depthwise 3x3, grouped 1x1; the strided one concatenates."""
    class Unit(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.stride = stride
            grown = outputs - inputs if stride == 2 else outputs
            hidden = outputs // 4
            self.reduce = nn.Sequential(*conv_norm(inputs, hidden, 1, groups=3))
            self.spatial = nn.Sequential(*conv_norm(hidden, hidden, 3, stride, hidden, None),
                                         *conv_norm(hidden, grown, 1, groups=3, activation=None))

        def forward(self, x):
            y = self.spatial(shuffle_channels(self.reduce(x), 3))
            if self.stride == 2:
                return functional.relu(torch.cat((functional.avg_pool2d(x, 3, 2, 1), y), 1))
            return functional.relu(x + y)

    return Traced(nn.Sequential(*conv_norm(3, 24), Unit(24, 60, 2), Unit(60, 60, 1), Unit(60, 120, 2),
                                Unit(120, 120, 1), *head(120)), images())


class SqueezeExcite(nn.Module):
    """SENet's gate with linear layers: pool, flatten, Gemm, ReLU, Gemm, Sigmoid, reshape, scale."""

    def __init__(self, channels, reduction):
        super().__init__()
        self.gate = nn.Sequential(nn.Linear(channels, channels // reduction), nn.ReLU(),
                                  nn.Linear(channels // reduction, channels), nn.Sigmoid())

    def forward(self, x):
        return x * self.gate(x.mean((2, 3))).view(x.shape[0], -1, 1, 1)


def senet():
    """Residual blocks with squeeze-excite through linear layers, the gate reshaped with -1."""
    def block(channels):
        return residual(nn.Sequential(*conv_norm(channels, channels), *conv_norm(channels, channels, activation=None),
                                      SqueezeExcite(channels, 4)))
    layers = *conv_norm(3, 24), block(24), *conv_norm(24, 40, stride=2), block(40), *head(40)
    return Traced(nn.Sequential(*layers), images())


class EinsumAttention(nn.Module):
    """Attention with weights (heads, width, size), contracted by Einsum, as JAX programs write it."""

    def __init__(self, width=24, heads=3, size=8):
        super().__init__()
        self.qkv = nn.Parameter(torch.randn(3, heads, width, size) * width ** -0.5)
        self.out = nn.Parameter(torch.randn(heads, size, width) * (heads * size) ** -0.5)
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 5)
        self.scale = size ** -0.5

    def forward(self, features):
        query, key, value = (torch.einsum("btw,hws->bhts", features, weight) for weight in self.qkv)
        weights = torch.softmax(torch.einsum("bhts,bhus->bhtu", query, key) * self.scale, -1)
        context = torch.einsum("bhtu,bhus->bhts", weights, value)
        x = features + torch.einsum("bhts,hsw->btw", context, self.out)
        return self.head(self.norm(x).mean(1))


def einsum_attention():
    """Attention as Einsum over weights with a heads axis."""
    return Traced(EinsumAttention(), {"features": torch.randn(BATCH, 7, 24)})


class Mixer(nn.Module):
    """MLP-Mixer: linear layers over tokens (through transposes) and over channels."""

    def __init__(self, tokens=16, width=24):
        super().__init__()
        self.embed = nn.Conv2d(3, width, 4, 4)
        self.norm1, self.norm2, self.norm3 = nn.LayerNorm(width), nn.LayerNorm(width), nn.LayerNorm(width)
        self.over_tokens = nn.Sequential(nn.Linear(tokens, 20), nn.GELU(), nn.Linear(20, tokens))
        self.over_channels = nn.Sequential(nn.Linear(width, 40), nn.GELU(), nn.Linear(40, width))
        self.head = nn.Linear(width, 10)

    def forward(self, image):
        x = self.embed(image).flatten(2).transpose(1, 2)
        x = x + self.over_tokens(self.norm1(x).transpose(1, 2)).transpose(1, 2)
        x = x + self.over_channels(self.norm2(x))
        return self.head(self.norm3(x).mean(1))


def mixer():
    """An MLP-Mixer."""
    return Traced(Mixer(), images())


class OptionA(nn.Module):
    """A residual block whose shortcut is a strided slice padded with zero channels on both sides."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.missing = outputs - inputs
        self.body = nn.Sequential(*conv_norm(inputs, outputs, stride=2), *conv_norm(outputs, outputs, activation=None))

    def forward(self, x):
        before = self.missing // 2
        shortcut = functional.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, before, self.missing - before))
        return functional.relu(self.body(x) + shortcut)


def option_a():
    """The CIFAR ResNet with option A shortcuts: Pad on the channel axis."""
    plain = residual(nn.Sequential(*conv_norm(8, 8), *conv_norm(8, 8, activation=None)))
    return Traced(nn.Sequential(*conv_norm(3, 8), plain, OptionA(8, 16), OptionA(16, 32), *head(32)), images())


class ChannelParts(nn.Module):
    """Channels split (GLU, chunk), sliced, gathered and joined again."""

    def __init__(self):
        super().__init__()
        self.stem, self.gated = nn.Conv2d(3, 24, 3, padding=1), nn.Conv2d(24, 32, 3, padding=1)
        self.left, self.right = nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 12, 1)
        self.register_buffer("order", torch.tensor([3, 0, 7, 7, 15, 9, 11, 2, 19, 4]))
        self.last = nn.Conv2d(10, 16, 1)
        self.head = nn.Linear(16 + 6, 10)

    def forward(self, image):
        x = functional.relu(self.stem(image))
        tail = x[:, 18:]
        x = functional.glu(self.gated(x), 1)
        left, right = x.chunk(2, 1)
        x = torch.cat((functional.relu(self.left(left)), self.right(right)), 1)
        x = functional.relu(self.last(x.index_select(1, self.order)))
        return self.head(torch.cat((x, tail), 1).mean((2, 3)))


def channel_parts():
    """Split, Slice, Gather and Concat on the channel axis."""
    return Traced(ChannelParts(), images())


class Broadcasts(nn.Module):
    """Residual sums whose operands broadcast: channel vectors, pooled maps, single-channel maps, scalars."""

    def __init__(self):
        super().__init__()
        self.stem, self.single = nn.Conv2d(3, 16, 3, padding=1), nn.Conv2d(16, 1, 1)
        self.context, self.last = nn.Conv2d(16, 16, 1), nn.Conv2d(16, 16, 3, padding=1)
        self.vector = nn.Parameter(torch.randn(16, 1, 1))
        self.scalar = nn.Parameter(torch.tensor(0.7))
        self.head = nn.Linear(16, 10)

    def forward(self, image):
        x = functional.relu(self.stem(image) + self.vector)
        x = x + self.context(x.mean((2, 3), keepdim=True))
        x = x * torch.sigmoid(self.single(x)) + self.scalar * x - self.vector
        x = torch.maximum(self.last(x), 0.2 * x)
        return self.head(torch.where(x > 0.1, x, 0.3 * x).amax((2, 3)))


def broadcasts():
    """Residual sums and products with broadcasting operands."""
    return Traced(Broadcasts(), images())


def dilated():
    """ASPP-like: parallel dilated branches and a pooled one that is resized back, concatenated."""
    class Branches(nn.Module):
        def __init__(self):
            super().__init__()
            self.branches = nn.ModuleList(nn.Conv2d(16, 8, 3, padding=rate, dilation=rate) for rate in (1, 2, 3))
            self.pooled = nn.Conv2d(16, 8, 1)

        def forward(self, x):
            parts = [functional.relu(branch(x)) for branch in self.branches]
            pooled = functional.relu(self.pooled(functional.adaptive_avg_pool2d(x, 1)))
            return torch.cat((*parts, functional.interpolate(pooled, size=x.shape[2:], mode="bilinear")), 1)

    return Traced(nn.Sequential(*conv_norm(3, 16), Branches(), *conv_norm(32, 12, 1), nn.Conv2d(12, 4, 1)),
                  images(), ("mask",))


def attention_pool():
    """Convolutions with spatial attention over flattened positions (a non-local block)."""
    class NonLocal(nn.Module):
        def __init__(self, channels, inner):
            super().__init__()
            self.theta, self.phi = nn.Conv2d(channels, inner, 1), nn.Conv2d(channels, inner, 1)
            self.g, self.out = nn.Conv2d(channels, inner, 1), nn.Conv2d(inner, channels, 1)

        def forward(self, x):
            theta, phi, g = self.theta(x).flatten(2), self.phi(x).flatten(2), self.g(x).flatten(2)
            weights = torch.softmax(theta.transpose(1, 2) @ phi, -1)
            y = (weights @ g.transpose(1, 2)).transpose(1, 2)
            return x + self.out(y.reshape(x.shape[0], -1, x.shape[2], x.shape[3]))

    return Traced(nn.Sequential(*conv_norm(3, 16, stride=2), NonLocal(16, 8), *conv_norm(16, 24), *head(24)), images())


def folded_mobile():
    """Inverted residuals with ReLU6 and batch norms folded, as most exports arrive."""
    def block(inputs, outputs, stride):
        layers = nn.Sequential(*conv_norm(inputs, 4 * inputs, 1, activation=nn.ReLU6),
                               *conv_norm(4 * inputs, 4 * inputs, 3, stride, 4 * inputs, nn.ReLU6),
                               *conv_norm(4 * inputs, outputs, 1, activation=None))
        return Sum(layers) if stride == 1 and inputs == outputs else layers

    return Traced(nn.Sequential(*conv_norm(3, 8, activation=nn.ReLU6), block(8, 8, 1), block(8, 12, 2),
                                block(12, 12, 1), *head(12)), images(), keep_batch_norms=False)


NETWORKS = (conv1d, conv3d, autoencoder, resnext, activations, superresolution, unet, shared_head, siamese,
            shufflenet_v1, senet, einsum_attention, mixer, option_a, channel_parts, broadcasts, dilated, attention_pool,
            folded_mobile)
