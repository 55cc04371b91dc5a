"""Loops of hooks in transformers that compute everything anew each step, and what is written beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from doubles import Change, Point, double, put
from small import small_gpt2
from torch import Tensor

import scrub
from scrub.data.examples import PROMPTS, Examples
from scrub.measure.generation.generation import Generation
from scrub.measure.generation.writing import STRETCH
from scrub.models.model import make_model
from scrub.study.settings import Settings

LAYERS, HEADS, D_HEAD, CONTEXT, VOCAB, STEPS = 2, 3, 5, 41, 13, 19
EXACT = Settings(dtype="float64", device="cpu", progress=False)
OURS = small_gpt2(LAYERS, seed=3, n_heads=HEADS, d_head=D_HEAD, d_model=HEADS * D_HEAD, n_ctx=CONTEXT, vocab_size=VOCAB)
MODEL, THEIRS = make_model("random", OURS.config, OURS.params), double(OURS)
RNG = np.random.default_rng(5)
LENGTHS = np.array([7, 5, 7, 5, 6, 6, 7])
ROWS, S2 = len(LENGTHS), np.array([3, 2, 5, 4, 1, 3, 6])
CLEAN, OTHER = RNG.integers(VOCAB, size=(2, ROWS, LENGTHS.max() + 1))
PAIRS = Examples(
    CLEAN, np.arange(7)[None] == LENGTHS[:, None] - 1, PROMPTS, "made", other=OTHER, lengths=LENGTHS,
    other_lengths=LENGTHS, positions={"S2": S2}, texts=("clean",) * ROWS, other_texts=("corrupted",) * ROWS,
)  # fmt: skip
ALONE = replace(PAIRS, other=None, other_lengths=None, other_texts=())
READ = int(LENGTHS.max()) + STEPS - 1
ARRAYS = {"mine": RNG.normal(size=(READ, HEADS * D_HEAD)), "seen": np.tril(RNG.random((READ, READ)))}
Changes = Mapping[Point, Change]
Made = Callable[[int, int], Changes]  # of a row that has so many tokens by now
assert int(LENGTHS.max()) + STRETCH < READ, "rows grow more than once"


def loop(
    change: Made,
    choose: Callable[[Tensor, int, int], int] = lambda logits, *_: int(logits.argmax()),
    steps: int = STEPS,
) -> Any:
    """Write behind each prompt, with hooks in every pass over all that is there."""
    found = []
    for row in range(ROWS):
        tokens = CLEAN[row, : LENGTHS[row]].tolist()
        for step in range(steps):
            seen = THEIRS.run(torch.tensor([tokens]), change(row, len(tokens)))
            tokens.append(choose(seen.logits[0, -1], row, step))
        found.append(tokens[LENGTHS[row] :])
    return np.array(found)


def zero(where: list[int] | slice = slice(None), at: Callable[[int], range] | None = None) -> Callable[..., Change]:
    """Zeros in some columns, at some positions of a row; everywhere if nothing is said."""

    def change(row: int, length: int) -> Change:
        rows = slice(None) if at is None else [each for each in at(row) if each < length]
        return put(torch.zeros(()).double(), where, rows)

    return change


def of_other(point: Point, where: list[int] | slice, at: Callable[[int], range], other: np.ndarray = OTHER) -> Made:
    """What stands there on the other prompt, at some positions of the prompt."""

    def change(row: int, length: int) -> Changes:
        theirs = THEIRS.run(torch.from_numpy(other[row : row + 1, : LENGTHS[row]])).at[point]
        behind = torch.zeros(1, length - LENGTHS[row], theirs.shape[-1]).double()
        return {point: put(torch.cat([theirs, behind], 1), where, list(at(row)))}

    return change


def whole(row: int) -> range:
    return range(int(LENGTHS[row]))


def mean_of(point: Point, where: list[int] | slice) -> Made:
    """Its mean over all prompts that have that position, at the prompt's positions."""
    every = [THEIRS.run(torch.from_numpy(CLEAN[row : row + 1, : LENGTHS[row]])).at[point][0] for row in range(ROWS)]
    means = torch.stack([torch.stack([e[at] for e in every if len(e) > at]).mean(0) for at in range(LENGTHS.max())])

    def change(row: int, length: int) -> Changes:
        padded = torch.zeros(1, length, means.shape[-1]).double()
        padded[0, : LENGTHS[row]] = means[: LENGTHS[row]]
        return {point: put(padded, where, list(whole(row)))}

    return change


