"""Parity: whether a model computes here what it computes in transformers, and where the two part.

Compared are the residual stream in front of each layer and the final one, every attention pattern, and the logits. A
deviation is relative to the largest absolute value of transformers' at its position, where that is above 1: what is
large is rounded more.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from scrub.data.examples import Examples
from scrub.data.for_model import check_on, examples_of
from scrub.graph.node import Node
from scrub.measure.heads.attention import pattern_nodes
from scrub.measure.heads.reading import Anatomy
from scrub.measure.parity.twin import Twin, TwinRun, library, read_twin
from scrub.models.memory import unwrapped
from scrub.models.model import Model, Spec, as_model, load_model
from scrub.study.read import read
from scrub.study.settings import TF32, Settings, obeyed
from scrub.text.errors import GateError, ScrubError
from scrub.text.fields import check_arguments
from scrub.text.frames import json_text, plain
from scrub.text.looks import TabularResult
from scrub.text.progress import bar_of
from scrub.text.wording import dtype_name, few

SEQUENCES, CONTEXT = 4, 64  # that are compared by default
OBEYED = ("seed", "device", "dtype", "progress")
DRAWN = ("sequences", "context")  # what is said of tokens that are drawn
# the largest relative deviation that is rounding, by the narrowest type that transformers computes in
TOLERANCE = {torch.float64: 1e-9, torch.float32: 1e-4, torch.float16: 0.02, torch.bfloat16: 0.15}
# in 16 bits a value may also be so many times as far as transformers' own is from what that is in float32: rounding
# grows with the depth and the weights, and transformers computes norms, positions and softmax in float32 there
ROUNDINGS = 8
HALF = (torch.float16, torch.bfloat16)
OUT = "out"


@dataclass(frozen=True)
class Apart:
    """How far a value is from transformers', at every position: the largest deviation there, absolute and relative.

    What has no heads has one here.
    """

    absolute: Float[np.ndarray, "sequence head position"]
    relative: Float[np.ndarray, "sequence head position"]

    def largest(self, head: int) -> tuple[float, float, int, int]:
        """Find a head's largest absolute and relative deviation, and the sequence and position of the latter."""
        here = self.relative[:, head]
        sequence, position = np.unravel_index(int(here.argmax()), here.shape)  # of what is no number, the first
        return float(self.absolute[:, head].max()), float(here.max()), int(sequence), int(position)


@dataclass(frozen=True)
class Deviation:
    """The largest deviation of one value, such as stream 2 or a1.3/pattern: `made_by` is what computes it.

    `allowed` is how large `relative` may be.
    """

    value: str
    made_by: str
    absolute: float
    relative: float
    sequence: int
    position: int
    allowed: float
    within: bool

    @property
    def rank(self) -> float:
        """What deviations are ordered by: what is no number is the worst."""
        return math.inf if math.isnan(self.relative) else self.relative


