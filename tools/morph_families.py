"""The columns of docs/coverage.md: what is asked of every model, as data.

A family is a list of the command's arguments, or, where these cannot say it, the steps of a recipe. In both `{}` stands for
the layers: all of them, or, in networks so large that a child of all layers would not fit into memory, a few. `{0}`, `{1}`
... are single layers. Few or single, they are spread over the network and of those that the step's kind is for: spread_layers
finds them. A family whose options a build does not have is left out.
"""

import dataclasses
import json
import math
import re

CONVOLUTIONS = {"Conv", "ConvTranspose", "FusedConv", "QLinearConv", "ConvInteger"}

# Erf and Pow stand for the forms of GELU that exporters decompose.
ACTIVATIONS = {"Relu", "LeakyRelu", "PRelu", "Clip", "Elu", "Selu", "Celu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
               "Softplus", "Softsign", "Mish", "Gelu", "FastGelu", "BiasGelu", "QuickGelu", "Swish", "Erf", "ThresholdedRelu"}


@dataclasses.dataclass(frozen=True)
class Family:
    """A column: its name, what it asks for, the command's arguments or a recipe's steps, and which models it is for."""
    name: str
    about: str
    arguments: tuple = ()
    steps: tuple = ()
    needs: frozenset = frozenset()

    @property
    def text(self):
        """The arguments as one writes them in a shell, or the recipe as JSON, which YAML readers take."""
        if self.steps:
            return self.recipe(None)
        return " ".join(f"'{argument}'" if "*" in argument else argument for argument in self.write(None, ALL))

    def applies(self, operators):
        """Whether a model of these operators (None: unknown) has what the family changes."""
        return operators is None or not self.needs or not self.needs.isdisjoint(operators)

    @property
    def picks(self):
        """Whether it names single layers."""
        return any(re.search(r"\{\d+\}", str(value)) for step in self.steps for value in step.values())

    def write(self, path, layers):
        """The command's arguments for the layers that each kind of step is for; a recipe is written to `path`."""
        if self.steps:
            path.write_text(self.recipe(layers), encoding="utf-8")
            return ["--recipe", str(path)]
        arguments = []
        for option, value in zip(self.arguments[::2], self.arguments[1::2]):
            for layer in selected(layers, option.removeprefix("--")) if "{}" in value else [""]:
                arguments += [option, value.replace("{}", layer)]
        return arguments

    def recipe(self, layers):
        """The steps as JSON, one for each layer where a step is for several.

        Steps for single layers are left out where their kind is for none. Without layers it is for all, and single ones stay open.
        """
        steps = []
        for step in self.steps:
            kind, selector = next(iter(step.items()))
            if "{}" in selector:
                steps += [{**step, kind: selector.replace("{}", layer)} for layer in selected(layers or ALL, kind)]
            elif "{" not in selector or layers is None:
                steps.append(step)
            elif found := names(layers, kind):
                steps.append({**step, kind: re.sub(r"\{(\d+)\}", lambda place: found[int(place[1]) % len(found)], selector)})
        return json.dumps({"steps": steps}, ensure_ascii=False)


# Names of layers by the kind of step that they are for; None stands for the kinds that take any layer.
ALL = {None: ["*"]}


def names(layers, kind):
    """The layers that a kind of step is for."""
    return layers.get(kind, layers[None])


def selected(layers, kind):
    """Selectors of the layers that a kind of step is for: where it is for none, all, so that the command says why it can change none."""
    return names(layers, kind) or ALL[None]


