"""The result of a run: losses by sequence, and the table, data frame and JSON that are made of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from jaxtyping import Float, Int

from scrub.data.examples import LABEL, PROMPTS, TEXT, Examples, sizes_said
from scrub.data.windows import counted
from scrub.paths.roles import OF_STUDY
from scrub.study.claims import Claim
from scrub.study.controls import Control, Measured, verdict
from scrub.study.experiments import ALL_SCRUBBED, BASELINE, UNSCRUBBED, Name
from scrub.study.gates import Gates
from scrub.study.joint import Joint
from scrub.study.metric import LOSS
from scrub.study.settings import AS_USUAL, DRAWN, Computed
from scrub.study.statistics import Bootstrap, plain_ratio, recovered
from scrub.study.study import by_metric
from scrub.text.errors import GateError, ScrubError
from scrub.text.frames import interval_columns, json_text, plain
from scrub.text.looks import TabularResult, look
from scrub.text.numbers import PLAIN, Interval
from scrub.text.wording import at_commit, with_digest, with_unit

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BIGRAM = Name("bigram")
FORMAT = 1
NOTHING_NATS = 1e-6  # a token: a baseline that changes the loss by no more leaves nothing to recover


@dataclass(frozen=True)
class Row:
    """One part of one hypothesis: losses and KL in nats a token, recovered and the plain ratio in percent."""

    hypothesis: str
    part: str
    loss: Interval
    recovered: Interval
    mean_abs_change: Interval
    kl: Interval
    scrubs: float | None = None  # percent of the baseline's paths that it resamples
    published: float | None = None  # recovered, where that was published for this model
    published_ratio: float | None = None  # where that was published for this model
    ratio: Interval | None = None  # to the unscrubbed model's, of a metric that it stands beside

    @property
    def name(self) -> Name:
        """The name of its experiment."""
        return Name(self.hypothesis, self.part)


@dataclass(frozen=True, repr=False)
class Result(TabularResult):
    """The sums over each sequence's selected positions, in nats, over all draws.

    `run("induction/naive").recovered("naive/all")` is an interval in percent; `frame()` and `to_json()` hold the table.
    `loss` has a line for every experiment and the model-free bigram, `change` (absolute change of the loss
    of a token) and `kl` one for every experiment; `positions` counts what was summed. `context` is the number of
    positions a sequence, where it isn't the model's own, `lengths` the fewest and the most of prompts;
    `published` has percentages by experiment, for this model.
    Where a study measures another `metric`, that stands in place of the loss, in its `unit`; a bigram has none.
    Of several that were measured together, `others` are the results of those behind the first: tables, frames, JSON and
    plots have them all, and `by_metric` each alone. `kind` is that of the examples.
    """

    study: str
    model: str
    data: str
    draws: int
    seed: int
    rows: Sequence[tuple[str, str]]  # hypothesis, part
    loss: Mapping[str, Float[np.ndarray, " sequence"]]
    change: Mapping[str, Float[np.ndarray, " sequence"]]
    kl: Mapping[str, Float[np.ndarray, " sequence"]]
    positions: Int[np.ndarray, " sequence"]
    gates: Gates
    context: int | None = None
    lengths: tuple[int, int] | None = None
    published: Mapping[str, float] = field(default_factory=dict)
    metric: str = "loss"
    unit: str = "nats"
    with_ratio: bool = False  # whether the plain ratio to the unscrubbed model's stands beside what is recovered
    computed: Computed = AS_USUAL
    claims: Mapping[str, Claim] = field(default_factory=dict)  # how much each experiment scrubs, where that is known
    digest: str = ""  # the hash of the tokens and the scored positions
    begin: str = ""  # what each sequence begins with, in words, where that was chosen here
    notes: tuple[str, ...] = ()  # what was joined, cut, left out and guessed of the data
    documents: Int[np.ndarray, " sequence"] | None = None  # that each sequence is of; by default one of its own
    other: str = DRAWN  # what y stands for
    fold: str = ""  # of the data that were read; all of them without one
    commits: Mapping[str, str] = field(default_factory=dict)  # of what is from a hub: see :attr:`Trial.commits`
    kind: str = TEXT
    published_ratios: Mapping[str, float] = field(default_factory=dict)
    roles: str = ""  # which heads the roles of its rules mean, where those are the study's own
    others: tuple[Result, ...] = ()
    controls: tuple[Control, ...] = ()  # of hypotheses whose draws have features
    joint: Mapping[str, Joint] = field(default_factory=dict)  # the classes of those features, by hypothesis

    @property
    def by_metric(self) -> dict[str, Result]:
        """The result of each metric that was measured, alone, by its name."""
        return {each.metric: replace(each, others=()) for each in (self, *self.others)}

    @property
    def measured(self) -> str:
        """The metric and its unit: "loss, nats"."""
        return with_unit(self.metric, self.unit)

    @property
    def named(self) -> bool:
        """Whether each row says its metric and unit: unless all are of the loss."""
        return self.metric != LOSS.name or bool(self.others)

    @property
    def documents_called(self) -> str:
        """What intervals are over: documents; of prompts rows, or templates where there are fewer."""
        if self.kind != PROMPTS:
            return "documents"
        return "templates" if self.bootstrap.of() else "rows"

    @cached_property
    def bootstrap(self) -> Bootstrap:
        """The resamples that all of its intervals are of."""
        return Bootstrap(self.positions, self.seed, self.documents)

    @cached_property
    def _means(self) -> dict[tuple[str, str], Float[np.ndarray, " resample"]]:
        """(measure, experiment) -> the mean a token and its resamples."""
        kinds = {"loss": self.loss, "change": self.change, "kl": self.kl}
        keys = [(kind, name) for kind, of in kinds.items() for name in of]
        means = self.bootstrap.means(np.stack([kinds[kind][name] for kind, name in keys]))
        return dict(zip(keys, means, strict=True))

    def _mean(self, measure: str, experiment: str) -> Float[np.ndarray, " resample"]:
        if (measure, experiment) not in self._means:
            kinds, names = (list(dict.fromkeys(each)) for each in zip(*self._means, strict=True))
            wrong = f"measure {measure!r}" if measure not in kinds else f"experiment {experiment!r}"
            known = kinds if measure not in kinds else [name for kind, name in self._means if kind == measure]
            raise ScrubError(f"there is no {wrong}: there are {', '.join(known or names)}")
        return self._means[measure, experiment]

    def interval(self, measure: str, experiment: str) -> Interval:
        """Estimate the mean loss, change or KL of an experiment, in nats a token, with its interval.

        Raises ScrubError for a measure or an experiment that there is not.
        """
        return self.bootstrap.interval(self._mean(measure, experiment))

    def resampled_recovery(self, experiment: str) -> Float[np.ndarray, " resample"]:
        """Compute the percent of loss recovered by an experiment: the estimate, then its resamples."""
        scrubbed, baseline, unscrubbed = (self._mean("loss", n) for n in (experiment, BASELINE, UNSCRUBBED))
        return recovered(scrubbed, baseline, unscrubbed)

    def recovered(self, experiment: str) -> Interval:
        """Estimate the percent of loss recovered by an experiment, with its interval."""
        return self.bootstrap.interval(self.resampled_recovery(experiment))

    def ratio(self, experiment: str) -> Interval:
        """Estimate the plain ratio of an experiment's metric to the unscrubbed model's in percent."""
        return self.bootstrap.interval(plain_ratio(self._mean("loss", experiment), self._mean("loss", UNSCRUBBED)))

    def claim(self, experiment: str) -> Claim:
        """Say how much an experiment scrubs."""
        return self.claims.get(experiment) or Claim((experiment.rpartition("/")[2],))

    def improvement(self, refined: str, over: str) -> Interval:
        """Estimate how many percent more one experiment recovers than another, paired on the same sequences."""
        return self.bootstrap.interval(self.resampled_recovery(refined) - self.resampled_recovery(over))

    @property
    def heading(self) -> str:
        """The study, model, data, draws and seed, in one line."""
        draws = f", {self.draws} draws" if self.draws > 1 else ""
        return f"{self.measured_on}{draws}, seed {self.seed}"

    @property
    def measured_on(self) -> str:
        """The study, model and data, whichever the pairings."""
        size = str(self.context) if self.lengths is None else sizes_said(*self.lengths)
        length = "" if self.context is None and self.lengths is None else f" of {size} positions"
        scored = int(self.positions.sum()) // self.draws
        begin = f" {self.begin}" if self.begin else ""
        of = self.bootstrap.of(self.documents_called)
        kind = ("prompt" if self.kind == PROMPTS else "sequence") + "s" * (len(self.positions) != 1)
        fold = f"fold {self.fold}, " if self.fold else ""
        sequences = f"{fold}{len(self.positions)} {kind}{length}{begin}{of}{self.computed}"
        model, data = (at_commit(getattr(self, of), self.commits.get(f"{of}_commit", "")) for of in ("model", "data"))
        model, data = with_digest(model, self.commits.get("weights", "")), with_digest(data, self.digest)
        study = by_metric(self.study)[0] if self.others else self.study  # of several, each table says which
        return f"{study} on {model}, {data}: {sequences}, {counted(scored, 'selected position')}"

    @property
    def roles_said(self) -> str:
        """Which heads the roles of its rules mean, where those are the study's own, in one line."""
        return f"{OF_STUDY}: {self.roles}"

    @property
    def gap(self) -> Interval:
        """The baseline's loss less the unscrubbed one's, in nats: what 100 % stands for."""
        return self.bootstrap.interval(self._means["loss", BASELINE] - self._means["loss", UNSCRUBBED])

    @cached_property
    def worse(self) -> int:
        """The sign of a change for the worse: 1 for the loss; for another metric, towards the baseline."""
        return 1 if self.metric == LOSS.name or self.gap.estimate > 0 else -1

    @property
    def warnings(self) -> list[str]:
        """The gates' warnings, and those of scales that are themselves uncertain."""
        every = [text for each in (self, *self.others) for text in each._warnings]
        return [*self.gates.warnings, *dict.fromkeys(every)]

    @property
    def _warnings(self) -> list[str]:
        gap, warnings = self.gap, list[str]()
        if gap.low <= 0 and (self.metric == LOSS.name or gap.high >= 0):  # others may be better where they are higher
            apart = PLAIN.number(gap.estimate, 2, unit=self.unit, kind="g")
            of = "" if self.metric == LOSS.name else f" {self.metric}"
            warnings.append(
                f"baseline - unscrubbed{of} is {apart}, {PLAIN.ends(gap, 2, kind='g')}: that "
                "is not clearly apart from 0, so percentages of it are not to be trusted; take more sequences or "
                "other positions"
            )
        return [*warnings, *self.bootstrap.few(self.documents_called)]

    def checked(self) -> Result:
        """Return this result, or raise GateError where a loss is NaN or the baseline leaves nothing to recover."""
        for each in self.others:
            each.checked()
        for kind, of in ((self.metric, self.loss), ("KL", self.kl)):
            for name, sums in of.items():
                if not np.isfinite(sums).all():
                    raise GateError(f"the {kind} of {name} is no finite number: use a dtype of more range or precision")
        if self.nothing_to_recover:
            raise GateError(self.nothing_to_recover)
        return self

    @property
    def nothing_to_recover(self) -> str:
        """Why there are no percentages: the baseline is as good as the unscrubbed model; empty where there are."""
        change = self.interval("change", BASELINE).estimate
        if change > NOTHING_NATS and self.gap.estimate != 0:
            return ""
        unit = f" {self.unit}" if self.unit else ""
        apart = f"they differ by {change:.0e}{unit} a token, and in the mean by {self.gap.estimate:.0e}"
        return (
            f"the baseline gives the unscrubbed {self.metric} ({apart}): a "
            "percentage of nothing means nothing, so take a baseline or positions where what is resampled matters"
        )

    @cached_property
    def table(self) -> list[Row]:
        """A row for every part of every hypothesis, in order."""
        return [
            Row(
                name.hypothesis,
                name.part,
                self.interval("loss", name),
                self.recovered(name),
                self.interval("change", name),
                self.interval("kl", name),
                self.claim(name).scrubs,
                self.published.get(name),
                self.published_ratios.get(name),
                self.ratio(name) if self.with_ratio else None,
            )
            for name in (Name(*row) for row in self.rows)
        ]

    @cached_property
    def controlled(self) -> list[Measured]:
        """What each control recovers, and how much more its hypothesis does, paired on the same sequences."""
        return [
            Measured(each, self.recovered(each.name), self.improvement(each.of, each.name)) for each in self.controls
        ]

    def control_frame(self) -> pd.DataFrame:
        """Make a data frame of the controls: recovered in percent, and `gain`, how many more its hypothesis recovers.

        Each row says which `hypothesis` and `part` it is a control of, and `says` what is other in it.
        """
        rows = self.controlled
        frame = pd.DataFrame(
            {
                "hypothesis": [row.control.of.hypothesis for row in rows],
                "part": [row.control.of.part for row in rows],
                "control": [row.control.kind for row in rows],
                "says": [row.control.says for row in rows],
                **interval_columns("recovered", (row.recovered for row in rows), "low", "high"),
                **interval_columns("gain", (row.gain for row in rows), "gain_low", "gain_high"),
            }
        )
        if self.named:
            frame = frame.assign(metric=self.metric, unit=self.unit)
        others = [each.control_frame().assign(metric=each.metric, unit=each.unit) for each in self.others]
        return pd.concat([frame, *others], ignore_index=True) if others else frame

    def class_frame(self) -> pd.DataFrame:
        """Make a data frame of what each hypothesis with features recovers in each joint class of them, in percent.

        `sequences` are those of the class; `label` is what the control with the label alone recovers there.
        """
        frames = [self._by_class(name, joint) for name, joint in self.joint.items()]
        frame = pd.concat(frames, ignore_index=True) if frames else pd.DataFrame()
        if self.named:
            frame = frame.assign(metric=self.metric, unit=self.unit)
        others = [each.class_frame().assign(metric=each.metric, unit=each.unit) for each in self.others]
        return pd.concat([frame, *others], ignore_index=True) if others else frame

    def _by_class(self, hypothesis: str, joint: Joint) -> pd.DataFrame:
        of = [each for each in self.controls if each.of.hypothesis == hypothesis]
        scrubbed = {"recovered": of[0].of} | {each.kind: each.name for each in of if each.kind == LABEL}
        losses = {column: self.loss[name] for column, name in scrubbed.items()}
        frame = joint.frame(losses, self.loss[BASELINE], self.loss[UNSCRUBBED], self.bootstrap)
        return frame.assign(hypothesis=hypothesis, part=of[0].of.part)

    @property
    def verdicts(self) -> list[str]:
        """What the controls say of each hypothesis, in words: what it is clearly better than, and what not."""
        by_name: dict[str, list[Measured]] = {}
        for each in self.controlled:
            by_name.setdefault(each.control.of.hypothesis, []).append(each)
        return [line for name, measured in by_name.items() for line in verdict(name, measured)]

    @property
    def losses(self) -> dict[str, Interval]:
        """The mean losses of the anchors, in nats a token."""
        names = (UNSCRUBBED, BASELINE, ALL_SCRUBBED, BIGRAM)
        return {name: self.interval("loss", name) for name in names if name in self.loss}

    def frame(self) -> pd.DataFrame:
        """Make the table a data frame: losses and KL in nats a token, recovered and its interval in percent.

        `scrubs` is the percent of the baseline's paths that is resampled. Of another metric than the loss, or several,
        each row says `metric` and `unit`; `ratio` is the plain ratio to the unscrubbed model's in percent, where it
        stands beside. `published` and `published_ratio` are there where percentages were published for the model.
        """
        rows = self.table
        frame = pd.DataFrame(
            {
                "hypothesis": [row.hypothesis for row in rows],
                "part": [row.part for row in rows],
                "loss": [row.loss.estimate for row in rows],
                **interval_columns("recovered", (row.recovered for row in rows), "low", "high"),
                "mean_abs_change": [row.mean_abs_change.estimate for row in rows],
                "kl": [row.kl.estimate for row in rows],
                "scrubs": pd.array([row.scrubs for row in rows], "float64"),
            }
        )
        if self.published:
            frame["published"] = pd.array([row.published for row in rows], "float64")
        if self.with_ratio:
            frame = frame.assign(**interval_columns("ratio", (row.ratio for row in rows), "ratio_low", "ratio_high"))
        if self.published_ratios:
            frame["published_ratio"] = pd.array([row.published_ratio for row in rows], "float64")
        if self.named:
            frame = frame.assign(metric=self.metric, unit=self.unit)
        others = [each.frame().assign(metric=each.metric, unit=each.unit) for each in self.others]
        return pd.concat([frame, *others], ignore_index=True) if others else frame

    def to_dict(self) -> dict[str, Any]:
        """Make what --json writes: the losses are the first metric's, and of several there are each one's by name."""
        each = {result.metric: result._anchors for result in (self, *self.others)}
        return {
            "format": FORMAT,
            "model": self.model,
            "data": self.data,
            **({"metric": self.metric, "unit": self.unit} if self.named else {}),
            **({} if self.kind == TEXT else {"kind": self.kind}),
            "sequences": len(self.positions),
            **({"context": self.context} if self.context is not None else {}),
            **({"lengths": list(self.lengths)} if self.lengths is not None else {}),
            **self.computed.fields,
            **({"other": self.other} if self.other != DRAWN else {}),
            **({"fold": self.fold} if self.fold else {}),
            "positions": int(self.positions.sum()) // self.draws,
            "draws": self.draws,
            "seed": self.seed,
            "losses": self._anchors,
            **({"losses_by_metric": each} if self.others else {}),
            "rows": plain(self.frame()),
            **(self._controls if self.controls else {}),
            "documents": self.bootstrap.documents,
            "worth": round(self.bootstrap.worth, 1),
            "digest": self.digest,
            **self.commits,
            **({"begin": self.begin} if self.begin else {}),
            **({"roles": self.roles} if self.roles else {}),
            **({"notes": list(self.notes)} if self.notes else {}),
        }

    @property
    def _controls(self) -> dict[str, Any]:
        by_class = {"by_class": plain(self.class_frame())} if self.joint else {}
        return {"controls": plain(self.control_frame()), **by_class, "verdicts": self.verdicts}

    @property
    def _anchors(self) -> dict[str, float]:
        return {name: interval.estimate for name, interval in self.losses.items()}

    def to_json(self) -> str:
        """Write what --json writes, as text."""
        return json_text(self.to_dict(), indent=2)

    def plot(self) -> Figure:
        """Plot the percent of loss recovered across the hypotheses, a line for each part, with intervals."""
        figure: Figure = look(self, "chart")(self).figure()
        return figure


def length_of(examples: Examples, n_ctx: int) -> dict[str, Any]:
    """Say how long the examples are: of prompts the fewest and the most positions, else how many where not as usual."""
    if examples.kind == PROMPTS:
        return {"lengths": examples.extent}
    return {"context": examples.context if examples.context != n_ctx else None}
