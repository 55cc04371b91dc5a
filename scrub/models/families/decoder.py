"""Decoders: the transformer of nearly all language models, with the settings by which they differ; and encoders.

An encoder is a decoder whose attention isn't `causal`. Keys that are pads may be masked in it: `mask` is then a slot of
attention beside q, k and v, which reads the tokens themselves. What it predicts may be classes.

Its parts are a norm (LayerNorm or RMSNorm; in front of what reads the residual stream, behind what is written into it,
or both), positions (none, learned, in front of q and k of every layer, or rotary), attention (grouped queries, norms of
q and k, capped scores, windows), and MLPs (plain or gated, one after attention or in parallel). What multiplies scores
besides 1 / sqrt(d_head) is a part of the queries' weights, and the 1 of a norm that multiplies by 1 + w of its weight.

The components are `emb`, `aL` and `mL` of every layer, and `out`. Norms are wires, those behind a layer's heads too:
such a norm reads the sum of the heads. Position embeddings are constants, and so are the biases of attention's output,
which belong to no head: they are part of the wires.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from scrub.graph.node import Node, node
from scrub.models.families import TransformerConfig
from scrub.paths.pattern import MASK
from scrub.paths.sources import X

NAME = "decoder"

Norm = Literal["layer", "rms", "none"]
Positions = Literal["none", "learned", "shortformer"]
Activation = Literal["gelu_tanh", "gelu", "relu", "silu"]
Bias = Literal["q", "k", "v", "o", "mlp", "unembed"]


class Rotary(BaseModel):
    """Rotary positions: how many dimensions of a head turn, and how fast; see :func:`scrub.graph.attention.rotary`."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False, extra="forbid")

    width: int = Field(ge=2, multiple_of=2)
    base: float = Field(gt=0)
    scaling: tuple[float, float, float, float] | float | None = None

    @model_validator(mode="after")
    def _scales(self) -> Rotary:
        if self.scaling is None:
            return self
        factor, low, high, original = self.scaling if isinstance(self.scaling, tuple) else (self.scaling, 0, 1, 1)
        if not (factor > 0 and 0 <= low < high and original > 0):
            raise ValueError(
                f"rotary positions are scaled by {self.scaling}: a factor, and how many positions a model was trained "
                "on, are above 0, and the low frequency factor is less than the high one"
            )
        return self


class Config(TransformerConfig):
    """The shape of a decoder, besides what is said of every transformer.

    `rotary` and `windows` are those of the first layers, and again of the next ones: one entry holds for all.
    """

    n_kv_heads: int = Field(ge=1)
    d_mlp: int | None = Field(ge=1)  # None: no MLPs
    norm: Norm
    norms: Literal["before", "after", "both"] = "before"  # of what a layer's heads or MLP read, or write
    positions: Positions = "none"  # besides rotary ones
    rotary: tuple[Rotary | None, ...] = Field(default=(None,), min_length=1)
    windows: tuple[int | None, ...] = Field(default=(None,), min_length=1)  # how many positions a query reaches
    biases: tuple[Bias, ...] = ()
    activation: Activation = "gelu_tanh"
    gated: bool = False
    parallel: bool = False  # heads and MLP of a layer read the same residual stream
    one_norm: bool = False  # and through the same norm
    qk_norm: Literal["head", "all"] | None = None  # an RMSNorm of each head's queries and keys, or of all heads'
    score_cap: float | None = Field(default=None, gt=0)
    logit_cap: float | None = Field(default=None, gt=0)
    embed_scale: float = 1.0
    tied: bool = False  # the unembedding is the token embedding
    causal: bool = True  # a query reads no later position
    pad_token_id: int | None = None  # a key that is this token is masked, unless it is causal: then it is as any
    n_classes: int | None = Field(default=None, ge=2)  # what its outputs are, if they are no tokens

    @model_validator(mode="after")
    def _fits(self) -> Config:
        if self.n_heads % self.n_kv_heads:
            raise ValueError(f"n_heads {self.n_heads} can't share n_kv_heads {self.n_kv_heads}: no multiple of it")
        if wide := [each.width for each in self.rotary if each and each.width > self.d_head]:
            raise ValueError(f"rotary positions turn {wide[0]} dimensions, but a head has {self.d_head}")
        if any(window is not None and window < 1 for window in self.windows):
            raise ValueError(f"windows are {self.windows}: one holds at least 1 position")
        if self.norm == "none" and self.norms != "before":
            raise ValueError(f"norms are {self.norms!r}, but norm is 'none': there is none to stand there")
        if self.d_mlp is None and (without := [name for name in ("gated", "parallel") if getattr(self, name)]):
            raise ValueError(f"{without[0]} is true, but d_mlp is null: only MLPs are that")
        if self.one_norm and not (self.parallel and self.norms == "before"):
            raise ValueError("one_norm: only a parallel MLP can read what the heads read")
        if self.tied and self.n_classes is not None:
            raise ValueError(f"tied is true, but n_classes is {self.n_classes}: classes have no embedding")
        if not self.causal and any(window is not None for window in self.windows):
            raise ValueError(f"causal is false, but windows are {self.windows}: they end at the query's position")
        if self.masked is not None and not 0 <= self.masked < self.vocab_size:
            raise ValueError(f"pad_token_id is {self.masked}, but tokens are 0 to {self.vocab_size - 1}")
        return self

    @property
    def masked(self) -> int | None:
        """The token that no query reads: what pads behind a text, in a causal model, need not be masked."""
        return None if self.causal else self.pad_token_id


