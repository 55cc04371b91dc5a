"""Which positions a study scores."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from jaxtyping import Bool, Int

from scrub.data.load import WHITELIST as FILE
from scrub.data.load import Sequences
from scrub.data.whitelist import rank_in_group
from scrub.models.find import locate
from scrub.study.settings import EVERY, REPEATS
from scrub.text.errors import ScrubError


def select_positions(positions: str, data: Sequences, study_data: str) -> Bool[np.ndarray, "sequence position"]:
    """The positions whose next token is scored.

    "all"; "repeats", those whose token stands earlier in its sequence, so that there is something to induct from; or
    "whitelist", those of the mask that the data come with, or else those whose token is whitelisted. The whitelist is
    the data's own, or else that of the study's data, if the tokenizer is the one it was made with. Raises ScrubError
    if there is none that fits, or no position is selected.
    """
    tokens = data.tokens.numpy()
    if positions == EVERY:
        return np.ones((len(tokens), tokens.shape[1] - 1), dtype=bool)
    selected = repeats(tokens[:, :-1]) if positions == REPEATS else _listed(data, study_data)
    if not selected.any():
        is_so = {REPEATS: "stands earlier in its sequence"}.get(positions, "is on the whitelist")
        raise ScrubError(
            f"no position of the data {data.name!r} is selected: none of its {tokens.size:,} tokens {is_so}; "
            "use --positions all, or data with a whitelist of its own ('scrub whitelist')"
        )
    return selected


def repeats(inputs: Int[np.ndarray, "sequence position"]) -> Bool[np.ndarray, "sequence position"]:
    """The positions whose token stands earlier in its sequence."""
    rows = np.arange(len(inputs))[:, None]
    return rank_in_group(rows * (int(inputs.max(initial=0)) + 1) + inputs) > 0


def _listed(data: Sequences, study_data: str) -> Bool[np.ndarray, "sequence position"]:
    if data.selected is not None:
        return data.selected
    has_own = data.folder is not None and (data.folder / FILE).is_file()
    listed = data if has_own else replace(data, folder=locate("data", study_data))
    return listed.whitelist().select(data.tokens.numpy())
