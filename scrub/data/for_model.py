"""Data as a model reads them, wherever they come from: a name, a path, or tokens in memory."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from scrub.data.examples import Examples
from scrub.data.load import load_examples
from scrub.models.model import Model
from scrub.text.begin import Bos, wanted_bos
from scrub.text.errors import ScrubError

DEFAULT = "stdlib"  # for a model that names no data of its own

Data: TypeAlias = str | Path | Examples | Any  # Any: an array or tensor of tokens, or (tokens, mask of positions)


def examples_for(
    model: Model,
    data: Data | None,
    count: int | None,
    split: str | None = None,
    column: str | None = None,
    *,
    context: int | None = None,
    fewer: bool = False,
    bos: Bos = None,
) -> Examples:
    """Load examples for a model, by its tokenizer; without a name, of the data that it names, or else of the default.

    They are as long as the model's context, or as is asked for, and begin with the model's begin token as `bos` says;
    if that is neither yes nor no, where there is one (see :meth:`Model.begins`). See
    :func:`scrub.data.load.load_examples`. Tokens in memory (see :meth:`Examples.of`), and (tokens, mask) of them, are
    taken as they are, the first `count` of them.
    Raises ScrubError for what can't be loaded, isn't what the model reads, or can't be asked of tokens in memory.
    """
    asked = wanted_bos(bos)
    if data is not None and not isinstance(data, str | Path):
        _check_options(context=context, split=split, column=column, bos=asked)
        return _in_memory(model, data, count)
    wanted = data if data is not None else model.data or DEFAULT
    found = load_examples(
        wanted,
        n_ctx=model.n_ctx,
        bos_token_id=model.bos_token_id if model.begins(asked) else None,
        vocab_size=model.vocab_size,
        tokenizer=model.tokenizer,
        count=count,
        fewer=fewer,
        context=context,
        split=split,
        column=column,
        bos=asked,
        end=model.end_token_id,
        beside=model.folder if str(wanted) == model.data else None,
    )
    return replace(found, notes=(*model.notes, *found.notes))


def _check_options(**given: object) -> None:
    """Raise ScrubError for an option that says how data are read, which those in memory are already."""
    if named := [name for name, value in given.items() if value is not None]:
        raise ScrubError(f"data in memory are taken as they are, so {named[0]} has no meaning: leave it out")


def says_positions(data: Data) -> bool:
    """Tell whether data in memory say which positions are scored."""
    return isinstance(data, tuple | Examples)


def examples_of(data: Data) -> Examples:
    """Make examples of data in memory. Raises ScrubError for what is neither tokens nor (tokens, mask)."""
    if isinstance(data, tuple) and len(data) != 2:
        raise ScrubError(f"data in memory are tokens, or (tokens, mask of positions), and no tuple of {len(data)}")
    return Examples.of(*data) if isinstance(data, tuple) else Examples.of(data)


def _in_memory(model: Model, data: Any, count: int | None) -> Examples:
    examples = examples_of(data)
    examples.check_tokens(model.n_ctx, model.vocab_size, model.name)
    if count is not None and count > len(examples):
        raise ScrubError(f"{count} sequences were asked for, but there are {len(examples)} in memory: ask for fewer")
    return examples if count is None else examples.some(np.arange(count))
