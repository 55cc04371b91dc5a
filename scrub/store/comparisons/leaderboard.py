"""Everything that is known of a study, in order of what it recovers: one table for all numbers that compare."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import pandas as pd

from scrub.paths.hashes import hash_of
from scrub.paths.unmatched import WITHOUT, LeftOut
from scrub.store.comparisons.comparison import FORMAT, chance, other_data, resampled_difference
from scrub.store.results.read import HypothesisRecord, StudyResults
from scrub.study.claims import SAME_PERCENT, front
from scrub.study.experiments import NOTHING_LEFT_OUT
from scrub.study.hypothesis import ALL
from scrub.study.metric import LOSS
from scrub.study.null import Standing
from scrub.study.parameters import Value
from scrub.text.errors import ScrubError
from scrub.text.fields import check_arguments
from scrub.text.files import one_line
from scrub.text.frames import interval_columns, json_text, plain
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval
from scrub.text.wording import with_unit

VERSION = "@"  # between the name of a hypothesis that changed since, and the hash of what it was
_SAID = ("model", "data", "sequences", "context")  # what people tell boards apart by
_HASHES = ("weights_hash", "tokens_hash", "selection_hash")
_SAME = ("model", "data", *_HASHES, "sequences", "context", "dtype", "scrub_version")  # where numbers compare


@dataclass(frozen=True)
class Place:
    """A hypothesis on a board: percent recovered, and loss and KL in nats a token, each with its interval.

    `scrubs` is the percent of the baseline's paths that it resamples, and on the `front` is what nothing both recovers
    and scrubs more than. It is ranked among what scrubs the same parts and as much: `behind` is the paired difference
    to the first of those in percent, None for that itself and where the two share no pairings; `tied` says that 0 is in
    its interval. `pairings` is over how many pairings of the sequences. `chance` is where it stands among random
    hypotheses of its size, if there are some. `left_out` says what of it matches nothing on the
    model. `hash` is that of the graph as lowered, `time` when the last of the results it stands among was computed.
    """

    hypothesis: str
    parameters: Mapping[str, Value]
    recovered: Interval
    loss: Interval
    kl: Interval
    pairings: int
    scrubs: float | None
    front: bool
    rank: int
    behind: Interval | None
    chance: Standing | None
    hash: str
    time: str
    left_out: LeftOut = NOTHING_LEFT_OUT
    lacks: int = 0  # rules of the part, and alternatives of them, that are left out

    @property
    def tied(self) -> bool:
        """Whether it can't be told from the first of those that it is ranked among."""
        return self.behind is not None and self.behind.low <= 0 <= self.behind.high


