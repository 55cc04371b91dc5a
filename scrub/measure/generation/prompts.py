"""What a model goes on from: prompts, whatever they come from, and what is right behind them where that is known."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from scrub.data.arrays import PAD, filled
from scrub.data.examples import PROMPTS, Examples
from scrub.data.for_model import Data, PromptTable, examples_for
from scrub.data.prompts.generate import corrupted_tokens, encoded_by, typed_tokens
from scrub.data.prompts.memory import is_table
from scrub.data.prompts.prompts import GIVEN, token_texts
from scrub.data.repeated import NOWHERE
from scrub.data.windows import counted
from scrub.models.model import Model
from scrub.models.values import ids_of
from scrub.text.begin import Bos, wanted_bos
from scrub.text.encoding import across, behind
from scrub.text.errors import ScrubError
from scrub.text.fields import theirs
from scrub.text.files import one_line
from scrub.text.wording import short

USUAL_TOKENS = 20


@dataclass(frozen=True)
class Started:
    """Prompts, each as long as it is, and the tokens that are right behind them: NOWHERE where none is known.

    `whole` says whether these are all that is asked for (typed, or completions), and not a first token, or what a text
    goes on with. `also` are further tokens that are right for the first one. `width` is how many symbols a row of a
    grid has.
    """

    prompts: Examples
    right: Int[np.ndarray, "row known"]
    also: Int[np.ndarray, "row some"] | None = None
    width: int | None = None
    notes: tuple[str, ...] = ()
    whole: bool = False

    @property
    def lengths(self) -> Int[np.ndarray, " row"]:
        """The number of tokens of each prompt."""
        return np.asarray(self.prompts.ends + 1)

    @property
    def known(self) -> bool:
        """Whether anything is known to be right."""
        return bool((self.right != NOWHERE).any())

    def with_room(self, positions: int) -> Examples:
        """Give the prompts with room behind them, so that so many positions are read. None is scored."""
        of = self.prompts
        lengths = self.lengths

        def roomy(tokens: Int[np.ndarray, "row some"]) -> Int[np.ndarray, "row room"]:
            room = np.full((len(tokens), positions + 1), PAD, dtype=np.int64)
            own = np.arange(tokens.shape[1])[None] < lengths[:, None]
            room[:, : tokens.shape[1]][own] = tokens[own]
            return room

        return Examples(
            roomy(of.tokens),
            np.zeros((len(of), positions), dtype=bool),
            PROMPTS,
            of.name,
            other=None if of.other is None else roomy(of.other),
            positions=of.positions,
            texts=of.texts,
            other_texts=of.other_texts,
            documents=of.documents,
            lengths=lengths,
            other_lengths=None if of.other is None else lengths if of.other_lengths is None else of.other_lengths,
        )


def _check_writes(model: Model) -> None:
    """Raise ScrubError for a model that can't go on from a text."""
    if model.is_encoder:
        raise ScrubError(
            f"{model.name} is an encoder, each position of which reads later positions too: it writes nothing behind "
            "what it reads, so take a decoder"
        )


def started(
    model: Model,
    on: str | Data,
    *,
    after: int | None = None,
    right: Any = None,
    corrupted: str | None = None,
    bos: Bos = None,
) -> Started:
    """Read what a model goes on from: `started(model, "def f(x):", right=" return x")`.

    A text is a prompt, and so is each of a list of texts or of token ids; a path, a table of prompts and examples are
    data. `after` so many tokens of each row of text or ids the rest of it is right. `right` is what is right behind
    prompts: a text, or for each a text or token ids. Raises ScrubError for what fits nothing.
    """
    _check_writes(model)
    if corrupted is not None and not isinstance(on, str):
        raise ScrubError("a corrupted prompt stands for one that is typed: type that too, or give pairs")
    texts = [on] if isinstance(on, str) else _texts(on)
    if texts and after is not None:
        raise ScrubError("a typed prompt is whole, so 'after' has no meaning: leave it out, or say what is right")
    read = isinstance(on, Path | PromptTable) or is_table(on)  # data that are yet to be read
    if texts:
        found = _of_rows(model, [typed_tokens(model, text, bos) for text in texts], texts)
        if corrupted is not None:
            other = corrupted_tokens(model, found.prompts.inputs, corrupted, bos)
            padded = np.concatenate([other, np.full((1, 1), PAD)], axis=1)
            found = replace(found, prompts=replace(found.prompts, other=padded, other_texts=(corrupted,)))
    elif wanted_bos(bos) is not None and not read:
        raise ScrubError("token ids and examples begin as they begin, so 'bos' has no meaning: leave it out")
    elif read or isinstance(on, Examples):
        found = _of_examples(on if isinstance(on, Examples) else examples_for(model, on, None, bos=bos), after)
    else:
        found = _of_ids(model, on, after)
    if not found.prompts.texts:
        rows = zip(found.prompts.inputs, found.lengths, strict=True)
        texts = [_text(model, row[:length]) for row, length in rows]
        found = replace(found, prompts=replace(found.prompts, texts=tuple(texts)))
    if right is None:
        return found
    wanted, notes = _right(model, found, right)
    return replace(found, right=wanted, also=None, whole=True, notes=(*found.notes, *notes))


