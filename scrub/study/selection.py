"""Which positions a study scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool

from scrub.data.load import WHITELIST as FILE
from scrub.data.load import Sequences
from scrub.errors import ScrubError
from scrub.find import locate

WHITELIST, EVERY = "whitelist", "all"
POSITIONS = (WHITELIST, EVERY)


def check_positions(positions: str) -> None:
    """Raise ScrubError unless that is a way of selecting positions."""
    if positions not in POSITIONS:
        raise ScrubError(f"positions are {' or '.join(map(repr, POSITIONS))}, not {positions!r}")


def select_positions(positions: str, data: Sequences, study_data: str) -> Bool[np.ndarray, "sequence position"]:
    """The positions whose next token is scored: all, or those whose token is whitelisted.

    The whitelist is the data's own, or else that of the study's data, if the tokenizer is the one it was
    made with. Raises ScrubError if there is none that fits, or no position is selected.
    """
    tokens = data.tokens.numpy()
    if positions == EVERY:
        return np.ones((len(tokens), tokens.shape[1] - 1), dtype=bool)
    has_own = data.folder is not None and (data.folder / FILE).is_file()
    listed = data if has_own else replace(data, folder=locate("data", study_data))
    selected = listed.whitelist().select(tokens)
    if not selected.any():
        raise ScrubError(
            f"no position of the data {data.name!r} is selected: none of its {tokens.size:,} tokens is on the "
            "whitelist; use --positions all, or data with a whitelist of its own ('scrub whitelist')"
        )
    return selected
