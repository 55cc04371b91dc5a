"""Measure how probable a model finds the expected tokens of prompts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.data.for_model import check_on
from scrub.data.prompts.prompts import prompt_frame, resampled
from scrub.data.repeated import NOWHERE
from scrub.models.model import Model
from scrub.paths.cut import Cut
from scrub.study.evaluate import evaluate
from scrub.study.experiments import UNSCRUBBED, Experiments, build
from scrub.study.gates import Gates
from scrub.study.metric import Metric, check_unchanged, losses
from scrub.study.read import read
from scrub.study.settings import Settings
from scrub.study.statistics import Bootstrap
from scrub.text.frames import json_text
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval
from scrub.text.spans import END


def probabilities(model: Model, prompts: Examples) -> Float[np.ndarray, " prompt"]:
    """Compute the probability of each prompt's expected token, or of all of its answers, behind its end."""
    ends = prompts.at(END)
    if prompts.answers is None or prompts.answers.shape[1] == 1:
        batches = read(model, {"loss": losses(model.graph)}, prompts.tokens, ends)
        return np.concatenate([np.exp(-batch["loss"][:, 0, 0].double().cpu().numpy()) for _, batch in batches])
    found, start = [], 0
    for _, batch in read(model, {"logits": model.graph}, prompts.tokens, ends):
        chances = batch["logits"][:, 0].double().softmax(1).cpu().numpy()
        answers = prompts.answers[start : start + len(chances)]
        some = np.take_along_axis(chances, np.maximum(answers, 0), 1)
        found.append((some * (answers != NOWHERE)).sum(1))
        start += len(chances)
    return np.concatenate(found)


def _measured(
    model: Model, prompts: Examples, seed: int, metrics: Sequence[Metric]
) -> tuple[dict[Metric, Float[np.ndarray, " prompt"]], Gates]:
    """Measure metrics of the unchanged model on prompts, behind the gates."""
    alone = Experiments(build(UNSCRUBBED, Cut(model.graph)), ())
    seen = evaluate(model, alone, prompts, metrics, Settings(seed=seed), on=f" on {prompts.kind}")
    return {each: seen.sums[each.name, UNSCRUBBED] for each in metrics}, seen.gates


@dataclass(frozen=True, repr=False)
class Predictions(TabularResult):
    """Prompts, or pairs of them, and the probability of the clean answer in each: a table when printed.

    `measured` has metrics that were asked for, of the clean prompts, `beside` the same behind the corrupted ones, of
    the clean answers, and `gates` what was seen before they were.
    """

    model: Model
    prompts: Examples
    seed: int
    clean: Float[np.ndarray, " prompt"]
    corrupted: Float[np.ndarray, " prompt"] | None  # of pairs, all of which are as long
    measured: Mapping[Metric, Float[np.ndarray, " prompt"]] = field(default_factory=dict)
    beside: Mapping[Metric, Float[np.ndarray, " prompt"]] = field(default_factory=dict)
    gates: Gates | None = None

    @staticmethod
    def of(model: Model, prompts: Examples, seed: int = 0, metrics: Sequence[Metric] = ()) -> Predictions:
        """Compute what a model makes of prompts, and metrics of it; `seed` determines the intervals.

        Raises ScrubError for a model that predicts no such tokens, for a metric that looks at what the prompts don't
        have, and for the KL divergence, as nothing is changed; GateError if a gate fails.
        """
        check_unchanged(metrics)
        check_on(prompts, model)
        for metric in metrics:
            metric.check(prompts)
        swapped = prompts.swapped() if prompts.other is not None and prompts.aligned else None
        others = probabilities(model, swapped) if swapped is not None else None
        found = Predictions(model, prompts, seed, probabilities(model, prompts), others)
        if not metrics:
            return found
        measured, gates = _measured(model, prompts, seed, metrics)
        beside, theirs = ({}, gates) if swapped is None else _measured(model, swapped, seed, metrics)
        return replace(found, measured=measured, beside=beside, gates=Gates.joined([gates, theirs]))

    @property
    def means(self) -> dict[str, Interval]:
        """The mean over prompts, of clean and of corrupted ones, with its 95 % interval; one prompt has none.

        Intervals are over templates where the prompts name some.
        """
        both = {"clean": self.clean, "corrupted": self.corrupted}
        return self._means({name: values for name, values in both.items() if values is not None})

    @property
    def metric_means(self) -> dict[str, Interval]:
        """The mean over prompts of each metric that was asked for, in its unit, with its 95 % interval, as `means`."""
        return self._means({metric.name: values for metric, values in self.measured.items()})

    @property
    def corrupted_metric_means(self) -> dict[str, Interval]:
        """The same after the corrupted prompts, of pairs of one length: how far those go for the clean answers."""
        return self._means({metric.name: values for metric, values in self.beside.items()})

    def _means(self, of: Mapping[str, Float[np.ndarray, " prompt"]]) -> dict[str, Interval]:
        if len(self.prompts) == 1:
            return {name: Interval(float(values[0]), np.nan, np.nan) for name, values in of.items()}
        bootstrap = Bootstrap(np.ones(len(self.clean), dtype=np.int64), self.seed, self.prompts.documents)
        return {name: bootstrap.interval(bootstrap.means(values[None])[0]) for name, values in of.items()}

    def frame(self) -> pd.DataFrame:
        """List the prompts' own frame, with the probabilities beside it, and the metrics by their names."""
        frame = prompt_frame(self.prompts, self.model.tokenizer).assign(probability=self.clean)
        if self.corrupted is not None:
            frame = frame.assign(corrupted_probability=self.corrupted)
        frame = frame.assign(**{metric.name: values for metric, values in self.measured.items()})
        return frame.assign(**{f"corrupted_{metric.name}": values for metric, values in self.beside.items()})

    def to_json(self) -> str:
        """Write what `--json` writes: each prompt's row of the frame, its tokens, the means; no interval is null."""
        prompts = self.prompts
        rows = self.frame().to_dict(orient="records")
        for at, row in enumerate(rows):
            own = slice(prompts.ends[at] + 1)
            row |= {"tokens": prompts.inputs[at, own].tolist(), "expected_token": int(prompts.expected[at])}
            row |= {
                name: tokens[at][tokens[at] != NOWHERE].tolist()
                for name, tokens in (("answers", prompts.answers), ("wrong_answers", prompts.wrong))
                if tokens is not None
            }
            if prompts.other is not None and prompts.aligned:
                row["corrupted_tokens"] = prompts.other[at, own].tolist()
                row["changed"] = prompts.changed[at].nonzero()[0].tolist()
        about = {**self.model.about, "kind": prompts.name, "seed": self.seed, "pairs": prompts.other is not None}
        about |= {"intervals_over": resampled(prompts, "prompts")}
        about |= {"digest": prompts.digest, "notes": list(prompts.notes)} if prompts.origin is not None else {}
        if self.gates is not None:
            units = {metric.name: metric.unit for metric in self.measured}
            about |= {"metrics": units, "metric_means": self.metric_means, "gates": self.gates.deviations}
            about |= {"corrupted_metric_means": self.corrupted_metric_means} if self.beside else {}
        return json_text({"format": 1, **about, "means": self.means, "prompts": rows})
