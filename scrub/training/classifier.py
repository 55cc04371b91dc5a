"""Training a classifier of rows of parens: whether they are balanced, read at position 0."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Int
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional as F

from scrub.data.labels import READ_AT
from scrub.data.parens.recipe import draw_rows
from scrub.data.parens.vocabulary import make_tokenizer
from scrub.models.families import ModelConfig
from scrub.plan.leaves import bind_model, every_row, leaves_of
from scrub.plan.plan import compile_plan
from scrub.training.settings import Settings
from scrub.training.train import Run

UNSEEN = 1 << 33  # seeds of what is trained on begin here: no data that have a name are drawn by such
VALIDATION_ROWS = 4000


class Classifier(Run):
    """A run that tells balanced rows from others: each step draws new ones. Position embeddings stay sinusoids."""

    def __init__(self, folder: Path, settings: Settings, config: ModelConfig, device: str) -> None:
        """Set up parameters, optimisers and what is validated on; nothing is read from the folder yet."""
        super().__init__(folder, settings, config, device, fixed=["pos.weight"])
        self._plan = compile_plan({"logits": self.graph})
        self._leaves = leaves_of(self._plan)
        self._validation = draw_rows(VALIDATION_ROWS, UNSEEN - 1)

    def logits(self, rows: Int[Tensor, "row position"]) -> Float[Tensor, "row class"]:
        """The logits of each class, where they are read."""
        selected = torch.full((len(rows), 1), READ_AT, device=rows.device)
        leaves = bind_model(self._leaves, self.params, rows)
        feeds = {"selected": selected, "rows": every_row(selected)}
        leaves |= {leaf: feeds[leaf.op] for leaf in self._leaves if leaf.op in feeds}
        return self._plan.run(self._plan.once(leaves), leaves)["logits"][:, 0]

    def loss(self) -> Float[Tensor, ""]:
        """Mean loss of the current step's rows, in nats a row: a function of seed and step alone."""
        steps = -(-self.settings.tokens // (self.settings.batch * self.config.n_ctx))
        rows, labels = draw_rows(self.settings.batch, UNSEEN + self.settings.seed * steps + self.step_count)
        return F.cross_entropy(self.logits(self._there(rows)), self._there(labels))

    def validation_loss(self) -> float:
        """Mean loss on rows that aren't trained on, in nats a row."""
        rows, labels = self._validation
        with torch.no_grad():
            return F.cross_entropy(self.logits(self._there(rows)), self._there(labels)).item()

    def mechanism(self) -> dict[str, Any]:
        """Measure how many of those rows are told right."""
        rows, labels = self._validation
        with torch.no_grad():
            right = self.logits(self._there(rows)).argmax(-1) == self._there(labels)
        return {"accuracy": right.double().mean().item()}

    def tokenizer(self) -> Tokenizer:
        """One that reads parens."""
        return make_tokenizer()

    def _there(self, array: Any) -> Tensor:
        return torch.from_numpy(array).to(self.device)
