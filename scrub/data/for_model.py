"""Data as a model reads them, wherever they come from: a name, a path, or tokens in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import numpy as np

from scrub.data.examples import PROMPTS, Examples
from scrub.data.labels import READ_AT
from scrub.data.load import load_examples
from scrub.data.prompts.memory import IN_MEMORY, is_table, table_of
from scrub.data.prompts.table import Asked, Reader, read_table
from scrub.models.model import Model, Spec, as_model
from scrub.text.begin import Bos, wanted_bos
from scrub.text.errors import ScrubError
from scrub.text.fields import COUNT, check_arguments
from scrub.text.wording import short

DEFAULT = "stdlib"  # for a model that names no data of its own

# Any: an array or tensor of tokens, (tokens, mask of positions), or a table of prompts: rows, columns, a data frame
Data: TypeAlias = str | Path | Examples | Any


@dataclass(frozen=True, eq=False)
class PromptTable:
    """A table of prompts in memory, which each model reads by its own tokenizer."""

    rows: Any
    name: str = IN_MEMORY


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
    usual_context: int | None = None,
    usual_count: int | None = None,
    only_prompts: bool = False,
) -> Examples:
    """Load examples for a model, by its tokenizer; without a name, of the data that it names, or else of the default.

    They are as long as the model's context, or as is asked for, and begin with the model's begin token as `bos` says;
    if that is neither yes nor no, where there is one (see :meth:`Model.begins`). See
    :func:`scrub.data.load.load_examples`. Tokens in memory (see :meth:`Examples.of`), and (tokens, mask) of them, are
    taken as they are, the first `count` of them. A table of prompts in memory is read as one in a file is: see
    :func:`read_prompts`.
    Raises ScrubError for what can't be loaded, isn't what the model reads, or can't be asked of tokens in memory.
    """
    asked = wanted_bos(bos)
    begin = model.bos_token_id if model.begins(asked, typed=True) else None
    if isinstance(data, PromptTable) or is_table(data):
        _check_options("prompts are each as long as they are", context=context)
        table, notes = data if isinstance(data, PromptTable) else PromptTable(data), list[str]()
        rows = Asked(table_of(table.rows, split, notes), table.name, count, fewer, column, notes)
        made = read_table(rows, Reader(model.tokenizer, model.vocab_size, model.n_ctx, begin))
        return replace(made, notes=(*model.notes, *made.notes))
    if data is not None and not isinstance(data, str | Path):
        _check_options("data in memory are taken as they are", context=context, split=split, column=column, bos=asked)
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
        usual_context=usual_context,
        usual_count=usual_count,
        prompt_bos=begin,
        only_prompts=only_prompts,
    )
    return replace(found, notes=(*model.notes, *found.notes))


@check_arguments
def read_prompts(
    model: Spec,
    data: Data,
    count: Annotated[int, COUNT] | None = None,
    *,
    column: str | None = None,
    split: str | None = None,
    bos: Bos = None,
) -> Examples:
    """Read prompts for a model: `read_prompts(model, [{"clean": "A B", "corrupted": "A C", "answer": " D"}])`.

    `data` are a task (`"ioi:names,seed=3"`), a file, a folder or a data set on the hub, or in memory a list of rows or
    of (clean, corrupted, answer, wrong), a dict of columns, a data frame, or a data set of `datasets`. `clean` and
    `corrupted` are texts, tokenized exactly as they are, or token ids; `answer` and `wrong` one or several texts that
    are one token each, or ids. Without `answer`, a prompt's own last token is to be predicted. Rows of one `template`
    are one document. Columns of whole numbers, and names with numbers in `positions`, are positions by name: of the
    tokens of the prompt itself, from the end if they are negative. An `attention_mask` is obeyed. The first `count`
    rows are read, example i from row i; `column` holds the corrupted prompts, instead of `corrupted`. Rows of MIB's
    data sets are read as its own code reads them, without those that it leaves out; `column` is then one of their
    counterfactuals.
    Raises ScrubError, in one line that names the row, for whatever is wrong, and for data that are no prompts.
    """
    found = examples_for(as_model(model), data, count, split, column, bos=bos, only_prompts=True)
    if found.kind != PROMPTS:
        raise ScrubError(f"the data {short(found.name)} are {found.kind} and no prompts: give rows with 'clean'")
    return found


def _check_options(why: str, **given: object) -> None:
    """Raise ScrubError for an option that says how data are read, which has no meaning for these."""
    if named := [name for name, value in given.items() if value is not None]:
        raise ScrubError(f"{why}, so {named[0]} has no meaning: leave it out")


def is_tokens(data: Data | None) -> bool:
    """Tell whether data are tokens in memory already, which begin as they begin."""
    return not (data is None or isinstance(data, str | Path | PromptTable) or is_table(data))


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
    check_tokens(examples, model.n_ctx, model.vocab_size, model.name)
    model.check_read(examples.inputs)
    if count is not None and count > len(examples):
        raise ScrubError(f"{count} sequences were asked for, but there are {len(examples)} in memory: ask for fewer")
    return examples if count is None else examples.first(count)


def check_on(examples: Examples, model: Model) -> None:
    """Raise ScrubError unless there is something to score, and the model can read it and predicts such things."""
    check_scored(examples, model.n_ctx, model.vocab_size, model.name)
    model.check_read(examples.inputs)
    if examples.other is not None:
        model.check_read(examples.other[:, :-1])
    if model.is_encoder and (examples.lengths is not None or examples.other_lengths is not None):
        raise ScrubError(
            f"the {examples.kind} are of several lengths, and every position of {model.name} reads the pads behind "
            "them: give some of one length, or rows that are filled up with its own pad and are read as they are"
        )
    if examples.labels is not None and not model.is_encoder:
        raise ScrubError(
            f"the {examples.kind} have labels, and {model.name} is causal: its position {READ_AT}, where a class is "
            "read, sees the first token alone; take an encoder"
        )
    if examples.labels is None and model.classes is not None:
        raise ScrubError(
            f"{model.name} predicts one of {model.classes} classes, and the {examples.kind} say none: give examples "
            "with labels, as in Examples.of(tokens, labels=classes)"
        )
    if examples.labels is not None and int(examples.labels.max()) >= (outputs := model.classes or model.vocab_size):
        which = int(examples.labels.argmax())
        raise ScrubError(
            f"the label of {examples.row(which)} is {examples.labels[which]}, and {model.name} tells {outputs} classes "
            f"apart, 0 to {outputs - 1}"
        )


def notes_on(examples: Examples, model: Model) -> list[str]:
    """Say what is odd about what a model predicts of examples: `notes_on(examples, model)`, most often nothing."""
    seen = examples.labels is None and model.is_encoder
    return [
        f"{model.name} reads later positions too, and so the very tokens that it is to predict: their loss says little"
    ] * seen


def check_scored(examples: Examples, n_ctx: int, vocab_size: int, model: str) -> None:
    """Raise ScrubError unless there is something to score, and a model of this size can read it."""
    check_tokens(examples, n_ctx, vocab_size, model)
    if (pads := np.argwhere(examples.scored & ~examples.real)).size:
        which, position = (int(at) for at in pads[0])
        raise ScrubError(
            f"{examples.row(which)} is scored at position {position}, a pad behind its {examples.ends[which] + 1}: "
            "score positions of its own"
        )
    if not examples.scored.any():
        raise ScrubError(f"no position of the {examples.kind} is scored: take more, or longer, sequences")


def check_tokens(examples: Examples, n_ctx: int, vocab_size: int, model: str) -> None:
    """Raise ScrubError unless a model of this size can read the tokens, and those of the others."""
    if examples.context > n_ctx:
        raise ScrubError(
            f"the {examples.kind} have {examples.context} positions, but {model} reads at most {n_ctx}: shorten them"
        )
    tokens, other = examples.tokens, examples.other
    if other is not None and other.shape != tokens.shape:
        raise ScrubError(
            f"the {examples.kind} are {list(tokens.shape)} and their others {list(other.shape)}: give each example "
            "another one of its length"
        )
    lengths = examples.other_lengths
    if lengths is not None and (short_of := np.flatnonzero(lengths < examples.ends + 1)).size:
        which = int(short_of[0])
        raise ScrubError(
            f"{examples.row(which)} has {examples.ends[which] + 1} tokens, and its other only {lengths[which]}"
            f"{examples.as_text(which)}: nothing can stand in at the last, so give others that are as long"
        )
    for each in (tokens, tokens if other is None else other):
        read = each if examples.labels is None else each[:, :-1]
        if read.min() < 0 or read.max() >= vocab_size:
            raise ScrubError(f"a token of the {examples.kind} is none of {model}'s: its ids are 0 to {vocab_size - 1}")
