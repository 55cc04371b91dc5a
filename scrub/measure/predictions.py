"""Measure how probable a model finds the expected tokens of prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.data.prompts.prompts import prompt_frame, resampled
from scrub.data.repeated import NOWHERE
from scrub.models.model import Model
from scrub.study.metric import losses
from scrub.study.read import read
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


@dataclass(frozen=True, repr=False)
class Predictions(TabularResult):
    """Prompts, or pairs of them, and the probability of the clean answer in each: a table when printed."""

    model: Model
    prompts: Examples
    seed: int
    clean: Float[np.ndarray, " prompt"]
    corrupted: Float[np.ndarray, " prompt"] | None  # of pairs, all of which are as long

    @staticmethod
    def of(model: Model, prompts: Examples, seed: int = 0) -> Predictions:
        """Compute what a model makes of prompts; `seed` determines the intervals."""
        paired = prompts.other is not None and prompts.aligned
        others = probabilities(model, prompts.swapped()) if paired else None
        return Predictions(model, prompts, seed, probabilities(model, prompts), others)

    @property
    def means(self) -> dict[str, Interval]:
        """The mean over prompts, of clean and of corrupted ones, with its 95 % interval; one prompt has none.

        Intervals are over templates where the prompts name some.
        """
        bootstrap = Bootstrap(np.ones(len(self.clean), dtype=np.int64), self.seed, self.prompts.documents)
        return {
            name: bootstrap.interval(bootstrap.means(values[None])[0])
            for name, values in (("clean", self.clean), ("corrupted", self.corrupted))
            if values is not None
        }

    def frame(self) -> pd.DataFrame:
        """List the prompts' own frame, with the probabilities beside it."""
        frame = prompt_frame(self.prompts, self.model.tokenizer).assign(probability=self.clean)
        return frame if self.corrupted is None else frame.assign(corrupted_probability=self.corrupted)

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
        means = self.means
        if len(prompts) == 1:
            means = {name: Interval(mean.estimate, np.nan, np.nan) for name, mean in means.items()}
        about = {**self.model.about, "kind": prompts.name, "seed": self.seed, "pairs": prompts.other is not None}
        about |= {"intervals_over": resampled(prompts, "prompts")}
        about |= {"digest": prompts.digest, "notes": list(prompts.notes)} if prompts.origin is not None else {}
        return json_text({"format": 1, **about, "means": means, "prompts": rows})
