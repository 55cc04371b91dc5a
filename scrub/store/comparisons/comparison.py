"""Hypotheses side by side: what each recovers, and the paired differences between them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from itertools import pairwise
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import PROMPTS
from scrub.graph.node import Node
from scrub.store.comparisons.changes import Change, changes
from scrub.store.results.read import StudyResults
from scrub.study.null import Standing, standing
from scrub.study.result import NOTHING_NATS, Result, Row
from scrub.study.statistics import FEW_DOCUMENTS, RESAMPLES, holm
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import one_line
from scrub.text.frames import interval_columns, json_text, plain
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval
from scrub.text.wording import DIGEST_DIGITS, with_digest

FORMAT = 1
LEVEL = 0.05  # of the adjusted p-values, below which a difference is called one


@dataclass(frozen=True)
class Difference:
    """How much more of the loss, or another metric, one hypothesis recovers than another, on the same sequences.

    `recovered` is in percent, of one part, with its 95 % interval. `improves` is the share of resamples in which it is
    above 0, `p` the two-sided p-value, and `holm` that value adjusted (Holm 1979) for all differences of the
    comparison. Where the two are `same`, one experiment under two names, the difference is 0 exactly and nothing is
    claimed. `smallest_p` is the least p that so many resamples can give. Where they are worth `few` documents, no
    difference is called one. Where they scrub other parts, or not as much, `apart` says so, and there is no number.
    """

    refined: str
    over: str
    part: str
    recovered: Interval
    improves: float
    p: float
    holm: float
    same: bool
    smallest_p: float
    few: bool = False
    apart: str = ""

    @property
    def at_most(self) -> bool:
        """Whether p is the smallest that so many resamples can give: it is at most that, and so is the adjusted one."""
        return self.p <= self.smallest_p

    @property
    def verdict(self) -> str:
        """`better`, `worse`, `same`, `apart` where they don't compare, or `unclear`.

        Unclear is where the adjusted p-value isn't below 0.05, or documents are few.
        """
        if self.apart:
            return "apart"
        if self.same:
            return "same"
        if self.few or not self.holm < LEVEL:
            return "unclear"
        return "better" if self.recovered.estimate > 0 else "worse"


@dataclass(frozen=True, repr=False)
class Comparison(TabularResult):
    """Hypotheses of one study side by side, in their order, part by part.

    `differences` are of each hypothesis with the one before it that has the part, or of all with `against`;
    `changes` say what the refined one of each pair declares otherwise, `chances` where a (hypothesis, part) stands
    among random hypotheses of its size, if there are some. `apart` are the digests of data that the results folder
    holds other results on, under the same name. `heading` says what they were run on, `pairings` with which
    (seed, draw).
    """

    result: Result
    heading: str
    pairings: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    parts: tuple[str, ...]
    against: str | None
    differences: tuple[Difference, ...]
    changes: tuple[Change, ...]
    chances: Mapping[tuple[str, str], Standing]
    apart: Sequence[str] = ()

    @property
    def rows(self) -> list[Row]:
        """The row of each hypothesis, part by part."""
        found = {(row.part, row.hypothesis): row for row in self.result.table}
        return [found[part, name] for part in self.parts for name in self.names if (part, name) in found]

    @property
    def notes(self) -> list[str]:
        """The meaning of the numbers, and whatever else a reader must know of them."""
        count, found, smallest = len(self.tested), [], self.result.bootstrap.smallest_p
        these = f"the {count} differences" if count > 1 else "the one difference"
        if count:
            found.append(
                "difference: on the same sequences, with its 95 % bootstrap interval; P(better): share of resamples "
                f"above 0; p: two-sided, of no difference, never below {smallest:.3f} with {RESAMPLES:,} resamples; "
                f"Holm: p adjusted for {these} shown (Holm 1979); * below {LEVEL:g}"
            )
        if self.apart:
            found.append(other_data(self.result.data, self.result.digest, self.apart))
        if any(each.few for each in self.differences):
            what = "prompts" if self.result.kind == PROMPTS else "sequences"
            found.append(
                f"the {what} are worth fewer than {FEW_DOCUMENTS} {self.result.documents_called} of one size: no "
                "difference is called one, since intervals and p-values aren't known to hold there"
            )
        elif count * smallest >= LEVEL:
            found.append(
                f"{count} differences are too many for p-values of {smallest:.3f} at the least: none of them can be "
                f"below {LEVEL:g} when adjusted, so compare fewer hypotheses or parts at once"
            )
        if count < len(self.differences):
            found.append(
                "only hypotheses that scrub the same parts, and as many paths within a tenth, are called better or "
                "worse: whatever scrubs less keeps more"
            )
        return found

    @property
    def tested(self) -> list[Difference]:
        """The differences of hypotheses that compare."""
        return [each for each in self.differences if not each.apart]

    def difference(self, refined: str, over: str, part: str) -> Difference:
        """Find one of the differences. Raises ScrubError if there is none such."""
        for each in self.differences:
            if (each.refined, each.over, each.part) == (refined, over, part):
                return each
        raise ScrubError(f"{refined} isn't compared with {over} in the part {part!r}: give their names in that order")

    def frame(self) -> pd.DataFrame:
        """A line for each part and hypothesis: percent recovered, and the difference with another, if there is one."""
        whole = self.result.frame()
        more = [name for name in ("ratio", "ratio_low", "ratio_high", "metric", "unit") if name in whole]
        rows = whole.set_index(["part", "hypothesis"])[["recovered", "low", "high", "scrubs", *more]]
        frame = rows.loc[[(row.part, row.hypothesis) for row in self.rows]].reset_index()
        tested = self._differences().rename(columns={"low": "difference_low", "high": "difference_high"})
        frame = frame.merge(tested, "left", on=["part", "hypothesis"])
        chances = [(name, part, among.count, among.above, among.p) for (name, part), among in self.chances.items()]
        columns = ["hypothesis", "part", "random", "above_random", "p_random"]
        found = pd.DataFrame(chances, columns=columns)
        return frame.merge(found, "left", on=["part", "hypothesis"]) if chances else frame

    def to_dict(self) -> dict[str, Any]:
        """Give what --json writes: losses and KL in nats a token, the rest in percent."""
        numbers = self.result.to_dict()
        about = {key: value for key, value in numbers.items() if key not in {"format", "rows", "draws", "seed"}}
        found = {(row["part"], row["hypothesis"]): row for row in numbers["rows"]}
        return {
            "format": FORMAT,
            "study": self.result.study,
            **about,
            "pairings": [{"seed": seed, "draw": draw} for seed, draw in self.pairings],
            "against": self.against,
            "rows": [found[row.part, row.hypothesis] for row in self.rows],
            "random": [
                {"hypothesis": name, "part": part, **asdict(standing)}
                for (name, part), standing in self.chances.items()
            ],
            **({"other_data": list(self.apart)} if self.apart else {}),
            "correction": {
                "method": "Holm 1979",
                "differences": len(self.tested),
                "smallest_p": self.result.bootstrap.smallest_p,
            },
            "differences": plain(self._differences()),
            "changes": [each.to_dict() for each in self.changes],
        }

    def to_json(self) -> str:
        """Write what --json writes."""
        return json_text(self.to_dict(), indent=2)

    def _differences(self) -> pd.DataFrame:
        """A row for each difference, in percent."""
        tested = self.differences
        return pd.DataFrame(
            {
                "hypothesis": [each.refined for each in tested],
                "over": [each.over for each in tested],
                "part": [each.part for each in tested],
                **interval_columns("difference", (each.recovered for each in tested), "low", "high"),
                "probability": [each.improves for each in tested],
                "p": [each.p for each in tested],
                "p_holm": [each.holm for each in tested],
                "verdict": [each.verdict for each in tested],
                "apart": [each.apart for each in tested],
            }
        )


@check_arguments
def compare(
    stored: StudyResults,
    names: Sequence[str],
    against: str | None = None,
    parts: Sequence[str] | None = None,
    graphs: Mapping[str, Node] | None = None,
    apart: Sequence[str] = (),
) -> Comparison:
    """Compare hypotheses of a study: each with the one before it, or all with the one that `against` names.

    With the `graphs` of the experiments, by hypothesis/part, what changed is said in paths too; with the digests of
    data that lie `apart` under the same name, that their numbers don't compare.
    Raises ScrubError for a name or a part that isn't there, or if there are fewer than two hypotheses.
    """
    names = tuple(dict.fromkeys([*([against] if against is not None else []), *names]))
    check_names(stored, names)
    check_several(names)
    return line_up(stored, names, against, parts, graphs, apart)


def line_up(
    stored: StudyResults,
    names: Sequence[str],
    against: str | None = None,
    parts: Sequence[str] | None = None,
    graphs: Mapping[str, Node] | None = None,
    apart: Sequence[str] = (),
) -> Comparison:
    """Compare hypotheses that are there, be it one: see :func:`compare`. Raises ScrubError for a part that isn't."""
    result, names = stored.result, tuple(names)
    there = dict.fromkeys(part for hypothesis, part in result.rows if hypothesis in names)
    for part in parts or ():
        if part not in there:
            raise ScrubError(f"none of the hypotheses has a part {part!r}: they have {', '.join(there)}")
    shown = tuple(part for part in there if parts is None or part in parts)
    pairs = [(pair, part) for part in shown for pair in _pairs(result, names, part, against)]
    found = [_difference(stored, *pair, part) for pair, part in pairs]
    adjusted = iter(holm([each.p for each in found if not each.apart]))
    differences = tuple(each if each.apart else replace(each, holm=next(adjusted)) for each in found)
    changed = changes(stored, list(dict.fromkeys(pair for pair, _ in pairs)), graphs or {}, shown)
    chances = {(name, part): chance(stored, name, part) for name, part in result.rows if name in names}
    among = {row: standing for row, standing in chances.items() if standing is not None}
    heading, pairings = stored.heading, stored.pairings
    return Comparison(result, heading, pairings, names, shown, against, differences, changed, among, apart)