@dataclass(frozen=True, repr=False)
class Parity(TabularResult):
    """How far a model is from its twin in transformers: `parity("gpt2-mini").frame()`.

    `apart` has every value in the order in which they are computed: "stream 0", "pattern 0", "stream 1", ..., "out".
    `tolerance` is the largest relative deviation that rounding explains, in `computes_in`: the narrowest type that
    transformers computes in, which may be narrower than the model's. In 16 bits `lost` says how far transformers' own
    values are from those that it computes in float32, and ROUNDINGS times that is allowed too.
    """

    model: Model
    twin: str
    version: str
    tokens: Int[np.ndarray, "sequence position"]
    on: str
    apart: Mapping[str, Apart]
    computes_in: str
    tolerance: float
    seed: int = 0
    lost: Mapping[str, float] = field(default_factory=dict)

    def deviations(self) -> Iterator[Deviation]:
        """Give the largest deviation of every stream, of the pattern of every head, and of the logits, in order."""
        for site, apart in self.apart.items():
            allowed = max(self.tolerance, ROUNDINGS * self.lost.get(site, 0.0))
            for head in range(apart.relative.shape[1]):
                absolute, relative, sequence, position = apart.largest(head)
                within = relative <= allowed
                yield Deviation(*_named(site, head), absolute, relative, sequence, position, allowed, within)

    def frame(self) -> pd.DataFrame:
        """List every value with what makes it, its largest absolute and relative deviation, and where the latter is."""
        rows = [vars(each) for each in self.deviations()]
        return pd.DataFrame(rows).rename(columns={"made_by": "made by", "absolute": "deviation"})

    @property
    def begins(self) -> Deviation | None:
        """The first value that deviates by more than is allowed; of several heads the worst. None if none does."""
        first = self._beginning()
        return max(first, key=lambda each: each.rank) if first else None

    @property
    def within(self) -> bool:
        """Whether every value is as near as is allowed."""
        return self.begins is None

    @property
    def notes(self) -> list[str]:
        """What the comparison can't see: windows that are no shorter than its sequences, and the model's context is."""
        found = {each.arguments.get("window") for each in pattern_nodes(self.model.graph)}
        windows = sorted(each for each in found if isinstance(each, int))
        unseen = [each for each in windows if self.tokens.shape[1] <= each < self.model.n_ctx]
        if not unseen:
            return []
        enough = min(unseen[-1] + CONTEXT, self.model.n_ctx)
        return [
            f"windows of {few([f'{each:,}' for each in unseen])} positions weren't reached, so that a wrong one isn't "
            f"seen: --context {enough}"
        ]

    def check(self) -> None:
        """Raise GateError, which says where deviations begin, unless every value is within the tolerance."""
        worst = self.begins
        if worst is None:
            return
        others = [each.value for each in self._beginning() if each.value != worst.value]
        also = f"; so it is with {few(others)}" if others else ""
        size = "" if not worst.relative < worst.absolute else f" ({worst.relative:.1e} of the size there)"
        raise GateError(
            f"{self.model.called} isn't what transformers computes, from {worst.made_by} on: {worst.value} is up to "
            f"{worst.absolute:.1e}{size} apart, most at position {worst.position} of sequence {worst.sequence}, where "
            f"{worst.allowed:.2g} is allowed{also}"
        )

    def _beginning(self) -> list[Deviation]:
        """List all that deviate of the first stream, pattern or logits of which any does."""
        wrong = [each for each in self.deviations() if not each.within]
        kind = [each.value.rpartition("/")[2] for each in wrong]
        return [each for each, of in zip(wrong, kind, strict=True) if (each.made_by, of) == (wrong[0].made_by, kind[0])]

    def to_json(self) -> str:
        """Write every deviation, and what was compared."""
        count, positions = self.tokens.shape
        about = {
            "format": 1,
            **self.model.about,
            "twin": self.twin,
            "transformers": self.version,
            "dtype": dtype_name(self.model.dtype),
            "computes_in": self.computes_in,
            "on": self.on,
            "sequences": count,
            "context": positions,
            "seed": self.seed,
            "tolerance": self.tolerance,
            "within": self.within,
            "begins": plain(self.begins),
            "notes": self.notes,
        }
        return json_text({**about, "rows": self.frame()})


def _named(site: str, head: int) -> tuple[str, str]:
    """Name a value as paths do, and what makes it."""
    kind, _, number = site.partition(" ")
    if kind == OUT:
        return OUT, "the final norm or the unembedding"
    if kind == "pattern":
        return f"a{number}.{head}/pattern", f"layer {number}"
    return site, f"layer {int(number) - 1}" if int(number) else "the embedding"


@check_arguments
def parity(model: Spec, on: Examples | Any = None, settings: Settings | None = None) -> Parity:
    """Compare a model with what transformers computes of it: `parity("gpt2-mini").within`.

    `model` is what :func:`scrub.load_model` takes: of a folder or hub id, transformers reads the files that scrub read.
    A model of transformers in memory is itself what is compared with, in its own dtype and on its device, and is left
    as it was. It is compared on a few sequences of random tokens, or `on` some: token ids [sequence, position + 1], or
    examples. `parity(model).check()` raises GateError where a value deviates.
    Raises ScrubError if transformers isn't installed, doesn't have such a model, or gives no such values.
    """
    model = unwrapped(model)
    asked = obeyed(settings, "parity", OBEYED if on is not None else (*OBEYED, *DRAWN))
    if asked.dtype == TF32:
        raise ScrubError(
            "parity is of float32, float64 or bfloat16, since transformers has no TF32: take another dtype"
        )
    transformers = library()
    ours, theirs = _both(model, asked)
    tokens, called = _tokens(ours, on, asked)
    anatomy = Anatomy.of(ours.graph)
    twin = Twin.of(theirs, len(anatomy.layers))
    exact = twin.exact() if ours.dtype in HALF else None
    parts: dict[str, list[Apart]] = {}
    lost: dict[str, float] = {}
    with twin.ready(), exact.ready() if exact else nullcontext():
        for run, here, losing in _compared(ours, twin, exact, anatomy, tokens, asked.progress):
            exactness = _exactness(ours, run)
            for site, apart in here.items():
                parts.setdefault(site, []).append(apart)
            lost |= {site: max(lost.get(site, 0.0), size) for site, size in losing.items()}
    whole = {site: _joined(some) for site, some in parts.items()}
    about = dtype_name(exactness), TOLERANCE[exactness], asked.seed, lost
    return Parity(ours, twin.name, transformers.__version__, tokens, called, whole, *about)


