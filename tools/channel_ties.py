"""Which channels of a network are equal, and how far apart the closest ones are, measured on their parameters.

A channel's parameters are found through what `tools/list_spaces` prints: for every channel space of the model, the axes
of constants that run along it. Those that make the channel (its rows in the layers that produce it, its norm scales,
biases, slopes and depthwise kernels) decide its value: two channels with equal ones are *equal*. Those that are
contracted against it (its columns in the layers that read it) decide its gradient: two equal channels that are read
alike as well are *tied*. Exchanging them changes nothing, so that no optimiser that sees gradients alone ever parts them.
"""

import dataclasses

import numpy
import torch


@dataclasses.dataclass
class Slices:
    """The place of a space's channels in a tensor: `index[c]` are channel c's positions on `axis`."""

    tensor: str
    axis: int
    dual: bool
    index: torch.Tensor


class ChannelSpaces:
    """The channel spaces of a model with the slices of its parameters that belong to each channel."""

    def __init__(self, description, parameters):
        """`description` is what list_spaces printed; `parameters` the names of the tensors that are trained."""
        self.sizes = description["spaces"]
        self.slices = {space: [] for space in self.sizes}
        known = set()
        for use in description["uses"]:
            if use["constant"] not in parameters:
                continue
            for axis, expression in enumerate(use["axes"]):
                for space, dual in set(_leaves(expression)):
                    key = (space, use["constant"], axis, dual)
                    if space not in self.sizes or self.sizes[space] < 2 or key in known:
                        continue
                    known.add(key)
                    digits = _digits(expression, space)
                    index = numpy.stack([numpy.flatnonzero(digits == c) for c in range(self.sizes[space])])
                    self.slices[space].append(Slices(use["constant"], axis, dual, torch.from_numpy(index)))

    def makers(self, space):
        """The tensors that make the channels of a space, for messages."""
        names = [s.tensor for s in self.slices[space] if not s.dual]
        return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

    def asleep(self, space, idle):
        """For each channel whether nothing that makes it had a gradient; `idle` holds a mask for each tensor."""
        found = torch.ones(self.sizes[space], dtype=torch.bool)
        for s in self.slices[space]:
            if not s.dual:
                found &= idle[s.tensor].transpose(0, s.axis)[s.index].flatten(1).all(1)
        return found

    def distances(self, tensors):
        """For every space with slices on the producing side: the distances between channels, three n x n matrices.

        The first is over what makes the channels, the second over what reads them: the largest over all tensors of
        |a - b| divided by the root mean square of |channel| over the tensor's channels. The third is the Euclidean
        distance over everything, divided by the root mean square of |channel|. The diagonals are infinite, and so is the
        second where no layer reads the space: what a norm over channels reads has its readers behind the norm.
        """
        result = {}
        for space, slices in self.slices.items():
            if all(s.dual for s in slices):
                continue
            n = self.sizes[space]
            largest = {False: torch.zeros(n, n, dtype=torch.float64), True: torch.zeros(n, n, dtype=torch.float64)}
            squares, total = torch.zeros(n, n, dtype=torch.float64), 0.0
            for s in slices:
                distance, size = self._compare(tensors[s.tensor].detach().double(), s, slices)
                if size > 0:
                    largest[s.dual] = torch.maximum(largest[s.dual], distance / size)
                squares += distance.square()
                total += size ** 2
            if not any(s.dual for s in slices):
                largest[True].fill_(float("inf"))
            overall = (squares / (total or 1)).sqrt()
            for matrix in (*largest.values(), overall):
                matrix.fill_diagonal_(float("inf"))
            result[space] = (largest[False], largest[True], overall)
        return result

    @staticmethod
    def _compare(tensor, s, slices):
        """The n x n distances between the channels' parts of a tensor, and the root mean square of the parts' sizes."""
        moved = tensor.transpose(0, s.axis)
        rows = moved[s.index].flatten(1)
        squares = torch.cdist(rows, rows, compute_mode="donot_use_mm_for_euclid_dist").square()
        for other in slices:
            if other.tensor == s.tensor and other.axis != s.axis:
                # Exchanging c and d along both axes takes block [c, c] to [d, d] and [c, d] to [d, c].
                blocks = moved.transpose(1, other.axis or s.axis)[s.index][:, :, other.index]
                blocks = blocks.transpose(1, 2).flatten(2)
                diagonal = blocks.diagonal().T

                def gap(a, b):
                    return (a - b).square().sum(-1)

                squares -= gap(diagonal[:, None], blocks.transpose(0, 1)) + gap(blocks, diagonal[None])
                squares += gap(diagonal[:, None], diagonal[None]) + gap(blocks, blocks.transpose(0, 1))
        return squares.clamp(min=0).sqrt(), rows.square().sum(1).mean().sqrt().item()


def _leaves(expression):
    """The spaces in an axis expression, each with whether it is dual."""
    if "space" in expression:
        yield expression["space"], expression["dual"]
    for part in expression.get("product", expression.get("concat", ())):
        yield from _leaves(part)


def _digits(expression, space):
    """For each index of an axis the channel of `space` that it belongs to, or -1."""
    if expression.get("space") == space:
        return numpy.arange(expression["size"])
    if "product" in expression:
        digits = numpy.full(1, -1)
        for part in expression["product"]:
            inner = _digits(part, space)
            outer = numpy.repeat(digits, len(inner))
            inner = numpy.tile(inner, len(digits))
            if ((outer >= 0) & (inner >= 0)).any():
                raise ValueError(f"An axis is a product of {space} with itself; its channels cannot be told apart.")
            digits = numpy.maximum(outer, inner)
        return digits
    if "concat" in expression:
        return numpy.concatenate([_digits(part, space) for part in expression["concat"]])
    return numpy.full(expression["size"], -1)
