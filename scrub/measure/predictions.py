"""How probable a model finds the expected tokens of prompts."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float

from scrub.data.prompts.prompts import PromptPairs, Prompts
from scrub.models.model import Model
from scrub.study.statistics import Bootstrap
from scrub.text.frames import json_text
from scrub.text.looks import Shown
from scrub.text.numbers import Interval

AT_ONCE = 1 << 26  # logits that are in memory at once


def probabilities(model: Model, prompts: Prompts) -> Float[np.ndarray, " prompt"]:
    """The probability of each prompt's expected token, after the query."""
    at_once = max(1, AT_ONCE // (prompts.tokens.shape[1] * model.vocab_size))
    found = []
    with torch.inference_mode():
        for start in range(0, len(prompts), at_once):
            rows = slice(start, start + at_once)
            chances = model(torch.from_numpy(prompts.tokens[rows]))[:, -1].double().softmax(-1).cpu()
            found.append(chances.gather(1, torch.from_numpy(prompts.expected[rows])[:, None])[:, 0])
    return torch.cat(found).numpy()


@dataclass(frozen=True)
class Predicted(Shown):
    """Prompts, or pairs of them, and the probability of the clean answer in each: a table when printed."""

    model: Model
    prompts: Prompts | PromptPairs
    seed: int
    clean: Float[np.ndarray, " prompt"]
    corrupted: Float[np.ndarray, " prompt"] | None  # of pairs

    @staticmethod
    def of(model: Model, prompts: Prompts | PromptPairs, seed: int = 0) -> Predicted:
        """What a model makes of prompts; `seed` determines the intervals."""
        if isinstance(prompts, Prompts):
            return Predicted(model, prompts, seed, probabilities(model, prompts), None)
        both = probabilities(model, prompts.clean), probabilities(model, prompts.corrupted)
        return Predicted(model, prompts, seed, *both)

    @property
    def means(self) -> dict[str, Interval]:
        """The mean over prompts, of clean and of corrupted ones, with its 95 % interval; one prompt has none."""
        return {
            name: Bootstrap.interval(Bootstrap(np.ones(len(each), dtype=np.int64), self.seed).means(each[None])[0])
            for name, each in (("clean", self.clean), ("corrupted", self.corrupted))
            if each is not None
        }

    def frame(self) -> pd.DataFrame:
        """The prompts' own frame, with the probabilities beside it."""
        frame = self.prompts.frame(self.model.tokenizer).assign(probability=self.clean)
        return frame if self.corrupted is None else frame.assign(corrupted_probability=self.corrupted)

    def to_json(self) -> str:
        """What `--json` writes: each prompt's row of the frame, its tokens, and the means; no interval is null."""
        pairs = isinstance(self.prompts, PromptPairs)
        clean = self.prompts.clean if isinstance(self.prompts, PromptPairs) else self.prompts
        rows = self.frame().to_dict(orient="records")
        for at, row in enumerate(rows):
            row |= {"tokens": clean.tokens[at].tolist(), "expected_token": int(clean.expected[at])}
            if isinstance(self.prompts, PromptPairs):
                row["corrupted_tokens"] = self.prompts.corrupted.tokens[at].tolist()
                row["changed"] = self.prompts.changed[at].nonzero()[0].tolist()
        means = self.means
        if len(clean) == 1:
            means = {name: Interval(each.estimate, np.nan, np.nan) for name, each in means.items()}
        about = {"format": 1, "model": self.model.name, "kind": clean.kind, "seed": self.seed, "pairs": pairs}
        return json_text({**about, "means": means, "prompts": rows})