def lower(config: Config) -> Node:
    """Make the graph of the model: logits [batch, position, vocab or class] from tokens [batch, position]."""
    c, outputs = config, config.n_classes or config.vocab_size
    table = param("embed.weight", c.vocab_size, c.d_model)
    stream = node("embed", node("tokens", source=X), table)
    stream = (stream if c.embed_scale == 1 else node("scale", stream, by=c.embed_scale)).labelled("emb")
    place = None
    if c.positions != "none":
        place = node("embed", node("position"), param("pos.weight", c.n_ctx, c.d_model))
    if place and c.positions == "learned":
        stream = node("add", stream, place)
    for layer in range(c.n_layers):
        stream = _layer(stream, place if c.positions == "shortformer" else None, layer, c)
    unembedding = table if c.tied else param("unembed.weight", outputs, c.d_model)
    logits = node("unembed", _normed(stream, "final_ln", c), unembedding)
    if "unembed" in c.biases:
        logits = node("add_bias", logits, param("unembed.bias", outputs))
    if c.logit_cap is not None:
        logits = node("soft_cap", logits, cap=c.logit_cap)
    return logits.labelled("out")


def param(name: str, *shape: int) -> Node:
    """Make the node of a parameter."""
    return node("param", name=name, shape=shape)


def _layer(stream: Node, place: Node | None, layer: int, c: Config) -> Node:
    """Add what the heads and the MLP of a layer write to the residual stream."""
    name, before = f"layers.{layer}", c.norms != "after"
    first = f"{name}.ln1" if c.d_mlp else f"{name}.ln"
    read = _normed(stream, first, c) if before else stream
    at = read if place is None else node("add", read, place)
    written = _attention(layer, {"q": at, "k": at, "v": read}, c)
    after = _added(stream, written, f"{name}.bo" if "o" in c.biases else None, f"{first}_post", c)
    if c.d_mlp is None:
        return after
    if not c.one_norm:
        into = stream if c.parallel else after
        read = _normed(into, f"{name}.ln2", c) if before else into
    return _added(after, _mlp(layer, read, c.d_mlp, c), None, f"{name}.ln2_post", c)


def _added(stream: Node, written: Node, bias: str | None, norm: str, c: Config) -> Node:
    """Add what was written, and its bias, to the stream, through a norm where one stands there."""
    if c.norms == "before":
        stream = node("add", stream, written)
        return stream if bias is None else node("add_bias", stream, param(bias, c.d_model))
    written = written if bias is None else node("add_bias", written, param(bias, c.d_model))
    return node("add", stream, _normed(written, norm, c))


