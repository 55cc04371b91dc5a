"""Rows of token ids that are taken as they are published, with a mask of the positions that are scored.

Both are files of torch.save: `validation_data.pt`, whole numbers [sequence, token], each row with its begin token, and
`mask_repeat_candidates.pkl`, bool [sequence, token], or without the last token, after which nothing is scored. Nothing
is unpickled: torch reads tensors from such files, and refuses whatever else they hold.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from scrub.data.examples import Scored, Tokens
from scrub.models.checkpoints.stored import is_plain, load_torch
from scrub.text.errors import ScrubError
from scrub.text.files import first_sentence, shown

TOKENS, MASK = "validation_data.pt", "mask_repeat_candidates.pkl"
MIN_TOKENS = 2  # of a row: one to read, one to predict


def holds_fixed(folder: Path) -> bool:
    """Tell whether a folder holds such rows."""
    return (folder / TOKENS).is_file()


def fixed_files(names: Sequence[str]) -> list[str]:
    """Choose of the files of a repository those that hold such rows."""
    return [TOKENS, *([MASK] if MASK in names else [])] if TOKENS in names else []


def read_fixed(folder: Path) -> tuple[Tokens, Scored | None]:
    """Read the rows in a folder, and the positions of them that are scored, if that is said.

    Raises ScrubError if a file is no tensor of torch.save, or has another shape or type than it should have.
    """
    path = folder / TOKENS
    tokens = _tensor(path)
    if tokens.dtype.is_floating_point or tokens.dtype.is_complex or tokens.dtype == torch.bool:
        raise ScrubError(f"{shown(path)} holds {_kind(tokens)}: token ids are whole numbers, so save them as such")
    if tokens.ndim != 2 or tokens.shape[1] < MIN_TOKENS or not len(tokens):
        raise ScrubError(
            f"{shown(path)} holds {_kind(tokens)}: expected token ids [sequence, token], "
            f"at least {MIN_TOKENS} tokens a row"
        )
    ids = tokens.to(torch.int64).numpy()
    return ids, _mask(folder / MASK, len(ids), ids.shape[1]) if (folder / MASK).exists() else None


def _mask(path: Path, sequences: int, length: int) -> Scored:
    mask = _tensor(path)
    if mask.dtype != torch.bool or mask.ndim != 2 or len(mask) != sequences or length - mask.shape[1] not in {0, 1}:
        raise ScrubError(
            f"{shown(path)} holds {_kind(mask)}: expected bool [{sequences}, {length}], since {TOKENS} beside it holds "
            f"{sequences} rows of {length} tokens"
        )
    return mask[:, : length - 1].numpy()


def _tensor(path: Path) -> Tensor:
    try:
        tensor = load_torch(path)
    except Exception as error:  # every way of being no such file has its own class
        why = first_sentence(error) if path.stat().st_size else "it is empty"
        raise ScrubError(
            f"{shown(path)} can't be read as a tensor of torch.save ({why}): take another copy; "
            "scrub unpickles nothing, since that could run anything"
        ) from error
    if not isinstance(tensor, Tensor):
        raise ScrubError(f"{shown(path)} holds a {type(tensor).__name__}: expected one tensor, so save it alone")
    if not is_plain(tensor):
        raise ScrubError(f"{shown(path)} holds a tensor without all of its values: save it dense, and its own copy")
    return tensor.detach()


def _kind(tensor: Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
