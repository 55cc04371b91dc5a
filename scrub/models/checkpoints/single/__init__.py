"""A model in one file, with its config and its tokenizer in it or beside it: a .gguf, or llama2.c's .bin.

Either is turned into what a folder of Hugging Face's layout would hold: the fields of a config.json, tensors by the
names there, which are read one at a time when they are asked for, and a tokenizer.
"""

from __future__ import annotations

from pathlib import Path

from scrub.models.checkpoints.reading import EITHER, GGUF, LLAMA2C, check_file
from scrub.models.checkpoints.single import gguf, llama2c
from scrub.models.checkpoints.single.content import Single
from scrub.models.checkpoints.stored import foreign
from scrub.text.errors import ScrubError
from scrub.text.files import shown, unreadable


def open_single(path: Path) -> Single:
    """Open a model in one file, by its content. Raises ScrubError if it is none, or for anything wrong with it."""
    check_file(path)
    try:
        with path.open("rb") as file:
            start = file.read(32)
    except OSError as error:
        raise unreadable(path, error) from error
    if start.startswith(gguf.MAGIC) or path.suffix == GGUF:
        return gguf.read(path)
    what = foreign(start)
    if path.suffix == LLAMA2C and what is None:
        return llama2c.read(path)
    raise ScrubError(f"{shown(path)} is {what or 'a file of another kind'}, which is no model by itself: {EITHER}")