def attending(layer: int, head: int, pattern: Callable[[int], Tensor]) -> Made:
    """One head attends by a pattern; every other head and MLP is zero."""
    own, others = THEIRS.columns(head), [c for h in range(HEADS) if h != head for c in THEIRS.columns(h)]
    values: list[Tensor] = []

    def keep(qkv: Tensor) -> Tensor:
        values[:] = [qkv[..., THEIRS.columns(head, "v")]]
        return qkv

    def forced(z: Tensor) -> Tensor:
        z = put(torch.zeros(()).double(), others)(z)
        z[..., own] = pattern(z.shape[1]) @ values[0]
        return z

    def change(row: int, length: int) -> Changes:
        changes: dict[Point, Change] = {("mlp", each): zero()(row, length) for each in range(LAYERS)}
        changes |= {("z", each): zero()(row, length) for each in range(LAYERS) if each != layer}
        return changes | {("qkv", layer): keep, ("z", layer): forced}

    return change


def lag(back: int) -> Callable[[int], Tensor]:
    """Attention to the position so many back, or the first where there is none."""
    return lambda length: torch.eye(length).double()[(torch.arange(length) - back).clamp(min=0)]


def both(*points: tuple[Point, Callable[..., Change]]) -> Made:
    return lambda row, length: {point: change(row, length) for point, change in points}


def mine(_row: int, length: int) -> Changes:
    return {("mlp", 0): put(torch.from_numpy(ARRAYS["mine"][None, :length]))}


CASES: dict[str, tuple[dict[str, Any], Made]] = {
    "a layer": ({"what": "a1"}, both((("z", 1), zero()))),
    "a head and an MLP": ({"what": "a0.1+m1"}, both((("z", 0), zero(THEIRS.columns(1))), (("mlp", 1), zero()))),
    "positions that are written": ({"what": "a1@6..9"}, both((("z", 1), zero(at=lambda _: range(6, 10))))),
    "names are the prompt's": (
        {"what": "a1", "positions": "S2..end"},
        both((("z", 1), zero(at=lambda row: range(int(S2[row]), int(LENGTHS[row]))))),
    ),
    "all but a head": (
        {"what": "a0.2", "only": True},
        both(
            (("z", 0), zero([*THEIRS.columns(0), *THEIRS.columns(1)])),
            (("z", 1), zero()),
            (("mlp", 0), zero()),
            (("mlp", 1), zero()),
        ),
    ),
    "a lag alone": ({"attend": {"a0.1": "lag 2"}, "only": True}, attending(0, 1, lag(2))),
    "a pattern of mine alone": (
        {"attend": {"a0.1": "array seen"}, "only": True, "arrays": {"seen": ARRAYS["seen"]}},
        attending(0, 1, lambda length: torch.from_numpy(ARRAYS["seen"][:length, :length])),
    ),
    "an array": ({"what": "m0", "how": "array mine", "arrays": {"mine": ARRAYS["mine"]}}, mine),
    "a mean": ({"what": "m0", "how": "mean"}, mean_of(("mlp", 0), slice(None))),
    "resampled": ({"what": "a0", "how": "resample"}, of_other(("z", 0), slice(None), whole)),
    "patched": ({"patch": "m0"}, of_other(("mlp", 0), slice(None), whole)),
    "a head patched at a name": (
        {"patch": "a0.2@S2"},
        of_other(("z", 0), THEIRS.columns(2), lambda row: range(int(S2[row]), int(S2[row]) + 1)),
    ),
    "a stream patched at the end": (
        {"patch": "stream 1@end"},
        of_other(("stream", 1), slice(None), lambda row: whole(row)[-1:]),
    ),
}


def written(on: Any = PAIRS, tokens: int = STEPS, settings: Settings = EXACT, **how: Any) -> Generation:
    return scrub.generate(MODEL, on, tokens, stop=False, settings=settings, **how)


UNCHANGED = loop(lambda *_: {})