def _texts(on: Any) -> list[str]:
    """Take a list of texts; there is none in anything else."""
    return list(on) if isinstance(on, list | tuple) and all(isinstance(each, str) for each in on) else []


def _of_rows(model: Model, rows: Sequence[Sequence[int]], texts: Sequence[str], name: str = GIVEN) -> Started:
    lengths = np.array([len(row) for row in rows])
    tokens = filled([[*row, PAD] for row in rows], PAD)
    if tokens.min() < 0 or tokens.max() >= model.vocab_size:
        raise ScrubError(f"a token is none of {model.name}'s: its ids are 0 to {model.vocab_size - 1}")
    scored = np.zeros((len(rows), tokens.shape[1] - 1), dtype=bool)
    made = Examples(tokens, scored, PROMPTS, name, texts=tuple(texts), lengths=lengths)
    return Started(made, np.full((len(rows), 0), NOWHERE))


def _of_ids(model: Model, given: Any, after: int | None) -> Started:
    """Take token ids in memory: one row, an array of rows, or rows of several lengths."""
    nested = isinstance(given, list | tuple) and bool(given) and all(np.ndim(ids_of(each)) == 1 for each in given)
    arrays = [ids_of(each) for each in given] if nested else [ids_of(given)]
    rows = [np.asarray(each.cpu()) for array in arrays for each in (array if array.ndim == 2 else [array])]
    if not rows or any(row.ndim != 1 or row.dtype.kind not in "iu" or not row.size for row in rows):
        raise ScrubError(f"{short(given)} is nothing to go on from: give a text, token ids [row, position], or data")
    if after is None:
        return _of_rows(model, [row.tolist() for row in rows], [_text(model, row) for row in rows])
    if (short_of := next((at for at, row in enumerate(rows) if len(row) <= after), None)) is not None:
        raise ScrubError(_too_short(after, len(rows[short_of]), f"row {short_of}"))
    made = _of_rows(model, [row[:after].tolist() for row in rows], [_text(model, row[:after]) for row in rows])
    return replace(made, right=filled([row[after:].tolist() for row in rows], NOWHERE))


def _text(model: Model, ids: np.ndarray) -> str:
    return "".join(token_texts(ids, model.tokenizer))


def _too_short(after: int, tokens: int, which: str) -> str:
    return f"after {after} tokens nothing is left of {which}, which has {tokens}: go on after fewer"


