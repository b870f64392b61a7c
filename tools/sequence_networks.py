"""Small recurrent networks and transformers, for export_models.py.

Each function of NETWORKS returns a `Traced`: a network with random weights and sample inputs. Names of inputs and outputs
are those of common exports.
"""

import torch
from torch import nn
from torch.nn import functional

from modelkit import SAMPLE_BATCH as BATCH, Traced


class Tagger(nn.Module):
    """Embedding, two layers of bidirectional recurrence, a linear tag a token."""

    def __init__(self, recurrence):
        super().__init__()
        self.embed = nn.Embedding(50, 16)
        self.recurrence = recurrence(16, 20, num_layers=2, bidirectional=True, batch_first=True)
        self.tags = nn.Linear(40, 7)

    def forward(self, tokens):
        return self.tags(self.recurrence(self.embed(tokens))[0])


def lstm_tagger():
    """A bidirectional LSTM tagger."""
    return Traced(Tagger(nn.LSTM), {"tokens": torch.randint(0, 50, (BATCH, 12))}, axes={0: "batch", 1: "sequence"})


def gru_tagger():
    """A bidirectional GRU tagger."""
    return Traced(Tagger(nn.GRU), {"tokens": torch.randint(0, 50, (BATCH, 12))}, axes={0: "batch", 1: "sequence"})


def rnn_tagger():
    """A bidirectional tagger of plain recurrences."""
    return Traced(Tagger(nn.RNN), {"tokens": torch.randint(0, 50, (BATCH, 12))}, axes={0: "batch", 1: "sequence"})


