"""Interventions on a GPT-2 of transformers with plain torch hooks, and what they do to predictions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import torch
from gpt2_double import double
from small import Small, small_gpt2
from torch import Tensor, nn

from scrub.data.examples import Examples
from scrub.models.model import Model, make_model
from scrub.study.settings import Settings

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

if TYPE_CHECKING:
    from transformers import GPT2LMHeadModel

LAYERS, HEADS, D_HEAD, POSITIONS, SEQUENCES, VOCAB = 3, 3, 5, 7, 5, 13
EXACT = Settings(dtype="float64", device="cpu", progress=False, batch=2)
Point = tuple[str, int]  # what is changed, and in which layer
Change = Callable[[Tensor], Tensor]


@dataclass
class Run:
    """The logits, and what stood at every point: "stream" into a layer (the last: into ln_f), "qkv", "z", what "ln_2"
    reads, what the "mlp" writes."""

    logits: Tensor = field(default_factory=lambda: torch.empty(0))
    at: dict[Point, Tensor] = field(default_factory=dict)


class Hooked:
    """A random model, and the same one in transformers."""

    def __init__(self, seed: int = 1, ours: Small | None = None) -> None:
        shape = {"n_heads": HEADS, "d_head": D_HEAD, "d_model": HEADS * D_HEAD, "n_ctx": POSITIONS, "vocab_size": VOCAB}
        self.ours = ours or small_gpt2(LAYERS, seed, d_mlp=23, **shape)
        self.model: Model = make_model("random", self.ours.config, self.ours.params)

    @cached_property
    def theirs(self) -> GPT2LMHeadModel:
        """The one in transformers."""
        return double(self.ours)

    def run(self, tokens: Tensor, changes: Mapping[Point, Change] | None = None) -> Run:
        """A run on sequences of inputs, with what stands at some points changed."""
        run, handles, changes = Run(), [], changes or {}

        def at(point: Point, value: Tensor) -> Tensor:
            run.at[point] = changes[point](value.clone()) if point in changes else value
            return run.at[point]

        def before(module: nn.Module, point: Point) -> None:
            hook = module.register_forward_pre_hook(lambda _, args: (at(point, args[0]), *args[1:]))
            handles.append(hook)

        def after(module: nn.Module, point: Point) -> None:
            handles.append(module.register_forward_hook(lambda _, __, out: at(point, out)))

        body = self.theirs.transformer
        for layer, block in enumerate(body.h):
            before(block, ("stream", layer))
            after(block.attn.c_attn, ("qkv", layer))
            before(block.attn.c_proj, ("z", layer))
            before(block.ln_2, ("ln_2", layer))
            after(block.mlp, ("mlp", layer))
        before(body.ln_f, ("stream", LAYERS))
        try:
            with torch.no_grad():
                run.logits = self.theirs(tokens, use_cache=False).logits
        finally:
            for handle in handles:
                handle.remove()
        assert set(changes) <= set(run.at), "a hook was never called"
        return run

    def written(self, run: Run, layer: int, head: int) -> Tensor:
        """What a head writes into the residual stream."""
        weight = self.theirs.transformer.h[layer].attn.c_proj.weight.detach()
        return run.at["z", layer][..., columns(head)] @ weight[columns(head)]

    def read_by(self, layer: int, head: int, slot: str, stream: Tensor) -> Change:
        """One slot of a head reads another residual stream."""
        block = self.theirs.transformer.h[layer]
        with torch.no_grad():
            instead = block.attn.c_attn.forward(block.ln_1.forward(stream))  # not called: that would hook again
        return put(instead, columns(head, slot))


def columns(head: int, slot: str = "q") -> list[int]:
    """Where a head stands among all side by side: in z, or of a slot in what c_attn gives."""
    first = "qkv".index(slot) * HEADS * D_HEAD + head * D_HEAD
    return list(range(first, first + D_HEAD))


def put(other: Tensor, where: list[int] | slice = slice(None), positions: list[int] | slice = slice(None)) -> Change:
    """Something else stands in some columns, at some positions."""

    def change(value: Tensor) -> Tensor:
        inside = torch.zeros_like(value, dtype=torch.bool)
        inside[:, positions] = True
        kept = inside.clone()
        inside[:] = False
        inside[..., where] = True
        return torch.where(inside & kept, other.expand_as(value), value)

    return change


@dataclass(frozen=True)
class Read:
    """What is read of logits at the scored positions, those of one sequence after another."""

    loss: np.ndarray
    logit: np.ndarray
    mean_logit: np.ndarray

    @staticmethod
    def of(logits: Tensor, examples: Examples) -> Read:
        target = torch.from_numpy(examples.tokens[:, 1:])
        scored = torch.from_numpy(np.asarray(examples.scored))
        logit = logits.gather(-1, target[..., None])[..., 0]
        found = (logits.logsumexp(-1) - logit, logit, logits.mean(-1))
        return Read(*(each[scored].numpy() for each in found))


def tokens_of(seed: int, sequences: int = SEQUENCES) -> np.ndarray:
    """Random sequences, with a token more that is only predicted."""
    return np.random.default_rng(seed).integers(VOCAB, size=(sequences, POSITIONS + 1))


def examples_of(seed: int) -> Examples:
    """Random sequences of which some positions are scored: in one of them none, in one all."""
    rng = np.random.default_rng(seed + 100)
    scored = rng.random((SEQUENCES, POSITIONS)) < 0.5
    scored[1], scored[2] = False, True
    return Examples(tokens_of(seed), scored)