@dataclass(frozen=True)
class Board:
    """Hypotheses whose numbers compare; `about` says what they rest on.

    Those on the front come first, by the product of what they recover and scrub; so what claims nothing leads nowhere.

    Where a study measures another `metric`, that stands in place of the loss, in its `unit`.
    """

    heading: str
    about: Mapping[str, str]
    places: tuple[Place, ...]
    metric: str = LOSS.name
    unit: str = LOSS.unit

    @property
    def measured(self) -> str:
        """The metric, and its unit where it isn't the loss."""
        return self.metric if self.metric == LOSS.name else with_unit(self.metric, self.unit)

    @property
    def digest(self) -> str:
        """The hash of the tokens and the scored positions."""
        return hash_of([self.about["tokens_hash"], self.about["selection_hash"]], {})

    @property
    def basis(self) -> str:
        """The basis of the numbers beside what the heading says, and when the last of them was computed."""
        hashes = [f"{key.removesuffix('_hash')} {self.about[key][:8]}" for key in _HASHES if self.about[key]]
        version = [f"scrub {self.about['scrub_version']}"] if self.about["scrub_version"] else []
        last = max(place.time for place in self.places)
        when = [f"last run {last[:16].replace('T', ' ')}"] if last else []
        return ", ".join([*filter(None, [self.about["dtype"]]), *version, *hashes, *when])

    def frame(self) -> pd.DataFrame:
        """A row for each place: what it recovers and is behind by in percent, and losses and KL in nats a token."""
        places, chances = self.places, [place.chance for place in self.places]
        frame = pd.DataFrame(
            {
                "rank": [place.rank for place in places],
                "hypothesis": [place.hypothesis for place in places],
                "parameters": [dict(place.parameters) for place in places],
                **interval_columns("recovered", (place.recovered for place in places), "low", "high"),
                "scrubs": pd.array([place.scrubs for place in places], "float64"),
                "front": [place.front for place in places],
                **interval_columns("behind", (place.behind for place in places), "behind_low", "behind_high"),
                "tied": [place.tied for place in places],
                "loss": [place.loss.estimate for place in places],
                "kl": [place.kl.estimate for place in places],
                "pairings": [place.pairings for place in places],
                "random": pd.array([among.count if among else pd.NA for among in chances], dtype="Int64"),
                "above_random": [among.above if among else np.nan for among in chances],
                "p_random": [among.p if among else np.nan for among in chances],
                "hash": [place.hash for place in places],
                "time": [place.time for place in places],
                "left_out": [place.lacks for place in places],
            }
        )
        return frame if self.metric == LOSS.name else frame.assign(metric=self.metric, unit=self.unit)


@dataclass(frozen=True, repr=False)
class Leaderboard(TabularResult):
    """Everything that is known of a study in one part: a board for each model, data, selection and precision."""

    study: str
    part: str
    boards: tuple[Board, ...]
    left_out: tuple[str, ...] = ()  # what is said of files of the folder

    @property
    def notes(self) -> list[str]:
        """What a reader must know: which files are left out, which boards are on other data under the same name, and
        what of which hypotheses matches nothing on a board's model.
        """
        digests: dict[tuple[str, ...], dict[str, None]] = {}
        for board in self.boards:
            digests.setdefault(tuple(board.about[name] for name in _SAID), {})[board.digest] = None
        several = ((data, list(each)) for (_, data, *_), each in digests.items() if len(each) > 1)
        told = [*self.left_out, *(other_data(data, first, others) for data, (first, *others) in several)]
        places = [(board.about["model"], place) for board in self.boards for place in board.places if place.lacks]
        lacking = (f"{model}: {each.hypothesis}: {each.left_out.said}" for model, each in places if each.left_out.said)
        return [*told, *([WITHOUT] if places else []), *dict.fromkeys(lacking)]

    def frame(self) -> pd.DataFrame:
        """A line for each hypothesis of each board, numbered from 0."""
        frames = [board.frame().assign(board=at) for at, board in enumerate(self.boards)]
        whole = pd.concat(frames, ignore_index=True)
        return whole[["board", *whole.columns.drop("board")]]

    def to_dict(self) -> dict[str, Any]:
        """Give what --json writes: losses and KL in nats a token, the rest in percent."""
        boards = [{"about": dict(board.about), "rows": plain(board.frame())} for board in self.boards]
        return {"format": FORMAT, "study": self.study, "part": self.part, "boards": boards, "notes": self.notes}

    def to_json(self) -> str:
        """Write what --json writes."""
        return json_text(self.to_dict(), indent=2)


