"""A decoder in plain torch, head by head, that keeps apart what each component adds to the residual stream.

Written from the papers, in float64 and for short sequences: nothing of scrub's graphs, operations or plans is in it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional

from scrub.models.families.decoder import Config, Rotary

ACTIVATIONS = {
    "gelu": functional.gelu,
    "gelu_tanh": lambda x: functional.gelu(x, approximate="tanh"),
    "silu": functional.silu,
}
REST = "rest"  # what is added to the stream by no component


@dataclass
class Plain:
    """Run of a decoder on tokens. `parts` is what each head, MLP and the embedding adds to the stream, by name."""

    c: Config
    params: Mapping[str, Tensor]
    tokens: Tensor
    parts: dict[str, Tensor] = field(default_factory=dict)
    streams: list[Tensor] = field(default_factory=list)  # in front of each layer, and the final one
    inside: dict[str, Tensor] = field(default_factory=dict)  # patterns of heads, in and mid of MLPs

    def __post_init__(self) -> None:
        c, p = self.c, self.params
        count = self.tokens.shape[1]
        self.parts["emb"] = p["embed.weight"][self.tokens] * c.embed_scale
        self.parts[REST] = torch.zeros_like(self.parts["emb"])
        if c.positions == "learned":
            self.parts[REST] = self.parts[REST] + p["pos.weight"][:count]
        for layer in range(c.n_layers):
            self.streams.append(self.stream)
            ln = "ln1" if c.d_mlp else "ln"
            read = self.before(f"layers.{layer}.{ln}", self.stream)
            heads = {f"a{layer}.{head}": self.head(layer, head, read) for head in range(c.n_heads)}
            mlp_reads = self.before(f"layers.{layer}.ln2", self.stream) if c.parallel and not c.one_norm else read
            self.written(f"layers.{layer}.{ln}_post", heads, p.get(f"layers.{layer}.bo"))
            if c.d_mlp:
                if not c.parallel:
                    mlp_reads = self.before(f"layers.{layer}.ln2", self.stream)
                self.written(f"layers.{layer}.ln2_post", {f"m{layer}": self.mlp(layer, mlp_reads)}, None)
        self.streams.append(self.stream)

    @property
    def stream(self) -> Tensor:
        return torch.stack(list(self.parts.values())).sum(0)

    def added(self) -> dict[str, Tensor]:
        """What each part adds to the logits before a cap, with the final norm as it is."""
        found = {name: self.through("final_ln", part, self.stream) @ self.table.T for name, part in self.parts.items()}
        bias = self.params.get("final_ln.bias", torch.zeros(self.c.d_model, dtype=torch.float64)) @ self.table.T
        found[REST] = found[REST] + bias + self.params.get("unembed.bias", 0)
        return found

    @property
    def table(self) -> Tensor:
        return self.params["embed.weight" if self.c.tied else "unembed.weight"]

    def lens(self, stream: Tensor) -> Tensor:
        """The logits that a stream would give."""
        logits = self.norm("final_ln", stream) @ self.table.T + self.params.get("unembed.bias", 0)
        return self.capped(logits)

    def capped(self, logits: Tensor) -> Tensor:
        cap = self.c.logit_cap
        return logits if cap is None else cap * torch.tanh(logits / cap)

    def through(self, name: str, part: Tensor, whole: Tensor) -> Tensor:
        """Take a part of what a norm reads through it, without its bias."""
        if self.c.norm == "none":
            return part
        if self.c.norm == "layer":
            part, whole = (each - each.mean(-1, keepdim=True) for each in (part, whole))
        return (
            part / (whole.pow(2).mean(-1, keepdim=True) + self.c.layer_norm_eps).sqrt() * self.params[f"{name}.weight"]
        )

    def norm(self, name: str, x: Tensor) -> Tensor:
        return self.through(name, x, x) + self.params.get(f"{name}.bias", 0)

    def before(self, name: str, x: Tensor) -> Tensor:
        return x if self.c.norms == "after" else self.norm(name, x)

    def written(self, norm: str, parts: dict[str, Tensor], bias: Tensor | None) -> None:
        """Add parts, and a bias of no component, to the stream, through the norm behind the layer if there is one."""
        rest = torch.zeros_like(self.parts[REST]) + (0 if bias is None else bias)
        if self.c.norms == "before":
            self.parts |= parts
            self.parts[REST] = self.parts[REST] + rest
            return
        whole = torch.stack(list(parts.values())).sum(0) + rest
        self.parts |= {name: self.through(norm, part, whole) for name, part in parts.items()}
        self.parts[REST] = self.parts[REST] + self.through(norm, rest, whole) + self.params.get(f"{norm}.bias", 0)

    def mlp(self, layer: int, read: Tensor) -> Tensor:
        c, name = self.c, f"layers.{layer}"

        def linear(which: str, x: Tensor) -> Tensor:
            return x @ self.params[f"{name}.w_{which}"].T + self.params.get(f"{name}.b_{which}", 0)

        into = self.inside[f"m{layer}/in"] = linear("gate" if c.gated else "in", read)
        mid = ACTIVATIONS[c.activation](into)
        mid = self.inside[f"m{layer}/mid"] = mid * linear("in", read) if c.gated else mid
        return linear("out", mid)

    def head(self, layer: int, head: int, read: Tensor) -> Tensor:
        c, name, count = self.c, f"layers.{layer}", self.tokens.shape[1]
        shared = head // (c.n_heads // c.n_kv_heads)
        at = read + self.params["pos.weight"][:count] if c.positions == "shortformer" else read

        def projected(slot: str, x: Tensor) -> Tensor:  # [batch, position, head, d_head]
            made = torch.einsum("bpm,hdm->bphd", x, self.params[f"{name}.w{slot}"])
            return made + self.params.get(f"{name}.b{slot}", 0)

        q, k, v = (projected(slot, x) for slot, x in (("q", at), ("k", at), ("v", read)))
        if c.qk_norm:
            axes = (-1,) if c.qk_norm == "head" else (-2, -1)
            q, k = (x / (x.pow(2).mean(axes, keepdim=True) + c.layer_norm_eps).sqrt() for x in (q, k))
            q, k = q * self.params[f"{name}.q_norm.weight"], k * self.params[f"{name}.k_norm.weight"]
        q, k, v = q[:, :, head], k[:, :, shared], v[:, :, shared]
        if (rotary := c.rotary[layer % len(c.rotary)]) is not None:
            q, k = (turned(x, torch.arange(count), rotary) for x in (q, k))
        scores = q @ k.mT / math.sqrt(c.d_head)
        scores = scores if c.score_cap is None else c.score_cap * torch.tanh(scores / c.score_cap)
        window = c.windows[layer % len(c.windows)] or count
        for query in range(count):
            for key in range(count):
                if not query - window < key <= query:
                    scores[:, query, key] = -torch.inf
        pattern = self.inside[f"a{layer}.{head}/pattern"] = scores.softmax(-1)
        return pattern @ v @ self.params[f"{name}.wo"][head].T


def turned(x: Tensor, positions: Tensor, rotary: Rotary) -> Tensor:
    """Turn the first dimensions of [..., position, d_head], as complex numbers."""
    half = rotary.width // 2
    speeds = torch.tensor([speed(2 * i / rotary.width, rotary) for i in range(half)], dtype=torch.float64)
    numbers = torch.complex(x[..., :half], x[..., half : rotary.width])
    numbers = numbers * torch.exp(1j * positions[:, None] * speeds)
    return torch.cat([numbers.real, numbers.imag, x[..., rotary.width :]], -1)


def speed(exponent: float, rotary: Rotary) -> float:
    """Radians a position, scaled as Llama 3.1's code does, by wavelengths."""
    found = 1 / rotary.base**exponent
    if rotary.scaling is None:
        return found
    if isinstance(rotary.scaling, float):
        return found / rotary.scaling
    factor, low, high, original = rotary.scaling
    wavelength = 2 * math.pi / found
    if wavelength < original / high:
        return found
    if wavelength > original / low:
        return found / factor
    smooth = (original / wavelength - low) / (high - low)
    return (1 - smooth) * found / factor + smooth * found
