"""Activation and path patching: put one place of the clean run into the corrupted one, and see a metric come back.

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
from scrub.data.prompts.prompts import position_names
from scrub.measure.asked import LOGPROB, PROB, asked_metrics
from scrub.measure.interventions.effects import Effects, measure_effects
from scrub.measure.interventions.intervention import Intervention, feed
from scrub.models.model import Model, Spec, as_model
from scrub.paths.rules import Rule
from scrub.paths.sites import STREAM, expanded, heads, read_sites
from scrub.paths.sources import Y
from scrub.study.metric import GivenMetric, Metric
from scrub.study.settings import Settings, obeyed
from scrub.study.statistics import recovered
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.frames import interval_columns
from scrub.text.looks import TabularResult
from scrub.text.numbers import PLAIN, Interval

OLD_NAMES = {"probability": PROB.name, "log probability": LOGPROB.name}  # which are still read
INTO_CORRUPTED, INTO_CLEAN = "clean into corrupted", "corrupted into clean"
DIRECTIONS = (INTO_CORRUPTED, INTO_CLEAN)
EVERYTHING = "everything"  # the patch that makes one run the other
MIN_DIFFERENCE = 1e-4  # of clean and corrupted, in the metric's unit: what float32 is trusted to, as in gates
Pairs = Examples | tuple[Any, Any, Any]  # (clean tokens, corrupted tokens, mask of positions), arrays or tensors


@dataclass(frozen=True, repr=False)
class Patching(TabularResult):
    """Metrics with one place patched after another, between those of both prompts.

    `patch(model, pairs, ["a1.3", "stream 1"]).recovered()` is an interval in percent for each.
    `sites` has for each patch the text of its site and, if positions were patched one by one, the position, or its
    name. Intervals are 95 % bootstraps over pairs, or over templates; one pair has none: its ends are the estimate.
    """

    model: Model
    pairs: Examples  # clean, with the corrupted ones as their others
    effects: Effects
    direction: str
    sites: Sequence[tuple[str, int | str | None]]
    positions: str | None = None  # where sites that name none were patched; everywhere if None
    metrics: tuple[Metric, ...] = (PROB, LOGPROB)
    left_out: str = ""  # which positions weren't patched by themselves, and why

    @property
    def names(self) -> list[str]:
        """The patches, in order."""
        return [named(*site) for site in self.sites]

    @property
    def measures(self) -> dict[str, str]:
        """The metrics by name, and the unit of each: `{"logit_diff": "logits"}`."""
        return {metric.name: metric.unit for metric in self.metrics}

    @property
    def clean(self) -> dict[str, Interval]:
        """The mean of each metric after the clean prompts, by the names of `measures`."""
        return self._ends(self._clean)

    @property
    def corrupted(self) -> dict[str, Interval]:
        """The same after the corrupted prompts."""
        return self._ends(1 - self._clean)

    @property
    def warnings(self) -> list[str]:
        """What recovers everything by construction, and metrics in which clean and corrupted prompts don't differ."""
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
            f"{PLAIN.with_ends(self.corrupted[measure], 4, kind='g')}, a difference of "
            f"{PLAIN.with_ends(self._gap(measure), 4, kind='g')}): no percent of nothing is recovered; "
            "take prompts that the model tells apart, or more of them"
            for measure in self.measures
            if not self._differ(measure)
        ]

    @property
    def notes(self) -> list[str]:
        """What was left out."""
        return [self.left_out] if self.left_out else []

    def patched(self, measure: str | None = None) -> list[Interval]:
        """Estimate the mean of a metric, by default the first, with each patch."""
        return [self.effects.bootstrap.interval(means) for means in self._means(measure)[2:]]

    def recovered(self, measure: str | None = None) -> list[Interval]:
        """Estimate 100 (patched - corrupted) / (clean - corrupted) for each patch, of means over pairs, in percent.

        Numerator and denominator are resampled together. It can be negative or exceed 100, and is NaN where clean
        and corrupted prompts don't differ: by less than MIN_DIFFERENCE, or by less than the interval of the difference
        can tell from 0. Of `kl`, each is from the run that is patched into.
        Raises ScrubError for a metric that wasn't measured.
        """
        means = self._means(measure)
        if not self._differ(measure):
            return [Interval(np.nan, np.nan, np.nan)] * len(self.sites)
        clean, corrupted = means[self._clean], means[1 - self._clean]
        return [self.effects.bootstrap.interval(recovered(patched, corrupted, clean)) for patched in means[2:]]

    def frame(self) -> pd.DataFrame:
        """List for each patch its site and position, and for each metric the mean and the percent recovered.

        Beside each are the ends of its interval.
        """
        site, position = zip(*self.sites, strict=True)
        rows = pd.DataFrame({"site": site})
        if any(at is not None for at in position):
            rows["position"] = position
        for measure in self.measures:
            means = interval_columns(measure, self.patched(measure))
            rows = rows.assign(**means, **interval_columns(f"{measure} recovered", self.recovered(measure)))
        return rows

    def grid(self, measure: str | None = None) -> pd.DataFrame:
        """Lay percent recovered out: layer by head if each head was patched, or site by position if each was.

        Raises ScrubError if the patches are neither.
        """
        return self.laid_out([interval.estimate for interval in self.recovered(measure)])

    def laid_out(self, values: Sequence[Any]) -> pd.DataFrame:
        """Lay something of each patch out in the same way. Raises ScrubError as :meth:`grid` does."""
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

    def _ends(self, run: int) -> dict[str, Interval]:
        return {measure: self.effects.bootstrap.interval(self._means(measure)[run]) for measure in self.measures}

    @cached_property
    def _resampled(self) -> dict[str, Float[np.ndarray, "experiment one_plus_resample"]]:
        return {m.name: self.effects.resampled(self.effects.values[m.name]) for m in self.metrics}

    def _means(self, measure: str | None) -> Float[np.ndarray, "experiment one_plus_resample"]:
        name = self.metrics[0].name if measure is None else OLD_NAMES.get(measure, measure)
        if name not in self.measures:
            raise ScrubError(f"nothing is recovered in {measure!r}: take one of {', '.join(self.measures)}")
        return self._resampled[name]

    def _gap(self, measure: str | None) -> Interval:
        means = self._means(measure)
        return self.effects.bootstrap.interval(means[self._clean] - means[1 - self._clean])

    def _differ(self, measure: str | None) -> bool:
        gap = self._gap(measure)
        return abs(gap.estimate) >= MIN_DIFFERENCE and not gap.low <= 0 <= gap.high