@check_arguments
def leaderboard(known: Sequence[StudyResults], study: str, part: str = ALL, versions: bool = False) -> Leaderboard:
    """Order everything that is known of a study by what it recovers in a part.

    A hypothesis that changed is there as it was last; with `versions` as it was before too, as NAME@HASH. Random
    hypotheses aren't, but each says where it stands among those of its size. Raises ScrubError if nothing is known
    of the study or of the part.
    """
    own = [each for each in known if each.result.study == study]
    if not own:
        studies = ", ".join(sorted({each.result.study for each in known}))
        raise ScrubError(f"nothing is known of the study {one_line(study)!r}: there is {one_line(studies) or 'none'}")
    parts = dict.fromkeys(part for each in own for _, part in each.result.rows)
    if part not in parts:
        raise ScrubError(f"nothing is known of a part {one_line(part)!r} of {study}: there are {', '.join(parts)}")
    boards = [_board(list(group), part, versions) for _, group in groupby(sorted(own, key=_basis), _basis)]
    found = sorted((board for board in boards if board.places), key=lambda board: -len(board.places))
    return Leaderboard(study, part, tuple(found), tuple(dict.fromkeys(note for each in own for note in each.notes)))


def _basis(of: StudyResults) -> tuple[str, ...]:
    """Collect what numbers must have in common to compare."""
    own = {"model": of.result.model, "data": of.result.data, "sequences": str(len(of.result.positions))}
    return tuple(own.get(name) or of.about.get(name, "") for name in _SAME)


def _board(known: Sequence[StudyResults], part: str, versions: bool) -> Board:
    """Make the board of results that compare; of a hypothesis in several of them, those with most pairings."""
    best: dict[str, StudyResults] = {}
    for each in sorted(known, key=lambda each: len(each.pairings)):
        having = {name for name, theirs in each.result.rows if theirs == part}
        best |= {name: each for name in having if _listed(each.described(name), versions)}
    found = {name: _place(name, best, known, part) for name in best}
    on_front = front([(place.recovered.estimate, place.scrubs) for place in found.values()])
    places = [replace(place, front=there) for place, there in zip(found.values(), on_front, strict=True)]
    first = max(known, key=lambda each: len(each.pairings))
    order = tuple(sorted(places, key=lambda place: (not place.front, -_claimed(place), place.rank)))
    return Board(
        first.heading, dict(zip(_SAME, _basis(first), strict=True)), order, first.result.metric, first.result.unit
    )


def _claimed(place: Place) -> float:
    """Compute by what a board is sorted: recovered times scrubbed, of what scrubs an unknown share only recovered."""
    return place.recovered.estimate * (1 if place.scrubs is None else place.scrubs / 100)


def _listed(described: HypothesisRecord, versions: bool) -> bool:
    """Tell whether a hypothesis has a place: no random one does, and one that changed only with `versions`."""
    return not described.null_of and (versions or VERSION not in described.name)


def _place(name: str, best: Mapping[str, StudyResults], known: Sequence[StudyResults], part: str) -> Place:
    """Make the place of a hypothesis, behind the first of those that scrub alike by the pairings that both have."""
    experiment, own, described = f"{name}/{part}", best[name], best[name].described(name)
    claim = own.result.claim(experiment)
    score = {each: of.result.recovered(f"{each}/{part}").estimate for each, of in best.items()}
    alike = [each for each, of in best.items() if claim.alike(of.result.claim(f"{each}/{part}"))]
    leader = max(alike, key=lambda each: score[each])
    both = [each for each in known if {(name, part), (leader, part)} <= set(each.result.rows) and name != leader]
    shared = max(both, key=lambda each: len(each.pairings), default=None)
    values = resampled_difference(shared, experiment, f"{leader}/{part}") if shared else None
    return Place(
        hypothesis=name,
        parameters=described.parameters,
        recovered=own.result.recovered(experiment),
        loss=own.result.interval("loss", experiment),
        kl=own.result.interval("kl", experiment),
        pairings=len(own.pairings),
        scrubs=claim.scrubs,
        front=False,
        rank=1 + sum(score[each] > score[name] + SAME_PERCENT for each in alike),
        behind=shared.result.bootstrap.interval(values) if shared and values is not None else None,
        chance=chance(own, name, part),
        hash=described.hashes.get(part, ""),
        time=own.about.get("time", ""),
        left_out=described.left_out,
        lacks=len(described.left_out.of(part)),
    )