def other_data(data: str, digest: str, others: Sequence[str]) -> str:
    """Say that one name of data stands for several: other tokens, or other scored positions."""
    short = ", ".join(each[:DIGEST_DIGITS] for each in others)
    return (
        f"these numbers are on {with_digest(one_line(data), digest)}; there are results on other tokens or "
        f"scored positions by that name too ({short}), and numbers don't compare across"
    )


def check_several(names: Sequence[str]) -> None:
    """Raise ScrubError unless there are two hypotheses or more."""
    if len(names) < 2:
        raise ScrubError(
            f"one hypothesis, {one_line(''.join(names)) or 'or none'}, can't be compared: name two or more"
        )


def check_names(stored: StudyResults, names: Sequence[str]) -> None:
    """Raise ScrubError, with the nearest there are, for a hypothesis that isn't known."""
    known = list(dict.fromkeys(hypothesis for hypothesis, _ in stored.result.rows))
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ScrubError(
                f"nothing is known of a hypothesis {one_line(name)!r} in {stored.result.study} on "
                f"{stored.result.model}: {hint}there are {one_line(', '.join(known[:12])) or 'none'}"
                f"{f' and {len(known) - 12} more' if len(known) > 12 else ''}"
            )


def chance(stored: StudyResults, name: str, part: str) -> Standing | None:
    """Tell where a hypothesis stands among the random ones of its size; None if there are none."""
    rows, known = set(stored.result.rows), stored.hypotheses
    randoms = [each for each, described in known.items() if described.null_of == name and (each, part) in rows]
    if not randoms:
        return None
    ours, recovered = f"{name}/{part}", stored.result.recovered
    # one that is the same experiment ties, also where other roundings were at work
    theirs = [ours if same_experiment(stored, ours, f"{each}/{part}") else f"{each}/{part}" for each in randoms]
    return standing(recovered(ours).estimate, np.array([recovered(each).estimate for each in theirs]))