def _of_examples(examples: Examples, after: int | None) -> Started:
    width = None if examples.origin is None else examples.origin.width
    if examples.kind == PROMPTS:
        if after is not None:
            raise ScrubError(
                f"the data {short(examples.name)} are prompts, each of which is whole, so 'after' has no meaning: "
                "leave it out"
            )
        if examples.completions is not None:
            notes = (*examples.notes, *_answers_too(examples))
            return Started(examples, examples.completions, None, width, notes, whole=True)
        right = examples.expected[:, None] if examples.answers is None else examples.answers
        return Started(examples, right[:, :1], right[:, 1:] if right.shape[1] > 1 else None, width, examples.notes)
    if after is None:
        raise ScrubError(
            f"the data {short(examples.name)} are {examples.kind} and no prompts: say after how many tokens of each "
            "row the model goes on (--after)"
        )
    tokens = examples.tokens
    if tokens.shape[1] <= after:
        raise ScrubError(_too_short(after, tokens.shape[1], f"the rows of {short(examples.name)}"))
    if (examples.ends + 1 < after).any():
        which = int(np.argmax(examples.ends + 1 < after))
        raise ScrubError(_too_short(after, int(examples.ends[which] + 1), examples.row(which)))
    examples, joints = _of_one_document(examples, after)
    tokens = examples.tokens
    later = np.arange(after, tokens.shape[1])[None]
    right = np.where(later <= examples.ends[:, None] + 1, tokens[:, after:], NOWHERE)
    if examples.within is not None:  # position p predicts token p + 1
        right[np.logical_or.accumulate(~examples.within[:, after - 1 :], axis=1)] = NOWHERE
    there = {name: np.where(at < after, at, NOWHERE) for name, at in examples.positions.items()}
    prompts = replace(
        examples,
        tokens=tokens[:, : after + 1],
        rest=None,
        columns={},
        scored=np.zeros((len(examples), after), dtype=bool),
        other=None if examples.other is None else examples.other[:, : after + 1],
        positions=there,
        texts=(),
        other_texts=(),
        copied=None,
        within=None,
        targets={},
        lengths=np.full(len(examples), after),
        other_lengths=None if examples.other_lengths is None else np.minimum(examples.other_lengths, after),
        answers=None,
        wrong=None,
    )
    return Started(prompts, right, None, width, (*examples.notes, *joints))


def _answers_too(examples: Examples) -> list[str]:
    """Say that completions are what is right, where answers are there too that say something else."""
    answers, completions = examples.answers, examples.completions
    if answers is None or completions is None or (answers.shape[1] == 1 and (answers == completions[:, :1]).all()):
        return []
    return [f"{one_line(examples.name)}: what is right is the column 'completion', and not the answers beside it"]


def _of_one_document(examples: Examples, after: int) -> tuple[Examples, list[str]]:
    """Leave out rows whose first tokens are of several documents, and say so, and of how many what is right ends early.

    Raises ScrubError if there is no other row.
    """
    if examples.within is None:
        return examples, []
    whole, count = examples.within[:, :after].all(1), len(examples)
    kept = examples.some(np.flatnonzero(whole))
    first = np.argmin(examples.within, axis=1)  # up to which position a row is of one document
    longest = int(first[~examples.within.all(1)].max())
    advice = f"give a shorter context, as --context {longest}, where documents are to stand by themselves"
    if not whole.any():
        raise ScrubError(
            f"each row of {short(examples.name)} goes on with another document within {after + 1} tokens, since "
            f"documents shorter than a row are joined: {advice}, or go on after fewer"
        )
    said, cut = [], int((~kept.within.all(1)).sum()) if kept.within is not None else 0
    if len(kept) < count:
        said.append(
            f"{count - len(kept):,} of {count:,} rows hold another document within {after + 1} tokens: left out"
        )
    if cut:
        said.append(f"of {counted(cut, 'row')} what is right ends where another document begins")
    return kept, [f"{one_line(examples.name)}: {each}; {advice}" for each in said]


def _right(model: Model, found: Started, given: Any) -> tuple[Int[np.ndarray, "row known"], list[str]]:
    """Read what is right behind each prompt: a text for one, or for each a text or token ids. Say what isn't exact."""
    with theirs(f"{short(given)} is nothing that is right", "give a text, or for each prompt a text or token ids"):
        each = [given] if isinstance(given, str) else list(given)
    if len(each) != len(found.prompts):
        raise ScrubError(
            f"{len(each)} texts are right behind {len(found.prompts)} prompts: give what is right for each"
        )
    texts, lengths = found.prompts.texts, found.lengths
    rows, beside = list[list[int]](), 0
    for at, one in enumerate(each):
        if isinstance(one, str):
            encoded_by(model, one)  # which says what is wrong with it
            own = found.prompts.tokens[at, : lengths[at]]
            row, there = behind(lambda text: encoded_by(model, text), texts[at], own, one)
            beside += not there
        else:
            row = ids_of(one).ravel().tolist()
        rows.append(row)
    if empty := [at for at, row in enumerate(rows) if not row]:
        raise ScrubError(f"what is right behind prompt {empty[0]} is empty: give a text")
    if beyond := [token for row in rows for token in row if not 0 <= token < model.vocab_size]:
        raise ScrubError(f"{beyond[0]} is no token of {model.name}: its ids are 0 to {model.vocab_size - 1}")
    return filled(rows, NOWHERE), across(beside, len(each), "prompt")
