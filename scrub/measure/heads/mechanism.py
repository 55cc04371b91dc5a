"""The mechanistic score of a head: which single path into its keys, queries and values recovers most loss.

A mechanistic induction head (Elhage et al. 2021, A Mathematical Framework for Transformer Circuits, "Induction heads",
https://transformer-circuits.pub/2021/framework/index.html) is defined by paths: its keys read the value path of a
previous-token head, its queries and values the embedding. Of all hypotheses that keep one path into a slot of a head,
the one that recovers most loss says what the best shortest story of that head is, and how much it leaves unexplained.

Percent recovered is 100 for the unscrubbed model, and 0 with all that the slot reads resampled while the other slots,
and the rest of the model, read the reference. Three paths at once start from all three slots resampled, together from
one other sequence: where all sequences repeat after the same number of tokens, the queries and keys of that sequence
agree with each other and such a score is too high, so take text, or repeats of different lengths.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
import pandas as pd
from jaxtyping import Bool, Float, Int

from scrub.data.examples import Examples, Tokens
from scrub.measure.heads.attention import attention_to_previous
from scrub.measure.heads.roles import RULES
from scrub.measure.heads.score import Head, check_head, head_name
from scrub.measure.heads.single_paths import Paths, SinglePaths, path_name, resampled_name
from scrub.models.model import Model
from scrub.paths.pattern import SLOTS
from scrub.study.evaluate import evaluate
from scrub.study.experiments import UNSCRUBBED, Experiment, Experiments
from scrub.study.gates import Gates
from scrub.study.metric import LOSS
from scrub.study.settings import Settings, obeyed
from scrub.study.statistics import Bootstrap, recovered
from scrub.text.errors import ScrubError
from scrub.text.frames import plain
from scrub.text.numbers import PLAIN, Interval

BEST_PATHS = 3  # of each slot that are tried with those of the other slots
NAMES = {"q": "queries", "k": "keys", "v": "values"}
CANDIDATE_HEADS = 8  # on the best key paths whose attention to the previous token is measured


@dataclass(frozen=True)
class PathScore:
    """Score of one path into each of these slots: percent recovered, and the loss then, in nats."""

    paths: Paths
    recovered: Interval
    loss: Interval

    @property
    def slots(self) -> str:
        """The slots that are tested: k, or q k v."""
        return " ".join(self.paths)

    @property
    def path(self) -> str:
        """The path, with its slot where there are several."""
        return next(iter(self.paths.values())) if len(self.paths) == 1 else path_name(self.paths)


@dataclass(frozen=True)
class Mechanism:
    """The single-path hypotheses of one head, the best first.

    `unscrubbed` is the loss in nats, `gaps` the nats that resampling all of some slots costs, `previous` the mean
    attention (fraction) to the previous position of the heads on the best key paths.
    """

    model: str
    head: str
    sequences: int
    positions: int
    unscrubbed: Interval
    gaps: Mapping[str, Interval]
    scores: tuple[PathScore, ...]
    previous: Mapping[str, float]
    gates: Gates

    def frame(self) -> pd.DataFrame:
        """List every hypothesis: slots, path, percent recovered with its 95 % interval, loss in nats."""
        rows = [
            (score.slots, score.path, *vars(score.recovered).values(), score.loss.estimate) for score in self.scores
        ]
        return pd.DataFrame(rows, columns=["slots", "path", "recovered", "low", "high", "loss"])

    def of(self, slots: str) -> list[PathScore]:
        """List the hypotheses about some slots, the best first."""
        return [score for score in self.scores if score.slots == slots]

    def standard(self, slots: str) -> PathScore | None:
        """Find the best of those about some slots that are the standard picture; None where there is none."""
        fits = (
            score
            for score in self.of(slots)
            if all(is_standard(slot, path, self.previous) for slot, path in score.paths.items())
        )
        return next(fits, None)

    def conclusions(self) -> list[str]:
        """Say in sentences what the scores mean for the head."""
        return [*(_about(self, slots) for slots in self.gaps), _BEHAVIOURAL]

    def numbers(self) -> dict[str, Any]:
        """List all numbers, in types that JSON has."""
        numbers: dict[str, Any] = plain(
            {
                "head": self.head,
                "sequences": self.sequences,
                "positions": self.positions,
                "unscrubbed": self.unscrubbed,
                "gaps": self.gaps,
                "previous": self.previous,
                "rows": self.frame(),
                "conclusions": self.conclusions(),
            }
        )
        return numbers


_BEHAVIOURAL = (
    "Matching prefixes and copying on repeated random tokens make a behavioural induction head (Olsson et al. 2022); "
    "that doesn't make it a mechanistic one (Elhage et al. 2021), whose keys read a previous-token head and whose "
    "queries and values read the embedding: only what such paths recover does."
)


def _about(of: Mechanism, slots: str) -> str:
    """Say how much the best path of a slot, or of each, recovers, and that of the standard picture."""
    best, standard, gap = of.of(slots)[0], of.standard(slots), of.gaps[slots]
    names = NAMES.get(slots, "all three together")
    if gap.low <= 0:
        return f"{names}: resampling them costs {_nats(gap)}, no more than chance may: percentages say nothing here."
    text = f"{names}: {best.path} recovers {best.recovered} % of the {_nats(gap)} that resampling them costs; "
    text += f"{100 - best.recovered.estimate:.1f} % is left unexplained. "
    if standard is best:
        return text + "That is the path of the standard induction head."
    if standard is None:
        return text + "No head here has keys for the standard induction head: none below attends to the previous token."
    return text + f"The standard induction head's {standard.path} recovers {standard.recovered} %."


def _nats(value: Interval) -> str:
    return f"{PLAIN.with_ends(value, 3)} nats"


def is_standard(slot: str, path: str, previous: Mapping[str, float]) -> bool:
    """Tell whether a path is that of the standard picture: keys by a previous-token head, all else the embedding."""
    if slot != "k":
        return "/" not in path
    return previous.get(_moved_by(path) or "", 0.0) >= RULES["prev"][2]


def mechanism(
    model: Model,
    on: Examples | Tokens,
    selected: Bool[np.ndarray, "sequence position"],
    head: Head,
    *,
    slots: Sequence[str] = SLOTS,
    depth: int = 2,
    masks: Sequence[str] = (),
    settings: Settings | None = None,
) -> Mechanism:
    """Measure every single-path hypothesis of a head's slots, and the best of each slot together.

    `selected` are the positions that are scored; `depth` is how many components a path has, the embedding counted;
    `masks` are the names of masks under which the head that reads the embedding is tried besides. Raises ScrubError for
    a head, slot or mask that isn't there, or too many paths; GateError if a gate fails.
    """
    asked = None if settings is None else obeyed(settings, "mechanism")
    check_head(model, head)
    if not slots or set(slots) - set(SLOTS) or depth < 1:
        raise ScrubError(
            f"slots are some of {', '.join(SLOTS)}, and a depth is at least 1: not {', '.join(slots)}, {depth}"
        )
    slots = [slot for slot in SLOTS if slot in slots]
    paths = SinglePaths(model.graph, head, depth, masks)
    usual = Settings(dtype=str(model.dtype).removeprefix("torch."), device=str(model.device))
    examples = Examples.of(on, selected)
    run = _Run(model, examples, paths, asked or usual)
    scores: dict[str, list[PathScore]] = {}
    for slot in slots:
        scores[slot] = run.scores([{slot: path} for path in paths.paths(slot)])
    previous = _attention_to_previous(model, examples.tokens, scores.get("k", ()))
    if len(slots) == len(SLOTS):
        scores[" ".join(slots)] = run.scores(list(_together(scores, previous)))
    return Mechanism(
        model=model.name,
        head=head_name(head),
        sequences=len(examples),
        positions=int(selected.sum()),
        unscrubbed=run.bootstrap.interval(run.means[UNSCRUBBED]),
        gaps={tested: run.gap(tested) for tested in scores},
        scores=tuple(score for some in scores.values() for score in some),
        previous=previous,
        gates=Gates.joined(run.gates),
    )


class _Run:
    """A run of hypotheses, all on the same pairs and with the same resamples of examples."""

    def __init__(self, model: Model, examples: Examples, paths: SinglePaths, settings: Settings) -> None:
        self._model, self._examples, self._paths, self._settings = model, examples, paths, settings
        self.bootstrap = Bootstrap(examples.counts, settings.seed, examples.documents)
        self.means: dict[str, Float[np.ndarray, " one_plus_resample"]] = {}
        self.gates: list[Gates] = []

    def scores(self, hypotheses: Sequence[Paths]) -> list[PathScore]:
        """Score hypotheses about the same slots, the best first."""
        resampled = self._paths.resampled(hypotheses[0])
        self._measure([resampled, *(self._paths.keeping(paths) for paths in hypotheses)])
        scores = [self._score(paths, resampled.name) for paths in hypotheses]
        return sorted(scores, key=lambda score: -score.recovered.estimate)

    def gap(self, slots: str) -> Interval:
        """Estimate the nats that resampling all that some slots read costs."""
        return self.bootstrap.interval(self.means[resampled_name(slots.split())] - self.means[UNSCRUBBED])

    def _score(self, paths: Paths, resampled: str) -> PathScore:
        loss = self.means[path_name(paths)]
        share = recovered(loss, self.means[resampled], self.means[UNSCRUBBED])
        return PathScore(paths, self.bootstrap.interval(share), self.bootstrap.interval(loss))

    def _measure(self, scrubbed: Sequence[Experiment]) -> None:
        """Keep the mean loss of each experiment, with its resamples."""
        experiments = Experiments(self._paths.unscrubbed, tuple(scrubbed))
        measured = evaluate(self._model, experiments, self._examples, [LOSS], self._settings)
        self.gates.append(measured.gates)
        sums = np.stack([measured.sums[LOSS.name, name] for name in measured.names])
        self.means |= dict(zip(measured.names, self.bootstrap.means(sums), strict=True))


def _together(scores: Mapping[str, Sequence[PathScore]], previous: Mapping[str, float]) -> Iterator[Paths]:
    """Combine the best paths of each slot in every way; the standard picture among them, where there is one."""
    best = {}
    for slot, some in scores.items():
        alike: dict[str, str] = {}  # of a path and its parts under masks, the best
        for score in some:
            alike.setdefault(re.sub(r"\[.*?\]", "", score.paths[slot]), score.paths[slot])
        paths = list(alike.values())
        standard = [path for path in paths if is_standard(slot, path, previous)]
        best[slot] = list(dict.fromkeys([*paths[:BEST_PATHS], *standard[:1]]))
    for together in product(*best.values()):
        yield dict(zip(best, together, strict=True))


def _attention_to_previous(
    model: Model, tokens: Int[np.ndarray, "sequence position_plus_one"], scores: Sequence[PathScore]
) -> dict[str, float]:
    """Measure the mean attention to the previous position of the heads that the best key paths' values pass."""
    heads = dict.fromkeys(filter(None, (_moved_by(score.paths["k"]) for score in scores)))
    attention = {}
    for name in list(heads)[:CANDIDATE_HEADS]:
        layer, head = map(int, name.split("."))
        attention[name] = float(attention_to_previous(model, tokens, layer, head)[:, 1:].mean())
    return attention


def _moved_by(path: str) -> str | None:
    """Find the head, such as 0.1, of a path that is an input's value path through one head."""
    steps = path.split("/")
    return steps[0].removeprefix("a").partition("[")[0] if len(steps) == 3 and steps[1] == "v" else None
