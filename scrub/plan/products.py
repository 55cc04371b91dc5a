"""How float32 numbers are multiplied while a plan runs: as they are, or as TF32, where somebody asked for that.

Whoever switched TF32 on in the same process gets float32 under that name all the same, and has it on afterwards. Only
matrix products know the choice: nothing in a plan is a convolution, for which cuDNN has a switch of its own.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

_ROUNDED = {"tf32", "bf16"}  # what torch may take for float32


@contextmanager
def multiplying(tf32: bool) -> Iterator[None]:
    """Multiply float32 numbers on a card as TF32, or everywhere as they are, and as before afterwards.

    `with multiplying(tf32=True): x @ y`. On a CPU they stay float32 in any case.
    """
    card: Any = torch.backends.cuda.matmul
    cpu: Any = getattr(torch.backends.mkldnn, "matmul", None)
    before = [getattr(each, "fp32_precision", None) for each in (card, cpu)]  # which torch has since 2.9
    on_card = card.allow_tf32 if before[0] is None else before[0] in _ROUNDED
    if on_card == tf32 and before[1] not in _ROUNDED:
        yield
        return
    word = _word()
    try:
        card.allow_tf32 = tf32  # the older switch, which turns the newer one, too: what reads it refuses if they differ
        if before[1] in _ROUNDED:
            cpu.fp32_precision = "ieee"
        yield
    finally:
        card.allow_tf32 = word != "highest"
        if word == "medium":  # which a card takes for "high"
            torch.set_float32_matmul_precision(word)
        for each, setting in zip((card, cpu), before, strict=True):
            if setting is not None:
                each.fp32_precision = setting


def _word() -> str:
    """What torch calls the precision of products; where only the newer switch was turned, it refuses to say."""
    try:
        return torch.get_float32_matmul_precision()
    except RuntimeError:
        return "highest"