def _both(spec: Spec, asked: Settings) -> tuple[Model, Any]:
    """Load a model here, and in transformers."""
    if not isinstance(spec, nn.Module):
        ours = as_model(spec, asked.torch_dtype).to(asked.torch_dtype, asked.where)
        return ours, read_twin(ours)
    some = next((each for each in spec.parameters() if each.is_floating_point()), None)
    if some is None:
        raise ScrubError(f"{type(spec).__name__} has no weights: give a model of transformers, such as GPT2LMHeadModel")
    own = {"dtype": {dtype_name(some.dtype)}, "device": {str(some.device), some.device.type}}
    for name in asked.given:
        if getattr(asked, name) not in own.get(name, {getattr(asked, name)}):
            raise ScrubError(f"a model in memory is compared as it is: leave {name} out, or move the model first")
    return load_model(spec, some.dtype, some.device), spec


def _tokens(model: Model, on: Examples | Any, asked: Settings) -> tuple[Int[np.ndarray, "sequence position"], str]:
    """Take the sequences that are given, or draw some; and say what they are. Raises ScrubError if they don't fit."""
    if on is not None:
        examples = examples_of(on)
        check_on(examples, model)
        return examples.inputs, examples.heading
    context = asked.context or min(CONTEXT, model.n_ctx)
    if context > model.n_ctx:
        raise ScrubError(f"{model.name} reads at most {model.n_ctx} tokens, not {context}: ask for a shorter context")
    shape = (asked.sequences or SEQUENCES, context)
    tokens = np.random.default_rng(asked.seed).integers(model.vocab_size, size=shape)
    return tokens, f"{shape[0]:,} sequences of {context} random tokens, seed {asked.seed}"


def _compared(
    model: Model,
    twin: Twin,
    exact: Twin | None,
    anatomy: Anatomy,
    tokens: Int[np.ndarray, "sequence position"],
    progress: bool,
) -> Iterator[tuple[TwinRun, dict[str, Apart], dict[str, float]]]:
    """Run both on some sequences after others: what transformers gives, and how far every value is from it.

    With an `exact` twin, also how far transformers' is from that.
    """
    sites = _sites(model, anatomy)
    padded = np.pad(tokens, ((0, 0), (0, 1)))  # behind each sequence the token that it predicts, which nobody reads
    start = 0
    with bar_of("sequences", progress) as bar:
        task = bar.add_task(f"beside {twin.name}", total=len(tokens))
        for rows, ours in read(model, sites, padded):
            here = torch.from_numpy(tokens[start : start + len(rows)]).to(model.device)
            start += len(rows)
            run = twin.run(here)
            theirs, right = _values(run), _values(exact.run(here)) if exact else {}
            lost = {
                site: float(_apart(model, site, theirs[site], value).relative.max()) for site, value in right.items()
            }
            yield run, {site: _apart(model, site, ours[site], value) for site, value in theirs.items()}, lost
            bar.advance(task, len(rows))


def _exactness(model: Model, run: TwinRun) -> torch.dtype:
    """Say which type's rounding explains deviations: the model's, or what transformers casts float64 to.

    Below float64 a cast excuses nothing: a type of half the width would hide what is wrong.
    """
    return run.computes_in if model.dtype == torch.float64 else model.dtype


def _sites(model: Model, anatomy: Anatomy) -> dict[str, Node]:
    """Name the nodes that are compared."""
    streams = {f"stream {at}": each for at, each in enumerate(anatomy.streams)}
    patterns = {f"pattern {at}": each for at, each in enumerate(pattern_nodes(model.graph))}
    return {**streams, **patterns, OUT: model.graph}


def _values(run: TwinRun) -> dict[str, Tensor]:
    """Name what transformers gives in the same way, in the order in which it is computed."""
    found: dict[str, Tensor] = {}
    for at, stream in enumerate(run.streams):
        found[f"stream {at}"] = stream
        found |= {f"pattern {at}": run.patterns[at]} if at < len(run.patterns) else {}
    return {**found, OUT: run.logits}


def _apart(model: Model, site: str, ours: Tensor, theirs: Tensor) -> Apart:
    """Compare one value. Raises GateError if the two have different shapes."""
    if ours.shape != theirs.shape:
        raise GateError(
            f"{site} of {model.called} is {list(ours.shape)}, and {list(theirs.shape)} in transformers: "
            "they are different models"
        )
    theirs = theirs.to(ours.device, torch.float64)
    absolute = (ours.double() - theirs).abs().amax(-1)
    relative = absolute / theirs.abs().amax(-1).clamp(min=1)
    with_heads = [each if each.ndim == 3 else each[:, None] for each in (absolute, relative)]
    return Apart(*(each.cpu().numpy() for each in with_heads))


def _joined(parts: Sequence[Apart]) -> Apart:
    return Apart(*(np.concatenate([getattr(each, name) for each in parts]) for name in ("absolute", "relative")))
