"""Where the parameters of a graph are among the tensors of a checkpoint, and how they are turned."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from einops import rearrange
from torch import Tensor

from scrub.models.checkpoints.checks import asks, read_values
from scrub.models.checkpoints.stored import StoredTensor
from scrub.text.errors import ScrubError
from scrub.text.files import shown

# of masks and frequencies, which old versions of transformers save
BUFFERS = re.compile(r".*\.(attn|attention)\.(bias|masked_bias)|.*rotary_emb\.(inv_freq|cos_cached|sin_cached)")
EXACT = (torch.float32, torch.float64)


class Source(Protocol):
    """What a parameter is read from."""

    def read(self, stored: Mapping[str, StoredTensor], dtype: torch.dtype) -> Tensor:
        """Read the values in `dtype`. Raises ScrubError as :func:`read_values` does."""


@dataclass(frozen=True)
class From:
    """The tensor that a parameter is read from, its shape there, and what is done to it.

    `turn` changes axes; the values are multiplied by `times`, and `plus` is added. `seen` is the view of them that is
    taken, which leaves them in memory as they are.
    """

    name: str
    shape: tuple[int, ...]
    turn: Callable[[Tensor], Tensor] = lambda value: value
    times: float = 1.0
    plus: float = 0.0
    seen: Callable[[Tensor], Tensor] = lambda value: value

    def read(self, stored: Mapping[str, StoredTensor], dtype: torch.dtype) -> Tensor:
        """Read the values in `dtype`. Raises ScrubError as :func:`read_values` does."""
        same = self.times == 1 and not self.plus
        value = read_values(stored[self.name], dtype if same or dtype in EXACT else torch.float32, self.turn)
        return self.seen(value if same else value.mul_(self.times).add_(self.plus).to(dtype))


@dataclass(frozen=True)
class Filled:
    """A parameter that no tensor holds: a norm without weights has ones."""

    shape: tuple[int, ...]
    value: float

    def read(self, stored: Mapping[str, StoredTensor], dtype: torch.dtype) -> Tensor:
        """Make it."""
        del stored
        return torch.full(self.shape, self.value, dtype=dtype)


Sources = Mapping[str, Source]


@dataclass(frozen=True)
class Third:
    """Takes q, k or v of each head (0, 1, 2), which stand in one tensor; `pattern` puts parts and heads in front."""

    pattern: str
    number: int
    heads: int

    def __call__(self, value: Tensor) -> Tensor:
        """Take them."""
        parts: Tensor = rearrange(value, self.pattern, h=self.heads, part=3)
        return parts[self.number]


def projected(
    ours: str, name: str, slot: str, sizes: tuple[int, int, int], times: float = 1.0, neighbours: int = 0
) -> dict[str, From]:
    """Find the weight and the bias of a slot of a layer: of heads side by side.

    `sizes` are the number of heads, their width and that of the model. So many of a head's first dimensions are turned
    with their `neighbours` there: in ours, one of the first half with one of the second.
    """
    count, d_head, d_model = sizes

    def turn(value: Tensor) -> Tensor:
        by_head: Tensor = rearrange(value, "(h d) ... -> h d ...", h=count)
        if not neighbours:
            return by_head
        return torch.cat([by_head[:, :neighbours:2], by_head[:, 1:neighbours:2], by_head[:, neighbours:]], dim=1)

    return {
        f"{ours}.w{slot}": From(f"{name}.weight", (count * d_head, d_model), turn, times),
        f"{ours}.b{slot}": From(f"{name}.bias", (count * d_head,), turn, times),
    }


def written(ours: str, name: str, sizes: tuple[int, int, int]) -> dict[str, From]:
    """Find the weight and the bias of what heads, side by side, write."""
    count, d_head, d_model = sizes
    shape = (d_model, count * d_head)
    return {
        f"{ours}.wo": From(f"{name}.weight", shape, seen=lambda value: rearrange(value, "m (h d) -> h m d", h=count)),
        f"{ours}.bo": From(f"{name}.bias", (d_model,)),
    }


def norm(ours: str, name: str, d_model: int, plus: float = 0.0) -> dict[str, From]:
    """Find the weight and the bias of a norm."""
    return {
        f"{ours}.weight": From(f"{name}.weight", (d_model,), plus=plus),
        f"{ours}.bias": From(f"{name}.bias", (d_model,)),
    }


def linear(ours: str, which: str, name: str, shape: tuple[int, int]) -> dict[str, From]:
    """Find the weight and the bias of a matrix of an MLP, [out, in]."""
    return {
        f"{ours}.w_{which}": From(f"{name}.weight", shape),
        f"{ours}.b_{which}": From(f"{name}.bias", shape[:1]),
    }


def ends(embedding: str, head: str, vocab_size: int, d_model: int) -> dict[str, From]:
    """Find the embedding, and the weight and the bias of the unembedding."""
    return {
        "embed.weight": From(f"{embedding}.weight", (vocab_size, d_model)),
        "unembed.weight": From(f"{head}.weight", (vocab_size, d_model)),
        "unembed.bias": From(f"{head}.bias", (vocab_size,)),
    }


def without_prefix(name: str, prefix: str, stored: Mapping[str, StoredTensor]) -> str:
    """Drop what the model with a head on top puts in front: a file of the model alone has no such prefix."""
    without = name.removeprefix(prefix)
    return name if without in stored else without  # a file with both names is refused


def check_tied(stored: Mapping[str, StoredTensor], embedding: str, head: str) -> None:
    """Raise ScrubError if an unembedding is there that differs from the embedding, which is said to be the same."""
    if head in stored and not stored[head].read().equal(stored[embedding].read()):
        where = stored[head].path
        raise ScrubError(
            f"{shown(where)}: {head} differs from {stored[embedding].name}, but {asks(where)} says that they are "
            "tied: set tie_word_embeddings to false if the model has both"
        )


def read_params(sources: Sources, stored: Mapping[str, StoredTensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """Read the parameters of a graph by name."""
    return {name: each.read(stored, dtype) for name, each in sources.items()}
