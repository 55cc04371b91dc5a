"""Where a layout reads a config and tensors from: the files of a folder, or two mappings in memory."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from scrub.models.checkpoints.names import CONFIG
from scrub.models.checkpoints.stored import StoredTensor, Where, open_state, open_tensors, open_weights
from scrub.models.checkpoints.tokenizer import begin_token

STATE = "give what model.state_dict() gives"


@dataclass(frozen=True)
class Container:
    """The tensors and the begin token that a layout reads, besides the fields of the config.

    `config` is where those are, for errors. `tensors(file)` opens the weights, in a file of that name or in whichever
    there is; it gives where they are, too. `begin()` is the token that the tokenizer's own config says is in front of
    every sequence, or None.
    """

    config: Where
    tensors: Callable[[str | None], tuple[Where, dict[str, StoredTensor]]]
    begin: Callable[[], int | None]


def in_folder(folder: Path) -> Container:
    """Look into a folder. Opening its files raises ScrubError for anything that is wrong with them."""

    def tensors(file: str | None) -> tuple[Where, dict[str, StoredTensor]]:
        return open_weights(folder) if file is None else (folder / file, open_tensors(folder / file))

    return Container(folder / CONFIG, tensors, lambda: begin_token(folder))


def in_memory(name: str, state: Mapping[str, object]) -> Container:
    """Look into a state dict, copying nothing before it is read. Opening it raises ScrubError if it is none."""
    where = f"the state dict of {name}"
    return Container(f"the config of {name}", lambda _: (where, open_state(where, state, STATE)), lambda: None)
