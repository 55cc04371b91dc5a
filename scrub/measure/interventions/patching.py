"""Activation and path patching: put one place of the clean run into the corrupted one, and see the answer come back.

A patch is the rule `SITE -> y`, with the prompt that is run as x and the other one as y: see
scrub/paths/sites.py for what a site may be. It is activation patching where the site is a component, a slot or
the residual stream, and path patching where it is an edge (Wang et al. 2022, https://arxiv.org/abs/2211.00593;
Heimersheim and Nanda 2024, How to use and interpret activation patching).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import PAIRS, Examples
from scrub.measure.interventions.effects import Effects, measure_effects
from scrub.measure.interventions.intervention import Intervention, feed
from scrub.models.model import Model, Spec, as_model
from scrub.paths.rules import Rule
from scrub.paths.sites import STREAM, expanded, heads, read_sites
from scrub.paths.sources import Y
from scrub.study.metric import LOSS
from scrub.study.settings import Settings, obeyed
from scrub.study.statistics import recovered
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import PLAIN, Interval

PROBABILITY, LOG_PROBABILITY = "probability", "log probability"  # what recovery is measured in
MEASURES = (PROBABILITY, LOG_PROBABILITY)
INTO_CORRUPTED, INTO_CLEAN = "clean into corrupted", "corrupted into clean"
DIRECTIONS = (INTO_CORRUPTED, INTO_CLEAN)
EVERYTHING = "everything"  # the patch that makes one run the other
MIN_DIFFERENCE = 1e-4  # of clean and corrupted, in probability or nats: what float32 is trusted to, as in gates
Pairs = Examples | tuple[Any, Any, Any]  # (clean tokens, corrupted tokens, mask of positions), arrays or tensors


@dataclass(frozen=True, repr=False)
class Patching(TabularResult):
    """The answer's probability with one place patched after another, between those of both prompts.

    `patch(model, pairs, ["a1.3", "stream 1"]).recovered()` is an interval in percent for each.
    `sites` has for each patch the text of its site and, if every position was patched by itself, the position.
    Intervals are 95 % bootstraps over pairs; one pair has none: its ends are the estimate.
    """

    model: Model
    pairs: Examples  # clean, with the corrupted ones as their others
    effects: Effects
    direction: str
    sites: Sequence[tuple[str, int | None]]
    positions: str | None = None  # where sites that name none were patched; everywhere if None

    @property
    def names(self) -> list[str]:
        """The patches, in order."""
        return [named(*site) for site in self.sites]

    @property
    def clean(self) -> dict[str, Interval]:
        """The mean probability of the answer after the clean prompts, and its logarithm, by the names of MEASURES."""
        return {measure: self.effects.bootstrap.interval(self._means(measure)[self._clean]) for measure in MEASURES}

    @property
    def corrupted(self) -> dict[str, Interval]:
        """The same after the corrupted prompts."""
        return {measure: self.effects.bootstrap.interval(self._means(measure)[1 - self._clean]) for measure in MEASURES}

    @property
    def warnings(self) -> list[str]:
        """What recovers everything by construction, and measures in which clean and corrupted prompts don't differ."""
        whole = [site for site, at in self.sites if at is None and self.positions is None and _whole_stream(site)]
        trivial = (
            f"{whole[0]!r} at all positions is all that is read from there on, so it recovers 100 % by construction: "
            "patch positions of it"
            if whole
            else ""
        )
        return ([trivial] if whole else []) + [
            f"the clean and the corrupted prompts give the answer the same {measure}, as far as can be told "
            f"({PLAIN.with_ends(self.clean[measure], 4, kind='g')} and "
            f"{PLAIN.with_ends(self.corrupted[measure], 4, kind='g')}): no percent of nothing is recovered; "
            "take prompts that the model tells apart, or more of them"
            for measure in MEASURES
            if not self._differ(measure)
        ]

    def patched(self, measure: str = PROBABILITY) -> list[Interval]:
        """Estimate the mean probability of the answer, or its logarithm, with each patch."""
        return [self.effects.bootstrap.interval(means) for means in self._means(measure)[2:]]

    def recovered(self, measure: str = PROBABILITY) -> list[Interval]:
        """Estimate 100 (patched - corrupted) / (clean - corrupted) for each patch, of means over pairs, in percent.

        Numerator and denominator are resampled together. It can be negative or exceed 100, and is NaN where clean
        and corrupted prompts don't differ: by less than MIN_DIFFERENCE, or by less than the interval of the difference
        can tell from 0. Raises ScrubError for a measure that is none of MEASURES.
        """
        means = self._means(measure)
        if not self._differ(measure):
            return [Interval(np.nan, np.nan, np.nan)] * len(self.sites)
        clean, corrupted = means[self._clean], means[1 - self._clean]
        return [self.effects.bootstrap.interval(recovered(patched, corrupted, clean)) for patched in means[2:]]

    def frame(self) -> pd.DataFrame:
        """List for each patch its site and position, and for both measures the mean and the percent recovered.

        Beside each are the ends of its interval.
        """
        site, position = zip(*self.sites, strict=True)
        rows = pd.DataFrame({"site": site})
        if any(at is not None for at in position):
            rows["position"] = position
        for measure in MEASURES:
            means = interval_columns(measure, self.patched(measure))
            rows = rows.assign(**means, **interval_columns(f"{measure} recovered", self.recovered(measure)))
        return rows

    def grid(self, measure: str = PROBABILITY) -> pd.DataFrame:
        """Lay percent recovered out: layer by head if each head was patched, or site by position if each was.

        Raises ScrubError if the patches are neither.
        """
        values = [interval.estimate for interval in self.recovered(measure)]
        sites = [site for site, _ in self.sites]
        if all(position is not None for _, position in self.sites):
            at = [position for _, position in self.sites]
            return _table(values, sites, at, "site", "position")
        if sites != heads(self.model.graph):
            raise ScrubError("these patches are no table: patch 'heads', or sites at every position")
        places = [site.removeprefix("a").split(".") for site in sites]
        return _table(values, [int(layer) for layer, _ in places], [int(head) for _, head in places], "layer", "head")

    @property
    def _clean(self) -> int:
        """The number of the clean run among the first two experiments, nothing and everything patched."""
        return 0 if self.direction == INTO_CLEAN else 1

    @cached_property
    def _by_measure(self) -> dict[str, Float[np.ndarray, "experiment one_plus_resample"]]:
        values = {PROBABILITY: self.effects.probability, LOG_PROBABILITY: -self.effects.values[LOSS.name]}
        return {measure: self.effects.resampled(array) for measure, array in values.items()}

    def _means(self, measure: str) -> Float[np.ndarray, "experiment one_plus_resample"]:
        if measure not in MEASURES:
            raise ScrubError(f"nothing is recovered in {measure!r}: take one of {', '.join(MEASURES)}")
        return self._by_measure[measure]

    def _differ(self, measure: str) -> bool:
        means = self._means(measure)
        gap = self.effects.bootstrap.interval(means[self._clean] - means[1 - self._clean])
        return abs(gap.estimate) >= MIN_DIFFERENCE and not gap.low <= 0 <= gap.high