def spread_layers(layers, count):
    """A few layers for each kind of step, spread over a network, of those that `inspect --json` lists."""
    spaces = [layer["space"] for layer in layers]
    convolutions = [layer for layer in layers if layer["operator"] in CONVOLUTIONS]
    # Not residual streams, which more than an expansion and its depthwise layer make: wider ones would let every block grow.
    own = [layer for layer in layers if spaces.count(layer["space"]) <= 2]
    # Any layer gets other layers beside it, but some subnets are for convolutions only, and a few picks could miss them.
    some = spread(convolutions, count // 2)
    others = spread([layer for layer in layers if layer not in some], count - len(some))
    chosen = {"widen": spread(own or layers, count), "kernel": spread(convolutions, count),
              None: [layer for layer in layers if layer in some or layer in others]}
    return {kind: [layer["name"] for layer in found] for kind, found in chosen.items()}


def spread(items, count):
    """Some of the items in their order, at distances of the golden ratio, which no repetition of blocks keeps step with."""
    places = sorted({math.floor((k * (math.sqrt(5) - 1) / 2 % 1) * len(items)) for k in range(count)}) if items else []
    return [items[place] for place in places]


def family(name, about, *arguments, steps=(), needs=()):
    """A column."""
    return Family(name, about, arguments, tuple(steps), frozenset(needs))


def deepen(name, about, *arguments, needs=()):
    """A column of layers that become two."""
    return family(f"deepen {name}", about, "--deepen", "{}", *arguments, needs=needs)


def subnet(kind, about):
    """A column of small networks in the places of layers."""
    return family(kind, about, "--subnet", "{}=" + kind)


FAMILIES = (
    family("widen", "half as many channels again: copies that share their readers' weights", "--widen", "{}=x1.5"),
    family("widen zero", "random channels that are read with zeros", "--widen", "{}=x1.5", "--widen-method", "zero"),
    family("widen zero producer", "channels that are made with zeros and read at random",
           "--widen", "{}=x1.5", "--widen-method", "zero", "--widen-side", "producer"),
    family("widen opposed", "random pairs of channels that cancel", "--widen", "{}=x1.5", "--widen-method", "opposed"),
    deepen("closed-form", "every layer becomes two: an orthogonal factor of it, and the rest"),
    deepen("general", "the same, factored by least squares", "--deepen-method", "general"),
    deepen("practical", "the same, with taps taken away until it fits", "--deepen-method", "practical"),
    deepen("identity", "an identity layer behind every layer", "--deepen-method", "identity"),
    deepen("zero-residual", "two layers beside every layer that add zero", "--deepen-method", "zero-residual"),
    deepen("mirror", "a pair of activations between the halves that undo each other", "--deepen-activation", "mirror"),
    deepen("with norm", "a batch norm between the halves that starts as the identity", "--deepen-norm", "identity"),
    family("deepen blocks", "a block behind every block, the identity at first", "--deepen", "blocks:*"),
    family("kernel", "kernels two taps larger along every axis", "--kernel", "{}=+2", needs=CONVOLUTIONS),
    family("kernel 3x5", "kernels of two axes with sizes of their own", "--kernel", "{}=3x5", needs=CONVOLUTIONS),
    # All of them in any network: they hardly have parameters, and layers' names do not select them.
    family("activation", "a trainable share of the identity in every activation", "--activation", "*", needs=ACTIVATIONS),
    family("activation plain", "the same, and back", needs=ACTIVATIONS,
           steps=({"activation": "*", "to": "parametric"}, {"activation": "*", "to": "plain"})),
    subnet("sequential", "a chain of layers in every layer's place"),
    subnet("stacked", "chains side by side in every layer's place"),
    family("module", "a module of layers in every layer's place", steps=({"subnet": "{}", "kind": "module", "module": "(3x3, 1x1) | 1x1"},)),
    subnet("residual", "a residual block, or a split skip"),
    subnet("skip-add", "a mixture with an earlier value"),
    subnet("skip-concat", "a concatenation with an earlier value"),
    subnet("replicate-add", "copies of every layer, added"),
    subnet("replicate-concat", "copies of every layer, concatenated"),
    subnet("split-add", "identities behind every layer, added"),
    subnet("split-concat", "identities behind every layer, concatenated"),
    subnet("squeeze-excite", "factors for the channels of every layer, 1 at first"),
    family("together", "three morphs of every layer in one run", "--widen", "{}=x1.5", "--deepen", "{}", "--kernel", "{}=+2"),
    family("ten steps", "ten morphs in a row on layers here and there", steps=(
        {"widen": "{0}", "size": "x1.5"}, {"deepen": "{1}"}, {"kernel": "{2}", "size": "+2"}, {"activation": "*"},
        {"widen": "{3}", "size": "+8", "method": "zero"}, {"deepen": "{4}", "method": "identity"},
        {"widen": "{5}", "size": "x1.5", "method": "opposed"}, {"kernel": "{6}", "size": "+2"},
        {"deepen": "{7}", "count": 2}, {"widen": "{0}", "size": "x1.25"})),
)
