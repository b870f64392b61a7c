"""The columns of docs/coverage.md: what is asked of every model, as data.

`{}` in an argument is the selector: every layer, or, for networks so large that a child of all layers would not fit into
memory, a few layers spread over the network.
"""

import dataclasses

CONVOLUTIONS = {"Conv", "ConvTranspose", "FusedConv", "QLinearConv", "ConvInteger"}

# Erf and Pow stand for the forms of GELU that exporters decompose.
ACTIVATIONS = {"Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
               "Softplus", "Softsign", "Mish", "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Swish", "Erf", "ThresholdedRelu"}


@dataclasses.dataclass(frozen=True)
class Family:
    """A column: its name, the command's arguments, what that asks for, and operators without which it means nothing."""
    name: str
    arguments: tuple
    about: str
    needs: frozenset = frozenset()

    def applies(self, operators):
        """Whether a model of these operators (None: unknown) has what the family changes."""
        return operators is None or not self.needs or not self.needs.isdisjoint(operators)

    def command(self, selectors):
        """The arguments with each selector in its place."""
        arguments = []
        for option, value in zip(self.arguments[::2], self.arguments[1::2]):
            chosen = selectors if "{}" in value else [None]
            for selector in chosen:
                arguments += [option, value.replace("{}", selector or "")]
        return arguments


def family(name, about, *arguments, needs=()):
    """A column."""
    return Family(name, arguments, about, frozenset(needs))


FAMILIES = (
    family("widen", "half as many channels again: copies that share their readers' weights", "--widen", "{}=x1.5"),
    family("widen zero", "random channels that are read with zeros", "--widen", "{}=x1.5", "--widen-method", "zero"),
    family("widen opposed", "random pairs of channels that cancel", "--widen", "{}=x1.5", "--widen-method", "opposed"),
    family("deepen", "every layer becomes two: an orthogonal factor of it, and the other", "--deepen", "{}"),
    family("deepen identity", "an identity layer behind every layer", "--deepen", "{}", "--deepen-method", "identity"),
    family("kernel", "kernels two taps larger along every axis", "--kernel", "{}=+2", needs=CONVOLUTIONS),
    family("activation", "a trainable share of the identity in every activation", "--activation", "{}", needs=ACTIVATIONS),
    family("together", "three of these in one run", "--widen", "{}=x1.5", "--deepen", "{}", "--kernel", "{}=+2"),
)