def _pairs(result: Result, names: Sequence[str], part: str, against: str | None) -> Iterator[tuple[str, str]]:
    """Pair the hypotheses that are compared in a part: those that have it."""
    having = [name for name in names if (name, part) in set(result.rows)]
    for before, name in pairwise(having):
        if against is None:
            yield name, before
        elif against in having:
            yield name, against


def _difference(stored: StudyResults, refined: str, over: str, part: str) -> Difference:
    """Compute the difference of two hypotheses in a part, not adjusted yet."""
    ours, theirs = f"{refined}/{part}", f"{over}/{part}"
    if apart := stored.result.claim(ours).apart(stored.result.claim(theirs)):
        nan = float("nan")
        return Difference(refined, over, part, Interval(nan, nan, nan), nan, nan, nan, False, nan, apart=apart)
    values = resampled_difference(stored, ours, theirs)
    same, bootstrap = same_experiment(stored, ours, theirs), stored.result.bootstrap
    p, improves, few = bootstrap.p_value(values), bootstrap.share_above_zero(values), bootstrap.worth < FEW_DOCUMENTS
    interval = bootstrap.interval(values)
    return Difference(refined, over, part, interval, improves, p, p, same, bootstrap.smallest_p, few)


def resampled_difference(stored: StudyResults, refined: str, over: str) -> Float[np.ndarray, " one_plus_resample"]:
    """Compute how many percent more one experiment recovers than another: the estimate, then its resamples."""
    values = stored.result.resampled_recovery(refined) - stored.result.resampled_recovery(over)
    return np.zeros_like(values) if same_experiment(stored, refined, over) else values


def same_experiment(stored: StudyResults, one: str, other: str) -> bool:
    """Tell whether two names are the same experiment: the same graph, or the same losses but for rounding."""
    result, hashes = stored.result, [_hash(stored, name) for name in (one, other)]
    if hashes[0] and hashes[0] == hashes[1]:
        return True
    apart = np.abs(result.loss[one] - result.loss[other])
    return bool((apart <= NOTHING_NATS * result.positions).all())


def _hash(stored: StudyResults, experiment: str) -> str:
    """Find the hash of an experiment's graph; nothing where that isn't known."""
    hypothesis, _, part = experiment.rpartition("/")
    return stored.described(hypothesis).hashes.get(part, "")