def _normed(x: Node, name: str, c: Config) -> Node:
    """Make a norm with the parameters NAME.weight and, of a LayerNorm, NAME.bias [d_model]."""
    if c.norm == "none":
        return x
    weight = param(f"{name}.weight", c.d_model)
    if c.norm == "rms":
        return node("rms_norm", x, weight, eps=c.layer_norm_eps)
    return node("layer_norm", x, weight, param(f"{name}.bias", c.d_model), eps=c.layer_norm_eps)


def _attention(layer: int, into: Mapping[str, Node], c: Config) -> Node:
    """Make the heads `aL` of a layer, which read `into` their slots q, k and v."""
    rotary, window = c.rotary[layer % len(c.rotary)], c.windows[layer % len(c.windows)]
    q, k, v = (_slot(layer, slot, into[slot], rotary, c) for slot in "qkv")
    limits = {"window": window, "cap": c.score_cap, "causal": None if c.causal else False}
    said = {name: value for name, value in limits.items() if value is not None}
    pattern = node("attention_pattern", q, k, node("position"), *_masked(c), label=None, **said)
    z = node("attend", pattern, v)
    return node("output", z, param(f"layers.{layer}.wo", c.n_heads, c.d_model, c.d_head), label=f"a{layer}")


def _masked(c: Config) -> list[Node]:
    """Make what a mask of pads gives attention: a score of each key. It reads no component, but the tokens."""
    if c.masked is None:
        return []
    scores = node("masked_scores", param("embed.weight", c.vocab_size, c.d_model), pad=c.masked)
    return [node("embed", node("tokens", source=X), scores, label=MASK)]


def _slot(layer: int, slot: str, into: Node, rotary: Rotary | None, c: Config) -> Node:
    """Make what a slot gives attention: a query, key or value of each query head."""
    name, heads = f"layers.{layer}", c.n_heads if slot == "q" else c.n_kv_heads

    def of_heads(stored: Node) -> Node:
        return stored if heads == c.n_heads else node("repeat_kv", stored, times=c.n_heads // heads)

    stored = [param(f"{name}.w{slot}", heads, c.d_head, c.d_model)]
    stored += [param(f"{name}.b{slot}", heads, c.d_head)] if slot in c.biases else []
    made = node("project", into, *map(of_heads, stored))
    if slot != "v" and c.qk_norm == "head":
        made = node("rms_norm", made, param(f"{name}.{slot}_norm.weight", c.d_head), eps=c.layer_norm_eps)
    elif slot != "v" and c.qk_norm == "all":
        scale = node("heads_scale", node("project", into, *stored), eps=c.layer_norm_eps)
        made = node("scale_heads", made, of_heads(param(f"{name}.{slot}_norm.weight", heads, c.d_head)), scale)
    if slot != "v" and rotary is not None:
        said = {} if rotary.scaling is None else {"scaling": rotary.scaling}
        made = node(
            "rotate", made, node("rotary", node("position"), width=rotary.width, base=rotary.base, label=None, **said)
        )
    return made.labelled(slot)


def _mlp(layer: int, read: Node, width: int, c: Config) -> Node:
    """Make the MLP `mL` of a layer."""
    name = f"layers.{layer}"

    def linear(x: Node, which: str, *shape: int) -> Node:
        bias = [param(f"{name}.b_{which}", shape[0])] if "mlp" in c.biases else []
        return node("linear", x, param(f"{name}.w_{which}", *shape), *bias)

    mid = node("activate", linear(read, "gate" if c.gated else "in", width, c.d_model), kind=c.activation)
    if c.gated:
        mid = node("multiply", mid, linear(read, "in", width, c.d_model))
    return linear(mid, "out", c.d_model, width).labelled(f"m{layer}")
