"""The settings of a training run, and its learning-rate schedule."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

from annotated_types import Interval

from scrub.text.errors import ScrubError
from scrub.text.fields import COUNT, SEED, check_fields
from scrub.text.files import one_line

SHAPED = ("attn2l", "parens3l", "gpt2-mini")  # what can be trained: see parameters.py
OF_PARENS = ("parens3l",)  # of these, classifiers of rows of parens
OF_TEXT = ("stdlib_share", "validation_windows")  # settings that say nothing of parens, which are drawn
STORED = ("float32", "float16", "bfloat16")
OPTIMISERS = ("muon", "adamw")  # Muon for the matrices of heads and MLPs and AdamW for the rest, or AdamW for all


@dataclass(frozen=True)
class Settings:
    """One run. Token counts are positions trained on; learning rates are those of the stable phase."""

    tokens: Annotated[int, Interval(ge=1)] = 40_000_000
    decay_tokens: int = 10_000_000
    warmup_tokens: int = 300_000
    batch: Annotated[int, COUNT] = 8  # sequences a step
    lr: float = 5e-3
    matrix_lr: float = 0.01
    optimiser: str = "muon"
    weight_decay: float = 0.01
    clip: float = 1.0  # largest norm of the whole gradient
    store: str = "float32"  # the type of the weights in the model's folder
    stdlib_share: Annotated[float, Interval(ge=0, le=1)] = (
        0.5  # fraction of the sequences that come from the standard library
    )
    seed: Annotated[int, SEED] = 0
    evaluate_every: int = 500_000  # tokens
    inspect_every: int = 1_000_000  # tokens
    save_every: float = 120.0  # seconds
    validation_windows: int = 64

    def check_drawn(self, shape: str) -> None:
        """Raise ScrubError for a setting of text, in training of a shape whose examples are drawn."""
        for name in OF_TEXT:
            if getattr(self, name) != getattr(Settings, name):
                option = "--" + name.replace("_", "-")
                raise ScrubError(f"{shape} is trained on parens that are drawn, of no text: leave {option} out")

    def __post_init__(self) -> None:
        """Raise ScrubError for settings that train nothing."""
        check_fields(self)
        if self.store not in STORED:
            raise ScrubError(f"weights can't be stored as {one_line(self.store)!r}: choose {' or '.join(STORED)}")
        if self.optimiser not in OPTIMISERS:
            raise ScrubError(f"{one_line(self.optimiser)!r} is no optimiser: choose {' or '.join(OPTIMISERS)}")


def schedule(settings: Settings, tokens: int) -> float:
    """The factor on the learning rates: linear warm-up, constant, linear decay to 0 at the last token."""
    warm = min(1.0, (tokens + 1) / max(1, settings.warmup_tokens))
    left = (settings.tokens - tokens) / max(1, settings.decay_tokens)
    return max(0.0, min(warm, left, 1.0))