@check_arguments
def patch(
    model: Spec,
    pairs: Pairs,
    sites: str | Sequence[str] = "heads",
    direction: str = INTO_CORRUPTED,
    *,
    metric: GivenMetric = None,
    positions: str | None = None,
    every_position: bool | None = None,
    by_name: bool = False,
    settings: Settings | None = None,
) -> Patching:
    """Patch sites of one run with what they are in another, one after another, all in one plan.

    `patch(model, prompt_pairs(model, count=16), "heads").grid()`.
    `pairs` are clean and corrupted prompts, each pair of one length, or the tokens of both [sequence, position + 1]
    with a mask of the positions whose next token, the same in both, is the answer. `sites` are "heads", "layers"
    (attention and MLPs), "attention", "mlps", "streams", "a1.3/k/*" (every edge into a slot), or texts as in
    scrub/paths/sites.py: `a1.3`, `a1.3/k`, `a1.3/k/a0.1`, `stream 2@5`, `a1.3@end`. `metric` is one or several names
    of METRICS, or your own: by default the difference of logits where there are wrong answers, else the answer's
    probability and its logarithm. Sites that name no positions are patched at `positions` ("4..7", "S2"), everywhere
    if that is None, with `every_position` at each by itself, or `by_name` at each that the pairs give a name, and at
    the end; streams at each by itself if nothing is said, since a whole stream brings back everything by construction.
    "clean into corrupted" says what suffices for the answer, "corrupted into clean" what it can't do without.
    Raises ScrubError for what doesn't fit, and GateError if a gate fails.
    """
    if direction not in DIRECTIONS:
        raise ScrubError(f"nothing is patched {direction!r}: it is 'clean into corrupted' or 'corrupted into clean'")
    asked = obeyed(settings, "patch")
    model, clean = as_model(model, asked.torch_dtype), _paired(pairs)
    into = clean.swapped() if direction == INTO_CORRUPTED else clean
    texts, wanted = expanded(sites, model.graph), asked_metrics(metric, clean)
    if every_position is None:
        every_position = positions is None and not by_name and all(_whole_stream(text) for text in texts)
    if every_position and by_name:
        raise ScrubError("positions are patched one by one, or those with a name: ask for one of the two")
    if (every_position or by_name) and (positions is not None or any("@" in text for text in texts)):
        raise ScrubError(
            f"every position{' with a name' * by_name} is patched by itself, so name none: leave the positions out, "
            "or every position"
        )
    each, left_out = _swept(into, every_position, by_name)
    places = [(text, at) for text in texts for at in each]
    interventions = [Intervention(EVERYTHING, (), (Rule.parse("** -> y"),))]
    for text, at in places:
        span = positions if at is None else str(at)
        interventions.append(feed(named(text, at), read_sites(text, model.graph, model.roles, span), Y))
    effects = measure_effects(model, interventions, into, metrics=wanted, settings=asked)
    return Patching(model, clean, effects, direction, places, positions, wanted, left_out)


def _swept(pairs: Examples, every_position: bool, by_name: bool) -> tuple[Sequence[int | str | None], str]:
    """List the positions that each site is patched at by itself, and say which aren't among them."""
    if by_name:
        return position_names(pairs), ""
    if not every_position:
        return [None], ""
    shared = int(pairs.ends.min()) + 1
    if (most := int(pairs.ends.max())) < shared:
        return range(shared), ""
    return range(shared), (
        f"positions {shared} to {most} aren't in every prompt, so they aren't patched by themselves: name positions "
        "(-1 is the last), or patch by name"
    )


def _whole_stream(site: str) -> bool:
    return site.strip().startswith(STREAM.strip()) and "@" not in site


def named(site: str, position: int | str | None) -> str:
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