@check_arguments
def patch(
    model: Spec,
    pairs: Pairs,
    sites: str | Sequence[str] = "heads",
    direction: str = INTO_CORRUPTED,
    *,
    positions: str | None = None,
    every_position: bool | None = None,
    settings: Settings | None = None,
) -> Patching:
    """Patch sites of one run with what they are in another, one after another, all in one plan.

    `patch(model, prompt_pairs(model, count=16), "heads").grid()`.
    `pairs` are clean and corrupted prompts, or the tokens of both [sequence, position + 1] with a mask of the positions
    whose next token, the same in both, is the answer. `sites` are "heads", "layers" (attention and MLPs), "attention",
    "mlps", "streams", "a1.3/k/*" (every edge into a slot), or texts as in scrub/paths/sites.py: `a1.3`,
    `a1.3/k`, `a1.3/k/a0.1`, `stream 2@5`. Sites that name no positions are patched at `positions` ("4..7"), everywhere
    if that is None, or with `every_position` at each by itself; so are streams if nothing is said, since a whole stream
    brings back everything by construction.
    "clean into corrupted" says what suffices for the answer, "corrupted into clean" what it can't do without.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    if direction not in DIRECTIONS:
        raise ScrubError(f"nothing is patched {direction!r}: it is 'clean into corrupted' or 'corrupted into clean'")
    asked = obeyed(settings, "patch")
    model, clean = as_model(model, asked.torch_dtype), _paired(pairs)
    into = clean.swapped() if direction == INTO_CORRUPTED else clean
    texts = expanded(sites, model.graph)
    if every_position is None:
        every_position = positions is None and all(_whole_stream(text) for text in texts)
    if every_position and (positions is not None or any("@" in text for text in texts)):
        raise ScrubError(
            "every position is patched by itself, so name none: leave the positions out, or every position"
        )
    count = into.context
    places = [(text, at) for text in texts for at in (range(count) if every_position else [None])]
    interventions = [Intervention(EVERYTHING, (), (Rule.parse("** -> y"),))]
    for text, at in places:
        span = positions if at is None else str(at)
        interventions.append(feed(named(text, at), read_sites(text, model.graph, model.roles, span), Y))
    effects = measure_effects(model, interventions, into, settings=asked)
    return Patching(model, clean, effects, direction, places, positions)


def _whole_stream(site: str) -> bool:
    return site.strip().startswith(STREAM.strip()) and "@" not in site


def named(site: str, position: int | None) -> str:
    """Name a patch."""
    return site if position is None else f"{site}@{position}"


def _paired(pairs: Pairs) -> Examples:
    """Pair the clean examples with the corrupted ones as their others. Raises ScrubError if they don't fit."""
    if isinstance(pairs, Examples):
        pairs.swapped()  # which there must be
        return pairs
    if not isinstance(pairs, tuple) or len(pairs) != 3:
        raise ScrubError("pairs are examples with others, or (clean tokens, corrupted tokens, mask of positions)")
    given = Examples.of(pairs[0], pairs[2])
    clean, corrupted, scored = given.tokens, Examples.of(pairs[1]).tokens, given.scored
    if clean.shape != corrupted.shape:
        raise ScrubError(
            f"the clean tokens are {list(clean.shape)}, the corrupted {list(corrupted.shape)}: both are "
            "[sequence, position + 1]"
        )
    if (clean[:, 1:] != corrupted[:, 1:])[scored].any():
        raise ScrubError(
            "the clean and the corrupted sequences go on differently after a scored position: the answer must be one"
        )
    return Examples(clean, scored, PAIRS, other=corrupted)


def _table(
    values: Sequence[float], rows: Sequence[object], columns: Sequence[object], down: str, across: str
) -> pd.DataFrame:
    """Lay values out by row and column, both in the order in which they first stand."""
    table = pd.DataFrame({down: rows, across: columns, "value": values}).pivot(
        index=down, columns=across, values="value"
    )
    return table.reindex(index=list(dict.fromkeys(rows)), columns=list(dict.fromkeys(columns)))