class Bert(nn.Module):
    """BERT: word, position and type embeddings, post-norm blocks, separate query, key and value, mask, pooler."""

    def __init__(self, width=32, heads=4, hidden=96, depth=2):
        super().__init__()
        self.heads, self.width = heads, width
        self.words, self.positions = nn.Embedding(60, width), nn.Embedding(32, width)
        self.types = nn.Embedding(2, width)
        self.norm = nn.LayerNorm(width, eps=1e-12)
        self.layers = nn.ModuleList(nn.ModuleDict({
            "query": nn.Linear(width, width), "key": nn.Linear(width, width), "value": nn.Linear(width, width),
            "out": nn.Linear(width, width), "norm1": nn.LayerNorm(width, eps=1e-12),
            "up": nn.Linear(width, hidden), "down": nn.Linear(hidden, width),
            "norm2": nn.LayerNorm(width, eps=1e-12)}) for _ in range(depth))
        self.pooler, self.classifier = nn.Linear(width, width), nn.Linear(width, 3)

    def split(self, x):
        return x.view(x.shape[0], x.shape[1], self.heads, self.width // self.heads).permute(0, 2, 1, 3)

    def forward(self, input_ids, attention_mask, token_type_ids):
        length = input_ids.shape[1]
        x = self.words(input_ids) + self.positions(torch.arange(length)[None]) + self.types(token_type_ids)
        x = self.norm(x)
        mask = (1.0 - attention_mask[:, None, None, :].float()) * -10000.0
        for layer in self.layers:
            query, key, value = (self.split(layer[name](x)) for name in ("query", "key", "value"))
            scores = query @ key.transpose(-1, -2) / (self.width // self.heads) ** 0.5 + mask
            context = (torch.softmax(scores, -1) @ value).permute(0, 2, 1, 3)
            context = context.reshape(x.shape[0], length, self.width)
            x = layer["norm1"](x + layer["out"](context))
            x = layer["norm2"](x + layer["down"](functional.gelu(layer["up"](x))))
        return self.classifier(torch.tanh(self.pooler(x[:, 0])))


def bert():
    """A BERT-like encoder with an attention mask, batch and sequence dynamic."""
    mask = torch.ones(BATCH, 10, dtype=torch.int64)
    mask[1, 7:] = 0
    return Traced(Bert(), {"input_ids": torch.randint(0, 60, (BATCH, 10)), "attention_mask": mask,
                           "token_type_ids": torch.randint(0, 2, (BATCH, 10))},
                  axes={0: "batch", 1: "sequence"}, output_axes={0: "batch"})


class Conv1D(nn.Module):
    """GPT-2's linear layer: weight stored (in, out), applied as addmm on a flattened view."""

    def __init__(self, inputs, outputs):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(inputs, outputs) * inputs ** -0.5)
        self.bias = nn.Parameter(torch.randn(outputs) * 0.1)

    def forward(self, x):
        return torch.addmm(self.bias, x.view(-1, x.shape[-1]), self.weight).view(*x.shape[:-1], self.bias.shape[0])


def with_cache(network, tokens, layers, heads, size):
    """A decoder that reads the keys and values of earlier tokens and gives those of all, named as common exports do."""
    cache = {f"past_key_values.{layer}.{part}": torch.randn(BATCH, heads, 5, size)
             for layer in range(layers) for part in ("key", "value")}
    present = tuple(name.replace("past_key_values", "present") for name in cache)
    return Traced(network, {"input_ids": tokens, **cache}, ("logits", *present),
                  axes={"input_ids": {0: "batch", 1: "sequence"}, **{name: {0: "batch", 2: "past"} for name in cache}},
                  output_axes={"logits": {0: "batch", 1: "sequence"}, **{name: {0: "batch", 2: "total"} for name in present}})


class Gpt(nn.Module):
    """GPT-2: pre-norm blocks, fused qkv that is split, causal mask buffer, tanh GELU, output tied to the embedding."""

    def __init__(self, width=32, heads=4, depth=2, context=48):
        super().__init__()
        self.heads, self.width = heads, width
        self.words, self.positions = nn.Embedding(64, width), nn.Embedding(context, width)
        self.register_buffer("causal", torch.tril(torch.ones(context, context, dtype=torch.bool))[None, None])
        self.layers = nn.ModuleList(nn.ModuleDict({
            "norm1": nn.LayerNorm(width), "qkv": Conv1D(width, 3 * width), "out": Conv1D(width, width),
            "norm2": nn.LayerNorm(width), "up": Conv1D(width, 4 * width), "down": Conv1D(4 * width, width)})
            for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    def forward(self, input_ids, *cache):
        batch, length = input_ids.shape
        start = cache[0].shape[2] if cache else 0
        end, present = start + length, []
        x = self.words(input_ids) + self.positions(torch.arange(start, end))
        for index, layer in enumerate(self.layers):
            parts = layer["qkv"](layer["norm1"](x)).split(self.width, 2)
            query, key, value = (part.view(batch, length, self.heads, -1).transpose(1, 2) for part in parts)
            if cache:
                key, value = torch.cat((cache[2 * index], key), 2), torch.cat((cache[2 * index + 1], value), 2)
                present += [key, value]
            scores = query @ key.transpose(-1, -2) * (self.width // self.heads) ** -0.5
            scores = torch.where(self.causal[:, :, start:end, :end], scores, torch.tensor(-1e4))
            context = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(batch, length, self.width)
            x = x + layer["out"](context)
            h = layer["up"](layer["norm2"](x))
            h = 0.5 * h * (1.0 + torch.tanh(0.7978845608028654 * (h + 0.044715 * torch.pow(h, 3.0))))
            x = x + layer["down"](h)
        logits = self.norm(x) @ self.words.weight.t()
        return (logits, *present) if cache else logits


def gpt2():
    """A GPT-2-like decoder whose output matrix is the embedding, batch and sequence dynamic."""
    return Traced(Gpt(), {"input_ids": torch.randint(0, 64, (BATCH, 9))}, axes={0: "batch", 1: "sequence"})


def gpt2_cached():
    """The same decoder with past keys and values as inputs and present ones as outputs."""
    return with_cache(Gpt(), torch.randint(0, 64, (BATCH, 4)), 2, 4, 8)


class Llama(nn.Module):
    """LLaMA: RMS norms, rotary positions, grouped-query attention (4 query heads on 2), SwiGLU, no biases."""

    def __init__(self, width=32, heads=4, groups=2, hidden=48, depth=2, context=48):
        super().__init__()
        self.heads, self.groups, self.size = heads, groups, width // heads
        self.words, self.head = nn.Embedding(64, width), nn.Linear(width, 64, bias=False)
        angles = torch.arange(context)[:, None] * 10000.0 ** (-torch.arange(0, self.size, 2) / self.size)
        self.register_buffer("cosines", torch.cat((angles, angles), -1).cos())
        self.register_buffer("sines", torch.cat((angles, angles), -1).sin())
        self.register_buffer("causal", torch.full((context, context), -1e4).triu(1))
        def linear(inputs, outputs):
            return nn.Linear(inputs, outputs, bias=False)
        self.layers = nn.ModuleList(nn.ModuleDict({
            "query": linear(width, width), "key": linear(width, groups * self.size),
            "value": linear(width, groups * self.size), "out": linear(width, width),
            "gate": linear(width, hidden), "up": linear(width, hidden), "down": linear(hidden, width)})
            for _ in range(depth))
        self.scales = nn.ParameterList(nn.Parameter(torch.ones(width)) for _ in range(2 * depth + 1))

    @staticmethod
    def normalise(x, scale):
        return x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6) * scale

    def rotate(self, x, start, end):
        half = self.size // 2
        turned = torch.cat((-x[..., half:], x[..., :half]), -1)
        return x * self.cosines[start:end] + turned * self.sines[start:end]

    def forward(self, input_ids, *cache):
        batch, length = input_ids.shape
        start = cache[0].shape[2] if cache else 0
        end, present = start + length, []
        x = self.words(input_ids)
        for index, layer in enumerate(self.layers):
            h = self.normalise(x, self.scales[2 * index])
            query, key, value = (layer[name](h).view(batch, length, heads, self.size).transpose(1, 2) for name, heads in
                                 (("query", self.heads), ("key", self.groups), ("value", self.groups)))
            key = self.rotate(key, start, end)
            if cache:
                key, value = torch.cat((cache[2 * index], key), 2), torch.cat((cache[2 * index + 1], value), 2)
                present += [key, value]
            repeats = self.heads // self.groups
            key, value = (t[:, :, None].expand(batch, self.groups, repeats, end, self.size)
                          .reshape(batch, self.heads, end, self.size) for t in (key, value))
            scores = self.rotate(query, start, end) @ key.transpose(2, 3) / self.size ** 0.5
            scores = scores + self.causal[start:end, :end]
            context = (torch.softmax(scores, -1) @ value).transpose(1, 2).reshape(batch, length, -1)
            x = x + layer["out"](context)
            h = self.normalise(x, self.scales[2 * index + 1])
            x = x + layer["down"](functional.silu(layer["gate"](h)) * layer["up"](h))
        logits = self.head(self.normalise(x, self.scales[-1]))
        return (logits, *present) if cache else logits


def llama():
    """A Llama-like decoder: RMS norm, rotary positions, grouped queries, SwiGLU."""
    return Traced(Llama(), {"input_ids": torch.randint(0, 64, (BATCH, 9))}, axes={0: "batch", 1: "sequence"})


def llama_cached():
    """The same decoder with past keys and values as inputs and present ones as outputs."""
    return with_cache(Llama(), torch.randint(0, 64, (BATCH, 4)), 2, 2, 8)


class T5(nn.Module):
    """T5: an encoder and a decoder with cross attention, RMS norms, relative position bias, no biases."""

    def __init__(self, width=32, heads=4, size=6, hidden=64, depth=1, buckets=15):
        super().__init__()
        self.heads, self.size, self.buckets = heads, size, buckets
        self.words = nn.Embedding(64, width)
        self.bias = nn.Embedding(2 * buckets + 1, heads)
        def attention():
            return {"query": nn.Linear(width, heads * size, bias=False), "key": nn.Linear(width, heads * size, bias=False),
                    "value": nn.Linear(width, heads * size, bias=False), "out": nn.Linear(heads * size, width, bias=False),
                    "scale": RmsNorm(width)}
        def block(cross):
            parts = {"self": nn.ModuleDict(attention())}
            if cross:
                parts["cross"] = nn.ModuleDict(attention())
            return nn.ModuleDict({**parts, "scale": RmsNorm(width), "up": nn.Linear(width, hidden, bias=False),
                                  "down": nn.Linear(hidden, width, bias=False)})
        self.encoder = nn.ModuleList(block(False) for _ in range(depth))
        self.decoder = nn.ModuleList(block(True) for _ in range(depth))
        self.encoder_scale, self.decoder_scale = RmsNorm(width), RmsNorm(width)
        self.head = nn.Linear(width, 64, bias=False)

    def attend(self, layer, x, memory, bias):
        def split(y):
            return y.view(y.shape[0], y.shape[1], self.heads, self.size).transpose(1, 2)
        query, key, value = split(layer["query"](x)), split(layer["key"](memory)), split(layer["value"](memory))
        scores = query @ key.transpose(-1, -2)
        weights = torch.softmax(scores if bias is None else scores + bias, -1)
        context = (weights @ value).transpose(1, 2).reshape(x.shape[0], -1, self.heads * self.size)
        return layer["out"](context)

    def positions(self, length, causal):
        distance = torch.arange(length)[None] - torch.arange(length)[:, None]
        bias = self.bias(distance.clamp(-self.buckets, self.buckets) + self.buckets).permute(2, 0, 1)[None]
        return bias + torch.where(distance > 0, torch.tensor(-1e4), torch.tensor(0.0)) if causal else bias

    def run(self, blocks, x, memory, bias):
        for block in blocks:
            normed = block["self"]["scale"](x)
            x = x + self.attend(block["self"], normed, normed, bias)
            if memory is not None:
                x = x + self.attend(block["cross"], block["cross"]["scale"](x), memory, None)
            x = x + block["down"](functional.relu(block["up"](block["scale"](x))))
        return x

    def forward(self, input_ids, decoder_input_ids):
        x = self.run(self.encoder, self.words(input_ids), None, self.positions(input_ids.shape[1], False))
        y = self.run(self.decoder, self.words(decoder_input_ids), self.encoder_scale(x),
                     self.positions(decoder_input_ids.shape[1], True))
        return self.head(self.decoder_scale(y))


class RmsNorm(nn.Module):
    """Root mean square normalisation over the last axis."""

    def __init__(self, width):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))

    def forward(self, x):
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-6))


def t5():
    """A T5-like encoder and decoder with cross attention."""
    return Traced(T5(), {"input_ids": torch.randint(0, 64, (BATCH, 9)), "decoder_input_ids": torch.randint(0, 64, (BATCH, 6))},
                  axes={"input_ids": {0: "batch", 1: "sequence"}, "decoder_input_ids": {0: "batch", 1: "decoded"}},
                  output_axes={0: "batch", 1: "decoded"})


NETWORKS = (lstm_tagger, gru_tagger, rnn_tagger, bert, gpt2, gpt2_cached, llama, llama_cached, t5)
