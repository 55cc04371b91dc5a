"""How probable a model finds the expected tokens of prompts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from jaxtyping import Float
from rich.console import Console, ConsoleOptions, RenderableType

from scrub.model import Model
from scrub.prompts.prompts import PromptPairs, Prompts
from scrub.prompts.table import prompt_table
from scrub.study.statistics import Bootstrap, Interval

AT_ONCE = 1 << 26  # logits that are in memory at once
CLEAN, CORRUPTED = "P(expected)", "P, corrupted"


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
class Predicted:
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
        means = {name: vars(each) for name, each in self.means.items()}
        if len(clean) == 1:
            means = {name: {**each, "low": None, "high": None} for name, each in means.items()}
        about = {"format": 1, "model": self.model.name, "kind": clean.kind, "seed": self.seed, "pairs": pairs}
        return json.dumps({**about, "means": means, "prompts": rows}, indent=1, allow_nan=False) + "\n"

    def __rich_console__(self, _console: Console, _options: ConsoleOptions) -> Iterator[RenderableType]:
        values = {CLEAN: self.clean} | ({} if self.corrupted is None else {CORRUPTED: self.corrupted})
        columns = {title: [f"{each:.4f}" for each in found] for title, found in values.items()}
        count = f"{len(self.prompts)} {'pair' if isinstance(self.prompts, PromptPairs) else 'prompt'}"
        count += "" if len(self.prompts) == 1 else "s"
        yield f"{self.model.name}: {count}; positions count from 0; P of the expected token"
        yield prompt_table(self.prompts, self.model.tokenizer, columns)
        if len(self.prompts) > 1:
            for name, mean in self.means.items():
                where = "" if self.corrupted is None else f", {name}"
                yield f"mean P over prompts{where}: {mean.estimate:.4f} [{mean.low:.4f}, {mean.high:.4f}] (95 %)"
