"""Scores of every head that are read from the unchanged model, all that are asked for in one pass.

Nothing is intervened on: they say what heads look at and write, not what depends on them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Bool, Int
from torch import Tensor

from scrub.data.prompts.prompts import Prompts
from scrub.data.prompts.repeated import NOWHERE
from scrub.measure.heads.definitions import DEFINITIONS, Definition, definition, lag_of
from scrub.measure.heads.places import Places, Tokens
from scrub.measure.heads.reading import PATTERN, PREDICTION, READINGS, SCALE, Anatomy, LayerRun, Rows, Z, reading
from scrub.measure.heads.score import HeadScore
from scrub.models.model import Model
from scrub.plan.runner import Runner
from scrub.text.errors import ScrubError
from scrub.text.progress import batches_bar

AT_ONCE = 1 << 27  # numbers of a run that are in memory at once
WIDEST = 8  # numbers that a layer holds at once at a position, in d_models: the stream, q, k, v and an MLP


def score_heads(
    model: Model,
    on: Places | Prompts | Tokens,
    names: Iterable[str] | None = None,
    seed: int = 0,
    progress: bool = False,
) -> dict[str, HeadScore]:
    """Scores of every head of an unsplit model by name, each with what it was in every sequence.

    `on` are prompts (scored at their query), text (from position 2 on), or other places. `names` are of READINGS, or
    `lag 100`; by default all of READINGS that can be measured there. `seed` is that of the intervals' resamples.
    Raises ScrubError for a name that is none or isn't measured there, and for sequences that the model can't read.
    """
    places = on if isinstance(on, Places) else Places.of_prompts(on) if isinstance(on, Prompts) else Places.of_text(on)
    places.check(model)
    asked = _asked(places, names)
    if not asked:
        return {}
    reads = _Reads(model, places, [each.name for each in asked])
    sums: dict[str, list[np.ndarray]] = {each.name: [] for each in asked}
    counts: dict[str, list[np.ndarray]] = {each.name: [] for each in asked}
    with batches_bar(progress) as bar:
        for found in bar.track(reads.batches(), total=reads.count, description=f"scores on {places.on}"):
            for name, (inside, counted) in found.items():
                sums[name].append(inside)
                counts[name].append(counted)
    return {
        each.name: each.score(places.on, np.concatenate(sums[each.name]), np.concatenate(counts[each.name]), seed)
        for each in asked
    }


def _asked(places: Places, names: Iterable[str] | None) -> list[Definition]:
    if names is None:
        return [DEFINITIONS[name] for name in READINGS if places.on in DEFINITIONS[name].on]
    asked = [definition(name) for name in dict.fromkeys(names)]
    positions = places.scored.shape[1]
    for each in asked:
        if each.name not in READINGS and lag_of(each.name) is None:
            raise ScrubError(f"{each.name!r} isn't read from the unchanged model: read are {', '.join(READINGS)}")
        if places.on not in each.on:
            raise ScrubError(f"{each.name!r} is measured on {' and '.join(each.on)}, not on {places.on}: leave it out")
        if (lag_of(each.name) or 0) >= positions:
            raise ScrubError(f"{each.name!r} looks further back than the {positions} positions of the {places.on}")
    return asked


@dataclass(frozen=True)
class _Reads:
    """The batches of a measurement: sums over the counted rows of each sequence, and how many there were."""

    model: Model
    places: Places
    names: Sequence[str]

    @property
    def most(self) -> int:
        """The rows of a batch: those of the sequence that has most."""
        return int(self.places.scored.sum(1).max())

    @property
    def needs(self) -> frozenset[str]:
        """What the scores need of a run."""
        return frozenset[str]().union(*(reading(name).needs for name in self.names))

    @property
    def at_once(self) -> int:
        """The sequences of a batch: by what is kept of a row for all layers, and what a layer computes meanwhile."""
        weights, positions = Anatomy.of(self.model.graph).weights(self.model), self.places.scored.shape[1]
        heads, d_model, d_head = weights[0].shape
        a_row = len(weights) * heads * (positions * (PATTERN in self.needs) + d_head * (Z in self.needs))
        a_row += 2 * self.model.vocab_size * (PREDICTION in self.needs)
        a_sequence = self.most * a_row + positions * (heads * positions + WIDEST * d_model)
        return max(1, AT_ONCE // int(a_sequence))

    @property
    def count(self) -> int:
        """The number of batches."""
        return -(-len(self.places.tokens) // self.at_once)

    def batches(self) -> Iterator[dict[str, tuple[np.ndarray, np.ndarray]]]:
        """For each batch, by score: the sums [sequence, layer, head], and the rows counted [sequence]."""
        model, places, at_once = self.model, self.places, self.at_once
        anatomy = Anatomy.of(model.graph)
        running = Runner(anatomy.outputs(self.needs), model.params, places.scored.shape[1], model.device)
        ending, weights = anatomy.ending(model), anatomy.weights(model)
        target = np.full_like(places.tokens[:, :-1], NOWHERE) if places.target is None else places.target
        for start in range(0, len(places.tokens), at_once):
            here = slice(start, start + at_once)
            query, real = self._rows(here)
            tokens, to = (
                torch.from_numpy(np.ascontiguousarray(each[here])).long().to(model.device)
                for each in (places.tokens, target)
            )
            feeds = {"tokens": tokens[:, :-1], "selected": query}
            found = running({leaf: feeds[leaf.op] for leaf in running.leaves if leaf.op in feeds})
            following, to = tokens[:, 1:].gather(1, query), to.gather(1, query)
            rows = Rows(tokens[:, :-1], query, following, to, ending, found.get(SCALE), found.get(PREDICTION))
            layers = [
                LayerRun(found.get(f"{PATTERN} {at}"), found.get(f"{Z} {at}"), weight)
                for at, weight in enumerate(weights)
            ]
            yield {name: _sums(name, rows, layers, real) for name in self.names}

    def _rows(self, here: slice) -> tuple[Int[Tensor, "batch row"], Bool[Tensor, "batch row"]]:
        """The scored positions of each sequence, padded with some of its others, and which of them are real."""
        scored = self.places.scored[here]
        query = np.argsort(~scored, axis=1, kind="stable")[:, : self.most]
        real = np.arange(self.most)[None] < scored.sum(1)[:, None]
        return torch.from_numpy(query).to(self.model.device), torch.from_numpy(real).to(self.model.device)


@torch.inference_mode()
def _sums(
    name: str, rows: Rows, layers: Sequence[LayerRun], real: Bool[Tensor, "batch row"]
) -> tuple[np.ndarray, np.ndarray]:
    counted, read = reading(name).prepare(rows)
    counted = counted & real
    inside = [(read(layer).double() * counted[:, None]).sum(-1) for layer in layers]
    return torch.stack(inside, 1).cpu().numpy(), counted.sum(1).cpu().numpy()
