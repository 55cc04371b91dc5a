"""Measure how probable a model finds the expected tokens of prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Float

from scrub.data.examples import Examples
from scrub.data.prompts.prompts import prompt_frame
from scrub.models.model import Model
from scrub.study.metric import losses
from scrub.study.read import read
from scrub.study.statistics import Bootstrap
from scrub.text.frames import json_text
from scrub.text.looks import TabularResult
from scrub.text.numbers import Interval


def probabilities(model: Model, prompts: Examples) -> Float[np.ndarray, " prompt"]:
    """Compute the probability of each prompt's expected token, after the query."""
    batches = read(model, {"loss": losses(model.graph)}, prompts.tokens, prompts.scored)
    return np.concatenate([np.exp(-batch["loss"][:, 0, 0].double().cpu().numpy()) for _, batch in batches])


@dataclass(frozen=True, repr=False)
class Predictions(TabularResult):
    """Prompts, or pairs of them, and the probability of the clean answer in each: a table when printed."""

    model: Model
    prompts: Examples
    seed: int
    clean: Float[np.ndarray, " prompt"]
    corrupted: Float[np.ndarray, " prompt"] | None  # of pairs

    @staticmethod
    def of(model: Model, prompts: Examples, seed: int = 0) -> Predictions:
        """Compute what a model makes of prompts; `seed` determines the intervals."""
        others = None if prompts.other is None else probabilities(model, prompts.swapped())
        return Predictions(model, prompts, seed, probabilities(model, prompts), others)

    @property
    def means(self) -> dict[str, Interval]:
        """The mean over prompts, of clean and of corrupted ones, with its 95 % interval; one prompt has none."""
        bootstrap = Bootstrap(np.ones(len(self.clean), dtype=np.int64), self.seed)
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
            row |= {"tokens": prompts.inputs[at].tolist(), "expected_token": int(prompts.expected[at])}
            if prompts.other is not None:
                row["corrupted_tokens"] = prompts.other[at, :-1].tolist()
                row["changed"] = prompts.changed[at].nonzero()[0].tolist()
        means = self.means
        if len(prompts) == 1:
            means = {name: Interval(mean.estimate, np.nan, np.nan) for name, mean in means.items()}
        about = {**self.model.about, "kind": prompts.name, "seed": self.seed, "pairs": prompts.other is not None}
        return json_text({"format": 1, **about, "means": means, "prompts": rows})
